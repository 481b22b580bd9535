//! The highest members of several lists of counts that are added up, as of the days of a span.
//!
//! The lists are ordered, so that most often few of their members must be looked at: a member that no list has named
//! yet can have no more than what the lists have come down to, added up. Source: Fagin, Lotem, Naor, "Optimal
//! aggregation algorithms for middleware" (2003), the threshold algorithm. Where counts are so even that it does not end
//! early, all are added up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

/// A member and its count.
pub type Ranked = (Vec<u8>, i128);

/// Lists of members, each in the order of ZREVRANGE: by count, and those of one count by their bytes, descending both.
pub trait Lists {
    /// Why a list cannot be read.
    type Error;

    /// How many lists there are.
    fn list_count(&self) -> usize;

    /// How many members they have, added up.
    fn members(&self) -> usize;

    /// The member of a list after the one returned last.
    fn next(&mut self, list: usize) -> Result<Option<Ranked>, Self::Error>;

    /// Goes back to the start of a list.
    fn rewind(&mut self, list: usize);

    /// The count of a member in a list, 0 if it is not there.
    fn count(&self, list: usize, member: &[u8]) -> Result<i128, Self::Error>;
}

/// The `n` (≥ 1) highest members of all lists together, in the order of ZREVRANGE.
///
/// # Errors
/// Those of the lists.
pub fn highest<L: Lists>(lists: &mut L, n: usize) -> Result<Vec<Ranked>, L::Error> {
    if lists.list_count() == 1 {
        // The one list is in order already.
        return std::iter::from_fn(|| lists.next(0).transpose()).take(n).collect();
    }
    if let Some(highest) = by_threshold(lists, n)? {
        return Ok(highest);
    }
    let mut sums: HashMap<Vec<u8>, i128> = HashMap::new();
    for list in 0..lists.list_count() {
        lists.rewind(list);
        while let Some((member, count)) = lists.next(list)? {
            *sums.entry(member).or_insert(0) += count;
        }
    }
    let mut best = Best::new(n);
    for (member, sum) in sums {
        best.offer(member, sum);
    }
    Ok(best.in_order())
}

/// The same by the threshold algorithm; `None` if it comes to more work than adding all up.
fn by_threshold<L: Lists>(lists: &mut L, n: usize) -> Result<Option<Vec<Ranked>>, L::Error> {
    let most_lookups = lists.members() / 2;
    let mut lookups = 0;
    let mut seen: HashSet<Vec<u8>> = HashSet::new();
    let mut best = Best::new(n);
    let mut came_down_to: Vec<Option<i128>> = vec![Some(i128::MAX); lists.list_count()];
    loop {
        for (list, came_down_to) in came_down_to.iter_mut().enumerate().filter(|(_, count)| count.is_some()) {
            let Some((member, count)) = lists.next(list)? else {
                *came_down_to = None;
                continue;
            };
            *came_down_to = Some(count);
            if seen.contains(&member) {
                continue;
            }
            let mut sum = count;
            for other in (0..lists.list_count()).filter(|&other| other != list) {
                sum += lists.count(other, &member)?;
            }
            lookups += lists.list_count() - 1;
            best.offer(member.clone(), sum);
            seen.insert(member);
        }
        let unseen: i128 = came_down_to.iter().flatten().sum();
        if came_down_to.iter().all(Option::is_none) || best.lowest().is_some_and(|lowest| lowest > unseen) {
            return Ok(Some(best.in_order()));
        }
        if lookups > most_lookups {
            return Ok(None);
        }
    }
}

/// The best so far.
struct Best {
    n: usize,
    /// The lowest on top.
    heap: BinaryHeap<Reverse<(i128, Vec<u8>)>>,
}

impl Best {
    fn new(n: usize) -> Self {
        Self { n, heap: BinaryHeap::new() }
    }

    fn offer(&mut self, member: Vec<u8>, count: i128) {
        self.heap.push(Reverse((count, member)));
        if self.heap.len() > self.n {
            self.heap.pop();
        }
    }

    /// What a member must have more of to come in, once there are as many as are wanted.
    fn lowest(&self) -> Option<i128> {
        (self.heap.len() == self.n).then(|| self.heap.peek().map(|lowest| lowest.0.0))?
    }

