//! One answer over Redis and SQL: what a meter has counted, whether it is still stored in Redis, in a batch on its way,
//! or in the archive.
//!
//! A batch is at no moment in both, and at some moments in neither: its days are no longer stored, and its rows not yet
//! in SQL. So the two sides can't just be added up. What is read is
//!
//! 1. the number of the last batch in SQL,
//! 2. in one transaction of Redis, what is stored and the id of the open batch,
//! 3. what is in that batch, whose keys never change while it is open,
//! 4. in one snapshot of SQL, the rows, the number and the id of the last batch there.
//!
//! If the number has not changed from 1 to 4, SQL was at 2 what it is at 4: the answer is that of the moment 2, with the
//! batch if SQL does not have it. If it has grown by one, and that one is the batch seen at 2, then the rows have it, and
//! the answer is that of 2 as well. Else it is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::ToSpan;
use jiff::civil::{Date, ISOWeekDate};
use jiff::tz::TimeZone;
use redis::{Pipeline, Value, from_redis_value};

use crate::archive::{
    Kind, Last, Meter, Names, Pool, Session, Sketch, Snapshot, SqlError, compact, last, parse_compact, whole,
};
use crate::connection::{Failure, Redis};

/// Readings before an answer is given up: each is spoiled only by a batch that is archived meanwhile.
const READINGS: usize = 100;
/// Days of a question at most: a hundred years.
pub const MOST_DAYS: i32 = 36_600;
/// Commands of a pipeline.
const COMMANDS: usize = 500;
/// Members of a sorted set that are read at once.
const PAGE: usize = 5000;

/// The buckets of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `2022080914`
    Hour,
    /// `20220809`
    Day,
    /// `2022W32`, as ISO 8601 counts weeks.
    Week,
    /// `202208`
    Month,
    /// `total`
    Total,
}

impl std::str::FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "total" => Self::Total,
            _ => return Err(format!("{text:?} is not hour, day, week, month or total")),
        })
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        })
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The meter.
    pub meter: Vec<u8>,
    /// The first day, of `tz`.
    pub from: Date,
    /// The last day.
    pub to: Date,
    /// The buckets.
    pub by: By,
    /// The member whose counts are asked, and those above it; empty for the meter itself.
    pub path: Vec<Vec<u8>>,
    /// The zone whose days, weeks and months are meant: a UTC hour belongs to the local day in which it begins.
    pub tz: Option<TimeZone>,
}

/// What a meter has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Buckets with a count, in the order of time.
    pub buckets: Vec<(String, u128)>,
    /// The estimated number of distinct ids in all the span, by [`By::Total`] where they were counted.
    pub unique: Option<u64>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum Error {
    /// The question is wrong; a sentence that says what would be right.
    Question(String),
    /// Redis.
    Redis(Failure),
    /// The archive.
    Sql(String),
    /// Batches were archived all the time.
    Unsteady,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Question(text) => f.write_str(text),
            Self::Redis(failure) => failure.fmt(f),
            Self::Sql(text) => write!(f, "the archive: {text}"),
            Self::Unsteady => f.write_str("this meter is being archived faster than it can be read: ask again"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Redis(failure)
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        Self::Sql(error.to_string())
    }
}

/// A day as people write it: `20220809` or `2022-08-09`.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse_day(text: &str) -> Result<Date, String> {
    let wrong = || format!("{text:?} is no date: write it as 2022-08-09");
    let digits = match text.len() {
        8 => text.to_owned(),
        10 if text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-' => text.replace('-', ""),
        _ => return Err(wrong()),
    };
    parse_compact(digits.as_bytes()).ok_or_else(wrong)
}

/// The zone of an IANA name; `None` for UTC, whose days are as they are counted.
///
/// # Errors
/// A sentence that says what would be right.
pub fn zone(name: &str) -> Result<Option<TimeZone>, String> {
    if matches!(name, "UTC" | "Etc/UTC") {
        return Ok(None);
    }
    TimeZone::get(name)
        .map(Some)
        .map_err(|_| format!("time zone {name:?} is not known: write it as Europe/Berlin or UTC"))
}

/// What a meter has counted, in Redis and in SQL together, at one moment.
///
/// # Errors
/// [`Error`]
pub async fn usage(redis: &Redis, pool: &Pool, question: &Question) -> Result<Usage, Error> {
    let wanted = question.check()?;
    let found = read(redis, pool, &Meter::new(&question.meter), &wanted).await?;
    let mut buckets: BTreeMap<String, u128> = BTreeMap::new();
    for (&(day, hour), &count) in &found.hours {
        if let Some(bucket) = question.bucket(day, hour) {
            *buckets.entry(bucket).or_default() += count;
        }
    }
    let unique = found.unique.map(|sketch| sketch.count()).filter(|_| question.by == By::Total);
    let buckets = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
    Ok(Usage { buckets, unique })
}

