//! The promises of a sliding counter: the contract's estimate, and decisions by it, on any numbers, any state and any
//! clock; no more cells in a period than the estimate's error allows, compared with a log of all of them; and no
//! refusal for longer than two periods.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use std::iter::repeat_n;
use std::ops::RangeInclusive;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
/// An instant of the year 2023, at which minutes and hours begin.
const EPOCH: i64 = 1_699_999_200 * SECOND;

/// The numbers of a limiter, and the contract's rules on them in 128 bits.
#[derive(Clone, Copy, Debug)]
struct Terms {
    limit: i64,
    period: i64,
}

/// The counts of a state, each with the instant at which it has left the view. Until a period before that, all of a
/// count is in view; then its share shrinks evenly.
fn counts(slide: Slide) -> [(i128, i128); 2] {
    let [start, period, current, previous] =
        [slide.start.0, slide.period.0, slide.current, slide.previous].map(i128::from);
    [(current, start + 2 * period), (previous, start + period)]
}

/// The least integer that is no less than what is in view.
fn estimate(slide: Slide, now: i128) -> i128 {
    let period = i128::from(slide.period.0);
    let in_view = |(count, leaves): (i128, i128)| {
        let product = count * (leaves - now).clamp(0, period);
        product / period + i128::from(product % period > 0)
    };
    counts(slide).map(in_view).iter().sum()
}

/// When nothing is in view any more.
fn end(slide: Slide) -> i128 {
    counts(slide).iter().filter(|(count, _)| *count > 0).map(|&(_, leaves)| leaves).max().unwrap_or(0)
}

/// The least number in the range of which `holds` is true; it is of all that follow.
fn first(range: RangeInclusive<i128>, holds: impl Fn(i128) -> bool) -> i128 {
    let (mut fails, mut found) = (range.start() - 1, *range.end());
    while found - fails > 1 {
        let middle = (fails + found) / 2;
        if holds(middle) { found = middle } else { fails = middle }
    }
    found
}

impl Terms {
    fn policy(self) -> Policy {
        Policy { limit: self.limit, period: Nanos(self.period) }
    }

    /// The beginning of the window of this instant.
    fn start(self, now: i64) -> i64 {
        now / self.period * self.period
    }

    fn empty(self, now: i64) -> Slide {
        Slide { start: Nanos(self.start(now)), period: Nanos(self.period), current: 0, previous: 0 }
    }

    /// Whether these terms have made it, at `now` or before.
    fn is_own(self, slide: Slide, now: i64) -> bool {
        slide.start.0 <= now && slide.period.0 == self.period && slide.start.0 % self.period == 0
    }

    /// Whether it reaches further ahead than anything that these terms make.
    fn is_too_far_ahead(self, slide: Slide, now: i64) -> bool {
        slide.start.0 > now || end(slide) > i128::from(self.start(now)) + 2 * i128::from(self.period)
    }

    /// A state in the window of `now`: rolled over, or if other terms or another clock have made it, carried as far as
    /// it counts.
    fn seen(self, stored: Slide, now: i64) -> Slide {
        let empty = self.empty(now);
        if self.is_own(stored, now) {
            return match (empty.start.0 - stored.start.0) / self.period {
                0 => stored,
                1 => Slide { previous: stored.current, ..empty },
                _ => empty,
            };
        }
        let counted = if stored.start.0 > now {
            i128::from(stored.current) + i128::from(stored.previous)
        } else {
            estimate(stored, i128::from(now))
        };
        Slide { current: in_64_bits(counted.min(i128::from(self.limit))), ..empty }
    }

