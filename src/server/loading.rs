//! When the load of the module is over. Until then the server may take it back, for a config that it does not know, and
//! some versions end if the module refuses. No server says so to the module itself; but the first command that anybody
//! runs comes later, and so does the first cron. Nothing can refer to the module's commands before.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use redis_module::raw::{RedisModuleCommandFilter, RedisModuleCommandFilterCtx};

use super::api::api;
use super::context::Context;
use super::guard::guard;

static IS_OVER: AtomicBool = AtomicBool::new(false);

/// What sees the first commands; null once it is not needed any more.
static FILTER: AtomicPtr<RedisModuleCommandFilter> = AtomicPtr::new(std::ptr::null_mut());

/// Whether the load is over.
pub(super) fn is_over() -> bool {
    IS_OVER.load(Ordering::Relaxed)
}

/// Begins to wait for its end.
///
/// # Errors
/// A sentence for the log.
pub(super) fn watch(ctx: Context<'_>) -> Result<(), String> {
    let register = api!(RedisModule_RegisterCommandFilter);
    // SAFETY: the module is being loaded with this context; the callback lives as long as the module.
    let filter = unsafe { register(ctx.raw(), Some(on_command), NO_FLAGS) };
    if filter.is_null() {
        return Err("the server refused to tell of the first command".to_owned());
    }
    FILTER.store(filter, Ordering::Relaxed);
    Ok(())
}

const NO_FLAGS: c_int = 0;

unsafe extern "C" fn on_command(_: *mut RedisModuleCommandFilterCtx) {
    guard((), || IS_OVER.store(true, Ordering::Relaxed));
}

/// The server has come to its cron.
pub(super) fn end(ctx: Context<'_>) {
    IS_OVER.store(true, Ordering::Relaxed);
    let filter = FILTER.swap(std::ptr::null_mut(), Ordering::Relaxed);
    if !filter.is_null() {
        let unregister = api!(RedisModule_UnregisterCommandFilter);
        // SAFETY: the context is that of a callback, outside of any command; the filter was registered once, and is given
        // back once.
        unsafe { unregister(ctx.raw(), filter) };
    }
}
