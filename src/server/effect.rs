//! What a command does to a key, in the vocabulary of the core commands. One value says both what is written here and
//! what replicas and the AOF are told, so that the two cannot differ; and it names the events that the key fires.

use std::ffi::{CStr, c_int, c_void};
use std::{ptr, slice};

use redis_module::raw::{self, RedisModuleKey, RedisModuleString};

use redis_meter_core::time::Millis;

use super::api::{api, ok};
use super::context::Context;
use super::key::{list_pop, list_push};
use super::string::{Constant, OwnedStr, Str};

static ZERO: Constant = Constant::new("0");
static KEEPTTL: Constant = Constant::new("KEEPTTL");
static PXAT: Constant = Constant::new("PXAT");

/// At most so many fields or members go into one replicated command.
const MOST: usize = 512;

/// When a string expires after it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// As before.
    Keep,
    /// At this instant.
    At(Millis),
}

/// One core command, done to one key; of many fields or members, as many commands as they need.
#[derive(Clone, Copy)]
pub(crate) enum Effect<'a> {
    /// `SET key value KEEPTTL`, or with `PXAT`. A new key needs an expiry.
    Set(Str<'a>, Expiry),
    /// `LPUSH key element [element …]`
    ListPush(&'a [Str<'a>]),
    /// `RPOP key n`
    ListPop(usize),
    /// `HSET key field value [field value …]`
    HashSet(&'a [(Str<'a>, Str<'a>)]),
    /// `HDEL key field [field …]`
    HashDelete(&'a [Str<'a>]),
    /// `ZADD key score member [score member …]`, all with the same score
    SortedSetAdd(i64, &'a [Str<'a>]),
    /// The same, of members that `Key::add_new` has added with this score.
    SortedSetAdded(i64, &'a [Str<'a>]),
    /// `ZREM key member [member …]`
    SortedSetRemove(&'a [Str<'a>]),
    /// `ZREMRANGEBYRANK key 0 n-1`: the `n` (≥ 1) members with the lowest scores
    SortedSetTrim(usize),
    /// `PEXPIREAT key ms`
    ExpireAt(Millis),
    /// `PERSIST key`
    Persist,
    /// `UNLINK key`
    Delete,
}

