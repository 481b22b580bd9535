//! What GCRA promises: the contract's formula to the nanosecond, on any numbers and any stored state; the same
//! decisions as another implementation; and no more cells than the rate, regardless of who calls, and how often.

use super::*;
use governor::clock::{Clock, FakeRelativeClock};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use std::iter::repeat_n;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// The step of the server's clock.
const TICK: i64 = 1_000;
/// An instant of the year 2023.
const EPOCH: i64 = 1_700_000_000 * SECOND;

/// The numbers of a limiter, and the contract's formula on them, word for word in 128 bits.
#[derive(Clone, Copy, Debug)]
struct Terms {
    max_burst: i64,
    count: i64,
    period: i64,
}

impl Terms {
    fn quota(self) -> Result<Quota, QuotaError> {
        Quota::new(self.max_burst, self.count, Nanos(self.period))
    }

    fn limit(self) -> i128 {
        i128::from(self.max_burst) + 1
    }

    fn inc(self, quantity: i128) -> i128 {
        quantity * i128::from(self.period) / i128::from(self.count)
    }

    fn tolerance(self) -> i128 {
        self.inc(self.limit())
    }

    /// The largest r ≤ limit whose inc(r) still fits, found by halving.
    fn most_cells_in(self, room: i128) -> i128 {
        let (mut fits, mut beyond) = (0, self.limit() + 1);
        while beyond - fits > 1 {
            let cells = (fits + beyond) / 2;
            if self.inc(cells) <= room { fits = cells } else { beyond = cells }
        }
        fits
    }

    /// The answer to a call of a client that has been blocked since `since`, and the TAT after it.
    fn answer(
        self,
        tat: Option<i64>,
        [since, now]: [i64; 2],
        quantity: i64,
    ) -> Result<(Answer, Option<i64>), QuotaError> {
        let in_64_bits = |number: i128| i64::try_from(number).map_err(|_| QuotaError::TooLong);
        if i128::from(self.count) * i128::from(SECOND) > i128::from(MAX_RATE) * i128::from(self.period) {
            return Err(QuotaError::TooFast);
        }
        let limit = in_64_bits(self.limit())?;
        let horizon = i128::from(now) + i128::from(in_64_bits(self.tolerance())?);
        in_64_bits(horizon)?;

        let (since, now, quantity) = (i128::from(since), i128::from(now), i128::from(quantity));
        let stored = tat.map(|tat| i128::from(tat).min(horizon));
        let start = stored.map_or(since, |tat| tat.max(since));
        let (limited, retry_after, after) = if quantity > self.limit() {
            (true, None, stored)
        } else if quantity > 0 {
            let taken = start + self.inc(quantity);
            if taken <= horizon { (false, None, Some(taken)) } else { (true, Some(taken - horizon), stored) }
        } else if quantity == 0 {
            (false, None, stored)
        } else {
            let given_back = start - self.inc(-quantity);
            (false, None, (given_back > now).then_some(given_back))
        };

        let reset_after = after.map_or(0, |tat| (tat - now).max(0));
        let answer = Answer {
            limited,
            limit,
            remaining: in_64_bits(self.most_cells_in(self.tolerance() - reset_after))?,
            retry_after: retry_after.map(in_64_bits).transpose()?.map(Nanos),
            reset_after: Nanos(in_64_bits(reset_after)?),
        };
        Ok((answer, after.map(in_64_bits).transpose()?))
    }
}

impl Terms {
    /// The answer to a call, and what happens to the stored TAT. A dry run does not change it.
    fn decision(self, tat: Option<i64>, times: [i64; 2], quantity: i64) -> Result<Decision<Nanos>, QuotaError> {
        let (answer, after) = self.answer(tat, times, quantity)?;
        let next = match after {
            _ if after == tat || quantity == 0 => Next::Keep,
            Some(after) => Next::Store(Nanos(after)),
            None => Next::Clear,
        };
        Ok(Decision { answer, next })
    }
}

/// A limiter as the store keeps it, and the clock it is asked by.
#[derive(Clone, Debug)]
struct Limiter {
    quota: Quota,
    tat: Option<Nanos>,
    now: i64,
}

