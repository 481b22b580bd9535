//! Which keys something happens to most, in a fixed number of counters.
//!
//! Space-Saving: an event for a key that has a counter adds one to it; another key takes the counter that stands lowest,
//! and its count with it. So a count is never too low, and too high by at most the lowest count, which is at most all
//! events divided by the number of counters. Source: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and
//! top-k elements in data streams" (2005).
//!
//! Counters stand in an array in descending order of their counts. Those of one count are a *run*; a counter that gains
//! one changes places with the first of its run, and so belongs to the end of the run before it: each event takes a few
//! steps, whatever the counts are. An event for a key that has a counter allocates nothing.

use crate::hash::Seed;

/// The most counters.
pub const MAX_CAPACITY: usize = 65_536;

/// No counter, in the index.
const FREE: u32 = u32::MAX;

/// A key's memory above which it is given back when a much shorter key takes its counter.
const SPARE_BYTES: usize = 256;

/// A key that has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hitter<'a, L> {
    /// The database that the key is in.
    pub db: i32,
    /// Its name.
    pub key: &'a [u8],
    /// What was said of its last event.
    pub label: L,
    /// Events, estimated: never too low.
    pub count: u64,
}

/// The counters.
#[derive(Debug)]
pub struct HeavyHitters<L> {
    capacity: usize,
    /// All events since the last reset.
    total: u64,
    /// What a key without a counter may have had when the counters became more.
    floor: u64,
    counters: Vec<Counter<L>>,
    /// The counters' numbers, highest count first.
    order: Vec<u32>,
    runs: Runs,
    index: Index,
    seed: Seed,
}

#[derive(Debug)]
struct Counter<L> {
    hash: u64,
    db: i32,
    key: Vec<u8>,
    label: L,
    /// Its place in the order.
    place: u32,
    /// The number of its run.
    run: u32,
}

impl<L: Copy> HeavyHitters<L> {
    /// So many counters, at most [`MAX_CAPACITY`]; 0 counts nothing.
    pub fn new(capacity: usize) -> Self {
        let mut hitters = Self {
            capacity: 0,
            total: 0,
            floor: 0,
            counters: Vec::new(),
            order: Vec::new(),
            runs: Runs::default(),
            index: Index::default(),
            seed: Seed::random(),
        };
        hitters.set_capacity(capacity);
        hitters
    }

    /// How many counters there are.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the number of counters. If there are to be fewer, those with the highest counts stay, and the bound of the
    /// error is at once that of the new number. If there are to be more, keys that have no counter yet begin at the count
    /// that they may have had, and the bound stays that of the old number until the next reset. 0 forgets all.
    pub fn set_capacity(&mut self, capacity: usize) {
        let capacity = capacity.min(MAX_CAPACITY);
        if capacity == self.capacity {
            return;
        }
        if capacity == 0 {
            self.reset();
        } else if capacity > self.capacity && self.capacity > 0 && self.order.len() == self.capacity {
            self.floor = self.lowest();
        }
        self.capacity = capacity;
        // A few counters are put in again: this is rare.
        let kept: Vec<(u64, Counter<L>)> = self.drain().into_iter().take(capacity).collect();
        self.index = Index::for_counters(capacity);
        for (count, counter) in kept {
            self.push(counter, count);
        }
    }

    /// Counts an event for a key of a database. What is said of it is remembered until the key's next event.
    #[inline]
    pub fn record(&mut self, db: i32, key: &[u8], label: L) {
        if self.capacity == 0 {
            return;
        }
        self.total += 1;
        let hash = self.seed.hash(u64::from(db.cast_unsigned()), key);
        let counters = &self.counters;
        let found = self.index.find(hash, |number| {
            let counter = &counters[number as usize];
            counter.hash == hash && counter.db == db && counter.key == key
        });
        match found {
            Some(number) => {
                self.counters[number as usize].label = label;
                self.increment(number);
            }
            None => self.begin(hash, db, key, label),
        }
    }

