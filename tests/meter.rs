//! METER.HIT and METER.KPI: where hits are counted, and the replies.

use testkit::{Client, Server, Value, date, now_ms, on_every_program, on_every_server};

const DAY_MS: i64 = 86_400_000;
/// 2022-08-09 14:11:17 UTC.
const AT: i64 = 1_660_054_277_326;

fn kpi(redis: &mut Client, arguments: &str) -> Vec<(String, i64)> {
    redis.counts(&format!("METER.KPI {arguments}"))
}

fn bars<const N: usize>(bars: [(&str, i64); N]) -> Vec<(String, i64)> {
    bars.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn a_hit_writes_what_session_counters_write() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.ints("METER.HIT kpi:sessions:app:local:node:0 AT 1660054277326"), [1, 1, 1]);
        let day = "kpi:sessions:app:local:node:0:day:20220809";
        assert_eq!(redis.strings(&format!("HGETALL {day}")), ["day", "1", "14", "1"]);
        assert_eq!(redis.strings("ZRANGE kpi:sessions:app:local:node:0 0 -1 WITHSCORES"), ["20220809", "20220809"]);
        assert_eq!(redis.int("DBSIZE"), 2);
        assert_eq!(redis.int(&format!("TTL {day}")), -1);
    });
}

#[test]
fn hits_of_a_session_counter_and_of_the_module_add_up() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let service = |redis: &mut Client| {
            redis.run("MULTI");
            redis.run("HINCRBY m:day:20220809 day 1");
            redis.run("HINCRBY m:day:20220809 14 1");
            redis.run("EXEC");
        };
        service(&mut redis);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT}")), [2, 2, 1]);
        service(&mut redis);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY 5")), [8, 8, 5]);
        assert_eq!(redis.strings("HGETALL m:day:20220809"), ["day", "8", "14", "8"]);
        // The next hour that opens brings the day into the index.
        assert_eq!(redis.ints(&format!("METER.HIT m AT {}", AT + 3_600_000)), [9, 1, 1]);
        assert_eq!(redis.strings("ZRANGE m 0 -1"), ["20220809"]);
    });
}

#[test]
fn a_day_is_the_sum_of_its_hours() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let midnight = AT - AT % DAY_MS;
        for hour in 0..24 {
            let at = midnight + hour * 3_600_000;
            redis.run(&format!("METER.HIT m AT {at} BY {}", hour + 1));
            redis.run(&format!("METER.HIT m AT {}", at + 3_599_999));
        }
        let counted = kpi(&mut redis, "m DAY 20220809");
        assert_eq!(counted[0], ("day".to_owned(), 300 + 24));
        let hours: Vec<_> = (0..24).map(|hour| (hour.to_string(), hour + 2)).collect();
        assert_eq!(counted[1..], hours);
        // The first and the last millisecond belong to this day, the next one to the next.
        assert_eq!(redis.ints(&format!("METER.HIT m AT {}", midnight + DAY_MS)), [1, 1, 1]);
        assert_eq!(redis.int("HEXISTS m:day:20220810 0"), 1);
    });
}

#[test]
fn without_at_the_servers_clock_counts() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let before = date(now_ms());
        redis.run("METER.HIT m");
        let today = kpi(&mut redis, "m");
        if before == date(now_ms()) {
            assert_eq!(today[0], ("day".to_owned(), 1));
            assert_eq!(redis.int(&format!("EXISTS m:day:{before}")), 1);
        }
    });
}

#[test]
fn late_hits_count_in_their_own_day() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for at in ["1700000000000", "100000000000", "1660054277326"] {
            redis.run(&format!("METER.HIT m AT {at}"));
        }
        assert_eq!(redis.strings("ZRANGE m 0 -1"), ["19730303", "20220809", "20231114"]);
    });
}

#[test]
fn by_0_is_a_dry_run() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY 0")), [0, 0, 0]);
        assert_eq!(redis.int("DBSIZE"), 0);
        redis.run(&format!("METER.HIT m AT {AT} BY 7"));
        let before = redis.contents();
        assert_eq!(redis.ints(&format!("METER.HIT m BY 0 AT {}", AT + 3_600_000)), [7, 0, 0]);
        assert_eq!(redis.contents(), before);
    });
}