impl Effect<'_> {
    /// Writes to a key that was opened to be written and holds the right type, or nothing (`exists`).
    pub(super) fn write(&self, key: *mut RedisModuleKey, exists: bool) {
        match *self {
            Self::Set(value, expiry) => {
                if exists {
                    overwrite(key, value.bytes());
                } else {
                    let set = api!(RedisModule_StringSet);
                    // SAFETY: the key is open for writing, the value a live string, which the server shares.
                    unsafe { set(key, value.raw()) };
                }
                if let Expiry::At(at) = expiry {
                    set_expiry(key, at.0);
                }
            }
            Self::ListPush(elements) => {
                for element in elements {
                    list_push(key, *element);
                }
            }
            Self::ListPop(n) => {
                for _ in 0..n {
                    drop(list_pop(key));
                }
            }
            Self::HashSet([(first, one), (second, two)]) => {
                let set = api!(RedisModule_HashSet);
                let (flags, end) = (raw::REDISMODULE_HASH_NONE.cast_signed(), ptr::null_mut::<c_void>());
                // SAFETY: the key is open for writing and holds a hash or nothing; two fields with their values, and the
                // end of the list.
                unsafe { set(key, flags, first.raw(), one.raw(), second.raw(), two.raw(), end) };
            }
            Self::HashSet(pairs) => {
                for (field, value) in pairs {
                    hash_set(key, field.raw(), value.raw());
                }
            }
            Self::HashDelete(fields) => {
                for field in fields {
                    hash_set(key, field.raw(), raw::REDISMODULE_HASH_DELETE.cast_mut());
                }
            }
            Self::SortedSetAdd(score, members) => {
                let add = api!(RedisModule_ZsetAdd);
                for member in members {
                    // SAFETY: the key is open for writing and holds a sorted set or nothing; null means no flags.
                    unsafe { add(key, score_of(score), member.raw(), ptr::null_mut()) };
                }
            }
            Self::SortedSetAdded(..) => {}
            Self::SortedSetRemove(members) => {
                for member in members {
                    sorted_set_remove(key, member.raw());
                }
            }
            Self::SortedSetTrim(n) => {
                for _ in 0..n {
                    if let Some(member) = lowest_member(key) {
                        sorted_set_remove(key, member.as_str().raw());
                    }
                }
            }
            Self::ExpireAt(at) => set_expiry(key, at.0),
            Self::Persist => set_expiry(key, i64::from(raw::REDISMODULE_NO_EXPIRE)),
            Self::Delete => {
                let unlink = api!(RedisModule_UnlinkKey);
                // SAFETY: the key is open for writing.
                unsafe { unlink(key) };
            }
        }
    }

    /// Tells replicas and the AOF.
    pub(super) fn replicate(&self, ctx: Context<'_>, key: Str<'_>) {
        let mut arguments = Arguments::of(key);
        match *self {
            Self::HashSet(pairs) => {
                for pairs in pairs.chunks(MOST) {
                    let mut arguments = Arguments::of(key);
                    for (field, value) in pairs {
                        arguments.add(*field).add(*value);
                    }
                    arguments.send(ctx, c"HSET");
                }
            }
            Self::SortedSetAdd(score, members) | Self::SortedSetAdded(score, members) => {
                let score = OwnedStr::from_integer(score);
                for members in members.chunks(MOST) {
                    let mut arguments = Arguments::of(key);
                    for member in members {
                        arguments.add(score.as_str()).add(*member);
                    }
                    arguments.send(ctx, c"ZADD");
                }
            }
            Self::SortedSetRemove(members) => {
                for members in members.chunks(MOST) {
                    Arguments::of(key).add_all(members).send(ctx, c"ZREM");
                }
            }
            Self::Set(value, Expiry::Keep) => arguments.add(value).add(KEEPTTL.get()).send(ctx, c"SET"),
            Self::Set(value, Expiry::At(at)) => {
                let at = OwnedStr::from_integer(at.0);
                arguments.add(value).add(PXAT.get()).add(at.as_str()).send(ctx, c"SET");
            }
            Self::ListPush(elements) => arguments.add_all(elements).send(ctx, c"LPUSH"),
            Self::ListPop(n) => {
                let n = OwnedStr::from_integer(i64::try_from(n).unwrap_or(i64::MAX));
                arguments.add(n.as_str()).send(ctx, c"RPOP");
            }
            Self::HashDelete(fields) => arguments.add_all(fields).send(ctx, c"HDEL"),
            Self::SortedSetTrim(n) => {
                let last = OwnedStr::from_integer(i64::try_from(n - 1).unwrap_or(i64::MAX));
                arguments.add(ZERO.get()).add(last.as_str()).send(ctx, c"ZREMRANGEBYRANK");
            }
            Self::ExpireAt(at) => {
                let at = OwnedStr::from_integer(at.0);
                arguments.add(at.as_str()).send(ctx, c"PEXPIREAT");
            }
            Self::Persist => arguments.send(ctx, c"PERSIST"),
            Self::Delete => arguments.send(ctx, c"UNLINK"),
        }
    }

    /// Fires the keyspace events; `emptied` if the key went with its last field or member.
    pub(super) fn notify(&self, ctx: Context<'_>, key: Str<'_>, emptied: bool) {
        match self {
            Self::Set(_, expiry) => {
                notify(ctx, raw::REDISMODULE_NOTIFY_STRING, c"set", key);
                if let Expiry::At(_) = expiry {
                    notify(ctx, raw::REDISMODULE_NOTIFY_GENERIC, c"expire", key);
                }
            }
            Self::ListPush(_) => notify(ctx, raw::REDISMODULE_NOTIFY_LIST, c"lpush", key),
            Self::ListPop(_) => notify(ctx, raw::REDISMODULE_NOTIFY_LIST, c"rpop", key),
            Self::HashSet(pairs) => {
                pairs.chunks(MOST).for_each(|_| notify(ctx, raw::REDISMODULE_NOTIFY_HASH, c"hset", key));
            }
            Self::HashDelete(_) => notify(ctx, raw::REDISMODULE_NOTIFY_HASH, c"hdel", key),
            Self::SortedSetAdd(_, members) | Self::SortedSetAdded(_, members) => {
                members.chunks(MOST).for_each(|_| notify(ctx, raw::REDISMODULE_NOTIFY_ZSET, c"zadd", key));
            }
            Self::SortedSetTrim(_) => notify(ctx, raw::REDISMODULE_NOTIFY_ZSET, c"zremrangebyrank", key),
            Self::SortedSetRemove(members) => {
                members.chunks(MOST).for_each(|_| notify(ctx, raw::REDISMODULE_NOTIFY_ZSET, c"zrem", key));
            }
            Self::ExpireAt(_) => notify(ctx, raw::REDISMODULE_NOTIFY_GENERIC, c"expire", key),
            Self::Persist => notify(ctx, raw::REDISMODULE_NOTIFY_GENERIC, c"persist", key),
            Self::Delete => {}
        }
        if emptied {
            notify(ctx, raw::REDISMODULE_NOTIFY_GENERIC, c"del", key);
        }
    }
}

