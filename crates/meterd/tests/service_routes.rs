//! What `meterd serve` answers: the session counter's routes, hits, usage, limits, events, metrics.

mod service;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use service::{Connection, Meterd, server};
use testkit::{date, eventually, now_ms, on_every_server};

/// 2022-08-09 14:11:17 UTC.
const AT: u64 = 1_660_054_277_326;

#[test]
fn the_session_counters_requests_get_its_replies() {
    on_every_server(|server| {
        let meterd = Meterd::start(server);
        meterd.wait_until_ready();
        let body = r#"{"app":"local", "node":0, "timestamp":1660054277326}"#;
        for count in 1..=2 {
            let reply = meterd.send("POST", "/counter", &[("Content-Type", "application/json")], body.as_bytes());
            let key = "kpi:sessions:app:local:node:0:day:20220809";
            let expected = format!(
                r#"{{"type":"WebResponse","isError":false,"description":"OK.","data":{{"type":"CounterResponse","key":"{key}","day":{count},"hour":{count}}}}}"#
            );
            assert_eq!((reply.status, reply.body.as_str()), (200, expected.as_str()));
        }
        assert_eq!(
            server.connect().strings("HGETALL kpi:sessions:app:local:node:0:day:20220809"),
            ["day", "2", "14", "2"]
        );
        let reply = meterd.get("/kpi?key=kpi:sessions:app:local:node:0:day:20220809");
        let expected =
            json!({"type": "WebResponse", "isError": false, "description": "OK.", "data": {"14": "2", "day": "2"}});
        assert_eq!((reply.status, reply.json()), (200, expected));
        let reply = meterd.get("/kpi?key=kpi:sessions:app:local:node:0:day:20220819");
        let expected = json!({"type": "WebResponse", "isError": true, "description": "Key NOT FOUND.", "data": {}});
        assert_eq!((reply.status, reply.json()), (404, expected));
        let reply = meterd.get("/home");
        let expected = json!({"type": "WebResponse", "isError": false, "description": "Service OK.", "data": null});
        assert_eq!((reply.status, reply.json()), (200, expected));
    });
}

#[test]
fn a_wrong_session_is_told_what_would_be_right_in_the_same_envelope() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    for body in [
        "",
        "app=local&node=0",
        "{}",
        r#"{"app":"local","node":0}"#,
        r#"{"app":"","node":0,"timestamp":1660054277326}"#,
        r#"{"app":"local","node":-1,"timestamp":1660054277326}"#,
        r#"{"app":"local","node":0,"timestamp":1660054277}"#,
        r#"{"app":"local","node":0,"timestamp":"now"}"#,
        r#"{"app":"local","node":0,"timestamp":99999999999999999}"#,
    ] {
        let reply = meterd.post("/counter", body);
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        let envelope = reply.json();
        assert_eq!((&envelope["type"], &envelope["isError"]), (&json!("WebResponse"), &json!(true)), "{body}");
        assert!(envelope["description"].as_str().is_some_and(|text| text.len() > 10), "{envelope}");
    }
    assert_eq!(server.connect().int("DBSIZE"), 0);
    // What is no day of a meter is not read.
    server.connect().run("HSET secret password 1");
    for key in ["secret", "secret:day:20220809x", ""] {
        assert_eq!(meterd.get(&format!("/kpi?key={key}")).status, 404, "{key}");
    }
}

