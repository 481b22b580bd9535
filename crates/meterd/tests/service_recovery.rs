//! What goes wrong with Redis or with SQL is answered within the deadline, and all goes on by itself when it is right
//! again.

mod service;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use service::traffic::Traffic;
use service::{Meterd, Reply, server};
use testkit::database::{Database, Engine};
use testkit::sentinel::{NAME, Sentinels};
use testkit::{Client, Server, Value, eventually, sleep_ms};

const HIT: &str = r#"{"meter":"m"}"#;
/// What a call may take, by default, with what a loaded machine adds.
const DEADLINE: Duration = Duration::from_secs(4);
/// How soon all must be well: two seconds, with what a loaded machine adds.
const SOON: Duration = Duration::from_secs(5);

/// The answer, which must come before the deadline.
#[track_caller]
fn in_time(ask: impl FnOnce() -> Reply) -> Reply {
    let start = Instant::now();
    let answer = ask();
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    answer
}

/// Waits until hits are counted, which must be soon.
#[track_caller]
fn counts_soon(meterd: &Meterd) {
    let start = Instant::now();
    eventually("it counts", || in_time(|| meterd.post("/v1/hits", HIT)).status == 200);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(meterd.get("/readyz").status, 200);
}

#[test]
fn sentinels_replace_the_primary_and_no_event_is_lost_or_doubled() {
    let program = testkit::programs().last().expect("a server program");
    let module = testkit::module().display().to_string();
    let mut first = Server::start(program, &[]);
    let second = first.replica(&["--loadmodule", &module]);
    let sentinels = Sentinels::start(program, first.port, 1);
    let meterd = Meterd::with(&format!("redis+sentinel://{}/{NAME}", sentinels.addresses()), "");
    meterd.wait_until_ready();
    let traffic = Traffic::to(&[meterd.port]);
    thread::scope(|scope| {
        for client in 0..4 {
            let traffic = &traffic;
            scope.spawn(move || traffic.post_events(client, 7));
        }
        let _stop = traffic.stop_at_end();
        sleep_ms(300);
        {
            // What is counted is copied to the replica a moment later: that moment is not what this is about.
            let _closed = traffic.gate.write().expect("the gate");
            first.wait_for_replica(&second);
            first.kill();
        }
        eventually("another primary is found", || sentinels.primary() == second.port);
        counts_soon(&meterd);
        // The old one comes back as a replica; then the primary is replaced while it lives.
        first.kill_and_restart();
        // A Sentinel that makes a primary a replica closes its connections.
        let is_replica = |server: &Server| {
            let role = Client::to(server.port).and_then(|mut client| client.try_run("ROLE"));
            matches!(role, Ok(Value::Array(parts)) if parts.first() == Some(&Value::BulkString(b"slave".to_vec())))
        };
        eventually("the old one is a replica", || is_replica(&first));
        {
            let _closed = traffic.gate.write().expect("the gate");
            second.wait_for_replica(&first);
            sentinels.fail_over();
            eventually("they have changed places", || sentinels.primary() == first.port && is_replica(&second));
        }
        // Nothing has been asked meanwhile: it is by its answers that the other is known to be a replica.
        counts_soon(&meterd);
    });
    assert!(traffic.longest() < DEADLINE, "{:?}", traffic.longest());
    assert!(traffic.answers().len() > 1, "nobody met the failover: {:?}", traffic.answers());
    traffic.assert_exact(&meterd);
}

