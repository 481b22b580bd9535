//! Which meters there are on a server.

use std::collections::BTreeSet;

use redis::aio::ConnectionLike;
use redis::{Cmd, FromRedisValue, Pipeline, Value, from_redis_value};

use super::archiver::Error;
use super::glob::Glob;
use super::names::{is_batch_id, meter_of, parse_compact};
use super::sealed::whole;
use crate::connection::{Link, Node};
use crate::name::is_breakdown;
use crate::patience::Patience;

const COUNT: usize = 1000;

/// The meters whose names match a pattern: by their index, or by an open batch. A pattern without `*`, `?` and `[` is the
/// name of a meter, there or not.
///
/// # Errors
/// As the server says.
pub(crate) async fn meters(
    link: &mut Link,
    patterns: &[Vec<u8>],
    patience: Patience,
) -> Result<BTreeSet<Vec<u8>>, Error> {
    let mut found = BTreeSet::new();
    let is_cluster = link.is_cluster();
    let globs = patterns.iter().map(|pattern| Glob::new(pattern));
    let (literal, globs): (Vec<Glob>, Vec<Glob>) = globs.partition(|glob| glob.literal().is_some());
    found.extend(literal.iter().filter_map(Glob::literal).map(<[u8]>::to_vec));
    if globs.is_empty() {
        return Ok(found);
    }
    for mut node in patience.redis(link.nodes()).await? {
        found.extend(on_node(&mut node, &globs, patience, is_cluster).await?);
    }
    Ok(found)
}

async fn on_node(
    redis: &mut Node,
    globs: &[Glob],
    patience: Patience,
    is_cluster: bool,
) -> Result<BTreeSet<Vec<u8>>, Error> {
    let mut found = BTreeSet::new();
    for glob in globs {
        let mut candidates = Vec::new();
        scan(redis, patience, glob.pattern(), "zset", &mut candidates).await?;
        found.extend(with_index(redis, patience, candidates).await?);
        // The days of a meter whose last ones are in a batch are in no index.
        let mut batches = Vec::new();
        scan(redis, patience, b"*:batch", "hash", &mut batches).await?;
        for name in with_id(redis, patience, batches).await? {
            let meter = meter_of(&name[..name.len() - b":batch".len()], is_cluster);
            if glob.matches(meter) {
                found.insert(meter.to_vec());
            }
        }
    }
    Ok(found)
}

async fn scan<C: ConnectionLike + Send>(
    redis: &mut C,
    patience: Patience,
    pattern: &[u8],
    kind: &str,
    names: &mut Vec<Vec<u8>>,
) -> Result<(), Error> {
    let mut cursor = b"0".to_vec();
    loop {
        let mut scan = Cmd::new();
        scan.arg("SCAN").arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(COUNT).arg("TYPE").arg(kind);
        let reply: Value = patience.redis(scan.query_async(redis)).await?;
        let (next, found): (Vec<u8>, Vec<Vec<u8>>) = from_redis_value(reply).map_err(Error::reply)?;
        names.extend(found.into_iter().filter(|name| !is_breakdown(name)));
        if next == b"0" {
            return Ok(());
        }
        cursor = next;
    }
}

/// Those whose first member is a day with the score that goes with it.
async fn with_index<C: ConnectionLike + Send>(
    redis: &mut C,
    patience: Patience,
    names: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, Error> {
    let first = |name: &[u8]| redis::cmd("ZRANGE").arg(name).arg(0).arg(0).arg("WITHSCORES").to_owned();
    let is_index = |first: &Vec<(Vec<u8>, f64)>| first.first().is_some_and(|(member, score)| is_day(member, *score));
    those(redis, patience, names, first, is_index).await
}

/// Those that have the id of a batch; a hash of that name may be another program's.
async fn with_id<C: ConnectionLike + Send>(
    redis: &mut C,
    patience: Patience,
    names: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, Error> {
    let id = |name: &[u8]| redis::cmd("HGET").arg(name).arg("id").to_owned();
    let is_batch = |id: &Option<Vec<u8>>| id.as_deref().is_some_and(is_batch_id);
    those(redis, patience, names, id, is_batch).await
}

/// The names whose replies to a command are as wanted.
async fn those<C: ConnectionLike + Send, T: FromRedisValue>(
    redis: &mut C,
    patience: Patience,
    names: Vec<Vec<u8>>,
    command: impl Fn(&[u8]) -> Cmd,
    is_wanted: impl Fn(&T) -> bool,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut wanted = Vec::new();
    for names in names.chunks(COUNT) {
        let mut pipeline = Pipeline::new();
        for name in names {
            pipeline.add_command(command(name));
        }
        let replies: Vec<T> = patience.redis(pipeline.query_async(redis)).await?;
        wanted.extend(names.iter().zip(&replies).filter(|(_, reply)| is_wanted(reply)).map(|(name, _)| name.clone()));
    }
    Ok(wanted)
}

/// Whether a member of a sorted set is a day in a meter's index.
fn is_day(member: &[u8], score: f64) -> bool {
    parse_compact(member).is_some()
        && std::str::from_utf8(member).ok().and_then(|text| text.parse().ok()) == whole(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_score_that_they_are() {
        assert!(is_day(b"20220809", 20_220_809.0));
        assert!(!is_day(b"20220809", 7.0));
        assert!(!is_day(b"20229999", 20_229_999.0));
    }
}
