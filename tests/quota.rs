//! CELL.QUOTA on servers whose clock stands still between calls: units of the calendar, to the millisecond.

use chrono::NaiveDateTime;
use testkit::{Client, Program, Server, Value, on_every_program};

/// A server at an instant of the test's choice.
struct Frozen {
    server: Server,
    redis: Client,
    _folder: tempfile::TempDir,
}

impl Frozen {
    /// `None` where the server's clock cannot be stopped: newer Valkeys count on by the processor's own.
    fn start(program: &Program) -> Option<Self> {
        if program.is_valkey() && program.version.0 >= 9 {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let program = program.preloading("clock.c", "FROZEN=1", folder.path());
        let server = Server::with_module(&program, "", &[]);
        let redis = server.connect();
        let mut frozen = Self { server, redis, _folder: folder };
        // Twice, since such a server looks at the clock now and then.
        let stands = [("12", 43_200_000), ("13", 39_600_000)].into_iter().all(|(hour, left)| {
            let redis = frozen.at(&format!("2026-11-27 {hour}:00:00.000"));
            redis.run("DEL probe");
            redis.ints("CELL.QUOTA probe 1 DAY 1 MS")[4] == left
        });
        frozen.redis.run("FLUSHALL");
        assert!(stands || program.is_valkey(), "{} {:?}: the clock goes on", program.product, program.version);
        stands.then_some(frozen)
    }

    /// Sets the clock, to an instant in UTC such as `2024-02-29 23:59:59.999`.
    fn at(&mut self, text: &str) -> &mut Client {
        self.server.set_clock(millis(text) * 1_000_000);
        &mut self.redis
    }
}

fn millis(text: &str) -> i64 {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.3f").expect("an instant");
    time.and_utc().timestamp_millis()
}

/// The options of a call, the first millisecond of a unit, the last one, and the first of the next.
const UNITS: [(&str, &str, &str, &str); 12] = [
    ("HOUR", "2026-11-27 06:00:00.000", "2026-11-27 06:59:59.999", "2026-11-27 07:00:00.000"),
    ("HOUR 1 OFFSET +05:45", "2026-11-27 06:15:00.000", "2026-11-27 07:14:59.999", "2026-11-27 07:15:00.000"),
    ("DAY", "2026-11-27 00:00:00.000", "2026-11-27 23:59:59.999", "2026-11-28 00:00:00.000"),
    ("DAY 1 OFFSET +05:45", "2026-11-26 18:15:00.000", "2026-11-27 18:14:59.999", "2026-11-27 18:15:00.000"),
    ("DAY 1 OFFSET -03:30", "2026-11-27 03:30:00.000", "2026-11-28 03:29:59.999", "2026-11-28 03:30:00.000"),
    // From a Monday in one year to the Monday in the next.
    ("WEEK", "2025-12-29 00:00:00.000", "2026-01-04 23:59:59.999", "2026-01-05 00:00:00.000"),
    ("WEEK 1 ANCHOR 2026-11-27", "2025-12-26 00:00:00.000", "2026-01-01 23:59:59.999", "2026-01-02 00:00:00.000"),
    ("MONTH", "2024-02-01 00:00:00.000", "2024-02-29 23:59:59.999", "2024-03-01 00:00:00.000"),
    // The 31st in a leap year and in a common one.
    ("MONTH 1 ANCHOR 2022-07-31", "2024-01-31 00:00:00.000", "2024-02-28 23:59:59.999", "2024-02-29 00:00:00.000"),
    ("MONTH 1 ANCHOR 20220731", "2026-02-28 00:00:00.000", "2026-03-30 23:59:59.999", "2026-03-31 00:00:00.000"),
    (
        "MONTH 1 ANCHOR 2022-07-30 OFFSET +05:45",
        "2026-02-27 18:15:00.000",
        "2026-03-29 18:14:59.999",
        "2026-03-29 18:15:00.000",
    ),
    ("YEAR 1 ANCHOR 2024-02-29", "2026-02-28 00:00:00.000", "2027-02-27 23:59:59.999", "2027-02-28 00:00:00.000"),
];

#[test]
fn a_unit_is_exact_to_the_millisecond() {
    on_every_program(|program| {
        let Some(mut frozen) = Frozen::start(program) else { return };
        for (options, first, last, next) in UNITS {
            let call = format!("CELL.QUOTA k 2 {options}");
            let ms = format!("{call} MS");
            let length = millis(next) - millis(first);
            assert_eq!(frozen.at(first).ints(&ms), [0, 2, 1, -1, length], "{ms}: the first moment");
            assert_eq!(frozen.redis.ints(&call)[4], (length + 999) / 1000, "{call}: in seconds");
            assert_eq!(frozen.redis.ints(&ms), [1, 2, 0, length, length], "{ms}: until the unit ends");
            let ttl = frozen.redis.int("PTTL k");
            assert_eq!(ttl, length, "{call}: what is stored expires with the unit");
            assert_eq!(frozen.at(last).ints(&ms), [1, 2, 0, 1, 1], "{ms}: the last moment");
            let left = millis(next) - millis(last);
            assert_eq!(left, 1);
            assert_eq!(frozen.at(next).ints(&ms)[..4], [0, 2, 1, -1], "{ms}: the next unit");
            frozen.redis.run("DEL k");
        }
    });
}

#[test]
fn a_lowered_limit_refuses_until_the_unit_ends() {
    on_every_program(|program| {
        let Some(mut frozen) = Frozen::start(program) else { return };
        let redis = frozen.at("2026-11-27 12:00:00.000");
        assert_eq!(redis.ints("CELL.QUOTA k 10 DAY 8"), [0, 10, 2, -1, 43_200]);
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY"), [1, 5, 0, 43_200, 43_200]);
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY 3 PARTIAL"), [1, 5, 0, 43_200, 43_200, 0]);
        assert_eq!(redis.string("GET k").as_deref(), Some("8"), "what was taken stays taken");
        assert_eq!(redis.ints("CELL.QUOTA k 10 DAY 5 PARTIAL"), [0, 10, 0, -1, 43_200, 2]);
        assert_eq!(frozen.at("2026-11-28 00:00:00.000").ints("CELL.QUOTA k 5 DAY"), [0, 5, 4, -1, 86_400]);
    });
}

#[test]
fn a_state_of_a_longer_unit_is_cut_by_a_call_that_takes() {
    on_every_program(|program| {
        let Some(mut frozen) = Frozen::start(program) else { return };
        let redis = frozen.at("2026-11-27 12:00:00.000");
        let year = millis("2027-01-01 00:00:00.000") - millis("2026-11-27 12:00:00.000");
        redis.run("CELL.QUOTA k 5 YEAR 5");
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY 0"), [0, 5, 0, -1, 43_200], "read as it will be");
        assert_eq!(redis.int("PTTL k"), year, "a look stores nothing");
        assert_eq!(redis.ints("CELL.QUOTA_RO k 5 DAY"), [1, 5, 0, 43_200, 43_200]);
        assert_eq!(redis.int("PTTL k"), year, "neither does the read-only variant");
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY"), [1, 5, 0, 43_200, 43_200], "a refusal stores it");
        assert_eq!(redis.int("PTTL k"), 43_200_000);
        // A shorter unit's state keeps its end.
        assert_eq!(redis.ints("CELL.QUOTA k 9 MONTH"), [0, 9, 3, -1, 43_200]);
        assert_eq!(redis.int("PTTL k"), 43_200_000);
    });
}

#[test]
fn a_refund_lowers_this_units_count_and_no_other() {
    on_every_program(|program| {
        let Some(mut frozen) = Frozen::start(program) else { return };
        let redis = frozen.at("2026-11-27 12:00:00.000");
        redis.run("CELL.QUOTA k 5 DAY 4");
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY -1"), [0, 5, 2, -1, 43_200]);
        assert_eq!(redis.string("GET k").as_deref(), Some("3"));
        // After the boundary there is nothing to refund, and the new unit does not become larger.
        let redis = frozen.at("2026-11-28 00:00:00.000");
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY -3"), [0, 5, 5, -1, 0]);
        assert_eq!(redis.int("EXISTS k"), 0);
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY 5 MS"), [0, 5, 0, -1, 86_400_000]);
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY -9")[..3], [0, 5, 5], "never beyond full");
        assert_eq!(redis.int("EXISTS k"), 0, "a full one leaves no key");
    });
}

#[test]
fn a_counter_of_another_program_is_taken_over() {
    on_every_program(|program| {
        let Some(mut frozen) = Frozen::start(program) else { return };
        let redis = frozen.at("2026-11-27 12:00:00.000");
        redis.run("SET k 3");
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY"), [0, 5, 1, -1, 43_200]);
        assert_eq!(redis.int("PTTL k"), 43_200_000, "it gets the unit's end");
        redis.run("SET k 0");
        assert_eq!(redis.ints("CELL.QUOTA k 5 DAY 5"), [0, 5, 0, -1, 43_200]);
        for value in ["-1", "9007199254740993", "1.5", "x"] {
            redis.run(&format!("SET k {value}"));
            let error = redis.error("CELL.QUOTA k 5 DAY");
            assert!(error.starts_with("ERR ") && error.contains("'k'"), "{error}");
            assert_eq!(redis.string("GET k").as_deref(), Some(value));
        }
    });
}

#[test]
fn errors_name_the_argument_and_the_remedy() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let mut redis = server.connect();
        for (call, expected) in [
            ("CELL.QUOTA k 5", "wrong number of arguments"),
            ("CELL.QUOTA k 0 DAY", "limit"),
            ("CELL.QUOTA k 9007199254740993 DAY", "limit"),
            ("CELL.QUOTA k 5 MINUTE", "HOUR, DAY, WEEK, MONTH or YEAR, not 'MINUTE'"),
            ("CELL.QUOTA k 5 DAY 1.5", "quantity"),
            ("CELL.QUOTA k 5 HOUR 1 ANCHOR 2022-07-17", "ANCHOR needs a unit of DAY or longer"),
            ("CELL.QUOTA k 5 DAY 1 ANCHOR 2022-02-30", "ANCHOR"),
            ("CELL.QUOTA k 5 DAY 1 ANCHOR", "ANCHOR"),
            ("CELL.QUOTA k 5 DAY 1 OFFSET +24:00", "OFFSET must be from -23:59 to +23:59"),
            ("CELL.QUOTA k 5 DAY 1 OFFSET 05:45", "OFFSET must be from -23:59 to +23:59"),
            ("CELL.QUOTA k 5 DAY 1 OFFSET +01:00 OFFSET +01:00", "OFFSET"),
            ("CELL.QUOTA k 5 DAY 0 PARTIAL", "PARTIAL"),
            ("CELL.QUOTA k 5 DAY 1 BLOCK 60", "unknown option 'BLOCK'"),
        ] {
            let error = redis.error(call);
            assert!(error.starts_with("ERR ") && error.contains(expected), "{call}: {error}");
            assert_eq!(redis.int("DBSIZE"), 0, "{call}");
        }
    });
}

#[test]
fn replicas_serve_the_read_only_variant_alone() {
    on_every_program(|program| {
        let server = Server::start(program, &[]);
        let replica = Server::start(program, &["--replicaof", "127.0.0.1", &server.port.to_string()]);
        let (mut redis, mut other) = (server.connect(), replica.connect());
        redis.run("CELL.QUOTA k 5 YEAR 3");
        server.wait_for_replica(&replica);
        assert_eq!(other.ints("CELL.QUOTA_RO k 5 YEAR 2")[..4], [0, 5, 0, -1]);
        assert!(other.error("CELL.QUOTA k 5 YEAR").starts_with("READONLY"));
        assert_eq!(other.run("GET k"), Value::BulkString(b"3".to_vec()));
    });
}
