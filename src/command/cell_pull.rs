//! `CELL.PULL queue limiter max_burst count period [COUNT n] [TIMEOUT seconds] [INTO list] [MS]`
//!
//! A leaky bucket as a queue: takes from the tail of a list that any client pushes to, no faster than the rate, and
//! blocks until an element is in the list and due.

use redis_meter_core::answer::{Next, TooLong, Unit};
use redis_meter_core::gcra::Quota;
use redis_meter_core::time::Nanos;

use crate::server::{
    Any, Arg, Command, Context, Effect, Error, Key, KeyUse, Keys, Kind, List, MayTake, OwnedStr, Pace, ReadOnly,
    Retried, Spec, Str, WaitQueue, Waiting, Writable, effects, tell,
};
use crate::store::tat::Tat;
use crate::{refusals, stats};

use super::arguments::{Options, Timeout, integer, is_keyword, set_once};
use super::cell_throttle::quota;
use super::limiter::{arg, too_long};

pub(crate) struct CellPull;

const GRAMMAR: &str = "[COUNT n] [TIMEOUT seconds] [INTO list] [MS]";

/// The most elements that a call takes: they take about ten milliseconds.
const MOST_TAKEN: usize = 10_000;

/// A cell for which clients were blocked counts as taken when it was due, if that was not longer ago.
const LATE: Nanos = Nanos(100_000_000);

impl Command for CellPull {
    const SPEC: Spec = Spec {
        name: c"cell.pull",
        family: &stats::CELL,
        key: KeyUse::Consume,
        keys: Keys::TwoAndAfter(c"INTO", 6),
        fast: false,
        fewest: 5,
        summary: c"Takes elements from a list no faster than a rate, and may wait until one is there and due.",
        complexity: c"O(N) where N is the number of elements taken",
        since: c"0.1.0",
        arguments: &[
            Arg::new(c"queue", Kind::Key),
            Arg::new(c"limiter", Kind::Key),
            arg::MAX_BURST,
            arg::COUNT,
            arg::PERIOD,
            Arg::new(c"n", Kind::Integer).token(c"COUNT").optional(),
            Arg::new(c"timeout", Kind::Double).token(c"TIMEOUT").optional(),
            Arg::new(c"list", Kind::Key).token(c"INTO").optional(),
            arg::MS,
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::parse(arguments)?;
        let queue = WaitQueue::new(ctx, &[request.queue, request.limiter]);
        let now = ctx.now().nanos();

        // Blocked clients are served first.
        let pulled = if queue.is_empty() {
            request.take(ctx, now, now)?
        } else {
            request.dry_run(ctx, now, now)?.nothing_pulled()
        };

        let next = Nanos(now.0.saturating_add(pulled.wait.0));
        match request.timeout {
            Some(timeout) if pulled.cells.is_empty() && ctx.may_block() => {
                let waiter = Waiter::new(&request, queue.clone());
                queue.block(ctx, request.queue, request.limiter, timeout.length(), waiter);
                if pulled.has_more {
                    queue.wake_at(ctx, next);
                }
            }
            _ => reply(ctx, &pulled, request.unit),
        }
        Ok(())
    }
}

/// What a call asks for.
struct Request<'a> {
    queue: Str<'a>,
    limiter: Str<'a>,
    quota: Quota,
    count: usize,
    timeout: Option<Timeout>,
    into: Option<Str<'a>>,
    unit: Unit,
}

/// The result of a dry run.
struct DryRun<A> {
    /// Elements in the queue.
    queued: usize,
    /// Cells that may be taken now.
    due: usize,
    /// The span until one element may be taken, if no other call takes any.
    wait: Nanos,
    /// The limiter, and whether its state reaches too far ahead.
    tat: A,
}

/// The elements that a call has taken.
struct Pulled {
    cells: Vec<OwnedStr>,
    /// The span until the next cell may be taken.
    wait: Nanos,
    /// Whether the queue has an element for it.
    has_more: bool,
}

