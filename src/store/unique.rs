//! A day's distinct ids: the HyperLogLog `K:day:20220809:unique`.

use redis_meter_core::calendar::Day;
use redis_meter_core::time::Millis;

use crate::server::{Change, Context, CoreCommand, Error, OwnedStr, Shown, Str, Text};

use super::meter::Meter;
use super::walk;

/// An id of a day, to be counted.
pub(crate) struct Id<'a> {
    ctx: Context<'a>,
    name: &'a OwnedStr,
    id: Str<'a>,
}

impl<'a> Id<'a> {
    /// The id `id` of the day whose key of ids `name` is.
    ///
    /// # Errors
    /// The key is no string, or [`Error::TryAgain`].
    pub(crate) fn open(ctx: Context<'a>, meter: Meter<'_>, name: &'a OwnedStr, id: Str<'a>) -> Result<Self, Error> {
        meter.read::<Text>(ctx, name)?;
        Ok(Self { ctx, name, id })
    }

    /// Counts it.
    ///
    /// # Errors
    /// The key holds another string, or the server has no PFADD. Nothing has been changed.
    pub(crate) fn add(&self) -> Result<(), Error> {
        CoreCommand::add_to_hyperloglog(self.ctx, self.name.as_str(), self.id).map(drop).ok_or_else(|| {
            let key = self.name.as_str();
            let holds = crate::server::Key::<Text>::read(self.ctx, key).is_ok_and(|ids| ids.exists());
            if holds { no_hyperloglog(key) } else { Error::refused("UNIQUE needs the server's command PFADD") }
        })
    }

    /// Has the ids expire with their day, at `at`, or never.
    pub(crate) fn expire(&self, at: Option<Millis>) -> Option<Change<'a>> {
        walk::expire(self.ctx, self.name, at)
    }
}

/// How many different ids were counted in these days together; `None` if none was in any.
///
/// # Errors
/// A key that holds no HyperLogLog, or [`Error::TryAgain`].
pub(crate) fn count(ctx: Context<'_>, meter: Meter<'_>, days: &[Day]) -> Result<Option<i64>, Error> {
    let mut names = Vec::new();
    for &day in days {
        // To count what is not there costs as much as to count a day's ids.
        let name = meter.unique_key(day);
        if meter.read::<Text>(ctx, &name)?.exists() {
            names.push(name);
        }
    }
    let Some(first) = names.first() else { return Ok(None) };
    ctx.count_union(OwnedStr::as_strs(&names)).map(Some).ok_or_else(|| no_hyperloglog(first.as_str()))
}

#[cold]
fn no_hyperloglog(key: Str<'_>) -> Error {
    Error::refused(format!(
        "key {} holds a string that is no HyperLogLog: DEL it, or use another meter",
        Shown(key.bytes())
    ))
}
