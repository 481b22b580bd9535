//! Strings.

use std::slice;

use redis_meter_core::number::format_integer;

use super::super::api::api;
use super::super::events;
use super::super::string::OwnedStr;
use super::{Access, Key, READ, Text, WRITE, Writable};

impl<A: Access> Key<'_, Text, A> {
    /// The value, if there is one. It is gone with the next use of the key.
    #[inline(always)]
    pub(crate) fn value(&self) -> Option<&[u8]> {
        if !self.exists() {
            return None;
        }
        let dma = api!(RedisModule_StringDMA);
        let mut len = 0;
        // SAFETY: the key is open.
        let data = unsafe { dma(self.handle(), &raw mut len, READ) };
        if data.is_null() {
            return None;
        }
        // SAFETY: the server lends `len` bytes at `data` until the key is written or closed.
        Some(unsafe { slice::from_raw_parts(data.cast(), len) })
    }
}

impl Key<'_, Text, Writable> {
    /// `SET key integer KEEPTTL`. In place where the value has as many bytes as before.
    #[inline(always)]
    pub(in crate::server) fn set(&self, value: i64) {
        let mut digits = [0; 20];
        let digits = format_integer(value, &mut digits);
        if self.exists() && self.overwrite(digits) {
            return;
        }
        self.replace(digits);
    }

    /// Whether the value could be put in the place of the old one.
    #[inline(always)]
    fn overwrite(&self, value: &[u8]) -> bool {
        let dma = api!(RedisModule_StringDMA);
        let mut len = 0;
        // SAFETY: the key is open for writing.
        let data = unsafe { dma(self.handle(), &raw mut len, WRITE) };
        if data.is_null() || len != value.len() {
            return false;
        }
        // SAFETY: the server lends `len` bytes at `data` to be written until the next call on the key.
        let bytes = unsafe { slice::from_raw_parts_mut(data.cast::<u8>(), len) };
        bytes.copy_from_slice(value);
        true
    }

    /// Sets it as a new value, which leaves the server's statistics of lengths right; to change the length of the old
    /// one does not.
    #[cold]
    fn replace(&self, value: &[u8]) {
        let value = OwnedStr::new(value);
        let expiry = self.expiry();
        let set = api!(RedisModule_StringSet);
        // SAFETY: the key is open for writing, the value a live string, which the server shares.
        unsafe { set(self.handle(), value.as_str().raw()) };
        if let Some(at) = expiry {
            let set = api!(RedisModule_SetAbsExpire);
            // SAFETY: the key is open for writing, and was set just now.
            unsafe { set(self.handle.get().0, at.0) };
        }
        events::note();
    }
}
