//! `GET /v1/archive`: what waits for the archive, and what it got last.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use super::problem::Problem;
use super::request::{day_of, digits, now_ms};
use super::{App, json_response};
use crate::archive::BatchInfo;
use crate::meters::{self, Cursor};
use crate::name;
use crate::token::Role;

/// How many steps of a scan one answer may take.
const STEPS: usize = 50;
/// The most meters that are listed.
const LISTED: usize = 20;

/// `GET /v1/archive`
///
/// # Errors
/// 403 without the role `admin`, or those of Redis.
pub(super) async fn get(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    app.identify(&headers)?.needs(Role::Admin)?;
    let today = day_of(now_ms()).map(digits).unwrap_or_default();
    let mut cursor = Some(Cursor::default());
    let mut waiting = Vec::new();
    for _ in 0..STEPS {
        let Some(at) = cursor else { break };
        let (found, next) = meters::step(app.redis(), b"", &at).await?;
        waiting.extend(found.into_iter().filter_map(|meter| {
            let days = meter.days.iter().filter(|(day, _)| *day < today);
            let (days, count) = days.fold((0, 0), |(days, sum), (_, count)| (days + 1, sum + count));
            (days > 0 || meter.has_batch).then_some((days, count, meter))
        }));
        cursor = next;
    }
    waiting.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.2.key.cmp(&b.2.key)));
    waiting.dedup_by(|a, b| a.2.key == b.2.key);
    let listed: Vec<Value> = waiting
        .iter()
        .take(LISTED)
        .map(|(days, count, meter)| {
            json!({
                "meter": name::shown(&meter.key), "id": name::to_path(&meter.key), "days": days, "count": count,
                "first": meter.days.first().map(|(day, _)| day), "batch": meter.has_batch,
            })
        })
        .collect();
    let (batches, error) = match app.pool().batches(LISTED).await {
        Ok(batches) => (batches, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    if let Some(error) = &error {
        tracing::warn!("the archive can't be read: {error}");
    }
    let account = app.archiving().account();
    Ok(json_response(&json!({
        "waiting": listed, "meters": waiting.len(), "complete": cursor.is_none(),
        "batches": batches.iter().map(batch).collect::<Vec<_>>(),
        "readable": error.is_none(),
        "rows": account.rows, "completed_at": account.completed_at, "failing": account.error.is_some(),
    })))
}

fn batch(batch: &BatchInfo) -> Value {
    json!({
        "batch": batch.id, "meter": name::shown(&batch.meter), "id": name::to_path(&batch.meter),
        "from": batch.first_day, "to": batch.last_day, "at": batch.archived_at,
    })
}
