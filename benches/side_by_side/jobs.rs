//! The jobs. What is to be compared is done to keys of the same number and length, with values of the same size, and
//! hashes of the same shape; no two jobs share a key.

use crate::client::{Calls, Client};
use crate::peer::Peer;
use crate::support;

/// `INCR` of an existing key.
pub(crate) const INCR: &str = "INCR";
/// `SET key value EX n` of an existing key: what a limiter would cost at least that sets its expiry at each call.
pub(crate) const SET_EX: &str = "SET EX";
/// The same of a key that does not exist.
pub(crate) const SET_EX_NEW: &str = "SET EX, new key";
/// `HINCRBY` of an existing field of a day's hash: the total, and 15 hours.
pub(crate) const HINCRBY: &str = "HINCRBY";
/// `MULTI`, `HINCRBY` of the day, `HINCRBY` of the hour, `EXEC`, sent in one write; the same hash.
pub(crate) const MULTI: &str = "MULTI 2x HINCRBY EXEC";
/// `HGETALL` of a day's hash: the total, and 24 hours.
pub(crate) const HGETALL: &str = "HGETALL, 24 hours";

/// `CELL.THROTTLE`, and every call passes. The key exists, and its expiry is late enough and stays.
pub(crate) const ALLOWED: &str = "CELL.THROTTLE allowed";
/// The same, but every call has to move the expiry: 30 cells of a hundred a day are taken, then given back.
pub(crate) const ALLOWED_EXPIRY: &str = "CELL.THROTTLE, expiry moved";
/// `CELL.THROTTLE` of a limiter that is exhausted: every call is refused.
pub(crate) const REFUSED: &str = "CELL.THROTTLE refused";
/// `CELL.THROTTLE` of a key that does not exist.
pub(crate) const NEW: &str = "CELL.THROTTLE, new key";
/// `METER.HIT key`: the day's hash exists, with the total and 15 hours, one of them the hour now.
pub(crate) const HIT: &str = "METER.HIT";
/// `METER.HIT key AT unix-ms`, the same with a date in the past.
pub(crate) const HIT_AT: &str = "METER.HIT AT";
/// `METER.KPI key DAY d` of a day of 24 hours.
pub(crate) const KPI: &str = "METER.KPI, 24 hours";

/// [`ALLOWED`] as a script, `throttle.lua`.
pub(crate) const LUA_ALLOWED: &str = "Lua throttle allowed";
/// [`REFUSED`] as a script.
pub(crate) const LUA_REFUSED: &str = "Lua throttle refused";
/// [`NEW`] as a script.
pub(crate) const LUA_NEW: &str = "Lua throttle, new key";
/// [`HIT_AT`] as a script, `hit.lua`, for which the client has worked out day and hour.
pub(crate) const LUA_HIT: &str = "Lua hit";

/// [`ALLOWED`] of a peer module.
pub(crate) const PEER_ALLOWED: &str = "peer allowed";
/// [`REFUSED`] of a peer module.
pub(crate) const PEER_REFUSED: &str = "peer refused";
/// [`NEW`] of a peer module.
pub(crate) const PEER_NEW: &str = "peer, new key";

/// Existing keys of a job, called in turn. Calls on one key are further apart than the client has under way at once, so
/// that they stay in order.
const HOT_KEYS: usize = 1_000;
/// Keys of a job that needs a new one for each call: as many as the longest measurement has calls.
const NEW_KEYS: usize = 20_000;

/// A million an hour with a burst of a million: whatever the run lasts, every call passes. The interval is above the
/// millisecond below which redis-cell fails.
const ROOMY: &str = "999999 1000000 3600";
/// Ten a day: once they are taken, none passes for more than two hours.
const TIGHT: &str = "9 10 86400";
/// A hundred an hour.
const USUAL: &str = "99 100 3600";
/// A hundred a day.
const SLOW: &str = "99 100 86400";

/// The first millisecond and the name of the day that is counted in.
const DAY_MS: i64 = 1_660_003_200_000;
const DAY: &str = "20220809";
const HOUR_MS: i64 = 3_600_000;
/// The hour that is counted in, the last of those that the hash has.
const HOUR: i64 = 14;
/// A count or value as an application has it after a while.
const COUNT: i64 = 1_000;
/// As long as a limiter's state.
const VALUE: i64 = 1_660_053_600_000_000_000;

const OK: &[&str] = &["+OK"];
const INTEGER: &[&str] = &[":"];
const PASSED: &[&str] = &["*5\r\n:0\r\n"];
const LIMITED: &[&str] = &["*5\r\n:1\r\n"];
const COUNTED: &[&str] = &["*3\r\n:"];
const IN_MULTI: &[&str] = &["+OK", "+QUEUED", "+QUEUED", "*2\r\n:"];
const A_DAY: &[&str] = &["*50\r\n$3\r\nday\r\n"];

