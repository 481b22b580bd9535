//! The way of a batch: sealed, safe, written, acknowledged.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use redis::{Pipeline, RedisError, Value, from_redis_value};
use tokio::sync::mpsc;

use super::Archive;
use super::database::Session;
use super::error::{Kind, SqlError};
use super::names::Names;
use super::row::{Meter, shown};
use super::sealed::{self, Page, SealedKey};
use super::writer::{self, Batch, Begun, Writer};
use crate::config::Config;
use crate::connection::{Failure, Link, Target};
use crate::patience::Patience;

/// How often a batch is tried where something is lost.
const TRIES: u32 = 8;
/// How often where somebody else is at work on it, who may need a minute.
const TRIES_WHILE_BUSY: u32 = 60;
/// The pause after the first of them; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long the mark of an archiver stays, in seconds.
const MARK_SECONDS: u64 = 3600;
/// Pages of rows that may wait to be written.
const PAGES: usize = 3;

/// How to archive.
#[derive(Clone, Debug)]
pub struct Options {
    /// The days before this date, as `20220809` or `2022-08-09`; by default before today, UTC.
    pub before: Option<String>,
    /// How many replicas must have a batch before it is used.
    pub replicas: u32,
    /// Whether it must be on the server's disk (Redis 7.2, Valkey, or later).
    pub fsync: bool,
    /// How long to wait for that.
    pub safe_within: Duration,
    /// How long any other call to Redis may take.
    pub deadline: Duration,
}

impl Options {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            before: None,
            replicas: config.archive.replicas,
            fsync: config.archive.fsync,
            safe_within: config.archive.safe_within,
            deadline: config.deadline,
        }
    }
}

/// What was archived of a meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Batches.
    pub batches: u64,
    /// Rows, of all tables together.
    pub rows: u64,
}

/// Who is told how far it is.
pub trait Progress: Send {
    /// A batch with so many keys has begun.
    fn begin(&mut self, meter: &str, keys: u64);
    /// So many keys and rows more.
    fn add(&mut self, keys: u64, rows: u64);
    /// It is written and acknowledged, or was known.
    fn end(&mut self);
}

/// Why a meter was not archived.
#[derive(Clone, Debug)]
pub enum Error {
    /// The server, or the way to it.
    Redis(String),
    /// The server refuses it: trying again does not help.
    Refused(String),
    /// The database: no connection, or lost.
    SqlLost(String),
    /// The database refuses it: trying again does not help.
    Sql(String),
    /// A batch is not safe in time.
    NotSafe(String),
    /// What a key holds can't be archived.
    Unexpected(String),
    /// Somebody else was there; trying again helps.
    Retry(String),
}

impl Error {
    pub(crate) fn reply(error: impl fmt::Display) -> Self {
        Self::Unexpected(format!("a reply of another kind: {error}"))
    }

