//! The grammar that all commands share: what a number, a period or a date may look like, and options in any order. Each
//! error names the argument and says what would be right.

use std::ops::RangeInclusive;

use crate::server::{Error, Shown, Str};
use redis_meter_core::calendar::Day;
use redis_meter_core::number::{PeriodError, parse_integer, parse_period};
use redis_meter_core::time::{Millis, Nanos};

#[expect(clippy::cast_possible_wrap, reason = "a handful")]
const MOST_LEVELS: i64 = crate::store::path::MOST_LEVELS as i64;

/// The argument `name`, an integer within `range`.
#[inline(always)]
pub(crate) fn integer(text: Str<'_>, name: &str, range: RangeInclusive<i64>) -> Result<i64, Error> {
    match parse_integer(text.bytes()) {
        Some(number) if range.contains(&number) => Ok(number),
        _ => Err(no_integer(text, name, &range)),
    }
}

#[cold]
fn no_integer(text: Str<'_>, name: &str, range: &RangeInclusive<i64>) -> Error {
    let wanted = match (*range.start(), *range.end()) {
        (i64::MIN, i64::MAX) => "a 64-bit integer".to_owned(),
        (min, i64::MAX) => format!("a 64-bit integer, at least {min}"),
        (min, max) => format!("an integer from {min} to {max}"),
    };
    Error::refused(format!("{name} must be {wanted}, not {}", Shown(text.bytes())))
}

/// The argument `name`, a period in seconds.
#[inline(always)]
pub(crate) fn period(text: Str<'_>, name: &str) -> Result<Nanos, Error> {
    parse_period(text.bytes()).map_err(|error| no_period(text, name, error))
}

/// The error for a text that is not a period.
#[cold]
fn no_period(text: Str<'_>, name: &str, error: PeriodError) -> Error {
    let wanted = match error {
        PeriodError::Malformed => "a number of seconds, such as 60 or 0.25",
        PeriodError::TooPrecise => "seconds with at most nine digits after the point",
        PeriodError::Zero => "more than 0 seconds",
        PeriodError::TooLong => "at most 9223372036 seconds",
    };
    Error::refused(format!("{name} must be {wanted}, not {}", Shown(text.bytes())))
}

/// How long a call may block.
#[derive(Clone, Copy)]
pub(crate) enum Timeout {
    Never,
    After(Millis),
}

impl Timeout {
    /// The value of TIMEOUT; 0 blocks indefinitely.
    pub(crate) fn parse(text: Str<'_>) -> Result<Self, Error> {
        match parse_period(text.bytes()) {
            Ok(length) => Ok(Self::After(length.ceil_millis())),
            Err(PeriodError::Zero) => Ok(Self::Never),
            Err(error) => Err(no_period(text, "TIMEOUT", error)),
        }
    }

    /// Its length; `None` blocks indefinitely.
    pub(crate) fn length(self) -> Option<Millis> {
        match self {
            Self::Never => None,
            Self::After(length) => Some(length),
        }
    }
}

/// The argument `name`, a date.
pub(crate) fn date(text: Str<'_>, name: &str) -> Result<Day, Error> {
    Day::parse(text.bytes()).ok_or_else(|| {
        Error::refused(format!("{name} must be a date, such as 20220809 or 2022-08-09, not {}", Shown(text.bytes())))
    })
}

/// Whether `text` is this keyword, in any case.
pub(crate) fn is_keyword(text: Str<'_>, keyword: &str) -> bool {
    text.bytes().eq_ignore_ascii_case(keyword.as_bytes())
}

/// The options of a call: keywords in any order, each at most once.
pub(crate) struct Options<'s, 'a> {
    rest: std::slice::Iter<'s, Str<'a>>,
    /// The options that the command takes, for errors.
    grammar: &'static str,
}

impl<'s, 'a> Options<'s, 'a> {
    pub(crate) fn new(arguments: &'s [Str<'a>], grammar: &'static str) -> Self {
        Self { rest: arguments.iter(), grammar }
    }

    /// The next keyword.
    pub(crate) fn next(&mut self) -> Option<Str<'a>> {
        self.rest.next().copied()
    }

    /// The value of the keyword just read.
    pub(crate) fn value(&mut self, keyword: &str) -> Result<Str<'a>, Error> {
        self.next().ok_or_else(|| Error::refused(format!("{keyword} needs a value: {}", self.grammar)))
    }

    /// The error for a word that is not a keyword.
    pub(crate) fn unknown(&self, word: Str<'_>) -> Error {
        Error::refused(format!("unknown option {}: the options are {}", Shown(word.bytes()), self.grammar))
    }
}

/// The most bytes that the members of a path have together. Each is in the names of all keys below it, three bytes for
/// one at worst: much more would block the server.
const LONGEST_PATH: usize = 1 << 20;

/// The value of PATH: its depth, and as many members.
pub(crate) fn path<'a>(options: &mut Options<'_, 'a>) -> Result<Vec<Str<'a>>, Error> {
    let depth = integer(options.value("PATH")?, "the depth of PATH", 1..=MOST_LEVELS)?;
    let (mut members, mut length) = (Vec::new(), 0);
    for place in 1..=depth {
        let Some(member) = options.next() else {
            return Err(Error::refused(format!("PATH {depth} needs {depth} members, not {}", place - 1)));
        };
        if member.bytes().is_empty() {
            return Err(Error::refused(format!("member {place} of PATH is empty: give it a name")));
        }
        length += member.bytes().len();
        if length > LONGEST_PATH {
            return Err(Error::refused(format!(
                "the members of PATH have more than {LONGEST_PATH} bytes together: use shorter names"
            )));
        }
        members.push(member);
    }
    Ok(members)
}

/// Sets an option's value.
///
/// # Errors
/// The option was given before.
pub(crate) fn set_once<T>(place: &mut Option<T>, keyword: &str, value: T) -> Result<(), Error> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::refused(format!("{keyword} is given twice"))),
    }
}
