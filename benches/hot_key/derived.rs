//! What theory says of a limiter in parts, each with its share of the rate and of the burst, when calls come independently
//! of each other (a Poisson process) and each goes to a part by chance. All results are shares of the calls.
//!
//! A part whose `cells` come back evenly is a queue with Poisson arrivals, a service of one emission interval, and
//! `cells` places, the one in service among them: M/D/1/K. A call finds it full if and only if GCRA refuses it.

/// What of all calls one limiter must refuse at a load, the calls of a second in units of its rate, in the long run.
pub(crate) fn excess(load: f64) -> f64 {
    (1.0 - 1.0 / load).max(0.0)
}

/// What GCRA refuses beyond the [`excess`], as a rule of thumb: with x = |1 − 1 / load|, x / (exp(2 x cells) − 1), and
/// 1 / (2 cells) at load 1. It takes the backlog for a Brownian motion between two walls, with the drift and the
/// variance of the queue, which is good for loads from about 0.8 and for more than a few cells.
pub(crate) fn gcra_rule(load: f64, cells: usize) -> f64 {
    let (x, cells) = ((1.0 - 1.0 / load).abs(), cells as f64);
    if x == 0.0 { 0.5 / cells } else { x / (2.0 * x * cells).exp_m1() }
}

/// What GCRA refuses in all: the loss of M/D/1/K, 1 − 1 / (π₀ + load), where π₀ is the part of the served calls that
/// leave the queue empty.
///
/// The numbers of calls that come during a service are Poisson. The queue that a served call leaves is a Markov chain of
/// 0..cells, and passes between j and j + 1 as often upwards as downwards:
/// π(j + 1) P(none comes) = π(0) P(more than j come) + Σ π(i) P(more than j + 1 − i come), i = 1..j.
pub(crate) fn gcra_exact(load: f64, cells: usize) -> f64 {
    /// So many do not come during one service, at any load that is asked for here.
    const MANY: usize = 80;
    let mut come = [(-load).exp(); MANY];
    for n in 1..MANY {
        come[n] = come[n - 1] * load / n as f64;
    }
    let none = come[0];
    // From the far end, so that nothing is lost by taking small numbers from large ones.
    let mut more = [0.0; MANY];
    for n in (0..MANY - 1).rev() {
        more[n] = more[n + 1] + come[n + 1];
    }
    // In units of the last one, since above load 1 they grow without bound.
    let mut recent = vec![1.0]; // π(j), π(j − 1), …
    let (mut first, mut sum) = (1.0, 1.0);
    for j in 0..cells - 1 {
        let from_empty = if j < MANY { first * more[j] } else { 0.0 };
        let others = recent.iter().take(j).zip(&more[1..]).map(|(weight, more)| weight * more).sum::<f64>();
        let next = (from_empty + others) / none;
        recent.insert(0, next);
        recent.truncate(MANY);
        recent.iter_mut().for_each(|weight| *weight /= next);
        (first, sum) = (first / next, sum / next + 1.0);
    }
    1.0 - 1.0 / (first / sum + load)
}

/// What GCRA refuses in all, if who is refused asks a second part. Many parts are nearly independent of each other; each
/// is asked by those who come to it first, and by those whom the others have refused, of which there are as many as it
/// refuses itself: p is the loss at load × (1 + p), and p² of the calls are refused twice.
pub(crate) fn gcra_two_tries(load: f64, cells: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let p = f64::midpoint(low, high);
        if gcra_exact(load * (1.0 + p), cells) > p { low = p } else { high = p }
    }
    low * low
}

/// What of `calls` calls the windows of all parts refuse beyond what one window of `limit` would. A part is sent a
/// number of calls that is nearly normal, with mean `calls / parts` and variance `calls (parts − 1) / parts²`. At load 1 it
/// is √((parts − 1) / (2π limit)).
pub(crate) fn window_rule(calls: usize, limit: usize, parts: usize) -> f64 {
    normal_error(calls, limit, parts, (calls * (parts - 1)) as f64 / (parts * parts) as f64)
}

/// The same, if so many callers take the parts in turn, each for itself. What a caller brings a part is its share, rounded
/// up or down: a variance of f (1 − f), where any fraction f is as likely as another, and so 1/6 on average. At load 1 it
/// is `parts / limit` × √(callers / 12π). Callers that go round only once or twice in a window are further in step, and
/// it is less.
pub(crate) fn window_round_robin_rule(calls: usize, limit: usize, parts: usize, callers: usize) -> f64 {
    normal_error(calls, limit, parts, callers as f64 / 6.0)
}

/// What windows refuse too much, if the number of calls of a part is normal with this variance: with d, the distance of
/// the mean from the part's limit in standard deviations, a part refuses φ(d) − d Φ(−d) standard deviations too much.
fn normal_error(calls: usize, limit: usize, parts: usize, variance: f64) -> f64 {
    let distance = (calls as f64 - limit as f64).abs() / parts as f64;
    variance.sqrt() * mean_beyond(distance / variance.sqrt()) * parts as f64 / calls as f64
}

/// How far a standard normal number is beyond `d`, on average, where those below count as 0: φ(d) − d Φ(−d), as the
/// integral over t of t φ(d + t).
fn mean_beyond(d: f64) -> f64 {
    const STEP: f64 = 0.001;
    let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    (0..10_000).map(|n| f64::from(n) * STEP).map(|t| t * density(d + t) * STEP).sum()
}

/// [`window_rule`] without rounding: the number of calls of a part is binomial.
pub(crate) fn window_exact(calls: usize, limit: usize, parts: usize) -> f64 {
    let (odds, capacity) = (((parts - 1) as f64).ln(), limit / parts);
    let mut log_chance = calls as f64 * (1.0 - 1.0 / parts as f64).ln();
    let mut refused = 0.0;
    for sent in 1..=calls {
        log_chance += ((calls + 1 - sent) as f64 / sent as f64).ln() - odds;
        refused += log_chance.exp() * sent.saturating_sub(capacity) as f64;
    }
    refused * parts as f64 / calls as f64 - excess(calls as f64 / limit as f64)
}
