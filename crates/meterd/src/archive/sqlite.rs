//! SQLite: one file, in WAL mode, so that readers never wait for a writer. Several programs may use it at once.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, Executor, Row, Sqlite};

use super::database::{
    Arg, Cell, Connection, Content, Dialect, Pending, Read, Shape, Transaction, Update, Values, places,
};
use super::error::{Kind, SqlError};

type Query<'q> = sqlx::query::Query<'q, Sqlite, <Sqlite as sqlx::Database>::Arguments<'q>>;

/// Kilobytes of pages that a connection keeps in memory at most, negative.
const CACHE: &str = "-16000";

struct Lite(SqliteConnection);

/// Opens the file, and makes it if it is missing.
pub(crate) async fn connect(file: &Path, deadline: Duration) -> Result<Box<dyn Connection>, SqlError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // The server is about to forget what was committed: a power cut must not undo it.
        .synchronous(SqliteSynchronous::Full)
        // A little less than the deadline, to return this error and not that.
        .busy_timeout(deadline * 4 / 5)
        .pragma("cache_size", CACHE)
        .disable_statement_logging();
    let connection = SqliteConnection::connect_with(&options).await.map_err(|error| error_of(&error))?;
    Ok(Box::new(Lite(connection)))
}

fn error_of(error: &sqlx::Error) -> SqlError {
    SqlError::from_sqlx(error, |error| {
        // Extended codes: the primary one is the lowest byte.
        let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
        match (code & 0xff, code) {
            // SQLITE_CONSTRAINT_UNIQUE, _PRIMARYKEY, _ROWID
            (_, 2067 | 1555 | 2579) => Kind::Duplicate,
            // SQLITE_CONSTRAINT_CHECK: a sum that is no integer any more
            (_, 275) => Kind::Overflow,
            // SQLITE_BUSY, SQLITE_LOCKED
            (5 | 6, _) => Kind::Busy,
            _ => Kind::Other,
        }
    })
}

fn bind<'q>(query: Query<'q>, arg: Arg<'q>) -> Query<'q> {
    match arg {
        Arg::Bytes(bytes) => query.bind(bytes),
        Arg::Text(text) => query.bind(text),
        Arg::Int(n) => query.bind(n),
    }
}

/// A name is text where it is any, so that it equals what people write in a query; other bytes stay bytes, which equal no
/// text.
fn bind_as<'q>(query: Query<'q>, content: Content, arg: Arg<'q>) -> Query<'q> {
    match (content, arg) {
        (Content::Name, Arg::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => query.bind(text),
            _ => query.bind(bytes),
        },
        _ => bind(query, arg),
    }
}

fn cell(row: &SqliteRow, place: usize, read: Read) -> Result<Cell, sqlx::Error> {
    Ok(match read {
        Read::Bytes => row.try_get::<Option<Vec<u8>>, _>(place)?.map_or(Cell::Null, Cell::Bytes),
        Read::Text => row.try_get::<Option<String>, _>(place)?.map_or(Cell::Null, Cell::Text),
        Read::Int => row.try_get::<Option<i64>, _>(place)?.map_or(Cell::Null, Cell::Int),
    })
}

impl Connection for Lite {
    fn dialect(&self) -> &'static dyn Dialect {
        &SqliteDialect
    }

    fn execute<'a>(&'a mut self, sql: &'a str, args: &'a [Arg<'a>]) -> Pending<'a, u64> {
        Box::pin(async move {
            let query = args.iter().fold(sqlx::query(sql), |query, arg| bind(query, *arg));
            let done = query.execute(&mut self.0).await.map_err(|error| error_of(&error))?;
            Ok(done.rows_affected())
        })
    }

    fn query<'a>(
        &'a mut self,
        sql: &'a str,
        args: &'a [Arg<'a>],
        reads: &'a [Read],
        each: &'a mut (dyn FnMut(Vec<Cell>) + Send),
    ) -> Pending<'a, ()> {
        Box::pin(async move {
            let query = args.iter().fold(sqlx::query(sql), |query, arg| bind(query, *arg));
            let rows = self.0.fetch_all(query).await.map_err(|error| error_of(&error))?;
            for row in rows {
                let cells = reads.iter().enumerate().map(|(place, read)| cell(&row, place, *read));
                each(cells.collect::<Result<_, _>>().map_err(|error| error_of(&error))?);
            }
            Ok(())
        })
    }

    fn upsert<'a>(&'a mut self, shape: &'a Shape, columns: &'a [Values<'a>]) -> Pending<'a, ()> {
        Box::pin(async move {
            let rows = columns[0].len();
            let sql = upsert_sql(shape, rows);
            let mut query = sqlx::query(&sql).persistent(rows == super::database::ROWS);
            for row in 0..rows {
                for (column, (_, content)) in columns.iter().zip(&shape.columns) {
                    query = bind_as(query, *content, column.at(row));
                }
            }
            query.execute(&mut self.0).await.map_err(|error| error_of(&error))?;
            Ok(())
        })
    }
}

