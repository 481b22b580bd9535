//! `METER.DROP key [BEFORE d]`
//!
//! Deletes days, or all of a meter.

use crate::server::{Arg, Command, Context, Error, KeyUse, Keys, Spec, Str, tell};
use crate::stats;
use crate::store::index::{self, IndexChange};
use crate::store::meter::Meter;
use crate::store::month;
use crate::store::walk::{self, Finder};
use redis_meter_core::calendar::Day;

use super::before::{self, Before};

pub(crate) struct MeterDrop;

impl Command for MeterDrop {
    const SPEC: Spec = Spec {
        name: c"meter.drop",
        family: &stats::METER,
        key: KeyUse::Consume,
        keys: Keys::First,
        fast: false,
        fewest: 1,
        summary: c"Deletes the days of a key before a date, or all of it but an open batch.",
        complexity: c"O(N) where N is the number of members and keys of these days",
        since: c"0.1.0",
        arguments: &[Arg::KEY, before::ARG],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let Before { key, date } = Before::parse(arguments)?;
        let now = ctx.now().floor_millis();
        let meter = Meter::new(key)?;
        let last = match date {
            None => Day::LAST,
            Some(date) => match date.previous() {
                Some(last) => last,
                None => {
                    ctx.reply_integer(0);
                    return Ok(());
                }
            },
        };
        let (mut finder, mut days, mut entries) = (Finder::new(ctx, meter), Vec::new(), Vec::new());
        let named = index::days(ctx, meter, Day::FIRST, last)?;
        for &day in &named {
            days.extend(finder.find(day)?);
            entries.push(day);
            if finder.looked_up >= MOST_LOOKED_UP {
                break;
            }
        }
        let is_whole = date.is_none() && entries.len() == named.len();
        // The remaining days of a month still count; a meter that is deleted leaves none.
        let months = if date.is_some() { month::additions(ctx, meter, &days, now)? } else { Vec::new() };
        let remembered = if is_whole { month::remembered(ctx, meter, now)? } else { Vec::new() };
        let names: Vec<_> = days.iter().map(|day| day.names(meter)).collect();

        let mut changes = Vec::new();
        for (day, names) in days.iter().zip(&names) {
            changes.extend(day.delete(ctx, names));
        }
        changes.extend(months.iter().filter_map(|month| month.commit(ctx)));
        changes.extend(remembered.iter().filter_map(|name| walk::delete(ctx, name)));
        // Entries of days that were deleted before are deleted too.
        changes.extend(IndexChange::remove(ctx, meter, &entries)?.commit());
        if !changes.is_empty() {
            tell(ctx, changes.iter());
            ctx.signal_modified(meter.key());
        }

        ctx.reply_integer(i64::try_from(days.len()).unwrap_or(i64::MAX));
        Ok(())
    }
}

/// A call drops no further day after this number of lookups: they take about ten milliseconds.
const MOST_LOOKED_UP: u64 = 20_000;
