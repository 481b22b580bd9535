//! Connections: plain or TLS, HTTP/1.1 or HTTP/2, and an end to them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::prompt::Prompt;
use crate::config::{Error, Tls};

/// How long a client may take for the head of a request, and for a TLS handshake.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The most connections.
const CONNECTIONS: usize = 10_000;
/// How long requests have to finish at the end; the whole end takes less than 10 s.
const DRAIN: Duration = Duration::from_secs(7);
/// After an error of accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stopping` says so, and then until the last request has its answer, but not for long.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
    let builder = Arc::new(builder);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "no connection accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = begun(&mut stopping) => break,
        };
        // Answers are small and complete: waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let (builder, router, tls, watcher) = (builder.clone(), router.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let outcome = match tls {
                None => {
                    let stream = TokioIo::new(Prompt::new(stream, HEAD_TIME));
                    let connection = builder.serve_connection(stream, TowerToHyperService::new(router));
                    watcher.watch(connection.into_owned()).await
                }
                Some(tls) => match shake_hands(&tls, stream).await {
                    Ok(stream) => {
                        let stream = TokioIo::new(Prompt::new(stream, HEAD_TIME));
                        let connection = builder.serve_connection(stream, TowerToHyperService::new(router));
                        watcher.watch(connection.into_owned()).await
                    }
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(error) = outcome {
                debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        warn!("requests were cut off at the end");
    }
}

/// Returns when the end has begun, or when nobody is left to say so.
async fn begun(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|&stopping| stopping).await;
}

async fn shake_hands(tls: &TlsAcceptor, stream: TcpStream) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    timeout(HEAD_TIME, tls.accept(stream)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// TLS as configured.
///
/// # Errors
/// When a file can't be read or is not what it should be.
pub fn acceptor(tls: &Tls) -> Result<TlsAcceptor, Error> {
    let certificates = certificates(&tls.cert)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| Error::in_file(&tls.key, format!("no private key in PEM: {error}")))?;
    let builder = ServerConfig::builder();
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in self::certificates(path)? {
                roots.add(authority).map_err(|error| Error::in_file(path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| Error::in_file(path, error.to_string()))?)
        }
    };
    let config = builder.with_single_cert(certificates, key);
    let mut config = config.map_err(|error| Error::in_file(&tls.cert, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(Error::in_file(path, "there is no certificate in it")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(Error::in_file(path, format!("no certificate in PEM: {error}"))),
    }
}
