//! `CELL.SLIDE key limit period [quantity] [MS]`
//!
//! The sliding-window counter: two counts estimate how many cells were taken in the last `period`.

use std::ffi::CStr;

use redis_meter_core::time::Micros;

use crate::server::{Access, Arg, Change, Context, Error, KeyUse, Keys, Spec, Str, Writable};
use crate::stats;
use crate::store::slide::StoredSlide;
use redis_meter_core::answer::{Decision, Next, TooLong};
use redis_meter_core::slide::{Policy, Slide};

use super::arguments::{integer, period};
use super::limiter::{Limiter, arg};

pub(crate) struct CellSlide;

impl Limiter for CellSlide {
    const SPEC: Spec = Spec {
        name: c"cell.slide",
        family: &stats::CELL,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: true,
        fewest: 3,
        summary: c"Takes cells from a sliding window that is estimated from two counts.",
        complexity: c"O(1)",
        since: c"0.1.0",
        arguments: &[Arg::KEY, arg::LIMIT, arg::PERIOD, arg::QUANTITY.optional(), arg::PARTIAL, arg::MS],
    };
    const NAME: &'static str = "CELL.SLIDE";
    const RO_NAME: &'static CStr = c"cell.slide_ro";
    const NUMBERS: usize = 2;

    type Policy = Policy;
    type State<'a, A: Access> = StoredSlide<'a, A>;
    type Update = Slide;

    fn policy(numbers: &[Str<'_>]) -> Result<Policy, Error> {
        let [limit, length] = numbers else { return Err(Error::Arity) };
        Ok(Policy { limit: integer(*limit, "limit", 1..=i64::MAX)?, period: period(*length, "period")? })
    }

    fn open<'a, A: Access>(ctx: Context<'a>, key: Str<'a>) -> Result<StoredSlide<'a, A>, Error> {
        StoredSlide::open(ctx, key)
    }

    fn decide<A: Access>(
        policy: &Policy,
        slide: &StoredSlide<'_, A>,
        now: Micros,
        n: i64,
    ) -> Result<Decision<Slide>, TooLong> {
        policy.decide(slide.value(), now.nanos(), n)
    }

    fn save<'a>(
        _policy: &Policy,
        slide: StoredSlide<'a, Writable>,
        next: Next<Slide>,
        _now: Micros,
    ) -> Result<Option<Change<'a>>, Error>
    where
        'a: 'a,
    {
        Ok(slide.save(next))
    }
}
