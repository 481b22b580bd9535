//! A value that a command did not write is never changed by it: another limiter's state, a meter, a leaderboard, a
//! counter, a session. The reply is an error that names the key, or WRONGTYPE for another type.

use testkit::{Client, on_every_server};

const KEY: &str = "their:value";

/// The commands that own a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Tat,
    /// Also a QUOTA's.
    Window,
    Log,
    Slide,
    Lease,
    Meter,
    /// No command's, but LEASE can't distinguish it from its own: members whose scores are times.
    Times,
    /// No command's.
    Foreign,
}

use State::{Foreign, Lease, Log, Meter, Slide, Tat, Times, Window};

/// Values, as the commands that write them to `K`; ours as our own commands write them, where those are there.
const VALUES: [(&str, &str, State); 44] = [
    ("string", "SET K 12345", Window),
    ("string", "SET K 0", Window),
    ("string", "SET K 9007199254740992", Window),
    ("string", "CELL.WINDOW K 9 600 3", Window),
    ("string", "SET K 100000000000000000", Tat),
    ("string", "SET K 9223372036854775807", Tat),
    ("string", "CELL.THROTTLE K 9 1 600 3", Tat),
    ("string", "SET K abc", Foreign),
    ("string", "SETRANGE K 3 x", Foreign),
    ("string", "SET K 1.5", Foreign),
    ("string", "SET K -5", Foreign),
    ("string", "SET K -0", Foreign),
    ("string", "SET K +5", Foreign),
    ("string", "SET K 007", Foreign),
    ("string", "SET K 1e18", Foreign),
    ("string", "SET K 9007199254740993", Foreign),
    ("string", "SET K 99999999999999999", Foreign),
    ("string", "SET K 9223372036854775808", Foreign),
    ("string", "SET K {\"user\":1}", Foreign),
    ("string", "SETBIT K 77 1", Foreign),
    ("string", "PFADD K a b c", Foreign),
    ("zset", "ZADD K 100 ann 200 bob", Foreign),
    ("zset", "ZADD K 0 ann 0 bob", Foreign),
    ("zset", "ZADD K 1.5 ann -2.5 bob", Foreign),
    ("zset", "ZADD K inf ann -inf bob", Foreign),
    ("zset", "ZADD K 5 1660054277326000-000000", Foreign),
    ("zset", "ZADD K 1660054277326000 1660054277326000 1660054277326001 1660054277326001", Times),
    ("zset", "ZADD K 1660054277326000 1660054277326000-x", Times),
    ("zset", "ZADD K 1660054277 ann 1660054278 bob", Foreign),
    // Its scores are integers that might be ends of leases.
    ("zset", "GEOADD K 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", Times),
    ("zset", "METER.HIT K AT 1660054277326", Meter),
    ("zset", "CELL.LOG K 9 600 3", Log),
    ("zset", "CELL.LEASE K 9 600 ann", Lease),
    ("hash", "HSET K user ann ip 127.0.0.1 seen 1660054277", Foreign),
    ("hash", "HSET K day 5 14 5", Foreign),
    ("hash", "HSET K 20220809 5", Foreign),
    ("hash", "HSET K start 1660054277326000 period 600000000 current 5", Foreign),
    ("hash", "HSET K start x period y current 1 previous 2", Foreign),
    ("hash", "HSET K 0 1 1 2", Foreign),
    ("hash", "CELL.SLIDE K 9 600 3", Slide),
    ("list", "RPUSH K a 1 {}", Foreign),
    ("set", "SADD K 20220809 5", Foreign),
    ("set", "SADD K 1 2 3", Foreign),
    ("stream", "XADD K * day 1", Foreign),
];

