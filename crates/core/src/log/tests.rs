//! The promises of a sliding log: decisions that agree with counting the cells in the window, for any cells at any
//! time; never more than the limit in any period, wherever it begins; waits that are exact to the tick; and no refusal
//! for longer than a period.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::iter::repeat_n;
use std::ops::RangeInclusive;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
/// The step of the clock, in ns.
const TICK: i64 = 1_000;
/// An instant of the year 2023, in µs.
const EPOCH: i64 = 1_700_000_000_000_000;
/// The last tick that fits in 2⁶³ ns.
const LAST: i64 = i64::MAX / TICK;

/// A log as the store keeps it: the times of its cells, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct StoredCells(Vec<Micros>);

impl Cells for StoredCells {
    fn count(&self) -> i64 {
        in_64_bits(self.0.len())
    }

    fn count_up_to(&self, time: Micros) -> i64 {
        in_64_bits(self.0.iter().filter(|&&cell| cell <= time).count())
    }

    fn nth_newest(&self, nth: i64) -> Option<Micros> {
        self.0.iter().copied().rev().nth(size(nth - 1))
    }
}

impl StoredCells {
    /// Applies a decision at `now`, as the store does.
    fn save(&mut self, next: Next<Update>, now: Micros) {
        let change = match next {
            Next::Keep => return,
            Next::Clear => return self.0.clear(),
            Next::Store(change) => change,
        };
        for time in &mut self.0 {
            *time = now.min(*time);
        }
        match change {
            Update::Take { out_of_view, cells } => {
                // It may trim more than it adds, but no promise needs that.
                self.0.drain(..size(out_of_view.min(cells)));
                self.0.extend(repeat_n(now, size(cells)));
            }
            Update::Return { cells } => self.0.truncate(self.0.len() - size(cells)),
            Update::Repair => {}
        }
    }
}

fn in_64_bits(number: usize) -> i64 {
    i64::try_from(number).expect("a log of a few cells")
}

fn size(cells: i64) -> usize {
    usize::try_from(cells).expect("0 at least")
}

/// The numbers of a limiter, and the contract's rules on them, all by counting cells, in ns of 128 bits.
#[derive(Clone, Copy, Debug)]
struct Terms {
    limit: i64,
    period: i64,
}

impl Terms {
    fn policy(self) -> Policy {
        Policy { limit: self.limit, period: Nanos(self.period) }
    }

    /// When a cell that was taken at this tick leaves the window.
    fn leaves(self, time: Micros) -> i128 {
        i128::from(time.0) * i128::from(TICK) + i128::from(self.period)
    }

    fn count(self, cells: &StoredCells, at: i128) -> i64 {
        in_64_bits(cells.0.iter().filter(|&&time| self.leaves(time) > at).count())
    }

    fn in_view(self, mut cells: StoredCells, now: Micros) -> StoredCells {
        cells.0.retain(|&time| self.leaves(time) > i128::from(now.0) * i128::from(TICK));
        cells
    }

    /// The answer to a call, and the log after it.
    fn answer(self, cells: &StoredCells, now: Micros, quantity: i64) -> Result<(Answer, StoredCells), TooLong> {
        if self.leaves(now) > i128::from(i64::MAX) {
            return Err(TooLong);
        }
        let at = i128::from(now.0) * i128::from(TICK);
        let mut after = StoredCells(cells.0.iter().map(|&time| time.min(now)).collect());
        let in_window = self.count(&after, at);
        let fits = |instant| i128::from(self.count(&after, instant)) + i128::from(quantity) <= i128::from(self.limit);
        let limited = quantity > 0 && !fits(at);
        // Room comes when a cell leaves.
        let retry_at = after.0.iter().map(|&time| self.leaves(time)).find(|&instant| instant > at && fits(instant));
        if quantity > 0 && !limited {
            after.0.extend(repeat_n(now, size(quantity)));
        } else if quantity < 0 && quantity <= -in_window {
            after.0.clear();
        } else if quantity < 0 {
            after.0.truncate(after.0.len() - size(-quantity));
        }
        let span = |instant: i128| Nanos(i64::try_from(instant - at).expect("a period at most"));
        let reset_at = after.0.iter().map(|&time| self.leaves(time)).max().unwrap_or(at).max(at);
        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: (self.limit - self.count(&after, at)).max(0),
            retry_after: retry_at.filter(|_| limited && quantity <= self.limit).map(span),
            reset_after: span(reset_at),
        };
        // A dry run changes nothing, not even cells that lie ahead.
        Ok((answer, if quantity == 0 { cells.clone() } else { after }))
    }
}

