//! One server beside clusters of one, two and three nodes, with the same calls. Run it by `make scale`, or
//! `cargo bench --bench scale` with the module built.
//!
//! Measured are, in rounds, each measurement once in each round: calls on many keys, on one hot key, and on a hot key that
//! is spread over several keys. A first round is not counted, and the median of the others is shown with the extremes.
//!
//! The processor time that a node spends on a call is the figure to go by. Nodes share nothing: as long as that time is the
//! same whatever the number of nodes, each that has a core of its own brings as many calls a second as the first did. The
//! calls a second of this machine are shown too, but where it has fewer cores than nodes, and one for the client, nodes
//! take turns on a core, and no number of nodes makes it faster. They also turn each other out of its caches; so the nodes
//! of a cluster are measured one at a time, too, each with its own part of the calls. And at the end all processes may run
//! on any core: then a second node brings what the client and the first leave idle.
//!
//! The processor time of a node is what the kernel has booked on its process, and so has the reading of requests and
//! the writing of answers, unlike the time in INFO commandstats. The client checks each answer, and after each
//! measurement each node must have counted as many calls as it was sent.
//!
//! Environment:
//! - `METER_TEST_SERVER`: the server to measure on. By default the newest Valkey of those that the tests find.
//! - `METER_MODULE`: the module. By default the release build.
//! - `METER_SCALE_ROUNDS`: how many rounds count. By default 7.
//! - `METER_BENCH_RECORD`: a folder that `scale.tsv` is written to, with a line for each number: what was measured, the
//!   number of nodes (`alone` for a server that is no cluster), the field, and its median, least and greatest value.

use std::num::NonZero;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use testkit::cluster;
use testkit::load::{Calls, Client};
use testkit::record::Record;
use testkit::spread::Spread;
use testkit::{Program, Server};

/// Keys that stand for the users of a service.
const KEYS: usize = 10_000;
/// The most nodes of a cluster.
const MOST_NODES: usize = 3;
/// Over how many keys a hot key is spread.
const PARTS: [usize; 5] = [1, 2, 4, 8, 16];
/// Calls that are under way on a connection, and the calls of a measurement: multiples of [`KEYS`] and of all [`PARTS`],
/// so that all keys are called equally often.
const DEPTHS: [(usize, usize); 3] = [(1, 40_000), (16, 100_000), DEEP];
const DEEP: (usize, usize) = (64, 200_000);

/// What is called.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    /// A limiter, and every call passes.
    Throttle,
    /// A meter.
    Hit,
}

impl Call {
    const BOTH: [Self; 2] = [Self::Throttle, Self::Hit];

    fn name(self) -> &'static str {
        match self {
            Self::Throttle => "CELL.THROTTLE",
            Self::Hit => "METER.HIT",
        }
    }

    /// Its name in the record.
    fn short_name(self) -> &'static str {
        match self {
            Self::Throttle => "throttle",
            Self::Hit => "hit",
        }
    }

    fn replies(self) -> &'static [&'static str] {
        match self {
            Self::Throttle => &["*5\r\n:0\r\n:"],
            Self::Hit => &["*3\r\n:…\r\n:1\r\n"],
        }
    }

    /// The calls on the keys of many users. Limiters are of 10,000 an hour, which no key reaches here.
    fn on_user(self, user: usize) -> Keyed {
        match self {
            Self::Throttle => Keyed::new("CELL.THROTTLE", format!("limit:user:{user:04}"), " 9999 10000 3600"),
            Self::Hit => Keyed::new("METER.HIT", format!("visits:user:{user:04}"), ""),
        }
    }

    /// The calls on a part of the hot key. Its limiter is of a million a second, of which each part has an equal share.
    fn on_part(self, part: usize, parts: usize) -> Keyed {
        let count = 1_000_000 / parts;
        match self {
            Self::Throttle => {
                Keyed::new("CELL.THROTTLE", format!("limit:{parts}:{part}"), &format!(" {} {count} 1", count - 1))
            }
            Self::Hit => Keyed::new("METER.HIT", format!("visits:{parts}:{part}"), ""),
        }
    }
}

/// A call, and its key.
#[derive(Clone, PartialEq)]
struct Keyed {
    key: String,
    line: String,
}

