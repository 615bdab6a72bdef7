//! What an operator changes.

use std::{thread, time::Duration};

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use super::Desk;
use crate::{
    clock::UnixMillis,
    mail::queue_id::QueueId,
    store::{StoreError, write},
};

/// Between two transactions of ours. SQLite looks every 100 ms at most whether it is its turn, so
/// the daemon is never kept from its work for long by many small changes.
const GIVE_WAY: Duration = Duration::from_millis(120);

/// Most messages in one transaction, which takes some ten milliseconds then.
const MOST: usize = 1000;

/// A change of a queued message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amendment {
    /// Its next attempt is due now.
    Retry,
    /// It is set aside until it is released.
    Hold {
        /// Why, for whoever meets it.
        reason: String,
    },
    /// It goes on where it was set aside.
    Release,
    /// It goes; its recipients are on record as removed.
    Remove,
}

/// What has come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amended {
    /// It is done.
    Done,
    /// There is no such message in the queue (any more).
    NotQueued,
    /// It cannot be tried because it is held.
    Held,
    /// It cannot be released because it is not held.
    NotHeld,
}

impl Desk {
    /// Makes a change to messages; when it returns, the change is durable. Large numbers take
    /// several transactions, so that a running daemon gets its turn between them.
    ///
    /// # Errors
    /// [`StoreError`]; what came in later transactions has not changed then.
    pub fn amend(
        &self,
        ids: &[QueueId],
        amendment: &Amendment,
        now: UnixMillis,
    ) -> Result<Vec<Amended>, StoreError> {
        let mut amended = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST) {
            if self.amended.replace(true) {
                thread::sleep(GIVE_WAY);
            }
            let mut bodies = Vec::new();
            let mut run = || {
                let change =
                    Transaction::new_unchecked(&self.database, TransactionBehavior::Immediate)?;
                for id in ids {
                    let (result, has_file) = apply(&change, *id, amendment, now)?;
                    amended.push(result);
                    bodies.extend(has_file.then_some(*id));
                }
                change.commit()
            };
            run().map_err(StoreError::database("change a message"))?;
            for id in &bodies {
                self.remove_body(*id);
            }
        }
        Ok(amended)
    }

    fn remove_body(&self, id: QueueId) {
        let path = self.places.body_file(id);
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(queue_id = %id, %error, "body file not removed, the next start will");
        }
    }
}

/// The result, and whether a body file is to be removed once it is durable.
fn apply(
    change: &Transaction<'_>,
    id: QueueId,
    amendment: &Amendment,
    now: UnixMillis,
) -> rusqlite::Result<(Amended, bool)> {
    let found = change
        .prepare_cached(
            "SELECT sequence, hold_reason IS NOT NULL, body_in_file FROM message WHERE id = ?1",
        )?
        .query_row([id.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((sequence, held, body_in_file)) = found else {
        return Ok((Amended::NotQueued, false));
    };
    match (amendment, held) {
        (Amendment::Retry, true) => return Ok((Amended::Held, false)),
        (Amendment::Release, false) => return Ok((Amended::NotHeld, false)),
        (Amendment::Retry, false) => {
            for update in [
                "UPDATE message SET next_attempt = MIN(next_attempt, ?2) WHERE sequence = ?1",
                "UPDATE recipient SET next_attempt = MIN(next_attempt, ?2) WHERE message = ?1",
            ] {
                change.prepare_cached(update)?.execute(params![sequence, now.0])?;
            }
        }
        (Amendment::Hold { reason }, _) => write::hold(change, id, reason)?,
        (Amendment::Release, true) => {
            change
                .prepare_cached("UPDATE message SET hold_reason = NULL WHERE sequence = ?1")?
                .execute([sequence])?;
        }
        (Amendment::Remove, _) => {
            write::remove(change, sequence, now)?;
            return Ok((Amended::Done, body_in_file));
        }
    }
    Ok((Amended::Done, false))
}
