//! Another module that writes at an event finds every key of the call written and closed: no call writes to a value
//! that the other module has deleted, replicas have the same keys, and the server's statistics (INFO keysizes) stay
//! right.

use std::path::Path;
use std::sync::LazyLock;

use testkit::{Client, Program, Server, compile_module, module, on_every_program};

static NEIGHBOUR: LazyLock<(tempfile::TempDir, String)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = compile_module("neighbour.c", folder.path());
    (folder, path.display().to_string())
});

/// Every command that writes, in calls that write something after [`prepare`].
const CALLS: [&str; 24] = [
    "METER.HIT m AT 1660054277326 PATH 2 a c",
    "METER.HIT m AT 1660054277326 PATH 2 x y UNIQUE v",
    "METER.HIT m AT 1660054277326 BY -3 PATH 2 a b",
    "METER.HIT m AT 1660140677326 PATH 3 a b c UNIQUE u CAP MONTH 1000000",
    "METER.HIT m AT NOW UNIQUE u ONCE e PATH 1 a",
    "METER.HIT new AT NOW PATH 2 a b UNIQUE u ONCE e",
    "METER.SEAL m",
    "METER.SEAL m BEFORE 20220810",
    "METER.ACK sealed BATCH",
    "METER.DROP m",
    "METER.DROP m BEFORE 20220811",
    "METER.INDEX foreign FROM 20220801 TO 20220831",
    "CELL.THROTTLE t 5 1 600",
    "CELL.THROTTLE t 5 1 600 -1",
    "CELL.THROTTLE t 5 1 600 -9",
    "CELL.MTHROTTLE t 5 1 600 1 t2 5 1 600 1 t3 0 1 60 1",
    "CELL.WINDOW w 9 600 1 BLOCK 900",
    "CELL.WINDOW w 9 600 9 BLOCK 900",
    "CELL.WINDOW w 9 600 -9",
    "CELL.LOG l 90 600 70",
    "CELL.LOG l 90 600 -1",
    "CELL.SLIDE s 90 600 5",
    "CELL.PULL q t4 5 1 600 COUNT 2 INTO busy",
    "CELL.PULL q t4 5 1 600 COUNT 9 INTO new",
];

fn prepare(redis: &mut Client) -> String {
    redis.run("NEIGHBOUR.WHEN * * NONE");
    redis.run("FLUSHALL");
    for line in [
        "METER.HIT m AT 1660054277326 PATH 2 a b UNIQUE u",
        "METER.HIT m AT 1660054277326 BY 2 PATH 2 a b",
        "METER.HIT m AT 1660140677326 PATH 1 a",
        "METER.HIT sealed AT 1660054277326 PATH 2 a b UNIQUE u",
        "METER.SEAL sealed",
        "HSET foreign:day:20220809 day 1 14 1",
        "CELL.THROTTLE t 5 1 600 2",
        "CELL.THROTTLE t2 5 1 600 2",
        "CELL.WINDOW w 9 600 2",
        "CELL.LOG l 90 600 2",
        "CELL.SLIDE s 90 600 2",
        "LPUSH q a b c d",
        "RPUSH busy x",
    ] {
        redis.run(line);
    }
    redis.seal("METER.SEAL sealed").0.expect("a batch")
}

fn filled(line: &str, id: &str) -> String {
    line.replace("NOW", &testkit::now_ms().to_string()).replace("BATCH", id)
}

/// A server with both modules, which checks its statistics after every command if it can.
fn start(program: &Program) -> Server {
    let (both, neighbour) = (module().display().to_string(), &NEIGHBOUR.1);
    assert!(Path::new(neighbour).exists());
    let server = Server::bare(program, &["--loadmodule", &both, "--loadmodule", neighbour]);
    // On servers without this check, the statistics are read after every call.
    let _ = server.connect().try_run("DEBUG KEYSIZES-HIST-ASSERT 1");
    server
}

/// No count of `INFO keysizes` has gone below zero and wrapped. Redis 8.0 does not follow what any module adds to a
/// sorted set or removes from it.
#[track_caller]
fn assert_books(redis: &mut Client, what: &str) {
    if redis.info_field("server", "redis_version").is_some_and(|version| version.starts_with("8.0.")) {
        return;
    }
    let text = redis.string("INFO keysizes").unwrap_or_default();
    for count in text.lines().filter(|line| line.starts_with("db")).flat_map(|line| line.split(['=', ','])) {
        let digits = count.trim_end_matches(['K', 'M', 'G', 'T', 'P', 'E', '\r']);
        let wrapped = count.starts_with('-') || digits.parse::<f64>().is_ok_and(|number| number > 1e12);
        assert!(!wrapped, "{what}: {text}");
    }
}

/// Both have the same keys with the same values.
#[track_caller]
fn assert_same(primary: &Server, replica: &Server, what: &str) {
    primary.wait_for_replica(replica);
    let [ours, theirs] = [primary, replica].map(|server| server.connect().contents());
    assert_eq!(ours, theirs, "{what}");
}

