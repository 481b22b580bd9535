//! The leases of a key: a sorted set of holders, the score the end of the holder's lease in milliseconds. A set with any
//! other score is somebody else's.

use std::cell::Cell;

use redis_meter_core::answer::Next;
use redis_meter_core::layout::lease_end;
use redis_meter_core::lease::{Grant, Leases, Release};
use redis_meter_core::time::Millis;

use crate::server::{
    Access, Change, Context, Counted, Effect, Error, Key, Order, OwnedStr, ReadOnly, Shown, SortedSet, Str, Writable,
    effects,
};

/// At most so many leases that are over are removed by a call: they take some ten milliseconds.
const MOST_REMOVED: usize = 10_000;

/// A key's leases, open.
pub(crate) struct StoredLeases<'a, A = ReadOnly> {
    key: Key<'a, SortedSet, A>,
    /// A score that was read and is no end of a lease.
    foreign: Cell<Option<f64>>,
}

impl<'a, A: Access> StoredLeases<'a, A> {
    /// Opens the leases at `name`.
    ///
    /// # Errors
    /// The key is no sorted set, or the first or the last score in it is no end of a lease.
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        let key: Key<'a, SortedSet, A> = Key::open(ctx, name)?;
        for order in [Order::Ascending, Order::Descending] {
            if let Some((_, score)) = key.first(order) {
                lease_end(score).ok_or_else(|| foreign(name, score))?;
            }
        }
        Ok(Self { key, foreign: Cell::new(None) })
    }

    /// When the lease of `holder` ends, or has ended.
    ///
    /// # Errors
    /// Its score is no end of a lease.
    pub(crate) fn end_of(&self, holder: Str<'_>) -> Result<Option<Millis>, Error> {
        let Some(score) = self.key.score(holder) else { return Ok(None) };
        lease_end(score).map(Some).ok_or_else(|| foreign(self.key.name(), score))
    }

    /// To be called when a decision has been made.
    ///
    /// # Errors
    /// A score that was read for it is no end of a lease.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.foreign.get().map_or(Ok(()), |score| Err(foreign(self.key.name(), score)))
    }

    fn nth(&self, rank: Option<usize>) -> Option<Millis> {
        let score = self.key.score_at(rank?)?;
        let end = lease_end(score);
        if end.is_none() {
            self.foreign.set(Some(score));
        }
        end
    }

    /// Up to `most` leases that end first, without that of `holder`.
    ///
    /// # Errors
    /// A score among them is no end of a lease.
    fn first(&self, most: usize, but: Option<Str<'_>>) -> Result<Vec<OwnedStr>, Error> {
        let (mut members, mut foreign_score, mut left) = (Vec::new(), None, most);
        if most == 0 {
            return Ok(members);
        }
        self.key.each_scored(Order::Ascending, f64::NEG_INFINITY, f64::INFINITY, |member, score| {
            if lease_end(score).is_none() {
                foreign_score = Some(score);
                return false;
            }
            if but.is_none_or(|but| *member != *but.bytes()) {
                members.push(member);
            }
            left -= 1;
            left > 0
        });
        foreign_score.map_or(Ok(members), |score| Err(foreign(self.key.name(), score)))
    }
}

impl<'a> StoredLeases<'a, Writable> {
    /// Leaves the state that a decision asks for; `own` is the end that is stored for the holder.
    ///
    /// # Errors
    /// A member that would be removed is no lease; nothing has been changed.
    pub(crate) fn grant(
        self,
        holder: Str<'a>,
        own: Option<Millis>,
        next: Next<Grant>,
    ) -> Result<Option<Change<'a>>, Error> {
        let Next::Store(Grant { over, end, expire_at }) = next else { return Ok(None) };
        let over = self.first(size(over).min(MOST_REMOVED), Some(holder))?;
        let stored = match own {
            None => Some(Effect::SortedSetAddNew(end.0, vec![OwnedStr::new(holder.bytes())])),
            Some(own) if own == end => None,
            Some(own) => Some(Effect::SortedSetCounts(vec![Counted { member: holder, before: own.0, after: end.0 }])),
        };
        let expire_at = Some(expire_at).filter(|&at| self.key.expiry() != Some(at));
        // What is stored comes first: the others are then those that end first, and the set is never empty.
        Ok(self.key.change(effects([
            stored,
            Some(over).filter(|over| !over.is_empty()).map(Effect::SortedSetTrim),
            expire_at.map(|at| Effect::Expire(Some(at))),
        ])))
    }

    /// Leaves the state that a release asks for.
    ///
    /// # Errors
    /// A member that would be removed is no lease; nothing has been changed.
    pub(crate) fn release(self, holder: Str<'a>, release: Release) -> Result<Option<Change<'a>>, Error> {
        match release {
            Release::Absent => Ok(None),
            Release::Clear => {
                self.first(self.key.len(), None)?;
                Ok(self.key.change(effects([Some(Effect::Delete)])))
            }
            Release::Remove { expire_at } => {
                let expire_at = Some(expire_at).filter(|&at| self.key.expiry() != Some(at));
                Ok(self.key.change(effects([
                    Some(Effect::SortedSetRemove(vec![OwnedStr::new(holder.bytes())])),
                    expire_at.map(|at| Effect::Expire(Some(at))),
                ])))
            }
        }
    }
}

impl<A: Access> Leases for StoredLeases<'_, A> {
    fn count(&self) -> i64 {
        i64::try_from(self.key.len()).unwrap_or(i64::MAX)
    }

    fn count_up_to(&self, time: Millis) -> i64 {
        i64::try_from(self.key.count_up_to(time.0)).unwrap_or(i64::MAX)
    }

    fn nth_first(&self, nth: i64) -> Option<Millis> {
        self.nth(size(nth).checked_sub(1))
    }

    fn nth_last(&self, nth: i64) -> Option<Millis> {
        self.nth(self.key.len().checked_sub(size(nth)))
    }
}

fn size(count: i64) -> usize {
    usize::try_from(count).unwrap_or(0)
}

#[cold]
fn foreign(key: Str<'_>, score: f64) -> Error {
    Error::refused(format!(
        "key {} holds a sorted set with the score {score}, which CELL.LEASE did not write: use another key, or DEL this one",
        Shown(key.bytes()),
    ))
}
