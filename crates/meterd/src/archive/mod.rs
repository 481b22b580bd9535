//! The archive: finished days of meters in SQL.
//!
//! A meter's days are closed into a batch by `METER.SEAL`; all its rows and its id are written in one transaction, and
//! then it is acknowledged by `METER.ACK`. A batch that comes again is known by its id. So whatever is killed, and when,
//! each hit is counted once, and any number of archivers may run.
//!
//! `database.rs` is what is asked of a database; `sqlite.rs`, `postgres.rs` and `mysql.rs` are those that there are.

mod archiver;
mod database;
mod discover;
mod error;
mod glob;
mod mysql;
mod names;
mod pool;
mod postgres;
mod read;
mod row;
mod schema;
mod sealed;
mod sketch;
mod sqlite;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

pub use archiver::{Archiver, Done, Error, Options, Progress};
pub(crate) use database::Session;
pub(crate) use error::{Kind, SqlError};
pub(crate) use names::{Names, compact, is_batch_id, parse_compact};
pub use pool::Pool;
pub use read::BatchInfo;
pub(crate) use read::{Last, Snapshot, last};
pub(crate) use row::{Meter, shown};
pub(crate) use sealed::whole;
pub(crate) use sketch::Sketch;

use crate::config::{Config, Table as TableSettings};
use table::Table;

/// Where the archive is, and the tables that it has beside its own.
#[derive(Clone, Debug)]
pub struct Archive {
    target: Target,
    tables: Vec<Table>,
    deadline: Duration,
}

#[derive(Clone, Debug)]
enum Target {
    Sqlite(PathBuf),
    Postgres(String),
    MySql(String),
}

impl Archive {
    /// The archive of a configuration.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and what would be right.
    pub fn of(config: &Config) -> Result<Self, String> {
        Self::new(&config.archive.url, &config.archive.tables, config.deadline)
    }

    /// The archive at a `sqlite:FILE`, `postgres://` or `mysql://` address. Nothing is opened yet. Each call may take as
    /// long as `deadline`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and what would be right.
    pub fn new(url: &str, tables: &[TableSettings], deadline: Duration) -> Result<Self, String> {
        let target = if let Some(file) = url.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            if file.is_empty() || file.contains(":memory:") {
                return Err("the archive needs a file: write sqlite:meterd.db".to_owned());
            }
            Target::Sqlite(file.into())
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            postgres::check(url)?;
            Target::Postgres(url.to_owned())
        } else if url.starts_with("mysql://") || url.starts_with("mariadb://") {
            mysql::check(url)?;
            Target::MySql(url.to_owned())
        } else {
            return Err("the archive is an address that begins with sqlite:, postgres:// or mysql://".to_owned());
        };
        let tables = tables.iter().map(Table::parse).collect::<Result<Vec<_>, _>>()?;
        if let Some(twice) = (1..tables.len()).find(|&n| tables[..n].iter().any(|t| t.name() == tables[n].name())) {
            return Err(format!(
                "archive.table {:?} is there twice: give one of them another name",
                tables[twice].name()
            ));
        }
        Ok(Self { target, tables, deadline })
    }

    /// A connection to tables that are there and up to date.
    pub(crate) async fn connect(&self) -> Result<Session, SqlError> {
        let connecting: database::Pending<'_, _> = match &self.target {
            Target::Sqlite(file) => Box::pin(sqlite::connect(file, self.deadline)),
            Target::Postgres(url) => Box::pin(postgres::connect(url, self.deadline)),
            Target::MySql(url) => Box::pin(mysql::connect(url, self.deadline)),
        };
        let connection = database::in_time(self.deadline, connecting).await?;
        let mut session = Session::new(connection, self.deadline);
        schema::prepare(&mut session, &self.tables).await?;
        Ok(session)
    }

    /// What database it is, for people: no password.
    pub fn shown(&self) -> String {
        match &self.target {
            Target::Sqlite(file) => format!("SQLite {}", file.display()),
            Target::Postgres(url) => format!("PostgreSQL {}", host_of(url)),
            Target::MySql(url) => format!("MySQL {}", host_of(url)),
        }
    }
}

/// Host, port and database of an address, without user and password.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or(rest);
    rest.rsplit_once('@').map_or(rest, |(_, host)| host)
}
