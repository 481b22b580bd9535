//! Days that are sealed into a batch, acknowledged, dropped, expired, or found again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use testkit::{Client, Server, Value, date, eventually, now_ms, on_every_program, on_every_server};

const DAY_MS: i64 = 86_400_000;
/// 2022-08-09 14:11:17 UTC.
const AT: i64 = 1_660_054_277_326;

fn counts<const N: usize>(counts: [(&str, i64); N]) -> Vec<(String, i64)> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

fn opened(redis: &mut Client, line: &str) -> (String, Vec<String>) {
    let (id, keys) = redis.seal(line);
    (id.expect("a batch"), keys)
}

/// Of all sealed days only their counts in months are left.
#[track_caller]
fn assert_only_months_are_left(redis: &mut Client) {
    let mut keys = redis.strings("KEYS *");
    keys.sort();
    assert_eq!(keys, ["m:month:202208".to_owned(), format!("m:month:{}", &date(now_ms())[..6])]);
}

#[test]
fn the_same_batch_is_returned_until_it_is_acknowledged() {
    on_every_server(|server| {
        let mut redis = server.connect();
        assert_eq!(redis.seal("METER.SEAL m"), (None, vec![]));
        redis.run(&format!("METER.HIT m AT {AT} BY 5 PATH 1 a UNIQUE u"));
        let batch = opened(&mut redis, "METER.SEAL m");
        assert_eq!((batch.0.len(), batch.1.len()), (32, 3));
        assert!(batch.0.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", batch.0);
        let before = redis.contents();
        for line in ["METER.SEAL m", "METER.SEAL m BEFORE 99991231", "METER.SEAL m BEFORE 00010101"] {
            assert_eq!(opened(&mut redis, line), batch);
            assert_eq!(redis.contents(), before);
        }
        // A late hit into the sealed day opens it afresh, for the next batch.
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY 2")), [2, 2, 2]);
        assert_eq!(opened(&mut redis, "METER.SEAL m"), batch);
        assert_eq!(redis.strings(&format!("HGETALL {}", batch.1[0])), ["day", "5", "14", "5"]);
        assert_eq!(redis.int(&format!("METER.ACK m {}", batch.0)), 3);
        let next = opened(&mut redis, "METER.SEAL m");
        assert_ne!(next.0, batch.0);
        assert_eq!(redis.strings(&format!("HGETALL {}", next.1[0])), ["day", "2", "14", "2"]);
        assert_eq!(redis.int(&format!("METER.ACK m {}", next.0)), 1);
        assert_eq!(redis.seal("METER.SEAL m"), (None, vec![]));
        assert_only_months_are_left(&mut redis);
        assert_eq!(redis.string("HGET m:month:202208 20220809").as_deref(), Some("7"));
    });
}

#[test]
fn an_old_or_foreign_batch_is_not_acknowledged() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for meter in ["m", "other"] {
            redis.run(&format!("METER.HIT {meter} AT {AT}"));
        }
        let (old, _) = opened(&mut redis, "METER.SEAL m");
        redis.run(&format!("METER.ACK m {old}"));
        redis.run(&format!("METER.HIT m AT {AT}"));
        let (open, _) = opened(&mut redis, "METER.SEAL m");
        let (foreign, _) = opened(&mut redis, "METER.SEAL other");
        let before = redis.contents();
        for id in [&old, &foreign, &open.to_uppercase(), &open[..31].to_owned(), &"%s%n".to_owned()] {
            let error = redis.error(&format!("METER.ACK m {id}"));
            assert_eq!(
                error,
                format!(
                    "ERR batch '{id}' is not the open one: it was acknowledged before, or is another key's; \
                     METER.SEAL returns the open one"
                )
            );
            assert_eq!(redis.contents(), before);
        }
        assert_eq!(redis.int(&format!("METER.ACK m {open}")), 1);
        assert!(redis.error(&format!("METER.ACK m {open}")).starts_with("ERR no batch is open"));
    });
}

