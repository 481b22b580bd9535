//! `GET /metrics`, in Prometheus' classic text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use redis::{Value, cmd};

use super::App;
use super::problem::Problem;
use crate::token::Role;

/// The routes that have a histogram of their own.
pub(super) const ROUTES: [&str; 8] = ["counter", "kpi", "home", "hits", "usage", "events", "check", "other"];

/// What meterd counts of itself.
pub struct Metrics {
    registry: Registry,
    /// Hits counted through this process.
    pub(super) hits: IntCounter,
    /// Requests that were turned away because too many were in flight.
    pub(super) overloaded: IntCounter,
    /// Requests in flight.
    in_flight: IntGauge,
    /// Reloads of the configuration, by `result`.
    reloads: IntCounterVec,
    /// Clients of `/v1/events`.
    pub(super) listeners: IntGauge,
    answers: IntCounterVec,
    seconds: [Histogram; ROUTES.len()],
    up: Gauge,
    memory: Gauge,
}

/// A request that is being worked on, until this is dropped: when it is answered, or when its client has left.
pub(super) struct InFlight<'a>(&'a IntGauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// A request begins.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// All at zero.
    ///
    /// # Panics
    /// Never: the names are right and differ.
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        macro_rules! add {
            ($metric:expr) => {{
                let metric = $metric.expect("a right name");
                registry.register(Box::new(metric.clone())).expect("a new name");
                metric
            }};
        }
        let buckets = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        let options = HistogramOpts::new("meterd_request_duration_seconds", "How long requests took, by route.");
        let seconds = add!(HistogramVec::new(options.buckets(buckets), &["route"]));
        let reloads = add!(IntCounterVec::new(
            Opts::new("meterd_reloads_total", "Reloads of the configuration, by result."),
            &["result"]
        ));
        for result in ["ok", "error"] {
            reloads.with_label_values(&[result]);
        }
        let version =
            Opts::new("meterd_build_info", "The version of meterd.").const_label("version", env!("CARGO_PKG_VERSION"));
        add!(Gauge::with_opts(version)).set(1.0);
        Self {
            hits: add!(IntCounter::new("meterd_hits_total", "Hits that were accepted over HTTP.")),
            overloaded: add!(IntCounter::new(
                "meterd_overloaded_total",
                "Requests turned away because too many were in flight."
            )),
            in_flight: add!(IntGauge::new("meterd_requests_in_flight", "Requests being worked on.")),
            listeners: add!(IntGauge::new("meterd_event_listeners", "Clients of /v1/events.")),
            answers: add!(IntCounterVec::new(
                Opts::new("meterd_responses_total", "Responses, by route and status."),
                &["route", "status"]
            )),
            up: add!(Gauge::new("meterd_redis_up", "Whether Redis answers and has the module: 1 or 0.")),
            memory: add!(Gauge::new("meterd_resident_memory_bytes", "Resident memory of meterd.")),
            seconds: ROUTES.map(|route| seconds.with_label_values(&[route])),
            reloads,
            registry,
        }
    }

    /// Notes a reload of the configuration.
    pub fn reloaded(&self, is_ok: bool) {
        self.reloads.with_label_values(&[if is_ok { "ok" } else { "error" }]).inc();
    }

    /// Notes a response.
    pub(super) fn note(&self, route: usize, status: u16, seconds: f64) {
        self.seconds[route].observe(seconds);
        let mut digits = [0; 3];
        let text = status_text(status, &mut digits);
        self.answers.with_label_values(&[ROUTES[route], text]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn status_text(status: u16, digits: &mut [u8; 3]) -> &str {
    for (place, digit) in [100, 10, 1].into_iter().zip(digits.iter_mut()) {
        *digit = b'0' + u8::try_from(status / place % 10).unwrap_or(0);
    }
    std::str::from_utf8(digits).unwrap_or("000")
}

/// `GET /metrics`
///
/// # Errors
/// 401 or 403.
pub(super) async fn get(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    app.identify(&headers)?.needs(Role::Admin)?;
    let metrics = app.metrics();
    let module = module(&app).await;
    metrics.up.set(f64::from(u8::from(app.redis().ready().await.is_ok())));
    metrics.memory.set(resident().unwrap_or(0.0));
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    let encoded = encoder.encode(&metrics.registry.gather(), &mut text);
    encoded.map_err(|error| Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    text.extend_from_slice(app.checker().tallies().text().as_bytes());
    text.extend_from_slice(archive(&app).as_bytes());
    if let Some(module) = module {
        text.extend_from_slice(module.as_bytes());
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// What the archiver of this process has done.
fn archive(app: &App) -> String {
    let account = app.archiving().account();
    let metrics = [
        ("meterd_archived_batches_total", "counter", "Batches that this process has archived.", account.batches),
        ("meterd_archived_rows_total", "counter", "Rows that this process has written to the archive.", account.rows),
        ("meterd_archive_rounds_total", "counter", "Rounds of archiving that archived all.", account.completed),
        ("meterd_archive_failures_total", "counter", "Rounds of archiving in which something failed.", account.failed),
        (
            "meterd_archive_last_complete_timestamp_seconds",
            "gauge",
            "When the last round that archived all has ended; 0 for never.",
            account.completed_at,
        ),
    ];
    metrics.iter().fold(String::new(), |mut text, (name, kind, help, value)| {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        text
    })
}

/// The module's own counters, from INFO; summed over the nodes of a cluster.
async fn module(app: &App) -> Option<String> {
    let replies: Value = app.redis().call(cmd("INFO").arg("meter")).await.ok()?;
    let mut counters = BTreeMap::new();
    for text in texts(replies) {
        for line in text.lines() {
            let Some((name, number)) = line.split_once(':') else { continue };
            if let (Some(name), Ok(number)) = (name.strip_prefix("meter_"), number.trim().parse::<u64>()) {
                *counters.entry(name.to_owned()).or_insert(0) += number;
            }
        }
    }
    if counters.is_empty() {
        return None;
    }
    Some(counters.iter().fold(String::new(), |mut text, (name, number)| {
        let metric = format!("redis_meter_{name}_total");
        let _ = writeln!(text, "# HELP {metric} The field meter_{name} of the server's INFO.\n# TYPE {metric} counter");
        let _ = writeln!(text, "{metric} {number}");
        text
    }))
}

/// One text from a server, several from a cluster.
fn texts(value: Value) -> Vec<String> {
    match value {
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(&bytes).into_owned()],
        Value::VerbatimString { text, .. } => vec![text],
        Value::Map(pairs) => pairs.into_iter().flat_map(|(_, value)| texts(value)).collect(),
        Value::Array(values) => values.into_iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Bytes of resident memory, where the system tells.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}
