//! What all routes read from a request in the same way.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use redis_meter_core::calendar::{Day, day_and_hour};
use redis_meter_core::time::Millis;

use super::problem::Problem;
use crate::name::from_query;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The whole body.
///
/// # Errors
/// 413 if it is longer than `limit` bytes, 408 if it does not arrive in time.
pub(super) async fn body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_TIME, Limited::new(body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes")))
        }
        Ok(Err(_)) => Err(Problem::bad("the body ended early")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body took longer than {BODY_TIME:?}"))),
    }
}

/// The parameters of a query; a name may be repeated.
pub(super) struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    /// Reads a query, of which these names are known.
    ///
    /// # Errors
    /// 400 for another name.
    pub(super) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs: Vec<(String, Vec<u8>)> = pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (String::from_utf8_lossy(&from_query(name)).into_owned(), from_query(value))
            })
            .collect();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Self(pairs)),
            Some((name, _)) => Err(Problem::bad(format!("\"{name}\" is not known: use {}", known.join(", ")))),
        }
    }

    /// The value of a parameter that may stand once.
    ///
    /// # Errors
    /// 400 if it is repeated, or no UTF-8.
    pub(super) fn get(&self, name: &str) -> Result<Option<&str>, Problem> {
        let text = |value| std::str::from_utf8(value).map_err(|_| Problem::bad(format!("\"{name}\" is no UTF-8")));
        self.bytes(name)?.map(text).transpose()
    }

    /// The bytes of a parameter that may stand once.
    ///
    /// # Errors
    /// 400 if it is repeated.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<&[u8]>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::bad(format!("\"{name}\" is given twice")));
        }
        Ok(first)
    }

    /// The value of a parameter that must stand once.
    ///
    /// # Errors
    /// 400 if it is missing or repeated.
    pub(super) fn need(&self, name: &str) -> Result<&str, Problem> {
        self.get(name)?.ok_or_else(|| Problem::bad(format!("\"{name}\" is missing")))
    }

    /// A number, if it is there.
    ///
    /// # Errors
    /// 400 if it is no whole number from `least` to `most`.
    pub(super) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        let wrong = || Problem::bad(format!("\"{name}\" is a whole number from {least} to {most}"));
        number.map(Some).ok_or_else(wrong)
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_slice())
    }
}

/// Milliseconds since the epoch, by this machine's clock.
pub(super) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// The UTC day of an instant before the year 10000.
pub(super) fn day_of(unix_ms: u64) -> Option<Day> {
    let ms = i64::try_from(unix_ms).ok().filter(|&ms| ms < redis_meter_core::calendar::END_OF_TIME.0)?;
    Some(day_and_hour(Millis(ms)).0)
}

/// A day as `20220809`.
pub(super) fn digits(day: Day) -> String {
    day.digits().iter().map(|&digit| char::from(digit)).collect()
}
