//! The keys that a day of a meter consists of: its hash, the sets of its breakdown, and its HyperLogLog. The ids of its
//! events are not among them: they outlive the day.

use std::collections::BTreeSet;
use std::mem;

use crate::server::{Any, Context, Effect, Error, Hash, Key, OwnedStr, SortedSet, Str, Text};
use redis_meter_core::calendar::Day;
use redis_meter_core::time::Millis;

use super::day;
use super::meter::{Meter, day_rest, unique_rest};
use super::path::{self, MOST_LEVELS};

/// A day that is held.
pub(crate) struct HeldDay {
    pub(crate) day: Day,
    /// The count of its hash.
    pub(crate) total: i64,
    /// The names of its keys, without `K:` before them.
    pub(crate) keys: Vec<Vec<u8>>,
}

/// Whether a day is held: whether anything is counted in it.
///
/// # Errors
/// [`Error::TryAgain`] if its keys may be elsewhere.
pub(crate) fn is_held(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<bool, Error> {
    let name = meter.day_key(day);
    Ok(Key::<Any>::read(ctx, name.as_str())?.exists() || has_breakdown(ctx, meter, day)?)
}

/// Whether a day has a breakdown.
///
/// # Errors
/// [`Error::TryAgain`] if it may be elsewhere.
pub(crate) fn has_breakdown(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<bool, Error> {
    let name = path::set_key(meter, day, &[]);
    Ok(meter.read::<Any>(ctx, &name)?.exists())
}

/// Finds the keys of days.
pub(crate) struct Finder<'a> {
    ctx: Context<'a>,
    meter: Meter<'a>,
    /// The keys of the day that is looked at.
    keys: Vec<Vec<u8>>,
    /// No key of this slot is on another node. Asked once: it stays so while a command runs.
    absence_is_sure: bool,
    /// The names of all sets of the meter, without `K:` before them, once they have been listed.
    listed: Option<BTreeSet<Vec<u8>>>,
}

/// Listing a key costs as much as looking up so many.
const LISTING_COST: u64 = 3;

impl<'a> Finder<'a> {
    pub(crate) fn new(ctx: Context<'a>, meter: Meter<'a>) -> Self {
        Self { ctx, meter, keys: Vec::new(), absence_is_sure: false, listed: None }
    }

    /// All keys of a day, if it is held.
    ///
    /// # Errors
    /// A key of another type, a count that is none, or [`Error::TryAgain`].
    pub(crate) fn find(&mut self, day: Day) -> Result<Option<HeldDay>, Error> {
        self.keys.clear();
        let rest = day_rest(day);
        let name = self.meter.rest_key(&rest);
        let counts = Key::<Hash>::read(self.ctx, name.as_str())?;
        let total = day::total(&counts)?.unwrap_or(0);
        self.note(counts.exists(), name.as_str(), &rest)?;
        self.find_set(&mut path::first_level(day), 1)?;
        let rest = unique_rest(day);
        let name = self.meter.rest_key(&rest);
        let ids = Key::<Text>::read(self.ctx, name.as_str())?.exists();
        self.note(ids, name.as_str(), &rest)?;
        let keys = mem::take(&mut self.keys);
        Ok((!keys.is_empty()).then_some(HeldDay { day, total, keys }))
    }

    fn note(&mut self, exists: bool, name: Str<'_>, rest: &[u8]) -> Result<(), Error> {
        if exists {
            self.keys.push(rest.to_vec());
        } else if !self.absence_is_sure {
            self.meter.ensure_absent(self.ctx, name)?;
            self.absence_is_sure = true;
        }
        Ok(())
    }

    /// Notes the set with this rest of a name, and those below its members. Any member may have one.
    fn find_set(&mut self, rest: &mut Vec<u8>, level: usize) -> Result<(), Error> {
        let name = self.meter.rest_key(rest);
        let set = Key::<SortedSet>::read(self.ctx, name.as_str())?;
        self.note(set.exists(), name.as_str(), rest)?;
        if level == MOST_LEVELS || !set.exists() {
            return Ok(());
        }
        let len = rest.len();
        // Of a set with many members in a database with fewer keys, the keys are looked through.
        if u64::try_from(set.len()).unwrap_or(u64::MAX) > LISTING_COST * self.ctx.database_size() {
            for part in self.listed_below(rest) {
                let member = path::decode(&part);
                if member.is_some_and(|member| set.score(OwnedStr::new(&member).as_str()).is_some()) {
                    rest.push(b':');
                    rest.extend(part);
                    self.find_set(rest, level + 1)?;
                    rest.truncate(len);
                }
            }
            return Ok(());
        }
        let mut outcome = Ok(());
        set.each(|member| {
            path::append(rest, member);
            outcome = self.find_set(rest, level + 1);
            rest.truncate(len);
            outcome.is_ok()
        });
        outcome
    }

    /// The last parts of the names of those keys that are one part longer than `rest`.
    fn listed_below(&mut self, rest: &[u8]) -> Vec<Vec<u8>> {
        let (ctx, meter) = (self.ctx, self.meter);
        let listed = self.listed.get_or_insert_with(|| {
            let mut listed = BTreeSet::new();
            let start = meter.rest_key(b"day:");
            let before = start.len() - b"day:".len();
            ctx.each_key(&mut |name| {
                if name.starts_with(&start) {
                    listed.insert(name[before..].to_vec());
                }
            });
            listed
        });
        let above = [rest, b":"].concat();
        let below = listed.range(above.clone()..).take_while(|name| name.starts_with(&above));
        below.map(|name| &name[above.len()..]).filter(|part| !part.contains(&b':')).map(<[u8]>::to_vec).collect()
    }
}

impl HeldDay {
    /// Deletes all of its keys.
    pub(crate) fn delete(&self, ctx: Context<'_>, meter: Meter<'_>) {
        for name in self.names(meter) {
            delete(ctx, &name);
        }
    }

    /// Makes all of its keys expire at this instant.
    pub(crate) fn expire_at(&self, ctx: Context<'_>, meter: Meter<'_>, at: Millis) {
        for name in self.names(meter) {
            if let Ok(key) = Key::<Any>::write(ctx, name.as_str()) {
                let moved = key.exists() && key.expiry() != Some(at);
                key.commit(&[moved.then_some(Effect::ExpireAt(at))]);
            }
        }
    }

    fn names(&self, meter: Meter<'_>) -> impl Iterator<Item = OwnedStr> {
        self.keys.iter().map(move |rest| meter.rest_key(rest))
    }
}

/// Deletes a key, if it is there; whether it was.
pub(crate) fn delete(ctx: Context<'_>, name: &OwnedStr) -> bool {
    let Ok(key) = Key::<Any>::write(ctx, name.as_str()) else { return false };
    let exists = key.exists();
    key.commit(&[exists.then_some(Effect::Delete)]);
    exists
}