fn upsert_sql(shape: &Shape, rows: usize) -> String {
    let quote = |name: &str| SqliteDialect.quoted(name);
    let table = quote(&shape.table);
    let columns: Vec<String> = shape.columns.iter().map(|(name, _)| quote(name)).collect();
    let key: Vec<String> = shape.key.iter().map(|name| quote(name)).collect();
    let sets: Vec<String> = shape
        .changing()
        .map(|name| {
            let name = quote(name);
            match shape.update {
                Update::AddLast => format!("{name} = {table}.{name} + excluded.{name}"),
                Update::ReplaceLastTwo => format!("{name} = excluded.{name}"),
            }
        })
        .collect();
    format!(
        "INSERT INTO {table} ({}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {}",
        columns.join(","),
        places(columns.len(), rows),
        key.join(","),
        sets.join(",")
    )
}

struct SqliteDialect;

impl Dialect for SqliteDialect {
    fn quoted(&self, name: &str) -> String {
        format!("\"{name}\"")
    }

    fn column_type(&self, content: Content) -> &'static str {
        match content {
            Content::Bytes | Content::Hash => "BLOB",
            // No type, no conversion: `1337` stays the text that it is.
            Content::Name => "",
            Content::Int => "INTEGER",
            Content::Day => "DATE",
        }
    }

    fn day_in(&self) -> &'static str {
        "?"
    }

    fn day_out(&self, column: &str) -> String {
        column.to_owned()
    }

    fn sum_out(&self, sum: &str) -> String {
        sum.to_owned()
    }

    fn table_end(&self) -> &'static str {
        " WITHOUT ROWID"
    }

    fn count_check(&self, column: &str) -> String {
        // A sum that does not fit becomes a floating-point number.
        format!(" CHECK (typeof({column}) = 'integer')")
    }

    fn begin(&self, transaction: Transaction) -> &'static [&'static str] {
        match transaction {
            Transaction::Write => &["BEGIN IMMEDIATE"],
            Transaction::Snapshot => &["BEGIN"],
        }
    }

    fn migrations(&self) -> &'static [&'static [&'static str]] {
        MIGRATIONS
    }

    fn has_transactional_tables(&self) -> bool {
        true
    }

    fn migration_lock(&self) -> Option<(&'static str, Option<&'static str>)> {
        None
    }
}

pub(crate) const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE TABLE meter_batch (
            id TEXT NOT NULL PRIMARY KEY, meter BLOB NOT NULL, seq INTEGER NOT NULL,
            first_day DATE, last_day DATE, archived_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
            meter_hash BLOB NOT NULL, UNIQUE (meter_hash, seq)
        ) WITHOUT ROWID",
        "CREATE TABLE meter_hour (
            meter BLOB NOT NULL, day DATE NOT NULL, hour INTEGER NOT NULL,
            count INTEGER NOT NULL CHECK (typeof(count) = 'integer'),
            meter_hash BLOB NOT NULL, PRIMARY KEY (meter_hash, day, hour)
        ) WITHOUT ROWID",
        "CREATE TABLE meter_path (
            meter BLOB NOT NULL, day DATE NOT NULL, depth INTEGER NOT NULL, member1 BLOB NOT NULL,
            member2 BLOB, member3 BLOB, member4 BLOB, member5 BLOB, member6 BLOB, member7 BLOB, member8 BLOB,
            count INTEGER NOT NULL CHECK (typeof(count) = 'integer'),
            parent_hash BLOB NOT NULL, member_hash BLOB NOT NULL, PRIMARY KEY (day, parent_hash, member_hash)
        ) WITHOUT ROWID",
        "CREATE TABLE meter_unique (
            meter BLOB NOT NULL, day DATE NOT NULL, estimate INTEGER NOT NULL, sketch BLOB NOT NULL,
            meter_hash BLOB NOT NULL, PRIMARY KEY (meter_hash, day)
        ) WITHOUT ROWID",
    ],
    // What the tables of the configuration were made for.
    &["CREATE TABLE meter_table (name TEXT NOT NULL PRIMARY KEY, made_for TEXT NOT NULL) WITHOUT ROWID"],
];
