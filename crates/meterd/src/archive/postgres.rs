//! PostgreSQL, from version 12. Rows come as arrays, one a column, which is faster than a value at a time.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions, Connection as _, Executor, Postgres, Row};

use super::database::{Arg, Cell, Connection, Content, Dialect, Pending, Read, Shape, Transaction, Update, Values};
use super::error::{Kind, SqlError};

type Query<'q> = sqlx::query::Query<'q, Postgres, <Postgres as sqlx::Database>::Arguments<'q>>;

struct Pg(PgConnection);

/// Whether an address can be read.
///
/// # Errors
/// A sentence that says what would be right; it never shows the password.
pub(crate) fn check(url: &str) -> Result<(), String> {
    url.parse::<PgConnectOptions>().map(drop).map_err(|_| {
        "the archive's address can't be read: write postgres://user:password@host:5432/database".to_owned()
    })
}

/// Connects to a `postgres://` address.
pub(crate) async fn connect(url: &str, deadline: Duration) -> Result<Box<dyn Connection>, SqlError> {
    let options: PgConnectOptions = url.parse().map_err(|error| error_of(&error))?;
    // A little less than the deadline, so that the server ends what nobody waits for any more.
    let timeout = format!("{}ms", (deadline * 4 / 5).as_millis());
    let options = options
        .application_name("meterd")
        .options([
            ("statement_timeout", timeout.as_str()),
            ("lock_timeout", timeout.as_str()),
            ("datestyle", "ISO"),
            ("client_min_messages", "error"),
        ])
        .disable_statement_logging();
    let connection = PgConnection::connect_with(&options).await.map_err(|error| error_of(&error))?;
    Ok(Box::new(Pg(connection)))
}

fn error_of(error: &sqlx::Error) -> SqlError {
    SqlError::from_sqlx(error, |error| match error.code().as_deref().unwrap_or_default() {
        "23505" => Kind::Duplicate,
        "22003" => Kind::Overflow,
        // serialization, deadlock, a lock that was not had in time
        "40001" | "40P01" | "55P03" => Kind::Busy,
        // shutting down, crashed, starting up, too many connections, statement_timeout
        "57P01" | "57P02" | "57P03" | "53300" | "57014" => Kind::Lost,
        code if code.starts_with("08") => Kind::Lost,
        _ => Kind::Other,
    })
}

/// With `$1`, `$2`, … in the places of `?`.
fn numbered(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() + 16);
    let mut parts = sql.split('?');
    text.push_str(parts.next().unwrap_or_default());
    for (place, part) in parts.enumerate() {
        text.push_str(&format!("${}", place + 1));
        text.push_str(part);
    }
    text
}

fn bind<'q>(query: Query<'q>, arg: Arg<'q>) -> Query<'q> {
    match arg {
        Arg::Bytes(bytes) => query.bind(bytes),
        Arg::Text(text) => query.bind(text),
        Arg::Int(n) => query.bind(n),
    }
}

fn cell(row: &PgRow, place: usize, read: Read) -> Result<Cell, sqlx::Error> {
    Ok(match read {
        Read::Bytes => row.try_get::<Option<Vec<u8>>, _>(place)?.map_or(Cell::Null, Cell::Bytes),
        Read::Text => row.try_get::<Option<String>, _>(place)?.map_or(Cell::Null, Cell::Text),
        Read::Int => row.try_get::<Option<i64>, _>(place)?.map_or(Cell::Null, Cell::Int),
    })
}

impl Connection for Pg {
    fn dialect(&self) -> &'static dyn Dialect {
        &PostgresDialect
    }

    fn execute<'a>(&'a mut self, sql: &'a str, args: &'a [Arg<'a>]) -> Pending<'a, u64> {
        Box::pin(async move {
            let sql = numbered(sql);
            let done = if args.is_empty() {
                self.0.execute(sql.as_str()).await
            } else {
                args.iter().fold(sqlx::query(&sql), |query, arg| bind(query, *arg)).execute(&mut self.0).await
            };
            Ok(done.map_err(|error| error_of(&error))?.rows_affected())
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
            let sql = numbered(sql);
            let query = args.iter().fold(sqlx::query(&sql), |query, arg| bind(query, *arg));
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
            let sql = upsert_sql(shape, columns);
            let mut query = sqlx::query(&sql);
            for column in columns {
                query = match column {
                    Values::Bytes(values) => query.bind(values),
                    Values::Ints(values) => query.bind(values),
                    Values::Days(values) => query.bind(values),
                    Values::Same(value, _) => bind(query, *value),
                };
            }
            // An error ends a transaction here; the row that is to blame could not be looked for.
            self.0.execute("SAVEPOINT rows").await.map_err(|error| error_of(&error))?;
            let done = query.execute(&mut self.0).await.map_err(|error| error_of(&error));
            let end = if done.is_ok() { "RELEASE rows" } else { "ROLLBACK TO rows" };
            let ended = self.0.execute(end).await.map_err(|error| error_of(&error));
            done.and(ended.map(drop))
        })
    }
}

