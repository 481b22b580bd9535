//! What the archive asks of a database, and nothing that only one of them has.

use std::pin::Pin;
use std::time::Duration;

use super::error::{Kind, SqlError};

/// The end of a call of a database, some time later.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, SqlError>> + Send + 'a>>;

/// How many times as long as another call a commit may take.
const COMMIT: u32 = 10;

/// Rows of one statement at most.
pub(crate) const ROWS: usize = 1000;

/// A value of a statement. A day is text, as `2022-08-09`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg<'a> {
    Bytes(&'a [u8]),
    Text(&'a str),
    Int(i64),
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes of any length.
    Bytes,
    /// The same, but as text where the database can hold any bytes as text.
    Name,
    /// 32 bytes.
    Hash,
    /// A 64-bit integer.
    Int,
    /// A day.
    Day,
}

/// The values of one column of several rows.
#[derive(Clone, Debug)]
pub(crate) enum Values<'a> {
    Bytes(Vec<&'a [u8]>),
    Ints(Vec<i64>),
    Days(Vec<&'a str>),
    /// The same value in so many rows.
    Same(Arg<'a>, usize),
}

impl<'a> Values<'a> {
    /// Of a column of days, which are often all the same.
    pub(crate) fn days(days: Vec<&'a str>) -> Self {
        match days.split_first() {
            Some((first, rest)) if rest.iter().all(|day| day == first) => Self::Same(Arg::Text(first), days.len()),
            _ => Self::Days(days),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Ints(values) => values.len(),
            Self::Days(values) => values.len(),
            Self::Same(_, rows) => *rows,
        }
    }

    /// The same of one row alone.
    pub(crate) fn one(&self, row: usize) -> Values<'_> {
        Values::Same(self.at(row), 1)
    }

    /// The value of a row, from 0.
    pub(crate) fn at(&self, row: usize) -> Arg<'_> {
        match self {
            Self::Bytes(values) => Arg::Bytes(values[row]),
            Self::Ints(values) => Arg::Int(values[row]),
            Self::Days(values) => Arg::Text(values[row]),
            Self::Same(value, _) => *value,
        }
    }
}

/// What an upsert does with a row whose key is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// Adds the column `count`, or whatever its name is, which is the last one.
    AddLast,
    /// Replaces the last two columns.
    ReplaceLastTwo,
}

/// The columns that an upsert writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) table: String,
    pub(crate) columns: Vec<(String, Content)>,
    /// The names of the columns of the primary key.
    pub(crate) key: Vec<String>,
    pub(crate) update: Update,
}

impl Shape {
    /// The names of the columns that change where a row is there.
    pub(crate) fn changing(&self) -> impl Iterator<Item = &str> {
        let n = match self.update {
            Update::AddLast => 1,
            Update::ReplaceLastTwo => 2,
        };
        self.columns[self.columns.len() - n..].iter().map(|(name, _)| name.as_str())
    }
}

/// A value that a query returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Bytes(Vec<u8>),
    Text(String),
    Int(i64),
}

impl Cell {
    /// The integer that it is.
    ///
    /// # Errors
    /// It is something else: another program has changed the table.
    pub(crate) fn int(&self) -> Result<i64, SqlError> {
        if let Self::Int(n) = self { Ok(*n) } else { Err(other("an integer", self)) }
    }

    /// The text that it is.
    ///
    /// # Errors
    /// As [`Self::int`].
    pub(crate) fn text(self) -> Result<String, SqlError> {
        if let Self::Text(text) = self { Ok(text) } else { Err(other("a text", &self)) }
    }

    /// The bytes that it is.
    ///
    /// # Errors
    /// As [`Self::int`].
    pub(crate) fn bytes(self) -> Result<Vec<u8>, SqlError> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(other("bytes", &self)) }
    }
}

fn other(expected: &str, found: &Cell) -> SqlError {
    SqlError::new(Kind::Other, format!("the archive holds {found:?} where meterd wrote {expected}"))
}

/// What a query returns in a column: how it is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes,
    Text,
    Int,
}

/// A transaction's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transaction {
    Write,
    /// All its queries see one moment.
    Snapshot,
}

/// The language of a database.
pub(crate) trait Dialect: Sync {
    /// A name of a table or a column, which is ASCII letters, digits and `_`, as it stands in a statement.
    fn quoted(&self, name: &str) -> String;
    /// The type of a column.
    fn column_type(&self, content: Content) -> &'static str;
    /// How a day is given to a statement in the place of a `?`.
    fn day_in(&self) -> &'static str;
    /// How a column that is a day is selected as text.
    fn day_out(&self, column: &str) -> String;
    /// An expression that is a sum of integers, selected as a 64-bit integer.
    fn sum_out(&self, sum: &str) -> String;
    /// What follows the definition of a table's columns.
    fn table_end(&self) -> &'static str;
    /// A condition on a count, for databases whose integers may become something else.
    fn count_check(&self, column: &str) -> String;
    /// The statements that begin a transaction.
    fn begin(&self, transaction: Transaction) -> &'static [&'static str];
    /// The statements that make version n + 1 of the tables from version n. None is ever changed once released.
    fn migrations(&self) -> &'static [&'static [&'static str]];
    /// Whether tables are made within a transaction, or each statement is for itself.
    fn has_transactional_tables(&self) -> bool;
    /// A query that returns 1 when other migrations are kept away, and, where the transaction's end does not let them in
    /// again, the statement that does.
    fn migration_lock(&self) -> Option<(&'static str, Option<&'static str>)>;
}

