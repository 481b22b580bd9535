//! `METER.HIT key [BY n] [AT unix-ms] [PATH depth member …] [UNIQUE id] [ONCE event-id] [CAP HOUR|DAY|MONTH limit]`
//!
//! Counts n hits in the UTC day and hour of an instant.

use crate::server::{Arg, Command, Context, Counter, Error, KeyUse, Keys, Kind, OwnedStr, Shown, Spec, Str};
use crate::store::day::{find, is_last, save};
use crate::store::held::{self, Finder};
use crate::store::index::IndexChange;
use crate::store::meter::Meter;
use crate::store::once::Event;
use crate::store::path::{self, Breakdown};
use crate::store::{month, unique};
use crate::{settings, stats};
use redis_meter_core::calendar::{Day, END_OF_TIME, day_and_hour};
use redis_meter_core::tally::{Tally, TallyError};
use redis_meter_core::time::Millis;

use super::arguments::{Options, integer, is_keyword, path, set_once};
use super::when::When;

pub(crate) struct MeterHit;

const GRAMMAR: &str =
    "[BY n] [AT unix-ms] [PATH depth member ...] [UNIQUE id] [ONCE event-id] [CAP HOUR|DAY|MONTH limit]";
const MILLIS_PER_DAY: i64 = 86_400_000;

/// A timestamp below this, in March 1973, is taken for one in seconds.
const LOOKS_LIKE_SECONDS: i64 = 100_000_000_000;

/// The days of the longest month.
const DAYS_OF_A_MONTH: i64 = 31;

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
            When::PATH,
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
                        ]),
                    ),
                    Arg::new(c"limit", Kind::Integer),
                ]),
            )
            .token(c"CAP")
            .optional(),
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::parse(arguments)?;

        let now = ctx.now().floor_millis();
        let (day, hour) = day_and_hour(request.instant(now)?);
        let retention = Retention::of(day, now)?;
        let meter = Meter::new(request.key)?;
        let name = meter.day_key(day);
        let counts = meter.write(ctx, &name)?;
        let found = find(&counts, hour)?;
        let before = found.tally();
        // Most hits have none of the options that need more keys.
        let keys = request.has_extras().then(|| ExtraKeys::new(meter, day, &request));
        let extras = match &keys {
            Some(keys) => Some(Extras::open(ctx, meter, day, now, &request, keys)?),
            None => None,
        };

        let n = request.n;
        let reply_uncounted = |counter: &Counter| {
            counter.add(n.unsigned_abs());
            ctx.reply_integers([before.day, before.hour, 0]);
        };
        if n == 0 {
            ctx.reply_integers([before.day, before.hour, 0]);
            return Ok(());
        }
        let is_open = found.day.is_some() && found.hour.is_some();
        let new_expiry = retention.expire_at.filter(|&at| counts.expiry() != Some(at));
        let after = before.plus(n).map_err(tally_error).and_then(|after| match &extras {
            Some(extras) => extras.path.check(n).map(|()| after),
            None => Ok(after),
        });
        // A duplicate is one whatever else it asks for. Where more has to be looked at, or may be refused when something
        // has been written, its event is looked up first; else remembering it will tell whether it is known.
        let is_plain =
            after.is_ok() && is_open && new_expiry.is_none() && request.cap.is_none() && request.unique.is_none();
        if !(is_plain && n > 0) && extras.as_ref().is_some_and(Extras::is_duplicate) {
            reply_uncounted(&stats::HITS_DUPLICATE);
            return Ok(());
        }
        if n > 0
            && let Some(cap) = request.cap
            && cap.is_exceeded(ctx, meter, day, before, n, now)?
        {
            reply_uncounted(&stats::HITS_CAPPED);
            return Ok(());
        }
        let after = after?;

        let last = is_last(&counts, after);
        // The expiry is set when it is not the right one yet, and never on a key that goes.
        let expire_at = new_expiry.filter(|_| !last);
        let expiry = || retention.expire_at.filter(|_| !last).or_else(|| counts.expiry());
        let moved = match expire_at {
            // The config has changed since the day was opened: all that belongs to it goes when it goes.
            Some(at) if counts.exists() => Finder::new(ctx, meter).find(day)?.map(|held| (held, at)),
            _ => None,
        };
        let day_goes = last && !first_level_stays(ctx, meter, day, extras.as_ref(), n)?;
        // Its ids go with it; they are looked at first, as all that is written.
        let ids = if day_goes { Some(unique::key(ctx, meter, day)?) } else { None };
        let index = if day_goes {
            Some(IndexChange::remove(ctx, meter, vec![day])?)
        } else if !is_open || expire_at.is_some() {
            let kept_from = retention.kept_from.filter(|_| !counts.exists());
            Some(IndexChange::hold(ctx, meter, day, expiry(), kept_from)?)
        } else {
            None
        };

        // The first to be written is what may still be refused, or prove to be a duplicate.
        if let Some(extras) = extras
            && !extras.save(ctx, n, expiry())?
        {
            reply_uncounted(&stats::HITS_DUPLICATE);
            return Ok(());
        }
        save(counts, hour, after, expire_at);
        if let Some((held, at)) = moved {
            held.expire_at(ctx, meter, at);
        }
        if let Some(ids) = ids {
            held::delete(ctx, &ids);
        }
        if let Some(index) = index {
            index.commit();
        }
        // Whoever watches or caches the meter does so by its key.
        ctx.signal_modified(meter.key());
        count_hits(n);

        ctx.reply_integers([after.day, after.hour, n]);
        Ok(())
    }
}