impl Keyed {
    fn new(command: &str, key: String, rest: &str) -> Self {
        Self { line: format!("{command} {key}{rest}"), key }
    }
}

/// Servers that share the keys: the nodes of a cluster, or a server that is none.
struct Fleet {
    is_cluster: bool,
    servers: Vec<Server>,
    clients: Vec<Client>,
    controls: Vec<testkit::Client>,
}

impl Fleet {
    fn new(is_cluster: bool, servers: Vec<Server>) -> Self {
        let clients = servers.iter().map(|server| Client::connect(server.port)).collect();
        let controls = servers.iter().map(Server::connect).collect();
        Self { is_cluster, servers, clients, controls }
    }

    fn name(&self) -> String {
        match (self.is_cluster, self.servers.len()) {
            (false, _) => "one server, no cluster".to_owned(),
            (true, 1) => "cluster of 1 node".to_owned(),
            (true, nodes) => format!("cluster of {nodes} nodes"),
        }
    }

    /// Its name in the record.
    fn short_name(&self) -> String {
        if self.is_cluster { self.servers.len().to_string() } else { "alone".to_owned() }
    }
}

/// A measurement, and what has come of it so far.
struct Trial {
    /// Its name in the record.
    what: String,
    call: Call,
    fleet: usize,
    depth: usize,
    /// Whether the servers are called one after the other, and not at the same time.
    in_turn: bool,
    /// Whether all processes may run on any core.
    free: bool,
    /// One for each server of the fleet.
    shares: Vec<Share>,
    samples: Vec<Sample>,
}

/// What a server is sent.
struct Share {
    /// None, if it has none of the keys.
    keyed: Vec<Keyed>,
    calls: Calls,
    /// How many calls: equally many on each key.
    count: usize,
}

/// One measurement.
struct Sample {
    elapsed: Duration,
    /// The calls that each server was sent.
    calls: Vec<usize>,
    /// The processor time that each server took.
    cpu: Vec<Duration>,
}

impl Trial {
    fn new(what: &str, call: Call, fleet: usize, extent: (usize, usize), keyed: Vec<Vec<Keyed>>) -> Self {
        let (depth, calls) = extent;
        let calls_of_a_key = calls / keyed.iter().map(Vec::len).sum::<usize>();
        let share = |keyed: Vec<Keyed>| {
            let calls = Calls::new(keyed.len(), call.replies(), |n| keyed[n].line.clone());
            Share { count: calls_of_a_key * keyed.len(), calls, keyed }
        };
        let what = format!("{}-{what}", call.short_name());
        let shares = keyed.into_iter().map(share).collect();
        Self { what, call, fleet, depth, in_turn: false, free: false, shares, samples: Vec::new() }
    }

    fn in_turn(self) -> Self {
        Self { in_turn: true, ..self }
    }

    fn free(self) -> Self {
        Self { free: true, ..self }
    }

    fn run(&self, fleet: &mut Fleet) -> Sample {
        let before: Vec<_> = fleet.controls.iter_mut().map(|control| progress(control, self.call)).collect();
        let elapsed =
            if self.in_turn { self.run_in_turn(&mut fleet.clients) } else { self.run_at_once(&mut fleet.clients) };
        let after = fleet.controls.iter_mut().map(|control| progress(control, self.call));
        let (counted, cpu): (Vec<_>, Vec<_>) =
            before.iter().zip(after).map(|(before, after)| (after.0 - before.0, after.1 - before.1)).unzip();
        let calls: Vec<_> = self.shares.iter().map(|share| share.count).collect();
        assert_eq!(counted, calls, "{}: calls that the servers have counted", self.what);
        Sample { elapsed, calls, cpu }
    }

    /// How long all of them took.
    fn run_in_turn(&self, clients: &mut [Client]) -> Duration {
        clients
            .iter_mut()
            .zip(&self.shares)
            .map(|(client, share)| client.run(&share.calls, 0, share.count, self.depth))
            .sum()
    }

