//! Hashes.

use std::ffi::c_void;
use std::ptr;

use redis_module::raw::{self, RedisModuleString};

use super::super::api::api;
use super::super::string::{OwnedStr, Str};
use super::scan::ScanCursor;
use super::{Access, Hash, Key, Writable};

const NO_FLAGS: i32 = raw::REDISMODULE_HASH_NONE.cast_signed();
const END: *mut c_void = ptr::null_mut();

/// The value of a field as RM_HashGet returns it.
fn owned(value: *mut RedisModuleString) -> Option<OwnedStr> {
    // SAFETY: called below only with what RM_HashGet has set, null or a string of which we own a reference.
    (!value.is_null()).then(|| unsafe { OwnedStr::from_raw(value) })
}

impl<A: Access> Key<'_, Hash, A> {
    /// The value of a field, if it is there.
    pub(crate) fn get(&self, field: Str<'_>) -> Option<OwnedStr> {
        if !self.exists() {
            return None;
        }
        let hash_get = api!(RedisModule_HashGet);
        let mut value: *mut RedisModuleString = ptr::null_mut();
        // SAFETY: the key is open; one field, one place for its value, and the end of the list.
        unsafe { hash_get(self.handle(), NO_FLAGS, field.raw(), &raw mut value, END) };
        owned(value)
    }

    /// The values of two fields, in one call.
    pub(crate) fn get_both(&self, fields: [Str<'_>; 2]) -> [Option<OwnedStr>; 2] {
        if !self.exists() {
            return [None, None];
        }
        let hash_get = api!(RedisModule_HashGet);
        let [first, second] = fields.map(Str::raw);
        let (mut one, mut two): (*mut RedisModuleString, *mut RedisModuleString) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the key is open; two fields with places for their values, and the end of the list.
        unsafe { hash_get(self.handle(), NO_FLAGS, first, &raw mut one, second, &raw mut two, END) };
        [one, two].map(owned)
    }

    /// The values of four fields, in one call.
    pub(crate) fn get_four(&self, fields: [Str<'_>; 4]) -> [Option<OwnedStr>; 4] {
        if !self.exists() {
            return [const { None }; 4];
        }
        let hash_get = api!(RedisModule_HashGet);
        let [a, b, c, d] = fields.map(Str::raw);
        let mut values: [*mut RedisModuleString; 4] = [ptr::null_mut(); 4];
        let [one, two, three, four] = values.each_mut().map(|value| &raw mut *value);
        // SAFETY: the key is open; four fields with places for their values, and the end of the list.
        unsafe { hash_get(self.handle(), NO_FLAGS, a, one, b, two, c, three, d, four, END) };
        values.map(owned)
    }

    /// Calls `visit` with each field and its value. A field may be visited twice in a hash that is being resized.
    pub(crate) fn each<F: FnMut(&[u8], &[u8])>(&self, mut visit: F) {
        if !self.exists() {
            return;
        }
        let cursor = ScanCursor::new();
        while self.scan_step(&cursor, &mut visit) {}
    }
}

impl Key<'_, Hash, Writable> {
    /// `HSET key field value field value`
    pub(in crate::server) fn set_two(&self, [(first, one), (second, two)]: [(Str<'_>, Str<'_>); 2]) {
        let set = api!(RedisModule_HashSet);
        // SAFETY: the key is open for writing; two fields with their values, and the end of the list.
        unsafe { set(self.handle(), NO_FLAGS, first.raw(), one.raw(), second.raw(), two.raw(), END) };
    }

    /// `HSET key field value`
    pub(in crate::server) fn set_field(&self, field: Str<'_>, value: Str<'_>) {
        let set = api!(RedisModule_HashSet);
        // SAFETY: the key is open for writing; one field, its value, and the end of the list.
        unsafe { set(self.handle(), NO_FLAGS, field.raw(), value.raw(), END) };
    }

    /// `HDEL key field`
    pub(in crate::server) fn delete_field(&self, field: Str<'_>) {
        let set = api!(RedisModule_HashSet);
        let delete = raw::REDISMODULE_HASH_DELETE.cast_mut();
        // SAFETY: the key is open for writing; one field, what stands for its deletion, and the end of the list.
        unsafe { set(self.handle(), NO_FLAGS, field.raw(), delete, END) };
    }
}
