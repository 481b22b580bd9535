//! Limits, as the page shows them: who is refused most, and a key looked up without taking.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use redis::Cmd;
use redis_meter_client::{Command, Lease, Log, Quota, Refusal, Refused, Slide, Throttle, Unit, Verdict, Window};
use serde_json::{Value, json};

use super::problem::Problem;
use super::request::Query;
use super::{App, json_response};
use crate::name;
use crate::stored::stored;
use crate::token::Role;

/// `GET /v1/limits/refused?count=`
///
/// # Errors
/// 403 without the role `admin`, or those of Redis.
pub(super) async fn refused(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    app.identify(&headers)?.needs(Role::Admin)?;
    let query = Query::parse(query.as_deref(), &["count"])?;
    let count = query.number("count", 1, 1000)?.unwrap_or(10);
    let command = Refused::new().count(count).to_cmd();
    let mut all: Vec<Refusal> = Vec::new();
    for node in app.redis().nodes().await? {
        all.extend(app.redis().call_on::<Vec<Refusal>>(&node, &command).await?);
    }
    all.sort_by(|a, b| b.refusals.cmp(&a.refusals).then_with(|| a.key.cmp(&b.key)));
    all.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    let all: Vec<Value> = all
        .iter()
        .map(|refusal| {
            json!({
                "key": name::shown(&refusal.key), "id": name::to_path(&refusal.key), "db": refusal.db,
                "command": refusal.command, "refusals": refusal.refusals,
            })
        })
        .collect();
    Ok(json_response(&json!({ "refused": all })))
}

const KNOWN: [&str; 12] =
    ["key", "limiter", "burst", "count", "period", "limit", "unit", "anchor", "offset", "ttl", "holder", "quantity"];

/// `GET /v1/limits/state?key=…`, and with `limiter=…` and its numbers what a call would return.
///
/// # Errors
/// 400 for a wrong query, or those of Redis.
pub(super) async fn state(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let access = app.identify(&headers)?;
    let query = Query::parse(query.as_deref(), &KNOWN)?;
    let key = name::from_path(query.need("key")?);
    access.needs_key(Role::Check, &key)?;
    app.check_name("key", name::shown(&key).as_ref())?;
    let stored = stored(app.redis(), &key).await?;
    let verdict = match query.get("limiter")? {
        None => Value::Null,
        Some(limiter) => shown(&app.redis().call::<Verdict>(&peek(limiter, &key, &query)?).await?),
    };
    Ok(json_response(&json!({"key": name::shown(&key), "state": stored, "verdict": verdict})))
}

fn peek(limiter: &str, key: &[u8], query: &Query) -> Result<Cmd, Problem> {
    let number = |name: &str| {
        query.number(name, 1, 1 << 53)?.ok_or_else(|| Problem::bad(format!("\"{name}\" is missing for {limiter}")))
    };
    let time = |name: &str| {
        let seconds = query.need(name)?.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let seconds = seconds.filter(|seconds| !seconds.is_zero());
        seconds.ok_or_else(|| Problem::bad(format!("\"{name}\" is a number of seconds, more than 0")))
    };
    let most = i64::MAX.unsigned_abs();
    let quantity = query.number("quantity", 0, most)?.map_or(1, |n| i64::try_from(n).unwrap_or(i64::MAX));
    Ok(match limiter {
        "throttle" => {
            let burst = query.number("burst", 0, most)?.unwrap_or(0);
            Throttle::new(key, burst, number("count")?, time("period")?).quantity(quantity).read_only().to_cmd()
        }
        "window" => Window::new(key, number("limit")?, time("period")?).quantity(quantity).read_only().to_cmd(),
        "log" => Log::new(key, number("limit")?, time("period")?).quantity(quantity).read_only().to_cmd(),
        "slide" => Slide::new(key, number("limit")?, time("period")?).quantity(quantity).read_only().to_cmd(),
        "quota" => {
            let unit = unit(query.need("unit")?)?;
            let mut quota = Quota::new(key, number("limit")?, unit).quantity(quantity).read_only();
            if let Some(anchor) = query.get("anchor")? {
                quota = quota.anchor(anchor);
            }
            if let Some(offset) = query.get("offset")? {
                quota = quota.offset(offset);
            }
            quota.to_cmd()
        }
        "lease" => Lease::new(key, number("limit")?, time("ttl")?, query.need("holder")?).read_only().to_cmd(),
        _ => return Err(Problem::bad("\"limiter\" is throttle, window, log, slide, quota or lease")),
    })
}

fn unit(text: &str) -> Result<Unit, Problem> {
    match text {
        "hour" => Ok(Unit::Hour),
        "day" => Ok(Unit::Day),
        "week" => Ok(Unit::Week),
        "month" => Ok(Unit::Month),
        "year" => Ok(Unit::Year),
        _ => Err(Problem::bad("\"unit\" is hour, day, week, month or year")),
    }
}

pub(super) fn shown(verdict: &Verdict) -> Value {
    json!({
        "limited": verdict.limited, "limit": verdict.limit, "remaining": verdict.remaining,
        "retry_after": verdict.retry_after.map(|wait| wait.as_secs_f64()),
        "reset_after": verdict.reset_after.as_secs_f64(),
    })
}
