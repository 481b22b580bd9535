//! The ids of events that were counted in a day: the set `K:day:20220809:once`. It outlives the day's counts, so that an
//! event is known when it comes again after they were sealed, and expires by itself.

use redis_meter_core::time::Millis;

use crate::server::{Change, Context, CoreCommand, Error, Key, OwnedStr, Set, Str};

use super::meter::Meter;
use super::walk;

/// An event of a day.
pub(crate) struct Event<'a> {
    ctx: Context<'a>,
    name: &'a OwnedStr,
    id: Str<'a>,
    kept_until: Millis,
    /// Whether the set expires at that instant already.
    expires: bool,
}

impl<'a> Event<'a> {
    /// The event `id` of the day whose key of events `name` is. These are kept until `kept_until`.
    ///
    /// # Errors
    /// The key is no set, or [`Error::TryAgain`].
    pub(crate) fn open(
        ctx: Context<'a>,
        meter: Meter<'_>,
        name: &'a OwnedStr,
        id: Str<'a>,
        kept_until: Millis,
    ) -> Result<Self, Error> {
        let expires = meter.read::<Set>(ctx, name)?.expiry() == Some(kept_until);
        Ok(Self { ctx, name, id, kept_until, expires })
    }

    /// Whether it was counted before.
    ///
    /// # Errors
    /// The key is no set.
    pub(crate) fn is_known(&self) -> Result<bool, Error> {
        Ok(Key::<Set>::read(self.ctx, self.name.as_str())?.contains(self.id))
    }

    /// Remembers it: whether it was not known. If it was, nothing has been changed.
    ///
    /// # Errors
    /// The server can't do it; nothing has been changed.
    pub(crate) fn remember(&self) -> Result<bool, Error> {
        CoreCommand::add_to_set(self.ctx, self.name.as_str(), self.id)
            .ok_or_else(|| Error::refused("ONCE needs the server's command SADD, which refused to run"))
    }

    /// Sees to the expiry of the ids, after one was remembered.
    pub(crate) fn expire(&self) -> Option<Change<'a>> {
        if self.expires { None } else { walk::expire(self.ctx, self.name, Some(self.kept_until)) }
    }
}
