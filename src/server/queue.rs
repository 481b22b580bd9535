//! Clients that are blocked for a key that need not exist. The server tries clients that are blocked on a key only
//! while the key exists, so these are blocked on none, and the queue is ours: first come, first served.
//!
//! A queue is tried when a command of this module has changed its key, at the instant when its first client can be
//! served, when a client's timeout has passed, and, since other programs may change the key and clocks may step back,
//! once a second of monotonic time. Trying only reads: as many clients as could be served are unblocked, in their
//! order. The server then calls back for each of them, before it reads the next command, and only the callback writes.
//! If it may not write any more, since clients have been paused in between, it replies that the client could not be
//! served.
//!
//! Timeouts are kept here, not by the server: servers before 7.2 leave a client without a reply if its timeout passes
//! between unblocking and callback. For the same reason a queue is only tried from timers, after which no command runs
//! before the callbacks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::c_int;
use std::ptr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis_meter_core::time::{Millis, Nanos};
use redis_module::raw::{RedisModuleBlockedClient, RedisModuleCtx, RedisModuleString};

use super::api::{api, ok};
use super::context::Context;
use super::error::Error;
use super::guard::{guard, guard_command};
use super::propagation;
use super::string::{OwnedStr, Str};
use super::timer::{LONGEST_SLEEP, Timed, Timer, WRITES_REFUSED, latest};

/// The request of a blocked client. It must not refer to the server's memory.
pub(crate) trait Queued: Send + Sync + 'static {
    /// Whether it could be served when `ahead` clients before it have been. Only reads.
    fn ready(&self, ctx: Context<'_>, ahead: i64) -> Ready;

    /// Serves it and replies; or replies that it could not be served. Until `may_take` has returned true, it only
    /// reads.
    ///
    /// # Errors
    /// The reply to send instead.
    fn serve(&self, ctx: Context<'_>, may_take: &MayTake<'_>) -> Result<(), Error>;

    /// Replies that it was not served in time. Only reads.
    ///
    /// # Errors
    /// The reply to send instead.
    fn give_up(&self, ctx: Context<'_>) -> Result<(), Error>;
}

/// Whether a client may be served: whether a command could write, and whether its user may still run the client's
/// command.
pub(crate) type MayTake<'m> = dyn Fn() -> Result<bool, Error> + 'm;

/// Whether the first client of a queue could be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It could.
    Now,
    /// It must get an error.
    Error,
    /// Not before this instant, if the key stays as it is; `None` if only a change of the key can help.
    At(Option<Nanos>),
}

/// Names a queue: a key in a database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyQueue {
    database: c_int,
    key: Vec<u8>,
}

/// The server's handle of a blocked client, which stays live until the client has been unblocked and called back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Handle(*mut RedisModuleBlockedClient);

// SAFETY: used as an identifier, and passed to the server on its main thread.
unsafe impl Send for Handle {}

struct Client {
    queue: KeyQueue,
    /// Its place: clients that came earlier have lower numbers.
    number: u64,
    queued: Arc<dyn Queued>,
    deadline: Option<Instant>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// Unblocked to be served.
    Turn,
    /// Unblocked because its timeout has passed.
    TimedOut,
}

#[derive(Default)]
struct State {
    /// By their numbers.
    waiting: BTreeMap<u64, Handle>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// The number of clients that have been unblocked to be served, and not yet been called back.
    turns: i64,
    timer: Option<Timer<KeyQueue>>,
    /// The latest instant at which it is tried.
    try_by: Option<Instant>,
}

#[derive(Default)]
struct Queues {
    states: HashMap<KeyQueue, State>,
    clients: HashMap<Handle, Client>,
    /// The number of the last client.
    numbered: u64,
}

/// The queues that have clients. Only the server's main thread locks it, and never while a client is tried.
static QUEUES: LazyLock<Mutex<Queues>> = LazyLock::new(Mutex::default);

