//! Lists.

use std::ffi::c_int;

use redis_module::raw;

use super::super::api::api;
use super::super::string::{OwnedStr, Str};
use super::{Key, List, Writable};

#[allow(clippy::cast_possible_truncation, reason = "small constants that the bindings widen")]
const TAIL: c_int = raw::REDISMODULE_LIST_TAIL as c_int;
#[allow(clippy::cast_possible_truncation, reason = "small constants that the bindings widen")]
const HEAD: c_int = raw::REDISMODULE_LIST_HEAD as c_int;

impl Key<'_, List, Writable> {
    /// `RPOP key n`: up to `n` elements, the last one first. `Change::popped` replicates it.
    pub(in crate::server) fn pop_tail(&self, n: usize) -> Vec<OwnedStr> {
        let mut popped = Vec::new();
        while popped.len() < n
            && let Some(element) = self.pop()
        {
            popped.push(element);
        }
        popped
    }

    fn pop(&self) -> Option<OwnedStr> {
        let pop = api!(RedisModule_ListPop);
        // SAFETY: the key is open for writing; for anything but a list the result is null.
        let element = unsafe { pop(self.handle(), TAIL) };
        if element.is_null() {
            return None;
        }
        // SAFETY: an element that is not null is a string of which we own a reference.
        Some(unsafe { OwnedStr::from_raw(element) })
    }

    /// `LPUSH key element`
    pub(in crate::server) fn push_head(&self, element: Str<'_>) {
        let push = api!(RedisModule_ListPush);
        // SAFETY: the key is open for writing; the server takes a reference of its own.
        unsafe { push(self.handle(), HEAD, element.raw()) };
    }
}
