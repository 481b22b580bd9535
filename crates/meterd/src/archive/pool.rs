//! Connections to the archive for those who ask it.

use std::sync::Mutex;

use super::error::SqlError;
use super::{Archive, Session};

/// Idle connections at most.
const IDLE: usize = 4;

/// An archive with connections that are kept.
pub struct Pool {
    archive: Archive,
    idle: Mutex<Vec<Session>>,
}

impl Pool {
    /// Of an archive. Nothing is connected yet.
    pub fn new(archive: Archive) -> Self {
        Self { archive, idle: Mutex::new(Vec::new()) }
    }

    /// The archive.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// A connection, which may have been lost since it was last used.
    pub(crate) async fn take(&self) -> Result<Session, SqlError> {
        let idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        match idle {
            Some(session) => Ok(session),
            None => self.archive.connect().await,
        }
    }

    /// Takes it back, unless it is broken.
    pub(crate) fn give_back(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !session.is_broken() && idle.len() < IDLE {
            idle.push(session);
        }
    }

    /// Drops the connections: one of them was found lost.
    pub(crate) fn clear(&self) {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}
