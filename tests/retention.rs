//! A change of `retention-days` reaches a day, all its keys and the index with the day's next hit, even with keys of
//! other programs there, and never blocks the server.

use std::thread;
use std::time::{Duration, Instant};

use testkit::{Client, Program, Server, date, eventually, now_ms, on_every_program, on_every_server, sleep_ms};

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// A server whose retention can be changed while it runs, or not (Redis 6.2), where it is restarted.
struct Keeper {
    server: Server,
}

impl Keeper {
    fn start(program: &Program, days: i64) -> Self {
        Self { server: Server::with_module(program, &format!("retention-days {days}"), &[]) }
    }

    fn set(&mut self, days: i64) {
        if self.server.program.is_7_or_later() {
            self.server.connect().run(&format!("CONFIG SET meter.retention-days {days}"));
        } else {
            let (module, days) = (testkit::module().display().to_string(), days.to_string());
            self.server.restart_with("SAVE", &["--loadmodule", &module, "retention-days", &days]);
        }
    }
}

/// When the day of `at` expires under a retention; -1 for never.
fn expected(at: i64, days: i64) -> i64 {
    if days == 0 { -1 } else { at - at % DAY_MS + (1 + days) * DAY_MS }
}

/// How many of the keys that match expire at another time than expected, and how many there are.
fn wrong(redis: &mut Client, pattern: &str, expected: i64) -> (i64, i64) {
    const COUNT: &[u8] = b"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local keys, wrong = redis.call('KEYS', ARGV[1]), 0
        for _, key in ipairs(keys) do
            local left = redis.call('PTTL', key)
            local at = left < 0 and -1 or now + left
            if math.abs(at - tonumber(ARGV[2])) > 2000 and not string.find(key, ':once$') then wrong = wrong + 1 end
        end
        return {wrong, #keys}";
    let words = [b"EVAL", COUNT, b"0", pattern.as_bytes(), expected.to_string().as_bytes()].map(<[u8]>::to_vec);
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    redis::from_redis_value(redis.try_call(&words).expect("counts")).expect("two numbers")
}

/// All keys of the meter `m`, and the index too, expire with the day of `at`.
#[track_caller]
fn assert_all(redis: &mut Client, at: i64, days: i64, what: &str) {
    let when = expected(at, days);
    assert_eq!(
        wrong(redis, &format!("m:day:{}*", date(at)), when).0,
        0,
        "{what}: keys with another expiry than {when}"
    );
    assert_index(redis, when, what);
}

/// The index expires if its days do, and no sooner; it may keep an expiry that is late enough.
#[track_caller]
fn assert_index(redis: &mut Client, when: i64, what: &str) {
    let left = redis.int("PTTL m");
    if when < 0 {
        assert_eq!(left, -1, "{what}: the index expires");
    } else {
        assert!(
            left > 0 && now_ms() + left > when - 2_000,
            "{what}: the index has {left} ms left, its day {}",
            when - now_ms()
        );
    }
}

#[test]
fn a_change_reaches_a_day_with_its_next_hit_both_ways() {
    on_every_program(|program| {
        let mut keeper = Keeper::start(program, 30);
        let at = now_ms();
        let hit = |redis: &mut Client, rest: &str| redis.run(&format!("METER.HIT m AT {at} {rest}"));
        hit(&mut keeper.server.connect(), "PATH 3 a b c UNIQUE u");
        for (round, days) in [30, 5, 60, 0, 7, 0, 1].into_iter().enumerate() {
            keeper.set(days);
            let mut redis = keeper.server.connect();
            // A hit of another path, of none, and a correction.
            hit(&mut redis, ["PATH 2 a x", "", "BY -1 PATH 3 a b c", "UNIQUE v"][round % 4]);
            hit(&mut redis, "BY 2 PATH 3 a b c");
            assert_all(&mut redis, at, days, &format!("round {round}, {days} days"));
        }
    });
}

#[test]
fn a_replica_has_the_same_expiries_after_each_change() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // there it can only be set at load
        }
        let server = Server::start(program, &[]);
        let replica = server.replica(&[]);
        let mut redis = server.connect();
        for days in [3, 0, 9, 4, 0] {
            redis.run(&format!("CONFIG SET meter.retention-days {days}"));
            redis.run("METER.HIT m PATH 2 a b UNIQUE u");
            redis.run("METER.HIT m PATH 2 c d");
            server.wait_for_replica(&replica);
            assert_eq!(replica.connect().contents(), redis.contents(), "{days} days");
        }
    });
}

