//! A refused call and a dry run change nothing: no key, value or expiry, nothing is replicated or written to the AOF,
//! no WATCH is aborted, and no event fired.

use testkit::{Client, Server, Value, now_ms, on_every_program};

const AT: i64 = 1_660_054_277_326;

/// Calls that must leave no trace, on the state that [`prepare`] makes.
#[expect(clippy::too_many_lines, reason = "a table of calls")]
fn calls() -> Vec<String> {
    let seconds = AT / 1_000;
    [
        // refused
        "CELL.THROTTLE full 0 1 3600",
        "CELL.THROTTLE full 0 1 3600 1 MS",
        // not one fits
        "CELL.THROTTLE full 0 1 3600 5 PARTIAL",
        "CELL.WINDOW window 1 3600 5 PARTIAL",
        "CELL.LOG log 1 3600 5 PARTIAL",
        "CELL.SLIDE slide 1 3600000000 5 PARTIAL",
        "CELL.QUOTA quota 1 YEAR",
        "CELL.QUOTA quota 1 YEAR 5 PARTIAL MS",
        "CELL.QUOTA quota 9 YEAR 10",
        // refused, and refused even for no cell
        "CELL.THROTTLE none 0 1 3600 0 PARTIAL",
        "CELL.THROTTLE_RO none 0 1 3600 5 PARTIAL",
        "CELL.WINDOW_RO none 1 3600 5 PARTIAL BLOCK 60",
        "CELL.LOG_RO none 1 3600 5 PARTIAL",
        "CELL.SLIDE_RO none 1 3600 5 PARTIAL",
        "CELL.LEASE places 1 3600 bob",
        "CELL.LEASE places 1 3600 bob TIMEOUT 0.001",
        "CELL.QUOTA_RO quota 9 MONTH ANCHOR 20220731 OFFSET +05:45",
        "CELL.QUOTA_RO none 9 MONTH",
        "CELL.LEASE_RO places 9 3600 bob",
        "CELL.LEASE_RO places 1 3600 ann",
        // can never pass
        "CELL.THROTTLE full 0 1 3600 2",
        "CELL.THROTTLE none 0 1 3600 2",
        // dry runs
        "CELL.THROTTLE full 0 1 3600 0",
        "CELL.THROTTLE none 0 1 3600 0",
        "CELL.QUOTA quota 9 YEAR 0",
        "CELL.QUOTA none 9 YEAR 0",
        "CELL.QUOTA none 9 YEAR -1",
        "CELL.REFUSED",
        "CELL.REFUSED RESET",
        "METER.KPI m DAY 20220809",
        "METER.KPI none",
        "METER.KPI m FROM 20220101 TO 20221231 BY HOUR",
        "METER.KPI m FROM 20220101 TO 20221231 BY TOTAL",
        "METER.KPI m FROM 20220101 TO 20221231 BY WEEK",
        "METER.KPI sealed DAY 20220809",
        "METER.KPI m FROM 20220101 TO 20221231 PATH 2 a b",
        "METER.TOP m FROM 20220101 TO 20221231",
        "METER.DAYS m",
        "METER.COST m DAY 20220809 RATE 0.02",
        "METER.COST sealed FROM 20220101 TO 20221231 RATE 0.02",
        // nothing to close, delete or add
        "METER.SEAL none",
        "METER.SEAL m BEFORE 20220809",
        "METER.DROP none",
        "METER.DROP m BEFORE 20220809",
        "METER.INDEX m FROM 20220101 TO 20221231",
        "METER.INDEX none FROM 20220101 TO 20221231",
        // a batch that is open already, and calls that do not acknowledge it
        "METER.SEAL sealed",
        "METER.ACK sealed 0123456789abcdef0123456789abcdef",
        "METER.ACK m 0123456789abcdef0123456789abcdef",
        // nothing to refund
        "CELL.THROTTLE none 0 1 3600 -1",
        "CELL.RELEASE places bob",
        "CELL.RELEASE none ann",
        // mistakes
        "CELL.THROTTLE none x 1 3600",
        "CELL.THROTTLE text 0 1 3600",
        "CELL.LEASE m 1 3600 ann",
        "CELL.QUOTA m 9 YEAR",
        "CELL.QUOTA quota 9 HOUR 1 ANCHOR 20220731",
        "CELL.QUOTA quota 9 YEAR 1 OFFSET 5",
        "CELL.LEASE places 1 3600 ann MS MS",
        "CELL.RELEASE m 20220809",
        "CELL.THROTTLE m 0 1 3600",
        "METER.HIT text",
        "METER.HIT m BY x",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([
        format!("METER.HIT m AT {AT} BY 0"),
        format!("METER.HIT none AT {AT} BY 0"),
        format!("METER.HIT m AT {AT} BY -2"),
        format!("METER.HIT m AT {AT} BY {}", i64::MAX),
        format!("METER.HIT m AT {seconds}"),
        // capped, with everything else that could be written
        format!("METER.HIT m AT {AT} CAP HOUR 1 PATH 2 new b UNIQUE new"),
        format!("METER.HIT m AT {AT} CAP DAY 1 PATH 2 new b UNIQUE new"),
        format!("METER.HIT m AT {AT} CAP MONTH 1 PATH 2 new b UNIQUE new"),
        format!("METER.HIT none AT {AT} BY 9 CAP MONTH 8 PATH 2 new b UNIQUE new"),
        format!("METER.HIT m AT {AT} CAP HOUR 9 CAP MONTH 9 CAP DAY 1 PATH 2 new b PATH 1 other UNIQUE new WHY"),
        format!("METER.HIT m AT {AT} CAP HOUR 9 CAP SINCE 20220801 1 PATH 2 new b PATH 1 other UNIQUE new WHY"),
        format!("METER.HIT sealed AT {AT} CAP SINCE 20220801 1 PATH 2 new b UNIQUE new WHY"),
        format!("METER.HIT sealed AT {AT} CAP MONTH 1 PATH 2 new b UNIQUE new"),
        format!("METER.HIT m AT {AT} CAP SINCE 20220810 9 PATH 2 new b"),
        format!("METER.HIT m AT {AT} CAP SINCE 20210101 9 PATH 2 new b"),
        format!("METER.HIT m AT {AT} CAP DAY 9 CAP DAY 9"),
        format!("METER.HIT m AT {AT} BY 0 CAP DAY 9 PATH 2 new b PATH 2 a b WHY"),
        // events that were counted before
        format!("METER.HIT today AT {} ONCE event PATH 2 new b PATH 2 new c UNIQUE new CAP MONTH 9 WHY", now_ms()),
        format!("METER.HIT today AT {} ONCE event PATH 2 new b UNIQUE new", now_ms()),
        format!("METER.HIT today AT {} ONCE event", now_ms()),
        format!("METER.HIT today AT {} ONCE event PATH 1 a", now_ms()),
        format!("METER.HIT today AT {} ONCE event BY -1", now_ms()),
        format!("METER.HIT today AT {} ONCE other CAP MONTH 1", now_ms()),
        // refused because of one of several writes
        format!("METER.HIT m AT {AT} PATH 2 a c BY -1"),
        format!("METER.HIT m AT {AT} PATH 1 a BY -1"),
        format!("METER.HIT m AT {AT} PATH 2 a b BY 9007199254740992"),
        format!("METER.HIT m AT {AT} PATH 2 new c PATH 2 a b BY 9007199254740992"),
        format!("METER.HIT m AT {AT} PATH 2 a b PATH 2 a c BY -1"),
        format!("METER.HIT m AT {AT} PATH 2 a b UNIQUE id ONCE late"),
        format!("METER.HIT textual AT {AT} PATH 1 a UNIQUE id"),
        format!("METER.HIT today AT {} ONCE e2 PATH 1 a UNIQUE id BY {}", now_ms(), i64::MAX),
    ])
    .collect()
}

fn prepare(redis: &mut Client) {
    redis.run("CELL.THROTTLE full 0 1 3600");
    redis.run("CELL.WINDOW window 1 3600");
    redis.run("CELL.LOG log 1 3600");
    redis.run("CELL.SLIDE slide 1 3600000000");
    redis.run("CELL.QUOTA quota 1 YEAR");
    redis.run("CELL.LEASE places 1 3600 ann");
    redis.run("SET text abc");
    redis.run(&format!("METER.HIT m AT {AT} PATH 2 a b UNIQUE id"));
    redis.run(&format!("METER.HIT today AT {} ONCE event", now_ms()));
    redis.run(&format!("METER.HIT sealed AT {AT} PATH 2 a b UNIQUE id"));
    redis.run("METER.SEAL sealed");
    redis.run("SET textual:day:20220809:unique text");
}

#[test]
fn keys_values_and_expiries_stay() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        prepare(&mut redis);
        let before = redis.contents();
        for call in calls() {
            let _ = redis.try_run(&call);
            assert_eq!(redis.contents(), before, "{call}");
        }
    });
}

