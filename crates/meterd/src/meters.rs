//! Which meters there are: by their indexes, which are sorted sets, and by their open batches, which are hashes.
//!
//! Neither Redis nor the module keeps a list, so the keys are scanned. A scan costs what the database holds, so it is
//! done in steps, each of which is short.

use redis::{Cmd, FromRedisValue as _, Value, cmd};
use redis_meter_client::{Command as _, Days};

use crate::archive::{Names, is_batch_id};
use crate::connection::{Failure, Node, Redis};
use crate::name;

/// How many keys one step of a scan looks at, about.
const STEP: u64 = 1000;
/// Ends the name of an open batch.
const BATCH: &[u8] = b":batch";

/// Where a scan stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The kind of key that is scanned for.
    phase: Phase,
    /// The node of a cluster, by its place in the list.
    node: usize,
    /// What the server calls it.
    position: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Indexes,
    Batches,
}

impl Cursor {
    /// As text, for clients.
    pub fn text(&self) -> String {
        let phase = if self.phase == Phase::Indexes { 'i' } else { 'b' };
        format!("{phase}{}.{}", self.node, self.position)
    }

    /// What [`Cursor::text`] has written.
    pub fn parse(text: &str) -> Option<Self> {
        let (phase, rest) = (text.get(..1)?, text.get(1..)?);
        let phase = match phase {
            "i" => Phase::Indexes,
            "b" => Phase::Batches,
            _ => return None,
        };
        let (node, position) = rest.split_once('.')?;
        Some(Self { phase, node: node.parse().ok()?, position: position.parse().ok()? })
    }
}

/// A meter, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its key.
    pub key: Vec<u8>,
    /// The days stored, ascending, with their counts.
    pub days: Vec<(String, u64)>,
    /// Whether a batch is open.
    pub has_batch: bool,
}

/// One step of a scan: the meters found, and where to go on; `None` at the end. A meter may be found twice.
///
/// # Errors
/// When Redis can't be reached, or refuses.
pub async fn step(redis: &Redis, prefix: &[u8], cursor: &Cursor) -> Result<(Vec<Meter>, Option<Cursor>), Failure> {
    let nodes = redis.nodes().await?;
    let Some(node) = nodes.get(cursor.node) else { return Ok((Vec::new(), next_phase(cursor))) };
    let (keys, position) = scan(redis, node, prefix, cursor).await?;
    let found = match cursor.phase {
        Phase::Indexes => indexed(redis, keys).await?,
        Phase::Batches => batched(redis, keys).await?,
    };
    let next = match position {
        0 if cursor.node + 1 < nodes.len() => Some(Cursor { node: cursor.node + 1, position: 0, ..*cursor }),
        0 => next_phase(cursor),
        position => Some(Cursor { position, ..*cursor }),
    };
    Ok((found, next))
}

fn next_phase(cursor: &Cursor) -> Option<Cursor> {
    (cursor.phase == Phase::Indexes).then_some(Cursor { phase: Phase::Batches, node: 0, position: 0 })
}

async fn scan(redis: &Redis, node: &Node, prefix: &[u8], cursor: &Cursor) -> Result<(Vec<Vec<u8>>, u64), Failure> {
    let (kind, end): (_, &[u8]) = match cursor.phase {
        Phase::Indexes => ("zset", b""),
        Phase::Batches => ("hash", BATCH),
    };
    // A key of a cluster may be wrapped, {K}:batch, which no prefix of K matches.
    let pattern = match redis.target().is_cluster() && cursor.phase == Phase::Batches {
        true => [b"*", end].concat(),
        false => [name::glob(prefix), b"*".to_vec(), end.to_vec()].concat(),
    };
    let mut command = cmd("SCAN");
    command.arg(cursor.position).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP).arg("TYPE").arg(kind);
    let (position, keys): (String, Vec<Vec<u8>>) = redis.call_on(node, &command).await?;
    let position = position.parse().map_err(|_| Failure::Unknown("SCAN returned no cursor".to_owned()))?;
    let keys = keys.into_iter().filter_map(|key| match cursor.phase {
        Phase::Indexes => (!name::is_breakdown(&key)).then_some(key),
        Phase::Batches => Some(unwrapped(key.strip_suffix(BATCH)?)).filter(|key| key.starts_with(prefix)),
    });
    Ok((keys.collect(), position))
}

/// The meters whose indexes these are; other sorted sets are left out.
async fn indexed(redis: &Redis, keys: Vec<Vec<u8>>) -> Result<Vec<Meter>, Failure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let commands: Vec<Cmd> = keys.iter().map(|key| Days::new(key).to_cmd()).collect();
    let replies = redis.call_all(&commands).await?;
    let meters = keys.into_iter().zip(replies).filter_map(|(key, reply)| match reply {
        Ok(days) => Some(Ok(Meter { key, days: Vec::from_redis_value(days).ok()?, has_batch: false })),
        Err(failure @ (Failure::Down(_) | Failure::Unknown(_))) => Some(Err(failure)),
        Err(failure) if failure.is_without_module() => Some(Err(failure)),
        Err(_) => None,
    });
    let mut meters: Vec<Meter> = meters.collect::<Result<_, _>>()?;
    meters.retain(|meter| !meter.days.is_empty());
    Ok(meters)
}

/// The meters of open batches that have no day beside it; the others are found by their indexes.
async fn batched(redis: &Redis, keys: Vec<Vec<u8>>) -> Result<Vec<Meter>, Failure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let is_cluster = redis.target().is_cluster();
    let ids = keys.iter().map(|key| cmd("HGET").arg(Names::new(key, is_cluster).batch()).arg("id").to_owned());
    let exist = keys.iter().map(|key| cmd("EXISTS").arg(key.as_slice()).to_owned());
    let commands: Vec<Cmd> = exist.chain(ids).collect();
    let mut replies = redis.call_all(&commands).await?;
    let ids = replies.split_off(keys.len());
    let lonely = keys.into_iter().zip(replies).zip(ids).filter(|((_, there), id)| {
        let is_batch = matches!(id, Ok(Value::BulkString(id)) if is_batch_id(id));
        is_batch && matches!(there, Ok(Value::Int(0)))
    });
    Ok(lonely.map(|((key, _), _)| Meter { key, days: Vec::new(), has_batch: true }).collect())
}

/// The meter of a derived key's beginning: `K` or `{K}`.
fn unwrapped(key: &[u8]) -> Vec<u8> {
    let inner = key.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    inner.filter(|inner| !inner.contains(&b'}')).unwrap_or(key).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor { phase: Phase::Batches, node: 2, position: u64::MAX };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for wrong in ["", "i", "x0.0", "i0", "i-1.0", "ß0.0"] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
