//! Connections to the archive for those who ask it.

use std::sync::Mutex;

use super::error::SqlError;
use super::read::{BatchInfo, batches, meters};
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

    /// The batches that were archived last, the latest first.
    ///
    /// # Errors
    /// A sentence, when the archive can't be read.
    pub async fn batches(&self, count: usize) -> Result<Vec<BatchInfo>, String> {
        let mut session = self.take().await.map_err(|error| error.to_string())?;
        let mut found = batches(&mut session, count).await;
        if found.is_err() {
            // One that was kept may have been lost.
            self.clear();
            session = self.take().await.map_err(|error| error.to_string())?;
            found = batches(&mut session, count).await;
        }
        self.give_back(session);
        found.map_err(|error| error.to_string())
    }

    /// All meters that were archived, in the order of their names.
    ///
    /// # Errors
    /// A sentence, when the archive can't be read.
    pub async fn meters(&self) -> Result<Vec<Vec<u8>>, String> {
        let mut session = self.take().await.map_err(|error| error.to_string())?;
        let mut found = meters(&mut session).await;
        if found.is_err() {
            self.clear();
            session = self.take().await.map_err(|error| error.to_string())?;
            found = meters(&mut session).await;
        }
        self.give_back(session);
        let mut meters = found.map_err(|error| error.to_string())?;
        meters.sort_unstable();
        Ok(meters)
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
