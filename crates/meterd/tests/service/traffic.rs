//! Clients that post while servers come and go, and a ledger of what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Random, now_ms, sleep_ms};

use super::{Connection, Meterd};

/// How long an event may take until it is counted.
const UNTIL_COUNTED: Duration = Duration::from_secs(60);
const DAY_MS: i64 = 86_400_000;
const METERS: [&str; 3] = ["traffic:a", "traffic:b", "traffic:c"];
/// The application whose sessions are counted, which have no id.
const APP: &str = "traffic";

/// Hits of a meter on a day, which is `20220809`.
pub type Sums = BTreeMap<(String, String), i64>;

/// What is posted, and what came of it.
pub struct Traffic {
    /// Where each meterd listens.
    pub ports: Vec<AtomicU16>,
    /// Held for writing, nothing is posted.
    pub gate: RwLock<()>,
    is_over: AtomicBool,
    /// Events: sent, and told to be counted.
    events: [Mutex<Sums>; 2],
    /// Sessions: counted, and perhaps counted.
    sessions: Mutex<(i64, i64)>,
    answers: Mutex<BTreeMap<u16, u64>>,
    longest: Mutex<Duration>,
}

/// Ends the clients when it is dropped, also by a test that fails.
pub struct Stop<'a>(&'a Traffic);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

fn add(sums: &Mutex<Sums>, meter: &str, day: &str) {
    *sums.lock().expect("the sums").entry((meter.to_owned(), day.to_owned())).or_default() += 1;
}

/// What a meterd answers for a span of days; nothing if it can't answer now.
pub fn usage(meterd: &Meterd, meter: &str, from: &str, to: &str) -> Option<i64> {
    let path = format!("/v1/meters/{}/usage?from={from}&to={to}&by=total", meter.replace(':', "%3A"));
    let reply = meterd.get(&path);
    assert!([200, 503, 504].contains(&reply.status), "{reply:?}");
    (reply.status == 200).then(|| reply.json()["usage"][0]["count"].as_i64().unwrap_or(0))
}

impl Traffic {
    /// Towards each meterd that listens on one of these ports.
    pub fn to(ports: &[u16]) -> Self {
        Self {
            ports: ports.iter().map(|&port| AtomicU16::new(port)).collect(),
            gate: RwLock::new(()),
            is_over: AtomicBool::new(false),
            events: Default::default(),
            sessions: Mutex::default(),
            answers: Mutex::default(),
            longest: Mutex::default(),
        }
    }

    pub fn stop_at_end(&self) -> Stop<'_> {
        Stop(self)
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Posts events of today and of the two days before, each until it is counted.
    pub fn post_events(&self, client: usize, seed: u64) {
        let (mut random, mut connection) = (Random::new(seed ^ (client as u64 + 1)), None);
        for number in 0.. {
            if self.is_over() {
                return;
            }
            let at = now_ms() - DAY_MS * i64::try_from(random.below(3)).expect("small");
            let (meter, day) = (METERS[random.below(3)], testkit::date(at));
            let body = json!({"meter": meter, "at": at, "event_id": format!("{client}.{number}"), "paths": [["p"]]});
            add(&self.events[0], meter, &day);
            let start = Instant::now();
            // An end of the traffic is no reason to leave an event open.
            while self.post(&mut connection, client, "/v1/hits", &body.to_string()) != Some(200) {
                assert!(start.elapsed() < UNTIL_COUNTED, "not counted: {body}, {:?}", self.answers());
                sleep_ms(20);
            }
            add(&self.events[1], meter, &day);
            sleep_ms(2);
        }
    }

    /// Posts sessions of today, each once: one whose answer is 504, or is lost, may have been counted.
    pub fn post_sessions(&self, client: usize) {
        let mut connection = None;
        while !self.is_over() {
            let body = json!({"app": APP, "node": 0, "timestamp": now_ms()}).to_string();
            let answer = self.post(&mut connection, client, "/counter", &body);
            let mut sessions = self.sessions.lock().expect("the sessions");
            match answer {
                Some(200) => sessions.0 += 1,
                Some(503) => {}
                _ => sessions.1 += 1,
            }
            drop(sessions);
            sleep_ms(if answer == Some(200) { 2 } else { 20 });
        }
    }

    /// The status of the answer, if one came.
    fn post(&self, connection: &mut Option<Connection>, client: usize, path: &str, body: &str) -> Option<u16> {
        let _pass = self.gate.read().expect("the gate");
        if connection.is_none() {
            let port = self.ports[client % self.ports.len()].load(Ordering::Relaxed);
            *connection = Connection::try_open(port).ok();
        }
        let start = Instant::now();
        let headers = [("Content-Type", "application/json")];
        let reply = connection.as_mut()?.try_send("POST", path, &headers, body.as_bytes());
        let mut longest = self.longest.lock().expect("a time");
        *longest = start.elapsed().max(*longest);
        let Ok(reply) = reply else {
            *connection = None;
            return None;
        };
        *self.answers.lock().expect("the answers").entry(reply.status).or_default() += 1;
        assert!([200, 503, 504].contains(&reply.status), "{reply:?}");
        Some(reply.status)
    }

    /// What was sent, by status of its answer.
    pub fn answers(&self) -> BTreeMap<u16, u64> {
        self.answers.lock().expect("the answers").clone()
    }

    /// What the slowest answer took.
    pub fn longest(&self) -> Duration {
        *self.longest.lock().expect("a time")
    }

    /// Events that were counted.
    pub fn counted(&self) -> Sums {
        self.events[1].lock().expect("the sums").clone()
    }

    /// Events that were sent, and may have been counted.
    pub fn sent(&self) -> Sums {
        self.events[0].lock().expect("the sums").clone()
    }

    /// What a meterd has counted of the events is what was sent, each once; and of the sessions those that were told to
    /// be counted, and at most those of which nothing is known. Nothing is posted any more.
    pub fn assert_exact(&self, meterd: &Meterd) {
        assert_eq!(self.counted(), self.sent());
        for ((meter, day), count) in self.counted() {
            assert_eq!(usage(meterd, &meter, &day, &day), Some(count), "{meter} {day}");
        }
        let (counted, perhaps) = *self.sessions.lock().expect("the sessions");
        let found = usage(meterd, &format!("kpi:sessions:app:{APP}:node:0"), "2022-01-01", "2099-12-31");
        let most = counted + perhaps;
        assert!(found.is_some_and(|found| (counted..=most).contains(&found)), "{counted} to {most}, and not {found:?}");
    }
}