/// Commands that take `K` for a state, the type that this has, and which it is.
const COMMANDS: [(&str, &str, State); 36] = [
    ("CELL.THROTTLE K 9 1 600", "string", Tat),
    ("CELL.THROTTLE K 9 1 600 0", "string", Tat),
    ("CELL.THROTTLE K 9 1 600 5 MS", "string", Tat),
    ("CELL.THROTTLE K 9 1 600 -1", "string", Tat),
    ("CELL.THROTTLE K 9 1 600 -99", "string", Tat),
    ("CELL.THROTTLE K 9 1 600 99", "string", Tat),
    ("CELL.THROTTLE_RO K 9 1 600", "string", Tat),
    ("CELL.MTHROTTLE own 9 1 600 1 K 9 1 600 1", "string", Tat),
    ("CELL.MTHROTTLE K 9 1 600 0 own 9 1 600 -1", "string", Tat),
    ("CELL.MTHROTTLE_RO own 9 1 600 1 K 9 1 600 1", "string", Tat),
    ("CELL.PULL queue K 9 1 600 COUNT 2 INTO busy", "string", Tat),
    ("CELL.PULL nothing K 9 1 600", "string", Tat),
    ("CELL.WINDOW K 9 600", "string", Window),
    ("CELL.WINDOW K 9 600 0", "string", Window),
    ("CELL.WINDOW K 9 600 -1", "string", Window),
    ("CELL.WINDOW K 9 600 99 BLOCK 900", "string", Window),
    ("CELL.WINDOW_RO K 9 600", "string", Window),
    ("CELL.QUOTA K 9 DAY", "string", Window),
    ("CELL.QUOTA K 9 DAY 0", "string", Window),
    ("CELL.QUOTA K 9 DAY -1", "string", Window),
    ("CELL.LOG K 5 60", "zset", Log),
    ("CELL.LOG K 5 60 0", "zset", Log),
    ("CELL.LOG K 5 60 -1", "zset", Log),
    ("CELL.LOG K 1000 60 500 MS", "zset", Log),
    ("CELL.LOG K 5 60 9", "zset", Log),
    ("CELL.LOG_RO K 5 60", "zset", Log),
    ("CELL.SLIDE K 5 60", "hash", Slide),
    ("CELL.SLIDE K 5 60 0", "hash", Slide),
    ("CELL.SLIDE K 5 60 -1", "hash", Slide),
    ("CELL.SLIDE_RO K 5 60", "hash", Slide),
    ("CELL.LEASE K 5 60 zoe", "zset", Lease),
    ("CELL.LEASE_RO K 5 60 zoe", "zset", Lease),
    ("CELL.RELEASE K ann", "zset", Lease),
    ("METER.HIT K", "zset", Meter),
    ("METER.HIT K AT 1660054277326 BY 5 PATH 2 a b UNIQUE u", "zset", Meter),
    ("METER.DAYS K", "zset", Meter),
];

/// Further commands of meters that read the index.
const UPKEEP: [&str; 7] = [
    "METER.SEAL K",
    "METER.DROP K",
    "METER.DROP K BEFORE 20300101",
    "METER.INDEX K FROM 20220801 TO 20220831",
    "METER.KPI K FROM 20220801 TO 20220831",
    "METER.TOP K FROM 20220801 TO 20220831",
    "METER.COST K FROM 20220801 TO 20220831 RATE 1",
];

fn exists(redis: &mut Client, line: &str) -> bool {
    let name = line.split(' ').next().expect("a name");
    redis.run(&format!("COMMAND INFO {name}")) != testkit::Value::Array(vec![testkit::Value::Nil])
}

/// The contents of the database, and the number of changes that the server counts.
fn snapshot(redis: &mut Client) -> (Vec<testkit::Entry>, testkit::Value, Option<String>) {
    let dump = redis.run(&format!("DUMP {KEY}"));
    (redis.contents(), dump, redis.info_field("persistence", "rdb_changes_since_last_save"))
}

fn prepare(redis: &mut Client, value: &str, expires: bool) {
    redis.run("FLUSHALL");
    redis.run("LPUSH queue a b c");
    redis.run("HSET foreign:day:20220809 day 1 14 1");
    redis.run(&value.replace('K', KEY));
    if expires {
        redis.run(&format!("PEXPIRE {KEY} 600000"));
    }
}

/// Checks that a call is refused and changes nothing; else returns what happened.
fn check(redis: &mut Client, line: &str, value: &str, same_type: bool) -> Result<(), String> {
    for expires in [false, true] {
        prepare(redis, value, expires);
        let before = snapshot(redis);
        let what = format!("{line}  where K is from  {value}");
        let error = redis.try_run(&line.replacen('K', KEY, 1)).err().ok_or_else(|| format!("{what}: no error"))?;
        let names_it = error.starts_with("ERR ") && error.contains(KEY);
        if !(if same_type { names_it } else { error.starts_with("WRONGTYPE ") }) {
            return Err(format!("{what}: {error}"));
        }
        if snapshot(redis) != before {
            return Err(format!("{what}: it has changed, in spite of {error}"));
        }
    }
    Ok(())
}

