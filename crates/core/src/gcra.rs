//! The generic cell rate algorithm: a leaky bucket whose whole state is one instant.
//!
//! Think of a queue that serves one cell every *emission interval* (`period / count`). The *theoretical arrival time*
//! (TAT) is when that queue would be empty again. A call for q cells moves the TAT later by q intervals and passes if
//! the TAT then lies no further ahead of the clock than the *tolerance*: the time that a whole burst takes to drain.
//!
//! Source: ITU-T I.371 (1996), virtual scheduling algorithm. Intervals are never rounded by themselves; q cells cost
//! ⌊q × period / count⌋ ns, in 128 bits, so that the error of a high rate does not add up.

use super::answer::{Answer, Decision, Next, TooLong};
use crate::time::Nanos;

/// The highest rate: one cell per nanosecond, in cells per second.
pub const MAX_RATE: i64 = 1_000_000_000;

/// How fast a limiter drains and how much it takes at once.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    limit: i64,
    count: i64,
    period: Nanos,
    /// The cost of `limit` cells: how far ahead of the clock a TAT may lie.
    tolerance: Nanos,
}

/// Why numbers are not a valid quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// More than [`MAX_RATE`].
    TooFast,
    /// An instant or a span beyond 2⁶³ − 1 ns.
    TooLong,
}

impl Quota {
    /// `count` (≥ 1) cells per `period` (> 0), plus `max_burst` (≥ 0) at once. With a `max_burst` of −1 it holds no
    /// cell at all: a quota for [`Quota::decide_uncut`] alone.
    ///
    /// # Errors
    /// A rate above [`MAX_RATE`], or a tolerance beyond 2⁶³ − 1 ns.
    #[inline(always)]
    pub fn new(max_burst: i64, count: i64, period: Nanos) -> Result<Self, QuotaError> {
        debug_assert!(max_burst >= -1 && count >= 1 && period.0 > 0);
        // One nanosecond is the shortest interval, so a period holds at most as many cells as nanoseconds.
        if count > period.0 {
            return Err(QuotaError::TooFast);
        }
        let limit = max_burst.checked_add(1).ok_or(QuotaError::TooLong)?;
        let tolerance = mul_div(limit, period.0, count).ok_or(QuotaError::TooLong)?;
        Ok(Self { limit, count, period, tolerance: Nanos(tolerance) })
    }

    /// How far ahead of the clock a TAT may lie, in nanoseconds: the cost of a full burst.
    pub fn tolerance(&self) -> Nanos {
        self.tolerance
    }

    /// The result of a call for `quantity` cells at `now` on a stored TAT: positive takes, 0 is a dry run, negative is
    /// a refund. A TAT beyond `now` + tolerance (a raised rate, a clock that jumped) is read as that, and stored as
    /// that by a call that takes or refunds.
    ///
    /// # Errors
    /// If `now` + tolerance does not fit.
    #[inline(always)]
    pub fn decide(&self, tat: Option<Nanos>, now: Nanos, quantity: i64) -> Result<Decision<Nanos>, TooLong> {
        self.decide_since(tat, now, now, quantity)
    }