/// Columns that are the same in all rows are no arrays: that is a third of the work.
fn upsert_sql(shape: &Shape, values: &[Values<'_>]) -> String {
    let quote = |name: &str| PostgresDialect.quoted(name);
    let table = quote(&shape.table);
    let names: Vec<String> = shape.columns.iter().map(|(name, _)| quote(name)).collect();
    let (mut arrays, mut aliases, mut selected) = (Vec::new(), Vec::new(), Vec::new());
    for ((place, (_, content)), values) in (1..).zip(&shape.columns).zip(values) {
        let (array, cast) = match content {
            Content::Bytes | Content::Name | Content::Hash => ("bytea", ""),
            Content::Int => ("bigint", ""),
            Content::Day => ("text", "::date"),
        };
        if matches!(values, Values::Same(..)) {
            selected.push(format!("${place}::{array}{cast}"));
        } else {
            arrays.push(format!("${place}::{array}[]"));
            aliases.push(format!("c{place}"));
            selected.push(format!("c{place}{cast}"));
        }
    }
    let from = if arrays.is_empty() {
        String::new()
    } else {
        format!("FROM UNNEST({}) AS rows ({})", arrays.join(","), aliases.join(","))
    };
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
        "INSERT INTO {table} ({}) SELECT {} {from} ON CONFLICT ({}) DO UPDATE SET {}",
        names.join(","),
        selected.join(","),
        key.join(","),
        sets.join(",")
    )
}

struct PostgresDialect;

impl Dialect for PostgresDialect {
    fn quoted(&self, name: &str) -> String {
        format!("\"{name}\"")
    }

    fn column_type(&self, content: Content) -> &'static str {
        match content {
            Content::Bytes | Content::Name | Content::Hash => "BYTEA",
            Content::Int => "BIGINT",
            Content::Day => "DATE",
        }
    }

    fn day_in(&self) -> &'static str {
        "CAST(? AS text)::date"
    }

    fn day_out(&self, column: &str) -> String {
        format!("{column}::text")
    }

    fn sum_out(&self, sum: &str) -> String {
        // A sum of bigint is numeric; one that does not fit is an error.
        format!("CAST({sum} AS bigint)")
    }

    fn table_end(&self) -> &'static str {
        ""
    }

    fn count_check(&self, _: &str) -> String {
        String::new()
    }

    fn begin(&self, transaction: Transaction) -> &'static [&'static str] {
        match transaction {
            Transaction::Write => &["BEGIN"],
            Transaction::Snapshot => &["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"],
        }
    }

    fn migrations(&self) -> &'static [&'static [&'static str]] {
        MIGRATIONS
    }

    fn has_transactional_tables(&self) -> bool {
        true
    }

    fn migration_lock(&self) -> Option<(&'static str, Option<&'static str>)> {
        Some(("SELECT 1::bigint FROM (SELECT pg_advisory_xact_lock(7815262143301)) AS locked", None))
    }
}

pub(crate) const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE TABLE meter_batch (
            id TEXT NOT NULL PRIMARY KEY, meter BYTEA NOT NULL, seq BIGINT NOT NULL,
            first_day DATE, last_day DATE, archived_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            meter_hash BYTEA NOT NULL, UNIQUE (meter_hash, seq)
        )",
        "CREATE TABLE meter_hour (
            meter BYTEA NOT NULL, day DATE NOT NULL, hour SMALLINT NOT NULL, count BIGINT NOT NULL,
            meter_hash BYTEA NOT NULL, PRIMARY KEY (meter_hash, day, hour)
        )",
        "CREATE TABLE meter_path (
            meter BYTEA NOT NULL, day DATE NOT NULL, depth SMALLINT NOT NULL, member1 BYTEA NOT NULL,
            member2 BYTEA, member3 BYTEA, member4 BYTEA, member5 BYTEA, member6 BYTEA, member7 BYTEA, member8 BYTEA,
            count BIGINT NOT NULL,
            parent_hash BYTEA NOT NULL, member_hash BYTEA NOT NULL, PRIMARY KEY (day, parent_hash, member_hash)
        )",
        "CREATE TABLE meter_unique (
            meter BYTEA NOT NULL, day DATE NOT NULL, estimate BIGINT NOT NULL, sketch BYTEA NOT NULL,
            meter_hash BYTEA NOT NULL, PRIMARY KEY (meter_hash, day)
        )",
    ],
    // What the tables of the configuration were made for.
    &["CREATE TABLE meter_table (name TEXT NOT NULL PRIMARY KEY, made_for TEXT NOT NULL)"],
];
