//! The effects that clients know of, compared with the keys of a server.
//!
//! A [`Teller`] sends calls of all commands. On keys of its own it knows the effect of each call, so that every reply
//! is checked; and it knows the order in which they were sent. A server that has crashed, or a replica that has taken
//! over, must have the effects of all calls up to some call, whole, and none of later calls; every confirmed call comes
//! before that one. For keys that all tellers share, their ledgers together give the least and the highest counts.
//!
//! No limiter here refills while a test runs, so its taken cells can be counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Client, Server, Value, date};

/// The contents of one owner's keys: the count of each `key field`, without the owner's prefix.
pub type Counts = BTreeMap<String, i64>;

/// The owner of the keys that all tellers share.
pub const SHARED: &str = "{all}";

const METERS: [&str; 3] = ["m", "cap", "events"];
const MEMBERS: [&str; 3] = ["a", "b", "users#update"];
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The limit of the limiters, and of a day of the meter `cap`.
const LIMIT: i64 = 150;

/// A limiter's key, its command, what follows the key, and its limit.
const LIMITERS: [(&str, &str, &str, i64); 7] = [
    ("throttle", "CELL.THROTTLE", "149 1 86400", LIMIT),
    ("window", "CELL.WINDOW", "150 1000000", LIMIT),
    ("log", "CELL.LOG", "150 1000000", LIMIT),
    // Its windows began in 2001 and end in 2033.
    ("slide", "CELL.SLIDE", "150 1000000000", LIMIT),
    // Two limits that MTHROTTLE moves together, the second by twice as much.
    ("both:a", "CELL.THROTTLE", "149 1 86400", LIMIT),
    ("both:b", "CELL.THROTTLE", "209 1 86400", 210),
    ("pace", "CELL.THROTTLE", "19999 1 86400", 20_000),
];

/// The limiters that are called one by one.
const SINGLE: [usize; 4] = [0, 1, 2, 3];

/// A call on the keys of one owner.
#[derive(Clone, Debug)]
enum Call {
    Hit {
        meter: &'static str,
        at: i64,
        by: i64,
        path: Option<[&'static str; 2]>,
        id: Option<u64>,
        event: Option<String>,
    },
    Seal,
    Ack {
        batch: String,
    },
    Drop {
        before: String,
    },
    Take {
        limiter: usize,
        quantity: i64,
    },
    TakeBoth {
        quantity: i64,
    },
    Push {
        cell: String,
    },
    Pull {
        count: i64,
        waits: bool,
    },
    /// Takes a cell from the list of cells in progress: this one, or the oldest.
    Finish {
        cell: Option<String>,
    },
}

impl Call {
    fn words(&self, owner: &str) -> Vec<String> {
        let line = match self {
            Self::Hit { meter, at, by, path, id, event } => {
                let mut line = format!("METER.HIT {owner}:{meter} AT {at} BY {by}");
                if let Some([first, second]) = path {
                    line += &format!(" PATH 2 {first} {second}");
                }
                if let Some(id) = id {
                    line += &format!(" UNIQUE {id}");
                }
                if let Some(event) = event {
                    line += &format!(" ONCE {event}");
                }
                if *meter == "cap" {
                    line += &format!(" CAP DAY {LIMIT}");
                }
                line
            }
            Self::Seal => format!("METER.SEAL {owner}:m"),
            Self::Ack { batch } => format!("METER.ACK {owner}:m {batch}"),
            Self::Drop { before } => format!("METER.DROP {owner}:m BEFORE {before}"),
            Self::Take { limiter, quantity } => {
                let (key, command, rest, _) = LIMITERS[*limiter];
                format!("{command} {owner}:{key} {rest} {quantity}")
            }
            Self::TakeBoth { quantity } => format!(
                "CELL.MTHROTTLE {owner}:both:a 149 1 86400 {quantity} {owner}:both:b 209 1 86400 {}",
                2 * quantity
            ),
            Self::Push { cell } => format!("LPUSH {owner}:q {cell}"),
            Self::Pull { count, waits } => {
                let timeout = if *waits { " TIMEOUT 0.02" } else { "" };
                format!("CELL.PULL {owner}:q {owner}:pace 19999 1 86400 COUNT {count} INTO {owner}:busy{timeout}")
            }
            Self::Finish { cell: Some(cell) } => format!("LREM {owner}:busy 1 {cell}"),
            Self::Finish { cell: None } => format!("RPOP {owner}:busy"),
        };
        line.split(' ').map(str::to_owned).collect()
    }

