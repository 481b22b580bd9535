//! What becomes of a limit when its key is spread over several, each with its share of the rate and of the burst: how many
//! calls are refused that one key would have taken, by the module's own algorithms and by theory, side by side. Run it by
//! `make hot-key`, or `cargo bench --bench hot_key`. No server is needed, and each run has the same numbers.
//!
//! The parts never take more than the one key would: at each call the sums are compared. They refuse more, since a call
//! may come to a part that is used up while another is not. That error is all that is shown below, as a part of all
//! calls. Calls come independently of each other, as those of many callers do.
//!
//! Environment:
//! - `METER_BENCH_RECORD`: a folder that `hot-key.tsv` is written to.

mod derived;
mod merge;
mod split;

use redis_meter_core::time::Nanos;
use split::{Bucket, CALLERS, Callers, INTERVAL, Way, Window};
use testkit::Random;
use testkit::record::Record;

const SEED: u64 = 20_220_809;
/// The calls of a simulation.
const CALLS: usize = 2_000_000;
/// Calls in units of what the limit allows.
const LOADS: [f64; 7] = [0.5, 0.8, 0.9, 0.95, 1.0, 1.1, 2.0];
const PARTS: [usize; 5] = [2, 4, 8, 16, 64];
/// The cells of a burst.
const CELLS: [usize; 2] = [64, 512];
/// The calls of a window.
const LIMITS: [usize; 2] = [1_024, 16_384];

/// How far a simulation may be from what was derived for it exactly: a part of the number, and a part of all calls.
const TOLERANCE: (f64, f64) = (0.05, 0.0015);

fn main() {
    let mut record = Record::default();
    record.header("version", env!("CARGO_PKG_VERSION"));
    record.header("seed", SEED);
    record.header("columns", "what, cells or limit, parts, load, by the rule, derived, simulated");
    record.header(
        "columns of ranking",
        "ranking, read of each part, parts, -, bound, highest in no head, true ones found",
    );
    println!(
        "All numbers are % of the calls; {CALLS} calls each. An error is what is refused beyond what one key refuses."
    );
    println!(
        "rule: the formula to remember; derived: the exact one, or for two tries that of many parts; then simulated."
    );
    println!("Round robin is of {CALLERS} callers, each in turn for itself; least used looks at all parts.");
    for cells in CELLS {
        buckets(cells, &mut record);
    }
    for limit in LIMITS {
        windows(limit, &mut record);
    }
    merge::run(SEED, &mut record);
    record.save("hot-key.tsv");
}

/// A number from 0 to below 1, by chance.
fn share(random: &mut Random) -> f64 {
    // As many bits as the fraction of a float has.
    (random.number() >> 11) as f64 / (1u64 << 53) as f64
}

/// One limiter in parts, and what was refused.
struct Trial<Split> {
    parts: usize,
    way: Way,
    split: Split,
    callers: Callers,
    taken: usize,
    asked: usize,
}

impl<Split> Trial<Split> {
    /// In all numbers of parts, and all ways.
    fn all(split: impl Fn(usize) -> Split) -> Vec<Self> {
        let new = |parts: usize, way| {
            let callers = Callers::new(way, parts, SEED + parts as u64);
            Self { parts, way, split: split(parts), callers, taken: 0, asked: 0 }
        };
        PARTS.into_iter().flat_map(|parts| Way::ALL.map(|way| new(parts, way))).collect()
    }

    fn call(&mut self, whole: usize, take: impl Fn(&mut Split, usize) -> bool, least_used: impl Fn(&Split) -> usize) {
        let outcome = self.callers.call(&mut self.split, take, least_used);
        self.taken += usize::from(outcome.taken);
        self.asked += outcome.asked;
        assert!(self.taken <= whole, "parts together take no more than one key would");
    }
}

/// GCRA of so many cells, with calls at all loads.
fn buckets(cells: usize, record: &mut Record) {
    print_head(&format!("GCRA, a burst of {cells}"));
    for load in LOADS {
        let mut random = Random::new(SEED);
        let mut now = Nanos(0);
        let (mut one, mut taken) = (Bucket::new(cells, 1), 0);
        let mut trials = Trial::all(|parts| Bucket::new(cells, parts));
        for _ in 0..CALLS {
            now = Nanos(now.0 + pause(&mut random, load));
            taken += usize::from(one.take(0, now));
            for trial in &mut trials {
                trial.call(taken, |bucket, part| bucket.take(part, now), |bucket| bucket.least_used(now));
            }
        }
        let refused_by_one = derived::gcra_exact(load, cells);
        let derived = |parts: usize, way| match way {
            Way::Random => {
                let rule = derived::gcra_rule(load, cells / parts) - derived::gcra_rule(load, cells);
                (Some(rule), Some(derived::gcra_exact(load, cells / parts) - refused_by_one))
            }
            // Of a few parts too, no more than one key takes; the derivation, for many, does not know that.
            Way::TwoTries => (None, Some((derived::gcra_two_tries(load, cells / parts) - refused_by_one).max(0.0))),
            Way::RoundRobin | Way::LeastUsed => (None, None),
        };
        let simulated = (CALLS - taken) as f64 / CALLS as f64;
        let rule = derived::excess(load) + derived::gcra_rule(load, cells);
        print_one(load, [rule, refused_by_one, simulated]);
        record_line(record, "gcra", (cells, 1, load), (Some(rule), Some(refused_by_one)), simulated);
        assert_close(simulated, refused_by_one, "GCRA of one key");
        report("gcra", (cells, load), CALLS, taken, &trials, derived, record);
    }
}

