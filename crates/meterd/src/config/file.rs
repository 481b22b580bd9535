//! The file, as it is written.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::Error;
use crate::connection::Target;
use crate::token::Token;

/// What stands in `meterd.toml`; what is absent has its default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// The server's URL.
    pub redis: Option<Target>,
    /// Where HTTP is served.
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
    /// How long a call to Redis or SQL may take.
    #[serde(deserialize_with = "duration")]
    pub deadline: Option<Duration>,
    /// The most requests that are worked on at once.
    pub in_flight: Option<usize>,
    /// The most bytes of a request's body.
    pub body_limit: Option<usize>,
    /// The most bytes of a key, a member or an id.
    pub name_limit: Option<usize>,
    /// The rules of limits.
    pub limits: Option<PathBuf>,
    /// `[archive]`
    pub archive: Archive,
    /// `[[token]]`
    pub token: Vec<Token>,
    /// `[tls]`
    pub tls: Option<Tls>,
    /// `[redis_tls]`
    pub redis_tls: Option<RedisTls>,
}

/// `[archive]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    /// `sqlite:FILE`, `postgres://…` or `mysql://…`
    pub url: Option<String>,
    /// How often `meterd serve` archives.
    #[serde(deserialize_with = "every")]
    pub every: Option<Duration>,
    /// How many replicas must have a batch before it is written; by default none.
    pub replicas: Option<u32>,
    /// Whether a batch must be on the server's disk before it is written (Redis 7.2, Valkey, or later).
    pub fsync: Option<bool>,
    /// How long to wait for replicas and disk; by default 10 s.
    #[serde(deserialize_with = "duration")]
    pub safe_within: Option<Duration>,
    /// `[[archive.table]]`
    pub table: Vec<Table>,
}

/// A table of the user's own, filled from the breakdown of a meter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The table.
    pub name: String,
    /// The meter.
    pub meter: String,
    /// Its columns, and what goes into each: `day`, `hour`, `meter`, `member1`, `member1 before '#'`,
    /// `member1 after '#'`, `count`.
    pub columns: BTreeMap<String, String>,
}

/// TLS towards clients: PEM files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate, and those between it and the authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Clients must show a certificate of this authority.
    pub client_ca: Option<PathBuf>,
}

/// TLS towards Redis: PEM files.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisTls {
    /// The authority of the server's certificate; by default those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate to show.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong in it, with its line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|error| Error::in_file(path, format!("not readable: {error}")))?;
        toml::from_str(&text).map_err(|error| match error.span() {
            Some(span) => Error::at(path, &text, span.start, error.message()).in_plain_words(),
            None => Error::in_file(path, error.message()),
        })
    }
}

fn every<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    super::every(&text).map(Some).map_err(serde::de::Error::custom)
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    super::address(&text).map(Some).map_err(serde::de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    let parsed = humantime::parse_duration(&text);
    parsed.map(Some).map_err(|_| serde::de::Error::custom(format!("\"{text}\" is no duration: write 250ms, 10s or 1h")))
}
