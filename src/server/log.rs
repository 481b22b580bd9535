//! The server's log.

use std::ffi::CString;
use std::{panic, ptr};

use redis_module::raw::RedisModuleCtx;

use super::api::api;
use super::context::Context;

/// Writes a line at level `warning`.
pub(super) fn warning(ctx: Context<'_>, line: &str) {
    write(ctx.raw(), line);
}

/// Has panics logged by the server. The default hook would print a backtrace if RUST_BACKTRACE asks for one, which
/// frees memory of libc, and crashes servers that load modules with their own symbols first.
pub(super) fn log_panics() {
    panic::set_hook(Box::new(|panic| write(ptr::null_mut(), &panic.to_string())));
}

fn write(ctx: *mut RedisModuleCtx, line: &str) {
    let log = api!(RedisModule_Log);
    let line = CString::new(line.replace('\0', " ")).unwrap_or_default();
    // The line is an argument and never the format: it may contain a client's `%s`.
    // SAFETY: the context is that of the running callback, or null, which the call takes; level, format and the one
    // argument that the format asks for are C strings.
    unsafe { log(ctx, c"warning".as_ptr(), c"%s".as_ptr(), line.as_ptr()) };
}