/// The `count` highest members below a path, ordered as `METER.TOP` orders them: in Redis and in SQL together, at one
/// moment. The days are UTC's.
///
/// # Errors
/// [`Error`]
pub async fn top(
    redis: &Redis,
    pool: &Pool,
    meter: &[u8],
    (from, to): (Date, Date),
    path: &[Vec<u8>],
    count: usize,
) -> Result<Vec<(Vec<u8>, u128)>, Error> {
    check_span(from, to)?;
    if path.len() >= 8 {
        return Err(Error::Question("path has at most 7 members above those that are ranked".to_owned()));
    }
    let wanted = Wanted { from, to, what: What::Members(path.to_vec()) };
    let found = read(redis, pool, &Meter::new(meter), &wanted).await?;
    let mut members: Vec<_> = found.members.into_iter().filter(|(_, count)| *count > 0).collect();
    members.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| b.cmp(a)));
    members.truncate(count);
    Ok(members)
}

fn check_span(from: Date, to: Date) -> Result<(), Error> {
    let days = (to - from).get_days();
    if days < 0 {
        return Err(Error::Question(format!("from {from} is after to {to}")));
    }
    if days >= MOST_DAYS {
        return Err(Error::Question(format!("from and to are {days} days apart: ask for at most {MOST_DAYS} days")));
    }
    Ok(())
}

impl Question {
    /// What has to be read for it.
    fn check(&self) -> Result<Wanted, Error> {
        check_span(self.from, self.to)?;
        let wrong = |text: &str| Err(Error::Question(text.to_owned()));
        if !self.path.is_empty() {
            if self.by == By::Hour {
                return wrong("a path is counted by day: by=hour can't be had with path");
            }
            if self.tz.is_some() {
                return wrong("a path is counted by UTC day: tz can't be had with path");
            }
            if self.path.len() > 8 || self.path.iter().any(Vec::is_empty) {
                return wrong("path has 1 to 8 members, none of them empty");
            }
            return Ok(Wanted { from: self.from, to: self.to, what: What::Path(self.path.clone()) });
        }
        let with_unique = self.by == By::Total && self.tz.is_none();
        let what = What::Hours { with_unique };
        if self.tz.is_none() {
            return Ok(Wanted { from: self.from, to: self.to, what });
        }
        // No zone is a whole day from UTC by more than its date.
        let day_before = self.from.yesterday().unwrap_or(self.from);
        let day_after = self.to.tomorrow().unwrap_or(self.to);
        Ok(Wanted { from: day_before, to: day_after, what })
    }

    /// The bucket of a UTC hour; `None` if it is no part of the span.
    fn bucket(&self, day: Date, hour: i8) -> Option<String> {
        let (day, hour) = match &self.tz {
            None => (day, hour),
            Some(tz) => {
                let begins = TimeZone::UTC.to_timestamp(day.at(hour, 0, 0, 0)).ok()?;
                let local = tz.to_datetime(begins);
                (local.date(), local.hour())
            }
        };
        (self.from..=self.to).contains(&day).then(|| label(self.by, day, hour))
    }
}

/// The bucket of an hour as `METER.KPI` writes it.
fn label(by: By, day: Date, hour: i8) -> String {
    match by {
        By::Hour => format!("{}{hour:02}", compact(day)),
        By::Day => compact(day),
        By::Week => {
            let week: ISOWeekDate = day.iso_week_date();
            format!("{:04}W{:02}", week.year(), week.week())
        }
        By::Month => format!("{:04}{:02}", day.year(), day.month()),
        By::Total => "total".to_owned(),
    }
}

/// What has to be read: UTC days, both included.
struct Wanted {
    from: Date,
    to: Date,
    what: What,
}

enum What {
    /// The counts of hours, and the ids.
    Hours { with_unique: bool },
    /// The counts of a path by day, as if all were of hour 0.
    Path(Vec<Vec<u8>>),
    /// The counts of the members below a path.
    Members(Vec<Vec<u8>>),
}

impl Wanted {
    fn days(&self) -> Vec<Date> {
        self.from.series(1.day()).take_while(|day| *day <= self.to).collect()
    }
}

/// What was read.
#[derive(Default)]
struct Found {
    hours: BTreeMap<(Date, i8), u128>,
    members: BTreeMap<Vec<u8>, u128>,
    unique: Option<Sketch>,
}

