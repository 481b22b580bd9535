//! An open key of a known type.

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::{ptr, slice};

use redis_module::raw::{self, RedisModuleKey, RedisModuleString};

use redis_meter_core::time::Millis;

use super::api::{api, ok};
use super::context::{CallReply, Context};
use super::effect::{self, Effect};
use super::error::Error;
use super::string::{Constant, OwnedStr, Str};

/// A type of value that a key can hold.
pub(crate) trait ValueType {
    const CODE: c_int;

    /// Whether a value of this type will do.
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
/// Whatever it may be.
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
    impl ValueType for Any {
        const CODE: c_int = EMPTY;

        fn includes(_: c_int) -> bool {
            true
        }
    }
    impl ValueType for SortedSet {
        const CODE: c_int = raw::REDISMODULE_KEYTYPE_ZSET as c_int;
    }
    pub(super) const TAIL: c_int = raw::REDISMODULE_LIST_TAIL as c_int;
    pub(super) const HEAD: c_int = raw::REDISMODULE_LIST_HEAD as c_int;
    pub(super) const EMPTY: c_int = raw::REDISMODULE_KEYTYPE_EMPTY as c_int;
}

const READ: c_int = raw::REDISMODULE_READ.cast_signed();
const WRITE: c_int = raw::REDISMODULE_WRITE.cast_signed();

/// What a key is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// To be read and written.
    Write,
}

/// An open key that holds a `T` or nothing. Closed when dropped.
pub(crate) struct Key<'a, T> {
    ctx: Context<'a>,
    name: Str<'a>,
    /// Null for an absent key that was opened to be read.
    raw: *mut RedisModuleKey,
    exists: bool,
    holds: PhantomData<T>,
}

impl<'a, T: ValueType> Key<'a, T> {
    /// Opens `name` to be read.
    ///
    /// # Errors
    /// [`Error::WrongType`] if it holds anything but a `T`.
    pub(crate) fn read(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        Self::open(ctx, name, Access::Read)
    }

    /// Opens `name` to be read and written.
    ///
    /// # Errors
    /// As [`Key::read`].
    pub(crate) fn write(ctx: Context<'a>, name: Str<'a>) -> Result<Self, Error> {
        Self::open(ctx, name, Access::Write)
    }

    /// Opens `name`.
    ///
    /// # Errors
    /// As [`Key::read`].
    pub(crate) fn open(ctx: Context<'a>, name: Str<'a>, access: Access) -> Result<Self, Error> {
        let mode = match access {
            Access::Read => READ,
            Access::Write => READ | WRITE,
        };
        let open = api!(RedisModule_OpenKey);
        // SAFETY: the context is that of the running command, the name a live string.
        let raw = unsafe { open(ctx.raw(), name.raw(), mode) };
        let mut key = Self { ctx, name, raw: raw.cast(), exists: false, holds: PhantomData };
        let code = key.type_code();
        key.exists = code != codes::EMPTY;
        if key.exists && !T::includes(code) { Err(Error::WrongType) } else { Ok(key) }
    }

    fn type_code(&self) -> c_int {
        let key_type = api!(RedisModule_KeyType);
        // SAFETY: the key is open, or null, which the call takes for an absent one.
        unsafe { key_type(self.raw) }
    }

    /// Whether there is a value.
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// How many fields or members there are.
    pub(crate) fn len(&self) -> usize {
        let value_length = api!(RedisModule_ValueLength);
        // SAFETY: the key is open, or null, which the call takes for an absent one.
        unsafe { value_length(self.raw) }
    }

    /// When it expires, if it does.
    pub(crate) fn expiry(&self) -> Option<Millis> {
        if !self.exists {
            return None;
        }
        let expiry = api!(RedisModule_GetAbsExpire);
        // SAFETY: the key exists, so that it is open and not null.
        let at = unsafe { expiry(self.raw) };
        (at != i64::from(raw::REDISMODULE_NO_EXPIRE)).then_some(Millis(at))
    }

