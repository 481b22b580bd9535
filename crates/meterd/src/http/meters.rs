//! `GET /v1/meters`, and what was counted in one: `usage`, `top`, `cost`.

use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use redis_meter_client::{Bucket, Cost, Price, Span, Top, When};
use redis_meter_core::calendar::Day;
use serde_json::{Value, json};

use super::problem::Problem;
use super::request::{Query, day_of, digits, now_ms};
use super::{App, json_response};
use crate::meters::{self, Cursor, Meter};
use crate::name;
use crate::token::Role;

/// How many meters one answer has, about.
const PAGE: usize = 100;
/// How many steps of a scan one answer may take.
const STEPS: usize = 50;
/// The most members of a ranking.
const MEMBERS: u64 = 1000;

/// `GET /v1/meters?prefix=&cursor=`
///
/// # Errors
/// 400 for a wrong query, or those of Redis.
pub(super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let access = app.identify(&headers)?;
    access.needs(Role::Read)?;
    let query = Query::parse(query.as_deref(), &["prefix", "cursor"])?;
    let prefix = query.get("prefix")?.unwrap_or_default();
    let mut cursor = match query.get("cursor")? {
        None => Some(Cursor::default()),
        Some(text) => Some(
            Cursor::parse(text)
                .ok_or_else(|| Problem::bad("\"cursor\" is the one that the last answer had, or absent to begin"))?,
        ),
    };
    let today = day_of(now_ms()).map(digits).unwrap_or_default();
    let mut found: Vec<Meter> = Vec::new();
    for _ in 0..STEPS {
        let Some(at) = &cursor else { break };
        let (more, next) = meters::step(app.redis(), prefix.as_bytes(), at).await?;
        found.extend(more.into_iter().filter(|meter| access.reaches(&meter.key)));
        cursor = next;
        if found.len() >= PAGE {
            break;
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found.dedup_by(|a, b| a.key == b.key);
    let meters: Vec<Value> = found.iter().map(|meter| shown(meter, &today)).collect();
    Ok(json_response(&json!({"meters": meters, "cursor": cursor.map(|cursor| cursor.text())})))
}

fn shown(meter: &Meter, today: &str) -> Value {
    let count = meter.days.iter().find(|(day, _)| day == today).map_or(0, |(_, count)| *count);
    json!({
        "meter": name::shown(&meter.key),
        "id": name::to_path(&meter.key),
        "today": count,
        "days": meter.days.len(),
        "first": meter.days.first().map(|(day, _)| day),
        "batch": meter.has_batch,
    })
}

/// `GET /v1/meters/{meter}/usage`
///
/// # Errors
/// 400 for a wrong query, or those of Redis.
pub(super) async fn usage(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let meter = meter(&app, &headers, &uri)?;
    let query = Query::parse(query.as_deref(), &["from", "to", "by", "path", "tz"])?;
    let (from, to) = span(&query)?;
    let by = query.get("by")?.unwrap_or("day");
    let bucket = bucket(by)?;
    let path: Vec<&str> = query.all("path").collect();
    let span = Span::new(&meter, digits(from), digits(to)).by(bucket).path(&path);
    let usage = app.redis().run(&span).await?;
    let accepts = |header: &axum::http::HeaderValue| header.to_str().is_ok_and(|text| text.contains("text/csv"));
    if headers.get(ACCEPT).is_some_and(accepts) {
        let lines: String = usage.iter().map(|(bucket, count)| format!("{bucket},{count}\n")).collect();
        return Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8")], format!("bucket,count\n{lines}")).into_response());
    }
    let usage: Vec<Value> = usage.iter().map(|(bucket, count)| json!({"bucket": bucket, "count": count})).collect();
    Ok(json_response(&json!({
        "meter": name::shown(&meter), "from": digits(from), "to": digits(to), "by": by, "tz": "UTC", "usage": usage,
    })))
}

/// `GET /v1/meters/{meter}/top`
///
/// # Errors
/// 400 for a wrong query, or those of Redis.
pub(super) async fn top(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let meter = meter(&app, &headers, &uri)?;
    let query = Query::parse(query.as_deref(), &["from", "to", "path", "count"])?;
    let (from, to) = span(&query)?;
    let count = query.number("count", 1, MEMBERS)?.unwrap_or(10);
    let path: Vec<&str> = query.all("path").collect();
    let top = Top::new(&meter).when(When::Span(digits(from), digits(to))).path(&path).count(count);
    let members = app.redis().run(&top).await?;
    let members: Vec<Value> =
        members.iter().map(|(member, count)| json!({"member": name::shown(member), "count": count})).collect();
    Ok(json_response(&json!({
        "meter": name::shown(&meter), "from": digits(from), "to": digits(to), "path": path, "top": members,
    })))
}

/// `GET /v1/meters/{meter}/cost`
///
/// # Errors
/// 400 for a wrong query, or those of Redis.
pub(super) async fn cost(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let meter = meter(&app, &headers, &uri)?;
    let query = Query::parse(query.as_deref(), &["from", "to", "rate", "graduated", "volume"])?;
    let (from, to) = span(&query)?;
    let price = match (query.get("rate")?, query.get("graduated")?, query.get("volume")?) {
        (Some(price), None, None) => Price::Rate(price.to_owned()),
        (None, Some(tiers), None) => Price::Graduated(read_tiers("graduated", tiers)?),
        (None, None, Some(tiers)) => Price::Volume(read_tiers("volume", tiers)?),
        _ => return Err(Problem::bad("give one of rate=0.02, graduated=1000:0.02,inf:0.01 and volume=…")),
    };
    let when = When::Span(digits(from), digits(to));
    let costs = app.redis().run(&Cost::new(&meter, when, price)).await?;
    Ok(json_response(&json!({
        "meter": name::shown(&meter), "from": digits(from), "to": digits(to), "usage": costs.usage, "cost": costs.cost,
    })))
}

fn read_tiers(name: &str, text: &str) -> Result<Vec<(String, String)>, Problem> {
    let tiers = text.split(',').map(|tier| {
        let (upto, price) = tier.split_once(':')?;
        Some((upto.to_owned(), price.to_owned()))
    });
    let wrong = || Problem::bad(format!("\"{name}\" is a list of upto:price, such as 1000:0.02,inf:0.01"));
    tiers.collect::<Option<_>>().ok_or_else(wrong)
}

/// The meter that the path names, if the sender may read it.
fn meter(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<Vec<u8>, Problem> {
    let access = app.identify(headers)?;
    let segment = uri.path().split('/').nth(3).unwrap_or_default();
    let meter = name::from_path(segment);
    access.needs_key(Role::Read, &meter)?;
    match meter.is_empty() {
        true => Err(Problem::new(StatusCode::NOT_FOUND, "the meter's name is empty")),
        false => Ok(meter),
    }
}

/// `from` and `to`, which are today if absent.
fn span(query: &Query) -> Result<(Day, Day), Problem> {
    let today = day_of(now_ms()).ok_or_else(|| Problem::bad("the clock of this machine is wrong"))?;
    let to = query.date("to")?.unwrap_or(today);
    let from = query.date("from")?.unwrap_or(to);
    match from <= to {
        true => Ok((from, to)),
        false => Err(Problem::bad("\"from\" lies after \"to\"")),
    }
}

fn bucket(by: &str) -> Result<Bucket, Problem> {
    match by {
        "hour" => Ok(Bucket::Hour),
        "day" => Ok(Bucket::Day),
        "week" => Ok(Bucket::Week),
        "month" => Ok(Bucket::Month),
        "total" => Ok(Bucket::Total),
        _ => Err(Problem::bad("\"by\" is hour, day, week, month or total")),
    }
}
