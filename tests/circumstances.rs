//! What happens around the commands: memory runs out, keys are evicted, moved, copied and flushed, clients are paused
//! and killed, the module and the primary are replaced. Counts stay exact, and a refusal is the server's own.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use testkit::{
    Client, Program, Server, Value, eventually, module, now_ms, on_every_program, on_every_server, sleep_ms,
};

/// 2022-08-09 14:11:17 UTC.
const AT: i64 = 1_660_054_277_326;
const DAY_MS: i64 = 86_400_000;

/// Calls that write and may need memory, on keys that [`fill`] fills and on new ones.
const WRITERS: [&str; 12] = [
    "METER.HIT p:m AT 1660054277326 PATH 2 a b UNIQUE new",
    "METER.HIT new:m PATH 1 a",
    "METER.INDEX p:found FROM 20220101 TO 20221231",
    "CELL.THROTTLE p:t 9 1 3600",
    "CELL.THROTTLE new:t 9 1 3600",
    "CL.THROTTLE p:t 9 1 3600",
    "CELL.MTHROTTLE p:t 9 1 3600 1 new:t 5 1 3600 1",
    "CELL.WINDOW p:w 9 3600",
    "CELL.WINDOW p:w 1 3600 5 BLOCK 7200",
    "CELL.LOG p:l 9 3600",
    "CELL.SLIDE p:s 9 3600",
    "CELL.SLIDE new:s 9 3600",
];

/// Calls that write and free memory.
const CONSUMERS: [&str; 4] =
    ["CELL.PULL p:q p:pace 9 1 3600 INTO p:busy", "METER.SEAL p:m", "METER.ACK p:m ID", "METER.DROP p:m"];

/// Calls that read.
const READERS: [&str; 10] = [
    "METER.KPI p:m DAY 20220809",
    "METER.KPI p:m FROM 20220101 TO 20221231 BY TOTAL",
    "METER.TOP p:m DAY 20220809 PATH 1 a",
    "METER.DAYS p:m",
    "METER.COST p:m FROM 20220101 TO 20221231 RATE 0.02",
    "CELL.THROTTLE_RO p:t 9 1 3600",
    "CELL.MTHROTTLE_RO p:t 9 1 3600 1 new:t 5 1 3600 1",
    "CELL.WINDOW_RO p:w 9 3600",
    "CELL.LOG_RO p:l 9 3600",
    "CELL.SLIDE_RO p:s 9 3600",
];

/// State of every kind.
fn fill(redis: &mut Client) {
    for day in 0..3 {
        let at = AT + day * DAY_MS;
        redis.run(&format!("METER.HIT p:m AT {at} BY {} PATH 2 a b UNIQUE u{day}", day + 3));
        redis.run(&format!("METER.HIT p:sealed AT {at} BY {} PATH 2 a b UNIQUE u{day}", day + 3));
    }
    redis.run(&format!("METER.HIT p:m AT {} ONCE event", now_ms()));
    redis.run("METER.SEAL p:sealed");
    redis.run(&format!("METER.HIT p:sealed AT {AT}"));
    redis.run("HSET p:found:day:20220809 day 5 14 5");
    redis.run("CELL.THROTTLE p:t 9 1 3600 4");
    redis.run("CELL.WINDOW p:w 9 3600 4");
    redis.run("CELL.WINDOW p:blocked 3 3600 3");
    redis.run("CELL.WINDOW p:blocked 3 3600 1 BLOCK 7200");
    redis.run("CELL.LOG p:l 9 3600 4");
    redis.run("CELL.SLIDE p:s 9 36000000 4");
    redis.run("LPUSH p:q a b c d e f");
    redis.run("CELL.PULL p:q p:pace 9 1 3600 COUNT 2 INTO p:busy");
}

