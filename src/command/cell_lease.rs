//! `CELL.LEASE key limit ttl holder [TIMEOUT seconds] [MS]`
//!
//! A limit on concurrency: takes a place for `holder`, until it is released or its lease ends.

use redis_meter_core::answer::{Answer, Decision, Next, Unit};
use redis_meter_core::lease::{Grant, MAX_TTL, Policy};
use redis_meter_core::time::{Millis, Nanos};

use crate::server::{
    Access, Arg, Command, Context, Error, KeyQueue, KeyUse, Keys, Kind, MayTake, OwnedStr, Queued, ReadOnly, Ready,
    Shown, Spec, Str, Writable, key_changed,
};
use crate::store::lease::StoredLeases;
use crate::{refusals, stats};

use super::arguments::{Options, Timeout, integer, is_keyword, period, set_once};
use super::limiter::{arg, count_cells, read_only, too_long};

pub(crate) struct CellLease;

/// Its read-only variant, which never blocks.
pub(crate) struct CellLeaseRo;

const GRAMMAR: &str = "[TIMEOUT seconds] [MS]";

impl Command for CellLease {
    const SPEC: Spec = Spec {
        name: c"cell.lease",
        family: &stats::CELL,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: false,
        fewest: 4,
        summary: c"Takes or renews one of a limited number of places for a holder, and may wait until one is free.",
        complexity: c"O(log(N)) for the lease and each one that is over, where N is the number of holders",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            arg::LIMIT,
            Arg::new(c"ttl", Kind::Double),
            Arg::new(c"holder", Kind::Text),
            Arg::new(c"timeout", Kind::Double).token(c"TIMEOUT").optional(),
            arg::MS,
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::parse(arguments)?;
        let queue = KeyQueue::new(ctx, request.key);

        let answer = request.take(ctx, !queue.is_empty())?;

        match request.timeout {
            Some(timeout) if answer.limited && ctx.may_block() => {
                queue.block(ctx, timeout.length(), Waiter::new(&request));
            }
            _ => conclude(ctx, &answer, &request),
        }
        Ok(())
    }
}

impl Command for CellLeaseRo {
    const SPEC: Spec = read_only(CellLease::SPEC, c"cell.lease_ro");

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::parse(arguments)?;
        let queue = KeyQueue::new(ctx, request.key);
        let answer = request.peek(ctx, !queue.is_empty())?;
        ctx.reply_integers(answer.integers(request.unit));
        Ok(())
    }
}

/// What a call asks for.
struct Request<'a> {
    key: Str<'a>,
    policy: Policy,
    holder: Str<'a>,
    timeout: Option<Timeout>,
    unit: Unit,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, limit, ttl, holder, options @ ..] = arguments else { return Err(Error::Arity) };
        let policy = Policy { limit: integer(*limit, "limit", 1..=i64::MAX)?, ttl: parse_ttl(*ttl)? };
        check_holder(*holder)?;
        let (mut timeout, mut unit) = (None, None);
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if is_keyword(word, "TIMEOUT") {
                let value = Timeout::parse(options.value("TIMEOUT")?)?;
                set_once(&mut timeout, "TIMEOUT", value)?;
            } else if is_keyword(word, "MS") {
                set_once(&mut unit, "MS", Unit::Millis)?;
            } else {
                return Err(options.unknown(word));
            }
        }
        Ok(Self { key: *key, policy, holder: *holder, timeout, unit: unit.unwrap_or(Unit::Seconds) })
    }

    /// Takes or renews a place. A holder without a lease gets none if others come before it.
    ///
    /// # Errors
    /// The key holds something other than leases; nothing has been changed.
    fn take(&self, ctx: Context<'a>, others_first: bool) -> Result<Answer, Error> {
        let leases = StoredLeases::<Writable>::open(ctx, self.key)?;
        let own = leases.end_of(self.holder)?;
        let Decision { answer, next } = self.decide(&leases, own, now(ctx), others_first)?;
        if let Some(change) = leases.grant(self.holder, own, next)? {
            change.tell(ctx);
            // The lease may end before the leases for whose end others are blocked.
            key_changed(ctx, self.key);
        }
        Ok(answer)
    }

    /// What [`Request::take`] would return.
    ///
    /// # Errors
    /// The key holds something other than leases.
    fn peek(&self, ctx: Context<'a>, others_first: bool) -> Result<Answer, Error> {
        let leases = StoredLeases::<ReadOnly>::open(ctx, self.key)?;
        let own = leases.end_of(self.holder)?;
        Ok(self.decide(&leases, own, now(ctx), others_first)?.answer)
    }

    /// The reply to a call that gets no place, even if one is free. Only reads.
    ///
    /// # Errors
    /// The key holds something other than leases.
    fn refuse(&self, ctx: Context<'a>) -> Result<Answer, Error> {
        let leases = StoredLeases::<ReadOnly>::open(ctx, self.key)?;
        let answer = self.policy.refuse(&leases, now(ctx));
        leases.check()?;
        Ok(answer)
    }

    fn decide<A: Access>(
        &self,
        leases: &StoredLeases<'_, A>,
        own: Option<Millis>,
        now: Millis,
        others_first: bool,
    ) -> Result<Decision<Grant>, Error> {
        let mut decision = self.policy.decide(leases, own, now).map_err(too_long)?;
        if others_first && !decision.answer.limited && own.is_none_or(|own| own <= now) {
            decision = Decision { answer: self.policy.refuse(leases, now), next: Next::Keep };
        }
        leases.check()?;
        Ok(decision)
    }
}