impl Found {
    fn count(&mut self, day: Date, hour: i8, count: u128) {
        *self.hours.entry((day, hour)).or_default() += count;
    }

    fn member(&mut self, member: Vec<u8>, count: u128) {
        *self.members.entry(member).or_default() += count;
    }

    fn add(&mut self, other: Self) {
        for ((day, hour), count) in other.hours {
            self.count(day, hour, count);
        }
        for (member, count) in other.members {
            self.member(member, count);
        }
        if let Some(sketch) = &other.unique {
            self.unique.get_or_insert_default().merge(sketch);
        }
    }
}

/// Reads both sides until what was read is of one moment.
async fn read(redis: &Redis, pool: &Pool, meter: &Meter, wanted: &Wanted) -> Result<Found, Error> {
    let names = Names::new(&meter.name, redis.is_cluster());
    let mut session = fresh(pool, meter).await?;
    for _ in 0..READINGS {
        let before = match last(&mut session, meter).await {
            Ok(last) => last,
            Err(error) => return Err(error.into()),
        };
        let (stored, open) = stored(redis, meter, &names, wanted).await?;
        let sealed = match &open {
            Some(id) => Some(sealed(redis, &names, id, wanted).await?),
            None => None,
        };
        let (archived, after, has_open) = archived(&mut session, meter, wanted, open.as_deref()).await?;
        let is_same = after.seq == before.seq;
        let is_next = after.seq == before.seq + 1 && open.as_deref() == Some(&after.id);
        if !is_same && !is_next {
            continue;
        }
        pool.give_back(session);
        let mut found = stored;
        found.add(archived);
        if let Some(sealed) = sealed.filter(|_| !has_open) {
            found.add(sealed);
        }
        return Ok(found);
    }
    pool.give_back(session);
    Err(Error::Unsteady)
}

/// A connection to the archive that works: the ones that were kept may have been lost meanwhile.
async fn fresh(pool: &Pool, meter: &Meter) -> Result<Session, Error> {
    let mut session = pool.take().await?;
    match last(&mut session, meter).await {
        Ok(_) => Ok(session),
        Err(error) if error.kind == Kind::Lost => {
            pool.clear();
            Ok(pool.take().await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// What is stored in Redis, and the id of the open batch, at one moment.
async fn stored(
    redis: &Redis,
    meter: &Meter,
    names: &Names,
    wanted: &Wanted,
) -> Result<(Found, Option<String>), Error> {
    let with_unique = matches!(wanted.what, What::Hours { with_unique: true });
    // The keys of a transaction must be known before it: where a day is new by then, it is tried again.
    let mut known: BTreeSet<Date> = BTreeSet::new();
    for _ in 0..READINGS {
        let mut transaction = Pipeline::new();
        transaction.atomic();
        transaction.cmd("HGET").arg(names.batch()).arg("id");
        let index = |pipeline: &mut Pipeline| {
            let (from, to) = (compact(wanted.from), compact(wanted.to));
            pipeline.cmd("ZRANGEBYSCORE").arg(&meter.name).arg(from).arg(to);
        };
        match &wanted.what {
            What::Hours { .. } => span(&mut transaction, "METER.KPI", meter, wanted).arg("BY").arg("HOUR"),
            What::Path(path) => {
                let command = span(&mut transaction, "METER.KPI", meter, wanted).arg("BY").arg("DAY");
                path_arguments(command, path)
            }
            What::Members(path) => {
                let command = span(&mut transaction, "METER.TOP", meter, wanted);
                path_arguments(command, path).arg("COUNT").arg(u32::MAX)
            }
        };
        if with_unique {
            index(&mut transaction);
            for day in &known {
                transaction.cmd("GET").arg(names.unique(*day));
            }
        }
        let replies: Vec<Value> = redis.pipeline(&transaction).await?;
        let mut replies = replies.into_iter();
        let mut next = || replies.next().ok_or_else(|| odd("too few replies"));
        let open: Option<String> = from_redis_value(next()?).map_err(odd)?;
        let mut found = Found::default();
        let counts: Vec<(Vec<u8>, u64)> = from_redis_value(next()?).map_err(odd)?;
        for (name, count) in counts {
            found.stored(&wanted.what, name, count)?;
        }
        if !with_unique {
            return Ok((found, open));
        }
        let days: Vec<Vec<u8>> = from_redis_value(next()?).map_err(odd)?;
        let days: BTreeSet<Date> = days.iter().filter_map(|day| parse_compact(day)).collect();
        if !days.is_subset(&known) {
            known = days;
            continue;
        }
        for reply in replies {
            found.sketch(reply)?;
        }
        return Ok((found, open));
    }
    Err(Error::Unsteady)
}

/// Begins `command meter FROM … TO …`.
fn span<'a>(pipeline: &'a mut Pipeline, command: &str, meter: &Meter, wanted: &Wanted) -> &'a mut Pipeline {
    pipeline.cmd(command).arg(&meter.name).arg("FROM").arg(compact(wanted.from)).arg("TO").arg(compact(wanted.to))
}

fn path_arguments<'a>(command: &'a mut Pipeline, path: &[Vec<u8>]) -> &'a mut Pipeline {
    if !path.is_empty() {
        command.arg("PATH").arg(path.len());
        for member in path {
            command.arg(member);
        }
    }
    command
}

