//! `GET /openapi.json`: the routes, as OpenAPI 3.1 describes them.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`
pub(super) async fn get() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