    /// Does what each of `effects` says, if it says anything, to this key, in order: writes it, and then, with the key closed, replicates it,
    /// tells who watches the key, and fires the events of the same commands. Call it when nothing can fail any more.
    #[inline(always)]
    pub(crate) fn commit(self, effects: &[Option<Effect<'_>>]) {
        if effects.iter().all(Option::is_none) {
            return;
        }
        for effect in effects.iter().flatten() {
            effect.write(self.raw, self.exists);
        }
        self.publish(effects);
    }

    /// Tells of effects that have been written.
    #[inline(always)]
    fn publish(self, effects: &[Option<Effect<'_>>]) {
        let emptied = self.exists && self.type_code() == codes::EMPTY;
        let (ctx, name) = (self.ctx, self.name);
        drop(self);
        for effect in effects.iter().flatten() {
            effect.replicate(ctx, name);
        }
        ctx.signal_modified(name);
        for effect in effects.iter().flatten() {
            effect.notify(ctx, name, emptied);
        }
    }
}

impl<'a, T: ValueType> Key<'a, T> {
    /// Runs a core command that writes this key, for which the API has no function, and replicates it as it is if its
    /// answer satisfies `changed`; whether it does. The server itself tells who watches the key, and fires the events.
    ///
    /// # Errors
    /// The server refuses; nothing has been changed.
    fn run(self, command: &CStr, argument: Str<'_>, changed: impl FnOnce(&CallReply) -> bool) -> Result<bool, Refusal> {
        let (ctx, name) = (self.ctx, self.name);
        drop(self);
        let reply = ctx.call(command, &[name, argument]).filter(|reply| !reply.is_error()).ok_or(Refusal)?;
        let changed = changed(&reply);
        if changed {
            effect::replicate(ctx, command, name, argument);
        }
        Ok(changed)
    }

    /// `RENAME key to`; a value at `to` is replaced. The expiry goes with it.
    pub(crate) fn rename(self, to: Str<'_>) {
        if self.exists {
            let renamed = self.run(c"RENAME", to, |_| true);
            debug_assert!(renamed.is_ok(), "both keys are of one slot, and the first exists");
        }
    }
}

/// The server has refused to run a command.
#[derive(Debug)]
pub(crate) struct Refusal;

impl<T> Drop for Key<'_, T> {
    fn drop(&mut self) {
        let close = api!(RedisModule_CloseKey);
        // SAFETY: the key is open, or null, which the call takes; it is closed once.
        unsafe { close(self.raw) };
    }
}

impl Key<'_, Text> {
    /// The value, if there is one.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        if !self.exists {
            return None;
        }
        let dma = api!(RedisModule_StringDMA);
        let mut len = 0;
        // SAFETY: the key exists and holds a string.
        let data = unsafe { dma(self.raw, &raw mut len, READ) };
        // SAFETY: the server lends `len` bytes at `data` until the key is written or closed, and `&self` outlives
        // neither.
        Some(unsafe { slice::from_raw_parts(data.cast(), len) })
    }
}

impl<'a> Key<'a, Text> {
    /// `PFADD key element`.
    ///
    /// # Errors
    /// The key holds a string that is no HyperLogLog. Nothing has been changed.
    pub(crate) fn add_to_hyperloglog(self, element: Str<'_>) -> Result<(), Refusal> {
        self.run(c"PFADD", element, |reply| reply.integer() == 1).map(drop)
    }
}

impl Key<'_, Set> {
    /// Whether `member` is in the set.
    pub(crate) fn contains(&self, member: Str<'_>) -> bool {
        self.exists && self.ctx.call(c"SISMEMBER", &[self.name, member]).is_some_and(|reply| reply.integer() == 1)
    }

    /// `SADD key member`: whether it was not there before.
    pub(crate) fn insert(self, member: Str<'_>) -> bool {
        let inserted = self.run(c"SADD", member, |reply| reply.integer() == 1);
        debug_assert!(inserted.is_ok(), "the key holds a set or nothing");
        inserted.unwrap_or(true)
    }
}

