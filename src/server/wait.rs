//! Clients that are blocked on a key by the server, in order of arrival, and tried again when the key gets an element,
//! when their queue's timer fires, or when a command of this module changes a key that the queue watches. Since other
//! programs may change that key too, and clocks may step back, every queue whose clients wait for an instant is also
//! tried once a second of monotonic time.
//!
//! Nothing here writes: a timer and an event of the server only have the server try the clients, and a client that is
//! tried takes something only if a command could write.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redis_meter_core::time::{Millis, Nanos};
use redis_module::raw::{self, RedisModuleCtx, RedisModuleString};

use super::api::{api, ok};
use super::context::Context;
use super::error::Error;
use super::guard::{guard, guard_command};
use super::loading;
use super::propagation;
use super::queue::{self, MayTake};
use super::string::{OwnedStr, Str};
use super::timer::{LONGEST_SLEEP, Timed, Timer, WRITES_REFUSED, latest};

/// The request of a blocked client.
pub(crate) trait Waiting: 'static {
    /// Tries again; replies if it could take something. `by_clock` is true if the queue's timer fired. Until `may_take`
    /// has returned true, it only reads.
    ///
    /// # Errors
    /// The reply to send; the client is not blocked any more.
    fn retry(&self, ctx: Context<'_>, by_clock: bool, may_take: &MayTake<'_>) -> Result<Retried, Error>;

    /// Replies that it was not served in time. Only reads.
    ///
    /// # Errors
    /// The reply to send instead.
    fn give_up(&self, ctx: Context<'_>) -> Result<(), Error>;

    /// The numbers that decide, besides the keys, when something is due: clients with the same numbers are not tried
    /// one by one before that.
    fn pace(&self) -> Pace;
}

/// The numbers of a limiter.
pub(crate) type Pace = [i64; 3];

/// The result of trying a client again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retried {
    /// It was served.
    Served,
    /// It stays blocked until the key it is blocked on changes.
    WaitsForKey,
    /// It stays blocked until this instant.
    WaitsUntil(Nanos),
    /// Something is due, but the server allows no writes now.
    WritesRefused,
}

/// Names a queue: clients that are blocked on the same keys are in the same queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WaitQueue(Vec<u8>);

struct State {
    clients: usize,
    database: c_int,
    /// The key that the clients are blocked on.
    key: Vec<u8>,
    /// The key whose change may make something due.
    watched: Vec<u8>,
    timer: Option<Timer<WaitQueue>>,
    /// Whether the timer fired and clients are being tried for it.
    by_clock: bool,
    /// Before this instant nothing is due for clients with this pace.
    not_before: Option<(Nanos, Pace)>,
    /// The latest instant at which clients that wait for an instant are tried; `None` if there are none.
    try_by: Option<Instant>,
}

/// A blocked client's place.
struct Place<W> {
    queue: WaitQueue,
    waiting: W,
}

/// The queues that have clients. Only the server's main thread locks it.
static QUEUES: LazyLock<Mutex<HashMap<WaitQueue, State>>> = LazyLock::new(Mutex::default);

