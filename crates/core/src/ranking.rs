//! The highest members of several lists of counts that are added up, such as the days of a span.
//!
//! The lists are ordered, so that usually few of their members must be read: a member that no list has returned yet has
//! at most the sum of the counts that the lists have reached, and comes after the members that were returned. Source:
//! Fagin, Lotem, Naor, "Optimal aggregation algorithms for middleware" (2003), the threshold algorithm. If counts fall
//! too slowly for it to end early, all are added up: linear in the number of members, for any bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Deref;

use crate::hash::{Seed, equal};

/// A member and its count. Sums saturate at 2⁶⁴ − 1.
pub type Ranked = (Vec<u8>, u64);

/// Lists of members, each in the order of ZREVRANGE: by count, and for equal counts by their bytes, both descending.
pub trait Lists {
    /// Why a list cannot be read.
    type Error;
    /// A member's bytes.
    type Member: Deref<Target = [u8]>;

    /// The number of lists.
    fn list_count(&self) -> usize;

    /// The sum of the numbers of their members.
    fn members(&self) -> usize;

    /// The member of a list after the one returned last, and its count.
    ///
    /// # Errors
    /// The list cannot be read.
    fn next(&mut self, list: usize) -> Result<Option<(Self::Member, u64)>, Self::Error>;

    /// Goes back to the start of a list.
    fn rewind(&mut self, list: usize);

    /// The count of a member in a list, 0 if it is not there.
    ///
    /// # Errors
    /// The list cannot be read.
    fn count(&self, list: usize, member: &Self::Member) -> Result<u64, Self::Error>;
}

/// The `n` (≥ 1) highest members of all lists together, in the order of ZREVRANGE.
///
/// # Errors
/// Those of the lists.
pub fn highest<L: Lists>(lists: &mut L, n: usize) -> Result<Vec<Ranked>, L::Error> {
    if lists.list_count() == 1 {
        // The one list is in order already.
        let mut next = || Ok(lists.next(0)?.map(|(member, count)| (member.to_vec(), count)));
        return std::iter::from_fn(|| next().transpose()).take(n).collect();
    }
    if let Some(highest) = by_threshold(lists, n)? {
        return Ok(highest);
    }
    let mut sums = Sums::with_room(lists.members() / lists.list_count().max(1));
    for list in 0..lists.list_count() {
        lists.rewind(list);
        while let Some((member, count)) = lists.next(list)? {
            sums.add(&member, count);
        }
    }
    let mut best = Best::new(n);
    for (member, sum) in sums.iter() {
        best.offer(member, sum);
    }
    Ok(best.in_order())
}

/// The same by the threshold algorithm; `None` if it comes to more work than adding all up.
fn by_threshold<L: Lists>(lists: &mut L, n: usize) -> Result<Option<Vec<Ranked>>, L::Error> {
    let mut outlook = Outlook::new(lists.members());
    let others = lists.list_count().saturating_sub(1);
    // Finding `n` members takes at least a lookup in each other list for each of them.
    if outlook.is_beyond(n.min(lists.members() / (others + 1)).saturating_mul(others)) {
        return Ok(None);
    }
    let mut named = Sums::with_room(0);
    let mut best = Best::new(n);
    let mut frontier: Vec<Frontier<L::Member>> = (0..lists.list_count()).map(|_| Frontier::Begin).collect();
    loop {
        for (list, frontier) in frontier.iter_mut().enumerate() {
            if matches!(frontier, Frontier::End) {
                continue;
            }
            let Some((member, count)) = lists.next(list)? else {
                *frontier = Frontier::End;
                continue;
            };
            if named.add(&member, 0) {
                let mut sum = count;
                for other in (0..lists.list_count()).filter(|&other| other != list) {
                    sum = sum.saturating_add(lists.count(other, &member)?);
                }
                best.offer(&member, sum);
                outlook.lookups += others;
                if outlook.is_beyond(outlook.lookups) {
                    return Ok(None);
                }
            }
            *frontier = Frontier::At(member, count);
        }
        let Some(unnamed) = Unnamed::behind(&frontier) else { return Ok(Some(best.in_order())) };
        let lowest = best.lowest();
        if lowest.is_some_and(|(sum, member)| unnamed.come_after(sum, member)) {
            return Ok(Some(best.in_order()));
        }
        if outlook.is_poor(unnamed.most, lowest.map(|lowest| lowest.0)) {
            return Ok(None);
        }
    }
}

/// How far a list has been read.
enum Frontier<M> {
    Begin,
    At(M, u64),
    End,
}