    /// The answer to a call, and the state after it.
    fn answer(self, stored: Option<Slide>, now: i64, quantity: i64) -> Result<(Answer, Option<Slide>), TooLong> {
        let (limit, period) = (i128::from(self.limit), i128::from(self.period));
        let (at, cells) = (i128::from(now), i128::from(quantity));
        if at + 2 * period >= i128::from(i64::MAX) {
            return Err(TooLong);
        }
        let seen = stored.map_or(self.empty(now), |stored| self.seen(stored, now));
        let kept = stored.map(|stored| if self.is_too_far_ahead(stored, now) { seen } else { stored });

        let (limited, after) = if cells > limit || (cells > 0 && estimate(seen, at) + cells > limit) {
            (true, kept)
        } else if quantity > 0 {
            (false, Some(Slide { current: seen.current + quantity, ..seen }))
        } else if quantity == 0 {
            (false, kept)
        } else {
            (false, stored.and_then(|_| self.returned(seen, at, (-cells).min(i128::from(i64::MAX)))))
        };

        let estimate_at = |later| after.map_or(0, |after| estimate(after, later));
        let passes_at = || first(at..=at + 2 * period, |later| estimate_at(later) + cells <= limit);
        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: in_64_bits((limit - estimate_at(at)).max(0)),
            retry_after: (limited && cells <= limit).then(|| Nanos(in_64_bits(passes_at() - at))),
            reset_after: Nanos(in_64_bits((after.map_or(0, end) - at).max(0))),
        };
        Ok((answer, after))
    }

    /// The state with that many cells fewer: the current window's first, then the estimate of the previous one's.
    fn returned(self, seen: Slide, now: i128, cells: i128) -> Option<Slide> {
        let from_current = cells.min(i128::from(seen.current));
        let without = Slide { current: seen.current - in_64_bits(from_current), ..seen };
        if from_current == cells {
            return Some(without).filter(|without| estimate(*without, now) > 0);
        }
        let left = estimate(without, now) - (cells - from_current);
        let previous = |count| Slide { previous: in_64_bits(count), ..without };
        let too_many = first(1..=i128::from(seen.previous) + 1, |count| {
            count > i128::from(seen.previous) || estimate(previous(count), now) > left
        });
        (left > 0).then(|| previous(too_many - 1))
    }
}

fn in_64_bits(number: i128) -> i64 {
    i64::try_from(number).expect("a number that fits")
}

/// A limiter as the store keeps it, and the clock it is asked by.
#[derive(Clone, Debug)]
struct Limiter {
    terms: Terms,
    slide: Option<Slide>,
    now: i64,
}

impl Limiter {
    fn new(terms: Terms) -> Self {
        Self { terms, slide: None, now: EPOCH }
    }

