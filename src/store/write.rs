//! The changes that a transaction makes. Each is complete in itself; the committer puts them
//! together and syncs.
//!
//! An error is the end of the whole transaction, never of one statement alone. Some statements say
//! so with `OR FAIL`: SQLite need not keep what they alone have changed, to take it back.

use std::{collections::HashSet, time::Duration};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{
    Arrival, Concluded, NewNotice, Outcome, Settlement, ahead, attempts,
    digest::Digest,
    draft::{Finished, FinishedBody},
};
use crate::{
    clock::UnixMillis,
    mail::queue_id::QueueId,
    smtp::envelope::{Body, Ret},
};

/// What a transaction leads to once it is durable.
#[derive(Debug)]
pub(super) struct Effects {
    /// What the clock showed when it was looked at last.
    looked: UnixMillis,
    /// Messages more, or less if negative.
    pub queued: i64,
    /// Body files without a row, to be removed.
    pub bodies: Vec<QueueId>,
    /// Lanes in which something may have become due.
    pub due: HashSet<String>,
}

impl Effects {
    pub fn new(looked: UnixMillis) -> Self {
        Self { looked, queued: 0, bodies: Vec::new(), due: HashSet::new() }
    }

    pub fn wake(&mut self, lane: &str) {
        if !self.due.contains(lane) {
            self.due.insert(lane.to_owned());
        }
    }
}

pub(super) fn accept(
    change: &Transaction<'_>,
    finished: &Finished,
    arrival: &Arrival,
    lane: &str,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let message = NewMessage {
        id: finished.id,
        size: finished.size,
        digest: finished.digest,
        body: match &finished.body {
            FinishedBody::Memory(octets) => Some(octets),
            FinishedBody::File(_) => None,
        },
        arrival,
        lane,
        is_notice: false,
    };
    insert(change, &message, effects)
}

struct NewMessage<'a> {
    id: QueueId,
    size: u64,
    digest: Digest,
    /// `None` for a body in a file.
    body: Option<&'a [u8]>,
    arrival: &'a Arrival,
    lane: &'a str,
    is_notice: bool,
}

