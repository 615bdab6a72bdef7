//! The committer: one thread that owns the write connection. It takes what waits, runs one
//! transaction with one sync, then answers all. A lone message never waits for company: a
//! batch is what piled up during the sync before.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use rusqlite::{Connection, TransactionBehavior::Immediate};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub(super) use super::work::Work;
use super::{
    Durability, Durable, State,
    directory::Directory,
    error::StoreError,
    read, schema,
    space::SpaceWatch,
    write::{self, Effects},
};
use crate::{
    clock::{Clock, UnixMillis},
    mail::queue_id::QueueId,
    telemetry::metrics::catalogue,
};

/// Most works in one transaction.
const MAX_WORKS: usize = 256;

/// Most octets of bodies in one transaction.
const MAX_OCTETS: usize = 4 * 1024 * 1024;

/// How often the history is cut back, once it is as short as it is to be.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// Rows of history cut in one transaction, so that nobody waits for it: some milliseconds.
const PRUNE_ROWS: usize = 500;

pub(super) struct Committer {
    /// The data version that `queued` has been counted at.
    pub version: i64,
    pub database: Connection,
    pub directory: Directory,
    pub works: mpsc::Receiver<Work>,
    pub state: Arc<State>,
    pub durability: Arc<dyn Durability>,
    /// When nothing was left to be cut from the history; `None` while there may be more.
    pub pruned: Option<UnixMillis>,
    pub space: Arc<SpaceWatch>,
    pub clock: Clock,
    /// When the database has been rebuilt lately.
    pub rebuilt: Vec<UnixMillis>,
}

pub(super) fn spawn(committer: Committer) -> Result<(), StoreError> {
    thread::Builder::new()
        .name("committer".into())
        .spawn(move || committer.run())
        .map(|_| ())
        .map_err(StoreError::io("start the committer thread of", "the store"))
}

impl Committer {
    fn run(mut self) {
        while let Some(first) = self.works.blocking_recv() {
            let (batch, stop) = self.gather(first);
            if !batch.is_empty() {
                self.carry_out(batch);
            }
            if let Some(done) = stop {
                drop(self); // the database and the lock go before the answer
                let _ = done.send(());
                return;
            }
        }
    }

    /// What waits, up to the bounds; works behind a stop are refused when the inbox goes.
    fn gather(&mut self, first: Work) -> (Vec<Work>, Option<oneshot::Sender<()>>) {
        let mut batch = Vec::new();
        let mut octets = 0;
        let mut next = Some(first);
        while let Some(work) = next {
            match work {
                Work::Stop { done } => return (batch, Some(done)),
                Work::Look { answer } => drop(answer.send(self.look_or_repair())),
                Work::Repair { rebuilds, again, error, answer } => {
                    drop(answer.send(self.repair_for_reader(rebuilds, again, error)));
                }
                work => {
                    octets += work.octets();
                    batch.push(work);
                }
            }
            let full = batch.len() >= MAX_WORKS || octets >= MAX_OCTETS;
            next = if full { None } else { self.works.try_recv().ok() };
        }
        (batch, None)
    }

