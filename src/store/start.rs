//! What happens to the database before anybody is served.

use rusqlite::Connection;

use super::{
    Durability, Rebuilt, Router, StoreError, aside::Aside, directory::Directory, due, read,
    rebuild, routing, schema, survey, totals,
};
use crate::clock::{Clock, UnixMillis};

/// Opens the database and looks through what the start depends on; a damaged one is rebuilt.
/// Returns how many messages are queued, and what came of the rebuild.
pub(super) fn open(
    directory: &Directory,
    clock: Clock,
    durability: &dyn Durability,
    router: &dyn Router,
) -> Result<(Connection, u64, Option<Rebuilt>), StoreError> {
    let damaged = |cause: StoreError| cause.of_database(&directory.database());
    rebuild::sweep(directory)?;
    directory.check_not_lost()?;
    let mut database = open_log(directory, clock.now()).map_err(damaged)?;
    let mut rebuilt = None;
    let queued = match look_through(&mut database, directory, router) {
        Err(error) if error.is_damage() => {
            tracing::error!(%error, "queue database is damaged, rebuilding it");
            let now = clock.now();
            let recovery = rebuild::rebuild(&mut database, directory, durability, now)
                .map_err(|error| StoreError::damaged(&directory.database(), error))?;
            recovery.log();
            rebuilt = Some(recovery.in_short(now));
            look_through(&mut database, directory, router).map_err(damaged)?
        }
        other => other?,
    };
    Ok((database, queued, rebuilt))
}

/// Opens the database; what is behind damage in its log is kept first.
fn open_log(directory: &Directory, now: UnixMillis) -> Result<Connection, StoreError> {
    let aside = directory.keep_damaged_log(now)?;
    let database = schema::open(&directory.database(), || directory.check_no_bodies())?;
    if let Some(aside) = aside {
        // Before anything is written: from then on nothing tells that rows may be lost.
        set_bodies_aside(&database, directory, &aside)?;
        schema::write_log_home(&database)?;
    }
    Ok(database)
}

fn set_bodies_aside(
    database: &Connection,
    directory: &Directory,
    aside: &Aside,
) -> Result<(), StoreError> {
    if directory.body_files()?.is_empty() {
        return Ok(());
    }
    match read::body_files(database) {
        Ok(Some(known)) => directory.set_orphans_aside(&known, aside).map(|_| ()),
        // The database is damaged as well: nobody knows yet which of them have lost their rows.
        Ok(None) => directory.keep_all_bodies(aside),
        Err(error) if error.is_damage() => directory.keep_all_bodies(aside),
        Err(error) => Err(error),
    }
}

fn look_through(
    database: &mut Connection,
    directory: &Directory,
    router: &dyn Router,
) -> Result<u64, StoreError> {
    schema::migrate(database, &directory.database())?;
    match survey::if_in_order(database, router)? {
        Some(known) => directory.remove_orphans(&known)?,
        None => put_in_order(database, directory, router)?,
    }
    directory.sync_all()?;
    read::count(database)
}

/// The same step by step, each with a look of its own at all messages.
fn put_in_order(
    database: &mut Connection,
    directory: &Directory,
    router: &dyn Router,
) -> Result<(), StoreError> {
    due::hold_unfit(database)?;
    routing::route_anew(database, router)?;
    totals::count_lanes(database)?;
    match read::body_files(database)? {
        Some(known) => directory.remove_orphans(&known)?,
        None => tracing::warn!(
            "a message in the queue database does not tell which body file is its own, \
             so none is taken for an orphan"
        ),
    }
    Ok(())
}
