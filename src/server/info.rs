//! Counters, and the section of INFO that shows them.

use std::ffi::{CStr, CString, c_int};
use std::sync::atomic::{AtomicU64, Ordering};

use redis_module::raw::RedisModuleInfoCtx;

use super::api::api;

/// A number in INFO. A count only grows while the module is loaded, and saturates at 2⁶⁴ − 1.
pub(crate) struct Counter(AtomicU64);

/// A counter and its name in INFO; the server puts the module's name and `_` before it.
pub(crate) type Field = (&'static CStr, &'static Counter);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts `n` more. Commands run on one thread, so reading and writing need not be one atomic step.
    pub(crate) fn add(&self, n: u64) {
        let sum = self.0.load(Ordering::Relaxed).saturating_add(n);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Sets it to `n`.
    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes a section with the module's version and these fields.
///
/// # Safety
/// The server passed `info` to the callback that runs now.
pub(super) unsafe fn write_section(info: *mut RedisModuleInfoCtx, name: &CStr, version: c_int, fields: &[Field]) {
    let add_section = api!(RedisModule_InfoAddSection);
    // SAFETY: `info` is good, as the caller promises; the name is a C string, which the server copies.
    unsafe { add_section(info, name.as_ptr()) };
    let add_text = api!(RedisModule_InfoAddFieldCString);
    let version = version_text(version);
    // SAFETY: as above.
    unsafe { add_text(info, c"version".as_ptr(), version.as_ptr()) };
    let add_field = api!(RedisModule_InfoAddFieldULongLong);
    for (field, counter) in fields {
        // SAFETY: as above. An error means that this section was not requested.
        unsafe { add_field(info, field.as_ptr(), counter.get()) };
    }
}

/// `M·10000 + m·100 + p` as `M.m.p`.
fn version_text(version: c_int) -> CString {
    let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
    CString::new(format!("{major}.{minor}.{patch}")).unwrap_or_default()
}
