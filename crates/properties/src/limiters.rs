//! Sequences of calls to one limiter. Numbers, clock and quantities are arbitrary; the clock may go back.

use redis_meter_core::answer::{Answer, Decision, Next};
use redis_meter_core::gcra::Quota;
use redis_meter_core::log::{self, Cells, Update};
use redis_meter_core::slide;
use redis_meter_core::time::{Micros, Millis, Nanos};
use redis_meter_core::window;

use crate::bytes::Bytes;

/// 1 January 2020, in nanoseconds.
const START: i64 = 1_577_836_800_000_000_000;

/// 200 days, in nanoseconds: the longest period that is tried.
const LONGEST: i64 = 200 * 86_400 * 1_000_000_000;

/// The properties of every answer.
fn check(answer: &Answer, limit: i64, quantity: i64) {
    assert_eq!(answer.limit, limit);
    assert!((0..=limit).contains(&answer.remaining), "{answer:?}");
    assert!(answer.reset_after.0 >= 0, "{answer:?}");
    assert!(!answer.limited || quantity > 0, "a dry run or a refund was limited: {answer:?}");
    assert!(answer.limited || answer.retry_after.is_none(), "nothing to wait for: {answer:?}");
    assert_eq!(answer.limited && answer.retry_after.is_none(), quantity > limit, "{answer:?}");
    assert!(answer.retry_after.is_none_or(|wait| wait.0 > 0), "{answer:?}");
}

/// The state after a decision.
fn applied<S>(before: Option<S>, next: Next<S>) -> Option<S> {
    match next {
        Next::Keep => before,
        Next::Store(after) => Some(after),
        Next::Clear => None,
    }
}

/// The clock, in nanoseconds: mostly forwards by about `scale`, sometimes back.
fn tick(input: &mut Bytes<'_>, now: i64, scale: Nanos) -> i64 {
    let back = input.byte().is_multiple_of(16);
    let step = input.natural(scale.0.saturating_mul(4)).min(LONGEST);
    if back { now - step } else { now + step }.clamp(START - LONGEST, START + 8 * LONGEST)
}

/// GCRA is the contract's formula in wide integers, and `retry_after` is the first instant at which the call passes.
pub fn gcra(input: &[u8]) {
    let mut input = Bytes(input);
    let (max_burst, count, period) = (input.natural(1 << 40), input.positive(1 << 40), input.positive(LONGEST));
    let Ok(quota) = Quota::new(max_burst, count, Nanos(period)) else { return };
    let limit = max_burst + 1;
    let cost = |cells: i64| i128::from(cells) * i128::from(period) / i128::from(count);
    let tolerance = cost(limit);
    assert_eq!(i128::from(quota.tolerance().0), tolerance);
    let (mut tat, mut now) = (None, START);
    while !input.is_empty() {
        now = tick(&mut input, now, Nanos(period));
        let quantity = input.quantity();
        let Ok(decision) = quota.decide(tat, Nanos(now), quantity) else {
            assert!(i128::from(now) + tolerance > i128::from(i64::MAX));
            return;
        };
        check(&decision.answer, limit, quantity);
        let horizon = i128::from(now) + tolerance;
        let start = tat.map_or(i128::from(now), |tat: Nanos| i128::from(tat.0).clamp(i128::from(now), horizon));
        let end = match quantity {
            1.. if quantity <= limit && start + cost(quantity) <= horizon => start + cost(quantity),
            0.. => start,
            _ => (start - cost(limit.min(quantity.checked_neg().unwrap_or(limit)))).max(i128::from(now)),
        };
        assert_eq!(decision.answer.limited, quantity > 0 && end == start && cost(quantity) > horizon - start);
        assert_eq!(i128::from(decision.answer.reset_after.0), end - i128::from(now));
        let remaining = decision.answer.remaining;
        assert!(cost(remaining) <= horizon - end && (remaining == limit || cost(remaining + 1) > horizon - end));
        tat = applied(tat, decision.next);
        if let Some(wait) = decision.answer.retry_after {
            let limited_at = |now: i64| quota.decide(tat, Nanos(now), quantity).map(|decision| decision.answer.limited);
            // Past the year 2262 a call is an error, and not limited either.
            assert_ne!(limited_at(now + wait.0), Ok(true));
            assert_ne!(limited_at(now + wait.0 - 1), Ok(false));
        }
    }
}

