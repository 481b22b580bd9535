//! CELL.REFUSED: which limiter keys a node refuses most.

use std::collections::HashMap;

use testkit::{Client, Program, Random, Server, Value, eventually, on_every_program, setting};

/// Database, key, command and number of refusals of each key, as they are listed.
fn refused(redis: &mut Client, line: &str) -> Vec<(i64, String, String, i64)> {
    redis::from_redis_value(redis.run(line)).expect("a list of four each")
}

/// A server that tracks this many keys.
fn tracking(program: &Program, keys: u32, arguments: &[&str]) -> Server {
    Server::with_module(program, &format!("refused-keys {keys}"), arguments)
}

/// Refuses keys `0` to `keys - 1` as often as `draw` names them, and compares the list with an exact count.
fn assert_within_the_bound(redis: &mut Client, tracked: i64, keys: usize, mut draw: impl FnMut() -> usize) {
    for key in 0..keys {
        redis.run(&format!("CELL.THROTTLE {key} 0 1 1000000"));
    }
    redis.run("CELL.REFUSED RESET");
    let refusals = setting("METER_REFUSALS", 12_000);
    let mut exact: HashMap<String, i64> = HashMap::new();
    for _ in 0..refusals / 100 {
        let mut pipe = redis::pipe();
        for _ in 0..100 {
            let key = draw().to_string();
            pipe.cmd("CELL.THROTTLE").arg(&[&key, "0", "1", "1000000"]).ignore();
            *exact.entry(key).or_default() += 1;
        }
        pipe.query::<()>(&mut redis.0).expect("refusals");
    }
    let total: i64 = exact.values().sum();
    let bound = total / tracked;
    let listed = refused(redis, "CELL.REFUSED COUNT 100000");
    assert_eq!(i64::try_from(listed.len()).expect("few"), tracked.min(i64::try_from(exact.len()).expect("few")));
    assert!(listed.is_sorted_by(|one, other| one.3 >= other.3), "the highest first");
    assert_eq!(refused(redis, "CELL.REFUSED"), listed[..10], "ten unless told");
    for (_, key, command, estimate) in &listed {
        assert_eq!(command, "CELL.THROTTLE");
        let count = exact.remove(key).unwrap_or(0);
        assert!((count..=count + bound).contains(estimate), "{key}: {count} refusals, listed with {estimate}");
    }
    for (key, count) in exact {
        assert!(count <= bound, "{key} is not listed, and was refused {count} times of {total}");
    }
}

#[test]
fn estimates_are_within_their_bound_for_any_traffic() {
    on_every_program(|program| {
        let server = tracking(program, 50, &[]);
        let mut redis = server.connect();
        let mut random = Random::new(7);
        assert_within_the_bound(&mut redis, 50, 1_000, || random.below(1_000));
        // Half of it goes to the first key, a quarter to the second, and so on, over noise.
        let mut random = Random::new(8);
        let skewed = move || {
            if random.below(3) == 0 { random.below(1_000) } else { random.number().trailing_ones() as usize }
        };
        assert_within_the_bound(&mut redis, 50, 1_000, skewed);
        // As many keys as are tracked are counted exactly.
        let mut random = Random::new(9);
        assert_within_the_bound(&mut redis, 50, 50, || random.below(50));
    });
}

#[test]
fn refusals_of_calls_that_take_are_counted_once_a_call() {
    on_every_program(|program| {
        let server = Server::with_module(program, "cl-throttle yes", &[]);
        let mut redis = server.connect();
        for call in [
            "CELL.THROTTLE t 0 1 3600",
            "CELL.WINDOW w 1 3600",
            "CELL.LOG l 1 3600",
            "CELL.SLIDE s 1 3600000000",
            "CELL.QUOTA c 1 YEAR",
            "CELL.LEASE h 1 3600 ann",
            "CELL.THROTTLE p 0 1 3600",
            "LPUSH q a",
        ] {
            redis.run(call);
        }
        redis.run("CELL.REFUSED RESET");
        assert_eq!(refused(&mut redis, "CELL.REFUSED"), []);
        for (call, key, command) in [
            ("CELL.THROTTLE t 0 1 3600", "t", "CELL.THROTTLE"),
            ("CELL.THROTTLE t 0 1 3600 9 PARTIAL", "t", "CELL.THROTTLE"),
            ("CL.THROTTLE t 0 1 3600 9", "t", "CL.THROTTLE"),
            // With several limits, the ones that refuse.
            ("CELL.MTHROTTLE free 9 1 3600 1 t 0 1 3600 1", "t", "CELL.MTHROTTLE"),
            ("CELL.WINDOW w 1 3600 1 BLOCK 9", "w", "CELL.WINDOW"),
            ("CELL.LOG l 1 3600", "l", "CELL.LOG"),
            ("CELL.SLIDE s 1 3600000000", "s", "CELL.SLIDE"),
            ("CELL.QUOTA c 1 YEAR", "c", "CELL.QUOTA"),
            ("CELL.LEASE h 1 3600 bob", "h", "CELL.LEASE"),
            ("CELL.LEASE h 1 3600 bob TIMEOUT 0.01", "h", "CELL.LEASE"),
            ("CELL.PULL q p 0 1 3600 TIMEOUT 0.01", "p", "CELL.PULL"),
        ] {
            let count = |redis: &mut Client| {
                let listed = refused(redis, "CELL.REFUSED COUNT 100");
                assert!(listed.iter().all(|(_, key, ..)| key != "free"), "{call}: {listed:?}");
                listed.into_iter().find(|(_, found, ..)| found == key).map(|(_, _, command, count)| (command, count))
            };
            let before = count(&mut redis).map_or(0, |(_, count)| count);
            redis.run(call);
            assert_eq!(count(&mut redis), Some((command.to_owned(), before + 1)), "{call}");
        }
        let before = refused(&mut redis, "CELL.REFUSED COUNT 100");
        for call in [
            "CELL.THROTTLE_RO t 0 1 3600",
            "CELL.MTHROTTLE_RO t 0 1 3600 1",
            "CELL.WINDOW_RO w 1 3600",
            "CELL.LOG_RO l 1 3600",
            "CELL.SLIDE_RO s 1 3600000000",
            "CELL.QUOTA_RO c 1 YEAR",
            "CELL.LEASE_RO h 1 3600 bob",
            "CELL.THROTTLE t 0 1 3600 0",
            "CELL.QUOTA c 1 YEAR -1",
            "CELL.LEASE h 1 3600 ann",
        ] {
            redis.run(call);
            assert_eq!(refused(&mut redis, "CELL.REFUSED COUNT 100"), before, "{call}");
        }
        let _ = redis.error("CELL.THROTTLE t x 1 3600");
        assert_eq!(refused(&mut redis, "CELL.REFUSED COUNT 100"), before, "a mistake");
    });
}