    /// Its effect on these counts: hits counted, cells taken, keys or days deleted.
    fn effect(&self, on: &Counts) -> i64 {
        match self {
            Self::Hit { meter, at, by, event, .. } => {
                let day = format!("{meter}:day:{}", date(*at));
                let known = event.as_ref().is_some_and(|event| on.contains_key(&format!("{day}:once {event}")));
                let capped = *meter == "cap" && *by > 0 && count(on, &format!("{day} day")) + by > LIMIT;
                if known || capped { 0 } else { *by }
            }
            Self::Seal if on.contains_key("m:batch") => 0,
            Self::Seal => of(on, "m ").count() as i64,
            Self::Ack { .. } => sealed_keys(on),
            Self::Drop { before } => of(on, "m ").filter(|(day, _)| *day < before.as_str()).count() as i64,
            Self::Take { limiter, quantity } => taken(*quantity, count(on, LIMITERS[*limiter].0), LIMIT),
            Self::TakeBoth { quantity } => taken(*quantity, count(on, "both:a"), LIMITERS[5].3 / 2),
            Self::Push { .. } => 1,
            Self::Pull { count: most, .. } => {
                (*most).min(of(on, "q ").count() as i64).min(LIMITERS[6].3 - count(on, "pace"))
            }
            Self::Finish { .. } => 1.min(of(on, "busy ").count() as i64),
        }
    }

    /// The counts that it adds with this `effect`.
    fn added(&self, effect: i64) -> Vec<(String, i64)> {
        match self {
            Self::Hit { meter, at, path, event, .. } if effect != 0 => {
                let day = format!("{meter}:day:{}", date(*at));
                let mut added = vec![
                    (format!("{day} day"), effect),
                    (format!("{day} {}", at.rem_euclid(DAY_MS) / HOUR_MS), effect),
                ];
                if let Some([first, second]) = path {
                    added.push((format!("{day}:path {first}"), effect));
                    added.push((format!("{day}:path:{first} {second}"), effect));
                }
                added.extend(event.iter().map(|event| (format!("{day}:once {event}"), 1)));
                added
            }
            Self::Take { limiter, .. } => vec![(LIMITERS[*limiter].0.to_owned(), effect)],
            Self::TakeBoth { .. } => vec![("both:a".to_owned(), effect), ("both:b".to_owned(), 2 * effect)],
            Self::Pull { .. } => vec![("pace".to_owned(), effect)],
            _ => vec![],
        }
    }

    /// The same for shared keys, for which it does not matter in which of two lists a cell is.
    fn added_to_shared(&self, effect: i64) -> Vec<(String, i64)> {
        match self {
            Self::Push { cell } => vec![(format!("cell {cell}"), effect)],
            Self::Finish { cell: Some(cell) } => vec![(format!("cell {cell}"), -effect)],
            _ => self.added(effect),
        }
    }

    /// Applies it to keys whose contents are known.
    fn apply(&self, to: &mut Counts, effect: i64) {
        for (name, n) in self.added(effect) {
            add(to, &name, n);
        }
        match self {
            Self::Hit { meter, at, by, id, .. } if effect != 0 => {
                let day = date(*at);
                let key = format!("{meter}:day:{day}");
                if let Some(id) = id.filter(|_| *by > 0)
                    && to.insert(format!("~{key}:unique {id}"), 1).is_none()
                {
                    add(to, &format!("{key}:unique "), 1);
                }
                if to.contains_key(&format!("{key} day")) {
                    to.insert(format!("{meter} {day}"), 1);
                } else {
                    to.remove(&format!("{meter} {day}"));
                    to.retain(|name, _| !name.trim_start_matches('~').starts_with(&format!("{key}:unique ")));
                }
            }
            Self::Seal if effect != 0 => {
                let days: Vec<String> = of(to, "m ").map(|(day, _)| day.to_owned()).collect();
                for (name, n) in remove_days(to, &days) {
                    to.insert(format!("m:sealed:{}", &name["m:".len()..]), n);
                }
                to.insert("m:batch".to_owned(), 1);
            }
            Self::Ack { .. } => {
                to.retain(|name, _| !name.starts_with("m:sealed:") && name != "m:batch");
            }
            Self::Drop { before } if effect != 0 => {
                let days: Vec<String> =
                    of(to, "m ").filter(|(day, _)| *day < before.as_str()).map(|(day, _)| day.to_owned()).collect();
                remove_days(to, &days);
            }
            Self::Push { cell } => add(to, &format!("q {cell}"), 1),
            Self::Pull { .. } => {
                for cell in oldest(to, "q ", effect) {
                    to.remove(&format!("q {cell}"));
                    to.insert(format!("busy {cell}"), 1);
                }
            }
            Self::Finish { .. } => {
                for cell in oldest(to, "busy ", effect) {
                    to.remove(&format!("busy {cell}"));
                }
            }
            _ => {}
        }
    }