/// A limiter, and the clock it is asked by.
#[derive(Clone, Debug)]
struct Limiter {
    terms: Terms,
    cells: StoredCells,
    now: i64,
}

impl Limiter {
    fn new(terms: Terms) -> Self {
        Self { terms, cells: StoredCells::default(), now: EPOCH }
    }

    fn call(&mut self, quantity: i64) -> Answer {
        let now = Micros(self.now);
        let decision = self.terms.policy().decide(&self.cells, now, quantity).expect("instants that fit");
        self.cells.save(decision.next, now);
        decision.answer
    }

    fn wait(&mut self, ticks: i64) {
        self.now += ticks;
    }

    /// Whether this call would pass after this wait.
    fn would_pass(&self, ticks: i64, quantity: i64) -> bool {
        let mut later = self.clone();
        later.wait(ticks);
        !later.call(quantity).limited
    }

    fn in_window(&self) -> i64 {
        self.terms.count(&self.cells, i128::from(self.now) * i128::from(TICK))
    }

    /// How many cells lie after now.
    fn ahead(&self) -> i64 {
        self.cells.count() - self.cells.count_up_to(Micros(self.now))
    }

    /// How many ticks a period lasts, the last of which it may share with the next.
    fn ticks(&self) -> i64 {
        ticks(Nanos(self.terms.period))
    }
}

/// The number of ticks in which this span passes.
fn ticks(span: Nanos) -> i64 {
    span.0 / TICK + i64::from(span.0 % TICK > 0)
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
        let number = (anchor + offset).clamp(i128::from(*bounds.start()), i128::from(*bounds.end()));
        i64::try_from(number).expect("64-bit bounds")
    })
}

/// Terms whose periods last at most that many ns.
fn terms_within(longest: i64) -> impl Strategy<Value = Terms> {
    let period = prop_oneof![
        2 => near(i128::from(TICK), 1..=longest),
        2 => 1..=20 * TICK,
        1 => select(vec![1, SECOND / 4, SECOND, MINUTE]),
        2 => up_to(longest),
    ];
    (1..=12i64, period).prop_map(|(limit, period)| Terms { limit, period })
}

/// Terms under which no instant of a limiter's life comes near 2⁶³ ns.
fn roomy_terms() -> impl Strategy<Value = Terms> {
    terms_within(EPOCH / 2 * TICK)
}

/// Any quantity, mostly few cells or about the limit.
fn quantity(terms: Terms) -> impl Strategy<Value = i64> {
    let limit = i128::from(terms.limit);
    let everything = i64::MIN..=i64::MAX;
    prop_oneof![
        6 => -2..=3i64,
        4 => 1..=terms.limit,
        1 => -terms.limit..=0,
        1 => near(limit, everything.clone()),
        1 => near(-limit, everything.clone()),
        1 => select(vec![i64::MIN, i64::MIN + 1, i64::MAX]),
        1 => everything,
    ]
}

