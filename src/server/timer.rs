//! Timers of the server: each fires once, unless it is stopped before.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr;
use std::time::Duration;

use redis_meter_core::time::Nanos;
use redis_module::raw::{RedisModuleCtx, RedisModuleTimerID};

use super::api::{api, ok};
use super::context::Context;
use super::guard::guard;

/// The longest interval between two tries of blocked clients.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The interval between two tries while the server allows no writes.
pub(super) const WRITES_REFUSED: Nanos = Nanos(50_000_000);

/// The data of a timer, which handles its firing.
pub(super) trait Timed: Send + Sized + 'static {
    /// The timer fires.
    fn fire(self, ctx: Context<'_>);
}

/// A timer that has not fired.
pub(super) struct Timer<T> {
    id: RedisModuleTimerID,
    /// When it fires.
    pub(super) at: Nanos,
    holds: PhantomData<fn() -> T>,
}

impl<T: Timed> Timer<T> {
    /// Starts a timer for `data`, at this instant or, if that is earlier, in [`LONGEST_SLEEP`].
    pub(super) fn start(ctx: Context<'_>, at: Nanos, data: T) -> Self {
        let now = ctx.now().nanos();
        let at = at.min(latest(now));
        let delay = Nanos(at.0.saturating_sub(now.0).max(0)).ceil_millis();
        let data = Box::into_raw(Box::new(data));
        let create = api!(RedisModule_CreateTimer);
        // SAFETY: the context is that of a running callback; `fire`, or `stop`, takes the data back.
        let id = unsafe { create(ctx.raw(), delay.0, Some(fire::<T>), data.cast()) };
        Self { id, at, holds: PhantomData }
    }

    /// Stops it.
    pub(super) fn stop(self, ctx: Context<'_>) {
        let stop = api!(RedisModule_StopTimer);
        let mut data: *mut c_void = ptr::null_mut();
        // SAFETY: the context is the module's.
        if unsafe { stop(ctx.raw(), self.id, &raw mut data) } == ok() {
            // SAFETY: the timer had not fired, so the data is still ours.
            drop(unsafe { Box::from_raw(data.cast::<T>()) });
        }
    }
}

/// The latest instant for which a timer is started at `now`.
pub(super) fn latest(now: Nanos) -> Nanos {
    Nanos(now.0.saturating_add(LONGEST_SLEEP.as_nanos().try_into().unwrap_or(i64::MAX)))
}

unsafe extern "C" fn fire<T: Timed>(ctx: *mut RedisModuleCtx, data: *mut c_void) {
    guard((), || {
        // SAFETY: `start` made it, and the timer fires once.
        let data = unsafe { Box::from_raw(data.cast::<T>()) };
        // SAFETY: the server passed it, for this call.
        data.fire(unsafe { Context::from_raw(ctx) });
    });
}
