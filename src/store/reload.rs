//! What can change while the store is open: limits, and which lane mail waits in.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use super::{Config, Router, Store, StoreError, committer::Work};

impl Store {
    /// The limits of `config` hold from here on; its directory is not looked at.
    pub fn set_limits(&self, config: &Config) {
        let state = &self.shared.state;
        state.max_messages.store(config.max_messages, Ordering::Relaxed);
        state.history_keep.store(config.history_keep.as_secs(), Ordering::Relaxed);
        self.shared.space.set_wanted(config.min_free_bytes);
    }

    /// Mail waits in the lanes that `router` says from here on, that which waits already too.
    /// Nothing may be under way meanwhile: a message that is could be taken up in its new lane once
    /// more.
    ///
    /// # Errors
    /// [`StoreError`] if what waits could not be moved; it waits for the next start then, unless
    /// its lane is still there.
    pub async fn set_router(&self, router: Arc<dyn Router>) -> Result<(), StoreError> {
        let shared = &self.shared;
        *shared.router.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&router);
        self.submit(|answer| Work::Route { router, answer }).await
    }

    /// A message may have been accepted by old routes just as new ones came. It is moved only if
    /// its lane is gone: else it goes from there.
    pub(super) async fn follow_routes(&self, used: &Arc<dyn Router>, lane: &str) {
        let now = self.shared.router();
        if Arc::ptr_eq(used, &now) || now.knows(lane) {
            return;
        }
        if let Err(error) = self.submit(|answer| Work::Route { router: now, answer }).await {
            tracing::error!(%error, lane, "mail of a lane that is gone waits for a restart");
        }
    }
}