#[test]
fn nothing_is_dirtied_or_appended_or_replicated() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut redis = server.connect();
        prepare(&mut redis);
        let dirty = |redis: &mut Client| redis.info_field("persistence", "rdb_changes_since_last_save");
        let (before, appended) = (dirty(&mut redis), server.appended());
        for call in calls() {
            let _ = redis.try_run(&call);
            assert_eq!(dirty(&mut redis), before, "{call}");
            assert_eq!(server.appended(), appended, "{call}");
        }
        // The replication stream carries what the AOF does; a replica's offset moves by nothing else but its pings.
        let _replica = server.replica(&[]);
        redis.run("CONFIG SET repl-ping-replica-period 3600");
        let offset = |redis: &mut Client| redis.info_field("replication", "master_repl_offset");
        let before = offset(&mut redis);
        for call in calls() {
            let _ = redis.try_run(&call);
            assert_eq!(offset(&mut redis), before, "{call}");
        }
    });
}

#[test]
fn no_watch_is_aborted() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let (mut redis, mut watcher) = (server.connect(), server.connect());
        prepare(&mut redis);
        for call in calls() {
            watcher.run("WATCH full window log slide sealed m m:day:20220809 none none:day:20220809 text");
            let _ = redis.try_run(&call);
            watcher.run("MULTI");
            watcher.run("PING");
            assert_ne!(watcher.run("EXEC"), Value::Nil, "{call}");
        }
    });
}

