//! The module side by side with the core's commands, with the same done by Lua scripts, and with a peer module: on one
//! server, in one run, in turn. Run it by `make bench`, or `cargo bench --bench side_by_side` with the module built.
//!
//! A round measures each job once, in an order that is shuffled anew; a first round is not counted. A job's cost is
//! what the server itself says: the time of its commands in INFO commandstats. That leaves out the reading of the
//! request, the writing to the socket and, for MULTI, the queueing; all of it is in the calls a second that a client
//! gets through a few connections, with one call, 16 or 64 under way on each. Machines are noisy, so that what counts are
//! the ratios: each is taken within a round, and the median of all rounds is shown with the extremes. What each job
//! is, and on what keys: see `limiters.rs` and `meters.rs`; the scripts are in `lua/`. A third group, `growth.rs`, has
//! the same calls on one key, a thousand and a million, the bytes that a key takes, and how soon answers come.
//!
//! Some jobs no transaction can do, since what they write depends on what they read: the core's commands then take two
//! trips, and the calls a second have both.
//!
//! Environment:
//! - `METER_TEST_SERVER`: the server to measure on. By default the newest Redis 7.0, 8.0, Redis and Valkey of those
//!   that the tests find, one after the other.
//! - `METER_MODULE`: the module. By default the release build.
//! - `METER_BENCH_PEER`: another module whose command has the interface of redis-cell's, and
//!   `METER_BENCH_PEER_COMMAND`, that command, by default CL.THROTTLE. Without it, what `scripts/fetch-redis-cell` has
//!   built; if it has not, there is no peer.
//! - `METER_BENCH_ONLY`: the groups of jobs to measure, of `limiters,meters,growth`. By default all.
//! - `METER_BENCH_ROUNDS`: how many rounds count. By default 11.
//! - `METER_BENCH_QUICK`: `yes` for the first of the servers and the first two groups only, and three rounds of about
//!   half as many calls: a minute or two, for a first look.
//! - `METER_BENCH_RECORD`: a folder for the medians, a file for each server, from which `scripts/draw-performance` makes
//!   the tables and pictures of docs/performance.md.
//! - `METER_BENCH_REPLICATED`: `yes` for an append-only file, fsynced every second, and a replica: how servers run whose
//!   data counts. Without them changes have no consumer, and the module does not propagate them.
//!
//! The published redis-cell that the script builds, 0.2.2, replicates nothing at all: a part of the work that this
//! module and later versions of redis-cell do is missing from its cost.

mod growth;
mod jobs;
mod limiters;
mod measure;
mod meters;
mod peer;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use jobs::Group;
use measure::{Extent, FULL, QUICK, RATE_DEPTHS, sample};
use peer::Peer;
use testkit::load::Client;
use testkit::record::Record;
use testkit::{Program, Server, eventually};

/// The groups, by the names that `METER_BENCH_ONLY` has for them.
const GROUPS: [&str; 3] = ["limiters", "meters", "growth"];
/// What is left of them for a first look.
const QUICK_GROUPS: [&str; 2] = ["limiters", "meters"];

fn main() {
    let is_yes = |name| std::env::var(name).is_ok_and(|wanted| wanted == "yes");
    let quick = is_yes("METER_BENCH_QUICK");
    let mut extent = if quick { QUICK } else { FULL };
    if let Ok(rounds) = std::env::var("METER_BENCH_ROUNDS") {
        extent.rounds =
            rounds.parse().ok().filter(|&rounds| rounds > 0).expect("METER_BENCH_ROUNDS: a number of rounds");
    }
    let groups = groups(quick);
    let (peer, floor) = (Peer::find(), floor());
    for program in programs().into_iter().take(if quick { 1 } else { usize::MAX }) {
        bench(program, &groups, peer.as_ref(), &floor, is_yes("METER_BENCH_REPLICATED"), extent);
    }
}

/// What `METER_BENCH_ONLY` asks for, or all.
fn groups(quick: bool) -> Vec<&'static str> {
    let Ok(only) = std::env::var("METER_BENCH_ONLY") else {
        return if quick { QUICK_GROUPS.into() } else { GROUPS.into() };
    };
    let known = |only: &str| GROUPS.into_iter().find(|group| *group == only);
    let group = |only| known(only).unwrap_or_else(|| panic!("METER_BENCH_ONLY: of {}", GROUPS.join(", ")));
    only.split(',').map(group).collect()
}

/// The newest Redis 7.0, Redis 8.0, Redis and Valkey, as far as they are there.
fn programs() -> Vec<&'static Program> {
    let newest = |wanted: fn(&Program) -> bool| testkit::programs().iter().rfind(|program| wanted(program));
    let found = [
        newest(|program| !program.is_valkey() && (program.version.0, program.version.1) == (7, 0)),
        newest(|program| !program.is_valkey() && (program.version.0, program.version.1) == (8, 0)),
        newest(|program| !program.is_valkey()),
        newest(Program::is_valkey),
    ];
    let mut programs: Vec<&Program> = found.into_iter().flatten().collect();
    programs.dedup_by_key(|program| program.version);
    programs
}