#[test]
fn two_services_count_every_session_of_64_clients_once_and_each_gets_its_own_reply() {
    const CLIENTS: usize = 64;
    const SESSIONS: u64 = 40;
    let server = server(&[]);
    let services = [Meterd::start(&server), Meterd::start(&server)];
    services.iter().for_each(Meterd::wait_until_ready);
    let seen: Vec<(u64, u64)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let port = services[client % 2].port;
                scope.spawn(move || {
                    let mut connection = Connection::open(port);
                    let mut count = |app: &str| {
                        let body = format!(r#"{{"app":"{app}","node":3,"timestamp":{AT}}}"#);
                        let reply = connection.send("POST", "/counter", &[], body.as_bytes());
                        assert_eq!(reply.status, 200, "{reply:?}");
                        let data = reply.json()["data"].clone();
                        let key = format!("kpi:sessions:app:{app}:node:3:day:20220809");
                        assert_eq!(data["key"], key, "the reply of somebody else");
                        (data["day"].as_u64().expect("a count"), data["hour"].as_u64().expect("a count"))
                    };
                    let mut shared = Vec::new();
                    for session in 1..=SESSIONS {
                        // Nobody else counts this one, so it grows by one.
                        assert_eq!(count(&format!("own{client}")), (session, session));
                        shared.push(count("shared"));
                    }
                    shared
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    // Each count of the shared application was given to exactly one session.
    let counts: BTreeSet<u64> = seen.iter().map(|(day, _)| *day).collect();
    let sessions = CLIENTS as u64 * SESSIONS;
    assert_eq!(seen.len() as u64, sessions);
    assert_eq!(counts, (1..=sessions).collect(), "a count was given twice, or to nobody");
    assert!(seen.iter().all(|(day, hour)| day == hour));
    let total = server.connect().string("HGET kpi:sessions:app:shared:node:3:day:20220809 day");
    assert_eq!(total, Some(sessions.to_string()));
}

#[test]
fn hits_are_counted_as_they_say_and_each_has_an_answer() {
    on_every_server(|server| {
        let meterd = Meterd::start(server);
        meterd.wait_until_ready();
        let hit = r#"{"meter":"api:requests","by":2,"at":1660054277326,"paths":[["users#update","1337"],["de"]],"unique":"1337"}"#;
        let reply = meterd.post("/v1/hits", hit);
        assert_eq!((reply.status, reply.json()), (200, json!({"day": 2, "hour": 2, "applied": 2, "why": null})));
        let reply = meterd.post(
            "/v1/hits",
            r#"[{"meter":"api:requests","at":1660054277326},
                {"meter":"api:requests","at":1660054277},
                {"meter":"api:requests","buy":3},
                {"meter":""},
                {"meter":"m","caps":[{"week":3}]},
                {"meter":"api:requests","at":1660054277326,"by":-1}]"#,
        );
        assert_eq!(reply.status, 200, "{reply:?}");
        let answers = reply.json();
        assert_eq!(answers[0], json!({"day": 3, "hour": 3, "applied": 1, "why": null}));
        for wrong in [1, 2, 3, 4] {
            assert_eq!(answers[wrong]["error"]["status"], 400, "{answers}");
        }
        assert!(answers[1]["error"]["detail"].as_str().is_some_and(|text| text.contains("looks like seconds")));
        assert_eq!(answers[5], json!({"day": 2, "hour": 2, "applied": -1, "why": null}));
        assert_eq!(meterd.post("/v1/hits", "[]").json(), json!([]));
        let mut redis = server.connect();
        assert_eq!(
            redis.counts("METER.TOP api:requests DAY 20220809"),
            [("users#update".to_owned(), 2), ("de".to_owned(), 2)]
        );
        assert_eq!(redis.string("HGET api:requests:day:20220809 day"), Some("2".to_owned()));
    });
}

#[test]
fn an_event_counts_once_however_it_is_sent_and_a_cap_says_what_remains() {
    on_every_server(|server| {
        let meterd = Meterd::start(server);
        meterd.wait_until_ready();
        // Yesterday at 14:11:17 UTC; ids of events are forgotten after a week.
        let now = now_ms();
        let midnight = now - now % 86_400_000 - 86_400_000;
        let (at, day) = (midnight + 51_077_326, date(midnight));
        let day = format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..]);
        let hit = json!({"meter": "m", "at": at, "event_id": "e1", "caps": [{"month": 3}, {"day": 5}]});
        let reply = meterd.post("/v1/hits", &hit.to_string()).json();
        assert_eq!(reply, json!({"day": 1, "hour": 1, "applied": 1, "why": null, "remaining": 2}));
        let reply = meterd.post("/v1/hits", &hit.to_string()).json();
        assert_eq!(reply, json!({"day": 1, "hour": 1, "applied": 0, "why": "duplicate", "remaining": 2}));
        let event = json!({"specversion": "1.0", "id": "e1", "source": "/shop", "type": "m", "time": format!("{day}T16:11:17.326+02:00")});
        let structured = [("Content-Type", "application/cloudevents+json; charset=utf-8")];
        let reply = meterd.send("POST", "/v1/hits", &structured, event.to_string().as_bytes()).json();
        assert_eq!(reply["why"], "duplicate", "{reply}");
        let mut second = event.clone();
        second["id"] = "e2".into();
        second["data"] = json!({"paths": [["a", "b"]], "by": 2, "caps": [{"month": 3}], "other": true});
        let batch = [("Content-Type", "application/cloudevents-batch+json")];
        let reply =
            meterd.send("POST", "/v1/hits", &batch, json!([event, second, {"id": "x"}]).to_string().as_bytes()).json();
        assert_eq!(reply[0]["why"], "duplicate", "{reply}");
        assert_eq!(reply[1], json!({"day": 3, "hour": 3, "applied": 2, "why": null, "remaining": 0}));
        assert_eq!(reply[2]["error"]["status"], 400, "{reply}");
        let binary = [
            ("Content-Type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "e3"),
            ("ce-source", "/shop"),
            ("ce-type", "m"),
            ("ce-time", &format!("{day}T14:11:17Z")),
        ];
        let reply = meterd.send("POST", "/v1/hits", &binary, br#"{"caps":[{"month":3}]}"#).json();
        assert_eq!(reply, json!({"day": 3, "hour": 3, "applied": 0, "why": "capped", "remaining": 0}));
    });
}

#[test]
fn a_meter_can_not_lie_where_another_one_has_its_days() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    for name in ["a:day:20261127", "a:day:20261127:path", "a:day:20261127:path:m1", "a:day:20261127:unique"] {
        assert!(
            meterd.post("/v1/hits", &json!({"meter": name}).to_string()).problem(400).contains("another meter's day")
        );
    }
    assert_eq!(meterd.post("/v1/hits", &json!({"meter": "orders:day:20261127:eu"}).to_string()).status, 200);
    let list = meterd.get("/v1/meters").json();
    assert_eq!(list["meters"][0]["meter"], "orders:day:20261127:eu", "{list}");
    // A hash of another program that is named like a batch is none.
    server.connect().run("HSET foo:batch size 3");
    assert_eq!(meterd.get("/v1/meters").json()["meters"].as_array().map(Vec::len), Some(1));
}

#[test]
fn members_of_any_bytes_are_asked_for_in_a_query() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    server.connect().try_call(&[b"METER.HIT", b"nb", b"PATH", b"1", b"a\xff b"]).expect("counted");
    for path in ["a%FF%20b", "a%ff+b"] {
        let usage = meterd.get(&format!("/v1/meters/nb/usage?path={path}")).json();
        assert_eq!(usage["usage"][0]["count"], 1, "{usage}");
    }
    meterd.get("/v1/meters/nb/usage?by=%FF").problem(400);
}