impl Limiter {
    fn new(terms: Terms) -> Self {
        Self { quota: terms.quota().expect("terms that fit"), tat: None, now: EPOCH }
    }

    fn call(&mut self, quantity: i64) -> Answer {
        let decision = self.quota.decide(self.tat, Nanos(self.now), quantity).expect("instants that fit");
        match decision.next {
            Next::Keep => {}
            Next::Store(tat) => self.tat = Some(tat),
            Next::Clear => self.tat = None,
        }
        decision.answer
    }

    fn wait(&mut self, span: i64) {
        self.now += span;
    }

    /// Whether this call would pass after this wait.
    fn would_pass(&self, wait: i64, quantity: i64) -> bool {
        let mut later = self.clone();
        later.wait(wait);
        !later.call(quantity).limited
    }

    fn horizon(&self) -> Nanos {
        Nanos(self.now + self.quota.tolerance().0)
    }

    fn is_too_far_ahead(&self) -> bool {
        self.tat.is_some_and(|tat| tat > self.horizon())
    }
}

/// 1..=2⁶³ − 1, every order of magnitude as likely as any other.
fn magnitude() -> impl Strategy<Value = i64> {
    (0..63u32).prop_flat_map(|bits| 1 << bits..=i64::MAX >> (62 - bits))
}

/// The number itself if it is 1..=most, else another that is.
fn wrapped(number: i64, most: i128) -> i64 {
    i64::try_from((i128::from(number) - 1) % most + 1).expect("no larger than the number")
}

fn near(anchor: i128, bounds: RangeInclusive<i64>) -> impl Strategy<Value = i64> {
    (-2..=2i128).prop_map(move |offset| {
        let number = (anchor + offset).clamp(i128::from(*bounds.start()), i128::from(*bounds.end()));
        i64::try_from(number).expect("64-bit bounds")
    })
}

/// Terms whose tolerance is at most `longest`.
fn terms_within(longest: i64) -> impl Strategy<Value = Terms> {
    (magnitude(), magnitude(), magnitude()).prop_map(move |(period, count, limit)| {
        let period = wrapped(period, i128::from(longest));
        let count = wrapped(count, i128::from(period));
        let limit = wrapped(limit, i128::from(longest) * i128::from(count) / i128::from(period));
        Terms { max_burst: limit - 1, count, period }
    })
}

fn usual_terms() -> impl Strategy<Value = Terms> {
    let counts = select(vec![1, 3, 7, 60, 1_000, 1_100, 1_500, 5_000, 100_000]);
    let periods = select(vec![SECOND / 4, SECOND, 60 * SECOND, HOUR, 24 * HOUR]);
    let bursts = select(vec![0, 1, 5, 50, 10_000]);
    (bursts, counts, periods).prop_map(|(max_burst, count, period)| Terms { max_burst, count, period })
}

/// Terms whose tolerance is close to the longest that fits, on either side.
fn terms_at_the_edge() -> impl Strategy<Value = Terms> {
    (magnitude(), magnitude()).prop_flat_map(|(period, count)| {
        let count = wrapped(count, i128::from(period));
        let longest_burst = i128::from(i64::MAX) * i128::from(count) / i128::from(period);
        near(longest_burst, 0..=i64::MAX).prop_map(move |max_burst| Terms { max_burst, count, period })
    })
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let unrelated = (magnitude(), magnitude(), magnitude());
    prop_oneof![
        4 => terms_within(i64::MAX),
        2 => usual_terms(),
        1 => terms_at_the_edge(),
        1 => unrelated.prop_map(|(burst, count, period)| Terms { max_burst: burst - 1, count, period }),
    ]
}

/// Any quantity, mostly few cells or about a whole burst.
fn quantity(terms: Terms) -> impl Strategy<Value = i64> {
    let limit = terms.limit();
    let everything = i64::MIN..=i64::MAX;
    prop_oneof![
        3 => -3..=3i64,
        3 => magnitude().prop_map(move |cells| wrapped(cells, limit)),
        1 => magnitude().prop_map(move |cells| -wrapped(cells, limit)),
        1 => near(limit, everything.clone()),
        1 => near(-limit, everything.clone()),
        1 => select(vec![i64::MIN, i64::MIN + 1, i64::MAX]),
        1 => everything,
    ]
}

