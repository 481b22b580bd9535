//! The one guard that every callback of the server passes through: a panic, which is a bug, must not unwind into C.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::Error;

/// Runs a callback; if it panics, returns `on_panic`.
pub(super) fn guard<T>(on_panic: T, callback: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(callback)).unwrap_or(on_panic)
}

/// Runs a command. Commands reply last, so that an error can still be sent after a panic.
pub(super) fn guard_command<T>(command: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|_| {
        Err(Error::refused("internal error in redis-meter, please report it with the server's log"))
    })
}