#[test]
fn attributes_of_an_event_in_headers_are_percent_encoded() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "caf%C3%A9%20x"),
        ("ce-source", "s"),
        ("ce-type", "caf%C3%A9"),
        ("ce-time", &yesterday()[..]),
    ];
    let binary = || meterd.send("POST", "/v1/hits", &headers, b"").json();
    assert_eq!((binary()["applied"].clone(), binary()["why"].clone()), (json!(1), json!("duplicate")));
    let event = json!({"specversion": "1.0", "id": "café x", "source": "s", "type": "café", "time": yesterday()});
    let kind = [("Content-Type", "Application/CloudEvents+JSON")];
    let structured = meterd.send("POST", "/v1/hits", &kind, event.to_string().as_bytes()).json();
    assert_eq!(structured["why"], "duplicate", "{structured}");
}

/// Midnight of yesterday, as an event has it.
fn yesterday() -> String {
    let day = (testkit::now_ms() / 86_400_000 - 1) * 86_400;
    jiff::Timestamp::from_second(day).expect("a time").to_string()
}

#[test]
fn usage_is_read_by_any_bucket_ranked_priced_and_listed() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let mut redis = server.connect();
    let today = date(now_ms());
    redis.run(&format!("METER.HIT m AT {AT} BY 20 PATH 2 a b UNIQUE u"));
    redis.run(&format!("METER.HIT m AT {} BY 3 PATH 1 c", AT + 86_400_000));
    redis.run("METER.HIT m");
    redis.run("ZADD board 20220809 nobody");
    redis.try_call(&[b"METER.HIT", b"n\xff:/?"]).expect("a hit");
    let usage = |query: &str| {
        let reply = meterd.get(&format!("/v1/meters/m/usage?from=2022-08-01&to=20220831{query}"));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["usage"].as_array().expect("buckets").clone()
    };
    let bucket = |name: &str, count: u64| json!({"bucket": name, "count": count});
    assert_eq!(usage(""), [bucket("20220809", 20), bucket("20220810", 3)]);
    assert_eq!(usage("&by=hour"), [bucket("2022080914", 20), bucket("2022081014", 3)]);
    assert_eq!(usage("&by=week"), [bucket("2022W32", 23)]);
    assert_eq!(usage("&by=month"), [bucket("202208", 23)]);
    assert_eq!(usage("&by=total"), [bucket("total", 23)]);
    assert_eq!(usage("&path=a&path=b"), [bucket("20220809", 20)]);
    assert_eq!(usage("&by=hour&tz=Asia/Kolkata"), [bucket("2022080919", 20), bucket("2022081019", 3)]);
    let csv = meterd.send("GET", "/v1/meters/m/usage?from=20220801&to=20220831", &[("Accept", "text/csv")], b"");
    assert_eq!(csv.body, "bucket,count\n20220809,20\n20220810,3\n");
    let top = meterd.get("/v1/meters/m/top?from=20220809&to=20220810&count=1").json();
    assert_eq!(top["top"], json!([{"member": "a", "count": 20}]));
    let cost = |tariff: &str| meterd.get(&format!("/v1/meters/m/cost?from=20220801&to=20220831&{tariff}")).json();
    assert_eq!((cost("rate=0.02")["usage"].clone(), cost("rate=0.02")["cost"].clone()), (json!(23), json!("0.46")));
    assert_eq!(cost("graduated=20:0.02,inf:0.01")["cost"], "0.43");
    assert_eq!(cost("volume=20:0.02,inf:0.01")["cost"], "0.23");
    let list = meterd.get("/v1/meters").json();
    let names: Vec<&Value> = list["meters"].as_array().expect("meters").iter().map(|meter| &meter["id"]).collect();
    assert_eq!(names, ["m", "n%FF%3A%2F%3F"], "a leaderboard is no meter, and a name of any bytes is one");
    assert_eq!((&list["meters"][0]["today"], &list["meters"][0]["days"]), (&json!(1), &json!(3)));
    let reply = meterd.get(&format!("/v1/meters/n%FF%3A%2F%3F/usage?from={today}&to={today}")).json();
    assert_eq!(reply["meter"], "n%FF%3A%2F%3F");
    assert_eq!(reply["usage"][0]["count"], 1);
    for (wrong, part) in [
        ("usage?from=yesterday", "date"),
        ("usage?from=20220810&to=20220809", "after"),
        ("usage?by=year", "hour, day, week, month or total"),
        ("usage?by=hour&path=a", "path"),
        ("usage?tz=Mars", "zone"),
        ("usage?form=20220809", "form"),
        ("cost", "rate="),
        ("cost?rate=1e3", "price"),
        ("cost?graduated=10:1", "inf"),
        ("top?count=0", "count"),
    ] {
        let problem = meterd.get(&format!("/v1/meters/m/{wrong}")).problem(400);
        assert!(problem.contains(part), "{wrong}: {problem}");
    }
}

