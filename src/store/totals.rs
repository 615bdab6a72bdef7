//! What the database knows beside the messages: how many there are in each lane, kept up by its own
//! triggers (`schema.rs`), and what has been told about things that end.

use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{
    LaneSummary, Reminder, Room, Shared, Store, Summary,
    committer::Work,
    error::StoreError,
    read::{Reader, unsigned},
    write::{Effects, put_notice},
};
use crate::clock::UnixMillis;

impl Store {
    /// How much more mail is taken. Looks at the disk, which may block for a moment.
    #[must_use]
    pub fn room(&self) -> Room {
        let Shared { state, space, .. } = &*self.shared;
        let max_messages = state.max_messages.load(Ordering::Relaxed);
        Room { max_messages, free: space.free().ok(), wanted: space.wanted() }
    }

    /// How many marks of something that ends then have been told of; 0 for none.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn mark_told(&self, subject: &str, ends: UnixMillis) -> Result<u32, StoreError> {
        let subject = subject.to_owned();
        self.read(move |database| mark_told(database, &subject, ends)).await
    }

    /// Queues a notice, and remembers in the same transaction that it was told.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub async fn remind(&self, reminder: Reminder) -> Result<(), StoreError> {
        self.submit(|answer| Work::Remind { reminder: Box::new(reminder), answer }).await
    }
}

/// What `lane_total` should say. `SUM` would fail on sizes of a damaged file that are no sizes.
const COUNT_LANES: &str = "SELECT lane, COUNT(*), COUNT(hold_reason), CAST(TOTAL(size) AS INTEGER) FROM message GROUP BY lane";

/// Counts what is queued by lane anew where the counts are not right, as after damage. On a disk
/// without room nothing has to be written if they are.
pub(super) fn count_lanes(database: &mut Connection) -> Result<(), StoreError> {
    let mut run = || {
        let change = database.transaction()?;
        let kept = "SELECT lane, messages, held, octets FROM lane_total WHERE messages > 0";
        let differs = |one: &str, other: &str| {
            change.query_row(&format!("SELECT EXISTS ({one} EXCEPT {other})"), [], |row| row.get(0))
        };
        let wrong: bool = differs(kept, COUNT_LANES)? || differs(COUNT_LANES, kept)?;
        if wrong {
            change.execute("DELETE FROM lane_total", [])?;
            change.execute(&format!("INSERT INTO lane_total {COUNT_LANES}"), [])?;
            tracing::warn!("the counts of the queue were not right, counted anew");
        }
        change.commit()
    };
    run().map_err(StoreError::database("count what is queued"))
}

/// What is queued by lane, without a look at each message.
pub(super) const SUMMARY: &str = "SELECT lane, messages, held, CAST(octets AS INTEGER), \
     (SELECT MIN(m.arrival) FROM message m WHERE m.lane = t.lane AND (m.hold_reason IS NULL) = 1), \
     (SELECT MIN(m.arrival) FROM message m WHERE m.lane = t.lane AND (m.hold_reason IS NULL) = 0) \
     FROM lane_total t WHERE messages > 0 ORDER BY lane";

pub(super) fn summary(database: &Reader) -> Result<Summary, StoreError> {
    let run = || {
        let lanes = database
            .prepare_cached(SUMMARY)?
            .query_map([], |row| {
                let waiting: Option<i64> = row.get(4)?;
                let held: Option<i64> = row.get(5)?;
                Ok(LaneSummary {
                    lane: row.get(0)?,
                    messages: unsigned(row, 1)?,
                    held: unsigned(row, 2)?,
                    octets: unsigned(row, 3)?,
                    oldest: UnixMillis(waiting.into_iter().chain(held).min().unwrap_or_default()),
                    oldest_waiting: waiting.map(UnixMillis),
                })
            })?
            .collect::<Result<_, _>>()?;
        Ok(Summary { lanes })
    };
    run().map_err(StoreError::database("summarize the queue"))
}

/// How many marks of an end then have been told of.
pub(super) fn mark_told(
    database: &Reader,
    subject: &str,
    ends: UnixMillis,
) -> Result<u32, StoreError> {
    database
        .prepare_cached("SELECT mark FROM told WHERE subject = ?1 AND ends = ?2")
        .and_then(|mut query| {
            query.query_row(params![subject, ends.0], |row| row.get(0)).optional()
        })
        .map(Option::unwrap_or_default)
        .map_err(StoreError::database("read what has been told"))
}

/// Queues the notice and remembers it; what is remembered of an earlier end goes.
pub(super) fn remind(
    change: &Transaction<'_>,
    reminder: &Reminder,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let Reminder { subject, ends, mark, lane, notice } = reminder;
    change
        .prepare_cached("INSERT OR REPLACE INTO told (subject, ends, mark) VALUES (?1, ?2, ?3)")?
        .execute(params![subject, ends.0, mark])?;
    put_notice(change, notice, 0, lane, effects)
}
