//! The least that the same HTTP library can do: what `make bench-meterd` holds meterd against.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use http_body_util::{BodyExt as _, Full};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The allocator that meterd has, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A message of gRPC that says `overall_code: OK`, whatever was asked.
async fn rls() -> Response {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", axum::http::HeaderValue::from_static("0"));
    let message = Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]));
    let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
    ([(CONTENT_TYPE, "application/grpc")], Body::new(body)).into_response()
}

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("the port is free");
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/counter", post(async || "hello"))
        .route("/check/{domain}", any(async || "hello"))
        .route("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit", post(rls));
    let (_stop, stopping) = watch::channel(false);
    meterd::http::serve(listener, None, router, stopping).await;
}
