//! `METER.SEAL key [BEFORE d]`
//!
//! Closes the days before a date into a batch, which is returned until it is acknowledged.

use redis_meter_core::calendar::{Day, day_and_hour};

use crate::server::{Arg, Command, Context, Error, KeyUse, Keys, Spec, Str, tell};
use crate::store::batch::{Batch, Names};
use crate::store::index::{self, IndexChange};
use crate::store::meter::Meter;
use crate::store::month;
use crate::store::walk::{Finder, HeldDay};
use crate::{settings, stats};

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
        index::check(ctx, meter)?;
        if let Some(batch) = Batch::find(ctx, meter)? {
            reply(ctx, &batch, &batch.names(meter));
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
        let months = month::additions(ctx, meter, &days, now)?;
        let entries: Vec<Day> = days.iter().map(|day_keys| day_keys.day).chain(gone).collect();
        let batch = Batch::new(ctx, days.into_iter().flat_map(|day_keys| day_keys.keys).collect());
        let names = batch.names(meter);

        names.rename(ctx);
        let mut changes = batch.commit(ctx, &names);
        changes.extend(months.iter().filter_map(|month| month.commit(ctx)));
        changes.extend(IndexChange::remove(ctx, meter, &entries).ok().and_then(IndexChange::commit));
        tell(ctx, changes.iter());
        ctx.signal_modified(meter.key());

        reply(ctx, &batch, &names);
        Ok(())
    }
}

/// A batch is closed after this number of lookups: they take about ten milliseconds.
const MOST_LOOKED_UP: u64 = 20_000;

/// The days up to `last` for one batch; and the days in the index before them that are not stored any more.
fn days_to_seal(ctx: Context<'_>, meter: Meter<'_>, last: Day) -> Result<(Vec<HeldDay>, Vec<Day>), Error> {
    let most = usize::try_from(settings::SEAL_MAX_KEYS.get()).unwrap_or(usize::MAX);
    let mut finder = Finder::new(ctx, meter);
    let (mut days, mut gone, mut keys) = (Vec::new(), Vec::new(), 0);
    for day in index::days(ctx, meter, Day::FIRST, last)? {
        let Some(day_keys) = finder.find(day)? else {
            gone.push(day);
            continue;
        };
        keys += day_keys.keys.len();
        if keys > most && !days.is_empty() {
            break;
        }
        days.push(day_keys);
        if keys >= most || finder.looked_up >= MOST_LOOKED_UP {
            break;
        }
    }
    Ok((days, gone))
}

fn reply(ctx: Context<'_>, batch: &Batch, names: &Names) {
    ctx.reply_array(2);
    ctx.reply_bytes(&batch.id);
    ctx.reply_array(names.keys.len());
    for key in &names.keys {
        ctx.reply_bytes(key);
    }
}

fn reply_none(ctx: Context<'_>) {
    ctx.reply_array(2);
    ctx.reply_null();
    ctx.reply_array(0);
}
