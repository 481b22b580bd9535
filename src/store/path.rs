//! A day's breakdown: the sorted set `K:day:20220809:path` has the members of the first level by count, and
//! `K:day:20220809:path:m1` those below its member m1, and so on.
//!
//! In the names of keys every byte of a member outside `A-Z a-z 0-9 _ . ~ # -` is percent-encoded, so that no member
//! has a `:` and no two paths share a key.

use crate::server::{Change, Context, Counted, Effect, Error, Key, OwnedStr, Shown, SortedSet, Str, Writable, effects};
use redis_meter_core::calendar::Day;
use redis_meter_core::layout::{HIGHEST_COUNT, append_member, score_count};
use redis_meter_core::time::Millis;

use super::meter::Meter;

/// The most members that a path has.
pub(crate) const MOST_LEVELS: usize = 8;

/// The rest of the name of the set of the first level, after `K:`.
pub(crate) fn first_level(day: Day) -> Vec<u8> {
    let mut rest = Vec::with_capacity(b"day:20220809:path".len());
    append_first_level(&mut rest, day);
    rest
}

fn append_first_level(name: &mut Vec<u8>, day: Day) {
    name.extend_from_slice(b"day:");
    name.extend_from_slice(&day.digits());
    name.extend_from_slice(b":path");
}

/// Whether what follows the first level in a key's name is that of a set: nothing, or members.
pub(crate) fn is_set(after: &[u8]) -> bool {
    matches!(after, [] | [b':', ..])
}

/// The count of the member that a path leads to; 0 if there is none.
///
/// # Errors
/// A key of another type, a score that is no count, or [`Error::TryAgain`].
pub(crate) fn count(ctx: Context<'_>, meter: Meter<'_>, day: Day, path: &[Str<'_>]) -> Result<i64, Error> {
    let Some((member, above)) = path.split_last() else { return Ok(0) };
    let name = set_key(meter, day, above);
    let set = meter.read::<SortedSet>(ctx, &name)?;
    set.score(*member).map_or(Ok(0), |score| count_of(score, member.bytes()))
}

/// The key of the set below a path.
pub(crate) fn set_key(meter: Meter<'_>, day: Day, path: &[Str<'_>]) -> OwnedStr {
    let mut name = meter.name_start();
    append_first_level(&mut name, day);
    for member in path {
        append_member(&mut name, member.bytes());
    }
    OwnedStr::new(&name)
}

/// The count that a score is.
///
/// # Errors
/// It is none.
pub(crate) fn count_of(score: f64, member: &[u8]) -> Result<i64, Error> {
    score_count(score).ok_or_else(|| no_count(member))
}

#[cold]
fn no_count(member: &[u8]) -> Error {
    Error::refused(format!(
        "the score of path member {} is no count (a whole number from 0 to {HIGHEST_COUNT}); correct it by ZADD",
        Shown(member)
    ))
}

/// The members that the paths of a hit lead through, by the sets that they are in. A member that two paths share is there
/// once.
pub(crate) struct Breakdown<'a> {
    ctx: Context<'a>,
    meter: Meter<'a>,
    day: Day,
    sets: Vec<CountedSet<'a>>,
}

/// A set, and those of its members that are counted.
struct CountedSet<'a> {
    /// What leads to it; no members for the first level.
    above: &'a [Str<'a>],
    set: Key<'a, SortedSet, Writable>,
    members: Vec<(Str<'a>, i64)>,
}

