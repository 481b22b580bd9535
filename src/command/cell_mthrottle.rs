//! `CELL.MTHROTTLE key max_burst count period quantity [key max_burst count period quantity …] [MS]`
//!
//! Several limits in one step: all are taken, or none.

use std::ffi::CStr;

use crate::server::{Access, Arg, Command, Context, Error, KeyUse, Keys, Kind, Shown, Spec, Str};
use crate::stats;
use crate::store::tat::Tat;
use redis_meter_core::answer::{Decision, Unit};
use redis_meter_core::gcra::Quota;
use redis_meter_core::time::Nanos;

use super::arguments::is_keyword;
use super::cell_throttle::quota;
use super::limiter::{count_cells, parse_quantity, read_only, too_long};

pub(crate) struct CellMthrottle;

/// Its read-only twin.
pub(crate) struct CellMthrottleRo;

const SPEC: Spec = Spec {
    name: c"cell.mthrottle",
    family: &stats::CELL,
    key: KeyUse::Update,
    keys: Keys::Every(EACH),
    fast: false,
    fewest: 5,
    summary: c"Takes cells from several rate limiters (GCRA) in one step: from all of them, or from none.",
    complexity: c"O(N) where N is the number of limits",
    since: c"0.1.0",
    arguments: &[
        Arg::new(
            c"limit",
            Kind::Block(&[
                Arg::KEY,
                Arg::new(c"max_burst", Kind::Integer),
                Arg::new(c"count", Kind::Integer),
                Arg::new(c"period", Kind::Double),
                Arg::new(c"quantity", Kind::Integer),
            ]),
        )
        .multiple(),
        Arg::new(c"milliseconds", Kind::Flag).token(c"MS").optional(),
    ],
};

/// The arguments of one limit.
const EACH: i32 = 5;

impl Command for CellMthrottle {
    const SPEC: Spec = SPEC;

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let (limits, unit) = parse(arguments)?;

        let now = ctx.now().nanos();
        let (states, decisions) = decide(ctx, &limits, now, Access::Write)?;

        for ((limit, state), decision) in limits.iter().zip(states).zip(&decisions) {
            state.save(decision.next, now, limit.quota.tolerance());
        }
        // A limit that would have passed in a refused call has taken nothing and refused nothing.
        let refused = decisions.iter().any(|decision| decision.answer.limited);
        for (limit, decision) in limits.iter().zip(&decisions) {
            if decision.answer.limited || !refused {
                count_cells(&decision.answer, limit.quantity);
            }
        }

        reply(ctx, &decisions, unit);
        Ok(())
    }
}

impl Command for CellMthrottleRo {
    const SPEC: Spec = read_only(SPEC, RO_NAME);

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let (limits, unit) = parse(arguments)?;
        let (_, decisions) = decide(ctx, &limits, ctx.now().nanos(), Access::Read)?;
        reply(ctx, &decisions, unit);
        Ok(())
    }
}

const RO_NAME: &CStr = c"cell.mthrottle_ro";

struct Limit<'a> {
    key: Str<'a>,
    quota: Quota,
    quantity: i64,
}

fn parse<'a>(arguments: &[Str<'a>]) -> Result<(Vec<Limit<'a>>, Unit), Error> {
    let (chunks, rest) = arguments.as_chunks::<{ EACH as usize }>();
    let unit = match rest {
        [] => Unit::Seconds,
        [option] if is_keyword(*option, "MS") => Unit::Millis,
        _ => {
            return Err(Error::refused(
                "each limit is key max_burst count period quantity, five arguments; after the last one may come MS",
            ));
        }
    };
    // Loops, here and below: to collect results costs a tenth of the call's own work.
    let mut limits = Vec::with_capacity(chunks.len());
    for [key, numbers @ .., quantity] in chunks {
        limits.push(Limit { key: *key, quota: quota(numbers)?, quantity: parse_quantity(*quantity)? });
    }
    let mut keys: Vec<&[u8]> = limits.iter().map(|limit| limit.key.bytes()).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => {
            Err(Error::refused(format!("key {} is named twice: add up what is asked of it", Shown(twice[0]))))
        }
        None => Ok((limits, unit)),
    }
}

/// The states and what becomes of each: if one limit refuses, the others are only looked at.
fn decide<'a>(
    ctx: Context<'a>,
    limits: &[Limit<'a>],
    now: Nanos,
    access: Access,
) -> Result<(Vec<Tat<'a>>, Vec<Decision<Nanos>>), Error> {
    let mut states = Vec::with_capacity(limits.len());
    for limit in limits {
        states.push(Tat::open(ctx, limit.key, access)?);
    }
    let mut decisions = Vec::with_capacity(limits.len());
    for (limit, state) in limits.iter().zip(&states) {
        decisions.push(limit.quota.decide(state.value(), now, limit.quantity).map_err(too_long)?);
    }
    if decisions.iter().any(|decision| decision.answer.limited) {
        for ((limit, state), decision) in limits.iter().zip(&states).zip(&mut decisions) {
            if !decision.answer.limited {
                *decision = limit.quota.decide(state.value(), now, 0).map_err(too_long)?;
            }
        }
    }
    Ok((states, decisions))
}

fn reply(ctx: Context<'_>, decisions: &[Decision<Nanos>], unit: Unit) {
    ctx.reply_array(decisions.len());
    for decision in decisions {
        ctx.reply_integers(decision.answer.integers(unit));
    }
}
