//! METER.HIT with several PATHs and several CAPs, CAP SINCE, and WHY.

use testkit::{Client, Server, Value, date, now_ms, on_every_program, on_every_server};

const DAY_MS: i64 = 86_400_000;
/// 2022-08-09 14:11:17 UTC.
const AT: i64 = 1_660_054_277_326;

fn null() -> Value {
    Value::Nil
}

fn text(text: &str) -> Value {
    Value::BulkString(text.into())
}

/// The reply of a hit with WHY.
fn reply(counts: [i64; 3], why: Value, remaining: impl Into<Option<i64>>) -> Value {
    let mut elements: Vec<Value> = counts.into_iter().map(Value::Int).collect();
    elements.extend([why, remaining.into().map_or(Value::Nil, Value::Int)]);
    Value::Array(elements)
}

fn top(redis: &mut Client, path: &str) -> Vec<(String, i64)> {
    redis.counts(&format!("METER.TOP m DAY 20220809 {path}"))
}

fn members<const N: usize>(members: [(&str, i64); N]) -> Vec<(String, i64)> {
    members.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn one_hit_counts_along_several_paths() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let hit = format!("METER.HIT m AT {AT} BY 3 PATH 2 endpoint users PATH 2 country de PATH 3 plan pro yearly");
        assert_eq!(redis.ints(&hit), [3, 3, 3]);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} PATH 2 country de")), [4, 4, 1]);
        assert_eq!(top(&mut redis, ""), members([("country", 4), ("plan", 3), ("endpoint", 3)]));
        assert_eq!(top(&mut redis, "PATH 1 endpoint"), members([("users", 3)]));
        assert_eq!(top(&mut redis, "PATH 1 country"), members([("de", 4)]));
        assert_eq!(top(&mut redis, "PATH 2 plan pro"), members([("yearly", 3)]));
    });
}

#[test]
fn a_member_that_paths_share_is_counted_once() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!(
            "METER.HIT m AT {AT} BY 5 PATH 2 a b PATH 2 a c PATH 1 a PATH 2 a b PATH 3 a b d PATH 2 b a"
        ));
        assert_eq!(top(&mut redis, ""), members([("b", 5), ("a", 5)]));
        assert_eq!(top(&mut redis, "PATH 1 a"), members([("c", 5), ("b", 5)]));
        assert_eq!(top(&mut redis, "PATH 2 a b"), members([("d", 5)]));
        assert_eq!(top(&mut redis, "PATH 1 b"), members([("a", 5)]));
        // The correction subtracts the same: nothing is left.
        redis.run(&format!("METER.HIT m AT {AT} BY -5 PATH 2 b a PATH 3 a b d PATH 2 a b PATH 1 a PATH 2 a c"));
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn a_refused_path_leaves_the_others_untouched() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let now = now_ms();
        redis.run(&format!("METER.HIT m AT {now} ONCE known PATH 2 a b UNIQUE u"));
        redis.run(&format!("ZADD m:day:{}:path:full 9007199254740992 x", date(now)));
        redis.run(&format!("ZADD m:day:{}:path:odd 1.5 x", date(now)));
        redis.run(&format!("SET m:day:{}:path:text x", date(now)));
        let before = redis.contents();
        let hit = format!("METER.HIT m AT {now} BY 2 UNIQUE v PATH 2 a b PATH 2 new c");
        // A duplicate, a cap, an overflow, a score that is no count or a wrong type, met last of all.
        for rest in ["ONCE known", "ONCE new CAP DAY 2", "ONCE new CAP HOUR 100 CAP MONTH 100 CAP DAY 2"] {
            assert_eq!(redis.ints(&format!("{hit} {rest}"))[2], 0, "{rest}");
            assert_eq!(redis.contents(), before, "{rest}");
        }
        for (rest, expected) in [
            ("ONCE new PATH 2 full x", "ERR the count of path member 'x' would pass 9007199254740992"),
            ("ONCE new PATH 2 odd x", "ERR the score of path member 'x' is no count"),
            ("ONCE new PATH 2 text x", "WRONGTYPE "),
            ("ONCE new PATH 2 a", "ERR PATH 2 needs 2 members, not 1"),
            ("ONCE new PATH 9 a", "ERR the depth of PATH must be an integer from 1 to 8, not '9'"),
        ] {
            let error = redis.error(&format!("{hit} {rest}"));
            assert!(error.starts_with(expected), "{rest}: {error}");
            assert_eq!(redis.contents(), before, "{rest}");
        }
        for back in ["PATH 2 a b PATH 2 a none", "PATH 2 a b PATH 1 none"] {
            let error = redis.error(&format!("METER.HIT m AT {now} BY -1 {back}"));
            assert_eq!(error, "ERR BY would correct more than was counted of path member 'none'");
            assert_eq!(redis.contents(), before, "{back}");
        }
    });
}

