//! `POST /v1/hits`: one hit, an array of them, or CloudEvents.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use redis::{Cmd, FromRedisValue as _};
use redis_meter_client::{Cap, Command as _, Hit, Hits, Uncounted};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::access::Access;
use super::problem::Problem;
use super::request::body;
use super::{App, cloud_events, json_response};
use crate::connection::Failure;
use crate::token::Role;

/// The most hits of one request.
pub(super) const BATCH_LIMIT: usize = 1000;

/// A hit, as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HitBody {
    /// The meter's key.
    pub(super) meter: String,
    /// How many; a negative number is a correction, 0 a dry run.
    #[serde(default = "one")]
    pub(super) by: i64,
    /// Milliseconds since the epoch.
    pub(super) at: Option<u64>,
    /// Breakdowns along which it counts too.
    #[serde(default)]
    pub(super) paths: Vec<Vec<String>>,
    /// An id, of which the distinct ones are counted.
    pub(super) unique: Option<String>,
    /// The event, which counts once.
    pub(super) event_id: Option<String>,
    /// What the hit may not exceed.
    #[serde(default)]
    pub(super) caps: Vec<CapBody>,
}

/// A cap, as it is sent: `{"month": 10000}` or `{"since": "2022-07-17", "limit": 10000}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CapBody {
    hour: Option<u64>,
    day: Option<u64>,
    month: Option<u64>,
    since: Option<String>,
    limit: Option<u64>,
}

fn one() -> i64 {
    1
}

impl CapBody {
    fn read(self) -> Result<Cap, Problem> {
        match (self.hour, self.day, self.month, self.since, self.limit) {
            (Some(limit), None, None, None, None) => Ok(Cap::Hour(limit)),
            (None, Some(limit), None, None, None) => Ok(Cap::Day(limit)),
            (None, None, Some(limit), None, None) => Ok(Cap::Month(limit)),
            (None, None, None, Some(date), Some(limit)) => Ok(Cap::Since(date, limit)),
            _ => Err(Problem::bad(
                "a cap is {\"hour\": n}, {\"day\": n}, {\"month\": n} or {\"since\": \"2022-07-17\", \"limit\": n}",
            )),
        }
    }
}

/// A hit that may be sent.
pub(super) struct Prepared {
    /// The meter's key.
    pub(super) meter: String,
    command: Cmd,
    is_repeatable: bool,
}

impl HitBody {
    /// Checks what Redis would not check, and makes the command.
    ///
    /// # Errors
    /// 400 or 403, with the field that is wrong.
    pub(super) fn prepare(self, app: &App, access: &Access) -> Result<Prepared, Problem> {
        access.needs_key(Role::Hit, self.meter.as_bytes())?;
        let members = self.paths.iter().flatten().map(|member| ("paths", member));
        let ids =
            [("meter", Some(&self.meter)), ("unique", self.unique.as_ref()), ("event_id", self.event_id.as_ref())];
        let ids = ids.into_iter().filter_map(|(field, name)| Some((field, name?)));
        members.chain(ids).try_for_each(|(field, name)| app.check_name(field, name))?;
        app.check_meter(&self.meter)?;
        // Only these can leave a hit uncounted.
        let asks_why = self.event_id.is_some() || !self.caps.is_empty();
        let mut hit = Hit::new(&self.meter).by(self.by);
        if let Some(at) = self.at {
            hit = hit.at(at);
        }
        for path in &self.paths {
            hit = hit.path(path);
        }
        if let Some(id) = &self.unique {
            hit = hit.unique(id);
        }
        if let Some(id) = &self.event_id {
            hit = hit.once(id);
        }
        for cap in self.caps {
            hit = hit.cap(cap.read()?);
        }
        if asks_why {
            hit = hit.why();
        }
        Ok(Prepared { meter: self.meter, command: hit.to_cmd(), is_repeatable: hit.is_repeatable() })
    }
}

