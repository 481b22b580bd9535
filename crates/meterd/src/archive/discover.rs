//! Which meters there are on a server.

use std::collections::BTreeSet;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, Value, from_redis_value};

use super::archiver::Error;
use super::glob::Glob;
use super::names::{meter_of, parse_compact};
use super::sealed::whole;
use crate::connection::{Link, Node};
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
        for name in batches {
            let meter = meter_of(&name[..name.len() - b":batch".len()], is_cluster);
            if glob.matches(meter) && !is_derived(meter) {
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
        names.extend(found.into_iter().filter(|name| !is_derived(name)));
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
    let mut meters = Vec::new();
    for names in names.chunks(COUNT) {
        let mut pipeline = Pipeline::new();
        for name in names {
            pipeline.cmd("ZRANGE").arg(name).arg(0).arg(0).arg("WITHSCORES");
        }
        let firsts: Vec<Vec<(Vec<u8>, f64)>> = patience.redis(pipeline.query_async(redis)).await?;
        for (name, first) in names.iter().zip(firsts) {
            if first.first().is_some_and(|(member, score)| is_day(member, *score)) {
                meters.push(name.clone());
            }
        }
    }
    Ok(meters)
}

/// Whether a member of a sorted set is a day in a meter's index.
fn is_day(member: &[u8], score: f64) -> bool {
    parse_compact(member).is_some()
        && std::str::from_utf8(member).ok().and_then(|text| text.parse().ok()) == whole(score)
}

/// Whether a key belongs to a meter and is none itself: a breakdown, or a part of a batch.
fn is_derived(name: &[u8]) -> bool {
    let has = |mark: &[u8], day: usize| {
        name.windows(mark.len() + day)
            .any(|window| window.starts_with(mark) && parse_compact(&window[mark.len()..]).is_some())
    };
    let sealed = name
        .windows(b":sealed:".len() + 32)
        .any(|window| window.starts_with(b":sealed:") && window[b":sealed:".len()..].iter().all(u8::is_ascii_hexdigit));
    sealed || has(b":day:", 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_meters_are_no_meters() {
        assert!(is_derived(b"K:day:20220809:path"));
        assert!(is_derived(b"K:day:20220809:path:a"));
        assert!(is_derived(b"K:sealed:effbb6c3cf72a618cf24a5ab25298333:day:20220809:path"));
        assert!(!is_derived(b"K"));
        assert!(!is_derived(b"K:day:of:days"));
        assert!(is_day(b"20220809", 20_220_809.0));
        assert!(!is_day(b"20220809", 7.0));
        assert!(!is_day(b"20229999", 20_229_999.0));
    }
}
