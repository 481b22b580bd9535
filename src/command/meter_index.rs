//! `METER.INDEX key FROM d TO d`
//!
//! Adds to the index the days that other programs wrote.

use redis_meter_core::calendar::DAYS_PER_CENTURY;
use redis_meter_core::time::Millis;

use crate::server::{Any, Arg, Command, Context, Error, Key, KeyUse, Keys, Spec, Str};
use crate::stats;
use crate::store::index::{self, IndexChange};
use crate::store::meter::Meter;
use crate::store::walk;

use super::arguments::Options;
use super::when::{When, WhenOptions};

pub(crate) struct MeterIndex;

const GRAMMAR: &str = "FROM d TO d";

/// The most days of a call; each is looked up, and together they take about ten milliseconds.
const MOST_DAYS: u64 = DAYS_PER_CENTURY.cast_unsigned();

impl Command for MeterIndex {
    const SPEC: Spec = Spec {
        name: c"meter.index",
        family: &stats::METER,
        key: KeyUse::Update,
        keys: Keys::First,
        fast: false,
        fewest: 1,
        summary: c"Adds to the index of a key the days of a span that other programs wrote.",
        complexity: c"O(N) where N is the number of days in the span",
        since: c"0.1.0",
        arguments: &[Arg::KEY, When::FROM, When::TO],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let mut when = WhenOptions::default();
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if !when.take(word, &mut options)? {
                return Err(options.unknown(word));
            }
        }
        let Some(When::Span { from, to }) = when.finish(GRAMMAR)? else {
            return Err(Error::refused(format!("give the span: {GRAMMAR}")));
        };
        if from.days_to(to) > MOST_DAYS {
            return Err(Error::refused(format!("FROM and TO must be at most {MOST_DAYS} days apart")));
        }
        let meter = Meter::new(*key)?;
        // All days are read before anything is written.
        let named = index::days(ctx, meter, from, to)?;
        let mut found = Vec::new();
        for day in from.to(to).filter(|day| named.binary_search(day).is_err()) {
            if walk::is_held(ctx, meter, day)? {
                found.push(day);
            }
        }

        let mut expiry = None;
        for (place, &day) in found.iter().enumerate() {
            let name = meter.day_key(day);
            let at = Key::<Any>::read(ctx, name.as_str())?.expiry();
            // The index expires with the last of them: never, if one does not.
            expiry = if place == 0 { at } else { expiry.zip(at).map(|(one, other): (Millis, Millis)| one.max(other)) };
        }
        if let Some(&day) = found.first() {
            let index = IndexChange::hold(ctx, meter, &found)?.expiring(ctx, meter, day, expiry)?;
            if let Some(change) = index.commit() {
                change.tell(ctx);
            }
        }

        ctx.reply_integer(i64::try_from(found.len()).unwrap_or(i64::MAX));
        Ok(())
    }
}
