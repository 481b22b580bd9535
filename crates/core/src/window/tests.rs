//! The promises of a fixed window: the contract's rules on any numbers, any state and any clock; never more than the
//! limit from its first hit to its end; a block that lasts as long as it says; and no refusal for longer.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::ops::RangeInclusive;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// An instant of the year 2023.
const EPOCH: i64 = 1_700_000_000 * SECOND;
/// The last end that fits in 2⁶³ ns.
const LAST: i64 = i64::MAX / 1_000_000;

/// The numbers of a limiter, and the contract's rules on them in 128 bits.
#[derive(Clone, Copy, Debug)]
struct Terms {
    limit: i64,
    period: i64,
    block: Option<i64>,
}

/// A stored window by the rules: its count and its end, and whether it is a block.
#[derive(Clone, Copy, Debug)]
struct Seen {
    count: i128,
    end: i128,
    shut: bool,
}

impl Terms {
    fn policy(self) -> Policy {
        Policy { limit: self.limit, period: Millis(self.period), block: self.block.map(Millis) }
    }

    /// How long a refusal may last at most.
    fn longest(self) -> i64 {
        self.period.max(self.block.unwrap_or(0))
    }

    /// A window that has not ended, with an end no later than the rules allow.
    fn seen(self, stored: Option<Window>, now: i128) -> Option<Seen> {
        let Window { count, end } = stored?;
        let (count, end) = (i128::from(count), end.map(|Millis(end)| i128::from(end)));
        let shut = count == i128::from(self.limit) + 1 || (count > i128::from(self.limit) && self.block.is_some());
        let whole = now + i128::from(self.period);
        let latest = if !shut {
            Some(whole)
        } else {
            self.block.map(|_| now + i128::from(self.longest())) // How long another caller's block lasts is not stored.
        };
        let end = match (end, latest) {
            (Some(end), _) if end <= now => return None,
            (Some(end), Some(latest)) => end.min(latest),
            (Some(end), None) => end,
            (None, _) => whole,
        };
        Some(Seen { count, end, shut })
    }

    /// The answer to a call, and the window after it.
    fn answer(self, stored: Option<Window>, now: i64, quantity: i64) -> Result<(Answer, Option<Window>), TooLong> {
        let (now, limit, quantity) = (i128::from(now), i128::from(self.limit), i128::from(quantity));
        if now + i128::from(self.longest()) > i128::from(LAST) {
            return Err(TooLong);
        }
        let seen = self.seen(stored, now);
        let Seen { count, end, shut } =
            seen.unwrap_or(Seen { count: 0, end: now + i128::from(self.period), shut: false });
        let before = seen.map(|Seen { count, end, .. }| (count, end));

        let (limited, after) = if quantity > limit {
            (true, before)
        } else if quantity > 0 && count + quantity <= limit {
            (false, Some((count + quantity, end)))
        } else if quantity > 0 {
            match self.block {
                Some(block) if !shut => (true, Some((limit + 1, end.max(now + i128::from(block))))),
                _ => (true, before),
            }
        } else if quantity == 0 || shut {
            (false, before)
        } else {
            (false, (count > -quantity).then_some((count + quantity, end)))
        };

        let in_64_bits = |number: i128| i64::try_from(number).expect("a number that fits");
        let (count, reset_after) = after.map_or((0, 0), |(count, end)| (count, end - now));
        let reset_after = Nanos(i64::try_from(reset_after * 1_000_000).unwrap_or(i64::MAX));
        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: in_64_bits((limit - count).max(0)),
            retry_after: (limited && quantity <= limit).then_some(reset_after),
            reset_after,
        };
        let window = |(count, end)| Window { count: in_64_bits(count), end: Some(Millis(in_64_bits(end))) };
        Ok((answer, after.map(window)))
    }
}

/// A limiter as the store keeps it, and the clock it is asked by.
#[derive(Clone, Debug)]
struct Limiter {
    terms: Terms,
    window: Option<Window>,
    now: i64,
}

impl Limiter {
    fn new(terms: Terms) -> Self {
        Self { terms, window: None, now: EPOCH }
    }

