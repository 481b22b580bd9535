//! `METER.TOP key [DAY d | FROM d TO d] [PATH depth member …] [COUNT n]`
//!
//! The members with the highest counts, in all or below a member.

use crate::algorithm::calendar::{Day, day_and_hour};
use crate::algorithm::ranking::{Ranked, Ranking};
use crate::server::{Arg, Command, Context, Error, Key, KeyUse, Keys, Kind, Order, SortedSet, Spec, Str};
use crate::stats;
use crate::store::meter::Meter;
use crate::store::path;
use crate::store::path::{count_of, set_key};

use super::arguments::{Options, integer, is_keyword, path as parse_path, set_once};
use super::when::{When, WhenOptions};

pub(crate) struct MeterTop;

const GRAMMAR: &str = "[DAY d] or [FROM d TO d], [PATH depth member ...], [COUNT n]";

/// How many are answered if COUNT is not given.
const DEFAULT_COUNT: usize = 10;

impl Command for MeterTop {
    const SPEC: Spec = Spec {
        name: c"meter.top",
        family: &stats::METER,
        key: KeyUse::Read,
        keys: Keys::First,
        fast: false,
        fewest: 1,
        summary: c"Returns the members with the highest counts of a day or a span, in all or below a member.",
        complexity:
            c"O(log(N)+M) for a day, where M is COUNT; O(N) for a span, where N is the number of members on its days",
        since: c"0.1.0",
        arguments: &[
            Arg::KEY,
            Arg::new(c"when", Kind::OneOf(&[When::DAY, Arg::new(c"span", Kind::Block(&[When::FROM, When::TO]))]))
                .optional(),
            When::PATH,
            Arg::new(c"count", Kind::Integer).token(c"COUNT").optional(),
        ],
    };

    fn call(ctx: Context<'_>, arguments: &[Str<'_>]) -> Result<(), Error> {
        let request = Request::parse(arguments)?;
        let meter = Meter::new(request.key)?;
        let when = request.when.unwrap_or_else(|| When::Day(day_and_hour(ctx.now().floor_millis()).0));
        let (below, n) = (&request.path, request.count);
        let days = when.days(ctx, meter)?;
        let highest = match days[..] {
            [day] => of_one_day(ctx, meter, day, below, n)?,
            _ => of_days(ctx, meter, &days, below, n)?,
        };
        ctx.reply_counts(highest.iter().map(|(member, count)| (&member[..], *count)));
        Ok(())
    }
}

struct Request<'a> {
    key: Str<'a>,
    when: Option<When>,
    path: Vec<Str<'a>>,
    count: usize,
}

impl<'a> Request<'a> {
    fn parse(arguments: &[Str<'a>]) -> Result<Self, Error> {
        let [key, options @ ..] = arguments else { return Err(Error::Arity) };
        let (mut when, mut path, mut count) = (WhenOptions::default(), None, None);
        let mut options = Options::new(options, GRAMMAR);
        while let Some(word) = options.next() {
            if when.take(word, &mut options)? {
            } else if is_keyword(word, "PATH") {
                let value = parse_path(&mut options)?;
                set_once(&mut path, "PATH", value)?;
            } else if is_keyword(word, "COUNT") {
                let value = integer(options.value("COUNT")?, "COUNT", 1..=i64::MAX)?;
                set_once(&mut count, "COUNT", value)?;
            } else {
                return Err(options.unknown(word));
            }
        }
        let count = count.map_or(DEFAULT_COUNT, |count| usize::try_from(count).unwrap_or(usize::MAX));
        Ok(Self { key: *key, when: when.finish(GRAMMAR)?, path: path.unwrap_or_default(), count })
    }
}

/// The highest of one day, which are read off the end of its set.
fn of_one_day(ctx: Context<'_>, meter: Meter<'_>, day: Day, below: &[Str<'_>], n: usize) -> Result<Vec<Ranked>, Error> {
    let mut highest = Vec::new();
    each(ctx, meter, day, below, |member, count| {
        highest.push((member.to_vec(), count));
        Ok(highest.len() < n)
    })?;
    Ok(highest)
}

/// The highest of several days, which takes all members of each.
fn of_days(
    ctx: Context<'_>,
    meter: Meter<'_>,
    days: &[Day],
    below: &[Str<'_>],
    n: usize,
) -> Result<Vec<Ranked>, Error> {
    let mut ranking = Ranking::default();
    for &day in days {
        each(ctx, meter, day, below, |member, count| {
            ranking.add(member, count).map_err(|_| {
                Error::refused("a member adds up to more than 9223372036854775807: ask for a shorter span")
            })?;
            Ok(true)
        })?;
    }
    Ok(ranking.highest(n))
}

/// Calls `take` with each member below a path and its count, in the order of ZREVRANGE, until it says no.
fn each(
    ctx: Context<'_>,
    meter: Meter<'_>,
    day: Day,
    below: &[Str<'_>],
    mut take: impl FnMut(&[u8], i64) -> Result<bool, Error>,
) -> Result<(), Error> {
    if below.len() == path::MOST_LEVELS {
        return Ok(());
    }
    let name = set_key(meter, day, below);
    let set = Key::<SortedSet>::read(ctx, name.as_str())?;
    if !set.exists() {
        meter.ensure_absent(ctx, name.as_str())?;
    }
    let mut outcome = Ok(());
    set.each_scored(Order::Descending, f64::NEG_INFINITY, f64::INFINITY, |member, score| {
        match count_of(score, &member).and_then(|count| take(&member, count)) {
            Ok(go_on) => go_on,
            Err(error) => {
                outcome = Err(error);
                false
            }
        }
    });
    outcome
}
