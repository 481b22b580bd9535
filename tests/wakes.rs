//! CELL.PULL: everything that makes a cell due wakes blocked clients, and none of them delays the others.

use std::thread;
use std::time::{Duration, Instant};

use testkit::blocked::Blocked;
use testkit::{Client, Server, now_ms, on_every_program, on_every_server, sleep_ms};

/// The longest time for "within about a second" on a busy machine.
const ABOUT_A_SECOND: Duration = Duration::from_secs(4);

#[track_caller]
fn assert_served(waiter: Blocked, cell: &str, within: Duration, what: &str) {
    assert!(waiter.gets_reply_within(within), "{what}: nobody is woken within {within:?}");
    assert_eq!(waiter.cells().0, [cell], "{what}");
}

#[test]
fn every_reset_of_the_limiter_wakes_blocked_clients() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("DEBUG SET-ACTIVE-EXPIRE 0");
        let resets: [(&str, &[&str]); 12] = [
            ("DEL", &["DEL l"]),
            ("UNLINK", &["UNLINK l"]),
            ("SET of an instant that is past", &["SET l 100000000000000000"]),
            ("expiry that the server has not seen", &["PEXPIRE l 100"]),
            ("a limiter that is copied over it", &["SET old 100000000000000000", "COPY old l REPLACE"]),
            ("a limiter that takes its name", &["SET old 100000000000000000", "RENAME old l"]),
            ("another name", &["RENAME l other"]),
            ("another database", &["MOVE l 1"]),
            ("all keys gone", &["FLUSHALL", "LPUSH q a"]),
            ("its database gone", &["FLUSHDB", "RPUSH q a"]),
            ("a script", &["EVAL return(redis.call('DEL','l')) 0"]),
            ("a transaction", &["MULTI", "DEL l", "EXEC"]),
        ];
        for (what, lines) in resets {
            redis.run("FLUSHALL");
            redis.run("LPUSH q a");
            redis.run("CELL.THROTTLE l 0 1 3600");
            let waiter = server.block("CELL.PULL q l 0 1 3600 TIMEOUT 0");
            sleep_ms(20);
            for line in lines {
                redis.run(line);
            }
            assert_served(waiter, "a", ABOUT_A_SECOND, what);
        }
    });
}

#[test]
fn a_refund_wakes_blocked_clients_at_once() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut waited = Duration::ZERO;
        for round in 0..8 {
            redis.run("LPUSH q a");
            redis.run("CELL.THROTTLE l 0 1 3600");
            let waiter = server.block("CELL.PULL q l 0 1 3600 TIMEOUT 0");
            sleep_ms(20 * round);
            let start = Instant::now();
            redis.run(if round % 2 == 0 { "CELL.THROTTLE l 0 1 3600 -1" } else { "CELL.MTHROTTLE l 0 1 3600 -1" });
            assert_served(waiter, "a", ABOUT_A_SECOND, "a cell that is given back");
            waited += start.elapsed();
            redis.run("DEL l");
        }
        // It would take half a second each, on average, if it were only noticed once a second.
        assert!(waited < Duration::from_secs(2), "{waited:?} for 8 wakes");
    });
}

#[test]
fn everything_that_adds_an_element_wakes_blocked_clients() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let arrivals: [(&str, &[&str]); 6] = [
            ("LPUSH", &["LPUSH q a"]),
            ("RPUSH", &["RPUSH q a"]),
            ("a list that takes its name", &["LPUSH other a", "RENAME other q"]),
            ("a list that is copied", &["LPUSH other a", "COPY other q"]),
            ("LMOVE", &["LPUSH other a", "LMOVE other q LEFT LEFT"]),
            ("a transaction", &["MULTI", "LPUSH q x", "LPOP q", "LPUSH q a", "EXEC"]),
        ];
        for (what, lines) in arrivals {
            redis.run("FLUSHALL");
            let waiter = server.block("CELL.PULL q l 0 1 3600 TIMEOUT 0");
            for line in lines {
                redis.run(line);
            }
            assert_served(waiter, "a", ABOUT_A_SECOND, what);
        }
    });
}

#[test]
fn a_blocked_client_whose_list_has_another_type_gets_an_error_and_the_next_is_served() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for poll in [false, true] {
            redis.run("FLUSHALL");
            let stuck = server.block("CELL.PULL q l 9 1 60 TIMEOUT 0 INTO busy");
            let next = (!poll).then(|| server.block("CELL.PULL q l 9 1 60 TIMEOUT 0 INTO done"));
            redis.run("SET busy text");
            redis.run("LPUSH q a");
            assert!(stuck.gets_reply_within(ABOUT_A_SECOND), "the waiter is told");
            let error = stuck.reply().expect_err("it can't be served");
            assert!(error.starts_with("WRONGTYPE "), "{error}");
            match next {
                Some(next) => {
                    assert_served(next, "a", ABOUT_A_SECOND, "the one behind it");
                    assert_eq!(redis.strings("LRANGE done 0 -1"), ["a"]);
                }
                None => {
                    let polled: (Vec<String>, i64) =
                        redis::from_redis_value(redis.run("CELL.PULL q l 9 1 60")).expect("cells and a wait");
                    assert_eq!(polled.0, ["a"], "one that polls");
                }
            }
            assert_eq!(redis.string("GET busy").as_deref(), Some("text"));
        }
    });
}

