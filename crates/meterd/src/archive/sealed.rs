//! The keys of a batch, read page by page, so that a batch of any size takes as much memory as a small one.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::civil::Date;
use redis::aio::ConnectionLike;
use redis::{Pipeline, Value, from_redis_value};
use tokio::sync::mpsc::Sender;

use super::archiver::Error;
use super::names::{decode, parse_compact};
use super::row::{HourRow, MOST_LEVELS, Parent, PathRow, UniqueRow, shown};
use super::sketch::Sketch;
use crate::patience::Patience;

/// Keys that are begun with one round trip.
const KEYS: usize = 64;
/// Members that are read of each of them.
const FIRST_PAGE: usize = 500;
/// Members that are read with one round trip of those that have more.
const PAGE: usize = 5000;

/// Rows, as they are handed on.
pub(crate) enum Page {
    Hours(Vec<HourRow>),
    Paths(Vec<PathRow>),
    Unique(UniqueRow),
    /// So many keys have been read to their end.
    Keys(usize),
}

/// A key of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedKey {
    name: Vec<u8>,
    pub(crate) day: Date,
    part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Hours,
    Path(Vec<Vec<u8>>),
    Unique,
}

impl SealedKey {
    /// Reads the name of a key of the batch `id`: `K:sealed:<id>:day:20220809…`.
    ///
    /// # Errors
    /// It is no such name.
    pub(crate) fn parse(name: Vec<u8>, id: &str) -> Result<Self, Error> {
        let wrong = || Error::Unexpected(format!("METER.SEAL returned the key {}, which is no batch's", shown(&name)));
        let mark = format!(":sealed:{id}:day:");
        let at = name.windows(mark.len()).position(|window| window == mark.as_bytes()).ok_or_else(wrong)?;
        let mut parts = name[at + mark.len()..].split(|&byte| byte == b':');
        let day = parts.next().and_then(parse_compact).ok_or_else(wrong)?;
        let part = match parts.next() {
            None => Part::Hours,
            Some(b"unique") => Part::Unique,
            Some(b"path") => {
                let members: Vec<_> = parts.map(decode).collect::<Option<_>>().ok_or_else(wrong)?;
                if members.len() >= MOST_LEVELS {
                    return Err(wrong());
                }
                Part::Path(members)
            }
            Some(_) => return Err(wrong()),
        };
        Ok(Self { day, part, name })
    }
}