/// A window never counts more than its limit without a block, and opens again when it says so.
pub fn window(input: &[u8]) {
    let mut input = Bytes(input);
    let millis = |input: &mut Bytes<'_>| Millis(input.positive(LONGEST / 1_000_000));
    let (limit, period) = (input.positive(i64::MAX - 1), millis(&mut input));
    let block = (input.byte() % 2 == 1).then(|| millis(&mut input));
    let policy = window::Policy { limit, period, block };
    let (mut stored, mut clock) = (None, START);
    while !input.is_empty() {
        clock = tick(&mut input, clock, period.nanos());
        let now = clock / 1_000_000;
        let quantity = input.quantity();
        let Ok(Decision { answer, next }) = policy.decide(stored, Millis(now), quantity) else { panic!("it fits") };
        check(&answer, limit, quantity);
        stored = applied(stored, next);
        if let Some(window) = stored {
            assert!(window.count <= limit + i64::from(block.is_some()), "{window:?}");
            let longest = period.0.max(block.map_or(0, |block| block.0));
            assert!(window.end.is_none_or(|end| end.0 <= now + longest || next == Next::Keep), "{window:?}");
        }
        if let Some(wait) = answer.retry_after {
            let later = Millis(now + wait.0.div_euclid(1_000_000));
            assert_eq!(policy.decide(stored, later, quantity).map(|decision| decision.answer.limited), Ok(false));
        }
    }
}

/// The cells of a log in memory, ascending.
struct Remembered(Vec<i64>);

impl Cells for Remembered {
    fn count(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }

    fn count_up_to(&self, time: Micros) -> i64 {
        i64::try_from(self.0.partition_point(|&at| at <= time.0)).unwrap_or(i64::MAX)
    }

    fn nth_newest(&self, nth: i64) -> Option<Micros> {
        let place = self.0.len().checked_sub(usize::try_from(nth).ok()?)?;
        self.0.get(place).map(|&at| Micros(at))
    }
}

impl Remembered {
    fn apply(&mut self, next: Next<Update>, now: i64) {
        for at in &mut self.0 {
            if !matches!(next, Next::Keep) {
                *at = (*at).min(now);
            }
        }
        match next {
            Next::Store(Update::Take { out_of_view, cells }) => {
                self.0.drain(..usize::try_from(out_of_view).unwrap_or(0));
                self.0.extend((0..cells).map(|_| now));
            }
            Next::Store(Update::Return { cells }) => {
                self.0.truncate(self.0.len() - usize::try_from(cells).unwrap_or(0));
            }
            Next::Clear => self.0.clear(),
            Next::Keep | Next::Store(Update::Repair) => {}
        }
    }
}

/// No period, wherever it ends, has more cells than the limit; `retry_after` is the first microsecond at which the call
/// passes.
pub fn log(input: &[u8]) {
    let mut input = Bytes(input);
    let (limit, period) = (input.positive(200), input.positive(LONGEST));
    let policy = log::Policy { limit, period: Nanos(period) };
    let (mut cells, mut clock) = (Remembered(Vec::new()), START);
    while !input.is_empty() {
        clock = tick(&mut input, clock, Nanos(period));
        let now = clock / 1_000;
        let quantity = input.quantity();
        let Ok(Decision { answer, next }) = policy.decide(&cells, Micros(now), quantity) else { panic!("it fits") };
        check(&answer, limit, quantity);
        let in_view =
            |cells: &Remembered| cells.0.iter().filter(|&&at| at.min(now) * 1_000 > now * 1_000 - period).count();
        let before = i64::try_from(in_view(&cells)).unwrap_or(i64::MAX);
        assert_eq!(answer.limited, quantity > 0 && quantity > limit - before);
        cells.apply(next, now);
        let after = i64::try_from(in_view(&cells)).unwrap_or(i64::MAX);
        assert!(after <= limit);
        assert_eq!(answer.remaining, limit - after);
        if let Some(wait) = answer.retry_after {
            let limited_at =
                |now: i64| policy.decide(&cells, Micros(now), quantity).map(|decision| decision.answer.limited);
            let passes = now + wait.0.div_euclid(1_000) + i64::from(wait.0 % 1_000 > 0);
            assert_eq!(limited_at(passes), Ok(false));
            assert_eq!(limited_at(passes - 1), Ok(true));
        }
    }
}

/// No cell that is taken brings the estimate above the limit, and `retry_after` is a promise.
pub fn slide(input: &[u8]) {
    let mut input = Bytes(input);
    let (limit, period) = (input.positive(i64::MAX - 1), input.positive(LONGEST));
    let policy = slide::Policy { limit, period: Nanos(period) };
    let (mut stored, mut now) = (None, START);
    while !input.is_empty() {
        now = tick(&mut input, now, Nanos(period));
        let quantity = input.quantity();
        let Ok(Decision { answer, next }) = policy.decide(stored, Nanos(now), quantity) else { panic!("it fits") };
        check(&answer, limit, quantity);
        stored = applied(stored, next);
        if let Some(slide) = stored {
            assert!(slide.current >= 0 && slide.previous >= 0 && slide.period.0 > 0, "{slide:?}");
            assert!(slide.current <= limit && slide.previous <= limit, "{slide:?}");
        }
        if let Some(wait) = answer.retry_after {
            let later = policy.decide(stored, Nanos(now + wait.0), quantity).map(|decision| decision.answer.limited);
            assert_eq!(later, Ok(false));
        }
    }
}