fn insert(
    change: &Transaction<'_>,
    message: &NewMessage<'_>,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let NewMessage { arrival, .. } = message;
    let parameters = &arrival.envelope.parameters;
    let due = ahead::fresh_due(arrival.time, effects.looked).0;
    change
        .prepare_cached(
            "INSERT OR FAIL INTO message (id, lane, next_attempt, arrival, client, hello, reverse_path, \
             eight_bit, smtputf8, ret, envid, size, message_id, body_in_file, is_notice, \
             digest, recipients) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        )?
        .execute(params![
            message.id.as_str(),
            message.lane,
            due,
            arrival.time.0,
            arrival.client,
            arrival.hello,
            arrival.envelope.reverse_path.as_str(),
            parameters.body == Body::EightBitMime,
            parameters.smtputf8,
            parameters.ret.map(Ret::as_str),
            parameters.envid,
            i64::try_from(message.size).unwrap_or(i64::MAX),
            arrival.message_id,
            message.body.is_none(),
            message.is_notice,
            message.digest,
            i64::try_from(arrival.envelope.recipients.len()).unwrap_or(i64::MAX),
        ])?;
    let sequence = change.last_insert_rowid();
    if let Some(octets) = message.body {
        change
            .prepare_cached("INSERT INTO body (message, data) VALUES (?1, ?2)")?
            .execute(params![sequence, octets])?;
    }
    let mut insert = change.prepare_cached(
        "INSERT INTO recipient (message, position, forward_path, notify, orcpt, next_attempt) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (position, recipient) in (0_u32..).zip(&arrival.envelope.recipients) {
        insert.execute(params![
            sequence,
            position,
            recipient.forward_path.as_str(),
            recipient.parameters.notify,
            recipient.parameters.orcpt,
            due,
        ])?;
    }
    effects.queued += 1;
    effects.wake(message.lane);
    Ok(())
}

pub(super) fn settle(
    change: &Transaction<'_>,
    settlement: &Settlement,
    now: UnixMillis,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let found = change
        .prepare_cached("SELECT sequence, body_in_file, lane FROM message WHERE id = ?1")?
        .query_row([settlement.id.as_str()], |row| {
            Ok(Found { sequence: row.get(0)?, body_in_file: row.get(1)?, lane: row.get(2)? })
        })
        .optional()?;
    // An operator may have removed the message while it was under way.
    let Some(found) = found else { return Ok(()) };
    for notice in &settlement.notices {
        put_notice(change, notice, found.sequence, &found.lane, effects)?;
    }
    for concluded in &settlement.outcomes {
        conclude(change, settlement.id, found.sequence, concluded, now)?;
    }
    finish_or_reschedule(change, settlement.id, &found, effects)
}

fn conclude(
    change: &Transaction<'_>,
    id: QueueId,
    sequence: i64,
    concluded: &Concluded,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let Concluded { position, outcome, advice } = concluded;
    let (disposition, reply) = match outcome {
        Outcome::Relayed { reply } => ("relayed", reply),
        Outcome::Failed { reply } => ("failed", reply),
        Outcome::Deferred { reply, next_attempt } => {
            change
                .prepare_cached(
                    "UPDATE recipient SET attempts = attempts + 1, next_attempt = ?3, \
                     last_reply = ?4 WHERE message = ?1 AND position = ?2",
                )?
                .execute(params![sequence, position, next_attempt.0, reply])?;
            return attempts::record_deferral(change, id, concluded, reply, now);
        }
    };
    let ending = Ending { disposition, reply, advice: advice.as_deref(), attempted: true, now };
    move_to_history(change, sequence, Some(*position), &ending)
}

/// A notice goes back through the lane of the message that it is about.
pub(super) fn put_notice(
    change: &Transaction<'_>,
    notice: &NewNotice,
    about: i64,
    lane: &str,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let message = NewMessage {
        id: notice.id,
        size: notice.mail_data.len() as u64,
        digest: Digest::of(&notice.mail_data),
        body: Some(&notice.mail_data),
        arrival: &notice.arrival,
        lane,
        is_notice: true,
    };
    insert(change, &message, effects)?;
    if notice.tells_delay {
        change
            .prepare_cached("UPDATE message SET delay_told = 1 WHERE sequence = ?1")?
            .execute([about])?;
    }
    Ok(())
}

/// How recipients leave the queue.
struct Ending<'a> {
    disposition: &'a str,
    reply: &'a str,
    advice: Option<&'a str>,
    /// Whether an attempt led to it, which counts then.
    attempted: bool,
    now: UnixMillis,
}

