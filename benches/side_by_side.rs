//! The module side by side with the core's commands, with the same done by Lua scripts, and with a peer module: on one
//! server, in one run, in turn. Run it by `make bench`, or `cargo bench --bench side_by_side` with the module built.
//!
//! A round measures each job once, in an order that is shuffled anew; a first round is not counted. A job's cost is
//! what the server itself says: the time of its commands in INFO commandstats. That leaves out the reading of the
//! request, the writing to the socket and, for MULTI, the queueing; all of it is in the calls a second that a client
//! gets through a few connections, with one call, 16 or 64 under way on each. Machines are noisy, so that what counts are
//! the ratios: each is taken within a round, and the median of all rounds is shown with the extremes. What each job
//! is, and on what keys: see `limiters.rs` and `meters.rs`; the scripts are in `lua/`.
//!
//! Some jobs no transaction can do, since what they write depends on what they read: the core's commands then take two
//! trips, and the calls a second have both.
//!
//! Environment:
//! - `METER_TEST_SERVER`: the server to measure on. By default the newest Redis 7.0, the newest Redis and the newest
//!   Valkey of those that the tests find, one after the other.
//! - `METER_MODULE`: the module. By default the release build.
//! - `METER_BENCH_PEER`: another module whose command has the interface of redis-cell's, and
//!   `METER_BENCH_PEER_COMMAND`, that command, by default CL.THROTTLE. Without it, what `scripts/fetch-redis-cell` has
//!   built; if it has not, there is no peer.
//! - `METER_BENCH_ONLY`: the group of jobs to measure, `limiters` or `meters`. By default one after the other.
//! - `METER_BENCH_ROUNDS`: how many rounds count. By default 15.
//! - `METER_BENCH_QUICK`: `yes` for the first of the servers only, and three rounds of about half as many calls: a
//!   minute or two, for a first look.
//! - `METER_BENCH_AOF`: `yes` for an append-only file, fsynced every second. It shows in the calls a second only, since
//!   the server writes the file after the command.
//!
//! The published redis-cell that the script builds, 0.2.2, replicates nothing at all: a part of the work that this
//! module and later versions of redis-cell do is missing from its cost.

#[path = "side_by_side/client.rs"]
mod client;
#[path = "side_by_side/jobs.rs"]
mod jobs;
#[path = "side_by_side/limiters.rs"]
mod limiters;
#[path = "side_by_side/machine.rs"]
mod machine;
#[path = "side_by_side/meters.rs"]
mod meters;
#[path = "side_by_side/peer.rs"]
mod peer;
#[path = "side_by_side/spread.rs"]
mod spread;
#[path = "../tests/support/mod.rs"]
mod support;

use client::Client;
use jobs::{Group, Job};
use peer::Peer;
use spread::Spread;
use support::{Program, Server};

/// How much is measured.
#[derive(Clone, Copy)]
struct Extent {
    /// Rounds that count.
    rounds: usize,
    /// Calls of one measurement of the cost.
    cost_calls: usize,
    /// Calls of one measurement of the calls a second at each of [`RATE_DEPTHS`].
    rate_calls: [usize; DEPTHS],
}

/// All calls are multiples of 2,000, so that a job whose calls come in pairs ends as it began.
const FULL: Extent = Extent { rounds: 15, cost_calls: 20_000, rate_calls: [10_000, 20_000, 20_000] };
const QUICK: Extent = Extent { rounds: 3, cost_calls: 10_000, rate_calls: [4_000, 10_000, 10_000] };

const COST_DEPTH: usize = 50;
const RATE_DEPTHS: [usize; DEPTHS] = [1, 16, 64];
const DEPTHS: usize = 3;

/// One measurement of a job.
#[derive(Clone, Copy)]
struct Sample {
    /// Microseconds a call.
    cost: f64,
    /// Calls a second at each of [`RATE_DEPTHS`].
    rates: [f64; DEPTHS],
}

/// Makes a group of jobs on a server, through this connection.
type MakeGroup = fn(&mut support::Client, Option<&Peer>) -> Group;

/// The groups, by the names that `METER_BENCH_ONLY` has for them.
const GROUPS: [(&str, MakeGroup); 2] =
    [("limiters", limiters::group), ("meters", |control, _no_peer| meters::group(control))];

fn main() {
    let is_yes = |name| std::env::var(name).is_ok_and(|wanted| wanted == "yes");
    let quick = is_yes("METER_BENCH_QUICK");
    let mut extent = if quick { QUICK } else { FULL };
    if let Ok(rounds) = std::env::var("METER_BENCH_ROUNDS") {
        extent.rounds =
            rounds.parse().ok().filter(|&rounds| rounds > 0).expect("METER_BENCH_ROUNDS: a number of rounds");
    }
    let groups = groups();
    let peer = Peer::find();
    for program in programs().into_iter().take(if quick { 1 } else { usize::MAX }) {
        bench(program, &groups, peer.as_ref(), is_yes("METER_BENCH_AOF"), extent);
    }
}

/// What `METER_BENCH_ONLY` asks for, or all.
fn groups() -> Vec<(&'static str, MakeGroup)> {
    let only = std::env::var("METER_BENCH_ONLY").ok();
    let groups: Vec<_> =
        GROUPS.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)).collect();
    assert!(!groups.is_empty(), "METER_BENCH_ONLY: one of {}", GROUPS.map(|(name, _)| name).join(", "));
    groups
}

/// The newest Redis, the newest Redis 7.0 and the newest Valkey, as far as they are there.
fn programs() -> Vec<&'static Program> {
    let newest = |wanted: fn(&Program) -> bool| support::programs().iter().rfind(|program| wanted(program));
    let redis = newest(|program| !program.is_valkey());
    let redis_7_0 = newest(|program| !program.is_valkey() && (program.version.0, program.version.1) == (7, 0));
    let redis_7_0 = redis_7_0.filter(|program| redis.is_some_and(|newest| newest.version != program.version));
    [redis_7_0, redis, newest(Program::is_valkey)].into_iter().flatten().collect()
}

