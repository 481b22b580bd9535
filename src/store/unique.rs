//! A day's distinct ids: the HyperLogLog `K:day:20220809:unique`.

use crate::algorithm::calendar::Day;
use crate::server::{Context, Effect, Error, Key, OwnedStr, Str, Text};
use crate::time::Millis;

use super::meter::Meter;

/// The rest of the key's name, after `K:`.
pub(crate) fn rest(day: Day) -> Vec<u8> {
    [b"day:", &day.digits()[..], b":unique"].concat()
}

/// The key of a day's ids.
///
/// # Errors
/// It is no string, or [`Error::TryAgain`].
pub(crate) fn key(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<OwnedStr, Error> {
    let name = meter.unique_key(day);
    meter.read::<Text>(ctx, &name)?;
    Ok(name)
}

/// Counts an id. The key expires at `expire_at`, if it is given.
///
/// # Errors
/// The key holds another string. Nothing has been changed.
pub(crate) fn add(ctx: Context<'_>, name: &OwnedStr, id: Str<'_>, expire_at: Option<Millis>) -> Result<(), Error> {
    let key = Key::<Text>::write(ctx, name.as_str())?;
    key.add_to_hyperloglog(id).map_err(|_| no_hyperloglog())?;
    if let Some(at) = expire_at {
        let key = Key::<Text>::write(ctx, name.as_str())?;
        let moved = key.expiry() != Some(at);
        key.commit(&[moved.then_some(Effect::ExpireAt(at))]);
    }
    Ok(())
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
