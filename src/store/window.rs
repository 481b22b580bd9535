//! A window's state: a string that holds the count and expires at the window's end, what `INCR` and `EXPIRE` leave.
//! CELL.WINDOW and CELL.QUOTA have it. A block of CELL.WINDOW is a count of the limit plus one, which expires at the
//! block's end.

use redis_meter_core::answer::Next;
use redis_meter_core::layout::parse_count;
use redis_meter_core::window::Window;

use crate::server::{Access, Change, Context, Effect, Error, Expiry, Key, ReadOnly, Str, Text, Writable, effects};

/// A window's key, and the window that it holds.
pub(crate) struct StoredWindow<'a, A = ReadOnly> {
    key: Key<'a, Text, A>,
    value: Option<Window>,
}

impl<'a, A: Access> StoredWindow<'a, A> {
    /// Opens the limiter `name` of `command`.
    ///
    /// # Errors
    /// The key is no string, or a string that is no count.
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>, command: &str) -> Result<Self, Error> {
        let key = Key::open(ctx, name)?;
        let count = match key.value() {
            None => return Ok(Self { key, value: None }),
            Some(text) => parse_count(text).ok_or_else(|| super::foreign_string(name, text, command))?,
        };
        let value = Some(Window { count, end: key.expiry() });
        Ok(Self { key, value })
    }

    /// The window, if there is one.
    pub(crate) fn value(&self) -> Option<Window> {
        self.value
    }
}

impl<'a> StoredWindow<'a, Writable> {
    /// Leaves the state that a decision asks for.
    pub(crate) fn save(self, next: Next<Window>) -> Option<Change<'a>> {
        match next {
            Next::Keep => None,
            Next::Store(after) => {
                let before = self.value;
                let moved = after.end.filter(|_| before.is_none_or(|before| before.end != after.end));
                if before.is_some_and(|before| before.count == after.count) {
                    return self.key.change(effects([moved.map(|at| Effect::Expire(Some(at)))]));
                }
                let expiry = moved.map_or(Expiry::Keep, Expiry::At);
                self.key.change(effects([Some(Effect::Set(after.count, expiry))]))
            }
            Next::Clear => self.key.change(effects([Some(Effect::Delete)])),
        }
    }
}
