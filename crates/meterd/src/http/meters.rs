//! `GET /v1/meters`, and what was counted in one: `usage`, `top`, `cost`. Redis and SQL together.

use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use jiff::civil::Date;
use redis::{Cmd, Value as Reply, cmd};
use redis_meter_core::price::{Price, PriceError, Tariff, Tier};
use serde_json::{Value, json};

use super::access::Access;
use super::problem::Problem;
use super::request::{Query, day_of, digits, now_ms};
use super::{App, json_response};
use crate::meters::{self, Cursor, Meter};
use crate::name;
use crate::token::Role;
use crate::usage::{self, By, Question};

/// How many meters one answer has, about.
const PAGE: usize = 100;
/// How many steps of a scan one answer may take.
const STEPS: usize = 50;
/// The most members of a ranking.
const MEMBERS: u64 = 1000;

/// Where a list goes on: in Redis, or in the archive at so many of its meters.
enum Place {
    Redis(Cursor),
    Archive(usize),
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('s') {
            Some(skip) => skip.parse().ok().map(Self::Archive),
            None => Cursor::parse(text).map(Self::Redis),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Redis(cursor) => cursor.text(),
            Self::Archive(skip) => format!("s{skip}"),
        }
    }
}

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
    let prefix = query.bytes("prefix")?.unwrap_or_default();
    let mut place = match query.get("cursor")? {
        None => Some(Place::Redis(Cursor::default())),
        Some(text) => Some(
            Place::parse(text)
                .ok_or_else(|| Problem::bad("\"cursor\" is the one that the last answer had, or absent to begin"))?,
        ),
    };
    let mut found: Vec<Meter> = Vec::new();
    for step in 0..STEPS {
        match &place {
            None => break,
            Some(Place::Redis(at)) => {
                let (more, next) = meters::step(app.redis(), prefix, at).await?;
                found.extend(more.into_iter().filter(|meter| access.reaches(&meter.key)));
                place = Some(next.map_or(Place::Archive(0), Place::Redis));
            }
            Some(Place::Archive(skip)) => match archived(&app, &access, prefix, *skip).await {
                Ok((more, next)) => {
                    found.extend(more);
                    place = next.map(Place::Archive);
                }
                // What Redis has is an answer too; who goes on is told.
                Err(problem) if step == 0 => return Err(problem),
                Err(_) => break,
            },
        }
        if found.len() >= PAGE {
            break;
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found.dedup_by(|a, b| a.key == b.key);
    let today = day_of(now_ms()).map(digits).unwrap_or_default();
    let meters: Vec<Value> = found.iter().map(|meter| shown(meter, &today)).collect();
    Ok(json_response(&json!({"meters": meters, "cursor": place.map(|place| place.text())})))
}

/// Some of the meters of which Redis has nothing any more, and where to go on.
async fn archived(
    app: &App,
    access: &Access,
    prefix: &[u8],
    skip: usize,
) -> Result<(Vec<Meter>, Option<usize>), Problem> {
    let all = app.pool().meters().await.map_err(|error| Problem::archive(&error))?;
    let keys: Vec<Vec<u8>> = all
        .into_iter()
        .filter(|key| key.starts_with(prefix) && access.reaches(key))
        .skip(skip)
        .take(PAGE + 1)
        .collect();
    let next = keys.get(PAGE).map(|_| skip + PAGE);
    let keys = &keys[..keys.len().min(PAGE)];
    let commands: Vec<Cmd> = keys.iter().map(|key| cmd("EXISTS").arg(key.as_slice()).to_owned()).collect();
    if commands.is_empty() {
        return Ok((Vec::new(), next));
    }
    let replies = app.redis().call_all(&commands).await?;
    let gone = keys.iter().zip(replies).filter(|(_, reply)| matches!(reply, Ok(Reply::Int(0))));
    Ok((gone.map(|(key, _)| Meter { key: key.clone(), days: Vec::new(), has_batch: false }).collect(), next))
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
/// 400 for a wrong query, or those of Redis and the archive.
pub(super) async fn usage(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let meter = meter(&app, &headers, &uri)?;
    let query = Query::parse(query.as_deref(), &["from", "to", "by", "path", "tz"])?;
    let (from, to) = span(&query)?;
    let by: By = query.get("by")?.unwrap_or("day").parse().map_err(Problem::bad)?;
    let tz = query.get("tz")?.unwrap_or("UTC");
    let zone = usage::zone(tz).map_err(Problem::bad)?;
    let path = query.all("path").map(<[u8]>::to_vec).collect();
    let question = Question { meter, from, to, by, path, tz: zone };
    let answer = usage::usage(app.redis(), app.pool(), &question).await?;
    if headers.get(ACCEPT).is_some_and(prefers_csv) {
        let unique = answer.unique.map(|unique| format!("unique,{unique}\n"));
        let lines = answer.buckets.iter().map(|(bucket, count)| format!("{bucket},{count}\n"));
        let text: String = lines.chain(unique).collect();
        return Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8")], format!("bucket,count\n{text}")).into_response());
    }
    let buckets: Vec<Value> =
        answer.buckets.iter().map(|(bucket, count)| json!({"bucket": bucket, "count": number(*count)})).collect();
    let mut body = json!({
        "meter": name::shown(&question.meter), "from": compact(from), "to": compact(to), "by": by.to_string(),
        "tz": tz, "usage": buckets,
    });
    if let Some(unique) = answer.unique {
        body["unique"] = unique.into();
    }
    Ok(json_response(&body))
}

fn prefers_csv(accept: &HeaderValue) -> bool {
    accept.to_str().is_ok_and(|text| text.contains("text/csv"))
}

/// A JSON number; a count beyond 64 bits, which only sums reach, as a text.
fn number(count: u128) -> Value {
    u64::try_from(count).map_or_else(|_| count.to_string().into(), Into::into)
}

/// `GET /v1/meters/{meter}/top`
///
/// # Errors
/// 400 for a wrong query, or those of Redis and the archive.
pub(super) async fn top(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let meter = meter(&app, &headers, &uri)?;
    let query = Query::parse(query.as_deref(), &["from", "to", "path", "count"])?;
    let (from, to) = span(&query)?;
    let count = usize::try_from(query.number("count", 1, MEMBERS)?.unwrap_or(10)).unwrap_or(usize::MAX);
    let path: Vec<Vec<u8>> = query.all("path").map(<[u8]>::to_vec).collect();
    if path.iter().any(Vec::is_empty) {
        return Err(Problem::bad("\"path\" is a member of the breakdown, which is not empty"));
    }
    let members = usage::top(app.redis(), app.pool(), &meter, (from, to), &path, count).await?;
    let members: Vec<Value> =
        members.iter().map(|(member, count)| json!({"member": name::shown(member), "count": number(*count)})).collect();
    let path: Vec<_> = path.iter().map(|member| name::shown(member)).collect();
    Ok(json_response(&json!({
        "meter": name::shown(&meter), "from": compact(from), "to": compact(to), "path": path, "top": members,
    })))
}

/// `GET /v1/meters/{meter}/cost`
///
/// # Errors
/// 400 for a wrong query, or those of Redis and the archive.
pub(super) async fn cost(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let meter = meter(&app, &headers, &uri)?;
    let query = Query::parse(query.as_deref(), &["from", "to", "rate", "graduated", "volume"])?;
    let (from, to) = span(&query)?;
    let tariff = match (query.get("rate")?, query.get("graduated")?, query.get("volume")?) {
        (Some(text), None, None) => Tariff::Rate(price("rate", text)?),
        (None, Some(text), None) => Tariff::Graduated(tiers("graduated", text)?),
        (None, None, Some(text)) => Tariff::Volume(tiers("volume", text)?),
        _ => return Err(Problem::bad("give one of rate=0.02, graduated=1000:0.02,inf:0.01 and volume=…")),
    };
    let question = Question { meter, from, to, by: By::Total, path: Vec::new(), tz: None };
    let answer = usage::usage(app.redis(), app.pool(), &question).await?;
    let used: u128 = answer.buckets.iter().map(|(_, count)| count).sum();
    let amount = i64::try_from(used).ok().and_then(|used| tariff.cost(used).ok());
    let amount = amount.ok_or_else(|| Problem::bad("the cost is too high to be computed: ask for a shorter span"))?;
    Ok(json_response(&json!({
        "meter": name::shown(&question.meter), "from": compact(from), "to": compact(to), "usage": number(used),
        "cost": amount.to_string(),
    })))
}

fn price(name: &str, text: &str) -> Result<Price, Problem> {
    Price::parse(text.as_bytes()).map_err(|error| {
        let what = match error {
            PriceError::Malformed => "is no price: write one such as 0.02",
            PriceError::TooPrecise => "has more than 18 digits after the point",
            PriceError::TooHigh => "is too high: a price is below 10^18",
        };
        Problem::bad(format!("\"{name}\": {text} {what}"))
    })
}

fn tiers(name: &str, text: &str) -> Result<Vec<Tier>, Problem> {
    let wrong = || Problem::bad(format!("\"{name}\" is a list of upto:price, ascending, such as 1000:0.02,inf:0.01"));
    let mut tiers: Vec<Tier> = Vec::new();
    for tier in text.split(',') {
        let (upto, amount) = tier.split_once(':').ok_or_else(wrong)?;
        let upto = match upto {
            "inf" => i64::MAX,
            number => number.parse().ok().filter(|&upto| (1..i64::MAX).contains(&upto)).ok_or_else(wrong)?,
        };
        if tiers.last().is_some_and(|last| last.upto >= upto) {
            return Err(wrong());
        }
        tiers.push(Tier { upto, price: price(name, amount)? });
    }
    match tiers.last() {
        Some(last) if last.upto == i64::MAX => Ok(tiers),
        _ => Err(wrong()),
    }
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
fn span(query: &Query) -> Result<(Date, Date), Problem> {
    let read = |name: &str| query.get(name)?.map(usage::parse_day).transpose().map_err(Problem::bad);
    let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let to = read("to")?.unwrap_or(today);
    Ok((read("from")?.unwrap_or(to), to))
}

/// A day as `20220809`.
fn compact(day: Date) -> String {
    format!("{:04}{:02}{:02}", day.year(), day.month(), day.day())
}
