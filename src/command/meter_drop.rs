//! `METER.DROP key [BEFORE d]`
//!
//! Deletes days, or all of a meter.

use crate::server::{Arg, Command, Context, Error, KeyUse, Keys, Spec, Str};
use crate::stats;
use crate::store::held::{self, Finder};
use crate::store::index::{self, IndexChange};
use crate::store::meter::Meter;
use crate::store::month;
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
        let named = index::days(ctx, meter, Day::FIRST, last)?;
        let (mut finder, mut days) = (Finder::new(ctx, meter), Vec::new());
        for &day in &named {
            days.extend(finder.find(day)?);
        }
        let dropped = days.len();
        let names = month::keys(meter, &days);
        // What is left of a month still counts for its cap; of a meter that goes nothing is left.
        let months = match date {
            Some(_) => month::add(ctx, meter, &days, &names, now)?,
            None => Vec::new(),
        };
        let remembered = if date.is_none() { month::remembered(ctx, meter, now)? } else { Vec::new() };
        // Entries of days that are gone already go too.
        let changes = !named.is_empty() || !remembered.is_empty();
        let index = IndexChange::remove(ctx, meter, named)?;

        for day in &days {
            day.delete(ctx, meter);
        }
        for month in months {
            month.commit();
        }
        for name in &remembered {
            held::delete(ctx, name);
        }
        if changes {
            index.commit();
            ctx.signal_modified(meter.key());
        }

        ctx.reply_integer(i64::try_from(dropped).unwrap_or(i64::MAX));
        Ok(())
    }
}
