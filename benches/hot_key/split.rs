//! A limiter in parts, and the ways to choose one.

use redis_meter_core::answer::{Decision, Next};
use redis_meter_core::time::{Millis, Nanos};
use redis_meter_core::{gcra, window};
use testkit::Random;

/// An emission interval of the one limiter.
pub(crate) const INTERVAL: Nanos = Nanos(1_000_000);
/// How many go over the parts in turn, each for itself and from a place of its own, where that is the way.
pub(crate) const CALLERS: usize = 16;

/// How callers choose a part.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// By chance.
    Random,
    /// By chance, and by chance another one if that refuses.
    TwoTries,
    /// Each of [`CALLERS`] takes the next one.
    RoundRobin,
    /// The one with the most room, by looking at all of them.
    LeastUsed,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Random, Self::TwoTries, Self::RoundRobin, Self::LeastUsed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::TwoTries => "two-tries",
            Self::RoundRobin => "round-robin",
            Self::LeastUsed => "least-used",
        }
    }
}

/// The rule of every part, and the states of all of them.
struct Parts<Rule, State> {
    rule: Rule,
    states: Vec<Option<State>>,
}

impl<Rule, State: Copy> Parts<Rule, State> {
    fn take(&mut self, part: usize, decide: impl Fn(&Rule, Option<State>) -> Decision<State>) -> bool {
        let Decision { answer, next } = decide(&self.rule, self.states[part]);
        match next {
            Next::Keep => {}
            Next::Store(state) => self.states[part] = Some(state),
            Next::Clear => self.states[part] = None,
        }
        !answer.limited
    }
}

/// GCRA in parts.
pub(crate) struct Bucket(Parts<gcra::Quota, Nanos>);

impl Bucket {
    /// Of so many cells in all, and one more every [`INTERVAL`].
    pub(crate) fn new(cells: usize, parts: usize) -> Self {
        assert_eq!(cells % parts, 0, "parts are equal");
        let [burst, parts_fit] = [cells / parts - 1, parts].map(|number| i64::try_from(number).expect("small"));
        let rule = gcra::Quota::new(burst, 1, Nanos(INTERVAL.0 * parts_fit)).expect("a quota");
        Self(Parts { rule, states: vec![None; parts] })
    }

    pub(crate) fn take(&mut self, part: usize, now: Nanos) -> bool {
        self.0.take(part, |quota, state| quota.decide(state, now, 1).expect("it fits"))
    }

    /// The part that is full again soonest.
    pub(crate) fn least_used(&self, now: Nanos) -> usize {
        let Parts { rule, states } = &self.0;
        let reset_after = |&part: &usize| rule.decide(states[part], now, 0).expect("it fits").answer.reset_after;
        (0..states.len()).min_by_key(reset_after).expect("a part")
    }
}

/// A fixed window in parts, all opened at once.
pub(crate) struct Window(Parts<window::Policy, window::Window>);

impl Window {
    /// Of so many calls in all.
    pub(crate) fn new(limit: usize, parts: usize) -> Self {
        assert_eq!(limit % parts, 0, "parts are equal");
        let limit = i64::try_from(limit / parts).expect("small");
        let rule = window::Policy { limit, period: Millis(60_000), block: None };
        Self(Parts { rule, states: vec![None; parts] })
    }

    pub(crate) fn take(&mut self, part: usize) -> bool {
        self.0.take(part, |policy, state| policy.decide(state, Millis(1), 1).expect("it fits"))
    }

    /// The part with the most room.
    pub(crate) fn least_used(&self) -> usize {
        let count = |&part: &usize| self.0.states[part].map_or(0, |window| window.count);
        (0..self.0.states.len()).min_by_key(count).expect("a part")
    }
}

/// Callers of a limiter in parts.
pub(crate) struct Callers {
    way: Way,
    parts: usize,
    random: Random,
    /// The next part of each caller.
    next: Vec<usize>,
}

/// What became of a call.
pub(crate) struct Outcome {
    pub(crate) taken: bool,
    /// How many parts were asked.
    pub(crate) asked: usize,
}

impl Callers {
    pub(crate) fn new(way: Way, parts: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let next = (0..CALLERS).map(|_| random.below(parts)).collect();
        Self { way, parts, random, next }
    }

    /// A call by any of them. `take` asks a part, `least_used` finds one.
    pub(crate) fn call<Split>(
        &mut self,
        split: &mut Split,
        take: impl Fn(&mut Split, usize) -> bool,
        least_used: impl Fn(&Split) -> usize,
    ) -> Outcome {
        let part = match self.way {
            Way::Random | Way::TwoTries => self.random.below(self.parts),
            Way::RoundRobin => {
                let next = &mut self.next[self.random.below(CALLERS)];
                *next = (*next + 1) % self.parts;
                *next
            }
            Way::LeastUsed => least_used(split),
        };
        if take(split, part) {
            return Outcome { taken: true, asked: 1 };
        }
        if self.way != Way::TwoTries || self.parts == 1 {
            return Outcome { taken: false, asked: 1 };
        }
        let another = (part + 1 + self.random.below(self.parts - 1)) % self.parts;
        Outcome { taken: take(split, another), asked: 2 }
    }
}
