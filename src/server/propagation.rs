//! Whether changes must be propagated: to a replica, to a backlog that a replica may read, to an AOF. Without any of them
//! the server drops what a module replicates, after it has built the command, which costs more than the rest of a
//! limiter's call.
//!
//! Changes are propagated until INFO reports that there is no consumer. A new consumer needs an image of the keys first (a
//! full synchronisation, an AOF that is switched on, a slot that is exported), and each image begins with a fork, at which
//! the server fires an event before the next command runs: from then on changes are propagated again, and earlier ones are
//! in the image. A partial synchronisation needs a backlog, which INFO reports; it is kept after the replicas have
//! disconnected, after a promotion, and in an RDB. So INFO is never read while a command runs, nor on a server without
//! writes.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis_module::raw::{self, RedisModuleCtx, RedisModuleEvent};

use super::api::{api, ok};
use super::context::{Context, facts};
use super::guard::guard;
use super::info::Counter;
use super::server_info::ServerInfo;
use super::setting::Setting;

/// Whether changes are propagated even without a consumer.
pub(crate) static ALWAYS_REPLICATE: Setting = Setting::switch(c"always-replicate");

/// 1 while changes are propagated, 0 while there is no consumer.
pub(crate) static EFFECTS_REPLICATED: Counter = Counter::new();

/// The reasons to propagate changes; 0 if there is none.
static REASONS: AtomicU8 = AtomicU8::new(MAY_HAVE_CONSUMERS);

const MAY_HAVE_CONSUMERS: u8 = 1;
/// No command runs: a blocked client is tried again. What the API replicates verbatim is then not the running command,
/// and Redis 6.2 would keep it for later.
const OUTSIDE_OF_COMMANDS: u8 = 2;

/// Whether a change has been propagated since INFO was read last: a reason to read it again.
static PROPAGATED: AtomicBool = AtomicBool::new(false);

/// Whether the server fires an event at a fork.
static HAS_FORK_EVENT: AtomicBool = AtomicBool::new(false);

static READ_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// The least time between two readings of INFO.
const PERIOD: Duration = Duration::from_millis(300);

/// Whether it is certain that there is no consumer.
#[inline(always)]
pub(super) fn is_needless() -> bool {
    REASONS.load(Ordering::Relaxed) == 0
}

/// Notes that a change is propagated.
#[inline(always)]
pub(super) fn note_propagated() {
    PROPAGATED.store(true, Ordering::Relaxed);
}

/// Counts `n` changes that are not propagated, for `save` and INFO, in the running command. The server drops the command
/// itself, as it would drop the changes.
#[inline(always)]
pub(super) fn count_changes(ctx: Context<'_>, n: usize) {
    let replicate = api!(RedisModule_ReplicateVerbatim);
    for _ in 0..n {
        // SAFETY: the context is that of the running command.
        unsafe { replicate(ctx.raw()) };
    }
}

/// Runs a function that writes while no command runs: its changes are propagated.
pub(super) fn outside_of_commands<T>(write: impl FnOnce() -> T) -> T {
    REASONS.fetch_or(OUTSIDE_OF_COMMANDS, Ordering::Relaxed);
    let result = write();
    REASONS.fetch_and(!OUTSIDE_OF_COMMANDS, Ordering::Relaxed);
    result
}

fn expect_consumers() {
    REASONS.fetch_or(MAY_HAVE_CONSUMERS, Ordering::Relaxed);
    EFFECTS_REPLICATED.set(1);
}

/// Subscribes to the events at which a consumer may appear. Without the event of forks, changes are always propagated.
pub(super) fn watch(ctx: Context<'_>) {
    expect_consumers();
    HAS_FORK_EVENT.store(subscribe(ctx, raw::REDISMODULE_EVENT_FORK_CHILD, 1), Ordering::Relaxed);
    // With the event of forks none of these is needed but for the setting. Redis 6.2 has no event of its configuration.
    subscribe(ctx, raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, 1);
    subscribe(ctx, raw::REDISMODULE_EVENT_REPLICA_CHANGE, 1);
    subscribe(ctx, raw::REDISMODULE_EVENT_CONFIG, 1);
}

fn subscribe(ctx: Context<'_>, id: u64, dataver: u64) -> bool {
    let subscribe = api!(RedisModule_SubscribeToServerEvent);
    // SAFETY: the module is being loaded with this context; the callback lives as long as the module.
    unsafe { subscribe(ctx.raw(), RedisModuleEvent { id, dataver }, Some(on_event)) == ok() }
}

unsafe extern "C" fn on_event(_: *mut RedisModuleCtx, _: RedisModuleEvent, _: u64, _: *mut c_void) {
    guard((), expect_consumers);
}

/// Called by the server's cron: reads INFO, if changes have been propagated that may have no consumer.
pub(super) fn refresh(ctx: Context<'_>, now: Instant) {
    if !PROPAGATED.load(Ordering::Relaxed) || is_needless() {
        return;
    }
    let mut read_at = READ_AT.lock().unwrap_or_else(PoisonError::into_inner);
    if read_at.is_some_and(|before| now < before + PERIOD) {
        return;
    }
    *read_at = Some(now);
    PROPAGATED.store(false, Ordering::Relaxed);
    if may_be_needless() && reports_no_consumer(ctx) {
        REASONS.fetch_and(!MAY_HAVE_CONSUMERS, Ordering::Relaxed);
        EFFECTS_REPLICATED.set(0);
    }
}

fn may_be_needless() -> bool {
    HAS_FORK_EVENT.load(Ordering::Relaxed) && !ALWAYS_REPLICATE.is_on() && !*facts::CLUSTER
}

/// Whether INFO reports that there is no consumer, and that none is about to appear. A missing field reports neither.
fn reports_no_consumer(ctx: Context<'_>) -> bool {
    let replication = ServerInfo::read(ctx, c"replication");
    if replication.field(c"role") != Some(b"master") {
        return false;
    }
    let persistence = ServerInfo::read(ctx, c"persistence");
    let is_zero = |info: &ServerInfo<'_>, name| info.field(name) == Some(b"0");
    [c"connected_slaves", c"repl_backlog_active"].iter().all(|name| is_zero(&replication, name))
        && [
            c"loading",
            c"aof_enabled",
            c"aof_rewrite_scheduled",
            // With a child, Redis 6.2 would switch its AOF on without a fork and without an event.
            c"rdb_bgsave_in_progress",
            c"aof_rewrite_in_progress",
            c"module_fork_in_progress",
        ]
        .iter()
        .all(|name| is_zero(&persistence, name))
}