#[test]
fn a_correction_subtracts_and_zero_counts_are_removed() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} BY 5"));
        redis.run(&format!("METER.HIT m AT {} BY 2", AT + 3_600_000));
        redis.run(&format!("METER.HIT m AT {} BY 1", AT + DAY_MS));
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY -4")), [3, 1, -4]);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY -1")), [2, 0, -1]);
        assert_eq!(redis.strings("HGETALL m:day:20220809"), ["day", "2", "15", "2"]);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {} BY -2", AT + 3_600_000)), [0, 0, -2]);
        assert_eq!(redis.int("EXISTS m:day:20220809"), 0);
        assert_eq!(redis.strings("ZRANGE m 0 -1"), ["20220810"]);
        redis.run(&format!("METER.HIT m AT {} BY -1", AT + DAY_MS));
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn a_count_never_goes_below_zero_nor_past_the_largest_integer_nor_half_way() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(
            redis.error(&format!("METER.HIT m AT {AT} BY -1")),
            "ERR BY would correct more than was counted in that hour or day"
        );
        assert_eq!(redis.int("DBSIZE"), 0);
        redis.run(&format!("METER.HIT m AT {AT} BY 5"));
        redis.run(&format!("METER.HIT m AT {} BY {}", AT + 3_600_000, i64::MAX - 5));
        let before = redis.contents();
        // The day has them, the hour has not; and the hour has room, the day has not.
        for hit in [format!("AT {AT} BY -6"), format!("AT {AT} BY 1"), format!("AT {AT} BY {}", i64::MAX)] {
            assert!(redis.error(&format!("METER.HIT m {hit}")).starts_with("ERR "), "{hit}");
            assert_eq!(redis.contents(), before, "{hit}");
        }
        assert_eq!(redis.error(&format!("METER.HIT m AT {AT}")), "ERR the count would pass 9223372036854775807");
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY -5")), [i64::MAX - 5, 0, -5]);
        assert!(redis.error(&format!("METER.HIT m AT {AT} BY {}", i64::MIN)).starts_with("ERR BY would correct"));
    });
}

#[test]
fn a_field_that_holds_no_count_is_refused_and_left_alone() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (field, value) in [("day", "x"), ("14", "1.5"), ("14", "-1"), ("day", "9223372036854775808"), ("14", "01")]
        {
            redis.run("DEL m:day:20220809");
            redis.run("HSET m:day:20220809 day 3 14 3");
            redis.run(&format!("HSET m:day:20220809 {field} {value}"));
            let before = redis.contents();
            let error = format!(
                "ERR field '{field}' of key 'm:day:20220809' holds no count (a whole number from 0): correct it by HSET"
            );
            assert_eq!(redis.error(&format!("METER.HIT m AT {AT}")), error);
            assert_eq!(redis.error("METER.KPI m DAY 20220809"), error);
            assert_eq!(redis.contents(), before);
        }
    });
}

#[test]
fn keys_of_another_type_are_refused_before_anything_is_written() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("SET index x");
        redis.run("RPUSH list:day:20220809 x");
        let before = redis.contents();
        for command in [
            format!("METER.HIT index AT {AT}"),
            format!("METER.HIT list AT {AT}"),
            "METER.KPI index".to_owned(),
            "METER.KPI index FROM 20220101 TO 20221231".to_owned(),
            "METER.KPI list DAY 20220809".to_owned(),
        ] {
            assert!(redis.error(&command).starts_with("WRONGTYPE Operation against a key"), "{command}");
            assert_eq!(redis.contents(), before, "{command}");
        }
    });
}

#[test]
fn keys_are_bytes() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let at = AT.to_string();
        let long = vec![b'k'; 300_000];
        for key in [&b"\0\xff%s%n\r\n"[..], b"", b"}{", &long] {
            let hit = redis.try_call(&[b"METER.HIT", key, b"AT", at.as_bytes()]);
            assert_eq!(hit, Ok(Value::Array([1, 1, 1].map(Value::Int).into())));
            let derived = [key, b":day:20220809"].concat();
            assert_eq!(redis.try_call(&[b"HGET", &derived, b"14"]), Ok(Value::BulkString(b"1".to_vec())));
            assert_eq!(redis.try_call(&[b"ZCARD", key]), Ok(Value::Int(1)));
        }
    });
}

