//! The routes of a session counter: `POST /counter`, `GET /kpi`, `GET /home`, in its own envelope.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use redis_meter_client::{Hit, Hits, Kpi};
use redis_meter_core::calendar::Day;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::App;
use super::problem::Problem;
use super::request::{body, day_of, digits, now_ms};
use crate::token::Role;
use crate::usage::{self, By, Question};

/// Before this, an instant in milliseconds is one in seconds.
const LEAST_MS: u64 = 100_000_000_000;

#[derive(Deserialize)]
struct Session {
    app: String,
    node: Node,
    timestamp: u64,
}

/// The number of a node, which some clients send as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Node {
    Number(u64),
    Text(String),
}

/// `POST /counter`
pub(super) async fn counter(State(app): State<App>, headers: HeaderMap, request: Body) -> Response {
    match count(&app, &headers, request).await {
        Ok((key, hits)) => {
            let data = format!(
                "{{\"type\":\"CounterResponse\",\"key\":{},\"day\":{},\"hour\":{}}}",
                Value::String(key),
                hits.day,
                hits.hour
            );
            envelope(StatusCode::OK, false, "OK.", &data)
        }
        Err(problem) => failed(&problem),
    }
}

async fn count(app: &App, headers: &HeaderMap, request: Body) -> Result<(String, Hits), Problem> {
    let access = app.identify(headers)?;
    let bytes = body(request, app.body_limit()).await?;
    let session = read(&bytes)?;
    let node = match session.node {
        Node::Number(number) => number.to_string(),
        Node::Text(text) => text,
    };
    let meter = format!("kpi:sessions:app:{}:node:{node}", session.app);
    access.needs_key(Role::Hit, meter.as_bytes())?;
    app.check_name("app", &meter)?;
    app.check_meter(&meter)?;
    let day = day_of(session.timestamp).filter(|_| session.timestamp >= LEAST_MS);
    let day = day.ok_or_else(|| Problem::bad("timestamp is in milliseconds since the epoch, such as 1660054277326"))?;
    let hits = app.redis().run(&Hit::new(&meter).at(session.timestamp)).await?;
    app.metrics().hits.inc();
    app.live().touch(meter.as_bytes());
    Ok((format!("{meter}:day:{}", digits(day)), hits))
}

fn read(bytes: &[u8]) -> Result<Session, Problem> {
    let session: Session = serde_json::from_slice(bytes).map_err(|_| {
        Problem::bad(
            "the body is JSON with app, node and timestamp (in milliseconds): \
             {\"app\":\"local\",\"node\":0,\"timestamp\":1660054277326}",
        )
    })?;
    if session.app.is_empty() {
        return Err(Problem::bad("app is empty"));
    }
    if matches!(&session.node, Node::Text(text) if text.is_empty()) {
        return Err(Problem::bad("node is empty"));
    }
    Ok(session)
}

/// `GET /kpi?key=…`
pub(super) async fn kpi(State(app): State<App>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let key = form_urlencoded::parse(query.as_deref().unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "key")
        .map(|(_, key)| key.into_owned());
    let Some(key) = key else {
        return failed(&Problem::bad("key is missing: /kpi?key=kpi:sessions:app:local:node:0:day:20220819"));
    };
    match day(&app, &headers, &key).await {
        Ok(Some(day)) => envelope(StatusCode::OK, false, "OK.", &day.to_string()),
        Ok(None) => envelope(StatusCode::NOT_FOUND, true, "Key NOT FOUND.", "{}"),
        Err(problem) => failed(&problem),
    }
}

/// The hash of a meter's day, counts as strings; `None` if nothing is stored.
async fn day(app: &App, headers: &HeaderMap, key: &str) -> Result<Option<Value>, Problem> {
    let access = app.identify(headers)?;
    let parts = key.rsplit_once(":day:").and_then(|(meter, day)| Some((meter, Day::parse(day.as_bytes())?)));
    let Some((meter, day)) = parts else { return Ok(None) };
    access.needs_key(Role::Read, meter.as_bytes())?;
    let stored = app.redis().run(&Kpi::new(meter).day(digits(day))).await?;
    let (total, hours) = match stored {
        redis_meter_client::Day { total: Some(total), hours, sealed: None, .. } => (total, hours),
        // A part of the day, or all of it, is in a batch or in the archive.
        stored => match from_both(app, meter, day).await {
            Ok(found) => found,
            // Nothing says that there ever was such a day.
            Err(_) if stored.sealed.is_none() && is_remembered(day) => return Ok(None),
            Err(problem) => return Err(problem),
        },
    };
    if total == 0 {
        return Ok(None);
    }
    let text = |n: u64| Value::String(n.to_string());
    let mut hash: Map<String, Value> = hours.iter().map(|&(hour, n)| (hour.to_string(), text(n))).collect();
    hash.insert("day".to_owned(), text(total));
    Ok(Some(Value::Object(hash)))
}

/// Whether Redis would still know that there was such a day: months of sealed days are kept for 400 days.
fn is_remembered(day: Day) -> bool {
    const KEPT_MS: i64 = 400 * 86_400_000;
    day.end().0.saturating_add(KEPT_MS).unsigned_abs() > now_ms()
}

/// The total and the hours of a day, from Redis and SQL together.
async fn from_both(app: &App, meter: &str, day: Day) -> Result<(u64, Vec<(u8, u64)>), Problem> {
    let date = usage::parse_day(&digits(day)).map_err(Problem::bad)?;
    let meter = meter.as_bytes().to_vec();
    let question = Question { meter, from: date, to: date, by: By::Hour, path: Vec::new(), tz: None };
    let answer = usage::usage(app.redis(), app.pool(), &question).await?;
    let hours = answer
        .buckets
        .iter()
        .filter_map(|(bucket, count)| Some((bucket.get(8..)?.parse().ok()?, u64::try_from(*count).ok()?)));
    let hours: Vec<(u8, u64)> = hours.collect();
    Ok((hours.iter().map(|(_, count)| count).sum(), hours))
}

/// `GET /home`
pub(super) async fn home(State(app): State<App>) -> Response {
    match app.redis().ready().await {
        Ok(()) => envelope(StatusCode::OK, false, "Service OK.", "null"),
        Err(failure) => failed(&failure.into()),
    }
}

fn failed(problem: &Problem) -> Response {
    let mut response = problem.clone().into_response();
    let body = json!({"type": "WebResponse", "isError": true, "description": problem.detail(), "data": null});
    *response.body_mut() = Body::from(body.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

fn envelope(status: StatusCode, is_error: bool, description: &str, data: &str) -> Response {
    let body = format!(
        "{{\"type\":\"WebResponse\",\"isError\":{is_error},\"description\":\"{description}\",\"data\":{data}}}"
    );
    let mut response = (status, Body::from(body)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}
