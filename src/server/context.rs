//! One running command: the server's functions besides keys, and replies.

use std::ffi::{CStr, c_int, c_long, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use redis_module::raw::{self, RedisModuleCallReply, RedisModuleCtx, RedisModuleKey, RedisModuleString};

use redis_meter_core::time::Micros;

use super::api::{api, ok, optional};
use super::guard::guard;
use super::string::{OwnedStr, Str};
use super::{clock, events};

/// The context of the running command; lives as long as it.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    raw: *mut RedisModuleCtx,
    life: PhantomData<&'a ()>,
}

impl Context<'_> {
    /// # Safety
    /// `raw` is the context that the server passed to a callback that runs now, and is not used after it returns.
    pub(super) unsafe fn from_raw(raw: *mut RedisModuleCtx) -> Self {
        Self { raw, life: PhantomData }
    }

    pub(super) fn raw(self) -> *mut RedisModuleCtx {
        self.raw
    }

    /// The server's time; see [`clock::now`]. Read it once in a command.
    pub(crate) fn now(self) -> Micros {
        clock::now()
    }

    /// Whether the server calls only to get the positions of the keys.
    pub(super) fn asks_for_keys(self) -> bool {
        let asks = api!(RedisModule_IsKeysPositionRequest);
        // SAFETY: the context is that of the running command.
        unsafe { asks(self.raw) != 0 }
    }

    /// The number of the selected database.
    pub(crate) fn database(self) -> c_int {
        let selected = api!(RedisModule_GetSelectedDb);
        // SAFETY: the context is that of the running command.
        unsafe { selected(self.raw) }
    }

    /// Selects another database, and returns the one that was selected before. The caller must select that again.
    pub(super) fn select(self, database: c_int) -> c_int {
        let before = self.database();
        let select = api!(RedisModule_SelectDb);
        // SAFETY: the context is that of a running callback; the database exists.
        unsafe { select(self.raw, database) };
        before
    }

    /// Whether the client may be blocked: not in a transaction or a script.
    pub(crate) fn may_block(self) -> bool {
        const NEVER: u32 = raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_LUA
            | raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING;
        let flags = api!(RedisModule_GetContextFlags);
        // SAFETY: the context is that of the running command.
        let flags = unsafe { flags(self.raw) };
        flags & NEVER.cast_signed() == 0
    }

    /// Whether a command that writes could run now. The server postpones or refuses commands while clients are paused
    /// or a failover is in progress, on a read-only replica, and with too few good replicas or a failing disk. Code
    /// that runs outside of a command, such as in a timer, must ask. `key` is any key.
    pub(crate) fn may_write(self, key: Str<'_>) -> bool {
        // SAFETY: takes nothing, and reads a state of the server.
        if optional!(RedisModule_AvoidReplicaTraffic).is_some_and(|avoid| unsafe { avoid() } != 0) {
            return false;
        }
        let flags = api!(RedisModule_GetContextFlags);
        // SAFETY: the context is that of the running callback.
        let flags = unsafe { flags(self.raw) };
        let unfit = raw::REDISMODULE_CTX_FLAGS_SLAVE | raw::REDISMODULE_CTX_FLAGS_LOADING;
        if flags & unfit.cast_signed() != 0 {
            return false;
        }
        // Since 7.0 the server itself tells, for a write in the mode of scripts. Renaming a key to itself does nothing.
        if optional!(RedisModule_RegisterNumericConfig).is_none() {
            return true;
        }
        let call = api!(RedisModule_Call);
        let (command, format) = (c"RENAMENX".as_ptr(), c"Sss".as_ptr());
        // SAFETY: the context is that of the running callback; name and format are C strings, and the format asks for
        // two strings.
        let reply = unsafe { call(self.raw, command, format, key.raw(), key.raw()) };
        events::note();
        NonNull::new(reply).map(CallReply).is_some()
    }

    /// Whether the server uses no more memory than `maxmemory` allows, so that it would not refuse a command that needs
    /// memory. A server that evicts keys is soon below it again.
    pub(super) fn is_within_memory(self) -> bool {
        // SAFETY: takes nothing, and reads a state of the server.
        optional!(RedisModule_GetUsedMemoryRatio).is_none_or(|ratio| unsafe { ratio() } <= 1.0)
    }

    /// Whether the user of the client whose call is tried again may still run it. Servers before 7.0 cannot tell; there
    /// the result is true.
    ///
    /// # Safety
    /// `words` and `count` are the arguments that the server passed to the running callback.
    pub(super) unsafe fn is_permitted(self, words: *mut *mut RedisModuleString, count: c_int) -> bool {
        let (Some(name), Some(find), Some(check), Some(free)) = (
            optional!(RedisModule_GetCurrentUserName),
            optional!(RedisModule_GetModuleUserFromUserName),
            optional!(RedisModule_ACLCheckCommandPermissions),
            optional!(RedisModule_FreeModuleUser),
        ) else {
            return true;
        };
        // SAFETY: the context is that of a blocked client's callback.
        let name = unsafe { name(self.raw) };
        // SAFETY: the string was made for us; without automatic memory management its one reference is ours.
        let name = unsafe { OwnedStr::from_raw(name) };
        // SAFETY: a live string.
        let user = unsafe { find(name.as_str().raw()) };
        if user.is_null() {
            return false;
        }
        // SAFETY: the user was just found; the words are those of the call, as the caller promises.
        let permitted = unsafe { check(user, words, count) } == ok();
        // SAFETY: found above, freed once.
        unsafe { free(user) };
        permitted
    }

    /// Has the server send what a callback of a blocked client has propagated, for a client that stays blocked. Redis
    /// 7.0 sends it only after a command, and aborts when it is left over; even reading may delete an expired key.
    pub(super) fn flush_propagated(self, key: Str<'_>) {
        let is_7_0 = optional!(RedisModule_RegisterNumericConfig).is_some()
            && optional!(RedisModule_CachedMicroseconds).is_none();
        if is_7_0 {
            self.call(c"EXISTS", &[key, key]);
        }
    }

    /// Invalidates `WATCH` and client-side caches of `key`.
    pub(crate) fn signal_modified(self, key: Str<'_>) {
        let signal = api!(RedisModule_SignalModifiedKey);
        // SAFETY: the context is that of the running command, the key a live string.
        unsafe { signal(self.raw, key.raw()) };
    }

    /// Whether an absent key of the same slot as `key` may be on another node, because the slot is being moved key by
    /// key. Asks what the cluster would reply to a client that names both keys: while the slot moves and one of them
    /// is absent, the reply is a redirection, and the call is refused.
    pub(crate) fn may_be_elsewhere(self, key: Str<'_>, absent: Str<'_>) -> bool {
        if !*facts::CLUSTER {
            return false;
        }
        self.call(c"EXISTS", &[key, absent]).is_none()
    }

    /// The number of distinct elements that the HyperLogLogs at these keys have counted together; nothing is written.
    /// `None` if one of the keys holds something else.
    pub(crate) fn count_union(self, keys: &[Str<'_>]) -> Option<i64> {
        // With one key alone PFCOUNT would store the result in it.
        let twice = [keys, keys.get(..1).unwrap_or_default()].concat();
        self.call(c"PFCOUNT", &twice).filter(|reply| !reply.is_error()).map(|reply| reply.integer())
    }

    /// The number of keys in the selected database.
    pub(crate) fn database_size(self) -> u64 {
        let size = api!(RedisModule_DbSize);
        // SAFETY: the context is that of the running command.
        unsafe { size(self.raw) }
    }

    /// Calls `visit` with the name of every key of the selected database, with some perhaps twice.
    pub(crate) fn each_key(self, visit: &mut dyn FnMut(&[u8])) {
        let create = api!(RedisModule_ScanCursorCreate);
        // SAFETY: takes nothing.
        let cursor = unsafe { create() };
        let scan = api!(RedisModule_Scan);
        let mut visit = visit;
        // SAFETY: the context is that of the running command; the cursor is live; `visit_key` takes back what is passed
        // as `&mut &mut dyn FnMut`, which outlives the call.
        while unsafe { scan(self.raw, cursor, Some(visit_key), (&raw mut visit).cast()) } != 0 {}
        let destroy = api!(RedisModule_ScanCursorDestroy);
        // SAFETY: made above, freed once.
        unsafe { destroy(cursor) };
    }

    /// Fills a text with random hexadecimal digits.
    pub(crate) fn random_hex<const N: usize>(self) -> [u8; N] {
        let random = api!(RedisModule_GetRandomHexChars);
        let mut digits = [0; N];
        // SAFETY: `digits` is N bytes to be written.
        unsafe { random(digits.as_mut_ptr().cast(), N) };
        digits
    }

    /// Runs a core command, which is replicated if it changes something; `None` if the server refuses to run it.
    /// Without replication the server would not replicate the writes of other modules at its events either.
    pub(super) fn call(self, command: &CStr, arguments: &[Str<'_>]) -> Option<CallReply> {
        let call = api!(RedisModule_Call);
        let (ctx, name) = (self.raw, command.as_ptr());
        let is_read = matches!(command.to_bytes(), b"EXISTS" | b"SISMEMBER" | b"PFCOUNT" | b"ZCOUNT" | b"ZRANGE");
        let (two, many) = if *facts::WRITES_EMPTY_TRANSACTIONS && is_read { (c"ss", c"v") } else { (c"!ss", c"!v") };
        let reply = match *arguments {
            // SAFETY: the context is that of the running command; name and format are C strings, and the format asks
            // for two strings. For a vector the server would allocate a second time.
            [a, b] => unsafe { call(ctx, name, two.as_ptr(), a.raw(), b.raw()) },
            // SAFETY: as above, but that the format asks for a vector of strings and its length: `Str` is laid out as
            // the pointer it wraps.
            _ => unsafe { call(ctx, name, many.as_ptr(), arguments.as_ptr(), arguments.len()) },
        };
        events::note();
        NonNull::new(reply).map(CallReply)
    }

    /// Runs a core command that the caller has replicated; the writes of other modules at its events are still
    /// replicated.
    pub(super) fn call_unreplicated(self, command: &CStr, key: Str<'_>, argument: Str<'_>) -> Option<CallReply> {
        let call = api!(RedisModule_Call);
        let (name, format) = (command.as_ptr(), c"!ARss".as_ptr());
        // SAFETY: the context is that of the running command; name and format are C strings, and the format asks for
        // two strings.
        let reply = unsafe { call(self.raw, name, format, key.raw(), argument.raw()) };
        events::note();
        NonNull::new(reply).map(CallReply)
    }

    /// Replies an integer.
    pub(crate) fn reply_integer(self, number: i64) {
        let reply = api!(RedisModule_ReplyWithLongLong);
        // SAFETY: the context is that of the running command.
        unsafe { reply(self.raw, number) };
    }

    /// Replies a string.
    pub(crate) fn reply_bytes(self, bytes: &[u8]) {
        let reply = api!(RedisModule_ReplyWithStringBuffer);
        // SAFETY: the context is that of the running command; `bytes` is valid for its length and copied.
        unsafe { reply(self.raw, bytes.as_ptr().cast(), bytes.len()) };
    }

    /// Replies OK.
    pub(crate) fn reply_ok(self) {
        let reply = api!(RedisModule_ReplyWithSimpleString);
        // SAFETY: the context is that of the running command; the text is a C string, which the server copies.
        unsafe { reply(self.raw, c"OK".as_ptr()) };
    }

    /// Replies null.
    pub(crate) fn reply_null(self) {
        let reply = api!(RedisModule_ReplyWithNull);
        // SAFETY: the context is that of the running command.
        unsafe { reply(self.raw) };
    }

    /// Opens an array of `len` elements, which must follow.
    pub(crate) fn reply_array(self, len: usize) {
        let reply = api!(RedisModule_ReplyWithArray);
        // SAFETY: the context is that of the running command.
        unsafe { reply(self.raw, reply_len(len)) };
    }

    /// Opens a map of `pairs` keys and values, which must follow; for clients of RESP2 a flat array.
    pub(crate) fn reply_map(self, pairs: usize) {
        match optional!(RedisModule_ReplyWithMap) {
            Some(reply) => {
                // SAFETY: the context is that of the running command.
                unsafe { reply(self.raw, reply_len(pairs)) };
            }
            None => self.reply_array(2 * pairs),
        }
    }

    /// Replies an array of pairs, a name and its count.
    pub(crate) fn reply_counts<'c>(self, counts: impl ExactSizeIterator<Item = (&'c [u8], i64)>) {
        self.reply_array(counts.len());
        for (name, count) in counts {
            self.reply_array(2);
            self.reply_bytes(name);
            self.reply_integer(count);
        }
    }

    /// Replies an array of integers.
    pub(crate) fn reply_integers<const N: usize>(self, numbers: [i64; N]) {
        self.reply_array(N);
        for number in numbers {
            self.reply_integer(number);
        }
    }
}