/// The names of the sets that some paths lead through, each once, with what leads to it.
pub(crate) fn set_names<'a>(meter: Meter<'_>, day: Day, paths: &'a [Vec<Str<'a>>]) -> Vec<(OwnedStr, &'a [Str<'a>])> {
    let mut names: Vec<(OwnedStr, &[Str<'_>])> = Vec::with_capacity(paths.iter().map(Vec::len).sum());
    for path in paths {
        let mut name = meter.name_start();
        append_first_level(&mut name, day);
        for level in 0..path.len() {
            let above = &path[..level];
            if let Some(member) = above.last() {
                append_member(&mut name, member.bytes());
            }
            if paths.len() == 1 || !names.iter().any(|(_, known)| is_same(known, above)) {
                names.push((OwnedStr::new(&name), above));
            }
        }
    }
    names
}

fn is_same(one: &[Str<'_>], two: &[Str<'_>]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.bytes() == two.bytes())
}

impl<'a> Breakdown<'a> {
    /// Opens the sets of some paths, whose names are `names`.
    ///
    /// # Errors
    /// A key of another type, a score that is no count, or [`Error::TryAgain`].
    pub(crate) fn open(
        ctx: Context<'a>,
        meter: Meter<'a>,
        day: Day,
        paths: &'a [Vec<Str<'a>>],
        names: &'a [(OwnedStr, &'a [Str<'a>])],
    ) -> Result<Self, Error> {
        let mut sets = Vec::with_capacity(names.len());
        for (name, above) in names {
            let set = meter.write::<SortedSet>(ctx, name)?;
            let mut members: Vec<(Str<'_>, i64)> = Vec::with_capacity(paths.len());
            for path in paths.iter().filter(|path| path.len() > above.len() && is_same(&path[..above.len()], above)) {
                let member = path[above.len()];
                if members.iter().all(|(known, _)| known.bytes() != member.bytes()) {
                    let count = set.score(member).map_or(Ok(0), |score| count_of(score, member.bytes()))?;
                    members.push((member, count));
                }
            }
            sets.push(CountedSet { above, set, members });
        }
        Ok(Self { ctx, meter, day, sets })
    }

    /// Checks that `n` more, or fewer for a negative `n`, can be counted along the paths.
    ///
    /// # Errors
    /// A count would fall below zero or pass 2⁵³, or a member would go while there are counts below it.
    pub(crate) fn check(&self, n: i64) -> Result<(), Error> {
        let members = || self.sets.iter().flat_map(|set| set.members.iter().map(move |member| (set, member)));
        for (_, &(member, count)) in members() {
            let after = i128::from(count) + i128::from(n);
            let shown = Shown(member.bytes());
            if after < 0 {
                return Err(Error::refused(format!("BY would correct more than was counted of path member {shown}")));
            }
            if after > i128::from(HIGHEST_COUNT) {
                return Err(Error::refused(format!("the count of path member {shown} would pass {HIGHEST_COUNT}")));
            }
        }
        for (set, &(member, count)) in members().filter(|(_, member)| n < 0 && member.1 + n == 0) {
            debug_assert!(count > 0);
            if self.has_more_below(set.above, member, n)? {
                return Err(Error::refused(format!(
                    "path member {} would reach zero while members below it have counts; correct those first",
                    Shown(member.bytes())
                )));
            }
        }
        Ok(())
    }

    /// Whether anything is left below a member when `n` has been counted.
    fn has_more_below(&self, above: &[Str<'_>], member: Str<'_>, n: i64) -> Result<bool, Error> {
        let path = [above, &[member]].concat();
        if path.len() == MOST_LEVELS {
            return Ok(false);
        }
        if let Some(below) = self.sets.iter().find(|set| is_same(set.above, &path)) {
            return Ok(below.set.len() > below.emptied(n));
        }
        let name = set_key(self.meter, self.day, &path);
        Ok(self.meter.read::<SortedSet>(self.ctx, &name)?.exists())
    }

    /// Reads the counts again, after other modules may have written.
    ///
    /// # Errors
    /// A score that is no count.
    pub(crate) fn read_again(&mut self) -> Result<(), Error> {
        for CountedSet { set, members, .. } in &mut self.sets {
            for (member, count) in members {
                *count = set.score(*member).map_or(Ok(0), |score| count_of(score, member.bytes()))?;
            }
        }
        Ok(())
    }

    /// Whether the set of the first level goes with its last members when `n` is counted; `None` if there is no path.
    pub(crate) fn empties_first_level(&self, n: i64) -> Option<bool> {
        let first = self.sets.first()?;
        Some(first.set.len() == first.emptied(n))
    }

    /// Counts `n` along the paths, which have been checked. The sets expire at `expire_at`, if it is given.
    pub(crate) fn add(self, n: i64, expire_at: Option<Millis>) -> Vec<Change<'a>> {
        let mut changes = Vec::with_capacity(self.sets.len());
        for CountedSet { set, members, .. } in self.sets {
            let emptied = members.iter().filter(|(_, count)| count + n == 0);
            let goes: Vec<OwnedStr> = emptied.map(|(member, _)| OwnedStr::new(member.bytes())).collect();
            let stays = members.iter().filter(|(_, count)| count + n != 0);
            let mut counts = Vec::with_capacity(members.len());
            counts.extend(stays.map(|&(member, count)| Counted { member, before: count, after: count + n }));
            let is_last = counts.is_empty() && set.len() == goes.len();
            let expiry = expire_at.filter(|&at| !is_last && set.expiry() != Some(at));
            changes.extend(set.change(effects([
                (!counts.is_empty()).then_some(Effect::SortedSetCounts(counts)),
                (!goes.is_empty()).then_some(Effect::SortedSetRemove(goes)),
                expiry.map(|at| Effect::Expire(Some(at))),
            ])));
        }
        changes
    }
}

impl CountedSet<'_> {
    /// How many of its members go when `n` is counted.
    fn emptied(&self, n: i64) -> usize {
        self.members.iter().filter(|(_, count)| *count > 0 && count + n == 0).count()
    }
}
