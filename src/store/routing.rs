//! Which lane mail waits in, once the configuration has changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use rusqlite::{Connection, params, params_from_iter};

use super::{Router, due::reverse_path, error::StoreError, write::Effects};
use crate::clock::UnixMillis;

/// The messages that may change lanes.
pub(super) enum Which {
    /// Those of one lane.
    In(String),
    /// Those of all lanes but these.
    NotIn(BTreeSet<String>),
}

/// What waits goes to the lanes that the router says.
pub(super) struct Rerouting {
    pub router: Arc<dyn Router>,
    pub which: Which,
}

impl Rerouting {
    pub fn run(&self, change: &Connection, effects: &mut Effects) -> rusqlite::Result<()> {
        route(change, self.router.as_ref(), &self.which, effects)
    }
}

/// Messages wait in the lane they were given on arrival; what the configuration says now may be
/// another. A notice stays in its lane as long as there is that lane.
pub(super) fn route_anew(database: &mut Connection, router: &dyn Router) -> Result<(), StoreError> {
    // Nobody is there yet to be told.
    let mut effects = Effects::new(UnixMillis(0));
    let mut run = || {
        let change = database.transaction()?;
        route(&change, router, &Which::NotIn(BTreeSet::new()), &mut effects)?;
        change.commit()
    };
    run().map_err(StoreError::database("route what waits anew"))
}

/// As part of a transaction, and for some messages. The lanes that they come to are told.
fn route(
    change: &Connection,
    router: &dyn Router,
    which: &Which,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (sequence, from, to) in moves(change, router, which)? {
        change
            .prepare_cached("UPDATE message SET lane = ?2 WHERE sequence = ?1")?
            .execute(params![sequence, to])?;
        *told.entry((from, to)).or_default() += 1;
    }
    for ((from, to), messages) in told {
        tracing::info!(from, to, messages, "messages routed anew");
        effects.wake(&to);
    }
    Ok(())
}

/// Messages that belong into other lanes, by the numbers of their rows: from where, to where.
fn moves(
    change: &Connection,
    router: &dyn Router,
    which: &Which,
) -> rusqlite::Result<Vec<(i64, String, String)>> {
    let mut lanes: HashMap<String, String> = HashMap::new();
    let mut moves = Vec::new();
    let all = "SELECT sequence, lane, reverse_path, is_notice FROM message";
    let (mut query, only) = match which {
        Which::In(lane) => (change.prepare(&format!("{all} WHERE lane = ?1"))?, Some(lane)),
        Which::NotIn(_) => (change.prepare(all)?, None),
    };
    let mut rows = query.query(params_from_iter(only))?;
    while let Some(row) = rows.next()? {
        // What makes no sense has been set aside.
        let (Ok(sequence), Ok(lane)) = (row.get::<_, i64>(0), row.get::<_, String>(1)) else {
            continue;
        };
        if matches!(which, Which::NotIn(lanes) if lanes.contains(&lane)) {
            continue;
        }
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
    Ok(moves)
}
