//! Iterates over a hash or a sorted set in steps, between which it may change.

use std::ffi::c_void;

use redis_module::raw::{RedisModuleKey, RedisModuleScanCursor, RedisModuleString};

use super::super::api::api;
use super::super::guard::guard;
use super::super::string::Str;
use super::{Access, Key, SortedSet, ValueType};

/// The position of an iteration.
pub(crate) struct ScanCursor(*mut RedisModuleScanCursor);

impl ScanCursor {
    /// At the start.
    pub(crate) fn new() -> Self {
        let create = api!(RedisModule_ScanCursorCreate);
        // SAFETY: takes nothing.
        Self(unsafe { create() })
    }
}

// SAFETY: it is a number that belongs to no thread; only the server's main thread uses it.
unsafe impl Send for ScanCursor {}

impl Drop for ScanCursor {
    fn drop(&mut self) {
        let destroy = api!(RedisModule_ScanCursorDestroy);
        // SAFETY: made by `new`, freed once.
        unsafe { destroy(self.0) };
    }
}

impl<T: ValueType, A: Access> Key<'_, T, A> {
    /// Visits the next few fields or members, each with its value or score, some perhaps twice; returns whether there
    /// are more.
    pub(super) fn scan_step<F: FnMut(&[u8], &[u8])>(&self, cursor: &ScanCursor, visit: &mut F) -> bool {
        if !self.exists() {
            return false;
        }
        let scan = api!(RedisModule_ScanKey);
        // SAFETY: the key exists and is open; the cursor is live; `visit_pair` takes back what is passed as `&mut F`,
        // which outlives the call.
        unsafe { scan(self.handle(), cursor.0, Some(visit_pair::<F>), (&raw mut *visit).cast()) != 0 }
    }
}

impl<A: Access> Key<'_, SortedSet, A> {
    /// Visits the next few members, some perhaps twice; returns whether there are more.
    pub(crate) fn scan(&self, cursor: &ScanCursor, visit: &mut impl FnMut(&[u8])) -> bool {
        self.scan_step(cursor, &mut |member: &[u8], _: &[u8]| visit(member))
    }
}

unsafe extern "C" fn visit_pair<F: FnMut(&[u8], &[u8])>(
    _key: *mut RedisModuleKey,
    name: *mut RedisModuleString,
    value: *mut RedisModuleString,
    visit: *mut c_void,
) {
    guard((), || {
        // SAFETY: `scan_step` passed a pointer to its `F` and waits for this call.
        let visit = unsafe { &mut *visit.cast::<F>() };
        // SAFETY: the server keeps both strings for the call.
        let name = unsafe { Str::from_raw(name) };
        // SAFETY: as above.
        let value = unsafe { Str::from_raw(value) };
        visit(name.bytes(), value.bytes());
    });
}
