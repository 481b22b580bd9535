//! The least that the same HTTP library can do: what `make bench-meterd` holds meterd against.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The allocator that meterd has, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("the port is free");
    let router = Router::new().route("/", get(async || "hello")).route("/counter", post(async || "hello"));
    let (_stop, stopping) = watch::channel(false);
    meterd::http::serve(listener, None, router, stopping).await;
}
