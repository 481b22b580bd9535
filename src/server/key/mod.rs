//! An open key of a known type, for reading or for writing. A key that was opened for reading has no method that
//! writes.

mod hash;
mod list;
mod scan;
mod set;
mod sorted_set;
mod text;

use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;

use redis_meter_core::time::Millis;
use redis_module::raw::{self, RedisModuleKey};

use super::api::api;
use super::context::Context;
use super::error::Error;
use super::events;
use super::string::Str;

pub(crate) use scan::ScanCursor;
pub(crate) use sorted_set::Order;

/// A type of value that a key can hold.
pub(crate) trait ValueType {
    const CODE: c_int;

    /// Whether a value with this type code is accepted.
    fn includes(code: c_int) -> bool {
        code == Self::CODE
    }
}

/// Strings.
pub(crate) enum Text {}
/// Lists.
pub(crate) enum List {}
/// Hashes.
pub(crate) enum Hash {}
/// Sets.
pub(crate) enum Set {}
/// Sorted sets.
pub(crate) enum SortedSet {}
/// Values of any type.
pub(crate) enum Any {}

#[allow(clippy::cast_possible_truncation, reason = "small constants that the bindings widen")]
mod codes {
    use super::{Any, Hash, List, Set, SortedSet, Text, ValueType, c_int, raw};

    impl ValueType for Text {
        const CODE: c_int = raw::REDISMODULE_KEYTYPE_STRING as c_int;
    }
    impl ValueType for List {
        const CODE: c_int = raw::REDISMODULE_KEYTYPE_LIST as c_int;
    }
    impl ValueType for Hash {
        const CODE: c_int = raw::REDISMODULE_KEYTYPE_HASH as c_int;
    }
    impl ValueType for Set {
        const CODE: c_int = raw::REDISMODULE_KEYTYPE_SET as c_int;
    }
    impl ValueType for SortedSet {
        const CODE: c_int = raw::REDISMODULE_KEYTYPE_ZSET as c_int;
    }
    impl ValueType for Any {
        const CODE: c_int = EMPTY;

        fn includes(_: c_int) -> bool {
            true
        }
    }
    pub(super) const EMPTY: c_int = raw::REDISMODULE_KEYTYPE_EMPTY as c_int;
}

const READ: c_int = raw::REDISMODULE_READ.cast_signed();
const WRITE: c_int = raw::REDISMODULE_WRITE.cast_signed();

/// The mode in which a key is opened.
pub(crate) trait Access {
    const MODE: c_int;
}

/// For reading.
pub(crate) enum ReadOnly {}
/// For reading and writing.
pub(crate) enum Writable {}

impl Access for ReadOnly {
    const MODE: c_int = READ;
}
impl Access for Writable {
    const MODE: c_int = READ | WRITE;
}

/// An open key that holds a `T` or nothing. Closed when dropped. If events may have been fired since it was opened, it
/// is opened again before it is used; if another module has stored a value of another type meanwhile, reads find
/// nothing and writes do nothing.
pub(crate) struct Key<'a, T, A = ReadOnly> {
    ctx: Context<'a>,
    name: Str<'a>,
    handle: Cell<Handle>,
    /// The value of [`events::fired`] when it was opened.
    opened: Cell<u64>,
    exists: Cell<bool>,
    /// Whether another module has stored a value of another type meanwhile.
    is_foreign: Cell<bool>,
    holds: PhantomData<(T, A)>,
}

impl<'a, T: ValueType> Key<'a, T, ReadOnly> {
    /// Opens `name` for reading.
    ///
    /// # Errors
    /// [`Error::WrongType`] if it holds anything but a `T`.
    pub(crate) fn read(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        Self::open(ctx, name)
    }
}

