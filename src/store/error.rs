//! What can go wrong with the store, and what the client hears of it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytesize::ByteSize;

use crate::{mail::queue_id::QueueId, smtp::reply::Reply};

/// What [`StoreError::Io`] was doing when a sync failed.
pub(super) const SYNC: &str = "sync";

/// What the store was doing, to what, and the cause.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the queue.
    #[error("could not {doing} {}: {source}{}", path.display(), hint(path, source))]
    Io {
        /// What was tried, as a verb phrase.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file that a message passes through in.
    #[error(
        "could not {doing} a file in {}: {source}; set queue.spool_directory to a directory with \
         room that the relay may write to",
        directory.display()
    )]
    Spool {
        /// What was tried, as a verb.
        doing: &'static str,
        /// Where.
        directory: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A draft that is not to be queued was to be.
    #[error("a message that was to pass through was handed to the queue; please report")]
    NotForTheQueue,
    /// The database.
    #[error("could not {doing} in the queue database: {source}")]
    Database {
        /// What was tried, as a verb phrase.
        doing: &'static str,
        /// The database's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What follows from it.
        class: DatabaseFault,
    },
    /// Another process has the queue directory.
    #[error(
        "queue directory {} is in use by another o365-relay{}; \
         stop that one, or give this one a queue.directory of its own",
        path.display(), process.as_ref().map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Locked {
        /// The queue directory.
        path: PathBuf,
        /// Who has it, if that is known.
        process: Option<String>,
    },
    /// The database was written by a newer program.
    #[error(
        "queue database {} has schema version {found}, this program knows up to {known}; \
         install the newer o365-relay again, or give this one another queue.directory",
        path.display()
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database was written by an older program, and only the daemon brings it up to date.
    #[error(
        "queue database {} has the older schema version {found}; \
         start `o365-relay run` once, which brings it up to date",
        path.display()
    )]
    OlderSchema {
        /// The database file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// No relay has run there.
    #[error(
        "there is no queue in {}; name the queue.directory of the relay with --config or --directory",
        path.display()
    )]
    NoQueue {
        /// The queue directory.
        path: PathBuf,
    },
    /// The queue belongs to another user.
    #[error("the queue in {} belongs to another user; try as root, or as the user of the relay", path.display())]
    NotAllowed {
        /// The queue directory.
        path: PathBuf,
    },
    /// The file is not a queue database.
    #[error(
        "{} is not a queue database of o365-relay; nothing has been changed; if it was one, its \
         first page is damaged: move it and what is beside it (-wal) to another place and bring \
         the messages back with `o365-relay queue recover --from FILE` (docs/reliability.md); if \
         not, move it away or set another queue.directory",
        path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The database's log is damaged; only the daemon keeps what is left before it goes on.
    #[error(
        "the write-ahead log of the queue database {} is damaged; start the relay \
         (`o365-relay run`), which keeps a copy of the log and goes on with what is left",
        path.display()
    )]
    DamagedLog {
        /// The database file.
        path: PathBuf,
    },
    /// Bodies without a database: the database is gone, and they may be all that is left.
    #[error(
        "{} holds messages but {} is missing or empty; put the database back, or move the bodies \
         to a safe place to begin with an empty queue (each is one message as it came in)",
        bodies.display(), database.display()
    )]
    LostDatabase {
        /// The directory of the bodies.
        bodies: PathBuf,
        /// Where the database should be.
        database: PathBuf,
    },
    /// The database does not keep the log that makes commits durable.
    #[error(
        "the queue database {} has no write-ahead log; see that the queue directory is on a local \
         disk that works, then start again",
        path.display()
    )]
    NoLog {
        /// The database file.
        path: PathBuf,
    },
    /// Less free space than `queue.min_free_bytes`.
    #[error(
        "only {} free in the queue directory, queue.min_free_bytes is {}; make room there",
        ByteSize(*free), ByteSize(*wanted)
    )]
    LowSpace {
        /// Free octets.
        free: u64,
        /// The limit.
        wanted: u64,
    },
    /// As many messages queued as `queue.max_messages` allows.
    #[error(
        "{limit} messages are queued, queue.max_messages allows no more; \
         `o365-relay status` tells why they wait"
    )]
    TooManyMessages {
        /// The limit.
        limit: u64,
    },
    /// The database is damaged, and was left as it is.
    #[error(
        "the queue database {} is damaged and has been left as it is: {cause}; look at the disk, \
         then run `o365-relay queue recover` with the relay stopped; docs/reliability.md tells how \
         to bring back what that cannot",
        path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What stood in the way.
        cause: Box<StoreError>,
    },
    /// No room for a copy of a damaged database, without which it is not rebuilt.
    #[error(
        "rebuilding the tables in {} takes {} of free space for a while, and there are {}; \
         make room there",
        path.display(), ByteSize(*wanted), ByteSize(*free)
    )]
    NoRoomToRebuild {
        /// The queue directory.
        path: PathBuf,
        /// Free octets.
        free: u64,
        /// How many it takes.
        wanted: u64,
    },
    /// Nothing of a queue could be read from a file.
    #[error("no message could be read from {}, the queue has not been changed", path.display())]
    NothingFound {
        /// The file.
        path: PathBuf,
    },
    /// A queue that holds messages is not overwritten.
    #[error("queue database {} holds messages; move it away first, nothing has been changed", path.display())]
    NotEmpty {
        /// The database file.
        path: PathBuf,
    },
    /// A sync has failed earlier.
    #[error(
        "the disk or the queue database failed earlier, as the log tells; no mail is taken until \
         a restart has read the queue"
    )]
    Poisoned,
    /// A message without its body.
    #[error("the body of {id} is missing from the queue: {detail}")]
    MissingBody {
        /// Which message.
        id: QueueId,
        /// What was looked for.
        detail: String,
    },
    /// A body that has changed by itself.
    #[error(
        "the body of {id} is damaged: the octets in {place} are not those that were accepted; \
         `o365-relay queue export {id}` gives them as they are"
    )]
    DamagedBody {
        /// Which message.
        id: QueueId,
        /// Where its octets are.
        place: String,
    },
    /// The transaction that held this change and others.
    #[error("{cause}")]
    Commit {
        /// What went wrong with it.
        cause: Arc<StoreError>,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

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
    /// For use with `map_err` on file operations.
    pub(super) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// The same for a file that a message passes through in.
    pub(super) fn spool(doing: &'static str, directory: &Path) -> impl FnOnce(io::Error) -> Self {
        let directory = directory.to_path_buf();
        move |source| Self::Spool { doing, directory, source }
    }

    /// For use with `map_err` on database operations.
    pub(super) fn database(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { doing, class: classify(&source), source: Box::new(source) }
    }

    /// The same cause for each of several that waited.
    pub(super) fn commit(cause: &Arc<Self>) -> Self {
        Self::Commit { cause: Arc::clone(cause) }
    }

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
    pub(super) fn is_unsafe(&self) -> bool {
        match self {
            Self::Database { class, .. } => *class == DatabaseFault::Unsafe,
            // Only a sync that failed leaves in doubt what is on disk.
            Self::Io { doing, .. } => *doing == SYNC,
            _ => false,
        }
    }
}

fn classify(error: &rusqlite::Error) -> DatabaseFault {
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

/// The next step for the faults that an operator meets at start.
fn hint(path: &Path, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "; the queue directory and all in it must belong to the user that o365-relay runs as \
             (id {} now): make it with `install -d -m 0700 -o USER DIRECTORY`, or correct it with \
             `chown -R USER DIRECTORY`, or set queue.directory",
            rustix::process::geteuid().as_raw()
        ),
        io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path).display();
            format!("; make {parent} first, or set queue.directory to another place")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; set queue.directory to a directory, not to a file".into()
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; set queue.directory to a writable place (a volume, in a container)".into()
        }
        io::ErrorKind::StorageFull => "; make room there, or set queue.directory".into(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
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