/// Tells replicas and the AOF of a core command that the server has run on `key` as it is.
pub(super) fn replicate(ctx: Context<'_>, command: &CStr, key: Str<'_>, argument: Str<'_>) {
    Arguments::of(key).add(argument).send(ctx, command);
}

/// Puts `value` into an existing string, in place where the length is the same; the expiry stays.
fn overwrite(key: *mut RedisModuleKey, value: &[u8]) {
    let dma = api!(RedisModule_StringDMA);
    let mut len = 0;
    let write = raw::REDISMODULE_WRITE.cast_signed();
    // SAFETY: the key is open for writing and holds a string.
    let mut data = unsafe { dma(key, &raw mut len, write) };
    if len != value.len() {
        let truncate = api!(RedisModule_StringTruncate);
        // SAFETY: as above.
        unsafe { truncate(key, value.len()) };
        // SAFETY: as above; the truncation may have moved the bytes.
        data = unsafe { dma(key, &raw mut len, write) };
    }
    debug_assert_eq!(len, value.len());
    // SAFETY: the server lends `len` bytes at `data` to be written until the next call on the key.
    let bytes = unsafe { slice::from_raw_parts_mut(data.cast::<u8>(), len) };
    bytes.copy_from_slice(value);
}

fn hash_set(key: *mut RedisModuleKey, field: *mut RedisModuleString, value: *mut RedisModuleString) {
    let set = api!(RedisModule_HashSet);
    let end: *mut c_void = ptr::null_mut();
    // SAFETY: the key is open for writing and holds a hash or nothing; one field, its value, and the end of the list.
    unsafe { set(key, raw::REDISMODULE_HASH_NONE.cast_signed(), field, value, end) };
}

fn sorted_set_remove(key: *mut RedisModuleKey, member: *mut RedisModuleString) {
    let remove = api!(RedisModule_ZsetRem);
    // SAFETY: the key is open for writing and holds a sorted set or nothing; a null pointer asks for no answer.
    unsafe { remove(key, member, ptr::null_mut()) };
}