/// Any clock, stored TAT and quantity, mostly where a comparison is decided.
fn call(terms: Terms) -> impl Strategy<Value = (Option<i64>, i64, i64)> {
    let instants = 0..=i64::MAX;
    let now = prop_oneof![
        3 => Just(EPOCH),
        2 => magnitude(),
        1 => near(i128::from(i64::MAX) - terms.tolerance(), instants.clone()),
        1 => instants.clone(),
    ];
    (now, quantity(terms)).prop_flat_map(move |(now, quantity)| {
        let horizon = i128::from(now) + terms.tolerance();
        let last = i64::try_from(horizon).unwrap_or(i64::MAX);
        let just_fits = horizon - terms.inc(i128::from(quantity.unsigned_abs()).min(terms.limit()));
        let tat = prop_oneof![
            1 => Just(None),
            1 => near(i128::from(now), instants.clone()).prop_map(Some),
            2 => near(just_fits, instants.clone()).prop_map(Some),
            1 => near(horizon, instants.clone()).prop_map(Some),
            2 => (now..=last).prop_map(Some),
            1 => select(vec![0, i64::MAX]).prop_map(Some),
            1 => instants.clone().prop_map(Some),
        ];
        (tat, Just(now), Just(quantity))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50_000))]

    #[test]
    fn every_call_follows_the_formula(
        (terms, (tat, now, quantity)) in any_terms().prop_flat_map(|terms| (Just(terms), call(terms))),
    ) {
        let decide = |quota: Quota| quota.decide(tat.map(Nanos), Nanos(now), quantity).map_err(|_| QuotaError::TooLong);
        prop_assert_eq!(terms.quota().and_then(decide), terms.decision(tat, [now, now], quantity));
    }

    #[test]
    fn every_call_for_cells_that_were_waited_for_follows_the_formula(
        (terms, (tat, now, quantity)) in any_terms().prop_flat_map(|terms| (Just(terms), call(terms))),
        waited in prop_oneof![1 => Just(0), 3 => magnitude()],
    ) {
        let since = (now - waited).max(0);
        let decide = |quota: Quota| {
            let decision = quota.decide_since(tat.map(Nanos), Nanos(since), Nanos(now), quantity);
            decision.map_err(|_| QuotaError::TooLong)
        };
        prop_assert_eq!(terms.quota().and_then(decide), terms.decision(tat, [since, now], quantity));
    }
}

#[test]
fn a_burst_passes_at_once_and_then_one_cell_per_interval() {
    let mut limiter = Limiter::new(Terms { max_burst: 2, count: 1, period: SECOND });
    let answered = |limited, remaining, retry_after: Option<i64>, reset_after| Answer {
        limited,
        limit: 3,
        remaining,
        retry_after: retry_after.map(Nanos),
        reset_after: Nanos(reset_after),
    };
    assert_eq!(limiter.call(0), answered(false, 3, None, 0));
    assert_eq!(limiter.call(2), answered(false, 1, None, 2 * SECOND));
    assert_eq!(limiter.call(2), answered(true, 1, Some(SECOND), 2 * SECOND));
    assert_eq!(limiter.call(1), answered(false, 0, None, 3 * SECOND));
    limiter.wait(SECOND - 1);
    assert_eq!(limiter.call(1), answered(true, 0, Some(1), 2 * SECOND + 1));
    limiter.wait(1);
    assert_eq!(limiter.call(1), answered(false, 0, None, 3 * SECOND));
    assert_eq!(limiter.call(4), answered(true, 0, None, 3 * SECOND));
    assert_eq!(limiter.call(-2), answered(false, 2, None, SECOND));
    assert_eq!(limiter.call(-2), answered(false, 3, None, 0));
    assert_eq!(limiter.tat, None);
}

#[test]
fn numbers_that_do_not_fit_make_no_quota() {
    let refusal = |max_burst, count, period| Terms { max_burst, count, period }.quota().map(|_| ());
    assert_eq!(refusal(0, 1, i64::MAX), Ok(()));
    assert_eq!(refusal(1, 1, i64::MAX), Err(QuotaError::TooLong));
    assert_eq!(refusal(i64::MAX - 1, 1, 1), Ok(()));
    assert_eq!(refusal(i64::MAX, 1, 1), Err(QuotaError::TooLong));
    assert_eq!(refusal(0, MAX_RATE, SECOND), Ok(()));
    assert_eq!(refusal(0, MAX_RATE + 1, SECOND), Err(QuotaError::TooFast));
}

