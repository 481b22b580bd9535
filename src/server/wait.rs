//! Clients that wait in line: each is blocked by the server on a key, in the order they came, and tried again when the
//! key gets an element, or when the line's alarm goes off. A line has one alarm, and none when its last client has left.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use redis_module::raw::{RedisModuleCtx, RedisModuleString, RedisModuleTimerID};

use redis_meter_core::time::Millis;

use super::api::{api, ok};
use super::command::guarded;
use super::context::Context;
use super::error::Error;
use super::string::{OwnedStr, Str};

/// What a client waits for.
pub(crate) trait Waiting: 'static {
    /// Tries again, and says whether it has replied.
    ///
    /// # Errors
    /// The reply to send; the client waits no longer.
    fn retry(&self, ctx: Context<'_>) -> Result<bool, Error>;

    /// Replies that it has waited in vain.
    ///
    /// # Errors
    /// The reply to send instead.
    fn give_up(&self, ctx: Context<'_>) -> Result<(), Error>;
}

/// Names a line: those who wait for the same thing are in the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Line(Vec<u8>);

#[derive(Default)]
struct State {
    clients: usize,
    alarm: Option<Alarm>,
}

struct Alarm {
    timer: RedisModuleTimerID,
    at: Millis,
}

/// What an alarm needs when it goes off.
struct Call {
    line: Line,
    key: OwnedStr,
}

/// A client's place in a line.
struct Ticket<W> {
    line: Line,
    waiting: W,
}

/// The lines that somebody is in. Only the server's main thread comes here.
static LINES: LazyLock<Mutex<HashMap<Line, State>>> = LazyLock::new(Mutex::default);

fn lines() -> MutexGuard<'static, HashMap<Line, State>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// The line of those who wait for the same names, in the selected database.
    pub(crate) fn new(ctx: Context<'_>, names: &[Str<'_>]) -> Self {
        let mut bytes = ctx.database().to_le_bytes().to_vec();
        for name in names {
            bytes.extend(name.bytes().len().to_le_bytes());
            bytes.extend(name.bytes());
        }
        Self(bytes)
    }

    /// Whether nobody is in it.
    pub(crate) fn is_empty(&self) -> bool {
        !lines().contains_key(self)
    }

    /// Blocks the client of the running command until `waiting` has replied, or so long (`None`: for ever), on a key that
    /// wakes it when it gets an element.
    pub(crate) fn join<W: Waiting>(self, ctx: Context<'_>, key: Str<'_>, timeout: Option<Millis>, waiting: W) {
        lines().entry(self.clone()).or_default().clients += 1;
        let ticket = Box::into_raw(Box::new(Ticket { line: self, waiting }));
        let block = api!(RedisModule_BlockClientOnKeys);
        let mut keys = [key.raw()];
        let timeout = timeout.map_or(0, |span| span.0);
        let (retry, give_up, leave) = (Some(retry::<W> as _), Some(give_up::<W> as _), Some(leave::<W> as _));
        // SAFETY: the context is that of the running command; one live key; the callbacks take the ticket as theirs, and
        // `leave`, which the server calls once when the client waits no longer, takes it back.
        unsafe { block(ctx.raw(), retry, give_up, leave, timeout, keys.as_mut_ptr(), 1, ticket.cast()) };
    }

    /// Has those who wait on `key` tried again after so long, unless they will be sooner.
    pub(crate) fn wake_after(&self, ctx: Context<'_>, key: Str<'_>, delay: Millis) {
        let mut lines = lines();
        let Some(state) = lines.get_mut(self) else { return };
        let at = Millis(ctx.now().floor_millis().0.saturating_add(delay.0));
        if state.alarm.as_ref().is_some_and(|alarm| alarm.at <= at) {
            return;
        }
        if let Some(alarm) = state.alarm.take() {
            alarm.stop(ctx);
        }
        let call = Box::into_raw(Box::new(Call { line: self.clone(), key: OwnedStr::new(key.bytes()) }));
        let create = api!(RedisModule_CreateTimer);
        // SAFETY: the context is that of a running callback; `ring`, or `Alarm::stop`, takes the call back.
        let timer = unsafe { create(ctx.raw(), delay.0, Some(ring), call.cast()) };
        state.alarm = Some(Alarm { timer, at });
    }
}