/// `POST /v1/hits`
///
/// # Errors
/// What is wrong with a single hit, or with the request as a whole; in an array each hit has an answer of its own.
pub(super) async fn post(State(app): State<App>, headers: HeaderMap, request: Body) -> Result<Response, Problem> {
    let access = app.identify(&headers)?;
    access.needs(Role::Hit)?;
    let bytes = body(request, app.body_limit()).await?;
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (hits, is_array) = match kind.as_str() {
        "application/cloudevents+json" => (vec![cloud_events::structured(&bytes)], false),
        "application/cloudevents-batch+json" => (each(&bytes, cloud_events::structured)?, true),
        _ if cloud_events::is_binary(&headers) => (vec![cloud_events::binary(&headers, &bytes)], false),
        "application/json" if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') => {
            (each(&bytes, read)?, true)
        }
        "application/json" => (vec![read(&bytes)], false),
        _ => {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send application/json, application/cloudevents+json or application/cloudevents-batch+json",
            ));
        }
    };
    let prepared = hits.into_iter().map(|hit| hit?.prepare(&app, &access)).collect();
    let mut answers = run(&app, prepared).await;
    match answers.pop() {
        Some(answer) if !is_array => Ok(json_response(&shown(&answer?))),
        last => {
            answers.extend(last);
            let all: Vec<Value> = answers.iter().map(|answer| answer.as_ref().map_or_else(error, shown)).collect();
            Ok(json_response(&Value::Array(all)))
        }
    }
}

fn read(bytes: &[u8]) -> Result<HitBody, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::bad(format!("the hit is not right: {error}")))
}

fn each(
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<HitBody, Problem>,
) -> Result<Vec<Result<HitBody, Problem>>, Problem> {
    let parts: Vec<&RawValue> =
        serde_json::from_slice(bytes).map_err(|error| Problem::bad(format!("this is no JSON array: {error}")))?;
    if parts.len() > BATCH_LIMIT {
        let message = format!("these are {} hits: send at most {BATCH_LIMIT} at once", parts.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(parts.into_iter().map(|part| read(part.get().as_bytes())).collect())
}

/// Sends the hits in one go; an answer for each, in order.
async fn run(app: &App, hits: Vec<Result<Prepared, Problem>>) -> Vec<Result<Hits, Problem>> {
    if let [Ok(hit)] = hits.as_slice() {
        let outcome = match hit.is_repeatable {
            true => app.redis().repeat(&hit.command).await,
            false => app.redis().call(&hit.command).await,
        };
        note(app, &hit.meter, outcome.is_ok());
        return vec![outcome.map_err(Problem::from)];
    }
    let commands: Vec<Cmd> = hits.iter().flatten().map(|hit| hit.command.clone()).collect();
    let mut replies = match app.redis().call_all(&commands).await {
        Ok(replies) => replies,
        Err(failure) => vec![Err(failure); commands.len()],
    };
    again(app, &hits, &mut replies).await;
    let mut replies = replies.into_iter();
    let answers = hits.into_iter().map(|hit| {
        let hit = hit?;
        let reply = replies.next().unwrap_or_else(|| Err(Failure::Unknown("too few replies".to_owned())));
        note(app, &hit.meter, reply.is_ok());
        let hits = Hits::from_redis_value(reply?).map_err(|error| Failure::Unknown(error.to_string()))?;
        Ok(hits)
    });
    answers.collect()
}

/// Sends hits again whose reply was lost and that count once.
async fn again(app: &App, hits: &[Result<Prepared, Problem>], replies: &mut [Result<redis::Value, Failure>]) {
    for (hit, reply) in hits.iter().flatten().zip(replies) {
        if hit.is_repeatable && matches!(reply, Err(Failure::Unknown(_))) {
            *reply = app.redis().repeat(&hit.command).await;
            if matches!(reply, Err(Failure::Unknown(_) | Failure::Down(_))) {
                return;
            }
        }
    }
}

fn note(app: &App, meter: &str, counted: bool) {
    if counted {
        app.metrics().hits.inc();
        app.live().touch(meter.as_bytes());
    }
}

fn shown(hits: &Hits) -> Value {
    let why = hits.why.map(|why| match why {
        Uncounted::Duplicate => "duplicate",
        Uncounted::Capped => "capped",
    });
    let mut answer = json!({"day": hits.day, "hour": hits.hour, "applied": hits.applied, "why": why});
    if let Some(remaining) = hits.remaining {
        answer["remaining"] = remaining.into();
    }
    answer
}

fn error(problem: &Problem) -> Value {
    json!({ "error": problem })
}
