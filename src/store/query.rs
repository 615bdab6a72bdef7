//! What the handle reads, and what it does about damage and nonsense that it meets there.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Body, Entry, Settled, Store, StoreError, Summary, committer::Work, due, read, totals};
use crate::{clock::UnixMillis, mail::queue_id::QueueId};

/// What a lane is given to do.
#[derive(Debug)]
pub struct Page {
    /// The messages, oldest first.
    pub entries: Vec<Entry>,
    /// Bodies of the first of them, as they are at this moment.
    pub bodies: HashMap<QueueId, Body>,
    /// If no message is due: when one will be.
    pub next: Option<UnixMillis>,
}

impl Store {
    /// Recipients relayed through a lane since `since`, as (start of a step, how many), oldest
    /// first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn relayed_since(
        &self,
        lane: &str,
        since: UnixMillis,
        step: Duration,
    ) -> Result<Vec<(UnixMillis, u64)>, StoreError> {
        let lane = lane.to_owned();
        self.read(move |database| read::relayed_since(database, &lane, since, step)).await
    }

    /// Messages of a lane whose next attempt is due, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn due(&self, lane: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.page(lane, limit, 0, &HashSet::new()).await.map(|page| page.entries)
    }

    /// As [`Store::due`], but for messages that the lane has already, with the bodies of the first
    /// `bodies` of them, if they are small: those that go at once need not ask again.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn page(
        &self,
        lane: &str,
        limit: usize,
        bodies: usize,
        leased: &HashSet<QueueId>,
    ) -> Result<Page, StoreError> {
        let (lane, now) = (lane.to_owned(), self.shared.clock.now());
        let leased: Arc<str> = due::list(leased.iter()).into();
        loop {
            let (lane, leased) = (lane.clone(), Arc::clone(&leased));
            let ask = move |database: &read::Reader| {
                let wanted = due::Wanted { limit, bodies, but: &leased };
                let due = due::due(database, &lane, now, &wanted)?;
                let none = due.entries.is_empty();
                let next = none.then(|| read::next_due(database, &lane, now)).transpose()?;
                Ok((due, next.flatten()))
            };
            let (due::Due { entries, bodies, unfit }, next) = self.read(ask).await?;
            let stopped = self.set_aside(unfit).await;
            // Behind messages that make no sense there may be others.
            match (entries.is_empty(), stopped) {
                (true, Ok(true)) => {}
                (true, Err(error)) => return Err(error),
                _ => return Ok(Page { entries, bodies, next }),
            }
        }
    }

    /// Whether there were any.
    async fn set_aside(&self, unfit: Vec<due::Unfit>) -> Result<bool, StoreError> {
        let any = !unfit.is_empty();
        for due::Unfit { sequence, id, reason } in unfit {
            due::tell(sequence, id, &reason);
            self.submit(|answer| Work::SetAside { sequence, reason, answer }).await?;
        }
        Ok(any)
    }

    /// When the next message of a lane that is not yet due will be.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn next_due(&self, lane: &str) -> Result<Option<UnixMillis>, StoreError> {
        let (lane, now) = (lane.to_owned(), self.shared.clock.now());
        self.read(move |database| read::next_due(database, &lane, now)).await
    }

    /// What is queued, by lane. Mail that a clock which was ahead has stamped counts as waiting
    /// since that was noticed.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn summary(&self) -> Result<Summary, StoreError> {
        let mut summary = self.read(totals::summary).await?;
        self.correct_ages(&mut summary);
        Ok(summary)
    }

    /// The newest settled recipients, at most `limit`; with `failed_only`, those that failed.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn history(
        &self,
        failed_only: bool,
        limit: usize,
    ) -> Result<Vec<Settled>, StoreError> {
        self.read(move |database| read::history(database, failed_only, limit)).await
    }

    /// Runs a query. If it meets damage, again once the database has been rebuilt.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl Fn(&read::Reader) -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let query = Arc::new(query);
        let rebuilds = || self.shared.state.rebuilds.load(Ordering::Acquire);
        let before = rebuilds();
        let error = match self.read_once(&query).await {
            Err(error) if error.is_damage() => error,
            result => return result,
        };
        self.report_damage(before, false, error).await?;
        self.shared.readers.close();
        let between = rebuilds();
        match self.read_once(&query).await {
            // Damage again, right after the repair.
            Err(error) if error.is_damage() => {
                self.report_damage(between, true, error).await?;
                Err(StoreError::Poisoned)
            }
            result => result,
        }
    }

    async fn report_damage(
        &self,
        rebuilds: u64,
        again: bool,
        error: StoreError,
    ) -> Result<(), StoreError> {
        self.submit(|answer| Work::Repair { rebuilds, again, error, answer }).await
    }

    async fn read_once<T: Send + 'static>(
        &self,
        query: &Arc<impl Fn(&read::Reader) -> Result<T, StoreError> + Send + Sync + 'static>,
    ) -> Result<T, StoreError> {
        let _turn = self.shared.readers.turn().await;
        let (shared, query) = (Arc::clone(&self.shared), Arc::clone(query));
        tokio::task::spawn_blocking(move || shared.readers.with(|reader| query(reader)))
            .await
            .map_err(|_| StoreError::Closed)?
    }
}
