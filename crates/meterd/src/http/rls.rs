//! Envoy's rate limit service, version 3, over gRPC: one unary call, on the port of everything else.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request as HttpRequest, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message as _;

use super::App;
use super::check::reaches_all;
use super::limit_headers::headers;
use super::problem::Problem;
use super::request::body;
use super::rls_messages::{CurrentLimit, DescriptorStatus, HeaderToAdd, RateLimitRequest, RateLimitResponse, code};
use crate::gateway::{self, Decision, Status, Unit};
use crate::token::Role;

/// The path of the call.
pub(super) const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

const INVALID_ARGUMENT: u8 = 3;
const PERMISSION_DENIED: u8 = 7;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

/// A status of gRPC other than OK, with a sentence.
struct GrpcError(u8, String);

impl From<Problem> for GrpcError {
    fn from(problem: Problem) -> Self {
        let code = match problem.status() {
            StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
            StatusCode::FORBIDDEN => PERMISSION_DENIED,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => UNAVAILABLE,
            status if status.is_client_error() => INVALID_ARGUMENT,
            _ => INTERNAL,
        };
        Self(code, problem.detail().to_owned())
    }
}

/// `ShouldRateLimit`
pub(super) async fn should_rate_limit(State(app): State<App>, request: HttpRequest<Body>) -> Response {
    match answer(&app, request).await {
        Ok(response) => framed(&response),
        Err(GrpcError(code, message)) => {
            let message = utf8_percent_encode(&message, NON_ALPHANUMERIC).to_string().replace("%20", " ");
            let mut response = Body::empty().into_response();
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
            headers.extend(HeaderValue::from_str(&message).ok().map(|message| (GRPC_MESSAGE, message)));
            response
        }
    }
}

const GRPC_MESSAGE: axum::http::HeaderName = axum::http::HeaderName::from_static("grpc-message");

async fn answer(app: &App, request: HttpRequest<Body>) -> Result<RateLimitResponse, GrpcError> {
    let access = app.identify(request.headers())?;
    access.needs(Role::Check)?;
    let patience = patience(request.headers());
    let bytes = body(request.into_body(), app.body_limit()).await?;
    let request = asked(&bytes)?;
    let plan = app.checker().plan(&request).map_err(Problem::from)?;
    reaches_all(&access, &plan)?;
    let decision = app.checker().run(&plan, patience).await;
    if let (true, Some(failure)) = (decision.limited, &decision.failure) {
        return Err(GrpcError(UNAVAILABLE, Problem::from(failure.clone()).detail().to_owned()));
    }
    Ok(written(&decision))
}

/// How long the caller waits: digits and a unit.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u32 = digits.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * number)
}

fn asked(bytes: &Bytes) -> Result<gateway::Request, GrpcError> {
    let invalid = |text: &str| GrpcError(INVALID_ARGUMENT, text.to_owned());
    let (prefix, message) = bytes.split_at_checked(PREFIX).ok_or_else(|| invalid("there is no message"))?;
    if prefix[0] != 0 {
        return Err(GrpcError(UNIMPLEMENTED, "compressed messages are not taken".to_owned()));
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if usize::try_from(length) != Ok(message.len()) {
        return Err(invalid("one message is expected, of the length that stands before it"));
    }
    let request = RateLimitRequest::decode(message).map_err(|error| GrpcError(INVALID_ARGUMENT, error.to_string()))?;
    if request.domain.is_empty() {
        return Err(invalid("the domain is empty"));
    }
    if request.descriptors.is_empty() {
        return Err(invalid("there is no descriptor"));
    }
    let descriptors = request.descriptors.into_iter().map(|descriptor| {
        let limit = match descriptor.limit {
            None => None,
            Some(limit) => {
                let unit = Unit::from_number(limit.unit);
                let unit = unit.ok_or_else(|| invalid("the limit of a descriptor has a unit that is not known"))?;
                Some((u64::from(limit.requests_per_unit), unit))
            }
        };
        let hits = descriptor.hits_addend.map(|hits| i64::try_from(hits.value).unwrap_or(i64::MAX));
        let entries = descriptor.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        Ok(gateway::Descriptor { entries, limit, hits })
    });
    Ok(gateway::Request {
        domain: request.domain,
        descriptors: descriptors.collect::<Result<_, GrpcError>>()?,
        // Where the field is absent, one.
        hits: i64::from(request.hits_addend.max(1)),
        ..gateway::Request::default()
    })
}

fn written(decision: &Decision) -> RateLimitResponse {
    let to_add = headers(decision, decision.headers).into_iter();
    RateLimitResponse {
        overall_code: if decision.limited { code::OVER_LIMIT } else { code::OK },
        statuses: decision.statuses.iter().map(status).collect(),
        response_headers_to_add: to_add.map(|(key, value)| HeaderToAdd { key: key.to_owned(), value }).collect(),
    }
}

fn status(status: &Status) -> DescriptorStatus {
    let current_limit = status.limit.as_deref().map(|limit| CurrentLimit {
        requests_per_unit: u32::try_from(limit.limit).unwrap_or(u32::MAX),
        unit: Unit::of_span(limit.span).map_or(0, |unit| unit as i32),
        name: status.shown().to_owned(),
    });
    let remaining = status.verdict.map_or(0, |verdict| u32::try_from(verdict.remaining).unwrap_or(u32::MAX));
    let until_reset = status.verdict.map(|verdict| prost_duration(verdict.reset_after));
    DescriptorStatus {
        code: if status.limited { code::OVER_LIMIT } else { code::OK },
        current_limit,
        limit_remaining: if status.is_unlimited { u32::MAX } else { remaining },
        duration_until_reset: until_reset,
    }
}

fn prost_duration(span: Duration) -> super::rls_messages::Span {
    super::rls_messages::Span {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

fn framed(message: &RateLimitResponse) -> Response {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(PREFIX + length);
    bytes.push(0);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode_raw(&mut bytes);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(bytes)).with_trailers(std::future::ready(Some(Ok(trailers))));
    ([(CONTENT_TYPE, "application/grpc")], Body::new(body)).into_response()
}