#[test]
fn a_hit_has_at_most_eight_paths() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let paths = |n: usize| (0..n).map(|place| format!(" PATH 2 app {place}")).collect::<String>();
        let error = redis.error(&format!("METER.HIT m AT {AT}{}", paths(9)));
        assert_eq!(error, "ERR at most 8 PATHs fit in a hit, not 9");
        assert_eq!(redis.int("DBSIZE"), 0);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT}{}", paths(8))), [1, 1, 1]);
        assert_eq!(top(&mut redis, "PATH 1 app").len(), 8);
        assert_eq!(top(&mut redis, ""), members([("app", 1)]));
    });
}

#[test]
fn several_caps_must_all_hold() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let hit = |n: i64, caps: &str| format!("METER.HIT m AT {AT} BY {n} {caps}");
        redis.run(&format!("METER.HIT m AT {} BY 10", AT - 3_600_000));
        redis.run(&format!("METER.HIT m AT {} BY 10", AT - DAY_MS));
        // Counted are 0 in the hour, 10 in the day, 20 in the month and since the 8th.
        let caps = ["CAP HOUR 5", "CAP DAY 14", "CAP MONTH 23", "CAP SINCE 20220808 22"];
        for (place, left) in [(0, 5), (1, 4), (2, 3), (3, 2)] {
            assert_eq!(redis.ints(&hit(left + 1, caps[place])), [10, 0, 0], "{}", caps[place]);
            let wider = ["CAP HOUR 100", "CAP DAY 100", "CAP MONTH 100", "CAP SINCE 20220808 100"];
            let mixed: Vec<&str> =
                (0..4).map(|other| if other == place { caps[other] } else { wider[other] }).collect();
            assert_eq!(redis.ints(&hit(left + 1, &mixed.join(" "))), [10, 0, 0], "{mixed:?}");
            let looked = redis.run(&format!("{} WHY", hit(0, &mixed.join(" "))));
            assert_eq!(looked, reply([10, 0, 0], null(), left), "{mixed:?}");
        }
        assert_eq!(redis.ints(&hit(2, &caps.join(" "))), [12, 2, 2]);
        // Several dates may be given, the other spans once each.
        assert_eq!(redis.ints(&hit(1, "CAP SINCE 20220808 100 CAP SINCE 20220809 13")), [13, 3, 1]);
        assert_eq!(redis.ints(&hit(1, "CAP SINCE 20220808 100 CAP SINCE 20220809 13")), [13, 3, 0]);
        for (caps, expected) in [
            ("CAP DAY 5 CAP HOUR 5 CAP DAY 6", "ERR CAP DAY is given twice"),
            (
                "CAP DAY 5 CAP HOUR 5 CAP MONTH 6 CAP SINCE 20220808 5 CAP SINCE 20220809 5",
                "ERR at most 4 CAPs fit in a hit, not 5",
            ),
            ("CAP WEEK 5", "ERR CAP must be of an HOUR, DAY or MONTH, or SINCE a date, not 'WEEK'"),
            ("CAP DAY 0", "ERR the limit of CAP DAY must be a 64-bit integer, at least 1, not '0'"),
            ("CAP SINCE 20220808 x", "ERR the limit of CAP SINCE must be a 64-bit integer, at least 1, not 'x'"),
            ("CAP SINCE 5 5", "ERR the date of CAP SINCE must be a date, such as 20220809 or 2022-08-09, not '5'"),
        ] {
            assert_eq!(redis.error(&hit(1, caps)), expected, "{caps}");
        }
        assert!(redis.error(&hit(1, "CAP SINCE 20220808")).starts_with("ERR CAP needs a value: "));
    });
}

