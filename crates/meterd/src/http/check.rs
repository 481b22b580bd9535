//! `ANY /check/{domain}`, for gateways that ask over HTTP, and the end of a lease.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::access::Access;
use super::limit_headers::{LEASE, headers};
use super::problem::Problem;
use super::{App, json_response};
use crate::gateway::query::{self, Reserved};
use crate::gateway::{Decision, Headers, Invalid, LeaseId, Plan, Request, Status};
use crate::name;
use crate::token::Role;

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::bad(invalid.0)
    }
}

/// `ANY /check/{domain}?name=value&…`
///
/// # Errors
/// 400 for a wrong query, 403 without the role, 404 for a domain without rules; 503 when Redis can't be asked and a rule
/// says `on_error: deny`.
pub(super) async fn check(
    State(app): State<App>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers_in: HeaderMap,
) -> Result<Response, Problem> {
    let domain = domain(&uri, 2);
    let access = app.identify(&headers_in)?;
    access.needs(Role::Check)?;
    let mut reserved = [("deny", None), ("headers", None)];
    let request = request(&app, domain, query.as_deref(), &headers_in, &mut reserved)?;
    let [(_, deny), (_, style)] = reserved;
    let deny = deny.map_or(Ok(StatusCode::TOO_MANY_REQUESTS), |text| denial(&text))?;
    let style = style
        .map(|text| Headers::parse(&text).ok_or_else(|| Problem::bad(format!("\"headers\" is {}", Headers::NAMES))));
    let style = style.transpose()?;
    let mut plan = app.checker().plan(&request)?;
    reaches_all(&access, &plan)?;
    if let Some(lease) = headers_in.get(LEASE) {
        let lease = lease.to_str().ok().and_then(LeaseId::parse);
        let lease = lease.ok_or_else(|| Problem::bad("the header Lease is none that a check gave"))?;
        if app.checker().holds(&plan, &lease.holder).await {
            plan.holder = lease.holder;
        }
    }
    let decision = app.checker().run(&plan, None).await;
    if let (true, Some(failure)) = (decision.limited, &decision.failure) {
        return Err(Problem::busy(Problem::from(failure.clone()).detail()));
    }
    Ok(answer(&decision, style.unwrap_or(decision.headers), deny))
}

/// The segment of the path that names a domain.
fn domain(uri: &Uri, place: usize) -> String {
    let segment = uri.path().split('/').nth(place).unwrap_or_default();
    String::from_utf8_lossy(&name::from_path(segment)).into_owned()
}

fn denial(text: &str) -> Result<StatusCode, Problem> {
    let status = text.parse().ok().filter(|status| (400..600).contains(status));
    let status = status.and_then(|status: u16| StatusCode::from_u16(status).ok());
    status.ok_or_else(|| Problem::bad("\"deny\" is a status from 400 to 599"))
}

fn request(
    app: &App,
    domain: String,
    query: Option<&str>,
    headers: &HeaderMap,
    reserved: &mut [Reserved],
) -> Result<Request, Problem> {
    let rules = app.checker().rules();
    let found = rules.domain(&domain);
    if found.is_none() {
        let message = format!("there are no rules for the domain \"{domain}\": meterd serve --limits FILE has them");
        return Err(Problem::new(StatusCode::NOT_FOUND, message));
    }
    let mut descriptors = query::parse(found, query.unwrap_or_default(), reserved).map_err(Problem::bad)?;
    for (_, value) in descriptors.iter_mut().flat_map(|descriptor| &mut descriptor.entries) {
        if let Some(name) = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            *value = of_header(headers, name);
        }
    }
    Ok(Request { domain, descriptors, hits: 1, ..Request::default() })
}

/// The value of a header, for gateways whose addresses have no variables; without the header, nothing.
fn of_header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// # Errors
/// 403 if a key of the plan is out of reach.
pub(super) fn reaches_all(access: &Access, plan: &Plan) -> Result<(), Problem> {
    plan.keys().try_for_each(|key| access.needs_key(Role::Check, key))
}

fn answer(decision: &Decision, style: Headers, deny: StatusCode) -> Response {
    let mut response = match decision.limited {
        false => (StatusCode::OK, Body::empty()).into_response(),
        true => {
            let names: Vec<&str> =
                decision.statuses.iter().filter(|status| status.limited).map(Status::shown).collect();
            Problem::new(deny, format!("limited by {}", names.join(", "))).into_response()
        }
    };
    for (name, value) in headers(decision, style) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// `DELETE /check/{domain}/lease/{id}`
///
/// # Errors
/// 400 for an id that no check of this domain gave, or those of Redis.
pub(super) async fn release(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let access = app.identify(&headers)?;
    access.needs(Role::Check)?;
    // The id is percent-encoded as a whole, and read as it was sent.
    let mut parts = uri.path().split('/').skip(2);
    let domain = parts.next().map(name::from_path).unwrap_or_default();
    let domain = String::from_utf8_lossy(&domain).into_owned();
    let lease = parts.nth(1).and_then(LeaseId::parse);
    let keys = lease.as_ref().and_then(|lease| lease.keys(&domain));
    let (Some(lease), Some(keys)) = (lease, keys) else {
        return Err(Problem::bad("this is no lease of the domain: send back what the header Lease had"));
    };
    keys.iter().try_for_each(|key| access.needs_key(Role::Check, key))?;
    let released = app.checker().release(&lease, &keys).await?;
    Ok(json_response(&json!({ "released": released })))
}

/// `GET /v1/limits/check/{domain}?name=value&…`: a dry run.
///
/// # Errors
/// As a check.
pub(super) async fn look(
    State(app): State<App>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let domain = domain(&uri, 4);
    let access = app.identify(&headers)?;
    access.needs(Role::Check)?;
    let request = Request { is_dry: true, ..request(&app, domain, query.as_deref(), &headers, &mut [])? };
    let plan = app.checker().plan(&request)?;
    reaches_all(&access, &plan)?;
    let decision = app.checker().run(&plan, None).await;
    if let Some(failure) = decision.failure {
        return Err(failure.into());
    }
    let keys: Vec<(usize, String)> =
        plan.limits().map(|(place, key, _)| (place, name::shown(key).into_owned())).collect();
    let descriptors = request.descriptors.iter().zip(&decision.statuses).enumerate();
    let descriptors: Vec<Value> = descriptors
        .map(|(place, (descriptor, status))| {
            let entries: Vec<Value> = descriptor.entries.iter().map(|entry| json!([entry.0, entry.1])).collect();
            let keys: Vec<&str> = keys.iter().filter(|(of, _)| *of == place).map(|(_, key)| key.as_str()).collect();
            json!({ "entries": entries, "keys": keys, "rule": status.name.as_deref(), "limited": status.limited,
                "unlimited": status.is_unlimited, "limit": status.limit.as_ref().map(|limit| limit.limit),
                "period": status.limit.as_ref().map(|limit| limit.span.as_secs_f64()),
                "algorithm": status.limit.as_ref().map(|limit| limit.kind()),
                "verdict": status.verdict.as_ref().map(super::limits::shown) })
        })
        .collect();
    Ok(json_response(&json!({"limited": decision.limited, "descriptors": descriptors})))
}
