//! A meter is a key `K`; what belongs to it lies in keys whose names are derived from `K`.
//!
//! | key | type | content |
//! |---|---|---|
//! | `K` | sorted set | the index: the days stored, see `index` |
//! | `K:day:20220809` | hash | a day's counts, see `day` |
//! | `K:day:20220809:path` | sorted set | members of its breakdown by count, see `path` |
//! | `K:day:20220809:path:m1:m2` | sorted set | members below m2, which is below m1 |
//! | `K:day:20220809:unique` | string | a HyperLogLog of its ids, see `unique` |
//! | `K:day:20220809:once` | set | ids of events that were counted, see `once` |
//! | `K:month:202208` | hash | what was sealed or dropped of each day of a month, see `month` |
//! | `K:batch` | hash | the open batch, see `batch` |
//! | `K:sealed:<id>:day:20220809` | as above | a key of that batch |
//!
//! In a cluster the derived keys must lie in `K`'s slot. If `K` has a hash tag they inherit it; otherwise the whole of
//! `K` is made one, `{K}:day:…`.

use crate::server::{Access, Context, Error, Key, OwnedStr, Str, ValueType, Writable, facts};
use redis_meter_core::calendar::{Day, Month};

/// A meter, and how the names of its keys begin.
#[derive(Clone, Copy)]
pub(crate) struct Meter<'a> {
    key: Str<'a>,
    tagged: bool,
}

/// The name of the key of a day's counts, after `K:`.
pub(crate) fn day_rest(day: Day) -> [u8; 12] {
    of_day(*b"day:00000000", day)
}

/// The name of the key of a day's distinct ids, after `K:`.
pub(crate) fn unique_rest(day: Day) -> [u8; 19] {
    of_day(*b"day:00000000:unique", day)
}

fn of_day<const N: usize>(mut rest: [u8; N], day: Day) -> [u8; N] {
    rest[4..12].copy_from_slice(&day.digits());
    rest
}

/// The names of the keys of days' counts, of which all but the date is put together once.
pub(crate) struct DayKeys {
    name: Vec<u8>,
    /// Where the date begins.
    date: usize,
}

impl DayKeys {
    /// The key of a day's counts, `K:day:20220809`.
    pub(crate) fn of(&mut self, day: Day) -> OwnedStr {
        self.name[self.date..].copy_from_slice(&day.digits());
        OwnedStr::new(&self.name)
    }
}

/// Names up to this length are put together on the stack.
const SHORT: usize = 256;

impl<'a> Meter<'a> {
    /// The meter `key`.
    ///
    /// # Errors
    /// In a cluster, a key that can be no hash tag.
    pub(crate) fn new(key: Str<'a>) -> Result<Self, Error> {
        let tagged = *facts::CLUSTER
            && needs_tag(key.bytes()).ok_or_else(|| {
                Error::refused(
                    "in a cluster the key of a meter must not be empty, nor hold a } without a hash tag; \
                     name it as {tag}rest, or without braces",
                )
            })?;
        Ok(Self { key, tagged })
    }

