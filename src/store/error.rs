//! What can go wrong with the store.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytesize::ByteSize;

use crate::mail::queue_id::QueueId;

mod consequence;

pub use consequence::DatabaseFault;
use consequence::classify;

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
        "{} holds messages but {} is missing or empty; put the database back, a damaged one with \
         `o365-relay queue recover --from FILE` (docs/reliability.md), or move the bodies to a safe \
         place to begin with an empty queue (each is one message as it came in)",
        bodies.display(), database.display()
    )]
    LostDatabase {
        /// The directory of the bodies.
        bodies: PathBuf,
        /// Where the database should be.
        database: PathBuf,
    },
    /// A log without a database: it may hold the latest messages.
    #[error(
        "{} is missing or empty but its write-ahead log {} is there and may hold messages; put the \
         database that belongs to it back, or move the log to another place and bring back what is \
         in it with `o365-relay queue recover --from FILE` (docs/reliability.md); nothing has been \
         changed",
        database.display(), log.display()
    )]
    LogAlone {
        /// The log.
        log: PathBuf,
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

    /// Damage is told with the file that has it, and what to do; other errors stay as they are.
    pub(super) fn of_database(self, path: &Path) -> Self {
        match self {
            Self::Damaged { .. } => self,
            error if error.is_damage() => Self::damaged(path, error),
            other => other,
        }
    }

    /// A damaged database that has been left as it is for this reason.
    pub(super) fn damaged(path: &Path, cause: Self) -> Self {
        Self::Damaged { path: path.into(), cause: Box::new(cause) }
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
