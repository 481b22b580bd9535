//! CELL.WINDOW, CELL.LOG, CELL.SLIDE, CELL.MTHROTTLE and the read-only variants: their replies, and the state they
//! store. Properties that all limiters share are tested for all of them.

use std::time::{Duration, Instant};

use testkit::{Client, Server, Value, eventually, now_ms, on_every_program, on_every_server, sleep_ms};

/// A call of each limiter on the key `u`, with room for three cells an hour, one of them taken by each call.
const THREE_AN_HOUR: [&str; 4] =
    ["CELL.THROTTLE u 2 1 3600", "CELL.WINDOW u 3 3600", "CELL.LOG u 3 3600", "CELL.SLIDE u 3 3600"];

/// The same call for another quantity.
fn asking(call: &str, quantity: i64) -> String {
    format!("{call} {quantity}")
}

fn read_only(call: &str) -> String {
    call.replacen(' ', "_RO ", 1)
}

/// Waits until a sliding counter's windows have just begun, so that a test does not see them end.
fn at_the_start_of_a_window(period_ms: i64) {
    if now_ms() % period_ms > period_ms / 4 {
        sleep_ms(period_ms - now_ms() % period_ms);
    }
}

#[test]
fn three_pass_and_the_fourth_is_refused() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in THREE_AN_HOUR {
            redis.run("DEL u");
            for left in [2, 1, 0] {
                assert_eq!(redis.ints(call)[..4], [0, 3, left, -1], "{call}");
            }
            let refused = redis.ints(call);
            assert_eq!(refused[..3], [1, 3, 0], "{call}");
            assert!((1..=7_200).contains(&refused[3]), "{call}: {refused:?}");
            assert!(refused[4] >= refused[3], "{call}: {refused:?}");
        }
    });
}

#[test]
fn dry_runs_refusals_and_impossible_calls_leave_no_trace() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let (mut redis, mut watcher) = (server.connect(), server.connect());
        for call in THREE_AN_HOUR {
            redis.run("DEL u");
            for quantity in [0, 4, -1, i64::MAX, i64::MIN] {
                redis.ints(&asking(call, quantity));
                assert_eq!(redis.int("EXISTS u"), 0, "{call} {quantity}");
            }
            redis.ints(&asking(call, 2));
            let (before, appended) = (redis.contents(), server.appended());
            watcher.run("WATCH u");
            for quantity in [0, 2, 3, 4, i64::MAX] {
                let answer = redis.ints(&asking(call, quantity));
                assert_eq!((answer[0], answer[2]), (i64::from(quantity > 0), 1), "{call} {quantity}");
                assert_eq!(answer[3] == -1, quantity == 0 || quantity > 3, "{call} {quantity}: {answer:?}");
            }
            assert_eq!(redis.contents(), before, "{call}");
            assert_eq!(server.appended(), appended, "{call}");
            watcher.run("MULTI");
            watcher.run("PING");
            assert_ne!(watcher.run("EXEC"), Value::Nil, "{call}");
        }
    });
}

#[test]
fn a_refund_of_more_than_was_taken_ends_at_full_and_leaves_no_key() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in THREE_AN_HOUR {
            for back in [-2, -3, -100, i64::MIN] {
                redis.run("DEL u");
                redis.ints(&asking(call, 2));
                assert_eq!(redis.ints(&asking(call, back)), [0, 3, 3, -1, 0], "{call} {back}");
                assert_eq!(redis.int("EXISTS u"), 0, "{call} {back}");
            }
            redis.ints(&asking(call, 3));
            assert_eq!(redis.ints(&asking(call, -1))[..4], [0, 3, 1, -1], "{call}");
            assert_eq!(redis.ints(call)[0], 0, "{call}: what was given back can be taken");
            assert_eq!(redis.ints(call)[0], 1, "{call}");
        }
    });
}