#[test]
fn while_redis_loads_its_data_it_is_told_and_soon_after_all_is_well() {
    // Each of forty keys takes a tenth of a second to load, and calls are answered in between.
    let slow =
        ["--rdbcompression", "no", "--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024"];
    let mut server = server(&slow);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let mut redis = server.connect();
    for key in 0..40 {
        redis.try_call(&[b"SET", format!("k{key}").as_bytes(), &[b'x'; 5000]]).expect("a key");
    }
    thread::scope(|scope| {
        let asked = scope.spawn(|| {
            eventually("it is told", || {
                let reply = in_time(|| meterd.post("/v1/hits", HIT));
                // One that was on its way as the server ended is unknown.
                assert!([200, 503, 504].contains(&reply.status), "{reply:?}");
                reply.status == 503 && reply.body.contains("loads its data")
            });
            let reply = in_time(|| meterd.get("/readyz"));
            assert!(reply.problem(503).contains("loads its data"), "{reply:?}");
            // This one is a transaction, whose error alone says nothing.
            let reply = in_time(|| meterd.get("/v1/meters/m/usage"));
            assert!(reply.problem(503).contains("loads its data"), "{reply:?}");
            assert_eq!(
                in_time(|| meterd.post("/counter", r#"{"app":"a","node":0,"timestamp":1660054277326}"#)).status,
                503
            );
        });
        server.restart("SAVE");
        asked.join().expect("the answers");
    });
    counts_soon(&meterd);
}

#[test]
fn a_redis_that_is_silent_for_a_while_takes_nobody_longer_than_the_deadline() {
    let server = server(&[]);
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    let frozen = server.freeze();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        let reply = in_time(|| meterd.post("/v1/hits", HIT));
        assert!([503, 504].contains(&reply.status), "{reply:?}");
        assert_eq!(in_time(|| meterd.get("/readyz")).status, 503);
        assert_eq!(in_time(|| meterd.get("/healthz")).status, 200);
        assert_eq!(in_time(|| meterd.get("/metrics")).status, 200);
        assert!([503, 504].contains(&in_time(|| meterd.get("/v1/meters")).status));
    }
    // By now it is known, and nobody waits.
    let reply = in_time(|| meterd.post("/v1/hits", HIT));
    assert!(reply.problem(503).contains("nothing was changed"), "{reply:?}");
    drop(frozen);
    counts_soon(&meterd);
}

#[test]
fn what_redis_refused_is_done_as_soon_as_it_is_mended() {
    let program = testkit::programs().last().expect("a server program");
    let refused = |meterd: &Meterd, part: &str| {
        eventually(part, || {
            let reply = in_time(|| meterd.post("/v1/hits", HIT));
            assert!(reply.status >= 500, "{reply:?}");
            reply.body.contains(part)
        });
    };
    // A module that is loaded later.
    let bare = Server::bare(program, &["--enable-module-command", "yes"]);
    let meterd = Meterd::start(&bare);
    refused(&meterd, "loadmodule");
    bare.connect().run(&format!("MODULE LOAD {}", testkit::module().display()));
    counts_soon(&meterd);

    // A right, and then the user itself.
    let server = server(&[]);
    let mut redis = server.connect();
    redis.run("ACL SETUSER clerk on >secret ~* +@connection +meter.kpi");
    let meterd = Meterd::with(&format!("redis://clerk:secret@127.0.0.1:{}", server.port), "");
    refused(&meterd, "lacks a right");
    redis.run("ACL SETUSER clerk +meter.hit");
    counts_soon(&meterd);
    redis.run("ACL DELUSER clerk");
    refused(&meterd, "Redis can't be reached");
    redis.run("ACL SETUSER clerk on >secret ~* +@connection +meter.kpi +meter.hit");
    counts_soon(&meterd);

    // A replica, which becomes the primary.
    let replica = server.replica(&["--loadmodule", &testkit::module().display().to_string()]);
    let meterd = Meterd::start(&replica);
    refused(&meterd, "read-only");
    replica.connect().run("REPLICAOF NO ONE");
    counts_soon(&meterd);

    // Memory.
    let meterd = Meterd::start(&server);
    meterd.wait_until_ready();
    redis.run("CONFIG SET maxmemory 1");
    refused(&meterd, "out of memory");
    redis.run("CONFIG SET maxmemory 0");
    counts_soon(&meterd);
}

#[test]
fn a_database_that_is_silent_or_down_keeps_nobody_from_counting_and_is_archived_to_when_it_is_back() {
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let mut database = Database::start(engine);
        let archive = database.fresh();
        let server = server(&[]);
        let meterd = Meterd::with(
            &format!("redis://127.0.0.1:{}", server.port),
            &format!("[archive]\nurl = {archive:?}\nevery = \"1s\"\n"),
        );
        meterd.wait_until_ready();
        let august_9 = json!({"meter": "m", "at": 1_660_054_277_326_u64}).to_string();
        let counted = |count: u64| {
            let reply = in_time(|| meterd.get("/v1/meters/m/usage?from=2022-08-01&to=2022-08-31&by=total"));
            assert!(reply.status == 503 || reply.json()["usage"][0]["count"] == count, "{engine:?}: {reply:?}");
            reply.status == 200
        };
        let is_archived = || server.connect().int("EXISTS m:day:20220809 m:batch") == 0;
        let goes_on = |count: u64| {
            assert_eq!(in_time(|| meterd.post("/v1/hits", &august_9)).status, 200);
            assert_eq!(meterd.get("/readyz").status, 200);
            eventually("its failure is told", || {
                assert!(!counted(count), "{engine:?}: an answer without what is in SQL");
                meterd.get("/v1/archive").json()["failing"] == true
            });
            assert_eq!(in_time(|| meterd.get("/v1/archive")).json()["readable"], false);
        };
        assert_eq!(meterd.post("/v1/hits", &august_9).status, 200);
        eventually("a day is archived", is_archived);
        assert!(counted(1));
        let frozen = database.freeze();
        goes_on(2);
        drop(frozen);
        eventually("the answer is whole", || counted(2));
        eventually("the day is archived", is_archived);
        database.kill();
        goes_on(3);
        database.restart();
        eventually("the answer is whole", || counted(3));
        eventually("the day is archived", is_archived);
        assert!(counted(3));
    }
}