/// Reads all keys of a batch of `meter`, and hands on their rows. Ends early when nobody takes them any more.
///
/// # Errors
/// A key that has gone or holds no counts; or as the server says.
pub(crate) async fn read<C: ConnectionLike + Send>(
    redis: &mut C,
    patience: Patience,
    meter: &[u8],
    keys: &[SealedKey],
    to: &Sender<Page>,
) -> Result<(), Error> {
    for keys in keys.chunks(KEYS) {
        let mut pipeline = Pipeline::new();
        for key in keys {
            match key.part {
                Part::Hours => pipeline.cmd("HGETALL").arg(&key.name),
                Part::Path(_) => pipeline.cmd("ZRANGE").arg(&key.name).arg(0).arg(FIRST_PAGE - 1).arg("WITHSCORES"),
                Part::Unique => pipeline.cmd("GET").arg(&key.name),
            };
        }
        let values: Vec<Value> = patience.redis(pipeline.query_async(redis)).await?;
        for (key, value) in keys.iter().zip(values) {
            if !hand_on(redis, patience, meter, key, value, to).await? {
                return Ok(());
            }
        }
        if to.send(Page::Keys(keys.len())).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Hands on a key whose first page is `value`; `false` if nobody takes it.
async fn hand_on<C: ConnectionLike + Send>(
    redis: &mut C,
    patience: Patience,
    meter: &[u8],
    key: &SealedKey,
    value: Value,
    to: &Sender<Page>,
) -> Result<bool, Error> {
    match &key.part {
        Part::Hours => Ok(to.send(Page::Hours(hours(key, value)?)).await.is_ok()),
        Part::Unique => {
            let bytes: Option<Vec<u8>> = from_redis_value(value).map_err(Error::reply)?;
            let bytes = bytes.ok_or_else(|| gone(key))?;
            let sketch = Sketch::read(&bytes).map_err(|_| {
                Error::Unexpected(format!(
                    "key {} of the batch is no HyperLogLog: DEL it to go on without",
                    shown(&key.name)
                ))
            })?;
            Ok(to.send(Page::Unique(UniqueRow { day: key.day, sketch })).await.is_ok())
        }
        Part::Path(members) => {
            let parent = Arc::new(Parent::new(meter, key.day, members.clone()));
            let mut rows = path_rows(key, &parent, value)?;
            if rows.is_empty() {
                return Err(gone(key));
            }
            let (mut read, mut page) = (rows.len(), FIRST_PAGE);
            loop {
                let is_last = rows.len() < page;
                if to.send(Page::Paths(rows)).await.is_err() {
                    return Ok(false);
                }
                if is_last {
                    return Ok(true);
                }
                page = PAGE;
                let mut range = redis::cmd("ZRANGE");
                range.arg(&key.name).arg(read).arg(read + page - 1).arg("WITHSCORES");
                let value: Value = patience.redis(range.query_async(redis)).await?;
                rows = path_rows(key, &parent, value)?;
                read += rows.len();
            }
        }
    }
}

fn path_rows(key: &SealedKey, parent: &Arc<Parent>, value: Value) -> Result<Vec<PathRow>, Error> {
    let members: Vec<(Vec<u8>, f64)> = from_redis_value(value).map_err(Error::reply)?;
    let rows = members.into_iter().map(|(member, score)| {
        let count = whole(score).ok_or_else(|| {
            Error::Unexpected(format!(
                "member {} of {} has the score {score}, which is no count; correct it by ZADD",
                shown(&member),
                shown(&key.name)
            ))
        })?;
        Ok(PathRow::new(Arc::clone(parent), member, count))
    });
    rows.collect()
}

/// The rows of a day's hash.
fn hours(key: &SealedKey, value: Value) -> Result<Vec<HourRow>, Error> {
    let fields: HashMap<Vec<u8>, Vec<u8>> = from_redis_value(value).map_err(Error::reply)?;
    if fields.is_empty() {
        return Err(gone(key));
    }
    let counts = counts_of(&fields).map_err(|what| Error::Unexpected(format!("{} of {}", what, shown(&key.name))))?;
    let rows = (0..).zip(counts).filter(|(_, count)| *count > 0);
    Ok(rows.map(|(hour, count)| HourRow { day: key.day, hour, count }).collect())
}

/// The counts of the hours of a day's hash.
///
/// # Errors
/// A field that holds no count, or hours that do not make up the day; a sentence that waits for the key's name.
pub(crate) fn counts_of(fields: &HashMap<Vec<u8>, Vec<u8>>) -> Result<[i64; 24], String> {
    let count = |field: &str| match fields.get(field.as_bytes()) {
        None => Ok(0),
        Some(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|&count| count >= 0)
            .ok_or_else(|| format!("no count is in the field {field}; correct it by HSET: the hash")),
    };
    let mut hours = [0; 24];
    for (hour, place) in hours.iter_mut().enumerate() {
        *place = count(&hour.to_string())?;
    }
    let (day, sum) = (count("day")?, hours.iter().map(|&count| i128::from(count)).sum::<i128>());
    if i128::from(day) != sum {
        return Err(format!("the hours sum up to {sum}, and the day to {day}; correct one of them by HSET: the hash"));
    }
    Ok(hours)
}

/// The integer that a score is.
#[expect(clippy::cast_possible_truncation, reason = "checked to be at most 2^53")]
pub(crate) fn whole(score: f64) -> Option<i64> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    ((0.0..=MOST).contains(&score) && score.fract() == 0.0).then_some(score as i64)
}

fn gone(key: &SealedKey) -> Error {
    Error::Retry(format!("key {} of the batch has gone: somebody else acknowledged it", shown(&key.name)))
}
