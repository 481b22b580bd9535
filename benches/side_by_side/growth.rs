//! The same calls on one key, on a thousand and on a million, each number of keys in a database of its own, called in
//! an order that jumps about: what a call costs, how many bytes a key of a million takes, and how long an answer takes
//! when calls come at half of the rate at which the server can keep up with `SET … EX`, one at a time on each
//! connection, on a million keys.

use std::thread;
use std::time::Duration;

use crate::jobs::{INTEGER, Job, Lua, OK};
use crate::measure::{Extent, cost, in_rounds};
use crate::peer::Peer;
use crate::report::{Pair, add, ratios};
use testkit::load::{Calls, Client};
use testkit::record::Record;
use testkit::spread::Spread;

const GROUP: &str = "growth";

/// `SET key value EX n`.
const SET_EX: &str = "SET EX";
/// `CELL.THROTTLE` that passes, and whose expiry stays.
const ALLOWED: &str = "CELL.THROTTLE allowed";
/// `CELL.THROTTLE` of limiters that are exhausted.
const REFUSED: &str = "CELL.THROTTLE refused";
/// [`ALLOWED`] of a peer module.
const PEER: &str = "peer allowed";
/// [`ALLOWED`] as a script, `throttle.lua`.
const LUA: &str = "Lua throttle allowed";
/// `HINCRBY` of the hour of a day's hash that has the day and one hour.
const HINCRBY: &str = "HINCRBY";
/// `METER.HIT key`, of a meter with such a day: two keys.
const HIT: &str = "METER.HIT";

const COST_RATIOS: &[Pair] =
    &[(ALLOWED, SET_EX), (REFUSED, SET_EX), (ALLOWED, PEER), (ALLOWED, LUA), (HIT, SET_EX), (HIT, HINCRBY)];
const LATENCY_RATIOS: &[Pair] = &[(ALLOWED, SET_EX), (REFUSED, SET_EX), (ALLOWED, PEER), (ALLOWED, LUA), (HIT, SET_EX)];

const SIZES: [usize; 3] = [1, 1_000, 1_000_000];
const SIZE_NAMES: [&str; SIZES.len()] = ["1 key", "1,000 keys", "1,000,000 keys"];
const MILLION: usize = SIZES.len() - 1;
/// Of a measurement of the latencies: less than a tenth of a second, and four of them are later than p99.9. A machine that
/// is shared stalls now and then for longer than that; short rounds keep such a stall from being in all of them.
const LATENCY_CALLS: usize = 4_000;
/// So many times the rounds of a cost.
const LATENCY_ROUNDS: usize = 10;
/// Has no common divisor with any of [`SIZES`], so that all keys are called in turn.
const STRIDE: usize = 618_033;

/// A million cells in a thousand days: none is refused and no limiter is full again as long as the run lasts.
const ROOMY: &str = "999999 1000000 86400000";
/// Ten in a thousand days.
const TIGHT: &str = "9 10 86400000";
/// As long as a limiter's state.
const VALUE: i64 = 1_660_053_600_000_000_000;
/// The hour of the hashes that are no meters.
const HOUR: i64 = 14;

/// A kind of key, and the calls on it.
struct Kind {
    name: &'static str,
    command: String,
    /// What makes the key with this number, and how that is answered.
    seed: (Box<dyn Fn(usize) -> String>, &'static [&'static str]),
    /// The calls that are measured.
    call: (Box<dyn Fn(usize) -> String>, &'static [&'static str]),
}

/// A measurement of the latencies.
#[derive(Clone, Copy)]
struct Latencies([f64; LEVELS]);

const LEVELS: usize = 3;
const LEVEL_NAMES: [&str; LEVELS] = ["p50", "p99", "p99.9"];

impl Latencies {
    /// Of these calls, in microseconds.
    fn of(mut calls: Vec<Duration>) -> Self {
        calls.sort_unstable();
        // The least that so many are no longer than.
        let level = |per_mille: usize| calls[(calls.len() * per_mille).div_ceil(1_000) - 1].as_secs_f64() * 1e6;
        Self([500, 990, 999].map(level))
    }
}

/// Databases that a server needs for it.
pub(crate) fn databases(peer: Option<&Peer>) -> usize {
    1 + (6 + usize::from(peer.is_some())) * SIZES.len()
}