    /// The same for a client that has been blocked since `since` (≤ `now`): each cell counts as taken when it was due,
    /// if that is not before `since`.
    ///
    /// # Errors
    /// As [`Quota::decide`].
    #[inline(always)]
    pub fn decide_since(
        &self,
        tat: Option<Nanos>,
        since: Nanos,
        now: Nanos,
        quantity: i64,
    ) -> Result<Decision<Nanos>, TooLong> {
        let horizon = now.0.checked_add(self.tolerance.0).ok_or(TooLong)?;
        // No `clamp`, which would check that the bounds are in order.
        let start = tat.map_or(since.0, |tat| tat.0.max(since.0).min(horizon));
        let untouched = match tat {
            Some(tat) if tat.0 > horizon => Next::Store(Nanos(horizon)),
            _ => Next::Keep,
        };
        // Cells that became due during the wait are room beyond a whole burst.
        let room = horizon - start;

        let (limited, retry_after, end, next) = if quantity > self.limit {
            (true, None, start, untouched)
        } else if quantity > 0 {
            let cost = self.cost(quantity);
            if cost <= room {
                (false, None, start + cost, Next::Store(Nanos(start + cost)))
            } else {
                (true, Some(Nanos(cost - room)), start, untouched)
            }
        } else if quantity == 0 {
            (false, None, start, Next::Keep)
        } else {
            // A refund of a whole burst or more ends at full, so no more than that need be computed.
            let returned = self.cost(quantity.checked_neg().map_or(self.limit, |given| given.min(self.limit)));
            let end = (start - returned).max(now.0);
            let next = match tat {
                None => Next::Keep,
                Some(_) if end == now.0 => Next::Clear,
                Some(_) => Next::Store(Nanos(end)),
            };
            (false, None, end, next)
        };

        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: self.fitting(horizon - end.max(now.0)),
            retry_after,
            reset_after: Nanos((end - now.0).max(0)),
        };
        Ok(Decision { answer, next })
    }

    /// How many cells (0..=limit) a client that has been blocked since `since` (≤ `now`) can take at `now`.
    ///
    /// # Errors
    /// As [`Quota::decide`].
    pub fn due_since(&self, tat: Option<Nanos>, since: Nanos, now: Nanos) -> Result<i64, TooLong> {
        let horizon = now.0.checked_add(self.tolerance.0).ok_or(TooLong)?;
        let start = tat.map_or(since.0, |tat| tat.0.max(since.0).min(horizon));
        Ok(self.fitting((horizon - start).min(self.tolerance.0)))
    }

    /// When one cell is due with this TAT; it may be long past.
    pub fn due_at(&self, tat: Nanos) -> Nanos {
        Nanos(tat.0.saturating_add(self.cost(1)).saturating_sub(self.tolerance.0))
    }

    /// Numbers that are equal exactly if two quotas are.
    pub fn numbers(&self) -> [i64; 3] {
        [self.limit, self.count, self.period.0]
    }

    /// The same by the rules of redis-cell: a TAT beyond `now` + tolerance is neither cut when it is read nor when it
    /// is stored, so that two quotas may share one TAT, and the stricter one holds; while it lies there, every call is
    /// refused, including one for no cell, and one whose refund does not bring it within the tolerance. A call that is
    /// refused changes nothing.
    ///
    /// # Errors
    /// If `now` + tolerance does not fit.
    pub fn decide_uncut(&self, tat: Option<Nanos>, now: Nanos, quantity: i64) -> Result<Decision<Nanos>, TooLong> {
        let horizon = now.0.checked_add(self.tolerance.0).ok_or(TooLong)?;
        let start = tat.map_or(now.0, |tat| tat.0.max(now.0));
        // In 128 bits: neither the quantity nor the TAT is bounded by the limit here.
        let cost = i128::from(quantity) * i128::from(self.period.0) / i128::from(self.count);
        let end = i128::from(start) + cost;
        let over = end - i128::from(horizon);

        let (limited, retry_after, end, next) = if over > 0 {
            let can_pass = cost <= i128::from(self.tolerance.0);
            (true, i64::try_from(over).ok().filter(|_| can_pass).map(Nanos), start, Next::Keep)
        } else {
            // At most the horizon, and never below now.
            let end = i64::try_from(end).unwrap_or(now.0).max(now.0);
            let next = match tat {
                _ if quantity > 0 => Next::Store(Nanos(end)),
                Some(_) if quantity < 0 && end == now.0 => Next::Clear,
                Some(_) if quantity < 0 => Next::Store(Nanos(end)),
                _ => Next::Keep,
            };
            (false, None, end, next)
        };

        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: self.fitting((horizon - end).max(0)),
            retry_after,
            reset_after: Nanos(end - now.0),
        };
        Ok(Decision { answer, next })
    }

    /// The cost of `quantity` (0..=limit) cells, in ns: ⌊quantity × period / count⌋.
    fn cost(&self, quantity: i64) -> i64 {
        debug_assert!((0..=self.limit).contains(&quantity));
        // The cost of the whole limit fitted when the quota was made, so the cost of a part of it does.
        mul_div(quantity, self.period.0, self.count).unwrap_or(self.tolerance.0)
    }

    /// The most cells whose cost fits in `room` (≥ 0) ns: the largest r with ⌊r × period / count⌋ ≤ room, which is the
    /// largest r with r × period < (room + 1) × count. Divides in 64 bits where that will do, as `mul_div` does.
    fn fitting(&self, room: i64) -> i64 {
        debug_assert!((0..=self.tolerance.0).contains(&room));
        let (numbers, count, period) =
            (room.cast_unsigned() + 1, self.count.cast_unsigned(), self.period.0.cast_unsigned());
        let cells = match numbers.checked_mul(count) {
            Some(product) => (product - 1) / period,
            None => u64::try_from((u128::from(numbers) * u128::from(count) - 1) / u128::from(period))
                .unwrap_or(self.limit.cast_unsigned()),
        };
        // The tolerance is what the limit costs, and an interval is at least a nanosecond: one cell more never fits.
        debug_assert!(cells <= self.limit.cast_unsigned());
        cells.cast_signed()
    }
}

/// ⌊a × b / c⌋ for a, b ≥ 0 and c ≥ 1; `None` if it does not fit. Takes the 64-bit division where that will do: it is
/// several times faster than the 128-bit one.
#[inline(always)]
fn mul_div(a: i64, b: i64, c: i64) -> Option<i64> {
    let [a, b, c] = [a, b, c].map(i64::cast_unsigned);
    let quotient = match a.checked_mul(b) {
        Some(product) => product / c,
        None => u64::try_from(u128::from(a) * u128::from(b) / u128::from(c)).ok()?,
    };
    i64::try_from(quotient).ok()
}

#[cfg(test)]
mod tests;