#[test]
fn the_time_of_a_hit_is_checked() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (at, error) in [
            ("1660054277", "ERR AT 1660054277 looks like seconds: give milliseconds since the epoch"),
            ("99999999999", "ERR AT 99999999999 looks like seconds: give milliseconds since the epoch"),
            ("-1", "ERR AT -1 is before 1970: give milliseconds since the epoch"),
            ("1660054277326000", "ERR AT 1660054277326000 looks like microseconds: give milliseconds since the epoch"),
            (
                "1660054277326000000",
                "ERR AT 1660054277326000000 looks like nanoseconds: give milliseconds since the epoch",
            ),
            ("9253402300800000", "ERR AT 9253402300800000 is past the year 9999: give milliseconds since the epoch"),
            ("1660054277.5", "ERR AT must be a 64-bit integer, not '1660054277.5'"),
        ] {
            assert_eq!(redis.error(&format!("METER.HIT m AT {at}")), error);
        }
        let ahead = now_ms() + DAY_MS;
        assert!(redis.error(&format!("METER.HIT m AT {}", ahead + 5_000)).contains("max-future-ms (86400000)"));
        assert_eq!(redis.int("DBSIZE"), 0);
        redis.run(&format!("METER.HIT m AT {}", ahead - 5_000));
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of errors")]
fn errors_name_the_argument_and_the_remedy() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for (command, error) in [
            (
                "METER.HIT m BY",
                "ERR BY needs a value: [BY n] [AT unix-ms] [PATH depth member ...]... [UNIQUE id] [ONCE event-id] [CAP HOUR|DAY|MONTH limit | CAP SINCE date limit]... [WHY]",
            ),
            ("METER.HIT m BY x", "ERR BY must be a 64-bit integer, not 'x'"),
            ("METER.HIT m BY 1 BY 2", "ERR BY is given twice"),
            (
                "METER.HIT m 5",
                "ERR unknown option '5': the options are [BY n] [AT unix-ms] [PATH depth member ...]... [UNIQUE id] [ONCE event-id] [CAP HOUR|DAY|MONTH limit | CAP SINCE date limit]... [WHY]",
            ),
            ("METER.HIT m PATH 0", "ERR the depth of PATH must be an integer from 1 to 8, not '0'"),
            ("METER.HIT m PATH 9 a b c d e f g h i", "ERR the depth of PATH must be an integer from 1 to 8, not '9'"),
            ("METER.HIT m PATH 2 a", "ERR PATH 2 needs 2 members, not 1"),
            ("METER.HIT m ONCE e ONCE e AT 1", "ERR ONCE is given twice"),
            ("METER.HIT m ONCE e", "ERR ONCE needs AT, the time of the event, the same each time it is sent"),
            ("METER.HIT m CAP WEEK 5", "ERR CAP must be of an HOUR, DAY or MONTH, or SINCE a date, not 'WEEK'"),
            ("METER.HIT m CAP DAY 0", "ERR the limit of CAP DAY must be a 64-bit integer, at least 1, not '0'"),
            ("METER.KPI m DAY 2022-02-30", "ERR DAY must be a date, such as 20220809 or 2022-08-09, not '2022-02-30'"),
            ("METER.KPI m FROM 20220809 TO 20220808", "ERR FROM must not be after TO"),
            (
                "METER.KPI m FROM 20220809",
                "ERR FROM needs TO: [DAY d] or FROM d TO d [BY HOUR|DAY|WEEK|MONTH|TOTAL] [PATH depth member ...]",
            ),
            (
                "METER.KPI m TO 20220809",
                "ERR TO needs FROM: [DAY d] or FROM d TO d [BY HOUR|DAY|WEEK|MONTH|TOTAL] [PATH depth member ...]",
            ),
            (
                "METER.KPI m BY DAY",
                "ERR BY needs FROM and TO: [DAY d] or FROM d TO d [BY HOUR|DAY|WEEK|MONTH|TOTAL] [PATH depth member ...]",
            ),
            (
                "METER.KPI m PATH 1 a",
                "ERR PATH needs FROM and TO: [DAY d] or FROM d TO d [BY HOUR|DAY|WEEK|MONTH|TOTAL] [PATH depth member ...]",
            ),
            (
                "METER.KPI m FROM 20220809 TO 20220809 BY HOUR PATH 1 a",
                "ERR PATH has no hours: use BY DAY, WEEK, MONTH or TOTAL",
            ),
            ("METER.KPI m BY YEAR", "ERR BY must be HOUR, DAY, WEEK, MONTH or TOTAL, not 'YEAR'"),
            (
                "METER.KPI m DAY 20220809 FROM 20220809 TO 20220809",
                "ERR DAY stands alone: [DAY d] or FROM d TO d [BY HOUR|DAY|WEEK|MONTH|TOTAL] [PATH depth member ...]",
            ),
            ("METER.TOP m COUNT 0", "ERR COUNT must be a 64-bit integer, at least 1, not '0'"),
            (
                "METER.TOP m LIMIT 5",
                "ERR unknown option 'LIMIT': the options are [DAY d] or [FROM d TO d], [PATH depth member ...], [COUNT n]",
            ),
            (
                "METER.COST m DAY 20220809 RATE -1",
                "ERR a price must be a decimal number from 0, such as 3 or 0.02, not '-1'",
            ),
            (
                "METER.COST m DAY 20220809 RATE 1e3",
                "ERR a price must be a decimal number from 0, such as 3 or 0.02, not '1e3'",
            ),
            (
                "METER.COST m DAY 20220809 RATE 0.0000000000000000001",
                "ERR a price must be of at most 18 digits after the point, not '0.0000000000000000001'",
            ),
            ("METER.COST m DAY 20220809 DAY 20220809", "ERR DAY is given twice"),
            (
                "METER.COST m FROM 20220809 TO 20220809",
                "ERR give the price: DAY d or FROM d TO d, and RATE price, GRADUATED upto price ... inf price, or VOLUME upto price ... inf price",
            ),
            ("METER.COST m RATE 0.02 RATE 0.02", "ERR the tariff (RATE, GRADUATED or VOLUME) is given twice"),
            (
                "METER.COST m GRADUATED inf 1 x",
                "ERR unknown option 'x': the options are DAY d or FROM d TO d, and RATE price, GRADUATED upto price ... inf price, or VOLUME upto price ... inf price",
            ),
            (
                "METER.COST m VOLUME inf 1.5 FROM 20220809",
                "ERR FROM needs TO: DAY d or FROM d TO d, and RATE price, GRADUATED upto price ... inf price, or VOLUME upto price ... inf price",
            ),
            (
                "METER.COST m GRADUATED inf 0.02 RATE",
                "ERR RATE needs a value: DAY d or FROM d TO d, and RATE price, GRADUATED upto price ... inf price, or VOLUME upto price ... inf price",
            ),
            ("METER.COST m VOLUME 10 1 5 1 inf 1", "ERR the tiers of VOLUME must ascend: 5 comes too late"),
            (
                "METER.COST m DAY 20220809 GRADUATED 10 1",
                "ERR the last tier of GRADUATED must have no end: GRADUATED upto price ... inf price",
            ),
            (
                "METER.COST m GRADUATED 0 1 inf 1",
                "ERR each upto of GRADUATED but the last, inf, must be a 64-bit integer, at least 1, not '0'",
            ),
            ("METER.SEAL m AFTER 20220809", "ERR unknown option 'AFTER': the options are [BEFORE d]"),
            (
                "METER.DROP m BEFORE yesterday",
                "ERR BEFORE must be a date, such as 20220809 or 2022-08-09, not 'yesterday'",
            ),
            ("METER.ACK m 1234", "ERR no batch is open: it was acknowledged before, or none was sealed"),
            ("METER.INDEX m FROM 00010101 TO 99991231", "ERR FROM and TO must be at most 36525 days apart"),
            ("METER.INDEX m DAY 20220809 DAY 20220809", "ERR DAY is given twice"),
        ] {
            assert_eq!(redis.error(command), error);
        }
        let members = redis.try_call(&[b"METER.HIT", b"m", b"PATH", b"2", b"a", b""]).expect_err("a refusal");
        assert_eq!(members, "ERR member 2 of PATH is empty: give it a name");
        let arity = redis.error("METER.HIT");
        assert_eq!(arity.to_lowercase(), "err wrong number of arguments for 'meter.hit' command");
        assert_eq!(redis.int("DBSIZE"), 0);
    });
}

