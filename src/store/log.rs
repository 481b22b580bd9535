//! A sliding log's state: a sorted set with one member for each taken cell, its time in microseconds the score. Members
//! are named `<time>-<number>`, so that cells of the same microsecond are as many members. A set with members that are
//! named otherwise is another program's.

use redis_meter_core::answer::Next;
use redis_meter_core::layout::Cell;
use redis_meter_core::log::{Cells, Policy, Update as LogUpdate};
use redis_meter_core::time::Micros;

use crate::server::{
    Access, Change, Context, Effect, Error, Key, Order, OwnedStr, ReadOnly, Shown, SortedSet, Str, Writable, effects,
};

use super::expiry;

/// The most cells that a call that takes fewer trims, and the most future cells that are moved to now.
const MOST_MOVED: usize = 256;

/// A log's key, open; the times of its oldest and newest cell.
pub(crate) struct StoredLog<'a, A = ReadOnly> {
    key: Key<'a, SortedSet, A>,
    ends: Option<(Micros, Micros)>,
}

impl<'a, A: Access> StoredLog<'a, A> {
    /// Opens the limiter `name`.
    ///
    /// # Errors
    /// The key is no sorted set, or one whose oldest or newest member is no cell.
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        let key: Key<'a, SortedSet, A> = Key::open(ctx, name)?;
        let end = |order| key.first(order).map(|(member, score)| time_of(name, &member, score)).transpose();
        let ends = end(Order::Ascending)?.zip(end(Order::Descending)?);
        Ok(Self { key, ends })
    }
}

impl<'a> StoredLog<'a, Writable> {
    /// Leaves the state that a decision at `now` asks for. A state that stays, but has no expiry, is given one.
    ///
    /// # Errors
    /// A member that would be moved or removed is no cell; nothing has been changed.
    pub(crate) fn save(self, next: Next<LogUpdate>, now: Micros, policy: &Policy) -> Result<Option<Change<'a>>, Error> {
        let needed = |newest: Micros| policy.leaves_at(newest.min(now));
        let (trim, removed, cells) = match next {
            Next::Keep => {
                let Some((_, newest)) = self.ends.filter(|_| self.key.expiry().is_none()) else { return Ok(None) };
                let expiry = expiry::due(None, needed(newest).max(now.nanos()), policy.period);
                return Ok(self.key.change(effects([expiry.map(|at| Effect::Expire(Some(at)))])));
            }
            Next::Clear => return Ok(self.key.change(effects([Some(Effect::Delete)]))),
            Next::Store(LogUpdate::Repair) => (vec![], vec![], 0),
            Next::Store(LogUpdate::Return { cells }) => {
                (vec![], self.members(Order::Descending, None, size(cells))?, 0)
            }
            Next::Store(LogUpdate::Take { out_of_view, cells }) => {
                // At least as many leave as are added, if as many are out of view: so the set never outgrows the limit,
                // and no call pays for all that have left since the last one.
                let most = size(out_of_view).min(size(cells).max(MOST_MOVED));
                (self.members(Order::Ascending, None, most)?, vec![], size(cells))
            }
        };
        // Cells that lie ahead are taken again, now.
        let early = match self.ends {
            Some((_, newest)) if newest > now => {
                self.members(Order::Descending, Some(Micros(now.0 + 1)), MOST_MOVED)?
            }
            _ => vec![],
        };
        let added = self.new_names(now, cells + early.len());
        let newest = if !added.is_empty() {
            Some(now)
        } else if removed.is_empty() {
            self.ends.map(|(_, newest)| newest)
        } else {
            self.nth_newest(i64::try_from(removed.len()).unwrap_or(0) + 1)
        };
        let expiry = newest.and_then(|newest| expiry::due(self.key.expiry(), needed(newest), policy.period));
        let removed: Vec<OwnedStr> = removed.into_iter().chain(early).collect();
        // What is added comes first: a set that is empty for a moment would lose its expiry.
        Ok(self.key.change(effects([
            some(added).map(|members| Effect::SortedSetAddNew(now.0, members)),
            some(removed).map(Effect::SortedSetRemove),
            some(trim).map(Effect::SortedSetTrim),
            expiry.map(|at| Effect::Expire(Some(at))),
        ])))
    }

    /// Up to `most` members in this order, with times from `from` on.
    fn members(&self, order: Order, from: Option<Micros>, most: usize) -> Result<Vec<OwnedStr>, Error> {
        let (name, mut members, mut foreign) = (self.key.name(), Vec::new(), None);
        if most == 0 {
            return Ok(members);
        }
        let min = from.map_or(f64::NEG_INFINITY, score);
        self.key.each_scored(order, min, f64::INFINITY, |member, score| {
            match time_of(name, &member, score) {
                Ok(_) => members.push(member),
                Err(error) => foreign = Some(error),
            }
            foreign.is_none() && members.len() < most
        });
        foreign.map_or(Ok(members), Err)
    }

    /// The names of `cells` new members of `now`. Most often there is no other of that microsecond; in a transaction,
    /// whose time stands still, the numbers go on from the last one's.
    fn new_names(&self, now: Micros, cells: usize) -> Vec<OwnedStr> {
        let mut next = 0u64;
        if self.ends.is_some_and(|(_, newest)| newest >= now) {
            self.key.each_scored(Order::Descending, score(now), score(now), |member, _| {
                next = Cell::parse(&member).filter(|cell| cell.time == now).map_or(next, |cell| cell.number + 1);
                next == 0
            });
        }
        (next..).take(cells).map(|number| name(now, number)).collect()
    }
}

impl<A: Access> Cells for StoredLog<'_, A> {
    fn count(&self) -> i64 {
        i64::try_from(self.key.len()).unwrap_or(i64::MAX)
    }

    fn count_up_to(&self, time: Micros) -> i64 {
        match self.ends {
            Some((oldest, _)) if oldest <= time => i64::try_from(self.key.count_up_to(time.0)).unwrap_or(i64::MAX),
            _ => 0,
        }
    }

    fn nth_newest(&self, nth: i64) -> Option<Micros> {
        if nth == 1 {
            return self.ends.map(|(_, newest)| newest);
        }
        let above = usize::try_from(nth).ok()?;
        self.key.score_at(self.key.len().checked_sub(above)?).map(time)
    }
}

fn size(cells: i64) -> usize {
    usize::try_from(cells).unwrap_or(0)
}

/// The members, if there are any.
fn some(members: Vec<OwnedStr>) -> Option<Vec<OwnedStr>> {
    Some(members).filter(|members| !members.is_empty())
}

/// The member of a cell.
fn name(time: Micros, number: u64) -> OwnedStr {
    OwnedStr::new(Cell { time, number }.member(&mut [0; 48]))
}

/// The time of a cell.
///
/// # Errors
/// It is none.
fn time_of(key: Str<'_>, member: &[u8], score: f64) -> Result<Micros, Error> {
    let cell = Cell::parse(member).filter(|cell| cell.has_score(score));
    cell.map(|cell| cell.time).ok_or_else(|| foreign(key, member))
}

#[cold]
fn foreign(key: Str<'_>, member: &[u8]) -> Error {
    Error::refused(format!(
        "key {} holds a sorted set whose member {} CELL.LOG did not write: use another key, or DEL this one",
        Shown(key.bytes()),
        Shown(member),
    ))
}

#[expect(clippy::cast_precision_loss, reason = "microseconds until the year 2255 are below 2^53")]
fn score(time: Micros) -> f64 {
    time.0 as f64
}

/// A score as other programs may have written it: what is no time at all is as far off as can be.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn time(score: f64) -> Micros {
    Micros(score as i64)
}
