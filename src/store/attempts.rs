//! The record of attempts that settled nothing, so that `queue show` can tell what has happened
//! to a message. The attempt that settles a recipient is on record in the history.

use rusqlite::{Transaction, params};

use super::Concluded;
use crate::{clock::UnixMillis, mail::queue_id::QueueId};

/// Attempts kept for each recipient; older ones go. Five days of hourly attempts are more, but
/// by then they say the same again.
const KEPT: i64 = 50;

/// A recipient will be tried again.
pub(super) fn record_deferral(
    change: &Transaction<'_>,
    id: QueueId,
    concluded: &Concluded,
    reply: &str,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let (id, position) = (id.as_str(), concluded.position);
    let number: i64 = change
        .prepare_cached(
            "INSERT INTO attempt (id, position, number, time, disposition, reply, advice) \
             SELECT ?1, ?2, COALESCE(MAX(number), 0) + 1, ?3, 'deferred', ?4, ?5 \
             FROM attempt WHERE id = ?1 AND position = ?2 RETURNING number",
        )?
        .query_row(params![id, position, now.0, reply, concluded.advice], |row| row.get(0))?;
    if number > KEPT {
        change
            .prepare_cached("DELETE FROM attempt WHERE id = ?1 AND position = ?2 AND number <= ?3")?
            .execute(params![id, position, number - KEPT])?;
    }
    Ok(())
}

/// A message is set aside after an attempt; it concerns every recipient that is left.
pub(super) fn record_hold(
    change: &Transaction<'_>,
    id: QueueId,
    reason: &str,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "INSERT INTO attempt (id, position, number, time, disposition, reply) \
             SELECT m.id, r.position, 1 + COALESCE((SELECT MAX(number) FROM attempt a \
             WHERE a.id = m.id AND a.position = r.position), 0), ?2, 'held', ?3 \
             FROM message m JOIN recipient r ON r.message = m.sequence WHERE m.id = ?1",
        )?
        .execute(params![id.as_str(), now.0, reason])?;
    Ok(())
}

/// Forgets the attempts of the recipients that are next to leave the history.
pub(super) fn prune(change: &Transaction<'_>, oldest: i64, rows: i64) -> rusqlite::Result<()> {
    change
        .prepare_cached(
            "DELETE FROM attempt WHERE (id, position) IN (SELECT id, position FROM history \
             WHERE settled < ?1 ORDER BY settled, sequence LIMIT ?2)",
        )?
        .execute(params![oldest, rows])?;
    Ok(())
}