#[test]
fn a_blocked_call_counts_as_refused_after_its_timeout_alone() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        redis.run("CELL.LEASE h 1 3600 ann");
        let waiter = server.block("CELL.LEASE h 1 3600 bob TIMEOUT 0.6");
        assert_eq!(refused(&mut redis, "CELL.REFUSED"), []);
        waiter.reply().expect("an answer");
        let listed = refused(&mut redis, "CELL.REFUSED");
        assert_eq!(listed, [(0, "h".to_owned(), "CELL.LEASE".to_owned(), 1)]);
    });
}

#[test]
fn keys_are_distinguished_by_database_and_by_their_bytes() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        for database in [0, 3] {
            redis.run(&format!("SELECT {database}"));
            for _ in 0..=1 + database {
                redis.try_call(&[b"CELL.THROTTLE", b"a\0\xff", b"0", b"1", b"3600"]).expect("an answer");
            }
        }
        let listed: Vec<(i64, Vec<u8>, String, i64)> =
            redis::from_redis_value(redis.run("CELL.REFUSED")).expect("a list");
        let command = || "CELL.THROTTLE".to_owned();
        assert_eq!(listed, [(3, b"a\0\xff".to_vec(), command(), 4), (0, b"a\0\xff".to_vec(), command(), 1)]);
    });
}

#[test]
fn it_belongs_to_the_node_and_is_lost_at_a_restart() {
    on_every_program(|program| {
        let mut server = Server::start(program, &["--appendonly", "yes"]);
        let replica = Server::start(program, &["--replicaof", "127.0.0.1", &server.port.to_string()]);
        let mut redis = server.connect();
        redis.run("CELL.THROTTLE t 0 1 3600");
        redis.run("CELL.THROTTLE t 0 1 3600");
        server.wait_for_replica(&replica);
        assert_eq!(refused(&mut redis, "CELL.REFUSED").len(), 1);
        assert_eq!(refused(&mut replica.connect(), "CELL.REFUSED"), [], "not replicated");
        let appended = server.appended().concat().join(" ").to_uppercase();
        assert!(!appended.contains("REFUSED"), "{appended}");
        server.restart("NOSAVE");
        assert_eq!(refused(&mut server.connect(), "CELL.REFUSED"), []);
    });
}

#[test]
fn the_setting_says_how_many_keys_are_tracked() {
    on_every_program(|program| {
        let server = tracking(program, 0, &[]);
        let mut redis = server.connect();
        let refuse = |redis: &mut Client| {
            for key in 0..20 {
                for _ in 0..3 {
                    redis.run(&format!("CELL.THROTTLE {key} 0 1 3600"));
                }
            }
        };
        refuse(&mut redis);
        assert_eq!(refused(&mut redis, "CELL.REFUSED"), [], "0 is off");
        if !program.is_7_or_later() {
            return; // Redis 6.2 has settings of modules at load alone
        }
        redis.run("CONFIG SET meter.refused-keys 5");
        refuse(&mut redis);
        assert_eq!(refused(&mut redis, "CELL.REFUSED").len(), 5);
        redis.run("CONFIG SET meter.refused-keys 0");
        refuse(&mut redis);
        eventually("it is off again", || refused(&mut redis, "CELL.REFUSED").is_empty());
    });
}

#[test]
fn only_administrators_may_call_it() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        let Value::Array(info) = redis.run("COMMAND INFO CELL.REFUSED") else { panic!("no list") };
        assert!(format!("{info:?}").contains("admin"), "{info:?}");
        redis.run("ACL SETUSER service on >pw ~* +@all -@admin -@dangerous");
        let mut service = server.connect();
        service.run("AUTH service pw");
        let may = service.try_run("CELL.REFUSED");
        // Where modules have no categories of the server's, the command has none and comes with @all.
        if program.has_module_categories() {
            assert!(may.is_err_and(|error| error.starts_with("NOPERM")));
        }
        for (call, expected) in [
            ("CELL.REFUSED COUNT", "COUNT"),
            ("CELL.REFUSED COUNT 0", "COUNT"),
            ("CELL.REFUSED COUNT x", "COUNT"),
            ("CELL.REFUSED RESET NOW", "unknown option"),
            ("CELL.REFUSED COUNT 1 COUNT 2", "COUNT"),
            ("CELL.REFUSED everything", "unknown option 'everything': the options are [COUNT n] or RESET"),
        ] {
            let error = redis.error(call);
            assert!(error.starts_with("ERR ") && error.contains(expected), "{call}: {error}");
        }
    });
}
