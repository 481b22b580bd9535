//! The promises of the counters, compared with exact counts: never too low, too high by at most all events divided by
//! the number of counters, and no key missing that had more than that.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::HashMap;

type Exact = HashMap<(i32, Vec<u8>), u64>;

/// The bounds on all keys, and that counters and index belong together.
fn check(hitters: &HeavyHitters<u32>, exact: &Exact, bound: u64) {
    let top: Vec<Hitter<'_, u32>> = hitters.top(usize::MAX).collect();
    assert!(top.len() <= hitters.capacity());
    assert!(top.is_sorted_by(|a, b| a.count >= b.count), "highest first");
    assert_eq!(hitters.total(), exact.values().sum::<u64>());
    assert!(hitters.error() <= bound, "{} > {bound}", hitters.error());
    let mut unlisted = exact.clone();
    for hitter in &top {
        let count = unlisted.remove(&(hitter.db, hitter.key.to_vec())).expect("a key that occurred, once");
        assert!(hitter.count >= count, "never too low");
        assert!(hitter.count - count <= bound, "{} instead of {count}, {bound} are allowed", hitter.count);
    }
    assert!(unlisted.values().all(|&count| count <= bound), "who is not listed had no more than the bound");
    for (number, counter) in (0..).zip(&hitters.counters) {
        assert_eq!(hitters.index.find(counter.hash, |found| found == number), Some(number));
    }
    assert!(hitters.counters.iter().all(|counter| counter.count >= hitters.low), "none is lower");
}

/// Keys as a stream has them: uniform, or the first ones much more often.
fn stream() -> impl Strategy<Value = Vec<u32>> {
    let uniform = (1..200u32).prop_flat_map(|keys| vec(0..keys, 0..2_000));
    let skewed = vec((0..12u32, 0..1u32 << 12), 0..2_000)
        .prop_map(|draws| draws.into_iter().map(|(bits, number)| number >> bits).collect());
    let hostile = (1..40u32, 0..2_000u32).prop_map(|(keys, events)| (0..events).map(|event| event % keys).collect());
    prop_oneof![uniform, skewed, hostile]
}

/// A few databases, and keys of any length.
fn key_of(number: u32) -> (i32, Vec<u8>) {
    let db = i32::try_from(number % 3).expect("small");
    (db, (number / 3).to_string().repeat(1 + number as usize % 5).into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_count_is_within_its_bound(capacity in 1..40usize, stream in stream()) {
        let mut hitters = HeavyHitters::new(capacity);
        let mut exact = Exact::new();
        for (event, number) in (0..).zip(&stream) {
            let (db, key) = key_of(*number);
            hitters.record(db, &key, event);
            *exact.entry((db, key)).or_default() += 1;
        }
        check(&hitters, &exact, stream.len() as u64 / capacity as u64);
    }

    /// With fewer counters the bound is that of the new number at once; with more, that of the fewest there have been.
    #[test]
    fn every_count_is_within_its_bound_after_a_change_of_the_number_of_counters(
        parts in vec((prop_oneof![1 => Just(0), 9 => 1..40usize], stream()), 1..5),
    ) {
        let mut hitters = HeavyHitters::new(parts[0].0);
        let (mut exact, mut fewest, mut label) = (Exact::new(), usize::MAX, 0);
        for (capacity, stream) in parts {
            hitters.set_capacity(capacity);
            if capacity == 0 {
                (exact, fewest) = (Exact::new(), usize::MAX);
                prop_assert_eq!((hitters.total(), hitters.top(9).count()), (0, 0));
            }
            for number in stream {
                let (db, key) = key_of(number);
                hitters.record(db, &key, label);
                label += 1;
                if capacity > 0 {
                    *exact.entry((db, key)).or_default() += 1;
                }
            }
            fewest = if capacity == 0 { fewest } else { fewest.min(capacity) };
            check(&hitters, &exact, hitters.total() / fewest as u64);
        }
    }

    #[test]
    fn as_many_keys_as_counters_are_counted_exactly(stream in stream()) {
        let mut hitters = HeavyHitters::new(2_000);
        let mut exact = Exact::new();
        for &number in &stream {
            let (db, key) = key_of(number);
            hitters.record(db, &key, 0);
            *exact.entry((db, key)).or_default() += 1;
        }
        check(&hitters, &exact, 0);
    }
}

#[test]
fn a_key_shows_its_database_and_its_last_label() {
    let mut hitters = HeavyHitters::new(2);
    hitters.record(0, b"k", "CELL.WINDOW");
    hitters.record(1, b"k", "CELL.LOG");
    hitters.record(1, b"k", "CELL.THROTTLE");
    let top: Vec<_> = hitters.top(10).collect();
    assert_eq!(
        top,
        [
            Hitter { db: 1, key: b"k", label: "CELL.THROTTLE", count: 2 },
            Hitter { db: 0, key: b"k", label: "CELL.WINDOW", count: 1 },
        ]
    );
    assert_eq!(hitters.top(1).count(), 1);
    assert_eq!(hitters.error(), 1, "a third key may have had one");
}

#[test]
fn a_reset_forgets_all_and_no_counters_count_nothing() {
    let mut hitters = HeavyHitters::new(1);
    hitters.record(0, b"a", ());
    hitters.record(0, b"b", ());
    hitters.reset();
    assert_eq!((hitters.total(), hitters.error(), hitters.top(9).count()), (0, 0, 0));
    hitters.record(0, b"b", ());
    assert_eq!(hitters.top(9).next().map(|hitter| hitter.count), Some(1));
    hitters.set_capacity(0);
    hitters.record(0, b"b", ());
    assert_eq!((hitters.total(), hitters.top(9).count()), (0, 0));
    hitters.set_capacity(usize::MAX);
    assert_eq!(hitters.capacity(), MAX_CAPACITY);
}

#[test]
fn the_memory_of_long_keys_is_freed() {
    let mut hitters = HeavyHitters::new(1);
    hitters.record(0, &[b'k'; 1 << 20], ());
    hitters.record(0, b"short", ());
    assert!(hitters.counters[0].key.capacity() <= SPARE_BYTES);
    assert_eq!(hitters.top(1).next().map(|hitter| (hitter.key, hitter.count)), Some((&b"short"[..], 2)));
}

#[test]
fn an_event_of_a_key_that_has_a_counter_allocates_nothing() {
    let mut hitters = HeavyHitters::new(64);
    for key in 0..64u8 {
        hitters.record(0, &[key], ());
    }
    let room = |hitters: &HeavyHitters<()>| {
        let keys: Vec<*const u8> = hitters.counters.iter().map(|counter| counter.key.as_ptr()).collect();
        (hitters.counters.capacity(), hitters.index.slots.len(), keys)
    };
    let before = room(&hitters);
    for round in 0..64u8 {
        for key in 0..round {
            hitters.record(0, &[key], ());
        }
    }
    assert_eq!(room(&hitters), before);
    assert_eq!(hitters.top(64).map(|hitter| hitter.count).collect::<std::collections::HashSet<_>>().len(), 64);
}
