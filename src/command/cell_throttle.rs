//! `CELL.THROTTLE key max_burst count period [quantity] [MS]`
//!
//! The generic cell rate algorithm: `count` cells per `period`, plus `max_burst` at once.

use std::ffi::CStr;

use redis_meter_core::time::{Micros, Nanos};

use crate::server::{Access, Arg, Change, Command, Context, Error, KeyUse, Keys, Kind, Spec, Str, Writable};
use crate::stats;
use crate::store::tat::Tat;
use redis_meter_core::answer::{Decision, Next, TooLong};
use redis_meter_core::gcra::{MAX_RATE, Quota, QuotaError};

use super::arguments::{integer, period};
use super::limiter::{Limiter, Take, too_long};

pub(crate) struct CellThrottle;

/// The same command under the name that redis-cell gave it.
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
            Arg::new(c"max_burst", Kind::Integer),
            Arg::new(c"count", Kind::Integer),
            Arg::new(c"period", Kind::Double),
            Arg::new(c"quantity", Kind::Integer).optional(),
            Arg::new(c"partial", Kind::Flag).token(c"PARTIAL").optional(),
            Arg::new(c"milliseconds", Kind::Flag).token(c"MS").optional(),
        ],
    };
    const NAME: &'static str = "CELL.THROTTLE";
    const RO_NAME: &'static CStr = c"cell.throttle_ro";
    const NUMBERS: usize = 3;

    type Policy = Quota;
    type State<'a, A: Access> = Tat<'a, A>;
    type Next = Nanos;

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
        summary: c"CELL.THROTTLE under the name that redis-cell gave it.",
        ..<CellThrottle as Limiter>::SPEC
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        Take::<CellThrottle>::call(ctx, arguments)
    }
}

/// `max_burst count period`
#[inline(always)]
pub(super) fn quota(numbers: &[Str<'_>]) -> Result<Quota, Error> {
    let [max_burst, count, length] = numbers else { return Err(Error::Arity) };
    let max_burst = integer(*max_burst, "max_burst", 0..=i64::MAX)?;
    let count = integer(*count, "count", 1..=i64::MAX)?;
    Quota::new(max_burst, count, period(*length, "period")?).map_err(|error| match error {
        QuotaError::TooFast => Error::refused(format!("count per period must be at most {MAX_RATE} a second")),
        QuotaError::TooLong => too_long(TooLong),
    })
}
