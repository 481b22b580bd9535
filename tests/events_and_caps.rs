//! Events that are counted once, and counts that are capped.

use std::thread;

use testkit::{Client, Server, date, now_ms, on_every_program, on_every_server};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 2022-08-09 14:11:17 UTC.
const AT: i64 = 1_660_054_277_326;

/// The first millisecond of today.
fn midnight() -> i64 {
    now_ms() / DAY_MS * DAY_MS
}

#[test]
fn an_event_is_remembered_with_its_count_or_not_at_all() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let at = now_ms();
        let once = format!("m:day:{}:once", date(at));
        assert_eq!(redis.ints(&format!("METER.HIT m AT {at} ONCE e BY 5 CAP DAY 5")), [5, 5, 5]);
        // Refused by the cap, or for another reason: its id is not stored, so it counts when it is sent again.
        assert_eq!(redis.ints(&format!("METER.HIT m AT {at} ONCE f CAP DAY 5")), [5, 5, 0]);
        assert!(redis.error(&format!("METER.HIT m AT {at} ONCE g BY {}", i64::MAX)).starts_with("ERR "));
        assert!(redis.error(&format!("METER.HIT m AT {at} ONCE g PATH 1 a BY -1")).starts_with("ERR "));
        assert_eq!(redis.ints(&format!("METER.HIT m AT {at} ONCE h BY 0")), [5, 5, 0]);
        assert_eq!(redis.strings(&format!("SMEMBERS {once}")), ["e"]);
        for event in ["f", "g", "h"] {
            assert_eq!(redis.ints(&format!("METER.HIT m AT {at} ONCE {event}"))[2], 1, "{event}");
        }
        // A duplicate is returned as one with any other options, even if these would fail.
        let before = redis.contents();
        for rest in ["", "PATH 2 a b", "BY 9", "BY -9", "CAP DAY 1", "PATH 2 a b UNIQUE u", &format!("BY {}", i64::MAX)]
        {
            assert_eq!(redis.ints(&format!("METER.HIT m AT {at} ONCE e {rest}"))[2], 0, "{rest}");
            assert_eq!(redis.contents(), before, "{rest}");
        }
    });
}

#[test]
fn a_correction_delivered_twice_corrects_once_and_its_event_stays_known() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let at = now_ms();
        redis.run(&format!("METER.HIT m AT {at} ONCE sale"));
        assert_eq!(redis.ints(&format!("METER.HIT m AT {at} BY -1 ONCE refund")), [0, 0, -1]);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {at} BY -1 ONCE refund")), [0, 0, 0]);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {at} ONCE sale")), [0, 0, 0]);
        assert_eq!(redis.strings("KEYS *"), [format!("m:day:{}:once", date(at))]);
    });
}

#[test]
fn events_are_remembered_until_their_day_ended_once_days_ago() {
    on_every_program(|program| {
        let server = Server::with_module(program, "once-days 3", &[]);
        let mut redis = server.connect();
        let expires = |redis: &mut Client, at: i64| {
            let left = redis.int(&format!("PTTL m:day:{}:once", date(at)));
            now_ms() + left
        };
        let close = |at: i64, expected: i64| assert!((at - expected).abs() < 2_000, "{at} is not {expected}");
        redis.run(&format!("METER.HIT m AT {} ONCE e", midnight()));
        close(expires(&mut redis, midnight()), midnight() + 4 * DAY_MS);
        let oldest = midnight() - 3 * DAY_MS;
        redis.run(&format!("METER.HIT m AT {oldest} ONCE e"));
        close(expires(&mut redis, oldest), midnight() + DAY_MS);
        let error = redis.error(&format!("METER.HIT m AT {} ONCE e", oldest - 1));
        assert_eq!(
            error,
            format!(
                "ERR ONCE: day {} ended once-days (3) ago or longer, and its event ids are no longer stored",
                date(oldest - 1)
            )
        );
        assert_eq!(redis.int(&format!("EXISTS m:day:{}", date(oldest - 1))), 0);
        // The config changes: the next event of the day brings its ids to the new date.
        if program.is_7_or_later() {
            redis.run("CONFIG SET meter.once-days 30");
            redis.run(&format!("METER.HIT m AT {oldest} ONCE f"));
            close(expires(&mut redis, oldest), oldest + 31 * DAY_MS);
            assert_eq!(redis.ints(&format!("METER.HIT m AT {oldest} ONCE e")), [2, 2, 0]);
        }
    });
}

#[test]
fn a_cap_refuses_the_hit_whole() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} BY 5"));
        redis.run(&format!("METER.HIT m AT {} BY 5", AT + HOUR_MS));
        redis.run(&format!("METER.HIT m AT {} BY 5", AT + DAY_MS));
        let before = redis.contents();
        for (options, expected) in [
            ("BY 6 CAP HOUR 10", [10, 5, 0]),
            ("CAP DAY 10", [10, 5, 0]),
            ("BY 9223372036854775807 CAP DAY 10", [10, 5, 0]),
            ("CAP MONTH 15", [10, 5, 0]),
            ("CAP MONTH 14", [10, 5, 0]),
            // Also with days and hours that it would have opened.
            ("BY 5 CAP MONTH 19 PATH 2 a b UNIQUE u", [10, 5, 0]),
        ] {
            assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} {options}")), expected, "{options}");
            assert_eq!(redis.contents(), before, "{options}");
        }
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY 5 CAP HOUR 10")), [15, 10, 5]);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} CAP DAY 16")), [16, 11, 1]);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} CAP MONTH 22")), [17, 12, 1]);
        // Corrections are never capped.
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY -2 CAP HOUR 1")), [15, 10, -2]);
    });
}