unsafe extern "C" fn visit_key(
    _ctx: *mut RedisModuleCtx,
    name: *mut RedisModuleString,
    _key: *mut RedisModuleKey,
    visit: *mut c_void,
) {
    guard((), || {
        // SAFETY: `each_key` passed a pointer to its `&mut dyn FnMut` and waits for this call.
        let visit = unsafe { &mut *visit.cast::<&mut dyn FnMut(&[u8])>() };
        // SAFETY: the server keeps the name for the call.
        let name = unsafe { Str::from_raw(name) };
        visit(name.bytes());
    });
}

#[allow(clippy::cast_possible_truncation, reason = "a small constant that the bindings widen")]
const ERROR: c_int = raw::REDISMODULE_REPLY_ERROR as c_int;

/// The reply of a core command.
pub(super) struct CallReply(NonNull<RedisModuleCallReply>);

impl CallReply {
    /// Whether it is an error.
    pub(super) fn is_error(&self) -> bool {
        let reply_type = api!(RedisModule_CallReplyType);
        // SAFETY: the reply is live.
        unsafe { reply_type(self.0.as_ptr()) == ERROR }
    }

    /// The integer that it is.
    pub(super) fn integer(&self) -> i64 {
        let integer = api!(RedisModule_CallReplyInteger);
        // SAFETY: the reply is live; for one of another type the call returns the least integer.
        unsafe { integer(self.0.as_ptr()) }
    }

