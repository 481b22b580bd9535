//! `METER.KPI key [DAY d | FROM d TO d [BY HOUR|DAY|MONTH|TOTAL]]`
//!
//! Reads the counts of one day, or of the days of a span.

use crate::algorithm::calendar::{Day, Hour, day_and_hour};
use crate::server::{Arg, Command, Context, Error, Hash, Key, KeyUse, Keys, Kind, Shown, SortedSet, Spec, Str};
use crate::stats;
use crate::store::meter::Meter;
use crate::store::{day, index};

use super::arguments::{Options, date, is_keyword, set_once};

pub(crate) struct MeterKpi;

const GRAMMAR: &str = "[DAY d] or FROM d TO d [BY HOUR|DAY|MONTH|TOTAL]";

impl Command for MeterKpi {
    const SPEC: Spec = Spec {
        name: c"meter.kpi",
        family: &stats::METER,
        key: KeyUse::Read,
        keys: Keys::First,
        fast: false,
        fewest: 1,
        summary: c"Returns the counts of a key for one day, or for a span by hour, day, month or in total.",
        complexity: c"O(1) for a day, O(N) for a span, where N is the number of days held in it",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            Arg::new(
                c"when",
                Kind::OneOf(&[
                    Arg::new(c"date", Kind::Text).token(c"DAY"),
                    Arg::new(
                        c"span",
                        Kind::Block(&[
                            Arg::new(c"first-date", Kind::Text).token(c"FROM"),
                            Arg::new(c"last-date", Kind::Text).token(c"TO"),
                            Arg::new(
                                c"bucket",
                                Kind::OneOf(&[
                                    Arg::new(c"hour", Kind::Flag).token(c"HOUR"),
                                    Arg::new(c"day", Kind::Flag).token(c"DAY"),
                                    Arg::new(c"month", Kind::Flag).token(c"MONTH"),
                                    Arg::new(c"total", Kind::Flag).token(c"TOTAL"),
                                ]),
                            )
                            .token(c"BY")
                            .optional(),
                        ]),
                    ),
                ]),
            )
            .optional(),
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let Request { key, when } = Request::parse(arguments)?;
        let meter = Meter::new(key)?;
        match when {
            When::Day(day) => {
                let day = day.unwrap_or_else(|| day_and_hour(ctx.now().floor_millis()).0);
                reply_day(ctx, &read_day(ctx, meter, day)?);
            }
            When::Span { from, to, by } => reply_span(ctx, &read_span(ctx, meter, from, to, by)?),
        }
        Ok(())
    }
}

struct Request<'a> {
    key: Str<'a>,
    when: When,
}

enum When {
    /// One day; `None` is today.
    Day(Option<Day>),
    Span {
        from: Day,
        to: Day,
        by: Bucket,
    },
}

#[derive(Clone, Copy)]
enum Bucket {
    Hour,
    Day,
    Month,
    Total,
}

impl Bucket {
    fn parse(text: Str<'_>) -> Result<Self, Error> {
        [("HOUR", Self::Hour), ("DAY", Self::Day), ("MONTH", Self::Month), ("TOTAL", Self::Total)]
            .into_iter()
            .find_map(|(keyword, bucket)| is_keyword(text, keyword).then_some(bucket))
            .ok_or_else(|| Error::refused(format!("BY must be HOUR, DAY, MONTH or TOTAL, not {}", Shown(text.bytes()))))
    }
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let (mut day, mut from, mut to, mut by) = (None, None, None, None);
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if is_keyword(word, "DAY") {
                let value = date(options.value("DAY")?, "DAY")?;
                set_once(&mut day, "DAY", value)?;
            } else if is_keyword(word, "FROM") {
                let value = date(options.value("FROM")?, "FROM")?;
                set_once(&mut from, "FROM", value)?;
            } else if is_keyword(word, "TO") {
                let value = date(options.value("TO")?, "TO")?;
                set_once(&mut to, "TO", value)?;
            } else if is_keyword(word, "BY") {
                let value = Bucket::parse(options.value("BY")?)?;
                set_once(&mut by, "BY", value)?;
            } else {
                return Err(options.unknown(word));
            }
        }
        let when = match (day, from, to, by) {
            (day, None, None, None) => When::Day(day),
            (None, Some(from), Some(to), _) if from > to => return Err(Error::refused("FROM must not be after TO")),
            (None, Some(from), Some(to), by) => When::Span { from, to, by: by.unwrap_or(Bucket::Day) },
            (Some(_), _, _, _) => return Err(Error::refused(format!("DAY stands alone: {GRAMMAR}"))),
            (None, None, None, Some(_)) => return Err(Error::refused(format!("BY needs a span: {GRAMMAR}"))),
            (None, Some(_), None, _) => return Err(Error::refused(format!("FROM needs TO: {GRAMMAR}"))),
            (None, None, Some(_), _) => return Err(Error::refused(format!("TO needs FROM: {GRAMMAR}"))),
        };
        Ok(Self { key: *key, when })
    }
}

