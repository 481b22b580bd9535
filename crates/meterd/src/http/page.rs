//! `GET /`: the page, which is part of the program.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::App;
use crate::token::Hash;

const HTML: &str = include_str!("page/index.html");
const CSS: &str = include_str!("page/page.css");
const JS: &str = include_str!("page/page.js");
const ICON: &str = include_str!("page/icon.svg");

/// Only what comes with the program is loaded, and only this server is spoken to.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its parts.
pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| part(&headers, "text/html; charset=utf-8", HTML)))
        .route("/page.css", get(async |headers: HeaderMap| part(&headers, "text/css; charset=utf-8", CSS)))
        .route("/page.js", get(async |headers: HeaderMap| part(&headers, "text/javascript; charset=utf-8", JS)))
        .route("/icon.svg", get(async |headers: HeaderMap| part(&headers, "image/svg+xml", ICON)))
}

fn part(headers: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let tag = format!("\"{}\"", &Hash::of(text).hex()[..16]);
    let common = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, common, [(ETAG, tag)]).into_response();
    }
    (common, [(CONTENT_TYPE, kind)], [(ETAG, tag)], text).into_response()
}
