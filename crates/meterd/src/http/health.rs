//! `GET /healthz` and `GET /readyz`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::App;
use super::problem::Problem;

/// `GET /healthz`: the process runs.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it can count, and is not about to end.
///
/// # Errors
/// 503 with the reason.
pub(super) async fn ready(State(app): State<App>) -> Result<Response, Problem> {
    if app.is_stopping() {
        return Err(Problem::busy("meterd is shutting down"));
    }
    match app.redis().ready().await {
        Ok(()) => Ok((StatusCode::OK, "ready\n").into_response()),
        Err(failure) => {
            let problem = Problem::from(failure);
            // A gateway time-out too is a reason to send requests elsewhere.
            Err(Problem::busy(problem.detail()))
        }
    }
}