impl Key<'_, List> {
    /// Takes up to `n` elements from the tail, the last one first: `RPOP key n`.
    pub(crate) fn pop_tail(self, n: usize) -> Vec<OwnedStr> {
        let mut popped = Vec::new();
        while popped.len() < n
            && let Some(element) = list_pop(self.raw)
        {
            popped.push(element);
        }
        if !popped.is_empty() {
            self.publish(&[Some(Effect::ListPop(popped.len()))]);
        }
        popped
    }
}

/// Takes the last element of a list that is open to be written.
pub(super) fn list_pop(key: *mut RedisModuleKey) -> Option<OwnedStr> {
    let pop = api!(RedisModule_ListPop);
    // SAFETY: the key is open for writing and holds a list or nothing.
    let element = unsafe { pop(key, codes::TAIL) };
    if element.is_null() {
        return None;
    }
    // SAFETY: an element that is not null is a string of which we own a reference.
    Some(unsafe { OwnedStr::from_raw(element) })
}

/// Puts an element before the first of a list that is open to be written.
pub(super) fn list_push(key: *mut RedisModuleKey, element: Str<'_>) {
    let push = api!(RedisModule_ListPush);
    // SAFETY: the key is open for writing and holds a list or nothing; the server takes a reference of its own.
    unsafe { push(key, codes::HEAD, element.raw()) };
}

