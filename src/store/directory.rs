//! The queue directory: `queue.db` (with its write-ahead log), `bodies/<id>.eml`, `lock`.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::{SYNC, StoreError},
    wal::log_of,
};
use crate::mail::queue_id::QueueId;

/// Where things are in a queue directory.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub root: PathBuf,
}

impl Places {
    pub fn new(root: &Path) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).map_err(StoreError::io("find", root))?;
        Ok(Self { root })
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("queue.db")
    }

    pub fn body_file(&self, id: QueueId) -> PathBuf {
        self.bodies().join(format!("{id}.eml"))
    }

    pub fn bodies(&self) -> PathBuf {
        self.root.join("bodies")
    }

    /// The body files, and the ids in their names. Files of other names are not ours to touch.
    pub fn body_files(&self) -> Result<Vec<(QueueId, PathBuf)>, StoreError> {
        let bodies = self.bodies();
        let mut files = Vec::new();
        for item in fs::read_dir(&bodies).map_err(StoreError::io("list", &bodies))? {
            let path = item.map_err(StoreError::io("list", &bodies))?.path();
            files.extend(body_file_id(&path).map(|id| (id, path)));
        }
        Ok(files)
    }

    /// Refuses a queue whose database is missing or empty while something else of it is left.
    /// This comes before SQLite makes a new file.
    pub fn check_not_lost(&self) -> Result<(), StoreError> {
        self.check_log_has_database()?;
        if is_empty(&self.database()) { self.check_no_bodies() } else { Ok(()) }
    }

    /// Refuses a log whose database is missing or empty: SQLite would throw it away.
    pub fn check_log_has_database(&self) -> Result<(), StoreError> {
        let (database, log) = (self.database(), log_of(&self.database()));
        if is_empty(&database) && !is_empty(&log) {
            return Err(StoreError::LogAlone { log, database });
        }
        Ok(())
    }

    /// Refuses to begin with an empty database where bodies of another one are.
    pub fn check_no_bodies(&self) -> Result<(), StoreError> {
        let has_bodies = match self.body_files() {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => false,
            other => !other?.is_empty(),
        };
        if !has_bodies {
            return Ok(());
        }
        Err(StoreError::LostDatabase { bodies: self.bodies(), database: self.database() })
    }
}

/// An open, locked queue directory. Clones share the lock.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    places: Places,
    /// Held open, so that a commit needs no descriptor of its own.
    bodies: Arc<File>,
    _lock: Arc<File>,
}

impl std::ops::Deref for Directory {
    type Target = Places;

    fn deref(&self) -> &Places {
        &self.places
    }
}

impl Directory {
    /// Makes what is missing (0700) and takes the lock, so that two daemons cannot share it.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let places = Places::new(root)?;
        make_directory(&places.root)?;
        make_directory(&places.bodies())?;
        let lock = lock(&places.root)?;
        let bodies = places.bodies();
        let bodies = File::open(&bodies).map_err(StoreError::io("open", bodies))?;
        Ok(Self { places, bodies: Arc::new(bodies), _lock: Arc::new(lock) })
    }

    /// A new body file, 0600.
    pub fn create_body_file(&self, id: QueueId) -> Result<File, StoreError> {
        let path = self.body_file(id);
        private().open(&path).map_err(StoreError::io("create", path))
    }

    /// Makes the names of body files durable.
    pub fn sync_bodies(&self) -> Result<(), StoreError> {
        self.bodies.sync_all().map_err(StoreError::io(SYNC, self.places.bodies()))
    }

    /// Makes the names of everything durable, the queue directory's own included.
    pub fn sync_all(&self) -> Result<(), StoreError> {
        self.sync_bodies()?;
        sync_directory(&self.root)?;
        match self.root.parent() {
            // A parent that we may not read was made by somebody else, who synced it or did not.
            Some(parent) if File::open(parent).is_ok() => sync_directory(parent),
            _ => Ok(()),
        }
    }

    /// Removes body files that no row names: drafts of a crash, or files whose row is gone.
    pub fn remove_orphans(&self, known: &HashSet<QueueId>) -> Result<(), StoreError> {
        for (id, path) in self.orphans(known)? {
            fs::remove_file(&path).map_err(StoreError::io("remove orphan", &path))?;
            tracing::info!(queue_id = %id, "orphaned body file removed");
        }
        Ok(())
    }

    /// Body files that no row names.
    pub fn orphans(&self, known: &HashSet<QueueId>) -> Result<Vec<(QueueId, PathBuf)>, StoreError> {
        let mut orphans = self.body_files()?;
        orphans.retain(|(id, _)| !known.contains(id));
        Ok(orphans)
    }
}

/// Options for a new file, 0600 from the begin.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

/// Whether there is nothing in a file, or no file.
pub(super) fn is_empty(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |facts| facts.len() == 0)
}

/// The id in the name of a body file.
fn body_file_id(path: &Path) -> Option<QueueId> {
    path.file_name()?.to_str()?.strip_suffix(".eml")?.parse().ok()
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other.map_err(StoreError::io("make directory", path)),
    }
}

fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let fault = |doing| StoreError::io(doing, path.clone());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(fault("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = file.take(20).read_to_string(&mut process);
            let process = Some(process.trim().to_owned()).filter(|text| !text.is_empty());
            return Err(StoreError::Locked { path: root.to_path_buf(), process });
        }
        Err(TryLockError::Error(error)) => return Err(fault("lock")(error)),
    }
    // The process id is for people who meet the lock; nothing depends on it.
    file.set_len(0).map_err(fault("write"))?;
    writeln!(file, "{}", std::process::id()).map_err(fault("write"))?;
    Ok(file)
}

pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io(SYNC, path))
}