#[test]
fn whole_days_before_the_date_are_sealed_and_no_others() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let midnight = now_ms() / DAY_MS * DAY_MS;
        let at = [midnight - 2 * DAY_MS, midnight - 1, midnight];
        for at in at {
            redis.run(&format!("METER.HIT m AT {at}"));
        }
        let [two_ago, yesterday, today] = at.map(date);
        let (id, keys) = opened(&mut redis, &format!("METER.SEAL m BEFORE {yesterday}"));
        assert_eq!(keys, [format!("m:sealed:{id}:day:{two_ago}")]);
        redis.run(&format!("METER.ACK m {id}"));
        assert_eq!(redis.seal(&format!("METER.SEAL m BEFORE {yesterday}")), (None, vec![]));
        let (id, keys) = opened(&mut redis, "METER.SEAL m");
        assert_eq!(keys, [format!("m:sealed:{id}:day:{yesterday}")]);
        redis.run(&format!("METER.ACK m {id}"));
        assert_eq!(redis.counts("METER.DAYS m"), counts([(&today, 1)]));
    });
}

#[test]
fn a_batch_has_about_as_many_keys_as_the_config_says_and_days_stay_whole() {
    on_every_program(|program| {
        let server = Server::with_module(program, "seal-max-keys 6", &[]);
        let mut redis = server.connect();
        let hit = |redis: &mut Client, day: i64, members: i64| {
            for member in 0..members {
                redis.run(&format!("METER.HIT m AT {} PATH 2 {member} x", AT + day * DAY_MS));
            }
        };
        // 3, 3, 3, 12 and 3 keys.
        for (day, members) in [(0, 1), (1, 1), (2, 1), (3, 10), (4, 1)] {
            hit(&mut redis, day, members);
        }
        let mut sizes = Vec::new();
        while let (Some(id), keys) = redis.seal("METER.SEAL m") {
            sizes.push(keys.len());
            assert_eq!(redis.int(&format!("METER.ACK m {id}")), i64::try_from(keys.len()).expect("small"));
        }
        assert_eq!(sizes, [6, 3, 12, 3]);
    });
}

#[test]
fn sealing_while_hits_arrive_neither_loses_nor_doubles_one() {
    on_every_server(|server| {
        let stop = AtomicBool::new(false);
        let server = &*server;
        let (sent, read) = thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let stop = &stop;
                    scope.spawn(move || {
                        let mut redis = server.connect();
                        let mut sent = 0;
                        while !stop.load(Ordering::Relaxed) {
                            let at = AT + (sent % 3) * DAY_MS;
                            redis.run(&format!("METER.HIT m AT {at} PATH 2 {writer} {}", sent % 10));
                            sent += 1;
                        }
                        sent
                    })
                })
                .collect();
            let mut redis = server.connect();
            let (mut read, mut batches) = (0, 0);
            let mut take = |redis: &mut Client| {
                let (Some(id), keys) = redis.seal("METER.SEAL m") else { return false };
                let (mut days, mut members, mut below) = (0, 0, 0);
                for key in keys {
                    let rest = key.split(':').skip(5).count();
                    if rest == 0 {
                        days +=
                            redis.string(&format!("HGET {key} day")).expect("a total").parse::<i64>().expect("a count");
                        continue;
                    }
                    let scores = redis.strings(&format!("ZRANGE {key} 0 -1 WITHSCORES"));
                    let sum: i64 = scores.chunks(2).map(|pair| pair[1].parse::<i64>().expect("a count")).sum();
                    *(if rest == 1 { &mut members } else { &mut below }) += sum;
                }
                assert_eq!((members, below), (days, days), "all levels are of the same hits");
                redis.run(&format!("METER.ACK m {id}"));
                read += days;
                true
            };
            while batches < 40 {
                batches += i32::from(take(&mut redis));
            }
            stop.store(true, Ordering::Relaxed);
            let sent: i64 = writers.into_iter().map(|writer| writer.join().expect("a writer")).sum();
            while take(&mut redis) {}
            (sent, read)
        });
        assert_eq!(sent, read);
        assert_only_months_are_left(&mut server.connect());
    });
}

