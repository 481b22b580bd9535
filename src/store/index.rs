//! The index of a meter: the sorted set `K` of the days it holds, each with its number as its score. It is only touched
//! by hits that open or close a day or an hour.
//!
//! It expires with the last of its days: never, while one of them does not expire; else no sooner than any of them.

use crate::server::{Context, Effect, Error, Key, Order, OwnedStr, SortedSet};
use redis_meter_core::calendar::Day;
use redis_meter_core::time::Millis;

use super::held;
use super::meter::Meter;

/// At most so many entries of days that are gone are cleared away when a day is opened.
const MOST_CLEARED: usize = 4;

/// A change to the index, checked and ready to be made.
pub(crate) struct IndexChange<'a> {
    index: Key<'a, SortedSet>,
    change: Change,
}

enum Change {
    /// The day is held, and expires at this instant, or not at all.
    Hold {
        day: Day,
        expire_at: Option<Millis>,
        gone: Vec<OwnedStr>,
    },
    Remove(Vec<Day>),
}

impl<'a> IndexChange<'a> {
    /// Makes sure of the entry of `day`, which expires at `expire_at`. Entries of days that had expired by themselves
    /// before `expired_before` are cleared away.
    ///
    /// # Errors
    /// `K` is no sorted set.
    pub(crate) fn hold(
        ctx: Context<'a>,
        meter: Meter<'a>,
        day: Day,
        expire_at: Option<Millis>,
        expired_before: Option<Day>,
    ) -> Result<Self, Error> {
        let index = Key::write(ctx, meter.key())?;
        let gone = expired_before.map_or_else(Vec::new, |before| days_gone(ctx, meter, &index, before));
        Ok(Self { index, change: Change::Hold { day, expire_at, gone } })
    }

    /// Removes the entries of `days`.
    ///
    /// # Errors
    /// `K` is no sorted set.
    pub(crate) fn remove(ctx: Context<'a>, meter: Meter<'a>, days: Vec<Day>) -> Result<Self, Error> {
        Ok(Self { index: Key::write(ctx, meter.key())?, change: Change::Remove(days) })
    }

    /// Makes the change.
    pub(crate) fn commit(self) {
        let Self { index, change } = self;
        match change {
            Change::Remove(days) => {
                let members: Vec<OwnedStr> = days.iter().map(|day| OwnedStr::new(&day.digits())).collect();
                let held = members.iter().map(OwnedStr::as_str).filter(|member| index.score(*member).is_some());
                let held: Vec<_> = held.collect();
                index.commit(&[(!held.is_empty()).then_some(Effect::SortedSetRemove(&held))]);
            }
            Change::Hold { day, expire_at, gone } => {
                let member = OwnedStr::new(&day.digits());
                let held = index.score(member.as_str()).is_some();
                let expiry = match (expire_at, index.exists(), index.expiry()) {
                    (Some(at), false, _) => Some(Effect::ExpireAt(at)),
                    (Some(at), true, Some(before)) if before < at => Some(Effect::ExpireAt(at)),
                    (None, true, Some(_)) => Some(Effect::Persist),
                    _ => None,
                };
                let members = [member.as_str()];
                let add = (!held).then_some(Effect::SortedSetAdd(i64::from(day.number()), &members));
                let clear = (!gone.is_empty()).then(|| Effect::SortedSetRemove(OwnedStr::as_strs(&gone)));
                index.commit(&[add, clear, expiry]);
            }
        }
    }
}

fn days_gone(ctx: Context<'_>, meter: Meter<'_>, index: &Key<'_, SortedSet>, before: Day) -> Vec<OwnedStr> {
    let mut gone = Vec::new();
    index.each_scored(Order::Ascending, f64::NEG_INFINITY, f64::from(before.number() - 1), |member, _| {
        if Day::parse(&member).is_some_and(|day| held::is_held(ctx, meter, day).is_ok_and(|held| !held)) {
            gone.push(member);
        }
        gone.len() < MOST_CLEARED
    });
    gone
}

/// The days from `from` to `to` that the index names, ascending; whether they are still there, their keys say.
///
/// # Errors
/// `K` is no sorted set, or one that is no index.
pub(crate) fn days(ctx: Context<'_>, meter: Meter<'_>, from: Day, to: Day) -> Result<Vec<Day>, Error> {
    let index = Key::<SortedSet>::read(ctx, meter.key())?;
    let mut days = Some(Vec::new());
    index.each_scored(Order::Ascending, f64::from(from.number()), f64::from(to.number()), |member, _| {
        match (Day::parse(&member).filter(|day| (from..=to).contains(day)), &mut days) {
            (Some(day), Some(days)) => days.push(day),
            _ => days = None,
        }
        days.is_some()
    });
    days.ok_or_else(|| Error::refused("the key holds a sorted set that is no meter's index of days; use another key"))
}
