//! How long a day is kept: for `retention-days` days after its end, or forever.
//!
//! When the config has changed, or when other programs have written a day's keys, a day's next hits see to it that all
//! its keys expire as they should: each hit moves a few, and the hash comes last, so that it shows whether all is done.
//! How far one has come is kept in memory only; after a restart the day is gone through again.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use redis_meter_core::calendar::{Day, MILLIS_PER_DAY, day_and_hour};
use redis_meter_core::time::Millis;

use crate::server::{Change, Context, Error, OwnedStr};
use crate::settings;

use super::meter::Meter;
use super::walk::{self, Walk};

/// The most keys of its day that a hit looks up.
const MOST_LOOKED_UP: u64 = 128;

/// The most days that are moved at a time; the hits of others start from the front.
const MOST_MOVING: usize = 1_024;

/// How long the day of a hit is kept.
#[derive(Clone, Copy)]
pub(crate) struct Retention {
    /// When the day expires; `None`: not by itself.
    pub(crate) expire_at: Option<Millis>,
    /// The first day that is still kept.
    pub(crate) kept_from: Option<Day>,
}

impl Retention {
    /// For a hit of `day` at `now`.
    ///
    /// # Errors
    /// The day is kept no longer.
    pub(crate) fn of(day: Day, now: Millis) -> Result<Self, Error> {
        let days = settings::RETENTION_DAYS.get();
        if days == 0 {
            return Ok(Self { expire_at: None, kept_from: None });
        }
        let kept = days * MILLIS_PER_DAY;
        let expire_at = Millis(day.end().0 + kept);
        if expire_at <= now {
            return Err(Error::refused(format!(
                "day {:08} is past retention-days ({days}): it is kept no longer",
                day.number()
            )));
        }
        let kept_from = Millis((now.0 - kept - MILLIS_PER_DAY).max(0));
        Ok(Self { expire_at: Some(expire_at), kept_from: Some(day_and_hour(kept_from).0) })
    }
}

/// How far days have been moved, and to which expiry, by database and the name of their hash.
type Moving = HashMap<(i32, Vec<u8>), (Option<Millis>, Walk)>;

static MOVING: LazyLock<Mutex<Moving>> = LazyLock::new(Mutex::default);

/// The next keys of a day that expire otherwise than they should, and whether these are the last.
///
/// # Errors
/// A key of another type; nothing has been changed.
pub(crate) fn stale_keys(
    ctx: Context<'_>,
    meter: Meter<'_>,
    day: Day,
    expire_at: Option<Millis>,
) -> Result<(Vec<OwnedStr>, bool), Error> {
    let place = || (ctx.database(), meter.day_key(day).to_vec());
    // Most times none is being moved.
    let begun = if moving().is_empty() { None } else { moving().remove(&place()) };
    let begun = begun.filter(|(at, _)| *at == expire_at);
    let mut walk = begun.map_or_else(|| Walk::new(day), |(_, walk)| walk);
    let (mut keys, mut budget) = (Vec::new(), MOST_LOOKED_UP);
    while let Some(rest) = walk.next(ctx, meter, &mut budget)? {
        keys.push(meter.rest_key(&rest));
    }
    let done = walk.is_done();
    if !done {
        let mut moving = moving();
        if moving.len() < MOST_MOVING {
            moving.insert(place(), (expire_at, walk));
        }
    }
    Ok((keys, done))
}

/// Has keys expire at this instant, or never; what has changed.
pub(crate) fn expire<'a>(ctx: Context<'a>, keys: &'a [OwnedStr], at: Option<Millis>) -> Vec<Change<'a>> {
    keys.iter().filter_map(|key| walk::expire(ctx, key, at)).collect()
}

fn moving() -> MutexGuard<'static, Moving> {
    MOVING.lock().unwrap_or_else(PoisonError::into_inner)
}