#[test]
fn sealed_data_never_expires_and_expired_data_was_not_sealed() {
    on_every_program(|program| {
        let server = Server::with_module(program, "retention-days 2", &[]);
        let mut redis = server.connect();
        let yesterday = now_ms() - DAY_MS;
        let month = format!("m:month:{}", &date(yesterday)[..6]);
        redis.run(&format!("METER.HIT m AT {yesterday} PATH 2 a b UNIQUE u ONCE e"));
        let day = date(yesterday);
        let end = yesterday / DAY_MS * DAY_MS + DAY_MS;
        // All keys of the day expire at its end plus the retention, except for the ids of events.
        for key in ["", ":path", ":path:a", ":unique"] {
            let left = redis.int(&format!("PTTL m:day:{day}{key}"));
            assert!((now_ms() + left - (end + 2 * DAY_MS)).abs() < 1_000, "{key}: {left}");
        }
        let left = redis.int(&format!("PTTL m:day:{day}:once"));
        assert!((now_ms() + left - (end + 7 * DAY_MS)).abs() < 1_000, "{left}");
        let (_, keys) = opened(&mut redis, "METER.SEAL m");
        assert_eq!(keys.len(), 4);
        for key in keys.iter().map(String::as_str).chain(["m:batch"]) {
            assert_eq!(redis.int(&format!("PTTL {key}")), -1, "{key}");
        }
        assert!(redis.int(&format!("PTTL {month}")) > 0);
        // The ids of events are still stored.
        assert_eq!(redis.ints(&format!("METER.HIT m AT {yesterday} ONCE e")), [0, 0, 0]);
    });
}

#[test]
fn retention_that_changes_takes_all_of_a_day_with_it() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // there it can only be set at load
        }
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        let at = now_ms();
        let day = date(at);
        for user in ["b", "c"] {
            redis.run(&format!("METER.HIT m AT {at} PATH 3 a {user} d UNIQUE u"));
        }
        let keys =
            ["", ":path", ":path:a", ":path:a:b", ":path:a:c", ":unique"].map(|rest| format!("m:day:{day}{rest}"));
        for (days, rest) in [(5, "PATH 1 x"), (30, ""), (3, "UNIQUE v")] {
            redis.run(&format!("CONFIG SET meter.retention-days {days}"));
            redis.run(&format!("METER.HIT m AT {at} {rest}"));
            let expiries: Vec<i64> = keys.iter().map(|key| redis.int(&format!("TTL {key}")) / 86_400).collect();
            assert!(expiries.iter().all(|&left| left == days), "{days}: {expiries:?}");
        }
        // Off again: with the day's next hit nothing of it expires.
        redis.run("CONFIG SET meter.retention-days 0");
        redis.run(&format!("METER.HIT m AT {at} PATH 2 new y"));
        for key in keys.iter().chain([&format!("m:day:{day}:path:new"), &"m".to_owned()]) {
            assert_eq!(redis.int(&format!("TTL {key}")), -1, "{key}");
        }
    });
}

#[test]
fn days_that_expire_are_passed_over_by_every_reader() {
    on_every_server(|server| {
        let mut redis = server.connect();
        for day in 0..3 {
            redis.run(&format!("METER.HIT m AT {} BY {} PATH 1 a UNIQUE u", AT + day * DAY_MS, day + 1));
        }
        for rest in ["", ":path", ":unique"] {
            redis.run(&format!("PEXPIRE m:day:20220810{rest} 1"));
        }
        let keys = "m:day:20220810 m:day:20220810:path m:day:20220810:unique";
        eventually("the day has expired", || redis.int(&format!("EXISTS {keys}")) == 0);
        assert_eq!(redis.counts("METER.DAYS m"), counts([("20220809", 1), ("20220811", 3)]));
        let span = "m FROM 20220101 TO 20221231";
        assert_eq!(redis.counts(&format!("METER.KPI {span}")), counts([("20220809", 1), ("20220811", 3)]));
        assert_eq!(redis.counts(&format!("METER.KPI {span} BY TOTAL")), counts([("total", 4), ("unique", 1)]));
        assert_eq!(redis.counts(&format!("METER.TOP {span}")), counts([("a", 4)]));
        assert_eq!(redis.strings(&format!("METER.COST {span} RATE 1")), ["4", "4"]);
        assert_eq!(redis.ints(&format!("METER.HIT m AT {AT} BY 2 CAP MONTH 6")), [3, 3, 2]);
        let (_, keys) = opened(&mut redis, "METER.SEAL m");
        assert_eq!(keys.len(), 6);
        // Its entry was deleted with the sealed ones.
        assert_eq!(redis.int("EXISTS m"), 0);
    });
}

