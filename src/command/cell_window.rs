//! `CELL.WINDOW key limit period [quantity] [BLOCK seconds] [MS]`
//!
//! A fixed window from the first hit: `limit` cells until `period` is over. With BLOCK, the first call beyond the limit
//! blocks the key for this time, such as after too many login attempts.

use std::ffi::CStr;

use redis_meter_core::layout::HIGHEST_COUNT;
use redis_meter_core::time::Micros;

use crate::server::{Access, Arg, Change, Context, Error, KeyUse, Keys, Kind, Spec, Str, Writable};
use crate::stats;
use crate::store::window::StoredWindow;
use redis_meter_core::answer::{Decision, Next, TooLong};
use redis_meter_core::window::{Policy, Window};

use super::arguments::{Options, integer, is_keyword, period, set_once};
use super::limiter::{Limiter, arg};

pub(crate) struct CellWindow;

impl Limiter for CellWindow {
    const SPEC: Spec = Spec {
        name: c"cell.window",
        family: &stats::CELL,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: true,
        fewest: 3,
        summary: c"Takes cells from a fixed window that the first hit opens, and may block the key when it is full.",
        complexity: c"O(1)",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            arg::LIMIT,
            arg::PERIOD,
            arg::QUANTITY.optional(),
            arg::PARTIAL,
            Arg::new(c"block", Kind::Double).token(c"BLOCK").optional(),
            arg::MS,
        ],
    };
    const NAME: &'static str = "CELL.WINDOW";
    const RO_NAME: &'static CStr = c"cell.window_ro";
    const NUMBERS: usize = 2;
    const OPTIONS: &'static str = "[quantity] [BLOCK seconds] [PARTIAL] [MS]";

    type Policy = Policy;
    type State<'a, A: Access> = StoredWindow<'a, A>;
    type Update = Window;

    fn policy(numbers: &[Str<'_>]) -> Result<Policy, Error> {
        let [limit, length] = numbers else { return Err(Error::Arity) };
        // A block is stored as one more than the limit, which must fit too.
        let limit = integer(*limit, "limit", 1..=HIGHEST_COUNT - 1)?;
        Ok(Policy { limit, period: period(*length, "period")?.ceil_millis(), block: None })
    }

    fn option(policy: &mut Policy, word: Str<'_>, options: &mut Options<'_, '_>) -> Result<bool, Error> {
        if !is_keyword(word, "BLOCK") {
            return Ok(false);
        }
        let block = period(options.value("BLOCK")?, "BLOCK")?.ceil_millis();
        set_once(&mut policy.block, "BLOCK", block)?;
        Ok(true)
    }

    fn open<'a, A: Access>(ctx: Context<'a>, key: Str<'a>) -> Result<StoredWindow<'a, A>, Error> {
        StoredWindow::open(ctx, key, Self::NAME)
    }

    fn decide<A: Access>(
        policy: &Policy,
        window: &StoredWindow<'_, A>,
        now: Micros,
        n: i64,
    ) -> Result<Decision<Window>, TooLong> {
        policy.decide(window.value(), now.floor_millis(), n)
    }

    fn save<'a>(
        _policy: &Policy,
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
