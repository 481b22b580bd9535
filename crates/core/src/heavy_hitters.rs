//! The keys with the most events, in a fixed number of counters.
//!
//! Space-Saving: an event for a key that has a counter adds one to it; another key takes the counter with the lowest
//! count, and continues from that count. So a count is never too low, and too high by at most the lowest count, which
//! is at most all events divided by the number of counters. Source: Metwally, Agrawal, El Abbadi, "Efficient
//! computation of frequent and top-k elements in data streams" (2005).
//!
//! An event for a key that has a counter is the common one: it hashes the key, adds one, and allocates and orders
//! nothing. The lowest counter is searched only when another key needs one, by a hand that goes around like a clock's,
//! from where it stopped. Counts only rise: the lowest count is known until the hand has been around once without
//! finding it, and where many keys need counters, many counters have it. A search goes around twice at most.

use std::cmp::Reverse;

use crate::hash::{Seed, equal};

/// The most counters.
pub const MAX_CAPACITY: usize = 10_000;

/// No counter, in the index.
const FREE: u32 = u32::MAX;

/// The capacity of a key's buffer above which it is freed when a much shorter key takes its counter.
const SPARE_BYTES: usize = 256;

/// A key that has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hitter<'a, L> {
    /// The database that the key is in.
    pub db: i32,
    /// Its name.
    pub key: &'a [u8],
    /// The label of its last event.
    pub label: L,
    /// Events, an estimate that is never too low.
    pub count: u64,
}

/// The counters.
#[derive(Debug)]
pub struct HeavyHitters<L> {
    capacity: usize,
    /// All events since the last reset.
    total: u64,
    /// The events that a key without a counter may have had when the number of counters was raised.
    floor: u64,
    counters: Vec<Counter<L>>,
    index: Index,
    /// No counter has a lower count.
    low: u64,
    /// Where the search for a counter that has it goes on.
    hand: usize,
    seed: Seed,
}

#[derive(Debug)]
struct Counter<L> {
    hash: u64,
    count: u64,
    key: Vec<u8>,
    db: i32,
    label: L,
}

