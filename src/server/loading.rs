//! When the load of the module is over. Until then the server may undo it, such as for an unknown config, and some
//! versions exit if the module refuses to be unloaded. No server reports the end of the load to the module; but the
//! first command that a client runs comes later, and so does the first cron. Before, nothing can refer to the module's
//! commands.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use redis_module::raw::{RedisModuleCommandFilter, RedisModuleCommandFilterCtx};

use super::api::api;
use super::context::Context;
use super::guard::guard;

static IS_OVER: AtomicBool = AtomicBool::new(false);

/// The filter that sees the first commands; null once it is not needed any more.
static FILTER: AtomicPtr<RedisModuleCommandFilter> = AtomicPtr::new(std::ptr::null_mut());

/// Whether the load is over.
pub(super) fn is_over() -> bool {
    IS_OVER.load(Ordering::Relaxed)
}

/// Watches for its end.
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

/// Called at the server's cron.
pub(super) fn end(ctx: Context<'_>) {
    IS_OVER.store(true, Ordering::Relaxed);
    let filter = FILTER.swap(std::ptr::null_mut(), Ordering::Relaxed);
    if !filter.is_null() {
        let unregister = api!(RedisModule_UnregisterCommandFilter);
        // SAFETY: the context is that of a callback, outside of any command; the filter was registered once, and is
        // unregistered once.
        unsafe { unregister(ctx.raw(), filter) };
    }
}