    /// How long the last of them took.
    fn run_at_once(&self, clients: &mut [Client]) -> Duration {
        let start = &Barrier::new(clients.len());
        thread::scope(|scope| {
            let run = |(client, share): (&mut Client, &Share)| {
                start.wait();
                client.run(&share.calls, 0, share.count, self.depth)
            };
            let shares = clients.iter_mut().zip(&self.shares);
            let threads: Vec<_> = shares.map(|share| scope.spawn(move || run(share))).collect();
            threads.into_iter().map(|thread| thread.join().expect("answers as expected")).max().expect("a server")
        })
    }

    /// How many servers work at the same time.
    fn working(&self) -> f64 {
        if self.in_turn { 1.0 } else { self.shares.iter().filter(|share| share.count > 0).count() as f64 }
    }

    fn spread(&self, measure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(measure))
    }
}

impl Sample {
    fn calls_a_second(&self) -> f64 {
        self.calls.iter().sum::<usize>() as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time of a call, over all servers.
    fn cpu_micros(&self) -> f64 {
        self.cpu.iter().sum::<Duration>().as_secs_f64() * 1e6 / self.calls.iter().sum::<usize>() as f64
    }

    /// The same of one server.
    fn cpu_micros_of(&self, server: usize) -> f64 {
        self.cpu[server].as_secs_f64() * 1e6 / self.calls[server] as f64
    }

    /// The part of the time in which the servers used a core, all together.
    fn busy(&self) -> f64 {
        self.cpu.iter().sum::<Duration>().as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// The part of the calls that the server with the most of them had.
    fn busiest_share(&self) -> f64 {
        *self.calls.iter().max().expect("a server") as f64 / self.calls.iter().sum::<usize>() as f64
    }
}

/// The calls that a server has counted so far, and its processor time.
fn progress(control: &mut testkit::Client, call: Call) -> (usize, Duration) {
    let stats = control.info_field("commandstats", &format!("cmdstat_{}", call.name().to_lowercase()));
    // There is no line before the first call.
    let calls = stats.map_or(0, |stats| {
        let calls = stats.split(',').find_map(|part| part.strip_prefix("calls="));
        calls.and_then(|calls| calls.parse().ok()).expect("a number of calls")
    });
    let text = control.string("INFO cpu").expect("a text");
    let seconds = |field| {
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|seconds| seconds.parse().ok()).expect("seconds")
    };
    (calls, Duration::from_secs_f64(seconds("used_cpu_user")) + Duration::from_secs_f64(seconds("used_cpu_sys")))
}

fn main() {
    let rounds = usize::try_from(testkit::setting("METER_SCALE_ROUNDS", 7)).expect("small");
    assert!(rounds > 0, "METER_SCALE_ROUNDS: a number of rounds");
    // Before the client is kept on some of them.
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let machine = testkit::machine::describe();
    let program = (testkit::programs().iter().rfind(|program| program.is_valkey()))
        .or(testkit::programs().last())
        .expect("a server program");
    let mut fleets = vec![Fleet::new(false, vec![Server::start(program, &[])])];
    fleets.extend((1..=MOST_NODES).map(|count| Fleet::new(true, cluster::nodes(program, count))));
    let placement = Placement::of(&fleets, cores);
    let mut record = Record::default();
    print_header(program, &machine, cores, &placement, rounds, &mut record);

    let mut trials = trials(&mut fleets);
    run(trials.iter_mut().filter(|trial| !trial.free), &mut fleets, rounds);
    placement.release(&fleets, cores);
    run(trials.iter_mut().filter(|trial| trial.free), &mut fleets, rounds);
    assert_meters(&trials, &mut fleets, rounds + 1);

    print_tables(&trials, &fleets);
    print_million(&trials);
    record_all(&trials, &fleets, &mut record);
    record.save("scale.tsv");
}

/// Measures these in rounds.
fn run<'a>(trials: impl Iterator<Item = &'a mut Trial>, fleets: &mut [Fleet], rounds: usize) {
    let mut trials: Vec<_> = trials.collect();
    let count = trials.len();
    for round in 0..=rounds {
        // Each round begins elsewhere, so that no measurement always follows the same pause.
        for number in 0..count {
            let trial = &mut trials[(round + number) % count];
            let sample = trial.run(&mut fleets[trial.fleet]);
            // The first round warms up.
            if round > 0 {
                trial.samples.push(sample);
            }
        }
    }
}

