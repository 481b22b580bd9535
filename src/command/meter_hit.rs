//! `METER.HIT key [BY n] [AT unix-ms] [PATH depth member …]… [UNIQUE id] [ONCE event-id]
//! [CAP HOUR|DAY|MONTH limit | CAP SINCE date limit]… [WHY]`
//!
//! Counts n hits in the UTC day and hour of an instant.

use redis_meter_core::calendar::{Day, END_OF_TIME, Hour, MILLIS_PER_DAY, OLDEST, day_and_hour};
use redis_meter_core::hit::{Cap, Outcome, decide, remaining};
use redis_meter_core::tally::{Tally, TallyError};
use redis_meter_core::time::Millis;

use crate::server::{
    Arg, Change, Command, Context, Error, Hash, Key, KeyUse, Keys, Kind, Moment, OwnedStr, Shown, Spec, Str, Text,
    Writable, tell,
};
use crate::store::day::{find, is_last, save};
use crate::store::index::{self, IndexChange};
use crate::store::meter::Meter;
use crate::store::month;
use crate::store::once::Event;
use crate::store::path::{self, Breakdown};
use crate::store::retention::{self, Retention};
use crate::store::{unique, walk};
use crate::{settings, stats};

use super::arguments::{Options, date, integer, is_keyword, path, set_once};
use super::when::When;

pub(crate) struct MeterHit;

const GRAMMAR: &str = "[BY n] [AT unix-ms] [PATH depth member ...]... [UNIQUE id] [ONCE event-id] \
    [CAP HOUR|DAY|MONTH limit | CAP SINCE date limit]... [WHY]";

/// The most paths that a hit may have.
const MOST_PATHS: usize = 8;

/// The most caps that a hit may have.
const MOST_CAPS: usize = 4;

/// The days of the longest month.
const DAYS_OF_A_MONTH: i64 = 31;

/// The most days that CAP SINCE reaches back.
const MOST_DAYS_BACK: i64 = 366;

impl Command for MeterHit {
    const SPEC: Spec = Spec {
        name: c"meter.hit",
        family: &stats::METER,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: true,
        fewest: 1,
        summary: c"Counts hits of a key by UTC day and hour, once per event, up to a cap, along a breakdown.",
        complexity: c"O(1), with PATH O(log(N)) where N is the number of members beside each",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            Arg::new(c"n", Kind::Integer).token(c"BY").optional(),
            Arg::new(c"unix-time-milliseconds", Kind::UnixTime).token(c"AT").optional(),
            When::PATH.multiple(),
            Arg::new(c"id", Kind::Text).token(c"UNIQUE").optional(),
            Arg::new(c"event-id", Kind::Text).token(c"ONCE").optional(),
            Arg::new(
                c"cap",
                Kind::Block(&[
                    Arg::new(
                        c"period",
                        Kind::OneOf(&[
                            Arg::new(c"hour", Kind::Flag).token(c"HOUR"),
                            Arg::new(c"day", Kind::Flag).token(c"DAY"),
                            Arg::new(c"month", Kind::Flag).token(c"MONTH"),
                            Arg::new(c"date", Kind::Text).token(c"SINCE"),
                        ]),
                    ),
                    Arg::new(c"limit", Kind::Integer),
                ]),
            )
            .token(c"CAP")
            .optional()
            .multiple(),
            Arg::new(c"why", Kind::Flag).token(c"WHY").optional(),
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::parse(arguments)?;

        let now = ctx.now().floor_millis();
        let (day, hour) = day_and_hour(request.instant(now)?);
        let meter = Meter::new(request.key)?;
        let retention = Retention::of(day, now)?;
        let name = meter.day_key(day);
        let counts = meter.write::<Hash>(ctx, &name)?;
        let found = find(&counts, hour)?;
        let hit = Hit { ctx, meter, day, hour, now, retention, read_at: Moment::now() };
        let is_open = found.day.is_some() && found.hour.is_some();
        let is_settled = is_open && counts.expiry() == retention.expire_at;
        let before = found.tally();

        if !is_settled || request.has_extras() {
            return hit.run(&request, counts, before, is_settled);
        }
        // Most hits change no more than the two counts.
        let caps = hit.caps(&request.caps, before)?;
        let outcome = decide(request.n, before, false, &caps).map_err(tally_error)?;
        let Outcome::Counted(_) = outcome else {
            reply(ctx, &request, before, &outcome, remaining(&caps, 0));
            return Ok(());
        };
        let after = hit.read_again(&counts, before)?.plus(request.n).map_err(tally_error)?;
        if is_last(&counts, after) {
            return hit.run(&request, counts, before, is_settled);
        }
        if let Some(change) = save(counts, hour, after, None) {
            change.tell(ctx);
        }
        ctx.signal_modified(request.key);
        count_hits(request.n);
        reply(ctx, &request, after, &outcome, remaining(&caps, request.n));
        Ok(())
    }
}

