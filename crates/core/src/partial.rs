//! Taking as many cells as fit: the option `PARTIAL` of every limiter that counts cells.

use super::answer::{Answer, Decision, TooLong, Unit};

/// The decision on a call that takes as many of its cells as fit, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial<S> {
    /// Limited only if not even one fits; then its `retry_after` is when one does.
    pub decision: Decision<S>,
    /// How many are taken, 0..=quantity.
    pub taken: i64,
}

/// As many of `quantity` (≥ 1) cells as a limiter has left, by its own `decide`, a pure function of a quantity.
///
/// # Errors
/// Those of the limiter.
#[inline]
pub fn as_many_as_fit<S>(
    quantity: i64,
    decide: impl Fn(i64) -> Result<Decision<S>, TooLong>,
) -> Result<Partial<S>, TooLong> {
    debug_assert!(quantity >= 1);
    let whole = decide(quantity)?;
    if !whole.answer.limited {
        return Ok(Partial { decision: whole, taken: quantity });
    }
    // A refused call may start a block, so a dry run tells how many fit.
    let fitting = decide(0)?.answer.remaining.min(quantity);
    // If none fits, one is asked for: that is the call that is refused, or starts a block.
    let decision = decide(fitting.max(1))?;
    debug_assert_eq!(decision.answer.limited, fitting == 0);
    Ok(Partial { decision, taken: fitting })
}

