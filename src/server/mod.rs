//! The only unsafe code: a thin, typed face of the server's module API. Every `unsafe` block is one call or one
//! dereference, and a comment beside it says why it is sound. Nothing here depends on limiters or meters.
#![allow(unsafe_code, reason = "this is the room for it")]

mod alloc;
mod api;
mod clock;
mod command;
mod context;
mod effect;
mod error;
mod events;
mod guard;
mod info;
mod key;
mod load;
mod loading;
mod log;
mod main_thread;
mod propagation;
mod queue;
mod server_info;
mod setting;
mod string;
mod timer;
mod wait;

pub(crate) use command::{Arg, Command, Family, KeyUse, Keys, Kind, Registration, Spec};
pub(crate) use context::{Context, facts};
pub(crate) use effect::{Change, CoreCommand, Counted, Effect, Expiry, Fields, Scored, effects, tell};
pub(crate) use error::{Error, Shown};
pub(crate) use events::Moment;
pub(crate) use info::{Counter, Field};
pub(crate) use key::{
    Access, Any, Hash, Key, List, Order, ReadOnly, ScanCursor, Set, SortedSet, Text, ValueType, Writable,
};
pub(crate) use load::{Module, export_module};
pub(crate) use main_thread::MainThread;
pub(crate) use propagation::{ALWAYS_REPLICATE, EFFECTS_REPLICATED};
pub(crate) use queue::{KeyQueue, MayTake, Queued, Ready};
pub(crate) use setting::Setting;
pub(crate) use string::{Constant, OwnedStr, Str};
pub(crate) use wait::{Pace, Retried, WaitQueue, Waiting, key_changed};

/// Called by the export macro alone.
pub(crate) mod entry {
    pub(crate) use super::load::{load, unload};
    pub(crate) use redis_module::raw::{RedisModuleCtx, RedisModuleString};
}

/// Unit tests have no server to ask.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: alloc::ServerAllocator = alloc::ServerAllocator;