/// The replies of the readers for the state under a prefix, without numbers that change with the clock.
fn readings(redis: &mut Client, prefix: &str) -> Vec<Value> {
    let lines = [
        "METER.KPI p:m DAY 20220810",
        "METER.KPI p:m FROM 20220101 TO 20221231 BY TOTAL",
        "METER.KPI p:m FROM 20220101 TO 20221231 PATH 2 a b",
        "METER.TOP p:m FROM 20220101 TO 20221231",
        "METER.DAYS p:m",
        "METER.DAYS p:sealed",
        "METER.COST p:m FROM 20220101 TO 20221231 RATE 0.02",
        "LRANGE p:q 0 -1",
        "LRANGE p:busy 0 -1",
    ];
    let mut all: Vec<Value> = lines.iter().map(|line| redis.run(&line.replace("p:", prefix))).collect();
    for line in [
        "CELL.THROTTLE_RO p:t 9 1 3600",
        "CELL.THROTTLE_RO p:pace 9 1 3600",
        "CELL.WINDOW_RO p:w 9 3600",
        "CELL.WINDOW_RO p:blocked 3 3600",
        "CELL.LOG_RO p:l 9 3600",
        "CELL.SLIDE_RO p:s 9 36000000",
    ] {
        all.extend(redis.ints(&line.replace("p:", prefix))[..3].iter().copied().map(Value::Int));
    }
    let (id, keys) = redis.seal(&format!("METER.SEAL {prefix}sealed"));
    all.push(Value::BulkString(id.expect("an open batch").into()));
    all.push(Value::Int(keys.len().try_into().expect("small")));
    all
}

/// Whether the state of [`fill`] under a prefix continues to count.
fn goes_on(redis: &mut Client, prefix: &str) {
    let mut ints = |line: &str| redis.ints(&line.replace("p:", prefix));
    assert_eq!(ints(&format!("METER.HIT p:m AT {AT} PATH 2 a b")), [4, 4, 1]);
    assert_eq!(ints(&format!("METER.HIT p:m AT {AT} CAP MONTH 14")), [5, 5, 1]);
    assert_eq!(ints(&format!("METER.HIT p:m AT {AT} CAP MONTH 14")), [5, 5, 0]);
    assert_eq!(ints("CELL.THROTTLE p:t 9 1 3600 6")[..3], [0, 10, 0]);
    assert_eq!(ints("CELL.WINDOW p:w 9 3600 5")[..3], [0, 9, 0]);
    assert_eq!(ints("CELL.WINDOW p:blocked 3 3600")[..3], [1, 3, 0]);
    assert_eq!(ints("CELL.LOG p:l 9 3600 5")[..3], [0, 9, 0]);
    assert_eq!(ints("CELL.SLIDE p:s 9 36000000 5")[..3], [0, 9, 0]);
    let (id, keys) = redis.seal(&format!("METER.SEAL {prefix}sealed"));
    let acknowledged = redis.int(&format!("METER.ACK {prefix}sealed {}", id.expect("a batch")));
    assert_eq!((acknowledged, keys.len()), (12, 12), "three days of four keys");
}

/// Every stored day is the sum of its hours, and every limiter expires. Limiters here are named `c:…`.
fn assert_whole(redis: &mut Client) {
    for entry in redis.contents() {
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        if key.starts_with("c:") {
            assert_ne!(entry.expiry, Value::Int(-1), "{key} is a limiter without an expiry");
        }
        if entry.kind == "hash" && key.contains(":day:") {
            let fields: Vec<(String, i64)> = redis::from_redis_value(entry.value).expect("counts");
            let (day, hours): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(field, _)| field == "day");
            let sum = |counts: &[(String, i64)]| counts.iter().map(|(_, count)| count).sum::<i64>();
            assert_eq!(sum(&day), sum(&hours), "{key}");
        }
    }
}

/// Sends all lines in one write.
fn pipelined(redis: &mut Client, lines: &[impl AsRef<str>]) -> Vec<Result<Value, String>> {
    let mut pipeline = redis::pipe();
    for line in lines {
        let mut words = line.as_ref().split(' ');
        let command = pipeline.cmd(words.next().expect("a command"));
        for word in words {
            command.arg(word);
        }
    }
    redis.0.send_packed_command(&pipeline.get_packed_pipeline()).expect("sent");
    let reply = |redis: &mut Client| redis.0.recv_response().and_then(Value::extract_error);
    lines
        .iter()
        .map(|_| reply(redis).map_err(|error| format!("{} {error}", error.code().unwrap_or_default())))
        .collect()
}

