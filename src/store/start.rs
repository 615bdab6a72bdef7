//! What happens to the database before anybody is served.

use rusqlite::Connection;

use super::{
    Durability, Rebuilt, Router, StoreError, aside::Aside, directory::Directory, due, read,
    rebuild, schema, write,
};
use crate::clock::Clock;

/// Opens the database and looks through what the start depends on; a damaged one is rebuilt.
/// Returns how many messages are queued, and what came of the rebuild.
pub(super) fn open(
    directory: &Directory,
    clock: Clock,
    durability: &dyn Durability,
    router: &dyn Router,
) -> Result<(Connection, u64, Option<Rebuilt>), StoreError> {
    let path = directory.database();
    let damaged =
        |cause: StoreError| StoreError::Damaged { path: path.clone(), cause: Box::new(cause) };
    let is_lost = || match directory.has_bodies()? {
        true => Err(StoreError::LostDatabase {
            bodies: directory.bodies(),
            database: directory.database(),
        }),
        false => Ok(()),
    };
    let aside = directory.keep_damaged_log(clock.now())?;
    let mut database = schema::open(&path, is_lost)
        .map_err(|error| if error.is_damage() { damaged(error) } else { error })?;
    if aside.is_some() {
        schema::write_log_home(&database)?;
    }
    let mut rebuilt = None;
    let queued = match look_through(&mut database, directory, aside.as_ref(), router) {
        Err(error) if error.is_damage() => {
            tracing::error!(%error, "queue database is damaged, rebuilding it");
            let now = clock.now();
            let recovery =
                rebuild::rebuild(&mut database, directory, durability, now).map_err(damaged)?;
            recovery.log();
            rebuilt = Some(recovery.in_short(now));
            look_through(&mut database, directory, aside.as_ref(), router)
                .map_err(|error| if error.is_damage() { damaged(error) } else { error })?
        }
        other => other?,
    };
    Ok((database, queued, rebuilt))
}

fn look_through(
    database: &mut Connection,
    directory: &Directory,
    aside: Option<&Aside>,
    router: &dyn Router,
) -> Result<u64, StoreError> {
    schema::migrate(database, &directory.database())?;
    due::hold_unfit(database)?;
    write::route_anew(database, router)?;
    match (read::body_files(database)?, aside) {
        (Some(known), Some(aside)) => drop(directory.set_orphans_aside(&known, aside)?),
        (Some(known), None) => directory.remove_orphans(&known)?,
        (None, _) => tracing::warn!(
            "a message in the queue database does not tell which body file is its own, \
             so none is taken for an orphan"
        ),
    }
    directory.sync_all()?;
    read::count(database)
}