    /// Whether `reply` is right, if the keys were `before` and are `after`.
    fn assert_answers(&self, reply: Value, effect: i64, before: &Counts, after: &Counts) {
        let shown = format!("{self:?}: {reply:?}");
        match self {
            Self::Hit { meter, at, .. } => {
                let day = format!("{meter}:day:{}", date(*at));
                let hour = count(after, &format!("{day} {}", at.rem_euclid(DAY_MS) / HOUR_MS));
                assert_eq!(ints(reply), [count(after, &format!("{day} day")), hour, effect], "{shown}");
            }
            Self::Seal => {
                let (batch, keys): (Option<String>, Vec<String>) = redis::from_redis_value(reply).expect("a batch");
                assert_eq!(batch.is_some(), after.contains_key("m:batch"), "{shown}");
                assert_eq!(keys.len() as i64, sealed_keys(after), "{shown}");
            }
            Self::Take { limiter, quantity } => {
                let answer = ints(reply);
                let (key, _, _, limit) = LIMITERS[*limiter];
                let limited = i64::from(*quantity > 0 && effect == 0);
                assert_eq!((answer[0], answer[2]), (limited, limit - count(after, key)), "{shown}");
            }
            Self::TakeBoth { quantity } => {
                let answers: Vec<Vec<i64>> = redis::from_redis_value(reply).expect("answers");
                let limited = answers.iter().any(|answer| answer[0] == 1);
                assert_eq!(limited, *quantity > 0 && effect == 0, "{shown}");
                let left = [LIMITERS[4], LIMITERS[5]].map(|(key, _, _, limit)| limit - count(after, key));
                assert_eq!([answers[0][2], answers[1][2]], left, "{shown}");
            }
            Self::Pull { .. } => assert_eq!(cells(reply), oldest(before, "q ", effect), "{shown}"),
            Self::Finish { .. } => {
                let cell: Option<String> = redis::from_redis_value(reply).expect("a cell");
                assert_eq!(cell, oldest(before, "busy ", effect).pop(), "{shown}");
            }
            Self::Ack { .. } | Self::Drop { .. } => {
                assert_eq!(redis::from_redis_value::<i64>(reply).expect("a number"), effect, "{shown}");
            }
            Self::Push { .. } => {}
        }
    }

    /// Its effect on shared keys by its reply; without a reply, the largest effect that it can have had.
    fn effect_by(&self, reply: Option<&Value>) -> i64 {
        let limited = |answer: &[i64]| answer[0] == 1;
        match (self, reply.cloned()) {
            (Self::Hit { .. }, Some(reply)) => ints(reply)[2],
            (Self::Hit { by, .. }, None) => *by,
            (Self::Take { .. }, Some(reply)) if limited(&ints(reply.clone())) => 0,
            (Self::TakeBoth { .. }, Some(reply)) => {
                let answers: Vec<Vec<i64>> = redis::from_redis_value(reply).expect("answers");
                if answers.iter().any(|answer| limited(answer)) { 0 } else { self.effect_by(None) }
            }
            (Self::Take { quantity, .. } | Self::TakeBoth { quantity }, _) => *quantity,
            (Self::Pull { .. }, Some(reply)) => cells(reply).len() as i64,
            (Self::Pull { count, .. }, None) => *count,
            (Self::Finish { .. }, Some(reply)) => redis::from_redis_value(reply).expect("a number"),
            _ => 1,
        }
    }

    fn is_event(&self) -> bool {
        matches!(self, Self::Hit { event: Some(_), .. })
    }
}

/// A call that was sent and is not confirmed.
#[derive(Clone)]
struct Pending {
    shared: bool,
    call: Call,
    /// Its effect, if it got a reply.
    effect: Option<i64>,
}

/// Why a teller stopped.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke; the last calls may have happened or not.
    Broken,
    /// The server returned this error; the call had no effect.
    Refused(String),
}

/// Statistics of a run, to be printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub answered: u64,
    pub unanswered: u64,
    /// Calls without a reply that took effect.
    pub happened: u64,
    /// Calls with a reply that were not confirmed, and lost.
    pub lost: u64,
    /// Events sent again.
    pub redelivered: u64,
}

impl Tally {
    /// The sum over these tellers.
    pub fn of(tellers: &[Teller]) -> Self {
        tellers.iter().map(|teller| teller.tally).fold(Self::default(), Self::plus)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            unanswered: self.unanswered + other.unanswered,
            happened: self.happened + other.happened,
            lost: self.lost + other.lost,
            redelivered: self.redelivered + other.redelivered,
        }
    }
}

