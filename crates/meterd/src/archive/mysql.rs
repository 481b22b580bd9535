//! MariaDB from 10.5, and MySQL from 8.0.

use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{ConnectOptions, Connection as _, Executor, MySql, Row};

use super::database::{
    Arg, Cell, Connection, Content, Dialect, Pending, Read, Shape, Transaction, Update, Values, places,
};
use super::error::{Kind, SqlError};

type Query<'q> = sqlx::query::Query<'q, MySql, <MySql as sqlx::Database>::Arguments<'q>>;

struct My(MySqlConnection);

/// Whether an address can be read.
///
/// # Errors
/// A sentence that says what would be right; it never shows the password.
pub(crate) fn check(url: &str) -> Result<(), String> {
    url.parse::<MySqlConnectOptions>()
        .map(drop)
        .map_err(|_| "the archive's address can't be read: write mysql://user:password@host:3306/database".to_owned())
}

/// Connects to a `mysql://` address.
pub(crate) async fn connect(url: &str, deadline: Duration) -> Result<Box<dyn Connection>, SqlError> {
    let options: MySqlConnectOptions = url.parse().map_err(|error| error_of(&error))?;
    let options = options.disable_statement_logging();
    let mut connection = MySqlConnection::connect_with(&options).await.map_err(|error| error_of(&error))?;
    // Without strictness a server stores the highest number that fits, and says nothing.
    let modes = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION";
    let wait = (deadline * 4 / 5).as_secs().max(1);
    let session = format!(
        "SET SESSION sql_mode = '{modes}', innodb_lock_wait_timeout = {wait}, time_zone = '+00:00', \
         transaction_isolation = 'READ-COMMITTED'"
    );
    let older = session.replace("transaction_isolation", "tx_isolation");
    if connection.execute(session.as_str()).await.is_err() {
        connection.execute(older.as_str()).await.map_err(|error| error_of(&error))?;
    }
    Ok(Box::new(My(connection)))
}

fn error_of(error: &sqlx::Error) -> SqlError {
    SqlError::from_sqlx(error, |error| {
        let number = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map_or(0, |error| error.number());
        match number {
            1062 => Kind::Duplicate,
            // out of range, of a column and of an expression
            1264 | 1690 => Kind::Overflow,
            // a lock that was not had in time, deadlock, record changed since it was read
            1205 | 1213 | 1020 => Kind::Busy,
            // shutting down, killed, too many connections, gone
            1053 | 1927 | 1317 | 1040 | 2006 | 2013 | 1152 | 1158 | 1159 | 1160 | 1161 => Kind::Lost,
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

fn cell(row: &MySqlRow, place: usize, read: Read) -> Result<Cell, sqlx::Error> {
    Ok(match read {
        Read::Bytes => row.try_get_unchecked::<Option<Vec<u8>>, _>(place)?.map_or(Cell::Null, Cell::Bytes),
        // A text may come in a binary collation.
        Read::Text => match row.try_get_unchecked::<Option<Vec<u8>>, _>(place)? {
            None => Cell::Null,
            Some(bytes) => Cell::Text(String::from_utf8_lossy(&bytes).into_owned()),
        },
        Read::Int => row.try_get::<Option<i64>, _>(place)?.map_or(Cell::Null, Cell::Int),
    })
}

impl Connection for My {
    fn dialect(&self) -> &'static dyn Dialect {
        &MySqlDialect
    }

    fn execute<'a>(&'a mut self, sql: &'a str, args: &'a [Arg<'a>]) -> Pending<'a, u64> {
        Box::pin(async move {
            // Some statements, of transactions for one, can't be prepared.
            let done = if args.is_empty() {
                self.0.execute(sql).await
            } else {
                args.iter().fold(sqlx::query(sql), |query, arg| bind(query, *arg)).execute(&mut self.0).await
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
                for column in columns {
                    query = bind(query, column.at(row));
                }
            }
            query.execute(&mut self.0).await.map_err(|error| error_of(&error))?;
            Ok(())
        })
    }
}

fn upsert_sql(shape: &Shape, rows: usize) -> String {
    let quote = |name: &str| MySqlDialect.quoted(name);
    let columns: Vec<String> = shape.columns.iter().map(|(name, _)| quote(name)).collect();
    let sets: Vec<String> = shape
        .changing()
        .map(|name| {
            let name = quote(name);
            match shape.update {
                Update::AddLast => format!("{name} = {name} + VALUES({name})"),
                Update::ReplaceLastTwo => format!("{name} = VALUES({name})"),
            }
        })
        .collect();
    format!(
        "INSERT INTO {} ({}) VALUES {} ON DUPLICATE KEY UPDATE {}",
        quote(&shape.table),
        columns.join(","),
        places(columns.len(), rows),
        sets.join(",")
    )
}

struct MySqlDialect;

impl Dialect for MySqlDialect {
    fn quoted(&self, name: &str) -> String {
        format!("`{name}`")
    }

    fn column_type(&self, content: Content) -> &'static str {
        match content {
            Content::Bytes | Content::Name => "LONGBLOB",
            Content::Hash => "BINARY(32)",
            Content::Int => "BIGINT",
            Content::Day => "DATE",
        }
    }

    fn day_in(&self) -> &'static str {
        "?"
    }

    fn day_out(&self, column: &str) -> String {
        format!("CAST({column} AS CHAR)")
    }

    fn sum_out(&self, sum: &str) -> String {
        format!("CAST({sum} AS SIGNED)")
    }

    fn table_end(&self) -> &'static str {
        " ENGINE=InnoDB"
    }

    fn count_check(&self, _: &str) -> String {
        String::new()
    }

    fn begin(&self, transaction: Transaction) -> &'static [&'static str] {
        match transaction {
            Transaction::Write => &["START TRANSACTION"],
            Transaction::Snapshot => {
                &["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"]
            }
        }
    }

    fn migrations(&self) -> &'static [&'static [&'static str]] {
        MIGRATIONS
    }

    fn has_transactional_tables(&self) -> bool {
        false
    }

    fn migration_lock(&self) -> Option<(&'static str, Option<&'static str>)> {
        Some(("SELECT GET_LOCK('meterd_schema', 1)", Some("DO RELEASE_LOCK('meterd_schema')")))
    }
}