fn with_cl_throttle(program: &Program, arguments: &[&str]) -> Server {
    Server::with_module(program, "cl-throttle yes", arguments)
}

/// Readers succeed; writers return this error code, alone, in transactions and scripts, and change nothing.
fn assert_refused(redis: &mut Client, calls: &[&str], code: &str) {
    let before = redis.contents();
    for call in calls {
        let error = redis.error(call);
        assert!(error.starts_with(code), "{call}: {error}");
        redis.run("MULTI");
        let _ = redis.try_run(call);
        let executed = redis.try_run("EXEC");
        assert!(
            executed.is_err() || matches!(&executed, Ok(Value::Array(replies)) if replies.is_empty()),
            "{call}: {executed:?}"
        );
        let script = b"return redis.call(unpack(ARGV))";
        let words: Vec<&[u8]> =
            [b"EVAL", &script[..], b"0"].into_iter().chain(call.split(' ').map(str::as_bytes)).collect();
        assert!(redis.try_call(&words).is_err(), "{call} in a script");
    }
    assert_eq!(redis.contents(), before);
}

#[test]
fn when_memory_is_full_writers_are_refused_whole_and_commands_that_free_it_run() {
    on_every_program(|program| {
        let server = with_cl_throttle(program, &["--maxmemory-policy", "noeviction"]);
        let mut redis = server.connect();
        fill(&mut redis);
        redis.run("CONFIG SET maxmemory 1");
        assert_refused(&mut redis, &WRITERS, "OOM ");
        for reader in READERS {
            redis.run(reader);
        }
        assert_eq!(
            redis.run(CONSUMERS[0]),
            redis::Value::Array(vec![Value::Array(vec![Value::BulkString(b"c".into())]), Value::Int(0),])
        );
        let (id, keys) = redis.seal("METER.SEAL p:m");
        assert_eq!(keys.len(), 12);
        assert_eq!(redis.int(&format!("METER.ACK p:m {}", id.expect("a batch"))), 12);
        assert_eq!(redis.int("METER.DROP p:m"), 1);
        redis.run("CONFIG SET maxmemory 0");
        for writer in WRITERS {
            redis.run(writer);
        }
    });
}

/// A round of calls of all commands; `long` makes keys and members big.
fn calls_of_round(round: i64, long: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |line: String| lines.push(line);
    for nth in 0..12 {
        let (at, nth) = (now_ms() - nth * DAY_MS, round * 12 + nth);
        add(format!("METER.HIT m{} AT {at} PATH 3 a{} b{nth}{long} c UNIQUE {nth}", nth % 3, nth % 5));
        add(format!("METER.HIT m{} AT {} ONCE {nth}", nth % 3, now_ms()));
        add(format!("CELL.THROTTLE c:t{nth}{long} 9 1 3600"));
        add(format!("CELL.WINDOW c:w{} 9 3600", nth % 30));
        add(format!("CELL.LOG c:l{} 20 3600 3", nth % 30));
        add(format!("CELL.SLIDE c:s{nth}{long} 9 3600"));
        add(format!("LPUSH q{} {}", nth % 4, "cell".repeat(20)));
        add(format!("CELL.PULL q{} c:pace 99 1 60 INTO busy", nth % 4));
    }
    for meter in ["m0", "m1", "m2"] {
        add(format!("METER.KPI {meter} FROM 20200101 TO 99991231 BY HOUR"));
        add(format!("METER.TOP {meter} FROM 20200101 TO 99991231"));
        add(format!("METER.DAYS {meter}"));
        add(format!("METER.INDEX {meter} FROM 20200101 TO 20200131"));
    }
    add("METER.SEAL m2".to_owned());
    lines
}

