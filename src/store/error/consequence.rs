//! What follows from a fault of the store, and what the client hears of it.

use std::io;

use super::{SYNC, StoreError};
use crate::smtp::reply::Reply;

/// What follows from a fault of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseFault {
    /// No room on the disk: it goes on when there is.
    Full,
    /// Another process is writing.
    Busy,
    /// One row is bad. Nothing else is hurt.
    Passing,
    /// Pages are damaged; what can be read can be brought into a new file.
    Damaged,
    /// Nobody knows what is on disk.
    Unsafe,
}

impl StoreError {
    /// What the client hears: no path, no operating-system text, never permanent.
    #[must_use]
    pub fn reply(&self) -> Reply {
        if self.is_full() {
            Reply::new(452, (4, 3, 1), "out of storage; try again later")
        } else {
            Reply::new(451, (4, 3, 0), "message not stored; try again later")
        }
    }

    /// Whether room on the disk is what lacks.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Spool { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge
            ),
            Self::Database { class, .. } => *class == DatabaseFault::Full,
            Self::LowSpace { .. } | Self::TooManyMessages { .. } | Self::NoRoomToRebuild { .. } => {
                true
            }
            Self::Commit { cause } => cause.is_full(),
            _ => false,
        }
    }

    /// Whether another process was writing for longer than we wait.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Database { class, .. } => *class == DatabaseFault::Busy,
            Self::Commit { cause } => cause.is_busy(),
            _ => false,
        }
    }

    /// Whether one message has lost its body; all others are unhurt.
    #[must_use]
    pub fn is_missing_body(&self) -> bool {
        matches!(self, Self::MissingBody { .. })
    }

    /// Whether the body of one message is missing or damaged, for good; all others are unhurt.
    #[must_use]
    pub fn is_lost_body(&self) -> bool {
        matches!(self, Self::MissingBody { .. } | Self::DamagedBody { .. })
    }

    /// Whether the process lacks descriptors or memory: nothing is wrong with what was asked for.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, OutOfMemory};
        const ENOMEM: i32 = 12;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        match self {
            Self::Io { source, .. } => {
                matches!(source.raw_os_error(), Some(ENOMEM | ENFILE | EMFILE))
            }
            Self::Database { source, .. } => {
                let error = source.downcast_ref::<rusqlite::Error>();
                let code = error.and_then(rusqlite::Error::sqlite_error_code);
                matches!(code, Some(CannotOpen | OutOfMemory))
            }
            _ => false,
        }
    }

    /// Whether pages of the database are damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Database { class, .. } => *class == DatabaseFault::Damaged,
            Self::Damaged { .. } => true,
            Self::Commit { cause } => cause.is_damage(),
            _ => false,
        }
    }

    /// Whether nobody knows any more what is on disk.
    pub(in crate::store) fn is_unsafe(&self) -> bool {
        match self {
            Self::Database { class, .. } => *class == DatabaseFault::Unsafe,
            // Only a sync that failed leaves in doubt what is on disk.
            Self::Io { doing, .. } => *doing == SYNC,
            _ => false,
        }
    }
}

pub(super) fn classify(error: &rusqlite::Error) -> DatabaseFault {
    use rusqlite::{ErrorCode, ffi};
    // The log's index could not grow: there was no room for it.
    if error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE) {
        return DatabaseFault::Full;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => DatabaseFault::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => DatabaseFault::Busy,
        Some(ErrorCode::DatabaseCorrupt) => DatabaseFault::Damaged,
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::NotADatabase
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory,
        ) => DatabaseFault::Unsafe,
        _ => DatabaseFault::Passing,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn store_trouble_is_never_permanent_for_the_client() {
        let full = StoreError::io("write", "x")(io::ErrorKind::StorageFull.into());
        let broken = StoreError::io(SYNC, "x")(io::Error::other("eio"));
        let no_descriptor = StoreError::io("open", "x")(io::Error::from_raw_os_error(24));
        let spool = StoreError::spool("write", Path::new("x"))(io::ErrorKind::StorageFull.into());
        assert_eq!(spool.reply(), full.reply());
        assert!(!no_descriptor.is_unsafe() && no_descriptor.is_shortage());
        assert_eq!(full.reply().to_string(), "452 4.3.1 out of storage; try again later");
        assert_eq!(broken.reply().to_string(), "451 4.3.0 message not stored; try again later");
        assert!(broken.is_unsafe() && !full.is_unsafe());
    }
}
