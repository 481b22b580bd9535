//! Sorted sets.

use std::ptr;

use super::super::api::{api, ok};
use super::super::string::{Constant, OwnedStr, Str};
use super::{Access, Key, SortedSet, Writable};

static MINUS_INFINITY: Constant = Constant::new("-inf");
static WITH_SCORES: Constant = Constant::new("WITHSCORES");

/// The most members that are read one by one; above that a core command is cheaper.
const FEW: usize = 64;

/// The order in which the members of a sorted set are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Scores are dates, times in microseconds or milliseconds, and counts, all below 2^53.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn score_of(number: i64) -> f64 {
    number as f64
}

impl<A: Access> Key<'_, SortedSet, A> {
    /// The score of a member, if it is there.
    pub(crate) fn score(&self, member: Str<'_>) -> Option<f64> {
        if !self.exists() {
            return None;
        }
        let zset_score = api!(RedisModule_ZsetScore);
        let mut score = 0.0;
        // SAFETY: the key is open; the member is a live string.
        let found = unsafe { zset_score(self.handle(), member.raw(), &raw mut score) };
        (found == ok()).then_some(score)
    }

    /// The members with scores from `min` to `max` and their scores, in this order; `take` returns whether to continue.
    /// It must not open another key: another module could then change the set that is being read.
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

    /// The first member in this order, and its score.
    pub(crate) fn first(&self, order: Order) -> Option<(OwnedStr, f64)> {
        self.begin(order, f64::NEG_INFINITY, f64::INFINITY);
        let first = self.current();
        self.stop();
        first
    }

    /// Moves to the first member, in this order, with a score from `min` to `max`. Ends a range that was begun before.
    pub(crate) fn begin(&self, order: Order, min: f64, max: f64) {
        if !self.exists() {
            return;
        }
        let begin = match order {
            Order::Ascending => api!(RedisModule_ZsetFirstInScoreRange),
            Order::Descending => api!(RedisModule_ZsetLastInScoreRange),
        };
        // SAFETY: the key is open.
        unsafe { begin(self.handle(), min, max, 0, 0) };
    }

    /// Moves to the member after the current one.
    pub(crate) fn advance(&self, order: Order) {
        if !self.exists() {
            return;
        }
        let next = match order {
            Order::Ascending => api!(RedisModule_ZsetRangeNext),
            Order::Descending => api!(RedisModule_ZsetRangePrev),
        };
        // SAFETY: the key is open; without a range the call does nothing.
        unsafe { next(self.handle()) };
    }

    /// Ends a range that was begun.
    fn stop(&self) {
        if !self.exists() {
            return;
        }
        let stop = api!(RedisModule_ZsetRangeStop);
        // SAFETY: the key is open.
        unsafe { stop(self.handle()) };
    }

    /// The number of members with scores up to `max`.
    pub(crate) fn count_up_to(&self, max: i64) -> usize {
        let mut seen = 0;
        self.begin(Order::Ascending, f64::NEG_INFINITY, score_of(max));
        while seen < FEW && !self.is_at_end() {
            seen += 1;
            self.advance(Order::Ascending);
        }
        self.stop();
        if seen < FEW {
            return seen;
        }
        // Too many to be counted one by one; the server counts them by rank.
        let max = OwnedStr::from_integer(max);
        let count = self.context().call(c"ZCOUNT", &[self.name(), MINUS_INFINITY.get(), max.as_str()]);
        count.and_then(|count| usize::try_from(count.integer()).ok()).unwrap_or(seen)
    }

    /// The score of the member at a rank, from 0, the lowest.
    pub(crate) fn score_at(&self, rank: usize) -> Option<f64> {
        let from_top = self.len().checked_sub(rank + 1)?;
        let (order, steps) = if rank <= from_top { (Order::Ascending, rank) } else { (Order::Descending, from_top) };
        if steps >= FEW {
            let place = OwnedStr::from_integer(i64::try_from(rank).ok()?);
            let place = place.as_str();
            let found = self.context().call(c"ZRANGE", &[self.name(), place, place, WITH_SCORES.get()])?;
            return found.text_at(1)?.parse().ok();
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
        if !self.exists() {
            return true;
        }
        let end_reached = api!(RedisModule_ZsetRangeEndReached);
        // SAFETY: the key is open; without a range the end is reached.
        unsafe { end_reached(self.handle()) != 0 }
    }

    /// The current member of a range, and its score; `None` at the range's end.
    pub(crate) fn current(&self) -> Option<(OwnedStr, f64)> {
        if self.is_at_end() {
            return None;
        }
        let current = api!(RedisModule_ZsetRangeCurrentElement);
        let mut score = 0.0;
        // SAFETY: called within a range.
        let member = unsafe { current(self.handle(), &raw mut score) };
        if member.is_null() {
            return None;
        }
        // SAFETY: a member that is not null is a string of which we own a reference.
        Some((unsafe { OwnedStr::from_raw(member) }, score))
    }
}

impl Key<'_, SortedSet, Writable> {
    /// `ZADD key score member` of a member that is not there.
    pub(in crate::server) fn add_new(&self, score: i64, member: Str<'_>) {
        let add = api!(RedisModule_ZsetAdd);
        // SAFETY: the key is open for writing; the member is a live string; null means no flags.
        unsafe { add(self.handle(), score_of(score), member.raw(), ptr::null_mut()) };
    }

    /// `ZADD key score member`. When it updates a member, the API counts one more in the server's statistics of
    /// lengths, so an existing member is removed first.
    pub(in crate::server) fn add(&self, score: i64, member: Str<'_>) {
        let expiry = self.expiry();
        self.remove(member);
        self.add_new(score, member);
        // The key was deleted with its only member.
        if self.expiry() != expiry {
            self.set_expiry(expiry);
        }
    }

    /// `ZINCRBY key n member` of a member that is there.
    pub(in crate::server) fn increment(&self, n: i64, member: Str<'_>) {
        let increment = api!(RedisModule_ZsetIncrby);
        let (flags, new_score) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the key is open for writing; the member is a live string; null means no flags and no result.
        unsafe { increment(self.handle(), score_of(n), member.raw(), flags, new_score) };
    }

    /// `ZREM key member`
    pub(in crate::server) fn remove(&self, member: Str<'_>) {
        let remove = api!(RedisModule_ZsetRem);
        // SAFETY: the key is open for writing; the member is a live string; null asks for no result.
        unsafe { remove(self.handle(), member.raw(), ptr::null_mut()) };
    }
}