#[test]
fn a_day_that_went_to_the_archive_is_still_read_and_its_meter_listed() {
    let server = server(&[]);
    let meterd = Meterd::with(&format!("redis://127.0.0.1:{}", server.port), "[archive]\nevery = \"1s\"\n");
    meterd.wait_until_ready();
    let body = format!(r#"{{"app":"local","node":0,"timestamp":{AT}}}"#);
    meterd.post("/counter", &body);
    let meter = "kpi:sessions:app:local:node:0";
    eventually("the day is archived", || server.connect().int(&format!("EXISTS {meter} {meter}:batch")) == 0);
    let kpi = || meterd.get("/kpi?key=kpi:sessions:app:local:node:0:day:20220809").json()["data"].clone();
    assert_eq!(kpi(), json!({"14": "1", "day": "1"}));
    let archive = meterd.get("/v1/archive").json();
    assert_eq!(archive["batches"][0]["meter"], meter, "{archive}");
    let list = meterd.get("/v1/meters").json();
    assert_eq!(list["meters"][0]["meter"], meter, "{list}");
    let usage = meterd.get(&format!("/v1/meters/{meter}/usage?from=20220801&to=20220831&by=month")).json();
    assert_eq!(usage["usage"], json!([{"bucket": "202208", "count": 1}]));
    eventually("the archiver's account is right", || {
        meterd.get("/metrics").body.contains("meterd_archived_batches_total 1\n")
    });
}

#[test]
fn limits_are_seen_without_taking() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let mut redis = server.connect();
    for _ in 0..4 {
        redis.run("CELL.THROTTLE user:42 1 1 3600");
    }
    let refused = meterd.get("/v1/limits/refused?count=5").json();
    assert_eq!(refused["refused"][0]["key"], "user:42", "{refused}");
    assert_eq!(refused["refused"][0]["refusals"], 2);
    let before = redis.contents();
    let state = meterd.get("/v1/limits/state?key=user:42&limiter=throttle&burst=1&count=1&period=3600").json();
    assert_eq!((&state["verdict"]["limited"], &state["verdict"]["limit"]), (&json!(true), &json!(2)), "{state}");
    assert!(state["verdict"]["retry_after"].as_f64().is_some_and(|wait| (3590.0..=3600.0).contains(&wait)), "{state}");
    assert!(state["state"]["value"]["full_again_in"].as_f64().is_some_and(|wait| wait > 7100.0), "{state}");
    assert_eq!(meterd.get("/v1/limits/state?key=nobody").json()["state"], Value::Null);
    for query in [
        "limiter=window&limit=3&period=60",
        "limiter=log&limit=3&period=60",
        "limiter=slide&limit=3&period=0.5",
        "limiter=quota&limit=3&unit=month&anchor=2022-07-31&offset=%2B05:30",
        "limiter=lease&limit=3&ttl=60&holder=me",
    ] {
        let state = meterd.get(&format!("/v1/limits/state?key=other&{query}")).json();
        assert_eq!(state["verdict"]["limited"], false, "{query}: {state}");
    }
    let problem = meterd.get("/v1/limits/state?key=k&limiter=window&limit=3").problem(400);
    assert!(problem.contains("period"), "{problem}");
    assert_eq!(redis.contents(), before);
    assert_eq!(meterd.get("/v1/limits/refused?count=5").json(), refused, "a look is no refusal");
}

