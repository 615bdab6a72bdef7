//! One reading of the queue at start. Of a queue that is in order nothing more has to be read, so
//! that a long one does not keep clients waiting; if anything is not, each step of the start looks
//! for itself (`start.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, Row, types::ValueRef};

use super::{
    Entry, Router,
    due::{self, BODY_IN_FILE, COLUMNS, HOLD_REASON, LANE},
    error::StoreError,
};
use crate::{mail::queue_id::QueueId, smtp::path::ReversePath};

/// The messages whose body is in a file, if every message can be attempted, waits in the lane that
/// it belongs to, and is counted; `None` if anything of that is not so.
pub(super) fn if_in_order(
    database: &mut Connection,
    router: &dyn Router,
) -> Result<Option<HashSet<QueueId>>, StoreError> {
    let mut run = || {
        // Of one moment: a queue command may write meanwhile.
        let database = database.transaction()?;
        let mut survey = Survey::new(router);
        let mut query =
            database.prepare(&format!("SELECT {COLUMNS}, digest, recipients FROM message"))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            if survey.take(row)?.is_none() {
                return Ok(None);
            }
        }
        let Survey { lanes, body_files, .. } = survey;
        let sums = |of: fn(&Count) -> [i64; 3]| -> Sums {
            lanes.iter().map(|(lane, count)| (lane.clone(), of(count))).collect()
        };
        let counted = sums(|count| [count.messages, count.held, count.octets]);
        let indexed = sums(|count| [count.messages, count.held, count.sequences]);
        let in_order = kept(&database, COUNTED).is_some_and(|kept| kept == counted)
            && kept(&database, INDEXED).is_some_and(|kept| kept == indexed);
        Ok(in_order.then_some(body_files))
    };
    run().map_err(StoreError::database("look through the queue"))
}

/// Lanes with three sums over their messages.
type Sums = BTreeMap<String, [i64; 3]>;

const COUNTED: &str = "SELECT lane, messages, held, octets FROM lane_total WHERE messages > 0";

/// The index that tells the age of the oldest message: whoever asks it sees no row that is not in it.
const INDEXED: &str = "SELECT lane, COUNT(*), SUM((hold_reason IS NULL) = 0), SUM(sequence) \
     FROM message INDEXED BY message_age GROUP BY lane";

/// What the database says; `None` if it does not, which the steps of the start find out about.
fn kept(database: &Connection, query: &str) -> Option<Sums> {
    let row = |row: &Row<'_>| Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?]));
    database.prepare(query).ok()?.query_map([], row).ok()?.collect::<Result<_, _>>().ok()
}

/// The messages of a lane.
#[derive(Debug, Default)]
struct Count {
    messages: i64,
    held: i64,
    octets: i64,
    /// The sum of the row numbers, which an index has as well.
    sequences: i64,
}

/// What the rows have told so far.
struct Survey<'a> {
    router: &'a dyn Router,
    lanes: HashMap<String, Count>,
    body_files: HashSet<QueueId>,
    /// Lanes of reverse-paths that have been met.
    routed: HashMap<ReversePath, String>,
}

impl<'a> Survey<'a> {
    fn new(router: &'a dyn Router) -> Self {
        let (lanes, body_files, routed) = Default::default();
        Self { router, lanes, body_files, routed }
    }

    /// A row; `None` if it is not in order.
    fn take(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<()>> {
        let Some(entry) = due::whole(row)? else { return Ok(None) };
        let lane = row.get_ref(LANE)?.as_str()?;
        if row.get_ref(BODY_IN_FILE)? != ValueRef::Integer(0) {
            self.body_files.insert(entry.id);
        }
        let is_held = row.get_ref(HOLD_REASON)? != ValueRef::Null;
        let is_counted = self.count(lane, is_held, &entry).is_some();
        Ok((is_counted && self.belongs(lane, entry)).then_some(()))
    }

    /// `None` where the sums get larger than any sound queue makes them.
    fn count(&mut self, lane: &str, is_held: bool, entry: &Entry) -> Option<()> {
        if !self.lanes.contains_key(lane) {
            self.lanes.insert(lane.to_owned(), Count::default());
        }
        let count = self.lanes.get_mut(lane)?;
        count.messages += 1;
        count.held += i64::from(is_held);
        count.octets = count.octets.checked_add(i64::try_from(entry.size).ok()?)?;
        count.sequences = count.sequences.checked_add(entry.sequence)?;
        Some(())
    }

    /// Whether a message waits where it would be put now, as `routing.rs` has it.
    fn belongs(&mut self, lane: &str, entry: Entry) -> bool {
        if entry.is_notice && self.router.knows(lane) {
            return true;
        }
        if let Some(routed) = self.routed.get(&entry.reverse_path) {
            return routed == lane;
        }
        let routed = self.router.lane(&entry.reverse_path);
        let belongs = routed == lane;
        self.routed.insert(entry.reverse_path, routed);
        belongs
    }
}
