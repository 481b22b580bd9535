//! Which limiter keys this node refuses most: module memory, as the slow log is; lost at restart, never replicated.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use redis_meter_core::heavy_hitters::{HeavyHitters, MAX_CAPACITY};

use crate::server::{Context, Str};
use crate::settings;

/// The most keys that can be tracked.
pub(crate) const MOST_KEYS: i64 = MAX_CAPACITY as i64;

/// A key that was refused.
pub(crate) struct Refused {
    pub(crate) database: i32,
    pub(crate) key: Vec<u8>,
    /// The command that refused it last.
    pub(crate) command: &'static str,
    /// How often, an estimate that is never too low.
    pub(crate) refusals: u64,
}

static TRACKED: LazyLock<Mutex<HeavyHitters<&'static str>>> = LazyLock::new(|| Mutex::new(HeavyHitters::new(0)));

/// Only the server's main thread locks it.
fn tracked() -> MutexGuard<'static, HeavyHitters<&'static str>> {
    let mut tracked = TRACKED.lock().unwrap_or_else(PoisonError::into_inner);
    let capacity = usize::try_from(settings::REFUSED_KEYS.get()).unwrap_or(0);
    if tracked.capacity() != capacity {
        tracked.set_capacity(capacity);
    }
    tracked
}

/// Counts a refusal of `key` by `command`.
pub(crate) fn record(ctx: Context<'_>, key: Str<'_>, command: &'static str) {
    tracked().record(ctx.database(), key.bytes(), command);
}

/// The `n` keys with the most refusals, highest first.
pub(crate) fn top(n: usize) -> Vec<Refused> {
    let tracked = tracked();
    let top = tracked.top(n).map(|hitter| Refused {
        database: hitter.db,
        key: hitter.key.to_vec(),
        command: hitter.label,
        refusals: hitter.count,
    });
    top.collect()
}

/// Forgets all refusals.
pub(crate) fn reset() {
    tracked().reset();
}
