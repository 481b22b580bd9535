//! Loading, and why there is no unloading.

use std::ffi::{CStr, c_int};
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

use redis_module::raw::{self, RedisModuleCtx, RedisModuleInfoCtx, RedisModuleString};

use super::api::{self, api, ok, optional};
use super::command::{Family, Registration, add_category};
use super::context::Context;
use super::guard::guard;
use super::info::{Field, write_section};
use super::server_info::ServerInfo;
use super::setting::{self, Setting};
use super::string::Str;
use super::{loading, log, propagation, wait};

/// A module: its name, and lists of its commands, settings and INFO fields.
pub(crate) struct Module {
    pub(crate) name: &'static CStr,
    pub(crate) version: c_int,
    pub(crate) families: &'static [&'static Family],
    pub(crate) commands: &'static [Registration],
    pub(crate) settings: &'static [&'static Setting],
    /// The name of the section of INFO, and its fields.
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

        /// Called by the server before it unloads the module, which it must not.
        ///
        /// # Safety
        /// Only the server may call it.
        #[allow(unsafe_code, non_snake_case, reason = "the name that the server looks for")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn RedisModule_OnUnload(
            ctx: *mut $crate::server::entry::RedisModuleCtx,
        ) -> std::ffi::c_int {
            // SAFETY: the server called with it.
            unsafe { $crate::server::entry::unload(ctx) }
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
        // The server has logged nothing yet: it has a module of this name.
        if let Some(write) = optional!(RedisModule_Log) {
            let why = c"not loaded: a module named meter is loaded already; a new file takes a restart or a failover";
            // SAFETY: the context is that of the load; level, format and the one argument are C strings.
            unsafe { write(ctx, c"warning".as_ptr(), c"%s".as_ptr(), why.as_ptr()) };
        }
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
    guard(ERR, || match set_up(module, ctx, arguments) {
        Ok(()) => ok(),
        Err(why) => {
            if api::missing() != Some("RedisModule_Log") {
                log::warning(ctx, &format!("not loaded: {why}"));
            }
            ERR
        }
    })
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
    wait::watch_cron(ctx)?;
    propagation::watch(ctx);
    // The last step that may fail: Redis 6.2 does not remove the filter of a failed load.
    loading::watch(ctx)?;
    LOADED.store((&raw const *module).cast_mut(), Ordering::Relaxed);
    let register_info = api!(RedisModule_RegisterInfoFunc);
    // SAFETY: the context is that of the load; the callback lives as long as the module.
    unsafe { register_info(ctx.raw(), Some(write_info)) };
    Ok(())
}

/// Refuses, once the load is over. On every server version a connection's last command, a command that is queued in a
/// transaction, and an ACL rule that names a command point to the command: if they are used after the module was
/// unloaded, the server crashes, or runs another command instead.
///
/// # Safety
/// Called by the server, with the context of an unload.
pub(crate) unsafe fn unload(ctx: *mut RedisModuleCtx) -> c_int {
    guard(ERR, || {
        if !loading::is_over() {
            return ok();
        }
        // SAFETY: the server passed it, for this call.
        let ctx = unsafe { Context::from_raw(ctx) };
        log::warning(
            ctx,
            "not unloaded: connections, transactions and ACL rules may still refer to the module's commands; \
             to upgrade, restart the server with the new file, or use a failover to a replica that has loaded it",
        );
        ERR
    })
}

/// Options that Valkey alone has.
const SKIP_COMMAND_VALIDATION: c_int = 1 << 4;
const HANDLE_ATOMIC_SLOT_MIGRATION: c_int = 1 << 5;

fn set_options(ctx: Context<'_>) {
    // The module signals changes itself, so that a refused call aborts no `WATCH`. It has no state outside the
    // keyspace, so a replica may serve reads while it loads, and slots may move in one step.
    let mut options = raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED.cast_signed()
        | raw::REDISMODULE_OPTIONS_HANDLE_REPL_ASYNC_LOAD.cast_signed();
    if is_valkey(ctx)
        && let Some(known) = optional!(RedisModule_GetModuleOptionsAll)
    {
        // The module replicates core commands alone, which need no validation each time.
        let valkeys_own = SKIP_COMMAND_VALIDATION | HANDLE_ATOMIC_SLOT_MIGRATION;
        // SAFETY: takes nothing, and reads a constant.
        options |= valkeys_own & unsafe { known() };
    }
    let set_options = api!(RedisModule_SetModuleOptions);
    // SAFETY: the module is being loaded with this context.
    unsafe { set_options(ctx.raw(), options) };
}

fn is_valkey(ctx: Context<'_>) -> bool {
    ServerInfo::read(ctx, c"server").field(c"server_name") == Some(b"valkey")
}

unsafe extern "C" fn write_info(info: *mut RedisModuleInfoCtx, _for_crash_report: c_int) {
    guard((), || {
        // SAFETY: null, or the `&'static Module` of the load.
        if let Some(module) = unsafe { LOADED.load(Ordering::Relaxed).as_ref() } {
            let (section, fields) = module.info;
            // SAFETY: the server passed `info` for this call.
            unsafe { write_section(info, section, module.version, fields) };
        }
    });
}
