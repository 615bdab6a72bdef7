//! What can change while the store is open: limits, and which lane mail waits in.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use super::{
    Config, Router, Store, StoreError,
    committer::Work,
    routing::{Rerouting, Which},
};

impl Store {
    /// The limits of `config` hold from here on; its directory is not looked at.
    pub fn set_limits(&self, config: &Config) {
        let state = &self.shared.state;
        state.max_messages.store(config.max_messages, Ordering::Relaxed);
        state.history_keep.store(config.history_keep.as_secs(), Ordering::Relaxed);
        self.shared.space.set_wanted(config.min_free_bytes);
    }

    /// New mail waits in the lanes that `router` says from here on, and so does what waits already,
    /// but for that in the lanes of `at_work`. There a message may be under way, which nobody must
    /// take up in another lane meanwhile: [`Store::route_lane`] is for those, one by one.
    ///
    /// # Errors
    /// [`StoreError`] if what waits could not be moved. New mail takes the new routes all the same.
    pub async fn set_router(
        &self,
        router: Arc<dyn Router>,
        at_work: BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        *shared.router.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&router);
        let rerouting = Rerouting { router, which: Which::NotIn(at_work) };
        self.submit(|answer| Work::Route { rerouting, answer }).await
    }

    /// What waits in `lane` goes to where the routes lead that hold now; whoever may have something
    /// to do for it is told. None of its messages may be under way.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has been moved then.
    pub async fn route_lane(&self, lane: &str) -> Result<(), StoreError> {
        let which = Which::In(lane.to_owned());
        let rerouting = Rerouting { router: self.shared.router(), which };
        self.submit(|answer| Work::Route { rerouting, answer }).await
    }
}