/// Where and when a hit counts.
#[derive(Clone, Copy)]
struct Hit<'a> {
    ctx: Context<'a>,
    meter: Meter<'a>,
    day: Day,
    hour: Hour,
    now: Millis,
    retention: Retention,
    /// When the counts were read.
    read_at: Moment,
}

impl<'a> Hit<'a> {
    /// Reads, decides, and writes what the decision asks for.
    fn run(
        self,
        request: &Request<'a>,
        counts: Key<'_, Hash, Writable>,
        before: Tally,
        is_open: bool,
    ) -> Result<(), Error> {
        let names = Names::new(self.meter, self.day, request);
        let extras = Extras::open(&self, request, &names)?;
        // Where nothing else can refuse the hit, to remember its event will tell whether it is known.
        let must_look = !is_open || request.n < 0 || request.unique.is_some() || !request.caps.is_empty();
        let is_duplicate = must_look && extras.is_duplicate()?;
        let caps = self.caps(&request.caps, before)?;
        let mut outcome = self.outcome(request, &extras, before, is_duplicate, &caps);
        if outcome.is_err() && !must_look && extras.is_duplicate()? {
            outcome = Ok(Outcome::Duplicate);
        }
        let outcome = outcome?;
        let Outcome::Counted(_) = outcome else {
            reply(self.ctx, request, before, &outcome, remaining(&caps, 0));
            return Ok(());
        };
        let planned = self.plan(request, &extras, &counts, before)?;
        match self.apply(request, extras, counts, planned)? {
            Some(after) => {
                let outcome = Outcome::Counted(after);
                reply(self.ctx, request, after, &outcome, remaining(&caps, request.n));
            }
            None => reply(self.ctx, request, before, &Outcome::Duplicate, remaining(&caps, 0)),
        }
        Ok(())
    }

    /// The counts before the hit: as they were read at first, unless another module may have written them since.
    fn read_again(&self, counts: &Key<'_, Hash, Writable>, before: Tally) -> Result<Tally, Error> {
        if self.read_at.still_holds() { Ok(before) } else { Ok(find(counts, self.hour)?.tally()) }
    }

    /// What becomes of the hit.
    fn outcome(
        &self,
        request: &Request<'_>,
        extras: &Extras<'_>,
        before: Tally,
        is_duplicate: bool,
        caps: &[Cap],
    ) -> Result<Outcome, Error> {
        let outcome = decide(request.n, before, is_duplicate, caps).map_err(tally_error)?;
        if let Outcome::Counted(_) = outcome {
            extras.breakdown.check(request.n)?;
        }
        Ok(outcome)
    }

    /// Reads what the caps are about.
    fn caps(&self, asked: &[AskedCap], before: Tally) -> Result<Vec<Cap>, Error> {
        let mut caps = Vec::with_capacity(asked.len());
        for cap in asked {
            let counted = match cap.period {
                Period::Hour => i128::from(before.hour),
                Period::Day => i128::from(before.day),
                Period::Month => {
                    let month = self.day.month();
                    ensure_kept("CAP MONTH", month.first(), DAYS_OF_A_MONTH, self.now)?;
                    self.counted(month.first(), month.last(), before)?
                }
                Period::Since(since) => {
                    self.ensure_near(since)?;
                    ensure_kept("CAP SINCE", since, 1, self.now)?;
                    self.counted(since, Day::LAST, before)?
                }
            };
            caps.push(Cap { counted, limit: cap.limit });
        }
        Ok(caps)
    }

