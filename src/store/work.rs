//! What the committer is asked to do, and how each of it is answered.

use rusqlite::Transaction;
use tokio::sync::oneshot;

use super::{
    Arrival, Receipt, Reminder, Settlement, ahead, attempts,
    draft::{Finished, FinishedBody},
    due,
    error::StoreError,
    routing::Rerouting,
    totals,
    write::{self, Effects},
};
use crate::{clock::UnixMillis, mail::queue_id::QueueId};

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// One thing to do, and who waits for it.
pub(super) enum Work {
    Accept {
        finished: Finished,
        arrival: Box<Arrival>,
        lane: String,
        answer: Answer<Receipt>,
    },
    Settle {
        settlement: Settlement,
        now: UnixMillis,
        answer: Answer<()>,
    },
    Hold {
        id: QueueId,
        reason: String,
        now: UnixMillis,
        answer: Answer<()>,
    },
    Postpone {
        ids: Vec<QueueId>,
        until: UnixMillis,
        answer: Answer<()>,
    },
    /// What of these messages, by the numbers of their rows, waits for a time too far ahead is due.
    MakeDue {
        sequences: Vec<i64>,
        now: UnixMillis,
        answer: Answer<()>,
    },
    /// A message whose rows make no sense, by the number of its row.
    SetAside {
        sequence: i64,
        reason: String,
        answer: Answer<()>,
    },
    /// A notice of ours, with what it tells of.
    Remind {
        reminder: Box<Reminder>,
        answer: Answer<()>,
    },
    Look {
        answer: Answer<()>,
    },
    Route {
        rerouting: Rerouting,
        answer: Answer<()>,
    },
    /// A reader has met damage when there had been `rebuilds`; `again` if it had right before.
    Repair {
        rebuilds: u64,
        again: bool,
        error: StoreError,
        answer: Answer<()>,
    },
    Stop {
        done: oneshot::Sender<()>,
    },
}

impl Work {
    pub fn octets(&self) -> usize {
        match self {
            Self::Accept { finished, .. } => match &finished.body {
                FinishedBody::Memory(octets) => octets.len(),
                FinishedBody::File(_) => 0,
            },
            _ => 0,
        }
    }

    pub fn has_body_file(&self) -> bool {
        matches!(self, Self::Accept { finished: Finished { body: FinishedBody::File(_), .. }, .. })
    }

    /// Recipients that it moves to the history at most.
    pub fn settles(&self) -> usize {
        match self {
            Self::Settle { settlement, .. } => settlement.outcomes.len(),
            _ => 0,
        }
    }

    /// When the work was handed in. This thread reads no clock: a test's time may stand still.
    pub fn time(&self) -> Option<UnixMillis> {
        match self {
            Self::Accept { arrival, .. } => Some(arrival.time),
            Self::Settle { now, .. } | Self::Hold { now, .. } => Some(*now),
            Self::Remind { reminder, .. } => Some(reminder.notice.arrival.time),
            _ => None,
        }
    }

    pub fn apply(&self, change: &Transaction<'_>, effects: &mut Effects) -> rusqlite::Result<()> {
        match self {
            Self::Accept { finished, arrival, lane, .. } => {
                write::accept(change, finished, arrival, lane, effects)
            }
            Self::Settle { settlement, now, .. } => {
                write::settle(change, settlement, *now, effects)
            }
            Self::Hold { id, reason, now, .. } => {
                write::hold(change, *id, reason)?;
                attempts::record_hold(change, *id, reason, *now)
            }
            Self::Postpone { ids, until, .. } => write::postpone(change, ids, *until),
            Self::MakeDue { sequences, now, .. } => {
                ahead::make_due(change, sequences, *now, effects)
            }
            Self::Remind { reminder, .. } => totals::remind(change, reminder, effects),
            Self::SetAside { sequence, reason, .. } => {
                due::hold(change, *sequence, reason).map(|_| ())
            }
            Self::Route { rerouting, .. } => rerouting.run(change, effects),
            Self::Look { .. } | Self::Repair { .. } | Self::Stop { .. } => Ok(()),
        }
    }

    /// The transaction is durable: only here does a [`Receipt`] come into being.
    pub fn grant(self) {
        match self {
            Self::Accept { finished, answer, .. } => {
                let receipt = Receipt { id: finished.id };
                if let FinishedBody::File(file) = finished.body {
                    file.committed();
                }
                let _ = answer.send(Ok(receipt));
            }
            other => other.conclude(Ok(())),
        }
    }

    pub fn refuse(self, error: StoreError) {
        match self {
            Self::Accept { answer, .. } => drop(answer.send(Err(error))),
            other => other.conclude(Err(error)),
        }
    }

    pub fn conclude(self, result: Result<(), StoreError>) {
        match self {
            Self::Settle { answer, .. }
            | Self::Hold { answer, .. }
            | Self::Postpone { answer, .. }
            | Self::MakeDue { answer, .. }
            | Self::SetAside { answer, .. }
            | Self::Repair { answer, .. }
            | Self::Remind { answer, .. }
            | Self::Route { answer, .. }
            | Self::Look { answer } => drop(answer.send(result)),
            Self::Accept { .. } | Self::Stop { .. } => {}
        }
    }

    pub fn refuse_keeping_body(self, error: StoreError) {
        match self {
            Self::Accept { finished, answer, .. } => {
                if let FinishedBody::File(file) = finished.body {
                    file.committed();
                }
                let _ = answer.send(Err(error));
            }
            other => other.refuse(error),
        }
    }
}
