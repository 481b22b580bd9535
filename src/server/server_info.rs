//! The server's INFO.

use std::ffi::CStr;

use redis_module::raw::RedisModuleServerInfoData;

use super::api::api;
use super::context::Context;

/// A section of INFO, as it was when it was read.
pub(super) struct ServerInfo<'a> {
    ctx: Context<'a>,
    data: *mut RedisModuleServerInfoData,
}

impl<'a> ServerInfo<'a> {
    /// Reads a section, named as in `INFO section`.
    pub(super) fn read(ctx: Context<'a>, section: &CStr) -> Self {
        let read = api!(RedisModule_GetServerInfo);
        // SAFETY: the context is that of a running callback, the section a C string.
        let data = unsafe { read(ctx.raw(), section.as_ptr()) };
        Self { ctx, data }
    }

    /// A field of it, if it is there.
    pub(super) fn field(&self, name: &CStr) -> Option<&[u8]> {
        let field = api!(RedisModule_ServerInfoGetFieldC);
        // SAFETY: the data is live; the name is a C string.
        let text = unsafe { field(self.data, name.as_ptr()) };
        if text.is_null() {
            return None;
        }
        // SAFETY: a field that is there is a C string that lives as long as the data.
        Some(unsafe { CStr::from_ptr(text) }.to_bytes())
    }
}

impl Drop for ServerInfo<'_> {
    fn drop(&mut self) {
        let free = api!(RedisModule_FreeServerInfo);
        // SAFETY: read with this context, and freed once.
        unsafe { free(self.ctx.raw(), self.data) };
    }
}
