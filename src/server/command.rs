//! Commands: how they are registered, and how the server calls them.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::{ptr, slice};

use redis_module::raw::{self, RedisModuleCommandArg, RedisModuleCtx, RedisModuleString};

use super::api::{api, ok, optional};
use super::context::Context;
use super::error::Error;
use super::guard::{guard, guard_command};
use super::info::Counter;
use super::log;
use super::setting::Setting;
use super::string::Str;

/// A command: its registration, and its code.
pub(crate) trait Command {
    const SPEC: Spec;

    /// Runs it. `arguments` are those after the command's name.
    ///
    /// # Errors
    /// The error to reply, if nothing has been changed and nothing replied.
    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error>;
}

/// The commands of one prefix.
pub(crate) struct Family {
    /// The ACL category, without `@`.
    pub(crate) category: &'static CStr,
    /// Counts the calls that returned an error.
    pub(crate) bad_calls: &'static Counter,
}

/// The registration of a command whose keys begin with its first argument.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) name: &'static CStr,
    pub(crate) family: &'static Family,
    pub(crate) key: KeyUse,
    pub(crate) keys: Keys,
    /// Whether its time does not depend on the stored data.
    pub(crate) fast: bool,
    /// The fewest arguments, without the name.
    pub(crate) fewest: c_int,
    pub(crate) summary: &'static CStr,
    pub(crate) complexity: &'static CStr,
    pub(crate) since: &'static CStr,
    /// Its arguments, in order.
    pub(crate) arguments: &'static [Arg],
}

/// The positions of a command's keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// None.
    None,
    /// One key, the first argument.
    First,
    /// The first argument and every `n`th after it; `n` counts the arguments that belong to a key, with it.
    Every(c_int),
    /// The first two arguments, and the one after a keyword that may come from this position on.
    TwoAndAfter(&'static CStr, c_int),
}

impl Keys {
    /// The first key; the last, counted from the end if negative; and the step from one to the next.
    fn range(self) -> (c_int, c_int, c_int) {
        match self {
            Self::None => (0, 0, 0),
            Self::First => (1, 1, 1),
            Self::Every(step) => (1, -step, step),
            Self::TwoAndAfter(..) => (1, 2, 1),
        }
    }

    /// Reports the positions of a call's keys to the server, if no range describes them.
    fn report(self, ctx: Context<'_>, words: &[Str<'_>]) {
        let Self::TwoAndAfter(keyword, from) = self else { return };
        let is_keyword = |word: &Str<'_>| word.bytes().eq_ignore_ascii_case(keyword.to_bytes());
        let from = usize::try_from(from).unwrap_or_default();
        let after = words.iter().skip(from).position(is_keyword).map(|place| from + place + 1);
        for position in [Some(1), Some(2), after].into_iter().flatten().filter(|&position| position < words.len()) {
            let key_at_pos = api!(RedisModule_KeyAtPos);
            // SAFETY: the server asks for the positions with this context.
            unsafe { key_at_pos(ctx.raw(), c_int::try_from(position).unwrap_or(c_int::MAX)) };
        }
    }
}

/// How a command uses its keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyUse {
    /// It has none, and returns names of keys: only for administrators.
    None,
    /// Reads it only.
    Read,
    /// Reads and changes it, and may need more memory.
    Update,
    /// Reads and changes it, and frees memory.
    Consume,
}

/// One argument, as COMMAND DOCS describes it.
pub(crate) struct Arg {
    pub(crate) name: &'static CStr,
    pub(crate) kind: Kind,
    /// The keyword before it, if any.
    pub(crate) token: Option<&'static CStr>,
    pub(crate) optional: bool,
    /// Whether it may be given several times.
    pub(crate) multiple: bool,
}

