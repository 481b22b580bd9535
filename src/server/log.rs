//! The server's log.

use std::ffi::{CStr, CString};

use super::api::api;
use super::context::Context;

/// Writes a line at level `warning`.
pub(super) fn warning(ctx: Context<'_>, line: &str) {
    write(ctx, c"warning", line);
}

fn write(ctx: Context<'_>, level: &CStr, line: &str) {
    let log = api!(RedisModule_Log);
    let line = CString::new(line.replace('\0', " ")).unwrap_or_default();
    // The line is an argument and never the format: it may hold a client's `%s`.
    // SAFETY: level, format and the one argument that the format asks for are C strings.
    unsafe { log(ctx.raw(), level.as_ptr(), c"%s".as_ptr(), line.as_ptr()) };
}