#[test]
fn a_day_is_returned_as_its_hash_has_it() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.run("METER.KPI m DAY 20220809"), Value::Array(vec![]));
        redis.run("HSET m:day:20220809 23 1 3 2 day 6 12 3 0 0 note hello 24 9 007 1");
        let expected = bars([("day", 6), ("3", 2), ("12", 3), ("23", 1)]);
        assert_eq!(kpi(&mut redis, "m DAY 20220809"), expected);
        assert_eq!(kpi(&mut redis, "m day 2022-08-09"), expected);
        // The same from a hash with too many other fields to read them all.
        for field in 0..200 {
            redis.run(&format!("HSET m:day:20220809 other{field} x"));
        }
        assert_eq!(kpi(&mut redis, "m DAY 20220809"), expected);
        // A map in RESP3.
        if server.program.is_7_or_later() {
            let map = server.connect_resp3().run("METER.KPI m DAY 20220809");
            assert!(
                matches!(&map, Value::Map(pairs) if pairs[0] == (Value::BulkString(b"day".into()), Value::Int(6))),
                "{map:?}"
            );
        }
    });
}

#[test]
fn a_span_is_returned_by_hour_day_month_or_in_total() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let day = |date: &str| {
            let day = chrono::NaiveDate::parse_from_str(date, "%Y%m%d").expect("a date");
            day.and_hms_opt(0, 0, 0).expect("midnight").and_utc().timestamp_millis()
        };
        for (date, hour, n) in
            [("20211231", 23, 1), ("20220101", 0, 2), ("20220101", 9, 3), ("20220131", 5, 4), ("20220301", 7, 5)]
        {
            redis.run(&format!("METER.HIT m AT {} BY {n}", day(date) + hour * 3_600_000));
        }
        let span = "m FROM 2022-01-01 TO 20220301";
        assert_eq!(kpi(&mut redis, span), bars([("20220101", 5), ("20220131", 4), ("20220301", 5)]));
        assert_eq!(kpi(&mut redis, &format!("{span} BY day")), kpi(&mut redis, span));
        assert_eq!(
            kpi(&mut redis, &format!("{span} BY HOUR")),
            bars([("2022010100", 2), ("2022010109", 3), ("2022013105", 4), ("2022030107", 5)])
        );
        assert_eq!(kpi(&mut redis, &format!("{span} BY MONTH")), bars([("202201", 9), ("202203", 5)]));
        assert_eq!(
            kpi(&mut redis, &format!("BY TOTAL {span}").replace("BY TOTAL m", "m BY TOTAL")),
            bars([("total", 14)])
        );
        assert_eq!(kpi(&mut redis, "m FROM 20210101 TO 20221231 BY MONTH").len(), 3);
        assert_eq!(kpi(&mut redis, "m FROM 20220102 TO 20220130 BY TOTAL"), []);
        assert_eq!(kpi(&mut redis, "none FROM 00010101 TO 99991231"), []);
        // An entry whose day was deleted is skipped.
        redis.run("DEL m:day:20220131");
        assert_eq!(kpi(&mut redis, span), bars([("20220101", 5), ("20220301", 5)]));
    });
}

