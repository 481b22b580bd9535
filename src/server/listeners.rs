//! Whether anybody listens to what is replicated: a replica, a backlog that waits for one, or an AOF. Where nobody does, the
//! server drops what it is told, after it has made a command of it, which costs more than the rest of a limiter's call.
//!
//! Somebody is taken to listen until the server has said in INFO that nobody does. What then begins to listen needs an
//! image of the keys first (a full synchronisation, an AOF that is switched on, a slot that is exported), and each image
//! begins with a fork, of which the server tells before the next command runs: from then on all is told again. What was
//! not told is in the image. A partial synchronisation needs a backlog, which INFO shows; it remains after the replicas have
//! gone, after a promotion, and in an RDB. So nothing is asked while commands run, and a server to which nobody writes
//! is never asked.

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

/// Whether effects are replicated even if nobody listens.
pub(crate) static ALWAYS_REPLICATE: Setting = Setting::switch(c"always-replicate");

/// 1 while effects are put into words, 0 while nobody listens.
pub(crate) static EFFECTS_REPLICATED: Counter = Counter::new();

/// Why effects are put into words; 0 if there is no reason.
static REASONS: AtomicU8 = AtomicU8::new(SOMEBODY_MAY_LISTEN);

const SOMEBODY_MAY_LISTEN: u8 = 1;
/// No command runs: a blocked client is tried again. What the API replicates verbatim is then not the running command,
/// and Redis 6.2 would keep it for later.
const OUTSIDE_OF_COMMANDS: u8 = 2;

/// Whether an effect has been put into words since the server was asked last: a reason to ask again.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Whether the server tells of its forks.
static TELLS_OF_FORKS: AtomicBool = AtomicBool::new(false);

static ASKED: Mutex<Option<Instant>> = Mutex::new(None);

/// How often the server is asked, at most.
const PERIOD: Duration = Duration::from_millis(300);

/// Whether nobody listens, for certain.
#[inline(always)]
pub(super) fn nobody() -> bool {
    REASONS.load(Ordering::Relaxed) == 0
}

/// Notes that an effect is put into words.
#[inline(always)]
pub(super) fn note_told() {
    TOLD.store(true, Ordering::Relaxed);
}

/// Counts `n` changes that nobody listens to, for `save` and INFO, in the running command. The server drops the command
/// itself, as it would drop the effects.
#[inline(always)]
pub(super) fn count_changes(ctx: Context<'_>, n: usize) {
    let replicate = api!(RedisModule_ReplicateVerbatim);
    for _ in 0..n {
        // SAFETY: the context is that of the running command.
        unsafe { replicate(ctx.raw()) };
    }
}

/// Runs what writes outside of commands: its effects are put into words.
pub(super) fn outside_of_commands<T>(write: impl FnOnce() -> T) -> T {
    REASONS.fetch_or(OUTSIDE_OF_COMMANDS, Ordering::Relaxed);
    let result = write();
    REASONS.fetch_and(!OUTSIDE_OF_COMMANDS, Ordering::Relaxed);
    result
}

fn expect_somebody() {
    REASONS.fetch_or(SOMEBODY_MAY_LISTEN, Ordering::Relaxed);
    EFFECTS_REPLICATED.set(1);
}

/// Has the server tell of all that may bring somebody. Where it can't tell of forks, somebody is always taken to listen.
pub(super) fn watch(ctx: Context<'_>) {
    expect_somebody();
    TELLS_OF_FORKS.store(subscribe(ctx, raw::REDISMODULE_EVENT_FORK_CHILD, 1), Ordering::Relaxed);
    // None of these is needed where forks are told of, but for the setting. Redis 6.2 has no event of its configuration.
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
    guard((), expect_somebody);
}

/// The server has come to its cron: asks it whether anybody listens, if effects are put into words for nobody perhaps.
pub(super) fn ask(ctx: Context<'_>, now: Instant) {
    if !TOLD.load(Ordering::Relaxed) || nobody() {
        return;
    }
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    if asked.is_some_and(|before| now < before + PERIOD) {
        return;
    }
    *asked = Some(now);
    TOLD.store(false, Ordering::Relaxed);
    if may_be_certain() && says_nobody(ctx) {
        REASONS.fetch_and(!SOMEBODY_MAY_LISTEN, Ordering::Relaxed);
        EFFECTS_REPLICATED.set(0);
    }
}

fn may_be_certain() -> bool {
    TELLS_OF_FORKS.load(Ordering::Relaxed) && !ALWAYS_REPLICATE.is_on() && !*facts::CLUSTER
}

/// Whether the server says that nobody listens, and that nothing is under way after which somebody does. A field that it
/// does not have says neither.
fn says_nobody(ctx: Context<'_>) -> bool {
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
            // With a child, Redis 6.2 would switch its AOF on without a fork and without a word.
            c"rdb_bgsave_in_progress",
            c"aof_rewrite_in_progress",
            c"module_fork_in_progress",
        ]
        .iter()
        .all(|name| is_zero(&persistence, name))
}