fn queues() -> MutexGuard<'static, Queues> {
    QUEUES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeyQueue {
    /// The queue for `key` in the selected database.
    pub(crate) fn new(ctx: Context<'_>, key: Str<'_>) -> Self {
        Self { database: ctx.database(), key: key.bytes().to_vec() }
    }

    /// Whether it has no client.
    pub(crate) fn is_empty(&self) -> bool {
        !queues().states.contains_key(self)
    }

    /// Blocks the client of the running command until `queued` has replied, or for this span (`None`: indefinitely).
    pub(crate) fn block(self, ctx: Context<'_>, timeout: Option<Millis>, queued: impl Queued) {
        let block = api!(RedisModule_BlockClient);
        // SAFETY: the context is that of the running command; the callbacks live as long as the module.
        let handle = Handle(unsafe { block(ctx.raw(), Some(call_back), Some(stop_waiting), None, 0) });
        let on_disconnect = api!(RedisModule_SetDisconnectCallback);
        // SAFETY: the handle was just made; the callback lives as long as the module.
        unsafe { on_disconnect(handle.0, Some(disconnected)) };

        let timeout = timeout.map(|span| Duration::from_millis(u64::try_from(span.0).unwrap_or(0)));
        let deadline = timeout.and_then(|span| Instant::now().checked_add(span));
        let mut queues = queues();
        let number = queues.numbered;
        queues.numbered += 1;
        let state = queues.states.entry(self.clone()).or_default();
        state.waiting.insert(number, handle);
        state.deadlines.extend(deadline.map(|at| (at, number)));
        state.wake(ctx, &self);
        let client = Client { queue: self, number, queued: Arc::new(queued), deadline, stage: Stage::Waiting };
        queues.clients.insert(handle, client);
    }

    /// Unblocks the clients that could be served or whose timeout has passed, and sets the timer.
    fn try_clients(&self, ctx: Context<'_>) {
        self.end_waits(Instant::now());
        let before = ctx.select(self.database);
        let next = self.unblock_ready(ctx);
        ctx.select(before);

        let mut queues = queues();
        let Some(state) = queues.states.get_mut(self) else { return };
        let now = ctx.now().nanos();
        let deadline = state.deadlines.first().map(|(at, _)| {
            let span = at.saturating_duration_since(Instant::now()).as_nanos();
            Nanos(now.0.saturating_add(i64::try_from(span).unwrap_or(i64::MAX)))
        });
        state.try_by = Some(Instant::now() + LONGEST_SLEEP);
        let at = [next, deadline].into_iter().flatten().min().unwrap_or(latest(now));
        state.wake_at(ctx, self, at);
    }

    /// Unblocks the clients whose timeout has passed.
    fn end_waits(&self, now: Instant) {
        let late: Vec<Handle> = {
            let queues = queues();
            let Some(state) = queues.states.get(self) else { return };
            let late = state.deadlines.iter().take_while(|(at, _)| *at <= now);
            late.filter_map(|(_, number)| state.waiting.get(number).copied()).collect()
        };
        for handle in late {
            unblock(handle, Stage::TimedOut);
        }
    }

    /// Unblocks the clients that could be served, in their order, and returns when the next one could be.
    fn unblock_ready(&self, ctx: Context<'_>) -> Option<Nanos> {
        let key = OwnedStr::new(&self.key);
        let mut may_write = None;
        loop {
            let (handle, queued, ahead) = self.first()?;
            match queued.ready(ctx, ahead) {
                Ready::At(at) => return at,
                Ready::Error => {}
                Ready::Now => {
                    if !*may_write.get_or_insert_with(|| may_add(ctx, key.as_str())) {
                        return Some(Nanos(ctx.now().nanos().0.saturating_add(WRITES_REFUSED.0)));
                    }
                }
            }
            unblock(handle, Stage::Turn);
        }
    }

    /// The client that came first, and the number of clients that are to be served before it.
    fn first(&self) -> Option<(Handle, Arc<dyn Queued>, i64)> {
        let queues = queues();
        let state = queues.states.get(self)?;
        let (_, handle) = state.waiting.first_key_value()?;
        Some((*handle, Arc::clone(&queues.clients.get(handle)?.queued), state.turns))
    }
}

impl Timed for KeyQueue {
    fn fire(self, ctx: Context<'_>) {
        if let Some(state) = queues().states.get_mut(&self) {
            state.timer = None;
        }
        self.try_clients(ctx);
    }
}

impl State {
    /// Has the clients tried when the running command or callback has ended.
    fn wake(&mut self, ctx: Context<'_>, queue: &KeyQueue) {
        self.wake_at(ctx, queue, ctx.now().nanos());
    }

    /// Has the clients tried at this instant, unless they will be tried sooner.
    fn wake_at(&mut self, ctx: Context<'_>, queue: &KeyQueue, at: Nanos) {
        self.try_by.get_or_insert_with(|| Instant::now() + LONGEST_SLEEP);
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
}

impl Queues {
    /// Removes a blocked client from its queue; returns whether it was still in it.
    fn dequeue(&mut self, handle: Handle, stage: Stage) -> bool {
        let Some(client) = self.clients.get_mut(&handle).filter(|client| client.stage == Stage::Waiting) else {
            return false;
        };
        client.stage = stage;
        if let Some(state) = self.states.get_mut(&client.queue) {
            state.waiting.remove(&client.number);
            if let Some(at) = client.deadline {
                state.deadlines.remove(&(at, client.number));
            }
            state.turns += i64::from(stage == Stage::Turn);
        }
        true
    }