// Each statement commits by itself, and may have been run before by a program that then died.
pub(crate) const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE TABLE IF NOT EXISTS meter_batch (
            id CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, meter LONGBLOB NOT NULL,
            seq BIGINT NOT NULL, first_day DATE, last_day DATE,
            archived_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
            meter_hash BINARY(32) NOT NULL, UNIQUE (meter_hash, seq)
        ) ENGINE=InnoDB",
        "CREATE TABLE IF NOT EXISTS meter_hour (
            meter LONGBLOB NOT NULL, day DATE NOT NULL, hour SMALLINT NOT NULL, count BIGINT NOT NULL,
            meter_hash BINARY(32) NOT NULL, PRIMARY KEY (meter_hash, day, hour)
        ) ENGINE=InnoDB",
        "CREATE TABLE IF NOT EXISTS meter_path (
            meter LONGBLOB NOT NULL, day DATE NOT NULL, depth SMALLINT NOT NULL, member1 LONGBLOB NOT NULL,
            member2 LONGBLOB, member3 LONGBLOB, member4 LONGBLOB, member5 LONGBLOB, member6 LONGBLOB,
            member7 LONGBLOB, member8 LONGBLOB, count BIGINT NOT NULL,
            parent_hash BINARY(32) NOT NULL, member_hash BINARY(32) NOT NULL,
            PRIMARY KEY (day, parent_hash, member_hash)
        ) ENGINE=InnoDB",
        "CREATE TABLE IF NOT EXISTS meter_unique (
            meter LONGBLOB NOT NULL, day DATE NOT NULL, estimate BIGINT NOT NULL, sketch LONGBLOB NOT NULL,
            meter_hash BINARY(32) NOT NULL, PRIMARY KEY (meter_hash, day)
        ) ENGINE=InnoDB",
    ],
    // What the tables of the configuration were made for.
    &["CREATE TABLE IF NOT EXISTS meter_table (
        name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, made_for LONGTEXT NOT NULL
    ) ENGINE=InnoDB"],
];
