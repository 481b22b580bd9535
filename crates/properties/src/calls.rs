//! Sequences of calls that are counted by the calendar, by holder or by key, beside lists of everything that happened.

use std::collections::BTreeMap;

use redis_meter_core::answer::Next;
use redis_meter_core::calendar::Day;
use redis_meter_core::heavy_hitters::HeavyHitters;
use redis_meter_core::lease::{self, Grant, Leases, Release};
use redis_meter_core::quota::{Calendar, Offset, Policy, Unit};
use redis_meter_core::time::Millis;

use crate::bytes::Bytes;

/// 1 January 2020, in milliseconds.
const START: i64 = 1_577_836_800_000;

/// The longest step of the clock: three years.
const LONGEST_STEP: i64 = 3 * 366 * 86_400_000;

/// A unit of a quota begins where the one before it ends, no unit lets more through than its limit, and a refused call
/// passes after `retry_after`, and not a millisecond earlier.
pub fn quota(input: &[u8]) {
    let mut input = Bytes(input);
    let unit = [Unit::Hour, Unit::Day, Unit::Week, Unit::Month, Unit::Year][usize::from(input.byte() % 5)];
    let anchor = Day::FIRST.plus_days(input.natural(3_000_000)).filter(|_| unit != Unit::Hour);
    let sign = if input.byte().is_multiple_of(2) { '+' } else { '-' };
    let text = format!("{sign}{:02}:{:02}", input.byte() % 24, input.byte() % 60);
    let offset = Offset::parse(text.as_bytes()).expect("an offset");
    let calendar = Calendar::new(unit, anchor, offset).expect("no anchor in hours");
    let limit = input.positive(1 << 53);
    let policy = Policy { limit, calendar };
    let mut now = START;
    let mut stored = None;
    // What each unit has let through, less what was given back.
    let mut passed = BTreeMap::<i64, i64>::new();
    while !input.is_empty() {
        now = (now + input.natural(LONGEST_STEP)).min(START + 75 * LONGEST_STEP);
        let (start, end) = calendar.bounds(Millis(now)).expect("before the year 9999");
        assert!(start.0 <= now && now < end.0);
        assert_eq!(calendar.bounds(Millis(start.0 - 1)).expect("since 1970").1, start);
        assert_eq!(calendar.bounds(end).expect("before the year 9999").0, end);
        let quantity = input.quantity();
        let decision = policy.decide(stored, Millis(now), quantity).expect("before the year 2262");
        let count = passed.entry(start.0).or_default();
        assert_eq!(decision.answer.limited, quantity > 0 && i128::from(*count) + i128::from(quantity) > limit.into());
        if !decision.answer.limited {
            *count = count.saturating_add(quantity).max(0);
        }
        assert_eq!(decision.answer.remaining, limit - *count);
        assert_eq!(decision.answer.reset_after, Millis(if *count > 0 { end.0 - now } else { 0 }).nanos());
        match decision.next {
            Next::Keep => {}
            Next::Store(window) => stored = Some(window),
            Next::Clear => stored = None,
        }
        if decision.answer.retry_after.is_some() {
            let limited = |at: i64| policy.decide(stored, Millis(at), quantity).expect("it fits").answer.limited;
            assert!(limited(end.0 - 1) && !limited(end.0));
        }
    }
}

/// The leases of a key: the holders, and when each lease ends.
#[derive(Clone, Default)]
struct Stored(BTreeMap<u8, i64>);

impl Stored {
    fn ends(&self) -> Vec<i64> {
        let mut ends: Vec<i64> = self.0.values().copied().collect();
        ends.sort_unstable();
        ends
    }

    fn own(&self, holder: u8) -> Option<Millis> {
        self.0.get(&holder).map(|&end| Millis(end))
    }
}

impl Leases for Stored {
    fn count(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }

    fn count_up_to(&self, time: Millis) -> i64 {
        i64::try_from(self.0.values().filter(|&&end| end <= time.0).count()).unwrap_or(i64::MAX)
    }

    fn nth_first(&self, nth: i64) -> Option<Millis> {
        self.ends().get(usize::try_from(nth).ok()?.checked_sub(1)?).map(|&end| Millis(end))
    }

