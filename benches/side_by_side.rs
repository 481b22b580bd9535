//! The module side by side with the core's commands, with the same done by Lua scripts, and with a peer module: on one
//! server, in one run, in turn. Run it by `make bench`, or `cargo bench --bench side_by_side` with the module built.
//!
//! A round measures each job once, in an order that is shuffled anew; a first round is not counted. A job's cost is
//! what the server itself says: the time of its commands in INFO commandstats. That leaves out the reading of the
//! request, the writing to the socket and, for MULTI, the queueing; all of it is in the calls a second that a client
//! gets through a few connections, with one call or 16 under way on each. Machines are noisy, so that what counts are
//! the ratios: each is taken within a round, and the median of all rounds is shown with the extremes. What each job
//! is, and on what keys: see `jobs.rs`.
//!
//! Environment:
//! - `METER_TEST_SERVER`: the server to measure on. By default the newest Redis 7.0, the newest Redis and the newest
//!   Valkey of those that the tests find, one after the other.
//! - `METER_MODULE`: the module. By default the release build.
//! - `METER_BENCH_PEER`: another module whose command has the interface of redis-cell's, and
//!   `METER_BENCH_PEER_COMMAND`, that command, by default CL.THROTTLE. Without it, what `scripts/fetch-redis-cell` has
//!   built; if it has not, there is no peer.
//! - `METER_BENCH_ROUNDS`: how many rounds count. By default 15.
//! - `METER_BENCH_AOF`: `yes` for an append-only file, fsynced every second. It shows in the calls a second only, since
//!   the server writes the file after the command.
//!
//! The published redis-cell that the script builds, 0.2.2, replicates nothing at all: a part of the work that this
//! module and later versions of redis-cell do is missing from its cost.

#[path = "side_by_side/client.rs"]
mod client;
#[path = "side_by_side/jobs.rs"]
mod jobs;
#[path = "side_by_side/machine.rs"]
mod machine;
#[path = "side_by_side/peer.rs"]
mod peer;
#[path = "side_by_side/spread.rs"]
mod spread;
#[path = "../tests/support/mod.rs"]
mod support;

use client::Client;
use jobs::Job;
use peer::Peer;
use spread::Spread;
use support::{Program, Server};

/// Calls of one measurement: of the cost, and of the calls a second at each depth. All are multiples of 2,000, so that
/// a job whose calls come in pairs ends as it began.
const COST_CALLS: usize = 20_000;
const COST_DEPTH: usize = 50;
const RATE_CALLS: [usize; 2] = [10_000, 20_000];
const RATE_DEPTHS: [usize; 2] = [1, 16];

const DEFAULT_ROUNDS: usize = 15;

/// One measurement of a job.
#[derive(Clone, Copy)]
struct Sample {
    /// Microseconds a call.
    cost: f64,
    /// Calls a second at each of [`RATE_DEPTHS`].
    rates: [f64; 2],
}

/// The costs that are compared: this one in units of that one.
const COST_RATIOS: [(&str, &str); 15] = [
    (jobs::ALLOWED, jobs::INCR),
    (jobs::ALLOWED, jobs::SET_EX),
    (jobs::ALLOWED_EXPIRY, jobs::SET_EX),
    (jobs::ALLOWED, jobs::PEER_ALLOWED),
    (jobs::ALLOWED, jobs::LUA_ALLOWED),
    (jobs::REFUSED, jobs::PEER_REFUSED),
    (jobs::REFUSED, jobs::LUA_REFUSED),
    (jobs::NEW, jobs::SET_EX_NEW),
    (jobs::NEW, jobs::PEER_NEW),
    (jobs::NEW, jobs::LUA_NEW),
    (jobs::HIT, jobs::HINCRBY),
    (jobs::HIT_AT, jobs::HINCRBY),
    (jobs::HIT, jobs::LUA_HIT),
    (jobs::HIT_AT, jobs::LUA_HIT),
    (jobs::KPI, jobs::HGETALL),
];

