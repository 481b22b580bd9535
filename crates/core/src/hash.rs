//! A fast hash of clients' bytes, with a secret seed: a client that chooses the bytes cannot choose where they collide.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A secret that a table's hashes depend on.
#[derive(Clone, Copy, Debug)]
pub struct Seed([u64; 2]);

impl Seed {
    /// A new seed, from the random source of the operating system.
    pub fn random() -> Self {
        let halves = [1, 2].map(|half| {
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u8(half);
            hasher.finish()
        });
        // Factors are odd, so that multiplication loses no bits.
        Self(halves.map(|half| half | 1))
    }

    /// The hash of these bytes and a number. Eight bytes at a time are folded in by a multiplication to 128 bits, the
    /// last eight of them once more if they are no whole word; the length distinguishes texts that differ in nothing
    /// else.
    #[inline]
    pub fn hash(self, number: u32, bytes: &[u8]) -> u64 {
        let [first, second] = self.0;
        let mut state = first ^ (bytes.len() as u64).rotate_left(32) ^ u64::from(number);
        match bytes.last_chunk::<8>() {
            Some(last) => {
                for word in bytes[..bytes.len() - 1].as_chunks::<8>().0 {
                    state = fold(state ^ u64::from_le_bytes(*word), second);
                }
                state = fold(state ^ u64::from_le_bytes(*last), second);
            }
            None => state = fold(state ^ short_word(bytes), second),
        }
        fold(state, first)
    }
}

/// Up to seven bytes as a number.
#[inline(always)]
fn short_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Whether two texts are equal: as `==`, without the call that it makes, which takes longer than comparing the few
/// bytes of most texts.
#[inline(always)]
pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (Some(last), Some(other_last)) = (one.last_chunk::<8>(), other.last_chunk::<8>()) else {
        return one.iter().zip(other).all(|(a, b)| a == b);
    };
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    last == other_last && words.into_iter().all(|(a, b)| a == b)
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
        fn other_bytes_or_numbers_have_other_hashes(a: (u32, Vec<u8>), b: (u32, Vec<u8>)) {
            let seed = Seed::random();
            let hash = |(number, bytes): &(u32, Vec<u8>)| seed.hash(*number, bytes);
            prop_assert_eq!(hash(&a) == hash(&b), a == b);
            let mut longer = a.clone();
            longer.1.push(0);
            prop_assert_ne!(hash(&a), hash(&longer), "zero bytes count");
        }

        #[test]
        fn each_byte_counts(mut bytes in prop::collection::vec(any::<u8>(), 1..40), place: usize, bit in 0..8u8) {
            let (seed, before, text) = (Seed::random(), bytes.clone(), bytes.len());
            bytes[place % text] ^= 1 << bit;
            prop_assert_ne!(seed.hash(7, &bytes), seed.hash(7, &before));
            prop_assert_ne!(seed.hash(7, &bytes), seed.hash(8, &bytes));
            prop_assert!(!equal(&bytes, &before));
            prop_assert!(equal(&bytes, &bytes.clone()));
        }

        #[test]
        fn texts_are_equal_if_all_bytes_are(a in "[ab]{0,20}", b in "[ab]{0,20}") {
            prop_assert_eq!(equal(a.as_bytes(), b.as_bytes()), a == b);
        }
    }
}