#[test]
fn retry_after_is_a_promise() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in ["CELL.WINDOW u 2 0.3", "CELL.LOG u 2 0.3", "CELL.SLIDE u 2 0.3", "CELL.THROTTLE u 1 1 0.15"] {
            redis.run("DEL u");
            let call = format!("{call} 1 MS");
            redis.ints(&call);
            redis.ints(&call);
            let refused = redis.ints(&call);
            let at = Instant::now();
            if refused[0] == 0 {
                continue; // the machine stood still
            }
            let wait = refused[3];
            assert!((1..=600).contains(&wait), "{call}: {refused:?}");
            sleep_ms((wait - 60).max(0));
            let early = redis.ints(&call);
            if at.elapsed() < Duration::from_millis((wait - 5).max(0).unsigned_abs()) {
                assert_eq!(early[0], 1, "{call} passed before it was due");
            }
            let left = Duration::from_millis(wait.unsigned_abs()).saturating_sub(at.elapsed());
            std::thread::sleep(left);
            assert!(early[0] == 0 || redis.ints(&call)[0] == 0, "{call} was refused though it had waited {wait} ms");
        }
    });
}

#[test]
fn retry_after_is_a_promise_in_seconds_too() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let calls = ["CELL.WINDOW w 1 0.8", "CELL.LOG l 1 0.8", "CELL.SLIDE s 1 0.8", "CELL.THROTTLE t 0 1 0.8"];
        let mut longest = 0;
        for call in calls {
            redis.ints(call);
            let [limited, .., retry_after, _] = redis.ints(call)[..] else { panic!() };
            assert_eq!((limited, (1..=2).contains(&retry_after)), (1, true), "{call}: {retry_after}");
            longest = longest.max(retry_after);
        }
        sleep_ms(longest * 1_000);
        for call in calls {
            assert_eq!(redis.ints(call)[0], 0, "{call} was refused though it had waited {longest} s");
        }
    });
}

#[test]
fn every_state_has_an_expiry_soon_after_its_reset() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for call in THREE_AN_HOUR {
            redis.run("DEL u");
            for quantity in [1, 1, -1, 2, 0, 1] {
                let answer = redis.ints(&format!("{call} {quantity} MS"));
                let ttl = redis.int("PTTL u");
                assert!(
                    (answer[4] - 1_000..=answer[4] + 1_000 + 3 * 900_000).contains(&ttl),
                    "{call}: {answer:?}, {ttl}"
                );
            }
            // Without one, any first call sets it.
            for quantity in [1, 0, 3] {
                redis.run("PERSIST u");
                redis.ints(&asking(call, quantity));
                assert!(redis.int("PTTL u") > 0, "{call} {quantity}");
            }
        }
        // A counter of another program.
        redis.run("SET w 2");
        assert_eq!(redis.ints("CELL.WINDOW w 3 60"), [0, 3, 0, -1, 60]);
        assert!((59_000..=60_000).contains(&redis.int("PTTL w")));
    });
}

#[test]
fn errors_name_the_argument_and_the_remedy() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (command, error) in [
            ("CELL.WINDOW u 0 60", "ERR limit must be an integer from 1 to 9007199254740991, not '0'"),
            ("CELL.LOG u 1000001 60", "ERR limit must be an integer from 1 to 1000000, not '1000001'"),
            ("CELL.SLIDE u -1 60", "ERR limit must be a 64-bit integer, at least 1, not '-1'"),
            ("CELL.SLIDE u 1 0", "ERR period must be more than 0 seconds, not '0'"),
            (
                "CELL.LOG u 1 9223372036",
                "ERR the limiter would reach beyond the year 2262: ask for fewer cells at once, or a shorter period",
            ),
            ("CELL.WINDOW u 1 60 BLOCK", "ERR BLOCK needs a value: [quantity] [BLOCK seconds] [PARTIAL] [MS]"),
            ("CELL.WINDOW u 1 60 BLOCK 0", "ERR BLOCK must be more than 0 seconds, not '0'"),
            ("CELL.WINDOW u 1 60 BLOCK 1 BLOCK 2", "ERR BLOCK is given twice"),
            ("CELL.LOG u 1 60 BLOCK 1", "ERR unknown option 'BLOCK': the options are [quantity] [PARTIAL] [MS]"),
            (
                "CELL.WINDOW u 1 60 BLOK 1",
                "ERR unknown option 'BLOK': the options are [quantity] [BLOCK seconds] [PARTIAL] [MS]",
            ),
            ("CELL.LOG u 1 60 1 BLOCK 1", "ERR unknown option 'BLOCK': the options are [quantity] [PARTIAL] [MS]"),
            ("CELL.LOG u 1 60 1.5", "ERR quantity must be a 64-bit integer, not '1.5'"),
            (
                "CELL.MTHROTTLE a 1 1 60 1 b 1 1 60",
                "ERR each limit is key max_burst count period quantity, five arguments; after the last one may come MS",
            ),
            (
                "CELL.MTHROTTLE a 1 1 60 1 a 1 1 1 1",
                "ERR key 'a' is named twice: name it once, with the sum of its quantities",
            ),
            ("CELL.MTHROTTLE a 1 1 60 x", "ERR limit 1 of key 'a': quantity must be a 64-bit integer, not 'x'"),
        ] {
            assert_eq!(redis.error(command), error);
        }
        assert_eq!(redis.int("DBSIZE"), 0);
        redis.run("RPUSH u x");
        for call in THREE_AN_HOUR {
            assert!(redis.error(call).starts_with("WRONGTYPE "), "{call}");
            assert!(redis.error(&read_only(call)).starts_with("WRONGTYPE "), "{call}");
        }
        redis.run("SET w x");
        redis.run("HSET s start 1");
        for call in ["CELL.WINDOW w 3 60", "CELL.SLIDE s 3 60"] {
            let error = redis.error(call);
            let words: Vec<&str> = call.split(' ').collect();
            assert!(error.starts_with(&format!("ERR key '{}' holds ", words[1])), "{call}: {error}");
            assert!(
                error.contains(&format!("{} did not write", words[0])) && error.contains("DEL this one"),
                "{error}"
            );
        }
    });
}

