//! Which limiter keys this node refuses most: module memory, as the slow log is; lost at restart, never replicated.

use redis_meter_core::heavy_hitters::{HeavyHitters, Hitter, MAX_CAPACITY};

use crate::server::{Context, MainThread, Str};
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

type Tracked = HeavyHitters<&'static str>;

static TRACKED: MainThread<Option<Tracked>> = MainThread::new(None);

/// Uses what is tracked, if anything is to be.
#[inline]
fn tracked<R>(use_it: impl FnOnce(&mut Tracked) -> R) -> Option<R> {
    let capacity = usize::try_from(settings::REFUSED_KEYS.get()).unwrap_or(0);
    TRACKED.with(|tracked| {
        if capacity == 0 {
            *tracked = None;
            return None;
        }
        let tracked = tracked.get_or_insert_with(|| HeavyHitters::new(capacity));
        if tracked.capacity() != capacity {
            tracked.set_capacity(capacity);
        }
        Some(use_it(tracked))
    })
}

/// Counts a refusal of `key` by `command`.
pub(crate) fn record(ctx: Context<'_>, key: Str<'_>, command: &'static str) {
    tracked(|tracked| tracked.record(ctx.database(), key.bytes(), command));
}

/// The `n` keys with the most refusals, highest first.
pub(crate) fn top(n: usize) -> Vec<Refused> {
    let refused = |hitter: Hitter<'_, &'static str>| Refused {
        database: hitter.db,
        key: hitter.key.to_vec(),
        command: hitter.label,
        refusals: hitter.count,
    };
    tracked(|tracked| tracked.top(n).map(refused).collect()).unwrap_or_default()
}

/// Forgets all refusals.
pub(crate) fn reset() {
    tracked(Tracked::reset);
}
