//! Which lane mail waits in, once the configuration has changed.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use rusqlite::{Connection, params};

use super::{Router, due::reverse_path, error::StoreError};

/// Messages wait in the lane they were given on arrival; what the configuration says now may be
/// another. A notice stays in its lane as long as there is that lane.
pub(super) fn route_anew(database: &mut Connection, router: &dyn Router) -> Result<(), StoreError> {
    let mut run = || {
        let change = database.transaction()?;
        route(&change, router)?;
        change.commit()
    };
    run().map_err(StoreError::database("route what waits anew"))
}

/// The same as part of a transaction.
pub(super) fn route(change: &Connection, router: &dyn Router) -> rusqlite::Result<()> {
    let mut lanes: HashMap<String, String> = HashMap::new();
    let mut moves = Vec::new();
    let mut query =
        change.prepare("SELECT sequence, lane, reverse_path, is_notice FROM message")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        // What makes no sense has been set aside.
        let (Ok(sequence), Ok(lane)) = (row.get::<_, i64>(0), row.get::<_, String>(1)) else {
            continue;
        };
        let (Ok(path), is_notice) = (row.get::<_, String>(2), row.get(3).unwrap_or(false)) else {
            continue;
        };
        if is_notice && router.knows(&lane) {
            continue;
        }
        let now = match lanes.entry(path) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(parsed) = reverse_path(new.key()) else { continue };
                new.insert(router.lane(&parsed))
            }
        };
        if *now != lane {
            moves.push((sequence, lane, now.clone()));
        }
    }
    drop(rows);
    drop(query);
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (sequence, from, to) in moves {
        change
            .prepare_cached("UPDATE message SET lane = ?2 WHERE sequence = ?1")?
            .execute(params![sequence, to])?;
        *told.entry((from, to)).or_default() += 1;
    }
    for ((from, to), messages) in told {
        tracing::info!(from, to, messages, "messages routed anew");
    }
    Ok(())
}
