//! Replicas, and the server after a restart from its AOF or RDB, hold the same values and expiries, with the module or
//! without it.

use testkit::{Client, Entry, Program, Server, Value, on_every_program};

const AT: i64 = 1_660_054_277_326;

/// Calls of every kind: new and changed keys, refusals, repairs, corrections, transactions, scripts.
fn traffic(redis: &mut Client) {
    for round in 0..20 {
        for user in 0..5 {
            for quantity in [1, 2, 0, -1, 9] {
                redis.run(&format!("CELL.THROTTLE u{user} {user} {} {} {quantity}", round + 1, user * 7 + 1));
            }
        }
        for quantity in [1, 2, 0, -1, 9] {
            redis.run(&format!("CELL.WINDOW w{} 9 {} {quantity} BLOCK 9000", round % 4, round + 900));
            redis.run(&format!("CELL.LOG l{} 9 {} {quantity}", round % 4, round + 900));
            redis.run(&format!("CELL.SLIDE s{} 9 {} {quantity}", round % 4, round / 8 * 300 + 900));
        }
        redis.run(&format!("CELL.LOG brief 9 0.001 {}", round % 4 + 1));
        redis.run("CELL.LOG brief 9 900 -1");
        redis.run("CELL.MTHROTTLE m1 9 1 900 1 m2 4 1 900 1 m3 30 1 60 2 MS");
        for meter in ["kpi:a", "kpi:b", "{tag}:c"] {
            let at = AT + round * 7_200_000;
            redis.run(&format!("METER.HIT {meter} AT {at} BY {}", round + 3));
            redis.run(&format!("METER.HIT {meter} AT {at} BY -{}", if round % 3 == 0 { round + 3 } else { 1 }));
            redis.run(&format!("METER.HIT {meter}"));
        }
        redis.run("MULTI");
        redis.run("METER.HIT kpi:transaction");
        redis.run("CELL.THROTTLE transaction 3 1 900");
        redis.run("EXEC");
        let script = b"redis.call('METER.HIT', KEYS[1]) return redis.call('CELL.THROTTLE', KEYS[2], 2, 1, 900)";
        redis.try_call(&[b"EVAL", script, b"2", b"kpi:script", b"script"]).expect("the script runs");
    }
    redis.run("LPUSH queue a b c d e f");
    redis.run("CELL.PULL queue pace 9 1 900 COUNT 2 INTO busy");
    redis.run("CELL.PULL queue pace 9 1 900 TIMEOUT 1");
    redis.run("SET far 9000000000000000000");
    redis.run("CELL.THROTTLE far 2 1 60");
    redis.run("CELL.THROTTLE back 2 1 60");
    redis.run("CELL.THROTTLE back 2 1 60 -1");
}

fn start(program: &Program, arguments: &[&str]) -> (Server, Vec<Entry>) {
    let server = Server::with_module(program, "retention-days 36525", arguments);
    let mut redis = server.connect();
    traffic(&mut redis);
    let contents = redis.contents();
    assert!(contents.len() > 20);
    assert!(contents.iter().filter(|entry| entry.kind == "string").all(|entry| entry.expiry != Value::Int(-1)));
    (server, contents)
}

#[track_caller]
fn assert_holds(server: &Server, contents: &[Entry], how: &str) {
    for (entry, expected) in server.connect().contents().iter().zip(contents) {
        assert_eq!(entry, expected, "{how}");
    }
    assert_eq!(server.connect().contents().len(), contents.len(), "{how}");
}

#[test]
fn a_replica_without_the_module_holds_the_same_bytes() {
    on_every_program(|program| {
        let primary = Server::with_module(program, "retention-days 36525", &[]);
        // One that replicates from the start, and one that begins with a full synchronization.
        let follower = primary.replica(&[]);
        traffic(&mut primary.connect());
        let latecomer = primary.replica(&[]);
        primary.wait_for_replica(&follower);
        let contents = primary.connect().contents();
        assert!(contents.len() > 20);
        assert_holds(&follower, &contents, "follower");
        assert_holds(&latecomer, &contents, "latecomer");
    });
}

#[test]
fn an_aof_without_the_module_holds_the_same_bytes() {
    on_every_program(|program| {
        for preamble in ["yes", "no"] {
            let aof = ["--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", preamble];
            let (mut server, contents) = start(program, &aof);
            server.restart_with("NOSAVE", &aof);
            assert_holds(&server, &contents, "commands of the AOF");
            let mut redis = server.connect();
            redis.run("BGREWRITEAOF");
            testkit::eventually("the AOF is rewritten", || {
                redis.info_field("persistence", "aof_rewrite_in_progress").as_deref() == Some("0")
                    && redis.info_field("persistence", "aof_rewrite_scheduled").as_deref() == Some("0")
            });
            server.restart_with("NOSAVE", &aof);
            assert_holds(&server, &contents, "the AOF rewritten");
        }
    });
}

#[test]
fn an_rdb_without_the_module_holds_the_same_bytes() {
    on_every_program(|program| {
        let (mut server, contents) = start(program, &[]);
        server.connect().run("DEBUG RELOAD");
        assert_holds(&server, &contents, "reloaded with the module");
        server.restart_with("SAVE", &[]);
        assert_holds(&server, &contents, "restarted without the module");
    });
}

#[test]
fn limits_and_counts_go_on_after_a_restart() {
    on_every_program(|program| {
        let aof = ["--appendonly", "yes", "--appendfsync", "always"];
        let mut server = Server::start(program, &aof);
        let mut redis = server.connect();
        redis.run("CELL.THROTTLE u 2 1 3600 3");
        redis.run(&format!("METER.HIT m AT {AT}"));
        server.restart("NOSAVE");
        let mut redis = server.connect();
        let refused = redis.ints("CELL.THROTTLE u 2 1 3600");
        assert_eq!(refused[..3], [1, 3, 0], "a bucket that was drained is full again after a restart");
        assert!((3_590..=3_600).contains(&refused[3]), "{refused:?}");
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT}")), [2, 2, 1]);
    });
}

#[test]
fn replicas_serve_kpi_and_refuse_writers() {
    on_every_program(|program| {
        let primary = Server::start(program, &[]);
        primary.connect().run(&format!("METER.HIT m AT {AT}"));
        let load = testkit::module().display().to_string();
        let replica = primary.replica(&["--loadmodule", &load]);
        let mut redis = replica.connect();
        assert_eq!(redis.strings("METER.KPI m DAY 20220809"), ["day", "1", "14", "1"]);
        for reader in ["METER.DAYS m", "METER.TOP m", "METER.KPI m FROM 20220101 TO 20221231 BY TOTAL"] {
            assert!(redis.try_run(reader).is_ok(), "{reader}");
        }
        for writer in ["METER.HIT m", "METER.SEAL m", "METER.DROP m", "CELL.THROTTLE u 0 1 60"] {
            assert!(redis.error(writer).starts_with("READONLY "), "{writer}");
        }
    });
}
