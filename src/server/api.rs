//! The functions of the module API. A server exports them one by one; one that it lacks is a null pointer. Those that
//! the module cannot do without are checked once, at load; of the others each user tests the pointer.

use std::ffi::c_int;

use redis_module::raw;

/// `api!(name)` is the function itself: one load, no test. Only functions on the list of `required!` compile.
macro_rules! api {
    ($name:ident) => {{
        const _: () = $crate::server::api::listed::$name;
        // SAFETY: the server writes the pointers once, at load, before any other code of the module runs, and on the
        // thread that runs it.
        let function = unsafe { redis_module::raw::$name };
        // SAFETY: a server on which a required function is absent was refused at load.
        unsafe { function.unwrap_unchecked() }
    }};
}

/// `optional!(name)` is the function, or `None` on a server that is older than it.
macro_rules! optional {
    ($name:ident) => {{
        // SAFETY: as in `api!`.
        unsafe { redis_module::raw::$name }
    }};
}

macro_rules! required {
    ($($name:ident)*) => {
        #[allow(non_upper_case_globals, reason = "named as the functions are")]
        pub(super) mod listed {
            $(pub(in crate::server) const $name: () = ();)*
        }

        /// The first required function that this server lacks.
        pub(super) fn missing() -> Option<&'static str> {
            $(
                // SAFETY: as in `api!`; nothing is called.
                if unsafe { raw::$name }.is_none() {
                    return Some(stringify!($name));
                }
            )*
            None
        }
    };
}

required! {
    RedisModule_BlockClient
    RedisModule_BlockClientOnKeys
    RedisModule_Call
    RedisModule_CallReplyArrayElement
    RedisModule_CallReplyInteger
    RedisModule_CallReplyStringPtr
    RedisModule_CallReplyType
    RedisModule_CloseKey
    RedisModule_CreateCommand
    RedisModule_CreateString
    RedisModule_CreateTimer
    RedisModule_DbSize
    RedisModule_FreeCallReply
    RedisModule_FreeServerInfo
    RedisModule_FreeString
    RedisModule_GetAbsExpire
    RedisModule_GetBlockedClientHandle
    RedisModule_GetBlockedClientPrivateData
    RedisModule_GetContextFlags
    RedisModule_GetRandomHexChars
    RedisModule_GetSelectedDb
    RedisModule_GetServerInfo
    RedisModule_HashGet
    RedisModule_HashSet
    RedisModule_InfoAddFieldCString
    RedisModule_InfoAddFieldULongLong
    RedisModule_InfoAddSection
    RedisModule_IsKeysPositionRequest
    RedisModule_KeyAtPos
    RedisModule_KeyType
    RedisModule_ListPop
    RedisModule_ListPush
    RedisModule_Log
    RedisModule_NotifyKeyspaceEvent
    RedisModule_OpenKey
    RedisModule_RegisterCommandFilter
    RedisModule_RegisterInfoFunc
    RedisModule_Replicate
    RedisModule_ReplicateVerbatim
    RedisModule_ReplyWithArray
    RedisModule_ReplyWithError
    RedisModule_ReplyWithLongLong
    RedisModule_ReplyWithNull
    RedisModule_ReplyWithSimpleString
    RedisModule_ReplyWithStringBuffer
    RedisModule_Scan
    RedisModule_ScanCursorCreate
    RedisModule_ScanCursorDestroy
    RedisModule_ScanKey
    RedisModule_SelectDb
    RedisModule_ServerInfoGetFieldC
    RedisModule_SetAbsExpire
    RedisModule_SetDisconnectCallback
    RedisModule_SetModuleOptions
    RedisModule_SignalKeyAsReady
    RedisModule_SignalModifiedKey
    RedisModule_StopTimer
    RedisModule_StringDMA
    RedisModule_StringPtrLen
    RedisModule_StringSet
    RedisModule_StringToLongLong
    RedisModule_SubscribeToServerEvent
    RedisModule_UnblockClient
    RedisModule_UnlinkKey
    RedisModule_UnregisterCommandFilter
    RedisModule_ValueLength
    RedisModule_WrongArity
    RedisModule_ZsetAdd
    RedisModule_ZsetFirstInScoreRange
    RedisModule_ZsetIncrby
    RedisModule_ZsetLastInScoreRange
    RedisModule_ZsetRangeCurrentElement
    RedisModule_ZsetRangeEndReached
    RedisModule_ZsetRangeNext
    RedisModule_ZsetRangePrev
    RedisModule_ZsetRangeStop
    RedisModule_ZsetRem
    RedisModule_ZsetScore
}

/// The API's return value for success.
#[allow(clippy::cast_possible_truncation, reason = "a small constant that the bindings widen")]
pub(super) const fn ok() -> c_int {
    raw::REDISMODULE_OK as c_int
}

pub(super) use {api, optional};