    fn in_order(self) -> Vec<Ranked> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse((count, member))| (member, count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    struct Days {
        lists: Vec<Vec<Ranked>>,
        next: Vec<usize>,
        steps: usize,
    }

    impl Days {
        fn new(hits: Vec<BTreeMap<Vec<u8>, i128>>) -> Self {
            let mut lists: Vec<Vec<Ranked>> = hits.into_iter().map(|day| day.into_iter().collect()).collect();
            for list in &mut lists {
                list.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
            }
            Self { next: vec![0; lists.len()], lists, steps: 0 }
        }
    }

    impl Lists for Days {
        type Error = Infallible;

        fn list_count(&self) -> usize {
            self.lists.len()
        }

        fn members(&self) -> usize {
            self.lists.iter().map(Vec::len).sum()
        }

        fn next(&mut self, list: usize) -> Result<Option<Ranked>, Infallible> {
            self.steps += 1;
            let member = self.lists[list].get(self.next[list]).cloned();
            self.next[list] += 1;
            Ok(member)
        }

        fn rewind(&mut self, list: usize) {
            self.next[list] = 0;
        }

        fn count(&self, list: usize, member: &[u8]) -> Result<i128, Infallible> {
            Ok(self.lists[list].iter().find(|ranked| ranked.0 == member).map_or(0, |ranked| ranked.1))
        }
    }

    fn by_full_sort(days: &[BTreeMap<Vec<u8>, i128>], n: usize) -> Vec<Ranked> {
        let mut sums = BTreeMap::new();
        for (member, count) in days.iter().flatten() {
            *sums.entry(member.clone()).or_insert(0) += count;
        }
        let mut all: Vec<Ranked> = sums.into_iter().collect();
        all.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
        all.truncate(n);
        all
    }

    proptest! {
        #[test]
        fn the_highest_are_those_of_a_full_sort(
            days in prop::collection::vec(prop::collection::btree_map(prop::collection::vec(0..4u8, 0..4), 1..6i128, 0..30), 0..6),
            n in 1..20usize,
        ) {
            let expected = by_full_sort(&days, n);
            let found = highest(&mut Days::new(days), n);
            prop_assert_eq!(found, Ok(expected));
        }

        #[test]
        fn so_are_those_of_steep_counts(
            days in prop::collection::vec(prop::collection::btree_map(prop::collection::vec(0..9u8, 1..3), 0..40u32, 0..80), 1..4),
            n in 1..10usize,
        ) {
            let days: Vec<BTreeMap<Vec<u8>, i128>> =
                days.into_iter().map(|day| day.into_iter().map(|(member, power)| (member, 1 << power)).collect()).collect();
            let expected = by_full_sort(&days, n);
            let found = highest(&mut Days::new(days), n);
            prop_assert_eq!(found, Ok(expected));
        }
    }

    #[test]
    fn of_steep_counts_few_members_are_read() {
        let day = |shift: u32| {
            (0..10_000u32).map(move |n| (n.to_be_bytes().to_vec(), i128::from(1_000_000 / (n + 1) + shift)))
        };
        let mut days = Days::new((0..7).map(|shift| day(shift).collect()).collect());
        assert_eq!(highest(&mut days, 10).map(|highest| highest.len()), Ok(10));
        assert!(days.steps < 500, "{} steps", days.steps);
    }

    #[test]
    fn of_one_list_only_as_many_are_read_as_are_answered() {
        let mut day = Days::new(vec![(0..100u8).map(|n| (vec![n], 5)).collect()]);
        let expected: Vec<Ranked> = (90..100u8).rev().map(|n| (vec![n], 5)).collect();
        assert_eq!(highest(&mut day, 10), Ok(expected));
        assert_eq!(day.steps, 10);
    }

    #[test]
    fn of_even_counts_none_is_read_much_more_than_once() {
        let day = (0..10_000u32).map(|n| (n.to_be_bytes().to_vec(), 5));
        let mut days = Days::new((0..7).map(|_| day.clone().collect()).collect());
        assert_eq!(highest(&mut days, 1), Ok(vec![(9_999u32.to_be_bytes().to_vec(), 35)]));
        assert!(days.steps < 2 * 70_000, "{} steps", days.steps);
    }
}