impl Found {
    /// A pair of METER.KPI or METER.TOP.
    fn stored(&mut self, what: &What, name: Vec<u8>, count: u64) -> Result<(), Error> {
        let bucket = || odd("a bucket that is none");
        match what {
            What::Members(_) => self.member(name, u128::from(count)),
            What::Path(_) => self.count(parse_compact(&name).ok_or_else(bucket)?, 0, u128::from(count)),
            What::Hours { .. } => {
                let (day, hour) = name.split_at_checked(8).ok_or_else(bucket)?;
                let hour = std::str::from_utf8(hour).ok().and_then(|hour| hour.parse().ok()).ok_or_else(bucket)?;
                self.count(parse_compact(day).ok_or_else(bucket)?, hour, u128::from(count));
            }
        }
        Ok(())
    }

    /// A HyperLogLog, or nil.
    fn sketch(&mut self, reply: Value) -> Result<(), Error> {
        let bytes: Option<Vec<u8>> = from_redis_value(reply).map_err(odd)?;
        if let Some(bytes) = bytes {
            let sketch = Sketch::read(&bytes).map_err(odd)?;
            self.unique.get_or_insert_default().merge(&sketch);
        }
        Ok(())
    }
}

/// What is in the batch `id`; of use only if it was open until this has been read.
async fn sealed(redis: &Redis, names: &Names, id: &str, wanted: &Wanted) -> Result<Found, Error> {
    let mut found = Found::default();
    for days in wanted.days().chunks(COMMANDS) {
        let mut pipeline = Pipeline::new();
        for day in days {
            match &wanted.what {
                What::Hours { .. } => pipeline.cmd("HGETALL").arg(names.sealed_day(id, *day)),
                What::Path(path) => {
                    let Some((member, above)) = path.split_last() else { continue };
                    pipeline.cmd("ZSCORE").arg(names.sealed_path(id, *day, above)).arg(member)
                }
                What::Members(path) => {
                    pipeline.cmd("ZRANGE").arg(names.sealed_path(id, *day, path)).arg(0).arg(PAGE - 1).arg("WITHSCORES")
                }
            };
        }
        let replies: Vec<Value> = redis.pipeline(&pipeline).await?;
        for (day, reply) in days.iter().zip(replies) {
            match &wanted.what {
                What::Hours { .. } => found.sealed_hours(*day, reply)?,
                What::Path(_) => {
                    let score: Option<f64> = from_redis_value(reply).map_err(odd)?;
                    found.count(*day, 0, score.map_or(Ok(0), count_of)?);
                }
                What::Members(path) => {
                    let key = names.sealed_path(id, *day, path);
                    found.sealed_members(redis, &key, reply).await?;
                }
            }
        }
    }
    if matches!(wanted.what, What::Hours { with_unique: true }) {
        for days in wanted.days().chunks(COMMANDS) {
            let mut pipeline = Pipeline::new();
            for day in days {
                pipeline.cmd("GET").arg(names.sealed_unique(id, *day));
            }
            for reply in redis.pipeline::<Vec<Value>>(&pipeline).await? {
                found.sketch(reply)?;
            }
        }
    }
    Ok(found)
}

impl Found {
    fn sealed_hours(&mut self, day: Date, reply: Value) -> Result<(), Error> {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = from_redis_value(reply).map_err(odd)?;
        for (field, count) in fields {
            let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
            let hour = number(&field).filter(|hour| *hour < 24 && hour.to_string().as_bytes() == field);
            if let Some(hour) = hour.and_then(|hour| i8::try_from(hour).ok()) {
                let count = number(&count).ok_or_else(|| odd("an hour that holds no count"))?;
                self.count(day, hour, u128::from(count));
            }
        }
        Ok(())
    }

