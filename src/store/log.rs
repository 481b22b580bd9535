//! A sliding log's state: a sorted set with one member for each taken cell, its time in microseconds the score. Members
//! are named `<time>-<number>`, so that cells of the same microsecond are as many members.

use crate::server::{Access, Context, Effect, Error, Key, Order, OwnedStr, SortedSet, Str};
use redis_meter_core::answer::Next;
use redis_meter_core::log::{Cells, Change, Policy};
use redis_meter_core::number::format_integer;
use redis_meter_core::time::Micros;

use super::expiry;

/// At most so many cells are trimmed by a call that takes fewer.
const MOST_TRIMMED: i64 = 256;

/// A log's key, open.
pub(crate) struct StoredLog<'a> {
    key: Key<'a, SortedSet>,
}

impl<'a> StoredLog<'a> {
    /// Opens the limiter `name`.
    ///
    /// # Errors
    /// The key is no sorted set.
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>, access: Access) -> Result<Self, Error> {
        Ok(Self { key: Key::open(ctx, name, access)? })
    }

    /// Leaves the state that a decision at `now` asks for. A state that stays, but has no expiry, is given one.
    pub(crate) fn save(self, next: Next<Change>, now: Micros, policy: &Policy) {
        let needed = |newest: Micros| policy.leaves_at(newest.min(now));
        let (trim, removed, added) = match next {
            Next::Keep => {
                if self.key.exists()
                    && self.key.expiry().is_none()
                    && let Some(newest) = self.nth_newest(1)
                {
                    let expiry = expiry::due(None, needed(newest).max(now.nanos()), policy.period);
                    self.key.commit(&[expiry.map(Effect::ExpireAt)]);
                }
                return;
            }
            Next::Clear => return self.key.commit(&[Some(Effect::Delete)]),
            Next::Store(Change::Repair) => (None, vec![], vec![]),
            Next::Store(Change::Return { cells }) => (None, self.newest(cells), vec![]),
            Next::Store(Change::Take { out_of_view, cells }) => {
                // At least as many leave as are added, if as many are out of view: so the set never outgrows the limit,
                // and no call pays for all that have left since the last one.
                let most = cells.max(MOST_TRIMMED);
                let trim = usize::try_from(out_of_view.min(most)).ok().filter(|&n| n > 0);
                (trim, vec![], self.add(now, cells))
            }
        };
        let early = self.after(now);
        let newest =
            if added.is_empty() { self.nth_newest(i64::try_from(removed.len()).unwrap_or(0) + 1) } else { Some(now) };
        let expiry = newest.and_then(|newest| expiry::due(self.key.expiry(), needed(newest), policy.period));
        // What is added comes first: a set that is empty for a moment would lose its expiry.
        self.key.commit(&[
            any(&added).map(|members| Effect::SortedSetAdded(now.0, members)),
            any(&early).map(|members| Effect::SortedSetAdd(now.0, members)),
            any(&removed).map(Effect::SortedSetRemove),
            trim.map(Effect::SortedSetTrim),
            expiry.map(Effect::ExpireAt),
        ]);
    }

    /// The members that lie after `now`.
    fn after(&self, now: Micros) -> Vec<OwnedStr> {
        let mut members = Vec::new();
        self.key.each_scored(Order::Ascending, score(Micros(now.0 + 1)), f64::INFINITY, |member, _| {
            members.push(member);
            true
        });
        members
    }

    fn newest(&self, cells: i64) -> Vec<OwnedStr> {
        let mut members = Vec::new();
        let most = usize::try_from(cells).unwrap_or(usize::MAX);
        self.key.each_scored(Order::Descending, f64::NEG_INFINITY, f64::INFINITY, |member, _| {
            members.push(member);
            members.len() < most
        });
        members
    }

    /// Adds so many members of `now`, none of which was there. Most often there is no other of that microsecond; in a
    /// transaction, whose time stands still, the numbers go on from the last one's.
    fn add(&self, now: Micros, cells: i64) -> Vec<OwnedStr> {
        let mut next = 0u64;
        self.key.each_scored(Order::Descending, score(now), score(now), |member, _| {
            if let Some(number) = number_in(&member, now) {
                next = number + 1;
            }
            next == 0
        });
        let cells = usize::try_from(cells).unwrap_or(0);
        let mut added = Vec::with_capacity(cells);
        while added.len() < cells {
            let name = name(now, next);
            next += 1;
            if self.key.add_new(now.0, name.as_str()) {
                added.push(name);
            }
        }
        added
    }
}

impl Cells for StoredLog<'_> {
    fn count(&self) -> i64 {
        i64::try_from(self.key.len()).unwrap_or(i64::MAX)
    }

    fn count_up_to(&self, time: Micros) -> i64 {
        i64::try_from(self.key.count_up_to(time.0)).unwrap_or(i64::MAX)
    }

    fn nth_newest(&self, nth: i64) -> Option<Micros> {
        let above = usize::try_from(nth).ok()?;
        self.key.score_at(self.key.len().checked_sub(above)?).map(time)
    }
}

/// The members, if there are any.
fn any(members: &[OwnedStr]) -> Option<&[Str<'_>]> {
    Some(OwnedStr::as_strs(members)).filter(|members| !members.is_empty())
}

/// The member `<time>-<number>`. The width of the number keeps the order of members that of their numbers.
fn name(time: Micros, number: u64) -> OwnedStr {
    const WIDTH: usize = 6;
    let (mut time_digits, mut number_digits) = ([0; 20], [0; 20]);
    let time = format_integer(time.0, &mut time_digits);
    let number = format_integer(number.cast_signed(), &mut number_digits);
    let mut name = [b'0'; 48];
    name[..time.len()].copy_from_slice(time);
    name[time.len()] = b'-';
    let end = time.len() + 1 + number.len().max(WIDTH);
    name[end - number.len()..end].copy_from_slice(number);
    OwnedStr::new(&name[..end])
}

/// The number in a member of this time.
fn number_in(member: &[u8], time: Micros) -> Option<u64> {
    let number = member.strip_prefix(format_integer(time.0, &mut [0; 20]))?.strip_prefix(b"-")?;
    std::str::from_utf8(number).ok()?.parse().ok().filter(|&number: &u64| number < u64::MAX / 2)
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
