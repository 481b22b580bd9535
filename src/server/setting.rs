//! A configuration parameter: an argument of `loadmodule` on every server, and on those that have module configs also a
//! line of redis.conf and, unless it is read at load only, of `CONFIG SET`.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_void};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};

use redis_module::raw::{self, RedisModuleString};

use super::api::{ok, optional};
use super::context::Context;
use super::error::Shown;
use super::guard::guard;
use super::string::Str;

enum Values {
    Number(RangeInclusive<i64>),
    YesOrNo,
}

/// One parameter, and its value now.
pub(crate) struct Setting {
    name: &'static CStr,
    values: Values,
    load_only: bool,
    default: i64,
    value: AtomicI64,
}

impl Setting {
    /// A whole number that can be changed while the server runs.
    pub(crate) const fn number(name: &'static CStr, default: i64, range: RangeInclusive<i64>) -> Self {
        Self { name, values: Values::Number(range), load_only: false, default, value: AtomicI64::new(default) }
    }

    /// A `yes` or `no`, by default `no`, that can be changed while the server runs.
    pub(crate) const fn switch(name: &'static CStr) -> Self {
        Self { name, values: Values::YesOrNo, load_only: false, default: 0, value: AtomicI64::new(0) }
    }

    /// A `yes` or `no`, by default `no`, that is read when the module is loaded.
    pub(crate) const fn load_switch(name: &'static CStr) -> Self {
        Self { name, values: Values::YesOrNo, load_only: true, default: 0, value: AtomicI64::new(0) }
    }

    /// The value; 1 or 0 for a yes or no.
    pub(crate) fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Whether a yes or no is yes.
    pub(crate) fn is_on(&self) -> bool {
        self.get() != 0
    }

    fn set(&self, value: i64) {
        self.value.store(value, Ordering::Relaxed);
    }

    fn name(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    fn parse(&self, text: Str<'_>) -> Option<i64> {
        match &self.values {
            Values::Number(range) => text.integer().filter(|number| range.contains(number)),
            Values::YesOrNo if text.bytes().eq_ignore_ascii_case(b"yes") => Some(1),
            Values::YesOrNo if text.bytes().eq_ignore_ascii_case(b"no") => Some(0),
            Values::YesOrNo => None,
        }
    }

    fn wanted(&self) -> String {
        match &self.values {
            Values::Number(range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Values::YesOrNo => "yes or no".to_owned(),
        }
    }

    fn register(&'static self, ctx: Context<'_>) -> bool {
        let flags = if self.load_only { raw::REDISMODULE_CONFIG_IMMUTABLE } else { raw::REDISMODULE_CONFIG_DEFAULT };
        let name = self.name.as_ptr();
        let this = (&raw const *self).cast_mut().cast::<c_void>();
        let status = match &self.values {
            Values::Number(range) => {
                let Some(register) = optional!(RedisModule_RegisterNumericConfig) else { return false };
                let (default, min, max) = (self.get(), *range.start(), *range.end());
                // SAFETY: the module is being loaded with this context; the callbacks take back `this`, which is
                // static.
                unsafe {
                    register(ctx.raw(), name, default, flags, min, max, Some(get_number), Some(set_number), None, this)
                }
            }
            Values::YesOrNo => {
                let Some(register) = optional!(RedisModule_RegisterBoolConfig) else { return false };
                let default = c_int::from(self.is_on());
                // SAFETY: as above.
                unsafe { register(ctx.raw(), name, default, flags, Some(get_switch), Some(set_switch), None, this) }
            }
        };
        status == ok()
    }
}

/// Reads `loadmodule`'s arguments, `name value …`, into the settings.
///
/// # Errors
/// A sentence for the log.
pub(super) fn read_arguments(settings: &[&'static Setting], arguments: &[Str<'_>]) -> Result<(), String> {
    for setting in settings {
        // A module that is loaded again may find its statics unchanged.
        setting.set(setting.default);
    }
    let mut seen: Vec<&CStr> = Vec::new();
    for pair in arguments.chunks(2) {
        let setting =
            settings.iter().find(|setting| setting.name.to_bytes().eq_ignore_ascii_case(pair[0].bytes())).ok_or_else(
                || format!("unknown argument {}: the arguments are {}", Shown(pair[0].bytes()), grammar(settings)),
            )?;
        let name = setting.name();
        let [_, text] = pair else {
            return Err(format!("{name} needs a value: {}", setting.wanted()));
        };
        if seen.contains(&setting.name) {
            return Err(format!("{name} is given twice"));
        }
        seen.push(setting.name);
        let value = setting
            .parse(*text)
            .ok_or_else(|| format!("{name} must be {}, not {}", setting.wanted(), Shown(text.bytes())))?;
        setting.set(value);
    }
    Ok(())
}

fn grammar(settings: &[&Setting]) -> String {
    let named: Vec<String> = settings
        .iter()
        .map(|setting| match setting.values {
            Values::Number(_) => format!("{} number", setting.name()),
            Values::YesOrNo => format!("{} yes|no", setting.name()),
        })
        .collect();
    named.join(", ")
}

/// Registers the settings with a server that has module configs, with their current values as defaults, and applies the
/// values of its configuration file or of `MODULE LOADEX`. Does nothing on older servers.
///
/// # Errors
/// A sentence for the log; the server has logged the cause.
pub(super) fn register_all(settings: &[&'static Setting], ctx: Context<'_>) -> Result<(), String> {
    let Some(load_configs) = optional!(RedisModule_LoadConfigs) else { return Ok(()) };
    for setting in settings {
        if !setting.register(ctx) {
            return Err(format!("the server refused the config {}", setting.name()));
        }
    }
    // SAFETY: the module is being loaded with this context, and its configs are registered.
    if unsafe { load_configs(ctx.raw()) } == ok() {
        Ok(())
    } else {
        Err("the server refused a value of the module's configs".to_owned())
    }
}

/// # Safety
/// `this` is what [`Setting::register`] passed.
unsafe fn setting(this: *mut c_void) -> &'static Setting {
    // SAFETY: `register` passed a `&'static Setting`.
    unsafe { &*this.cast::<Setting>() }
}

unsafe extern "C" fn get_number(_name: *const c_char, this: *mut c_void) -> c_longlong {
    // SAFETY: registered with `this`.
    guard(0, || unsafe { setting(this) }.get())
}

unsafe extern "C" fn set_number(
    _name: *const c_char,
    value: c_longlong,
    this: *mut c_void,
    _error: *mut *mut RedisModuleString,
) -> c_int {
    // The server has checked the range.
    // SAFETY: registered with `this`.
    guard((), || unsafe { setting(this) }.set(value));
    ok()
}

unsafe extern "C" fn get_switch(_name: *const c_char, this: *mut c_void) -> c_int {
    // SAFETY: registered with `this`.
    guard(0, || c_int::from(unsafe { setting(this) }.is_on()))
}

unsafe extern "C" fn set_switch(
    _name: *const c_char,
    value: c_int,
    this: *mut c_void,
    _error: *mut *mut RedisModuleString,
) -> c_int {
    // SAFETY: registered with `this`.
    guard((), || unsafe { setting(this) }.set(i64::from(value != 0)));
    ok()
}