/// The bound on the members that no list has returned yet.
struct Unnamed<'a> {
    /// They have at most this count.
    most: u64,
    /// With exactly this count, their bytes come before these.
    before: Option<&'a [u8]>,
}

impl<'a> Unnamed<'a> {
    /// The members behind a frontier; `None` if there are none. In each list such a member follows the last that was
    /// read: it has a lower count, or the same and lower bytes. One that is not in a list counts 0 there.
    fn behind<M: Deref<Target = [u8]>>(frontier: &'a [Frontier<M>]) -> Option<Self> {
        let mut lists = frontier.iter().filter_map(|list| match list {
            Frontier::At(member, count) => Some((&**member, *count)),
            Frontier::Begin | Frontier::End => None,
        });
        let one = |(member, count): (&'a [u8], u64)| Self { most: count, before: (count > 0).then_some(member) };
        let first = one(lists.next()?);
        Some(lists.map(one).fold(first, |all, list| Self {
            most: all.most.saturating_add(list.most),
            before: match (all.before, list.before) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
        }))
    }

    /// Whether all of them come after a member with this sum in the order of ZREVRANGE.
    fn come_after(&self, sum: u64, member: &[u8]) -> bool {
        sum > self.most || (sum == self.most && self.before.is_some_and(|before| member >= before))
    }
}

/// Whether the threshold algorithm will end before it costs as much as adding all up. It is judged each time that twice
/// as many rounds have passed, by how far the bound has come down meanwhile: counts by rank mostly follow a power law.
struct Outlook {
    lookups: usize,
    most_lookups: usize,
    rounds: u32,
    next_check: u32,
    /// The bound at the last check.
    bound: Option<u64>,
}

impl Outlook {
    /// A lookup costs as much as reading several members in order, and lookups done in vain come on top.
    const MEMBERS_PER_LOOKUP: usize = 8;
    /// Lookups that are cheap enough not to be judged.
    const FEW: usize = 64;
    const FIRST_CHECK: u32 = 16;

    fn new(members: usize) -> Self {
        let most_lookups = members / Self::MEMBERS_PER_LOOKUP + Self::FEW;
        Self { lookups: 0, most_lookups, rounds: 0, next_check: Self::FIRST_CHECK, bound: None }
    }

    fn is_beyond(&self, lookups: usize) -> bool {
        lookups > self.most_lookups
    }

    /// Called after each round, with the bound and the count that it must reach, if that is known.
    fn is_poor(&mut self, bound: u64, goal: Option<u64>) -> bool {
        self.rounds += 1;
        if self.rounds < self.next_check {
            return false;
        }
        self.next_check = self.next_check.saturating_mul(2);
        match (self.bound.replace(bound), goal) {
            (Some(before), Some(goal)) => self.needed(before, bound, goal) > self.most_lookups as f64,
            _ => false,
        }
    }

    /// The expected number of lookups, if the bound falls with each doubling of the rounds as it last did.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn needed(&self, before: u64, bound: u64, goal: u64) -> f64 {
        if bound >= before {
            return f64::INFINITY;
        }
        let (before, bound, goal) = (before as f64, bound as f64, goal.max(1) as f64);
        let doublings = ((goal / bound).ln() / (bound / before).ln()).max(0.0);
        self.lookups as f64 * doublings.exp2()
    }
}

/// Members and their sums. Their bytes are concatenated in one buffer; slots are found by a hash with a secret seed, so
/// that no choice of members makes them collide.
struct Sums {
    seed: Seed,
    bytes: Vec<u8>,
    sums: Vec<Sum>,
    /// Open addressing, at most half full.
    slots: Vec<Slot>,
}

struct Sum {
    /// Where its member ends in the buffer; it begins where the one before ends.
    end: usize,
    sum: u64,
}

/// Half of a hash, and the number of a sum plus one; 0 is a free slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    tag: u32,
    number: u32,
}

impl Sums {
    /// No sums yet, with slots for `members`.
    fn with_room(members: usize) -> Self {
        let slots = (2 * members).next_power_of_two().max(64);
        let sums = Vec::with_capacity(members);
        Self { seed: Seed::random(), bytes: Vec::new(), sums, slots: vec![Slot::default(); slots] }
    }