    fn call(&mut self, quantity: i64) -> Answer {
        let decision = self.terms.policy().decide(self.slide, Nanos(self.now), quantity).expect("instants that fit");
        match decision.next {
            Next::Keep => {}
            Next::Store(slide) => self.slide = Some(slide),
            Next::Clear => self.slide = None,
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

    /// The estimate that its next call meets.
    fn estimate(&self) -> i128 {
        self.slide.map_or(0, |slide| estimate(self.terms.seen(slide, self.now), i128::from(self.now)))
    }

    /// How long a refusal may last at most.
    fn longest(&self) -> i64 {
        2 * self.terms.period
    }
}

/// 1..=2⁶³ − 1, every order of magnitude as likely as any other.
fn magnitude() -> impl Strategy<Value = i64> {
    (0..63u32).prop_flat_map(|bits| 1 << bits..=i64::MAX >> (62 - bits))
}

/// 1..=most, small numbers as likely as large ones.
fn up_to(most: i64) -> impl Strategy<Value = i64> {
    magnitude().prop_map(move |number| (number - 1) % most + 1)
}

fn near(anchor: i128, bounds: RangeInclusive<i64>) -> impl Strategy<Value = i64> {
    (-2..=2i128).prop_map(move |offset| {
        in_64_bits((anchor + offset).clamp(i128::from(*bounds.start()), i128::from(*bounds.end())))
    })
}

/// Terms whose periods last at most `longest`.
fn terms_within(longest: i64) -> impl Strategy<Value = Terms> {
    let limit = prop_oneof![2 => 1..=9i64, 1 => magnitude(), 1 => Just(i64::MAX)];
    let period = prop_oneof![1 => 1..=10i64, 1 => select(vec![SECOND, MINUTE, 7 * SECOND / 4]), 2 => up_to(longest)];
    (limit, period).prop_map(|(limit, period)| Terms { limit, period })
}

/// Terms under which no instant of a limiter's life comes near 2⁶³ ns.
fn roomy_terms() -> impl Strategy<Value = Terms> {
    terms_within(EPOCH / 2)
}

fn any_terms() -> impl Strategy<Value = Terms> {
    prop_oneof![4 => roomy_terms(), 1 => terms_within(i64::MAX)]
}

/// Any quantity, mostly few cells or about the limit.
fn quantity(terms: Terms) -> impl Strategy<Value = i64> {
    let limit = i128::from(terms.limit);
    let everything = i64::MIN..=i64::MAX;
    prop_oneof![
        4 => -2..=3i64,
        3 => up_to(terms.limit),
        1 => up_to(terms.limit).prop_map(|cells| -cells),
        1 => near(limit, everything.clone()),
        1 => near(-limit, everything.clone()),
        1 => select(vec![i64::MIN, i64::MIN + 1, i64::MAX]),
        1 => everything,
    ]
}

/// Any state and quantity, and a clock that stands somewhere in the windows of that state.
fn call(terms: Terms) -> impl Strategy<Value = (Option<Slide>, i64, i64)> {
    let instants = 0..=i64::MAX;
    let last = i128::from(i64::MAX) - 2 * i128::from(terms.period);
    let now = prop_oneof![
        4 => EPOCH..=EPOCH + terms.period.min(EPOCH),
        1 => magnitude(),
        2 => near(last, instants.clone())
            .prop_filter("two periods end with the last instant", move |&now| i128::from(now) != last),
        1 => instants.clone(),
    ];
    let count = move || {
        prop_oneof![
            3 => 0..=terms.limit,
            2 => (0..=9i64).prop_map(move |cells| cells.min(terms.limit)),
            1 => near(i128::from(terms.limit), 0..=i64::MAX),
            1 => 0..=i64::MAX,
        ]
    };
    let period = prop_oneof![
        6 => Just(terms.period),
        1 => near(i128::from(terms.period), 1..=i64::MAX),
        1 => (1..=4i64).prop_map(move |part| (terms.period / part).max(1)),
        1 => magnitude(),
    ];
    (now, quantity(terms), period, count(), count()).prop_flat_map(move |(now, quantity, period, current, previous)| {
        let window = now / period;
        let aligned = (-1..=3i64).prop_map(move |ago| window.saturating_sub(ago).max(0).saturating_mul(period));
        let start = prop_oneof![
            6 => aligned,
            1 => near(i128::from(now), 0..=i64::MAX),
            1 => up_to(period).prop_map(move |ago| (now - ago).max(0)),
            1 => 0..=i64::MAX,
        ];
        let slide =
            start.prop_map(move |start| Slide { start: Nanos(start), period: Nanos(period), current, previous });
        (prop_oneof![1 => Just(None), 9 => slide.prop_map(Some)], Just(now), Just(quantity))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50_000))]

    #[test]
    fn every_call_follows_the_estimate(
        (terms, (stored, now, quantity)) in any_terms().prop_flat_map(|terms| (Just(terms), call(terms))),
    ) {
        let expected = terms.answer(stored, now, quantity).map(|(answer, after)| {
            let next = match after {
                // A dry run changes nothing, not even what reaches too far ahead.
                Some(_) if after == stored || quantity == 0 => Next::Keep,
                Some(after) => Next::Store(after),
                None if stored.is_some() => Next::Clear,
                None => Next::Keep,
            };
            Decision { answer, next }
        });
        prop_assert_eq!(terms.policy().decide(stored, Nanos(now), quantity), expected);
    }
}

fn answered(limited: bool, remaining: i64, retry_after: Option<i64>, reset_after: i64) -> Answer {
    Answer { limited, limit: 10, remaining, retry_after: retry_after.map(Nanos), reset_after: Nanos(reset_after) }
}

#[test]
fn windows_are_aligned_and_the_previous_one_counts_by_its_share_in_view() {
    let mut limiter = Limiter::new(Terms { limit: 10, period: MINUTE });
    assert_eq!(limiter.call(0), answered(false, 10, None, 0));
    limiter.wait(45 * SECOND);
    assert_eq!(limiter.call(8), answered(false, 2, None, 75 * SECOND));
    let first = Slide { start: Nanos(EPOCH), period: Nanos(MINUTE), current: 8, previous: 0 };
    assert_eq!(limiter.slide, Some(first), "the window has begun before its first cell");
    limiter.wait(30 * SECOND);
    assert_eq!(limiter.call(0), answered(false, 4, None, 45 * SECOND), "three quarters of the 8 are in view");
    assert_eq!(limiter.slide, Some(first), "a dry run changes nothing");
    assert_eq!(limiter.call(5), answered(true, 4, Some(7_500_000_000), 45 * SECOND));
    assert_eq!(limiter.call(3), answered(false, 1, None, 105 * SECOND));
    let second = Slide { start: Nanos(EPOCH + MINUTE), period: Nanos(MINUTE), current: 3, previous: 8 };
    assert_eq!(limiter.slide, Some(second));
    limiter.wait(1);
    assert_eq!(limiter.call(0).remaining, 1, "a share is rounded up");
    limiter.wait(105 * SECOND - 2);
    assert_eq!(limiter.call(10), answered(true, 9, Some(1), 1));
    limiter.wait(1);
    assert_eq!(limiter.call(11), answered(true, 10, None, 0));
    assert_eq!(limiter.call(10), answered(false, 0, None, 2 * MINUTE));
}

#[test]
fn cells_are_refunded_to_the_current_window_and_then_to_what_is_in_view_of_the_previous_one() {
    let mut limiter = Limiter::new(Terms { limit: 10, period: MINUTE });
    limiter.call(8);
    limiter.wait(90 * SECOND);
    assert_eq!(limiter.call(3), answered(false, 3, None, 90 * SECOND));
    assert_eq!(limiter.call(-2), answered(false, 5, None, 90 * SECOND));
    assert_eq!(limiter.call(-2), answered(false, 7, None, 30 * SECOND));
    let left = Slide { start: Nanos(EPOCH + MINUTE), period: Nanos(MINUTE), current: 0, previous: 6 };
    assert_eq!(limiter.slide, Some(left));
    assert_eq!(limiter.call(-3), answered(false, 10, None, 0));
    assert_eq!(limiter.slide, None);
}

#[test]
fn two_periods_that_end_after_the_year_2262_are_too_long() {
    let fits = |period| {
        let policy = Terms { limit: 1, period }.policy();
        [0, 1, 2, -1].map(|quantity| policy.decide(None, Nanos(EPOCH), quantity).is_ok())
    };
    assert_eq!(fits((i64::MAX - EPOCH) / 2), [true; 4]);
    assert_eq!(fits((i64::MAX - EPOCH) / 2 + 1), [false; 4]);
    assert_eq!(fits(i64::MAX), [false; 4]);
}

/// A limiter after some calls of any quantity, between which its clock went forward or back.
fn limiter() -> impl Strategy<Value = Limiter> {
    roomy_terms().prop_flat_map(limiter_of)
}

fn limiter_and_quantity() -> impl Strategy<Value = (Limiter, i64)> {
    roomy_terms().prop_flat_map(|terms| (limiter_of(terms), quantity(terms)))
}

fn limiter_of(terms: Terms) -> impl Strategy<Value = Limiter> {
    vec((quantity(terms), step(terms)), 0..12).prop_map(move |calls| {
        let mut limiter = Limiter::new(terms);
        for (quantity, step) in calls {
            limiter.call(quantity);
            limiter.now = (limiter.now + step).clamp(0, 2 * EPOCH);
        }
        limiter
    })
}

fn step(terms: Terms) -> impl Strategy<Value = i64> {
    prop_oneof![
        2 => Just(0),
        4 => (1..=100i64).prop_map(move |percent| terms.period / 100 * percent + 1),
        1 => up_to(terms.period),
        1 => near(2 * i128::from(terms.period), 0..=EPOCH),
        1 => up_to(2 * terms.period).prop_map(|span| -span),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn with_any_clock_no_cell_passes_beyond_the_estimate(
        (terms, calls) in roomy_terms().prop_flat_map(|terms| {
            (Just(terms), vec((quantity(terms), step(terms)), 1..30))
        }),
    ) {
        let mut limiter = Limiter::new(terms);
        let limit = i128::from(terms.limit);
        for (quantity, step) in calls {
            limiter.now = (limiter.now + step).clamp(0, 2 * EPOCH);
            let (before, cells) = (limiter.estimate(), i128::from(quantity.max(-i64::MAX)));
            let answer = limiter.call(quantity);
            prop_assert_eq!(answer.limited, quantity > 0 && before + cells > limit);
            let after = if answer.limited { before } else { (before + cells).max(0) };
            prop_assert_eq!(limiter.estimate(), after);
            prop_assert_eq!(i128::from(answer.remaining), (limit - after).max(0));
            prop_assert!((0..=limiter.longest()).contains(&answer.reset_after.0));
            prop_assert!(answer.retry_after.is_none_or(|wait| (Nanos(1)..=answer.reset_after).contains(&wait)));
            prop_assert!(quantity == 0 || limiter.slide.is_none_or(|slide| terms.is_own(slide, limiter.now)));
        }
    }

    #[test]
    fn the_remaining_cells_pass_and_one_more_is_refused((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        prop_assert!(limiter.would_pass(0, answer.remaining));
        prop_assert!(answer.remaining == i64::MAX || !limiter.would_pass(0, answer.remaining + 1));
    }

    #[test]
    fn a_refused_call_passes_when_its_retry_is_due_and_not_before_however_often_it_asks(
        (mut limiter, quantity) in limiter_and_quantity(),
        moments in vec(0..=99i64, 0..4),
    ) {
        let answer = limiter.call(quantity);
        prop_assert_eq!(answer.retry_after.is_some(), answer.limited && quantity <= answer.limit);
        if let Some(wait) = answer.retry_after {
            keeps_its_promise(&mut limiter, quantity, wait, moments)?;
        }
    }

    #[test]
    fn with_another_limit_a_refused_call_passes_when_its_retry_is_due_and_not_before(
        mut limiter in limiter(),
        (terms, quantity) in roomy_terms().prop_flat_map(|terms| (Just(terms), up_to(terms.limit))),
        moments in vec(0..=99i64, 0..4),
    ) {
        limiter.terms.limit = terms.limit;
        let answer = limiter.call(quantity);
        prop_assert!((0..=terms.limit).contains(&answer.remaining));
        if let Some(wait) = answer.retry_after {
            prop_assert!(wait.0 <= limiter.longest());
            keeps_its_promise(&mut limiter, quantity, wait, moments)?;
        }
    }

    #[test]
    fn with_another_period_the_estimate_so_far_is_carried(
        mut limiter in limiter(),
        (terms, quantity) in roomy_terms().prop_flat_map(|terms| (Just(terms), up_to(terms.limit))),
    ) {
        prop_assume!(limiter.terms.period != terms.period);
        limiter.call(1); // What reaches too far ahead is repaired.
        let (estimate, limit) = (limiter.estimate(), i128::from(terms.limit));
        limiter.terms = terms;
        prop_assert_eq!(i128::from(limiter.call(0).remaining), (limit - estimate).max(0));
        prop_assert_eq!(limiter.call(quantity).limited, estimate + i128::from(quantity) > limit);
    }

    #[test]
    fn with_another_period_a_refused_call_passes_when_its_retry_is_due_and_not_before_however_often_it_asks(
        mut limiter in limiter(),
        (terms, quantity) in roomy_terms().prop_flat_map(|terms| (Just(terms), up_to(terms.limit))),
        moments in vec(0..=99i64, 0..4),
    ) {
        limiter.terms = terms;
        let answer = limiter.call(quantity);
        if let Some(wait) = answer.retry_after {
            prop_assert!(wait.0 <= limiter.longest());
            keeps_its_promise(&mut limiter, quantity, wait, moments)?;
        }
    }

    #[test]
    fn with_another_period_no_caller_waits_longer_than_two_of_it_however_often_it_calls(
        mut limiter in limiter(),
        terms in roomy_terms(),
        moments in vec(0..=99i64, 0..8),
    ) {
        limiter.terms = terms;
        let deadline = limiter.now + limiter.longest();
        let mut passed = !limiter.call(terms.limit).limited;
        for percent in moments {
            let span = deadline - limiter.now;
            limiter.wait(span / 100 * percent);
            let answer = limiter.call(terms.limit);
            passed |= !answer.limited;
            prop_assert!(passed || answer.retry_after.is_some_and(|wait| wait.0 <= limiter.longest()));
        }
        limiter.now = deadline;
        prop_assert!(passed || limiter.would_pass(0, terms.limit));
    }

    #[test]
    fn when_the_clock_goes_back_what_was_counted_counts_as_taken_now(
        mut limiter in limiter(),
        (back, percent) in (magnitude(), 0..=100i64),
    ) {
        let Some(Slide { start, current, previous, .. }) = limiter.slide else { return Ok(()) };
        prop_assume!(start > Nanos(0));
        limiter.now = start.0 - ((back - 1) % start.0 + 1);
        let counted = i128::from(current) + i128::from(previous);
        let Answer { limit, remaining, .. } = limiter.call(0);
        prop_assert_eq!(i128::from(remaining), (i128::from(limit) - counted).max(0));
        if counted > 0 {
            prop_assert_eq!(limiter.slide.map(|slide| slide.start), Some(start), "a dry run repairs nothing");
            prop_assert!(limiter.call(limit).limited);
            let taken = Slide { current: limit - remaining, ..limiter.terms.empty(limiter.now) };
            prop_assert_eq!(limiter.slide, Some(taken));
            limiter.wait(limiter.longest() / 100 * percent);
            prop_assert_eq!(limiter.estimate(), estimate(taken, i128::from(limiter.now)));
        }
    }

    #[test]
    fn a_dry_run_repeats_the_last_answer_and_changes_nothing((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        let left = limiter.slide;
        let dry_run = Answer { limited: false, retry_after: None, ..answer };
        prop_assert_eq!(limiter.call(0), dry_run);
        prop_assert_eq!(limiter.call(0), dry_run);
        prop_assert_eq!(limiter.slide, left);
    }

    #[test]
    fn a_refund_undoes_a_take(mut limiter in limiter(), cells in magnitude()) {
        let before = limiter.call(0);
        prop_assume!(before.remaining > 0);
        let quantity = (cells - 1) % before.remaining + 1;
        limiter.call(quantity);
        prop_assert_eq!(limiter.call(-quantity), before);
        prop_assert_eq!(limiter.slide.is_none(), before.remaining == before.limit);
    }

    #[test]
    fn a_refund_of_all_or_more_ends_at_full(mut limiter in limiter(), cells in magnitude()) {
        let limit = limiter.terms.limit;
        let full = Answer { limited: false, limit, remaining: limit, retry_after: None, reset_after: Nanos(0) };
        let counted = i64::try_from(limiter.estimate());
        prop_assume!(counted.is_ok());
        prop_assert_eq!(limiter.call(-counted.map_or(cells, |counted| counted.max(cells))), full);
        prop_assert_eq!(limiter.slide, None);
        prop_assert_eq!(limiter.call(i64::MIN), full);
    }

    #[test]
    fn the_whole_limit_passes_when_the_reset_is_due_and_not_before((mut limiter, quantity) in limiter_and_quantity()) {
        let Answer { limit, reset_after: Nanos(reset_after), .. } = limiter.call(quantity);
        // A dry run tells when the reset is due once a call has repaired the state.
        prop_assume!(limiter.slide.is_none_or(|slide| !limiter.terms.is_too_far_ahead(slide, limiter.now)));
        prop_assert!(limiter.would_pass(reset_after, limit));
        prop_assert!(reset_after == 0 || !limiter.would_pass(reset_after - 1, limit));
    }
}

/// A caller that got `wait` as its retry_after is refused until then, with the same instant, when it calls at these
/// percentages of it.
fn keeps_its_promise(
    limiter: &mut Limiter,
    quantity: i64,
    wait: Nanos,
    moments: Vec<i64>,
) -> Result<(), TestCaseError> {
    let due = limiter.now + wait.0;
    prop_assert!(wait > Nanos(0));
    for percent in moments {
        limiter.wait((due - limiter.now) / 100 * percent);
        prop_assert_eq!(limiter.call(quantity).retry_after, Some(Nanos(due - limiter.now)));
    }
    prop_assert!(!limiter.would_pass(due - limiter.now - 1, quantity));
    prop_assert!(limiter.would_pass(due - limiter.now, quantity));
    Ok(())
}

/// Every cell that has passed, which the two counts estimate.
#[derive(Debug)]
struct Log {
    terms: Terms,
    cells: Vec<i64>,
}

impl Log {
    fn count(&self, from: i64, to: i64) -> i64 {
        let passed = self.cells.iter().filter(|cell| (from..to).contains(cell)).count();
        i64::try_from(passed).expect("not so many")
    }

    /// The cells of the period that ends with this instant.
    fn exact(&self, now: i64) -> i64 {
        self.count(now - self.terms.period + 1, now + 1)
    }

    /// The cells of the window before that of this instant, how much of the window has passed, and its own cells.
    fn windows(&self, now: i64) -> (i64, i64, i64) {
        let start = self.terms.start(now);
        (self.count(start - self.terms.period, start), now - start, self.count(start, now + 1))
    }
}

fn traffic() -> impl Strategy<Value = (Terms, Vec<(i64, i64)>)> {
    let period = prop_oneof![1 => 1..=20i64, 1 => 1..=1_000i64, 1 => Just(MINUTE)];
    (1..=20i64, period).prop_map(|(limit, period)| Terms { limit, period }).prop_flat_map(|terms| {
        let step = prop_oneof![
            3 => Just(0),
            3 => 0..=terms.period / 10,
            2 => 0..=terms.period,
            1 => terms.period..=2 * terms.period,
        ];
        let quantity = prop_oneof![2 => Just(1), 2 => 1..=terms.limit];
        (Just(terms), vec((quantity, step), 1..80))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// A limiter that knows each cell would decide the same, except for the cells that the estimate places on the other
    /// side of the start of the period.
    #[test]
    fn it_decides_as_an_exact_log_does_to_within_what_two_counts_can_tell((terms, calls) in traffic()) {
        let Terms { limit, period } = terms;
        let mut log = Log { terms, cells: Vec::new() };
        let mut limiter = Limiter::new(terms);
        for (quantity, step) in calls {
            limiter.wait(step);
            let now = limiter.now;
            let limited = limiter.call(quantity).limited;
            let (previous, elapsed, current) = log.windows(now);
            let gone = i128::from(previous) * i128::from(elapsed);
            let in_view = i128::from(previous) * i128::from(period - elapsed);
            let exceeds = |cells: i64, spare: i128| i128::from(cells + quantity - limit) * i128::from(period) > spare;
            prop_assert_eq!(limited, exceeds(current, -in_view));
            prop_assert!(limited || !exceeds(log.exact(now), gone));
            prop_assert!(!limited || exceeds(log.exact(now), -in_view));
            prop_assert!(previous > 0 || limited == exceeds(log.exact(now), 0));
            if !limited {
                log.cells.extend(repeat_n(now, usize::try_from(quantity).expect("taken, not given back")));
            }
        }
    }

    #[test]
    fn no_period_passes_twice_the_limit_or_more_than_the_limit_and_what_has_left_the_view((terms, calls) in traffic()) {
        let mut log = Log { terms, cells: Vec::new() };
        let mut limiter = Limiter::new(terms);
        for (quantity, step) in calls {
            limiter.wait(step);
            if !limiter.call(quantity).limited {
                log.cells.extend(repeat_n(limiter.now, usize::try_from(quantity).expect("taken, not given back")));
            }
        }
        // The period with the most cells ends with one of them.
        for &cell in &log.cells {
            let passed = i128::from(log.exact(cell));
            let (previous, elapsed, _) = log.windows(cell);
            let beyond = i128::from(previous) * i128::from(elapsed);
            prop_assert!((passed - i128::from(terms.limit)) * i128::from(terms.period) <= beyond);
            prop_assert!(passed < 2 * i128::from(terms.limit));
        }
    }

    #[test]
    fn cells_that_came_evenly_are_counted_to_within_one(
        (cells, interval) in (1..=50i64, 1..=1_000i64),
        (phase, percent) in (0..=999i64, 0..=99i64),
    ) {
        let terms = Terms { limit: 100, period: cells * interval };
        let mut limiter = Limiter::new(terms);
        limiter.now = terms.start(EPOCH) + phase % interval;
        let mut log = Log { terms, cells: Vec::new() };
        for _ in 0..cells {
            limiter.call(1);
            log.cells.push(limiter.now);
            limiter.wait(interval);
        }
        limiter.now = terms.start(EPOCH) + terms.period + terms.period * percent / 100;
        let counted = terms.limit - limiter.call(0).remaining;
        let exact = log.exact(limiter.now);
        prop_assert!((exact..=exact + 1).contains(&counted));
    }
}

#[test]
fn a_caller_at_the_end_of_a_window_gets_as_many_more_as_have_left_the_view() {
    let terms = Terms { limit: 10, period: MINUTE };
    let mut limiter = Limiter::new(terms);
    limiter.wait(MINUTE - 1);
    assert_eq!(limiter.call(10).remaining, 0);
    limiter.wait(1);
    assert!(limiter.call(1).limited);
    limiter.wait(MINUTE / 2);
    assert_eq!(limiter.call(5).remaining, 0, "15 within little more than half a minute");
    assert_eq!(limiter.call(1).retry_after, Some(Nanos(6 * SECOND)));
}

#[test]
fn after_a_long_period_is_shortened_no_refusal_outlasts_the_short_one() {
    let mut limiter = Limiter::new(Terms { limit: 10, period: 60 * MINUTE });
    limiter.call(10);
    limiter.terms.period = MINUTE;
    assert_eq!(limiter.call(1), answered(true, 0, Some(MINUTE + 6 * SECOND), 2 * MINUTE));
    let carried = Slide { start: Nanos(EPOCH), period: Nanos(MINUTE), current: 10, previous: 0 };
    assert_eq!(limiter.slide, Some(carried), "stored even though refused");
    limiter.wait(MINUTE + 6 * SECOND);
    assert_eq!(limiter.call(1).remaining, 0);
}

#[test]
fn a_refusal_that_stores_nothing_waits_for_what_is_stored() {
    let mut limiter = Limiter::new(Terms { limit: 10, period: 6 * SECOND });
    limiter.wait(6 * SECOND);
    limiter.call(10);
    limiter.terms.period = 10 * SECOND;
    limiter.wait(SECOND);
    assert_eq!(limiter.call(2), answered(true, 0, Some(6_200_000_000), 11 * SECOND));
    assert_eq!(limiter.call(0), answered(false, 0, None, 11 * SECOND));
    limiter.wait(6_200_000_000 - 1);
    assert_eq!(limiter.call(2).retry_after, Some(Nanos(1)));
    limiter.wait(1);
    assert_eq!(limiter.call(2).remaining, 0);
}

#[test]
fn a_stored_period_that_is_no_span_of_this_world_does_not_overflow() {
    let stored = Slide { start: Nanos(EPOCH), period: Nanos(i64::MAX), current: 10, previous: 0 };
    let mut limiter = Limiter { slide: Some(stored), ..Limiter::new(Terms { limit: 10, period: MINUTE }) };
    assert_eq!(limiter.call(1), answered(true, 0, Some(MINUTE + 6 * SECOND), 2 * MINUTE));
    let carried = Slide { start: Nanos(EPOCH), period: Nanos(MINUTE), current: 10, previous: 0 };
    assert_eq!(limiter.slide, Some(carried));
}

#[test]
fn a_state_that_ends_after_the_last_instant_does_not_overflow() {
    let now = i64::MAX - 14;
    let policy = Terms { limit: 8, period: 7 }.policy();
    let stored = Slide { start: Nanos(now - 1), period: Nanos(17), current: 1, previous: i64::MAX };
    for quantity in [i64::MIN, -1, 0, 1, i64::MAX] {
        let _ = policy.decide(Some(stored), Nanos(now), quantity);
    }
}