/// The argument `ttl`.
fn parse_ttl(text: Str<'_>) -> Result<Millis, Error> {
    let ttl = period(text, "ttl")?.ceil_millis();
    if ttl > MAX_TTL {
        return Err(Error::refused(format!(
            "ttl must be at most {} seconds (366 days), not {}",
            MAX_TTL.0 / 1_000,
            Shown(text.bytes())
        )));
    }
    Ok(ttl)
}

/// Checks the argument `holder`.
pub(super) fn check_holder(holder: Str<'_>) -> Result<(), Error> {
    if holder.bytes().is_empty() {
        return Err(Error::refused("holder is empty: give each holder a name of its own"));
    }
    Ok(())
}

/// The server's time in the unit of leases.
pub(super) fn now(ctx: Context<'_>) -> Millis {
    ctx.now().nanos().floor_millis()
}

/// Counts and replies.
fn conclude(ctx: Context<'_>, answer: &Answer, request: &Request<'_>) {
    count_cells(answer, 1, None);
    if answer.limited {
        refusals::record(ctx, request.key, "CELL.LEASE");
    }
    ctx.reply_integers(answer.integers(request.unit));
}

/// A blocked client, and what it has asked for.
struct Waiter {
    key: Vec<u8>,
    holder: Vec<u8>,
    policy: Policy,
    unit: Unit,
}

impl Waiter {
    fn new(request: &Request<'_>) -> Self {
        Self {
            key: request.key.bytes().to_vec(),
            holder: request.holder.bytes().to_vec(),
            policy: request.policy,
            unit: request.unit,
        }
    }

    /// Runs `ask` with the request, if this node still has the key's slot.
    fn with<T>(&self, ctx: Context<'_>, ask: impl FnOnce(&Request<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let (key, holder) = (OwnedStr::new(&self.key), OwnedStr::new(&self.holder));
        if ctx.may_be_elsewhere(key.as_str(), key.as_str()) {
            return Err(Error::SlotMoved);
        }
        let (policy, unit) = (self.policy, self.unit);
        ask(&Request { key: key.as_str(), policy, holder: holder.as_str(), timeout: None, unit })
    }
}

impl Queued for Waiter {
    fn ready(&self, ctx: Context<'_>, ahead: i64) -> Ready {
        let asked = self.with(ctx, |request| {
            // The clients ahead will have taken as many places.
            let limit = request.policy.limit.saturating_sub(ahead);
            if limit < 1 {
                return Ok(Ready::At(None));
            }
            let policy = Policy { limit, ..request.policy };
            let answer = Request { policy, ..*request }.peek(ctx, false)?;
            let at = |span: Nanos| Nanos(ctx.now().nanos().0.saturating_add(span.0));
            Ok(if answer.limited { Ready::At(answer.retry_after.map(at)) } else { Ready::Now })
        });
        asked.unwrap_or(Ready::Error)
    }

    fn serve(&self, ctx: Context<'_>, may_take: &MayTake<'_>) -> Result<(), Error> {
        self.with(ctx, |request| {
            let answer = if !request.peek(ctx, false)?.limited && may_take()? {
                request.take(ctx, false)?
            } else {
                request.refuse(ctx)?
            };
            conclude(ctx, &answer, request);
            Ok(())
        })
    }

    fn give_up(&self, ctx: Context<'_>) -> Result<(), Error> {
        self.with(ctx, |request| {
            conclude(ctx, &request.refuse(ctx)?, request);
            Ok(())
        })
    }
}
