//! How a state lies in Redis values: names of keys, codecs, and what is written when a state changes.

pub(crate) mod batch;
pub(crate) mod day;
mod expiry;
pub(crate) mod index;
pub(crate) mod lease;
pub(crate) mod log;
pub(crate) mod meter;
pub(crate) mod month;
pub(crate) mod once;
pub(crate) mod path;
pub(crate) mod retention;
pub(crate) mod slide;
pub(crate) mod tat;
pub(crate) mod unique;
pub(crate) mod walk;
pub(crate) mod window;

use crate::server::{Error, Shown, Str};

/// The error for a string of which the limiter `command` can't be the author.
#[cold]
fn foreign_string(key: Str<'_>, value: &[u8], command: &str) -> Error {
    Error::refused(format!(
        "key {} holds {}, which {command} did not write: use a key of its own for each limiter, or DEL this one",
        Shown(key.bytes()),
        Shown(value),
    ))
}

/// The error for a value of the right type of which `author` can't be the author.
#[cold]
fn foreign(key: Str<'_>, holds: &str, author: &str) -> Error {
    Error::refused(format!(
        "key {} holds {holds} that {author} did not write: use another key, or DEL this one",
        Shown(key.bytes()),
    ))
}