    /// Whether the same may pass a moment later.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Redis(_) | Self::SqlLost(_) | Self::Retry(_))
    }

    /// Whether nothing can be archived, of any meter.
    pub fn is_general(&self) -> bool {
        matches!(self, Self::Redis(_) | Self::SqlLost(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(text) => write!(f, "Redis: {text}"),
            Self::Refused(text) => write!(f, "Redis refuses it: {text}"),
            Self::SqlLost(text) | Self::Sql(text) => write!(f, "SQL: {text}"),
            Self::NotSafe(text) | Self::Unexpected(text) | Self::Retry(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        let failure = Failure::of(&error);
        // What a server that starts, fails over or has no memory says passes; what it says of arguments does not.
        match &failure {
            Failure::Refused { code, .. }
                if matches!(code.as_str(), "ERR" | "WRONGTYPE" | "NOPERM" | "NOAUTH" | "WRONGPASS" | "CROSSSLOT") =>
            {
                Self::Refused(failure.to_string())
            }
            Failure::Refused { .. } => Self::Redis(failure.to_string()),
            Failure::Down(text) | Failure::Unknown(text) => Self::Redis(text.clone()),
        }
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        match error.kind {
            Kind::Lost => Self::SqlLost(error.to_string()),
            Kind::Busy => Self::Retry(format!("SQL: {error}")),
            Kind::Duplicate | Kind::Overflow | Kind::Other => Self::Sql(error.to_string()),
        }
    }
}

/// Moves sealed days to SQL, over one connection to each side. `WAIT` blocks the connection to Redis: it must not be
/// shared with anything that is in a hurry.
pub struct Archiver<'a> {
    target: &'a Target,
    archive: &'a Archive,
    options: Options,
    link: Option<Link>,
    session: Option<Session>,
}

/// What became of a batch.
enum Step {
    /// There was none.
    Nothing,
    /// It is in SQL, with so many rows written now, and acknowledged.
    Archived(u64),
    /// It is in SQL; its acknowledgement was refused.
    Unacknowledged { id: String, why: Error },
}

impl<'a> Archiver<'a> {
    /// From this server to this archive. Nothing is connected yet.
    pub fn new(target: &'a Target, archive: &'a Archive, options: Options) -> Self {
        Self { target, archive, options, link: None, session: None }
    }

    /// Connects to the archive, and makes its tables where they are missing.
    ///
    /// # Errors
    /// As the database says.
    pub async fn open_archive(&mut self) -> Result<(), Error> {
        if self.session.is_none() {
            self.session = Some(self.archive.connect().await?);
        }
        Ok(())
    }

    /// The connection to Redis; a new one where the last was lost.
    async fn link(&mut self) -> Result<Link, Error> {
        if self.link.is_none() {
            let patience = Patience(self.options.deadline);
            self.link = Some(patience.redis(Link::open(self.target)).await?);
        }
        self.link.clone().ok_or_else(|| Error::Redis("no connection".to_owned()))
    }

    /// The meters whose names match one of these patterns; a name without `*`, `?` and `[` is a meter, there or not.
    ///
    /// # Errors
    /// As the server says.
    pub async fn meters(&mut self, patterns: &[Vec<u8>]) -> Result<BTreeSet<Vec<u8>>, Error> {
        let mut link = self.link().await?;
        let found = super::discover::meters(&mut link, patterns, Patience(self.options.deadline)).await;
        if let Err(Error::Redis(_)) = found {
            self.link = None;
        }
        let found = found?;
        if found.is_empty() {
            // None, or no module that could have made one.
            let probe = Patience(self.options.deadline)
                .redis(redis::cmd("METER.KPI").arg("meterd:ready").query_async::<Value>(&mut link))
                .await;
            if let Some(failure) = probe.err().map(|error| Failure::of(&error)).filter(Failure::is_without_module) {
                return Err(Error::Refused(failure.to_string()));
            }
        }
        Ok(found)
    }

    /// Archives all finished days of a meter.
    ///
    /// # Errors
    /// What could not be done after several tries. What was archived before stays so.
    pub async fn archive(&mut self, meter: &[u8], progress: &mut dyn Progress) -> Result<Done, Error> {
        let meter = Meter::new(meter);
        let (mut done, mut tries, mut pause) = (Done::default(), 0, PAUSE);
        let mut refused: Option<(String, Error)> = None;
        loop {
            let error = match self.step(&meter, progress).await {
                Ok(Step::Nothing) => return Ok(done),
                Ok(Step::Archived(rows)) => {
                    done.batches += 1;
                    done.rows += rows;
                    (tries, pause) = (0, PAUSE);
                    continue;
                }
                // All is well if an earlier ACK got through and only its reply was lost, or another archiver was
                // faster: then the next SEAL does not return this batch again.
                Ok(Step::Unacknowledged { id, why }) => match refused.replace((id.clone(), why)) {
                    Some((before, why)) if before == id => why,
                    _ => continue,
                },
                Err(error) => error,
            };
            progress.end();
            if let Error::Redis(_) = error {
                self.link = None;
            }
            tries += 1;
            let most = if matches!(error, Error::Retry(_)) { TRIES_WHILE_BUSY } else { TRIES };
            if !error.is_passing() || tries >= most {
                return Err(error);
            }
            tracing::debug!(meter = shown(&meter.name), %error, "again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes the batch that is open, or opens one, all the way.
    async fn step(&mut self, meter: &Meter, progress: &mut dyn Progress) -> Result<Step, Error> {
        let Some((batch, keys)) = self.seal(meter).await? else { return Ok(Step::Nothing) };
        self.wait_until_safe(meter, &batch.id).await?;
        progress.begin(&shown(&meter.name), keys.len() as u64);
        let rows = self.write(&batch, keys, progress).await?;
        let step = self.acknowledge(meter, batch.id).await?;
        progress.end();
        Ok(if let Some((id, why)) = step { Step::Unacknowledged { id, why } } else { Step::Archived(rows) })
    }

    async fn seal(&mut self, meter: &Meter) -> Result<Option<(Batch, Vec<SealedKey>)>, Error> {
        let mut seal = redis::cmd("METER.SEAL");
        seal.arg(&meter.name);
        if let Some(before) = &self.options.before {
            seal.arg("BEFORE").arg(before);
        }
        let patience = Patience(self.options.deadline);
        let reply: Value = patience.redis(seal.query_async(&mut self.link().await?)).await?;
        let (id, names): (Option<String>, Vec<Vec<u8>>) = from_redis_value(reply).map_err(Error::reply)?;
        let Some(id) = id else { return Ok(None) };
        let keys = names.into_iter().map(|name| SealedKey::parse(name, &id)).collect::<Result<Vec<_>, _>>()?;
        let days = || keys.iter().map(|key| key.day);
        let (Some(first_day), Some(last_day)) = (days().min(), days().max()) else {
            return Err(Error::Unexpected(format!("batch {id} has no keys: DEL {}:batch", shown(&meter.name))));
        };
        Ok(Some((Batch { id, meter: meter.clone(), first_day, last_day }, keys)))
    }

    /// Waits until a batch outlives the server.
    async fn wait_until_safe(&mut self, meter: &Meter, id: &str) -> Result<(), Error> {
        let Options { replicas, fsync, safe_within, deadline, .. } = self.options;
        let within = u64::try_from(safe_within.as_millis()).unwrap_or(u64::MAX).max(1);
        if replicas == 0 && !fsync {
            return Ok(());
        }
        // The server waits for what this same connection has written. A SEAL that returns an open batch again writes
        // nothing; so a mark is written after it, which is safe no sooner than the batch.
        let mut link = self.link().await?;
        let mark = Names::new(&meter.name, link.is_cluster()).mark();
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SET").arg(&mark).arg(id).arg("EX").arg(MARK_SECONDS).ignore();
        if fsync {
            pipeline.cmd("WAITAOF").arg(1).arg(replicas).arg(within);
        } else {
            pipeline.cmd("WAIT").arg(replicas).arg(within);
        }
        let patience = Patience(safe_within + deadline);
        let reply: Vec<Value> = patience.redis(pipeline.query_async(&mut link)).await?;
        let [reply] = <[Value; 1]>::try_from(reply).map_err(|_| Error::reply("not one"))?;
        let (on_disk, found) = if fsync {
            from_redis_value::<(u32, u32)>(reply).map_err(Error::reply)?
        } else {
            (1, from_redis_value(reply).map_err(Error::reply)?)
        };
        if on_disk == 0 {
            return Err(Error::NotSafe(format!(
                "the batch {id} is not on the server's disk yet: not used, run again later"
            )));
        }
        if found < replicas {
            let text = format!("{found} of {replicas} replicas have the batch {id}: not used, run again later");
            return Err(Error::NotSafe(text));
        }
        Ok(())
    }

    /// Writes a batch, unless it is in SQL; how many rows.
    async fn write(&mut self, batch: &Batch, keys: Vec<SealedKey>, progress: &mut dyn Progress) -> Result<u64, Error> {
        self.open_archive().await?;
        let Some(mut session) = self.session.take() else { return Err(Error::SqlLost("no connection".to_owned())) };
        match writer::begin(&mut session, batch).await? {
            Begun::Known => {
                self.session = Some(session);
                return Ok(0);
            }
            Begun::New => {}
        }
        let patience = Patience(self.options.deadline);
        let (to, pages) = mpsc::channel(PAGES);
        let mut link = self.link().await?;
        let mut redis = link.clone();
        let meter = batch.meter.name.clone();
        let reader = tokio::spawn(async move { sealed::read(&mut redis, patience, &meter, &keys, &to).await });
        let written = fill(&mut session, &batch.meter, self.archive, pages, progress).await;
        // A reader that nobody listens to ends by itself.
        let read =
            reader.await.unwrap_or_else(|_| Err(Error::Unexpected("the reader of the batch panicked".to_owned())));
        let rows = written?;
        read?;
        // Its keys go all at once, with this one: if it is there now, all were there when they were read.
        let name = Names::new(&batch.meter.name, link.is_cluster()).batch();
        let mut get = redis::cmd("HGET");
        get.arg(name).arg("id");
        let open: Option<String> = patience.redis(get.query_async(&mut link)).await?;
        if open.as_deref() != Some(&batch.id) {
            return Err(Error::Retry(format!("batch {} was acknowledged by somebody else", batch.id)));
        }
        session.commit().await?;
        self.session = Some(session);
        Ok(rows)
    }

    /// Acknowledges a batch; its id and why, where the server refuses that.
    async fn acknowledge(&mut self, meter: &Meter, id: String) -> Result<Option<(String, Error)>, Error> {
        let mut ack = redis::cmd("METER.ACK");
        ack.arg(&meter.name).arg(&id);
        let patience = Patience(self.options.deadline);
        let reply: Result<u64, _> = patience.redis(ack.query_async(&mut self.link().await?)).await;
        match reply.map_err(Error::from) {
            Ok(_) => Ok(None),
            Err(why @ Error::Refused(_)) => Ok(Some((id, why))),
            Err(error) => Err(error),
        }
    }
}

/// Writes what comes, and all of it.
async fn fill(
    session: &mut Session,
    meter: &Meter,
    archive: &Archive,
    mut pages: mpsc::Receiver<Page>,
    progress: &mut dyn Progress,
) -> Result<u64, SqlError> {
    let mut writer = Writer::new(session, meter, &archive.tables);
    while let Some(page) = pages.recv().await {
        match page {
            Page::Keys(n) => progress.add(n as u64, 0),
            Page::Unique(row) => {
                writer.unique(row).await?;
                progress.add(0, 1);
            }
            Page::Hours(rows) => {
                progress.add(0, rows.len() as u64);
                for row in rows {
                    writer.hour(row).await?;
                }
            }
            Page::Paths(rows) => {
                progress.add(0, rows.len() as u64);
                for row in rows {
                    writer.path(row).await?;
                }
            }
        }
    }
    writer.flush().await
}