    /// What was counted in a span that the hit's day is in, what was sealed or dropped included.
    fn counted(&self, from: Day, to: Day, before: Tally) -> Result<i128, Error> {
        let others = month::sum(self.ctx, self.meter, from, to, self.day)?;
        Ok(others + i128::from(before.day))
    }

    fn ensure_near(&self, since: Day) -> Result<(), Error> {
        let shown = since.number();
        if since > self.day {
            return Err(Error::refused(format!(
                "CAP SINCE {shown:08} must not be after the day of the hit, {:08}",
                self.day.number()
            )));
        }
        if self.day.end().0 - since.end().0 > MOST_DAYS_BACK * MILLIS_PER_DAY {
            return Err(Error::refused(format!(
                "CAP SINCE {shown:08} must be at most {MOST_DAYS_BACK} days before the hit"
            )));
        }
        Ok(())
    }

    /// What has to be done besides counting; all that may be refused is checked.
    fn plan(
        &self,
        request: &Request<'_>,
        extras: &Extras<'_>,
        counts: &Key<'_, Hash, Writable>,
        before: Tally,
    ) -> Result<Plan, Error> {
        let (ctx, meter, day) = (self.ctx, self.meter, self.day);
        let after = before.plus(request.n).map_err(tally_error)?;
        let exists = counts.exists();
        let is_last = is_last(counts, after);
        let day_goes = is_last
            && match extras.breakdown.empties_first_level(request.n) {
                Some(empties) => empties,
                None => !walk::has_breakdown(ctx, meter, day)?,
            };
        if day_goes {
            // The ids of the day go with it.
            meter.read::<Text>(ctx, &meter.unique_key(day))?;
        }
        let expires_right = exists && counts.expiry() == self.retention.expire_at;
        let opens = !exists || before.day == 0 || before.hour == 0;
        let touches_index = day_goes || opens || !expires_right;
        if touches_index {
            index::check(ctx, meter)?;
        }
        let (stale, is_whole) = if is_last || expires_right {
            (Vec::new(), true)
        } else {
            retention::stale_keys(ctx, meter, day, self.retention.expire_at)?
        };
        // A new hash that has no expiry yet, or an old one with the wrong one, says that there is more to be moved.
        let expire = match self.retention.expire_at {
            _ if is_last || expires_right || !is_whole => None,
            None if !exists => None,
            at => Some(at),
        };
        Ok(Plan { before, day_goes, touches_index, stale, expire })
    }

    /// Writes a hit that is to be counted, and tells of it: the counts after it, or `None` if its event proves to be
    /// known, and nothing has been changed.
    fn apply(
        self,
        request: &Request<'a>,
        mut extras: Extras<'_>,
        counts: Key<'_, Hash, Writable>,
        plan: Plan,
    ) -> Result<Option<Tally>, Error> {
        let (ctx, meter, day, n) = (self.ctx, self.meter, self.day, request.n);
        let expire_at = self.retention.expire_at;
        if !extras.run(n)? {
            return Ok(None);
        }
        let after = self.read_again(&counts, plan.before)?.plus(n).map_err(tally_error)?;

        let kept_from = self.retention.kept_from.filter(|_| !counts.exists());
        let ids = plan.day_goes.then(|| meter.unique_key(day));
        let mut changes: Vec<Change<'_>> = Vec::new();
        let Extras { breakdown, unique, event } = extras;
        changes.extend(breakdown.add(n, expire_at));
        changes.extend(save(counts, self.hour, after, plan.expire));
        changes.extend(retention::expire(ctx, &plan.stale, expire_at));
        if let (Some(unique), Some(_)) = (&unique, expire_at) {
            changes.extend(unique.expire(expire_at));
        }
        changes.extend(event.as_ref().and_then(Event::expire));
        changes.extend(ids.as_ref().and_then(|ids| walk::delete(ctx, ids)));
        // Last: a key that the server has made above would have it opened again.
        let index = match (plan.day_goes, plan.touches_index) {
            // It was checked; what another module has made of it since is not the hit's to mend.
            (true, _) => IndexChange::remove(ctx, meter, &[day]).ok(),
            (false, true) => {
                let index = IndexChange::hold(ctx, meter, &[day]);
                let index = index.and_then(|index| index.expiring(ctx, meter, day, expire_at));
                index.ok().map(|index| index.clearing(ctx, meter, kept_from))
            }
            _ => None,
        };
        changes.extend(index.and_then(IndexChange::commit));
        tell(ctx, changes.iter());
        // `WATCH` and caches of the meter are by its key.
        ctx.signal_modified(meter.key());
        count_hits(n);
        Ok(Some(after))
    }
}

