//! `CELL.RELEASE key holder`
//!
//! Frees the place that CELL.LEASE has taken.

use redis_meter_core::lease::{Release, release};

use crate::server::{Arg, Command, Context, Error, KeyUse, Keys, Kind, Spec, Str, Writable, key_changed};
use crate::stats;
use crate::store::lease::StoredLeases;

use super::cell_lease::{check_holder, now};

pub(crate) struct CellRelease;

impl Command for CellRelease {
    const SPEC: Spec = Spec {
        name: c"cell.release",
        family: &stats::CELL,
        key: KeyUse::Consume,
        keys: Keys::First,
        fast: false,
        fewest: 2,
        summary: c"Gives back the place that CELL.LEASE has given to a holder.",
        complexity: c"O(log(N)) where N is the number of holders; O(N) for the last one",
        since: c"0.1.0",
        arguments: &[Arg::KEY, Arg::new(c"holder", Kind::Text)],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let [key, holder] = *arguments else { return Err(Error::Arity) };
        check_holder(holder)?;

        let leases = StoredLeases::<Writable>::open(ctx, key)?;
        let own = leases.end_of(holder)?;

        let released = release(&leases, own, now(ctx));
        leases.check()?;

        if let Some(change) = leases.release(holder, released)? {
            change.tell(ctx);
            key_changed(ctx, key);
        }
        ctx.reply_integer(i64::from(released != Release::Absent));
        Ok(())
    }
}