/// Any clock, cells and quantity, mostly where a comparison is decided.
fn call(terms: Terms) -> impl Strategy<Value = (StoredCells, Micros, i64)> {
    let period = terms.period / TICK;
    let now = prop_oneof![
        4 => Just(EPOCH),
        1 => magnitude(),
        2 => near(i128::from(LAST) - i128::from(period), 0..=i64::MAX),
        1 => 0..=i64::MAX,
    ];
    (now, quantity(terms)).prop_flat_map(move |(now, quantity)| {
        let everything = i64::MIN..=i64::MAX;
        let time = prop_oneof![
            1 => near(i128::from(now), everything.clone()),
            2 => near(i128::from(now) - i128::from(period), everything.clone()),
            3 => up_to(terms.period).prop_map(move |ago| now.saturating_sub(ago / TICK)),
            1 => select(vec![i64::MIN, i64::MAX]),
            1 => everything,
        ];
        let cells = vec(time, 0..=size(terms.limit) + 3).prop_map(|mut times| {
            times.sort_unstable();
            StoredCells(times.into_iter().map(Micros).collect())
        });
        (cells, Just(Micros(now)), Just(quantity))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    #[test]
    fn every_call_agrees_with_counting(
        (terms, (cells, now, quantity)) in prop_oneof![4 => roomy_terms(), 1 => terms_within(i64::MAX)]
            .prop_flat_map(|terms| (Just(terms), call(terms))),
    ) {
        let decision = terms.policy().decide(&cells, now, quantity).map(|decision| {
            let mut after = cells.clone();
            after.save(decision.next, now);
            (decision.answer, terms.in_view(after, now))
        });
        let expected = terms.answer(&cells, now, quantity);
        prop_assert_eq!(decision, expected.map(|(answer, after)| (answer, terms.in_view(after, now))));
    }

    #[test]
    fn a_refusal_or_a_dry_run_logs_nothing(
        (terms, (cells, now, quantity)) in roomy_terms().prop_flat_map(|terms| (Just(terms), call(terms))),
    ) {
        let Ok(Decision { answer, next }) = terms.policy().decide(&cells, now, quantity) else { return Ok(()) };
        if answer.limited || quantity == 0 || cells == StoredCells::default() && quantity < 0 {
            let ahead = cells.nth_newest(1).is_some_and(|newest| newest > now);
            prop_assert_eq!(next, if ahead && quantity != 0 { Next::Store(Update::Repair) } else { Next::Keep });
        }
    }
}

fn answered(limited: bool, remaining: i64, retry_after: Option<i64>, reset_after: i64) -> Answer {
    Answer { limited, limit: 3, remaining, retry_after: retry_after.map(Nanos), reset_after: Nanos(reset_after) }
}

#[test]
fn a_cell_leaves_exactly_one_period_after_it_was_taken() {
    let mut limiter = Limiter::new(Terms { limit: 3, period: MINUTE });
    assert_eq!(limiter.call(0), answered(false, 3, None, 0));
    assert_eq!(limiter.call(1), answered(false, 2, None, MINUTE));
    limiter.wait(20_000_000);
    assert_eq!(limiter.call(2), answered(false, 0, None, MINUTE));
    assert_eq!(limiter.call(1), answered(true, 0, Some(40 * SECOND), MINUTE));
    assert_eq!(limiter.call(2), answered(true, 0, Some(MINUTE), MINUTE));
    assert_eq!(limiter.call(4), answered(true, 0, None, MINUTE));
    limiter.wait(40_000_000 - 1);
    assert_eq!(limiter.call(1), answered(true, 0, Some(TICK), 20 * SECOND + TICK));
    limiter.wait(1);
    assert_eq!(limiter.call(0), answered(false, 1, None, 20 * SECOND));
    assert_eq!(limiter.cells.0.len(), 3, "a dry run trims nothing");
    assert_eq!(limiter.call(1), answered(false, 0, None, MINUTE));
    assert_eq!(limiter.cells.0.len(), 3, "cells out of view are trimmed by a call that takes");
}

#[test]
fn cells_of_one_microsecond_count_each() {
    let mut limiter = Limiter::new(Terms { limit: 3, period: SECOND });
    assert_eq!(limiter.call(1).remaining, 2);
    assert_eq!(limiter.call(1).remaining, 1);
    assert_eq!(limiter.call(1).remaining, 0);
    assert_eq!(limiter.call(1), answered(true, 0, Some(SECOND), SECOND));
    limiter.wait(1_000_000);
    assert_eq!(limiter.call(3), answered(false, 0, None, SECOND));
}

#[test]
fn a_period_that_is_no_whole_number_of_ticks_is_not_rounded() {
    let mut limiter = Limiter::new(Terms { limit: 3, period: 2 * TICK + 1 });
    limiter.call(3);
    limiter.wait(2);
    assert_eq!(limiter.call(1), answered(true, 0, Some(1), 1));
    limiter.wait(1);
    assert_eq!(limiter.call(0), answered(false, 3, None, 0));
}

#[test]
fn a_log_of_the_highest_limit_is_exact_too() {
    let mut limiter = Limiter::new(Terms { limit: MAX_LIMIT, period: SECOND });
    assert_eq!(limiter.call(MAX_LIMIT - 1).remaining, 1);
    limiter.wait(1);
    assert_eq!(limiter.call(1).remaining, 0);
    assert_eq!(limiter.call(MAX_LIMIT - 1).retry_after, Some(Nanos(SECOND - TICK)));
    assert_eq!(limiter.call(MAX_LIMIT).retry_after, Some(Nanos(SECOND)));
    assert_eq!(limiter.call(MAX_LIMIT + 1).retry_after, None);
    assert_eq!(limiter.call(i64::MAX).retry_after, None);
    assert_eq!(limiter.call(i64::MIN).remaining, MAX_LIMIT);
    assert_eq!(limiter.cells, StoredCells::default());
}

#[test]
fn periods_that_end_after_the_year_2262_are_too_long() {
    let fits = |period| {
        let policy = Terms { limit: 1, period }.policy();
        [0, 1, 2, -1].map(|quantity| policy.decide(&StoredCells::default(), Micros(EPOCH), quantity).is_ok())
    };
    assert_eq!(fits(i64::MAX - EPOCH * TICK), [true; 4]);
    assert_eq!(fits(i64::MAX - EPOCH * TICK + 1), [false; 4]);
    assert_eq!(fits(i64::MAX), [false; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// The model: a record of the cells that passed.
    #[test]
    fn no_period_passes_more_than_the_limit_and_no_call_is_refused_otherwise(
        (terms, calls) in (1..=12i64, prop_oneof![1..=20 * TICK, 1..=SECOND])
            .prop_map(|(limit, period)| Terms { limit, period })
            .prop_flat_map(|terms| {
                let period = terms.period / TICK;
                let step = prop_oneof![3 => Just(0), 3 => 0..=period / 8, 2 => 0..=period, 1 => period..=period + 1];
                let quantity = prop_oneof![2 => Just(1), 1 => 1..=terms.limit];
                (Just(terms), vec((quantity, step), 1..100))
            }),
    ) {
        let Terms { limit, period } = terms;
        let mut limiter = Limiter::new(terms);
        let mut passed: Vec<i64> = Vec::new();
        let in_a_period_from = |passed: &[i64], from: i64| {
            in_64_bits(passed.iter().filter(|&&time| time >= from && (time - from) * TICK < period).count())
        };
        for (quantity, step) in calls {
            limiter.wait(step);
            let now = limiter.now;
            let answer = limiter.call(quantity);
            let first_in_view = passed.iter().copied().find(|&time| (now - time) * TICK < period).unwrap_or(now);
            let in_view = in_a_period_from(&passed, first_in_view);
            prop_assert_eq!(answer.limited, in_view + quantity > limit);
            if !answer.limited {
                passed.extend(repeat_n(now, size(quantity)));
            }
        }
        // The period with the most cells begins with one of them.
        for &from in &passed {
            prop_assert!(in_a_period_from(&passed, from) <= limit);
        }
    }
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
    let period = terms.period / TICK + 1;
    prop_oneof![
        3 => Just(0),
        3 => 0..=period / 6,
        2 => up_to(period),
        1 => near(i128::from(period), 0..=EPOCH),
        1 => up_to(2 * period).prop_map(|ticks| -ticks),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn with_any_clock_no_more_than_the_limit_is_in_view(
        (terms, calls) in roomy_terms().prop_flat_map(|terms| {
            (Just(terms), vec((quantity(terms), step(terms)), 1..40))
        }),
    ) {
        let mut limiter = Limiter::new(terms);
        for (quantity, step) in calls {
            limiter.now = (limiter.now + step).clamp(0, 2 * EPOCH);
            let answer = limiter.call(quantity);
            prop_assert_eq!(answer.remaining, terms.limit - limiter.in_window());
            prop_assert!((0..=terms.limit).contains(&answer.remaining));
            prop_assert!(in_64_bits(limiter.cells.0.len()) <= terms.limit, "nothing piles up");
            prop_assert!((0..=terms.period).contains(&answer.reset_after.0));
            prop_assert!(answer.retry_after.is_none_or(|wait| (Nanos(1)..=answer.reset_after).contains(&wait)));
            prop_assert!(quantity == 0 || limiter.ahead() == 0, "whoever asks for a cell repairs what lies ahead");
        }
    }

    #[test]
    fn the_remaining_cells_pass_and_one_more_is_refused((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        prop_assert!(limiter.would_pass(0, answer.remaining));
        prop_assert!(!limiter.would_pass(0, answer.remaining + 1));
    }

    #[test]
    fn a_refused_call_passes_when_its_retry_is_due_and_not_a_tick_before_however_often_it_asks(
        (mut limiter, quantity) in limiter_and_quantity(),
        moments in vec(0..=99i64, 0..4),
    ) {
        let answer = limiter.call(quantity);
        prop_assert_eq!(answer.retry_after.is_some(), answer.limited && quantity <= answer.limit);
        let Some(wait) = answer.retry_after else { return Ok(()) };
        let due = limiter.now * TICK + wait.0;
        for percent in moments {
            limiter.wait((due / TICK - limiter.now) / 100 * percent);
            prop_assert_eq!(limiter.call(quantity).retry_after, Some(Nanos(due - limiter.now * TICK)));
        }
        let left = ticks(Nanos(due - limiter.now * TICK));
        prop_assert!(left > 0);
        prop_assert!(limiter.would_pass(left, quantity));
        prop_assert!(!limiter.would_pass(left - 1, quantity));
    }

    #[test]
    fn the_whole_limit_passes_when_the_reset_is_due_and_not_a_tick_before(
        (mut limiter, quantity) in limiter_and_quantity(),
    ) {
        let Answer { limit, reset_after, .. } = limiter.call(quantity);
        // A dry run tells when the reset is due once a call has repaired the log.
        prop_assume!(limiter.ahead() == 0);
        prop_assert!(limiter.would_pass(ticks(reset_after), limit));
        prop_assert!(reset_after == Nanos(0) || !limiter.would_pass(ticks(reset_after) - 1, limit));
    }

    #[test]
    fn a_dry_run_repeats_the_last_answer_and_changes_nothing((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        let left = limiter.cells.clone();
        let dry_run = Answer { limited: false, retry_after: None, ..answer };
        prop_assert_eq!(limiter.call(0), dry_run);
        prop_assert_eq!(limiter.call(0), dry_run);
        prop_assert_eq!(limiter.cells, left);
    }

    #[test]
    fn a_refund_removes_the_newest(mut limiter in limiter(), (taken, given) in (1..=12i64, 1..=12i64)) {
        limiter.call(i64::MAX); // Cells that lie ahead are moved to now.
        let before = limiter.call(0);
        let quantity = taken.min(before.remaining);
        limiter.call(quantity);
        let cells = limiter.cells.clone();
        let refunded = given.min(limiter.in_window());
        let answer = limiter.call(-given);
        prop_assert_eq!(answer.remaining, before.remaining - quantity + refunded);
        if answer.remaining == answer.limit {
            prop_assert_eq!((answer.reset_after, limiter.cells), (Nanos(0), StoredCells::default()));
        } else {
            prop_assert_eq!(limiter.cells.0.as_slice(), &cells.0[..cells.0.len() - size(refunded)]);
            prop_assert!(given != quantity || answer == before);
        }
    }

    #[test]
    fn a_refund_of_all_or_more_ends_at_full(mut limiter in limiter(), cells in magnitude()) {
        let limit = limiter.terms.limit;
        let full = Answer { limited: false, limit, remaining: limit, retry_after: None, reset_after: Nanos(0) };
        prop_assert_eq!(limiter.call(-cells.max(limit)), full);
        prop_assert_eq!(&limiter.cells, &StoredCells::default());
        prop_assert_eq!(limiter.call(i64::MIN), full);
    }

    #[test]
    fn when_the_clock_goes_back_what_lies_ahead_counts_as_taken_now(
        mut limiter in limiter(),
        (cells, back) in (1..=13i64, magnitude()),
    ) {
        limiter.call(1);
        let newest = limiter.cells.nth_newest(1).map_or(0, |newest| newest.0);
        prop_assume!(newest > 0);
        limiter.now = newest - ((back - 1) % newest + 1);
        let quantity = cells.min(limiter.terms.limit + 1);
        let ahead = limiter.ahead();
        let in_window = limiter.in_window();
        let cells = limiter.cells.clone();
        prop_assert_eq!(limiter.call(0).remaining, limiter.terms.limit - in_window);
        prop_assert_eq!(&limiter.cells, &cells, "a dry run repairs nothing");
        let answer = limiter.call(quantity);
        let taken = if answer.limited { 0 } else { quantity };
        prop_assert_eq!(answer.remaining, limiter.terms.limit - in_window - taken);
        prop_assert_eq!(answer.reset_after, Nanos(limiter.terms.period));
        prop_assert!(answer.retry_after.is_none_or(|wait| wait <= answer.reset_after));
        let now = limiter.cells.0.iter().filter(|time| time.0 == limiter.now).count();
        prop_assert!(in_64_bits(now) >= ahead + taken, "stored even though refused");
        prop_assert_eq!(limiter.ahead(), 0);
        prop_assert!(limiter.would_pass(limiter.ticks(), limiter.terms.limit));
    }

    #[test]
    fn with_other_numbers_no_wait_is_longer_than_their_period(
        mut limiter in limiter(),
        (terms, quantity) in roomy_terms().prop_flat_map(|terms| (Just(terms), 1..=terms.limit)),
    ) {
        limiter.terms = terms;
        let in_window = limiter.in_window();
        let answer = limiter.call(quantity);
        prop_assert_eq!(answer.limited, in_window + quantity > terms.limit);
        prop_assert_eq!(answer.remaining, (terms.limit - limiter.in_window()).max(0));
        if let Some(wait) = answer.retry_after {
            prop_assert!(wait <= Nanos(terms.period));
            prop_assert!(limiter.would_pass(ticks(wait), quantity));
            prop_assert!(!limiter.would_pass(ticks(wait) - 1, quantity));
        }
    }
}

#[test]
fn a_lowered_limit_refuses_until_enough_of_the_oldest_have_left() {
    let mut limiter = Limiter::new(Terms { limit: 9, period: MINUTE });
    for _ in 0..9 {
        limiter.call(1);
        limiter.wait(1_000_000);
    }
    limiter.terms.limit = 3;
    assert_eq!(limiter.call(1), answered(true, 0, Some((60 - 9 + 6) * SECOND), 59 * SECOND));
    assert_eq!(limiter.call(-7), answered(false, 1, None, 52 * SECOND));
}
