//! `CELL.QUOTA key limit HOUR|DAY|WEEK|MONTH|YEAR [quantity] [ANCHOR date] [OFFSET ±hh:mm] [PARTIAL] [MS]`
//!
//! A calendar quota: `limit` cells in each unit of a local clock's calendar, which may begin on a billing date.

use std::ffi::CStr;

use redis_meter_core::answer::{Decision, Next, TooLong};
use redis_meter_core::calendar::Day;
use redis_meter_core::quota::{Calendar, MOST, Offset, Policy, Unit};
use redis_meter_core::time::Micros;
use redis_meter_core::window::Window;

use crate::server::{Access, Arg, Change, Context, Error, KeyUse, Keys, Kind, Shown, Spec, Str, Writable};
use crate::stats;
use crate::store::window::StoredWindow;

use super::arguments::{Options, date, integer, is_keyword, set_once};
use super::limiter::{Limiter, arg};

pub(crate) struct CellQuota;

/// The numbers and the options of a call.
pub(crate) struct Request {
    limit: i64,
    unit: Unit,
    anchor: Option<Day>,
    offset: Option<Offset>,
}

const UNITS: [(&str, Unit); 5] =
    [("HOUR", Unit::Hour), ("DAY", Unit::Day), ("WEEK", Unit::Week), ("MONTH", Unit::Month), ("YEAR", Unit::Year)];

impl Limiter for CellQuota {
    const SPEC: Spec = Spec {
        name: c"cell.quota",
        family: &stats::CELL,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: true,
        fewest: 3,
        summary: c"Takes cells from a quota per hour, day, week, month or year, which may begin on a billing date.",
        complexity: c"O(1)",
        since: c"0.2.0",
        arguments: &[
            Arg::KEY,
            arg::LIMIT,
            Arg::new(
                c"unit",
                Kind::OneOf(&[
                    Arg::new(c"hour", Kind::Flag).token(c"HOUR"),
                    Arg::new(c"day", Kind::Flag).token(c"DAY"),
                    Arg::new(c"week", Kind::Flag).token(c"WEEK"),
                    Arg::new(c"month", Kind::Flag).token(c"MONTH"),
                    Arg::new(c"year", Kind::Flag).token(c"YEAR"),
                ]),
            ),
            arg::QUANTITY.optional(),
            Arg::new(c"date", Kind::Text).token(c"ANCHOR").optional(),
            Arg::new(c"offset", Kind::Text).token(c"OFFSET").optional(),
            arg::PARTIAL,
            arg::MS,
        ],
    };
    const NAME: &'static str = "CELL.QUOTA";
    const RO_NAME: &'static CStr = c"cell.quota_ro";
    const NUMBERS: usize = 2;
    const OPTIONS: &'static str = "[quantity] [ANCHOR date] [OFFSET +hh:mm|-hh:mm] [PARTIAL] [MS]";

    type Policy = Request;
    type State<'a, A: Access> = StoredWindow<'a, A>;
    type Update = Window;

    fn policy(numbers: &[Str<'_>]) -> Result<Request, Error> {
        let [limit, unit] = numbers else { return Err(Error::Arity) };
        let limit = integer(*limit, "limit", 1..=MOST)?;
        let unit = UNITS.iter().find(|(name, _)| is_keyword(*unit, name)).map(|&(_, unit)| unit).ok_or_else(|| {
            Error::refused(format!("unit must be HOUR, DAY, WEEK, MONTH or YEAR, not {}", Shown(unit.bytes())))
        })?;
        Ok(Request { limit, unit, anchor: None, offset: None })
    }

    fn option(request: &mut Request, word: Str<'_>, options: &mut Options<'_, '_>) -> Result<bool, Error> {
        if is_keyword(word, "ANCHOR") {
            if request.unit == Unit::Hour {
                return Err(Error::refused("ANCHOR needs a unit of DAY or longer: hours begin on the hour"));
            }
            let anchor = date(options.value("ANCHOR")?, "ANCHOR")?;
            set_once(&mut request.anchor, "ANCHOR", anchor)?;
            return Ok(true);
        }
        if is_keyword(word, "OFFSET") {
            let text = options.value("OFFSET")?;
            let offset = Offset::parse(text.bytes()).ok_or_else(|| {
                Error::refused(format!(
                    "OFFSET must be from -23:59 to +23:59, such as +05:45, not {}",
                    Shown(text.bytes())
                ))
            })?;
            set_once(&mut request.offset, "OFFSET", offset)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn open<'a, A: Access>(ctx: Context<'a>, key: Str<'a>) -> Result<StoredWindow<'a, A>, Error> {
        StoredWindow::open(ctx, key, Self::NAME)
    }

    fn decide<A: Access>(
        request: &Request,
        window: &StoredWindow<'_, A>,
        now: Micros,
        n: i64,
    ) -> Result<Decision<Window>, TooLong> {
        let offset = request.offset.unwrap_or(Offset::UTC);
        // An anchor with HOUR was refused when it was read.
        let calendar = Calendar::new(request.unit, request.anchor, offset).map_err(|_| TooLong)?;
        Policy { limit: request.limit, calendar }.decide(window.value(), now.floor_millis(), n)
    }

    fn save<'a>(
        _request: &Request,
        window: StoredWindow<'a, Writable>,
        next: Next<Window>,
        _now: Micros,
    ) -> Result<Option<Change<'a>>, Error>
    where
        'a: 'a,
    {
        Ok(window.save(next))
    }
}
