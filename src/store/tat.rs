//! A GCRA limiter's state: a string that holds the TAT as decimal nanoseconds since the epoch, the layout of redis-cell.

use crate::server::{Access, Context, Effect, Error, Expiry, Key, OwnedStr, Str, Text};
use redis_meter_core::answer::Next;
use redis_meter_core::number::parse_natural;
use redis_meter_core::time::Nanos;

use super::expiry;

/// A limiter's key, and the TAT that it holds.
pub(crate) struct Tat<'a> {
    key: Key<'a, Text>,
    value: Option<Nanos>,
}

impl<'a> Tat<'a> {
    /// Opens the limiter `name`.
    ///
    /// # Errors
    /// The key is no string, or a string that is no TAT.
    #[inline(always)]
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>, access: Access) -> Result<Self, Error> {
        let key = Key::<Text>::open(ctx, name, access)?;
        let value = match key.value() {
            None => None,
            Some(text) => Some(parse(text).ok_or_else(super::no_state)?),
        };
        Ok(Self { key, value })
    }

    /// The TAT, if there is one.
    pub(crate) fn value(&self) -> Option<Nanos> {
        self.value
    }

    /// Leaves the state that a decision at `now` asks for. A state that stays, but has no expiry, is given one: without
    /// it the key would never go.
    #[inline(always)]
    pub(crate) fn save(self, next: Next<Nanos>, now: Nanos, tolerance: Nanos) {
        match (next, self.value) {
            (Next::Keep, None) => {}
            (Next::Keep, Some(tat)) => {
                if self.key.expiry().is_none() {
                    let expiry = expiry::due(None, tat.max(now), tolerance);
                    self.key.commit(&[expiry.map(Effect::ExpireAt)]);
                }
            }
            (Next::Store(tat), _) => {
                let expiry = expiry::due(self.key.expiry(), tat, tolerance).map_or(Expiry::Keep, Expiry::At);
                let text = OwnedStr::from_integer(tat.0);
                self.key.commit(&[Some(Effect::Set(text.as_str(), expiry))]);
            }
            (Next::Clear, _) => self.key.commit(&[Some(Effect::Delete)]),
        }
    }
}

fn parse(text: &[u8]) -> Option<Nanos> {
    parse_natural(text).map(Nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_non_negative_integer_is_a_tat() {
        assert_eq!(parse(b"1660054277326000000"), Some(Nanos(1_660_054_277_326_000_000)));
        assert_eq!(parse(b"0"), Some(Nanos(0)));
        for text in ["", "-1", "1.5", "01", "1e18", "9223372036854775808", "abc", "1 "] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