impl Key<'_, Hash> {
    /// The value of a field, if it is there.
    pub(crate) fn get(&self, field: Str<'_>) -> Option<OwnedStr> {
        if !self.exists {
            return None;
        }
        let hash_get = api!(RedisModule_HashGet);
        let mut value: *mut RedisModuleString = ptr::null_mut();
        let end: *mut c_void = ptr::null_mut();
        // SAFETY: the key exists and holds a hash; one field, one place for its value, and the end of the list.
        unsafe { hash_get(self.raw, raw::REDISMODULE_HASH_NONE.cast_signed(), field.raw(), &raw mut value, end) };
        if value.is_null() {
            return None;
        }
        // SAFETY: a value that is not null is a string of which we own a reference.
        Some(unsafe { OwnedStr::from_raw(value) })
    }

    /// The values of two fields, in one call.
    pub(crate) fn get_both(&self, fields: [Str<'_>; 2]) -> [Option<OwnedStr>; 2] {
        if !self.exists {
            return [None, None];
        }
        let hash_get = api!(RedisModule_HashGet);
        let [first, second] = fields.map(Str::raw);
        let (mut one, mut two): (*mut RedisModuleString, *mut RedisModuleString) = (ptr::null_mut(), ptr::null_mut());
        let (flags, end) = (raw::REDISMODULE_HASH_NONE.cast_signed(), ptr::null_mut::<c_void>());
        // SAFETY: the key exists and holds a hash; two fields with places for their values, and the end of the list.
        unsafe { hash_get(self.raw, flags, first, &raw mut one, second, &raw mut two, end) };
        // SAFETY: a value that is not null is a string of which we own a reference.
        [one, two].map(|value| (!value.is_null()).then(|| unsafe { OwnedStr::from_raw(value) }))
    }

    /// The values of four fields, in one call.
    pub(crate) fn get_four(&self, fields: [Str<'_>; 4]) -> [Option<OwnedStr>; 4] {
        if !self.exists {
            return [const { None }; 4];
        }
        let hash_get = api!(RedisModule_HashGet);
        let [a, b, c, d] = fields.map(Str::raw);
        let mut values: [*mut RedisModuleString; 4] = [ptr::null_mut(); 4];
        let [one, two, three, four] = values.each_mut().map(|value| &raw mut *value);
        let (flags, end) = (raw::REDISMODULE_HASH_NONE.cast_signed(), ptr::null_mut::<c_void>());
        // SAFETY: the key exists and holds a hash; four fields with places for their values, and the end of the list.
        unsafe { hash_get(self.raw, flags, a, one, b, two, c, three, d, four, end) };
        // SAFETY: a value that is not null is a string of which we own a reference.
        values.map(|value| (!value.is_null()).then(|| unsafe { OwnedStr::from_raw(value) }))
    }

    /// Calls `visit` with each field and its value. A field may be visited twice in a hash that is being resized.
    pub(crate) fn each<F: FnMut(&[u8], &[u8])>(&self, mut visit: F) {
        if !self.exists {
            return;
        }
        let create = api!(RedisModule_ScanCursorCreate);
        // SAFETY: takes nothing.
        let cursor = unsafe { create() };
        let scan = api!(RedisModule_ScanKey);
        // SAFETY: the key exists and holds a hash; the cursor is live; `visit_field` takes back what is passed as
        // `&mut F`, which outlives the call.
        while unsafe { scan(self.raw, cursor, Some(visit_field::<F>), (&raw mut visit).cast()) } != 0 {}
        let destroy = api!(RedisModule_ScanCursorDestroy);
        // SAFETY: made above, freed once.
        unsafe { destroy(cursor) };
    }
}

unsafe extern "C" fn visit_field<F: FnMut(&[u8], &[u8])>(
    _key: *mut RedisModuleKey,
    field: *mut RedisModuleString,
    value: *mut RedisModuleString,
    visit: *mut c_void,
) {
    // SAFETY: `each` passed a pointer to its `F` and waits for this call.
    let visit = unsafe { &mut *visit.cast::<F>() };
    // SAFETY: the server keeps both strings for the call.
    let field = unsafe { Str::from_raw(field) };
    // SAFETY: as above.
    let value = unsafe { Str::from_raw(value) };
    visit(field.bytes(), value.bytes());
}

static MINUS_INFINITY: Constant = Constant::new("-inf");
static WITH_SCORES: Constant = Constant::new("WITHSCORES");

/// As many members are looked at one by one; above that a core command is cheaper.
const FEW: usize = 64;

impl Key<'_, SortedSet> {
    /// The score of a member, if it is there.
    pub(crate) fn score(&self, member: Str<'_>) -> Option<f64> {
        if !self.exists {
            return None;
        }
        let zset_score = api!(RedisModule_ZsetScore);
        let mut score = 0.0;
        // SAFETY: the key exists and holds a sorted set; the member is a live string.
        let found = unsafe { zset_score(self.raw, member.raw(), &raw mut score) };
        (found == ok()).then_some(score)
    }

    /// Adds a member if it is not there, and says whether it was added: [`Effect::SortedSetAdded`] is to tell of it.
    pub(crate) fn add_new(&self, score: i64, member: Str<'_>) -> bool {
        let add = api!(RedisModule_ZsetAdd);
        let mut flags = raw::REDISMODULE_ZADD_NX.cast_signed();
        // SAFETY: the key is open for writing and holds a sorted set or nothing; the member is a live string.
        unsafe { add(self.raw, effect::score_of(score), member.raw(), &raw mut flags) };
        flags & raw::REDISMODULE_ZADD_ADDED.cast_signed() != 0
    }

    /// The members with scores from `min` to `max` and their scores, in this order; `take` says of each whether to go on.
    pub(crate) fn each_scored(&self, order: Order, min: f64, max: f64, mut take: impl FnMut(OwnedStr, f64) -> bool) {
        self.begin(order, min, max);
        while let Some((member, score)) = self.current() {
            if !take(member, score) {
                break;
            }
            self.advance(order);
        }
        self.stop();
    }

    /// Goes to the first member, in this order, with a score from `min` to `max`. What was begun before ends.
    pub(crate) fn begin(&self, order: Order, min: f64, max: f64) {
        if !self.exists {
            return;
        }
        let begin = match order {
            Order::Ascending => api!(RedisModule_ZsetFirstInScoreRange),
            Order::Descending => api!(RedisModule_ZsetLastInScoreRange),
        };
        // SAFETY: the key exists and holds a sorted set.
        unsafe { begin(self.raw, min, max, 0, 0) };
    }

    /// Goes on to the member after the current one.
    pub(crate) fn advance(&self, order: Order) {
        if !self.exists {
            return;
        }
        let next = match order {
            Order::Ascending => api!(RedisModule_ZsetRangeNext),
            Order::Descending => api!(RedisModule_ZsetRangePrev),
        };
        // SAFETY: the key exists and holds a sorted set; without a range the call does nothing.
        unsafe { next(self.raw) };
    }

    /// Ends a range that was begun.
    fn stop(&self) {
        if !self.exists {
            return;
        }
        let stop = api!(RedisModule_ZsetRangeStop);
        // SAFETY: the key exists and holds a sorted set.
        unsafe { stop(self.raw) };
    }

    /// Calls `take` with each member, which says whether to go on.
    pub(crate) fn each(&self, mut take: impl FnMut(&[u8]) -> bool) {
        self.each_scored(Order::Ascending, f64::NEG_INFINITY, f64::INFINITY, |member, _| take(&member));
    }

    /// How many members have scores up to `max`.
    pub(crate) fn count_up_to(&self, max: i64) -> usize {
        let mut seen = 0;
        self.begin(Order::Ascending, f64::NEG_INFINITY, super::effect::score_of(max));
        while seen < FEW && !self.is_at_end() {
            seen += 1;
            self.advance(Order::Ascending);
        }
        self.stop();
        if seen < FEW {
            return seen;
        }
        // Too many to be counted one by one, which the server need not do.
        let max = OwnedStr::from_integer(max);
        let count = self.ctx.call(c"ZCOUNT", &[self.name, MINUS_INFINITY.get(), max.as_str()]);
        count.and_then(|count| usize::try_from(count.integer()).ok()).unwrap_or(seen)
    }

    /// The score of the member at a rank, from 0, the lowest.
    pub(crate) fn score_at(&self, rank: usize) -> Option<f64> {
        let from_top = self.len().checked_sub(rank + 1)?;
        let (order, steps) = if rank <= from_top { (Order::Ascending, rank) } else { (Order::Descending, from_top) };
        if steps >= FEW {
            let place = OwnedStr::from_integer(i64::try_from(rank).ok()?);
            let place = place.as_str();
            return self.ctx.call(c"ZRANGE", &[self.name, place, place, WITH_SCORES.get()])?.text_at(1)?.parse().ok();
        }
        self.begin(order, f64::NEG_INFINITY, f64::INFINITY);
        for _ in 0..steps {
            self.advance(order);
        }
        let found = self.current();
        self.stop();
        found.map(|(_, score)| score)
    }

    /// Whether a range has come to its end.
    fn is_at_end(&self) -> bool {
        if !self.exists {
            return true;
        }
        let end_reached = api!(RedisModule_ZsetRangeEndReached);
        // SAFETY: the key exists and holds a sorted set; without a range the end is reached.
        unsafe { end_reached(self.raw) != 0 }
    }

    /// The member that a range has come to, and its score; `None` at the range's end.
    pub(crate) fn current(&self) -> Option<(OwnedStr, f64)> {
        if self.is_at_end() {
            return None;
        }
        let current = api!(RedisModule_ZsetRangeCurrentElement);
        let mut score = 0.0;
        // SAFETY: called within a range.
        let member = unsafe { current(self.raw, &raw mut score) };
        if member.is_null() {
            return None;
        }
        // SAFETY: a member that is not null is a string of which we own a reference.
        Some((unsafe { OwnedStr::from_raw(member) }, score))
    }
}

/// The order in which the members of a sorted set are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}
