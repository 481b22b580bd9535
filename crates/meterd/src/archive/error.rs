//! What can go wrong with a database, by what has to be done about it.

use std::fmt;

/// The kind of an error, which says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A row with that key is there already.
    Duplicate,
    /// Somebody else is writing: the same transaction may pass when it is tried again.
    Busy,
    /// A count does not fit its column.
    Overflow,
    /// The database is not there, was lost on the way, or is not in time.
    Lost,
    /// Anything else: it needs somebody who reads the message.
    Other,
}

/// An error of a database.
#[derive(Clone, Debug)]
pub(crate) struct SqlError {
    pub(crate) kind: Kind,
    text: String,
}

impl SqlError {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Of sqlx; `by_code` tells the kind of what the database itself reports.
    pub(crate) fn from_sqlx(error: &sqlx::Error, by_code: impl Fn(&dyn sqlx::error::DatabaseError) -> Kind) -> Self {
        let kind = match error {
            sqlx::Error::Database(error) => by_code(error.as_ref()),
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                Kind::Lost
            }
            _ => Kind::Other,
        };
        let text = match error {
            sqlx::Error::Database(error) => error.message().to_owned(),
            error => error.to_string(),
        };
        Self { kind, text }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SqlError {}
