//! `CELL.THROTTLE key max_burst count period [quantity] [MS]`
//!
//! The generic cell rate algorithm: `count` cells per `period`, plus `max_burst` at once.

use std::ffi::CStr;
use std::ops::RangeInclusive;

use redis_meter_core::time::{Micros, Nanos};

use crate::server::{Access, Arg, Change, Command, Context, Error, KeyUse, Keys, Spec, Str, Writable, key_changed};
use crate::store::tat::Tat;
use crate::{refusals, stats};
use redis_meter_core::answer::{Answer, Decision, Next, TooLong, Unit};
use redis_meter_core::gcra::{MAX_RATE, Quota, QuotaError};
use redis_meter_core::number::{parse_natural, parse_period};

use super::arguments::{Options, integer, is_keyword, period};
use super::limiter::{Limiter, arg, count_cells, too_long};

pub(crate) struct CellThrottle;

/// The command of redis-cell, on the same state: where CELL.THROTTLE differs, it behaves as redis-cell does, except
/// where that crashes, overflows, admits too much or drains a limiter at a restart.
pub(crate) struct ClThrottle;

impl Limiter for CellThrottle {
    const SPEC: Spec = Spec {
        name: c"cell.throttle",
        family: &stats::CELL,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: true,
        fewest: 4,
        summary: c"Takes cells from a rate limiter (GCRA): count per period, plus max_burst at once.",
        complexity: c"O(1)",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            arg::MAX_BURST,
            arg::COUNT,
            arg::PERIOD,
            arg::QUANTITY.optional(),
            arg::PARTIAL,
            arg::MS,
        ],
    };
    const NAME: &'static str = "CELL.THROTTLE";
    const RO_NAME: &'static CStr = c"cell.throttle_ro";
    const NUMBERS: usize = 3;

    type Policy = Quota;
    type State<'a, A: Access> = Tat<'a, A>;
    type Update = Nanos;

    #[inline(always)]
    fn policy(numbers: &[Str<'_>]) -> Result<Quota, Error> {
        quota(numbers)
    }

    #[inline(always)]
    fn open<'a, A: Access>(ctx: Context<'a>, key: Str<'a>) -> Result<Tat<'a, A>, Error> {
        Tat::open(ctx, key)
    }

    #[inline(always)]
    fn decide<A: Access>(
        quota: &Quota,
        tat: &Tat<'_, A>,
        now: Micros,
        quantity: i64,
    ) -> Result<Decision<Nanos>, TooLong> {
        quota.decide(tat.value(), now.nanos(), quantity)
    }

    #[inline(always)]
    fn save<'a>(
        quota: &Quota,
        tat: Tat<'a, Writable>,
        next: Next<Nanos>,
        now: Micros,
    ) -> Result<Option<Change<'a>>, Error>
    where
        'a: 'a,
    {
        Ok(tat.save(next, now.nanos(), quota.tolerance()))
    }
}

impl Command for ClThrottle {
    const SPEC: Spec = Spec {
        name: c"cl.throttle",
        summary: c"Takes cells from a rate limiter as redis-cell does: two policies may share a key.",
        arguments: &[Arg::KEY, arg::MAX_BURST, arg::COUNT, arg::PERIOD, arg::QUANTITY.optional(), arg::MS],
        ..<CellThrottle as Limiter>::SPEC
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let [key, max_burst, count, length, rest @ ..] = arguments else { return Err(Error::Arity) };
        let quota = quota_of(
            lenient_integer(*max_burst, "max_burst", -1..=i64::MAX)?,
            lenient_integer(*count, "count", 1..=i64::MAX)?,
            lenient_period(*length)?,
        )?;
        let (quantity, unit) = match rest {
            [] => (1, Unit::Seconds),
            [word] if is_keyword(*word, "MS") => (1, Unit::Millis),
            [quantity, options @ ..] => {
                let quantity = lenient_integer(*quantity, "quantity", i64::MIN..=i64::MAX)?;
                match options {
                    [] => (quantity, Unit::Seconds),
                    [word] if is_keyword(*word, "MS") => (quantity, Unit::Millis),
                    [word, ..] => return Err(Options::new(options, "MS").unknown(*word)),
                }
            }
        };

        let now = ctx.now();
        let tat = Tat::<Writable>::open(ctx, *key)?;

        let Decision { answer, next } = quota.decide_uncut(tat.value(), now.nanos(), quantity).map_err(too_long)?;

        if let Some(change) = tat.save(next, now.nanos(), quota.tolerance()) {
            change.tell(ctx);
            if quantity < 0 {
                key_changed(ctx, *key);
            }
        }
        count_cells(&answer, quantity, None);
        if answer.limited && quantity > 0 {
            refusals::record(ctx, *key, "CL.THROTTLE");
        }

        ctx.reply_integers(integers(&answer, unit));
        Ok(())
    }
}

/// The five integers of redis-cell's reply: its spans are whole milliseconds, rounded down.
fn integers(answer: &Answer, unit: Unit) -> [i64; 5] {
    let whole_millis = |span: Nanos| span.floor_millis().nanos();
    let answer = match unit {
        Unit::Millis => *answer,
        Unit::Seconds => Answer {
            retry_after: answer.retry_after.map(whole_millis),
            reset_after: whole_millis(answer.reset_after),
            ..*answer
        },
    };
    answer.integers(unit)
}

/// An integer that may have a leading `+` or zeros, as redis-cell takes it.
fn lenient_integer(text: Str<'_>, name: &str, range: RangeInclusive<i64>) -> Result<i64, Error> {
    let (is_negative, digits) = match text.bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let number = parse_natural(without_zeros(digits)).map(|number| if is_negative { -number } else { number });
    match number.filter(|number| range.contains(number)) {
        Some(number) => Ok(number),
        // The usual error, or the one number whose magnitude does not fit.
        None => integer(text, name, range),
    }
}

/// A period that may have a leading `+` or zeros.
fn lenient_period(text: Str<'_>) -> Result<Nanos, Error> {
    let digits = text.bytes().strip_prefix(b"+").unwrap_or(text.bytes());
    parse_period(without_zeros(digits)).or_else(|_| period(text, "period"))
}

/// The number without leading zeros; a zero that stands alone or before a point stays.
fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros =
        digits.iter().zip(digits.iter().skip(1)).take_while(|(zero, next)| **zero == b'0' && next.is_ascii_digit());
    &digits[zeros.count()..]
}

/// `max_burst count period`
#[inline(always)]
pub(super) fn quota(numbers: &[Str<'_>]) -> Result<Quota, Error> {
    let [max_burst, count, length] = numbers else { return Err(Error::Arity) };
    let max_burst = integer(*max_burst, "max_burst", 0..=i64::MAX)?;
    let count = integer(*count, "count", 1..=i64::MAX)?;
    quota_of(max_burst, count, period(*length, "period")?)
}

#[inline(always)]
fn quota_of(max_burst: i64, count: i64, period: Nanos) -> Result<Quota, Error> {
    Quota::new(max_burst, count, period).map_err(|error| match error {
        QuotaError::TooFast => Error::refused(format!("count per period must be at most {MAX_RATE} a second")),
        QuotaError::TooLong => too_long(TooLong),
    })
}
