//! The HTTP service: a file for each group of routes.

mod access;
mod archive;
mod check;
mod cloud_events;
mod health;
mod hits;
mod limit_headers;
mod limits;
mod live;
mod meters;
mod metrics;
mod openapi;
mod page;
mod problem;
mod prompt;
mod request;
mod rls;
mod rls_messages;
mod server;
mod sessions;

use std::sync::{Arc, RwLock};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, delete, get, post};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

pub use metrics::Metrics;
pub use server::{acceptor, serve};

use access::{Access, Tokens};
use live::Live;
use metrics::ROUTES;
use problem::Problem;

use crate::archive::{Archive, Pool};
use crate::archiving::Archiving;
use crate::config::{Config, Error};
use crate::connection::Redis;
use crate::gateway::Checker;

/// What all requests share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    redis: Redis,
    metrics: Metrics,
    live: Arc<Live>,
    checker: Checker,
    pool: Pool,
    archiving: Arc<Archiving>,
    slots: Semaphore,
    stopping: watch::Receiver<bool>,
    body_limit: usize,
    name_limit: usize,
    tokens: RwLock<Arc<Tokens>>,
}

impl App {
    /// With what the configuration says; `stopping` tells when the end has begun.
    ///
    /// # Errors
    /// When the archive's address or a rule of a limit is wrong.
    pub fn new(config: &Config, redis: Redis, stopping: watch::Receiver<bool>) -> Result<Self, Error> {
        let checker = Checker::new(redis.clone());
        checker.load(config.limits.as_deref())?;
        Ok(Self(Arc::new(Shared {
            pool: Pool::new(Archive::of(config).map_err(Error::new)?),
            archiving: Arc::default(),
            metrics: Metrics::new(),
            live: Live::start(redis.clone()),
            checker,
            slots: Semaphore::new(config.in_flight),
            stopping,
            body_limit: config.body_limit,
            name_limit: config.name_limit,
            tokens: RwLock::new(Arc::new(Tokens::new(&config.tokens))),
            redis,
        })))
    }

    /// The way to Redis.
    pub fn redis(&self) -> &Redis {
        &self.0.redis
    }

    /// What meterd counts of itself.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The archiver's account, which it keeps itself.
    pub fn archiving(&self) -> Arc<Archiving> {
        self.0.archiving.clone()
    }

    fn pool(&self) -> &Pool {
        &self.0.pool
    }

    fn checker(&self) -> &Checker {
        &self.0.checker
    }

    fn live(&self) -> &Live {
        &self.0.live
    }

    fn body_limit(&self) -> usize {
        self.0.body_limit
    }

    fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// Returns when the end has begun.
    async fn stopping(&self) {
        let mut stopping = self.0.stopping.clone();
        // Without a sender left, the end has begun too.
        let _ = stopping.wait_for(|&stopping| stopping).await;
    }

    fn identify(&self, headers: &HeaderMap) -> Result<Access, Problem> {
        self.0.tokens.read().unwrap_or_else(|poisoned| poisoned.into_inner()).identify(headers)
    }

    /// Takes over what a new configuration may change while requests are served: the rules of limits, and the tokens.
    ///
    /// # Errors
    /// When a rule is wrong; then nothing is taken over.
    pub fn reload(&self, config: &Config) -> Result<(), Error> {
        self.checker().load(config.limits.as_deref())?;
        *self.0.tokens.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(Tokens::new(&config.tokens));
        Ok(())
    }

    fn check_name(&self, field: &str, name: &str) -> Result<(), Problem> {
        let limit = self.0.name_limit;
        match name.len() <= limit {
            true => Ok(()),
            false => Err(Problem::bad(format!("{field} has a name longer than {limit} bytes"))),
        }
    }

    /// # Errors
    /// 400 for a meter without a name, or one that lies where another meter has a part of a day.
    fn check_meter(&self, meter: &str) -> Result<(), Problem> {
        if meter.is_empty() {
            return Err(Problem::bad("meter is empty"));
        }
        if crate::name::is_part_of_a_day(meter.as_bytes()) {
            let message = format!("\"{meter}\" is the name of a part of another meter's day: name the meter otherwise");
            return Err(Problem::bad(message));
        }
        Ok(())
    }

    /// All routes.
    pub fn router(&self) -> Router {
        let counted = Router::new()
            .route("/counter", post(sessions::counter))
            .route("/kpi", get(sessions::kpi))
            .route("/home", get(sessions::home))
            .route("/v1/hits", post(hits::post))
            .route("/v1/meters", get(meters::list))
            .route("/v1/meters/{meter}/usage", get(meters::usage))
            .route("/v1/meters/{meter}/top", get(meters::top))
            .route("/v1/meters/{meter}/cost", get(meters::cost))
            .route("/v1/limits/refused", get(limits::refused))
            .route("/v1/limits/state", get(limits::state))
            .route("/v1/limits/check/{domain}", get(check::look))
            .route("/check/{domain}", any(check::check))
            .route("/check/{domain}/lease/{id}", delete(check::release))
            .route(rls::PATH, post(rls::should_rate_limit))
            .route("/v1/archive", get(archive::get))
            .route("/v1/events", get(live::events))
            .merge(page::router())
            .fallback(not_found)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(self.clone(), admit));
        // These are served while everything else is too much.
        Router::new()
            .route("/metrics", get(metrics::get))
            .route("/healthz", get(health::alive))
            .route("/readyz", get(health::ready))
            .route("/openapi.json", get(openapi::get))
            .method_not_allowed_fallback(wrong_method)
            .merge(counted)
            .with_state(self.clone())
    }
}

/// Lets a request in if there is room, and notes how long it took.
async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    let route = route(request.uri().path());
    let metrics = app.metrics();
    let Ok(_slot) = app.0.slots.try_acquire() else {
        metrics.overloaded.inc();
        return Problem::busy("too many requests are in flight").into_response();
    };
    if let Err(problem) = same_origin(&request) {
        return problem.into_response();
    }
    let start = Instant::now();
    let in_flight = metrics.begin();
    let response = next.run(request).await;
    drop(in_flight);
    metrics.note(route, response.status().as_u16(), start.elapsed().as_secs_f64());
    response
}

/// A page from elsewhere, in a browser of somebody who may count, may not.
fn same_origin(request: &Request) -> Result<(), Problem> {
    // A gateway passes on what a browser has sent to it.
    let is_check = request.uri().path().starts_with("/check/");
    if is_check || matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    let host = request.headers().get(HOST).map(|host| host.as_bytes());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str().as_bytes()));
    let origin = origin.as_bytes();
    let from = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    match from.is_some() && from == host {
        true => Ok(()),
        false => Err(Problem::new(StatusCode::FORBIDDEN, "requests of pages from elsewhere are refused")),
    }
}

fn route(path: &str) -> usize {
    let name = match path {
        "/counter" => "counter",
        "/kpi" => "kpi",
        "/home" => "home",
        "/v1/hits" => "hits",
        "/v1/events" => "events",
        _ if path.starts_with("/v1/meters") => "usage",
        rls::PATH => "check",
        _ if path.starts_with("/check/") => "check",
        _ => "other",
    };
    ROUTES.iter().position(|route| *route == name).unwrap_or(ROUTES.len() - 1)
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such route: /openapi.json lists them")
}

async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this route has no such method: /openapi.json lists them")
}

fn json_response(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], Body::from(value.to_string())).into_response()
}
