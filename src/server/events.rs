//! Keyspace events reach other modules while a call of ours runs, and these may write: a value that a key handle points
//! to may be gone afterwards. The server fires them by itself when a key is created, deleted, expired or not found, and
//! for each command that is run by name; what a call tells, it tells when all its keys are closed.
//!
//! So each of these moments is noted here, and a handle that was opened before the last one is opened again before it is
//! used (`key`). Where nothing was fired, which is nearly always, that costs one comparison.

use std::sync::atomic::{AtomicU64, Ordering};

static FIRED: AtomicU64 = AtomicU64::new(0);

/// How often the server may have fired events. Commands run on one thread, so that reading and writing need not be one
/// step.
#[inline(always)]
pub(super) fn fired() -> u64 {
    FIRED.load(Ordering::Relaxed)
}

/// A moment in a call: what was read then is still so until events may have been fired.
#[derive(Clone, Copy)]
pub(crate) struct Moment(u64);

impl Moment {
    /// This one.
    pub(crate) fn now() -> Self {
        Self(fired())
    }

    /// Whether no event can have been fired since.
    pub(crate) fn still_holds(self) -> bool {
        self.0 == fired()
    }
}

/// Notes that it may have fired some.
#[inline(always)]
pub(super) fn note() {
    FIRED.store(fired().wrapping_add(1), Ordering::Relaxed);
}
