//! `queue recover`: what the daemon does about damage on its own, at an operator's word, with the
//! daemon stopped.

use std::path::Path;

use rusqlite::Connection;

use super::{
    Recovery, StoreError, Synced,
    desk::accessible,
    directory::{Directory, Places},
    due, read, rebuild, schema,
    wal::{self, log_of},
};
use crate::clock::Clock;

/// Looks through the whole database in `directory`, and rebuilds it if it is damaged. `None` if it
/// is sound; nothing has changed then.
///
/// # Errors
/// [`StoreError`]; [`StoreError::Locked`] beside a daemon. The queue has not changed then.
pub fn recover(directory: &Path, clock: Clock) -> Result<Option<Recovery>, StoreError> {
    let places = Places::new(directory)?;
    let path = places.database();
    accessible(&places)?;
    if wal::damage(&path)?.is_some() {
        return Err(StoreError::DamagedLog { path });
    }
    let directory = Directory::open(directory)?;
    rebuild::sweep(&directory)?;
    let empty = || {
        directory.check_no_bodies()?;
        Err(StoreError::NoQueue { path: directory.root.clone() })
    };
    let mut database = schema::open(&path, empty).map_err(|error| error.of_database(&path))?;
    match is_sound(&database) {
        Ok(true) => return Ok(None),
        Ok(false) => {}
        Err(error) if error.is_damage() => {}
        Err(error) => return Err(error),
    }
    rebuild::rebuild(&mut database, &directory, &Synced, clock.now())
        .map(Some)
        .map_err(|error| error.of_database(&path))
}

/// Fills the queue in `directory`, which must be without a database or empty, with the rows of
/// `file`: a damaged queue database that has been moved away, or what SQLite's own recovery has
/// made of one. Body files are where they were.
///
/// # Errors
/// [`StoreError`]; the queue has not changed then.
pub fn import(directory: &Path, file: &Path, clock: Clock) -> Result<Recovery, StoreError> {
    let file = &rebuild::named(file)?;
    let directory = Directory::open(directory)?;
    directory.check_log_has_database()?;
    let path = directory.database();
    let existed = path.exists();
    let result = fill(&directory, file, clock);
    if result.is_err() && !existed {
        for made in [log_of(&path), path.with_extension("db-shm"), path.clone()] {
            let _ = std::fs::remove_file(made); // it may not have come to be
        }
    }
    result
}

fn fill(directory: &Directory, file: &Path, clock: Clock) -> Result<Recovery, StoreError> {
    let path = directory.database();
    // It gets its tables along with the rows: an empty queue would have the next start take all
    // body files for orphans.
    let mut database = schema::open(&path, || Ok(()))?;
    if schema::version(&database, &path)? > 0 && read::count(&database)? > 0 {
        return Err(StoreError::NotEmpty { path });
    }
    rebuild::import(&mut database, directory, file, &Synced, clock.now())
}

/// Whether every page is as it should be, and every message can be named.
fn is_sound(database: &Connection) -> Result<bool, StoreError> {
    let check = || {
        let found: String =
            database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        Ok(found == "ok" && due::unfit(database, false)?.iter().all(|unfit| unfit.id.is_some()))
    };
    check().map_err(StoreError::database("check the tables"))
}
