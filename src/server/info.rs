//! Counters, and the section of INFO that shows them.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};

use redis_module::raw::RedisModuleInfoCtx;

use super::api::api;

/// A number that only grows while the module is loaded; it stops at 2⁶⁴ − 1.
pub(crate) struct Counter(AtomicU64);

/// A counter and its name in INFO, to which the server puts the module's name and `_` first.
pub(crate) type Field = (&'static CStr, &'static Counter);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts `n` more. Commands run on one thread, so that reading and writing need not be one step.
    pub(crate) fn add(&self, n: u64) {
        let sum = self.0.load(Ordering::Relaxed).saturating_add(n);
        self.0.store(sum, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes a section with these fields.
pub(super) fn write_section(info: *mut RedisModuleInfoCtx, name: &CStr, fields: &[Field]) {
    let add_section = api!(RedisModule_InfoAddSection);
    // SAFETY: the server passed `info` to the callback that runs now; the name is a C string, which it copies.
    unsafe { add_section(info, name.as_ptr()) };
    let add_field = api!(RedisModule_InfoAddFieldULongLong);
    for (field, counter) in fields {
        // SAFETY: as above. An error says that nobody asked for this section.
        unsafe { add_field(info, field.as_ptr(), counter.get()) };
    }
}
