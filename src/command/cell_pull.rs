//! `CELL.PULL queue limiter max_burst count period [COUNT n] [TIMEOUT seconds] [INTO list] [MS]`
//!
//! A leaky bucket as a queue: takes from the tail of a list that anyone pushes to, no faster than the rate, and waits
//! until an element is there and due.

use crate::server::{
    Access, Arg, Command, Context, Effect, Error, Key, KeyUse, Keys, Kind, Line, List, OwnedStr, Spec, Str, Waiting,
};
use crate::stats;
use crate::store::tat::Tat;
use redis_meter_core::answer::{Answer, TooLong, Unit};
use redis_meter_core::gcra::Quota;
use redis_meter_core::time::{Millis, Nanos};

use super::arguments::{Options, integer, is_keyword, period, set_once};
use super::cell_throttle::quota;
use super::limiter::too_long;

pub(crate) struct CellPull;

const GRAMMAR: &str = "[COUNT n] [TIMEOUT seconds] [INTO list] [MS]";

/// How long those who wait are left alone while the server holds writes back.
const PAUSE: Millis = Millis(50);

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
            Arg::new(c"max_burst", Kind::Integer),
            Arg::new(c"count", Kind::Integer),
            Arg::new(c"period", Kind::Double),
            Arg::new(c"n", Kind::Integer).token(c"COUNT").optional(),
            Arg::new(c"timeout", Kind::Double).token(c"TIMEOUT").optional(),
            Arg::new(c"list", Kind::Key).token(c"INTO").optional(),
            Arg::new(c"milliseconds", Kind::Flag).token(c"MS").optional(),
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::parse(arguments)?;
        let line = Line::new(ctx, &[request.queue, request.limiter]);
        // Those who wait came first.
        let wanted = if line.is_empty() { request.count } else { 0 };
        let (cells, next) = request.take(ctx, wanted)?;
        match request.timeout {
            Some(timeout) if cells.is_empty() && ctx.may_block() => {
                let waiting = Waiter::new(&request, line.clone());
                line.clone().join(ctx, request.queue, timeout.length(), waiting);
                next.wake(ctx, &line, request.queue);
            }
            _ => {
                // What is due belongs to those in line; a limiter that was reset makes it due before their alarm.
                next.wake(ctx, &line, request.queue);
                reply(ctx, &cells, next.wait, request.unit);
            }
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

#[derive(Clone, Copy)]
enum Timeout {
    Never,
    After(Millis),
}

impl Timeout {
    fn parse(text: Str<'_>) -> Result<Self, Error> {
        if text.bytes() == b"0" {
            return Ok(Self::Never);
        }
        Ok(Self::After(period(text, "TIMEOUT")?.ceil_millis()))
    }

    fn length(self) -> Option<Millis> {
        match self {
            Self::Never => None,
            Self::After(length) => Some(length),
        }
    }
}

/// When the next element may be taken.
struct Next {
    /// From now; zero if it is due.
    wait: Nanos,
    /// Whether there is one.
    is_there: bool,
}

impl Next {
    /// Sets the line's alarm, if it is time that those who wait are waiting for. An element that comes wakes them itself.
    fn wake(&self, ctx: Context<'_>, line: &Line, queue: Str<'_>) {
        if self.is_there {
            line.wake_after(ctx, queue, self.wait.ceil_millis());
        }
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

    /// Takes up to `wanted` elements, as many as are there and due.
    fn take(&self, ctx: Context<'_>, wanted: usize) -> Result<(Vec<OwnedStr>, Next), Error> {
        let now = ctx.now().nanos();
        let queue = Key::<List>::write(ctx, self.queue)?;
        let into = self.into.map(|into| Key::<List>::write(ctx, into)).transpose()?;
        let tat = Tat::open(ctx, self.limiter, Access::Write)?;

        let there = queue.len();
        let due = usize::try_from(self.ask(tat.value(), now, 0)?.remaining).unwrap_or(usize::MAX);
        let taken = wanted.min(there).min(due);
        let quantity = i64::try_from(taken).unwrap_or(i64::MAX);
        let decision = self.quota.decide(tat.value(), now, quantity).map_err(too_long)?;
        let end = Nanos(now.0 + decision.answer.reset_after.0);
        let wait = self.ask(Some(end), now, 1)?.retry_after.unwrap_or(Nanos(0));

        tat.save(decision.next, now, self.quota.tolerance());
        let cells = queue.pop_tail(taken);
        if let Some(into) = into.filter(|_| taken > 0) {
            into.commit(&[Some(Effect::ListPush(OwnedStr::as_strs(&cells)))]);
        }
        stats::CELLS_ALLOWED.add(taken as u64);
        Ok((cells, Next { wait, is_there: there > taken }))
    }

    fn ask(&self, tat: Option<Nanos>, now: Nanos, quantity: i64) -> Result<Answer, Error> {
        let decision: Result<_, TooLong> = self.quota.decide(tat, now, quantity);
        decision.map(|decision| decision.answer).map_err(too_long)
    }
}

/// A client that waits, and what it has asked for.
struct Waiter {
    line: Line,
    queue: OwnedStr,
    limiter: OwnedStr,
    into: Option<OwnedStr>,
    quota: Quota,
    count: usize,
    unit: Unit,
}

impl Waiter {
    fn new(request: &Request<'_>, line: Line) -> Self {
        let own = |name: Str<'_>| OwnedStr::new(name.bytes());
        Self {
            line,
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
    fn retry(&self, ctx: Context<'_>) -> Result<bool, Error> {
        let request = self.request();
        if ctx.writes_are_paused() {
            self.line.wake_after(ctx, request.queue, PAUSE);
            return Ok(false);
        }
        let (cells, next) = match request.take(ctx, self.count) {
            Ok(taken) => taken,
            // As in BLPOP, a key that has become another type is no reason to stop waiting.
            Err(Error::WrongType) => return Ok(false),
            Err(error) => return Err(error),
        };
        next.wake(ctx, &self.line, request.queue);
        if cells.is_empty() {
            return Ok(false);
        }
        reply(ctx, &cells, next.wait, self.unit);
        Ok(true)
    }

    fn give_up(&self, ctx: Context<'_>) -> Result<(), Error> {
        let (cells, next) = self.request().take(ctx, 0)?;
        reply(ctx, &cells, next.wait, self.unit);
        Ok(())
    }
}

fn reply(ctx: Context<'_>, cells: &[OwnedStr], wait: Nanos, unit: Unit) {
    ctx.reply_array(2);
    ctx.reply_array(cells.len());
    for cell in cells {
        ctx.reply_bytes(cell);
    }
    ctx.reply_integer(unit.round_up(wait));
}
