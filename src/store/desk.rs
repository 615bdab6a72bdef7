//! What the queue commands use: a connection of its own, beside a running daemon or without one.
//! It takes no lock of the directory and makes nothing that is not there. The daemon notices
//! what is changed here ([`Store::look_for_amendments`](super::Store::look_for_amendments)).
//!
//! | Change | In one transaction | Then |
//! |---|---|---|
//! | retry, hold, release | the message, and its recipients where they are concerned | |
//! | remove | recipients move to the history, the rows go | the body file goes, as in the daemon |
//!
//! Leases are in the daemon's memory, so an attempt that has begun goes on; what it comes to finds
//! no message to settle.

use std::{cell::Cell, path::Path};

use rusqlite::Connection;

use super::{Body, StoreError, directory::Places, read, schema, wal};
use crate::mail::queue_id::QueueId;

mod amend;
mod find;
mod story;

pub use amend::{Amended, Amendment};
pub use find::{Filter, HistoryFilter, PathPattern, Queued, Waiting};
pub use story::{Attempt, Story};

/// The queue as an operator works on it. Its methods block.
#[derive(Debug)]
pub struct Desk {
    database: Connection,
    places: Places,
    /// Whether something has been changed already, so that the daemon has to get its turn.
    amended: Cell<bool>,
}

impl Desk {
    /// Opens the queue in `directory`, where a relay must have run before.
    ///
    /// # Errors
    /// [`StoreError`] says what is wrong and what to do about it.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let places = Places::new(directory)?;
        let path = places.database();
        accessible(&places)?;
        // Opening it takes what comes before the damage and may throw the rest away.
        if wal::damage(&path)?.is_some() {
            return Err(StoreError::DamagedLog { path });
        }
        let database = schema::open_existing(&path)?;
        Ok(Self { database, places, amended: Cell::new(false) })
    }

    /// The body of a queued message, unchecked; `None` if there is no such message.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::is_missing_body`] if the message has lost it.
    pub fn body(&self, id: QueueId) -> Result<Option<Body>, StoreError> {
        match read::body(&self.database, &self.places, id) {
            Err(error) if error.is_missing_body() && !find::exists(&self.database, id)? => Ok(None),
            other => other.map(Some),
        }
    }
}

/// SQLite tells neither "not there" from "not allowed" nor what to do about either.
pub(super) fn accessible(places: &Places) -> Result<(), StoreError> {
    use rustix::{fs::Access, io::Errno};
    let (path, directory) = (places.database(), places.root.clone());
    match rustix::fs::access(&path, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => places.check_not_lost(),
        Err(Errno::NOENT | Errno::NOTDIR) => {
            places.check_not_lost()?;
            Err(StoreError::NoQueue { path: directory })
        }
        Err(Errno::ACCESS | Errno::PERM) => Err(StoreError::NotAllowed { path: directory }),
        Err(error) => Err(StoreError::io("open", path)(error.into())),
    }
}

#[cfg(test)]
mod tests;