/// What a hit does besides counting.
struct Plan {
    /// The counts, as they were read at first.
    before: Tally,
    /// Nothing is left of the day.
    day_goes: bool,
    /// The day's entry is to be made sure of, or removed.
    touches_index: bool,
    /// Keys of the day that are to expire otherwise.
    stale: Vec<OwnedStr>,
    /// The same of its hash, when it is the last.
    expire: Option<Option<Millis>>,
}

struct Request<'a> {
    key: Str<'a>,
    n: i64,
    at: Option<i64>,
    paths: Vec<Vec<Str<'a>>>,
    unique: Option<Str<'a>>,
    once: Option<Str<'a>>,
    caps: Vec<AskedCap>,
    why: bool,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let (mut n, mut at, mut unique, mut once, mut why) = (None, None, None, None, None);
        let (mut paths, mut caps) = (Vec::new(), Vec::new());
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if is_keyword(word, "BY") {
                let value = integer(options.value("BY")?, "BY", i64::MIN..=i64::MAX)?;
                set_once(&mut n, "BY", value)?;
            } else if is_keyword(word, "AT") {
                let value = integer(options.value("AT")?, "AT", i64::MIN..=i64::MAX)?;
                set_once(&mut at, "AT", value)?;
            } else if is_keyword(word, "PATH") {
                paths.push(path(&mut options)?);
            } else if is_keyword(word, "UNIQUE") {
                let value = options.value("UNIQUE")?;
                set_once(&mut unique, "UNIQUE", value)?;
            } else if is_keyword(word, "ONCE") {
                let value = options.value("ONCE")?;
                set_once(&mut once, "ONCE", value)?;
            } else if is_keyword(word, "CAP") {
                caps.push(AskedCap::parse(&mut options)?);
            } else if is_keyword(word, "WHY") {
                set_once(&mut why, "WHY", ())?;
            } else {
                return Err(options.unknown(word));
            }
        }
        let request = Self { key: *key, n: n.unwrap_or(1), at, paths, unique, once, caps, why: why.is_some() };
        request.check().map(|()| request)
    }

    /// Checks the options against each other.
    fn check(&self) -> Result<(), Error> {
        if self.once.is_some() && self.at.is_none() {
            return Err(Error::refused("ONCE needs AT, the time of the event, the same each time it is sent"));
        }
        if self.once.is_some_and(|id| id.bytes().is_empty()) {
            return Err(Error::refused("the event id of ONCE is empty: all events without one would be the same"));
        }
        if self.paths.len() > MOST_PATHS {
            return Err(Error::refused(format!("at most {MOST_PATHS} PATHs fit in a hit, not {}", self.paths.len())));
        }
        if self.caps.len() > MOST_CAPS {
            return Err(Error::refused(format!("at most {MOST_CAPS} CAPs fit in a hit, not {}", self.caps.len())));
        }
        for (place, cap) in self.caps.iter().enumerate() {
            let name = cap.period.name();
            if name != "SINCE" && self.caps[..place].iter().any(|other| other.period.name() == name) {
                return Err(Error::refused(format!("CAP {name} is given twice")));
            }
        }
        Ok(())
    }

    /// Whether it writes more keys than that of the counts.
    fn has_extras(&self) -> bool {
        !self.paths.is_empty() || self.unique.is_some() || self.once.is_some()
    }

    /// The instant to count at.
    fn instant(&self, now: Millis) -> Result<Millis, Error> {
        let Some(at) = self.at else { return Ok(now) };
        let ahead = settings::MAX_FUTURE_MS.get();
        if (OLDEST.0..END_OF_TIME.0).contains(&at) && at <= now.0.saturating_add(ahead) {
            return Ok(Millis(at));
        }
        Err(wrong_instant(at, now, ahead))
    }
}

