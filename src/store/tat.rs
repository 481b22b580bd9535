//! A GCRA limiter's state: a string that holds the TAT as decimal nanoseconds since the epoch, the layout of redis-cell.

use redis_meter_core::answer::Next;
use redis_meter_core::layout::parse_tat;
use redis_meter_core::time::Nanos;

use crate::server::{Access, Change, Context, Effect, Error, Expiry, Key, ReadOnly, Str, Text, Writable, effects};

use super::expiry;

/// A limiter's key, and the TAT that it holds.
pub(crate) struct Tat<'a, A = ReadOnly> {
    key: Key<'a, Text, A>,
    value: Option<Nanos>,
}

impl<'a, A: Access> Tat<'a, A> {
    /// Opens the limiter `name`.
    ///
    /// # Errors
    /// The key is no string, or a string that is no TAT.
    #[inline(always)]
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        let key = Key::open(ctx, name)?;
        let value = match key.value() {
            None => None,
            Some(text) => Some(parse_tat(text).ok_or_else(|| super::foreign_string(name, text, "CELL.THROTTLE"))?),
        };
        Ok(Self { key, value })
    }

    /// The TAT, if there is one.
    pub(crate) fn value(&self) -> Option<Nanos> {
        self.value
    }
}

impl<'a> Tat<'a, Writable> {
    /// Leaves the state that a decision at `now` asks for. A state that stays, but has no expiry, is given one: without
    /// it the key would never be deleted.
    #[inline(always)]
    pub(crate) fn save(self, next: Next<Nanos>, now: Nanos, tolerance: Nanos) -> Option<Change<'a>> {
        match (next, self.value) {
            (Next::Keep, None) => None,
            (Next::Keep, Some(tat)) => {
                if self.key.expiry().is_some() {
                    return None;
                }
                let expiry = expiry::due(None, tat.max(now), tolerance);
                self.key.change(effects([expiry.map(|at| Effect::Expire(Some(at)))]))
            }
            (Next::Store(tat), _) => {
                let expiry = expiry::due(self.key.expiry(), tat, tolerance).map_or(Expiry::Keep, Expiry::At);
                self.key.change(effects([Some(Effect::Set(tat.0, expiry))]))
            }
            (Next::Clear, _) => self.key.change(effects([Some(Effect::Delete)])),
        }
    }
}