fn queues() -> MutexGuard<'static, HashMap<WaitQueue, State>> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WaitQueue {
    /// The queue of the clients that are blocked on the same names, in the selected database.
    pub(crate) fn new(ctx: Context<'_>, names: &[Str<'_>]) -> Self {
        let mut bytes = ctx.database().to_le_bytes().to_vec();
        for name in names {
            bytes.extend(name.bytes().len().to_le_bytes());
            bytes.extend(name.bytes());
        }
        Self(bytes)
    }

    /// Whether it has no client.
    pub(crate) fn is_empty(&self) -> bool {
        !queues().contains_key(self)
    }

    /// Blocks the client of the running command until `waiting` has replied, or for this span (`None`: indefinitely),
    /// on a key: it is tried again when the key gets an element. `watched` is the key whose change may make something
    /// due.
    pub(crate) fn block<W: Waiting>(
        &self,
        ctx: Context<'_>,
        key: Str<'_>,
        watched: Str<'_>,
        timeout: Option<Millis>,
        waiting: W,
    ) {
        let new = || State {
            clients: 0,
            database: ctx.database(),
            key: key.bytes().to_vec(),
            watched: watched.bytes().to_vec(),
            timer: None,
            by_clock: false,
            not_before: None,
            try_by: None,
        };
        queues().entry(self.clone()).or_insert_with(new).clients += 1;
        let place = Box::into_raw(Box::new(Place { queue: self.clone(), waiting }));
        let block = api!(RedisModule_BlockClientOnKeys);
        let mut keys = [key.raw()];
        let timeout = timeout.map_or(0, |span| span.0);
        let (retry, give_up, leave) = (Some(retry::<W> as _), Some(give_up::<W> as _), Some(leave::<W> as _));
        // SAFETY: the context is that of the running command; one live key; the callbacks borrow the place, and
        // `leave`, which the server calls once when the client is not blocked any more, takes it back.
        unsafe { block(ctx.raw(), retry, give_up, leave, timeout, keys.as_mut_ptr(), 1, place.cast()) };
    }

    /// Has the clients tried at this instant, unless they will be tried sooner.
    pub(crate) fn wake_at(&self, ctx: Context<'_>, at: Nanos) {
        if let Some(state) = queues().get_mut(self) {
            state.wake_at(ctx, self, at);
        }
    }
}

impl State {
    fn wake_at(&mut self, ctx: Context<'_>, queue: &WaitQueue, at: Nanos) {
        self.try_by.get_or_insert_with(|| Instant::now() + LONGEST_SLEEP);
        // If the clock has stepped back, the instant that was set before is too late.
        if self.timer.as_ref().is_some_and(|timer| timer.at <= at.min(latest(ctx.now().nanos()))) {
            return;
        }
        self.stop_timer(ctx);
        self.timer = Some(Timer::start(ctx, at, queue.clone()));
    }

    fn stop_timer(&mut self, ctx: Context<'_>) {
        if let Some(timer) = self.timer.take() {
            timer.stop(ctx);
        }
    }

    /// Has the server try all clients, and discards the instant before which nothing was due.
    fn try_all(&mut self, ctx: Context<'_>) {
        self.not_before = None;
        let before = ctx.select(self.database);
        let key = OwnedStr::new(&self.key);
        let signal = api!(RedisModule_SignalKeyAsReady);
        // SAFETY: the context is that of a running callback; the key is a live string.
        unsafe { signal(ctx.raw(), key.as_str().raw()) };
        ctx.select(before);
    }
}

/// A command of this module has changed `key`, so that something may be due sooner.
pub(crate) fn key_changed(ctx: Context<'_>, key: Str<'_>) {
    queue::key_changed(ctx, key);
    let mut queues = queues();
    if queues.is_empty() {
        return;
    }
    let database = ctx.database();
    for state in queues.values_mut().filter(|state| state.database == database && state.watched == key.bytes()) {
        state.try_all(ctx);
    }
}

/// Subscribes to the server's cron, which follows a monotonic clock.
///
/// # Errors
/// A sentence for the log.
pub(super) fn watch_cron(ctx: Context<'_>) -> Result<(), String> {
    let event = raw::RedisModuleEvent { id: raw::REDISMODULE_EVENT_CRON_LOOP, dataver: 1 };
    let subscribe = api!(RedisModule_SubscribeToServerEvent);
    // SAFETY: the module is being loaded with this context; the callback lives as long as the module.
    if unsafe { subscribe(ctx.raw(), event, Some(on_cron)) } == ok() {
        Ok(())
    } else {
        Err("the server refused to tell of its cron".to_owned())
    }
}

unsafe extern "C" fn on_cron(ctx: *mut RedisModuleCtx, _: raw::RedisModuleEvent, _: u64, _: *mut c_void) {
    guard((), || {
        // SAFETY: the server passed it, for this call.
        let ctx = unsafe { Context::from_raw(ctx) };
        loading::end(ctx);
        let now = Instant::now();
        propagation::refresh(ctx, now);
        queue::try_overdue(ctx, now);
        for state in queues().values_mut().filter(|state| state.try_by.is_some_and(|by| by <= now)) {
            state.try_by = None;
            state.stop_timer(ctx);
            state.try_all(ctx);
        }
    });
}