/// A client, and its ledger.
#[derive(Clone)]
pub struct Teller {
    /// The prefix of its own keys.
    pub owner: String,
    /// The prefix of the keys that it shares; none if it uses its own alone.
    pub shares: Option<String>,
    pub tally: Tally,
    number: u64,
    /// The start of the first of the days that are hit.
    start: i64,
    chance: Chance,
    /// The counts of its own keys after all confirmed calls, and after all calls with a reply.
    confirmed: Counts,
    answered: Counts,
    pending: VecDeque<Pending>,
    /// The counts added to shared keys by confirmed calls since the last balance.
    shared: Counts,
    /// Events to be delivered again.
    again: Vec<(bool, Call)>,
    batch: Option<String>,
    /// Shared cells that it got and has not finished; and all that it got.
    pulled: Vec<String>,
    given: Vec<String>,
    drawn: u64,
}

impl Teller {
    /// Counts in the three days before that of `now`.
    pub fn new(number: u64, seed: u64, now: i64) -> Self {
        Self {
            owner: format!("{{c{number}}}"),
            shares: Some(SHARED.to_owned()),
            tally: Tally::default(),
            number,
            start: now / DAY_MS * DAY_MS - 3 * DAY_MS,
            chance: Chance::new(seed ^ (number + 1).wrapping_mul(0x9E37_79B9)),
            confirmed: Counts::new(),
            answered: Counts::new(),
            pending: VecDeque::new(),
            shared: Counts::new(),
            again: Vec::new(),
            batch: None,
            pulled: Vec::new(),
            given: Vec::new(),
            drawn: 0,
        }
    }

