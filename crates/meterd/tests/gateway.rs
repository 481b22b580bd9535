//! Limits for gateways: what a check answers, that admitted is the limit exactly, and that a refused request charges nothing.

mod service;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use service::{Connection, Meterd, Reply, server};
use sfv::{BareItem, ListEntry, Parser};
use testkit::{Server, cluster, eventually, on_every_server};

const RULES: &str = "
domain: shop
descriptors:
  - key: gcra
    rate_limit: { unit: day, requests_per_unit: 100 }
    overrides: { big: { requests_per_unit: 1000 } }
  - key: window
    rate_limit: { algorithm: window, unit: day, limit: 100 }
  - key: log
    rate_limit: { algorithm: log, period: 1d, limit: 100 }
  - key: slide
    rate_limit: { algorithm: slide, unit: year, limit: 100 }
  - key: quota
    rate_limit: { algorithm: quota, unit: year, limit: 100 }
  - key: in_flight
    in_flight: { limit: 100, ttl: 1h }
  - key: login
    rate_limit: { algorithm: window, period: 1h, limit: 3, block: 2h }
  - key: few
    rate_limit: { unit: day, requests_per_unit: 2 }
  - key: shadow
    shadow_mode: true
    rate_limit: { unit: day, requests_per_unit: 2 }
  - key: never
    rate_limit: { unit: day, requests_per_unit: 0 }
  - key: free
    rate_limit: { unlimited: true }
  - key: lenient
    on_error: allow
    rate_limit: { unit: day, requests_per_unit: 2 }
  - key: country
    descriptors:
      - key: user
        rate_limit: { unit: day, requests_per_unit: 2 }
---
domain: remembering
remember_refusals: true
headers: none
descriptors:
  - key: k
    rate_limit: { period: 1s, limit: 5 }
---
domain: quick
deadline: 100ms
descriptors:
  - key: k
    rate_limit: { unit: second, requests_per_unit: 5 }
";

fn with_rules(redis: &str, rules: &str) -> Meterd {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yaml");
    fs::write(&file, rules).expect("written");
    let meterd = Meterd::try_with(redis, "", &["--limits", file.to_str().expect("a path")]);
    let meterd = meterd.unwrap_or_else(|log| panic!("meterd did not start:\n{log}"));
    fs::write(meterd.folder.path().join("rules.yaml"), rules).expect("written");
    meterd.wait_until_ready();
    meterd
}

/// With the file that it watches.
fn with_file(redis: &str, rules: &str) -> (Meterd, PathBuf) {
    let file = tempfile::tempdir().expect("a folder").keep().join("rules.yaml");
    fs::write(&file, rules).expect("written");
    let meterd = Meterd::try_with(redis, "", &["--limits", file.to_str().expect("a path")]).expect("meterd");
    meterd.wait_until_ready();
    (meterd, file)
}

fn url(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port)
}

fn check(meterd: &Meterd, query: &str) -> Reply {
    meterd.get(&format!("/check/shop?{query}"))
}

/// A list of structured fields: each string with its integers.
fn fields(reply: &Reply, name: &str) -> BTreeMap<String, BTreeMap<String, i64>> {
    let text = reply.header(name).unwrap_or_else(|| panic!("no {name}: {reply:?}"));
    let list: sfv::List = Parser::new(text).parse().unwrap_or_else(|error| panic!("{error}: {text}"));
    let item = |entry: ListEntry| {
        let ListEntry::Item(item) = entry else { panic!("no item: {text}") };
        let BareItem::String(name) = item.bare_item else { panic!("no string: {text}") };
        let number = |value: &BareItem| value.as_integer().map(i64::from).expect("an integer");
        let parameters = item.params.iter().map(|(key, value)| (key.as_str().to_owned(), number(value)));
        (name.as_str().to_owned(), parameters.collect())
    };
    list.into_iter().map(item).collect()
}

