//! The log: lines on standard error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log. `METERD_LOG` is a level (`error`, `warn`, `info`, `debug`, `trace`) or a list such as
/// `info,meterd=debug`; the default is this level for meterd itself and `warn` for the libraries.
pub fn start(level: Level) {
    let chosen = std::env::var("METERD_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let targets = chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN).with_target("meterd", level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start, as in tests, leaves the first one's.
    let _ = tracing_subscriber::registry().with(targets).with(lines).try_init();
}
