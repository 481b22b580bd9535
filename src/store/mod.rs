//! How a state lies in Redis values: names of keys, codecs, and what is written when a state changes.

pub(crate) mod batch;
pub(crate) mod day;
mod expiry;
pub(crate) mod held;
pub(crate) mod index;
pub(crate) mod log;
pub(crate) mod meter;
pub(crate) mod month;
pub(crate) mod once;
pub(crate) mod path;
pub(crate) mod slide;
pub(crate) mod tat;
pub(crate) mod unique;
pub(crate) mod window;

use crate::server::Error;

/// The error for a value of the right type that no limiter of this kind has written.
fn no_state() -> Error {
    Error::refused("the key holds a value that is no state of this limiter; use another key, or DEL this one")
}