#[test]
fn a_check_says_what_is_left_in_the_headers_that_are_asked_for() {
    on_every_server(|server| {
        let meterd = with_rules(&url(server), RULES);
        let reply = check(&meterd, "gcra=a&window=b&unknown=c");
        assert_eq!((reply.status, reply.body.as_str()), (200, ""));
        let policies = fields(&reply, "ratelimit-policy");
        assert_eq!(policies["gcra"], BTreeMap::from([("q".to_owned(), 100), ("w".to_owned(), 86_400)]));
        let left = fields(&reply, "ratelimit");
        assert_eq!((left["gcra"]["r"], left["gcra"]["t"], left["window"]["r"]), (99, 864, 99));
        assert_eq!(left.len(), 2);
        for _ in 0..2 {
            assert_eq!(check(&meterd, "few=a").status, 200);
        }
        let refused = check(&meterd, "few=a");
        assert_eq!(refused.problem(429), "limited by few");
        let wait: u64 = refused.header("retry-after").expect("a wait").parse().expect("seconds");
        assert!((43_100..=43_200).contains(&wait), "{wait}");
        assert_eq!(fields(&refused, "ratelimit")["few"]["r"], 0);
        // For those that know only 403, and in other headers.
        let refused = check(&meterd, "few=a&deny=403&headers=draft-03");
        assert_eq!((refused.status, refused.header("ratelimit-limit")), (403, Some("2, 2;w=86400")));
        assert_eq!((refused.header("ratelimit-remaining"), refused.header("ratelimit")), (Some("0"), None));
        let reply = check(&meterd, "few=b&headers=x-ratelimit");
        assert_eq!((reply.header("x-ratelimit-limit"), reply.header("x-ratelimit-remaining")), (Some("2"), Some("1")));
        assert_eq!(check(&meterd, "few=b&headers=none").header("ratelimit"), None);
        // Any method, and a value with anything in it.
        assert_eq!(
            meterd.send("POST", "/check/shop?few=%2F%26%20c", &[("Origin", "http://elsewhere")], b"").status,
            200
        );
        assert_eq!(check(&meterd, "few=%2F%26%20c").status, 200);
        assert_eq!(check(&meterd, "few=%2F%26%20c").status, 429);
        for _ in 0..2 {
            assert_eq!(check(&meterd, "country=de/user=u").status, 200);
        }
        assert_eq!(check(&meterd, "country=de/user=u").status, 429);
        assert_eq!(check(&meterd, "country=fr/user=u").status, 200);
        // A value that only looks nested is a value.
        assert_eq!(fields(&check(&meterd, "few=x/user=u"), "ratelimit")["few"]["r"], 1);
        // An override, an unlimited one, and one of nothing.
        assert_eq!(fields(&check(&meterd, "gcra=big"), "ratelimit")["gcra"]["r"], 999);
        assert_eq!(check(&meterd, "free=x").status, 200);
        assert_eq!(check(&meterd, "never=x&gcra=a").status, 429);
        assert_eq!(fields(&check(&meterd, "gcra=a"), "ratelimit")["gcra"]["r"], 98);
        for wrong in ["few=a&deny=200", "few=a&headers=all", "few=a&deny=403&deny=429", "=x"] {
            assert_eq!(check(&meterd, wrong).status, 400, "{wrong}");
        }
        assert!(meterd.get("/check/nothing?a=b").problem(404).contains("nothing"));
    });
}

#[test]
fn a_block_begins_when_another_limit_is_there_too_and_a_shadow_refuses_nobody() {
    on_every_server(|server| {
        let meterd = with_rules(&url(server), RULES);
        for _ in 0..3 {
            assert_eq!(check(&meterd, "login=x&log=x").status, 200);
        }
        let refused = check(&meterd, "login=x&log=x");
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("7200")));
        assert_eq!(fields(&refused, "ratelimit")["log"]["r"], 97);
        for _ in 0..4 {
            assert_eq!(check(&meterd, "shadow=x&log=y").status, 200);
        }
        assert_eq!(fields(&check(&meterd, "shadow=x&log=y"), "ratelimit")["log"]["r"], 95);
        let metrics = meterd.get("/metrics").body;
        for line in [
            r#"meterd_limit_checks_total{domain="shop",rule="login",result="allowed"} 3"#,
            r#"meterd_limit_checks_total{domain="shop",rule="login",result="refused"} 1"#,
            r#"meterd_limit_checks_total{domain="shop",rule="shadow",result="allowed"} 2"#,
            r#"meterd_limit_checks_total{domain="shop",rule="shadow",result="shadow"} 3"#,
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }
    });
}

