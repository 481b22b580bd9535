//! `CELL.SLIDE key limit period [quantity] [MS]`
//!
//! The sliding-window counter: two counts estimate how many cells the last `period` has seen.

use std::ffi::CStr;

use crate::server::{Access, Arg, Context, Error, KeyUse, Keys, Kind, Spec, Str};
use crate::stats;
use crate::store::slide::StoredSlide;
use redis_meter_core::answer::{Decision, Next, TooLong};
use redis_meter_core::slide::{Policy, Slide};
use redis_meter_core::time::Micros;

use super::arguments::{integer, period};
use super::limiter::Limiter;

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
        arguments: &[
            Arg::KEY,
            Arg::new(c"limit", Kind::Integer),
            Arg::new(c"period", Kind::Double),
            Arg::new(c"quantity", Kind::Integer).optional(),
            Arg::new(c"milliseconds", Kind::Flag).token(c"MS").optional(),
        ],
    };
    const RO_NAME: &'static CStr = c"cell.slide_ro";
    const NUMBERS: usize = 2;

    type Policy = Policy;
    type State<'a> = StoredSlide<'a>;
    type Change = Slide;

    fn policy(numbers: &[Str<'_>]) -> Result<Policy, Error> {
        let [limit, length] = numbers else { return Err(Error::Arity) };
        Ok(Policy { limit: integer(*limit, "limit", 1..=i64::MAX)?, period: period(*length, "period")? })
    }

    fn open<'a>(ctx: Context<'a>, key: Str<'a>, access: Access) -> Result<StoredSlide<'a>, Error> {
        StoredSlide::open(ctx, key, access)
    }

    fn decide(policy: &Policy, slide: &StoredSlide<'_>, now: Micros, n: i64) -> Result<Decision<Slide>, TooLong> {
        policy.decide(slide.value(), now.nanos(), n)
    }

    fn save(_policy: &Policy, slide: StoredSlide<'_>, next: Next<Slide>, _now: Micros) {
        slide.save(next);
    }
}