/// Calls whose cost is measured.
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) calls: Calls,
    /// The commands whose time is the job's, as INFO commandstats names them. A script's time includes that of the
    /// commands it calls, and that of EXEC those of the transaction.
    pub(crate) commands: Vec<String>,
    /// A counter of INFO that each call should raise by one.
    pub(crate) counter: Option<&'static str>,
    seed: Option<Calls>,
    prepare: Option<Calls>,
}

impl Job {
    fn new(name: &'static str, commands: &[&str], calls: Calls) -> Self {
        let commands = commands.iter().map(|command| command.to_lowercase()).collect();
        Self { name, calls, commands, counter: None, seed: None, prepare: None }
    }

    fn counted_by(self, counter: &'static str) -> Self {
        Self { counter: Some(counter), ..self }
    }

    /// With calls that are made once, before the first round.
    fn seeded(self, seed: Calls) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// On new keys: those of `letter` are removed before each measurement.
    fn on_new_keys(self, letter: char) -> Self {
        const AT_ONCE: usize = 100;
        let unlink = Calls::new(NEW_KEYS / AT_ONCE, INTEGER, |n| {
            let keys: Vec<String> = (n * AT_ONCE..(n + 1) * AT_ONCE).map(|n| key(letter, n)).collect();
            format!("UNLINK {}", keys.join(" "))
        });
        Self { prepare: Some(unlink), ..self }
    }

    pub(crate) fn seed(&self, client: &mut Client) {
        run_once(self.seed.as_ref(), client);
    }

    pub(crate) fn prepare(&self, client: &mut Client) {
        run_once(self.prepare.as_ref(), client);
    }
}

fn run_once(calls: Option<&Calls>, client: &mut Client) {
    if let Some(calls) = calls {
        client.run(calls, calls.len(), 100);
    }
}

/// The n-th key of the job with this letter.
fn key(letter: char, n: usize) -> String {
    format!("limit:user:{letter}:{n:06}")
}

/// The n-th meter of the job with this letter.
fn meter(letter: char, n: usize) -> String {
    format!("kpi:sessions:app:{letter}:node:{n:06}")
}

/// The hash of that meter's day.
fn day(letter: char, n: usize) -> String {
    format!("{}:day:{DAY}", meter(letter, n))
}

/// All jobs on this server, with their scripts loaded.
pub(crate) fn all(control: &mut support::Client, peer: Option<&Peer>) -> Vec<Job> {
    let mut jobs = core();
    jobs.extend(throttle(
        [(ALLOWED, 'a'), (REFUSED, 'b'), (NEW, 'c')],
        "CELL.THROTTLE",
        |key, quota, quantity| format!("CELL.THROTTLE {key} {quota} {quantity}"),
        [Some("meter_cells_allowed"), Some("meter_cells_refused")],
    ));
    jobs.push(throttle_with_expiry_moved());
    jobs.extend(meters());
    jobs.extend(scripts(control));
    if let Some(Peer { command, .. }) = peer {
        jobs.extend(throttle(
            [(PEER_ALLOWED, 'd'), (PEER_REFUSED, 'e'), (PEER_NEW, 'f')],
            command,
            |key, quota, quantity| format!("{command} {key} {quota} {quantity}"),
            [None, None],
        ));
    }
    jobs
}

fn core() -> Vec<Job> {
    let set = |letter| move |n| format!("SET {} {VALUE} EX 3600", key(letter, n));
    vec![
        Job::new(INCR, &["INCR"], Calls::new(HOT_KEYS, INTEGER, |n| format!("INCR {}", key('g', n))))
            .seeded(Calls::new(HOT_KEYS, OK, |n| format!("SET {} {VALUE}", key('g', n)))),
        Job::new(SET_EX, &["SET"], Calls::new(HOT_KEYS, OK, set('h'))),
        Job::new(SET_EX_NEW, &["SET"], Calls::new(NEW_KEYS, OK, set('i'))).on_new_keys('i'),
        Job::new(HINCRBY, &["HINCRBY"], Calls::new(HOT_KEYS, INTEGER, |n| format!("HINCRBY {} {HOUR} 1", day('j', n))))
            .seeded(day_by_hset('j')),
        Job::new(
            MULTI,
            &["MULTI", "EXEC"],
            Calls::new(HOT_KEYS, IN_MULTI, |n| {
                let day = day('k', n);
                format!("MULTI\nHINCRBY {day} day 1\nHINCRBY {day} {HOUR} 1\nEXEC")
            }),
        )
        .seeded(day_by_hset('k')),
    ]
}

/// Every day's hash as the meter of these jobs has it.
fn day_by_hset(letter: char) -> Calls {
    let hours: Vec<String> = (0..=HOUR).map(|hour| format!("{hour} {COUNT}")).collect();
    let total = (HOUR + 1) * COUNT;
    Calls::new(HOT_KEYS, INTEGER, |n| format!("HSET {} day {total} {}", day(letter, n), hours.join(" ")))
}

