//! A day's count and the count of one of its hours, which move together.

/// The total of a day and the count of one hour in it, each 0..=2⁶³ − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The total of the day.
    pub day: i64,
    /// The count of the hour.
    pub hour: i64,
}

/// Why a hit cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TallyError {
    /// A count would fall below zero.
    BelowZero,
    /// A count would pass 2⁶³ − 1.
    TooLarge,
}

impl Tally {
    /// Both counts after `n` more hits, or fewer for a negative `n`.
    pub fn plus(self, n: i64) -> Result<Self, TallyError> {
        let moved = |count: i64| match count.checked_add(n) {
            None => Err(TallyError::TooLarge),
            Some(count) if count < 0 => Err(TallyError::BelowZero),
            Some(count) => Ok(count),
        };
        Ok(Self { day: moved(self.day)?, hour: moved(self.hour)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_counts_move_or_neither(day in 0..=i64::MAX, hour in 0..=i64::MAX, n: i64) {
            let exact = |count: i64| i128::from(count) + i128::from(n);
            match (Tally { day, hour }).plus(n) {
                Ok(after) => {
                    prop_assert_eq!(i128::from(after.day), exact(day));
                    prop_assert_eq!(i128::from(after.hour), exact(hour));
                    prop_assert!(after.day >= 0 && after.hour >= 0);
                }
                Err(TallyError::BelowZero) => prop_assert!(exact(day) < 0 || exact(hour) < 0),
                Err(TallyError::TooLarge) => prop_assert!(exact(day).max(exact(hour)) > i128::from(i64::MAX)),
            }
        }
    }
}