impl Alarm {
    fn stop(self, ctx: Context<'_>) {
        let stop = api!(RedisModule_StopTimer);
        let mut call: *mut c_void = ptr::null_mut();
        // SAFETY: the context is the module's.
        if unsafe { stop(ctx.raw(), self.timer, &raw mut call) } == ok() {
            // SAFETY: the timer had not gone off, so that the call is still ours.
            drop(unsafe { Box::from_raw(call.cast::<Call>()) });
        }
    }
}

/// The alarm goes off: the server tries those who are blocked on the key, in their order.
unsafe extern "C" fn ring(ctx: *mut RedisModuleCtx, call: *mut c_void) {
    // SAFETY: `wake_after` made it, and the timer goes off once.
    let call = unsafe { Box::from_raw(call.cast::<Call>()) };
    if let Some(state) = lines().get_mut(&call.line) {
        state.alarm = None;
    }
    let signal = api!(RedisModule_SignalKeyAsReady);
    // SAFETY: the context is the timer's, with the database in which it was made; the key is a live string.
    unsafe { signal(ctx, call.key.as_str().raw()) };
}

/// # Safety
/// Called by the server for a client that [`Line::join`] has blocked.
unsafe fn ticket<'a, W>(ctx: Context<'a>) -> &'a Ticket<W> {
    let private_data = api!(RedisModule_GetBlockedClientPrivateData);
    // SAFETY: the context is that of a blocked client's callback.
    let ticket = unsafe { private_data(ctx.raw()) };
    // SAFETY: it is what `join` passed, and `leave` has not been called.
    unsafe { &*ticket.cast::<Ticket<W>>() }
}

unsafe extern "C" fn retry<W: Waiting>(ctx: *mut RedisModuleCtx, _: *mut *mut RedisModuleString, _: c_int) -> c_int {
    // SAFETY: the server passed it, for this call.
    let ctx = unsafe { Context::from_raw(ctx) };
    // SAFETY: called by the server for a client that has joined.
    let ticket = unsafe { ticket::<W>(ctx) };
    match guarded(|| ticket.waiting.retry(ctx)) {
        Ok(true) => ok(),
        // Anything else says that the client goes on waiting.
        Ok(false) => !ok(),
        Err(error) => {
            error.reply(ctx);
            ok()
        }
    }
}

unsafe extern "C" fn give_up<W: Waiting>(ctx: *mut RedisModuleCtx, _: *mut *mut RedisModuleString, _: c_int) -> c_int {
    // SAFETY: the server passed it, for this call.
    let ctx = unsafe { Context::from_raw(ctx) };
    // SAFETY: called by the server for a client that has joined.
    let ticket = unsafe { ticket::<W>(ctx) };
    if let Err(error) = guarded(|| ticket.waiting.give_up(ctx)) {
        error.reply(ctx);
    }
    ok()
}

/// The client waits no longer: it was served, gave up, was unblocked, or has gone.
unsafe extern "C" fn leave<W: Waiting>(ctx: *mut RedisModuleCtx, ticket: *mut c_void) {
    // SAFETY: `join` made it, and the server frees it once.
    let ticket = unsafe { Box::from_raw(ticket.cast::<Ticket<W>>()) };
    // SAFETY: the server passed it, for this call.
    let ctx = unsafe { Context::from_raw(ctx) };
    let mut lines = lines();
    let Some(state) = lines.get_mut(&ticket.line) else { return };
    state.clients -= 1;
    if state.clients == 0
        && let Some(State { alarm: Some(alarm), .. }) = lines.remove(&ticket.line)
    {
        alarm.stop(ctx);
    }
}
