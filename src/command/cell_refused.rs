//! `CELL.REFUSED [COUNT n] | CELL.REFUSED RESET`
//!
//! Which limiter keys this node refuses most.

use crate::refusals;
use crate::server::{Arg, Command, Context, Error, KeyUse, Keys, Kind, Spec, Str};
use crate::stats;

use super::arguments::{Options, integer, is_keyword, set_once};

pub(crate) struct CellRefused;

const GRAMMAR: &str = "[COUNT n] or RESET";

/// How many keys are returned without COUNT.
const DEFAULT_COUNT: usize = 10;

impl Command for CellRefused {
    const SPEC: Spec = Spec {
        name: c"cell.refused",
        family: &stats::CELL,
        key: KeyUse::None,
        keys: Keys::None,
        fast: false,
        fewest: 0,
        summary: c"Returns the limiter keys that this node refuses most, or forgets them.",
        complexity: c"O(N) where N is COUNT",
        since: c"0.2.0",
        arguments: &[Arg::new(
            c"what",
            Kind::OneOf(&[
                Arg::new(c"n", Kind::Integer).token(c"COUNT"),
                Arg::new(c"reset", Kind::Flag).token(c"RESET"),
            ]),
        )
        .optional()],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        if let [word] = arguments
            && is_keyword(*word, "RESET")
        {
            refusals::reset();
            ctx.reply_ok();
            return Ok(());
        }
        let mut count = None;
        let mut options = Options::new(arguments, GRAMMAR);
        while let Some(word) = options.next() {
            if !is_keyword(word, "COUNT") {
                return Err(options.unknown(word));
            }
            let value = integer(options.value("COUNT")?, "COUNT", 1..=i64::MAX)?;
            set_once(&mut count, "COUNT", value)?;
        }
        let count = count.map_or(DEFAULT_COUNT, |count| usize::try_from(count).unwrap_or(usize::MAX));

        let top = refusals::top(count);
        ctx.reply_array(top.len());
        for refused in &top {
            ctx.reply_array(4);
            ctx.reply_integer(i64::from(refused.database));
            ctx.reply_bytes(&refused.key);
            ctx.reply_bytes(refused.command.as_bytes());
            ctx.reply_integer(i64::try_from(refused.refusals).unwrap_or(i64::MAX));
        }
        Ok(())
    }
}
