//! The whole story of one message, as far as it is on record.

use rusqlite::{Transaction, TransactionBehavior};

use super::{Desk, Queued, find};
use crate::{
    clock::UnixMillis,
    mail::queue_id::QueueId,
    store::{Settled, StoreError, read},
};

/// What is known of a message, queued or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// Its queue id.
    pub id: QueueId,
    /// What still waits of it; `None` once every recipient is settled.
    pub queued: Option<Queued>,
    /// The recipients that are settled, by their place in the envelope.
    pub settled: Vec<Settled>,
    /// The attempts that settled nothing, by place and time.
    pub attempts: Vec<Attempt>,
}

/// An attempt that settled nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The recipient's place in the envelope.
    pub position: u32,
    /// When it ended.
    pub time: UnixMillis,
    /// `deferred`, or `held` if the message was set aside after it.
    pub disposition: String,
    /// Upstream's words, or our own reason.
    pub reply: String,
    /// The next step for the admin, if there was one.
    pub advice: Option<String>,
}

impl Desk {
    /// The story of a message; `None` if nothing of it is on record.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn story(&self, id: QueueId) -> Result<Option<Story>, StoreError> {
        let run = || {
            // One view of all tables: a recipient may be settled while we look.
            let view = Transaction::new_unchecked(&self.database, TransactionBehavior::Deferred)?;
            let queued = find::one(&view, id)?;
            let settled = view
                .prepare_cached("SELECT * FROM history WHERE id = ?1 ORDER BY position, sequence")?
                .query_map([id.as_str()], read::settled)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            if queued.is_none() && settled.is_empty() {
                return Ok(None);
            }
            let attempts = view
                .prepare_cached(
                    "SELECT position, time, disposition, reply, advice FROM attempt \
                     WHERE id = ?1 ORDER BY position, number",
                )?
                .query_map([id.as_str()], |row| {
                    Ok(Attempt {
                        position: row.get(0)?,
                        time: UnixMillis(row.get(1)?),
                        disposition: row.get(2)?,
                        reply: row.get(3)?,
                        advice: row.get(4)?,
                    })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(Some(Story { id, queued, settled, attempts }))
        };
        run().map_err(StoreError::database("read a message"))
    }
}
