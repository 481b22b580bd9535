//! Counts along a path, unique ids, and the rankings over them.

use testkit::{Client, Value, date, now_ms, on_every_server};

const DAY_MS: i64 = 86_400_000;
/// 2022-08-09 14:11:17 UTC.
const AT: i64 = 1_660_054_277_326;

/// Members that look like parts of key names, and any bytes.
const MEMBERS: [&[u8]; 12] =
    [b"a", b"b", b"a:b", b"a%3Ab", b":", b"%", b"{a}", b"}", b"path", b"\0", b"\xff\xfe", b"users#update?id=1 2"];

fn hit(redis: &mut Client, options: &[&[u8]]) -> Result<Value, String> {
    let at = AT.to_string();
    redis.try_call(&[&[&b"METER.HIT"[..], b"m", b"AT", at.as_bytes()], options].concat())
}

#[test]
fn a_hit_counts_along_its_path() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} PATH 3 a b c BY 2"));
        redis.run(&format!("METER.HIT m AT {AT} PATH 3 a b d"));
        redis.run(&format!("METER.HIT m AT {AT} PATH 1 e BY 4"));
        let set =
            |redis: &mut Client, rest: &str| redis.strings(&format!("ZRANGE m:day:20220809:{rest} 0 -1 WITHSCORES"));
        assert_eq!(set(&mut redis, "path"), ["a", "3", "e", "4"]);
        assert_eq!(set(&mut redis, "path:a"), ["b", "3"]);
        assert_eq!(set(&mut redis, "path:a:b"), ["d", "1", "c", "2"]);
        assert_eq!(redis.strings("HGETALL m:day:20220809"), ["day", "7", "14", "7"]);
        assert_eq!(redis.int("DBSIZE"), 5);
    });
}

#[test]
fn a_member_is_the_sum_of_its_children_where_all_hits_carried_them() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for n in 0..200 {
            let (one, two) = (n % 5, n % 7);
            redis.run(&format!("METER.HIT m AT {AT} PATH 2 {one} {two} BY {}", n + 1));
        }
        for (member, count) in redis.counts("METER.TOP m DAY 20220809") {
            let children = redis.counts(&format!("METER.TOP m DAY 20220809 PATH 1 {member}"));
            assert_eq!(children.iter().map(|child| child.1).sum::<i64>(), count, "{member}");
        }
        let first = redis.counts("METER.TOP m DAY 20220809");
        assert_eq!(first.iter().map(|member| member.1).sum::<i64>(), redis.counts("METER.KPI m DAY 20220809")[0].1);
    });
}

#[test]
fn no_two_paths_of_any_bytes_share_a_count() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut n = 0;
        for one in MEMBERS {
            for two in MEMBERS {
                n += 1;
                hit(&mut redis, &[b"PATH", b"2", one, two, b"BY", n.to_string().as_bytes()]).expect("a hit");
            }
        }
        let mut n = 0;
        for one in MEMBERS {
            for two in MEMBERS {
                n += 1;
                let count = redis.try_call(&[
                    b"METER.KPI",
                    b"m",
                    b"FROM",
                    b"20220809",
                    b"TO",
                    b"20220809",
                    b"BY",
                    b"TOTAL",
                    b"PATH",
                    b"2",
                    one,
                    two,
                ]);
                let total = Value::Array(vec![Value::BulkString(b"total".into()), Value::Int(n)]);
                assert_eq!(count, Ok(Value::Array(vec![total])), "{one:?} {two:?}");
            }
        }
        // A deeper path whose members, put together, look like one of these.
        hit(&mut redis, &[b"PATH", b"3", b"a", b"b", b"deep", b"BY", b"1000"]).expect("a hit");
        let below: &[&[u8]] = &[b"METER.TOP", b"m", b"DAY", b"20220809", b"COUNT", b"99", b"PATH", b"1", b"a:b"];
        let below: Vec<(Vec<u8>, i64)> =
            redis::from_redis_value(redis.try_call(below).expect("members")).expect("members and counts");
        assert_eq!(below.len(), MEMBERS.len());
        // Index, hash, first level, one set for each first member, and that of the deeper path.
        assert_eq!(redis.int("DBSIZE"), 4 + i64::try_from(MEMBERS.len()).expect("small"));
        // All of them are found again.
        assert_eq!(redis.int("METER.DROP m"), 1);
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn counts_beyond_2_53_are_refused_not_rounded() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let most = 1i64 << 53;
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} PATH 2 a b BY {most}")), [most, most, most]);
        let before = redis.contents();
        assert_eq!(
            redis.error(&format!("METER.HIT m AT {AT} PATH 2 a b")),
            "ERR the count of path member 'a' would pass 9007199254740992"
        );
        assert_eq!(
            redis.error(&format!("METER.HIT m AT {AT} PATH 1 c BY {}", most + 1)),
            "ERR the count of path member 'c' would pass 9007199254740992"
        );
        assert_eq!(redis.contents(), before);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} PATH 2 a b BY -1")), [most - 1, most - 1, -1]);
        assert_eq!(redis.counts("METER.TOP m DAY 20220809"), [("a".to_owned(), most - 1)]);
        // Without a path there is more room.
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY {most}"))[2], most);
    });
}

