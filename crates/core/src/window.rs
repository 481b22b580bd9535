//! The fixed window that the first hit opens: at most `limit` cells until it ends, and then a new one. The usual
//! pattern of
//! `INCR` and `EXPIRE`; with a block, the lock after too many login attempts. It counts in milliseconds, as expiries
//! do.

use crate::time::{Millis, Nanos};

use super::answer::{Answer, Decision, Next, TooLong};

/// The limit and the length of a window, and for how long a call beyond the limit blocks the key.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// 1..2⁶³ − 1, so that one more fits.
    pub limit: i64,
    /// The length of the window; > 0.
    pub period: Millis,
    /// For how long the first call beyond the limit blocks the key.
    pub block: Option<Millis>,
}

/// A window: its count, and when it ends. A count of the limit plus one is a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The number of cells taken.
    pub count: i64,
    /// `None` for state that other programs stored without an expiry.
    pub end: Option<Millis>,
}

impl Policy {
    /// The result of a call for `quantity` cells at `now`: positive takes, 0 is a dry run, negative is a refund. A
    /// window without an end is given one, and one that ends later than a new window would is cut to that; a block is
    /// not.
    ///
    /// # Errors
    /// If a period from `now` does not fit.
    pub fn decide(&self, stored: Option<Window>, now: Millis, quantity: i64) -> Result<Decision<Window>, TooLong> {
        let fresh_end = end_of(now, self.period)?;
        let block_end = self.block.map(|block| end_of(now, block)).transpose()?;
        let current = stored.filter(|window| window.end.is_none_or(|end| end > now));
        let count = current.map_or(0, |window| window.count);
        let end = current.map(|window| self.bounded_end(window, fresh_end, block_end));
        let untouched = match (current, end) {
            (Some(window), Some(_)) if window.end != end => Next::Store(Window { count, end }),
            _ => Next::Keep,
        };

        let (limited, can_pass, count, end, next) = if quantity > self.limit {
            (true, false, count, end, untouched)
        } else if quantity > 0 {
            match count.checked_add(quantity).filter(|&sum| sum <= self.limit) {
                Some(sum) => {
                    let end = end.or(Some(fresh_end));
                    (false, true, sum, end, Next::Store(Window { count: sum, end }))
                }
                None => match block_end {
                    // The first call beyond the limit starts the block; later calls do not change it.
                    Some(shut) if count <= self.limit => {
                        let (count, end) = (self.limit + 1, end.max(Some(shut)));
                        (true, true, count, end, Next::Store(Window { count, end }))
                    }
                    _ => (true, true, count, end, untouched),
                },
            }
        } else if quantity == 0 {
            let next = if current.is_some_and(|window| window.end.is_none()) { untouched } else { Next::Keep };
            (false, true, count, end, next)
        } else if self.is_block(count) {
            (false, true, count, end, untouched)
        } else {
            let left = count.saturating_add(quantity).max(0);
            let next = match stored {
                None => Next::Keep,
                Some(_) if left == 0 => Next::Clear,
                Some(_) => Next::Store(Window { count: left, end }),
            };
            (false, true, left, end.filter(|_| left > 0), next)
        };

        let reset_after = Millis(end.map_or(0, |end| end.0 - now.0)).nanos();
        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: self.limit.saturating_sub(count).max(0),
            retry_after: (limited && can_pass).then_some(reset_after),
            reset_after,
        };
        Ok(Decision { answer, next })
    }

    fn is_block(&self, count: i64) -> bool {
        count == self.limit + 1 || (self.block.is_some() && count > self.limit)
    }

    /// When a stored window ends, no later than a new one, or a block, would.
    fn bounded_end(&self, window: Window, fresh_end: Millis, block_end: Option<Millis>) -> Millis {
        let latest = match block_end {
            Some(block_end) if self.is_block(window.count) => fresh_end.max(block_end),
            // A block that another call started: only its end is stored, not its length.
            None if self.is_block(window.count) => window.end.unwrap_or(fresh_end),
            _ => fresh_end,
        };
        window.end.map_or(fresh_end, |end| end.min(latest))
    }
}

fn end_of(now: Millis, period: Millis) -> Result<Millis, TooLong> {
    let end = now.0.checked_add(period.0).map(Millis);
    end.filter(|end| end.nanos() < Nanos(i64::MAX)).ok_or(TooLong)
}

#[cfg(test)]
mod tests;