#[test]
fn cap_since_counts_a_billing_cycle_with_its_sealed_and_dropped_days() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let since = |redis: &mut Client, days: i64, n: i64| {
            let hit = format!("METER.HIT m AT {} BY {n} CAP SINCE 2022-07-17 100 WHY", AT + days * DAY_MS);
            redis.run(&hit)
        };
        // The day before the cycle does not count, its first day does, and so do days after the hit's.
        redis.run(&format!("METER.HIT m AT {} BY 1000", AT - 24 * DAY_MS));
        assert_eq!(since(&mut redis, -23, 30), reply([30, 30, 30], null(), 70));
        redis.run(&format!("METER.HIT m AT {} BY 20", AT + 5 * DAY_MS));
        assert_eq!(since(&mut redis, 0, 10), reply([10, 10, 10], null(), 40));
        assert_eq!(since(&mut redis, 0, 41), reply([10, 10, 0], text("capped"), 40));
        let (id, _) = redis.seal("METER.SEAL m BEFORE 20220801");
        assert_eq!(since(&mut redis, 0, 41), reply([10, 10, 0], text("capped"), 40), "sealed");
        redis.run(&format!("METER.ACK m {}", id.expect("a batch")));
        assert_eq!(since(&mut redis, 0, 41), reply([10, 10, 0], text("capped"), 40), "acknowledged");
        redis.run("METER.DROP m BEFORE 20220810");
        assert_eq!(since(&mut redis, 0, 41), reply([0, 0, 0], text("capped"), 40), "dropped");
        assert_eq!(since(&mut redis, -23, 41), reply([0, 0, 0], text("capped"), 40), "late");
        assert_eq!(since(&mut redis, -23, 15), reply([15, 15, 15], null(), 25), "late");
        assert_eq!(since(&mut redis, 0, 25), reply([25, 25, 25], null(), 0));
        assert_eq!(since(&mut redis, 20, 1), reply([0, 0, 0], text("capped"), 0));
        let cost = redis.strings("METER.COST m FROM 20220717 TO 20220831 RATE 1");
        assert_eq!(cost, ["100", "100"], "what is capped is what is billed");
    });
}

#[test]
fn cap_since_reaches_from_the_hits_day_a_year_back() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let error = redis.error(&format!("METER.HIT m AT {AT} CAP SINCE 20220810 5"));
        assert_eq!(error, "ERR CAP SINCE 20220810 must not be after the day of the hit, 20220809");
        let error = redis.error(&format!("METER.HIT m AT {AT} CAP SINCE 20210807 5"));
        assert_eq!(error, "ERR CAP SINCE 20210807 must be at most 366 days before the hit");
        assert_eq!(redis.int("DBSIZE"), 0);
        for (place, since) in ["20220809", "2022-08-09", "20210808"].iter().enumerate() {
            let count = i64::try_from(place).expect("small") + 1;
            assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} CAP SINCE {since} 5")), [count, count, 1], "{since}");
        }
    });
}

#[test]
fn cap_since_is_refused_where_days_may_have_expired() {
    on_every_program(|program| {
        let server = Server::with_module(program, "retention-days 30", &[]);
        let mut redis = server.connect();
        let since = |days: i64| date(now_ms() - days * DAY_MS);
        for days in [31, 40] {
            let error = redis.error(&format!("METER.HIT m CAP SINCE {} 5", since(days)));
            let expected = format!(
                "ERR CAP SINCE adds up the days from {} on, some of which are past retention-days (30): raise it, or cap a \
                 shorter span",
                since(days)
            );
            assert_eq!(error, expected);
        }
        assert_eq!(redis.int("DBSIZE"), 0);
        for days in [29, 1, 0] {
            assert_eq!(redis.ints(&format!("METER.HIT m CAP SINCE {} 5", since(days)))[2], 1);
        }
    });
}

