//! `meterd import FILE… --meter NAME [--format clf|combined|json] [--path FIELD …]`
//!
//! Counts the lines of access logs, each once. How far a file has been counted is stored beside the meter, in the same
//! transaction as the counts: so whatever is killed, and when, and however often a file is given again, after it has
//! grown or was rotated away, no line counts twice, and none is left out. Lines may be as old as they like, which event
//! ids may not.

mod line;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use redis::{Pipeline, Value};
use redis_meter_client::{Command as _, Days, Hit};
use sha2::{Digest, Sha256};

use self::line::{Field, Format};
use super::progress::bar;
use crate::archive::{Names, shown};
use crate::config::Config;
use crate::connection::{Link, Target};
use crate::patience::Patience;
use crate::say::say;

/// Lines of a transaction at most.
const LINES: usize = 2000;
/// How long it is known how far a file was counted, in seconds: 400 days.
const KEPT_SECONDS: u64 = 400 * 86_400;
/// The same of standard input, which is never given again.
const KEPT_SECONDS_OF_INPUT: u64 = 3600;
/// Tries of a transaction whose reply was lost.
const TRIES: u32 = 20;
const MILLIS_PER_HOUR: i64 = 3_600_000;
/// What a compressed file begins with.
const GZIP: &[u8] = b"\x1f\x8b";
/// What `AT` takes at least.
const OLDEST: i64 = 100_000_000_000;

/// Counts the lines of access logs, each once however often it is given
#[derive(Debug, Args)]
pub struct Arguments {
    /// Files; - is standard input, which can't be resumed
    #[arg(required = true, value_name = "FILE")]
    files: Vec<OsString>,
    /// The meter
    #[arg(long, value_name = "NAME")]
    meter: OsString,
    /// The form of the lines; by default that of the first one
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Fields to break the count down by: host, user, method, url, status, referer, agent; of JSON any, as request.method
    #[arg(long, value_name = "FIELD", num_args = 1..=8)]
    path: Vec<String>,
}

/// What became of the lines of a file.
#[derive(Default)]
struct Outcome {
    counted: u64,
    before: bool,
    not_understood: u64,
    /// The first of them, in this run.
    example: Option<String>,
    refused: u64,
    refusal: Option<String>,
    has_rest: bool,
}

