//! `CELL.THROTTLE key max_burst count period [quantity] [MS]`
//!
//! The generic cell rate algorithm: `count` cells per `period`, plus `max_burst` at once.

use crate::algorithm::answer::{Answer, Unit};
use crate::algorithm::gcra::{MAX_RATE, Quota, QuotaError};
use crate::algorithm::number::parse_integer;
use crate::server::{Arg, Command, Context, Error, KeyUse, Kind, Shown, Spec, Str};
use crate::stats;
use crate::store::tat::Tat;

use super::arguments::{Options, integer, is_keyword, period, set_once};

pub(crate) struct CellThrottle;

/// The same command under the name that redis-cell gave it.
pub(crate) struct ClThrottle;

const SPEC: Spec = Spec {
    name: c"cell.throttle",
    family: &stats::CELL,
    key: KeyUse::Update,
    fast: true,
    fewest: 4,
    summary: c"Takes cells from a rate limiter (GCRA): count per period, plus max_burst at once.",
    complexity: c"O(1)",
    since: c"0.1.0",
    arguments: &[
        Arg::new(c"max_burst", Kind::Integer),
        Arg::new(c"count", Kind::Integer),
        Arg::new(c"period", Kind::Double),
        Arg::new(c"quantity", Kind::Integer).optional(),
        Arg::new(c"milliseconds", Kind::Flag).token(c"MS").optional(),
    ],
};

impl Command for CellThrottle {
    const SPEC: Spec = SPEC;

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let Request { key, quota, quantity, unit } = Request::parse(arguments)?;

        let now = ctx.now().nanos();
        let tat = Tat::open(ctx, key)?;

        let decision = quota.decide(tat.value(), now, quantity).map_err(quota_error)?;

        tat.save(decision.next, now, quota.tolerance());
        count_cells(&decision.answer, quantity);

        ctx.reply_integers(decision.answer.integers(unit));
        Ok(())
    }
}

impl Command for ClThrottle {
    const SPEC: Spec =
        Spec { name: c"cl.throttle", summary: c"CELL.THROTTLE under the name that redis-cell gave it.", ..SPEC };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        CellThrottle::call(ctx, arguments)
    }
}

struct Request<'a> {
    key: Str<'a>,
    quota: Quota,
    quantity: i64,
    unit: Unit,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, max_burst, count, period_text, rest @ ..] = arguments else { return Err(Error::Arity) };
        let max_burst = integer(*max_burst, "max_burst", 0..=i64::MAX)?;
        let count = integer(*count, "count", 1..=i64::MAX)?;
        let quota = Quota::new(max_burst, count, period(*period_text)?).map_err(quota_error)?;
        let (quantity, unit) = quantity_and_unit(rest)?;
        Ok(Self { key: *key, quota, quantity, unit })
    }
}

/// `[quantity] [MS]`
fn quantity_and_unit(arguments: &[Str<'_>]) -> Result<(i64, Unit), Error> {
    let (quantity, options) = match arguments {
        [first, options @ ..] if !is_keyword(*first, "MS") => {
            let quantity = parse_integer(first.bytes()).ok_or_else(|| {
                let shown = Shown(first.bytes());
                Error::refused(format!(
                    "quantity must be an integer of 64 bits, not {shown}; the option after it is MS"
                ))
            })?;
            (quantity, options)
        }
        options => (1, options),
    };
    let mut unit = None;
    let mut options = Options::new(options, "MS");
    while let Some(word) = options.next() {
        if is_keyword(word, "MS") {
            set_once(&mut unit, "MS", Unit::Millis)?;
        } else {
            return Err(options.unknown(word));
        }
    }
    Ok((quantity, unit.unwrap_or(Unit::Seconds)))
}

fn quota_error(error: QuotaError) -> Error {
    match error {
        QuotaError::TooFast => Error::refused(format!("count per period must be at most {MAX_RATE} a second")),
        QuotaError::TooLong => Error::refused(
            "max_burst + 1 cells at this rate must drain before the year 2262: lower max_burst or period, or raise count",
        ),
    }
}

/// Counts what was asked for in INFO.
fn count_cells(answer: &Answer, quantity: i64) {
    if let Ok(cells) = u64::try_from(quantity) {
        let counter = if answer.limited { &stats::CELLS_REFUSED } else { &stats::CELLS_ALLOWED };
        counter.add(cells);
    }
}