/// Which process runs where.
enum Placement {
    /// Without taskset, or with one core.
    Free,
    /// The nodes of a fleet in turn on the first cores, and the client on the others.
    Pinned { nodes: usize, client: RangeInclusive<usize> },
}

impl Placement {
    fn of(fleets: &[Fleet], cores: usize) -> Self {
        let nodes = (cores - 1).min(MOST_NODES);
        let client = nodes..=cores - 1;
        let is_pinned = nodes > 0
            && processes(fleets).all(|(place, process)| pin(process, place % nodes..=place % nodes))
            && pin(std::process::id(), client.clone());
        if is_pinned { Self::Pinned { nodes, client } } else { Self::Free }
    }

    /// Lets all of them run on any core.
    fn release(&self, fleets: &[Fleet], cores: usize) {
        if let Self::Pinned { .. } = self {
            for process in processes(fleets).map(|(_, process)| process).chain([std::process::id()]) {
                assert!(pin(process, 0..=cores - 1), "taskset has kept the processes on a core, and lets them go");
            }
        }
    }

    fn describe(&self) -> String {
        let range = |cores: &RangeInclusive<usize>| match cores.end() - cores.start() {
            0 => format!("core {}", cores.start()),
            _ => format!("cores {}-{}", cores.start(), cores.end()),
        };
        match self {
            Self::Free => "no".to_owned(),
            Self::Pinned { nodes: 1, client } => format!("all nodes to core 0, client to {}", range(client)),
            Self::Pinned { nodes, client } => {
                format!("nodes in turn to {}, client to {}", range(&(0..=nodes - 1)), range(client))
            }
        }
    }
}

/// The processes of all servers, with their places in their fleets.
fn processes(fleets: &[Fleet]) -> impl Iterator<Item = (usize, u32)> {
    fleets.iter().flat_map(|fleet| fleet.servers.iter().enumerate()).map(|(place, server)| {
        let process = server.connect().info_field("server", "process_id").and_then(|pid| pid.parse().ok());
        (place, process.expect("a process"))
    })
}