/// The type of an argument.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Key,
    Integer,
    Double,
    Text,
    UnixTime,
    /// A token alone.
    Flag,
    /// All of these, in order.
    Block(&'static [Arg]),
    /// One of these.
    OneOf(&'static [Arg]),
}

impl Arg {
    /// The key, as most commands begin.
    pub(crate) const KEY: Self = Self::new(c"key", Kind::Key);

    /// A positional argument that must be there.
    pub(crate) const fn new(name: &'static CStr, kind: Kind) -> Self {
        Self { name, kind, token: None, optional: false, multiple: false }
    }

    /// The same, after a keyword.
    pub(crate) const fn token(self, token: &'static CStr) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The same, but it may be given several times.
    pub(crate) const fn multiple(self) -> Self {
        Self { multiple: true, ..self }
    }

    /// The same, but it may be left out.
    pub(crate) const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// A command as the front door lists it.
pub(crate) struct Registration {
    spec: &'static Spec,
    entry: unsafe extern "C" fn(*mut RedisModuleCtx, *mut *mut RedisModuleString, c_int) -> c_int,
    /// Registered only if this is on; then another module may have registered the name before.
    only_if: Option<&'static Setting>,
    read_only: Option<&'static Registration>,
}

impl Registration {
    /// The command `C`.
    pub(crate) const fn of<C: Command>() -> Self {
        Self { spec: &C::SPEC, entry: entry::<C>, only_if: None, read_only: None }
    }

    /// The same, if a setting is on.
    pub(crate) const fn only_if(self, setting: &'static Setting) -> Self {
        Self { only_if: Some(setting), ..self }
    }

    /// The command `C` and its read-only variant `Ro`.
    pub(crate) const fn pair<C: Command, Ro: Command>() -> Self {
        Self { read_only: Some(&const { Self::of::<Ro>() }), ..Self::of::<C>() }
    }

    /// Registers it.
    ///
    /// # Errors
    /// A sentence for the log.
    pub(super) fn register(&self, ctx: Context<'_>) -> Result<(), String> {
        if self.only_if.is_some_and(|setting| !setting.is_on()) {
            return Ok(());
        }
        let spec = self.spec;
        let name = spec.name.to_string_lossy();
        let mut flags = match spec.key {
            KeyUse::None => vec!["admin"],
            KeyUse::Read => vec!["readonly"],
            KeyUse::Update => vec!["write", "deny-oom"],
            KeyUse::Consume => vec!["write"],
        };
        flags.extend(spec.fast.then_some("fast"));
        flags.extend(matches!(spec.keys, Keys::TwoAndAfter(..)).then_some("getkeys-api"));
        let flags = CString::new(flags.join(" ")).unwrap_or_default();
        let (first_key, last_key, key_step) = spec.keys.range();
        let create = api!(RedisModule_CreateCommand);
        let (name_ptr, entry) = (spec.name.as_ptr(), Some(self.entry));
        // SAFETY: the module is being loaded with this context; name and flags are C strings; the entry lives as long
        // as the module.
        let created = unsafe { create(ctx.raw(), name_ptr, entry, flags.as_ptr(), first_key, last_key, key_step) };
        if created != ok() {
            let why = format!("another module already has the command {name}");
            return match self.only_if {
                Some(_) => {
                    log::warning(ctx, &format!("{why}; it stays with that module"));
                    Ok(())
                }
                None => Err(why),
            };
        }
        describe(ctx, spec)?;
        self.read_only.map_or(Ok(()), |read_only| read_only.register(ctx))
    }
}

/// Adds the ACL category of a family, on servers that let modules do so.
pub(super) fn add_category(ctx: Context<'_>, family: &Family) {
    if let Some(add) = optional!(RedisModule_AddACLCategory) {
        // SAFETY: the module is being loaded with this context; the name is a C string, which the server copies. It
        // fails if the category exists already, which is harmless.
        unsafe { add(ctx.raw(), family.category.as_ptr()) };
    }
}

/// Gives the server the documentation, key specification and ACL category of a command, as far as it supports them.
fn describe(ctx: Context<'_>, spec: &Spec) -> Result<(), String> {
    let Some(get_command) = optional!(RedisModule_GetCommand) else { return Ok(()) };
    // SAFETY: the context is that of the load, the name a C string.
    let command = unsafe { get_command(ctx.raw(), spec.name.as_ptr()) };
    if command.is_null() {
        return Err(format!("the server does not know the new command {}", spec.name.to_string_lossy()));
    }

    if let Some(set_categories) = optional!(RedisModule_SetCommandACLCategories) {
        // The server derives none from the flags of a module's command.
        let mut categories = match spec.key {
            KeyUse::None => vec!["admin", "dangerous"],
            KeyUse::Read => vec!["read"],
            KeyUse::Update | KeyUse::Consume => vec!["write"],
        };
        categories.push(if spec.fast { "fast" } else { "slow" });
        if optional!(RedisModule_AddACLCategory).is_some() {
            categories.extend(spec.family.category.to_str());
        }
        let categories = CString::new(categories.join(" ")).unwrap_or_default();
        // SAFETY: the command was just found; the categories are a C string.
        if unsafe { set_categories(command, categories.as_ptr()) } != ok() {
            return Err(format!("the server refused the ACL categories of {}", spec.name.to_string_lossy()));
        }
    }

    let Some(set_info) = optional!(RedisModule_SetCommandInfo) else { return Ok(()) };
    let version = raw::RedisModuleCommandInfoVersion {
        version: 1,
        sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
        sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
        sizeof_arg: size_of::<RedisModuleCommandArg>(),
    };
    let key_flags = match spec.key {
        KeyUse::None => 0,
        KeyUse::Read => raw::REDISMODULE_CMD_KEY_RO | raw::REDISMODULE_CMD_KEY_ACCESS,
        KeyUse::Update | KeyUse::Consume => {
            raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_ACCESS | raw::REDISMODULE_CMD_KEY_UPDATE
        }
    };
    // SAFETY: a structure of numbers and pointers, for which all zeroes mean "absent".
    let mut key_specs: [raw::RedisModuleCommandKeySpec; 3] = unsafe { std::mem::zeroed() };
    if spec.keys != Keys::None {
        key_specs[0].flags = u64::from(key_flags);
        key_specs[0].begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
        key_specs[0].bs.index.pos = 1;
        key_specs[0].find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
        // Relative to the first key, unless negative.
        let (_, last_key, key_step) = spec.keys.range();
        key_specs[0].fk.range.lastkey = if last_key > 0 { last_key - 1 } else { last_key };
        key_specs[0].fk.range.keystep = key_step;
    }

    if let Keys::TwoAndAfter(keyword, from) = spec.keys {
        key_specs[1].flags = u64::from(raw::REDISMODULE_CMD_KEY_RW | raw::REDISMODULE_CMD_KEY_INSERT);
        key_specs[1].begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_KEYWORD;
        key_specs[1].bs.keyword.keyword = keyword.as_ptr();
        key_specs[1].bs.keyword.startfrom = from;
        key_specs[1].find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
        key_specs[1].fk.range.keystep = 1;
    }

    let mut kept = Vec::new();
    let mut arguments = raw_arguments(spec.arguments, &mut kept);
    let info = raw::RedisModuleCommandInfo {
        version: &raw const version,
        summary: spec.summary.as_ptr(),
        complexity: spec.complexity.as_ptr(),
        since: spec.since.as_ptr(),
        history: ptr::null_mut(),
        tips: ptr::null(),
        arity: -(1 + spec.fewest),
        key_specs: key_specs.as_mut_ptr(),
        args: arguments.as_mut_ptr(),
    };
    // SAFETY: the server copies what `info` points to, all of which lives until the call returns; the lists end with
    // an element of zeroes.
    if unsafe { set_info(command, &raw const info) } == ok() {
        Ok(())
    } else {
        Err(format!("the server refused the description of {}", spec.name.to_string_lossy()))
    }
}

/// The arguments as the API wants them: a list that ends with an element of zeroes. Nested lists are put into `kept`,
/// which must outlive the use of the list.
fn raw_arguments(arguments: &[Arg], kept: &mut Vec<Vec<RedisModuleCommandArg>>) -> Vec<RedisModuleCommandArg> {
    let mut list: Vec<_> = arguments.iter().map(|argument| raw_argument(argument, kept)).collect();
    // SAFETY: a structure of numbers and pointers.
    list.push(unsafe { std::mem::zeroed() });
    list
}

fn raw_argument(argument: &Arg, kept: &mut Vec<Vec<RedisModuleCommandArg>>) -> RedisModuleCommandArg {
    let mut nested = |arguments| {
        let mut list = raw_arguments(arguments, kept);
        let start = list.as_mut_ptr();
        kept.push(list);
        start
    };
    let (code, subargs) = match argument.kind {
        Kind::Key => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY, ptr::null_mut()),
        Kind::Integer => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER, ptr::null_mut()),
        Kind::Double => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_DOUBLE, ptr::null_mut()),
        Kind::Text => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING, ptr::null_mut()),
        Kind::UnixTime => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_UNIX_TIME, ptr::null_mut()),
        Kind::Flag => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN, ptr::null_mut()),
        Kind::Block(arguments) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK, nested(arguments)),
        Kind::OneOf(arguments) => (raw::RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF, nested(arguments)),
    };
    let code: c_uint = code;
    RedisModuleCommandArg {
        name: argument.name.as_ptr(),
        type_: code,
        key_spec_index: match argument.kind {
            // A key after a keyword is that of the second specification.
            Kind::Key => c_int::from(argument.token.is_some()),
            _ => -1,
        },
        token: argument.token.map_or(ptr::null::<c_char>(), CStr::as_ptr),
        summary: ptr::null(),
        since: ptr::null(),
        flags: (if argument.optional { raw::REDISMODULE_CMD_ARG_OPTIONAL.cast_signed() } else { 0 })
            | (if argument.multiple { raw::REDISMODULE_CMD_ARG_MULTIPLE.cast_signed() } else { 0 }),
        deprecated_since: ptr::null(),
        subargs,
        display_text: ptr::null(),
    }
}

/// The callback of the command `C`.
///
/// # Safety
/// Only the server may call it, with the context and the arguments of a command.
unsafe extern "C" fn entry<C: Command>(
    ctx: *mut RedisModuleCtx,
    argv: *mut *mut RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: the server passed it, for this call.
    let ctx = unsafe { Context::from_raw(ctx) };
    let argc = usize::try_from(argc).unwrap_or_default();
    // SAFETY: `argv` holds `argc` live strings for this call, and `Str` is laid out as the pointer it wraps.
    let arguments = unsafe { slice::from_raw_parts(argv.cast::<Str<'_>>(), argc) };
    if matches!(C::SPEC.keys, Keys::TwoAndAfter(..)) && ctx.asks_for_keys() {
        guard((), || C::SPEC.keys.report(ctx, arguments));
        return ok();
    }
    if let Err(error) = guard_command(|| C::call(ctx, &arguments[1..])) {
        C::SPEC.family.bad_calls.add(1);
        error.reply(ctx);
    }
    ok()
}