    /// The `n` keys with the highest counts, highest first.
    pub fn top(&self, n: usize) -> impl Iterator<Item = Hitter<'_, L>> {
        self.order.iter().take(n).map(|&number| {
            let counter = &self.counters[number as usize];
            Hitter { db: counter.db, key: &counter.key, label: counter.label, count: self.runs.count(counter.run) }
        })
    }

    /// All events since the last reset, of keys that have a counter and of others.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The most that a key without a counter can have had, and by which a count can be too high.
    pub fn error(&self) -> u64 {
        if self.order.len() == self.capacity { self.lowest() } else { self.floor }
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        (self.total, self.floor) = (0, 0);
        self.drain();
        self.index = Index::for_counters(self.capacity);
        self.seed = Seed::random();
    }

    fn lowest(&self) -> u64 {
        self.order.last().map_or(0, |&number| self.runs.count(self.counters[number as usize].run))
    }

    /// Takes all counters out, highest first.
    fn drain(&mut self) -> Vec<(u64, Counter<L>)> {
        let mut drained: Vec<(u64, Counter<L>)> =
            self.counters.drain(..).map(|counter| (self.runs.count(counter.run), counter)).collect();
        drained.sort_unstable_by_key(|(_, counter)| counter.place);
        self.order.clear();
        self.runs = Runs::default();
        drained
    }

    /// Gives a counter to a key that has none: a new one, or that with the lowest count.
    #[inline(never)]
    fn begin(&mut self, hash: u64, db: i32, key: &[u8], label: L) {
        if self.order.len() < self.capacity {
            let number = self.push(Counter { hash, db, key: key.to_vec(), label, place: 0, run: 0 }, self.floor);
            self.increment(number);
            return;
        }
        let Some(&number) = self.order.last() else { return };
        let counters = &self.counters;
        self.index.remove(number, |number| counters[number as usize].hash);
        let counter = &mut self.counters[number as usize];
        if counter.key.capacity() > SPARE_BYTES && counter.key.capacity() / 4 > key.len() {
            counter.key = Vec::new();
        }
        counter.key.clear();
        counter.key.extend_from_slice(key);
        (counter.hash, counter.db, counter.label) = (hash, db, label);
        self.index.insert(hash, number);
        self.increment(number);
    }

    /// Adds a counter at the end of the order; none there is lower than `count`.
    fn push(&mut self, counter: Counter<L>, count: u64) -> u32 {
        let place = number_of(self.order.len());
        let run = match self.order.last().map(|&last| self.counters[last as usize].run) {
            Some(run) if self.runs.count(run) == count => run,
            _ => self.runs.begin(count, place),
        };
        let number = number_of(self.counters.len());
        self.runs.reserve_for(self.counters.len() + 1);
        self.index.insert(counter.hash, number);
        self.order.push(number);
        self.counters.push(Counter { place, run, ..counter });
        number
    }

    /// Adds one to a counter.
    #[inline(always)]
    fn increment(&mut self, number: u32) {
        let Counter { place, run, .. } = self.counters[number as usize];
        let Run { count, first } = self.runs.all[run as usize];
        if place != first {
            // It becomes the first of its run.
            let other = self.order[first as usize];
            self.order[first as usize] = number;
            self.order[place as usize] = other;
            self.counters[other as usize].place = place;
            self.counters[number as usize].place = first;
        }
        let is_alone = self.order.get(first as usize + 1).is_none_or(|&next| self.counters[next as usize].run != run);
        let before = first.checked_sub(1).map(|place| self.counters[self.order[place as usize] as usize].run);
        match before {
            Some(before) if self.runs.count(before) == count + 1 => {
                self.counters[number as usize].run = before;
                if is_alone { self.runs.end(run) } else { self.runs.all[run as usize].first += 1 }
            }
            _ if is_alone => self.runs.all[run as usize].count += 1,
            _ => {
                self.runs.all[run as usize].first += 1;
                self.counters[number as usize].run = self.runs.begin(count + 1, first);
            }
        }
    }
}

/// Counters of one count, which stand beside each other.
#[derive(Clone, Copy, Debug)]
struct Run {
    count: u64,
    /// The place of the first; of a run that is free, the number of the next one that is.
    first: u32,
}

/// All runs, and those that are free: there are never more than counters.
#[derive(Debug)]
struct Runs {
    all: Vec<Run>,
    free: u32,
}

impl Default for Runs {
    fn default() -> Self {
        Self { all: Vec::new(), free: FREE }
    }
}

impl Runs {
    #[inline(always)]
    fn count(&self, run: u32) -> u64 {
        self.all[run as usize].count
    }

    /// Makes room, so that a run that begins allocates nothing.
    fn reserve_for(&mut self, counters: usize) {
        self.all.reserve(counters.saturating_sub(self.all.len()));
    }

    fn begin(&mut self, count: u64, first: u32) -> u32 {
        let run = Run { count, first };
        match self.free {
            FREE => {
                self.all.push(run);
                number_of(self.all.len() - 1)
            }
            number => {
                self.free = self.all[number as usize].first;
                self.all[number as usize] = run;
                number
            }
        }
    }

    fn end(&mut self, run: u32) {
        self.all[run as usize].first = self.free;
        self.free = run;
    }
}

/// Counters' numbers by their keys' hashes: open addressing, at most half full.
#[derive(Debug, Default)]
struct Index {
    slots: Vec<u32>,
}

impl Index {
    fn for_counters(capacity: usize) -> Self {
        let slots = if capacity == 0 { 0 } else { (2 * capacity).next_power_of_two() };
        Self { slots: vec![FREE; slots] }
    }

    /// The slot at which a hash is looked for first.
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
    fn find(&self, hash: u64, matches: impl Fn(u32) -> bool) -> Option<u32> {
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

    /// Takes a counter out, and moves those behind it up to where they are looked for first, as far as that goes.
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