pub(super) async fn run(arguments: Arguments, config: Config) -> Result<ExitCode, String> {
    let meter = arguments.meter.into_vec();
    let mut import = Import {
        names: Names::new(&meter, false),
        meter,
        target: config.redis,
        patience: Patience(config.deadline),
        link: None,
        format: arguments.format,
        path: arguments.path,
    };
    if import.meter.is_empty() {
        return Err("--meter is empty: name the meter".to_owned());
    }
    let is_cluster = import.link().await?.is_cluster();
    import.names = Names::new(&import.meter, is_cluster);
    import.try_meter().await?;
    let mut is_complete = true;
    for file in arguments.files {
        let outcome = import.file(&file).await.map_err(|error| format!("{}: {error}", file.display()))?;
        is_complete &= outcome.say(&file.display().to_string());
    }
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Outcome {
    /// Says it; whether all lines were counted.
    fn say(&self, file: &str) -> bool {
        let more = if self.before { " more" } else { "" };
        say!("{file}: {}{more} lines counted", self.counted);
        if let Some(example) = &self.example {
            eprintln!("meterd: {file}: {} lines not understood, such as {example}", self.not_understood);
        }
        if let Some(refusal) = &self.refusal {
            eprintln!("meterd: {file}: {} lines refused by Redis: {refusal}", self.refused);
        }
        if self.has_rest {
            eprintln!("meterd: {file}: the last line has no end yet, and was left for the next run");
        }
        self.example.is_none() && self.refusal.is_none()
    }
}

struct Import {
    meter: Vec<u8>,
    names: Names,
    target: Target,
    patience: Patience,
    link: Option<Link>,
    format: Option<Format>,
    path: Vec<String>,
}

/// Lines that are counted together.
#[derive(Default)]
struct Chunk {
    /// How many hits, by hour and path.
    hits: BTreeMap<(i64, Vec<Vec<u8>>), u64>,
    lines: usize,
    /// Where the file goes on.
    end: u64,
}

impl Import {
    /// The connection, which is nobody else's: a `WATCH` stands on it.
    async fn link(&mut self) -> Result<Link, String> {
        if self.link.is_none() {
            let link = self.patience.redis(Link::open(&self.target)).await;
            self.link = Some(link.map_err(|error| format!("Redis can't be reached: {error}"))?);
        }
        self.link.clone().ok_or_else(|| "no connection".to_owned())
    }

    /// Whether the meter can be counted at all: lines that it refuses would be passed over for good.
    async fn try_meter(&mut self) -> Result<(), String> {
        let mut link = self.link().await?;
        // It checks the key that a hit of a new day would add to.
        let command = Days::new(&self.meter).to_cmd();
        let tried: redis::RedisResult<Value> = self.patience.redis(command.query_async(&mut link)).await;
        let refused = |error| format!("the meter {} can't be counted: {error}", shown(&self.meter));
        tried.map(drop).map_err(refused)
    }

    async fn file(&mut self, file: &OsString) -> Result<Outcome, String> {
        let is_input = file == "-";
        let (mut reader, len): (Box<dyn BufRead + Send>, u64) = if is_input {
            (Box::new(BufReader::new(std::io::stdin())), 0)
        } else {
            let file = File::open(file).map_err(|error| error.to_string())?;
            let len = file.metadata().map_err(|error| error.to_string())?.len();
            (Box::new(BufReader::with_capacity(1 << 20, file)), len)
        };
        let mut first = Vec::new();
        reader.read_until(b'\n', &mut first).map_err(|error| error.to_string())?;
        if first.is_empty() {
            return Ok(Outcome::default());
        }
        if first.starts_with(GZIP) {
            return Err("it is compressed: zcat it into  meterd import -".to_owned());
        }
        let format = self.format.unwrap_or_else(|| Format::of(&first));
        let fields = self.path.iter().map(|name| format.field(name)).collect::<Result<Vec<_>, _>>()?;
        let (key, start) = if is_input {
            (self.progress_key(&random_name()?), 0)
        } else {
            if !first.ends_with(b"\n") {
                return Ok(Outcome { has_rest: true, ..Outcome::default() });
            }
            let key = self.progress_key(&identity(file, &first)?);
            let start = self.counted_until(&key).await?;
            if start > len {
                return Err(format!(
                    "it has {len} bytes, and {start} were counted of it: it was cut. Count its lines by another name, \
                     cp FILE NEW, or by  meterd import -"
                ));
            }
            (key, start)
        };
        let mut lines = Lines { reader, at: start, first: None, is_input };
        if is_input {
            lines.first = Some(first);
        } else {
            let mut again = File::open(file).map_err(|error| error.to_string())?;
            again.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
            lines.reader = Box::new(BufReader::with_capacity(1 << 20, again));
        }
        self.count(&mut lines, &key, format, &fields, len).await
    }

    async fn count(
        &mut self,
        lines: &mut Lines,
        key: &[u8],
        format: Format,
        fields: &[Field],
        len: u64,
    ) -> Result<Outcome, String> {
        let mut outcome = Outcome { before: lines.at > 0, ..Outcome::default() };
        let bar = if std::io::stderr().is_terminal() && len > 0 {
            bar(len, "{wide_bar:.cyan} {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left")
        } else {
            ProgressBar::hidden()
        };
        let expiry = if lines.is_input { KEPT_SECONDS_OF_INPUT } else { KEPT_SECONDS };
        loop {
            let start = lines.at;
            let (chunk, is_last) = lines.chunk(format, fields, &mut outcome)?;
            if chunk.end > start && !self.apply(key, start, &chunk, expiry, &mut outcome).await? {
                return Err("another import of this file is under way: wait for its end".to_owned());
            }
            bar.set_position(chunk.end);
            if is_last {
                bar.finish_and_clear();
                return Ok(outcome);
            }
        }
    }

    fn progress_key(&self, identity: &str) -> Vec<u8> {
        self.names.import(identity)
    }

    /// The byte up to which a file has been counted.
    async fn counted_until(&mut self, key: &[u8]) -> Result<u64, String> {
        let mut tries = 0;
        loop {
            let mut link = self.link().await?;
            let mut get = redis::cmd("GET");
            get.arg(key);
            let found: Result<Option<u64>, _> = self.patience.redis(get.query_async(&mut link)).await;
            match found {
                Ok(found) => return Ok(found.unwrap_or(0)),
                Err(error) => self.again(&error, &mut tries).await?,
            }
        }
    }

    /// Counts a chunk and stores its end, in one transaction, if the file was counted up to `start`. Whether it was.
    async fn apply(
        &mut self,
        key: &[u8],
        start: u64,
        chunk: &Chunk,
        expiry: u64,
        outcome: &mut Outcome,
    ) -> Result<bool, String> {
        let mut tries = 0;
        loop {
            match self.try_apply(key, start, chunk, expiry).await {
                Ok(Applied::Now(refusals)) => {
                    outcome.counted += chunk.lines as u64;
                    for (lines, why) in refusals {
                        outcome.counted -= lines;
                        outcome.refused += lines;
                        outcome.refusal.get_or_insert(why);
                    }
                    return Ok(true);
                }
                // The reply of an earlier try was lost.
                Ok(Applied::Before) if tries > 0 => {
                    outcome.counted += chunk.lines as u64;
                    return Ok(true);
                }
                Ok(Applied::Before | Applied::Elsewhere) => return Ok(false),
                Ok(Applied::Meanwhile) => tries += 1,
                Err(error) => self.again(&error, &mut tries).await?,
            }
        }
    }

    async fn try_apply(&mut self, key: &[u8], start: u64, chunk: &Chunk, expiry: u64) -> redis::RedisResult<Applied> {
        let link = self.link().await;
        let mut link = link.map_err(|text| redis::RedisError::from((redis::ErrorKind::Io, "Redis", text)))?;
        let mut watch = redis::cmd("WATCH");
        watch.arg(key);
        self.patience.redis(watch.query_async::<()>(&mut link)).await?;
        let mut get = redis::cmd("GET");
        get.arg(key);
        let found: Option<u64> = self.patience.redis(get.query_async(&mut link)).await?;
        if found.unwrap_or(0) != start {
            self.patience.redis(redis::cmd("UNWATCH").query_async::<()>(&mut link)).await?;
            return Ok(if found == Some(chunk.end) { Applied::Before } else { Applied::Elsewhere });
        }
        let mut transaction = Pipeline::new();
        // An error of one hit is that of its lines alone.
        transaction.atomic().ignore_errors();
        for ((hour, path), n) in &chunk.hits {
            let at = u64::try_from(*hour).unwrap_or(0);
            let mut hit = Hit::new(&self.meter).at(at).by(i64::try_from(*n).unwrap_or(i64::MAX));
            if !path.is_empty() {
                hit = hit.path(path);
            }
            transaction.add_command(hit.to_cmd());
        }
        transaction.cmd("SET").arg(key).arg(chunk.end).arg("EX").arg(expiry);
        let replies: Value = self.patience.redis(transaction.query_async(&mut link)).await?;
        let Value::Array(replies) = replies else { return Ok(Applied::Meanwhile) };
        let refusals = chunk.hits.values().zip(replies).filter_map(|(n, reply)| match reply {
            Value::ServerError(error) => Some((*n, error.details().unwrap_or(error.code()).to_owned())),
            _ => None,
        });
        Ok(Applied::Now(refusals.collect()))
    }

    /// Waits a little after an error that passes.
    async fn again(&mut self, error: &redis::RedisError, tries: &mut u32) -> Result<(), String> {
        self.link = None;
        *tries += 1;
        let is_server = matches!(error.kind(), redis::ErrorKind::Server(redis::ServerErrorKind::ResponseError));
        if *tries == TRIES || is_server {
            return Err(format!("{error}; run it again to go on where it ended"));
        }
        tokio::time::sleep(Duration::from_millis(50 * u64::from(*tries))).await;
        Ok(())
    }
}

enum Applied {
    /// It was counted, but for so many lines, and why.
    Now(Vec<(u64, String)>),
    /// It had been counted.
    Before,
    /// The file was counted up to another place.
    Elsewhere,
    /// Somebody else wrote meanwhile.
    Meanwhile,
}

struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// The byte that is read next.
    at: u64,
    /// A line that was read before.
    first: Option<Vec<u8>>,
    is_input: bool,
}