pub(crate) fn run(
    control: &mut testkit::Client,
    client: &mut Client,
    peer: Option<&Peer>,
    extent: Extent,
    record: &mut Record,
) {
    println!("\ngroup     {GROUP}");
    let kinds = kinds(control, peer);
    let jobs: Vec<[Job; SIZES.len()]> = kinds.iter().map(|kind| SIZES.map(|size| kind.job(size))).collect();
    let mut bytes = Vec::new();
    for (kind, jobs) in jobs.iter().enumerate() {
        for (size, (job, keys)) in jobs.iter().zip(SIZES).enumerate() {
            let before = if size == MILLION { used_memory(control) } else { 0.0 };
            client.select(database(kind, size));
            job.seed(client);
            // As it is in use: a value may take another form when it is changed.
            client.run(&job.calls, 0, keys, 100);
            if size == MILLION {
                bytes.push((used_memory(control) - before) / keys as f64);
            }
        }
    }
    let costs = costs(&jobs, control, client, extent);
    let (a_second, latencies) = latencies(&jobs, client, extent);

    print!("\n{:40}", "microseconds a call");
    SIZE_NAMES.iter().for_each(|keys| print!("{keys:>15}{:>17}", "min - max"));
    println!("{:>15}", "bytes a key");
    for ((kind, costs), bytes) in kinds.iter().zip(&costs).zip(bytes) {
        print!("{:40}", kind.name);
        for (keys, costs) in SIZE_NAMES.iter().zip(costs) {
            let spread = Spread::of(costs.iter().copied());
            print!("{:15.3}{:>17}", spread.median, format!("{:.3} - {:.3}", spread.min, spread.max));
            add(GROUP, kind.name, &format!("usec on {keys}"), spread, record);
        }
        println!("{:15.1}", bytes);
        add(GROUP, kind.name, "bytes a key", Spread::of([bytes]), record);
    }
    let place = |name: &str| kinds.iter().position(|kind| kind.name == name);
    for (size, keys) in SIZE_NAMES.into_iter().enumerate() {
        let title = format!("cost on {keys}, ratio (below 1: the first is cheaper)");
        let measure = format!("usec on {keys}");
        let samples = |name: &str| place(name).map(|kind| costs[kind][size].clone());
        ratios(GROUP, (&measure, &title), COST_RATIOS, samples, |cost| *cost, record);
    }

    println!("\n{:40}{:>10.0} calls a second", "half of the peak rate of SET EX", a_second);
    add(GROUP, SET_EX, "half of the peak rate", Spread::of([a_second]), record);
    print!("{:40}", "microseconds until the answer");
    LEVEL_NAMES.iter().for_each(|name| print!("{name:>10}{:>17}", "min - max"));
    println!();
    for (kind, samples) in kinds.iter().zip(&latencies) {
        print!("{:40}", kind.name);
        for (level, name) in LEVEL_NAMES.into_iter().enumerate() {
            let spread = Spread::of(samples.iter().map(|sample| sample.0[level]));
            print!("{:10.1}{:>17}", spread.median, format!("{:.0} - {:.0}", spread.min, spread.max));
            add(GROUP, kind.name, name, spread, record);
        }
        println!();
    }
    for (level, name) in LEVEL_NAMES.into_iter().enumerate() {
        let title = format!("{name}, ratio (below 1: the first answers sooner)");
        let samples = |name: &str| place(name).map(|kind| latencies[kind].clone());
        ratios(GROUP, (name, &title), LATENCY_RATIOS, samples, |sample| sample.0[level], record);
    }
}

/// The costs of each kind on each number of keys.
fn costs(
    jobs: &[[Job; SIZES.len()]],
    control: &mut testkit::Client,
    client: &mut Client,
    extent: Extent,
) -> Vec<[Vec<f64>; SIZES.len()]> {
    let mut costs: Vec<[Vec<f64>; SIZES.len()]> = jobs.iter().map(|_| Default::default()).collect();
    in_rounds(extent.rounds, jobs.len() * SIZES.len(), |round, thing| {
        let (kind, size) = (thing / SIZES.len(), thing % SIZES.len());
        client.select(database(kind, size));
        let cost = cost(&jobs[kind][size], round * extent.cost_calls, extent.cost_calls, client, control);
        if round > 0 {
            costs[kind][size].push(cost);
        }
    });
    costs
}

/// The rate of the calls, and the latencies of each kind on a million keys.
fn latencies(jobs: &[[Job; SIZES.len()]], client: &mut Client, extent: Extent) -> (f64, Vec<Vec<Latencies>>) {
    let peak_calls = 5 * extent.cost_calls;
    client.select(database(0, MILLION));
    let peak = peak_calls as f64 / client.run(&jobs[0][MILLION].calls, 0, peak_calls, 1).as_secs_f64();
    let a_second = peak / 2.0;
    let mut latencies: Vec<Vec<Latencies>> = jobs.iter().map(|_| Vec::new()).collect();
    in_rounds(LATENCY_ROUNDS * extent.rounds, jobs.len(), |round, kind| {
        client.select(database(kind, MILLION));
        let taken = client.run_at(&jobs[kind][MILLION].calls, round * LATENCY_CALLS, LATENCY_CALLS, a_second);
        if round > 0 {
            latencies[kind].push(Latencies::of(taken));
        }
    });
    (a_second, latencies)
}