#[test]
fn a_lease_is_taken_renewed_and_given_back() {
    let server = server(&[]);
    let rules = "domain: shop\ndescriptors:\n  - key: export\n    in_flight: { limit: 2, ttl: 60s }\n  - key: day\n    rate_limit: { unit: day, requests_per_unit: 100 }\n";
    let meterd = with_rules(&url(&server), rules);
    let first = check(&meterd, "export=a/b&day=x");
    let lease = first.header("lease").expect("a lease").to_owned();
    assert_eq!(check(&meterd, "export=a/b").status, 200);
    assert_eq!(check(&meterd, "export=a/b&day=x").status, 429);
    let renewed = meterd.send("GET", "/check/shop?export=a/b", &[("Lease", &lease)], b"");
    assert_eq!((renewed.status, renewed.header("lease")), (200, Some(lease.as_str())));
    let path = format!("/check/shop/lease/{lease}");
    assert_eq!(meterd.send("DELETE", &path, &[], b"").json(), json!({"released": true}));
    assert_eq!(meterd.send("DELETE", &path, &[], b"").json(), json!({"released": false}));
    assert_eq!(check(&meterd, "export=a/b").status, 200);
    assert_eq!(check(&meterd, "export=a/b").status, 429);
    for wrong in ["/check/shop/lease/x", &format!("/check/other/lease/{lease}")] {
        assert_eq!(meterd.send("DELETE", wrong, &[], b"").status, 400, "{wrong}");
    }
    // Of the requests that were refused, none was charged.
    assert_eq!(fields(&check(&meterd, "day=x"), "ratelimit")["day"]["r"], 98);
}

#[test]
fn a_lease_that_was_never_given_renews_nothing() {
    let server = server(&[]);
    let rules = "domain: shop\ndescriptors:\n  - key: export\n    in_flight: { limit: 2, ttl: 300ms }\n";
    let meterd = with_rules(&url(&server), rules);
    let forged = format!("{}~x", "0".repeat(32));
    let with = |lease: &str| meterd.send("GET", "/check/shop?export=a", &[("Lease", lease)], b"");
    let statuses: Vec<u16> = (0..5).map(|_| with(&forged).status).collect();
    assert_eq!(statuses, [200, 200, 429, 429, 429]);
    std::thread::sleep(Duration::from_millis(400));
    // One that has ended takes a new place, under a new name.
    let first = check(&meterd, "export=a").header("lease").expect("a lease").to_owned();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(server.connect().run("ZCARD limit:{shop}:in_flight:export=a"), redis::Value::Int(0));
    let second = with(&first);
    assert!(second.status == 200 && second.header("lease") != Some(first.as_str()), "{second:?}");
}

#[test]
fn a_request_of_more_limits_than_one_step_takes_is_refused_for_good() {
    let server = server(&[]);
    let rules = "domain: shop\ndescriptors:\n  - key: k\n    rate_limit: { unit: day, requests_per_unit: 100 }\n";
    let meterd = with_rules(&url(&server), rules);
    let query = |n: usize| (0..n).map(|n| format!("k={n}")).collect::<Vec<_>>().join("&");
    assert_eq!(check(&meterd, &query(1000)).status, 200);
    assert!(check(&meterd, &query(1001)).problem(400).contains("at most 1000 limits"));
    meterd.get("/check/%FF?k=1").problem(404);
}