#[test]
fn under_every_eviction_policy_commands_run_and_the_remaining_keys_are_whole() {
    on_every_program(|program| {
        // So that the keys of a meter are volatile too.
        let server = Server::with_module(program, "retention-days 365", &[]);
        let mut redis = server.connect();
        for policy in [
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lrm",
            "volatile-lrm",
        ] {
            redis.run("FLUSHALL SYNC");
            if redis.try_run(&format!("CONFIG SET maxmemory-policy {policy}")).is_err() {
                assert!(policy.ends_with("-lrm"), "{policy} is known to every server");
                continue;
            }
            redis.run("CONFIG RESETSTAT");
            let used: u64 = redis.info_field("memory", "used_memory").expect("a field").parse().expect("a number");
            redis.run(&format!("CONFIG SET maxmemory {}", used + 300_000));
            let long = "long".repeat(80);
            for round in 0..60 {
                for error in pipelined(&mut redis, &calls_of_round(round, &long)).into_iter().filter_map(Result::err) {
                    assert!(error.starts_with("OOM "), "{policy}: {error}");
                }
                let (id, _) = redis.seal("METER.SEAL m2");
                if let Some(id) = id
                    && let Err(error) = redis.try_run(&format!("METER.ACK m2 {id}"))
                {
                    assert!(error.starts_with("ERR no batch is open"), "but one that was evicted: {error}");
                }
            }
            let evicted: u64 = redis.info_field("stats", "evicted_keys").expect("a field").parse().expect("a number");
            assert!(evicted > 20, "{policy}: {evicted} keys were evicted");
            assert_whole(&mut redis);
            redis.run("CONFIG SET maxmemory 0");
            for meter in ["m0", "m1", "m2"] {
                // The index agrees with the stored days.
                redis.run(&format!(
                    "METER.INDEX {meter} FROM {} TO {}",
                    testkit::date(now_ms() - 30 * DAY_MS),
                    testkit::date(now_ms())
                ));
                for (day, count) in redis.counts(&format!("METER.DAYS {meter}")) {
                    let stored = redis.string(&format!("HGET {meter}:day:{day} day"));
                    assert_eq!(stored.unwrap_or_else(|| "0".to_owned()), count.to_string(), "{policy}: {meter} {day}");
                }
                redis.run(&format!("METER.HIT {meter} PATH 1 a UNIQUE u"));
                redis.run(&format!("METER.DROP {meter}"));
            }
        }
    });
}

#[test]
fn replicas_read_and_refuse_every_writer() {
    on_every_program(|program| {
        let primary = with_cl_throttle(program, &[]);
        fill(&mut primary.connect());
        let load = module().display().to_string();
        let replica = primary.replica(&["--loadmodule", &load, "cl-throttle", "yes"]);
        let mut redis = replica.connect();
        assert_refused(&mut redis, &WRITERS, "READONLY ");
        assert_refused(&mut redis, &CONSUMERS, "READONLY ");
        for reader in READERS {
            redis.run(reader);
        }
    });
}

#[test]
fn a_stale_replica_that_must_not_serve_returns_masterdown() {
    on_every_program(|program| {
        let server = with_cl_throttle(program, &["--replica-serve-stale-data", "no"]);
        let mut redis = server.connect();
        fill(&mut redis);
        // No server listens there.
        redis.run("REPLICAOF 127.0.0.1 1");
        for reader in READERS {
            assert!(redis.error(reader).starts_with("MASTERDOWN "), "{reader}");
        }
        redis.run("CONFIG SET replica-read-only no");
        for writer in WRITERS.iter().chain(&CONSUMERS) {
            assert!(redis.error(writer).starts_with("MASTERDOWN "), "{writer}");
        }
        redis.run("REPLICAOF NO ONE");
        goes_on(&mut redis, "p:");
    });
}

#[test]
fn while_data_is_loaded_all_commands_return_loading() {
    on_every_program(|program| {
        // Each key takes a while, and other clients are served whenever two megabytes have been read.
        let server = with_cl_throttle(program, &["--key-load-delay", "30000", "--rdbcompression", "no"]);
        let mut redis = server.connect();
        fill(&mut redis);
        for nth in 0..24 {
            redis.run(&format!("SETRANGE filler:{nth} 1048576 x"));
        }
        let (mut first, mut second) = (server.connect(), server.connect());
        thread::scope(|scope| {
            let reload = scope.spawn(|| redis.try_run("DEBUG RELOAD").map(drop));
            let is_loading = |error: String| error.starts_with("LOADING ");
            eventually("the server loads", || first.try_run("GET x").is_err_and(is_loading));
            let calls: Vec<&str> = WRITERS.iter().chain(&CONSUMERS).chain(&READERS).copied().collect();
            // All in one write, so that the load does not end between two of them.
            let replies = pipelined(&mut second, &calls);
            for (call, reply) in calls.iter().zip(replies) {
                assert!(reply.clone().is_err_and(is_loading), "{call}: {reply:?}");
            }
            assert_eq!(reload.join().expect("a thread"), Ok(()));
        });
        goes_on(&mut redis, "p:");
    });
}