#[test]
fn drop_deletes_days_and_leaves_an_open_batch_and_events() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let now = now_ms();
        redis.run(&format!("METER.HIT m AT {AT} PATH 2 a b UNIQUE u"));
        let (id, keys) = opened(&mut redis, "METER.SEAL m");
        for day in 0..5 {
            redis.run(&format!("METER.HIT m AT {} PATH 2 a b UNIQUE u", AT + day * DAY_MS));
        }
        redis.run(&format!("METER.HIT m AT {now} PATH 2 a b UNIQUE u ONCE e"));
        assert_eq!(redis.int("METER.DROP m BEFORE 20220809"), 0);
        assert_eq!(redis.int("METER.DROP m BEFORE 2022-08-12"), 3);
        assert_eq!(redis.counts("METER.DAYS m"), counts([("20220812", 1), ("20220813", 1), (&date(now), 1)]));
        let month = [("20220809", "2"), ("20220810", "1"), ("20220811", "1")];
        assert_eq!(redis.strings("HGETALL m:month:202208"), month.map(|(day, n)| [day, n]).concat());
        assert_eq!(redis.int("METER.DROP m"), 3);
        let mut left = redis.strings("KEYS *");
        left.sort();
        let mut expected = keys.clone();
        expected.extend(["m:batch".to_owned(), format!("m:day:{}:once", date(now))]);
        expected.sort();
        assert_eq!(left, expected);
        assert_eq!(opened(&mut redis, "METER.SEAL m"), (id.clone(), keys));
        assert_eq!(redis.int(&format!("METER.ACK m {id}")), 4);
        assert_eq!(redis.int("METER.DROP m"), 0);
        // Nor does an index stay of days that other programs deleted.
        redis.run("ZADD m 20220809 20220809");
        assert_eq!(redis.int("METER.DROP m"), 0);
        assert_eq!(redis.int("EXISTS m"), 0);
    });
}

#[test]
fn keys_of_a_breakdown_are_found_by_members_and_by_names_alike() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let fill = |redis: &mut Client| {
            redis.run(&format!("METER.HIT m AT {AT} PATH 4 a b:c d e"));
            redis.run(&format!("METER.HIT m AT {AT} PATH 4 a b d f"));
            redis.run(&format!("METER.HIT m AT {AT} PATH 2 path:a x"));
            for user in 0..500 {
                redis.run(&format!("METER.HIT m AT {AT} PATH 2 a user:{user}"));
            }
        };
        let expected =
            ["", ":path", ":path:a", ":path:a:b", ":path:a:b%3Ac", ":path:a:b%3Ac:d", ":path:a:b:d", ":path:path%3Aa"];
        // In a database with few keys all names are scanned; with many keys the members are looked up.
        for others in [0, 500] {
            redis.run("FLUSHALL");
            for other in 0..others {
                redis.run(&format!("SET other:{other} x"));
            }
            fill(&mut redis);
            // A key with the name of a breakdown's set, but below no stored member, does not belong to it.
            redis.run("ZADD m:day:20220809:path:a:stranger 1 y");
            redis.run("ZADD m:day:20220809:path:stranger:x 1 y");
            redis.run("ZADD m:day:20220809:path:a%zz 1 y");
            let (id, mut keys) = opened(&mut redis, "METER.SEAL m");
            keys.sort();
            let mut expected = expected.map(|rest| format!("m:sealed:{id}:day:20220809{rest}"));
            expected.sort();
            assert_eq!(keys, expected);
            assert_eq!(redis.int(&format!("METER.ACK m {id}")), 8);
        }
    });
}

