//! `METER.KPI key [DAY d]` or `METER.KPI key FROM d TO d [BY HOUR|DAY|WEEK|MONTH|TOTAL] [PATH depth member …]`
//!
//! Reads the counts of one day, or of the days of a span.

use crate::server::{Arg, Command, Context, Error, Hash, Key, KeyUse, Keys, Kind, Shown, Spec, Str};
use crate::stats;
use crate::store::meter::Meter;
use crate::store::{day, index, month, path, unique};
use redis_meter_core::calendar::{Day, Hour, day_and_hour};

use super::arguments::{Options, is_keyword, path as parse_path, set_once};
use super::when::{When, WhenOptions};

pub(crate) struct MeterKpi;

const GRAMMAR: &str = "[DAY d] or FROM d TO d [BY HOUR|DAY|WEEK|MONTH|TOTAL] [PATH depth member ...]";

impl Command for MeterKpi {
    const SPEC: Spec = Spec {
        name: c"meter.kpi",
        family: &stats::METER,
        key: KeyUse::Read,
        keys: Keys::First,
        fast: false,
        fewest: 1,
        summary: c"Returns the counts of a key for one day, or for a span by hour, day, week, month or in total.",
        complexity: c"O(1) for a day, O(N) for a span, where N is the number of days stored in it",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            Arg::new(
                c"when",
                Kind::OneOf(&[
                    When::DAY,
                    Arg::new(
                        c"span",
                        Kind::Block(&[
                            When::FROM,
                            When::TO,
                            Arg::new(
                                c"bucket",
                                Kind::OneOf(&[
                                    Arg::new(c"hour", Kind::Flag).token(c"HOUR"),
                                    Arg::new(c"day", Kind::Flag).token(c"DAY"),
                                    Arg::new(c"week", Kind::Flag).token(c"WEEK"),
                                    Arg::new(c"month", Kind::Flag).token(c"MONTH"),
                                    Arg::new(c"total", Kind::Flag).token(c"TOTAL"),
                                ]),
                            )
                            .token(c"BY")
                            .optional(),
                            When::PATH,
                        ]),
                    ),
                ]),
            )
            .optional(),
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let Request { key, what } = Request::parse(arguments)?;
        let meter = Meter::new(key)?;
        match what {
            What::Day(day) => {
                let day = day.unwrap_or_else(|| day_and_hour(ctx.now().floor_millis()).0);
                reply_day(ctx, &read_day(ctx, meter, day)?);
            }
            What::Span { from, to, by, path } => {
                let bars = read_span(ctx, meter, from, to, by, &path)?;
                ctx.reply_counts(bars.iter().map(|bar| (bar.name.text(), bar.count)));
            }
        }
        Ok(())
    }
}

struct Request<'a> {
    key: Str<'a>,
    what: What<'a>,
}

enum What<'a> {
    /// One day; `None` is today.
    Day(Option<Day>),
    Span {
        from: Day,
        to: Day,
        by: Bucket,
        /// The member to count; no members for all.
        path: Vec<Str<'a>>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Hour,
    Day,
    Week,
    Month,
    Total,
}

impl Bucket {
    fn parse(text: Str<'_>) -> Result<Self, Error> {
        let buckets = [
            ("HOUR", Self::Hour),
            ("DAY", Self::Day),
            ("WEEK", Self::Week),
            ("MONTH", Self::Month),
            ("TOTAL", Self::Total),
        ];
        buckets.into_iter().find_map(|(keyword, bucket)| is_keyword(text, keyword).then_some(bucket)).ok_or_else(|| {
            Error::refused(format!("BY must be HOUR, DAY, WEEK, MONTH or TOTAL, not {}", Shown(text.bytes())))
        })
    }

    /// The name of the bucket that a day is in.
    fn name(self, day: Day) -> Name {
        match self {
            Self::Hour | Self::Day => Name::new(&day.digits()),
            Self::Week => Name::new(&day.week().text()),
            Self::Month => Name::new(&day.month().digits()),
            Self::Total => Name::new(b"total"),
        }
    }
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let (mut when, mut by, mut path) = (WhenOptions::default(), None, None);
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if when.take(word, &mut options)? {
            } else if is_keyword(word, "BY") {
                let value = Bucket::parse(options.value("BY")?)?;
                set_once(&mut by, "BY", value)?;
            } else if is_keyword(word, "PATH") {
                let value = parse_path(&mut options)?;
                set_once(&mut path, "PATH", value)?;
            } else {
                return Err(options.unknown(word));
            }
        }
        let what = match when.finish(GRAMMAR)? {
            Some(When::Span { from, to }) => {
                let (by, path) = (by.unwrap_or(Bucket::Day), path.unwrap_or_default());
                if by == Bucket::Hour && !path.is_empty() {
                    return Err(Error::refused("PATH has no hours: use BY DAY, WEEK, MONTH or TOTAL"));
                }
                What::Span { from, to, by, path }
            }
            _ if by.is_some() => return Err(Error::refused(format!("BY needs FROM and TO: {GRAMMAR}"))),
            _ if path.is_some() => return Err(Error::refused(format!("PATH needs FROM and TO: {GRAMMAR}"))),
            Some(When::Day(day)) => What::Day(Some(day)),
            None => What::Day(None),
        };
        Ok(Self { key: *key, what })
    }
}

