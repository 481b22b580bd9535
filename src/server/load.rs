//! Loading and unloading.

use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

use redis_module::raw::{self, RedisModuleCtx, RedisModuleInfoCtx, RedisModuleString};

use super::api::{self, api, ok, optional};
use super::command::{Family, Registration, add_category};
use super::context::Context;
use super::info::{Field, write_section};
use super::log;
use super::setting::{self, Setting};
use super::string::{Constant, Str};

/// A module: its name, and lists of all that it brings.
pub(crate) struct Module {
    pub(crate) name: &'static CStr,
    pub(crate) version: c_int,
    pub(crate) families: &'static [&'static Family],
    pub(crate) commands: &'static [Registration],
    pub(crate) settings: &'static [&'static Setting],
    /// The name of the section of INFO, and what it shows.
    pub(crate) info: (&'static CStr, &'static [Field]),
}

/// Exports the two functions by which a server loads and unloads the module of a `static`.
macro_rules! export_module {
    ($module:expr) => {
        /// Called by the server to load the module.
        ///
        /// # Safety
        /// Only the server may call it.
        #[allow(unsafe_code, non_snake_case, reason = "the name that the server looks for")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn RedisModule_OnLoad(
            ctx: *mut $crate::server::entry::RedisModuleCtx,
            argv: *mut *mut $crate::server::entry::RedisModuleString,
            argc: std::ffi::c_int,
        ) -> std::ffi::c_int {
            // SAFETY: the server called with these.
            unsafe { $crate::server::entry::load($module, ctx, argv, argc) }
        }

        /// Called by the server before it unloads the module.
        #[allow(unsafe_code, non_snake_case, reason = "the name that the server looks for")]
        #[unsafe(no_mangle)]
        pub extern "C" fn RedisModule_OnUnload(_ctx: *mut $crate::server::entry::RedisModuleCtx) -> std::ffi::c_int {
            $crate::server::entry::unload()
        }
    };
}
pub(crate) use export_module;

/// The module, for the callback of INFO, which is passed nothing.
static LOADED: AtomicPtr<Module> = AtomicPtr::new(std::ptr::null_mut());

#[allow(clippy::cast_possible_truncation, reason = "a small constant that the bindings widen")]
const ERR: c_int = raw::REDISMODULE_ERR as c_int;

/// # Safety
/// Called by the server, with the context and the arguments of a load.
pub(crate) unsafe fn load(
    module: &'static Module,
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // Nothing may allocate before this, since memory comes from the server.
    let version = raw::REDISMODULE_APIVER_1.cast_signed();
    // SAFETY: the context is that of the load, the name a C string.
    if unsafe { raw::Export_RedisModule_Init(ctx, module.name.as_ptr(), module.version, version) } != ok() {
        return ERR;
    }
    // SAFETY: the server passed it, for this call.
    let ctx = unsafe { Context::from_raw(ctx) };
    let arguments = if argc > 0 {
        let argc = usize::try_from(argc).unwrap_or_default();
        // SAFETY: `argv` holds `argc` live strings for this call, and `Str` is laid out as the pointer it wraps.
        unsafe { slice::from_raw_parts(argv.cast::<Str<'_>>(), argc) }
    } else {
        &[]
    };
    match catch_unwind(AssertUnwindSafe(|| set_up(module, ctx, arguments))) {
        Ok(Ok(())) => ok(),
        Ok(Err(why)) => {
            if api::missing() != Some("RedisModule_Log") {
                log::warning(ctx, &format!("not loaded: {why}"));
            }
            ERR
        }
        Err(_) => ERR,
    }
}

fn set_up(module: &'static Module, ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), String> {
    if let Some(function) = api::missing() {
        return Err(format!("this server lacks {function}; Redis 6.2.2 or later, or any Valkey, is needed"));
    }
    log::log_panics();
    set_options(ctx);
    setting::read_arguments(module.settings, arguments)?;
    setting::register_all(module.settings, ctx)?;
    for family in module.families {
        add_category(ctx, family);
    }
    for command in module.commands {
        command.register(ctx)?;
    }
    LOADED.store((&raw const *module).cast_mut(), Ordering::Relaxed);
    let register_info = api!(RedisModule_RegisterInfoFunc);
    // SAFETY: the context is that of the load; the callback lives as long as the module.
    unsafe { register_info(ctx.raw(), Some(write_info)) };
    Ok(())
}

/// Frees what the server does not free by itself.
pub(crate) fn unload() -> c_int {
    Constant::free_all();
    ok()
}

/// Valkey's own options, which Redis has not.
const SKIP_COMMAND_VALIDATION: c_int = 1 << 4;
const HANDLE_ATOMIC_SLOT_MIGRATION: c_int = 1 << 5;

fn set_options(ctx: Context<'_>) {
    // The module signals a change itself, so that a refused call wakes nobody. It has no state outside the keyspace, so
    // that a replica may serve reads while it loads, and slots may move in one step.
    let mut options = raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED.cast_signed()
        | raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD.cast_signed();
    if is_valkey(ctx)
        && let Some(known) = optional!(RedisModule_GetModuleOptionsAll)
    {
        // What is replicated are core commands, which need not be looked up each time.
        let valkeys_own = SKIP_COMMAND_VALIDATION | HANDLE_ATOMIC_SLOT_MIGRATION;
        // SAFETY: takes nothing, and reads a constant.
        options |= valkeys_own & unsafe { known() };
    }
    let set_options = api!(RedisModule_SetModuleOptions);
    // SAFETY: the module is being loaded with this context.
    unsafe { set_options(ctx.raw(), options) };
}

fn is_valkey(ctx: Context<'_>) -> bool {
    let get_info = api!(RedisModule_GetServerInfo);
    // SAFETY: the context is that of the load, the section a C string.
    let info = unsafe { get_info(ctx.raw(), c"server".as_ptr()) };
    let get_field = api!(RedisModule_ServerInfoGetFieldC);
    // SAFETY: `info` was just made; the field is a C string.
    let name = unsafe { get_field(info, c"server_name".as_ptr()) };
    let valkey = !name.is_null() && {
        // SAFETY: a field that is there is a C string that lives as long as `info`.
        let name = unsafe { CStr::from_ptr(name) };
        name == c"valkey"
    };
    let free = api!(RedisModule_FreeServerInfo);
    // SAFETY: `info` was made above with this context, and is freed once.
    unsafe { free(ctx.raw(), info) };
    valkey
}

unsafe extern "C" fn write_info(info: *mut RedisModuleInfoCtx, _for_crash_report: c_int) {
    // SAFETY: null, or the `&'static Module` of the load.
    if let Some(module) = unsafe { LOADED.load(Ordering::Relaxed).as_ref() } {
        let (section, fields) = module.info;
        write_section(info, section, fields);
    }
}