    /// Adds to a member's sum; returns whether the member is new.
    fn add(&mut self, member: &[u8], count: u64) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "half of it will do")]
        let tag = self.seed.hash(0, member) as u32;
        let mut place = self.home(tag);
        loop {
            let slot = self.slots[place];
            if slot.number == 0 {
                break;
            }
            let number = slot.number as usize - 1;
            if slot.tag == tag && equal(self.member(number), member) {
                let sum = &mut self.sums[number].sum;
                *sum = sum.saturating_add(count);
                return false;
            }
            place = self.after(place);
        }
        self.bytes.extend_from_slice(member);
        self.sums.push(Sum { end: self.bytes.len(), sum: count });
        self.slots[place] = Slot { tag, number: u32::try_from(self.sums.len()).expect("fewer than 2³² members") };
        if self.sums.len() * 2 > self.slots.len() {
            self.grow();
        }
        true
    }

    /// Each member and its sum, in the order in which they came.
    fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.sums.iter().enumerate().map(|(number, sum)| (self.member(number), sum.sum))
    }

    fn member(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.sums[before].end);
        &self.bytes[start..self.sums[number].end]
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.slots.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.slots.len() - 1)
    }

    /// Doubles the slots. They store hashes, so no member is read.
    #[inline(never)]
    fn grow(&mut self) {
        let slots = vec![Slot::default(); self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot.number != 0 {
                let mut place = self.home(slot.tag);
                while self.slots[place].number != 0 {
                    place = self.after(place);
                }
                self.slots[place] = slot;
            }
        }
    }
}

/// The best so far.
struct Best {
    n: usize,
    /// The lowest on top.
    heap: BinaryHeap<Reverse<(u64, Vec<u8>)>>,
}

impl Best {
    fn new(n: usize) -> Self {
        Self { n, heap: BinaryHeap::new() }
    }

    fn offer(&mut self, member: &[u8], sum: u64) {
        if self.lowest().is_none_or(|lowest| (sum, member) > lowest) {
            self.heap.push(Reverse((sum, member.to_vec())));
            if self.heap.len() > self.n {
                self.heap.pop();
            }
        }
    }

    /// The lowest of the `n` members, once there are `n`: a further one must come before it.
    fn lowest(&self) -> Option<(u64, &[u8])> {
        let lowest = self.heap.peek().filter(|_| self.heap.len() == self.n);
        lowest.map(|Reverse((sum, member))| (*sum, &member[..]))
    }

