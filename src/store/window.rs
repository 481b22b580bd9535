//! A fixed window's state: a string that holds the count and expires at the window's end, what `INCR` and `EXPIRE`
//! leave. A block is a count of the limit plus one, which expires at the block's end.

use crate::server::{Access, Context, Effect, Error, Expiry, Key, OwnedStr, Str, Text};
use redis_meter_core::answer::Next;
use redis_meter_core::number::parse_natural;
use redis_meter_core::window::Window;

/// A window's key, and the window that it holds.
pub(crate) struct StoredWindow<'a> {
    key: Key<'a, Text>,
    value: Option<Window>,
}

impl<'a> StoredWindow<'a> {
    /// Opens the limiter `name`.
    ///
    /// # Errors
    /// The key is no string, or a string that is no count.
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>, access: Access) -> Result<Self, Error> {
        let key = Key::<Text>::open(ctx, name, access)?;
        let value = match key.value() {
            None => None,
            Some(text) => {
                let count = parse_natural(text).ok_or_else(super::no_state)?;
                Some(Window { count, end: key.expiry() })
            }
        };
        Ok(Self { key, value })
    }

    /// The window, if there is one.
    pub(crate) fn value(&self) -> Option<Window> {
        self.value
    }

    /// Leaves the state that a decision asks for.
    pub(crate) fn save(self, next: Next<Window>) {
        match next {
            Next::Keep => {}
            Next::Store(after) => {
                let before = self.value;
                let moved = before.is_none_or(|before| before.end != after.end);
                if before.is_some_and(|before| before.count == after.count) {
                    self.key.commit(&[after.end.filter(|_| moved).map(Effect::ExpireAt)]);
                    return;
                }
                let expiry = after.end.filter(|_| moved).map_or(Expiry::Keep, Expiry::At);
                let text = OwnedStr::from_integer(after.count);
                self.key.commit(&[Some(Effect::Set(text.as_str(), expiry))]);
            }
            Next::Clear => self.key.commit(&[Some(Effect::Delete)]),
        }
    }
}
