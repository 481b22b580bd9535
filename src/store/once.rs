//! The ids of events that were counted in a day: the set `K:day:20220809:once`. It outlives the day's counts, so that an
//! event is known when it comes again after they were sealed, and expires by itself.

use crate::server::{Context, Effect, Error, Key, OwnedStr, Set, Str};
use redis_meter_core::time::Millis;

use super::meter::Meter;

/// An event of a day.
pub(crate) struct Event<'a> {
    name: &'a OwnedStr,
    ids: Key<'a, Set>,
    id: Str<'a>,
    kept_until: Millis,
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
        Ok(Self { name, ids: meter.read(ctx, name)?, id, kept_until })
    }

    /// Whether it was counted before.
    pub(crate) fn is_known(&self) -> bool {
        self.ids.contains(self.id)
    }

    /// Remembers it: whether it was not known. If it was, nothing has been changed.
    pub(crate) fn remember(self, ctx: Context<'_>) -> bool {
        let expires = self.ids.expiry() == Some(self.kept_until);
        let is_new = self.ids.insert(self.id);
        if is_new
            && !expires
            && let Ok(ids) = Key::<Set>::write(ctx, self.name.as_str())
        {
            ids.commit(&[Some(Effect::ExpireAt(self.kept_until))]);
        }
        is_new
    }
}
