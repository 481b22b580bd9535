//! `meterd serve` when something is wrong: Redis, a client, the configuration; and how it begins and ends.

mod service;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use service::{Connection, Meterd, certificates, curl, server};
use testkit::{Server, cluster, eventually, now_ms};

const HIT: &str = r#"{"meter":"m"}"#;
/// What a call may take, by default, with what a loaded machine adds.
const DEADLINE: Duration = Duration::from_secs(4);

fn url(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port)
}

/// The answer, which must come before the deadline.
#[track_caller]
fn in_time<T>(ask: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let answer = ask();
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    answer
}

#[test]
fn while_redis_is_down_everything_is_refused_at_once_and_all_is_well_when_it_is_back() {
    let mut server = server(&["--appendonly", "yes", "--appendfsync", "always"]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    assert_eq!(meterd.post("/v1/hits", HIT).status, 200);
    server.kill();
    eventually("it is noticed", || meterd.get("/readyz").status == 503);
    for _ in 0..3 {
        let reply = in_time(|| meterd.post("/v1/hits", HIT));
        assert!(reply.problem(503).contains("nothing was changed"), "{reply:?}");
        assert_eq!(reply.header("retry-after"), Some("1"));
        let counter = in_time(|| meterd.post("/counter", r#"{"app":"a","node":0,"timestamp":1660054277326}"#));
        assert_eq!((counter.status, &counter.json()["isError"]), (503, &json!(true)));
        assert_eq!(in_time(|| meterd.get("/home")).status, 503);
        assert_eq!(in_time(|| meterd.get("/v1/meters/m/usage")).status, 503);
        assert_eq!(in_time(|| meterd.get("/metrics")).status, 200);
        assert_eq!(meterd.get("/healthz").status, 200);
    }
    server.kill_and_restart();
    let back = Instant::now();
    eventually("it counts again", || meterd.post("/v1/hits", HIT).status == 200);
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
}

#[test]
fn a_hit_whose_answer_is_lost_is_unknown_unless_it_is_an_event_which_counts_once() {
    let server = server(&[]);
    let meterd = Meterd::with(&url(&server), "deadline = \"500ms\"\n");
    meterd.wait_until_ready();
    let frozen = server.freeze();
    let reply = in_time(|| meterd.post("/v1/hits", HIT));
    assert!(reply.problem(504).contains("unknown"), "{reply:?}");
    let event = json!({"meter": "events", "at": now_ms(), "event_id": "e"}).to_string();
    // By now the connection may have been given up, so that nothing is sent.
    assert!([503, 504].contains(&in_time(|| meterd.post("/v1/hits", &event)).status));
    drop(frozen);
    // Sent again, by meterd and by the client, it counts once.
    for _ in 0..3 {
        eventually("it is counted", || meterd.post("/v1/hits", &event).status == 200);
    }
    assert_eq!(server.connect().counts("METER.DAYS events").iter().map(|(_, n)| n).sum::<i64>(), 1);
}

#[test]
fn an_event_is_sent_again_within_its_deadline_and_is_counted() {
    let server = server(&[]);
    let meterd = Meterd::with(&url(&server), "deadline = \"3s\"\n");
    meterd.wait_until_ready();
    let event = json!({"meter": "events", "at": now_ms(), "event_id": "e"}).to_string();
    thread::scope(|scope| {
        let frozen = server.freeze();
        let posted = scope.spawn(|| meterd.post("/v1/hits", &event));
        thread::sleep(Duration::from_millis(200));
        // The connection is lost with the reply on its way.
        drop(frozen);
        let mut redis = server.connect();
        redis.run("CLIENT KILL TYPE normal SKIPME yes");
        let reply = posted.join().expect("a reply");
        assert_eq!(reply.status, 200, "{reply:?}");
    });
    assert_eq!(server.connect().counts("METER.DAYS events").iter().map(|(_, n)| n).sum::<i64>(), 1);
}

#[test]
fn a_server_that_refuses_is_explained() {
    let program = testkit::programs().last().expect("a server program");
    // Without the module.
    let bare = Server::bare(program, &[]);
    let meterd = Meterd::start(&bare);
    eventually("it has looked", || meterd.log().contains("loadmodule"));
    assert!(meterd.post("/v1/hits", HIT).problem(503).contains("loadmodule"));
    assert!(meterd.get("/readyz").problem(503).contains("loadmodule"));
    // A user that lacks a right.
    let server = server(&[]);
    let mut redis = server.connect();
    redis.run("ACL SETUSER reader on >secret ~m* +@connection +meter.kpi");
    let meterd = Meterd::with(&format!("redis://reader:secret@127.0.0.1:{}", server.port), "");
    eventually("it is connected", || meterd.log().contains("connected"));
    let problem = meterd.post("/v1/hits", HIT).problem(502);
    assert!(problem.contains("right") && problem.to_lowercase().contains("meter.hit"), "{problem}");
    assert!(!meterd.log().contains("secret"), "{}", meterd.log());
    // Read-only: a replica.
    let replica = server.replica(&["--loadmodule", &testkit::module().display().to_string()]);
    let meterd = Meterd::start(&replica);
    eventually("it is connected", || meterd.log().contains("connected"));
    assert!(in_time(|| meterd.post("/v1/hits", HIT)).problem(503).contains("read-only"));
    assert!(meterd.get("/readyz").problem(503).contains("read-only"));
    assert_eq!(meterd.get("/v1/limits/state?key=k").status, 200);
    // Out of memory, and a value of another type.
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    redis.run("SET m string");
    meterd.post("/v1/hits", HIT).problem(409);
    redis.run("CONFIG SET maxmemory 1");
    assert!(in_time(|| meterd.post("/v1/hits", r#"{"meter":"other"}"#)).problem(503).contains("memory"));
    assert!(meterd.get("/readyz").problem(503).contains("memory"), "hits can't be counted");
    redis.run("CONFIG SET maxmemory 0");
    assert_eq!(meterd.post("/v1/hits", r#"{"meter":"other"}"#).status, 200);
    assert_eq!(meterd.get("/readyz").status, 200);
    assert_eq!(redis.run("EXISTS meterd:ready"), redis::Value::Int(0));
}

#[test]
fn too_much_is_refused_and_the_rest_goes_on() {
    let server = server(&[]);
    let meterd = Meterd::with(&url(&server), "in_flight = 2\nbody_limit = 5000\nname_limit = 100\n");
    meterd.wait_until_ready();
    let long = "x".repeat(101);
    assert!(meterd.post("/v1/hits", &format!(r#"{{"meter":"{long}"}}"#)).problem(400).contains("100 bytes"));
    assert!(meterd.post("/v1/hits", &" ".repeat(5001)).problem(413).contains("5000"));
    assert!(meterd.post("/v1/hits", &format!("[{}1]", "1,".repeat(1000))).problem(413).contains("1000"));
    meterd.send("POST", "/v1/hits", &[("Content-Type", "text/plain")], HIT.as_bytes()).problem(415);
    // Two requests whose bodies are still on their way.
    let mut slow = [Connection::open(meterd.port), Connection::open(meterd.port)];
    for connection in &mut slow {
        connection.write(
            b"POST /v1/hits HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{",
        );
    }
    eventually("they are in flight", || meterd.get("/metrics").body.contains("meterd_requests_in_flight 2\n"));
    let refused = meterd.post("/v1/hits", HIT);
    assert!(refused.problem(503).contains("in flight"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(meterd.get("/readyz").status, 200, "health is asked while everything else is too much");
    for connection in &mut slow {
        connection.write(br#""meter":"m"}"#);
        assert_eq!(connection.read(false).status, 200);
    }
    assert_eq!(meterd.post("/v1/hits", HIT).status, 200);
    // One whose client leaves is not in flight any more.
    let mut leaver = Connection::open(meterd.port);
    leaver.write(b"POST /v1/hits HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{");
    let in_flight = |n: u32| meterd.get("/metrics").body.contains(&format!("meterd_requests_in_flight {n}\n"));
    eventually("it is in flight", || in_flight(1));
    drop(leaver);
    eventually("it has left", || in_flight(0));
    // A page from elsewhere, in the browser of somebody who may count.
    let foreign = [("Content-Type", "application/json"), ("Origin", "http://elsewhere.example")];
    meterd.send("POST", "/v1/hits", &foreign, HIT.as_bytes()).problem(403);
    let own = [("Content-Type", "application/json"), ("Origin", "http://127.0.0.1")];
    assert_eq!(meterd.send("POST", "/v1/hits", &own, HIT.as_bytes()).status, 200);
}

#[test]
fn tokens_have_roles_and_prefixes_and_change_without_a_restart() {
    let server = server(&[]);
    let made = |arguments: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_meterd")).args(["token", "new"]).args(arguments).output();
        let text = String::from_utf8(output.expect("meterd").stdout).expect("UTF-8");
        let secret = text.split_whitespace().find(|word| word.starts_with("mtr_")).expect("a secret").to_owned();
        (secret, text[text.find("[[token]]").expect("lines for the file")..].to_owned())
    };
    let (counter, first) = made(&["--role", "hit,read", "--prefix", "kpi:"]);
    let (admin, second) = made(&["--role", "admin", "--role", "read"]);
    let meterd = Meterd::with(&url(&server), &format!("{first}{second}"));
    meterd.wait_until_ready();
    let session = r#"{"app":"a","node":0,"timestamp":1660054277326}"#;
    let as_counter = [("Content-Type", "application/json"), ("Authorization", &format!("Bearer {counter}")[..])];
    let reply = meterd.post("/v1/hits", HIT);
    reply.problem(401);
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    assert_eq!(meterd.post("/counter", session).status, 401);
    assert_eq!(meterd.get_with("/v1/meters", "mtr_0000").status, 401);
    assert_eq!(meterd.send("POST", "/counter", &as_counter, session.as_bytes()).status, 200);
    assert!(meterd.send("POST", "/v1/hits", &as_counter, HIT.as_bytes()).problem(403).contains("prefixes"));
    assert_eq!(meterd.get_with("/kpi?key=kpi:sessions:app:a:node:0:day:20220809", &counter).status, 200);
    assert_eq!(meterd.get_with("/kpi?key=m:day:20220809", &counter).status, 403);
    meterd.get_with("/metrics", &counter).problem(403);
    assert_eq!(meterd.get_with("/metrics", &admin).status, 200);
    assert!(
        meterd
            .send(
                "POST",
                "/v1/hits",
                &[("Content-Type", "application/json"), ("Authorization", &format!("Bearer {admin}"))],
                HIT.as_bytes()
            )
            .problem(403)
            .contains("hit")
    );
    server.connect().run("METER.HIT other");
    let list = meterd.get_with("/v1/meters", &counter).json();
    assert_eq!(list["meters"].as_array().map(Vec::len), Some(1), "{list}");
    for path in ["/", "/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(meterd.get(path).status, 200, "{path}");
    }
    // A wrong file changes nothing, and is told; a right one is taken over.
    fs::write(meterd.file(), format!("{first}\nroles = 3\n")).expect("written");
    eventually("it is told", || meterd.log().contains("not reloaded") && meterd.log().contains("meterd.toml:"));
    assert_eq!(meterd.get_with("/v1/meters", &admin).status, 200);
    fs::write(meterd.file(), &first).expect("written");
    eventually("the token is gone", || meterd.get_with("/v1/meters", &admin).status == 401);
    assert_eq!(meterd.get_with("/v1/meters", &counter).status, 200);
    fs::write(meterd.file(), format!("{first}{second}")).expect("written");
    meterd.signal("HUP");
    eventually("it is back", || meterd.get_with("/metrics", &admin).status == 200);
    let metrics = meterd.get_with("/metrics", &admin).body;
    assert!(metrics.contains("meterd_reloads_total{result=\"error\"} 1\n"), "{metrics}");
}

#[test]
fn without_a_token_other_machines_are_not_let_in() {
    let server = server(&[]);
    let said = Meterd::try_with(&url(&server), "", &["--listen", "0.0.0.0:0"]).err().expect("it does not start");
    assert!(said.contains("meterd token new"), "{said}");
}

#[test]
fn a_file_that_goes_or_loses_its_tokens_lets_nobody_in() {
    let server = server(&[]);
    let token =
        std::process::Command::new(env!("CARGO_BIN_EXE_meterd")).args(["token", "new", "--role", "hit"]).output();
    let token = String::from_utf8(token.expect("meterd").stdout).expect("UTF-8");
    let token = &token[token.find("[[token]]").expect("lines for the file")..];
    // The address stands in the file too, so that one without it would do for a start.
    let text = format!("listen = \"0.0.0.0:0\"\n{token}");
    let meterd = Meterd::try_with(&url(&server), &text, &[]).expect("it starts");
    eventually("it is connected", || meterd.log().contains("connected"));
    let file = meterd.file();
    let told = |n: usize| meterd.log().matches("not reloaded").count() >= n;
    for (n, change) in [
        Box::new(|| fs::write(&file, "").expect("written")) as Box<dyn Fn()>,
        Box::new(|| fs::write(&file, "listen = \"127.0.0.1:0\"\n").expect("written")),
        Box::new(|| fs::remove_file(&file).expect("removed")),
    ]
    .iter()
    .enumerate()
    {
        change();
        eventually("it is told", || told(n + 1));
        assert_eq!(meterd.post("/v1/hits", HIT).status, 401);
    }
    fs::write(&file, &text).expect("written");
    eventually("it is read again", || meterd.log().contains("configuration reloaded"));
    assert_eq!(meterd.post("/v1/hits", HIT).status, 401);
    // On this machine alone it could do without tokens; a file that goes has not said so.
    let own = Meterd::with(&url(&server), token);
    fs::remove_file(own.file()).expect("removed");
    eventually("it is told", || own.log().contains("not reloaded"));
    assert_eq!(own.post("/v1/hits", HIT).status, 401);
}

#[test]
fn who_connects_and_says_nothing_or_too_little_is_let_go() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let silent: Vec<TcpStream> = [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"GET /heal"]
        .into_iter()
        .map(|said| {
            let mut stream = TcpStream::connect(("127.0.0.1", meterd.port)).expect("connected");
            stream.write_all(said).expect("written");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
            stream
        })
        .collect();
    for mut stream in silent {
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it is still open");
    }
}

#[test]
fn an_archive_that_is_never_due_leaves_the_days_in_redis() {
    let server = server(&[]);
    server.connect().run("METER.HIT m AT 1660054277326");
    let meterd = Meterd::with(&url(&server), "[archive]\nevery = \"never\"\n");
    meterd.wait_until_ready();
    eventually("it says so", || meterd.log().contains("finished days stay in Redis"));
    let often = Meterd::with(&url(&server), "[archive]\nevery = \"1s\"\n");
    assert_eq!(server.connect().counts("METER.DAYS m").len(), 1);
    eventually("it is archived", || server.connect().counts("METER.DAYS m").is_empty());
    assert!(often.log().contains("finished days of all meters move from Redis to SQLite"), "{}", often.log());
    let wrong = Meterd::try_with(&url(&server), "[archive]\nevery = \"nie\"\n", &[]).err().expect("it does not start");
    assert!(wrong.contains("10m, 1h or never"), "{wrong}");
}

#[test]
fn numbers_that_no_service_can_have_are_refused_at_the_start() {
    let server = server(&[]);
    for (line, said) in [
        ("deadline = \"500000000000y\"", "deadline is at most 1h"),
        ("in_flight = 4611686018427387904", "in_flight is at most 1000000"),
        ("[archive]\nevery = \"900y\"", "archive.every is at most"),
    ] {
        let log = Meterd::try_with(&url(&server), &format!("{line}\n"), &[]).err().expect("it does not start");
        assert!(log.contains(said), "{line}: {log}");
    }
}

#[test]
fn at_the_end_requests_are_answered_and_no_new_ones_taken() {
    let server = server(&[]);
    let mut meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let mut slow = Connection::open(meterd.port);
    slow.write(b"POST /v1/hits HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{");
    let mut stream = Connection::open(meterd.port);
    stream.write(b"GET /v1/events HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("it is in flight", || meterd.get("/metrics").body.contains("meterd_requests_in_flight 1\n"));
    let start = Instant::now();
    meterd.signal("TERM");
    thread::sleep(Duration::from_millis(100));
    slow.write(br#""meter":"m"}"#);
    assert_eq!(slow.read(false).status, 200);
    assert!(meterd.wait().success());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(server.connect().int("EXISTS m"), 1);
}

#[test]
fn it_speaks_tls_to_clients_and_to_redis_and_knows_clients_by_certificates() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let program = testkit::programs().last().expect("a server program");
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port().to_string()
    };
    let tls = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &path("server.pem"),
        "--tls-key-file",
        &path("server.key"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
    ];
    let server = Server::start(program, &tls);
    let file = format!(
        "[tls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n[redis_tls]\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
        path("server.pem"),
        path("server.key"),
        path("ca.pem"),
        path("ca.pem"),
        path("client.pem"),
        path("client.key"),
    );
    let meterd = Meterd::with(&format!("rediss://127.0.0.1:{port}"), &file);
    eventually("it is connected", || meterd.log().contains("connected"));
    let url = format!("https://127.0.0.1:{}/v1/hits", meterd.port);
    let post = ["--cacert", "ca.pem", "-H", "Content-Type: application/json", "-d", HIT, &url];
    let with = [&["--cert", "client.pem", "--key", "client.key"][..], &post].concat();
    let answer = curl(folder.path(), &with);
    assert!(answer.ends_with(" 200"), "{answer}");
    let answer = curl(folder.path(), &post);
    assert!(answer.contains("curl: ") && !answer.ends_with(" 200"), "a client without a certificate: {answer}");
    assert_eq!(server.connect().int("EXISTS m"), 1);
}

#[test]
fn a_cluster_a_unix_socket_and_a_sentinel_are_found() {
    let program = testkit::programs().last().expect("a server program");
    let nodes = cluster::three_nodes(program);
    let meterd = Meterd::with(&format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", nodes[0].port, nodes[1].port), "");
    meterd.wait_until_ready();
    let hits: Vec<_> = (0..50).map(|n| json!({"meter": format!("m{n}")})).collect();
    let answers = meterd.post("/v1/hits", &json!(hits).to_string()).json();
    assert!(
        answers.as_array().is_some_and(|all| all.len() == 50 && all.iter().all(|one| one["day"] == 1)),
        "{answers}"
    );
    let list = meterd.get("/v1/meters").json();
    assert_eq!(list["meters"].as_array().map(Vec::len), Some(50), "{list}");
    assert_eq!(meterd.get("/v1/meters/m7/usage").json()["usage"][0]["count"], 1);
    // A cluster whose nodes are gone is told as such, in time.
    drop(nodes);
    let status = in_time(|| meterd.post("/v1/hits", HIT)).status;
    assert!([503, 504].contains(&status), "{status}: the first one may have been on its way");
    eventually("it is noticed", || meterd.post("/v1/hits", HIT).status == 503);

    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("redis.sock").display().to_string();
    let server = Server::start(program, &["--unixsocket", &socket]);
    let meterd = Meterd::with(&format!("unix://{socket}"), "");
    meterd.wait_until_ready();
    assert_eq!(meterd.post("/v1/hits", HIT).status, 200);

    let rules = format!("sentinel monitor main 127.0.0.1 {} 1\n", server.port);
    fs::write(folder.path().join("sentinel.conf"), rules).expect("written");
    let file = folder.path().join("sentinel.conf").display().to_string();
    let sentinel = Server::with_file(program, &file, &["--sentinel"]);
    let Ok(sentinel) = sentinel else { panic!("{:?}", sentinel.err()) };
    let meterd = Meterd::with(&format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port), "");
    meterd.wait_until_ready();
    assert_eq!(meterd.post("/v1/hits", HIT).json()["day"], 2);
}

#[test]
fn it_is_small_and_idle_it_does_nothing() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let mut connection = Connection::open(meterd.port);
    for n in 0..2000 {
        let body = format!(r#"{{"meter":"m{}"}}"#, n % 100);
        connection.send("POST", "/v1/hits", &[("Content-Type", "application/json")], body.as_bytes());
    }
    let status = fs::read_to_string(format!("/proc/{}/status", meterd.id())).expect("its status");
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let kilobytes: u64 = kilobytes.trim().trim_end_matches(" kB").parse().expect("a number");
    // A build with symbols and without optimization is larger than the one that is installed.
    let limit = if cfg!(debug_assertions) { 60_000 } else { 30_000 };
    assert!(kilobytes < limit, "{kilobytes} kB");
    // The quietest of some spans: on a busy machine each of the few wake-ups takes longer than its work.
    let used = (0..5).map(|_| work_of(meterd.id(), Duration::from_secs(2))).min().expect("spans");
    assert!(used < Duration::from_millis(15), "{used:?} of work in 2 idle seconds");
}

/// The time on a processor that the process takes in a `span`.
fn work_of(process: u32, span: Duration) -> Duration {
    let worked = || -> u64 {
        let threads = fs::read_dir(format!("/proc/{process}/task")).expect("its threads");
        let times = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
        times.filter_map(|times| times.split_whitespace().next()?.parse::<u64>().ok()).sum()
    };
    let before = worked();
    thread::sleep(span);
    Duration::from_nanos(worked().saturating_sub(before))
}
