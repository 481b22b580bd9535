//! The keys that a day of a meter consists of: its hash, the sets of its breakdown, and its HyperLogLog. The ids of its
//! events are not among them: they outlive the day.
//!
//! A walk goes through them in steps, so that it can stop and go on later: any member of a set may have a set below it,
//! and each has to be looked up.

use std::collections::BTreeSet;

use redis_meter_core::calendar::Day;
use redis_meter_core::layout::{append_member, parse_member};

use crate::server::{
    Any, Change, Context, Effect, Error, Hash, Key, OwnedStr, ScanCursor, SortedSet, Str, Text, Writable, effects,
};

use super::day;
use super::meter::{Meter, day_rest, unique_rest};
use super::path::{self, MOST_LEVELS};

/// A day that is stored.
pub(crate) struct HeldDay {
    pub(crate) day: Day,
    /// The count of its hash.
    pub(crate) total: i64,
    /// The names of its keys, without `K:` before them.
    pub(crate) keys: Vec<Vec<u8>>,
}

/// Whether a day is stored: whether anything is counted in it.
///
/// # Errors
/// [`Error::TryAgain`] if its keys may be elsewhere.
pub(crate) fn is_held(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<bool, Error> {
    let name = meter.day_key(day);
    if Key::<Any>::read(ctx, name.as_str())?.exists() {
        return Ok(true);
    }
    has_breakdown(ctx, meter, day)
}

/// Whether a day has a breakdown.
///
/// # Errors
/// [`Error::TryAgain`] if it may be elsewhere.
pub(crate) fn has_breakdown(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<bool, Error> {
    let name = path::set_key(meter, day, &[]);
    Ok(meter.read::<Any>(ctx, &name)?.exists())
}

/// The sets of a day's breakdown and its HyperLogLog, one after the other.
pub(crate) struct Walk {
    day: Day,
    /// The sets that are being gone through, from the first level down.
    open: Vec<OpenSet>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    FirstLevel,
    Below,
    Unique,
    Done,
}

/// A set that is being gone through.
struct OpenSet {
    /// Its name, without `K:`.
    rest: Vec<u8>,
    cursor: ScanCursor,
    has_more: bool,
    /// Members that were read, and are still to be looked up.
    pending: Vec<Vec<u8>>,
}

impl Walk {
    /// A walk through a day, at its start.
    pub(crate) fn new(day: Day) -> Self {
        Self { day, open: Vec::new(), stage: Stage::FirstLevel }
    }

    /// The next key that is there, without `K:` before it; `None` at the end, or when `budget`, which each look-up takes
    /// one of, is used up.
    ///
    /// # Errors
    /// A key of another type.
    pub(crate) fn next(
        &mut self,
        ctx: Context<'_>,
        meter: Meter<'_>,
        budget: &mut u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        while *budget > 0 {
            match self.stage {
                Stage::FirstLevel => {
                    self.stage = Stage::Below;
                    *budget -= 1;
                    if let Some(rest) = self.look_up(ctx, meter, path::first_level(self.day))? {
                        return Ok(Some(rest));
                    }
                }
                Stage::Below => match self.next_below(ctx, meter)? {
                    Some(rest) => {
                        *budget -= 1;
                        if let Some(rest) = self.look_up(ctx, meter, rest)? {
                            return Ok(Some(rest));
                        }
                    }
                    None => self.stage = Stage::Unique,
                },
                Stage::Unique => {
                    self.stage = Stage::Done;
                    *budget -= 1;
                    let rest = unique_rest(self.day);
                    let name = meter.rest_key(&rest);
                    if Key::<Text>::read(ctx, name.as_str())?.exists() {
                        return Ok(Some(rest.to_vec()));
                    }
                }
                Stage::Done => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether it has come to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The set with this rest of a name, if it is there; then the sets below it follow.
    fn look_up(&mut self, ctx: Context<'_>, meter: Meter<'_>, rest: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
        let name = meter.rest_key(&rest);
        if !Key::<SortedSet>::read(ctx, name.as_str())?.exists() {
            return Ok(None);
        }
        if self.open.len() < MOST_LEVELS - 1 {
            let (cursor, pending) = (ScanCursor::new(), Vec::new());
            self.open.push(OpenSet { rest: rest.clone(), cursor, has_more: true, pending });
        }
        Ok(Some(rest))
    }

    /// The name that a set below the next member would have.
    fn next_below(&mut self, ctx: Context<'_>, meter: Meter<'_>) -> Result<Option<Vec<u8>>, Error> {
        while let Some(set) = self.open.last_mut() {
            if let Some(member) = set.pending.pop() {
                let mut rest = set.rest.clone();
                append_member(&mut rest, &member);
                return Ok(Some(rest));
            }
            if !set.has_more {
                self.open.pop();
                continue;
            }
            let name = meter.rest_key(&set.rest);
            let key = Key::<SortedSet>::read(ctx, name.as_str())?;
            let OpenSet { cursor, has_more, pending, .. } = set;
            *has_more = key.scan(cursor, &mut |member| pending.push(member.to_vec()));
        }
        Ok(None)
    }
}

/// Finds the keys of whole days.
pub(crate) struct Finder<'a> {
    ctx: Context<'a>,
    meter: Meter<'a>,
    /// No key of this slot is on another node. Asked once: it stays so while a command runs.
    absence_is_sure: bool,
    /// The names of all sets of the meter, without `K:` before them, once they have been listed.
    listed: Option<BTreeSet<Vec<u8>>>,
    /// How many keys were looked up.
    pub(crate) looked_up: u64,
}

/// Listing a key costs as much as this number of look-ups.
const LISTING_COST: u64 = 3;

impl<'a> Finder<'a> {
    pub(crate) fn new(ctx: Context<'a>, meter: Meter<'a>) -> Self {
        Self { ctx, meter, absence_is_sure: false, listed: None, looked_up: 0 }
    }

    /// All keys of a day, if it is stored.
    ///
    /// # Errors
    /// A key of another type, a count that is none, or [`Error::TryAgain`].
    pub(crate) fn find(&mut self, day: Day) -> Result<Option<HeldDay>, Error> {
        let (ctx, meter) = (self.ctx, self.meter);
        let mut keys = Vec::new();
        let rest = day_rest(day);
        let name = meter.rest_key(&rest);
        let counts = Key::<Hash>::read(ctx, name.as_str())?;
        let total = day::total(&counts)?.unwrap_or(0);
        if counts.exists() {
            keys.push(rest.to_vec());
        } else {
            self.ensure_absent(name.as_str())?;
        }
        drop(counts);

        let first = path::first_level(day);
        let name = meter.rest_key(&first);
        let members = Key::<SortedSet>::read(ctx, name.as_str())?.len();
        if u64::try_from(members).unwrap_or(u64::MAX) > LISTING_COST * ctx.database_size() {
            // Of a set with many members in a database with fewer keys, the keys are looked through.
            self.list(day, &mut keys)?;
        } else {
            self.walk(day, &mut keys)?;
        }
        Ok((!keys.is_empty()).then_some(HeldDay { day, total, keys }))
    }

    fn walk(&mut self, day: Day, keys: &mut Vec<Vec<u8>>) -> Result<(), Error> {
        let (mut walk, mut budget) = (Walk::new(day), u64::MAX);
        let before = keys.len();
        while let Some(rest) = walk.next(self.ctx, self.meter, &mut budget)? {
            keys.push(rest);
        }
        // A set that is being resized may name a member twice.
        keys[before..].sort_unstable();
        keys.dedup();
        let looked_up = u64::MAX - budget;
        self.looked_up += looked_up;
        if u64::try_from(keys.len() - before).unwrap_or(u64::MAX) < looked_up {
            self.ensure_absent(self.meter.rest_key(&unique_rest(day)).as_str())?;
        }
        Ok(())
    }

    /// The sets and the HyperLogLog of a day, by the names of all keys.
    fn list(&mut self, day: Day, keys: &mut Vec<Vec<u8>>) -> Result<(), Error> {
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
        let first = path::first_level(day);
        let below = listed.range(first.clone()..).take_while(|name| name.starts_with(&first));
        let mut sets: Vec<Vec<u8>> = below.filter(|name| path::is_set(&name[first.len()..])).cloned().collect();
        sets.retain(|rest| self_or_parent_is_listed(rest, &first, listed));
        self.looked_up += u64::try_from(sets.len()).unwrap_or(u64::MAX);
        for rest in sets {
            let name = meter.rest_key(&rest);
            if !Key::<SortedSet>::read(ctx, name.as_str())?.exists() {
                continue;
            }
            if rest == first || self.is_below_a_member(&rest)? {
                keys.push(rest);
            }
        }
        let rest = unique_rest(day);
        let name = meter.rest_key(&rest);
        if Key::<Text>::read(ctx, name.as_str())?.exists() {
            keys.push(rest.to_vec());
        } else {
            self.ensure_absent(name.as_str())?;
        }
        Ok(())
    }

    /// Whether the set with this rest of a name lies below a member of the set above it.
    fn is_below_a_member(&self, rest: &[u8]) -> Result<bool, Error> {
        let Some(colon) = rest.iter().rposition(|&byte| byte == b':') else { return Ok(false) };
        let Some(member) = parse_member(&rest[colon + 1..]) else { return Ok(false) };
        let name = self.meter.rest_key(&rest[..colon]);
        let above = Key::<SortedSet>::read(self.ctx, name.as_str())?;
        Ok(above.score(OwnedStr::new(&member).as_str()).is_some())
    }

    fn ensure_absent(&mut self, name: Str<'_>) -> Result<(), Error> {
        if !self.absence_is_sure {
            self.meter.ensure_absent(self.ctx, name)?;
            self.absence_is_sure = true;
        }
        Ok(())
    }
}

/// Whether all sets above one are there, up to the first level.
fn self_or_parent_is_listed(rest: &[u8], first: &[u8], listed: &BTreeSet<Vec<u8>>) -> bool {
    let mut above = rest;
    while above.len() > first.len() {
        let Some(colon) = above.iter().rposition(|&byte| byte == b':') else { return false };
        above = &above[..colon];
        if !listed.contains(above) {
            return false;
        }
    }
    above == first
}

impl HeldDay {
    /// Deletes all of its keys; what has changed.
    pub(crate) fn delete<'a>(&self, ctx: Context<'a>, names: &'a [OwnedStr]) -> Vec<Change<'a>> {
        debug_assert_eq!(self.keys.len(), names.len());
        names.iter().filter_map(|name| delete(ctx, name)).collect()
    }

    /// The names of its keys.
    pub(crate) fn names(&self, meter: Meter<'_>) -> Vec<OwnedStr> {
        self.keys.iter().map(|rest| meter.rest_key(rest)).collect()
    }
}

/// Deletes a key, if it is there.
pub(crate) fn delete<'a>(ctx: Context<'a>, name: &'a OwnedStr) -> Option<Change<'a>> {
    let key = Key::<Any, Writable>::open(ctx, name.as_str()).ok()?;
    let exists = key.exists();
    key.change(effects([exists.then_some(Effect::Delete)]))
}

/// Makes a key expire at this instant, or never, if it is there and does not.
pub(crate) fn expire<'a>(
    ctx: Context<'a>,
    name: &'a OwnedStr,
    at: Option<redis_meter_core::time::Millis>,
) -> Option<Change<'a>> {
    let key = Key::<Any, Writable>::open(ctx, name.as_str()).ok()?;
    let moves = key.exists() && key.expiry() != at;
    key.change(effects([moves.then_some(Effect::Expire(at))]))
}
