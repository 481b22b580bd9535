//! `GET /v1/events`: what moved in the last second, as server-sent events.
//!
//! One task asks Redis twice a second for the counts of all meters, for all listeners; it sleeps while there is none. A
//! meter that is hit through this process is known at once, others are found by scanning.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use redis::{Cmd, FromRedisValue as _};
use redis_meter_client::{Command as _, Day, Kpi};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::App;
use super::access::Access;
use super::problem::Problem;
use super::request::{day_of, digits, now_ms};
use crate::connection::{Failure, Redis};
use crate::meters::{self, Cursor};
use crate::name;
use crate::token::Role;

/// Between two looks, so that a hit is shown within a second.
const TICK: Duration = Duration::from_millis(500);
/// The most meters whose counts are asked for in a look.
const METERS: usize = 5000;
/// How many meters are asked for in one go.
const CHUNK: usize = 500;
/// How many steps of a scan are made in a look.
const STEPS: usize = 8;
/// The most meters that are remembered until the next look.
const TOUCHED: usize = 1000;
/// Between signs of life while nothing moves.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is known about the meters of a moment ago.
pub(super) struct Live {
    touched: Mutex<HashSet<Vec<u8>>>,
    listening: Notify,
    sender: broadcast::Sender<Arc<Vec<Moved>>>,
}

/// A meter that moved.
#[derive(Clone, Debug)]
struct Moved {
    key: Vec<u8>,
    today: u64,
    hours: Vec<(u8, u64)>,
    gained: u64,
}

impl Live {
    /// With a task that ends when nobody holds it any more.
    pub(super) fn start(redis: Redis) -> Arc<Self> {
        let live =
            Arc::new(Self { touched: Mutex::default(), listening: Notify::new(), sender: broadcast::Sender::new(16) });
        tokio::spawn(look(Arc::downgrade(&live), redis));
        live
    }

    /// Notes a meter that was hit, if somebody listens.
    pub(super) fn touch(&self, key: &[u8]) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        let mut touched = self.touched.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if touched.len() < TOUCHED && !touched.contains(key) {
            touched.insert(key.to_vec());
        }
    }

    fn take_touched(&self) -> HashSet<Vec<u8>> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// Looks twice a second, while somebody listens.
async fn look(live: Weak<Live>, redis: Redis) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut view = View::default();
    loop {
        let Some(live) = live.upgrade() else { return };
        if live.sender.receiver_count() == 0 {
            view = View::default();
            live.listening.notified().await;
            ticks.reset_immediately();
        }
        ticks.tick().await;
        if let Ok(moved) = view.advance(&redis, live.take_touched()).await {
            // Nobody may be left to receive it.
            let _ = live.sender.send(Arc::new(moved));
        }
    }
}

/// The counts of the last look.
#[derive(Default)]
struct View {
    counts: BTreeMap<Vec<u8>, u64>,
    cursor: Cursor,
    day: String,
    is_complete: bool,
}

impl View {
    async fn advance(&mut self, redis: &Redis, touched: HashSet<Vec<u8>>) -> Result<Vec<Moved>, Failure> {
        let mut new: HashSet<Vec<u8>> = touched.into_iter().filter(|key| !self.counts.contains_key(key)).collect();
        let was_complete = self.is_complete;
        self.scan(redis, &mut new).await?;
        let day = day_of(now_ms()).map(digits).unwrap_or_default();
        let is_new_day = std::mem::replace(&mut self.day, day) != self.day;
        let keys: Vec<Vec<u8>> = self.counts.keys().chain(&new).take(METERS).cloned().collect();
        let mut moved = Vec::new();
        for keys in keys.chunks(CHUNK) {
            let commands: Vec<Cmd> = keys.iter().map(|key| Kpi::new(key).day(&self.day).to_cmd()).collect();
            for (key, reply) in keys.iter().zip(redis.call_all(&commands).await?) {
                let Ok(day) = reply.map(Day::from_redis_value) else { continue };
                let day = day.unwrap_or_default();
                let today = day.total.unwrap_or(0);
                let before = self.counts.insert(key.clone(), today);
                let gained = match before {
                    // Before the whole scan is done, a new meter is one that was not found yet.
                    None if !was_complete => 0,
                    None => today,
                    Some(_) if is_new_day => today,
                    Some(before) => today.saturating_sub(before),
                };
                if before != Some(today) {
                    moved.push(Moved { key: key.clone(), today, hours: day.hours, gained });
                }
            }
        }
        Ok(moved)
    }

    async fn scan(&mut self, redis: &Redis, new: &mut HashSet<Vec<u8>>) -> Result<(), Failure> {
        for _ in 0..STEPS {
            let (found, next) = meters::step(redis, b"", &self.cursor).await?;
            new.extend(found.into_iter().map(|meter| meter.key).filter(|key| !self.counts.contains_key(key)));
            self.is_complete |= next.is_none();
            self.cursor = next.unwrap_or_default();
            if self.cursor == Cursor::default() {
                break;
            }
        }
        Ok(())
    }
}

/// Counts a listener while it lasts.
struct Listener(App);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.metrics().listeners.dec();
    }
}

/// `GET /v1/events`
///
/// # Errors
/// 401 or 403.
pub(super) async fn events(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let access = app.identify(&headers)?;
    access.needs(Role::Read)?;
    app.metrics().listeners.inc();
    let listener = Listener(app.clone());
    let receiver = app.live().sender.subscribe();
    app.live().listening.notify_one();
    let start = Bytes::from_static(b"retry: 1000\n\n");
    let rest = stream::unfold((receiver, access, listener), |(mut receiver, access, listener)| async move {
        let next = next(&mut receiver, &access, &listener.0).await?;
        Some((Ok::<_, Infallible>(next), (receiver, access, listener)))
    });
    let all = stream::StreamExt::chain(stream::iter([Ok(start)]), rest);
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
        // A proxy that collects the stream would hold it back.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(all)).into_response())
}

/// The next piece of the stream; `None` at shutdown.
async fn next(receiver: &mut broadcast::Receiver<Arc<Vec<Moved>>>, access: &Access, app: &App) -> Option<Bytes> {
    let until = Instant::now() + KEEP_ALIVE;
    loop {
        let moved = tokio::select! {
            () = app.stopping() => return None,
            moved = tokio::time::timeout_at(until, receiver.recv()) => match moved {
                Err(_) => return Some(Bytes::from_static(b": nothing moved\n\n")),
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => continue,
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
                Ok(Ok(moved)) => moved,
            },
        };
        let visible: Vec<Value> = moved.iter().filter(|moved| access.reaches(&moved.key)).map(shown).collect();
        if !visible.is_empty() {
            let now = now_ms();
            let event = json!({"at": now, "day": day_of(now).map(digits), "meters": visible});
            return Some(Bytes::from(format!("event: moved\ndata: {event}\n\n")));
        }
    }
}

fn shown(moved: &Moved) -> Value {
    json!({
        "meter": name::shown(&moved.key), "id": name::to_path(&moved.key),
        "today": moved.today, "gained": moved.gained, "hours": &moved.hours,
    })
}
