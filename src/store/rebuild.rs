//! Brings back what can be read of a damaged database.
//!
//! | Step | On disk | After a crash here |
//! |---|---|---|
//! | rows copied one by one | `queue.db.rebuilt`, in part | removed at start, which begins again |
//! | damaged files and strays kept | `damaged-<time>.partial/` | the same |
//! | kept files synced and renamed | `damaged-<time>/` | the start begins again; it stays |
//! | **queue.db overwritten** in one transaction through its log | | whole, or as before |
//! | scratch file removed | | the start removes it |
//!
//! Other connections see no more than a commit. While it lasts none of them can have committed: the
//! write lock is held from before the last look at the data version.
//!
//! A message is never delivered to some of its recipients only, or without its mail data, because
//! rows are lost: it is set aside. What cannot be completed goes to `damaged-<time>/`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{
    Durability, Durable,
    aside::AsideBegun,
    directory::Directory,
    error::{DatabaseFault, StoreError},
    schema,
    space::free_octets,
    wal::{self, log_of},
};
use crate::clock::UnixMillis;

mod collect;
mod copy;
mod lost;
mod walk;

pub(super) use copy::named;
use walk::Table;

/// Begins the names of the file that is filled, and of what SQLite keeps beside it.
const SCRATCH: &str = "queue.db.rebuilt";

/// How often it begins anew because a queue command has changed something meanwhile.
const TRIES: usize = 5;

/// Mail first; history and attempts are expendable.
const TABLES: [Table; 5] = [
    Table { name: "message", key: &["sequence"], is_counted: true },
    Table { name: "recipient", key: &["message", "position"], is_counted: true },
    Table { name: "body", key: &["message"], is_counted: true },
    Table { name: "history", key: &["sequence"], is_counted: true },
    Table { name: "attempt", key: &["id", "position", "number"], is_counted: false },
];

/// What a rebuild has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Recovery {
    /// Where the damaged files are kept, and what could not go back into the queue.
    pub kept_in: PathBuf,
    /// Messages that are in the queue.
    pub messages: u64,
    /// Those of them that are held because something of them is lost.
    pub set_aside: Vec<SetAside>,
    /// Messages that are no more in the queue.
    pub lost: Vec<Lost>,
    /// What is lost of the record of the past.
    pub dropped: Vec<Dropped>,
    /// Changes that were written last and stand behind damage in the log of the file: nobody can
    /// read them. There may be more.
    pub unread_changes: u64,
}

/// A message that is held because something of it is lost.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SetAside {
    /// Its queue id.
    pub id: String,
    /// What is lost.
    pub reason: String,
}

/// A message that is no more in the queue.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Lost {
    /// Its queue id, if that is known.
    pub id: Option<String>,
    /// The file with its mail data, if that is there.
    pub file: Option<String>,
    /// Those of its recipients that are known, and had not got it.
    pub forward_paths: Vec<String>,
    /// What is known of it.
    pub known: String,
}

/// Rows of the record of the past that are lost.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// Which record: `history` or `attempt`.
    pub record: &'static str,
    /// How many; `None` if that is lost too.
    pub rows: Option<u64>,
}

/// The last rebuild, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// When.
    pub time: UnixMillis,
    /// Messages that are held because something of them is lost.
    pub set_aside: usize,
    /// Messages that are no more in the queue.
    pub lost: usize,
    /// Where the damaged files are kept, and what could not go back into the queue.
    pub kept_in: PathBuf,
}

impl Recovery {
    pub(super) fn in_short(&self, time: UnixMillis) -> Rebuilt {
        let Self { set_aside, lost, kept_in, .. } = self;
        Rebuilt { time, set_aside: set_aside.len(), lost: lost.len(), kept_in: kept_in.clone() }
    }

    /// Tells the log.
    pub(super) fn log(&self) {
        /// Messages named one by one; `report.json` names all.
        const NAMED: usize = 100;
        for SetAside { id, reason } in self.set_aside.iter().take(NAMED) {
            tracing::error!(queue_id = id, reason, "message set aside, part of it is lost");
        }
        for Lost { id, file, known, .. } in self.lost.iter().take(NAMED) {
            tracing::error!(queue_id = id, file, known, "message lost from the queue");
        }
        for Dropped { record, rows } in &self.dropped {
            tracing::warn!(record, rows, "part of the record of the past is lost");
        }
        tracing::error!(
            messages = self.messages,
            set_aside = self.set_aside.len(),
            lost = self.lost.len(),
            kept_in = %self.kept_in.display(),
            "queue database was damaged and has been rebuilt; check the disk"
        );
    }
}

