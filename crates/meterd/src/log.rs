//! The log: lines on standard error.

use std::io::{IsTerminal, Stderr, stderr};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::OptionalWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Whether a command draws on the whole terminal now.
static IS_DRAWN_ON: AtomicBool = AtomicBool::new(false);

/// Says that a command begins or ends to draw on the whole terminal: lines that would go there meanwhile are left out.
pub fn keep_off_the_terminal(is_drawn_on: bool) {
    IS_DRAWN_ON.store(is_drawn_on, Ordering::Relaxed);
}

fn writer() -> OptionalWriter<Stderr> {
    if IS_DRAWN_ON.load(Ordering::Relaxed) && stderr().is_terminal() {
        OptionalWriter::none()
    } else {
        OptionalWriter::some(stderr())
    }
}

/// Starts the log. `METERD_LOG` is a level (`error`, `warn`, `info`, `debug`, `trace`) or a list such as
/// `info,meterd=debug`; the default is this level for meterd itself and `warn` for the libraries.
pub fn start(level: Level) {
    let chosen = std::env::var("METERD_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let targets = chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN).with_target("meterd", level));
    let lines =
        tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(stderr().is_terminal()).with_target(false);
    // A second start, as in tests, leaves the first one's.
    let _ = tracing_subscriber::registry().with(targets).with(lines).try_init();
}