#[test]
fn the_time_of_a_span_depends_on_its_stored_days_not_on_its_length() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for day in 0..5 {
            redis.run(&format!("METER.HIT m AT {} PATH 1 a UNIQUE u", AT + day * 200 * DAY_MS));
        }
        let lookups = |redis: &mut Client| {
            let number = |text: Option<String>| text.expect("a field").parse::<i64>().expect("a number");
            number(redis.info_field("stats", "keyspace_hits")) + number(redis.info_field("stats", "keyspace_misses"))
        };
        let before = lookups(&mut redis);
        for by in ["HOUR", "DAY", "WEEK", "MONTH", "TOTAL"] {
            redis.run(&format!("METER.KPI m FROM 00010101 TO 99991231 BY {by}"));
        }
        redis.run("METER.KPI m FROM 00010101 TO 99991231 PATH 1 a");
        redis.run("METER.TOP m FROM 00010101 TO 99991231");
        redis.run("METER.COST m FROM 00010101 TO 99991231 RATE 1");
        redis.run("METER.DAYS m");
        let lookups = lookups(&mut redis) - before;
        // Each span also reads the counts of sealed days, of the about fifteen months for which they are kept.
        assert!(lookups < 150, "{lookups} lookups for five days");
    });
}

#[test]
fn a_span_that_adds_up_to_too_much_is_refused() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for at in [AT, AT + DAY_MS] {
            redis.run(&format!("METER.HIT m AT {at} BY {}", i64::MAX));
        }
        let error = redis.error("METER.KPI m FROM 20220801 TO 20220831 BY TOTAL");
        assert_eq!(error, "ERR bucket total adds up to more than 9223372036854775807: ask for a shorter span");
        assert_eq!(kpi(&mut redis, "m FROM 20220801 TO 20220831").len(), 2);
    });
}

