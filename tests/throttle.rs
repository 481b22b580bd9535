//! CELL.THROTTLE: the five integers, and the state that each call stores.

use std::thread;
use std::time::{Duration, Instant};

use testkit::{Client, now_ms, on_every_server, sleep_ms};

fn tat(redis: &mut Client, key: &str) -> i64 {
    redis.string(&format!("GET {key}")).expect("a state").parse().expect("a TAT")
}

#[test]
fn a_burst_passes_and_the_next_cell_is_refused_until_it_is_due() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60"), [0, 3, 2, -1, 60]);
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60"), [0, 3, 1, -1, 120]);
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60"), [0, 3, 0, -1, 180]);
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60"), [1, 3, 0, 60, 180]);
        assert_eq!(redis.ints("CELL.THROTTLE another 2 1 60 3"), [0, 3, 0, -1, 180]);
    });
}

#[test]
fn resp3_clients_get_the_same_five_integers() {
    on_every_server(|server| {
        let mut redis = server.connect_resp3();
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60"), [0, 3, 2, -1, 60]);
    });
}

#[test]
fn retry_after_is_a_promise() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let taken_at = Instant::now();
        redis.ints("CELL.THROTTLE user 0 1 0.9 MS");
        let [limited, _, _, retry_after, _] = redis.ints("CELL.THROTTLE user 0 1 0.9 ms")[..] else { panic!() };
        assert_eq!(limited, 1);
        let passed = i64::try_from(taken_at.elapsed().as_millis()).expect("a moment");
        assert!((900 - passed - 1..=900).contains(&retry_after), "{retry_after} after {passed}");
        let refused_at = Instant::now();
        sleep_ms((retry_after - 100).max(0));
        let early = redis.ints("CELL.THROTTLE user 0 1 0.9 1 MS");
        // If the machine stood still meanwhile, the test proves nothing.
        if refused_at.elapsed() < Duration::from_millis(retry_after.unsigned_abs()) - Duration::from_millis(5) {
            assert_eq!(early[0], 1, "passed before it was due");
            assert!((1..=100).contains(&early[3]), "{early:?}");
            sleep_ms(early[3]);
        }
        assert_eq!(redis.ints("CELL.THROTTLE user 0 1 0.9")[0], 0, "refused though it had waited as told");
    });
}

#[test]
fn waits_below_a_second_are_rounded_up_to_one() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.ints("CELL.THROTTLE user 0 1 0.25"), [0, 1, 0, -1, 1]);
        assert_eq!(redis.ints("CELL.THROTTLE user 0 1 0.25"), [1, 1, 0, 1, 1]);
    });
}

#[test]
fn a_dry_run_takes_nothing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60 0"), [0, 3, 3, -1, 0]);
        assert_eq!(redis.int("EXISTS user"), 0);
        redis.run("CELL.THROTTLE user 2 1 60");
        let before = redis.contents();
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60 0"), [0, 3, 2, -1, 60]);
        assert_eq!(redis.contents(), before);
    });
}

#[test]
fn a_refund_of_more_than_was_taken_ends_at_full_and_leaves_no_key() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.THROTTLE user 9 1 60 5");
        assert_eq!(redis.ints("CELL.THROTTLE user 9 1 60 -2"), [0, 10, 7, -1, 180]);
        assert_eq!(redis.ints("CELL.THROTTLE user 9 1 60 -4"), [0, 10, 10, -1, 0]);
        assert_eq!(redis.int("EXISTS user"), 0);
        for quantity in [-1, i64::MIN] {
            assert_eq!(redis.ints(&format!("CELL.THROTTLE user 9 1 60 {quantity}")), [0, 10, 10, -1, 0]);
            assert_eq!(redis.int("EXISTS user"), 0);
        }
    });
}

#[test]
fn more_than_the_limit_can_never_pass() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.THROTTLE user 2 1 60");
        let before = redis.contents();
        for quantity in [4, i64::MAX] {
            assert_eq!(redis.ints(&format!("CELL.THROTTLE user 2 1 60 {quantity}")), [1, 3, 2, -1, 60]);
        }
        assert_eq!(redis.contents(), before);
    });
}

