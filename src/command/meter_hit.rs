//! `METER.HIT key [BY n] [AT unix-ms]`
//!
//! Counts n hits in the UTC day and hour of an instant.

use crate::algorithm::calendar::{Day, END_OF_TIME, day_and_hour};
use crate::algorithm::tally::TallyError;
use crate::server::{Arg, Command, Context, Error, Key, KeyUse, Keys, Kind, Spec, Str};
use crate::store::day::{find, is_last, save};
use crate::store::index::IndexChange;
use crate::store::meter::Meter;
use crate::time::Millis;
use crate::{settings, stats};

use super::arguments::{Options, integer, is_keyword, set_once};

pub(crate) struct MeterHit;

const GRAMMAR: &str = "[BY n] [AT unix-ms]";
const MILLIS_PER_DAY: i64 = 86_400_000;

/// A timestamp below this, in March 1973, is taken for one in seconds.
const LOOKS_LIKE_SECONDS: i64 = 100_000_000_000;

impl Command for MeterHit {
    const SPEC: Spec = Spec {
        name: c"meter.hit",
        family: &stats::METER,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: true,
        fewest: 1,
        summary: c"Counts hits of a key by UTC day and hour.",
        complexity: c"O(1)",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            Arg::new(c"n", Kind::Integer).token(c"BY").optional(),
            Arg::new(c"unix-time-milliseconds", Kind::UnixTime).token(c"AT").optional(),
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::parse(arguments)?;

        let now = ctx.now().floor_millis();
        let (day, hour) = day_and_hour(request.instant(now)?);
        let retention = Retention::of(day, now)?;
        let meter = Meter::new(request.key)?;
        let name = meter.day_key(day);
        let counts = Key::write(ctx, name.as_str())?;
        if !counts.exists() {
            meter.ensure_absent(ctx, name.as_str())?;
        }
        let found = find(&counts, hour)?;

        let after = found.tally().plus(request.n).map_err(tally_error)?;

        if request.n != 0 {
            let last = is_last(&counts, after);
            // The expiry is set when it is not the right one yet, and never on a key that goes.
            let wanted = retention.expire_at.filter(|_| !last);
            let expire_at = wanted.filter(|&at| counts.expiry() != Some(at));
            let index = if last {
                Some(IndexChange::remove(ctx, meter, day)?)
            } else if found.day.is_none() || found.hour.is_none() || expire_at.is_some() {
                let expiry = wanted.or_else(|| counts.expiry());
                let opens_day = !counts.exists();
                Some(IndexChange::hold(ctx, meter, day, expiry, retention.kept_from.filter(|_| opens_day))?)
            } else {
                None
            };
            save(counts, hour, after, expire_at);
            if let Some(index) = index {
                index.commit();
            }
            // Whoever watches or caches the meter does so by its key.
            ctx.signal_modified(meter.key());
            count_hits(request.n);
        }

        ctx.reply_integers([after.day, after.hour, request.n]);
        Ok(())
    }
}

struct Request<'a> {
    key: Str<'a>,
    n: i64,
    at: Option<i64>,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let (mut n, mut at) = (None, None);
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if is_keyword(word, "BY") {
                let value = integer(options.value("BY")?, "BY", i64::MIN..=i64::MAX)?;
                set_once(&mut n, "BY", value)?;
            } else if is_keyword(word, "AT") {
                let value = integer(options.value("AT")?, "AT", i64::MIN..=i64::MAX)?;
                set_once(&mut at, "AT", value)?;
            } else {
                return Err(options.unknown(word));
            }
        }
        Ok(Self { key: *key, n: n.unwrap_or(1), at })
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
            let text = String::from_utf8_lossy(&day.digits()).into_owned();
            return Err(Error::refused(format!("day {text} is past retention-days ({days}): it is kept no longer")));
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