    /// `K` itself.
    pub(crate) fn key(&self) -> Str<'a> {
        self.key
    }

    /// The key of a day's counts, `K:day:20220809`.
    pub(crate) fn day_key(&self, day: Day) -> OwnedStr {
        self.rest_key(&day_rest(day))
    }

    /// The same, for many days.
    pub(crate) fn day_keys(&self) -> DayKeys {
        let mut name = self.name_start();
        name.extend_from_slice(&day_rest(Day::FIRST));
        DayKeys { date: name.len() - Day::FIRST.digits().len(), name }
    }

    /// The key of the ids of events that were counted in a day, `K:day:20220809:once`.
    pub(crate) fn once_key(&self, day: Day) -> OwnedStr {
        self.rest_key(&of_day(*b"day:00000000:once", day))
    }

    /// The key of the distinct ids of a day, `K:day:20220809:unique`.
    pub(crate) fn unique_key(&self, day: Day) -> OwnedStr {
        self.rest_key(&unique_rest(day))
    }

    /// The key of a month, `K:month:202208`.
    pub(crate) fn month_key(&self, month: Month) -> OwnedStr {
        let mut rest = *b":month:000000";
        rest[7..].copy_from_slice(&month.digits());
        self.derived(&[&rest])
    }

    /// The key of the open batch, `K:batch`.
    pub(crate) fn batch_key(&self) -> OwnedStr {
        self.derived(&[b":batch"])
    }

    /// The key with this rest of a name, `K:rest`.
    pub(crate) fn rest_key(&self, rest: &[u8]) -> OwnedStr {
        self.derived(&[b":", rest])
    }

    /// The key that `K:rest` becomes in a batch, `K:sealed:<id>:rest`.
    pub(crate) fn sealed_key(&self, batch: &[u8], rest: &[u8]) -> OwnedStr {
        self.derived(&[b":sealed:", batch, b":", rest])
    }

    /// How the names of all derived keys begin: `K:`, to be continued.
    pub(crate) fn name_start(&self) -> Vec<u8> {
        let mut name = Vec::with_capacity(SHORT);
        if self.tagged {
            name.push(b'{');
        }
        name.extend_from_slice(self.key.bytes());
        if self.tagged {
            name.push(b'}');
        }
        name.push(b':');
        name
    }

    /// Opens a key that is derived from `K`, to be read. Where it is absent, makes sure that it is not elsewhere.
    ///
    /// # Errors
    /// A key of another type, or [`Error::TryAgain`].
    pub(crate) fn read<'k, T: ValueType>(&self, ctx: Context<'k>, name: &'k OwnedStr) -> Result<Key<'k, T>, Error> {
        self.open(ctx, name)
    }

    /// The same, to be read and written.
    ///
    /// # Errors
    /// As [`Meter::read`].
    pub(crate) fn write<'k, T: ValueType>(
        &self,
        ctx: Context<'k>,
        name: &'k OwnedStr,
    ) -> Result<Key<'k, T, Writable>, Error> {
        self.open(ctx, name)
    }

    fn open<'k, T: ValueType, A: Access>(&self, ctx: Context<'k>, name: &'k OwnedStr) -> Result<Key<'k, T, A>, Error> {
        let key = Key::open(ctx, name.as_str())?;
        if !key.exists() {
            self.ensure_absent(ctx, name.as_str())?;
        }
        Ok(key)
    }

    /// Makes sure that the absent key `derived` is not on another node; see [`Context::may_be_elsewhere`].
    ///
    /// # Errors
    /// [`Error::TryAgain`] if it may be.
    pub(crate) fn ensure_absent(&self, ctx: Context<'_>, derived: Str<'_>) -> Result<(), Error> {
        if ctx.may_be_elsewhere(self.key, derived) { Err(Error::TryAgain) } else { Ok(()) }
    }

    /// `K`, or in a cluster `{K}` if it has no hash tag of its own, and after it `rest`.
    fn derived(&self, rest: &[&[u8]]) -> OwnedStr {
        let key = self.key.bytes();
        let len = key.len() + 2 * usize::from(self.tagged) + rest.iter().map(|part| part.len()).sum::<usize>();
        let mut short = [0; SHORT];
        let mut long = Vec::new();
        let name = match short.get_mut(..len) {
            Some(name) => name,
            None => {
                long.resize(len, 0);
                &mut long[..]
            }
        };
        let mut at = 0;
        let mut put = |part: &[u8]| {
            name[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        if self.tagged {
            put(b"{");
        }
        put(key);
        if self.tagged {
            put(b"}");
        }
        for part in rest {
            put(part);
        }
        OwnedStr::new(name)
    }
}

/// Whether `key` must be wrapped in braces for its slot to be that of `{key}…`; `None` if even that will not do. The
/// slot of a key is that of what stands between its first `{` and the first `}` after it, unless that is nothing; then
/// it is that of the whole key. Source: the Redis Cluster specification, "Hash tags".
fn needs_tag(key: &[u8]) -> Option<bool> {
    let tag = key
        .iter()
        .position(|&byte| byte == b'{')
        .and_then(|open| key[open + 1..].iter().position(|&byte| byte == b'}'))
        .unwrap_or(0);
    if tag > 0 {
        return Some(false);
    }
    // Wrapped, the tag would end at the key's own `}`.
    (!key.is_empty() && !key.contains(&b'}')).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a cluster hashes of a key, written as the specification puts it.
    fn hashed(key: &[u8]) -> &[u8] {
        let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
        let Some(len) = key[open + 1..].iter().position(|&byte| byte == b'}') else { return key };
        if len == 0 { key } else { &key[open + 1..open + 1 + len] }
    }

    #[test]
    fn keys_that_can_be_no_tag_are_refused() {
        assert_eq!(needs_tag(b"kpi:app"), Some(true));
        assert_eq!(needs_tag(b"{app}:kpi"), Some(false));
        assert_eq!(needs_tag(b"a{b"), Some(true));
        for refused in ["", "}", "a}b", "{}a", "}{a"] {
            assert_eq!(needs_tag(refused.as_bytes()), None, "{refused:?}");
        }
    }

    proptest! {
        #[test]
        fn derived_keys_hash_as_the_meter_does(key in "[a{}:]{0,8}") {
            let key = key.as_bytes();
            match needs_tag(key) {
                Some(true) => {
                    let wrapped = [b"{", key, b"}:day:20220809"].concat();
                    prop_assert_eq!(hashed(&wrapped), hashed(key));
                }
                Some(false) => {
                    let derived = [key, b":day:20220809"].concat();
                    prop_assert_eq!(hashed(&derived), hashed(key));
                }
                None => {
                    let wrapped = [b"{", key, b"}:day:20220809"].concat();
                    prop_assert_ne!(hashed(&wrapped), hashed(key));
                }
            }
        }
    }
}
