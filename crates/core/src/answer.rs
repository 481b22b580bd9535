//! What every limiter returns, the five integers of the rate-limiting commands, and what happens to its state.

use crate::time::Nanos;

/// The result of one call to a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the call was refused.
    pub limited: bool,
    /// Capacity: the most cells that one instant can take.
    pub limit: i64,
    /// Cells that one more call could take now, 0..=limit.
    pub remaining: i64,
    /// Span until this same call would pass. `None` when it was not limited, and when it can never pass.
    pub retry_after: Option<Nanos>,
    /// Span until the limiter is fully replenished.
    pub reset_after: Nanos,
}

/// What happens to a limiter's stored state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<S> {
    /// It is unchanged, or stays absent.
    Keep,
    /// This replaces it.
    Store(S),
    /// It is deleted: the limiter is fully replenished, which needs no state.
    Clear,
}

/// The result of a call, and the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<S> {
    /// What the call returns.
    pub answer: Answer,
    /// What happens to the stored state.
    pub next: Next<S>,
}

/// An instant or a span does not fit in 2⁶³ − 1 ns: it would end after the year 2262.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// The unit of the two spans of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Whole seconds, the default.
    Seconds,
    /// Milliseconds, the option `MS`.
    Millis,
}

impl Unit {
    /// A span in this unit, rounded up.
    pub fn round_up(self, span: Nanos) -> i64 {
        match self {
            Self::Seconds => span.ceil_seconds(),
            Self::Millis => span.ceil_millis().0,
        }
    }
}

impl Answer {
    /// The five integers of the reply: limited, limit, remaining, retry_after (-1 for `None`), reset_after. Spans are
    /// rounded up, so that a client that waits `retry_after` is never refused for being early.
    pub fn integers(&self, unit: Unit) -> [i64; 5] {
        let retry_after = self.retry_after.map_or(-1, |span| unit.round_up(span));
        [i64::from(self.limited), self.limit, self.remaining, retry_after, unit.round_up(self.reset_after)]
    }
}