    fn call(&mut self, quantity: i64) -> Answer {
        let decision = self.terms.policy().decide(self.window, Millis(self.now), quantity).expect("instants that fit");
        match decision.next {
            Next::Keep => {}
            Next::Store(window) => self.window = Some(window),
            Next::Clear => self.window = None,
        }
        decision.answer
    }

    fn wait(&mut self, span: i64) {
        self.now += span;
    }

    /// The answer to this call after this wait.
    fn later(&self, wait: i64, quantity: i64) -> Answer {
        let mut later = self.clone();
        later.wait(wait);
        later.call(quantity)
    }

    fn would_pass(&self, wait: i64, quantity: i64) -> bool {
        !self.later(wait, quantity).limited
    }

    /// What is stored, unless it has ended.
    fn current(&self) -> Option<Window> {
        self.window.filter(|window| window.end.is_none_or(|Millis(end)| end > self.now))
    }

    /// Whether it is a block, as far as its numbers tell.
    fn is_shut(&self) -> bool {
        self.current().is_some_and(|window| window.count > self.terms.limit)
    }

    fn end(&self) -> Option<i64> {
        self.window?.end.map(|Millis(end)| end)
    }
}

/// A span of an answer, which this clock can wait for.
fn millis(span: Nanos) -> i64 {
    assert_eq!(span.0 % 1_000_000, 0);
    span.0 / 1_000_000
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

fn limit() -> impl Strategy<Value = i64> {
    prop_oneof![3 => 1..=5i64, 1 => up_to(i64::MAX - 1), 1 => near(i128::from(i64::MAX) - 1, 1..=i64::MAX - 1)]
}

/// Terms whose windows and blocks last at most `longest`.
fn terms_within(longest: i64) -> impl Strategy<Value = Terms> {
    let span = move || prop_oneof![1 => 1..=10i64, 1 => up_to(longest)];
    let block = prop_oneof![1 => Just(None), 2 => span().prop_map(Some)];
    (limit(), span(), block).prop_map(|(limit, period, block)| Terms { limit, period, block })
}

/// Terms under which no instant of a limiter's life comes near 2⁶³ ns.
fn roomy_terms() -> impl Strategy<Value = Terms> {
    terms_within(EPOCH)
}

fn any_terms() -> impl Strategy<Value = Terms> {
    prop_oneof![4 => roomy_terms(), 1 => terms_within(LAST), 1 => terms_within(i64::MAX)]
}

/// Any quantity, mostly few cells or about the limit.
fn quantity(terms: Terms) -> impl Strategy<Value = i64> {
    let limit = i128::from(terms.limit);
    let everything = i64::MIN..=i64::MAX;
    prop_oneof![
        4 => -2..=3i64,
        2 => up_to(terms.limit),
        1 => up_to(terms.limit).prop_map(|cells| -cells),
        1 => near(limit, everything.clone()),
        1 => near(-limit, everything.clone()),
        1 => select(vec![i64::MIN, i64::MIN + 1, i64::MAX]),
        1 => everything,
    ]
}

/// Any clock, stored window and quantity, mostly where a comparison is decided.
fn call(terms: Terms) -> impl Strategy<Value = (Option<Window>, i64, i64)> {
    let instants = 0..=i64::MAX;
    let now = prop_oneof![
        4 => Just(EPOCH),
        1 => magnitude(),
        2 => near(i128::from(LAST) - i128::from(terms.longest()), instants.clone()),
        1 => instants.clone(),
    ];
    (now, quantity(terms)).prop_flat_map(move |(now, quantity)| {
        let after = |span: i64| i128::from(now) + i128::from(span);
        let just_fits = i128::from(terms.limit) - i128::from(quantity);
        let count = prop_oneof![
            2 => near(i128::from(terms.limit) + 1, instants.clone()),
            2 => near(just_fits, instants.clone()),
            1 => near(-i128::from(quantity), instants.clone()),
            1 => 0..=3i64,
            1 => instants.clone(),
        ];
        let end = prop_oneof![
            1 => Just(None),
            1 => near(after(0), instants.clone()).prop_map(Some),
            2 => near(after(terms.period), instants.clone()).prop_map(Some),
            2 => near(after(terms.block.unwrap_or(0)), instants.clone()).prop_map(Some),
            2 => up_to(terms.longest()).prop_map(move |span| Some(now.saturating_add(span))),
            1 => instants.clone().prop_map(Some),
        ];
        let window = (count, end).prop_map(|(count, end)| Window { count, end: end.map(Millis) });
        (prop_oneof![1 => Just(None), 7 => window.prop_map(Some)], Just(now), Just(quantity))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50_000))]

    #[test]
    fn every_call_follows_the_rules(
        (terms, (stored, now, quantity)) in any_terms().prop_flat_map(|terms| (Just(terms), call(terms))),
    ) {
        let expected = terms.answer(stored, now, quantity).map(|(answer, after)| {
            let next = match after {
                Some(_) if after == stored => Next::Keep,
                // A dry run gives an end to a window without one and cuts none.
                Some(_) if quantity == 0 && stored.is_some_and(|window| window.end.is_some()) => Next::Keep,
                Some(after) => Next::Store(after),
                None if stored.is_some() && quantity < 0 => Next::Clear,
                None => Next::Keep,
            };
            Decision { answer, next }
        });
        prop_assert_eq!(terms.policy().decide(stored, Millis(now), quantity), expected);
    }
}