fn bench(program: &Program, groups: &[(&str, MakeGroup)], peer: Option<&Peer>, aof: bool, extent: Extent) {
    let mut arguments = vec!["--appendonly", if aof { "yes" } else { "no" }, "--appendfsync", "everysec"];
    let peer_path = peer.map(|peer| peer.path.to_string_lossy());
    if let Some(path) = &peer_path {
        arguments.extend(["--loadmodule", path]);
    }
    let server = Server::start(program, &arguments);
    let mut control = server.connect();
    print_header(program, &mut control, peer, aof, extent);

    let mut client = Client::connect(server.port);
    for (name, group) in groups {
        println!("\ngroup     {name}");
        control.run("FLUSHALL");
        let group = group(&mut control, peer);
        let samples = sample(&group.jobs, &mut client, &mut control, extent);
        print_costs(&group.jobs, &samples);
        print_rates(&group.jobs, &samples);
        print_ratios(&group, &samples);
    }
}

/// The samples of each job.
fn sample(jobs: &[Job], client: &mut Client, control: &mut support::Client, extent: Extent) -> Vec<Vec<Sample>> {
    for job in jobs {
        job.seed(client);
    }
    let mut samples = vec![Vec::with_capacity(extent.rounds); jobs.len()];
    for round in 0..=extent.rounds {
        for job in shuffled(jobs.len(), round) {
            let sample = measure(&jobs[job], client, control, extent);
            // The first round warms up.
            if round > 0 {
                samples[job].push(sample);
            }
        }
    }
    samples
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

fn measure(job: &Job, client: &mut Client, control: &mut support::Client, extent: Extent) -> Sample {
    let Extent { cost_calls, rate_calls, .. } = extent;
    job.prepare(client);
    let before = Progress::of(job, control);
    client.run(&job.calls, cost_calls, COST_DEPTH);
    let after = Progress::of(job, control);
    let calls = u64::try_from(cost_calls).expect("fits");
    for (before, after) in before.calls.iter().zip(&after.calls) {
        assert_eq!(after - before, calls, "{}: calls that the server has counted", job.name);
    }
    if let (Some(before), Some(after)) = (before.counter, after.counter) {
        assert_eq!(after - before, calls, "{}: what the module has counted", job.name);
    }
    let rates = std::array::from_fn(|i| {
        job.prepare(client);
        rate_calls[i] as f64 / client.run(&job.calls, rate_calls[i], RATE_DEPTHS[i]).as_secs_f64()
    });
    Sample { cost: (after.micros - before.micros) as f64 / cost_calls as f64, rates }
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

fn print_header(program: &Program, control: &mut support::Client, peer: Option<&Peer>, aof: bool, extent: Extent) {
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
    let Extent { rounds, cost_calls, rate_calls } = extent;
    let rates: Vec<_> =
        rate_calls.iter().zip(RATE_DEPTHS).map(|(calls, depth)| format!("{calls} at depth {depth}")).collect();
    println!("a round   {cost_calls} calls of each job for the cost, {}; {rounds} rounds", rates.join(", "));
}

fn print_costs(jobs: &[Job], samples: &[Vec<Sample>]) {
    println!("\n{:38}{:>10}{:>19}", "microseconds a call", "median", "min - max");
    for (job, samples) in jobs.iter().zip(samples) {
        let Spread { median, min, max } = Spread::of(samples.iter().map(|sample| sample.cost));
        println!("{:38}{median:10.3}{:>19}", job.name, format!("{min:.3} - {max:.3}"));
    }
}

fn print_rates(jobs: &[Job], samples: &[Vec<Sample>]) {
    print!("\n{:38}", "thousand calls a second");
    for depth in RATE_DEPTHS {
        print!("{:>10}{:>17}", format!("depth {depth}"), "min - max");
    }
    println!();
    for (job, samples) in jobs.iter().zip(samples) {
        print!("{:38}", job.name);
        for depth in 0..DEPTHS {
            let Spread { median, min, max } = Spread::of(samples.iter().map(|sample| sample.rates[depth] / 1e3));
            print!("{median:10.1}{:>17}", format!("{min:.0} - {max:.0}"));
        }
        println!();
    }
}

fn print_ratios(group: &Group, samples: &[Vec<Sample>]) {
    let of = |name: &str| group.jobs.iter().position(|job| job.name == name).map(|job| &samples[job]);
    let print = |(ours, theirs): (&str, &str), measure: &dyn Fn(&Sample) -> f64| {
        // A peer may not be there.
        if let (Some(a), Some(b)) = (of(ours), of(theirs)) {
            let Spread { median, min, max } = Spread::of(a.iter().zip(b).map(|(a, b)| measure(a) / measure(b)));
            println!("{:69}{median:8.2}{:>17}", format!("{ours} / {theirs}"), format!("{min:.2} - {max:.2}"));
        }
    };
    println!("\n{:69}{:>8}{:>17}", "cost, ratio (below 1: the first is cheaper)", "median", "min - max");
    for &pair in group.cost_ratios {
        print(pair, &|sample| sample.cost);
    }
    for (i, depth) in RATE_DEPTHS.into_iter().enumerate() {
        let title = format!("calls/s at depth {depth}, ratio (above 1: the first is faster)");
        println!("\n{title:69}{:>8}{:>17}", "median", "min - max");
        for &pair in group.rate_ratios {
            print(pair, &|sample| sample.rates[i]);
        }
    }
}
