//! The keys that a day of a meter consists of: its hash, the sets of its breakdown, and its HyperLogLog. The ids of its
//! events are not among them: they outlive the day.

use crate::algorithm::calendar::Day;
use crate::server::{Any, Context, Effect, Error, Hash, Key, OwnedStr, SortedSet, Str, Text};
use crate::time::Millis;

use super::meter::Meter;
use super::path::{self, MOST_LEVELS};
use super::{day, unique};

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
    let names = [meter.day_key(day), path::set_key(meter, day, &[])];
    for name in &names {
        if Key::<Any>::read(ctx, name.as_str())?.exists() {
            return Ok(true);
        }
    }
    meter.ensure_absent(ctx, names[0].as_str())?;
    Ok(false)
}

/// Whether a day has a breakdown.
///
/// # Errors
/// [`Error::TryAgain`] if it may be elsewhere.
pub(crate) fn has_breakdown(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<bool, Error> {
    let name = path::set_key(meter, day, &[]);
    let exists = Key::<Any>::read(ctx, name.as_str())?.exists();
    if !exists {
        meter.ensure_absent(ctx, name.as_str())?;
    }
    Ok(exists)
}

/// All keys of a day, if it is held.
///
/// # Errors
/// A key of another type, a count that is none, or [`Error::TryAgain`].
pub(crate) fn look(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<Option<HeldDay>, Error> {
    let mut walk = Walk { ctx, meter, keys: Vec::new(), absence_is_sure: false };
    let rest = [b"day:", &day.digits()[..]].concat();
    let name = meter.rest_key(&rest);
    let counts = Key::<Hash>::read(ctx, name.as_str())?;
    let total = day::total(&counts)?.unwrap_or(0);
    walk.note(counts.exists(), name.as_str(), &rest)?;
    drop(counts);
    walk.set(&mut path::rest(day, &[]), 1)?;
    let rest = unique::rest(day);
    let name = meter.rest_key(&rest);
    let ids = Key::<Text>::read(ctx, name.as_str())?.exists();
    walk.note(ids, name.as_str(), &rest)?;
    let keys = walk.keys;
    Ok((!keys.is_empty()).then_some(HeldDay { day, total, keys }))
}

struct Walk<'a> {
    ctx: Context<'a>,
    meter: Meter<'a>,
    keys: Vec<Vec<u8>>,
    /// No key of this slot is on another node. Asked once: it stays so while a command runs.
    absence_is_sure: bool,
}

impl Walk<'_> {
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
    fn set(&mut self, rest: &mut Vec<u8>, level: usize) -> Result<(), Error> {
        let name = self.meter.rest_key(rest);
        let set = Key::<SortedSet>::read(self.ctx, name.as_str())?;
        self.note(set.exists(), name.as_str(), rest)?;
        if level == MOST_LEVELS {
            return Ok(());
        }
        let len = rest.len();
        let mut outcome = Ok(());
        set.each(|member| {
            path::append(rest, member);
            outcome = self.set(rest, level + 1);
            rest.truncate(len);
            outcome.is_ok()
        });
        outcome
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
