//! The lease: a limit on concurrency. Each holder has a place until its lease ends: the place of a holder that crashes
//! is freed at the end of its lease, and a holder that needs more time renews it.

use crate::time::{Millis, Nanos};

use super::answer::{Answer, Decision, Next, TooLong};

/// The longest lease: 366 days.
pub const MAX_TTL: Millis = Millis(366 * crate::calendar::MILLIS_PER_DAY);

/// The most leases at once, and the length of a lease.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// ≥ 1.
    pub limit: i64,
    /// The length of a lease; 1..=[`MAX_TTL`].
    pub ttl: Millis,
}

/// The leases of a key, ordered by their ends. A lease is over at the millisecond of its end.
pub trait Leases {
    /// The number of leases, including those that are over.
    fn count(&self) -> i64;
    /// The number of leases that end at `time` or before.
    fn count_up_to(&self, time: Millis) -> i64;
    /// The end of the `nth` (from 1) to end.
    fn nth_first(&self, nth: i64) -> Option<Millis>;
    /// The end of the `nth` (from 1) to end, counted from the last.
    fn nth_last(&self, nth: i64) -> Option<Millis>;
}

/// A lease that is granted or renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The number of leases that are over and are removed, the first to end, before the holder's lease is stored.
    pub over: i64,
    /// The end of the holder's lease.
    pub end: Millis,
    /// When the last lease ends, and with it the key.
    pub expire_at: Millis,
}

/// What happens to the leases when a holder releases its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The holder has no place (any more); nothing changes.
    Absent,
    /// Its lease is removed, and the key expires with the last remaining one.
    Remove {
        /// The end of the last of the others.
        expire_at: Millis,
    },
    /// It was the last lease: the key is deleted.
    Clear,
}

impl Policy {
    /// The answer to a holder without a lease that gets no place at `now`: because none is free, or because others come
    /// before it. In the second case `retry_after` is the shortest span.
    pub fn refuse(&self, leases: &impl Leases, now: Millis) -> Answer {
        let over = leases.count_up_to(now);
        let live = leases.count() - over;
        // The leases beyond the limit must end, and one more.
        let frees = (live >= self.limit).then(|| leases.nth_first(over + live - self.limit + 1)).flatten();
        Answer {
            limited: true,
            limit: self.limit,
            remaining: 0,
            retry_after: Some(frees.map_or(Nanos(1), |end| span(now, end))),
            reset_after: leases.nth_last(1).filter(|&last| last > now).map_or(Nanos(0), |last| span(now, last)),
        }
    }

    /// The answer to a holder that asks for a place at `now`, and whose lease ends at `own` if it has one. One that is
    /// not over is renewed, to an end that may be earlier, even if a lowered limit leaves no free place.
    ///
    /// A span of more than 292 years, which only an end that another program stored can cause, is returned as 292
    /// years.
    ///
    /// # Errors
    /// If the end of a lease from `now` does not fit.
    pub fn decide(&self, leases: &impl Leases, own: Option<Millis>, now: Millis) -> Result<Decision<Grant>, TooLong> {
        let end =
            now.0.checked_add(self.ttl.0).map(Millis).filter(|end| end.nanos() < Nanos(i64::MAX)).ok_or(TooLong)?;
        let over = leases.count_up_to(now);
        let live = leases.count() - over;
        let renewed = own.filter(|&own| own > now);
        let others = live - i64::from(renewed.is_some());
        if renewed.is_none() && others >= self.limit {
            return Ok(Decision { answer: self.refuse(leases, now), next: Next::Keep });
        }

        let last_other = last_other(leases, renewed, now);
        let expire_at = last_other.map_or(end, |last| last.max(end));
        let answer = Answer {
            limited: false,
            limit: self.limit,
            remaining: (self.limit - others - 1).max(0),
            retry_after: None,
            reset_after: span(now, expire_at),
        };
        Ok(Decision { answer, next: Next::Store(Grant { over, end, expire_at }) })
    }
}

/// The span from `now` to `until`.
fn span(now: Millis, until: Millis) -> Nanos {
    Millis(until.0.saturating_sub(now.0)).nanos()
}

/// What happens to the leases when a holder, whose lease ends at `own` if it has one, releases it at `now`.
pub fn release(leases: &impl Leases, own: Option<Millis>, now: Millis) -> Release {
    let Some(own) = own.filter(|&own| own > now) else { return Release::Absent };
    last_other(leases, Some(own), now).map_or(Release::Clear, |expire_at| Release::Remove { expire_at })
}

/// The end of the last lease other than one that ends at `own`; `None` if no other is left at `now`.
fn last_other(leases: &impl Leases, own: Option<Millis>, now: Millis) -> Option<Millis> {
    let last = leases.nth_last(1);
    let last = if own.is_some() && last == own { leases.nth_last(2) } else { last };
    last.filter(|&last| last > now)
}

#[cfg(test)]
mod tests;
