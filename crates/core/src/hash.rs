//! A fast hash of clients' bytes, with a seed that they can't know: who chooses the bytes can't choose where they collide.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A secret that a table's hashes depend on.
#[derive(Clone, Copy, Debug)]
pub struct Seed([u64; 2]);

impl Seed {
    /// A new one, from the randomness that the operating system gives the standard library.
    pub fn random() -> Self {
        Self([1, 2].map(|half| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u8(half);
            hasher.finish()
        }))
    }

    /// The hash of these bytes and a number. Eight bytes at a time are folded in by a multiplication to 128 bits; the
    /// length is folded in, so that no text is another's beginning.
    #[inline]
    pub fn hash(self, number: u64, bytes: &[u8]) -> u64 {
        let [first, second] = self.0;
        let (words, rest) = bytes.as_chunks::<8>();
        let mut state = fold(first ^ number, bytes.len() as u64 ^ 0x9E37_79B9_7F4A_7C15);
        for word in words {
            state = fold(state ^ u64::from_le_bytes(*word), second);
        }
        if !rest.is_empty() {
            state = fold(state ^ last_word(rest), second);
        }
        fold(state ^ second, first | 1)
    }
}

/// Up to seven bytes as a number.
#[inline(always)]
fn last_word(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// The two halves of a product, put together: each bit of it depends on many of both factors.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn neighbours_are_spread_over_a_table_of_their_size() {
        for shift in [0, 20, 40, 52] {
            let seed = Seed::random();
            let hashes = (0..4_096u64).map(|number| seed.hash(0, &number.to_le_bytes()) >> shift & 4_095);
            let slots: HashSet<u64> = hashes.collect();
            // Random ones fill 63 in 100.
            assert!((2_400..2_800).contains(&slots.len()), "{} slots", slots.len());
        }
    }

    #[test]
    fn texts_that_collide_under_one_seed_do_not_under_another() {
        // Of 2¹⁶ texts, pairs whose low 20 bits agree under one seed.
        let (one, other) = (Seed::random(), Seed::random());
        let low = |seed: Seed, text: u64| seed.hash(0, &text.to_be_bytes()) & 0xF_FFFF;
        let mut first = std::collections::HashMap::new();
        let pairs: Vec<(u64, u64)> =
            (0..1 << 16).filter_map(|text| first.insert(low(one, text), text).map(|before| (before, text))).collect();
        assert!(pairs.len() > 1_000, "about 2000 are expected: {}", pairs.len());
        let again = pairs.iter().filter(|&&(a, b)| low(other, a) == low(other, b)).count();
        assert!(again < 20, "{again} of {} collide again", pairs.len());
    }

    proptest! {
        #[test]
        fn other_bytes_or_numbers_have_other_hashes(a: (u64, Vec<u8>), b: (u64, Vec<u8>)) {
            let seed = Seed::random();
            let hash = |(number, bytes): &(u64, Vec<u8>)| seed.hash(*number, bytes);
            prop_assert_eq!(hash(&a) == hash(&b), a == b);
            let mut longer = a.clone();
            longer.1.push(0);
            prop_assert_ne!(hash(&a), hash(&longer), "zero bytes count");
        }
    }
}