#[test]
fn why_returns_the_reason_of_a_refusal_and_the_remainder() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let now = now_ms();
        let mut hit = |rest: &str| redis.run(&format!("METER.HIT m AT {now} {rest} WHY"));
        assert_eq!(hit(""), reply([1, 1, 1], null(), None), "nothing to tell");
        assert_eq!(hit("BY 2 CAP DAY 10"), reply([3, 3, 2], null(), 7));
        assert_eq!(hit("BY 8 CAP DAY 10"), reply([3, 3, 0], text("capped"), 7));
        assert_eq!(hit("BY 2 CAP DAY 10 ONCE e"), reply([5, 5, 2], null(), 5));
        assert_eq!(hit("BY 2 CAP DAY 10 ONCE e"), reply([5, 5, 0], text("duplicate"), 5));
        assert_eq!(hit("ONCE e"), reply([5, 5, 0], text("duplicate"), None));
        assert_eq!(hit("BY 99 CAP DAY 10 ONCE e"), reply([5, 5, 0], text("duplicate"), 5), "a duplicate comes first");
        assert_eq!(hit("BY 0 CAP DAY 10"), reply([5, 5, 0], null(), 5), "a dry run");
        assert_eq!(hit("BY 0 CAP DAY 10 ONCE e"), reply([5, 5, 0], null(), 5), "a dry run of a duplicate");
        assert_eq!(hit("BY 0 CAP DAY 3"), reply([5, 5, 0], null(), 0), "never below 0");
        assert_eq!(hit("CAP DAY 3"), reply([5, 5, 0], text("capped"), 0));
        assert_eq!(hit("BY -2 CAP DAY 4"), reply([3, 3, -2], null(), 1), "a correction is not capped");
        assert_eq!(hit("BY -1 CAP DAY 1"), reply([2, 2, -1], null(), 0));
        assert_eq!(hit("CAP DAY 9223372036854775807"), reply([3, 3, 1], null(), i64::MAX - 3));
        assert_eq!(redis.error("METER.HIT m WHY WHY"), "ERR WHY is given twice");
        // A null of RESP3 too.
        let mut redis = server.connect_resp3();
        let answer = redis.run(&format!("METER.HIT m AT {now} BY 0 WHY"));
        assert_eq!(answer, reply([3, 3, 0], null(), None));
    });
}

#[test]
fn the_members_of_a_path_have_at_most_a_mebibyte() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let at = AT.to_string();
        let half = vec![b':'; 1 << 19];
        let hit = |redis: &mut Client, last: &[u8]| {
            redis.try_call(&[b"METER.HIT", b"m", b"AT", at.as_bytes(), b"PATH", b"3", &half, &half[1..], last])
        };
        let too_long = "ERR the members of PATH have more than 1048576 bytes together: use shorter names";
        assert_eq!(hit(&mut redis, b"ab"), Err(too_long.to_owned()));
        assert_eq!(redis.int("DBSIZE"), 0);
        hit(&mut redis, b"a").expect("as long as can be");
        let top = |redis: &mut Client, members: &[&[u8]]| {
            let depth = members.len().to_string();
            let words: Vec<&[u8]> = [b"METER.TOP" as &[u8], b"m", b"DAY", b"20220809", b"PATH", depth.as_bytes()]
                .into_iter()
                .chain(members.iter().copied())
                .collect();
            redis.try_call(&words).map(|reply| redis::from_redis_value::<Vec<(String, i64)>>(reply).expect("members"))
        };
        assert_eq!(top(&mut redis, &[&half, &half[1..]]), Ok(members([("a", 1)])));
        assert_eq!(top(&mut redis, &[&half, &half[1..], b"a"]), Ok(vec![]));
        assert_eq!(top(&mut redis, &[&half, &half]), Ok(vec![]));
        assert_eq!(top(&mut redis, &[&half, &half, b"a"]), Err(too_long.to_owned()));
        redis.run("METER.DROP m");
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn top_reads_below_paths_of_every_depth() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let names = ["a", "b:", "%", "~#-_.", "ä", "F", "g", "h"];
        redis.run(&format!("METER.HIT m AT {AT} BY 4 PATH 8 {}", names.join(" ")));
        redis.run(&format!("METER.HIT m AT {} BY 3 PATH 8 {}", AT + DAY_MS, names.join(" ")));
        for depth in 1..8 {
            let path = format!("PATH {depth} {}", names[..depth].join(" "));
            assert_eq!(top(&mut redis, &path), members([(names[depth], 4)]), "{path}");
            let span = redis.counts(&format!("METER.TOP m FROM 20220801 TO 20220831 {path}"));
            assert_eq!(span, members([(names[depth], 7)]), "{path}");
        }
        let path = format!("PATH 8 {}", names.join(" "));
        assert_eq!(top(&mut redis, &path), [], "nothing is below the last level");
        assert_eq!(redis.counts(&format!("METER.TOP m FROM 20220801 TO 20220831 {path}")), []);
        let total = redis.counts(&format!("METER.KPI m FROM 20220801 TO 20220831 BY TOTAL {path}"));
        assert_eq!(total, members([("total", 7)]));
        let error = redis.error(&format!("METER.TOP m PATH 9 {} i", names.join(" ")));
        assert_eq!(error, "ERR the depth of PATH must be an integer from 1 to 8, not '9'");
    });
}