    /// Removes a client, and has the others of its queue tried. Returns the stage that it had reached.
    fn forget(&mut self, ctx: Context<'_>, handle: Handle) -> Option<Stage> {
        let stage = self.clients.get(&handle)?.stage;
        self.dequeue(handle, Stage::TimedOut);
        let client = self.clients.remove(&handle)?;
        let state = self.states.get_mut(&client.queue)?;
        state.turns -= i64::from(stage == Stage::Turn);
        if state.waiting.is_empty() && state.turns == 0 {
            state.stop_timer(ctx);
            self.states.remove(&client.queue);
        } else {
            state.wake(ctx, &client.queue);
        }
        Some(stage)
    }
}

/// A command of this module has changed `key`.
pub(super) fn key_changed(ctx: Context<'_>, key: Str<'_>) {
    let mut queues = queues();
    if queues.states.is_empty() {
        return;
    }
    let queue = KeyQueue::new(ctx, key);
    if let Some(state) = queues.states.get_mut(&queue) {
        state.wake(ctx, &queue);
    }
}

/// Tries the queues whose timers are late: the clock has stepped back.
pub(super) fn try_overdue(ctx: Context<'_>, now: Instant) {
    let overdue: Vec<KeyQueue> = {
        let mut queues = queues();
        let is_overdue = |state: &State| state.try_by.is_some_and(|by| by <= now);
        let states = queues.states.iter_mut().filter(|(_, state)| is_overdue(state));
        states
            .map(|(queue, state)| {
                state.stop_timer(ctx);
                queue.clone()
            })
            .collect()
    };
    for queue in overdue {
        queue.try_clients(ctx);
    }
}

/// Whether a command that writes, and that the server refuses when it is out of memory, could run now.
fn may_add(ctx: Context<'_>, key: Str<'_>) -> bool {
    ctx.is_within_memory() && ctx.may_write(key)
}

/// Has the server call back for a blocked client.
fn unblock(handle: Handle, stage: Stage) {
    if queues().dequeue(handle, stage) {
        release(handle);
    }
}

/// Has the server call back, if the client is still there, and free the handle.
fn release(handle: Handle) {
    let unblock = api!(RedisModule_UnblockClient);
    // SAFETY: the handle is live, and has not been passed before: a blocked client is called once.
    unsafe { unblock(handle.0, ptr::null_mut()) };
}

/// # Safety
/// The context is that of a callback for a client that [`KeyQueue::block`] has blocked.
unsafe fn handle_of(ctx: Context<'_>) -> Handle {
    let handle = api!(RedisModule_GetBlockedClientHandle);
    // SAFETY: as the caller promises.
    Handle(unsafe { handle(ctx.raw()) })
}

/// The callback for a client that was unblocked and is still connected.
unsafe extern "C" fn call_back(ctx: *mut RedisModuleCtx, words: *mut *mut RedisModuleString, count: c_int) -> c_int {
    guard(ok(), || {
        // SAFETY: the server passed it, for this call.
        let ctx = unsafe { Context::from_raw(ctx) };
        // SAFETY: called by the server for a client that was blocked.
        let handle = unsafe { handle_of(ctx) };
        let found = queues()
            .clients
            .get(&handle)
            .map(|client| (Arc::clone(&client.queued), OwnedStr::new(&client.queue.key), client.stage));
        let Some((queued, key, stage)) = found else { return ok() };
        let may_take = || {
            if !may_add(ctx, key.as_str()) {
                return Ok(false);
            }
            // SAFETY: the server passed the words of the client's call.
            if unsafe { ctx.is_permitted(words, count) } { Ok(true) } else { Err(Error::NoPermission) }
        };
        let replied = guard_command(|| match stage {
            Stage::Waiting | Stage::Turn => propagation::outside_of_commands(|| queued.serve(ctx, &may_take)),
            Stage::TimedOut => queued.give_up(ctx),
        });
        if let Err(error) = replied {
            error.reply(ctx);
        }
        queues().forget(ctx, handle);
        ok()
    })
}

/// CLIENT UNBLOCK ends a wait as a timeout does.
unsafe extern "C" fn stop_waiting(ctx: *mut RedisModuleCtx, _: *mut *mut RedisModuleString, _: c_int) -> c_int {
    guard(ok(), || {
        // SAFETY: the server passed it, for this call.
        let ctx = unsafe { Context::from_raw(ctx) };
        // SAFETY: called by the server for a client that was blocked.
        let handle = unsafe { handle_of(ctx) };
        let queued = queues().clients.get(&handle).map(|client| Arc::clone(&client.queued));
        let Some(queued) = queued else { return ok() };
        if let Err(error) = guard_command(|| queued.give_up(ctx)) {
            error.reply(ctx);
        }
        leave(ctx, handle);
        ok()
    })
}

/// The client has disconnected, or the server has replied to it: with an error of CLIENT UNBLOCK, or because it becomes
/// a replica.
unsafe extern "C" fn disconnected(ctx: *mut RedisModuleCtx, handle: *mut RedisModuleBlockedClient) {
    guard((), || {
        // SAFETY: the server passed it, for this call.
        leave(unsafe { Context::from_raw(ctx) }, Handle(handle));
    });
}

/// A client is not blocked any more, and was not called back. The server frees its handle only on request.
fn leave(ctx: Context<'_>, handle: Handle) {
    let stage = queues().forget(ctx, handle);
    if stage == Some(Stage::Waiting) {
        release(handle);
    }
}
