//! `meterd serve`: from the start to the end of the service.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::cli::Common;
use crate::config::{Config, Error, ServeFlags};
use crate::connection::Redis;
use crate::gateway;
use crate::http::{self, App};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the first connection to Redis may take before the log says that it serves without.
const FIRST: Duration = Duration::from_secs(2);

/// Runs the service until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration is wrong, or the address can't be had.
pub fn run(common: &Common, flags: &ServeFlags) -> Result<(), Error> {
    let config = Config::load_with(common, flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(format!("no threads: {error}")))?;
    let outcome = runtime.block_on(serve(config, common, flags));
    // Whatever still runs is cut off.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(config: Config, common: &Common, flags: &ServeFlags) -> Result<(), Error> {
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| Error::new(format!("can't listen on {}: {error}", config.listen)))?;
    let tls = config.tls.as_ref().map(http::acceptor).transpose()?;
    let (stop, stopping) = watch::channel(false);
    let redis = Redis::connect(config.redis.clone(), config.deadline);
    let app = App::new(&config, redis.clone(), stopping.clone())?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let scheme = if tls.is_some() { "https" } else { "http" };
    info!("listening on {scheme}://{address}, the page is there too");
    tokio::spawn(look_at(redis));
    let archiving = app.archiving();
    let archiver = (config.clone(), stopping.clone());
    let archived = tokio::spawn(async move { archiving.run(archiver.0, archiver.1).await });
    let served = tokio::spawn(http::serve(listener, tls, app.router(), stopping));
    let reloads = tokio::spawn(reload(app, config, common.clone(), flags.clone()));
    ended().await;
    info!("shutting down");
    // Nobody listens to it any more if the service has failed.
    let _ = stop.send(true);
    let outcome = served.await;
    reloads.abort();
    // It ends at once, and its transaction with it.
    let _ = archived.await;
    outcome.map_err(|error| Error::new(format!("the service failed: {error}")))
}

/// Says in one sentence what is missing at the start.
async fn look_at(redis: Redis) {
    if !redis.up_within(FIRST).await {
        warn!(redis = %redis.target(), "not connected yet: serving without, and going on to try");
    } else if let Err(failure) = redis.ready().await {
        warn!("{failure}");
    }
}

async fn ended() {
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let waits = signals.iter_mut().filter_map(|signal| signal.as_mut().ok()).map(|signal| Box::pin(signal.recv()));
    futures_util::future::select_all(waits).await;
}

/// Reads the file again at SIGHUP, or when it has changed. A wrong file changes nothing.
async fn reload(app: App, mut config: Config, common: Common, flags: ServeFlags) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let files = |config: &Config| {
        let rules = config.limits.as_deref().map(gateway::files).transpose().ok().flatten().unwrap_or_default();
        let files = config.file.iter().chain(&rules);
        files.map(|file| (file.clone(), changed(file))).collect::<Vec<_>>()
    };
    // What was bound at the start is what is served, whatever a new file says.
    let (listen, tls) = (config.listen, config.tls.clone());
    let mut seen = files(&config);
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = ticks.tick() => {
                let now = files(&config);
                if now == seen {
                    continue;
                }
                seen = now;
            }
        }
        // A file that was read once must stay: without it, its tokens would be gone too.
        let common = Common { config: common.config.clone().or(config.file.clone()), ..common.clone() };
        let loaded = Config::load_with(&common, &flags);
        let loaded = loaded.and_then(|new| new.may_serve(listen, tls.as_ref()).map(|()| new));
        let is_ok = match loaded.and_then(|new| app.reload(&new).map(|()| new)) {
            Ok(new) => {
                if new.listen != config.listen || new.redis.to_string() != config.redis.to_string() {
                    warn!("listen and redis take effect with a restart");
                }
                info!("configuration reloaded");
                config = new;
                true
            }
            Err(error) => {
                error!("configuration not reloaded, the old one goes on: {error}");
                false
            }
        };
        app.metrics().reloaded(is_ok);
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|data| data.modified()).ok()
}