#[test]
fn scores_that_are_no_counts_are_refused_and_left_alone() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for score in ["1.5", "-1", "inf", "-inf", "9007199254740994", "1e300"] {
            redis.run("FLUSHALL");
            redis.run(&format!("METER.HIT m AT {AT} PATH 1 a"));
            redis.run(&format!("ZADD m:day:20220809:path {score} a"));
            let before = redis.contents();
            for command in [
                format!("METER.HIT m AT {AT} PATH 1 a"),
                "METER.TOP m DAY 20220809".to_owned(),
                "METER.KPI m FROM 20220809 TO 20220809 PATH 1 a".to_owned(),
            ] {
                assert_eq!(
                    redis.error(&command),
                    "ERR the score of path member 'a' is no count (a whole number from 0 to 9007199254740992); correct it by ZADD",
                    "{score} {command}"
                );
            }
            assert_eq!(redis.contents(), before);
        }
    });
}

#[test]
fn keys_of_another_type_are_refused_before_anything_is_written() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("SET m:day:20220809:path:a x");
        redis.run("SADD m:day:20220809:unique x");
        redis.run(&format!("SET m:day:{}:once x", date(now_ms())));
        redis.run("SET m:month:202208 x");
        let before = redis.contents();
        for options in ["PATH 2 a b", "UNIQUE u", "CAP MONTH 5", "PATH 1 b UNIQUE u", "PATH 2 c d UNIQUE u"] {
            let error = redis.error(&format!("METER.HIT m AT {AT} {options}"));
            assert!(error.starts_with("WRONGTYPE "), "{options}: {error}");
        }
        let error = redis.error(&format!("METER.HIT m AT {} PATH 1 a UNIQUE u ONCE e", now_ms()));
        assert!(error.starts_with("WRONGTYPE "), "{error}");
        assert_eq!(redis.contents(), before);
        // Nor is one deleted with the last count of its day.
        redis.run("HSET m:day:20220809 day 1 14 1");
        redis.run("DEL m:day:20220809:path:a");
        let before = redis.contents();
        let error = redis.error(&format!("METER.HIT m AT {AT} BY -1"));
        assert!(error.starts_with("WRONGTYPE "), "{error}");
        assert_eq!(redis.contents(), before);
        // A string that is no HyperLogLog, with another path to write and an event to remember.
        redis.run(&format!("SET m:day:{}:unique HYLLorNot", date(now_ms())));
        redis.run(&format!("DEL m:day:{}:once", date(now_ms())));
        let before = redis.contents();
        assert_eq!(
            redis.error(&format!("METER.HIT m AT {} PATH 1 a UNIQUE u ONCE e", now_ms())),
            format!(
                "ERR key 'm:day:{}:unique' holds a string that is no HyperLogLog: DEL it, or use another meter",
                date(now_ms())
            )
        );
        assert_eq!(redis.contents(), before);
    });
}

#[test]
fn a_path_has_at_most_a_megabyte() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let half = vec![b'x'; 1 << 19];
        let longer = [&half[..], b"x"].concat();
        assert!(hit(&mut redis, &[b"PATH", b"2", &half, &half]).is_ok());
        let before = redis.int("DBSIZE");
        assert_eq!(
            hit(&mut redis, &[b"PATH", b"2", &half, &longer]).expect_err("a refusal"),
            "ERR the members of PATH have more than 1048576 bytes together: use shorter names"
        );
        assert_eq!(redis.int("DBSIZE"), before);
    });
}