struct Request<'a> {
    key: Str<'a>,
    n: i64,
    at: Option<i64>,
    /// No members if there is no breakdown.
    path: Vec<Str<'a>>,
    unique: Option<Str<'a>>,
    once: Option<Str<'a>>,
    cap: Option<Cap>,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let (mut n, mut at, mut members, mut unique, mut once, mut cap) = (None, None, None, None, None, None);
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if is_keyword(word, "BY") {
                let value = integer(options.value("BY")?, "BY", i64::MIN..=i64::MAX)?;
                set_once(&mut n, "BY", value)?;
            } else if is_keyword(word, "AT") {
                let value = integer(options.value("AT")?, "AT", i64::MIN..=i64::MAX)?;
                set_once(&mut at, "AT", value)?;
            } else if is_keyword(word, "PATH") {
                let value = path(&mut options)?;
                set_once(&mut members, "PATH", value)?;
            } else if is_keyword(word, "UNIQUE") {
                let value = options.value("UNIQUE")?;
                set_once(&mut unique, "UNIQUE", value)?;
            } else if is_keyword(word, "ONCE") {
                let value = options.value("ONCE")?;
                set_once(&mut once, "ONCE", value)?;
            } else if is_keyword(word, "CAP") {
                let value = Cap::parse(&mut options)?;
                set_once(&mut cap, "CAP", value)?;
            } else {
                return Err(options.unknown(word));
            }
        }
        if once.is_some() && at.is_none() {
            return Err(Error::refused("ONCE needs AT, the time of the event, the same each time it is sent"));
        }
        if once.is_some_and(|id| id.bytes().is_empty()) {
            return Err(Error::refused("the event id of ONCE is empty: all events without one would be the same"));
        }
        Ok(Self { key: *key, n: n.unwrap_or(1), at, path: members.unwrap_or_default(), unique, once, cap })
    }

    /// Whether it touches more than the counts of the day and the hour.
    fn has_extras(&self) -> bool {
        !self.path.is_empty() || self.unique.is_some() || self.once.is_some()
    }

    /// The instant to count at.
    fn instant(&self, now: Millis) -> Result<Millis, Error> {
        let Some(at) = self.at else { return Ok(now) };
        if at < LOOKS_LIKE_SECONDS {
            return Err(Error::refused(format!("AT {at} looks like seconds: give milliseconds since the epoch")));
        }
        if at >= END_OF_TIME.0 {
            return Err(Error::refused(format!("AT {at} is past the year 9999: give milliseconds since the epoch")));
        }
        let ahead = settings::MAX_FUTURE_MS.get();
        if at > now.0.saturating_add(ahead) {
            return Err(Error::refused(format!(
                "AT {at} is more than max-future-ms ({ahead}) ahead of the server's clock, {}",
                now.0
            )));
        }
        Ok(Millis(at))
    }
}

/// What a count must not exceed.
#[derive(Clone, Copy)]
struct Cap {
    period: Period,
    limit: i64,
}

#[derive(Clone, Copy)]
enum Period {
    Hour,
    Day,
    Month,
}

impl Cap {
    fn parse(options: &mut Options<'_, '_>) -> Result<Self, Error> {
        let text = options.value("CAP")?;
        let period = [("HOUR", Period::Hour), ("DAY", Period::Day), ("MONTH", Period::Month)]
            .into_iter()
            .find_map(|(keyword, period)| is_keyword(text, keyword).then_some(period))
            .ok_or_else(|| {
                Error::refused(format!("CAP must be of an HOUR, DAY or MONTH, not {}", Shown(text.bytes())))
            })?;
        let limit = integer(options.value("CAP")?, "the limit of CAP", 1..=i64::MAX)?;
        Ok(Self { period, limit })
    }

    /// Whether `n` more hits would exceed it.
    fn is_exceeded(
        self,
        ctx: Context<'_>,
        meter: Meter<'_>,
        day: Day,
        before: Tally,
        n: i64,
        now: Millis,
    ) -> Result<bool, Error> {
        let count = match self.period {
            Period::Hour => i128::from(before.hour),
            Period::Day => i128::from(before.day),
            Period::Month => {
                ensure_whole_month(day, now)?;
                i128::from(before.day) + month::count_without(ctx, meter, day.month(), day)?
            }
        };
        Ok(count + i128::from(n) > i128::from(self.limit))
    }
}