/// Keeps a process with all its threads on these cores. Whether it is so.
fn pin(process: u32, cores: RangeInclusive<usize>) -> bool {
    Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &format!("{}-{}", cores.start(), cores.end())])
        .arg(process.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// All measurements.
fn trials(fleets: &mut [Fleet]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for call in Call::BOTH {
        let users: Vec<_> = (0..KEYS).map(|user| call.on_user(user)).collect();
        let users = Slotted::new(users, fleets);
        let hot = Slotted::new(vec![call.on_part(0, 1)], fleets);
        for (fleet, servers) in fleets.iter().enumerate().map(|(fleet, of)| (fleet, of.servers.len())) {
            trials.push(Trial::new("keys", call, fleet, DEEP, users.shared(servers)));
            if servers > 1 {
                trials.push(Trial::new("keys-in-turn", call, fleet, DEEP, users.shared(servers)).in_turn());
            }
            trials.push(Trial::new("hot", call, fleet, DEEP, hot.shared(servers)));
            if fleet > 0 {
                trials.push(Trial::new("keys-free", call, fleet, DEEP, users.shared(servers)).free());
                trials.push(Trial::new("hot-free", call, fleet, DEEP, hot.shared(servers)).free());
            }
        }
        for parts in PARTS {
            let keyed = (0..parts).map(|part| call.on_part(part, parts)).collect();
            let keyed = Slotted::new(keyed, fleets).shared(MOST_NODES);
            trials.push(Trial::new(&format!("spread-{parts}"), call, fleets.len() - 1, DEEP, keyed));
        }
        for extent in DEPTHS {
            trials.push(Trial::new(&format!("depth-{}", extent.0), call, 0, extent, users.shared(1)));
        }
    }
    trials
}

/// Calls with the slots of their keys.
struct Slotted(Vec<(Keyed, usize)>);

impl Slotted {
    fn new(keyed: Vec<Keyed>, fleets: &mut [Fleet]) -> Self {
        let node = &mut fleets.iter_mut().rfind(|fleet| fleet.is_cluster).expect("a cluster").controls[0];
        let mut slot = |key: &str| usize::try_from(node.int(&format!("CLUSTER KEYSLOT {key}"))).expect("a slot");
        Self(
            keyed
                .into_iter()
                .map(|keyed| {
                    let slot = slot(&keyed.key);
                    (keyed, slot)
                })
                .collect(),
        )
    }

    /// Those of each of so many nodes, to which [`cluster::nodes`] deals the slots in turn.
    fn shared(&self, nodes: usize) -> Vec<Vec<Keyed>> {
        let of = |node| self.0.iter().filter(move |(_, slot)| slot % nodes == node);
        (0..nodes).map(|node| of(node).map(|(keyed, _)| keyed.clone()).collect()).collect()
    }
}

/// Each meter must have counted all hits of all rounds: the parts of a hot key add up to what was sent.
fn assert_meters(trials: &[Trial], fleets: &mut [Fleet], rounds: usize) {
    for trial in trials.iter().filter(|trial| trial.call == Call::Hit) {
        for (node, share) in trial.shares.iter().enumerate() {
            // Several measurements hit the same keys, and none of them a part of another's.
            let same_keys = |other: &&Share| !share.keyed.is_empty() && other.keyed == share.keyed;
            let others = trials.iter().filter(|other| other.call == Call::Hit && other.fleet == trial.fleet);
            let sent = rounds
                * others.map(|other| &other.shares[node]).filter(same_keys).map(|other| other.count).sum::<usize>();
            let control = &mut fleets[trial.fleet].controls[node];
            let days = |keyed: &Keyed| control.counts(&format!("METER.DAYS {}", keyed.key));
            let counted: i64 = share.keyed.iter().flat_map(days).map(|(_, count)| count).sum();
            assert_eq!(usize::try_from(counted), Ok(sent), "{}: hits that the meters of node {node} have", trial.what);
        }
    }
}

fn print_header(
    program: &Program,
    machine: &str,
    cores: usize,
    placement: &Placement,
    rounds: usize,
    record: &mut Record,
) {
    let (major, minor, patch) = program.version;
    let placement = placement.describe();
    println!();
    println!("server    {} {major}.{minor}.{patch}", program.product);
    println!("machine   {machine}");
    println!("pinned    {placement}");
    println!("config    appendonly no, no replicas; other fleets run idle while one is measured");
    println!("module    redis-meter {}, {}", env!("CARGO_PKG_VERSION"), testkit::module().display());
    println!("client    {} connections to each node, a thread for each node", testkit::load::CONNECTIONS);
    let others: Vec<_> = DEPTHS[..2].iter().map(|(depth, calls)| format!("{calls} at {depth}")).collect();
    println!(
        "a round   {} calls at depth {}, or {}, for each line below; {rounds} rounds",
        DEEP.1,
        DEEP.0,
        others.join(" and ")
    );
    if cores <= MOST_NODES {
        println!();
        println!(
            "{MOST_NODES} nodes and a client want {} cores, and this machine has {cores}. The nodes take turns, and the",
            MOST_NODES + 1
        );
        println!(
            "calls a second of all together are bounded by the cores. The processor time of a call is what carries over to"
        );
        println!("machines on which each node has a core.");
    }
    record.header("server", format!("{} {major}.{minor}.{patch}", program.product));
    record.header("version", env!("CARGO_PKG_VERSION"));
    record.header("machine", machine);
    record.header("cores", cores);
    record.header("pinned", placement);
    record.header("rounds", rounds);
}

fn of<'a>(trials: &'a [Trial], call: Call, what: &str) -> Vec<&'a Trial> {
    let what = format!("{}-{what}", call.short_name());
    trials.iter().filter(|trial| trial.what == what).collect()
}

fn print_tables(trials: &[Trial], fleets: &[Fleet]) {
    for call in Call::BOTH {
        for (what, title) in [("keys", format!("{KEYS} keys")), ("hot", "one hot key".to_owned())] {
            print_head(&format!("{}, {title}", call.name()));
            for trial in of(trials, call, what) {
                print_line(&fleets[trial.fleet].name(), trial);
            }
            for trial in of(trials, call, &format!("{what}-in-turn")) {
                print_line(&format!("{}, one at a time", fleets[trial.fleet].name()), trial);
            }
            for trial in of(trials, call, &format!("{what}-free")) {
                print_line(&format!("{}, on any core", fleets[trial.fleet].name()), trial);
            }
        }
        print_head(&format!("{}, a hot key spread", call.name()));
        for parts in PARTS {
            let trial = of(trials, call, &format!("spread-{parts}"))[0];
            let keys: Vec<_> = trial.shares.iter().map(|share| share.keyed.len().to_string()).collect();
            print_line(&format!("{parts} keys on 3 nodes: {}", keys.join(" + ")), trial);
        }
    }
}