impl<L: Copy> HeavyHitters<L> {
    /// `capacity` counters, at most [`MAX_CAPACITY`]; 0 counts nothing.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(MAX_CAPACITY);
        Self {
            capacity,
            total: 0,
            floor: 0,
            counters: Vec::new(),
            index: Index::for_counters(capacity),
            low: 0,
            hand: 0,
            seed: Seed::random(),
        }
    }

    /// How many counters there are.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the number of counters. If there are to be fewer, those with the highest counts stay, and the bound of
    /// the error is at once that of the new number. If there are to be more, keys that have no counter yet begin at the
    /// count that they may have had, and the bound stays that of the old number until the next reset. 0 clears all.
    pub fn set_capacity(&mut self, capacity: usize) {
        let capacity = capacity.min(MAX_CAPACITY);
        if capacity == self.capacity {
            return;
        }
        self.floor = if capacity > self.capacity { self.error() } else { self.floor };
        if capacity == 0 {
            (self.total, self.floor) = (0, 0);
        }
        self.capacity = capacity;
        self.counters.sort_unstable_by_key(|counter| Reverse(counter.count));
        self.counters.truncate(capacity);
        self.counters.shrink_to(capacity);
        (self.low, self.hand) = (0, 0);
        self.index = Index::for_counters(capacity);
        for (number, counter) in (0..).zip(&self.counters) {
            self.index.insert(counter.hash, number);
        }
    }

    /// Counts an event for a key of a database. Its label is stored until the key's next event.
    #[inline]
    pub fn record(&mut self, db: i32, key: &[u8], label: L) {
        if self.capacity == 0 {
            return;
        }
        self.total += 1;
        let hash = self.seed.hash(db.cast_unsigned(), key);
        let counters = &mut self.counters;
        let found = self.index.find(hash, |number| {
            let counter = &mut counters[number as usize];
            let is_it = counter.hash == hash && counter.db == db && equal(&counter.key, key);
            if is_it {
                counter.count += 1;
                counter.label = label;
            }
            is_it
        });
        if found.is_none() {
            self.begin(hash, db, key, label);
        }
    }

    /// The `n` keys with the highest counts, highest first.
    pub fn top(&self, n: usize) -> impl Iterator<Item = Hitter<'_, L>> {
        let mut order: Vec<&Counter<L>> = self.counters.iter().collect();
        order.sort_unstable_by_key(|counter| Reverse(counter.count));
        order.truncate(n);
        order.into_iter().map(|counter| Hitter {
            db: counter.db,
            key: &counter.key,
            label: counter.label,
            count: counter.count,
        })
    }

    /// All events since the last reset, of keys that have a counter and of others.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The most that a key without a counter can have had, and by which a count can be too high.
    pub fn error(&self) -> u64 {
        let lowest = self.counters.iter().map(|counter| counter.count).min().unwrap_or(0);
        if self.counters.len() == self.capacity { lowest } else { self.floor }
    }

    /// Clears all counters.
    pub fn reset(&mut self) {
        *self = Self::new(self.capacity);
    }

    /// Gives a counter to a key that has none: a new one, or that with the lowest count.
    #[inline(never)]
    fn begin(&mut self, hash: u64, db: i32, key: &[u8], label: L) {
        if self.counters.len() < self.capacity {
            self.index.insert(hash, number_of(self.counters.len()));
            self.counters.push(Counter { hash, count: self.floor + 1, key: key.to_vec(), db, label });
            return;
        }
        let number = number_of(self.lowest());
        let counters = &self.counters;
        self.index.remove(number, |number| counters[number as usize].hash);
        let counter = &mut self.counters[number as usize];
        if counter.key.capacity() > SPARE_BYTES && counter.key.capacity() / 4 > key.len() {
            counter.key = Vec::new();
        }
        counter.key.clear();
        counter.key.extend_from_slice(key);
        counter.count += 1;
        (counter.hash, counter.db, counter.label) = (hash, db, label);
        self.index.insert(hash, number);
    }

    /// The counter with the lowest count, of one at least.
    fn lowest(&mut self) -> usize {
        loop {
            let mut lowest = u64::MAX;
            for _ in 0..self.counters.len() {
                let place = self.hand;
                let count = self.counters[place].count;
                self.hand = if place + 1 == self.counters.len() { 0 } else { place + 1 };
                if count == self.low {
                    return place;
                }
                lowest = lowest.min(count);
            }
            self.low = lowest;
        }
    }
}

/// Counters' numbers by their keys' hashes: open addressing, at most a quarter full.
#[derive(Debug)]
struct Index {
    slots: Vec<u32>,
}

impl Index {
    fn for_counters(capacity: usize) -> Self {
        let slots = if capacity == 0 { 0 } else { (4 * capacity).next_power_of_two() };
        Self { slots: vec![FREE; slots] }
    }

    /// The slot at which the search for a hash begins.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the mask leaves the low bits")]
        let low = hash as usize;
        low & (self.slots.len() - 1)
    }

    #[inline(always)]
    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    #[inline(always)]
    fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut slot = self.home(hash);
        loop {
            match self.slots[slot] {
                FREE => return None,
                number if matches(number) => return Some(number),
                _ => slot = self.after(slot),
            }
        }
    }

    fn insert(&mut self, hash: u64, number: u32) {
        let mut slot = self.home(hash);
        while self.slots[slot] != FREE {
            slot = self.after(slot);
        }
        self.slots[slot] = number;
    }

    /// Removes a counter, and moves the ones behind it closer to the slots at which their search begins.
    fn remove(&mut self, number: u32, hash_of: impl Fn(u32) -> u64) {
        let mut hole = self.home(hash_of(number));
        while self.slots[hole] != number {
            hole = self.after(hole);
        }
        let mut slot = hole;
        loop {
            slot = self.after(slot);
            let next = self.slots[slot];
            if next == FREE {
                break;
            }
            // It may move unless its home lies behind the hole.
            let from_home = slot.wrapping_sub(self.home(hash_of(next))) & (self.slots.len() - 1);
            let from_hole = slot.wrapping_sub(hole) & (self.slots.len() - 1);
            if from_home >= from_hole {
                self.slots[hole] = next;
                hole = slot;
            }
        }
        self.slots[hole] = FREE;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are at most MAX_CAPACITY")]
#[inline(always)]
fn number_of(place: usize) -> u32 {
    debug_assert!(place <= MAX_CAPACITY);
    place as u32
}

#[cfg(test)]
mod tests;