/// The module of the least that a command costs, built from `floor.c`.
fn floor() -> PathBuf {
    let module = Path::new(env!("CARGO_TARGET_TMPDIR")).join("floor.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor.c");
    let built = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&module).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "benches/floor.c cannot be built: is there a C compiler?");
    module
}

fn bench(program: &Program, groups: &[&str], peer: Option<&Peer>, floor: &Path, replicated: bool, extent: Extent) {
    let databases = growth::databases(peer).to_string();
    let mut arguments = vec!["--appendonly", if replicated { "yes" } else { "no" }, "--appendfsync", "everysec"];
    arguments.extend(["--databases", &databases, "--loadmodule", floor.to_str().expect("a path")]);
    let peer_path = peer.map(|peer| peer.path.to_string_lossy());
    if let Some(path) = &peer_path {
        arguments.extend(["--loadmodule", path]);
    }
    let server = Server::start(program, &arguments);
    let _replica = replicated.then(|| server.replica(&["--databases", &databases]));
    let mut control = server.connect();
    eventually("the module knows whether anybody listens", || {
        control.run("METER.HIT settling");
        let told = control.info_field("meter", "meter_effects_replicated");
        replicated || told.as_deref() == Some("0")
    });
    let mut record = Record::default();
    header(program, &mut control, peer, replicated, extent, &mut record);

    let mut client = Client::connect(server.port);
    for name in groups {
        control.run("FLUSHALL");
        let group = match *name {
            "limiters" => limiters::group(&mut control, peer),
            "meters" => meters::group(&mut control),
            _ => {
                growth::run(&mut control, &mut client, peer, extent, &mut record);
                continue;
            }
        };
        println!("\ngroup     {name}");
        compare(name, &group, &mut client, &mut control, extent, &mut record);
    }
    let (major, minor, _) = program.version;
    let world = if replicated { "-replicated" } else { "" };
    record.save(&format!("{}-{major}.{minor}{world}.tsv", program.product));
}

/// Measures the jobs of a group, and sets them side by side.
fn compare(
    name: &str,
    group: &Group,
    client: &mut Client,
    control: &mut testkit::Client,
    extent: Extent,
    record: &mut Record,
) {
    let samples = sample(&group.jobs, client, control, extent);
    report::costs(name, &group.jobs, &samples, record);
    report::rates(name, &group.jobs, &samples, record);
    let samples_of = |name: &str| group.jobs.iter().position(|job| job.name == name).map(|job| samples[job].clone());
    let title = "cost, ratio (below 1: the first is cheaper)";
    report::ratios(name, ("usec", title), group.ratios, samples_of, |sample| sample.cost, record);
    for (i, depth) in RATE_DEPTHS.into_iter().enumerate() {
        let title = format!("calls/s at depth {depth}, ratio (above 1: the first is faster)");
        let measure = format!("calls/s at depth {depth}");
        report::ratios(name, (&measure, &title), group.ratios, samples_of, |sample| sample.rates[i], record);
    }
}

fn header(
    program: &Program,
    control: &mut testkit::Client,
    peer: Option<&Peer>,
    replicated: bool,
    extent: Extent,
    record: &mut Record,
) {
    let (major, minor, patch) = program.version;
    let server_pid = control.info_field("server", "process_id").and_then(|pid| pid.parse().ok()).expect("a process");
    let machine = testkit::machine::describe();
    let pinned = testkit::machine::pin(server_pid, 0) && testkit::machine::pin(std::process::id(), 1);
    println!();
    report::head("server", &format!("{} {major}.{minor}.{patch}", program.product), record);
    report::head("machine", &machine, record);
    report::head("pinned", if pinned { "server to core 0, client to core 1" } else { "no" }, record);
    let alone = "appendonly no, no replica";
    report::head("config", if replicated { "appendonly yes, appendfsync everysec, a replica" } else { alone }, record);
    report::head("module", concat!("redis-meter ", env!("CARGO_PKG_VERSION")), record);
    let none = "none: run scripts/fetch-redis-cell, or set METER_BENCH_PEER";
    let of = |Peer { path, command }: &Peer| {
        format!("{command} of {}", path.file_name().unwrap_or_default().to_string_lossy())
    };
    report::head("peer", &peer.map_or(none.to_owned(), of), record);
    report::head("client", &format!("{} connections", testkit::load::CONNECTIONS), record);
    let Extent { rounds, cost_calls, rate_calls } = extent;
    let rates: Vec<_> =
        rate_calls.iter().zip(RATE_DEPTHS).map(|(calls, depth)| format!("{calls} at depth {depth}")).collect();
    let calls = format!("{cost_calls} calls of each job for the cost, {}; {rounds} rounds", rates.join(", "));
    report::head("a round", &calls, record);
}
