//! What is in an archive, read by the tests' own queries; and `meterd` as a program.
#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses a part of it")]

pub mod ledger;
pub mod steps;

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use sqlx::{Column as _, Connection as _, Row as _, TypeInfo as _, ValueRef as _};
use testkit::Server;
use testkit::database::{Database, ENGINES, Engine};

/// Runs a test with every engine, one after the other, each with a server of its own.
pub fn on_every_engine(test: impl Fn(&Database) + Sync) {
    std::thread::scope(|scope| {
        for engine in ENGINES {
            let test = &test;
            scope.spawn(move || {
                let database = Database::start(engine);
                test(&database);
            });
        }
    });
}

/// The newest server program that there is.
pub fn server(arguments: &[&str]) -> Server {
    Server::start(testkit::programs().last().expect("a server program"), arguments)
}

/// `meterd` with these arguments, for a server and an archive.
pub fn meterd(server: &Server, archive: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meterd"));
    command.args(arguments).env("METERD_REDIS", format!("redis://127.0.0.1:{}", server.port));
    command.env("METERD_ARCHIVE", archive).current_dir(server.folder.path()).stdin(Stdio::null());
    command
}

/// Runs it; what it printed. Panics if it fails.
pub fn run(server: &Server, archive: &str, arguments: &[&str]) -> String {
    let output = meterd(server, archive, arguments).output().expect("meterd");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs it; what it said. Panics if it does not fail.
pub fn fails(server: &Server, archive: &str, arguments: &[&str]) -> String {
    let output = meterd(server, archive, arguments).output().expect("meterd");
    assert!(!output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stderr).expect("UTF-8")
}

pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    Null,
    Int(i64),
    /// Bytes or text.
    Bytes(Vec<u8>),
}

impl Cell {
    pub fn int(&self) -> i64 {
        if let Self::Int(n) = self { *n } else { panic!("{self:?} is no integer") }
    }

    pub fn bytes(&self) -> Vec<u8> {
        if let Self::Bytes(bytes) = self { bytes.clone() } else { panic!("{self:?} are no bytes") }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("UTF-8")
    }
}

/// The rows of a query.
pub fn query(archive: &str, sql: &str) -> Vec<Vec<Cell>> {
    try_query(archive, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub fn try_query(archive: &str, sql: &str) -> Result<Vec<Vec<Cell>>, sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if let Some(file) = archive.strip_prefix("sqlite:") {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await?;
            let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
            let cell = |row: &sqlx::sqlite::SqliteRow, n: usize| {
                let value = row.try_get_raw(n).expect("a value");
                match value.type_info().name() {
                    _ if value.is_null() => Cell::Null,
                    "INTEGER" => Cell::Int(row.get_unchecked(n)),
                    _ => Cell::Bytes(row.get_unchecked(n)),
                }
            };
            Ok(rows.iter().map(|row| (0..row.len()).map(|n| cell(row, n)).collect()).collect())
        } else if archive.starts_with("postgres") {
            let mut connection = sqlx::PgConnection::connect(archive).await?;
            let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
            let cell = |row: &sqlx::postgres::PgRow, n: usize| match row.column(n).type_info().name() {
                _ if row.try_get_raw(n).expect("a value").is_null() => Cell::Null,
                "INT2" => Cell::Int(row.get::<i16, _>(n).into()),
                "INT4" => Cell::Int(row.get::<i32, _>(n).into()),
                "INT8" => Cell::Int(row.get(n)),
                "TEXT" => Cell::Bytes(row.get::<String, _>(n).into_bytes()),
                _ => Cell::Bytes(row.get_unchecked(n)),
            };
            Ok(rows.iter().map(|row| (0..row.len()).map(|n| cell(row, n)).collect()).collect())
        } else {
            let mut connection = sqlx::MySqlConnection::connect(archive).await?;
            let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
            let cell = |row: &sqlx::mysql::MySqlRow, n: usize| match row.column(n).type_info().name() {
                _ if row.try_get_raw(n).expect("a value").is_null() => Cell::Null,
                "SMALLINT" | "INT" | "BIGINT" => Cell::Int(row.get(n)),
                _ => Cell::Bytes(row.get_unchecked(n)),
            };
            Ok(rows.iter().map(|row| (0..row.len()).map(|n| cell(row, n)).collect()).collect())
        }
    })
}

/// A column that is a day, selected as text.
pub fn day(archive: &str, column: &str) -> String {
    match archive.split(':').next() {
        Some("sqlite") => column.to_owned(),
        Some("mysql") => format!("CAST({column} AS CHAR)"),
        _ => format!("{column}::text"),
    }
}

/// Counts by meter, day and hour.
pub type Hours = BTreeMap<(Vec<u8>, String, i64), i64>;
/// Counts by meter, day and path.
pub type Paths = BTreeMap<(Vec<u8>, String, Vec<Vec<u8>>), i64>;

/// The counts of hours.
pub fn hours(archive: &str) -> Hours {
    let rows = query(archive, &format!("SELECT meter, {}, hour, count FROM meter_hour", day(archive, "day")));
    let key = |row: &[Cell]| (row[0].bytes(), row[1].text(), row[2].int());
    unique(rows.iter().map(|row| (key(row), row[3].int())))
}

/// The counts of members.
pub fn paths(archive: &str) -> Paths {
    let members: Vec<String> = (1..=8).map(|level| format!("member{level}")).collect();
    let sql = format!("SELECT meter, {}, depth, count, {} FROM meter_path", day(archive, "day"), members.join(", "));
    let rows = query(archive, &sql);
    unique(rows.iter().map(|row| {
        let path: Vec<Vec<u8>> = row[4..].iter().take_while(|cell| **cell != Cell::Null).map(Cell::bytes).collect();
        assert_eq!(path.len() as i64, row[2].int(), "depth");
        ((row[0].bytes(), row[1].text(), path), row[3].int())
    }))
}

fn unique<K: Ord + std::fmt::Debug>(rows: impl Iterator<Item = (K, i64)>) -> BTreeMap<K, i64> {
    let mut map = BTreeMap::new();
    for (key, count) in rows {
        let text = format!("{key:?}");
        assert!(map.insert(key, count).is_none(), "two rows of {text}");
    }
    map
}

/// How many batches there are.
pub fn batches(archive: &str) -> usize {
    query(archive, "SELECT id FROM meter_batch").len()
}

/// Whether the engine is a server, which can be killed and stopped.
pub fn is_server(engine: Engine) -> bool {
    engine != Engine::Sqlite
}
