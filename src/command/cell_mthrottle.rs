//! `CELL.MTHROTTLE key max_burst count period quantity [key max_burst count period quantity …] [MS]`
//!
//! Several limits in one step: all are taken, or none.

use std::ffi::CStr;
use std::fmt::{self, Display};

use crate::server::{
    Access, Arg, Command, Context, Error, KeyUse, Keys, Kind, ReadOnly, Shown, Spec, Str, Writable, key_changed, tell,
};
use crate::store::tat::Tat;
use crate::{refusals, stats};
use redis_meter_core::answer::{Decision, Unit};
use redis_meter_core::gcra::Quota;
use redis_meter_core::time::Nanos;

use super::arguments::is_keyword;
use super::cell_throttle::quota;
use super::limiter::{arg, count_cells, parse_quantity, read_only, too_long};

pub(crate) struct CellMthrottle;

/// Its read-only variant.
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
        Arg::new(c"limit", Kind::Block(&[Arg::KEY, arg::MAX_BURST, arg::COUNT, arg::PERIOD, arg::QUANTITY])).multiple(),
        arg::MS,
    ],
};

/// The arguments of one limit.
const EACH: i32 = 5;

/// The most limits of a call: they take about ten milliseconds.
const MOST_LIMITS: usize = 1_000;

impl Command for CellMthrottle {
    const SPEC: Spec = SPEC;

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let (limits, unit) = parse(arguments)?;

        let now = ctx.now().nanos();
        let (states, decisions) = decide::<Writable>(ctx, &limits, now)?;

        let mut changes = Vec::with_capacity(limits.len());
        for ((limit, state), decision) in limits.iter().zip(states).zip(&decisions) {
            changes.extend(state.save(decision.next, now, limit.quota.tolerance()));
        }
        tell(ctx, changes.iter());
        for limit in limits.iter().filter(|limit| limit.quantity < 0) {
            key_changed(ctx, limit.key);
        }
        // A limit that would have passed in a refused call has taken nothing and refused nothing.
        let refused = decisions.iter().any(|decision| decision.answer.limited);
        for (limit, decision) in limits.iter().zip(&decisions) {
            if decision.answer.limited || !refused {
                count_cells(&decision.answer, limit.quantity, None);
            }
            if decision.answer.limited {
                refusals::record(ctx, limit.key, "CELL.MTHROTTLE");
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
        let (_, decisions) = decide::<ReadOnly>(ctx, &limits, ctx.now().nanos())?;
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
    if chunks.is_empty() {
        return Err(Error::Arity);
    }
    let unit = match rest {
        [] => Unit::Seconds,
        [option] if is_keyword(*option, "MS") => Unit::Millis,
        _ => {
            return Err(Error::refused(
                "each limit is key max_burst count period quantity, five arguments; after the last one may come MS",
            ));
        }
    };
    if chunks.len() > MOST_LIMITS {
        return Err(Error::refused(format!(
            "at most {MOST_LIMITS} limits can be taken in one step, not {}: use several calls",
            chunks.len()
        )));
    }
    // Loops, here and below: collecting results costs a tenth of the call's own work.
    let mut limits = Vec::with_capacity(chunks.len());
    for (place, [key, numbers @ .., quantity]) in chunks.iter().enumerate() {
        let numbers = quota(numbers).and_then(|quota| Ok((quota, parse_quantity(*quantity)?)));
        let (quota, quantity) = numbers.map_err(|error| error.of(Place(place, *key)))?;
        limits.push(Limit { key: *key, quota, quantity });
    }
    let mut keys: Vec<&[u8]> = limits.iter().map(|limit| limit.key.bytes()).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(Error::refused(format!(
            "key {} is named twice: name it once, with the sum of its quantities",
            Shown(twice[0])
        ))),
        None => Ok((limits, unit)),
    }
}

/// Which limit an error is about.
struct Place<'a>(usize, Str<'a>);

impl Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "limit {} of key {}", self.0 + 1, Shown(self.1.bytes()))
    }
}

/// The limiters, in order.
type States<'a, A> = Vec<Tat<'a, A>>;

/// The states and the decision on each: if one limit refuses, the others report their state unchanged.
fn decide<'a, A: Access>(
    ctx: Context<'a>,
    limits: &[Limit<'a>],
    now: Nanos,
) -> Result<(States<'a, A>, Vec<Decision<Nanos>>), Error> {
    let mut states = Vec::with_capacity(limits.len());
    let mut decisions = Vec::with_capacity(limits.len());
    let mut refused = false;
    for (place, limit) in limits.iter().enumerate() {
        let state = Tat::<A>::open(ctx, limit.key)?;
        let decision = limit.quota.decide(state.value(), now, limit.quantity);
        let decision = decision.map_err(|error| too_long(error).of(Place(place, limit.key)))?;
        refused |= decision.answer.limited;
        decisions.push(decision);
        states.push(state);
    }
    if refused {
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
