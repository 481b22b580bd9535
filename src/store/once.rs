//! The ids of events that were counted in a day: the set `K:day:20220809:once`. It outlives the day's counts, so that an
//! event is known when it comes again after they were sealed, and expires by itself.

use crate::algorithm::calendar::Day;
use crate::server::{Context, Effect, Error, Key, OwnedStr, Set, Str};
use crate::time::Millis;

use super::meter::Meter;

/// An event of a day.
pub(crate) struct Event<'a> {
    name: OwnedStr,
    id: Str<'a>,
    known: bool,
}

impl<'a> Event<'a> {
    /// Looks the event `id` up.
    ///
    /// # Errors
    /// The key is no set, or [`Error::TryAgain`].
    pub(crate) fn find(ctx: Context<'_>, meter: Meter<'_>, day: Day, id: Str<'a>) -> Result<Self, Error> {
        let name = meter.once_key(day);
        let ids = meter.read::<Set>(ctx, &name)?;
        let known = ids.contains(id);
        drop(ids);
        Ok(Self { name, id, known })
    }

    /// Whether it was counted before.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// Remembers it until `expire_at`.
    ///
    /// # Errors
    /// The key is no set; nothing has been changed.
    pub(crate) fn remember(self, ctx: Context<'_>, expire_at: Millis) -> Result<(), Error> {
        Key::<Set>::write(ctx, self.name.as_str())?.insert(self.id);
        let ids = Key::<Set>::write(ctx, self.name.as_str())?;
        let moved = ids.expiry() != Some(expire_at);
        ids.commit(&[moved.then_some(Effect::ExpireAt(expire_at))]);
        Ok(())
    }
}