/// The three jobs of a limiter: allowed, refused, on new keys. `call` is a call with a key, a quota and a quantity.
fn throttle(
    [allowed, refused, new]: [(&'static str, char); 3],
    command: &str,
    call: impl Fn(String, &str, u32) -> String,
    [allowed_counter, refused_counter]: [Option<&'static str>; 2],
) -> Vec<Job> {
    let calls =
        |count, replies, letter, quota, quantity| Calls::new(count, replies, |n| call(key(letter, n), quota, quantity));
    let job = |name, counter, calls| Job { counter, ..Job::new(name, &[command], calls) };
    vec![
        job(allowed.0, allowed_counter, calls(HOT_KEYS, PASSED, allowed.1, ROOMY, 1)),
        job(refused.0, refused_counter, calls(HOT_KEYS, LIMITED, refused.1, TIGHT, 1))
            .seeded(calls(HOT_KEYS, PASSED, refused.1, TIGHT, 10)),
        job(new.0, allowed_counter, calls(NEW_KEYS, PASSED, new.1, USUAL, 1)).on_new_keys(new.1),
    ]
}

fn throttle_with_expiry_moved() -> Job {
    let call = |n, quantity| format!("CELL.THROTTLE {} {SLOW} {quantity}", key('l', n));
    let take_then_give_back =
        Calls::new(2 * HOT_KEYS, PASSED, |n| call(n % HOT_KEYS, if n < HOT_KEYS { 30 } else { -30 }));
    // What is taken beforehand does not drain as long as the run lasts, so that giving back never ends at full.
    Job::new(ALLOWED_EXPIRY, &["CELL.THROTTLE"], take_then_give_back)
        .seeded(Calls::new(HOT_KEYS, PASSED, |n| call(n, 10)))
}

fn meters() -> Vec<Job> {
    let today = support::now_ms().div_euclid(24 * HOUR_MS) * 24 * HOUR_MS;
    let hour_now = support::now_ms().rem_euclid(24 * HOUR_MS) / HOUR_MS;
    let at = DAY_MS + HOUR * HOUR_MS;
    let hit = |letter, at| move |n| format!("METER.HIT {} AT {at}", meter(letter, n));
    // Hour after hour, so that the hour that is counted in is the last field, as in the hash of the core's jobs.
    let seed = |letter, hours: Vec<i64>| {
        Calls::new(HOT_KEYS * hours.len(), COUNTED, move |n| {
            let at = hours[n / HOT_KEYS];
            format!("METER.HIT {} BY {COUNT} AT {at}", meter(letter, n % HOT_KEYS))
        })
    };
    let until_now = (hour_now + 24 - HOUR..=hour_now + 24).map(|hour| today + hour % 24 * HOUR_MS).collect();
    let until_at = (0..=HOUR).map(|hour| DAY_MS + hour * HOUR_MS).collect();
    let all_day = (0..24).map(|hour| DAY_MS + hour * HOUR_MS).collect();
    vec![
        Job::new(HIT, &["METER.HIT"], Calls::new(HOT_KEYS, COUNTED, |n| format!("METER.HIT {}", meter('m', n))))
            .seeded(seed('m', until_now))
            .counted_by("meter_hits_counted"),
        Job::new(HIT_AT, &["METER.HIT"], Calls::new(HOT_KEYS, COUNTED, hit('n', at)))
            .seeded(seed('n', until_at))
            .counted_by("meter_hits_counted"),
        Job::new(
            KPI,
            &["METER.KPI"],
            Calls::new(HOT_KEYS, A_DAY, |n| format!("METER.KPI {} DAY {DAY}", meter('o', n))),
        )
        .seeded(seed('o', all_day)),
        // The very same hashes: reading changes nothing.
        Job::new(HGETALL, &["HGETALL"], Calls::new(HOT_KEYS, A_DAY, |n| format!("HGETALL {}", day('o', n)))),
    ]
}

fn scripts(control: &mut support::Client) -> Vec<Job> {
    let mut load = |script: &str| {
        let sha = control.try_call(&[b"SCRIPT", b"LOAD", script.as_bytes()]).expect("a script");
        redis::from_redis_value::<String>(sha).expect("its digest")
    };
    let throttle_sha = load(include_str!("throttle.lua"));
    let hit_sha = load(include_str!("hit.lua"));
    let mut jobs = throttle(
        [(LUA_ALLOWED, 'p'), (LUA_REFUSED, 'q'), (LUA_NEW, 'r')],
        "EVALSHA",
        |key, quota, quantity| format!("EVALSHA {throttle_sha} 1 {key} {quota} {quantity}"),
        [None, None],
    );
    let hit = |n| format!("EVALSHA {hit_sha} 2 {} {} {DAY} {HOUR}", meter('s', n), day('s', n));
    jobs.push(Job::new(LUA_HIT, &["EVALSHA"], Calls::new(HOT_KEYS, COUNTED, hit)).seeded(day_by_hset('s')));
    jobs
}