#[cold]
fn wrong_instant(at: i64, now: Millis, ahead: i64) -> Error {
    // What a clock of today would have in these units.
    let looks_like = |per_milli: i64| {
        let at = at / per_milli;
        at > 0 && (at - now.0).abs() < 100 * 366 * MILLIS_PER_DAY && at >= OLDEST.0
    };
    Error::refused(if at < 0 {
        format!("AT {at} is before 1970: give milliseconds since the epoch")
    } else if at < OLDEST.0 {
        format!("AT {at} looks like seconds: give milliseconds since the epoch")
    } else if looks_like(1_000) {
        format!("AT {at} looks like microseconds: give milliseconds since the epoch")
    } else if looks_like(1_000_000) {
        format!("AT {at} looks like nanoseconds: give milliseconds since the epoch")
    } else if at >= END_OF_TIME.0 {
        format!("AT {at} is past the year 9999: give milliseconds since the epoch")
    } else {
        format!("AT {at} is more than max-future-ms ({ahead}) ahead of the server's clock, {}", now.0)
    })
}

/// A cap as it is asked for.
#[derive(Clone, Copy)]
struct AskedCap {
    period: Period,
    limit: i64,
}

#[derive(Clone, Copy)]
enum Period {
    Hour,
    Day,
    Month,
    Since(Day),
}

impl Period {
    fn name(self) -> &'static str {
        match self {
            Self::Hour => "HOUR",
            Self::Day => "DAY",
            Self::Month => "MONTH",
            Self::Since(_) => "SINCE",
        }
    }
}

impl AskedCap {
    fn parse(options: &mut Options<'_, '_>) -> Result<Self, Error> {
        let text = options.value("CAP")?;
        let period = if is_keyword(text, "SINCE") {
            Period::Since(date(options.value("CAP SINCE")?, "the date of CAP SINCE")?)
        } else {
            let fixed = [Period::Hour, Period::Day, Period::Month];
            fixed.into_iter().find(|period| is_keyword(text, period.name())).ok_or_else(|| {
                Error::refused(format!(
                    "CAP must be of an HOUR, DAY or MONTH, or SINCE a date, not {}",
                    Shown(text.bytes())
                ))
            })?
        };
        let limit = integer(options.value("CAP")?, &format!("the limit of CAP {}", period.name()), 1..=i64::MAX)?;
        Ok(Self { period, limit })
    }
}

/// Makes sure that no day from `first` on has expired, and that none will while a span of `days` lasts.
fn ensure_kept(cap: &str, first: Day, days: i64, now: Millis) -> Result<(), Error> {
    let kept = settings::RETENTION_DAYS.get();
    if kept == 0 {
        return Ok(());
    }
    if kept < days {
        return Err(Error::refused(format!(
            "{cap} adds up {days} days: set retention-days ({kept}) to {days} or more, or to 0"
        )));
    }
    if first.end().0 + kept * MILLIS_PER_DAY <= now.0 {
        return Err(Error::refused(format!(
            "{cap} adds up the days from {:08} on, some of which are past retention-days ({kept}): raise it, or cap a \
             shorter span",
            first.number()
        )));
    }
    Ok(())
}

/// The names of the keys that a hit touches besides that of the counts.
struct Names<'a> {
    paths: Vec<(OwnedStr, &'a [Str<'a>])>,
    unique: Option<OwnedStr>,
    once: Option<OwnedStr>,
}

impl<'a> Names<'a> {
    fn new(meter: Meter<'_>, day: Day, request: &'a Request<'a>) -> Self {
        Self {
            paths: path::set_names(meter, day, &request.paths),
            unique: request.unique.map(|_| meter.unique_key(day)),
            once: request.once.map(|_| meter.once_key(day)),
        }
    }
}

