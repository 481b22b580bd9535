//! What a call does to its keys, in the vocabulary of the core commands. One value says both what is written here and what
//! replicas and the AOF are told, so that the two cannot differ; and it names the events that the key fires.
//!
//! All keys of a call are written, each is closed, and only then are replicas, watchers and subscribers told ([`tell`]):
//! subscribers are other modules too, which may write.

use std::ffi::{CStr, c_int};
use std::ptr;

use redis_meter_core::time::Millis;
use redis_module::raw::{self, RedisModuleString};

use super::api::api;
use super::context::{Context, facts};
use super::key::{Any, Hash, Key, List, SortedSet, Text, ValueType, Writable};
use super::propagation;
use super::string::{Constant, OwnedStr, Str};

static ZERO: Constant = Constant::new("0");
static KEEPTTL: Constant = Constant::new("KEEPTTL");
static PXAT: Constant = Constant::new("PXAT");

/// The most fields or members that go into one replicated command.
const MOST: usize = 512;

/// When a string expires after it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// As before.
    Keep,
    /// At this instant.
    At(Millis),
}

/// Fields of a hash and their values. A day and its hour are so frequent that they are not allocated.
pub(crate) enum Fields<'a> {
    Two([(Str<'a>, OwnedStr); 2]),
    Many(Vec<(Str<'a>, OwnedStr)>),
}

/// One core command, done to one key; of many fields or members, as many commands as they need.
pub(crate) enum Effect<'a> {
    /// `SET key integer KEEPTTL`, or with `PXAT`. A new key needs an expiry.
    Set(i64, Expiry),
    /// `HSET key field value [field value …]`
    HashSet(Fields<'a>),
    /// `HDEL key field [field …]`
    HashDelete(Vec<Str<'a>>),
    /// `ZADD key score member [score member …]`
    SortedSetScores(Vec<Scored>),
    /// `ZADD key score member [member …]`, all with the same score, of members that are not there
    SortedSetAddNew(i64, Vec<OwnedStr>),
    /// `ZADD key count member [count member …]`
    SortedSetCounts(Vec<Counted<'a>>),
    /// `ZREM key member [member …]`
    SortedSetRemove(Vec<OwnedStr>),
    /// `ZREMRANGEBYRANK key 0 n-1`, of the members that have the lowest scores
    SortedSetTrim(Vec<OwnedStr>),
    /// `LPUSH key element [element …]`
    ListPush(&'a [OwnedStr]),
    /// `RPOP key n`
    ListPop(usize),
    /// `PEXPIREAT key ms`, or `PERSIST key`
    Expire(Option<Millis>),
    /// `UNLINK key`
    Delete,
}

/// A member of a sorted set, and the score that it is to have.
pub(crate) struct Scored {
    pub(crate) member: OwnedStr,
    pub(crate) score: i64,
    /// Whether it is not there.
    pub(crate) is_new: bool,
}

/// A member of a sorted set of counts, and its count before and after.
#[derive(Clone, Copy)]
pub(crate) struct Counted<'a> {
    pub(crate) member: Str<'a>,
    /// 0 if it is not there.
    pub(crate) before: i64,
    pub(crate) after: i64,
}

/// The most effects that one key has in one call.
const MOST_EFFECTS: usize = 4;

/// The effects on one key, in order.
pub(crate) type Effects<'a> = [Option<Effect<'a>>; MOST_EFFECTS];

/// One key that has been written and closed, and not yet been told of.
#[must_use = "replicas, watchers and subscribers must be told"]
pub(crate) struct Change<'a> {
    key: Str<'a>,
    effects: Effects<'a>,
    /// Whether the key went with its last element, field or member.
    emptied: bool,
}

/// The effects, filled up with none.
#[inline(always)]
pub(crate) fn effects<'a, const N: usize>(given: [Option<Effect<'a>>; N]) -> Effects<'a> {
    const { assert!(N <= MOST_EFFECTS) };
    let mut effects = [const { None }; MOST_EFFECTS];
    for (place, effect) in effects.iter_mut().zip(given) {
        *place = effect;
    }
    effects
}

/// A type of value, and how an effect is written to it.
pub(crate) trait Writes: ValueType + Sized {
    /// Writes an effect of this type. Those of other types write nothing; the API would refuse them.
    fn write(key: &Key<'_, Self, Writable>, effect: &Effect<'_>);
}

impl Writes for Text {
    #[inline(always)]
    fn write(key: &Key<'_, Self, Writable>, effect: &Effect<'_>) {
        if let Effect::Set(value, expiry) = effect {
            key.set(*value);
            if let Expiry::At(at) = *expiry {
                key.set_expiry(Some(at));
            }
        }
    }
}

impl Writes for Hash {
    fn write(key: &Key<'_, Self, Writable>, effect: &Effect<'_>) {
        match effect {
            Effect::HashSet(Fields::Two([(first, one), (second, two)])) => {
                key.set_two([(*first, one.as_str()), (*second, two.as_str())]);
            }
            Effect::HashSet(Fields::Many(pairs)) => {
                for (field, value) in pairs {
                    key.set_field(*field, value.as_str());
                }
            }
            Effect::HashDelete(fields) => fields.iter().for_each(|field| key.delete_field(*field)),
            _ => {}
        }
    }
}

impl Writes for SortedSet {
    fn write(key: &Key<'_, Self, Writable>, effect: &Effect<'_>) {
        match effect {
            Effect::SortedSetScores(members) => {
                members.iter().for_each(|scored| match scored.is_new {
                    true => key.add_new(scored.score, scored.member.as_str()),
                    false => key.add(scored.score, scored.member.as_str()),
                });
            }
            Effect::SortedSetAddNew(score, members) => {
                members.iter().for_each(|member| key.add_new(*score, member.as_str()));
            }
            Effect::SortedSetCounts(counts) => counts.iter().for_each(|counted| match counted.before {
                0 => key.add(counted.after, counted.member),
                before => key.increment(counted.after - before, counted.member),
            }),
            Effect::SortedSetRemove(members) => members.iter().for_each(|member| key.remove(member.as_str())),
            Effect::SortedSetTrim(members) => members.iter().for_each(|member| key.remove(member.as_str())),
            _ => {}
        }
    }
}

impl Writes for List {
    fn write(key: &Key<'_, Self, Writable>, effect: &Effect<'_>) {
        if let Effect::ListPush(elements) = effect {
            elements.iter().for_each(|element| key.push_head(element.as_str()));
        }
    }
}

impl Writes for Any {
    fn write(_: &Key<'_, Self, Writable>, _: &Effect<'_>) {}
}

impl<'a, T: Writes> Key<'a, T, Writable> {
    /// Does what each of `effects` says, if it says anything, to this key, in order, and closes it. Call it when nothing
    /// can fail any more.
    #[inline(always)]
    pub(crate) fn change(self, effects: Effects<'a>) -> Option<Change<'a>> {
        if effects.iter().all(Option::is_none) || !self.may_be_written() {
            return None;
        }
        for effect in effects.iter().flatten() {
            match effect {
                Effect::Expire(at) => self.set_expiry(*at),
                Effect::Delete => self.unlink(),
                other => T::write(&self, other),
            }
        }
        let key = self.name();
        Some(Change { key, effects, emptied: self.close_written() })
    }
}

impl<'a> Key<'a, List, Writable> {
    /// Takes up to `n` elements from the tail, the last one first.
    pub(crate) fn take(self, n: usize) -> (Vec<OwnedStr>, Option<Change<'a>>) {
        let popped = self.pop_tail(n);
        if popped.is_empty() {
            return (popped, None);
        }
        let key = self.name();
        let effects = effects([Some(Effect::ListPop(popped.len()))]);
        let change = Change { key, effects, emptied: self.close_written() };
        (popped, Some(change))
    }
}

/// Tells replicas and the AOF, then `WATCH` and client-side caches of the keys, then the subscribers of events. All keys must be
/// closed.
#[inline(always)]
pub(crate) fn tell<'c, 'a: 'c>(ctx: Context<'_>, changes: impl Iterator<Item = &'c Change<'a>> + Clone) {
    for change in changes.clone() {
        for effect in change.effects.iter().flatten() {
            effect.replicate(ctx, change.key);
        }
    }
    for change in changes.clone() {
        ctx.signal_modified(change.key);
    }
    for change in changes {
        for effect in change.effects.iter().flatten() {
            effect.notify(ctx, change.key);
        }
        if change.emptied {
            notify(ctx, raw::REDISMODULE_NOTIFY_GENERIC, c"del", change.key);
        }
    }
}

impl Change<'_> {
    /// Tells of the one key that a call has changed.
    #[inline(always)]
    pub(crate) fn tell(&self, ctx: Context<'_>) {
        tell(ctx, std::iter::once(self));
    }
}

