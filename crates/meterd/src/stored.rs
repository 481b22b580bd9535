//! Reads what a limiter's key holds, without the limiter's numbers.

use redis::{FromRedisValue, Value as Reply, cmd};
use serde_json::{Value, json};

use crate::connection::{Failure, Redis};
use crate::name;

/// What lies in the key, read without a limiter's numbers; null if there is nothing.
///
/// # Errors
/// Those of Redis.
pub(crate) async fn stored(redis: &Redis, key: &[u8]) -> Result<Value, Failure> {
    let read = |name: &str| cmd(name).arg(key).to_owned();
    let replies = redis.call_all(&[read("TYPE"), read("PTTL")]).await?;
    let mut replies = replies.into_iter();
    let kind: String = take(replies.next())?;
    let left: i64 = take(replies.next())?;
    let expires = (left >= 0).then(|| left.unsigned_abs() as f64 / 1000.0);
    let value = match kind.as_str() {
        "none" => return Ok(Value::Null),
        "string" => {
            let bytes: Vec<u8> = redis.call(&read("GET")).await?;
            text(&bytes)
        }
        "zset" => json!({"members": redis.call::<u64>(&read("ZCARD")).await?}),
        "hash" => {
            let fields: Vec<(Vec<u8>, Vec<u8>)> = redis.call(&read("HGETALL")).await?;
            let fields = fields.iter().filter(|(name, _)| FIELDS.contains(&&name[..]));
            Value::Object(fields.map(|(name, value)| (name::shown(name).into_owned(), text(value))).collect())
        }
        _ => Value::Null,
    };
    Ok(json!({"type": kind, "expires_in": expires, "value": value}))
}

/// The fields of a sliding-window counter.
const FIELDS: [&[u8]; 4] = [b"start", b"period", b"current", b"previous"];
/// A decimal from here on is a theoretical arrival time in nanoseconds since the epoch.
const LEAST_TAT: u64 = 100_000_000_000_000_000;

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<u64>().ok()) {
        Some(tat) if tat >= LEAST_TAT => {
            let wait =
                (tat / 1_000_000).saturating_sub(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0));
            json!({"full_again_in": wait as f64 / 1000.0})
        }
        Some(count) => json!({ "count": count }),
        // Any other value is not a limiter's, and is not shown.
        None => Value::Null,
    }
}

fn take<T: FromRedisValue>(reply: Option<Result<Reply, Failure>>) -> Result<T, Failure> {
    let reply = reply.unwrap_or_else(|| Err(Failure::Unknown("too few replies".to_owned())))?;
    T::from_redis_value(reply).map_err(|error| Failure::Unknown(error.to_string()))
}
