//! The lease: how many may be at work at once. Each holder has a place until its lease ends; who crashes frees its place
//! by the end of it, and who is not done yet renews it.

use crate::time::{Millis, Nanos};

use super::answer::{Answer, Decision, Next, TooLong};

/// The longest lease: 366 days.
pub const MAX_TTL: Millis = Millis(366 * crate::calendar::MILLIS_PER_DAY);

/// How many may hold a lease at once, and for how long it is given.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// ≥ 1.
    pub limit: i64,
    /// For how long a lease is given; 1..=[`MAX_TTL`].
    pub ttl: Millis,
}

/// The leases of a key, by the time they end. A lease is over at the millisecond of its end.
pub trait Leases {
    /// How many there are, with those that are over.
    fn count(&self) -> i64;
    /// How many end at `time` or before.
    fn count_up_to(&self, time: Millis) -> i64;
    /// The end of the `nth` (from 1) to end.
    fn nth_first(&self, nth: i64) -> Option<Millis>;
    /// The end of the `nth` (from 1) to end, counted from the last.
    fn nth_last(&self, nth: i64) -> Option<Millis>;
}

/// A lease that is given or renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// So many of the first to end are over and are removed, before the holder's lease is stored.
    pub over: i64,
    /// The end of the holder's lease.
    pub end: Millis,
    /// When the last lease ends, and with it the key.
    pub expire_at: Millis,
}

/// What becomes of the leases when a holder gives its place back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It has no place (any more); nothing changes.
    Absent,
    /// Its lease is removed, and the key expires with the last that is left.
    Remove {
        /// When the last of the others ends.
        expire_at: Millis,
    },
    /// It was the last one: no key is left.
    Clear,
}

impl Policy {
    /// The answer to a holder without a lease that gets no place at `now`: because none is free, or, where one is, because
    /// others come before it. Then it is told to ask again at once.
    pub fn refuse(&self, leases: &impl Leases, now: Millis) -> Answer {
        let over = leases.count_up_to(now);
        let live = leases.count() - over;
        // As many must end as are too many, and one.
        let frees = (live >= self.limit).then(|| leases.nth_first(over + live - self.limit + 1)).flatten();
        Answer {
            limited: true,
            limit: self.limit,
            remaining: 0,
            retry_after: Some(frees.map_or(Nanos(1), |end| span(now, end))),
            reset_after: leases.nth_last(1).filter(|&last| last > now).map_or(Nanos(0), |last| span(now, last)),
        }
    }

    /// The answer to a holder that asks for a place at `now`, and whose lease ends at `own` if it has one. One that is not
    /// over is renewed, to an end that may be earlier, even where a lowered limit would give no more places.
    ///
    /// A span of more than 292 years, which only a foreign end can give, is answered as that.
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

/// What becomes of the leases when a holder whose lease ends at `own`, if it has one, gives it back at `now`.
pub fn release(leases: &impl Leases, own: Option<Millis>, now: Millis) -> Release {
    let Some(own) = own.filter(|&own| own > now) else { return Release::Absent };
    last_other(leases, Some(own), now).map_or(Release::Clear, |expire_at| Release::Remove { expire_at })
}

/// When the last lease ends but for one that ends at `own`; `None` if no other is left at `now`.
fn last_other(leases: &impl Leases, own: Option<Millis>, now: Millis) -> Option<Millis> {
    let last = leases.nth_last(1);
    let last = if own.is_some() && last == own { leases.nth_last(2) } else { last };
    last.filter(|&last| last > now)
}

#[cfg(test)]
mod tests;
