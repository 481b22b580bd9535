//! `METER.ACK key batch-id`
//!
//! Deletes a sealed batch that has been written elsewhere.

use crate::server::{Arg, Command, Context, Error, KeyUse, Keys, Kind, Shown, Spec, Str, tell};
use crate::stats;
use crate::store::batch::Batch;
use crate::store::index;
use crate::store::meter::Meter;

pub(crate) struct MeterAck;

impl Command for MeterAck {
    const SPEC: Spec = Spec {
        name: c"meter.ack",
        family: &stats::METER,
        key: KeyUse::Consume,
        keys: Keys::First,
        fast: false,
        fewest: 2,
        summary: c"Deletes the open batch of a key, when what it holds has been written elsewhere.",
        complexity: c"O(N) where N is the number of keys in the batch",
        since: c"0.1.0",
        arguments: &[Arg::KEY, Arg::new(c"batch-id", Kind::Text)],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let [key, id] = arguments else { return Err(Error::Arity) };
        let meter = Meter::new(*key)?;
        index::check(ctx, meter)?;
        let batch = Batch::find(ctx, meter)?
            .ok_or_else(|| Error::refused("no batch is open: it was acknowledged before, or none was sealed"))?;
        if batch.id != id.bytes() {
            return Err(Error::refused(format!(
                "batch {} is not the open one: it was acknowledged before, or is another key's; METER.SEAL returns the \
                 open one",
                Shown(id.bytes())
            )));
        }

        let names = batch.names(meter);
        let (deleted, changes) = names.delete(ctx, meter)?;
        tell(ctx, changes.iter());
        ctx.signal_modified(meter.key());

        ctx.reply_integer(i64::try_from(deleted).unwrap_or(i64::MAX));
        Ok(())
    }
}
