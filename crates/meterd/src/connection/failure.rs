//! What can go wrong with a call, as those who asked need to know it.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was not sent, so it changed nothing: Redis can't be reached. The text says why.
    Down(String),
    /// It was sent and no reply came: it may have taken effect.
    Unknown(String),
    /// Redis refused it, so it changed nothing.
    Refused {
        /// The code of the error, such as `ERR`, `WRONGTYPE`, `NOPERM` or `OOM`.
        code: String,
        /// The text after it.
        text: String,
    },
}

impl Failure {
    /// What an error of the client library means for the command that met it.
    pub fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => Self::refused(error),
            ErrorKind::Io if error.is_connection_refusal() => Self::Down(error.to_string()),
            ErrorKind::ClusterConnectionNotFound
            | ErrorKind::InvalidClientConfig
            | ErrorKind::AuthenticationFailed
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::EmptySentinelList => Self::Down(error.to_string()),
            _ => Self::Unknown(error.to_string()),
        }
    }

    /// What the server said. Of a pipeline or a transaction, the first of its commands that was refused says why: EXEC
    /// itself says no more than that it did not run.
    fn refused(error: &RedisError) -> Self {
        let first = error.clone().into_server_errors().and_then(|errors| {
            let (_, first) = errors.first()?;
            Some((first.code().to_owned(), first.details().unwrap_or_default().to_owned()))
        });
        let (code, text) = first.unwrap_or_else(|| {
            (error.code().unwrap_or("ERR").to_owned(), error.detail().unwrap_or_default().to_owned())
        });
        Self::Refused { code, text }
    }

    /// Whether Redis said that it can't do it now, and another try may succeed: it loads, a slot moves, a replica was
    /// asked.
    pub fn is_passing(error: &RedisError) -> bool {
        matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
            )
        )
    }

    /// Whether the server lacks the module.
    pub fn is_without_module(&self) -> bool {
        matches!(self, Self::Refused { text, .. } if text.starts_with("unknown command"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(why) => write!(f, "Redis can't be reached: {why}"),
            Self::Unknown(why) => write!(f, "no reply of Redis: {why}"),
            Self::Refused { text, .. } if self.is_without_module() => {
                let command = text.split(['`', '\'']).nth(1).unwrap_or("the module's commands");
                write!(
                    f,
                    "the server does not know {command}: load the module, as new as meterd, with  \
                     loadmodule /path/to/libredis_meter.so  in its configuration file"
                )
            }
            Self::Refused { code, text } => write!(f, "{code} {text}"),
        }
    }
}

impl std::error::Error for Failure {}