#[test]
fn a_hit_is_told_to_listeners_within_a_second_or_so() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let mut stream = Connection::open(meterd.port);
    stream.write(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    while !stream.line().starts_with("retry:") {}
    thread::sleep(Duration::from_millis(600));
    let start = Instant::now();
    // One through Redis alone, which no meterd has seen.
    server.connect().run("METER.HIT m:direct BY 3");
    meterd.post("/v1/hits", r#"{"meter":"m:http"}"#);
    let mut wanted = BTreeSet::from(["m:direct", "m:http"]);
    while !wanted.is_empty() {
        let line = stream.line();
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let event: Value = serde_json::from_str(data).expect("JSON");
        for meter in event["meters"].as_array().expect("meters") {
            wanted.remove(meter["meter"].as_str().expect("a name"));
            assert_eq!(meter["gained"], if meter["meter"] == "m:direct" { 3 } else { 1 }, "{meter}");
        }
    }
    // A look comes every half a second; a loaded machine is a little late.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn metrics_are_clean_and_count_what_happens() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    meterd.post("/v1/hits", r#"{"meter":"m"}"#);
    meterd.post("/v1/hits", "nonsense");
    let reply = meterd.get("/metrics");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "meterd_hits_total 1\n",
        "meterd_redis_up 1\n",
        "meterd_responses_total{route=\"hits\",status=\"200\"} 1\n",
        "meterd_responses_total{route=\"hits\",status=\"400\"} 1\n",
        "redis_meter_hits_counted_total 1\n",
    ] {
        assert!(reply.body.contains(line), "{line}{}", reply.body);
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: scripts/setup meterd");
    std::io::Write::write_all(promtool.stdin.as_mut().expect("a pipe"), reply.body.as_bytes()).expect("sent");
    let output = promtool.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
}

#[test]
fn every_route_of_the_openapi_document_is_there_and_no_other_method() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let document = meterd.get("/openapi.json").json();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if path == "/v1/events" {
            continue;
        }
        let path = path.replace("{meter}", "m");
        for method in ["get", "post", "put", "delete"] {
            let reply = meterd.send(&method.to_uppercase(), &path, &[], b"");
            let is_there = methods.get(method).is_some();
            assert_eq!(reply.status == 405, !is_there, "{method} {path}: {reply:?}");
            let known = &methods[method]["responses"];
            assert!(!is_there || known.get(reply.status.to_string()).is_some(), "{method} {path}: {}", reply.status);
        }
    }
    meterd.get("/v2").problem(404);
}