#[test]
fn keys_that_were_there_before_their_day_expire_with_it() {
    on_every_program(|program| {
        let keeper = Keeper::start(program, 30);
        let mut redis = keeper.server.connect();
        let at = now_ms();
        let day = format!("m:day:{}", date(at));
        let far = now_ms() + 900 * DAY_MS;
        let befores: [(&str, Vec<String>); 6] = [
            ("a ranking without an expiry", vec![format!("ZINCRBY {day}:path 1 x")]),
            ("two levels without an expiry", vec![format!("ZADD {day}:path 1 x"), format!("ZADD {day}:path:x 1 y")]),
            ("ids without an expiry", vec![format!("PFADD {day}:unique z")]),
            (
                "a ranking that expires later",
                vec![format!("ZADD {day}:path 1 x"), format!("PEXPIREAT {day}:path {far}")],
            ),
            ("ids that expire later", vec![format!("PFADD {day}:unique z"), format!("PEXPIREAT {day}:unique {far}")]),
            ("a hash without an expiry", vec![format!("HSET {day} day 1 0 1")]),
        ];
        for (what, lines) in befores {
            for rest in ["", "PATH 2 x y", "UNIQUE u", "PATH 2 x y UNIQUE u", "PATH 1 other"] {
                redis.run("FLUSHALL");
                for line in &lines {
                    redis.run(line);
                }
                redis.run(&format!("METER.HIT m AT {at} {rest}"));
                assert_all(&mut redis, at, 30, &format!("{what}, then {rest:?}"));
            }
        }
    });
}

#[test]
fn an_index_that_once_named_a_day_without_expiry_expires_again() {
    on_every_program(|program| {
        let mut keeper = Keeper::start(program, 0);
        let today = now_ms();
        let earlier = today - 2 * DAY_MS;
        let mut redis = keeper.server.connect();
        redis.run(&format!("METER.HIT m AT {earlier}"));
        redis.run(&format!("METER.HIT m AT {today}"));
        assert_eq!(redis.int("PTTL m"), -1);
        drop(redis);
        keeper.set(10);
        let mut redis = keeper.server.connect();
        redis.run(&format!("METER.HIT m AT {today}"));
        assert_eq!(redis.int("PTTL m"), -1, "one of its days does not expire");
        redis.run(&format!("METER.HIT m AT {earlier}"));
        assert_all(&mut redis, today, 10, "each of its days has had a hit");
        // And the day that did not expire may also be deleted by other programs.
        drop(redis);
        keeper.set(0);
        let mut redis = keeper.server.connect();
        redis.run(&format!("METER.HIT m AT {earlier}"));
        drop(redis);
        keeper.set(10);
        let mut redis = keeper.server.connect();
        redis.run(&format!("METER.DROP m BEFORE {}", date(today)));
        redis.run(&format!("METER.HIT m AT {}", today - today % HOUR_MS));
        assert_all(&mut redis, today, 10, "the day without an expiry was dropped");
    });
}

#[test]
fn a_wrong_score_in_the_index_is_mended_by_a_hit() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let (day, at, other_hour) = ("20220809", 1_660_054_277_326_i64, 1_660_054_277_326 + HOUR_MS);
        for score in ["0", "1", "-5", "20220808", "20220810", "inf", "-inf", "20220809.5"] {
            for existing in [false, true] {
                redis.run("FLUSHALL");
                if existing {
                    redis.run(&format!("METER.HIT k AT {at}"));
                }
                redis.run(&format!("ZADD k {score} {day}"));
                redis.run(&format!("METER.HIT k AT {other_hour} PATH 1 a"));
                let total = if existing { 2 } else { 1 };
                let what = format!("{score}, {existing}");
                assert_eq!(redis.strings(&format!("ZSCORE k {day}")), [day], "{what}");
                assert_eq!(redis.counts("METER.DAYS k"), [(day.to_owned(), total)], "{what}");
                assert_eq!(redis.counts("METER.KPI k FROM 20220801 TO 20220831"), [(day.to_owned(), total)], "{what}");
                let (id, keys) = redis.seal("METER.SEAL k");
                assert!(id.is_some() && !keys.is_empty(), "{what}: nothing is sealed");
            }
        }
    });
}

