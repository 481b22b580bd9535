//! CloudEvents 1.0 as hits: the event's id counts once, its time is the hit's, its type is the meter unless its data
//! names another. Data may have the fields of a hit: `meter`, `by`, `paths`, `unique`, `caps`.

use axum::http::HeaderMap;
use serde_json::{Map, Value};

use super::hits::HitBody;
use super::problem::Problem;
use crate::name::from_path;

const ATTRIBUTES: [&str; 5] = ["specversion", "id", "source", "type", "time"];

/// Whether the attributes stand in headers.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// An event whose attributes stand in headers, and whose body is its data.
///
/// # Errors
/// 400 with the attribute that is wrong.
pub(super) fn binary(headers: &HeaderMap, body: &[u8]) -> Result<HitBody, Problem> {
    let mut event = Map::new();
    for name in ATTRIBUTES {
        if let Some(value) = headers.get(format!("ce-{name}")).and_then(|value| value.to_str().ok()) {
            // Headers have what is no printable ASCII percent-encoded (HTTP binding of CloudEvents 1.0, 3.1.3.2).
            let value = String::from_utf8(from_path(value));
            let value = value.map_err(|_| Problem::bad(format!("the header ce-{name} is no percent-encoded UTF-8")))?;
            event.insert(name.to_owned(), value.into());
        }
    }
    if !body.is_empty() {
        event.insert("data".to_owned(), parse(body)?);
    }
    hit(event)
}

/// An event as one JSON object.
///
/// # Errors
/// 400 with the attribute that is wrong.
pub(super) fn structured(bytes: &[u8]) -> Result<HitBody, Problem> {
    match parse(bytes)? {
        Value::Object(event) => hit(event),
        _ => Err(Problem::bad("a CloudEvent is a JSON object")),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::bad(format!("this is no JSON: {error}")))
}

fn hit(mut event: Map<String, Value>) -> Result<HitBody, Problem> {
    let mut text = |name: &str| match event.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        _ => Err(Problem::bad(format!("the CloudEvent's attribute \"{name}\" is missing, or is no text"))),
    };
    let version = text("specversion")?;
    if version != "1.0" {
        return Err(Problem::bad(format!("specversion \"{version}\" is not known: send 1.0")));
    }
    let (id, _, kind, time) = (text("id")?, text("source")?, text("type")?, text("time")?);
    let at: jiff::Timestamp = time.parse().map_err(|_| Problem::bad("time is of RFC 3339, as 2022-08-09T14:11:17Z"))?;
    let at = u64::try_from(at.as_millisecond()).map_err(|_| Problem::bad("time lies before 1970"))?;
    let mut fields = match event.remove("data") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(data)) => data,
        Some(_) => return Err(Problem::bad("the CloudEvent's data is no JSON object")),
    };
    if let Some(field) = ["at", "event_id"].into_iter().find(|field| fields.contains_key(*field)) {
        return Err(Problem::bad(format!("data has \"{field}\", which the event's own time and id stand for")));
    }
    // What else the data of an event holds is no concern of the meter.
    fields.retain(|name, _| ["meter", "by", "paths", "unique", "caps"].contains(&name.as_str()));
    fields.entry("meter").or_insert_with(|| kind.into());
    fields.insert("at".to_owned(), at.into());
    fields.insert("event_id".to_owned(), id.into());
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| Problem::bad(format!("the data is not right: {error}")))
}