/// Where the keys of a kind are; the first database is left to the other groups.
fn database(kind: usize, size: usize) -> usize {
    1 + kind * SIZES.len() + size
}

/// Bytes that the server uses, when they have not changed by more than a page for a second: a table that has grown is
/// moved into the new one bit by bit, and both are there until then.
fn used_memory(control: &mut testkit::Client) -> f64 {
    const PAGE: f64 = 4_096.0;
    let mut used = || -> f64 {
        control.info_field("memory", "used_memory").and_then(|bytes| bytes.parse().ok()).expect("a number of bytes")
    };
    let (mut before, mut unchanged) = (used(), 0);
    while unchanged < 10 {
        thread::sleep(Duration::from_millis(100));
        let now = used();
        unchanged = if (now - before).abs() <= PAGE { unchanged + 1 } else { 0 };
        before = now;
    }
    before
}

impl Kind {
    fn new(
        name: &'static str,
        command: &str,
        seed: (impl Fn(usize) -> String + 'static, &'static [&'static str]),
        call: (impl Fn(usize) -> String + 'static, &'static [&'static str]),
    ) -> Self {
        Self { name, command: command.to_owned(), seed: (Box::new(seed.0), seed.1), call: (Box::new(call.0), call.1) }
    }

    /// Calls on so many keys.
    fn job(&self, keys: usize) -> Job {
        let scattered = |n: usize| n * STRIDE % keys;
        Job::new(self.name, &[&self.command], Calls::new(keys, self.call.1, |n| (self.call.0)(scattered(n))))
            .seeded(Calls::new(keys, self.seed.1, &self.seed.0))
    }
}

const PASSED: &[&str] = &["*5\r\n:0\r\n"];
const LIMITED: &[&str] = &["*5\r\n:1\r\n"];
const COUNTED: &[&str] = &["*3\r\n:…:1\r\n"];

/// The n-th key of the kind with this letter.
fn key(letter: char, n: usize) -> String {
    format!("limit:user:{letter}:{n:06}")
}

fn kinds(control: &mut testkit::Client, peer: Option<&Peer>) -> Vec<Kind> {
    let set = |n| format!("SET {} {VALUE} EX 86400", key('a', n));
    let script = Lua::Script.load(control, "throttle", include_str!("lua/throttle.lua"));
    let mut kinds = vec![
        Kind::new(SET_EX, "SET", (set, OK), (set, OK)),
        throttle(ALLOWED, "CELL.THROTTLE", |n| format!("CELL.THROTTLE {}", key('b', n))),
        Kind::new(
            REFUSED,
            "CELL.THROTTLE",
            (|n| format!("CELL.THROTTLE {} {TIGHT} 10", key('c', n)), PASSED),
            (|n| format!("CELL.THROTTLE {} {TIGHT}", key('c', n)), LIMITED),
        ),
        throttle(LUA, "EVALSHA", move |n| format!("{script} 1 {}", key('d', n))),
        Kind::new(
            HINCRBY,
            "HINCRBY",
            (|n| format!("HSET {} day 1000 {HOUR} 1000", key('e', n)), INTEGER),
            (|n| format!("HINCRBY {} {HOUR} 1", key('e', n)), INTEGER),
        ),
        Kind::new(
            HIT,
            "METER.HIT",
            (|n| format!("METER.HIT {} BY 1000", key('f', n)), &["*3\r\n:1000\r\n"]),
            (|n| format!("METER.HIT {}", key('f', n)), COUNTED),
        ),
    ];
    if let Some(Peer { command, .. }) = peer {
        let called = command.clone();
        kinds.push(throttle(PEER, command, move |n| format!("{called} {}", key('g', n))));
    }
    kinds
}

/// A limiter that passes, whose call begins like this up to its quota.
fn throttle(name: &'static str, command: &str, call: impl Fn(usize) -> String + Clone + 'static) -> Kind {
    let seed = call.clone();
    Kind::new(
        name,
        command,
        // So many that the key stays for as long as the run lasts.
        (move |n| format!("{} {ROOMY} 100", seed(n)), PASSED),
        (move |n| format!("{} {ROOMY} 1", call(n)), PASSED),
    )
}
