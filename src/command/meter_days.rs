//! `METER.DAYS key`
//!
//! The days that are stored, with their counts.

use crate::server::{Arg, Command, Context, Error, Hash, Key, KeyUse, Keys, Spec, Str};
use crate::stats;
use crate::store::meter::Meter;
use crate::store::{day, index, walk};
use redis_meter_core::calendar::Day;

pub(crate) struct MeterDays;

impl Command for MeterDays {
    const SPEC: Spec = Spec {
        name: c"meter.days",
        family: &stats::METER,
        key: KeyUse::Read,
        keys: Keys::First,
        fast: false,
        fewest: 1,
        summary: c"Returns the days that a key holds, with their counts.",
        complexity: c"O(N) where N is the number of days stored",
        since: c"0.1.0",
        arguments: &[Arg::KEY],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let [key] = arguments else { return Err(Error::Arity) };
        let meter = Meter::new(*key)?;
        let mut days = Vec::new();
        for day in index::days(ctx, meter, Day::FIRST, Day::LAST)? {
            let name = meter.day_key(day);
            let counts = Key::<Hash>::read(ctx, name.as_str())?;
            let total = day::total(&counts)?;
            if counts.exists() || walk::has_breakdown(ctx, meter, day)? {
                days.push((day.digits(), total.unwrap_or(0)));
            }
        }
        ctx.reply_counts(days.iter().map(|(day, total)| (&day[..], *total)));
        Ok(())
    }
}
