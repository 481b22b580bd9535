//! What only one thread at a time uses: commands, timers and events run on the server's main thread, or on a thread of
//! another module that holds the server's lock. A lock of our own would cost a refused call a twentieth of its time.

use std::cell::{Cell, UnsafeCell};

/// A value that the thread with the server's lock uses, in one place at a time.
pub(crate) struct MainThread<T> {
    value: UnsafeCell<T>,
    is_in_use: Cell<bool>,
}

// SAFETY: the server runs each callback with its lock held, on its main thread, or on that of a module that has taken the
// lock to call a command of ours; and this module starts no thread. So uses never overlap, and each sees the last one.
unsafe impl<T: Send> Sync for MainThread<T> {}

impl<T> MainThread<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { value: UnsafeCell::new(value), is_in_use: Cell::new(false) }
    }

    /// Uses the value.
    ///
    /// # Panics
    /// If it is in use, which is a bug: `use_it` must not come back here.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        assert!(!self.is_in_use.replace(true), "a value is used twice at once");
        let in_use = InUse(&self.is_in_use);
        // SAFETY: one thread at a time, and `is_in_use` says that nothing else borrows the value.
        let result = use_it(unsafe { &mut *self.value.get() });
        drop(in_use);
        result
    }
}

/// Ends the use also when a panic unwinds.
struct InUse<'a>(&'a Cell<bool>);

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_used_in_one_place_at_a_time_and_again_after_a_panic() {
        static NUMBER: MainThread<u32> = MainThread::new(1);
        let twice = std::panic::catch_unwind(|| NUMBER.with(|_| NUMBER.with(|_| ())));
        assert!(twice.is_err());
        assert_eq!(NUMBER.with(|number| std::mem::replace(number, 2)), 1);
        assert_eq!(NUMBER.with(|number| *number), 2);
    }
}
