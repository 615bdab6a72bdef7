//! What the committer does when the database turns out to be damaged while it runs.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    committer::Committer,
    error::{DatabaseFault, StoreError},
    read, rebuild, schema,
};

/// Rebuilds within [`LATELY`] at most: each takes time and leaves a copy, and a disk that goes on
/// to lose pages is not to be trusted with mail.
const MOST: usize = 5;
const LATELY: Duration = Duration::from_secs(3600);

impl Committer {
    /// Brings what can be read into a fresh database, after which work goes on.
    ///
    /// # Errors
    /// One that says [`StoreError::is_damage`] if there is no way on; others may pass.
    pub(super) fn repair(&mut self, found: &StoreError) -> Result<(), StoreError> {
        tracing::error!(error = %found, "queue database is damaged, rebuilding it");
        let damaged = |cause| StoreError::damaged(&self.directory.database(), cause);
        let now = self.clock.now();
        self.rebuilt.retain(|time| now.since(*time) < LATELY);
        if self.rebuilt.len() >= MOST {
            return Err(damaged(StoreError::Database {
                doing: "keep up with the damage",
                source: format!("rebuilt {MOST} times within an hour, the disk is failing").into(),
                class: DatabaseFault::Damaged,
            }));
        }
        let durability = Arc::clone(&self.durability);
        let recovery =
            rebuild::rebuild(&mut self.database, &self.directory, durability.as_ref(), now)
                .map_err(|error| match error.is_full() || error.is_busy() {
                    true => error,
                    false => damaged(error),
                })?;
        self.rebuilt.push(now);
        recovery.log();
        *self.state.rebuilt() = Some(recovery.in_short(now));
        self.state.rebuilds.fetch_add(1, Ordering::Release);
        self.state.queued.store(read::count(&self.database)?, Ordering::Relaxed);
        self.version = schema::data_version(&self.database)?;
        self.state.amendments.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Damage that a reader has met. It may have been dealt with since.
    pub(super) fn repair_for_reader(
        &mut self,
        rebuilds: u64,
        again: bool,
        found: StoreError,
    ) -> Result<(), StoreError> {
        if self.state.poisoned.load(Ordering::Relaxed) {
            return Err(StoreError::Poisoned);
        }
        if self.state.rebuilds.load(Ordering::Acquire) != rebuilds {
            return Ok(());
        }
        let repaired = if again { Err(found) } else { self.repair(&found) };
        self.poison_for(repaired)
    }

    /// As [`Committer::look`], of a database that may be damaged.
    pub(super) fn look_or_repair(&mut self) -> Result<(), StoreError> {
        if self.state.poisoned.load(Ordering::Relaxed) {
            return Err(StoreError::Poisoned);
        }
        let looked = match self.look() {
            Err(error) if error.is_damage() => self.repair(&error).and_then(|()| self.look()),
            looked => looked,
        };
        self.poison_for(looked)
    }

    fn poison_for(&self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        match result {
            Err(error) if error.is_damage() => {
                self.poison(Vec::new(), error);
                Err(StoreError::Poisoned)
            }
            other => other,
        }
    }
}