#[test]
fn days_of_other_programs_are_indexed() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("HSET m:day:20220809 day 5 14 5");
        redis.run("HSET m:day:20220911 day 2 3 2");
        redis.run("ZADD m:day:20220910:path 3 users#show");
        redis.run("HSET m:day:20230101 day 1 0 1");
        redis.run("PEXPIREAT m:day:20220911 99999999999999");
        assert_eq!(redis.counts("METER.DAYS m"), []);
        assert_eq!(redis.int("METER.INDEX m FROM 20220809 TO 20221231"), 3);
        assert_eq!(redis.int("METER.INDEX m FROM 20220809 TO 20221231"), 0);
        assert_eq!(redis.counts("METER.DAYS m"), counts([("20220809", 5), ("20220910", 0), ("20220911", 2)]));
        assert_eq!(redis.int("TTL m"), -1);
        let (_, keys) = opened(&mut redis, "METER.SEAL m");
        assert_eq!(keys.len(), 3);
    });
}

#[test]
fn keys_that_are_no_batch_are_refused_and_unchanged() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT}"));
        for (line, code) in [
            ("SET m:batch x", "WRONGTYPE "),
            ("HSET m:batch id short", "ERR key 'm:batch' holds a hash that METER.SEAL did not write"),
            (
                "HSET m:batch id 0123456789abcdef0123456789abcdef 2 day:20220809",
                "ERR key 'm:batch' holds a hash that METER.SEAL did not write",
            ),
        ] {
            redis.run("DEL m:batch");
            redis.run(line);
            let before = redis.contents();
            for command in ["METER.SEAL m", "METER.ACK m 0123456789abcdef0123456789abcdef"] {
                let error = redis.error(command);
                assert!(error.starts_with(code), "{line} {command}: {error}");
                assert_eq!(redis.contents(), before);
            }
        }
        // Another type at a key that would have to be renamed: nothing is.
        redis.run("DEL m:batch");
        redis.run("SET m:day:20220809:path x");
        let before = redis.contents();
        for command in ["METER.SEAL m", "METER.DROP m"] {
            assert!(redis.error(command).starts_with("WRONGTYPE "));
            assert_eq!(redis.contents(), before);
        }
        redis.run("DEL m:day:20220809:path");
        redis.run("HSET m:month:202208 20220809 x");
        let before = redis.contents();
        for command in ["METER.SEAL m", "METER.DROP m BEFORE 20230101"] {
            assert!(redis.error(command).starts_with("ERR field '20220809' of key 'm:month:202208' holds no count"));
            assert_eq!(redis.contents(), before);
        }
    });
}

#[test]
fn every_change_of_the_meter_aborts_a_watch() {
    on_every_server(|server| {
        let (mut redis, mut watcher) = (server.connect(), server.connect());
        redis.run("HSET m:day:20220801 day 5 14 5");
        let mut changes = |redis: &mut Client, line: &str| {
            watcher.run("WATCH m");
            let reply = redis.run(line);
            watcher.run("MULTI");
            watcher.run("PING");
            assert_eq!(watcher.run("EXEC"), Value::Nil, "{line}");
            reply
        };
        let at = now_ms();
        changes(&mut redis, &format!("METER.HIT m AT {AT} PATH 1 a"));
        changes(&mut redis, &format!("METER.HIT m AT {AT} PATH 1 a"));
        changes(&mut redis, &format!("METER.HIT m AT {AT} UNIQUE u"));
        changes(&mut redis, &format!("METER.HIT m AT {at} ONCE e"));
        changes(&mut redis, "METER.INDEX m FROM 20220801 TO 20220802");
        let batch = changes(&mut redis, "METER.SEAL m");
        let (id, _): (String, Vec<String>) = redis::from_redis_value(batch).expect("a batch");
        changes(&mut redis, &format!("METER.ACK m {id}"));
        changes(&mut redis, &format!("METER.HIT m AT {AT}"));
        changes(&mut redis, "METER.DROP m BEFORE 20230101");
        changes(&mut redis, "METER.DROP m");
    });
}