/// The counts of a day; all zero if it is not held.
fn read_day(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<day::Counts, Error> {
    // The index says nothing of this day, but a key of another type there is no meter.
    Key::<SortedSet>::read(ctx, meter.key())?;
    let name = meter.day_key(day);
    let counts = Key::<Hash>::read(ctx, name.as_str())?;
    if !counts.exists() {
        meter.ensure_absent(ctx, name.as_str())?;
    }
    day::all(&counts)
}

/// A bucket's name and count.
struct Bar {
    name: String,
    count: i64,
}

/// The buckets of a span that have a count, in the order of time.
fn read_span(ctx: Context<'_>, meter: Meter<'_>, from: Day, to: Day, by: Bucket) -> Result<Vec<Bar>, Error> {
    let mut bars: Vec<Bar> = Vec::new();
    for held in index::days(ctx, meter, from, to)? {
        let name = meter.day_key(held);
        let counts = Key::<Hash>::read(ctx, name.as_str())?;
        if !counts.exists() {
            meter.ensure_absent(ctx, name.as_str())?;
            continue;
        }
        match by {
            Bucket::Hour => {
                for (hour, count) in Hour::all().zip(day::all(&counts)?.hours) {
                    add(&mut bars, format!("{:08}{:02}", held.number(), hour.number()), count)?;
                }
            }
            Bucket::Day => add(&mut bars, format!("{:08}", held.number()), total(&counts)?)?,
            Bucket::Month => add(&mut bars, format!("{:06}", held.month()), total(&counts)?)?,
            Bucket::Total => add(&mut bars, "total".to_owned(), total(&counts)?)?,
        }
    }
    Ok(bars)
}

fn total(counts: &Key<'_, Hash>) -> Result<i64, Error> {
    Ok(day::total(counts)?.unwrap_or(0))
}

/// Adds to the last bucket if it has this name, else begins a new one. Days come in order, so that buckets do.
fn add(bars: &mut Vec<Bar>, name: String, count: i64) -> Result<(), Error> {
    match bars.last_mut() {
        _ if count == 0 => {}
        Some(last) if last.name == name => {
            last.count = last.count.checked_add(count).ok_or_else(|| {
                Error::refused(format!(
                    "bucket {name} adds up to more than 9223372036854775807: ask for a shorter span"
                ))
            })?;
        }
        _ => bars.push(Bar { name, count }),
    }
    Ok(())
}

fn reply_day(ctx: Context<'_>, counts: &day::Counts) {
    let hours = counts.hours.iter().filter(|&&count| count != 0).count();
    ctx.reply_map(usize::from(counts.day != 0) + hours);
    if counts.day != 0 {
        ctx.reply_bytes(b"day");
        ctx.reply_integer(counts.day);
    }
    for (hour, &count) in Hour::all().zip(&counts.hours) {
        if count != 0 {
            ctx.reply_bytes(hour.text().as_bytes());
            ctx.reply_integer(count);
        }
    }
}

fn reply_span(ctx: Context<'_>, bars: &[Bar]) {
    ctx.reply_array(bars.len());
    for bar in bars {
        ctx.reply_array(2);
        ctx.reply_bytes(bar.name.as_bytes());
        ctx.reply_integer(bar.count);
    }
}