impl<'a, T: ValueType, A: Access> Key<'a, T, A> {
    /// Opens `name`.
    ///
    /// # Errors
    /// As [`Key::read`].
    #[inline(always)]
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        let handle = Handle::open(ctx, name, A::MODE);
        let code = handle.type_code();
        let exists = code != codes::EMPTY;
        if !exists {
            // It may have expired just now, or fire the event of a miss.
            events::note();
        }
        let key = Self {
            ctx,
            name,
            handle: Cell::new(handle),
            opened: Cell::new(events::fired()),
            exists: Cell::new(exists),
            is_foreign: Cell::new(false),
            holds: PhantomData,
        };
        if exists && !T::includes(code) { Err(Error::WrongType) } else { Ok(key) }
    }

    /// The handle, valid for the next call of the API.
    #[inline(always)]
    fn handle(&self) -> *mut RedisModuleKey {
        if self.opened.get() != events::fired() {
            self.open_again();
        }
        self.handle.get().0
    }

    #[cold]
    fn open_again(&self) {
        self.handle.get().close();
        let handle = Handle::open(self.ctx, self.name, A::MODE);
        let code = handle.type_code();
        // A value of another type is treated as absent: it is neither read nor written.
        self.exists.set(code != codes::EMPTY && T::includes(code));
        self.is_foreign.set(code != codes::EMPTY && !T::includes(code));
        self.handle.set(handle);
        if code == codes::EMPTY {
            events::note();
        }
        self.opened.set(events::fired());
    }

    /// Whether there is a value.
    #[inline(always)]
    pub(crate) fn exists(&self) -> bool {
        self.handle();
        self.exists.get()
    }

    /// The number of elements, fields or members.
    pub(crate) fn len(&self) -> usize {
        let value_length = api!(RedisModule_ValueLength);
        // SAFETY: the key is open, or null, which the call takes for an absent one.
        unsafe { value_length(self.handle()) }
    }

    /// When it expires, if it does.
    pub(crate) fn expiry(&self) -> Option<Millis> {
        let handle = self.handle();
        if !self.exists.get() {
            return None;
        }
        let expiry = api!(RedisModule_GetAbsExpire);
        // SAFETY: the key exists, so that it is open and not null.
        let at = unsafe { expiry(handle) };
        (at != i64::from(raw::REDISMODULE_NO_EXPIRE)).then_some(Millis(at))
    }

    /// Whether it holds a `U`.
    pub(crate) fn is_a<U: ValueType>(&self) -> bool {
        self.handle();
        self.handle.get().type_code() == U::CODE
    }

    /// The running command.
    pub(crate) fn context(&self) -> Context<'a> {
        self.ctx
    }

    /// Its name.
    pub(crate) fn name(&self) -> Str<'a> {
        self.name
    }
}

impl<T: ValueType> Key<'_, T, Writable> {
    /// `PEXPIREAT`, or `PERSIST` for `None`.
    pub(super) fn set_expiry(&self, at: Option<Millis>) {
        let set = api!(RedisModule_SetAbsExpire);
        let at = at.map_or(i64::from(raw::REDISMODULE_NO_EXPIRE), |at| at.0);
        // SAFETY: the key is open for writing; an absent one is an error.
        unsafe { set(self.handle(), at) };
    }

    /// Whether it can be written: whether it still holds a `T` or nothing.
    #[inline(always)]
    pub(super) fn may_be_written(&self) -> bool {
        self.handle();
        !self.is_foreign.get()
    }

    /// `UNLINK`.
    pub(super) fn unlink(&self) {
        let unlink = api!(RedisModule_UnlinkKey);
        // SAFETY: the key is open for writing.
        unsafe { unlink(self.handle()) };
        events::note();
    }

    /// Closes it after it was written; returns whether it was deleted with its last element, field or member.
    pub(super) fn close_written(self) -> bool {
        let existed = self.exists.get();
        // Written just now; an event in between was fired by this write.
        let exists = self.handle.get().type_code() != codes::EMPTY;
        if existed != exists {
            events::note();
        }
        existed && !exists
    }
}

impl<T, A> Drop for Key<'_, T, A> {
    fn drop(&mut self) {
        self.handle.get().close();
    }
}

/// The API's handle of an open key; null for an absent key that was opened for reading. A [`Key`] has exactly one, and
/// closes it.
#[derive(Clone, Copy)]
struct Handle(*mut RedisModuleKey);

impl Handle {
    fn open(ctx: Context<'_>, name: Str<'_>, mode: c_int) -> Self {
        let open = api!(RedisModule_OpenKey);
        // SAFETY: the context is that of the running callback, the name a live string.
        Self(unsafe { open(ctx.raw(), name.raw(), mode) }.cast())
    }

    fn type_code(self) -> c_int {
        let key_type = api!(RedisModule_KeyType);
        // SAFETY: the key is open, or null, which the call takes for an absent one.
        unsafe { key_type(self.0) }
    }

    fn close(self) {
        let close = api!(RedisModule_CloseKey);
        // SAFETY: the key is open, or null, which the call takes; its `Key` closes it once.
        unsafe { close(self.0) };
    }
}