#[test]
fn a_sorted_set_that_is_no_index_is_refused() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("ZADD board 20220809 alice 20220810 20220810");
        let error = "ERR key 'board' holds a sorted set with the member 'alice', which is no date: it is no meter, use another key";
        assert_eq!(redis.error("METER.KPI board FROM 20220801 TO 20220831"), error);
    });
}

#[test]
fn retention_gives_each_day_its_expiry_and_the_index_the_last_of_them() {
    on_every_program(|program| {
        let server = Server::with_module(program, "retention-days 30", &[]);
        let mut redis = server.connect();
        let now = now_ms();
        let (today, earlier) = (now, now - 10 * DAY_MS);
        let end_of = |at: i64| at - at % DAY_MS + DAY_MS + 30 * DAY_MS;
        let expiry = |redis: &mut Client, key: &str| now_ms() + redis.int(&format!("PTTL {key}"));
        let close = |a: i64, b: i64| (a - b).abs() < 2_000;

        redis.run(&format!("METER.HIT m AT {earlier}"));
        let day = format!("m:day:{}", date(earlier));
        assert!(close(expiry(&mut redis, &day), end_of(earlier)));
        assert!(close(expiry(&mut redis, "m"), end_of(earlier)));
        redis.run(&format!("METER.HIT m AT {today}"));
        assert!(close(expiry(&mut redis, "m"), end_of(today)));
        redis.run(&format!("METER.HIT m AT {earlier}"));
        assert!(close(expiry(&mut redis, "m"), end_of(today)), "the index expires with the last of its days");

        let past = now - 32 * DAY_MS;
        let error = redis.error(&format!("METER.HIT m AT {past}"));
        assert_eq!(error, format!("ERR day {} is past retention-days (30): it is kept no longer", date(past)));
        assert_eq!(redis.int("ZCARD m"), 2);
    });
}

#[test]
fn entries_of_days_that_have_expired_are_cleared_away() {
    on_every_program(|program| {
        let server = Server::with_module(program, "retention-days 30", &[]);
        let mut redis = server.connect();
        redis.run("ZADD m 20200101 20200101 20200102 20200102 20200103 20200103");
        redis.run("HSET m:day:20200102 day 1 0 1");
        redis.run("METER.HIT m");
        let today = date(now_ms());
        assert_eq!(redis.strings("ZRANGE m 0 -1"), ["20200102", &today], "the day that is still there stays");
        assert_eq!(redis.int("TTL m"), -1, "no sooner than the last of its days, one of which does not expire");
    });
}

#[test]
fn retention_set_back_to_0_keeps_days_opened_afterwards() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // no CONFIG SET for modules
        }
        let server = Server::with_module(program, "retention-days 30", &[]);
        let mut redis = server.connect();
        let yesterday = now_ms() - DAY_MS;
        redis.run(&format!("METER.HIT m AT {yesterday}"));
        redis.run("CONFIG SET meter.retention-days 0");
        redis.run("METER.HIT m");
        assert!(redis.int(&format!("TTL m:day:{}", date(yesterday))) > 0);
        assert_eq!(redis.int(&format!("TTL m:day:{}", date(now_ms()))), -1);
        assert_eq!(redis.int("TTL m"), -1, "an index outlives its days");
        // A day opened without retention gets its expiry at the next hit with it.
        redis.run("CONFIG SET meter.retention-days 5");
        redis.run("METER.HIT m");
        assert!(redis.int(&format!("TTL m:day:{}", date(now_ms()))) > 0);
    });
}