#[test]
fn three_tries_an_hour_and_the_fourth_is_refused() {
    let mut limiter = Limiter::new(Terms { limit: 3, period: HOUR, block: None });
    let answered = |limited, remaining, retry_after: Option<i64>, reset_after: i64| Answer {
        limited,
        limit: 3,
        remaining,
        retry_after: retry_after.map(|span| Millis(span).nanos()),
        reset_after: Millis(reset_after).nanos(),
    };
    assert_eq!(limiter.call(0), answered(false, 3, None, 0));
    assert_eq!(limiter.call(1), answered(false, 2, None, HOUR));
    limiter.wait(MINUTE);
    assert_eq!(limiter.call(1), answered(false, 1, None, 59 * MINUTE));
    assert_eq!(limiter.call(1), answered(false, 0, None, 59 * MINUTE));
    assert_eq!(limiter.call(1), answered(true, 0, Some(59 * MINUTE), 59 * MINUTE));
    assert_eq!(limiter.window, Some(Window { count: 3, end: Some(Millis(EPOCH + HOUR)) }));
    limiter.wait(59 * MINUTE - 1);
    assert_eq!(limiter.call(1), answered(true, 0, Some(1), 1));
    limiter.wait(1);
    assert_eq!(limiter.call(4), answered(true, 3, None, 0));
    assert_eq!(limiter.call(1), answered(false, 2, None, HOUR));
}

#[test]
fn a_block_shuts_the_key_for_a_day_from_the_fourth_try() {
    let mut limiter = Limiter::new(Terms { limit: 3, period: HOUR, block: Some(DAY) });
    for _ in 0..3 {
        assert!(!limiter.call(1).limited);
    }
    assert_eq!(limiter.call(4).retry_after, None, "what can never pass starts no block");
    assert_eq!(limiter.end(), Some(EPOCH + HOUR));
    limiter.wait(MINUTE);
    assert_eq!(limiter.call(1).retry_after, Some(Millis(DAY).nanos()));
    assert_eq!(limiter.window, Some(Window { count: 4, end: Some(Millis(EPOCH + MINUTE + DAY)) }));
    limiter.wait(HOUR);
    assert_eq!(limiter.call(1).retry_after, Some(Millis(DAY - HOUR).nanos()), "a later one does not start it again");
    assert_eq!(limiter.call(-3).remaining, 0, "a refund does not end a block");
    limiter.terms.block = None;
    assert_eq!(limiter.call(1).retry_after, Some(Millis(DAY - HOUR).nanos()), "nor by leaving out BLOCK");
    limiter.wait(DAY - HOUR);
    assert_eq!(limiter.call(1).remaining, 2);
}

#[test]
fn a_block_shorter_than_the_rest_of_the_window_lasts_until_its_end() {
    let mut limiter = Limiter::new(Terms { limit: 1, period: HOUR, block: Some(MINUTE) });
    limiter.call(1);
    limiter.wait(SECOND);
    assert_eq!(limiter.call(1).retry_after, Some(Millis(HOUR - SECOND).nanos()));
    assert_eq!(limiter.end(), Some(EPOCH + HOUR));
}