#[test]
fn with_too_few_replicas_writers_are_refused() {
    on_every_program(|program| {
        let server = with_cl_throttle(program, &[]);
        let mut redis = server.connect();
        fill(&mut redis);
        redis.run("CONFIG SET min-replicas-to-write 1");
        assert_refused(&mut redis, &WRITERS, "NOREPLICAS ");
        assert_refused(&mut redis, &CONSUMERS, "NOREPLICAS ");
        for reader in READERS {
            redis.run(reader);
        }
        redis.run("CONFIG SET min-replicas-to-write 0");
        goes_on(&mut redis, "p:");
    });
}

/// Runs `each` on every key of [`fill`], with the name that it has under the other prefix.
fn each_key(redis: &mut Client, mut each: impl FnMut(&mut Client, &str, &str)) {
    for key in redis.strings("KEYS p:*") {
        let other = key.replacen("p:", "o:", 1);
        each(redis, &key, &other);
    }
}

#[test]
fn every_kind_of_state_can_be_copied_renamed_dumped_and_moved() {
    type Step = fn(&mut Client, &str, &str);
    let copy: Step = |redis, key, other| drop(redis.run(&format!("COPY {key} {other}")));
    let rename: Step = |redis, key, other| drop(redis.run(&format!("RENAME {key} {other}")));
    let restore: Step = |redis, key, other| {
        let Value::BulkString(bytes) = redis.run(&format!("DUMP {key}")) else { panic!("{key}: no bytes") };
        let ttl = redis.int(&format!("PTTL {key}")).max(0).to_string();
        redis.try_call(&[b"RESTORE", other.as_bytes(), ttl.as_bytes(), &bytes]).expect("RESTORE");
    };
    on_every_server(|server| {
        let mut redis = server.connect();
        for (step, keeps) in [(copy, true), (rename, false), (restore, true)] {
            redis.run("FLUSHALL");
            fill(&mut redis);
            let before = readings(&mut redis, "p:");
            each_key(&mut redis, step);
            assert_eq!(readings(&mut redis, "o:"), before);
            goes_on(&mut redis, "o:");
            if keeps {
                assert_eq!(readings(&mut redis, "p:"), before, "the original is another meter");
                goes_on(&mut redis, "p:");
            }
        }
        redis.run("FLUSHALL");
        fill(&mut redis);
        let before = readings(&mut redis, "p:");
        each_key(&mut redis, |redis, key, _| assert_eq!(redis.int(&format!("MOVE {key} 1")), 1));
        assert_eq!(redis.int("DBSIZE"), 0);
        redis.run("SELECT 1");
        assert_eq!(readings(&mut redis, "p:"), before);
        redis.run("SWAPDB 0 1");
        assert_eq!(redis.strings("METER.DAYS p:m").len(), 0);
        redis.run("SELECT 0");
        assert_eq!(readings(&mut redis, "p:"), before);
        goes_on(&mut redis, "p:");
    });
}

/// Commands that put a list under a key.
type Way<'a> = &'a dyn Fn(&mut Client);