fn print_head(title: &str) {
    println!("\n{title:38}{:>10}{:>13}{:>10}{:>9}", "thousand/s", "min - max", "a node", "busiest");
    print!("{:38}{:>10}{:>13}{:>10}{:>9}", "", "", "", "working", "has");
    println!("{:>9}{:>15}   each node", "CPU µs", "min - max");
}

fn print_line(name: &str, trial: &Trial) {
    let rate = trial.spread(|sample| sample.calls_a_second() / 1e3);
    let cpu = trial.spread(Sample::cpu_micros);
    print!("{name:38}{:10.0}{:>13}", rate.median, format!("{:.0} - {:.0}", rate.min, rate.max));
    print!("{:10.0}{:>8.0}%", rate.median / trial.working(), trial.spread(Sample::busiest_share).median * 100.0);
    print!("{:9.3}{:>15}  ", cpu.median, format!("{:.3} - {:.3}", cpu.min, cpu.max));
    for (server, share) in trial.shares.iter().enumerate() {
        match share.count {
            0 => print!(" -"),
            _ => print!(" {:.3}", trial.spread(|sample| sample.cpu_micros_of(server)).median),
        }
    }
    println!();
}

/// What a million calls a second take, from the processor time of a call, and from the calls of a second.
fn print_million(trials: &[Trial]) {
    println!("\nA million calls a second, from one server that is no cluster:");
    println!("cores of servers = 1,000,000 calls/s x CPU µs a call / 1,000,000 µs of a core in a second;");
    println!("nodes = 1,000,000 calls/s / calls/s of a node that has a core of its own, here with this client.");
    println!(
        "A node that is less than 100 % busy waited for the client, and could do more: up to 1,000,000 µs / CPU µs.\n"
    );
    print!("{:38}{:>9}{:>11}{:>12}{:>8}", "", "CPU µs", "cores", "thousand/s", "busy");
    println!("{:>28}", "nodes");
    for call in Call::BOTH {
        for (depth, _) in DEPTHS {
            let trial = of(trials, call, &format!("depth-{depth}"))[0];
            let (cpu, rate) =
                (trial.spread(Sample::cpu_micros).median, trial.spread(Sample::calls_a_second).median / 1e3);
            let nodes = 1e3 / rate;
            print!("{:38}{cpu:9.3}{:>11}", format!("{} at depth {depth}", call.name()), format!("{cpu:.2}"));
            print!("{rate:12.0}{:7.0}%", trial.spread(Sample::busy).median * 100.0);
            println!("{:>28}", format!("1000 / {rate:.0} = {nodes:.2}, so {:.0}", nodes.ceil()));
        }
    }
}

fn record_all(trials: &[Trial], fleets: &[Fleet], record: &mut Record) {
    for trial in trials {
        let nodes = fleets[trial.fleet].short_name();
        let mut line = |field: &str, spread: Spread| {
            let [median, min, max] = [spread.median, spread.min, spread.max].map(|number| format!("{number:.4}"));
            record.line(&[&trial.what, &nodes, &field, &median, &min, &max]);
        };
        let working = trial.working();
        line("calls_a_second", trial.spread(Sample::calls_a_second));
        line("calls_a_second_a_node", trial.spread(|sample| sample.calls_a_second() / working));
        line("cpu_us_a_call", trial.spread(Sample::cpu_micros));
        line("busy", trial.spread(Sample::busy));
        line("busiest_share", trial.spread(Sample::busiest_share));
        for (server, _) in trial.shares.iter().enumerate().filter(|(_, share)| share.count > 0) {
            line(&format!("cpu_us_a_call_node_{server}"), trial.spread(|sample| sample.cpu_micros_of(server)));
        }
    }
}