    /// The text of an element of the array that it is.
    pub(super) fn text_at(&self, place: usize) -> Option<String> {
        let element = api!(RedisModule_CallReplyArrayElement);
        // SAFETY: the reply is live; without such an element the result is null.
        let element = unsafe { element(self.0.as_ptr(), place) };
        self.text_of(NonNull::new(element)?)
    }

    /// The text of a part of it, or of all.
    fn text_of(&self, part: NonNull<RedisModuleCallReply>) -> Option<String> {
        let string_ptr = api!(RedisModule_CallReplyStringPtr);
        let mut len = 0;
        // SAFETY: the part lives as long as the reply.
        let data = unsafe { string_ptr(part.as_ptr(), &raw mut len) };
        if data.is_null() {
            return None;
        }
        // SAFETY: the server lends `len` bytes at `data` for as long as the reply lives.
        let bytes = unsafe { slice::from_raw_parts(data.cast::<u8>(), len) };
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Drop for CallReply {
    fn drop(&mut self) {
        let free = api!(RedisModule_FreeCallReply);
        // SAFETY: ours to free, once.
        unsafe { free(self.0.as_ptr()) };
    }
}

fn reply_len(len: usize) -> c_long {
    c_long::try_from(len).unwrap_or(c_long::MAX)
}

/// Facts of a server that do not change while it runs.
pub(crate) mod facts {
    use super::{api, c_int, optional, ptr, raw};
    use lazy_static::lazy_static;

    lazy_static! {
        /// Whether it writes an empty transaction for a replicated call that changes nothing, as Redis 6.2 does.
        pub(crate) static ref WRITES_EMPTY_TRANSACTIONS: bool = optional!(RedisModule_RegisterNumericConfig).is_none();
        /// Whether it is a node of a cluster.
        pub(crate) static ref CLUSTER: bool = {
            let flags = api!(RedisModule_GetContextFlags);
            // SAFETY: without a context the call returns what holds for the server alone.
            let flags: c_int = unsafe { flags(ptr::null_mut()) };
            flags & raw::REDISMODULE_CTX_FLAGS_CLUSTER.cast_signed() != 0
        };
    }
}