#[test]
fn a_blocked_client_whose_limiter_is_no_limiter_gets_an_error() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (value, code) in [("RPUSH l x", "WRONGTYPE "), ("HSET l a 1", "WRONGTYPE "), ("SET l abc", "ERR ")] {
            redis.run("FLUSHALL");
            let waiters: Vec<_> = (0..3).map(|_| server.block("CELL.PULL q l 0 1 60 TIMEOUT 0")).collect();
            redis.run(value);
            redis.run("LPUSH q a");
            for waiter in waiters {
                assert!(waiter.gets_reply_within(ABOUT_A_SECOND), "{value}");
                let error = waiter.reply().expect_err("it can't be served");
                assert!(error.starts_with(code), "{value}: {error}");
            }
            assert_eq!(redis.strings("LRANGE q 0 -1"), ["a"]);
            // And a client that polls gets the error too, not a wait of 0.
            assert!(redis.error("CELL.PULL q l 0 1 60").starts_with(code));
        }
    });
}

#[test]
fn a_clock_that_steps_back_delays_no_client() {
    on_every_program(|program| {
        let folder = tempfile::tempdir().expect("a folder");
        let program = program.preloading("clock.c", "SHIFT=step()", folder.path());
        let server = Server::start(&program, &[]);
        let mut redis = server.connect();
        redis.run("LPUSH q a b c");
        let pull = |redis: &mut Client, line: &str| -> (Vec<String>, i64) {
            redis::from_redis_value(redis.run(line)).expect("cells and a wait")
        };
        assert_eq!(pull(&mut redis, "CELL.PULL q l 0 1 1").0, ["a"]);
        let waiter = server.block("CELL.PULL q l 0 1 1 TIMEOUT 0");
        let other = server.block("CELL.PULL empty other 0 1 1 TIMEOUT 0");
        std::fs::write(server.folder.path().join("clock"), "-3600").expect("written");
        let behind = |redis: &mut Client| {
            let seconds: i64 = redis.strings("TIME")[0].parse().expect("a number");
            (now_ms() / 1_000 - seconds - 3_600).abs() < 60
        };
        let start = std::time::Instant::now();
        while !behind(&mut redis) {
            if program.is_valkey() && start.elapsed() > Duration::from_secs(3) {
                return; // newer versions continue from the first instant by the processor's own counter
            }
            assert!(start.elapsed() < Duration::from_secs(8), "the clock has stepped back");
            sleep_ms(20);
        }
        assert_served(waiter, "b", Duration::from_secs(8), "an hour back");
        // One that came before the step and is served after it, and one that came after it.
        redis.run("LPUSH empty x");
        assert_served(other, "x", ABOUT_A_SECOND, "a push after the step");
        assert_served(server.block("CELL.PULL q l 0 1 1 TIMEOUT 0"), "c", Duration::from_secs(8), "after the step");
    });
}

#[test]
fn a_blocked_client_that_loses_its_rights_is_not_served() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // on Redis 6.2 modules cannot check a user's rights
        }
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        for (taken, rule) in [("the queue", "~l ~busy"), ("the limiter", "~q ~busy"), ("INTO", "~q ~l"), ("all", "")] {
            redis.run("FLUSHALL");
            redis.run("ACL SETUSER worker on >pw resetkeys ~q ~l ~busy +cell.pull +client");
            let mut worker = server.connect();
            worker.run("AUTH worker pw");
            let waiter = thread::spawn(move || worker.try_run("CELL.PULL q l 9 1 60 TIMEOUT 0 INTO busy"));
            testkit::eventually("it waits", || testkit::blocked::count(&mut redis) == 1);
            let next = server.block("CELL.PULL q l 9 1 60 TIMEOUT 0");
            redis.run(&format!("ACL SETUSER worker resetkeys {rule}"));
            redis.run("LPUSH q a");
            let error = waiter.join().expect("a thread").expect_err("it has no right to it");
            assert!(error.starts_with("NOPERM "), "{taken}: {error}");
            assert_served(next, "a", ABOUT_A_SECOND, taken);
            assert_eq!(redis.int("EXISTS busy"), 0);
        }
    });
}

#[test]
fn a_timeout_of_zero_is_for_ever_however_it_is_written() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for zero in ["0", "0.0", "0.000", "0.000000000"] {
            redis.run("FLUSHALL");
            let waiter = server.block(&format!("CELL.PULL q l 0 1 60 TIMEOUT {zero}"));
            sleep_ms(30);
            assert!(!waiter.has_reply(), "TIMEOUT {zero}");
            redis.run("LPUSH q a");
            assert_served(waiter, "a", ABOUT_A_SECOND, zero);
        }
        for wrong in ["-0", "-0.0", "0.", ".0", "0.0000000000", "00", "0e0", "+0"] {
            let error = redis.error(&format!("CELL.PULL q l 0 1 60 TIMEOUT {wrong}"));
            assert!(error.starts_with("ERR TIMEOUT "), "{wrong}: {error}");
        }
    });
}