/// The statuses of requests by `clients` clients, in turn over these services.
fn by_clients(
    meterds: &[&Meterd],
    clients: usize,
    each: usize,
    path: impl Fn(usize) -> String + Sync,
) -> BTreeMap<u16, usize> {
    let statuses: Vec<Vec<u16>> = thread::scope(|scope| {
        let path = &path;
        let ask = move |client: usize| {
            let mut connection = Connection::open(meterds[client % meterds.len()].port);
            (0..each).map(|n| connection.send("GET", &path(client * each + n), &[], b"").status).collect()
        };
        let threads: Vec<_> = (0..clients).map(|client| scope.spawn(move || ask(client))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    statuses.into_iter().flatten().fold(BTreeMap::new(), |mut counts, status| {
        *counts.entry(status).or_default() += 1;
        counts
    })
}

#[test]
fn two_services_and_64_clients_admit_the_limit_exactly_by_each_algorithm() {
    on_every_server(|server| {
        let meterds = [with_rules(&url(server), RULES), with_rules(&url(server), RULES)];
        let meterds = [&meterds[0], &meterds[1]];
        for rule in ["gcra", "window", "log", "slide", "quota", "in_flight"] {
            let counts = by_clients(&meterds, 64, 4, |_| format!("/check/shop?{rule}=hot"));
            assert_eq!(counts, BTreeMap::from([(200, 100), (429, 156)]), "{rule}");
        }
    });
}

/// Every mix of two to six algorithms, of which one is used up before the others.
fn all_or_none(meterds: &[&Meterd], tag: &str) {
    const RULES: [&str; 6] = ["gcra", "window", "log", "slide", "quota", "in_flight"];
    for mix in (1..1_usize << RULES.len()).filter(|mix| mix.count_ones() >= 2) {
        let chosen: Vec<&str> =
            RULES.into_iter().enumerate().filter(|(n, _)| mix >> n & 1 == 1).map(|(_, rule)| rule).collect();
        let own = format!("{tag}{mix}");
        let query: String = chosen.iter().map(|rule| format!("{rule}={own}&")).collect();
        // The scarce limit lets 2 of each client's own pass; what a mix charged must be what passed.
        let counts = by_clients(meterds, 8, 3, |n| format!("/check/shop?{query}few={own}-{}", n % 4));
        assert_eq!(counts, BTreeMap::from([(200, 8), (429, 16)]), "{query}");
        let dry = meterds[0].get(&format!("/v1/limits/check/shop?{}", query.trim_end_matches('&'))).json();
        for descriptor in dry["descriptors"].as_array().expect("descriptors") {
            // A dry run says what would be left after one more.
            assert_eq!(descriptor["verdict"]["remaining"], json!(100 - 8 - 1), "{query} {descriptor}");
        }
    }
}

#[test]
fn a_refused_request_has_charged_nothing_in_any_mix_of_algorithms() {
    let server = server(&[]);
    let meterds = [with_rules(&url(&server), RULES), with_rules(&url(&server), RULES)];
    all_or_none(&[&meterds[0], &meterds[1]], "m");
}

#[test]
fn in_a_cluster_all_is_taken_or_none_too() {
    let program = testkit::programs().last().expect("a server program");
    let nodes = cluster::three_nodes(program);
    let redis = format!("redis+cluster://127.0.0.1:{}", nodes[0].port);
    let meterds = [with_rules(&redis, RULES), with_rules(&redis, RULES)];
    all_or_none(&[&meterds[0], &meterds[1]], "c");
    let shards = "domain: shop\nshard_by: user\ndescriptors:\n  - key: user\n    rate_limit: { algorithm: log, unit: day, limit: 5 }\n    descriptors:\n      - key: path\n        rate_limit: { unit: day, limit: 3 }\n";
    let sharded = with_rules(&redis, shards);
    for user in 0..20 {
        let path = format!("/check/shop?user=u{user}&user=u{user}/path=x");
        let counts: Vec<u16> = (0..4).map(|_| sharded.get(&path).status).collect();
        assert_eq!(counts, [200, 200, 200, 429]);
        assert_eq!(fields(&sharded.get(&format!("/check/shop?user=u{user}")), "ratelimit")["user"]["r"], 1);
    }
    let keys: Vec<i64> = nodes.iter().map(|node| node.connect().int("DBSIZE")).collect();
    assert!(keys.iter().all(|&count| count > 0), "{keys:?}");
}

#[test]
fn rules_are_reloaded_without_dropping_a_request_and_a_bad_file_changes_nothing() {
    let server = server(&[]);
    let (meterd, file) = with_file(&url(&server), RULES);
    let limit = || fields(&check(&meterd, "gcra=big"), "ratelimit-policy")["gcra"]["q"];
    assert_eq!(limit(), 1000);
    thread::scope(|scope| {
        let end = Instant::now() + Duration::from_secs(4);
        let port = meterd.port;
        let busy = scope.spawn(move || {
            let mut connection = Connection::open(port);
            let mut statuses = BTreeMap::new();
            while Instant::now() < end {
                *statuses.entry(connection.send("GET", "/check/shop?free=x", &[], b"").status).or_insert(0) += 1;
            }
            statuses
        });
        fs::write(&file, RULES.replace("requests_per_unit: 1000", "requests_per_unit: 2000")).expect("written");
        eventually("the new rules hold", || limit() == 2000);
        fs::write(&file, "domain: shop\ndescriptors: {").expect("written");
        let reloads = r#"meterd_reloads_total{result="error"} 1"#;
        eventually("the bad file is told", || meterd.get("/metrics").body.contains(reloads));
        assert_eq!(limit(), 2000);
        assert!(meterd.log().contains("rules.yaml:2"), "{}", meterd.log());
        let statuses = busy.join().expect("requests");
        assert!(statuses.len() == 1 && statuses.contains_key(&200), "{statuses:?}");
    });
}

#[test]
fn a_bad_file_is_told_by_config_check_and_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yaml");
    let run = || {
        let output =
            Command::new(env!("CARGO_BIN_EXE_meterd")).args(["config", "check"]).arg(&file).output().expect("meterd");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    fs::write(&file, RULES).expect("written");
    assert_eq!(run().0, Some(0));
    fs::write(&file, "domain: d\ndescriptors:\n  - key: a\n    rate_limit: { limit: 5 }\n").expect("written");
    let (code, said) = run();
    assert!(code == Some(1) && said.contains("rules.yaml:4: unit is missing"), "{said}");
    let started = Meterd::try_with("redis://127.0.0.1:1", "", &["--limits", file.to_str().expect("a path")]);
    assert!(started.err().expect("an end").contains("rules.yaml:4"));
}

#[test]
fn while_redis_is_away_a_check_answers_at_once_what_on_error_says() {
    let mut server = server(&[]);
    let meterd = with_rules(&url(&server), RULES);
    server.kill();
    eventually("it is noticed", || meterd.get("/readyz").status == 503);
    for (query, status) in [
        ("gcra=a", 503),
        ("lenient=a", 200),
        ("lenient=a&gcra=a", 503),
        ("lenient=a&shadow=a", 200),
        ("free=a", 200),
        ("never=a", 429),
    ] {
        let start = Instant::now();
        let reply = check(&meterd, query);
        assert_eq!(reply.status, status, "{query}");
        assert!(start.elapsed() < Duration::from_millis(100), "{query} {:?}", start.elapsed());
    }
    assert_eq!(check(&meterd, "gcra=a").header("retry-after"), Some("1"));
}

#[test]
fn while_redis_stalls_every_check_answers_by_its_deadline_and_nothing_piles_up() {
    let server = server(&[]);
    let meterd = with_rules(&url(&server), RULES);
    let slowest = || {
        thread::scope(|scope| {
            let ask = || {
                let start = Instant::now();
                let reply = meterd.get("/check/quick?k=a");
                (reply.status, start.elapsed())
            };
            let threads: Vec<_> = (0..32).map(|_| scope.spawn(ask)).collect();
            let replies: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a reply")).collect();
            assert!(replies.iter().all(|(status, _)| *status == 503), "{replies:?}");
            replies.iter().map(|(_, time)| *time).max().expect("replies")
        })
    };
    let stall = server.freeze();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let slowest = slowest();
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    }
    assert!(meterd.get("/metrics").body.contains("meterd_requests_in_flight 0"));
    drop(stall);
    eventually("it is well again", || [200, 429].contains(&meterd.get("/check/quick?k=b").status));
}

#[test]
fn a_refusal_that_is_remembered_asks_nobody_and_ends_in_time() {
    let server = server(&[]);
    let meterd = with_rules(&url(&server), RULES);
    let calls = || {
        server.connect().string("INFO commandstats").and_then(|text| {
            let line = text.lines().find(|line| line.to_lowercase().starts_with("cmdstat_cell.throttle:"))?.to_owned();
            line.split_once("calls=")?.1.split(',').next()?.parse::<usize>().ok()
        })
    };
    let start = Instant::now();
    let counts = by_clients(&[&meterd], 4, 50, |_| "/check/remembering?k=a".to_owned());
    let admitted = counts[&200];
    // Never more than the burst, and what has come back since.
    assert!(admitted >= 5 && admitted as u128 <= 5 + start.elapsed().as_millis() / 200 + 1, "{counts:?}");
    assert!(calls().is_some_and(|calls| calls < 100), "{:?}", calls());
    eventually("it passes again", || meterd.get("/check/remembering?k=a").status == 200);
}

#[test]
fn new_rules_forget_what_the_old_ones_refused() {
    let rules = "
domain: plans
remember_refusals: true
descriptors:
  - key: k
    rate_limit: { algorithm: window, unit: day, limit: 1 }
";
    let server = server(&[]);
    let (meterd, file) = with_file(&url(&server), rules);
    let status = || meterd.get("/check/plans?k=a").status;
    assert_eq!([status(), status()], [200, 429]);
    fs::write(&file, rules.replace("limit: 1 ", "limit: 5 ")).expect("written");
    eventually("the higher limit holds for a key that was refused", || status() == 200);
}

#[test]
fn a_token_needs_the_role_and_reaches_its_keys_only() {
    let server = server(&[]);
    let token = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_meterd")).args(["token", "new"]).args(args).output().expect("meterd");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let secret = text.lines().find_map(|line| line.trim().strip_prefix("mtr_")).expect("a secret");
        (format!("mtr_{secret}"), text[text.find("[[token]]").expect("lines")..].to_owned())
    };
    let [checks, reads, narrow] = [
        token(&["--role", "check"]),
        token(&["--role", "read"]),
        token(&["--role", "check", "--prefix", "limit:{other}:"]),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules.yaml");
    fs::write(&file, RULES).expect("written");
    let lines = [&checks.1, &reads.1, &narrow.1].map(String::as_str).join("\n");
    let meterd =
        Meterd::try_with(&url(&server), &lines, &["--limits", file.to_str().expect("a path")]).expect("meterd");
    eventually("it is ready", || meterd.get("/readyz").status == 200);
    assert_eq!(meterd.get("/check/shop?few=a").status, 401);
    assert_eq!(meterd.get_with("/check/shop?few=a", &reads.0).status, 403);
    assert_eq!(meterd.get_with("/check/shop?few=a", &narrow.0).status, 403);
    assert_eq!(meterd.get_with("/check/shop?few=a", &checks.0).status, 200);
}

fn gateway_tools() -> PathBuf {
    let folder = testkit::root().join(".clients/meterd-gateways");
    assert!(folder.join(".from").exists(), "{} is missing: run scripts/fetch-meterd-tools", folder.display());
    folder
}

#[test]
fn the_published_messages_of_envoy_get_their_answers() {
    let server = server(&[]);
    let meterds = [with_rules(&url(&server), RULES), with_rules(&url(&server), RULES)];
    let output = Command::new(gateway_tools().join("bin/python"))
        .arg(testkit::root().join("crates/meterd/tests/gateways/rls.py"))
        .args(meterds.each_ref().map(|meterd| meterd.port.to_string()))
        .output()
        .expect("Python");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_dry_run_says_which_rule_a_descriptor_meets_and_takes_nothing() {
    let server = server(&[]);
    let meterd = with_rules(&url(&server), RULES);
    for _ in 0..3 {
        let reply = meterd.get("/v1/limits/check/shop?few=a&free=b&none=c").json();
        assert_eq!(reply["limited"], json!(false));
        let few = &reply["descriptors"][0];
        assert_eq!((few["rule"].as_str(), &few["limit"], &few["algorithm"]), (Some("few"), &json!(2), &json!("gcra")));
        assert_eq!(few["keys"], json!(["limit:{shop}:gcra:few=a"]));
        assert_eq!(
            (&reply["descriptors"][1]["unlimited"], &reply["descriptors"][2]["rule"]),
            (&json!(true), &Value::Null)
        );
    }
    assert_eq!(server.connect().int("DBSIZE"), 0);
}

#[test]
fn the_terminal_says_what_a_check_would_answer_and_what_a_key_holds() {
    let server = server(&[]);
    let meterd = with_rules(&url(&server), RULES);
    let rules = meterd.folder.path().join("rules.yaml");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_meterd"))
            .args(["check", "--redis", &url(&server), "--limits", rules.to_str().expect("a path")])
            .args(arguments)
            .output()
            .expect("meterd");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.code(), said)
    };
    assert_eq!(check(&meterd, "few=a").status, 200);
    let (code, said) = run(&["--domain", "shop", "few=a", "free=b", "none=c"]);
    assert_eq!(code, Some(0), "{said}");
    for line in ["few=a: few, gcra, 2 per 1day, then 0 are left", "free, unlimited", "none=c: meets no rule", "passes"]
    {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert_eq!(check(&meterd, "few=a").status, 200);
    let (code, said) = run(&["--domain", "shop", "few=a"]);
    assert!(code == Some(1) && said.contains("refuses for 11h") && said.contains("refused"), "{said}");
    let (code, said) = run(&["limit:{shop}:gcra:few=a", "limit:{shop}:gcra:few=b"]);
    assert!(code == Some(0) && said.contains("few=a: string ") && said.contains("nothing is stored"), "{said}");
    let (code, said) = run(&["--domain", "other", "few=a"]);
    assert!(code == Some(1) && said.contains("no domain \"other\""), "{said}");
}