/// Removes what a rebuild left that did not come to its end. What it was made from is still there.
pub(super) fn sweep(directory: &Directory) -> Result<(), StoreError> {
    let root = &directory.root;
    for item in fs::read_dir(root).map_err(StoreError::io("list", root))? {
        let item = item.map_err(StoreError::io("list", root))?;
        if item.file_name().to_str().is_some_and(|name| name.starts_with(SCRATCH)) {
            let path = item.path();
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    directory.sweep_asides()
}

/// Rebuilds the database of `directory`, which `database` is a connection to.
pub(super) fn rebuild(
    database: &mut Connection,
    directory: &Directory,
    durability: &dyn Durability,
    now: UnixMillis,
) -> Result<Recovery, StoreError> {
    cleared(directory, run(database, directory, durability, now))
}

/// Whatever came of it, the scratch files go.
fn cleared<T>(directory: &Directory, result: Result<T, StoreError>) -> Result<T, StoreError> {
    if let Err(error) = sweep(directory) {
        tracing::warn!(%error, "scratch files of a rebuild not removed, the next start will");
    }
    result
}

fn run(
    database: &mut Connection,
    directory: &Directory,
    durability: &dyn Durability,
    now: UnixMillis,
) -> Result<Recovery, StoreError> {
    let path = directory.database();
    let scratch = directory.root.join(SCRATCH);
    for _ in 0..TRIES {
        sweep(directory)?;
        check_room(directory, &path)?;
        let watch = schema::open_damaged(&path)?;
        let seen = schema::data_version(&watch)?;
        let source = match copy::if_shortened(directory, &scratch)? {
            Some(copy) => copy,
            None => schema::open_damaged(&path)?,
        };
        let begin = "BEGIN; SELECT COUNT(*) FROM sqlite_master;";
        source.execute_batch(begin).map_err(StoreError::database("read the schema"))?;
        let aside = directory.begin_aside(now)?;
        let (filled, mut recovery) =
            collect::from_damaged(&source, &path, directory, &scratch, &aside)?;
        aside.keep_copy(&path)?;
        if log_of(&path).exists() {
            aside.keep_copy(&log_of(&path))?;
        }
        keep_report(&mut recovery, aside)?;
        drop(source);
        if overwrite(&filled, database, &watch, seen, durability)? {
            return Ok(recovery);
        }
        // What was kept is of a state that is past; nothing has come of it.
        let _ = fs::remove_dir_all(&recovery.kept_in);
    }
    Err(busy("rebuild the tables", "another program keeps changing them"))
}

/// Fills a database that holds no messages with those of `file`: a damaged database of ours, also
/// one whose first page is lost, or what SQLite's own recovery has made of one.
pub(super) fn import(
    database: &mut Connection,
    directory: &Directory,
    file: &Path,
    durability: &dyn Durability,
    now: UnixMillis,
) -> Result<Recovery, StoreError> {
    cleared(directory, fill(database, directory, file, durability, now))
}

fn fill(
    database: &mut Connection,
    directory: &Directory,
    file: &Path,
    durability: &dyn Durability,
    now: UnixMillis,
) -> Result<Recovery, StoreError> {
    sweep(directory)?;
    check_room(directory, file)?;
    let log = wal::damage(file)?;
    let path = directory.database();
    let scratch = directory.root.join(SCRATCH);
    let watch = schema::open_damaged(&path)?;
    let seen = schema::data_version(&watch)?;
    let source = copy::whole(file, &scratch)?;
    let is_recovered = collect::has_table(&source, collect::NAMELESS)?;
    if !is_recovered && !collect::has_table(&source, "message")? {
        return Err(StoreError::NothingFound { path: file.into() });
    }
    let aside = directory.begin_aside(now)?;
    let (filled, mut recovery) = if is_recovered {
        let page_size = schema::page_size(database)?;
        collect::from_recovered(file, page_size, directory, &scratch, &aside)?
    } else {
        collect::from_damaged(&source, file, directory, &scratch, &aside)?
    };
    drop(source);
    if recovery.messages == 0 && recovery.lost.iter().all(|lost| lost.forward_paths.is_empty()) {
        return Err(StoreError::NothingFound { path: file.into() });
    }
    recovery.unread_changes = log.map_or(0, |damage| damage.lost);
    keep_report(&mut recovery, aside)?;
    if !overwrite(&filled, database, &watch, seen, durability)? {
        return Err(busy("fill the tables", "another program has changed them"));
    }
    Ok(recovery)
}

fn busy(doing: &'static str, cause: &str) -> StoreError {
    StoreError::Database { doing, source: cause.into(), class: DatabaseFault::Busy }
}

/// Writes down what it has come to, beside what is kept.
fn keep_report(recovery: &mut Recovery, aside: AsideBegun) -> Result<(), StoreError> {
    recovery.kept_in = aside.place().into();
    aside.write("report.json", &serde_json::to_vec_pretty(recovery).unwrap_or_default())?;
    aside.finish().map(|_| ())
}

/// Room for two copies of the damaged files, the new file, and its way through the log.
fn check_room(directory: &Directory, database: &Path) -> Result<(), StoreError> {
    let length = |path: &Path| fs::metadata(path).map_or(0, |facts| facts.len());
    let wanted = 4 * (length(database) + length(&log_of(database)));
    let free = free_octets(&directory.root)?;
    if free < wanted {
        return Err(StoreError::NoRoomToRebuild { path: directory.root.clone(), free, wanted });
    }
    Ok(())
}

/// Puts the pages of `filled` in the place of all that `database` has, in one transaction. False,
/// and nothing has changed, if somebody has committed since the data version was `seen`.
fn overwrite(
    filled: &Connection,
    database: &mut Connection,
    watch: &Connection,
    seen: i64,
    durability: &dyn Durability,
) -> Result<bool, StoreError> {
    let fault = || StoreError::database("put the rebuilt tables in place");
    // Lets it begin on a file that is shorter than its header says.
    database.pragma_update(None, "writable_schema", true).map_err(fault())?;
    let result = (|| {
        let backup = Backup::new(filled, database).map_err(fault())?;
        // The first step takes the write lock.
        step(&backup, 1)?;
        if schema::data_version(watch)? != seen {
            return Ok(false);
        }
        durability.make_durable(Durable::Rows, &mut || step(&backup, -1))?;
        Ok(true)
    })();
    database.pragma_update(None, "writable_schema", "RESET").map_err(fault())?;
    result
}

fn step(backup: &Backup<'_, '_>, pages: i32) -> Result<(), StoreError> {
    match backup.step(pages) {
        Ok(StepResult::Done) => Ok(()),
        Ok(StepResult::More) if pages > 0 => Ok(()),
        // SQLite has waited already.
        Ok(_) => Err(busy("put the rebuilt tables in place", "another program is writing")),
        Err(error) => Err(StoreError::database("put the rebuilt tables in place")(error)),
    }
}

#[cfg(test)]
mod tests;
