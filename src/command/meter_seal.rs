//! `METER.SEAL key [BEFORE d]`
//!
//! Closes the days before a date into a batch, which is answered until it is acknowledged.

use crate::server::{Arg, Command, Context, Error, Key, KeyUse, Keys, SortedSet, Spec, Str};
use crate::store::batch::Batch;
use crate::store::held::{Finder, HeldDay};
use crate::store::index::{self, IndexChange};
use crate::store::meter::Meter;
use crate::store::month;
use crate::{settings, stats};
use redis_meter_core::calendar::{Day, day_and_hour};

use super::before::{self, Before};

pub(crate) struct MeterSeal;

impl Command for MeterSeal {
    const SPEC: Spec = Spec {
        name: c"meter.seal",
        family: &stats::METER,
        key: KeyUse::Consume,
        keys: Keys::First,
        fast: false,
        fewest: 1,
        summary: c"Closes the days before a date into a batch, or returns the batch that is open.",
        complexity: c"O(N) where N is the number of members and keys of these days",
        since: c"0.1.0",
        arguments: &[Arg::KEY, before::ARG],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let Before { key, date } = Before::parse(arguments)?;
        let now = ctx.now().floor_millis();
        let meter = Meter::new(key)?;
        Key::<SortedSet>::read(ctx, meter.key())?;
        if let Some(batch) = Batch::find(ctx, meter)? {
            reply(ctx, meter, &batch);
            return Ok(());
        }

        let Some(last) = date.unwrap_or_else(|| day_and_hour(now).0).previous() else {
            reply_none(ctx);
            return Ok(());
        };
        let (days, gone) = days_to_seal(ctx, meter, last)?;
        if days.is_empty() {
            reply_none(ctx);
            return Ok(());
        }
        let names = month::keys(meter, &days);
        let months = month::add(ctx, meter, &days, &names, now)?;
        let entries = days.iter().map(|held| held.day).chain(gone).collect();
        let index = IndexChange::remove(ctx, meter, entries)?;
        let batch = Batch::new(ctx, days.into_iter().flat_map(|held| held.keys).collect());

        batch.seal(ctx, meter);
        for month in months {
            month.commit();
        }
        index.commit();

        reply(ctx, meter, &batch);
        Ok(())
    }
}

/// The days up to `last` that go into one batch; and those before them that the index names but that are gone.
fn days_to_seal(ctx: Context<'_>, meter: Meter<'_>, last: Day) -> Result<(Vec<HeldDay>, Vec<Day>), Error> {
    let most = usize::try_from(settings::SEAL_MAX_KEYS.get()).unwrap_or(usize::MAX);
    let mut finder = Finder::new(ctx, meter);
    let (mut days, mut gone, mut keys) = (Vec::new(), Vec::new(), 0);
    for day in index::days(ctx, meter, Day::FIRST, last)? {
        let Some(held) = finder.find(day)? else {
            gone.push(day);
            continue;
        };
        keys += held.keys.len();
        if keys > most && !days.is_empty() {
            break;
        }
        days.push(held);
        if keys >= most {
            break;
        }
    }
    Ok((days, gone))
}

fn reply(ctx: Context<'_>, meter: Meter<'_>, batch: &Batch) {
    let keys = batch.keys(meter);
    ctx.reply_array(2);
    ctx.reply_bytes(&batch.id);
    ctx.reply_array(keys.len());
    for key in &keys {
        ctx.reply_bytes(key);
    }
}

fn reply_none(ctx: Context<'_>) {
    ctx.reply_array(2);
    ctx.reply_null();
    ctx.reply_array(0);
}