#[test]
fn read_only_variants_return_what_the_call_would_and_take_nothing_on_replicas_too() {
    on_every_program(|program| {
        let primary = Server::start(program, &[]);
        let load = testkit::module().display().to_string();
        let replica = primary.replica(&["--loadmodule", &load]);
        let (mut redis, mut reader) = (primary.connect(), replica.connect());
        for call in THREE_AN_HOUR {
            redis.run("DEL u");
            for quantity in [1, 1, 1, 1] {
                primary.wait_for_replica(&replica);
                let before = redis.contents();
                let seen = reader.ints(&asking(&read_only(call), quantity));
                assert_eq!(redis.ints(&asking(&read_only(call), quantity))[..4], seen[..4], "{call}");
                assert_eq!(redis.contents(), before, "{call}");
                assert_eq!(redis.ints(&asking(call, quantity))[..3], seen[..3], "{call}");
            }
            assert!(reader.error(call).starts_with("READONLY "), "{call}");
        }
        // Nothing is repaired either.
        redis.run(&format!("SET far {}", (now_ms() + 31_536_000_000) * 1_000_000));
        redis.run("SET endless 2");
        let before = redis.contents();
        assert_eq!(redis.ints("CELL.THROTTLE_RO far 0 1 60"), [1, 1, 0, 60, 60]);
        assert_eq!(redis.ints("CELL.WINDOW_RO endless 3 60"), [0, 3, 0, -1, 60]);
        let looked = Value::Array(vec![Value::Array([1, 1, 0, 60, 60].map(Value::Int).into())]);
        assert_eq!(redis.run("CELL.MTHROTTLE_RO far 0 1 60 1"), looked);
        assert_eq!(redis.contents(), before);
    });
}

#[test]
fn several_limits_are_all_taken_or_none() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut redis = server.connect();
        let answers = |redis: &mut Client, line: &str| -> Vec<Vec<i64>> {
            redis::from_redis_value(redis.run(line)).expect("an array for each limit")
        };
        let both = "CELL.MTHROTTLE user 2 1 60 1 tenant 0 1 3600 1";
        assert_eq!(answers(&mut redis, both), [[0, 3, 2, -1, 60], [0, 1, 0, -1, 3_600]]);
        let (before, appended) = (redis.contents(), server.appended());
        // The second limit refuses: the first reports its state unchanged, and has taken nothing.
        assert_eq!(answers(&mut redis, both), [[0, 3, 2, -1, 60], [1, 1, 0, 3_600, 3_600]]);
        assert_eq!(
            answers(&mut redis, "CELL.MTHROTTLE user 2 1 60 4 new 0 1 60 1"),
            [[1, 3, 2, -1, 60], [0, 1, 1, -1, 0]]
        );
        assert_eq!(redis.contents(), before);
        assert_eq!(server.appended(), appended);
        // A key that cannot be a limiter, or a bad number, at the end: nothing before it is taken.
        redis.run("RPUSH list x");
        let before = redis.contents();
        assert!(redis.error("CELL.MTHROTTLE user 2 1 60 1 list 0 1 60 1").starts_with("WRONGTYPE "));
        let error = redis.error("CELL.MTHROTTLE user 2 1 60 1 other 0 1 0 1");
        assert!(error.contains("limit 2 of key 'other'") && error.contains("period must be more than 0"), "{error}");
        assert_eq!(redis.contents(), before);
        // All of them in one step for replicas.
        assert_eq!(answers(&mut redis, "CELL.MTHROTTLE a 0 1 60 1 b 0 1 60 1 c 0 1 60 1 MS").len(), 3);
        let commands = server.appended();
        let last: Vec<&str> = commands[commands.len() - 5..].iter().map(|words| words[0].as_str()).collect();
        assert_eq!(last, ["MULTI", "SET", "SET", "SET", "EXEC"]);
        // Many limits, in one call.
        let many: String = (0..200).map(|n| format!(" key{n} 0 1 60 1")).collect();
        assert!(answers(&mut redis, &format!("CELL.MTHROTTLE{many} MS")).iter().all(|answer| answer[0] == 0));
    });
}

