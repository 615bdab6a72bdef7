//! Times that a clock which was ahead has left in the queue.
//!
//! Mail is stamped by the wall clock, which may be set back: a machine whose hardware clock is in
//! local time is hours ahead until it hears of the right time. What such a clock has put down for
//! later would wait for a time that is far off by now. So the clock is watched along with the queue
//! commands: at the first look after a start, and when it shows an earlier time than at the look
//! before, what lies too far ahead of it becomes due.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, committer::Work, error::StoreError, read::Reader, write::Effects};
use crate::{clock::UnixMillis, office365::replies::PauseRule};

/// No retry is farther off: an hour and a tenth of it (`queue/schedule.rs`), and some minutes more.
const LONGEST_RETRY: Duration = Duration::from_secs(75 * 60);

/// Nor is a message of a held sender put off for longer, again with some minutes more.
const LONGEST_HOLD: Duration = Duration::from_secs(PauseRule::SENDER.most.as_secs() + 15 * 60);

/// Nothing waits for longer, whatever is on record.
const LONGEST: Duration = Duration::from_secs(2 * 86_400);

/// Looks are a second apart: mail that is stamped longer after one is of a clock that was ahead.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// A step back of this much leaves mail whose age its stamp does not tell.
const LARGE_STEP: Duration = Duration::from_secs(60);

/// Most messages that become due in one transaction, so that none takes long.
const MOST: usize = 1000;

/// No time, or no message: it lies behind all others.
const NONE: i64 = i64::MAX;

/// What is known of the wall clock. Of each step back every message is looked at once.
#[derive(Debug)]
pub(super) struct ClockWatch {
    /// What it showed at the last look; before the first look any time is an earlier one.
    looked: AtomicI64,
    /// What it showed when a large step back was noticed.
    noticed: AtomicI64,
    /// The message up to which the queue has been looked through since.
    done: AtomicI64,
}

impl Default for ClockWatch {
    fn default() -> Self {
        Self { looked: NONE.into(), noticed: NONE.into(), done: NONE.into() }
    }
}

impl ClockWatch {
    fn look(&self, now: UnixMillis) {
        let before = UnixMillis(self.looked.swap(now.0, Relaxed));
        if now < before {
            self.done.store(i64::MIN, Relaxed);
        }
        if before.since(now) >= LARGE_STEP {
            self.noticed.store(now.0, Relaxed);
        }
    }

    /// What the clock showed at the last look, or the end of time.
    pub fn looked(&self) -> UnixMillis {
        UnixMillis(self.looked.load(Relaxed))
    }

    /// Since when a message has been waiting: its stamp, unless that lies ahead. Then it came before
    /// the clock was set back.
    fn waiting_since(&self, arrival: UnixMillis, now: UnixMillis) -> UnixMillis {
        let noticed = UnixMillis(self.noticed.load(Relaxed));
        if arrival > now && noticed <= now { noticed } else { arrival }
    }
}

/// When fresh mail is due: at once. Mail that was stamped before the clock was set back may be
/// committed after it.
pub(super) fn fresh_due(arrival: UnixMillis, looked: UnixMillis) -> UnixMillis {
    if arrival > looked + BETWEEN_LOOKS { looked } else { arrival }
}

impl Store {
    /// Looks whether somebody else (a queue command) has changed what is queued, and if so counts
    /// anew and tells the watchers. Looks at the clock as well: if it has been set back, mail that
    /// would wait for a time too far ahead becomes due.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read or written.
    pub async fn look_for_amendments(&self) -> Result<(), StoreError> {
        self.look_at(self.shared.clock.now()).await
    }