impl<A> DryRun<A> {
    /// The result of a call that takes nothing.
    fn nothing_pulled(&self) -> Pulled {
        Pulled { cells: Vec::new(), wait: self.wait, has_more: self.queued > 0 }
    }
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [queue, limiter, rest @ ..] = arguments else { return Err(Error::Arity) };
        let (numbers, options) = rest.split_at_checked(3).ok_or(Error::Arity)?;
        let quota = quota(numbers)?;
        let (mut count, mut timeout, mut into, mut unit) = (None, None, None, None);
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if is_keyword(word, "COUNT") {
                let value = integer(options.value("COUNT")?, "COUNT", 1..=i64::MAX)?;
                set_once(&mut count, "COUNT", value)?;
            } else if is_keyword(word, "TIMEOUT") {
                let value = Timeout::parse(options.value("TIMEOUT")?)?;
                set_once(&mut timeout, "TIMEOUT", value)?;
            } else if is_keyword(word, "INTO") {
                let value = options.value("INTO")?;
                set_once(&mut into, "INTO", value)?;
            } else if is_keyword(word, "MS") {
                set_once(&mut unit, "MS", Unit::Millis)?;
            } else {
                return Err(options.unknown(word));
            }
        }
        let names = [Some(*queue), Some(*limiter), into];
        let same = |a: Option<Str<'_>>, b: Option<Str<'_>>| a.zip(b).is_some_and(|(a, b)| a.bytes() == b.bytes());
        if same(names[0], names[1]) || same(names[0], names[2]) || same(names[1], names[2]) {
            return Err(Error::refused("queue, limiter and the list of INTO must be three different keys"));
        }
        Ok(Self {
            queue: *queue,
            limiter: *limiter,
            quota,
            count: usize::try_from(count.unwrap_or(1)).unwrap_or(usize::MAX),
            timeout,
            into,
            unit: unit.unwrap_or(Unit::Seconds),
        })
    }

    /// The elements and the cells that are due at `now` for a client that has been blocked since `since`.
    ///
    /// # Errors
    /// A key holds something of another kind.
    fn dry_run(&self, ctx: Context<'a>, since: Nanos, now: Nanos) -> Result<DryRun<Option<Nanos>>, Error> {
        let queue = Key::<List, ReadOnly>::open(ctx, self.queue)?;
        let queued = queue.len();
        drop(queue);
        if let Some(into) = self.into {
            Key::<List, ReadOnly>::open(ctx, into)?;
        }
        let tat = Tat::<ReadOnly>::open(ctx, self.limiter)?.value();
        let due = self.quota.due_since(tat, since, now).map_err(too_long)?;
        let wait = self.wait(tat, now)?;
        Ok(DryRun { queued, due: usize::try_from(due).unwrap_or(usize::MAX), wait, tat })
    }

    /// Takes as many elements as are asked for, in the queue and due.
    ///
    /// # Errors
    /// A key holds something of another kind; nothing has been changed.
    fn take(&self, ctx: Context<'a>, since: Nanos, now: Nanos) -> Result<Pulled, Error> {
        let DryRun { queued, due, .. } = self.dry_run(ctx, since, now)?;
        let taken = self.count.min(queued).min(due).min(MOST_TAKEN);
        let tat = Tat::<Writable>::open(ctx, self.limiter)?;
        // A call that gets nothing still asks for a cell, which repairs a state too far ahead.
        let quantity = i64::try_from(taken).unwrap_or(i64::MAX).max(1);
        let decision = self.quota.decide_since(tat.value(), since, now, quantity).map_err(too_long)?;
        let after = match decision.next {
            Next::Store(tat) => Some(tat),
            Next::Keep => tat.value(),
            Next::Clear => None,
        };
        let wait = self.wait(if taken > 0 { after } else { tat.value() }, now)?;
        if taken == 0 && !decision.answer.limited {
            return Ok(Pulled { cells: Vec::new(), wait, has_more: queued > 0 });
        }

        let limiter = tat.save(decision.next, now, self.quota.tolerance());
        let (cells, queue) = match taken {
            0 => (Vec::new(), None),
            _ => Key::<List, Writable>::open(ctx, self.queue)?.take(taken),
        };
        let into = match self.into.filter(|_| !cells.is_empty()) {
            Some(into) => Key::<List, Writable>::open(ctx, into)?.change(effects([Some(Effect::ListPush(&cells))])),
            None => None,
        };
        tell(ctx, [&limiter, &queue, &into].into_iter().flatten());
        stats::CELLS_ALLOWED.add(cells.len() as u64);
        Ok(Pulled { has_more: queued > cells.len(), cells, wait })
    }

    /// The span from `now` until one cell is due with this TAT.
    fn wait(&self, tat: Option<Nanos>, now: Nanos) -> Result<Nanos, Error> {
        let decision: Result<_, TooLong> = self.quota.decide(tat, now, 1);
        Ok(decision.map_err(too_long)?.answer.retry_after.unwrap_or(Nanos(0)))
    }
}