#[test]
fn meter_index_mends_a_wrong_score_too() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("HSET k:day:20220809 day 3 14 3");
        redis.run("ZADD k 0 20220809");
        redis.run("METER.INDEX k FROM 20220801 TO 20220831");
        assert_eq!(redis.counts("METER.DAYS k"), [("20220809".to_owned(), 3)]);
        redis.run("ZADD k 7 20220809");
        redis.run("METER.HIT k AT 1660140677326");
        redis.run("METER.INDEX k FROM 20220801 TO 20220831");
        assert_eq!(redis.int("METER.DROP k BEFORE 20220810"), 1, "it is found");
        assert_eq!(redis.int("EXISTS k:day:20220809"), 0);
    });
}

/// A day with 100,000 members, of which 3,000 have a ranking of their own.
fn fill(redis: &mut Client, at: i64) {
    let day = format!("m:day:{}", date(at));
    redis.run(&format!("METER.HIT m AT {at} PATH 2 first below UNIQUE u"));
    let fill = b"for i = tonumber(ARGV[2]), ARGV[2] + 4999 do
        redis.call('ZADD', KEYS[1], 1, 'member' .. i)
        if i <= 3000 then redis.call('ZADD', KEYS[1] .. ':member' .. i, 1, 'x') end end";
    let path = format!("{day}:path");
    for start in (1..100_000).step_by(5_000) {
        let start = start.to_string();
        redis.try_call(&[b"EVAL", fill, b"1", path.as_bytes(), b"", start.as_bytes()]).expect("filled");
    }
}

/// Microseconds that the server has spent on METER.HIT, by its own clock.
fn spent(redis: &mut Client) -> u64 {
    let text = redis.info_field("commandstats", "cmdstat_meter.hit").expect("a field");
    let usec = text.split(',').find_map(|part| part.strip_prefix("usec=")).expect("a number");
    usec.parse().expect("a number")
}

#[test]
fn the_first_hit_after_a_change_is_as_quick_as_another_and_the_rest_follows() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // there it can only be set at load
        }
        let mut server = Server::start(program, &[]);
        let mut redis = server.connect();
        let at = now_ms();
        fill(&mut redis, at);
        let mut least = u64::MAX;
        let mut days = 29;
        // Other load on this machine may stop the server in one of them, but hardly in each.
        for _ in 0..8 {
            days += 1;
            redis.run(&format!("CONFIG SET meter.retention-days {days}"));
            let before = spent(&mut redis);
            redis.run(&format!("METER.HIT m AT {at}"));
            least = least.min(spent(&mut redis) - before);
        }
        assert!(least < 10_000, "{} {:?}: the first hit takes {least} µs", program.product, program.version);

        let (pattern, when, start) = (format!("m:day:{}*", date(at)), expected(at, days), Instant::now());
        loop {
            let (wrong, keys) = wrong(&mut redis, &pattern, when);
            if wrong == 0 {
                assert!(keys > 3_000, "{keys}");
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(90), "{wrong} of {keys} keys still expire at another time");
            for _ in 0..100 {
                redis.run(&format!("METER.HIT m AT {at}"));
            }
            thread::sleep(Duration::from_millis(100));
        }
        assert_index(&mut redis, when, "at last");
        server.assert_alive("a change of retention");
    });
}

#[test]
fn background_changes_of_expiries_stop_while_writes_are_paused() {
    on_every_program(|program| {
        if !program.is_7_or_later() {
            return; // there it can only be set at load
        }
        let mut server = Server::start(program, &["--repl-ping-replica-period", "3600"]);
        let replica = server.replica(&["--repl-timeout", "7200"]);
        let mut redis = server.connect();
        let at = now_ms();
        fill(&mut redis, at);
        redis.run("CONFIG SET meter.retention-days 30");
        redis.run("MULTI");
        redis.run(&format!("METER.HIT m AT {at}"));
        redis.run("CLIENT PAUSE 1000 WRITE");
        redis.run("EXEC");
        let paused = Instant::now();
        sleep_ms(30);
        let offset = |redis: &mut Client| redis.info_field("replication", "master_repl_offset");
        let before = offset(&mut redis);
        sleep_ms(600);
        let after = offset(&mut redis);
        if paused.elapsed() < Duration::from_millis(900) {
            assert_eq!(before, after, "nothing is replicated in a pause");
        }
        server.assert_alive("a pause while a change of retention is carried out");
        redis.run(&format!("METER.HIT m AT {at}"));
        eventually("the replica follows", || offset(&mut replica.connect()).is_some());
        server.assert_alive("the end of a pause");
    });
}
