//! Keyspace events reach other modules while a call of ours runs, and these may write: they can free the value that a
//! key handle points to. The server fires events by itself when a key is created, deleted, expired or not found, and
//! for each command that is run by name; the events of a call itself are fired when all its keys are closed.
//!
//! So each of these moments is counted here, and a handle that was opened before the last one is opened again before it
//! is used (`key`). If nothing was fired, which is nearly always, that costs one comparison.

use std::sync::atomic::{AtomicU64, Ordering};

static FIRED: AtomicU64 = AtomicU64::new(0);

/// How often the server may have fired events. Commands run on one thread, so reading and writing need not be one
/// atomic step.
#[inline(always)]
pub(super) fn fired() -> u64 {
    FIRED.load(Ordering::Relaxed)
}

/// A moment in a call: values read then are unchanged until events may have been fired.
#[derive(Clone, Copy)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The current moment.
    pub(crate) fn now() -> Self {
        Self(fired())
    }

    /// Whether no event can have been fired since then.
    pub(crate) fn still_holds(self) -> bool {
        self.0 == fired()
    }
}

/// Counts that it may have fired events.
#[inline(always)]
pub(super) fn note() {
    FIRED.store(fired().wrapping_add(1), Ordering::Relaxed);
}