impl Answer {
    /// The six integers of a reply to `PARTIAL`: the five, and how many were taken.
    pub fn integers_and_taken(&self, unit: Unit, taken: i64) -> [i64; 6] {
        let [limited, limit, remaining, retry_after, reset_after] = self.integers(unit);
        [limited, limit, remaining, retry_after, reset_after, taken]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Next;
    use crate::calendar::Day;
    use crate::time::{Micros, Millis, Nanos};
    use crate::window::Window;
    use crate::{gcra, log, quota, slide, window};
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;
    use std::fmt::Debug;

    const NOW: Millis = Millis(1_700_000_000_000);
    const SECOND: Nanos = Nanos(1_000_000_000);

    /// One cell after the other is the rule: as many pass at once as would pass one by one, with the same state in the
    /// end.
    fn takes_as_many_as_one_by_one<S: Copy + Debug + PartialEq>(
        quantity: i64,
        stored: Option<S>,
        decide: impl Fn(Option<S>, i64) -> Result<Decision<S>, TooLong>,
    ) -> Result<(), TestCaseError> {
        let partial = as_many_as_fit(quantity, |cells| decide(stored, cells)).expect("instants that fit");
        let answer = partial.decision.answer;
        let (mut state, mut taken) = (stored, 0);
        while taken < quantity {
            let Decision { answer, next } = decide(state, 1).expect("instants that fit");
            if answer.limited {
                break;
            }
            let Next::Store(after) = next else { panic!("a cell that is taken is stored") };
            (state, taken) = (Some(after), taken + 1);
        }
        prop_assert_eq!(partial.taken, taken);
        prop_assert_eq!(answer.limited, taken == 0, "limited only if none fit");
        if taken == 0 {
            let one = decide(stored, 1).expect("instants that fit");
            prop_assert_eq!(partial.decision, one, "then it is told when one fits");
            prop_assert!(answer.retry_after.is_some());
        } else {
            prop_assert_eq!(answer.retry_after, None);
            prop_assert_eq!(partial.decision.next, Next::Store(state.expect("taken")));
        }
        let integers = answer.integers_and_taken(Unit::Millis, partial.taken);
        prop_assert_eq!((&integers[..5], integers[5]), (&answer.integers(Unit::Millis)[..], taken));
        Ok(())
    }

    proptest! {
        #[test]
        fn throttle(max_burst in 0..9i64, ahead in 0..12_000i64, quantity in 1..20i64) {
            // A whole number of ns a cell: rounded ones may end apart.
            let policy = gcra::Quota::new(max_burst, 1, SECOND).expect("terms that fit");
            let tat = (ahead > 0).then(|| Millis(NOW.0 - 1_000 + ahead).nanos());
            takes_as_many_as_one_by_one(quantity, tat, |tat, cells| policy.decide(tat, NOW.nanos(), cells))?;
        }

        #[test]
        fn window_and_quota(
            limit in 1..9i64,
            count in 0..12i64,
            end in prop::option::of(-5..50i64),
            quantity in 1..20i64,
            block in any::<bool>(),
        ) {
            let stored = Window { count, end: end.map(|span| Millis(NOW.0 + span)) };
            let policy = window::Policy { limit, period: Millis(30), block: block.then_some(Millis(40)) };
            let calendar = quota::Calendar::new(quota::Unit::Week, Some(Day::FIRST), quota::Offset::UTC);
            let calendar = quota::Policy { limit, calendar: calendar.expect("no anchor in hours") };
            for stored in [None, Some(stored)] {
                takes_as_many_as_one_by_one(quantity, stored, |window, cells| policy.decide(window, NOW, cells))?;
                takes_as_many_as_one_by_one(quantity, stored, |window, cells| calendar.decide(window, NOW, cells))?;
            }
        }

        #[test]
        fn slide(
            limit in 1..9i64,
            (current, previous) in (0..9i64, 0..9i64),
            (windows_ago, period) in (0..3i64, prop_oneof![Just(7i64), Just(10i64)]),
            quantity in 1..20i64,
        ) {
            let policy = slide::Policy { limit, period: Nanos(7) };
            let start = Nanos((NOW.nanos().0 / period - windows_ago) * period);
            let stored = Some(slide::Slide { start, period: Nanos(period), current, previous });
            takes_as_many_as_one_by_one(quantity, stored, |slide, cells| policy.decide(slide, NOW.nanos(), cells))?;
        }

        #[test]
        fn log(limit in 1..9i64, ages in prop::collection::vec(0..20i64, 0..9), quantity in 1..20i64) {
            let policy = log::Policy { limit, period: Nanos(10_000) };
            let now = Micros(NOW.0 * 1_000);
            let mut cells: Vec<Micros> = ages.into_iter().map(|age| Micros(now.0 - age)).collect();
            cells.sort_unstable();
            let in_view = cells.iter().filter(|cell| now.0 - cell.0 < 10).count();
            let cells = Logged(cells);
            let partial = as_many_as_fit(quantity, |cells_wanted| policy.decide(&cells, now, cells_wanted)).expect("fits");
            let fitting = (limit - i64::try_from(in_view).expect("few")).clamp(0, quantity);
            prop_assert_eq!(partial.taken, fitting);
            prop_assert_eq!(partial.decision.answer.limited, fitting == 0);
            let one = policy.decide(&cells, now, fitting.max(1)).expect("fits");
            prop_assert_eq!(partial.decision, one);
        }
    }

    struct Logged(Vec<Micros>);

    impl log::Cells for Logged {
        fn count(&self) -> i64 {
            i64::try_from(self.0.len()).expect("few")
        }

        fn count_up_to(&self, time: Micros) -> i64 {
            i64::try_from(self.0.iter().filter(|&&cell| cell <= time).count()).expect("few")
        }

        fn nth_newest(&self, nth: i64) -> Option<Micros> {
            self.0.iter().rev().nth(usize::try_from(nth - 1).expect("from 1")).copied()
        }
    }

    #[test]
    fn a_block_starts_only_when_none_fit() {
        let policy = window::Policy { limit: 3, period: Millis(1_000), block: Some(Millis(9_000)) };
        let call = |stored: Option<Window>| as_many_as_fit(5, |cells| policy.decide(stored, NOW, cells)).expect("fits");
        let first = call(None);
        let end = Some(Millis(NOW.0 + 1_000));
        assert_eq!((first.taken, first.decision.next), (3, Next::Store(Window { count: 3, end })));
        let second = call(Some(Window { count: 3, end }));
        assert_eq!((second.taken, second.decision.answer.retry_after), (0, Some(Millis(9_000).nanos())));
    }
}