#[test]
fn several_limits_of_one_slot_work_in_a_cluster_and_of_two_do_not() {
    on_every_program(|program| {
        let server = Server::start(program, &["--cluster-enabled", "yes"]);
        let mut redis = server.connect();
        let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
        redis.run(&format!("CLUSTER ADDSLOTS {}", slots.join(" ")));
        eventually("the cluster is up", || redis.try_run("CELL.THROTTLE x 0 1 60").is_ok());
        redis.run("CELL.MTHROTTLE {u}a 0 1 60 1 {u}b 0 1 60 1");
        assert!(redis.error("CELL.MTHROTTLE a 0 1 60 1 b 0 1 60 1").starts_with("CROSSSLOT "));
    });
}

#[test]
fn three_failed_logins_shut_the_door_for_exactly_the_block() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        let login = "CELL.WINDOW login 3 3600 1 BLOCK 0.4 MS";
        let long = "CELL.WINDOW login 3 3600 1 BLOCK 7200";
        for _ in 0..3 {
            assert_eq!(redis.ints(long)[0], 0);
        }
        assert_eq!(redis.ints(long), [1, 3, 0, 7_200, 7_200]);
        assert_eq!(redis.string("GET login").as_deref(), Some("4"));
        let before = redis.contents();
        assert_eq!(redis.ints(long)[..3], [1, 3, 0]);
        assert_eq!(redis.contents(), before, "a block is not prolonged");
        // Calls without the option leave a block as it is.
        assert_eq!(redis.ints("CELL.WINDOW login 3 3600")[..3], [1, 3, 0]);
        assert_eq!(redis.contents(), before);
        // A success is DEL.
        redis.run("DEL login");
        assert_eq!(redis.ints(long)[..3], [0, 3, 2]);
        // To the window's end, if that is later.
        redis.ints("CELL.WINDOW login 3 3600 2");
        let shut = redis.ints(login);
        assert_eq!(shut[0], 1);
        assert!((3_590_000..=3_600_000).contains(&shut[3]), "{shut:?}");
        // A block that outlasts the window: refused until it ends, and then a new window begins.
        redis.run("DEL login");
        let brief = "CELL.WINDOW login 1 0.05 1 BLOCK 0.3 MS";
        redis.ints(brief);
        let shut = redis.ints(brief);
        if shut[0] == 1 {
            let at = Instant::now();
            assert!((295..=300).contains(&shut[3]), "{shut:?}");
            sleep_ms(shut[3] - 80);
            let still = redis.ints(brief);
            assert!(still[0] == 1 || at.elapsed() > Duration::from_millis(290), "{still:?}");
            sleep_ms(still[3].max(0));
            assert_eq!(redis.ints(brief)[..3], [0, 1, 0]);
        }
    });
}

#[test]
fn refused_calls_do_not_prolong_a_window() {
    on_every_server(|server| {
        let mut redis = server.connect();
        // On a busy machine the window may end meanwhile; then once more.
        let is_undisturbed = |redis: &mut Client| {
            redis.run("DEL u");
            redis.ints("CELL.WINDOW u 1 0.3");
            let at = Instant::now();
            let mut all_refused = true;
            while at.elapsed() < Duration::from_millis(200) {
                all_refused &= redis.ints("CELL.WINDOW u 1 0.3")[0] == 1;
            }
            all_refused
        };
        while !is_undisturbed(&mut redis) {}
        sleep_ms(101);
        assert_eq!(redis.ints("CELL.WINDOW u 1 0.3")[0], 0);
    });
}