impl Timed for WaitQueue {
    /// Has the server try the clients that are blocked on the key, in their order.
    fn fire(self, ctx: Context<'_>) {
        if let Some(state) = queues().get_mut(&self) {
            state.timer = None;
            state.try_by = None;
            state.by_clock = true;
            state.try_all(ctx);
        }
    }
}

/// # Safety
/// Called by the server for a client that [`WaitQueue::block`] has blocked.
unsafe fn place<'a, W>(ctx: Context<'a>) -> &'a Place<W> {
    let private_data = api!(RedisModule_GetBlockedClientPrivateData);
    // SAFETY: the context is that of a blocked client's callback.
    let place = unsafe { private_data(ctx.raw()) };
    // SAFETY: it is what `block` passed, and `leave` has not been called.
    unsafe { &*place.cast::<Place<W>>() }
}

unsafe extern "C" fn retry<W: Waiting>(
    ctx: *mut RedisModuleCtx,
    words: *mut *mut RedisModuleString,
    count: c_int,
) -> c_int {
    guard(!ok(), || {
        // SAFETY: the server passed it, for this call.
        let ctx = unsafe { Context::from_raw(ctx) };
        // SAFETY: called by the server for a client that was blocked.
        let Place { queue, waiting } = unsafe { place::<W>(ctx) };
        let (key, by_clock) = {
            let queues = queues();
            let Some(state) = queues.get(queue) else { return !ok() };
            if state.not_before.is_some_and(|(at, pace)| ctx.now().nanos() < at && pace == waiting.pace()) {
                // A client with the same pace was tried just now.
                return !ok();
            }
            (OwnedStr::new(&state.key), state.by_clock)
        };
        let may_take = || {
            if !ctx.may_write(key.as_str()) {
                return Ok(false);
            }
            // SAFETY: the server passed the words of the client's call.
            if unsafe { ctx.is_permitted(words, count) } { Ok(true) } else { Err(Error::NoPermission) }
        };
        let retried = propagation::outside_of_commands(|| guard_command(|| waiting.retry(ctx, by_clock, &may_take)));
        match retried {
            Ok(Retried::Served) => ok(),
            Err(error) => {
                error.reply(ctx);
                ok()
            }
            Ok(waits) => {
                if let Some(state) = queues().get_mut(queue) {
                    state.by_clock = false;
                    let at = match waits {
                        Retried::WaitsUntil(at) => Some(at),
                        Retried::WritesRefused => Some(Nanos(ctx.now().nanos().0.saturating_add(WRITES_REFUSED.0))),
                        Retried::Served | Retried::WaitsForKey => None,
                    };
                    match at {
                        Some(at) => {
                            state.not_before = Some((at, waiting.pace()));
                            state.wake_at(ctx, queue, at);
                        }
                        None => state.try_by = None,
                    }
                }
                ctx.flush_propagated(key.as_str());
                // Any result but OK keeps the client blocked.
                !ok()
            }
        }
    })
}

unsafe extern "C" fn give_up<W: Waiting>(ctx: *mut RedisModuleCtx, _: *mut *mut RedisModuleString, _: c_int) -> c_int {
    guard(ok(), || {
        // SAFETY: the server passed it, for this call.
        let ctx = unsafe { Context::from_raw(ctx) };
        // SAFETY: called by the server for a client that was blocked.
        let place = unsafe { place::<W>(ctx) };
        if let Err(error) = guard_command(|| place.waiting.give_up(ctx)) {
            error.reply(ctx);
        }
        ok()
    })
}

/// The client is not blocked any more: it was served, timed out, was unblocked, or has disconnected.
unsafe extern "C" fn leave<W: Waiting>(ctx: *mut RedisModuleCtx, place: *mut c_void) {
    guard((), || {
        // SAFETY: `block` made it, and the server frees it once.
        let place = unsafe { Box::from_raw(place.cast::<Place<W>>()) };
        // SAFETY: the server passed it, for this call.
        let ctx = unsafe { Context::from_raw(ctx) };
        let mut queues = queues();
        let Some(state) = queues.get_mut(&place.queue) else { return };
        state.clients -= 1;
        if state.clients == 0
            && let Some(mut state) = queues.remove(&place.queue)
        {
            state.stop_timer(ctx);
        }
    });
}
