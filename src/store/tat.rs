//! A GCRA limiter's state: a string that holds the TAT as decimal nanoseconds since the epoch, the layout of redis-cell.
//!
//! The key expires some time after the TAT has passed, when it says nothing any more. Moving the expiry at each call
//! would cost more than the rest of the write, so it is set late and kept for as long as it is late enough.

use crate::algorithm::gcra::Next;
use crate::algorithm::number::parse_integer;
use crate::server::{Context, Effect, Error, Expiry, Key, OwnedStr, Str, Text};
use crate::time::{Millis, Nanos};

/// A limiter's key, open to be written, and the TAT that it holds.
pub(crate) struct Tat<'a> {
    key: Key<'a, Text>,
    value: Option<Nanos>,
}

impl<'a> Tat<'a> {
    /// Opens the limiter `name`.
    ///
    /// # Errors
    /// The key is no string, or a string that is no TAT.
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        let key = Key::<Text>::write(ctx, name)?;
        let value = match key.value() {
            None => None,
            Some(text) => Some(parse(text).ok_or_else(|| {
                Error::refused("the key holds a string that is no limiter's state; use another key, or DEL this one")
            })?),
        };
        Ok(Self { key, value })
    }

    /// The TAT, if there is one.
    pub(crate) fn value(&self) -> Option<Nanos> {
        self.value
    }

    /// Leaves the state that a decision at `now` asks for. A state that stays, but has no expiry, is given one: without
    /// it the key would never go.
    pub(crate) fn save(self, next: Next, now: Nanos, tolerance: Nanos) {
        match (next, self.value) {
            (Next::Keep, None) => {}
            (Next::Keep, Some(tat)) => {
                if self.key.expiry().is_none() {
                    let tat = tat.max(now);
                    self.key.commit([Effect::ExpireAt(latest_expiry(tat, tolerance))]);
                }
            }
            (Next::Store(tat), _) => {
                let expiry = match self.key.expiry() {
                    Some(at) if is_late_enough(at, tat, tolerance) => Expiry::Keep,
                    _ => Expiry::At(latest_expiry(tat, tolerance)),
                };
                let text = OwnedStr::from_integer(tat.0);
                self.key.commit([Effect::Set(text.as_str(), expiry)]);
            }
            (Next::Clear, _) => self.key.commit([Effect::Delete]),
        }
    }
}

fn parse(text: &[u8]) -> Option<Nanos> {
    parse_integer(text).filter(|&nanos| nanos >= 0).map(Nanos)
}

/// The latest expiry that a TAT may have: a second and a quarter of the tolerance after it.
fn latest_expiry(tat: Nanos, tolerance: Nanos) -> Millis {
    const SECOND: i64 = 1_000_000_000;
    Nanos(tat.0.saturating_add(SECOND + tolerance.0 / 4)).floor_millis()
}

fn is_late_enough(expiry: Millis, tat: Nanos, tolerance: Nanos) -> bool {
    (tat.ceil_millis()..=latest_expiry(tat, tolerance)).contains(&expiry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_non_negative_integer_is_a_tat() {
        assert_eq!(parse(b"1660054277326000000"), Some(Nanos(1_660_054_277_326_000_000)));
        assert_eq!(parse(b"0"), Some(Nanos(0)));
        for text in ["", "-1", "1.5", "01", "1e18", "9223372036854775808", "abc", "1 "] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_expiry_lies_between_the_tat_and_a_second_and_a_quarter_of_the_tolerance_later(
            tat in 0..=i64::MAX / 2,
            tolerance in 0..=i64::MAX / 4,
        ) {
            let (tat, tolerance) = (Nanos(tat), Nanos(tolerance));
            let expiry = latest_expiry(tat, tolerance);
            prop_assert!(is_late_enough(expiry, tat, tolerance));
            let nanos = i128::from(expiry.0) * 1_000_000;
            prop_assert!(nanos >= i128::from(tat.0));
            prop_assert!(nanos <= i128::from(tat.0) + 1_000_000_000 + i128::from(tolerance.0 / 4));
            prop_assert!(!is_late_enough(Millis(expiry.0 + 1), tat, tolerance));
            prop_assert!(!is_late_enough(Millis(tat.ceil_millis().0 - 1), tat, tolerance));
        }
    }
}
