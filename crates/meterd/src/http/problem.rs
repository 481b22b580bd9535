//! Errors of the routes under `/v1`: problem details of RFC 9457.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::connection::Failure;
use crate::usage;

/// What went wrong, in a sentence that helps.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip)]
    header: Option<(HeaderName, &'static str)>,
}

impl Problem {
    /// Of this status.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into(), header: None }
    }

    /// 400: the request is wrong.
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401: no token, or none that is known.
    pub(super) fn no_token(detail: &str) -> Self {
        Self { header: Some((WWW_AUTHENTICATE, "Bearer")), ..Self::new(StatusCode::UNAUTHORIZED, detail) }
    }

    /// 503: try again soon.
    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self { header: Some((RETRY_AFTER, "1")), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// 503: the archive can't be read; the log says why, since that may name hosts and files.
    pub(super) fn archive(why: &str) -> Self {
        tracing::warn!("the archive can't be read: {why}");
        Self::busy("the archive can't be read just now, and without it the answer would be too low")
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Its sentence.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let Failure::Refused { code, text } = &failure else {
            return match failure {
                Failure::Down(_) => Self::busy("Redis can't be reached; nothing was changed"),
                _ => Self::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Redis did not reply in time: whether the call took effect is unknown",
                ),
            };
        };
        match code.as_str() {
            _ if failure.is_without_module() => Self::busy(failure.to_string()),
            "ERR" => Self::bad(text.clone()),
            "WRONGTYPE" => {
                Self::new(StatusCode::CONFLICT, "the key holds a value of another type, and is left as it is")
            }
            "NOPERM" | "NOAUTH" | "WRONGPASS" => Self::new(
                StatusCode::BAD_GATEWAY,
                format!("the Redis user of meterd lacks a right: {}", text.trim_start_matches("User ")),
            ),
            "READONLY" => Self::busy("Redis is read-only just now; nothing was changed"),
            "LOADING" => Self::busy("Redis loads its data; nothing was changed"),
            "OOM" => Self::busy("Redis is out of memory; nothing was changed"),
            "MISCONF" => Self::busy("Redis can't save its data and refuses to write; nothing was changed"),
            "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" => Self::busy("the cluster is changing; nothing was changed"),
            _ => Self::new(StatusCode::BAD_GATEWAY, format!("Redis refused: {code} {text}")),
        }
    }
}

impl From<usage::Error> for Problem {
    fn from(error: usage::Error) -> Self {
        match error {
            usage::Error::Question(text) => Self::bad(text),
            usage::Error::Redis(failure) => failure.into(),
            usage::Error::Sql(text) => Self::archive(&text),
            usage::Error::Unsteady => Self::busy(error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, Body::from(body)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
