//! The selection of days to read: `DAY d`, or `FROM d TO d`.

use crate::server::{Arg, Context, Error, Kind, Str};
use crate::store::index;
use crate::store::meter::Meter;
use redis_meter_core::calendar::Day;

use super::arguments::{Options, date, is_keyword, set_once};

/// The selected days.
#[derive(Clone, Copy)]
pub(crate) enum When {
    Day(Day),
    Span { from: Day, to: Day },
}

/// The options that select them.
#[derive(Default)]
pub(crate) struct WhenOptions {
    day: Option<Day>,
    from: Option<Day>,
    to: Option<Day>,
}

impl When {
    /// The day, or the days of the span that are in the index.
    ///
    /// # Errors
    /// The key is not an index.
    pub(crate) fn days(self, ctx: Context<'_>, meter: Meter<'_>) -> Result<Vec<Day>, Error> {
        match self {
            Self::Day(day) => {
                // One day need not be in the index, but a key of another type is not a meter.
                index::check(ctx, meter)?;
                Ok(vec![day])
            }
            Self::Span { from, to } => index::days(ctx, meter, from, to),
        }
    }

    /// The first and the last selected day.
    pub(crate) fn ends(self) -> (Day, Day) {
        match self {
            Self::Day(day) => (day, day),
            Self::Span { from, to } => (from, to),
        }
    }

    /// DAY, as COMMAND DOCS describes it.
    pub(crate) const DAY: Arg = Arg::new(c"date", Kind::Text).token(c"DAY");
    /// FROM.
    pub(crate) const FROM: Arg = Arg::new(c"first-date", Kind::Text).token(c"FROM");
    /// TO.
    pub(crate) const TO: Arg = Arg::new(c"last-date", Kind::Text).token(c"TO");
    /// PATH, with its depth and members.
    pub(crate) const PATH: Arg = Arg::new(
        c"path",
        Kind::Block(&[Arg::new(c"depth", Kind::Integer), Arg::new(c"member", Kind::Text).multiple()]),
    )
    .token(c"PATH")
    .optional();
}

impl WhenOptions {
    /// Whether `word` is one of these options; then its value is read.
    pub(crate) fn take(&mut self, word: Str<'_>, options: &mut Options<'_, '_>) -> Result<bool, Error> {
        for (keyword, place) in [("DAY", &mut self.day), ("FROM", &mut self.from), ("TO", &mut self.to)] {
            if is_keyword(word, keyword) {
                let value = date(options.value(keyword)?, keyword)?;
                set_once(place, keyword, value)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The selection; `None` if no option was given.
    pub(crate) fn finish(self, grammar: &str) -> Result<Option<When>, Error> {
        match (self.day, self.from, self.to) {
            (None, None, None) => Ok(None),
            (Some(day), None, None) => Ok(Some(When::Day(day))),
            (Some(_), _, _) => Err(Error::refused(format!("DAY stands alone: {grammar}"))),
            (None, Some(from), Some(to)) if from > to => Err(Error::refused("FROM must not be after TO")),
            (None, Some(from), Some(to)) => Ok(Some(When::Span { from, to })),
            (None, Some(_), None) => Err(Error::refused(format!("FROM needs TO: {grammar}"))),
            (None, None, Some(_)) => Err(Error::refused(format!("TO needs FROM: {grammar}"))),
        }
    }
}
