//! The highest members of several ordered lists.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::convert::Infallible;

use redis_meter_core::ranking::{Lists, Ranked, highest};

use crate::bytes::Bytes;

/// Lists in memory, each ordered as ZREVRANGE is.
struct InMemory {
    lists: Vec<Vec<Ranked>>,
    at: Vec<usize>,
}

impl Lists for InMemory {
    type Error = Infallible;
    type Member = Vec<u8>;

    fn list_count(&self) -> usize {
        self.lists.len()
    }

    fn members(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    fn next(&mut self, list: usize) -> Result<Option<Ranked>, Infallible> {
        self.at[list] += 1;
        Ok(self.lists[list].get(self.at[list] - 1).cloned())
    }

    fn rewind(&mut self, list: usize) {
        self.at[list] = 0;
    }

    fn count(&self, list: usize, member: &Vec<u8>) -> Result<u64, Infallible> {
        Ok(self.lists[list].iter().find(|(name, _)| name == member).map_or(0, |(_, count)| *count))
    }
}

/// The highest `n` are those that adding everything up and sorting it finds.
pub fn ranking(input: &[u8]) {
    let mut input = Bytes(input);
    let n = usize::from(input.byte() % 12) + 1;
    let mut counts = vec![BTreeMap::<Vec<u8>, u64>::new(); usize::from(input.byte() % 5) + 1];
    let lists = counts.len();
    while !input.is_empty() {
        let (list, member) = (usize::from(input.byte()) % lists, vec![input.byte() % 32]);
        counts[list].insert(member, input.natural(1 << 53).unsigned_abs());
    }
    let mut sums = BTreeMap::<Vec<u8>, u64>::new();
    for (member, count) in counts.iter().flatten() {
        *sums.entry(member.clone()).or_default() += count;
    }
    let ordered = |counts: BTreeMap<Vec<u8>, u64>| {
        let mut members: Vec<Ranked> = counts.into_iter().collect();
        members.sort_by_key(|(member, count)| Reverse((*count, member.clone())));
        members
    };
    let mut expected = ordered(sums);
    expected.truncate(n);
    let mut lists = InMemory { at: vec![0; lists], lists: counts.into_iter().map(ordered).collect() };
    assert_eq!(highest(&mut lists, n), Ok(expected));
}