#[test]
fn changed_numbers_never_lock_a_key_out_nor_admit_more_than_the_new_limit() {
    on_every_server(|server| {
        let mut redis = server.connect();
        at_the_start_of_a_window(1_000);
        for (hourly, by_second) in [
            ("CELL.THROTTLE u 0 1 3600", "CELL.THROTTLE u 0 1 0.2"),
            ("CELL.WINDOW u 1 3600", "CELL.WINDOW u 1 0.2"),
            ("CELL.LOG u 1 3600", "CELL.LOG u 1 0.2"),
            ("CELL.SLIDE u 1 3600", "CELL.SLIDE u 1 0.2"),
        ] {
            redis.run("DEL u");
            redis.ints(hourly);
            let refused = redis.ints(&format!("{by_second} 1 MS"));
            // A log stores when its cell was taken, so by now it may have left the shorter window.
            if refused[0] == 1 {
                assert!(refused[3] <= 400, "{by_second}: {refused:?}");
                sleep_ms(refused[3]);
                assert_eq!(redis.ints(by_second)[0], 0, "{by_second}");
            }
            // Lowered: cells taken before count.
            redis.run("DEL u");
            let wide = hourly.replace(" 0 1 ", " 9 1 ").replace("u 1 ", "u 10 ");
            redis.ints(&asking(&wide, 5));
            let narrow = hourly.replace(" 0 1 ", " 2 1 ").replace("u 1 ", "u 3 ");
            assert_eq!(redis.ints(&narrow)[..3], [1, 3, 0], "{narrow}");
        }
    });
}

#[test]
fn a_log_counts_each_cell_and_forgets_it_after_a_period() {
    on_every_server(|server| {
        let mut redis = server.connect();
        // In a transaction the time stands still: two cells of one microsecond are two.
        redis.run("MULTI");
        for _ in 0..4 {
            redis.run("CELL.LOG u 3 0.3 1 MS");
        }
        let Value::Array(answers) = redis.run("EXEC") else { panic!() };
        let limited: Vec<i64> =
            answers.into_iter().map(|answer| redis::from_redis_value::<Vec<i64>>(answer).expect("ints")[0]).collect();
        assert_eq!(limited, [0, 0, 0, 1]);
        assert_eq!(redis.int("ZCARD u"), 3);
        sleep_ms(301);
        assert_eq!(redis.ints("CELL.LOG u 3 0.3 2")[..3], [0, 3, 1]);
        assert_eq!(redis.int("ZCARD u"), 2, "what has left the view is trimmed by the call that takes");
        // After any number of calls, no more cells are stored than the limit.
        for _ in 0..50 {
            redis.ints("CELL.LOG u 3 0.01");
        }
        assert!(redis.int("ZCARD u") <= 3);
    });
}

#[test]
fn a_log_of_many_cells_counts_and_trims_as_one_of_few() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.ints("CELL.LOG u 1000 2 300")[..3], [0, 1_000, 700]);
        sleep_ms(800);
        assert_eq!(redis.ints("CELL.LOG u 1000 2 500 MS")[..3], [0, 1_000, 200]);
        // 600 more need 400 to leave: the 300, and a hundred of those that came 800 ms later.
        let refused = redis.ints("CELL.LOG u 1000 2 600 MS");
        assert!(refused[0] == 1 && (1_500..=2_000).contains(&refused[3]), "{refused:?}");
        sleep_ms(refused[3] - 600);
        // The 300 have left. Each call trims some of them, at least as many as it takes.
        assert_eq!(redis.ints("CELL.LOG u 1000 2 1")[..3], [0, 1_000, 499]);
        assert_eq!(redis.int("ZCARD u"), 301 + 500 - 256);
        assert_eq!(redis.ints("CELL.LOG u 1000 2 1")[..3], [0, 1_000, 498]);
        assert_eq!(redis.int("ZCARD u"), 502);
        assert_eq!(redis.ints("CELL.LOG u 1000 2 -402")[..3], [0, 1_000, 900]);
        assert_eq!(redis.int("ZCARD u"), 100);
    });
}