/// The member with the lowest score.
fn lowest_member(key: *mut RedisModuleKey) -> Option<OwnedStr> {
    let first = api!(RedisModule_ZsetFirstInScoreRange);
    // SAFETY: the key is open and holds a sorted set or nothing, which is an error.
    if unsafe { first(key, f64::NEG_INFINITY, f64::INFINITY, 0, 0) } != ok() {
        return None;
    }
    let current = api!(RedisModule_ZsetRangeCurrentElement);
    // SAFETY: a range was begun above; a null pointer asks for no score.
    let member = unsafe { current(key, ptr::null_mut()) };
    let stop = api!(RedisModule_ZsetRangeStop);
    // SAFETY: a range was begun above.
    unsafe { stop(key) };
    if member.is_null() {
        return None;
    }
    // SAFETY: a member that is not null is a string of which we own a reference.
    Some(unsafe { OwnedStr::from_raw(member) })
}

/// Scores are dates, times in microseconds and counts, all below 2^53.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
pub(super) fn score_of(number: i64) -> f64 {
    number as f64
}

fn set_expiry(key: *mut RedisModuleKey, at: i64) {
    let set = api!(RedisModule_SetAbsExpire);
    // SAFETY: the key is open for writing.
    unsafe { set(key, at) };
}

fn notify(ctx: Context<'_>, class: c_int, event: &CStr, key: Str<'_>) {
    let notify = api!(RedisModule_NotifyKeyspaceEvent);
    // SAFETY: the context is that of the running command, the event a C string, the key a live string.
    unsafe { notify(ctx.raw(), class, event.as_ptr(), key.raw()) };
}

/// The arguments of a replicated command: on the stack, as long as they are few.
struct Arguments {
    few: [*mut RedisModuleString; FEW],
    len: usize,
    /// All of them, once they are too many for `few`.
    many: Vec<*mut RedisModuleString>,
}

const FEW: usize = 16;

impl Arguments {
    fn of(key: Str<'_>) -> Self {
        let mut arguments = Self { few: [ptr::null_mut(); FEW], len: 0, many: Vec::new() };
        arguments.add(key);
        arguments
    }

    fn add(&mut self, argument: Str<'_>) -> &mut Self {
        if let Some(place) = self.few.get_mut(self.len) {
            *place = argument.raw();
        } else {
            if self.many.is_empty() {
                self.many.extend(self.few);
            }
            self.many.push(argument.raw());
        }
        self.len += 1;
        self
    }

    fn add_all(&mut self, arguments: &[Str<'_>]) -> &mut Self {
        for argument in arguments {
            self.add(*argument);
        }
        self
    }

    fn send(&self, ctx: Context<'_>, command: &CStr) {
        let all = if self.many.is_empty() { &self.few[..self.len] } else { &self.many[..] };
        let replicate = api!(RedisModule_Replicate);
        let (ctx, name) = (ctx.raw(), command.as_ptr());
        // Few arguments are passed one by one: for a vector the server would allocate a second time.
        match *all {
            // SAFETY: as many strings as the format asks for, all live: the caller of `replicate` holds them.
            [a] => unsafe { replicate(ctx, name, c"s".as_ptr(), a) },
            // SAFETY: as many strings as the format asks for, all live: the caller of `replicate` holds them.
            [a, b] => unsafe { replicate(ctx, name, c"ss".as_ptr(), a, b) },
            // SAFETY: as many strings as the format asks for, all live: the caller of `replicate` holds them.
            [a, b, c] => unsafe { replicate(ctx, name, c"sss".as_ptr(), a, b, c) },
            // SAFETY: as many strings as the format asks for, all live: the caller of `replicate` holds them.
            [a, b, c, d] => unsafe { replicate(ctx, name, c"ssss".as_ptr(), a, b, c, d) },
            // SAFETY: as many strings as the format asks for, all live: the caller of `replicate` holds them.
            [a, b, c, d, e] => unsafe { replicate(ctx, name, c"sssss".as_ptr(), a, b, c, d, e) },
            // SAFETY: a vector of live strings, and its length.
            _ => unsafe { replicate(ctx, name, c"v".as_ptr(), all.as_ptr(), all.len()) },
        };
    }
}