    /// Queue commands have connections of their own. What they have committed shows here as
    /// another data version; our own commits leave it as it is.
    pub(super) fn look(&mut self) -> Result<(), StoreError> {
        let version = schema::data_version(&self.database)?;
        if version != self.version {
            self.state.queued.store(read::count(&self.database)?, Ordering::Relaxed);
            self.version = version;
            self.state.amendments.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    fn carry_out(&mut self, batch: Vec<Work>) {
        if self.state.poisoned.load(Ordering::Relaxed) {
            for work in batch {
                work.refuse(StoreError::Poisoned);
            }
            return;
        }
        let batch = self.refuse_without_room(batch);
        if batch.is_empty() {
            return;
        }
        let result = match self.commit(&batch) {
            Err(error) if error.is_damage() => {
                self.repair(&error).and_then(|()| self.commit(&batch))
            }
            result => result,
        };
        match result {
            Ok(effects) => {
                self.take_effect(&effects);
                batch.into_iter().for_each(Work::grant);
                // After the answers: nobody has to wait for an unlink.
                effects.bodies.iter().for_each(|id| remove_body(&self.directory, *id));
            }
            // Damage again, right after the repair, or no repair.
            Err(error) if error.is_unsafe() || error.is_damage() => self.poison(batch, error),
            // One bad work must not take the others with it.
            Err(error) if batch.len() > 1 && !error.is_full() && !error.is_busy() => {
                for work in batch {
                    self.carry_out(vec![work]);
                }
            }
            Err(error) => {
                tracing::warn!(%error, works = batch.len(), "store refused a change");
                let cause = Arc::new(error);
                for work in batch {
                    work.refuse(StoreError::commit(&cause));
                }
            }
        }
    }

    /// New mail is refused before the disk is so full that nothing could be settled any more.
    fn refuse_without_room(&self, batch: Vec<Work>) -> Vec<Work> {
        let is_new = |work: &Work| matches!(work, Work::Accept { .. });
        if !batch.iter().any(is_new) {
            return batch;
        }
        let Err(error) = self.space.check_reserve() else { return batch };
        let cause = Arc::new(error);
        let (new, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_new);
        for work in new {
            work.refuse(StoreError::commit(&cause));
        }
        others
    }

    /// One transaction, counted.
    fn commit(&mut self, batch: &[Work]) -> Result<Effects, StoreError> {
        let begun = Instant::now();
        let outcome = self.transact(batch);
        match &outcome {
            Ok(_) => {
                catalogue::STORE_COMMIT_DURATION.took(&[], begun.elapsed());
                let changes = u32::try_from(batch.len()).unwrap_or(u32::MAX);
                catalogue::STORE_COMMIT_CHANGES.observe(&[], changes.into());
            }
            Err(_) => catalogue::STORE_COMMIT_FAILURES.inc(&[]),
        }
        outcome
    }

    fn transact(&mut self, batch: &[Work]) -> Result<Effects, StoreError> {
        let prune =
            batch.iter().rev().find_map(Work::time).filter(|now| self.is_to_be_pruned(*now));
        if batch.iter().any(Work::has_body_file) {
            let directory = &self.directory;
            self.durability
                .make_durable(Durable::BodyDirectory, &mut || directory.sync_bodies())?;
        }
        let mut effects = Effects::new(self.state.clock.looked());
        let fault = StoreError::database("write");
        // A transaction that began as a reader could not wait for a queue command that writes.
        let change = self.database.transaction_with_behavior(Immediate).map_err(fault)?;
        for work in batch {
            work.apply(&change, &mut effects).map_err(StoreError::database("write"))?;
        }
        let mut pruned = self.pruned;
        if let Some(now) = prune {
            let keep = Duration::from_secs(self.state.history_keep.load(Ordering::Relaxed));
            // Twice what comes in, or the history of a busy host would grow without end.
            let rows = PRUNE_ROWS.max(2 * batch.iter().map(Work::settles).sum::<usize>());
            let cut = write::prune_history(&change, now, keep, rows)
                .map_err(StoreError::database("prune the history"))?;
            pruned = (cut < rows).then_some(now);
        }
        let mut change = Some(change);
        self.durability.make_durable(Durable::Rows, &mut || match change.take() {
            Some(change) => change.commit().map_err(StoreError::database("commit")),
            None => Ok(()),
        })?;
        self.pruned = pruned;
        Ok(effects)
    }

    /// Also if the clock has been set back since.
    fn is_to_be_pruned(&self, now: UnixMillis) -> bool {
        self.pruned.is_none_or(|last| now.since(last).max(last.since(now)) >= PRUNE_EVERY)
    }

    fn take_effect(&self, effects: &Effects) {
        let queued = &self.state.queued;
        let now = queued.load(Ordering::Relaxed).saturating_add_signed(effects.queued);
        queued.store(now, Ordering::Relaxed); // this thread is the only writer
        if !effects.due.is_empty() {
            self.state.arrivals.tell(effects.due.iter());
        }
    }

    pub(super) fn poison(&self, batch: Vec<Work>, error: StoreError) {
        self.state.poisoned.store(true, Ordering::Relaxed);
        tracing::error!(
            %error,
            "store poisoned, no mail is taken until a restart; check the disk, then restart"
        );
        let cause = Arc::new(error);
        for work in batch {
            // The row may be on disk after all: its body file must stay until the restart.
            work.refuse_keeping_body(StoreError::commit(&cause));
        }
    }
}

fn remove_body(directory: &Directory, id: QueueId) {
    let path = directory.body_file(id);
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(queue_id = %id, %error, "body file not removed, the next start will");
    }
}