/// The calls a second that are compared: this one in units of that one.
const RATE_RATIOS: [(&str, &str); 6] = [
    (jobs::ALLOWED, jobs::SET_EX),
    (jobs::ALLOWED, jobs::PEER_ALLOWED),
    (jobs::ALLOWED, jobs::LUA_ALLOWED),
    (jobs::HIT, jobs::MULTI),
    (jobs::HIT_AT, jobs::MULTI),
    (jobs::HIT, jobs::LUA_HIT),
];

fn main() {
    let rounds = std::env::var("METER_BENCH_ROUNDS").map_or(DEFAULT_ROUNDS, |rounds| {
        rounds.parse().ok().filter(|&rounds| rounds > 0).expect("METER_BENCH_ROUNDS: a number of rounds")
    });
    let aof = std::env::var("METER_BENCH_AOF").is_ok_and(|wanted| wanted == "yes");
    let peer = Peer::find();
    for program in programs() {
        bench(program, peer.as_ref(), aof, rounds);
    }
}

/// The newest Redis, the newest Redis 7.0 and the newest Valkey, as far as they are there.
fn programs() -> Vec<&'static Program> {
    let newest = |wanted: fn(&Program) -> bool| support::programs().iter().rfind(|program| wanted(program));
    let redis = newest(|program| !program.is_valkey());
    let redis_7_0 = newest(|program| !program.is_valkey() && (program.version.0, program.version.1) == (7, 0));
    let redis_7_0 = redis_7_0.filter(|program| redis.is_some_and(|newest| newest.version != program.version));
    [redis_7_0, redis, newest(Program::is_valkey)].into_iter().flatten().collect()
}

fn bench(program: &Program, peer: Option<&Peer>, aof: bool, rounds: usize) {
    let mut arguments = vec!["--appendonly", if aof { "yes" } else { "no" }, "--appendfsync", "everysec"];
    let peer_path = peer.map(|peer| peer.path.to_string_lossy());
    if let Some(path) = &peer_path {
        arguments.extend(["--loadmodule", path]);
    }
    let server = Server::start(program, &arguments);
    let mut control = server.connect();
    print_header(program, &mut control, peer, aof, rounds);

    let mut client = Client::connect(server.port);
    let jobs = jobs::all(&mut control, peer);
    for job in &jobs {
        job.seed(&mut client);
    }
    let mut samples = vec![Vec::with_capacity(rounds); jobs.len()];
    for round in 0..=rounds {
        for job in shuffled(jobs.len(), round) {
            let sample = measure(&jobs[job], &mut client, &mut control);
            // The first round warms up.
            if round > 0 {
                samples[job].push(sample);
            }
        }
    }
    print_jobs(&jobs, &samples);
    print_ratios(&jobs, &samples);
}

/// The numbers below `len` in an order that depends on nothing but the round.
fn shuffled(len: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    let mut state = round + 1;
    for last in (1..len).rev() {
        // Knuth's linear congruential generator, of which the upper bits are good.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (state >> 33) % (last + 1));
    }
    order
}

fn measure(job: &Job, client: &mut Client, control: &mut support::Client) -> Sample {
    job.prepare(client);
    let before = Progress::of(job, control);
    client.run(&job.calls, COST_CALLS, COST_DEPTH);
    let after = Progress::of(job, control);
    let calls = u64::try_from(COST_CALLS).expect("fits");
    for (before, after) in before.calls.iter().zip(&after.calls) {
        assert_eq!(after - before, calls, "{}: calls that the server has counted", job.name);
    }
    if let (Some(before), Some(after)) = (before.counter, after.counter) {
        assert_eq!(after - before, calls, "{}: what the module has counted", job.name);
    }
    let rates = std::array::from_fn(|i| {
        job.prepare(client);
        RATE_CALLS[i] as f64 / client.run(&job.calls, RATE_CALLS[i], RATE_DEPTHS[i]).as_secs_f64()
    });
    Sample { cost: (after.micros - before.micros) as f64 / COST_CALLS as f64, rates }
}

/// What the server has counted for a job so far.
struct Progress {
    /// Calls of each of its commands.
    calls: Vec<u64>,
    /// Microseconds that all of them took.
    micros: u64,
    /// The counter of the module that the job raises.
    counter: Option<u64>,
}

