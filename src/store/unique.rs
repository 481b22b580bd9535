//! A day's distinct ids: the HyperLogLog `K:day:20220809:unique`.

use crate::server::{Context, Effect, Error, Key, OwnedStr, Str, Text};
use redis_meter_core::calendar::Day;
use redis_meter_core::time::Millis;

use super::meter::Meter;

/// The key of a day's ids.
///
/// # Errors
/// It is no string, or [`Error::TryAgain`].
pub(crate) fn key(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<OwnedStr, Error> {
    let name = meter.unique_key(day);
    meter.read::<Text>(ctx, &name)?;
    Ok(name)
}

/// An id of a day, to be counted.
pub(crate) struct Id<'a> {
    name: &'a OwnedStr,
    ids: Key<'a, Text>,
    id: Str<'a>,
}

impl<'a> Id<'a> {
    /// The id `id` of the day whose key of ids `name` is.
    ///
    /// # Errors
    /// The key is no string, or [`Error::TryAgain`].
    pub(crate) fn open(ctx: Context<'a>, meter: Meter<'_>, name: &'a OwnedStr, id: Str<'a>) -> Result<Self, Error> {
        Ok(Self { name, ids: meter.read(ctx, name)?, id })
    }

    /// Counts it. The key expires at `expire_at`, if it is given.
    ///
    /// # Errors
    /// The key holds another string. Nothing has been changed.
    pub(crate) fn add(self, ctx: Context<'_>, expire_at: Option<Millis>) -> Result<(), Error> {
        let expire_at = expire_at.filter(|&at| self.ids.expiry() != Some(at));
        self.ids.add_to_hyperloglog(self.id).map_err(|_| no_hyperloglog())?;
        if let Some(at) = expire_at {
            Key::<Text>::write(ctx, self.name.as_str())?.commit(&[Some(Effect::ExpireAt(at))]);
        }
        Ok(())
    }
}

/// How many different ids were counted in these days together; `None` if none was in any.
///
/// # Errors
/// A key that holds no HyperLogLog, or [`Error::TryAgain`].
pub(crate) fn count(ctx: Context<'_>, meter: Meter<'_>, days: &[Day]) -> Result<Option<i64>, Error> {
    let mut names = Vec::new();
    for &day in days {
        let name = meter.unique_key(day);
        if meter.read::<Text>(ctx, &name)?.exists() {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    ctx.count_union(OwnedStr::as_strs(&names)).map(Some).ok_or_else(no_hyperloglog)
}

fn no_hyperloglog() -> Error {
    Error::refused("the key of that day's unique ids holds a string that is no HyperLogLog; DEL it, or use another key")
}