/// What the neighbour does at events while each call runs.
fn meddle(program: &Program, actions: &[&str]) {
    let mut server = start(program);
    let replica = server.replica(&[]);
    for call in CALLS {
        for action in actions {
            let what = format!("{call}, with a neighbour that does {action}");
            let mut redis = server.connect();
            let id = prepare(&mut redis);
            let keys = redis.strings("KEYS *");
            redis.run(&format!("NEIGHBOUR.WHEN {}", action.replace("KEYS", &keys.join(" "))));
            // The server's own PFADD writes to its value after it has fired the event: a neighbour that deletes the
            // value at that event has it write to freed memory.
            let call = &call.replace(" UNIQUE u", "").replace(" UNIQUE v", "");
            let answer = redis.try_run(&filled(call, &id));
            server.assert_alive(&what);
            answer.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_books(&mut redis, &what);
            // Before 7.0 the writes of such a module are replicated before the command that fired the event.
            if program.is_7_or_later() {
                assert_same(&server, &replica, &what);
            }
            // And the next call works on the remaining keys, with any reply.
            let _ = redis.try_run(&filled(call, &id));
            server.assert_alive(&what);
        }
    }
}

#[test]
fn a_neighbour_may_delete_the_key_of_an_event() {
    on_every_program(|program| meddle(program, &["* * DEL", "* * EXPIRE", "* * LOG"]));
}

#[test]
fn a_neighbour_may_delete_every_key_at_every_event() {
    on_every_program(|program| meddle(program, &["* * DEL KEYS", "* * RETYPE KEYS"]));
}

#[test]
fn a_hit_whose_day_is_deleted_at_an_event_of_its_path_is_counted_before_or_not_at_all() {
    on_every_program(|program| {
        let mut server = start(program);
        let replica = server.replica(&[]);
        let mut redis = server.connect();
        let day = "m:day:20220809";
        for (event, end, target) in [
            ("zadd", ":path", day),
            ("zincr", ":path", day),
            ("zadd", ":path:a", day),
            ("zincr", ":path:a", day),
            ("hset", day, "m:day:20220809:path"),
            ("hset", day, "m:day:20220809:path:a"),
            ("hset", day, "m:day:20220809:unique"),
            ("pfadd", ":unique", day),
            ("sadd", ":once", day),
        ] {
            let what = format!("{target} deleted at {event} of {end}");
            redis.run("NEIGHBOUR.WHEN * * NONE");
            redis.run("FLUSHALL");
            redis.run("METER.HIT m AT 1660054277326 PATH 2 a b UNIQUE u");
            redis.run(&format!("NEIGHBOUR.WHEN {event} {end} DEL {target}"));
            let one_more = "METER.HIT m AT 1660054277326 PATH 2 a c UNIQUE v";
            for round in 0..3 {
                let counts = redis.ints(one_more);
                server.assert_alive(&what);
                assert_eq!(counts[2], 1, "{what}");
                // The remaining keys are whole: no part of the hit was written to a deleted key.
                let hash = redis.strings(&format!("HGETALL {day}"));
                assert!(hash.is_empty() || hash.len() == 4 && hash[1] == hash[3], "{what}, {round}: {hash:?}");
                assert_books(&mut redis, &what);
                if program.is_7_or_later() {
                    assert_same(&server, &replica, &what);
                }
            }
        }
    });
}

#[test]
fn a_blocked_client_is_served_whole_before_a_neighbour_deletes_its_list() {
    on_every_program(|program| {
        let mut server = start(program);
        let replica = server.replica(&[]);
        let mut redis = server.connect();
        for action in ["rpop * DEL q t busy", "lpush busy DEL q t busy", "set t DEL q t busy", "* * RETYPE q t busy"] {
            redis.run("NEIGHBOUR.WHEN * * NONE");
            redis.run("FLUSHALL");
            redis.run("CELL.THROTTLE t 0 1 0.2");
            redis.run("LPUSH q a b c");
            redis.run(&format!("NEIGHBOUR.WHEN {action}"));
            let waiter = server.block("CELL.PULL q t 0 1 0.2 TIMEOUT 9 INTO busy");
            let reply = waiter.reply();
            server.assert_alive(action);
            let (cells, _): (Vec<String>, i64) =
                redis::from_redis_value(reply.expect(action)).expect("cells and a wait");
            assert_eq!(cells, ["a"], "{action}");
            assert_books(&mut redis, action);
            if program.is_7_or_later() {
                assert_same(&server, &replica, action);
            }
        }
    });
}

#[test]
fn the_servers_books_of_sizes_stay_right() {
    on_every_program(|program| {
        let mut server = start(program);
        let mut redis = server.connect();
        for line in [
            "METER.HIT m PATH 2 a b",
            "METER.HIT m PATH 2 a c",
            "METER.HIT m BY -1 PATH 2 a c",
            "CELL.WINDOW w 500 60 9",
            "CELL.WINDOW w 500 60 1",
            "CELL.WINDOW w 500 60 90",
            "CELL.WINDOW w 500 60 -95",
            "CELL.THROTTLE t 9 1 60",
            "CELL.THROTTLE t 9 1 60 2",
            "CELL.LOG l 500 60 3",
            "CELL.LOG l 500 60 200",
            "CELL.LOG l 500 60 -150",
            "CELL.SLIDE s 500 60 9",
            "CELL.SLIDE s 500 60 90",
        ] {
            redis.run(line);
            server.assert_alive(line);
            assert_books(&mut redis, line);
        }
        for call in CALLS {
            let id = prepare(&mut redis);
            redis.run(&filled(call, &id));
            server.assert_alive(call);
            assert_books(&mut redis, call);
        }
        redis.run("FLUSHALL");
        assert_books(&mut redis, "FLUSHALL");
    });
}