impl Fields<'_> {
    fn pairs(&self) -> &[(Str<'_>, OwnedStr)] {
        match self {
            Self::Two(pairs) => pairs,
            Self::Many(pairs) => pairs,
        }
    }
}

impl Effect<'_> {
    /// Tells replicas and the AOF, if there are any.
    #[inline]
    fn replicate(&self, ctx: Context<'_>, key: Str<'_>) {
        if propagation::is_needless() {
            propagation::count_changes(ctx, self.commands());
        } else {
            propagation::note_propagated();
            self.propagate(ctx, key);
        }
    }

    /// As how many core commands it is replicated.
    #[inline]
    fn commands(&self) -> usize {
        let chunked = match self {
            Self::HashSet(fields) => fields.pairs().len(),
            Self::SortedSetAddNew(_, members) | Self::SortedSetRemove(members) => members.len(),
            Self::SortedSetScores(members) => members.len(),
            Self::SortedSetCounts(counts) => counts.len(),
            Self::ListPush(elements) => elements.len(),
            _ => 1,
        };
        chunked.div_ceil(MOST)
    }

    fn propagate(&self, ctx: Context<'_>, key: Str<'_>) {
        match self {
            Self::Set(value, Expiry::Keep) => {
                let value = OwnedStr::from_integer(*value);
                Arguments::of(key).add(value.as_str()).add(KEEPTTL.get()).send(ctx, c"SET");
            }
            Self::Set(value, Expiry::At(at)) => {
                let [value, at] = [*value, at.0].map(OwnedStr::from_integer);
                Arguments::of(key).add(value.as_str()).add(PXAT.get()).add(at.as_str()).send(ctx, c"SET");
            }
            Self::HashSet(fields) => {
                for pairs in fields.pairs().chunks(MOST) {
                    let mut arguments = Arguments::of(key);
                    for (field, value) in pairs {
                        arguments.add(*field).add(value.as_str());
                    }
                    arguments.send(ctx, c"HSET");
                }
            }
            Self::HashDelete(fields) => Arguments::of(key).add_all(fields).send(ctx, c"HDEL"),
            Self::SortedSetAddNew(score, members) => {
                let score = OwnedStr::from_integer(*score);
                for members in members.chunks(MOST) {
                    let mut arguments = Arguments::of(key);
                    for member in members {
                        arguments.add(score.as_str()).add(member.as_str());
                    }
                    arguments.send(ctx, c"ZADD");
                }
            }
            Self::SortedSetScores(members) => {
                replicate_scores(ctx, key, members.iter().map(|scored| (scored.member.as_str(), scored.score)));
            }
            Self::SortedSetCounts(counts) => {
                replicate_scores(ctx, key, counts.iter().map(|counted| (counted.member, counted.after)));
            }
            Self::SortedSetRemove(members) => {
                for members in members.chunks(MOST) {
                    Arguments::of(key).add_all(OwnedStr::as_strs(members)).send(ctx, c"ZREM");
                }
            }
            Self::SortedSetTrim(members) => {
                let last = OwnedStr::from_integer(i64::try_from(members.len()).unwrap_or(i64::MAX) - 1);
                Arguments::of(key).add(ZERO.get()).add(last.as_str()).send(ctx, c"ZREMRANGEBYRANK");
            }
            Self::ListPush(elements) => {
                for elements in elements.chunks(MOST) {
                    Arguments::of(key).add_all(OwnedStr::as_strs(elements)).send(ctx, c"LPUSH");
                }
            }
            Self::ListPop(n) => {
                let n = OwnedStr::from_integer(i64::try_from(*n).unwrap_or(i64::MAX));
                Arguments::of(key).add(n.as_str()).send(ctx, c"RPOP");
            }
            Self::Expire(Some(at)) => {
                let at = OwnedStr::from_integer(at.0);
                Arguments::of(key).add(at.as_str()).send(ctx, c"PEXPIREAT");
            }
            Self::Expire(None) => Arguments::of(key).send(ctx, c"PERSIST"),
            Self::Delete => Arguments::of(key).send(ctx, c"UNLINK"),
        }
    }

    /// Fires the keyspace events.
    #[inline]
    fn notify(&self, ctx: Context<'_>, key: Str<'_>) {
        let each = |len: usize, class: c_int, event: &CStr| {
            for _ in 0..len.div_ceil(MOST) {
                notify(ctx, class, event, key);
            }
        };
        match self {
            Self::Set(_, expiry) => {
                notify(ctx, raw::REDISMODULE_NOTIFY_STRING, c"set", key);
                if let Expiry::At(_) = expiry {
                    notify(ctx, raw::REDISMODULE_NOTIFY_GENERIC, c"expire", key);
                }
            }
            Self::HashSet(fields) => each(fields.pairs().len(), raw::REDISMODULE_NOTIFY_HASH, c"hset"),
            Self::HashDelete(_) => notify(ctx, raw::REDISMODULE_NOTIFY_HASH, c"hdel", key),
            Self::SortedSetAddNew(_, members) => {
                each(members.len(), raw::REDISMODULE_NOTIFY_ZSET, c"zadd");
            }
            Self::SortedSetScores(members) => each(members.len(), raw::REDISMODULE_NOTIFY_ZSET, c"zadd"),
            Self::SortedSetCounts(_) => notify(ctx, raw::REDISMODULE_NOTIFY_ZSET, c"zadd", key),
            Self::SortedSetRemove(members) => each(members.len(), raw::REDISMODULE_NOTIFY_ZSET, c"zrem"),
            Self::SortedSetTrim(_) => notify(ctx, raw::REDISMODULE_NOTIFY_ZSET, c"zremrangebyrank", key),
            Self::ListPush(elements) => each(elements.len(), raw::REDISMODULE_NOTIFY_LIST, c"lpush"),
            Self::ListPop(_) => notify(ctx, raw::REDISMODULE_NOTIFY_LIST, c"rpop", key),
            Self::Expire(Some(_)) => notify(ctx, raw::REDISMODULE_NOTIFY_GENERIC, c"expire", key),
            Self::Expire(None) => notify(ctx, raw::REDISMODULE_NOTIFY_GENERIC, c"persist", key),
            // Told by what has become of the key.
            Self::Delete => {}
        }
    }
}