#[test]
fn corrections_apply_along_the_path_and_zero_counts_are_removed() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} PATH 2 a b BY 3"));
        redis.run(&format!("METER.HIT m AT {AT} PATH 2 a c"));
        let before = redis.contents();
        for (correction, error) in [
            ("PATH 2 a b BY -4", "BY would correct more than was counted of path member 'b'"),
            ("PATH 2 a d BY -1", "BY would correct more than was counted of path member 'd'"),
            ("PATH 1 b BY -1", "BY would correct more than was counted of path member 'b'"),
            // Its children would be counted nowhere, and not be found.
            (
                "PATH 1 a BY -4",
                "path member 'a' would reach zero while members below it have counts; correct those first",
            ),
        ] {
            assert_eq!(redis.error(&format!("METER.HIT m AT {AT} {correction}")), format!("ERR {error}"));
            assert_eq!(redis.contents(), before, "{correction}");
        }
        redis.run(&format!("METER.HIT m AT {AT} PATH 2 a b BY -3"));
        assert_eq!(redis.strings("ZRANGE m:day:20220809:path:a 0 -1 WITHSCORES"), ["c", "1"]);
        redis.run(&format!("METER.HIT m AT {AT} PATH 2 a c BY -1"));
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn a_day_is_stored_as_long_as_it_has_a_count() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} PATH 1 a UNIQUE u"));
        // A correction that does not say what it corrects leaves the breakdown.
        redis.run(&format!("METER.HIT m AT {AT} BY -1"));
        assert_eq!(redis.counts("METER.DAYS m"), [("20220809".to_owned(), 0)]);
        assert_eq!(redis.run("METER.KPI m DAY 20220809"), Value::Array(vec![]));
        assert_eq!(redis.counts("METER.KPI m FROM 20220809 TO 20220809 BY TOTAL"), []);
        assert_eq!(redis.counts("METER.TOP m DAY 20220809"), [("a".to_owned(), 1)]);
        assert_eq!(redis.int("METER.DROP m"), 1);
        assert_eq!(redis.int("DBSIZE"), 0);
        // One that does takes all of the day.
        redis.run(&format!("METER.HIT m AT {AT} PATH 1 a UNIQUE u"));
        redis.run(&format!("METER.HIT m AT {AT} BY -1 PATH 1 a UNIQUE v"));
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn a_correction_does_not_count_an_id() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} BY 5 UNIQUE u"));
        redis.run(&format!("METER.HIT m AT {AT} BY -1 UNIQUE v"));
        assert_eq!(redis.strings("METER.KPI m DAY 20220809"), ["day", "4", "14", "4", "unique", "1"]);
        assert_eq!(redis.int("PFCOUNT m:day:20220809:unique"), 1);
    });
}

#[test]
fn reading_unique_ids_writes_nothing() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for id in 0..100 {
            redis.run(&format!("METER.HIT m AT {AT} UNIQUE {id}"));
        }
        let before = redis.contents();
        let counted = redis.counts("METER.KPI m FROM 20220809 TO 20220809 BY TOTAL");
        assert_eq!((counted[0].1, counted[1].0.as_str()), (100, "unique"));
        assert!((97..=103).contains(&counted[1].1), "{counted:?}");
        redis.run("METER.KPI m DAY 20220809");
        // PFCOUNT of one key would have changed its bytes.
        assert_eq!(redis.contents(), before);
    });
}

#[test]
fn rankings_are_in_the_order_of_zrevrange_and_exact_over_spans() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut sums = std::collections::BTreeMap::new();
        for n in 0..300i64 {
            let (day, member, by) = (n % 3, n * n % 37, n % 5 + 1);
            redis.run(&format!("METER.HIT m AT {} PATH 2 all {member} BY {by}", AT + day * DAY_MS));
            *sums.entry(member.to_string()).or_insert(0) += by;
        }
        for day in ["20220809", "20220810", "20220811"] {
            let by_core = redis.strings(&format!("ZREVRANGE m:day:{day}:path:all 0 -1 WITHSCORES"));
            let ranked = redis.counts(&format!("METER.TOP m DAY {day} PATH 1 all COUNT 1000"));
            let ranked: Vec<String> =
                ranked.into_iter().flat_map(|(member, count)| [member, count.to_string()]).collect();
            assert_eq!(ranked, by_core, "{day}");
        }
        let mut expected: Vec<(String, i64)> = sums.into_iter().collect();
        expected.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
        for n in [1, 5, 10, 36, 1_000] {
            let ranked = redis.counts(&format!("METER.TOP m FROM 20220101 TO 20221231 PATH 1 all COUNT {n}"));
            assert_eq!(ranked, expected[..n.min(expected.len())], "COUNT {n}");
        }
        assert_eq!(redis.counts("METER.TOP m FROM 20220101 TO 20221231 PATH 1 none"), []);
        assert_eq!(redis.counts("METER.TOP m FROM 20220101 TO 20221231 PATH 8 1 2 3 4 5 6 7 8"), []);
    });
}

#[test]
fn ten_are_ranked_unless_count_says_otherwise() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for member in 0..30 {
            redis.run(&format!("METER.HIT m AT {AT} PATH 1 {member} BY {}", member + 1));
            redis.run(&format!("METER.HIT m PATH 1 {member}"));
        }
        assert_eq!(redis.counts("METER.TOP m DAY 20220809").len(), 10);
        assert_eq!(redis.counts("METER.TOP m").len(), 10);
        assert_eq!(redis.counts("METER.TOP m DAY 20220809 COUNT 30").len(), 30);
        assert_eq!(redis.counts("METER.TOP m FROM 20220101 TO 20221231").len(), 10);
    });
}
