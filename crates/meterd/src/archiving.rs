//! The archiver inside `meterd serve`: it archives all meters from time to time, and remembers how that went.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use crate::archive::{Archive, Archiver, Options, Progress, shown};
use crate::config::{Config, NEVER};

/// Before the first round, so that a start is not slowed down by it.
const FIRST: Duration = Duration::from_secs(5);

/// What the archiver has done since the start.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Batches in SQL.
    pub batches: u64,
    /// Rows written.
    pub rows: u64,
    /// Rounds that archived all there was.
    pub completed: u64,
    /// Rounds in which something failed.
    pub failed: u64,
    /// When the last complete round ended, in seconds since the epoch; 0 for never.
    pub completed_at: u64,
    /// What failed last; gone with the next complete round.
    pub error: Option<String>,
}

/// The account of the archiver, for metrics and the page.
#[derive(Debug, Default)]
pub struct Archiving(Mutex<Account>);

impl Archiving {
    /// What was done so far.
    pub fn account(&self) -> Account {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Account)) {
        change(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    /// Archives until `stopping` says so. What is cut off is rolled back, and done in the next round.
    pub async fn run(&self, config: Config, mut stopping: watch::Receiver<bool>) {
        let archive = match Archive::of(&config) {
            Ok(archive) => archive,
            Err(error) => return warn!("nothing is archived: {error}"),
        };
        if config.archive.every == NEVER {
            return info!("finished days stay in Redis: archive.every is never");
        }
        let every = humantime::format_duration(config.archive.every);
        info!("finished days of all meters move from Redis to {}, every {every}", archive.shown());
        let mut ticks = interval_at(Instant::now() + FIRST.min(config.archive.every), config.archive.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rounds = async {
            loop {
                ticks.tick().await;
                self.round(&config, &archive).await;
            }
        };
        tokio::select! {
            () = rounds => {}
            _ = stopping.wait_for(|&stopping| stopping) => {}
        }
    }

    async fn round(&self, config: &Config, archive: &Archive) {
        let mut archiver = Archiver::new(&config.redis, archive, Options::of(config));
        let mut failed = None;
        match archiver.meters(&[b"*".to_vec()]).await {
            Err(error) => failed = Some(error.to_string()),
            Ok(meters) => {
                for meter in meters {
                    match archiver.archive(&meter, &mut Unseen).await {
                        Ok(done) if done.batches == 0 => {}
                        Ok(done) => {
                            info!(meter = shown(&meter), batches = done.batches, rows = done.rows, "archived");
                            self.note(|account| {
                                account.batches += done.batches;
                                account.rows += done.rows;
                            });
                        }
                        Err(error) => {
                            warn!(meter = shown(&meter), "not archived: {error}");
                            failed = Some(format!("{}: {error}", shown(&meter)));
                            if error.is_general() {
                                break;
                            }
                        }
                    }
                }
            }
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.note(|account| match failed {
            None => {
                account.completed += 1;
                account.completed_at = now.map_or(0, |now| now.as_secs());
                account.error = None;
            }
            Some(_) => {
                account.failed += 1;
                account.error = failed;
            }
        });
    }
}

/// Nobody watches.
struct Unseen;

impl Progress for Unseen {
    fn begin(&mut self, _meter: &str, _keys: u64) {}
    fn add(&mut self, _keys: u64, _rows: u64) {}
    fn end(&mut self) {}
}