/// Replicates `ZADD key score member [score member …]`.
fn replicate_scores<'a>(ctx: Context<'_>, key: Str<'_>, scored: impl ExactSizeIterator<Item = (Str<'a>, i64)>) {
    let mut scored = scored.peekable();
    while scored.peek().is_some() {
        let chunk: Vec<(Str<'_>, OwnedStr)> =
            scored.by_ref().take(MOST).map(|(member, score)| (member, OwnedStr::from_integer(score))).collect();
        let mut arguments = Arguments::of(key);
        for (member, score) in &chunk {
            arguments.add(score.as_str()).add(*member);
        }
        arguments.send(ctx, c"ZADD");
    }
}

fn notify(ctx: Context<'_>, class: c_int, event: &CStr, key: Str<'_>) {
    let notify = api!(RedisModule_NotifyKeyspaceEvent);
    // SAFETY: the context is that of the running command, the event a C string, the key a live string.
    unsafe { notify(ctx.raw(), class, event.as_ptr(), key.raw()) };
}

/// A core command that the API has no function for. The server runs it by name, invalidates `WATCH` of its key, and fires its
/// events at once: no key may be open.
pub(crate) struct CoreCommand;

impl CoreCommand {
    /// `PFADD key element`: whether the key has changed; `None` if it holds a string that is no HyperLogLog, or if the
    /// server does not know the command.
    pub(crate) fn add_to_hyperloglog(ctx: Context<'_>, key: Str<'_>, element: Str<'_>) -> Option<bool> {
        if *facts::WRITES_EMPTY_TRANSACTIONS && ctx.call(c"PFCOUNT", &[key, key]).is_none_or(|reply| reply.is_error()) {
            return None;
        }
        Self::run(ctx, c"PFADD", key, element)
    }

    /// `SADD key member`: whether it was not there before; `None` if it can't be run.
    pub(crate) fn add_to_set(ctx: Context<'_>, key: Str<'_>, member: Str<'_>) -> Option<bool> {
        let is_known = || ctx.call(c"SISMEMBER", &[key, member]).is_some_and(|reply| reply.integer() == 1);
        if *facts::WRITES_EMPTY_TRANSACTIONS && is_known() {
            return Some(false);
        }
        Self::run(ctx, c"SADD", key, member)
    }

    /// `RENAME key to`; a value at `to` is replaced, and the expiry goes with it. `None` if there is no such key.
    pub(crate) fn rename(ctx: Context<'_>, key: Str<'_>, to: Str<'_>) -> Option<bool> {
        if !Key::<Any>::read(ctx, key).is_ok_and(|key| key.exists()) {
            return None;
        }
        // It can't fail, and is replicated before what other modules do at its events.
        Arguments::of(key).add(to).send(ctx, c"RENAME");
        ctx.call_unreplicated(c"RENAME", key, to).map(|reply| !reply.is_error())
    }

    /// Runs one that returns 1 if it has changed something. What another module did to the key at an event of it was
    /// replicated before it: where the key has gone, that is said again.
    fn run(ctx: Context<'_>, command: &CStr, key: Str<'_>, argument: Str<'_>) -> Option<bool> {
        let reply = ctx.call(command, &[key, argument]).filter(|reply| !reply.is_error())?;
        let changed = reply.integer() == 1;
        if changed && !Key::<Any>::read(ctx, key).is_ok_and(|key| key.exists()) {
            Arguments::of(key).send(ctx, c"UNLINK");
        }
        Some(changed)
    }
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