/// The command with the key's place, in which no other letter is a K.
fn marked(line: &str) -> String {
    line.replace(" K", " \u{1}").replace('K', "k").replace('\u{1}', "K")
}

/// Whether `own`'s commands take a value of this state for theirs.
fn is_own(own: State, state: State) -> bool {
    state == own || own == Lease && matches!(state, Times | Log)
}

#[track_caller]
fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn values_of_other_programs_are_refused_and_unchanged() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut failures = Vec::new();
        for (line, own_type, own) in COMMANDS {
            if !exists(&mut redis, line) {
                continue;
            }
            for (value_type, value, state) in VALUES {
                if !is_own(own, state) && exists(&mut redis, value) {
                    let value = value.replacen(" K", &format!(" {KEY}"), 1);
                    failures.extend(check(&mut redis, &marked(line), &value, value_type == own_type).err());
                }
            }
            server.assert_alive(line);
        }
        assert_none(&failures);
    });
}

#[test]
fn keys_that_are_no_meter_are_neither_read_nor_sealed_nor_dropped_nor_indexed() {
    on_every_server(|server| {
        let mut redis = server.connect();
        let mut failures = Vec::new();
        for line in UPKEEP {
            for (value_type, value, state) in VALUES {
                if state != Meter && exists(&mut redis, value) {
                    let value = value.replacen(" K", &format!(" {KEY}"), 1);
                    failures.extend(check(&mut redis, &marked(line), &value, value_type == "zset").err());
                }
            }
        }
        // One date among them makes no meter of it.
        for line in UPKEEP.into_iter().chain(["METER.HIT K AT 1660140677326", "METER.DAYS K"]) {
            let value = format!("ZADD {KEY} 20220809 20220809 100 ann");
            failures.extend(check(&mut redis, &marked(line), &value, true).err());
        }
        assert_none(&failures);
    });
}

#[test]
fn the_error_says_which_of_several_keys_it_is() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("SET second abc");
        redis.run("LPUSH queue a");
        for line in [
            "CELL.MTHROTTLE first 9 1 600 1 second 9 1 600 1 third 9 1 600 1",
            "CELL.MTHROTTLE_RO first 9 1 600 1 second 9 1 600 1",
            "CELL.PULL queue second 0 1 60 INTO third",
        ] {
            let error = redis.error(line);
            assert!(error.starts_with("ERR ") && error.contains("second"), "{line}: {error}");
            assert!(!error.contains("first") && !error.contains("third"), "{line}: {error}");
            assert_eq!(redis.int("EXISTS first third"), 0);
        }
    });
}

#[test]
fn values_just_within_our_formats_are_accepted() {
    on_every_server(|server| {
        let mut redis = server.connect();
        redis.run("SET tat 100000000000000000 PX 600000");
        assert_eq!(redis.ints("CELL.THROTTLE tat 4 1 600")[..3], [0, 5, 4]);
        redis.run("SET far 9223372036854775807 PX 600000");
        assert_eq!(redis.ints("CELL.THROTTLE far 4 1 600")[..3], [1, 5, 0]);
        redis.run("SET none 0 PX 600000");
        assert_eq!(redis.ints("CELL.WINDOW none 5 600")[..3], [0, 5, 4]);
        redis.run("SET full 9007199254740992 PX 600000");
        assert_eq!(redis.ints("CELL.WINDOW full 5 600")[..3], [1, 5, 0]);
        // Members and scores as LOG writes them, by another program.
        let micros = testkit::now_ms() * 1_000;
        redis.run(&format!("ZADD log {micros} {micros}-000000 {micros} {micros}-000001"));
        assert_eq!(redis.ints("CELL.LOG log 5 600")[..3], [0, 5, 2]);
        // A meter of dates alone, whose days are absent.
        redis.run("ZADD meter 20220809 20220809");
        assert_eq!(redis.ints("METER.HIT meter AT 1660140677326"), [1, 1, 1]);
        assert_eq!(redis.counts("METER.DAYS meter"), [("20220810".to_owned(), 1)]);
    });
}
