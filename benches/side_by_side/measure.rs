//! How a group of jobs is measured: in rounds, each job once in each, in an order that is shuffled anew. A first round
//! warms up and is not counted.

use crate::jobs::Job;
use testkit::load::Client;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Calls of one measurement of the cost.
    pub(crate) cost_calls: usize,
    /// Calls of one measurement of the calls a second at each of [`RATE_DEPTHS`].
    pub(crate) rate_calls: [usize; DEPTHS],
}

/// All calls are multiples of 2,000, so that a job whose calls come in pairs ends as it began.
pub(crate) const FULL: Extent = Extent { rounds: 11, cost_calls: 20_000, rate_calls: [10_000, 20_000, 20_000] };
pub(crate) const QUICK: Extent = Extent { rounds: 3, cost_calls: 10_000, rate_calls: [4_000, 10_000, 10_000] };

pub(crate) const COST_DEPTH: usize = 50;
pub(crate) const RATE_DEPTHS: [usize; DEPTHS] = [1, 16, 64];
const DEPTHS: usize = 3;

/// One measurement of a job.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Microseconds a call.
    pub(crate) cost: f64,
    /// Calls a second at each of [`RATE_DEPTHS`].
    pub(crate) rates: [f64; DEPTHS],
}

/// The samples of each job.
pub(crate) fn sample(
    jobs: &[Job],
    client: &mut Client,
    control: &mut testkit::Client,
    extent: Extent,
) -> Vec<Vec<Sample>> {
    for job in jobs {
        job.seed(client);
    }
    let mut samples = vec![Vec::with_capacity(extent.rounds); jobs.len()];
    in_rounds(extent.rounds, jobs.len(), |round, job| {
        let Extent { cost_calls, rate_calls, .. } = extent;
        let job_samples: &mut Vec<Sample> = &mut samples[job];
        let job = &jobs[job];
        job.prepare(client);
        let cost = cost(job, 0, cost_calls, client, control);
        let rates = std::array::from_fn(|i| {
            job.prepare(client);
            rate_calls[i] as f64 / client.run(&job.calls, 0, rate_calls[i], RATE_DEPTHS[i]).as_secs_f64()
        });
        if round > 0 {
            job_samples.push(Sample { cost, rates });
        }
    });
    samples
}

/// So many rounds after one, the number 0, that does not count: what is to be done with each of `count` things.
pub(crate) fn in_rounds(rounds: usize, count: usize, mut measure: impl FnMut(usize, usize)) {
    for round in 0..=rounds {
        for thing in shuffled(count, round) {
            measure(round, thing);
        }
    }
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

/// Microseconds that the server spends on a call of the job, over `count` calls from the one with the number `from` on.
pub(crate) fn cost(job: &Job, from: usize, count: usize, client: &mut Client, control: &mut testkit::Client) -> f64 {
    let before = Progress::of(job, control);
    client.run(&job.calls, from, count, COST_DEPTH);
    let after = Progress::of(job, control);
    let calls = u64::try_from(count).expect("fits");
    for (before, after) in before.calls.iter().zip(&after.calls) {
        assert_eq!(after - before, calls, "{}: calls that the server has counted", job.name);
    }
    if let (Some(before), Some(after)) = (before.counter, after.counter) {
        assert_eq!(after - before, calls, "{}: what the module has counted", job.name);
    }
    (after.micros - before.micros) as f64 / count as f64
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
    fn of(job: &Job, control: &mut testkit::Client) -> Self {
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
