//! The server's strings: bytes, never text.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{ptr, slice};

use redis_module::raw::RedisModuleString;

use redis_meter_core::number::format_integer;

use super::api::{api, ok};

/// A string that the server keeps for as long as `'a`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Str<'a> {
    raw: *mut RedisModuleString,
    life: PhantomData<&'a [u8]>,
}

impl<'a> Str<'a> {
    /// # Safety
    /// `raw` is a live string of the server and stays so, unchanged, for `'a`.
    pub(super) unsafe fn from_raw(raw: *mut RedisModuleString) -> Self {
        Self { raw, life: PhantomData }
    }

    pub(super) fn raw(self) -> *mut RedisModuleString {
        self.raw
    }

    /// Its bytes.
    pub(crate) fn bytes(self) -> &'a [u8] {
        let string_ptr_len = api!(RedisModule_StringPtrLen);
        let mut len = 0;
        // SAFETY: `raw` is a live string, by the contract of `from_raw`.
        let data = unsafe { string_ptr_len(self.raw, &raw mut len) };
        // SAFETY: the server's strings are `len` initialised bytes at `data`, unchanged for `'a`.
        unsafe { slice::from_raw_parts(data.cast(), len) }
    }

    /// The integer that it is, in the one form that the server takes.
    pub(crate) fn integer(self) -> Option<i64> {
        let to_long_long = api!(RedisModule_StringToLongLong);
        let mut number = 0;
        // SAFETY: `raw` is a live string.
        let status = unsafe { to_long_long(self.raw, &raw mut number) };
        (status == ok()).then_some(number)
    }
}

/// A string that the module has made and frees.
#[repr(transparent)]
pub(crate) struct OwnedStr(Str<'static>);

impl OwnedStr {
    /// A new string of these bytes.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let create = api!(RedisModule_CreateString);
        // SAFETY: `bytes` is valid for its length; without a context only we free the string.
        let raw = unsafe { create(ptr::null_mut(), bytes.as_ptr().cast(), bytes.len()) };
        // SAFETY: the string is new and ours, and no one else frees it.
        unsafe { Self::from_raw(raw) }
    }

    /// A new string of a number's decimal digits.
    pub(crate) fn from_integer(number: i64) -> Self {
        Self::new(format_integer(number, &mut [0; 20]))
    }

    /// # Safety
    /// `raw` is a live string of the server of which the caller owns one reference.
    pub(super) unsafe fn from_raw(raw: *mut RedisModuleString) -> Self {
        // SAFETY: the reference keeps the string alive until `drop`.
        Self(unsafe { Str::from_raw(raw) })
    }

    /// The string, borrowed.
    pub(crate) fn as_str(&self) -> Str<'_> {
        self.0
    }

    /// The strings, borrowed.
    pub(crate) fn as_strs(strings: &[Self]) -> &[Str<'_>] {
        // SAFETY: an `OwnedStr` is laid out as the `Str` that it wraps, whose life is shortened to that of the owners.
        unsafe { slice::from_raw_parts(strings.as_ptr().cast(), strings.len()) }
    }

    /// The string, whose one reference is the caller's.
    fn into_raw(self) -> *mut RedisModuleString {
        ManuallyDrop::new(self).0.raw
    }
}

impl Deref for OwnedStr {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Drop for OwnedStr {
    fn drop(&mut self) {
        let free = api!(RedisModule_FreeString);
        // SAFETY: we own one reference and free it once.
        unsafe { free(ptr::null_mut(), self.0.raw) }
    }
}

/// A string that is made at its first use and kept for as long as the server runs: a hash field, a command's keyword.
pub(crate) struct Constant {
    text: &'static str,
    raw: AtomicPtr<RedisModuleString>,
}

impl Constant {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, raw: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The string.
    pub(crate) fn get(&'static self) -> Str<'static> {
        let mut raw = self.raw.load(Ordering::Relaxed);
        if raw.is_null() {
            raw = self.make();
        }
        // SAFETY: made by `make`, and never freed.
        unsafe { Str::from_raw(raw) }
    }

    #[cold]
    fn make(&'static self) -> *mut RedisModuleString {
        let raw = OwnedStr::new(self.text.as_bytes()).into_raw();
        self.raw.store(raw, Ordering::Relaxed);
        raw
    }
}
