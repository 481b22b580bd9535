//! The highest members of several counts that are added up.

use std::cmp::Ordering;
use std::collections::HashMap;

/// A member and its count.
pub(crate) type Ranked = (Vec<u8>, i64);

/// Counts by member, being added up.
#[derive(Default)]
pub(crate) struct Ranking {
    counts: HashMap<Vec<u8>, i64>,
}

/// A sum passes 2⁶³ − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Ranking {
    /// Adds to the count of a member.
    ///
    /// # Errors
    /// The sum passes 2⁶³ − 1.
    pub(crate) fn add(&mut self, member: &[u8], count: i64) -> Result<(), TooLarge> {
        match self.counts.get_mut(member) {
            Some(sum) => *sum = sum.checked_add(count).ok_or(TooLarge)?,
            None => {
                self.counts.insert(member.to_vec(), count);
            }
        }
        Ok(())
    }

    /// The `n` highest, in the order of ZREVRANGE: by count, and those of one count by their bytes, descending both.
    pub(crate) fn highest(self, n: usize) -> Vec<Ranked> {
        let mut all: Vec<Ranked> = self.counts.into_iter().collect();
        if n > 0 && n < all.len() {
            all.select_nth_unstable_by(n - 1, descending);
        }
        all.truncate(n);
        all.sort_unstable_by(descending);
        all
    }
}

fn descending(a: &Ranked, b: &Ranked) -> Ordering {
    (b.1, &b.0).cmp(&(a.1, &a.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_highest_are_those_of_a_full_sort(
            hits in prop::collection::vec(("[ab]{0,3}", 1..5i64), 0..60), n in 0..20usize,
        ) {
            let mut ranking = Ranking::default();
            let mut sums = BTreeMap::new();
            for (member, count) in &hits {
                ranking.add(member.as_bytes(), *count).expect("small sums");
                *sums.entry(member.clone().into_bytes()).or_insert(0) += count;
            }
            let mut expected: Vec<Ranked> = sums.into_iter().collect();
            expected.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
            expected.truncate(n);
            prop_assert_eq!(ranking.highest(n), expected);
        }
    }

    #[test]
    fn a_sum_never_wraps() {
        let mut ranking = Ranking::default();
        ranking.add(b"a", i64::MAX).expect("it fits");
        ranking.add(b"b", i64::MAX).expect("it fits");
        assert_eq!(ranking.add(b"a", 1), Err(TooLarge));
    }
}
