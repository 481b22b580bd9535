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
use super::string::{Constant, OwnedStr, Str};

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
        ///
        /// # Safety
        /// Only the server may call it.
        #[allow(unsafe_code, non_snake_case, reason = "the name that the server looks for")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn RedisModule_OnUnload(
            ctx: *mut $crate::server::entry::RedisModuleCtx,
        ) -> std::ffi::c_int {
            // SAFETY: the server called with it.
            unsafe { $crate::server::entry::unload($module, ctx) }
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

/// Frees what the server does not free by itself, and disconnects whom it would let down.
///
/// # Safety
/// Called by the server, with the context of an unload.
pub(crate) unsafe fn unload(module: &'static Module, ctx: *mut RedisModuleCtx) -> c_int {
    // SAFETY: the server passed it, for this call.
    let ctx = unsafe { Context::from_raw(ctx) };
    // What cannot be done must not keep the module.
    let _ = catch_unwind(AssertUnwindSafe(|| disconnect_users(module, ctx)));
    Constant::free_all();
    ok()
}

/// From Redis 8 on, a connection's next call is compared with its last one, of which the server keeps a pointer: when
/// that was a command of a module that is gone, the server ends. So those connections are closed. Those in a transaction
/// may have queued such a command. Other servers do not look, and there nobody is disturbed.
fn disconnect_users(module: &Module, ctx: Context<'_>) {
    const FIRST_TO_LOOK: u32 = 8;
    let version = server_field(ctx, c"redis_version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < FIRST_TO_LOOK || is_valkey(ctx) {
        return;
    }
    let list = OwnedStr::new(b"LIST");
    let Some(clients) = ctx.call(c"CLIENT", &[list.as_str()]).and_then(|reply| reply.text()) else { return };
    let (kill, by_id) = (OwnedStr::new(b"KILL"), OwnedStr::new(b"ID"));
    for client in clients.lines() {
        let field = |name: &str| client.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        let is_ours = field("cmd").is_some_and(|command| module.commands.iter().any(|ours| ours.is_named(command)));
        let in_transaction =
            field("multi").and_then(|queued| queued.parse().ok()).is_some_and(|queued: i64| queued > 0);
        if (is_ours || in_transaction)
            && let Some(id) = field("id")
        {
            let id = OwnedStr::new(id.as_bytes());
            ctx.call(c"CLIENT", &[kill.as_str(), by_id.as_str(), id.as_str()]);
        }
    }
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
    server_field(ctx, c"server_name").as_deref() == Some("valkey")
}

/// A field of the section `server` of INFO.
fn server_field(ctx: Context<'_>, field: &CStr) -> Option<String> {
    let get_info = api!(RedisModule_GetServerInfo);
    // SAFETY: the context is that of the call, the section a C string.
    let info = unsafe { get_info(ctx.raw(), c"server".as_ptr()) };
    let get_field = api!(RedisModule_ServerInfoGetFieldC);
    // SAFETY: `info` was just made; the field is a C string.
    let text = unsafe { get_field(info, field.as_ptr()) };
    let text = (!text.is_null()).then(|| {
        // SAFETY: a field that is there is a C string that lives as long as `info`.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    });
    let free = api!(RedisModule_FreeServerInfo);
    // SAFETY: `info` was made above with this context, and is freed once.
    unsafe { free(ctx.raw(), info) };
    text
}

unsafe extern "C" fn write_info(info: *mut RedisModuleInfoCtx, _for_crash_report: c_int) {
    // SAFETY: null, or the `&'static Module` of the load.
    if let Some(module) = unsafe { LOADED.load(Ordering::Relaxed).as_ref() } {
        let (section, fields) = module.info;
        write_section(info, section, fields);
    }
}