#[test]
fn a_blocked_client_is_served_by_every_command_that_adds_an_element() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("RPUSH dumped a");
        let Value::BulkString(bytes) = redis.run("DUMP dumped") else { panic!("no bytes") };
        let ways: [(&str, Way<'_>); 7] = [
            ("RENAME", &|redis| drop(redis.run("RENAME other q"))),
            ("COPY", &|redis| drop(redis.run("COPY other q"))),
            ("RESTORE", &|redis| drop(redis.try_call(&[b"RESTORE", b"q", b"0", &bytes]).expect("RESTORE"))),
            ("SORT", &|redis| drop(redis.run("SORT other ALPHA STORE q"))),
            ("LMOVE", &|redis| drop(redis.run("LMOVE other q LEFT RIGHT"))),
            ("MOVE", &|redis| {
                redis.run("SELECT 1");
                redis.run("RPUSH q a");
                redis.run("MOVE q 0");
                redis.run("SELECT 0");
            }),
            ("SWAPDB", &|redis| {
                redis.run("SELECT 1");
                redis.run("RPUSH q a");
                redis.run("SWAPDB 0 1");
                redis.run("SELECT 0");
            }),
        ];
        for (name, way) in ways {
            redis.run("FLUSHALL");
            redis.run("RPUSH other a");
            let mut client = server.connect();
            let waiter = thread::spawn(move || client.try_run("CELL.PULL q l 0 1 60 TIMEOUT 10"));
            blocked(&mut redis, 1);
            way(&mut redis);
            let answer = waiter.join().expect("a thread").unwrap_or_else(|error| panic!("{name}: {error}"));
            let cells: (Vec<String>, i64) = redis::from_redis_value(answer).expect("cells");
            assert_eq!(cells, (vec!["a".to_owned()], 60), "{name}");
            assert_eq!(redis.int("EXISTS q"), 0, "{name}");
        }
    });
}

/// Waits until this many clients are blocked.
fn blocked(redis: &mut Client, count: usize) {
    eventually("clients wait", || redis.info_field("clients", "blocked_clients") == Some(count.to_string()));
}

#[test]
fn a_flush_in_the_middle_of_traffic_leaves_whole_counts() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            for nth in 0..3 {
                let (server, end) = (&server, &end);
                scope.spawn(move || {
                    let mut redis = server.connect();
                    while !end.load(Ordering::Relaxed) {
                        let mut hit = || {
                            redis.ints(&format!("METER.HIT m AT {} PATH 2 a b{nth} UNIQUE {nth}", AT + nth * DAY_MS))
                        };
                        let (first, second) = (hit(), hit());
                        assert!(
                            second == [first[0] + 1, first[1] + 1, 1] || second == [1, 1, 1],
                            "{first:?} {second:?}"
                        );
                        redis.run("CELL.THROTTLE c:t 999999 1 3600");
                        redis.run("CELL.WINDOW c:w 9999999 3600");
                        redis.run("CELL.LOG c:l 999 3600");
                        redis.run("CELL.SLIDE c:s 9999999 3600");
                        redis.run("METER.TOP m FROM 20220101 TO 20221231");
                    }
                });
            }
            let mut redis = server.connect();
            for _ in 0..25 {
                redis.run("FLUSHALL ASYNC");
                sleep_ms(15);
            }
            end.store(true, Ordering::Relaxed);
        });
        let mut redis = server.connect();
        assert_whole(&mut redis);
        let stored: BTreeSet<String> = redis.counts("METER.DAYS m").into_iter().map(|(day, _)| day).collect();
        let there = redis.strings("KEYS m:day:????????");
        assert_eq!(
            there.iter().map(|key| key[6..].to_owned()).collect::<BTreeSet<_>>(),
            stored,
            "the index is complete"
        );
        redis.run("FLUSHALL ASYNC");
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT}")), [1, 1, 1]);
    });
}

