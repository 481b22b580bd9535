//! `CELL.LOG key limit period [quantity] [MS]`
//!
//! The sliding log: never more than `limit` cells in any `period`, at the price of remembering each of them.

use std::ffi::CStr;

use crate::server::{Access, Arg, Change, Context, Error, KeyUse, Keys, Spec, Str, Writable};
use crate::stats;
use crate::store::log::StoredLog;
use redis_meter_core::answer::{Decision, Next, TooLong};
use redis_meter_core::log::{MAX_LIMIT, Policy, Update as LogUpdate};
use redis_meter_core::time::Micros;

use super::arguments::{integer, period};
use super::limiter::{Limiter, arg};

pub(crate) struct CellLog;

impl Limiter for CellLog {
    const SPEC: Spec = Spec {
        name: c"cell.log",
        family: &stats::CELL,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: false,
        fewest: 3,
        summary: c"Takes cells from an exact sliding window, which remembers each of them.",
        complexity: c"O(log(N)) for each cell that is taken or removed, where N is the number of cells stored",
        since: c"0.1.0",
        arguments: &[Arg::KEY, arg::LIMIT, arg::PERIOD, arg::QUANTITY.optional(), arg::PARTIAL, arg::MS],
    };
    const NAME: &'static str = "CELL.LOG";
    const RO_NAME: &'static CStr = c"cell.log_ro";
    const NUMBERS: usize = 2;
    /// Each is a member of the set: together they take about ten milliseconds.
    const MOST_CELLS: i64 = 10_000;

    type Policy = Policy;
    type State<'a, A: Access> = StoredLog<'a, A>;
    type Update = LogUpdate;

    fn policy(numbers: &[Str<'_>]) -> Result<Policy, Error> {
        let [limit, length] = numbers else { return Err(Error::Arity) };
        Ok(Policy { limit: integer(*limit, "limit", 1..=MAX_LIMIT)?, period: period(*length, "period")? })
    }

    fn open<'a, A: Access>(ctx: Context<'a>, key: Str<'a>) -> Result<StoredLog<'a, A>, Error> {
        StoredLog::open(ctx, key)
    }

    fn decide<A: Access>(
        policy: &Policy,
        log: &StoredLog<'_, A>,
        now: Micros,
        n: i64,
    ) -> Result<Decision<LogUpdate>, TooLong> {
        policy.decide(log, now, n)
    }

    fn save<'a>(
        policy: &Policy,
        log: StoredLog<'a, Writable>,
        next: Next<LogUpdate>,
        now: Micros,
    ) -> Result<Option<Change<'a>>, Error>
    where
        'a: 'a,
    {
        log.save(next, now, policy)
    }
}
