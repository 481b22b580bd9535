//! `CL.THROTTLE` compared with the redis-cell that it replaces: the same calls at the same instants, on two servers
//! whose clocks stand still between calls, in the range where redis-cell is right: intervals of whole milliseconds, at
//! most 1000 cells a second, no refund beyond full.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use testkit::{Client, Program, Random, Server, now_ms, on_every_program, setting};

/// The published redis-cell, built once.
fn redis_cell() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let output = Command::new(testkit::root().join("scripts/fetch-redis-cell")).output().expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a path").trim().into()
    })
}

/// The two servers, at one time.
struct Pair {
    ours: Server,
    theirs: Server,
    /// Nanoseconds since the epoch.
    now: i64,
}

const MILLI: i64 = 1_000_000;

impl Pair {
    fn start(program: &Program, folder: &Path) -> Self {
        let program = program.preloading("clock.c", "FROZEN=1", folder);
        let ours = Server::with_module(&program, "cl-throttle yes", &[]);
        let theirs = Server::bare(&program, &["--loadmodule", &redis_cell().display().to_string()]);
        let mut pair = Self { ours, theirs, now: now_ms() * MILLI };
        pair.advance(0);
        pair
    }

    fn advance(&mut self, ms: i64) {
        self.now += ms * MILLI;
        for server in [&self.ours, &self.theirs] {
            server.set_clock(self.now);
        }
    }
}

/// Policies `max_burst count period` with a name for the interval in milliseconds.
const POLICIES: [(&str, i64); 14] = [
    ("0 1 60", 60_000),
    ("4 5 3600", 720_000),
    ("2 1 1", 1_000),
    ("0 1 1", 1_000),
    ("15 30 60", 2_000),
    ("9 100 10", 100),
    ("99 1000 1", 1),
    ("0 1000 1", 1),
    ("3 250 1", 4),
    ("7 8 1", 125),
    ("29 60 60", 1_000),
    ("5 7 70", 10_000),
    ("-1 1 60", 60_000),
    ("-1 30 60", 2_000),
];

/// Another way of writing an integer, which redis-cell takes too.
fn spelled(random: &mut Random, word: &str) -> String {
    match (random.below(6), word.strip_prefix('-')) {
        (0, None) => format!("+{word}"),
        (1, None) => format!("00{word}"),
        (2, Some(digits)) => format!("-0{digits}"),
        (3, None) if word == "0" => "-0".to_owned(),
        _ => word.to_owned(),
    }
}

/// Whether both return the same. redis-cell of this version cuts the two waits down to whole seconds; ours never ends a
/// wait early by a second.
fn agree(ours: &[i64], theirs: &[i64]) -> bool {
    let waits = ours[3..].iter().zip(&theirs[3..]);
    ours[..3] == theirs[..3] && waits.into_iter().all(|(ours, theirs)| (0..=1).contains(&(ours - theirs)))
}

/// Whether the server's time is the pair's to the nanosecond.
fn stands_still(pair: &Pair, redis: &mut Client) -> bool {
    redis.run("CL.THROTTLE probe 0 1 3600");
    redis.string("GET probe") == Some((pair.now + 3_600_000 * MILLI).to_string())
}

#[test]
fn random_traffic_gets_the_replies_of_redis_cell() {
    let calls = setting("METER_CELL_CALLS", 3_000);
    let seed = setting("METER_CELL_SEED", now_ms().unsigned_abs());
    println!("METER_CELL_SEED={seed}");
    on_every_program(|program| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut pair = Pair::start(program, folder.path());
        let (mut ours, mut theirs) = (pair.ours.connect(), pair.theirs.connect());
        if !stands_still(&pair, &mut ours) || !stands_still(&pair, &mut theirs) {
            // Valkey continues from the last instant by the processor's own counter.
            assert!(program.is_valkey(), "{} {:?}: the clock does not stand still", program.product, program.version);
            return;
        }
        let mut random = Random::new(seed);
        let mut refused = 0;
        for nth in 0..calls {
            let owner = random.below(12);
            let key = format!("k{owner}");
            // Most calls to a key are of one policy, some of another: GET 30 a minute and POST 5 an hour.
            let place = if random.below(4) == 0 { random.below(POLICIES.len()) } else { owner };
            let (policy, interval) = POLICIES[place];
            let tat: i64 = theirs.string(&format!("GET {key}")).map_or(0, |text| text.parse().expect("a TAT"));
            let room = (tat - pair.now) / (interval * MILLI);
            let quantity = match random.below(10) {
                0 => 0,
                1 | 2 if room > 1 => {
                    -i64::try_from(random.below(usize::try_from(room - 1).expect("small"))).expect("small")
                }
                3 => i64::try_from(2 + random.below(20)).expect("small"),
                4 => 2,
                _ => 1,
            };
            let words: Vec<String> = policy.split(' ').map(|word| spelled(&mut random, word)).collect();
            let quantity = spelled(&mut random, &quantity.to_string());
            let line = format!("CL.THROTTLE {key} {} {quantity}", words.join(" "));
            let (our, their) = (ours.ints(&line), theirs.ints(&line));
            assert!(
                agree(&our, &their),
                "call {nth}, {line}, TAT {} ms ahead: {our:?}, redis-cell {their:?}",
                (tat - pair.now) / MILLI
            );
            refused += our[0];
            let ahead =
                |redis: &mut Client| redis.string(&format!("GET {key}")).and_then(|text| text.parse::<i64>().ok());
            let (our, their) = [&mut ours, &mut theirs].map(|redis| ahead(redis).filter(|&tat| tat > pair.now)).into();
            assert_eq!(our, their, "call {nth}, {line}: the stored TAT");
            if random.below(3) == 0 {
                let most = if random.below(3) == 0 { 2 * interval } else { 50 };
                pair.advance(i64::try_from(random.below(usize::try_from(most).expect("small"))).expect("small"));
            }
        }
        let refused = u64::try_from(refused).expect("a count");
        assert!(refused > calls / 20 && refused < calls - calls / 20, "{refused} of {calls} are refused");
    });
}