#[test]
fn keys_of_redis_cell_go_on_counting() {
    on_every_server(|server| {
        let mut redis = server.connect();
        // The state of `CL.THROTTLE user 2 1 60 2` in redis-cell 0.5: the TAT in nanoseconds, and an expiry.
        let taken = now_ms() * 1_000_000 + 120_000_000_000;
        redis.run(&format!("SET user {taken} PX 120000"));
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60"), [0, 3, 0, -1, 180]);
        assert_eq!(tat(&mut redis, "user"), taken + 60_000_000_000);
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60")[0], 1);
    });
}

#[test]
fn a_tat_too_far_ahead_is_repaired_even_by_a_refused_call() {
    on_every_server(|server| {
        let mut redis = server.connect();
        // A dry run does not change it.
        let year_ahead = (now_ms() + 31_536_000_000) * 1_000_000;
        redis.run(&format!("SET user {year_ahead} PX 31536000000"));
        let before = redis.contents();
        assert_eq!(redis.ints("CELL.THROTTLE user 2 1 60 0"), [0, 3, 0, -1, 180]);
        assert_eq!(redis.contents(), before);
        for (quantity, limited) in [(1, 1), (9, 1)] {
            let year_ahead = (now_ms() + 31_536_000_000) * 1_000_000;
            redis.run(&format!("SET user {year_ahead} PX 31536000000"));
            let answer = redis.ints(&format!("CELL.THROTTLE user 2 1 60 {quantity}"));
            assert_eq!((answer[0], answer[2], answer[4]), (limited, 0, 180), "quantity {quantity}");
            let ahead = tat(&mut redis, "user") / 1_000_000 - now_ms();
            assert!((170_000..=180_000).contains(&ahead), "{ahead}");
            assert!(redis.int("PTTL user") <= 180_000 + 1_000 + 45_000);
        }
        // One cell at 1 an hour, then asked at 1 a second: passes after the second that the refusal promised.
        redis.run("CELL.THROTTLE raised 0 1 3600");
        assert_eq!(redis.ints("CELL.THROTTLE raised 0 1 1"), [1, 1, 0, 1, 1]);
        sleep_ms(1_000);
        assert_eq!(redis.ints("CELL.THROTTLE raised 0 1 1")[0], 0);
    });
}

#[test]
fn no_state_stays_without_an_expiry() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for quantity in [1, 0, 3, 9] {
            let taken = now_ms() * 1_000_000 + 60_000_000_000;
            redis.run(&format!("SET user {taken}"));
            redis.run(&format!("CELL.THROTTLE user 2 1 60 {quantity}"));
            assert!(redis.int("PTTL user") > 59_000, "quantity {quantity}");
        }
    });
}

#[test]
fn the_expiry_lies_between_the_tat_and_a_second_and_a_quarter_of_the_tolerance_later() {
    on_every_server(|server| {
        if !server.program.is_7_or_later() {
            return; // no PEXPIRETIME
        }
        let mut redis = server.connect();
        for (quota, tolerance_ms) in [("9 1 60", 600_000), ("0 100 1", 10), ("99 1000 1", 100), ("3 1 0.5", 2_000)] {
            redis.run("DEL user");
            for quantity in [1, 1, 0, 2, -1, 1] {
                redis.run(&format!("CELL.THROTTLE user {quota} {quantity}"));
                if redis.int("EXISTS user") == 1 {
                    let tat = tat(&mut redis, "user");
                    let expiry = redis.int("PEXPIRETIME user") * 1_000_000;
                    assert!(tat <= expiry, "{quota} {quantity}");
                    assert!(expiry <= tat + 1_000_000_000 + tolerance_ms * 250_000, "{quota} {quantity}");
                }
            }
        }
    });
}

