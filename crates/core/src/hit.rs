//! The decision on a hit, a pure function of the counts before it.

use crate::tally::{Tally, TallyError};

/// A limit for a count, and the count that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The count before the hit, ≥ 0.
    pub counted: i128,
    /// The limit, ≥ 1.
    pub limit: i64,
}

/// The result of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It counts; these are the counts of its day and hour after it.
    Counted(Tally),
    /// Its event was counted before.
    Duplicate,
    /// It would exceed a cap.
    Capped,
    /// It asks for nothing.
    Looked,
}

/// Decides on a hit of `n`. Being a duplicate comes before all other results; corrections (`n` < 0) are never capped.
///
/// # Errors
/// The count of the day or the hour would fall below zero, or pass 2⁶³ − 1.
pub fn decide(n: i64, before: Tally, is_duplicate: bool, caps: &[Cap]) -> Result<Outcome, TallyError> {
    if n == 0 {
        return Ok(Outcome::Looked);
    }
    if is_duplicate {
        return Ok(Outcome::Duplicate);
    }
    if n > 0 && caps.iter().any(|cap| cap.counted + i128::from(n) > i128::from(cap.limit)) {
        return Ok(Outcome::Capped);
    }
    before.plus(n).map(Outcome::Counted)
}

/// The remainder of the tightest cap when `n` more are counted, never below 0; `None` without a cap.
pub fn remaining(caps: &[Cap], n: i64) -> Option<i64> {
    let left = caps.iter().map(|cap| i128::from(cap.limit) - cap.counted - i128::from(n));
    left.min().map(|left| i64::try_from(left.max(0)).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn caps() -> impl Strategy<Value = Vec<Cap>> {
        let cap = (0..200i128, 1..200i64).prop_map(|(counted, limit)| Cap { counted, limit });
        prop::collection::vec(cap, 0..4)
    }

    proptest! {
        #[test]
        fn every_hit_ends_in_one_of_four_ways(n in -100..100i64, day in 0..200i64, known: bool, caps in caps()) {
            let before = Tally { day, hour: day / 2 };
            let exceeded = caps.iter().any(|cap| cap.counted + i128::from(n) > i128::from(cap.limit));
            match decide(n, before, known, &caps) {
                Ok(Outcome::Looked) => prop_assert_eq!(n, 0),
                Ok(Outcome::Duplicate) => prop_assert!(known && n != 0),
                Ok(Outcome::Capped) => prop_assert!(!known && n > 0 && exceeded),
                Ok(Outcome::Counted(after)) => {
                    prop_assert!(!known && n != 0 && (n < 0 || !exceeded));
                    prop_assert_eq!((after.day, after.hour), (before.day + n, before.hour + n));
                }
                Err(error) => {
                    prop_assert_eq!(error, TallyError::BelowZero);
                    prop_assert!(!known && n < 0 && before.hour + n < 0);
                }
            }
        }

        #[test]
        fn the_remainder_can_be_counted_and_one_more_cannot(caps in caps()) {
            let before = Tally { day: 0, hour: 0 };
            let Some(left) = remaining(&caps, 0) else {
                prop_assert!(caps.is_empty());
                return Ok(());
            };
            if left > 0 {
                prop_assert!(matches!(decide(left, before, false, &caps), Ok(Outcome::Counted(_))));
            }
            prop_assert_eq!(decide(left + 1, before, false, &caps), Ok(Outcome::Capped));
            prop_assert_eq!(remaining(&caps, left), Some(0));
        }
    }
}