/// What a hit touches besides the counts of the day and the hour.
struct Extras<'a> {
    breakdown: Breakdown<'a>,
    unique: Option<unique::Id<'a>>,
    event: Option<Event<'a>>,
}

impl<'a> Extras<'a> {
    fn open(hit: &Hit<'a>, request: &'a Request<'a>, names: &'a Names<'a>) -> Result<Self, Error> {
        let (ctx, meter, day) = (hit.ctx, hit.meter, hit.day);
        let unique = match (request.unique, &names.unique) {
            (Some(id), Some(key)) => Some(unique::Id::open(ctx, meter, key, id)?),
            _ => None,
        };
        let event = match (request.once, &names.once) {
            (Some(id), Some(key)) => Some(Event::open(ctx, meter, key, id, remembered_until(day, hit.now)?)?),
            _ => None,
        };
        let breakdown = Breakdown::open(ctx, meter, day, &request.paths, &names.paths)?;
        Ok(Self { breakdown, unique, event })
    }

    fn is_duplicate(&self) -> Result<bool, Error> {
        self.event.as_ref().map_or(Ok(false), Event::is_known)
    }

    /// Runs what the server has to be asked for, which may still be refused; whether the event was new. The server fires
    /// events at once, in which other modules may have written: what was read before is read again.
    ///
    /// # Errors
    /// The key of the unique ids holds something else; nothing has been changed.
    fn run(&mut self, n: i64) -> Result<bool, Error> {
        if self.unique.is_none() && self.event.is_none() {
            return Ok(true);
        }
        // A HyperLogLog cannot forget; a correction leaves it as it is.
        if let Some(id) = self.unique.as_ref().filter(|_| n > 0) {
            id.add()?;
        }
        if let Some(event) = &self.event
            && !event.remember()?
            && self.unique.is_none()
        {
            return Ok(false);
        }
        self.breakdown.read_again()?;
        Ok(true)
    }
}

/// Until when the ids of a day's events are remembered, by the config `once-days`.
fn remembered_until(day: Day, now: Millis) -> Result<Millis, Error> {
    let days = settings::ONCE_DAYS.get();
    let until = Millis(day.end().0 + days * MILLIS_PER_DAY);
    if until > now {
        return Ok(until);
    }
    Err(Error::refused(format!(
        "ONCE: day {:08} ended once-days ({days}) ago or longer, and its event ids are no longer stored",
        day.number()
    )))
}

fn tally_error(error: TallyError) -> Error {
    match error {
        TallyError::BelowZero => Error::refused("BY would correct more than was counted in that hour or day"),
        TallyError::TooLarge => Error::refused("the count would pass 9223372036854775807"),
    }
}

fn count_hits(n: i64) {
    let counter = if n > 0 { &stats::HITS_COUNTED } else { &stats::HITS_CORRECTED };
    counter.add(n.unsigned_abs());
}

/// Replies the counts, and how much was counted; with WHY also why nothing was, and what the caps leave.
#[inline]
fn reply(ctx: Context<'_>, request: &Request<'_>, counts: Tally, outcome: &Outcome, remaining: Option<i64>) {
    let (applied, why, counter) = match outcome {
        Outcome::Counted(_) => (request.n, None, None),
        Outcome::Duplicate => (0, Some("duplicate"), Some(&stats::HITS_DUPLICATE)),
        Outcome::Capped => (0, Some("capped"), Some(&stats::HITS_CAPPED)),
        Outcome::Looked => (0, None, None),
    };
    if let Some(counter) = counter {
        counter.add(request.n.unsigned_abs());
    }
    if !request.why {
        ctx.reply_integers([counts.day, counts.hour, applied]);
        return;
    }
    ctx.reply_array(5);
    for number in [counts.day, counts.hour, applied] {
        ctx.reply_integer(number);
    }
    match why {
        Some(why) => ctx.reply_bytes(why.as_bytes()),
        None => ctx.reply_null(),
    }
    match remaining {
        Some(remaining) => ctx.reply_integer(remaining),
        None => ctx.reply_null(),
    }
}