#[test]
fn a_pause_holds_writers_back_and_loses_none() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for mode in ["WRITE", "ALL"] {
            redis.run("FLUSHALL");
            fill(&mut redis);
            // Paused for all, even the client that would end it must wait.
            let length = if mode == "WRITE" { 10_000 } else { 800 };
            redis.run(&format!("CLIENT PAUSE {length} {mode}"));
            let start = Instant::now();
            let lines =
                ["METER.HIT p:m AT 1660054277326", "CELL.THROTTLE p:t 9 1 3600", "CELL.PULL p:q p:pace 9 1 3600"];
            let clients = lines.map(|line| {
                let mut client = server.connect();
                thread::spawn(move || client.try_run(line).map(drop))
            });
            let whole = b"redis.call('METER.HIT', KEYS[1], 'AT', '1660054277326')";
            let mut client = server.connect();
            let script = thread::spawn(move || client.try_call(&[b"EVAL", whole, b"1", b"p:m"]).map(drop));
            sleep_ms(200);
            if start.elapsed().as_millis() < 700 {
                let waits = clients.iter().all(|client| !client.is_finished()) && !script.is_finished();
                assert!(waits, "{mode}");
            }
            if mode == "WRITE" {
                let mut reader = server.connect();
                assert_eq!(reader.strings("METER.KPI p:m DAY 20220809"), ["day", "3", "14", "3", "unique", "1"]);
                assert_eq!(reader.ints("CELL.THROTTLE_RO p:t 9 1 3600 6")[..3], [0, 10, 0]);
                assert_eq!(reader.int("LLEN p:q"), 4);
                redis.run("CLIENT UNPAUSE");
            }
            for client in clients.into_iter().chain([script]) {
                assert_eq!(client.join().expect("a thread"), Ok(()), "{mode}");
            }
            assert!(start.elapsed().as_millis() < 9_000, "they were let go");
            assert_eq!(redis.strings("METER.KPI p:m DAY 20220809"), ["day", "5", "14", "5", "unique", "1"]);
            assert_eq!(redis.ints("CELL.THROTTLE p:t 9 1 3600 0")[2], 5);
            assert_eq!(redis.int("LLEN p:q"), 3);
        }
    });
}

#[test]
fn blocked_clients_that_are_killed_or_disconnect_take_nothing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for round in 0..3 {
            let mut clients: Vec<Client> = (0..24).map(|_| server.connect()).collect();
            let ids: Vec<i64> = clients.iter_mut().map(|client| client.int("CLIENT ID")).collect();
            // In the order of their arrival.
            for (nth, client) in clients.iter_mut().enumerate() {
                let mut pull = redis::cmd("CELL.PULL");
                pull.arg(&["q", "l", "99", "1", "3600", "TIMEOUT", ["0", "20"][nth % 2], "INTO", "busy"]);
                client.0.send_packed_command(&pull.get_packed_command()).expect("sent");
                if nth % 8 == 7 {
                    blocked(&mut redis, nth + 1);
                }
            }
            blocked(&mut redis, 24);
            // Of three, one is killed, one leaves, one stays.
            let mut staying = Vec::new();
            for (nth, client) in clients.into_iter().enumerate() {
                match nth % 3 {
                    0 => drop(redis.run(&format!("CLIENT KILL ID {}", ids[nth]))),
                    1 => drop(client),
                    _ => staying.push(client),
                }
            }
            blocked(&mut redis, 8);
            for nth in 0..11 {
                redis.run(&format!("LPUSH q {nth}"));
            }
            for (nth, mut client) in staying.into_iter().enumerate() {
                let answer: (Vec<i64>, i64) =
                    redis::from_redis_value(client.0.recv_response().expect("an answer")).expect("cells");
                assert_eq!(answer.0, [i64::try_from(nth).expect("small")], "first come, first served");
            }
            blocked(&mut redis, 0);
            assert_eq!(redis.strings("LRANGE q 0 -1"), ["10", "9", "8"], "round {round}");
            assert_eq!(redis.strings("LRANGE busy 0 -1"), ["7", "6", "5", "4", "3", "2", "1", "0"]);
            assert_eq!(redis.ints("CELL.THROTTLE l 99 1 3600 0")[2], 92);
            redis.run("FLUSHALL");
        }
    });
}