    fn in_order(self) -> Vec<Ranked> {
        let mut best = self.heap.into_vec();
        best.sort_unstable();
        best.into_iter().map(|Reverse((sum, member))| (member, sum)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    struct Days {
        lists: Vec<Vec<Ranked>>,
        by_member: Vec<BTreeMap<Vec<u8>, u64>>,
        next: Vec<usize>,
        steps: usize,
        lookups: Cell<usize>,
    }

    impl Days {
        fn new(hits: Vec<BTreeMap<Vec<u8>, u64>>) -> Self {
            let mut lists: Vec<Vec<Ranked>> = hits.iter().map(|day| day.clone().into_iter().collect()).collect();
            for list in &mut lists {
                list.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
            }
            Self { next: vec![0; lists.len()], lists, by_member: hits, steps: 0, lookups: Cell::new(0) }
        }
    }

    impl Lists for Days {
        type Error = Infallible;
        type Member = Vec<u8>;

        fn list_count(&self) -> usize {
            self.lists.len()
        }

        fn members(&self) -> usize {
            self.lists.iter().map(Vec::len).sum()
        }

        fn next(&mut self, list: usize) -> Result<Option<(Vec<u8>, u64)>, Infallible> {
            self.steps += 1;
            let member = self.lists[list].get(self.next[list]).cloned();
            self.next[list] += 1;
            Ok(member)
        }

        fn rewind(&mut self, list: usize) {
            self.next[list] = 0;
        }

        fn count(&self, list: usize, member: &Vec<u8>) -> Result<u64, Infallible> {
            self.lookups.set(self.lookups.get() + 1);
            Ok(self.by_member[list].get(member).copied().unwrap_or(0))
        }
    }

    fn by_full_sort(days: &[BTreeMap<Vec<u8>, u64>], n: usize) -> Vec<Ranked> {
        let mut sums = BTreeMap::new();
        for (member, count) in days.iter().flatten() {
            *sums.entry(member.clone()).or_insert(0u64) += count;
        }
        let mut all: Vec<Ranked> = sums.into_iter().collect();
        all.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
        all.truncate(n);
        all
    }

    proptest! {
        #[test]
        fn the_highest_are_those_of_a_full_sort(
            days in prop::collection::vec(prop::collection::btree_map(prop::collection::vec(0..4u8, 0..4), 0..6u64, 0..30), 0..6),
            n in 1..20usize,
        ) {
            let expected = by_full_sort(&days, n);
            let found = highest(&mut Days::new(days), n);
            prop_assert_eq!(found, Ok(expected));
        }

        #[test]
        fn the_highest_of_steep_counts_are_those_of_a_full_sort(
            days in prop::collection::vec(prop::collection::btree_map(prop::collection::vec(0..9u8, 1..3), 0..40u32, 0..80), 1..4),
            n in 1..10usize,
        ) {
            let days: Vec<BTreeMap<Vec<u8>, u64>> =
                days.into_iter().map(|day| day.into_iter().map(|(member, power)| (member, 1 << power)).collect()).collect();
            let expected = by_full_sort(&days, n);
            let found = highest(&mut Days::new(days), n);
            prop_assert_eq!(found, Ok(expected));
        }
    }

    #[test]
    fn of_steep_counts_few_members_are_read() {
        let day = |shift: u32| {
            (0..10_000u32).map(move |n| (n.to_be_bytes().to_vec(), u64::from(1_000_000 / (n + 1) + shift)))
        };
        let mut days = Days::new((0..7).map(|shift| day(shift).collect()).collect());
        assert_eq!(highest(&mut days, 10).map(|highest| highest.len()), Ok(10));
        assert!(days.steps < 500, "{} steps", days.steps);
    }

    #[test]
    fn of_one_list_only_as_many_are_read_as_are_returned() {
        let mut day = Days::new(vec![(0..100u8).map(|n| (vec![n], 5)).collect()]);
        let expected: Vec<Ranked> = (90..100u8).rev().map(|n| (vec![n], 5)).collect();
        assert_eq!(highest(&mut day, 10), Ok(expected));
        assert_eq!(day.steps, 10);
    }

    #[test]
    fn of_even_counts_of_the_same_members_few_are_read() {
        let day = (0..10_000u32).map(|n| (n.to_be_bytes().to_vec(), 5));
        let mut days = Days::new((0..7).map(|_| day.clone().collect()).collect());
        assert_eq!(highest(&mut days, 1), Ok(vec![(9_999u32.to_be_bytes().to_vec(), 35)]));
        assert_eq!(days.steps, 7, "the first comes before all that are not named");
    }

    #[test]
    fn of_even_counts_of_other_members_all_are_read_once_and_few_looked_up() {
        let days = (0..4u32).map(|day| {
            (0..10_000u32).map(|n| ((n.wrapping_mul(2_654_435_761) ^ day).to_be_bytes().to_vec(), 5)).collect()
        });
        let hits: Vec<BTreeMap<Vec<u8>, u64>> = days.collect();
        let mut days = Days::new(hits.clone());
        assert_eq!(highest(&mut days, 10), Ok(by_full_sort(&hits, 10)));
        assert!(days.steps < 40_000 + 1_000, "{} steps", days.steps);
        assert!(days.lookups.get() < 1_000, "{} lookups", days.lookups.get());
    }

    #[test]
    fn of_many_lists_no_more_are_looked_up_than_a_part_of_all_members() {
        let day = |day: u32| {
            (0..100u32).map(move |n| ((n + day * 7).to_be_bytes().to_vec(), u64::from(100 - n % 3))).collect()
        };
        let hits: Vec<BTreeMap<Vec<u8>, u64>> = (0..366).map(day).collect();
        let mut days = Days::new(hits.clone());
        assert_eq!(highest(&mut days, 10), Ok(by_full_sort(&hits, 10)));
        assert!(days.lookups.get() < 36_600 / 8 + 64 + 366, "{} lookups", days.lookups.get());
    }

    #[test]
    fn all_are_returned_if_more_are_asked_for() {
        let hits: Vec<BTreeMap<Vec<u8>, u64>> =
            (0..3u32).map(|day| (0..1_000u32).map(|n| ((n + day * 500).to_be_bytes().to_vec(), 3)).collect()).collect();
        assert_eq!(highest(&mut Days::new(hits.clone()), usize::MAX), Ok(by_full_sort(&hits, usize::MAX)));
        assert_eq!(highest(&mut Days::new(Vec::new()), 10), Ok(Vec::new()));
    }

    #[test]
    fn sums_beyond_64_bits_stay_at_the_end() {
        let day = |count: u64| BTreeMap::from([(vec![1u8], count), (vec![2], 1)]);
        let mut days = Days::new(vec![day(u64::MAX), day(1), day(u64::MAX)]);
        assert_eq!(highest(&mut days, 2), Ok(vec![(vec![1], u64::MAX), (vec![2], 3)]));
    }
}