/// A month's count is known as long as none of its days has expired.
fn ensure_whole_month(day: Day, now: Millis) -> Result<(), Error> {
    let days = settings::RETENTION_DAYS.get();
    if days == 0 {
        return Ok(());
    }
    if days < DAYS_OF_A_MONTH {
        return Err(Error::refused(format!(
            "CAP MONTH needs the days of a month: set retention-days ({days}) to {DAYS_OF_A_MONTH} or more, or to 0"
        )));
    }
    let first = day.month().first();
    if first.end().0 + days * MILLIS_PER_DAY <= now.0 {
        return Err(Error::refused(format!(
            "CAP MONTH needs the days of month {:06}, of which some are past retention-days ({days})",
            day.month().number()
        )));
    }
    Ok(())
}

/// The names of the keys that a hit touches besides that of the counts.
struct ExtraKeys {
    path: Vec<OwnedStr>,
    unique: Option<OwnedStr>,
    once: Option<OwnedStr>,
}

impl ExtraKeys {
    fn new(meter: Meter<'_>, day: Day, request: &Request<'_>) -> Self {
        Self {
            path: path::keys(meter, day, &request.path),
            unique: request.unique.map(|_| meter.unique_key(day)),
            once: request.once.map(|_| meter.once_key(day)),
        }
    }
}

/// What a hit touches besides the counts of the day and the hour.
struct Extras<'a> {
    path: Breakdown<'a>,
    unique: Option<unique::Id<'a>>,
    event: Option<Event<'a>>,
}

impl<'a> Extras<'a> {
    fn open(
        ctx: Context<'a>,
        meter: Meter<'a>,
        day: Day,
        now: Millis,
        request: &'a Request<'a>,
        keys: &'a ExtraKeys,
    ) -> Result<Self, Error> {
        let path = Breakdown::open(ctx, meter, day, &request.path, &keys.path)?;
        let unique = match (request.unique, &keys.unique) {
            (Some(id), Some(key)) => Some(unique::Id::open(ctx, meter, key, id)?),
            _ => None,
        };
        let event = match (request.once, &keys.once) {
            (Some(id), Some(key)) => Some(Event::open(ctx, meter, key, id, remembered_until(day, now)?)?),
            _ => None,
        };
        Ok(Self { path, unique, event })
    }

    fn is_duplicate(&self) -> bool {
        self.event.as_ref().is_some_and(Event::is_known)
    }

    /// Writes what has been checked, unless the event proves to be known: whether it has. What belongs to the day
    /// expires at `expire_at`, if it is given.
    ///
    /// # Errors
    /// The key of the unique ids holds something else; nothing has been changed.
    fn save(self, ctx: Context<'_>, n: i64, expire_at: Option<Millis>) -> Result<bool, Error> {
        // A HyperLogLog cannot forget; a correction leaves it as it is.
        if let Some(id) = self.unique.filter(|_| n > 0) {
            id.add(ctx, expire_at)?;
        }
        if self.event.is_some_and(|event| !event.remember(ctx)) {
            return Ok(false);
        }
        self.path.add(n, expire_at);
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
        "ONCE: day {:08} ended once-days ({days}) ago or longer, so that the ids of its events are forgotten",
        day.number()
    )))
}

/// Whether something of a day's breakdown is left when its hash goes.
fn first_level_stays(
    ctx: Context<'_>,
    meter: Meter<'_>,
    day: Day,
    extras: Option<&Extras<'_>>,
    n: i64,
) -> Result<bool, Error> {
    match extras.and_then(|extras| extras.path.empties_first_level(n)) {
        Some(empties) => Ok(!empties),
        None => held::has_breakdown(ctx, meter, day),
    }
}

/// How long the day of a hit is kept, by the config `retention-days`.
struct Retention {
    /// When the day expires; `None`: not by itself.
    expire_at: Option<Millis>,
    /// The first day that is still kept.
    kept_from: Option<Day>,
}

impl Retention {
    fn of(day: Day, now: Millis) -> Result<Self, Error> {
        let days = settings::RETENTION_DAYS.get();
        if days == 0 {
            return Ok(Self { expire_at: None, kept_from: None });
        }
        let kept = days * MILLIS_PER_DAY;
        let expire_at = Millis(day.end().0 + kept);
        if expire_at <= now {
            return Err(Error::refused(format!(
                "day {:08} is past retention-days ({days}): it is kept no longer",
                day.number()
            )));
        }
        let kept_from = Millis((now.0 - kept - MILLIS_PER_DAY).max(0));
        Ok(Self { expire_at: Some(expire_at), kept_from: Some(day_and_hour(kept_from).0) })
    }
}

fn tally_error(error: TallyError) -> Error {
    match error {
        TallyError::BelowZero => Error::refused("BY takes back more than was counted in that hour or day"),
        TallyError::TooLarge => Error::refused("the count would pass 9223372036854775807"),
    }
}

fn count_hits(n: i64) {
    let counter = if n > 0 { &stats::HITS_COUNTED } else { &stats::HITS_CORRECTED };
    counter.add(n.unsigned_abs());
}