#[test]
fn two_policies_may_share_a_key_and_the_stricter_one_holds() {
    on_every_program(|program| {
        let server = Server::with_module(program, "cl-throttle yes", &[]);
        let mut redis = server.connect();
        // GET 1/s and POST 5/h by one API key: the posts must stay 5 an hour, with any number of gets.
        for post in 1..=5 {
            assert_eq!(redis.ints("CL.THROTTLE user 4 5 3600")[..3], [0, 5, 5 - post]);
        }
        for _ in 0..20 {
            let before = redis.contents();
            let get = redis.ints("CL.THROTTLE user 0 1 1");
            assert_eq!(get[..3], [1, 1, 0]);
            assert!((3_590..=3_600).contains(&get[3]) && (3_590..=3_600).contains(&get[4]), "{get:?}");
            assert_eq!(redis.ints("CL.THROTTLE user 4 5 3600")[..3], [1, 5, 0]);
            assert_eq!(redis.ints("CL.THROTTLE user 0 1 1 0")[..3], [1, 1, 0], "a look too is too early");
            assert_eq!(redis.contents(), before, "a refusal changes nothing");
        }
        // CELL.THROTTLE cuts what reaches too far ahead, CL.THROTTLE does not.
        let before = redis.string("GET user");
        redis.run("CL.THROTTLE user 0 1 60");
        assert_eq!(redis.string("GET user"), before);
    });
}

#[test]
fn a_burst_of_minus_one_refuses_every_call() {
    on_every_program(|program| {
        let server = Server::with_module(program, "cl-throttle yes", &[]);
        let mut redis = server.connect();
        for line in ["CL.THROTTLE u -1 1 60", "CL.THROTTLE u -1 30 60 5", "CL.THROTTLE u -1 1 60 1 MS"] {
            assert_eq!(redis.ints(line), [1, 0, 0, -1, 0]);
            assert_eq!(redis.int("EXISTS u"), 0);
        }
        assert_eq!(redis.ints("CL.THROTTLE u -1 1 60 0"), [0, 0, 0, -1, 0]);
        for wrong in [
            "-2 1 60",
            "-1 0 60",
            "-1 -1 60",
            "-1 1 0",
            "x 1 60",
            "+ 1 60",
            "++1 1 60",
            "+-1 1 60",
            "1 1 60 2 x",
            "- 1 60",
        ] {
            assert!(redis.error(&format!("CL.THROTTLE u {wrong}")).starts_with("ERR "), "{wrong}");
        }
        assert!(redis.error("CELL.THROTTLE u -1 1 60").starts_with("ERR "), "not by the other name");
    });
}

#[test]
fn numbers_may_have_a_plus_or_zeros() {
    on_every_program(|program| {
        let server = Server::with_module(program, "cl-throttle yes", &[]);
        let mut redis = server.connect();
        assert_eq!(redis.ints("CL.THROTTLE u +3 007 00700 +02")[..3], [0, 4, 2]);
        assert_eq!(redis.ints("CL.THROTTLE u 3 7 700 -01")[..3], [0, 4, 3]);
        assert_eq!(redis.ints("CL.THROTTLE u +0003 +7 +700 -0")[..3], [0, 4, 3]);
        assert_eq!(redis.ints("CL.THROTTLE v 3 7 +00.25 00")[..2], [0, 4], "decimals as with CELL.THROTTLE");
        assert!(redis.error("CELL.THROTTLE u +3 7 700").starts_with("ERR "), "not by the other name");
    });
}

#[test]
fn a_wait_of_less_than_a_millisecond_is_none() {
    on_every_program(|program| {
        let server = Server::with_module(program, "cl-throttle yes", &[]);
        let mut redis = server.connect();
        let mut waits = Vec::new();
        for _ in 0..200 {
            let script =
                b"redis.call('CL.THROTTLE', KEYS[1], 0, 2000, 1) return redis.call('CL.THROTTLE', KEYS[1], 0, 2000, 1)";
            let reply = redis.try_call(&[b"EVAL", script, b"1", b"u"]).expect("an answer");
            let reply: Vec<i64> = redis::from_redis_value(reply).expect("integers");
            if reply[0] == 1 {
                waits.push(reply[3]);
            }
        }
        assert!(!waits.is_empty() && waits.iter().all(|&wait| wait == 0), "{waits:?}");
    });
}
