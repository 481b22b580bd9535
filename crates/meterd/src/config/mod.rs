//! Configuration: flags, then the environment, then the file, then the defaults.

mod check;
mod error;
mod file;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use check::check;
pub use error::Error;
pub use file::{File, RedisTls, Table, Tls};

use crate::cli::Common;
use crate::connection::Target;
use crate::token::Token;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "meterd.toml";

/// Between two rounds of an archive that has none.
pub const NEVER: Duration = Duration::MAX;
/// The longest deadline.
pub const MOST_DEADLINE: Duration = Duration::from_secs(3600);
/// The longest time between two rounds of the archive.
const MOST_EVERY: Duration = Duration::from_secs(366 * 86400);
/// The most requests in flight.
const MOST_IN_FLIGHT: usize = 1_000_000;

/// What meterd runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub file: Option<PathBuf>,
    /// The server, cluster or Sentinel.
    pub redis: Target,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// How long a call to Redis or SQL may take.
    pub deadline: Duration,
    /// The most requests that are worked on at once.
    pub in_flight: usize,
    /// The most bytes of a request's body.
    pub body_limit: usize,
    /// The most bytes of a key, a member or an id.
    pub name_limit: usize,
    /// The SQL archive.
    pub archive: Archive,
    /// The rules of limits.
    pub limits: Option<PathBuf>,
    /// Who may do what; with none, only loopback is served.
    pub tokens: Vec<Token>,
    /// TLS towards clients.
    pub tls: Option<Tls>,
}

/// Where finished days go.
#[derive(Clone, Debug)]
pub struct Archive {
    /// `sqlite:FILE`, `postgres://…` or `mysql://…`
    pub url: String,
    /// How often `meterd serve` archives.
    pub every: Duration,
    /// Tables of the user's own.
    pub tables: Vec<Table>,
    /// How many replicas must have a batch before it is written.
    pub replicas: u32,
    /// Whether a batch must be on the server's disk before it is written.
    pub fsync: bool,
    /// How long to wait for replicas and disk.
    pub safe_within: Duration,
}

/// What `meterd serve` takes beside [`Common`].
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeFlags {
    /// Where to listen
    #[arg(long, env = "METERD_LISTEN", value_name = "ADDR:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,
    /// How often to archive: 1h, 10m, or never
    #[arg(long, env = "METERD_ARCHIVE_EVERY", value_name = "TIME", value_parser = every)]
    pub archive_every: Option<Duration>,
    /// The rules of limits, a YAML file
    #[arg(long, env = "METERD_LIMITS", value_name = "FILE")]
    pub limits: Option<PathBuf>,
}

/// An address of this machine.
fn address(text: &str) -> Result<SocketAddr, String> {
    let no_address = "is no address to listen on: write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
    text.parse().map_err(|_| format!("\"{text}\" {no_address}"))
}

/// A time between two rounds, or `never`.
fn every(text: &str) -> Result<Duration, String> {
    match text {
        "never" => Ok(NEVER),
        text => {
            humantime::parse_duration(text).map_err(|_| format!("\"{text}\" is no duration: write 10m, 1h or never"))
        }
    }
}

impl Config {
    /// With the flags that every command takes.
    ///
    /// # Errors
    /// What is wrong, with file and line where it stands in a file.
    pub fn load(common: &Common) -> Result<Self, Error> {
        Self::load_with(common, &ServeFlags::default())
    }

    /// With the flags of `meterd serve`.
    ///
    /// # Errors
    /// The same.
    pub fn load_with(common: &Common, flags: &ServeFlags) -> Result<Self, Error> {
        let path = match &common.config {
            Some(path) => Some(path.clone()),
            None => Path::new(DEFAULT_FILE).exists().then(|| DEFAULT_FILE.into()),
        };
        let file = path.as_deref().map(File::read).transpose()?.unwrap_or_default();
        Self::resolve(path, file, common, flags)
    }

    fn resolve(path: Option<PathBuf>, file: File, common: &Common, flags: &ServeFlags) -> Result<Self, Error> {
        let redis = match &common.redis {
            Some(url) => Target::parse(url).map_err(|error| Error::new(format!("--redis: {error}")))?,
            None => file.redis.unwrap_or_default(),
        };
        let archive = Archive {
            url: common.archive.clone().or(file.archive.url).unwrap_or_else(|| "sqlite:meterd.db".to_owned()),
            every: flags.archive_every.or(file.archive.every).unwrap_or(Duration::from_secs(3600)),
            tables: file.archive.table,
            replicas: file.archive.replicas.unwrap_or(0),
            fsync: file.archive.fsync.unwrap_or(false),
            safe_within: file.archive.safe_within.unwrap_or(Duration::from_secs(10)),
        };
        let config = Self {
            file: path,
            redis: redis.with_tls(file.redis_tls)?,
            listen: flags.listen.or(file.listen).unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 8080).into()),
            deadline: file.deadline.unwrap_or(Duration::from_secs(1)),
            in_flight: file.in_flight.unwrap_or(4096),
            body_limit: file.body_limit.unwrap_or(1 << 20),
            name_limit: file.name_limit.unwrap_or(64 << 10),
            archive,
            limits: flags.limits.clone().or(file.limits),
            tokens: file.token,
            tls: file.tls,
        };
        config.validate()?;
        crate::archive::Archive::of(&config).map_err(Error::new)?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Error> {
        self.may_serve(self.listen, self.tls.as_ref())?;
        if self.archive.every.is_zero() || self.deadline.is_zero() || self.in_flight == 0 {
            return Err(Error::new("deadline, in_flight and archive.every must be more than zero"));
        }
        let every = Some(self.archive.every).filter(|&every| every != NEVER).unwrap_or_default();
        for (name, time, most) in [
            ("deadline", self.deadline, MOST_DEADLINE),
            ("archive.safe_within", self.archive.safe_within, MOST_DEADLINE),
            ("archive.every", every, MOST_EVERY),
        ] {
            if time > most {
                return Err(Error::new(format!("{name} is at most {}", humantime::format_duration(most))));
            }
        }
        if self.in_flight > MOST_IN_FLIGHT {
            return Err(Error::new(format!("in_flight is at most {MOST_IN_FLIGHT}")));
        }
        Ok(())
    }

    /// Whether it is safe to serve these tokens at `listen`, with `tls`: other machines need a token or a certificate.
    ///
    /// # Errors
    /// What is missing.
    pub fn may_serve(&self, listen: SocketAddr, tls: Option<&Tls>) -> Result<(), Error> {
        let has_client_certificates = tls.is_some_and(|tls| tls.client_ca.is_some());
        if listen.ip().is_loopback() || !self.tokens.is_empty() || has_client_certificates {
            return Ok(());
        }
        Err(Error::new(format!(
            "listen = \"{listen}\" lets other machines in, but there is no token: add what meterd token new prints, \
             or listen on 127.0.0.1"
        )))
    }
}