/// A blocked client, and its request.
struct Waiter {
    place: WaitQueue,
    queue: OwnedStr,
    limiter: OwnedStr,
    into: Option<OwnedStr>,
    quota: Quota,
    count: usize,
    unit: Unit,
}

impl Waiter {
    fn new(request: &Request<'_>, place: WaitQueue) -> Self {
        let own = |name: Str<'_>| OwnedStr::new(name.bytes());
        Self {
            place,
            queue: own(request.queue),
            limiter: own(request.limiter),
            into: request.into.map(own),
            quota: request.quota,
            count: request.count,
            unit: request.unit,
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            queue: self.queue.as_str(),
            limiter: self.limiter.as_str(),
            quota: self.quota,
            count: self.count,
            timeout: None,
            into: self.into.as_ref().map(OwnedStr::as_str),
            unit: self.unit,
        }
    }
}

impl Waiting for Waiter {
    fn retry(&self, ctx: Context<'_>, by_clock: bool, may_take: &MayTake<'_>) -> Result<Retried, Error> {
        let request = self.request();
        // As in BLPOP, a queue that is no list any more does not end the wait.
        let queue = Key::<Any, ReadOnly>::open(ctx, request.queue)?;
        if !queue.exists() || !queue.is_a::<List>() {
            return Ok(Retried::WaitsForKey);
        }
        drop(queue);
        let now = ctx.now().nanos();
        let tat = request.dry_run(ctx, now, now)?.tat;
        let since = match tat.filter(|_| by_clock) {
            Some(tat) => request.quota.due_at(tat).max(Nanos(now.0 - LATE.0)).min(now),
            None => now,
        };
        let DryRun { due, wait, .. } = request.dry_run(ctx, since, now)?;
        let is_ahead = tat.is_some_and(|tat| tat.0 > now.0.saturating_add(request.quota.tolerance().0));
        if due == 0 && !is_ahead {
            return Ok(Retried::WaitsUntil(Nanos(now.0.saturating_add(wait.0))));
        }
        if !may_take()? {
            return Ok(Retried::WritesRefused);
        }
        let pulled = request.take(ctx, since, now)?;
        let next = Nanos(now.0.saturating_add(pulled.wait.0));
        if pulled.cells.is_empty() {
            return Ok(Retried::WaitsUntil(next));
        }
        if pulled.has_more {
            self.place.wake_at(ctx, next);
        }
        reply(ctx, &pulled, self.unit);
        Ok(Retried::Served)
    }

    fn give_up(&self, ctx: Context<'_>) -> Result<(), Error> {
        let now = ctx.now().nanos();
        let pulled = self.request().dry_run(ctx, now, now)?.nothing_pulled();
        refusals::record(ctx, self.limiter.as_str(), "CELL.PULL");
        reply(ctx, &pulled, self.unit);
        Ok(())
    }

    fn pace(&self) -> Pace {
        self.quota.numbers()
    }
}

fn reply(ctx: Context<'_>, pulled: &Pulled, unit: Unit) {
    ctx.reply_array(2);
    ctx.reply_array(pulled.cells.len());
    for cell in &pulled.cells {
        ctx.reply_bytes(cell);
    }
    ctx.reply_integer(unit.round_up(pulled.wait));
}