#[test]
fn a_cell_with_another_time_than_its_name_says_is_no_cell_and_stays() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("CELL.LOG other 3 3600");
        let name = redis.strings("ZRANGE other 0 0").remove(0);
        let time: i64 = name[..16].parse().expect("a time");
        redis.run(&format!("ZADD u {} {name}", time - 1_000));
        let before = redis.contents();
        for call in ["CELL.LOG u 3 3600", "CELL.LOG u 3 3600 0", "CELL.LOG_RO u 3 3600", "CELL.LOG u 3 3600 5 PARTIAL"]
        {
            let expected = format!(
                "ERR key 'u' holds a sorted set whose member '{name}' CELL.LOG did not write: use another key, or DEL this one"
            );
            assert_eq!(redis.error(call), expected);
            assert_eq!(redis.contents(), before, "{call}");
        }
    });
}

#[test]
fn cells_that_lie_ahead_of_the_clock_count_as_taken_now() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let year_ahead = (now_ms() + 31_536_000_000) * 1_000;
        redis.run(&format!("ZADD u {year_ahead} {year_ahead}-000000 {year_ahead} {year_ahead}-000001"));
        assert_eq!(redis.ints("CELL.LOG u 2 60"), [1, 2, 0, 60, 60]);
        let latest: i64 = redis.strings("ZRANGE u -1 -1 WITHSCORES")[1].parse().expect("a time");
        assert!(latest <= (now_ms() + 1) * 1_000, "they are moved to now, once");
        assert!(redis.int("PTTL u") <= 60_000 + 1_000 + 15_000);
    });
}

#[test]
fn a_slide_is_a_hash_of_two_windows_that_begin_with_multiples_of_the_period() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.ints("CELL.SLIDE u 10 3600 4");
        redis.ints("CELL.SLIDE u 10 3600 -1");
        let fields = redis.strings("HGETALL u");
        let hour = 3_600_000_000_000i64;
        let start = (now_ms() * 1_000_000 / hour * hour).to_string();
        assert_eq!(fields, ["start", &start, "period", &hour.to_string(), "current", "3", "previous", "0"]);
        // At most half of the previous window counts: 8 cells there leave room for six or more of ten.
        let previous = now_ms() / 60_000 * 60_000 - 60_000;
        redis.run(&format!("HSET v start {} period 60000000000 current 8 previous 9", previous * 1_000_000));
        let left_of_minute = 60_000 - now_ms() % 60_000;
        let answer = redis.ints("CELL.SLIDE v 10 60 0");
        let estimate = (8 * left_of_minute + 59_999) / 60_000;
        assert!((answer[2] - (10 - estimate)).abs() <= 1, "{answer:?}, about {estimate} in view");
    });
}

#[test]
fn effects_of_the_family_are_core_commands() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut redis = server.connect();
        for call in [
            "CELL.WINDOW w 3 3600",
            "CELL.WINDOW w 3 3600",
            "CELL.WINDOW w 3 3600 2 BLOCK 7200",
            "CELL.LOG l 9 0.05 2",
            "CELL.SLIDE s 9 3600",
            "CELL.SLIDE s 9 3600",
        ] {
            redis.run(call);
        }
        sleep_ms(60);
        redis.run("CELL.LOG l 9 0.05");
        redis.run("CELL.LOG l 9 0.05 -1");
        redis.run("CELL.LOG many 1000 3600 600");
        let known = ["SET", "ZADD", "PEXPIREAT", "HSET", "ZREMRANGEBYRANK", "UNLINK", "MULTI", "EXEC", "ZREM"];
        let commands = server.appended();
        assert!(commands.iter().all(|words| known.contains(&words[0].as_str())), "{commands:?}");
        let many = commands.iter().filter(|words| words[0] == "ZADD" && words[1] == "many");
        assert_eq!(many.map(|words| (words.len() - 2) / 2).collect::<Vec<_>>(), [512, 88]);
        let lines: Vec<String> = commands.iter().map(|words| words.join(" ")).collect();
        assert!(lines[0].starts_with("SET w 1 PXAT ") || lines[1].starts_with("SET w 1 PXAT "), "{lines:?}");
        assert!(lines.contains(&"SET w 2 KEEPTTL".to_owned()), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("SET w 4 PXAT ")), "{lines:?}");
        assert!(lines.contains(&"HSET s current 2".to_owned()), "{lines:?}");
        assert!(lines.iter().any(|line| line == "ZREMRANGEBYRANK l 0 1"), "{lines:?}");
    });
}