    fn nth_last(&self, nth: i64) -> Option<Millis> {
        self.ends().iter().rev().nth(usize::try_from(nth).ok()?.checked_sub(1)?).map(|&end| Millis(end))
    }
}

/// Never are more at work than the limit of a call that lets one in, nobody is refused while a place is free, and the key
/// expires with its last lease. Limits and spans change from call to call, and the clock only goes forwards.
pub fn leases(input: &[u8]) {
    let mut input = Bytes(input);
    let mut stored = Stored::default();
    let mut now = START;
    while !input.is_empty() {
        now = (now + input.natural(1 << 22)).min(START + LONGEST_STEP);
        let holder = input.byte() % 8;
        let at_work = |stored: &Stored| stored.0.values().filter(|&&end| end > now).count();
        let had_place = stored.own(holder).is_some_and(|end| end.0 > now);
        if input.byte().is_multiple_of(4) {
            let before = at_work(&stored);
            match lease::release(&stored, stored.own(holder), Millis(now)) {
                Release::Absent => assert!(!had_place),
                Release::Remove { expire_at } => {
                    stored.0.remove(&holder);
                    assert_eq!(stored.ends().last(), Some(&expire_at.0));
                }
                Release::Clear => {
                    stored = Stored::default();
                    assert_eq!(before, 1);
                }
            }
            assert_eq!(at_work(&stored), before - usize::from(had_place));
            continue;
        }
        let policy = lease::Policy { limit: input.positive(6), ttl: Millis(input.positive(1 << 24)) };
        let decision = policy.decide(&stored, stored.own(holder), Millis(now)).expect("it fits");
        let free = i64::try_from(at_work(&stored)).expect("a few") < policy.limit;
        assert_eq!(decision.answer.limited, !free && !had_place);
        if let Next::Store(Grant { over, end, expire_at }) = decision.next {
            assert_eq!(over, stored.count_up_to(Millis(now)));
            stored.0.retain(|_, end| *end > now);
            stored.0.insert(holder, end.0);
            assert_eq!(end.0, now + policy.ttl.0);
            assert_eq!(stored.ends().last(), Some(&expire_at.0));
        }
        let left = i64::try_from(at_work(&stored)).expect("a few");
        assert_eq!(decision.answer.remaining, if decision.answer.limited { 0 } else { (policy.limit - left).max(0) });
        if let Some(wait) = decision.answer.retry_after {
            let at = |span: i64| Millis(now + wait.0 / 1_000_000 + span);
            let limited = |at| policy.decide(&stored, None, at).expect("it fits").answer.limited;
            assert!(limited(at(-1)) && !limited(at(0)));
        }
    }
}

/// Whatever the events and however the number of counters changes, an estimate is never too low, and too high by no more
/// than the events divided by the counters; a key without one had no more than that.
pub fn hitters(input: &[u8]) {
    let mut input = Bytes(input);
    let capacity = 1 + usize::from(input.byte() % 16);
    let mut hitters = HeavyHitters::new(capacity);
    let mut exact = BTreeMap::<(i32, Vec<u8>), u64>::new();
    while !input.is_empty() {
        let (database, key) = (i32::from(input.byte() % 2), vec![b'k'; usize::from(input.byte() % 40)]);
        hitters.record(database, &key, ());
        *exact.entry((database, key)).or_default() += 1;
    }
    let total: u64 = exact.values().sum();
    assert_eq!(hitters.total(), total);
    let bound = total / u64::try_from(capacity).expect("small");
    assert!(hitters.error() <= bound);
    let listed: Vec<_> = hitters.top(usize::MAX).collect();
    assert!(listed.is_sorted_by(|one, other| one.count >= other.count));
    assert_eq!(listed.len(), capacity.min(exact.len()));
    for hitter in listed {
        let count = exact.remove(&(hitter.db, hitter.key.to_vec())).expect("a key that was recorded");
        assert!((count..=count + bound).contains(&hitter.count));
    }
    assert!(exact.values().all(|&count| count <= bound));
}