#[test]
fn windows_and_blocks_that_end_after_the_year_2262_are_too_long() {
    let fits = |period, block| {
        let policy = Terms { limit: 1, period, block }.policy();
        [0, 1, 2, -1].map(|quantity| policy.decide(None, Millis(EPOCH), quantity).is_ok())
    };
    assert_eq!(fits(LAST - EPOCH, Some(LAST - EPOCH)), [true; 4]);
    assert_eq!(fits(LAST - EPOCH + 1, None), [false; 4]);
    assert_eq!(fits(1, Some(LAST - EPOCH + 1)), [false; 4]);
    assert_eq!(fits(i64::MAX, Some(i64::MAX)), [false; 4]);
}

proptest! {
    /// The model: when the first hit came, the cells that passed since, and when a call beyond the limit came.
    #[test]
    fn from_its_first_hit_to_its_end_a_window_passes_the_limit_and_no_more(
        (terms, calls) in (1..=9i64, 1..=99i64, proptest::option::of(1..=99i64))
            .prop_map(|(limit, period, block)| Terms { limit, period, block })
            .prop_flat_map(|terms| {
                let step = prop_oneof![1 => Just(0), 2 => 1..=terms.period / 4 + 1, 1 => 1..=terms.longest()];
                (Just(terms), vec((1..=terms.limit, step), 1..60))
            }),
    ) {
        let mut limiter = Limiter::new(terms);
        let (mut passed, mut shut, mut end) = (0, false, i64::MIN);
        for (quantity, step) in calls {
            limiter.wait(step);
            if limiter.now >= end {
                (passed, shut, end) = (0, false, limiter.now + terms.period);
            }
            let answer = limiter.call(quantity);
            prop_assert_eq!(answer.limited, shut || passed + quantity > terms.limit);
            if !answer.limited {
                passed += quantity;
            } else if let Some(block) = terms.block && !shut {
                (shut, end) = (true, end.max(limiter.now + block));
            }
            prop_assert_eq!(answer.remaining, if shut { 0 } else { terms.limit - passed });
            prop_assert_eq!(millis(answer.reset_after), end - limiter.now);
            prop_assert_eq!(answer.retry_after.map(millis), answer.limited.then_some(end - limiter.now));
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
    let steps = (quantity(terms), step(terms));
    vec(steps, 0..12).prop_map(move |calls| {
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
        3 => Just(0),
        3 => up_to(terms.period),
        1 => near(i128::from(terms.longest()), 0..=EPOCH),
        1 => up_to(terms.longest()).prop_map(|span| -span),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn with_any_clock_no_window_passes_more_than_the_limit_or_lasts_too_long(
        (terms, calls) in roomy_terms().prop_flat_map(|terms| {
            (Just(terms), vec((quantity(terms), step(terms)), 1..40))
        }),
    ) {
        let mut limiter = Limiter::new(terms);
        let mut passed = 0;
        for (quantity, step) in calls {
            limiter.now = (limiter.now + step).clamp(0, 2 * EPOCH);
            let shut = limiter.is_shut();
            if limiter.current().is_none() {
                // The server has removed it, even if the clock goes back.
                (passed, limiter.window) = (0, None);
            }
            let answer = limiter.call(quantity);
            if quantity > 0 && !answer.limited {
                passed += quantity;
            } else if quantity < 0 && !shut {
                passed = passed.saturating_add(quantity).max(0);
            }
            prop_assert!((0..=terms.limit).contains(&passed));
            prop_assert_eq!(answer.remaining, if limiter.is_shut() { 0 } else { terms.limit - passed });
            let longest = if limiter.is_shut() { terms.longest() } else { terms.period };
            prop_assert!((0..=longest).contains(&millis(answer.reset_after)));
            prop_assert!(answer.retry_after.is_none_or(|wait| (Nanos(1)..=answer.reset_after).contains(&wait)));
        }
    }

    #[test]
    fn the_remaining_cells_pass_and_one_more_is_refused((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        prop_assert!(limiter.would_pass(0, answer.remaining));
        prop_assert!(!limiter.would_pass(0, answer.remaining + 1));
    }

    #[test]
    fn a_refused_call_passes_when_its_retry_is_due_and_not_before((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        prop_assert_eq!(answer.retry_after.is_some(), answer.limited && quantity <= answer.limit);
        if let Some(wait) = answer.retry_after.map(millis) {
            prop_assert!(limiter.would_pass(wait, quantity));
            prop_assert!(!limiter.would_pass(wait - 1, quantity));
        }
    }

    #[test]
    fn a_caller_that_keeps_calling_while_refused_extends_nothing(
        (mut limiter, calls) in roomy_terms().prop_flat_map(|terms| {
            (limiter_of(terms), vec((up_to(terms.limit), 0..=terms.longest()), 1..10))
        }),
    ) {
        limiter.call(limiter.later(0, 0).remaining);
        prop_assert!(limiter.call(1).limited);
        let (window, end) = (limiter.window, limiter.end().expect("a window that has one"));
        for (quantity, step) in calls {
            limiter.now = (limiter.now + step).min(end - 1);
            prop_assert_eq!(limiter.call(quantity).retry_after.map(millis), Some(end - limiter.now));
            prop_assert_eq!(limiter.window, window);
        }
        limiter.now = end;
        prop_assert_eq!(limiter.call(1).remaining, limiter.terms.limit - 1);
    }

    #[test]
    fn a_block_lasts_as_long_as_it_says_under_any_calls(
        (mut limiter, block, calls) in (roomy_terms(), up_to(EPOCH)).prop_flat_map(|(terms, block)| {
            let terms = Terms { block: Some(block), ..terms };
            (limiter_of(terms), Just(block), vec((quantity(terms), 0..=terms.longest(), any::<bool>()), 1..10))
        }),
    ) {
        let full = limiter.call(limiter.later(0, 0).remaining);
        prop_assume!(!limiter.is_shut());
        let window_end = limiter.now + millis(full.reset_after);
        let answer = limiter.call(1);
        let end = window_end.max(limiter.now + block);
        prop_assert_eq!(answer.retry_after.map(millis), Some(end - limiter.now));
        for (quantity, step, has_block) in calls {
            limiter.terms.block = has_block.then_some(block);
            limiter.now = (limiter.now + step).min(end - 1);
            let answer = limiter.call(quantity);
            prop_assert_eq!((answer.limited, answer.remaining), (quantity > 0, 0));
            prop_assert_eq!(limiter.window, Some(Window { count: limiter.terms.limit + 1, end: Some(Millis(end)) }));
        }
        limiter.now = end;
        prop_assert_eq!(limiter.call(1).remaining, limiter.terms.limit - 1);
    }

    #[test]
    fn a_dry_run_repeats_the_last_answer_and_changes_nothing((mut limiter, quantity) in limiter_and_quantity()) {
        let answer = limiter.call(quantity);
        let left = limiter.window;
        let dry_run = Answer { limited: false, retry_after: None, ..answer };
        prop_assert_eq!(limiter.call(0), dry_run);
        prop_assert_eq!(limiter.call(0), dry_run);
        prop_assert_eq!(limiter.window, left);
    }

    #[test]
    fn more_than_the_limit_is_refused_and_changes_as_little_as_a_dry_run(
        mut limiter in limiter(),
        cells in magnitude(),
    ) {
        limiter.call(i64::MAX); // A window that ends too late is cut.
        let dry_run = limiter.call(0);
        let left = limiter.window;
        let quantity = dry_run.limit.saturating_add(cells);
        prop_assert_eq!(limiter.call(quantity), Answer { limited: true, ..dry_run });
        prop_assert_eq!(limiter.window, left);
    }

    #[test]
    fn a_refund_undoes_a_take(mut limiter in limiter(), cells in magnitude()) {
        limiter.call(i64::MAX); // A window that ends too late is cut.
        let before = limiter.call(0);
        prop_assume!(before.remaining > 0);
        let current = limiter.current();
        let quantity = (cells - 1) % before.remaining + 1;
        limiter.call(quantity);
        let answer = limiter.call(-quantity);
        match current {
            Some(Window { count: 1.., .. }) => prop_assert_eq!((answer, limiter.window), (before, current)),
            _ => {
                let full = (answer.limit, Nanos(0), None);
                prop_assert_eq!((answer.remaining, answer.reset_after, limiter.window), full);
            }
        }
    }

    #[test]
    fn a_refund_of_all_of_a_window_or_more_ends_at_full(mut limiter in limiter(), cells in magnitude()) {
        let limit = limiter.terms.limit;
        prop_assume!(!limiter.is_shut());
        let full = Answer { limited: false, limit, remaining: limit, retry_after: None, reset_after: Nanos(0) };
        prop_assert_eq!(limiter.call(cells.max(limit).saturating_neg()), full);
        prop_assert_eq!(limiter.window, None);
        prop_assert_eq!(limiter.call(i64::MIN), full);
    }

    #[test]
    fn a_window_without_an_end_gets_one_from_the_call_that_meets_it(
        (terms, quantity) in roomy_terms().prop_flat_map(|terms| (Just(terms), quantity(terms))),
        count in prop_oneof![0..=7i64, magnitude()],
    ) {
        let mut limiter = Limiter { window: Some(Window { count, end: None }), ..Limiter::new(terms) };
        let answer = limiter.call(quantity);
        match limiter.window {
            None => prop_assert!(quantity < 0 && answer.remaining == terms.limit),
            Some(window) => {
                let end = window.end.expect("every call gives one");
                let starts_block = quantity > 0 && answer.retry_after.is_some() && count <= terms.limit;
                let span = if starts_block { terms.longest() } else { terms.period };
                prop_assert_eq!(end, Millis(EPOCH + span));
                prop_assert_eq!(millis(answer.reset_after), span);
            }
        }
    }

    #[test]
    fn a_window_that_ends_too_late_is_cut_to_a_period_by_the_call_that_meets_it(
        (terms, quantity) in roomy_terms().prop_flat_map(|terms| (Just(terms), quantity(terms))),
        (count, beyond) in (magnitude(), magnitude()),
    ) {
        let terms = Terms { block: None, ..terms };
        let end = EPOCH.saturating_add(terms.period).saturating_add(beyond);
        prop_assume!(count != terms.limit + 1);
        let mut limiter = Limiter { window: Some(Window { count, end: Some(Millis(end)) }), ..Limiter::new(terms) };
        let dry_run = limiter.call(0);
        prop_assert_eq!((millis(dry_run.reset_after), limiter.end()), (terms.period, Some(end)), "a dry run cuts nothing");
        prop_assume!(quantity != 0);
        let answer = limiter.call(quantity);
        prop_assert_eq!(limiter.end().unwrap_or(EPOCH + terms.period), EPOCH + terms.period);
        prop_assert!(answer.retry_after.is_none_or(|wait| millis(wait) == terms.period));
        prop_assert!(limiter.would_pass(terms.period, terms.limit));
    }

    /// With another limit a count of one more is a block, regardless of which call stored it: then its end holds.
    #[test]
    fn with_other_numbers_no_wait_is_longer_than_theirs((mut limiter, terms, quantity) in (
        limiter(),
        roomy_terms().prop_flat_map(|terms| (Just(terms), up_to(terms.limit))),
    ).prop_map(|(limiter, (terms, quantity))| (limiter, terms, quantity))) {
        let is_block = limiter.current().is_some_and(|window| window.count == terms.limit + 1);
        limiter.terms = terms;
        let answer = limiter.call(quantity);
        prop_assert!((0..=terms.limit).contains(&answer.remaining));
        let wait = answer.retry_after.map_or(0, millis);
        prop_assert!(wait <= terms.longest() || (is_block && terms.block.is_none()));
        prop_assert!(!answer.limited || limiter.would_pass(wait, quantity));
        prop_assert!(!answer.limited || !limiter.would_pass(wait - 1, quantity));
    }
}

#[test]
fn a_lowered_limit_refuses_until_the_window_ends() {
    let mut limiter = Limiter::new(Terms { limit: 9, period: HOUR, block: None });
    limiter.call(9);
    limiter.wait(MINUTE);
    limiter.terms = Terms { limit: 3, period: HOUR, block: None };
    assert_eq!(limiter.call(1).retry_after, Some(Millis(59 * MINUTE).nanos()));
    limiter.terms.period = MINUTE;
    assert_eq!(limiter.call(1).retry_after, Some(Millis(MINUTE).nanos()));
    assert_eq!(limiter.end(), Some(EPOCH + 2 * MINUTE), "stored even though refused");
    limiter.terms = Terms { limit: 10, period: HOUR, block: None };
    assert_eq!(limiter.call(1).remaining, 0, "what has passed still counts");
}
