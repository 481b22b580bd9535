//! The sliding-window counter: two counts estimate the cells of the last period. Windows are aligned to multiples of
//! the period since the epoch; the estimate is the current window's count plus the previous one's times the share of it
//! that still overlaps the last period, rounded up.
//!
//! The estimate is exact if the previous window's cells came evenly. If they all came at its end, a period may have
//! more cells than the limit: by at most the previous count times the share of it that lies further back, so less than
//! the limit again.

use crate::time::Nanos;

use super::answer::{Answer, Decision, Next, TooLong};

/// The limit of a period.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// 1..=2⁶³ − 1.
    pub limit: i64,
    /// The length of the window; > 0.
    pub period: Nanos,
}

/// Two windows: the one that began at `start`, and the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slide {
    /// When the current window began.
    pub start: Nanos,
    /// The length of the window; > 0.
    pub period: Nanos,
    /// The count of the current window.
    pub current: i64,
    /// The count of the window before it.
    pub previous: i64,
}

impl Policy {
    /// The result of a call for `quantity` cells at `now`: positive takes, 0 is a dry run, negative is a refund. State
    /// of another period, or of a window that has not begun, is carried into the current window.
    ///
    /// # Errors
    /// If two periods from `now` do not fit.
    pub fn decide(&self, stored: Option<Slide>, now: Nanos, quantity: i64) -> Result<Decision<Slide>, TooLong> {
        self.period.0.checked_mul(2).and_then(|two| now.0.checked_add(two)).ok_or(TooLong)?;
        let slide = self.at(stored, now);
        let estimate = slide.estimate(now);
        // State that would count for longer than any state of this period could is cut at once, so that a clock that
        // has gone back, or a period that was longer, does not refuse a call that `retry_after` has promised to pass.
        let reach = Nanos(slide.start.0 + 2 * self.period.0);
        let untouched = match stored {
            Some(stored) if stored.start > now || stored.end() > reach => Next::Store(slide),
            _ => Next::Keep,
        };
        // If nothing is stored, the old state continues with its own period: that is what a later call will read.
        let kept = match (stored, untouched) {
            (Some(stored), Next::Keep) => stored,
            _ => slide,
        };

        let (limited, retry_after, after, next) = if quantity > self.limit {
            (true, None, kept, untouched)
        } else if quantity > 0 {
            match estimate.checked_add(quantity).filter(|&sum| sum <= self.limit) {
                // The estimate fits, so the count that is a part of it does.
                Some(_) => {
                    let after = Slide { current: slide.current + quantity, ..slide };
                    (false, None, after, Next::Store(after))
                }
                None => (true, Some(Nanos(self.passes_at(kept, quantity) - now.0)), kept, untouched),
            }
        } else if quantity == 0 {
            (false, None, kept, Next::Keep)
        } else {
            let after = slide.returned(quantity.unsigned_abs(), now);
            let next = match stored {
                None => Next::Keep,
                Some(_) if after.estimate(now) == 0 => Next::Clear,
                Some(_) => Next::Store(after),
            };
            (false, None, after, next)
        };

        let answer = Answer {
            limited,
            limit: self.limit,
            remaining: self.limit.saturating_sub(after.estimate(now)).max(0),
            retry_after,
            reset_after: Nanos((after.end().0 - now.0).max(0)),
        };
        Ok(Decision { answer, next })
    }

    /// The stored state as the window of `now` has it.
    fn at(&self, stored: Option<Slide>, now: Nanos) -> Slide {
        let start = Nanos(now.0 - now.0.rem_euclid(self.period.0));
        let empty = Slide { start, period: self.period, current: 0, previous: 0 };
        let Some(stored) = stored else { return empty };
        if stored.start > now {
            // The clock has gone back: cells counted then count as taken now.
            let current = stored.current.saturating_add(stored.previous).min(self.limit);
            return Slide { current, ..empty };
        }
        if stored.period != self.period || stored.start.0 % self.period.0 != 0 {
            let current = stored.estimate(now).min(self.limit);
            return Slide { current, ..empty };
        }
        match start.0 - stored.start.0 {
            0 => stored,
            ahead if ahead == self.period.0 => Slide { previous: stored.current, ..empty },
            _ => empty,
        }
    }

    /// The first instant at which `quantity` (≤ limit) more cells fit, if no other call takes any until then. There is
    /// one in this window if the current count alone leaves room; else in the next one, where the current count is the
    /// previous.
    fn passes_at(&self, slide: Slide, quantity: i64) -> i64 {
        let (room, period) = (self.limit - quantity, slide.period.0);
        let first_share_within = |start: i64, count: i64, room: i64| {
            let in_view = i128::from(room) * i128::from(period) / i128::from(count.max(1));
            start.saturating_add(period) - i64::try_from(in_view).unwrap_or(i64::MAX).min(period)
        };
        if slide.current <= room {
            first_share_within(slide.start.0, slide.previous, room - slide.current)
        } else {
            first_share_within(slide.start.0.saturating_add(period), slide.current, room)
        }
    }
}

impl Slide {
    /// The estimate of the cells of the last period, rounded up.
    fn estimate(&self, now: Nanos) -> i64 {
        let Self { start, period, current, previous } = *self;
        // Wide enough for a state of an older window, whose counts do not count any more.
        let elapsed = i128::from(now.0) - i128::from(start.0);
        let period = i128::from(period.0);
        let (current_in_view, previous_in_view) =
            if elapsed <= period { (period, period - elapsed.max(0)) } else { ((2 * period - elapsed).max(0), 0) };
        let share = |count: i64, in_view: i128| (i128::from(count) * in_view + period - 1) / period;
        let estimate = share(current, current_in_view) + share(previous, previous_in_view);
        i64::try_from(estimate).unwrap_or(i64::MAX)
    }

    /// The state with up to `cells` fewer: first from the current window, then from the share of the previous one.
    fn returned(self, cells: u64, now: Nanos) -> Self {
        let cells = i64::try_from(cells).unwrap_or(i64::MAX);
        let from_current = cells.min(self.current);
        let without = Self { current: self.current - from_current, ..self };
        if without.current > 0 || from_current == cells {
            return without;
        }
        let left = (without.estimate(now) - (cells - from_current)).max(0);
        let in_view = i128::from(self.period.0) - (i128::from(now.0) - i128::from(self.start.0));
        // The most that does not round up to more than `left`.
        let previous = i128::from(left) * i128::from(self.period.0) / in_view.max(1);
        Self { previous: i64::try_from(previous).unwrap_or(i64::MAX).min(self.previous), ..without }
    }

    /// When its estimate has become 0.
    pub fn end(&self) -> Nanos {
        let periods = if self.current > 0 { 2 } else { i64::from(self.previous > 0) };
        Nanos(self.start.0.saturating_add(self.period.0.saturating_mul(periods)))
    }
}

#[cfg(test)]
mod tests;
