//! The server's time.

use std::mem::MaybeUninit;

use redis_meter_core::time::Micros;

use super::api::optional;

/// Now, in microseconds since the epoch. Servers since 7.2 give the time at which the command began, the same
/// throughout a transaction or a script; older ones give the wall clock.
pub(super) fn now() -> Micros {
    match optional!(RedisModule_CachedMicroseconds) {
        // SAFETY: takes nothing, and reads a number that the server keeps.
        Some(cached) => Micros(unsafe { cached() }),
        None => wall_clock(),
    }
}

fn wall_clock() -> Micros {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the clock exists on every Unix, so that the call fills in `time`.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, time.as_mut_ptr()) };
    // SAFETY: filled in above.
    let time = unsafe { time.assume_init() };
    Micros(time.tv_sec * 1_000_000 + time.tv_nsec / 1_000)
}