#[test]
fn no_event_is_fired() {
    on_every_program(|program| {
        let server = Server::start(program, &["--notify-keyspace-events", "KEA"]);
        let (mut redis, mut listener) = (server.connect(), server.connect());
        prepare(&mut redis);
        redis.run("DEL end");
        listener.run("PSUBSCRIBE __keyevent@0__:*");
        for call in calls() {
            let _ = redis.try_run(&call);
        }
        redis.run("SET end 1");
        let event = listener.0.recv_response().expect("an event");
        let words: Vec<String> = redis::from_redis_value(event).expect("words");
        assert_eq!(words[2..], ["__keyevent@0__:set", "end"], "the first event is the marker's");
    });
}

#[test]
fn repairs_happen_once_and_are_replicated() {
    on_every_program(|program| {
        let server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]);
        let mut redis = server.connect();
        redis.run(&format!("SET far {}", (now_ms() + 31_536_000_000) * 1_000_000));
        redis.run(&format!("SET endless {}", (now_ms() + 3_600_000) * 1_000_000));
        let before = server.appended().len();
        for _ in 0..3 {
            assert_eq!(redis.ints("CELL.THROTTLE far 0 1 3600")[0], 1);
            assert_eq!(redis.ints("CELL.THROTTLE endless 0 1 3600")[0], 1);
        }
        let repairs: Vec<_> =
            server.appended().split_off(before).into_iter().filter(|words| is_no_bracket(words)).collect();
        let heads: Vec<_> = repairs.iter().map(|words| (words[0].as_str(), words[1].as_str())).collect();
        assert_eq!(heads, [("SET", "far"), ("PEXPIREAT", "endless")], "{repairs:?}");
    });
}

/// Redis 6.2 puts what a module replicates between MULTI and EXEC.
fn is_no_bracket(words: &[String]) -> bool {
    !["MULTI", "EXEC"].contains(&words[0].as_str())
}