/// Moves one recipient of a message, or all that are left. A message without any is on its way out.
fn move_to_history(
    change: &Transaction<'_>,
    sequence: i64,
    position: Option<u32>,
    ending: &Ending<'_>,
) -> rusqlite::Result<()> {
    let (first, last) = (position.unwrap_or(0), position.unwrap_or(u32::MAX));
    change
        .prepare_cached(
            "INSERT OR FAIL INTO history (settled, id, position, lane, arrival, client, \
             reverse_path, forward_path, disposition, attempts, reply, advice, size, message_id) \
             SELECT ?4, m.id, r.position, m.lane, m.arrival, m.client, m.reverse_path, r.forward_path, \
             ?5, r.attempts + ?6, ?7, ?8, m.size, m.message_id \
             FROM message m JOIN recipient r ON r.message = m.sequence \
             WHERE m.sequence = ?1 AND r.position BETWEEN ?2 AND ?3",
        )?
        .execute(params![
            sequence,
            first,
            last,
            ending.now.0,
            ending.disposition,
            ending.attempted,
            ending.reply,
            ending.advice,
        ])?;
    let settled = change
        .prepare_cached("DELETE FROM recipient WHERE message = ?1 AND position BETWEEN ?2 AND ?3")?
        .execute(params![sequence, first, last])?;
    change
        .prepare_cached(
            "UPDATE message SET recipients = recipients - ?2 WHERE sequence = ?1 \
             AND EXISTS (SELECT 1 FROM recipient WHERE message = ?1)",
        )?
        .execute(params![sequence, i64::try_from(settled).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// Where a queued message stands.
struct Found {
    sequence: i64,
    body_in_file: bool,
    lane: String,
}

/// With no recipient left the message goes: its rows here, its file after the commit.
fn finish_or_reschedule(
    change: &Transaction<'_>,
    id: QueueId,
    found: &Found,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let &Found { sequence, body_in_file, ref lane } = found;
    let next: Option<i64> = change
        .prepare_cached("SELECT MIN(next_attempt) FROM recipient WHERE message = ?1")?
        .query_row([sequence], |row| row.get(0))?;
    if let Some(next) = next {
        change
            .prepare_cached("UPDATE message SET next_attempt = ?2 WHERE sequence = ?1")?
            .execute(params![sequence, next])?;
        effects.wake(lane);
        return Ok(());
    }
    delete(change, sequence)?;
    if body_in_file {
        effects.bodies.push(id);
    }
    effects.queued -= 1;
    Ok(())
}

/// Deletes a message without recipients, and its body if that is no file.
fn delete(change: &Transaction<'_>, sequence: i64) -> rusqlite::Result<()> {
    change.prepare_cached("DELETE FROM message WHERE sequence = ?1")?.execute([sequence])?;
    change.prepare_cached("DELETE FROM body WHERE message = ?1")?.execute([sequence])?;
    Ok(())
}

/// An operator removes a message: what was left of it is on record, and its rows go.
pub(super) fn remove(
    change: &Transaction<'_>,
    sequence: i64,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let ending = Ending {
        disposition: "removed",
        reply: "by an operator, with `queue remove`",
        advice: None,
        attempted: false,
        now,
    };
    move_to_history(change, sequence, None, &ending)?;
    delete(change, sequence)
}

/// A recipient that waits for longer anyhow goes on to do so.
pub(super) fn postpone(
    change: &Transaction<'_>,
    ids: &[QueueId],
    until: UnixMillis,
) -> rusqlite::Result<()> {
    for id in ids {
        change
            .prepare_cached(
                "UPDATE recipient SET next_attempt = MAX(next_attempt, ?2) \
                 WHERE message = (SELECT sequence FROM message WHERE id = ?1)",
            )?
            .execute(params![id.as_str(), until.0])?;
        change
            .prepare_cached(
                "UPDATE message SET next_attempt = COALESCE((SELECT MIN(next_attempt) \
                 FROM recipient WHERE message = sequence), ?2) WHERE id = ?1",
            )?
            .execute(params![id.as_str(), until.0])?;
    }
    Ok(())
}

pub(super) fn hold(change: &Transaction<'_>, id: QueueId, reason: &str) -> rusqlite::Result<()> {
    change
        .prepare_cached("UPDATE message SET hold_reason = ?2 WHERE id = ?1")?
        .execute(params![id.as_str(), reason])
        .map(|_| ())
}

/// Cuts up to `rows` rows that are older than `keep`, and says how many there were.
pub(super) fn prune_history(
    change: &Transaction<'_>,
    now: UnixMillis,
    keep: Duration,
    rows: usize,
) -> rusqlite::Result<usize> {
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let oldest = now.0.saturating_sub(keep);
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    attempts::prune(change, oldest, rows)?;
    change
        .prepare_cached(
            "DELETE FROM history WHERE sequence IN \
             (SELECT sequence FROM history WHERE settled < ?1 ORDER BY settled, sequence LIMIT ?2)",
        )?
        .execute(params![oldest, rows])
}
