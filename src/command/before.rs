//! `key [BEFORE d]`, the arguments of METER.SEAL and METER.DROP.

use crate::server::{Arg, Error, Kind, Str};
use redis_meter_core::calendar::Day;

use super::arguments::{Options, date, is_keyword, set_once};

const GRAMMAR: &str = "[BEFORE d]";

/// BEFORE, as COMMAND DOCS describes it.
pub(crate) const ARG: Arg = Arg::new(c"date", Kind::Text).token(c"BEFORE").optional();

/// A key, and the date before which days are selected.
pub(crate) struct Before<'a> {
    pub(crate) key: Str<'a>,
    pub(crate) date: Option<Day>,
}

impl<'a> Before<'a> {
    pub(crate) fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let mut before = None;
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if !is_keyword(word, "BEFORE") {
                return Err(options.unknown(word));
            }
            let value = date(options.value("BEFORE")?, "BEFORE")?;
            set_once(&mut before, "BEFORE", value)?;
        }
        Ok(Self { key: *key, date: before })
    }
}