    /// Sends `calls` calls at once, and reads their replies. More than one only if none can be refused.
    ///
    /// # Errors
    /// Why it stopped.
    pub fn send(&mut self, redis: &mut Client, calls: u64) -> Result<(), Trouble> {
        let first = self.pending.len();
        let mut bytes = Vec::new();
        for place in 0..calls {
            let (shared, call) = self.draw(place == 0);
            let owner = if shared { self.shares.as_deref().expect("shared keys") } else { &self.owner };
            let mut command = redis::Cmd::new();
            command.arg(call.words(owner));
            bytes.extend(command.get_packed_command());
            self.pending.push_back(Pending { shared, call, effect: None });
        }
        redis.0.send_packed_command(&bytes).map_err(|_| Trouble::Broken)?;
        for place in first..self.pending.len() {
            match redis.0.recv_response().and_then(Value::extract_error) {
                Ok(reply) => self.note(place, reply),
                Err(error) => {
                    let Some(code) = error.code() else { return Err(Trouble::Broken) };
                    let text = format!("{code} {}", error.detail().unwrap_or_default());
                    assert_eq!(calls, 1, "{:?}: {text}", self.pending[place].call);
                    let refused = self.pending.pop_back().expect("a call");
                    if refused.call.is_event() {
                        self.again.push((refused.shared, refused.call));
                    }
                    return Err(Trouble::Refused(text));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, place: usize, reply: Value) {
        self.tally.answered += 1;
        let Pending { shared, call, effect } = &mut self.pending[place];
        if *shared {
            if let Call::Pull { .. } = call {
                let cells = cells(reply.clone());
                self.pulled.extend_from_slice(&cells);
                self.given.extend(cells);
            }
            *effect = Some(call.effect_by(Some(&reply)));
            return;
        }
        if let Call::Seal = call {
            self.batch = redis::from_redis_value::<(Option<String>, Vec<String>)>(reply.clone()).expect("a batch").0;
        }
        if let Call::Ack { .. } = call {
            self.batch = None;
        }
        let done = call.effect(&self.answered);
        let pulls = matches!(call, Call::Pull { .. } | Call::Finish { .. });
        let before = if pulls { self.answered.clone() } else { Counts::new() };
        call.apply(&mut self.answered, done);
        call.assert_answers(reply, done, &before, &self.answered);
        *effect = Some(done);
    }

    /// All calls with a reply are safe from now on.
    pub fn confirm(&mut self) {
        while let Some(effect) = self.pending.front().and_then(|pending| pending.effect) {
            let Some(Pending { shared, call, .. }) = self.pending.pop_front() else { return };
            if shared {
                call.added_to_shared(effect).iter().for_each(|(name, n)| add(&mut self.shared, name, *n));
            } else {
                call.apply(&mut self.confirmed, effect);
            }
        }
    }

    /// Finds the call up to which the server has the effects on its own keys, and continues from there.
    #[track_caller]
    pub fn settle(&mut self, stored: &Counts) {
        let mut state = self.confirmed.clone();
        let mut found = is_shown(&state, stored).then(|| (0, state.clone()));
        for (place, pending) in self.pending.iter().enumerate().filter(|(_, pending)| !pending.shared) {
            let effect = pending.call.effect(&state);
            pending.call.apply(&mut state, effect);
            if effect != 0 && is_shown(&state, stored) {
                found = Some((place + 1, state.clone()));
            }
        }
        let Some((happened, state)) = found else {
            let calls: Vec<_> = self.pending.iter().map(|pending| (&pending.call, pending.effect)).collect();
            panic!(
                "{} holds what no calls make of it\nconfirmed, but: {:#?}\nwith all that was sent, but: {:#?}\nsent: {calls:#?}",
                self.owner,
                difference(&self.confirmed, stored),
                difference(&state, stored)
            );
        };
        for (place, pending) in self.pending.drain(..).enumerate() {
            let did = pending.effect != Some(0) && !pending.shared;
            self.tally.unanswered += u64::from(pending.effect.is_none());
            self.tally.happened += u64::from(pending.effect.is_none() && did && place < happened);
            self.tally.lost += u64::from(pending.effect.is_some() && did && place >= happened);
            if pending.call.is_event() {
                self.again.push((pending.shared, pending.call));
            }
        }
        self.confirmed.clone_from(&state);
        self.answered = state;
        self.batch = None;
    }

    /// Adds the least and the highest counts that the shared keys may have.
    fn bound(&self, least: &mut Counts, most: &mut Counts) {
        for (name, n) in &self.shared {
            add(least, name, *n);
            add(most, name, *n);
        }
        for pending in self.pending.iter().filter(|pending| pending.shared) {
            let effect = pending.effect.unwrap_or_else(|| pending.call.effect_by(None));
            for (name, n) in pending.call.added_to_shared(effect) {
                add(if n < 0 { &mut *least } else { &mut *most }, &name, n);
            }
        }
    }

    /// Whether all events that it has sent were acknowledged.
    pub fn has_delivered(&self) -> bool {
        self.again.is_empty()
    }

    /// Forgets the shared keys, which were deleted; returns whether nothing of them was pending.
    pub fn forget_shared(&mut self) -> bool {
        self.again.retain(|(shared, _)| !shared);
        self.pulled.clear();
        self.shared.clear();
        self.pending.iter().all(|pending| !pending.shared)
    }

    fn draw(&mut self, first: bool) -> (bool, Call) {
        if let Some(again) = self.again.pop() {
            self.tally.redelivered += 1;
            return again;
        }
        let shared = self.shares.is_some() && self.chance.below(3) == 0;
        self.drawn += 1;
        let call = if shared { self.draw_shared() } else { self.draw_own(first) };
        (shared, call)
    }

    fn draw_shared(&mut self) -> Call {
        let quantity = self.chance.between(1, 3);
        match self.chance.below(20) {
            0..=4 => self.draw_hit("m"),
            5..=6 => self.draw_hit("events"),
            7 => self.draw_hit("cap"),
            8..=11 => Call::Take { limiter: self.chance.pick(&SINGLE), quantity },
            12 => Call::TakeBoth { quantity },
            13..=15 => self.draw_cell(),
            16..=17 => Call::Pull { count: quantity, waits: true },
            _ => match self.pulled.pop() {
                Some(cell) => Call::Finish { cell: Some(cell) },
                None => self.draw_cell(),
            },
        }
    }

    fn draw_own(&mut self, first: bool) -> Call {
        match self.chance.below(40) {
            0..=9 => {
                let hit = self.draw_hit("m");
                if first { self.corrected(hit) } else { hit }
            }
            10..=13 => self.draw_hit("events"),
            14..=16 => {
                let hit = self.draw_hit("cap");
                if first { self.corrected(hit) } else { hit }
            }
            17..=25 => Call::Take { limiter: self.chance.pick(&SINGLE), quantity: self.chance.between(-5, 9) },
            26..=28 => Call::TakeBoth { quantity: self.chance.between(-5, 9) },
            29..=31 => self.draw_cell(),
            32..=34 => Call::Pull { count: self.chance.between(1, 4), waits: false },
            35..=37 => match self.batch.take_if(|_| self.chance.below(4) == 0) {
                Some(batch) => Call::Ack { batch },
                None => Call::Finish { cell: None },
            },
            38 => Call::Seal,
            _ => Call::Drop { before: date(self.start + self.chance.between(1, 2) * DAY_MS) },
        }
    }

    fn draw_hit(&mut self, meter: &'static str) -> Call {
        let chance = &mut self.chance;
        let at = self.start + chance.between(0, 2) * DAY_MS + chance.between(0, 2) * 7 * HOUR_MS + chance.between(0, 9);
        let path = (meter == "events" || meter == "m" && chance.below(2) == 0)
            .then(|| [chance.pick(&MEMBERS), chance.pick(&MEMBERS)]);
        let id = (meter == "m" && chance.below(3) == 0).then(|| chance.below(12));
        let event = (meter == "events").then(|| format!("{}-{}", self.number, self.drawn));
        let by = if meter == "events" { 1 } else { chance.between(1, 3) };
        Call::Hit { meter, at, by, path, id, event }
    }

    /// Turns a hit into a correction, half the time, if all that it subtracts is stored.
    fn corrected(&mut self, hit: Call) -> Call {
        let Call::Hit { meter, at, by, path, id, event } = hit else { return hit };
        let back = Call::Hit { meter, at, by: -by, path, id, event: event.clone() };
        let day = format!("{meter}:day:{}", date(at));
        let below: i64 = of(&self.answered, &format!("{day}:path ")).map(|(_, n)| n).sum();
        let free = path.is_some() || count(&self.answered, &format!("{day} day")) - below >= by;
        let there = back.added(-by).iter().all(|(name, _)| count(&self.answered, name) >= by);
        if free && there && self.chance.below(2) == 0 { back } else { Call::Hit { meter, at, by, path, id, event } }
    }

    fn draw_cell(&self) -> Call {
        Call::Push { cell: format!("{}{:09}", self.number, self.drawn) }
    }
}

/// Reads all keys of an owner, and checks what holds for them after any calls.
///
/// # Errors
/// The keys are not served there.
#[track_caller]
pub fn read(redis: &mut Client, owner: &str) -> Result<Counts, String> {
    let prefix = format!("{owner}:");
    let keys = redis.strings(&format!("KEYS {prefix}*"));
    let mut pipe = redis::pipe();
    let mut add_line = |line: String| {
        let mut words = line.split(' ');
        pipe.cmd(words.next().expect("a command"));
        words.for_each(|word| {
            pipe.arg(word);
        });
    };
    for key in &keys {
        let rest = &key[prefix.len()..];
        add_line(match (rest, LIMITERS.iter().find(|limiter| limiter.0 == rest)) {
            (_, Some((_, command, rest, _))) => format!("{command}_RO {key} {rest} 0"),
            ("q" | "busy", _) => format!("LRANGE {key} 0 -1"),
            _ if METERS.contains(&rest) => format!("ZRANGE {key} 0 -1"),
            _ if rest.ends_with(":once") => format!("SMEMBERS {key}"),
            _ if rest.ends_with(":unique") => format!("PFCOUNT {key} {key}"),
            _ if rest.contains(":path") => format!("ZRANGE {key} 0 -1 WITHSCORES"),
            _ => format!("HGETALL {key}"),
        });
        add_line(format!("PTTL {key}"));
    }
    for meter in METERS {
        add_line(format!("METER.KPI {prefix}{meter} FROM 19730401 TO 99991231 BY HOUR"));
    }
    let values = pipe.query::<Vec<Value>>(&mut redis.0).map_err(|error| error.to_string())?;
    let mut values = values.into_iter();
    let mut counts = Counts::new();
    for key in &keys {
        let (rest, value) = (&key[prefix.len()..], values.next().expect("a value"));
        let ttl: i64 = redis::from_redis_value(values.next().expect("an expiry")).expect("an expiry");
        let limiter = LIMITERS.iter().find(|limiter| limiter.0 == rest);
        let expires = limiter.is_some() || rest.ends_with(":once") || rest.contains(":month:");
        assert!(!expires || ttl > 0, "{key} has no expiry");
        // The id of a batch is left out of the names of its keys.
        let name = match rest.split_once(":sealed:") {
            Some((meter, rest)) => format!("{meter}:sealed:{}", rest.split_once(':').expect("an id").1),
            None => rest.to_owned(),
        };
        let strings = |value: Value| redis::from_redis_value::<Vec<String>>(value).expect("strings");
        match limiter {
            Some((_, _, _, limit)) => {
                counts.insert(rest.to_owned(), limit - ints(value)[2]);
            }
            None if rest.ends_with(":unique") => {
                counts.insert(format!("{name} "), redis::from_redis_value(value).expect("a count"));
            }
            None if rest.ends_with(":batch") => {
                counts.insert(name, 1);
            }
            None if METERS.contains(&rest) || matches!(rest, "q" | "busy") || rest.ends_with(":once") => {
                strings(value).iter().for_each(|member| add(&mut counts, &format!("{name} {member}"), 1));
            }
            None => {
                for pair in strings(value).chunks(2) {
                    // Months have the counts of deleted days; caps of months are not tested here.
                    if !rest.contains(":month:") {
                        counts.insert(format!("{name} {}", pair[0]), pair[1].parse().expect("a count"));
                    }
                }
            }
        }
    }
    for meter in METERS {
        let pairs: Vec<(String, i64)> = redis::from_redis_value(values.next().expect("a total")).expect("a total");
        // By hour, sealed and dropped days are not counted.
        let total: i64 = pairs.iter().map(|(_, n)| n).sum();
        let days = of(&counts, &format!("{meter}:day:")).filter(|(name, _)| name.ends_with(" day"));
        assert_eq!(days.map(|(_, n)| n).sum::<i64>(), total, "METER.KPI {prefix}{meter}");
    }
    assert_whole(owner, &counts);
    Ok(counts)
}

/// Drops, deletes, or lets expire all that an owner has.
pub fn clear(redis: &mut Client, owner: &str) {
    if let (Some(batch), _) = redis.seal(&format!("METER.SEAL {owner}:m")) {
        redis.run(&format!("METER.ACK {owner}:m {batch}"));
    }
    METERS.iter().for_each(|meter| drop(redis.run(&format!("METER.DROP {owner}:{meter}"))));
    for key in redis.strings(&format!("KEYS {owner}:*")) {
        let expires = redis.int(&format!("PTTL {key}")) > 0;
        assert!(expires || key.ends_with(":q") || key.ends_with(":busy"), "{key} is left for ever");
        redis.run(&format!("PEXPIRE {key} 1"));
    }
    super::eventually("the keys expire", || redis.strings(&format!("KEYS {owner}:*")).is_empty());
}

/// No call has left half of what it does.
#[track_caller]
fn assert_whole(owner: &str, counts: &Counts) {
    for meter in METERS {
        for start in [format!("{meter}:day:"), format!("{meter}:sealed:day:")] {
            let (mut totals, mut hours, mut members, mut below) = <(Counts, Counts, Counts, Counts)>::default();
            for (name, n) in of(counts, &start) {
                let (key, field) = name.split_once(' ').expect("a field");
                match (key.split_once(":path"), field) {
                    (Some((day, "")), member) => add(&mut members, &format!("{day} {member}"), n),
                    (Some((day, above)), _) => add(&mut below, &format!("{day} {}", &above[1..]), n),
                    (None, _) if key.contains(':') => {}
                    (None, "day") => add(&mut totals, key, n),
                    (None, _) => add(&mut hours, key, n),
                }
            }
            assert_eq!(totals, hours, "{owner}:{start} the days, and the sums of their hours");
            assert_eq!(members, below, "{owner}:{start} the members, and the sums of those below them");
            if !start.contains("sealed") {
                let index: Vec<&str> = of(counts, &format!("{meter} ")).map(|(day, _)| day).collect();
                assert_eq!(index, totals.keys().collect::<Vec<_>>(), "{owner}:{meter} the index, and the days");
            }
            if meter == "cap" {
                assert!(totals.values().all(|&n| n <= LIMIT), "{owner}:{start} {totals:?}");
            }
        }
    }
    let in_batch = of(counts, "m:sealed:").next().is_some();
    assert_eq!(in_batch, counts.contains_key("m:batch"), "{owner}: a batch, and its keys");
    let events = of(counts, "events:day:").filter(|(name, _)| name.contains(":once ")).count() as i64;
    let counted = of(counts, "events:day:").filter(|(name, _)| name.ends_with(" day"));
    assert_eq!(counted.map(|(_, n)| n).sum::<i64>(), events, "{owner}: the counts of events, and their ids");
    for (key, _, _, limit) in LIMITERS {
        assert!(count(counts, key) <= limit, "{owner}:{key} has taken {}", count(counts, key));
    }
    assert_eq!(2 * count(counts, "both:a"), count(counts, "both:b"), "{owner}: two limits that move together");
}

/// Compares the ledgers of all tellers with their server; then they continue from its contents.
#[track_caller]
pub fn balance(redis: &mut Client, tellers: &mut [Teller], shared_before: &mut Counts) {
    let mut owners: Vec<String> = tellers.iter().filter_map(|teller| teller.shares.clone()).collect();
    owners.dedup();
    assert!(owners.len() <= 1);
    for owner in owners {
        let mut least = shared_before.clone();
        let mut most = least.clone();
        tellers.iter().for_each(|teller| teller.bound(&mut least, &mut most));
        let stored = summed(read(redis, &owner).expect("the shared keys"));
        let names: BTreeSet<&String> = least.keys().chain(most.keys()).chain(stored.keys()).collect();
        for name in names {
            let (least, most, stored) = (count(&least, name), count(&most, name), count(&stored, name));
            assert!((least..=most).contains(&stored), "{owner}:{name} is {stored}, not from {least} to {most}");
        }
        *shared_before = stored;
    }
    for teller in tellers {
        let stored = read(redis, &teller.owner).expect("the keys of a teller");
        teller.shared.clear();
        teller.settle(&stored);
    }
}

/// No two tellers got the same shared cell, and none got it twice.
#[track_caller]
pub fn assert_given_once(tellers: &[Teller]) {
    let given: Vec<&String> = tellers.iter().flat_map(|teller| &teller.given).collect();
    let once: BTreeSet<&String> = given.iter().copied().collect();
    assert_eq!(given.len(), once.len(), "cells were given twice");
}

/// The counts of shared keys, with each cell under one name for both lists.
fn summed(stored: Counts) -> Counts {
    let mut summed = Counts::new();
    for (name, n) in stored {
        let (key, field) = name.split_once(' ').unwrap_or((&name, ""));
        match key {
            "q" | "busy" => add(&mut summed, &format!("cell {field}"), n),
            _ if METERS.contains(&key) || key.ends_with(":unique") => {}
            _ => add(&mut summed, &name, n),
        }
    }
    summed
}

fn is_shown(state: &Counts, stored: &Counts) -> bool {
    state.iter().filter(|(name, _)| !name.starts_with('~')).eq(stored.iter())
}

fn difference(expected: &Counts, stored: &Counts) -> Vec<String> {
    let names: BTreeSet<&String> = expected.keys().chain(stored.keys()).filter(|name| !name.starts_with('~')).collect();
    let pairs = names.into_iter().map(|name| (name, count(expected, name), count(stored, name)));
    pairs.filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name}: {b} for {a}")).collect()
}

fn count(counts: &Counts, name: &str) -> i64 {
    counts.get(name).copied().unwrap_or(0)
}

fn add(counts: &mut Counts, name: &str, n: i64) {
    let sum = count(counts, name) + n;
    if sum == 0 {
        counts.remove(name);
    } else {
        counts.insert(name.to_owned(), sum);
    }
}

/// The counts whose names begin with `start`, and the rests of their names.
fn of<'a>(counts: &'a Counts, start: &str) -> impl Iterator<Item = (&'a str, i64)> + use<'a> {
    let range = counts.range(start.to_owned()..);
    let start = start.to_owned();
    range.map_while(move |(name, n)| Some((name.strip_prefix(start.as_str())?, *n)))
}

fn oldest(counts: &Counts, list: &str, most: i64) -> Vec<String> {
    of(counts, list).take(usize::try_from(most).expect("not negative")).map(|(cell, _)| cell.to_owned()).collect()
}

/// The cells that a call takes from a limiter, or refunds to it, that has taken `before`.
fn taken(quantity: i64, before: i64, limit: i64) -> i64 {
    if before + quantity > limit { 0 } else { quantity.max(-before) }
}

/// The keys of the open batch.
fn sealed_keys(counts: &Counts) -> i64 {
    let names = of(counts, "m:sealed:").filter_map(|(name, _)| Some(name.split_once(' ')?.0));
    names.collect::<BTreeSet<_>>().len() as i64
}

/// Removes days from the meter `m`; returns the contents of their keys, without the ledger's own entries.
fn remove_days(counts: &mut Counts, days: &[String]) -> Vec<(String, i64)> {
    let is_of = |name: &str| days.iter().any(|day| name.trim_start_matches('~').starts_with(&format!("m:day:{day}")));
    let removed = counts.iter().filter(|(name, _)| is_of(name) && !name.starts_with('~'));
    let removed = removed.map(|(name, n)| (name.clone(), *n)).collect();
    counts.retain(|name, _| !is_of(name) && !days.iter().any(|day| *name == format!("m {day}")));
    removed
}

fn ints(value: Value) -> Vec<i64> {
    redis::from_redis_value(value).expect("integers")
}

fn cells(value: Value) -> Vec<String> {
    redis::from_redis_value::<(Vec<String>, i64)>(value).expect("cells and a wait").0
}

/// Kills a server with an AOF, and starts it again; returns whether the kill had torn its AOF.
///
/// A kill may cut a write short. A server that finds its AOF torn inside a transaction leaves the transaction out, but
/// cuts only the torn command off the file: the next writes become part of the transaction that is still open there,
/// and the next start may run half of it. This is so with any transaction, also without the module. A server that
/// starts once more before anything is written finds a whole command at the end, and cuts off all of the transaction.
pub fn crash(server: &mut Server) -> bool {
    let logged = server.log().len();
    server.kill_and_restart();
    let torn = server.log()[logged..].contains("Truncating the AOF");
    if torn {
        server.kill_and_restart();
    }
    torn
}

/// Chance that can be repeated.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to below `end`. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        least + i64::try_from(self.below(least.abs_diff(most) + 1)).expect("small")
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("small")]
    }
}

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}