#[test]
fn high_rates_are_not_over_admitted_to_several_clients() {
    const RATES: [i64; 5] = [1_100, 1_500, 5_000, 10_000, 100_000];
    const BURSTS: [i64; 3] = [0, 5, 50];
    on_every_server(|server| {
        let before = Instant::now();
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let mut redis = server.connect();
                thread::spawn(move || {
                    let mut admitted = [0i64; RATES.len() * BURSTS.len()];
                    while before.elapsed() < Duration::from_millis(2_000) {
                        let mut pipeline = redis::pipe();
                        for (rate, max_burst) in limiters() {
                            let key = format!("{rate}:{max_burst}");
                            pipeline.cmd("CELL.THROTTLE").arg(key).arg(max_burst).arg(rate).arg(1);
                        }
                        let answers: Vec<Vec<i64>> = pipeline.query(&mut redis.0).expect("answers");
                        for (sum, answer) in admitted.iter_mut().zip(answers) {
                            *sum += 1 - answer[0];
                        }
                    }
                    admitted
                })
            })
            .collect();
        let sums = clients.into_iter().map(|client| client.join().expect("a thread"));
        let admitted = sums.reduce(|a, b| std::array::from_fn(|place| a[place] + b[place])).expect("clients");
        let nanos = i64::try_from(before.elapsed().as_nanos()).expect("short");
        for ((rate, max_burst), admitted) in limiters().zip(admitted) {
            // The formula's number within one cell, and one part in the interval's nanoseconds.
            let formula = max_burst + 1 + nanos * rate / 1_000_000_000;
            let most = formula + 1 + formula / (1_000_000_000 / rate) + 1;
            assert!(admitted <= most, "{admitted} of at most {most} at {rate}/s with a burst of {max_burst}");
            assert!(admitted > 100, "{admitted} at {rate}/s with a burst of {max_burst}");
        }
    });

    fn limiters() -> impl Iterator<Item = (i64, i64)> {
        RATES.into_iter().flat_map(|rate| BURSTS.map(|max_burst| (rate, max_burst)))
    }
}

#[test]
fn errors_name_the_argument_and_the_remedy() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (arguments, error) in [
            ("x 10 60", "ERR max_burst must be a 64-bit integer, at least 0, not 'x'"),
            ("-1 10 60", "ERR max_burst must be a 64-bit integer, at least 0, not '-1'"),
            ("01 10 60", "ERR max_burst must be a 64-bit integer, at least 0, not '01'"),
            ("5 0 60", "ERR count must be a 64-bit integer, at least 1, not '0'"),
            ("5 1.5 60", "ERR count must be a 64-bit integer, at least 1, not '1.5'"),
            ("5 10 0", "ERR period must be more than 0 seconds, not '0'"),
            ("5 10 1e3", "ERR period must be a number of seconds, such as 60 or 0.25, not '1e3'"),
            ("5 10 -60", "ERR period must be a number of seconds, such as 60 or 0.25, not '-60'"),
            (
                "5 10 0.0000000001",
                "ERR period must be seconds with at most nine digits after the point, not '0.0000000001'",
            ),
            ("5 10 99999999999", "ERR period must be at most 9223372036 seconds, not '99999999999'"),
            ("5 1000000001 1", "ERR count per period must be at most 1000000000 a second"),
            ("5 10 60 1.5", "ERR quantity must be a 64-bit integer, not '1.5'"),
            ("5 10 60 +1", "ERR quantity must be a 64-bit integer, not '+1'"),
            ("5 10 60 SEC", "ERR unknown option 'SEC': the options are [quantity] [PARTIAL] [MS]"),
            ("5 10 60 1 SEC", "ERR unknown option 'SEC': the options are [quantity] [PARTIAL] [MS]"),
            ("5 10 60 MS MS", "ERR MS is given twice"),
            ("5 10 60 MS 1", "ERR unknown option '1': the options are [quantity] [PARTIAL] [MS]"),
            (
                "9223372036854775807 1 1",
                "ERR the limiter would reach beyond the year 2262: ask for fewer cells at once, or a shorter period",
            ),
            (
                "0 1 9000000000",
                "ERR the limiter would reach beyond the year 2262: ask for fewer cells at once, or a shorter period",
            ),
        ] {
            assert_eq!(redis.error(&format!("CELL.THROTTLE user {arguments}")), error);
        }
        let arity = redis.error("CELL.THROTTLE user 5 10");
        assert_eq!(arity.to_lowercase(), "err wrong number of arguments for 'cell.throttle' command");
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn values_that_are_no_state_are_refused_and_left_alone() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("RPUSH list 1");
        redis.run("SET text abc");
        redis.run("SET negative -5");
        redis.run("SET decimal 1.5");
        let before = redis.contents();
        assert!(redis.error("CELL.THROTTLE list 5 10 60").starts_with("WRONGTYPE Operation against a key"));
        for key in ["text", "negative", "decimal"] {
            assert_eq!(
                redis.error(&format!("CELL.THROTTLE {key} 5 10 60")),
                format!(
                    "ERR key '{key}' holds '{}', which CELL.THROTTLE did not write: use a key of its own for each limiter, \
                     or DEL this one",
                    redis.string(&format!("GET {key}")).expect("a string")
                )
            );
        }
        assert_eq!(redis.contents(), before);
    });
}