impl Lines {
    /// The next lines, and whether they are the last ones.
    fn chunk(&mut self, format: Format, fields: &[Field], outcome: &mut Outcome) -> Result<(Chunk, bool), String> {
        let mut chunk = Chunk { end: self.at, ..Chunk::default() };
        let mut line = Vec::new();
        for _ in 0..LINES {
            line.clear();
            if let Some(first) = self.first.take() {
                line = first;
            } else if self.reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())? == 0 {
                return Ok((chunk, true));
            }
            if !line.ends_with(b"\n") && !self.is_input {
                outcome.has_rest = true;
                return Ok((chunk, true));
            }
            self.at += line.len() as u64;
            chunk.end = self.at;
            let text = line.trim_ascii_end();
            match format.read(text, fields).filter(|line| line.at >= OLDEST) {
                Some(line) => {
                    let hour = (line.at / MILLIS_PER_HOUR * MILLIS_PER_HOUR).max(OLDEST);
                    *chunk.hits.entry((hour, line.path)).or_default() += 1;
                    chunk.lines += 1;
                }
                None if text.is_empty() => {}
                None => {
                    outcome.not_understood += 1;
                    outcome.example.get_or_insert_with(|| shown(text));
                }
            }
        }
        Ok((chunk, false))
    }
}

/// What a file is known by: its number on its disk, and its first line. A log that is rotated by renaming keeps both.
fn identity(file: &OsString, first: &[u8]) -> Result<String, String> {
    let data = std::fs::metadata(file).map_err(|error| error.to_string())?;
    let mut hash = Sha256::new();
    hash.update(data.ino().to_be_bytes());
    hash.update(first);
    Ok(hex(&hash.finalize()))
}

fn random_name() -> Result<String, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