/// What there is of a day.
struct DayReport {
    counts: day::Counts,
    unique: Option<i64>,
    sealed: i64,
}

/// The counts of a day, all zero if it is not stored; the number of distinct ids, if any were given; and what was sealed of it.
fn read_day(ctx: Context<'_>, meter: Meter<'_>, day: Day) -> Result<DayReport, Error> {
    // The index says nothing of this day, but a key of something else there is no meter.
    index::check(ctx, meter)?;
    let sealed = month::sealed_of(ctx, meter, day)?;
    let name = meter.day_key(day);
    let hash = meter.read::<Hash>(ctx, &name)?;
    if !hash.exists() {
        return Ok(DayReport { counts: day::Counts::default(), unique: None, sealed });
    }
    Ok(DayReport { counts: day::all(&hash)?, unique: unique::count(ctx, meter, &[day])?, sealed })
}

/// A bucket's name and count.
struct Bar {
    name: Name,
    count: i64,
}

/// The name of a bucket. The longest, of an hour, has ten digits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    bytes: [u8; 10],
    len: usize,
}

impl Name {
    fn new(text: &[u8]) -> Self {
        let mut bytes = [0; 10];
        bytes[..text.len()].copy_from_slice(text);
        Self { bytes, len: text.len() }
    }

    fn of_hour(day: Day, hour: Hour) -> Self {
        let [a, b, c, d, e, f, g, h] = day.digits();
        Self::new(&[a, b, c, d, e, f, g, h, b'0' + hour.number() / 10, b'0' + hour.number() % 10])
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The buckets of a span that have a count, in the order of time.
fn read_span(
    ctx: Context<'_>,
    meter: Meter<'_>,
    from: Day,
    to: Day,
    by: Bucket,
    path: &[Str<'_>],
) -> Result<Vec<Bar>, Error> {
    let mut bars = Vec::new();
    if !path.is_empty() || by == Bucket::Hour {
        for held in index::days(ctx, meter, from, to)? {
            if !path.is_empty() {
                add(&mut bars, by.name(held), path::count(ctx, meter, held, path)?)?;
                continue;
            }
            let name = meter.day_key(held);
            let counts = meter.read::<Hash>(ctx, &name)?;
            for (hour, count) in Hour::all().zip(day::all(&counts)?.hours) {
                add(&mut bars, Name::of_hour(held, hour), count)?;
            }
        }
        return Ok(bars);
    }
    for (day, count) in month::counts(ctx, meter, from, to, None)? {
        add(&mut bars, by.name(day), count)?;
    }
    if by == Bucket::Total {
        let mut held = index::days(ctx, meter, from, to)?;
        held.retain(|&day| {
            let name = meter.day_key(day);
            Key::<Hash>::read(ctx, name.as_str()).is_ok_and(|counts| counts.exists())
        });
        if let Some(count) = unique::count(ctx, meter, &held)?.filter(|&count| count > 0) {
            bars.push(Bar { name: Name::new(b"unique"), count });
        }
    }
    Ok(bars)
}

/// Adds to the last bucket if it has this name, else begins a new one. Days come in order, so that buckets do.
fn add(bars: &mut Vec<Bar>, name: Name, count: i64) -> Result<(), Error> {
    match bars.last_mut() {
        _ if count == 0 => {}
        Some(last) if last.name == name => {
            last.count = last.count.checked_add(count).ok_or_else(|| {
                Error::refused(format!(
                    "bucket {} adds up to more than 9223372036854775807: ask for a shorter span",
                    String::from_utf8_lossy(name.text())
                ))
            })?;
        }
        _ => bars.push(Bar { name, count }),
    }
    Ok(())
}

fn reply_day(ctx: Context<'_>, report: &DayReport) {
    let DayReport { counts, unique, sealed } = report;
    let unique = unique.filter(|&count| count > 0);
    let hours = counts.hours.iter().filter(|&&count| count != 0).count();
    let others = [counts.day != 0, unique.is_some(), *sealed != 0].into_iter().filter(|&there| there).count();
    ctx.reply_map(hours + others);
    let pair = |name: &[u8], count| {
        ctx.reply_bytes(name);
        ctx.reply_integer(count);
    };
    if counts.day != 0 {
        pair(b"day", counts.day);
    }
    for (hour, &count) in Hour::all().zip(&counts.hours) {
        if count != 0 {
            pair(hour.text().as_bytes(), count);
        }
    }
    if let Some(count) = unique {
        pair(b"unique", count);
    }
    if *sealed != 0 {
        pair(b"sealed", *sealed);
    }
}
