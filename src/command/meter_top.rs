//! `METER.TOP key [DAY d | FROM d TO d] [PATH depth member …] [COUNT n]`
//!
//! The members with the highest counts, of the first level or below a member.

use crate::server::{Arg, Command, Context, Error, Key, KeyUse, Keys, Kind, Order, OwnedStr, SortedSet, Spec, Str};
use crate::stats;
use crate::store::meter::Meter;
use crate::store::path::{MOST_LEVELS, count_of, set_key};
use redis_meter_core::calendar::day_and_hour;
use redis_meter_core::ranking::{Lists, highest};

use super::arguments::{Options, integer, is_keyword, path as parse_path, set_once};
use super::when::{When, WhenOptions};

pub(crate) struct MeterTop;

const GRAMMAR: &str = "[DAY d] or [FROM d TO d], [PATH depth member ...], [COUNT n]";

/// How many members are returned without COUNT.
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
        let mut days = when.days(ctx, meter)?;
        if below.len() == MOST_LEVELS {
            // Nothing is below the last level.
            days.clear();
        }
        let names: Vec<OwnedStr> = days.iter().map(|&day| set_key(meter, day, below)).collect();
        let mut sets = Sets::open(ctx, meter, &names)?;
        let highest = highest(&mut sets, n)?.into_iter().map(|(member, count)| {
            let count = i64::try_from(count).map_err(|_| {
                Error::refused("a member adds up to more than 9223372036854775807: ask for a shorter span")
            })?;
            Ok((member, count))
        });
        let highest = highest.collect::<Result<Vec<_>, Error>>()?;
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

/// The sets below a path, one for each day.
struct Sets<'a> {
    sets: Vec<Key<'a, SortedSet>>,
    /// Whether a set is being read.
    begun: Vec<bool>,
}

impl<'a> Sets<'a> {
    fn open(ctx: Context<'a>, meter: Meter<'a>, names: &'a [OwnedStr]) -> Result<Self, Error> {
        let sets = names.iter().map(|name| meter.read(ctx, name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { begun: vec![false; sets.len()], sets })
    }
}

impl Lists for Sets<'_> {
    type Error = Error;
    type Member = OwnedStr;

    fn list_count(&self) -> usize {
        self.sets.len()
    }

    fn members(&self) -> usize {
        self.sets.iter().map(Key::len).sum()
    }

    fn next(&mut self, list: usize) -> Result<Option<(OwnedStr, u64)>, Error> {
        let set = &self.sets[list];
        if std::mem::replace(&mut self.begun[list], true) {
            set.advance(Order::Descending);
        } else {
            set.begin(Order::Descending, f64::NEG_INFINITY, f64::INFINITY);
        }
        let Some((member, score)) = set.current() else { return Ok(None) };
        let count = count_of(score, &member)?.cast_unsigned();
        Ok(Some((member, count)))
    }

    fn rewind(&mut self, list: usize) {
        self.begun[list] = false;
    }

    fn count(&self, list: usize, member: &OwnedStr) -> Result<u64, Error> {
        let score = self.sets[list].score(member.as_str());
        score.map_or(Ok(0), |score| count_of(score, member).map(i64::cast_unsigned))
    }
}