#[test]
fn sealing_and_dropping_replicate_as_core_commands_in_one_step() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut redis = server.connect();
        redis.run(&format!("METER.HIT m AT {AT} PATH 1 a UNIQUE u"));
        let appended =
            |seen: usize| -> Vec<String> { server.appended()[seen..].iter().map(|words| words.join(" ")).collect() };
        let seen = server.appended().len();
        let (id, _) = opened(&mut redis, "METER.SEAL m");
        let sealed = format!("m:sealed:{id}:day:20220809");
        let commands = appended(seen);
        let (month, rest): (Vec<String>, Vec<String>) =
            commands.into_iter().partition(|line| line.starts_with("PEXPIREAT m:month"));
        assert_eq!(month.len(), 2);
        assert_eq!(
            rest,
            [
                "MULTI".to_owned(),
                format!("RENAME m:day:20220809 {sealed}"),
                format!("RENAME m:day:20220809:path {sealed}:path"),
                format!("RENAME m:day:20220809:unique {sealed}:unique"),
                format!("HSET m:batch id {id} 1 day:20220809 2 day:20220809:path 3 day:20220809:unique"),
                "HSET m:month:202208 20220809 1".to_owned(),
                format!("HSET m:month:{} 202208 0", &date(now_ms())[..6]),
                "ZREM m 20220809".to_owned(),
                "EXEC".to_owned(),
            ]
        );
        let seen = server.appended().len();
        redis.run(&format!("METER.ACK m {id}"));
        let mut commands = appended(seen);
        assert_eq!((commands.remove(0).as_str(), commands.pop().as_deref()), ("MULTI", Some("EXEC")));
        assert_eq!(
            commands,
            [
                format!("UNLINK {sealed}"),
                format!("UNLINK {sealed}:path"),
                format!("UNLINK {sealed}:unique"),
                "UNLINK m:batch".to_owned()
            ]
        );
    });
}

#[test]
fn a_big_meter_is_sealed_and_dropped_without_reading_each_member_and_freed_in_the_background() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let number = |redis: &mut Client, section: &str, field: &str| {
            redis.info_field(section, field).expect("a field").parse::<i64>().expect("a number")
        };
        let fill = b"for n = 1, 50000 do redis.call('ZADD', KEYS[1], n, 'user:' .. n) end";
        redis.run(&format!("METER.HIT m AT {AT} PATH 1 a"));
        redis.try_call(&[b"EVAL", fill, b"1", b"m:day:20220809:path"]).expect("filled");
        let looked_up = number(&mut redis, "stats", "keyspace_misses");
        let freed = number(&mut redis, "memory", "lazyfreed_objects");
        let (id, _) = opened(&mut redis, "METER.SEAL m");
        redis.run(&format!("METER.ACK m {id}"));
        eventually("the batch is freed", || number(&mut redis, "memory", "lazyfreed_objects") > freed);
        redis.run(&format!("METER.HIT m AT {AT} PATH 1 a"));
        redis.try_call(&[b"EVAL", fill, b"1", b"m:day:20220809:path"]).expect("filled");
        let freed = number(&mut redis, "memory", "lazyfreed_objects");
        redis.run("METER.DROP m");
        eventually("the day is freed", || number(&mut redis, "memory", "lazyfreed_objects") > freed);
        // DROP looks up each month of two centuries.
        let looked_up = number(&mut redis, "stats", "keyspace_misses") - looked_up;
        assert!(looked_up < 5_000, "{looked_up} keys were looked up in vain");
    });
}