#[test]
fn a_cap_that_is_refused_opens_nothing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for cap in ["HOUR", "DAY", "MONTH"] {
            let capped = redis.ints(&format!("METER.HIT m AT {AT} BY 2 CAP {cap} 1 PATH 2 a b UNIQUE u"));
            assert_eq!(capped, [0, 0, 0]);
        }
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn clients_that_race_for_the_last_of_a_cap_cannot_pass_together() {
    on_every_server(|server| {
        let server = &*server;
        let granted: i64 = thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(move || {
                        let mut redis = server.connect();
                        let mut granted = 0;
                        for n in 0..200 {
                            granted += redis.ints(&format!("METER.HIT m AT {AT} BY {} CAP MONTH 777", n % 3 + 1))[2];
                        }
                        granted
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().expect("a client")).sum()
        });
        assert_eq!(granted, 777);
        assert_eq!(server.connect().counts("METER.KPI m FROM 20220801 TO 20220831 BY TOTAL")[0].1, 777);
    });
}

#[test]
fn a_month_cap_counts_sealed_and_dropped_days_by_date() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let (old, young) = (AT, midnight() - DAY_MS);
        for at in [old, young] {
            let month = &date(at)[..6];
            redis.run(&format!("METER.HIT m AT {at} BY 80 CAP MONTH 100"));
            let (id, _) = redis.seal("METER.SEAL m");
            assert_eq!(redis.string(&format!("HGET m:month:{month} {}", date(at))).as_deref(), Some("80"));
            assert_eq!(redis.ints(&format!("METER.HIT m AT {at} BY 21 CAP MONTH 100")), [0, 0, 0], "while sealed");
            redis.run(&format!("METER.ACK m {}", id.expect("a batch")));
            assert_eq!(redis.ints(&format!("METER.HIT m AT {at} BY 21 CAP MONTH 100")), [0, 0, 0], "acknowledged");
            assert_eq!(redis.ints(&format!("METER.HIT m AT {at} BY 10 CAP MONTH 100")), [10, 10, 10]);
            assert_eq!(redis.int(&format!("METER.DROP m BEFORE {}", date(at + DAY_MS))), 1);
            assert_eq!(redis.ints(&format!("METER.HIT m AT {at} BY 11 CAP MONTH 100")), [0, 0, 0], "dropped");
            assert_eq!(redis.ints(&format!("METER.HIT m AT {at} BY 10 CAP MONTH 100")), [10, 10, 10]);
        }
        // It is kept for 400 days after the month; one that is older already, for 400 days from now.
        let days = |redis: &mut Client, at: i64| redis.int(&format!("TTL m:month:{}", &date(at)[..6])) / 86_400;
        assert!((399..=400).contains(&days(&mut redis, old)));
        assert!((400..=431).contains(&days(&mut redis, young)));
        // The whole meter is dropped: the cap begins anew.
        redis.run("METER.DROP m");
        assert_eq!(redis.int("DBSIZE"), 0);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {old} BY 100 CAP MONTH 100")), [100, 100, 100]);
    });
}

#[test]
fn a_months_cap_is_refused_where_days_of_the_month_may_have_expired() {
    on_every_program(|program| {
        let server = Server::with_module(program, "retention-days 30", &[]);
        let mut redis = server.connect();
        assert_eq!(
            redis.error("METER.HIT m CAP MONTH 5"),
            "ERR CAP MONTH adds up 31 days: set retention-days (30) to 31 or more, or to 0"
        );
        assert_eq!(redis.ints("METER.HIT m CAP DAY 5"), [1, 1, 1]);
        if program.is_7_or_later() {
            redis.run("CONFIG SET meter.retention-days 31");
            assert_eq!(redis.ints("METER.HIT m CAP MONTH 5"), [2, 2, 1]);
            redis.run("CONFIG SET meter.retention-days 40");
            let late = midnight() - 39 * DAY_MS;
            let month = &date(late)[..6];
            let first_is_gone = {
                let first = chrono::NaiveDate::parse_from_str(&format!("{month}01"), "%Y%m%d").expect("a date");
                let first = first.and_hms_opt(0, 0, 0).expect("midnight").and_utc().timestamp_millis();
                first + 41 * DAY_MS <= now_ms()
            };
            if first_is_gone {
                assert_eq!(
                    redis.error(&format!("METER.HIT m AT {late} CAP MONTH 5")),
                    format!(
                        "ERR CAP MONTH adds up the days from {month}01 on, some of which are past retention-days (40): \
                         raise it, or cap a shorter span"
                    )
                );
            }
        }
    });
}

#[test]
fn in_scripts_and_transactions_they_hold_too() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let at = now_ms();
        let script = b"redis.call('METER.HIT', KEYS[1], 'AT', ARGV[1], 'ONCE', 'e', 'UNIQUE', 'u', 'PATH', '1', 'a') \
            return redis.call('METER.HIT', KEYS[1], 'AT', ARGV[1], 'ONCE', 'e', 'UNIQUE', 'v', 'PATH', '1', 'b')";
        let reply = redis.try_call(&[b"EVAL", script, b"1", b"m", at.to_string().as_bytes()]).expect("a reply");
        let counts: Vec<i64> = redis::from_redis_value(reply).expect("counts");
        assert_eq!(counts, [1, 1, 0]);
        redis.run("MULTI");
        redis.run(&format!("METER.HIT m AT {at} ONCE f CAP DAY 2"));
        redis.run(&format!("METER.HIT m AT {at} ONCE f CAP DAY 2"));
        redis.run(&format!("METER.HIT m AT {at} ONCE g CAP DAY 2"));
        let replies: Vec<Vec<i64>> = redis::from_redis_value(redis.run("EXEC")).expect("counts");
        assert_eq!(replies, [[2, 2, 1], [2, 2, 0], [2, 2, 0]]);
    });
}
