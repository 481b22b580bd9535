//! `meterd archive [--once] [--before DATE] [METER-PATTERN …]`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::progress::Bar;
use crate::archive::{Archive, Archiver, Options, shown};
use crate::config::Config;
use crate::say::say;

/// Moves finished days of meters to SQL: each batch in one transaction, each count once
#[derive(Debug, Args)]
pub struct Arguments {
    /// Meters, or patterns of their names as in KEYS; by default all
    #[arg(value_name = "METER-PATTERN")]
    meters: Vec<std::ffi::OsString>,
    /// Archive what there is, and end; exit code 0: all of it is in SQL and acknowledged
    #[arg(long)]
    once: bool,
    /// Archive the days before this date, as 2022-08-09; by default before today, UTC
    #[arg(long, value_name = "DATE")]
    before: Option<String>,
}

pub(super) async fn run(arguments: Arguments, config: Config) -> Result<ExitCode, String> {
    use std::os::unix::ffi::OsStringExt;

    let archive = Archive::of(&config)?;
    let options = Options { before: arguments.before, ..Options::of(&config) };
    let mut patterns: Vec<Vec<u8>> = arguments.meters.into_iter().map(OsStringExt::into_vec).collect();
    if patterns.is_empty() {
        patterns.push(b"*".to_vec());
    }
    let mut end = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    loop {
        let round = round(&config, &archive, &options, &patterns);
        let archived = tokio::select! {
            // Killed in the middle nothing is lost either; this says so to whoever stops it.
            _ = end.recv() => return Ok(ExitCode::SUCCESS),
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(130)),
            archived = round => archived,
        };
        if arguments.once {
            if archived == Some(0) {
                // Silence would look the same for a name that is mistyped.
                let names: Vec<_> = patterns.iter().map(|pattern| shown(pattern)).collect();
                say!("nothing to archive: no finished day of {} is in Redis", names.join(", "));
            }
            return Ok(if archived.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        tokio::select! {
            _ = end.recv() => return Ok(ExitCode::SUCCESS),
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(130)),
            () = tokio::time::sleep(config.archive.every) => {}
        }
    }
}

/// Archives all meters that match; returns the number of batches, or `None` if something went wrong.
async fn round(config: &Config, archive: &Archive, options: &Options, patterns: &[Vec<u8>]) -> Option<u64> {
    let mut archiver = Archiver::new(&config.redis, archive, options.clone());
    let opened = archiver.open_archive().await;
    let found = match opened {
        Ok(()) => archiver.meters(patterns).await,
        Err(error) => Err(error),
    };
    let meters = match found {
        Ok(meters) => meters,
        Err(error) => {
            eprintln!("meterd: {error}");
            return None;
        }
    };
    let (mut batches, mut is_complete, mut bar) = (0, true, Bar::new());
    for meter in meters {
        let start = Instant::now();
        match archiver.archive(&meter, &mut bar).await {
            Ok(done) if done.batches == 0 => {}
            Ok(done) => {
                batches += done.batches;
                let seconds = start.elapsed().max(Duration::from_micros(1)).as_secs_f64();
                say!(
                    "{}: {} with {} to {} in {seconds:.1} s",
                    shown(&meter),
                    count(done.batches, "batch", "batches"),
                    count(done.rows, "row", "rows"),
                    archive.shown(),
                );
            }
            Err(error) => {
                eprintln!("meterd: {}: {error}", shown(&meter));
                is_complete = false;
                if error.is_general() {
                    return None;
                }
            }
        }
    }
    is_complete.then_some(batches)
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