impl Progress {
    fn of(job: &Job, control: &mut support::Client) -> Self {
        let mut progress = Self { calls: Vec::new(), micros: 0, counter: None };
        for command in &job.commands {
            // There is no line before the first call.
            let line = control.info_field("commandstats", &format!("cmdstat_{command}")).unwrap_or_default();
            let number = |name| line.split(',').find_map(|part| part.strip_prefix(name)?.parse().ok()).unwrap_or(0);
            progress.calls.push(number("calls="));
            progress.micros += number("usec=");
        }
        progress.counter = job.counter.map(|counter| {
            let number = control.info_field("meter", counter).unwrap_or_else(|| panic!("INFO has no {counter}"));
            number.parse().expect("a number")
        });
        progress
    }
}

fn print_header(program: &Program, control: &mut support::Client, peer: Option<&Peer>, aof: bool, rounds: usize) {
    let (major, minor, patch) = program.version;
    let server_pid = control.info_field("server", "process_id").and_then(|pid| pid.parse().ok()).expect("a process");
    let machine = machine::describe();
    let pinned = machine::pin(server_pid, 0) && machine::pin(std::process::id(), 1);
    println!();
    println!("server    {} {major}.{minor}.{patch}", program.product);
    println!("machine   {machine}");
    println!("pinned    {}", if pinned { "server to core 0, client to core 1" } else { "no" });
    println!("config    appendonly {}, no replica", if aof { "yes, appendfsync everysec" } else { "no" });
    println!("module    redis-meter {}, {}", env!("CARGO_PKG_VERSION"), support::module().display());
    match peer {
        Some(Peer { path, command }) => println!("peer      {command} of {}", path.display()),
        None => println!("peer      none: run scripts/fetch-redis-cell, or set METER_BENCH_PEER"),
    }
    println!("client    {} connections", client::CONNECTIONS);
    let [single, pipelined] = std::array::from_fn(|i| format!("{} at depth {}", RATE_CALLS[i], RATE_DEPTHS[i]));
    println!("a round   {COST_CALLS} calls of each job for the cost, {single}, {pipelined}; {rounds} rounds");
}

fn print_jobs(jobs: &[Job], samples: &[Vec<Sample>]) {
    println!("\n{:29}{:>10}{:>17}{:>17}{:>17}", "job", "us a call", "min - max", "calls/s, depth 1", "depth 16");
    for (job, samples) in jobs.iter().zip(samples) {
        let Spread { median, min, max } = Spread::of(samples.iter().map(|sample| sample.cost));
        let [single, pipelined] = [0, 1].map(|i| Spread::of(samples.iter().map(|sample| sample.rates[i])).median);
        let spread = format!("{min:.3} - {max:.3}");
        println!("{:29}{median:10.3}{spread:>17}{single:17.0}{pipelined:17.0}", job.name);
    }
}

fn print_ratios(jobs: &[Job], samples: &[Vec<Sample>]) {
    let of = |name: &str| jobs.iter().position(|job| job.name == name).map(|job| &samples[job]);
    let print = |(ours, theirs): (&str, &str), measure: &dyn Fn(&Sample) -> f64| {
        // A peer may not be there.
        if let (Some(a), Some(b)) = (of(ours), of(theirs)) {
            let Spread { median, min, max } = Spread::of(a.iter().zip(b).map(|(a, b)| measure(a) / measure(b)));
            println!("{:55}{median:8.2}{:>17}", format!("{ours} / {theirs}"), format!("{min:.2} - {max:.2}"));
        }
    };
    println!("\n{:55}{:>8}{:>17}", "cost, ratio (below 1: the first is cheaper)", "median", "min - max");
    for pair in COST_RATIOS {
        print(pair, &|sample| sample.cost);
    }
    for (i, depth) in RATE_DEPTHS.into_iter().enumerate() {
        let title = format!("calls/s at depth {depth}, ratio (above 1: the first is faster)");
        println!("\n{title:55}{:>8}{:>17}", "median", "min - max");
        for pair in RATE_RATIOS {
            print(pair, &|sample| sample.rates[i]);
        }
    }
}