#[test]
fn a_rolling_restart_loses_and_doubles_no_count() {
    on_every_program(|program| {
        let mut primary = Server::start(program, &[]);
        let port = primary.port.to_string();
        let mut replica = Server::start(program, &["--replicaof", "127.0.0.1", &port]);
        primary.wait_for_replica(&replica);
        // The replica first: its successor gets all that it missed.
        hit(&primary, 50);
        replica.restart("NOSAVE");
        hit(&primary, 50);
        primary.wait_for_replica(&replica);

        // It takes over while there is traffic; clients that get READONLY go to the other one.
        let ports = [primary.port, replica.port];
        let (end, counted) = (AtomicBool::new(false), Mutex::new(0i64));
        thread::scope(|scope| {
            for _ in 0..3 {
                let (servers, end, counted) = ([&primary, &replica], &end, &counted);
                scope.spawn(move || {
                    let mut clients = servers.map(Server::connect);
                    let (mut at, mut hits) = (0, 0);
                    while !end.load(Ordering::Relaxed) {
                        match clients[at].try_run("METER.HIT m AT 1660054277326 PATH 2 a b UNIQUE u") {
                            Ok(_) => hits += 1,
                            Err(error) if error.starts_with("READONLY ") => at = 1 - at,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    assert_eq!(at, 1, "the traffic has moved to {ports:?}[1]");
                    *counted.lock().expect("no panic") += hits;
                });
            }
            sleep_ms(100);
            primary.connect().run(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 10000", replica.port));
            eventually("the replica takes over", || {
                replica.connect().info_field("replication", "role").as_deref() == Some("master")
            });
            sleep_ms(100);
            end.store(true, Ordering::Relaxed);
        });
        let total = 100 + counted.into_inner().expect("no panic");

        // The old primary comes back as a replica of the new one.
        let load = module().display().to_string();
        let port = replica.port.to_string();
        primary.restart_with("NOSAVE", &["--loadmodule", &load, "--replicaof", "127.0.0.1", &port]);
        hit(&replica, 50);
        replica.wait_for_replica(&primary);
        for server in [&primary, &replica] {
            let mut redis = server.connect();
            let total = total + 50;
            assert_eq!(
                redis.strings("METER.KPI m DAY 20220809")[..4],
                ["day", &total.to_string(), "14", &total.to_string()]
            );
            assert_eq!(redis.counts("METER.TOP m DAY 20220809 PATH 1 a"), [("b".to_owned(), total)]);
        }
        assert_eq!(primary.connect().contents(), replica.connect().contents());
    });
}

fn hit(server: &Server, times: usize) {
    let mut redis = server.connect();
    for _ in 0..times {
        redis.run("METER.HIT m AT 1660054277326 PATH 2 a b UNIQUE u");
    }
}

#[test]
fn a_slow_disk_delays_the_replies_and_loses_nothing() {
    on_every_program(|program| {
        let folder = tempfile::tempdir().expect("a folder");
        let slow = program.preloading("disk.c", "DELAY_MS=30", folder.path());
        let mut server = Server::start(&slow, &["--appendonly", "yes", "--appendfsync", "always"]);
        let start = Instant::now();
        let answered: i64 = {
            let server = &server;
            thread::scope(|scope| {
                let clients: Vec<_> = (0..3)
                    .map(|client| {
                        scope.spawn(move || {
                            let mut redis = server.connect();
                            for _ in 0..10 {
                                let mut pipeline = redis::pipe();
                                for user in 0..20 {
                                    pipeline
                                        .cmd("METER.HIT")
                                        .arg("m")
                                        .arg("AT")
                                        .arg(AT)
                                        .arg("PATH")
                                        .arg(2)
                                        .arg(client)
                                        .arg(user);
                                    pipeline.cmd("CELL.THROTTLE").arg("t").arg(9_999).arg(1).arg(86_400);
                                }
                                let replies: Vec<Vec<i64>> = pipeline.query(&mut redis.0).expect("answers");
                                assert!(replies.iter().all(|reply| reply.len() == 3 || reply[0] == 0), "{replies:?}");
                            }
                            200
                        })
                    })
                    .collect();
                clients.into_iter().map(|client| client.join().expect("a client")).sum()
            })
        };
        // Each of a client's ten replies has waited for the disk.
        assert!(start.elapsed().as_millis() >= 300, "the disk is not slow");
        server.kill_and_restart();
        let mut redis = server.connect();
        assert_eq!(redis.string("HGET m:day:20220809 day"), Some(answered.to_string()));
        assert_eq!(redis.counts("METER.TOP m DAY 20220809").iter().map(|member| member.1).sum::<i64>(), answered);
        assert_eq!(redis.ints("CELL.THROTTLE t 9999 1 86400 0")[2], 10_000 - answered);
    });
}