    /// The members of a set, of which `reply` is the first page.
    async fn sealed_members(&mut self, redis: &Redis, key: &[u8], mut reply: Value) -> Result<(), Error> {
        let mut read = 0;
        loop {
            let members: Vec<(Vec<u8>, f64)> = from_redis_value(reply).map_err(odd)?;
            let is_last = members.len() < PAGE;
            read += members.len();
            for (member, score) in members {
                self.member(member, count_of(score)?);
            }
            if is_last {
                return Ok(());
            }
            let mut page = redis::cmd("ZRANGE");
            page.arg(key).arg(read).arg(read + PAGE - 1).arg("WITHSCORES");
            reply = redis.call(&page).await?;
        }
    }
}

/// What is in SQL, its last batch, and whether `open` is there, at one moment.
async fn archived(
    session: &mut Session,
    meter: &Meter,
    wanted: &Wanted,
    open: Option<&str>,
) -> Result<(Found, Last, bool), Error> {
    let mut found = Found::default();
    let mut snapshot = Snapshot::begin(session, meter).await?;
    let last = snapshot.last().await?;
    let has_open = match open {
        Some(id) => last.id == id || snapshot.has(id).await?,
        None => false,
    };
    // Nothing was ever archived of it: no need to look.
    if last.seq > 0 {
        match &wanted.what {
            What::Hours { with_unique } => {
                for (day, hour, count) in snapshot.hours(wanted.from, wanted.to).await? {
                    let hour = i8::try_from(hour).map_err(odd)?;
                    found.count(day, hour, u128::try_from(count).map_err(odd)?);
                }
                if *with_unique {
                    snapshot.unique(wanted.from, wanted.to, &mut found.unique).await?;
                }
            }
            What::Path(path) => {
                for (day, count) in snapshot.path(&wanted.days(), path).await? {
                    found.count(day, 0, u128::try_from(count).map_err(odd)?);
                }
            }
            What::Members(path) => snapshot.members(&wanted.days(), path, &mut found.members).await?,
        }
    }
    snapshot.end().await?;
    Ok((found, last, has_open))
}

fn count_of(score: f64) -> Result<u128, Error> {
    whole(score).and_then(|count| u128::try_from(count).ok()).ok_or_else(|| odd("a score that is no count"))
}

/// A reply that the module never gives.
fn odd(what: impl fmt::Display) -> Error {
    Error::Redis(Failure::Refused {
        code: "ERR".to_owned(),
        text: format!("what Redis returned is of another kind: {what}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_written_as_the_module_writes_them() {
        let day = parse_day("2022-08-09").expect("a day");
        let labels = [By::Hour, By::Day, By::Week, By::Month, By::Total].map(|by| label(by, day, 4));
        assert_eq!(labels, ["2022080904", "20220809", "2022W32", "202208", "total"]);
        // ISO years begin and end with a week.
        assert_eq!(label(By::Week, parse_day("20210103").expect("a day"), 0), "2020W53");
        assert_eq!(label(By::Week, parse_day("20241230").expect("a day"), 0), "2025W01");
    }

    #[test]
    fn dates_are_read_as_the_module_reads_them() {
        assert_eq!(parse_day("20220809"), parse_day("2022-08-09"));
        for wrong in ["", "2022-8-9", "2022/08/09", "20220231", "2022-08-099", "09.08.2022", "2022é809"] {
            assert!(parse_day(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_zone_says_which_hours_are_of_its_days() {
        let day = parse_day("2022-08-09").expect("a day");
        let question = |zone: &str| Question {
            meter: b"m".to_vec(),
            from: day,
            to: day,
            by: By::Day,
            path: Vec::new(),
            tz: super::zone(zone).expect("a zone"),
        };
        let (before, after) = (day.yesterday().expect("a day"), day.tomorrow().expect("a day"));
        for (zone, first, last) in [
            ("UTC", (day, 0), (day, 23)),
            ("America/New_York", (day, 4), (after, 3)),
            ("Asia/Kolkata", (before, 19), (day, 18)),
            ("Pacific/Kiritimati", (before, 10), (day, 9)),
            ("Pacific/Niue", (day, 11), (after, 10)),
        ] {
            let question = question(zone);
            let hours = [before, day, after].into_iter().flat_map(|day| (0..24).map(move |hour| (day, hour)));
            let of_day: Vec<_> = hours.filter(|&(day, hour)| question.bucket(day, hour).is_some()).collect();
            assert_eq!((of_day.first(), of_day.last(), of_day.len()), (Some(&first), Some(&last), 24), "{zone}");
        }
    }
}