/// Nanoseconds from a call to the next.
#[expect(clippy::cast_possible_truncation, reason = "a pause is some thousand intervals at most")]
fn pause(random: &mut Random, load: f64) -> i64 {
    (-(1.0 - share(random)).ln() * INTERVAL.0 as f64 / load) as i64
}

/// Windows of so many calls, one after the other, each with calls at all loads.
fn windows(limit: usize, record: &mut Record) {
    print_head(&format!("A fixed window of {limit}"));
    for load in LOADS {
        let calls_of_one = calls_at(load, limit);
        let windows = CALLS / calls_of_one;
        let mut trials = Trial::all(|parts| Window::new(limit, parts));
        for window in 0..windows {
            for trial in &mut trials {
                trial.split = Window::new(limit, trial.parts);
            }
            for call in 1..=calls_of_one {
                let taken_by_one = window * calls_of_one.min(limit) + call.min(limit);
                for trial in &mut trials {
                    trial.call(taken_by_one, Window::take, Window::least_used);
                }
            }
        }
        let taken = windows * calls_of_one.min(limit);
        let derived = |parts, way| match way {
            Way::Random => (
                Some(derived::window_rule(calls_of_one, limit, parts)),
                Some(derived::window_exact(calls_of_one, limit, parts)),
            ),
            Way::RoundRobin => (Some(derived::window_round_robin_rule(calls_of_one, limit, parts, CALLERS)), None),
            Way::TwoTries | Way::LeastUsed => (None, None),
        };
        let refused = derived::excess(load);
        print_one(load, [refused, refused, 1.0 - taken as f64 / (windows * calls_of_one) as f64]);
        report("window", (limit, load), windows * calls_of_one, taken, &trials, derived, record);
    }
}

/// The calls that come in a window.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few times the limit")]
fn calls_at(load: f64, limit: usize) -> usize {
    (load * limit as f64).round() as usize
}

fn print_head(title: &str) {
    println!("\n{title}");
    println!("{:13} |{:^29} |{:^31} |{:^25} |{:^11}", "", "random", "two tries", "round robin", "least used");
    print!("{:>6}{:>7} |{:>13}{:>8}{:>8} |", "load", "parts", "rule", "derived", "simul.");
    println!("{:>18}{:>7}{:>6} |{:>18}{:>7} |{:>11}", "derived", "simul.", "asked", "rule", "simul.", "simul.");
}

fn print_one(load: f64, refused: [f64; 3]) {
    let [rule, derived, simulated] = refused.map(|share| share * 100.0);
    println!("{load:6}{:>7} |{rule:13.2}{derived:8.2}{simulated:8.2} | refused by one key", 1);
}

/// Prints, records and checks the error of each trial, of so many calls of which one key took so many.
fn report<Split>(
    what: &str,
    (size, load): (usize, f64),
    calls: usize,
    taken: usize,
    trials: &[Trial<Split>],
    derived: impl Fn(usize, Way) -> (Option<f64>, Option<f64>),
    record: &mut Record,
) {
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.2}", share.max(0.0) * 100.0));
    for ways in trials.chunks(Way::ALL.len()) {
        let parts = ways[0].parts;
        print!("{:6}{parts:7} |", "");
        for trial in ways {
            assert!(trial.taken <= taken, "{what}: parts together take no more than one key would");
            let error = (taken - trial.taken) as f64 / calls as f64;
            let (rule, exact) = derived(parts, trial.way);
            let [rule_text, exact_text] = [rule, exact].map(percent);
            let error_text = percent(Some(error));
            match trial.way {
                Way::Random => print!("{rule_text:>13}{exact_text:>8}{error_text:>8} |"),
                Way::TwoTries => {
                    print!("{exact_text:>18}{error_text:>7}{:6.2} |", trial.asked as f64 / calls as f64);
                }
                Way::RoundRobin => print!("{rule_text:>18}{error_text:>7} |"),
                Way::LeastUsed => println!("{error_text:>11}"),
            }
            record_line(record, &format!("{what}-{}", trial.way.name()), (size, parts, load), (rule, exact), error);
            // What was derived for two tries is for many parts.
            if let (Way::Random, Some(exact)) = (trial.way, exact) {
                assert_close(error, exact, &format!("{what} of {size} in {parts} parts at load {load}"));
            }
        }
    }
}

fn record_line(
    record: &mut Record,
    what: &str,
    (size, parts, load): (usize, usize, f64),
    (rule, exact): (Option<f64>, Option<f64>),
    simulated: f64,
) {
    let [rule, exact] = [rule, exact].map(|share| share.map_or("-".to_owned(), |share| format!("{share:.6}")));
    record.line(&[&what, &size, &parts, &load, &rule, &exact, &format!("{simulated:.6}")]);
}

fn assert_close(simulated: f64, exact: f64, what: &str) {
    let (relative, absolute) = TOLERANCE;
    assert!((simulated - exact).abs() <= exact * relative + absolute, "{what}: {simulated} simulated, {exact} derived");
}