    pub(super) async fn look_at(&self, now: UnixMillis) -> Result<(), StoreError> {
        let watch = &self.shared.state.clock;
        watch.look(now);
        self.submit(|answer| Work::Look { answer }).await?;
        let after = watch.done.load(Relaxed);
        if after == NONE {
            return Ok(());
        }
        let ahead = self.read(move |database| ahead(database, now, after)).await?;
        let last = if ahead.len() < MOST { None } else { ahead.last().copied() };
        if !ahead.is_empty() {
            tracing::warn!(
                messages = ahead.len(),
                "clock has been set back: messages that would wait for a time too far ahead of it \
                 are due now; look at the time synchronization of this host"
            );
            self.submit(|answer| Work::MakeDue { sequences: ahead, now, answer }).await?;
        }
        // Unless the clock has been set back again meanwhile.
        let _ = watch.done.compare_exchange(after, last.unwrap_or(NONE), Relaxed, Relaxed);
        Ok(())
    }

    /// Puts right since when the oldest messages have been waiting.
    pub(super) fn correct_ages(&self, summary: &mut super::Summary) {
        let (watch, now) = (&self.shared.state.clock, self.shared.clock.now());
        for lane in &mut summary.lanes {
            lane.oldest = watch.waiting_since(lane.oldest, now);
            lane.oldest_waiting = lane.oldest_waiting.map(|time| watch.waiting_since(time, now));
        }
    }
}

/// A recipient whose time lies too far ahead. Without an attempt it is due at once if its message
/// arrived in the future; else it can only have been put off with its sender. After an attempt it
/// waits for the next one: too long if that attempt, too, is on record in the future. If it is not, a
/// long wait may be meant.
const TOO_FAR: &str = "r.next_attempt > ?1 AND CASE \
    WHEN r.attempts > 0 THEN r.next_attempt > ?4 OR (r.next_attempt > ?2 AND EXISTS (SELECT 1 \
    FROM attempt a WHERE a.id = m.id AND a.position = r.position AND a.time > ?1)) \
    WHEN m.arrival > ?1 THEN TRUE ELSE r.next_attempt > ?3 END";

/// The first four parameters of that: now, and when the longest retry, the longest hold, and the
/// longest wait of all would end.
fn ends(now: UnixMillis) -> [i64; 4] {
    [now.0, (now + LONGEST_RETRY).0, (now + LONGEST_HOLD).0, (now + LONGEST).0]
}

/// The first messages behind `after` that have such recipients, by the numbers of their rows.
fn ahead(database: &Reader, now: UnixMillis, after: i64) -> Result<Vec<i64>, StoreError> {
    let run = || {
        let [time, retry, hold, longest] = ends(now);
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        // In the order of the recipients, which is that of their messages.
        database
            .prepare_cached(&format!(
                "SELECT DISTINCT r.message FROM recipient r CROSS JOIN message m \
                 ON m.sequence = r.message WHERE r.message > ?5 AND {TOO_FAR} \
                 ORDER BY r.message LIMIT ?6"
            ))?
            .query_map(params![time, retry, hold, longest, after, most], |row| row.get(0))?
            .collect::<Result<_, _>>()
    };
    run().map_err(StoreError::database("look for messages that wait too long"))
}

/// Such recipients of these messages are due.
pub(super) fn make_due(
    change: &Transaction<'_>,
    sequences: &[i64],
    now: UnixMillis,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let [time, retry, hold, longest] = ends(now);
    for sequence in sequences {
        let pulled = change
            .prepare_cached(&format!(
                "UPDATE recipient AS r SET next_attempt = ?1 FROM message m \
                 WHERE r.message = ?5 AND m.sequence = ?5 AND {TOO_FAR}"
            ))?
            .execute(params![time, retry, hold, longest, sequence])?;
        if pulled == 0 {
            continue;
        }
        let lane: Option<String> = change
            .prepare_cached(
                "UPDATE message SET next_attempt = \
                 (SELECT MIN(next_attempt) FROM recipient WHERE message = sequence) \
                 WHERE sequence = ?1 RETURNING lane",
            )?
            .query_row([sequence], |row| row.get(0))
            .optional()?;
        if let Some(lane) = lane {
            effects.wake(&lane);
        }
    }
    Ok(())
}