/// Terms under which no instant of a limiter's life comes near 2⁶³ ns.
fn roomy_terms() -> impl Strategy<Value = Terms> {
    prop_oneof![terms_within(EPOCH / 2), usual_terms()]
}

/// A limiter after some calls of any quantity, between which its clock went forward or back.
fn limiter() -> impl Strategy<Value = Limiter> {
    roomy_terms().prop_flat_map(limiter_of)
}

fn limiter_and_quantity() -> impl Strategy<Value = (Limiter, i64)> {
    roomy_terms().prop_flat_map(|terms| (limiter_of(terms), quantity(terms)))
}

fn limiter_of(terms: Terms) -> impl Strategy<Value = Limiter> {
    let tolerance = terms.tolerance();
    let step = prop_oneof![
        2 => Just(0),
        3 => magnitude().prop_map(move |span| wrapped(span, tolerance)),
        1 => magnitude().prop_map(move |span| wrapped(span, terms.inc(1))),
        1 => magnitude().prop_map(move |span| -wrapped(span, 2 * tolerance)),
    ];
    vec((quantity(terms), step), 0..12).prop_map(move |calls| {
        let mut limiter = Limiter::new(terms);
        for (quantity, step) in calls {
            limiter.call(quantity);
            limiter.now = (limiter.now + step).clamp(0, 2 * EPOCH);
        }
        limiter
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_call_but_a_dry_run_leaves_a_tat_beyond_the_horizon((mut limiter, quantity) in limiter_and_quantity()) {
        let before = limiter.tat;
        let answer = limiter.call(quantity);
        prop_assert!(!limiter.is_too_far_ahead() || (quantity == 0 && limiter.tat == before));
        prop_assert!((0..=answer.limit).contains(&answer.remaining));
        prop_assert!((Nanos(0)..=limiter.quota.tolerance()).contains(&answer.reset_after));
    }

    #[test]
    fn the_remaining_cells_pass_and_one_more_is_refused((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        prop_assert!(limiter.would_pass(0, answer.remaining));
        prop_assert!(!limiter.would_pass(0, answer.remaining + 1));
    }

    #[test]
    fn a_refused_call_passes_when_its_retry_is_due_and_not_before(mut limiter in limiter(), cells in magnitude()) {
        let taken = limiter.call(0).remaining;
        let answer = limiter.call(taken);
        let quantity = answer.remaining + wrapped(cells, i128::from(answer.limit - answer.remaining));
        let refused = limiter.call(quantity);
        prop_assert!(refused.limited);
        let Nanos(wait) = refused.retry_after.expect("no more than the limit");
        prop_assert!(limiter.would_pass(wait, quantity));
        prop_assert!(!limiter.would_pass(wait - 1, quantity));
    }

    #[test]
    fn a_dry_run_repeats_the_last_answer_and_changes_nothing((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        let left = limiter.tat;
        let dry_run = Answer { limited: false, retry_after: None, ..answer };
        prop_assert_eq!(limiter.call(0), dry_run);
        prop_assert_eq!(limiter.call(0), dry_run);
        prop_assert_eq!(limiter.tat, left);
    }

    #[test]
    fn a_refund_undoes_a_take(mut limiter in limiter(), cells in magnitude()) {
        let before = limiter.call(-1);
        let left = limiter.tat;
        let quantity = wrapped(cells, i128::from(before.remaining));
        limiter.call(quantity);
        prop_assert_eq!(limiter.call(-quantity), before);
        prop_assert_eq!(limiter.tat, left);
    }

    #[test]
    fn a_refund_of_a_burst_or_more_ends_at_full(mut limiter in limiter(), cells in magnitude()) {
        let limit = limiter.call(0).limit;
        let full = Answer { limited: false, limit, remaining: limit, retry_after: None, reset_after: Nanos(0) };
        prop_assert_eq!(limiter.call(cells.max(limit).saturating_neg()), full);
        prop_assert_eq!(limiter.tat, None);
    }

    #[test]
    fn a_whole_burst_passes_when_the_reset_is_due_and_not_before((mut limiter, quantity) in limiter_and_quantity()) {
        let Answer { limit, reset_after: Nanos(reset_after), .. } = limiter.call(quantity);
        // A dry run tells when the reset is due once a call has repaired the state.
        prop_assume!(!limiter.is_too_far_ahead());
        prop_assert!(limiter.would_pass(reset_after, limit));
        prop_assert!(reset_after == 0 || !limiter.would_pass(reset_after - 1, limit));
    }
}

/// The instants of the cells that a caller gets that calls for `quantity` a number of times, pausing when refused; and
/// the instant of the next call.
fn taken_greedily(terms: Terms, quantity: i64, calls: u32, pause: impl Fn(i64) -> i64) -> (Vec<i64>, i64) {
    let cells = usize::try_from(quantity).expect("taken, not given back");
    let mut limiter = Limiter::new(terms);
    let mut taken = Vec::new();
    for _ in 0..calls {
        let answer = limiter.call(quantity);
        if answer.limited {
            limiter.wait(pause(answer.retry_after.expect("no more than the limit").0));
        } else {
            taken.extend(repeat_n(limiter.now, cells));
        }
    }
    (taken, limiter.now)
}

/// In no span T from one cell to another are more cells taken than limit + T × count / period and one part in
/// ⌊period / count⌋ of that, which is what rounding down the cost of each call can add.
fn never_too_many(terms: Terms, taken: &[i64]) -> Result<(), TestCaseError> {
    let (period, count, interval) = (i128::from(terms.period), i128::from(terms.count), terms.inc(1));
    let allowed = terms.limit() * period * (interval + 1);
    // The bound is linear in cells and in time, so the worst span up to a cell starts where the excess was lowest.
    let mut lowest = i128::MAX;
    for (earlier, &at) in (0..).zip(taken) {
        let excess = |cells: i128| cells * period * interval - i128::from(at) * count * (interval + 1);
        lowest = lowest.min(excess(earlier));
        prop_assert!(excess(earlier + 1) - lowest <= allowed, "{:?}: cell {} at {}", terms, earlier + 1, at);
    }
    Ok(())
}

/// A caller for `quantity` on every tick is at no instant more than one call behind limit + T × count / period (whose
/// tolerance is rounded down to a nanosecond), plus the tick that each call may come late if no burst makes up for it.
fn never_too_few(terms: Terms, quantity: i64, taken: &[i64], until: i64) -> Result<(), TestCaseError> {
    let (period, count, quantity) = (i128::from(terms.period), i128::from(terms.count), i128::from(quantity));
    let spare = terms.tolerance() - terms.inc(quantity);
    let late = (i128::from(TICK) - 1 - spare).max(0);
    for (earlier, &at) in (0..).zip(taken.iter().chain([&until])) {
        let span = i128::from(at - TICK - EPOCH);
        let due = quantity * (span * count + terms.limit() * period - count);
        let reached = (earlier + quantity) * (quantity * period + late * count);
        prop_assert!(span < 0 || reached > due, "{:?}: only {} cells in {} ns", terms, earlier, span);
    }
    Ok(())
}

#[test]
fn a_caller_on_every_tick_gets_the_rate_and_no_more() -> Result<(), TestCaseError> {
    for count in [1_100, 1_500, 5_000, 10_000, 100_000] {
        for max_burst in [0, 5, 50] {
            let terms = Terms { max_burst, count, period: SECOND };
            let (taken, until) = taken_greedily(terms, 1, 3_000_000, |_| TICK);
            never_too_many(terms, &taken)?;
            never_too_few(terms, 1, &taken, until)?;
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_caller_that_waits_retry_after_gets_the_rate_and_no_more(
        (max_burst, count, period, quantity) in (0..200i64, magnitude(), magnitude(), magnitude()),
    ) {
        let period = wrapped(period, 1 << 44);
        let terms = Terms { max_burst, count: wrapped(count, i128::from(period)), period };
        let quantity = wrapped(quantity, terms.limit());
        let next_tick = |retry_after| (retry_after + TICK - 1) / TICK * TICK;
        let (taken, until) = taken_greedily(terms, quantity, 1_000, next_tick);
        never_too_many(terms, &taken)?;
        never_too_few(terms, quantity, &taken, until)?;
    }

    #[test]
    fn governor_decides_the_same(
        (interval, limit, calls) in (magnitude(), 1..=1_000u32)
            .prop_map(|(interval, limit)| (wrapped(interval, 1 << 44), limit))
            .prop_flat_map(|(interval, limit)| {
                let tolerance = i128::from(interval) * i128::from(limit);
                let step = prop_oneof![
                    1 => Just(0),
                    1 => magnitude().prop_map(move |span| wrapped(span, i128::from(interval))),
                    1 => magnitude().prop_map(move |span| wrapped(span, 2 * tolerance)),
                ];
                let quantity = prop_oneof![1 => Just(1), 1 => 1..=limit, 1 => Just(limit + 1)];
                (Just(interval), Just(limit), vec((step, quantity), 1..40))
            }),
    ) {
        let span = |nanos: i64| Duration::from_nanos(nanos.unsigned_abs());
        let clock = FakeRelativeClock::default();
        let burst = NonZeroU32::new(limit).expect("1 at least");
        let quota = governor::Quota::with_period(span(interval)).expect("1 ns at least").allow_burst(burst);
        let governor = governor::RateLimiter::direct_with_clock(quota, clock.clone());
        let mut limiter = Limiter::new(Terms { max_burst: i64::from(limit) - 1, count: 1, period: interval });
        for (step, quantity) in calls {
            clock.advance(span(step));
            limiter.wait(step);
            let answer = limiter.call(i64::from(quantity));
            let retry_after = answer.retry_after.map(|Nanos(wait)| span(wait));
            let cells = NonZeroU32::new(quantity).expect("1 at least");
            match governor.check_n(cells) {
                Ok(passed) => {
                    prop_assert_eq!(answer.limited, passed.is_err());
                    prop_assert_eq!(retry_after, passed.err().map(|refusal| refusal.wait_time_from(clock.now())));
                }
                Err(governor::InsufficientCapacity(_)) => prop_assert_eq!((answer.limited, retry_after), (true, None)),
            }
        }
    }
}

#[test]
fn a_raised_rate_is_not_limited_by_the_state_of_the_old_one() {
    let mut limiter = Limiter::new(Terms { max_burst: 0, count: 1, period: HOUR });
    limiter.call(1);
    limiter.quota = Terms { max_burst: 0, count: 1, period: SECOND }.quota().expect("terms that fit");
    assert_eq!(limiter.call(1).retry_after, Some(Nanos(SECOND)));
    assert_eq!(limiter.tat, Some(limiter.horizon()), "stored even though refused");
    limiter.wait(SECOND);
    assert!(!limiter.call(1).limited);
}

proptest! {
    #[test]
    fn with_other_numbers_no_wait_is_longer_than_their_tolerance(
        mut limiter in limiter(),
        terms in roomy_terms(),
        cells in magnitude(),
    ) {
        limiter.quota = terms.quota().expect("terms that fit");
        let quantity = wrapped(cells, terms.limit());
        let answer = limiter.call(quantity);
        let Nanos(wait) = answer.retry_after.unwrap_or(Nanos(0));
        prop_assert!(wait <= limiter.quota.tolerance().0);
        prop_assert!(!answer.limited || limiter.would_pass(wait, quantity));
    }

    /// Up to what rounding down the cost of each call can add: one part in ⌊period / count⌋.
    #[test]
    fn with_other_numbers_no_more_than_their_limit_passes_at_once(
        mut limiter in limiter(),
        terms in roomy_terms(),
        calls in vec(magnitude(), 0..50),
    ) {
        limiter.quota = terms.quota().expect("terms that fit");
        prop_assert!(i128::from(limiter.call(0).remaining) <= terms.limit());
        let mut taken = 0;
        for cells in calls {
            let quantity = wrapped(cells, terms.limit());
            if !limiter.call(quantity).limited {
                taken += i128::from(quantity);
            }
        }
        prop_assert!(taken * terms.inc(1) <= terms.limit() * (terms.inc(1) + 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_cell_that_was_waited_for_counts_as_taken_when_it_was_due(
        (limiter, cells) in (limiter(), magnitude()),
        (waited, elapsed) in (prop_oneof![1 => Just(0), 3 => magnitude()], magnitude()),
    ) {
        let Limiter { quota, tat, now: since } = limiter;
        prop_assume!(!limiter.is_too_far_ahead());
        let now = since + wrapped(elapsed, i128::from(EPOCH)).min(waited);
        let quantity = wrapped(cells, i128::from(quota.limit));
        let decide = |since, now| quota.decide_since(tat, Nanos(since), Nanos(now), quantity).expect("instants that fit");
        let late = decide(since, now);
        // Due is the first instant since `since` at which the call passes.
        let due = since + decide(since, since).answer.retry_after.map_or(0, |wait| wait.0);
        prop_assert_eq!(late.answer.limited, due > now);
        if late.answer.limited {
            prop_assert_eq!(late.answer.retry_after, Some(Nanos(due - now)));
            prop_assert_eq!(late.next, Next::Keep);
        } else {
            let on_time = decide(due, due);
            prop_assert!(!on_time.answer.limited);
            prop_assert_eq!(late.next, on_time.next);
        }
    }

    /// Blocked clients are served by timers that fire late, and take what was due by then. The cells count at the
    /// instants when they were due, at which they are as many as the rate lets pass, and no instant comes before.
    #[test]
    fn timers_that_come_late_keep_the_rate_and_serve_no_more_than_it(
        terms in usual_terms(),
        lateness in vec(0..100_000_000i64, 1..40),
    ) {
        let mut limiter = Limiter::new(terms);
        let (mut due_times, mut waiting_since) = (Vec::new(), EPOCH);
        for late in lateness {
            let wait = limiter.call(0);
            prop_assert!((0..=wait.limit).contains(&wait.remaining));
            let due = limiter.tat.map_or(limiter.now, |Nanos(tat)| {
                (tat + limiter.quota.cost(1) - limiter.quota.tolerance().0).max(limiter.now)
            });
            limiter.now = due + late;
            for _ in 0..1_000 {
                let since = Nanos(waiting_since.max(limiter.now - 100_000_000));
                let served = limiter.quota.decide_since(limiter.tat, since, Nanos(limiter.now), 1);
                let Decision { answer, next } = served.expect("instants that fit");
                prop_assert!((0..=answer.limit).contains(&answer.remaining));
                prop_assert!((0..=limiter.quota.tolerance().0).contains(&answer.reset_after.0));
                let Next::Store(tat) = next else { break };
                let counted_at = (tat.0 - limiter.quota.tolerance().0).max(since.0);
                prop_assert!(counted_at <= limiter.now);
                due_times.push(counted_at);
                limiter.tat = Some(tat);
            }
            waiting_since = due_times.last().map_or(waiting_since, |&last: &i64| last.max(waiting_since));
        }
        never_too_many(terms, &due_times)?;
    }
}

#[test]
fn a_thousand_a_second_without_a_burst_is_a_thousand_a_second_by_timers_that_are_late() {
    let mut limiter = Limiter::new(Terms { max_burst: 0, count: 1_000, period: SECOND });
    let mut served = 0;
    // Up to 90 ms late, and never twice as late.
    for late in (0..).map(|turn| turn * 37 % 91 * 1_000_000) {
        let due = limiter.tat.map_or(EPOCH, |tat| tat.0);
        limiter.now = limiter.now.max(due + late);
        if limiter.now > EPOCH + 10 * SECOND {
            break;
        }
        loop {
            let since = Nanos((limiter.now - 100_000_000).max(EPOCH));
            let decision = limiter.quota.decide_since(limiter.tat, since, Nanos(limiter.now), 1);
            let Next::Store(tat) = decision.expect("instants that fit").next else { break };
            (served, limiter.tat) = (served + 1, Some(tat));
        }
        assert_eq!(served, (limiter.now - EPOCH) / 1_000_000 + 1);
    }
    assert!(served > 9_900, "{served}");
}

proptest! {
    /// A TAT within the tolerance is treated as by the cut variant; beyond, every call that does not bring it within
    /// the tolerance is refused, and changes nothing.
    #[test]
    fn the_uncut_variant_differs_only_beyond_the_tolerance(
        max_burst in 0..1_000_i64,
        count in 1..1_000_i64,
        period in SECOND..HOUR,
        ahead in -HOUR..4 * HOUR,
        quantity in -2_000..2_000_i64,
    ) {
        let quota = Quota::new(max_burst, count, Nanos(period)).expect("a quota");
        let (now, tat) = (Nanos(EPOCH), Some(Nanos(EPOCH + ahead)));
        let uncut = quota.decide_uncut(tat, now, quantity).expect("a decision");
        if ahead <= quota.tolerance().0 {
            let cut = quota.decide(tat, now, quantity).expect("a decision");
            prop_assert_eq!(uncut.answer, cut.answer);
            prop_assert_eq!(uncut.next, cut.next);
        } else if quantity >= 0 {
            prop_assert!(uncut.answer.limited);
            prop_assert_eq!(uncut.answer.remaining, 0);
            prop_assert_eq!(uncut.answer.reset_after, Nanos(ahead));
            prop_assert_eq!(uncut.next, Next::Keep);
        } else if uncut.answer.limited {
            prop_assert_eq!(uncut.next, Next::Keep);
        }
    }
}

#[test]
fn a_quota_of_no_cell_takes_none() {
    let quota = Quota::new(-1, 30, Nanos(60 * SECOND)).expect("a quota");
    for (tat, reset) in [(None, 0), (Some(Nanos(EPOCH - SECOND)), 0), (Some(Nanos(EPOCH + SECOND)), SECOND)] {
        let Decision { answer, next } = quota.decide_uncut(tat, Nanos(EPOCH), 1).expect("a decision");
        let reset_after = Nanos(reset);
        assert_eq!(answer, Answer { limited: true, limit: 0, remaining: 0, retry_after: None, reset_after });
        assert_eq!(next, Next::Keep);
    }
}

/// A million calls compared with governor, on limiters of every size: waits from none to more than a whole burst takes.
#[test]
fn governor_decides_a_million_calls_the_same() {
    const CALLS_OF_ONE: usize = 2_000;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: i64| {
        // SplitMix64, so that each run is the same.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        i64::try_from((mixed ^ (mixed >> 31)) % below.unsigned_abs()).expect("below")
    };
    let span = |nanos: i64| Duration::from_nanos(nanos.unsigned_abs());
    let (mut calls, mut refused) = (0, 0);
    while calls < 1_000_000 {
        let (magnitude, size) = (random(40), random(9));
        let (interval, limit) = (1 + random(2 << magnitude), 1 + random(2 << size));
        let clock = FakeRelativeClock::default();
        let burst = NonZeroU32::new(u32::try_from(limit).expect("small")).expect("1 at least");
        let quota = governor::Quota::with_period(span(interval)).expect("1 ns at least").allow_burst(burst);
        let governor = governor::RateLimiter::direct_with_clock(quota, clock.clone());
        let mut limiter = Limiter::new(Terms { max_burst: limit - 1, count: 1, period: interval });
        for _ in 0..CALLS_OF_ONE {
            let step = match random(8) {
                0 => random(2 * interval * limit),
                1..4 => random(2 * interval),
                _ => 0,
            };
            clock.advance(span(step));
            limiter.wait(step);
            let quantity = if random(4) == 0 { 1 + random(limit + 1) } else { 1 };
            let answer = limiter.call(quantity);
            let cells = NonZeroU32::new(u32::try_from(quantity).expect("small")).expect("1 at least");
            let (limited, retry_after) = match governor.check_n(cells) {
                Ok(passed) => (passed.is_err(), passed.err().map(|refusal| refusal.wait_time_from(clock.now()))),
                Err(governor::InsufficientCapacity(_)) => (true, None),
            };
            assert_eq!((answer.limited, answer.retry_after.map(|Nanos(wait)| span(wait))), (limited, retry_after));
            refused += i64::from(limited);
        }
        calls += i64::try_from(CALLS_OF_ONE).expect("small");
    }
    assert!(refused > calls / 10 && refused < calls - calls / 10, "{refused} of {calls} are refused");
}