/// A connection to a database. A call that failed, but for [`Kind::Duplicate`] and [`Kind::Overflow`], or was given up,
/// leaves it in no state to be used again.
pub(crate) trait Connection: Send {
    fn dialect(&self) -> &'static dyn Dialect;

    /// Runs a statement; how many rows it changed. In all statements a `?` stands for a value.
    fn execute<'a>(&'a mut self, sql: &'a str, args: &'a [Arg<'a>]) -> Pending<'a, u64>;

    /// Runs a query, and calls `each` with each of its rows.
    fn query<'a>(
        &'a mut self,
        sql: &'a str,
        args: &'a [Arg<'a>],
        reads: &'a [Read],
        each: &'a mut (dyn FnMut(Vec<Cell>) + Send),
    ) -> Pending<'a, ()>;

    /// Writes rows, no two with the same key: adds those whose key is new, and updates the others. Where a count does not
    /// fit, none is written, and the transaction may go on.
    fn upsert<'a>(&'a mut self, shape: &'a Shape, columns: &'a [Values<'a>]) -> Pending<'a, ()>;
}

/// A connection whose calls all end in time. Once one has failed it is not to be used again.
pub(crate) struct Session {
    connection: Box<dyn Connection>,
    deadline: Duration,
    is_broken: bool,
}

impl Session {
    pub(crate) fn new(connection: Box<dyn Connection>, deadline: Duration) -> Self {
        Self { connection, deadline, is_broken: false }
    }

    pub(crate) fn dialect(&self) -> &'static dyn Dialect {
        self.connection.dialect()
    }

    /// Whether a call has failed, so that it has to be thrown away.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Says that a failed call has left the connection as it was: outside of a transaction, a query that can't be run.
    pub(crate) fn mend(&mut self) {
        self.is_broken = false;
    }

    pub(crate) async fn execute(&mut self, sql: &str, args: &[Arg<'_>]) -> Result<u64, SqlError> {
        let deadline = self.deadline;
        self.is_broken = true;
        let result = in_time(deadline, self.connection.execute(sql, args)).await;
        self.is_broken = breaks(&result);
        result
    }

    /// The rows of a query that is known to have few.
    pub(crate) async fn query(
        &mut self,
        sql: &str,
        args: &[Arg<'_>],
        reads: &[Read],
    ) -> Result<Vec<Vec<Cell>>, SqlError> {
        let mut rows = Vec::new();
        self.each(sql, args, reads, &mut |row| rows.push(row)).await?;
        Ok(rows)
    }

    pub(crate) async fn each(
        &mut self,
        sql: &str,
        args: &[Arg<'_>],
        reads: &[Read],
        each: &mut (dyn FnMut(Vec<Cell>) + Send),
    ) -> Result<(), SqlError> {
        let deadline = self.deadline;
        self.is_broken = true;
        let result = in_time(deadline, self.connection.query(sql, args, reads, each)).await;
        self.is_broken = breaks(&result);
        result
    }

    pub(crate) async fn upsert(&mut self, shape: &Shape, columns: &[Values<'_>]) -> Result<(), SqlError> {
        if columns.first().is_none_or(|column| column.len() == 0) {
            return Ok(());
        }
        let deadline = self.deadline;
        self.is_broken = true;
        let result = in_time(deadline, self.connection.upsert(shape, columns)).await;
        self.is_broken = breaks(&result);
        result
    }

    pub(crate) async fn begin(&mut self, transaction: Transaction) -> Result<(), SqlError> {
        for sql in self.dialect().begin(transaction) {
            self.execute(sql, &[]).await?;
        }
        Ok(())
    }

    /// Commits, which takes longer than a statement where all of a batch goes to the disk. Where that fails nobody knows
    /// whether it was done.
    pub(crate) async fn commit(&mut self) -> Result<(), SqlError> {
        self.is_broken = true;
        let result = in_time(self.deadline * COMMIT, self.connection.execute("COMMIT", &[])).await;
        self.is_broken = breaks(&result);
        result.map(drop)
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), SqlError> {
        self.execute("ROLLBACK", &[]).await.map(drop)
    }
}

/// Whether a call leaves its connection in no known state.
fn breaks<T>(result: &Result<T, SqlError>) -> bool {
    result.as_ref().is_err_and(|error| !matches!(error.kind, Kind::Duplicate | Kind::Overflow))
}

/// Ends a call that has not ended by its deadline.
pub(crate) async fn in_time<T>(deadline: Duration, call: Pending<'_, T>) -> Result<T, SqlError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => {
            Err(SqlError::new(Kind::Lost, format!("the database has not answered within {} ms", deadline.as_millis())))
        }
    }
}

/// The places for the values of `rows` rows.
pub(crate) fn places(columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    vec![row; rows].join(",")
}
