//! The sliding log: the time of every cell is stored for a period, so that no period, wherever it begins, has more than
//! the limit. Exact, and as large as its limit.

use crate::time::{Micros, Nanos};

use super::answer::{Answer, Decision, Next, TooLong};

/// The most cells that a log may have.
pub const MAX_LIMIT: i64 = 1_000_000;

/// The limit of any period.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// 1..=[`MAX_LIMIT`].
    pub limit: i64,
    /// The length of the window; > 0.
    pub period: Nanos,
}

/// The cells of a log, ordered by the time they were taken. Times after now (the clock has gone back) count as now.
pub trait Cells {
    /// The number of cells.
    fn count(&self) -> i64;
    /// The number of cells up to `time`.
    fn count_up_to(&self, time: Micros) -> i64;
    /// The time of the `nth` (from 1) newest.
    fn nth_newest(&self, nth: i64) -> Option<Micros>;
}

/// How a log changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The oldest have left the window and are removed; new ones are added at now.
    Take {
        /// How many of the oldest cells have left the window.
        out_of_view: i64,
        /// How many cells are added; ≥ 1.
        cells: i64,
    },
    /// The newest are removed.
    Return {
        /// How many of the newest cells are removed; ≥ 1.
        cells: i64,
    },
    /// Cells that lie after now are moved to now.
    Repair,
}

impl Policy {
    /// The result of a call for `quantity` cells at `now`: positive takes, 0 is a dry run, negative is a refund.
    ///
    /// # Errors
    /// If a period from `now` does not fit.
    pub fn decide(&self, cells: &impl Cells, now: Micros, quantity: i64) -> Result<Decision<Update>, TooLong> {
        now.nanos().0.checked_add(self.period.0).ok_or(TooLong)?;
        let out_of_view = cells.count_up_to(self.out_of_view(now));
        let in_window = cells.count() - out_of_view;
        let leaves = |time: Micros| time.min(now).nanos().0 + self.period.0 - now.nanos().0;

        let (limited, retry_after, left, newest, next) = if quantity > 0 && quantity <= self.limit - in_window {
            let change = Update::Take { out_of_view, cells: quantity };
            (false, None, in_window + quantity, Some(now), Next::Store(change))
        } else {
            let newest = cells.nth_newest(1);
            let untouched = match newest {
                Some(newest) if newest > now => Next::Store(Update::Repair),
                _ => Next::Keep,
            };
            if quantity > self.limit {
                (true, None, in_window, newest, untouched)
            } else if quantity > 0 {
                // With this cell and all newer ones there would be one too many.
                let blocking = cells.nth_newest(self.limit - quantity + 1);
                (true, blocking.map(|time| Nanos(leaves(time))), in_window, newest, untouched)
            } else if quantity == 0 || newest.is_none() {
                (false, None, in_window, newest, Next::Keep)
            } else {
                let returned = quantity.checked_neg().map_or(in_window, |given| given.min(in_window));
                let left = in_window - returned;
                if left == 0 {
                    (false, None, 0, None, Next::Clear)
                } else {
                    let newest = cells.nth_newest(returned + 1);
                    (false, None, left, newest, Next::Store(Update::Return { cells: returned }))
                }
            }
        };

        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: (self.limit - left).max(0),
            retry_after,
            reset_after: Nanos(newest.filter(|_| left > 0).map_or(0, leaves)),
        };
        Ok(Decision { answer, next })
    }

    /// The latest time that lies a whole period back: a cell of that time has left the window.
    fn out_of_view(&self, now: Micros) -> Micros {
        Micros((now.nanos().0 - self.period.0).div_euclid(1_000))
    }

    /// When a cell that is taken at `at` leaves the window.
    pub fn leaves_at(&self, at: Micros) -> Nanos {
        Nanos(at.nanos().0.saturating_add(self.period.0))
    }
}

#[cfg(test)]
mod tests;
