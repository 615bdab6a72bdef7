//! What the rest of the relay sees of the token task.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{Notify, watch};

use super::{AccessToken, Expiry, TokenError};
use crate::clock::{Clock, UnixMillis};

/// Reads what the token task publishes. Clones are cheap and read the same task.
#[derive(Debug, Clone)]
pub struct TokenHandle {
    shared: Arc<Shared>,
    states: watch::Receiver<TokenState>,
    clock: Clock,
}

/// What is known at one moment.
#[derive(Debug, Clone, Default)]
pub struct TokenState {
    /// The newest token. It stays when a refresh fails, and may have expired.
    pub token: Option<Arc<AccessToken>>,
    /// The last failure, if no success came after it.
    pub last_error: Option<Arc<FailedRefresh>>,
    /// When the next request is planned; `None` before the first has ended.
    pub next_refresh: Option<UnixMillis>,
    /// When the credential itself ends, if that is known.
    pub expiry: Option<Expiry>,
}

/// Requests that failed in a row, described by the last of them.
#[derive(Debug)]
pub struct FailedRefresh {
    /// Why the last one failed. Its Display is the text for people.
    pub error: TokenError,
    /// The next step for the person in charge.
    pub advice: String,
    /// When the first of the row failed.
    pub since: UnixMillis,
    /// When the last one failed.
    pub at: UnixMillis,
    /// How many failed.
    pub attempts: u32,
    /// When the next request is planned.
    pub next_try: UnixMillis,
    /// Whether there still was a token to log in with.
    pub has_token: bool,
}

impl TokenState {
    /// The token, if it can still be used at `now`.
    #[must_use]
    pub fn usable(&self, now: UnixMillis) -> Option<&Arc<AccessToken>> {
        self.token.as_ref().filter(|token| token.is_usable(now))
    }
}

impl TokenHandle {
    pub(super) fn new(clock: Clock) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared::default());
        (Self { states: shared.states.subscribe(), shared: Arc::clone(&shared), clock }, shared)
    }

    /// A handle without a task, that has this token for as long as it is good: for tests. Time
    /// stands at the token's `obtained_at` now and moves with tokio's.
    #[must_use]
    pub fn fixed(token: AccessToken) -> Self {
        let (handle, shared) = Self::new(Clock::at(token.obtained_at()));
        shared.publish(TokenState { token: Some(Arc::new(token)), ..TokenState::default() });
        handle
    }

    /// Whether both have the tokens of one task.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// What is known now.
    #[must_use]
    pub fn snapshot(&self) -> TokenState {
        self.states.borrow().clone()
    }

    /// Waits until there is a token with at least 30 s left. After the drain it may wait for ever.
    pub async fn valid(&self) -> Arc<AccessToken> {
        match self.first(|_| true).await {
            Some(token) => token,
            None => std::future::pending().await,
        }
    }

    /// As [`TokenHandle::valid`], but for another token than `refused`, which a server did not
    /// accept. It waits for as long as none can be had, so put a time limit on it; `None` once the
    /// drain has begun, after which there is no other.
    pub async fn valid_after(&self, refused: &AccessToken) -> Option<Arc<AccessToken>> {
        self.first(|token| token.obtained_at() != refused.obtained_at()).await
    }

    async fn first(&self, wanted: impl Fn(&AccessToken) -> bool) -> Option<Arc<AccessToken>> {
        let mut states = self.states.clone();
        loop {
            let now = self.clock.now();
            let usable = states.borrow_and_update().usable(now).map(Arc::clone);
            if let Some(token) = usable.filter(|token| wanted(token)) {
                return Some(token);
            }
            if self.shared.ended.load(Ordering::Acquire) {
                return None;
            }
            // The machine may have slept and the task not have noticed yet.
            self.shared.wake.notify_one();
            if states.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Waits until the task has published something that this handle has not waited for yet.
    pub async fn changed(&mut self) {
        if self.states.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Asks for a new token at once, unless one was obtained after `unless_newer_than`: the time
    /// of the token that a server refused, or now if a person wants a new try. The task makes at
    /// most one such request a minute and keeps to a pause that the endpoint asked for; a demand
    /// that comes too soon is met when it may be.
    pub fn refresh_now(&self, unless_newer_than: UnixMillis) {
        let mut demand = self.shared.demand.lock().unwrap_or_else(PoisonError::into_inner);
        *demand = (*demand).max(Some(unless_newer_than));
        drop(demand);
        self.shared.wake.notify_one();
    }
}

/// What handles and task have in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    states: watch::Sender<TokenState>,
    demand: Mutex<Option<UnixMillis>>,
    /// Tells the task to look at the demand and at the clock.
    pub wake: Notify,
    /// The task has ended.
    ended: AtomicBool,
}

impl Shared {
    pub(super) fn publish(&self, state: TokenState) {
        self.states.send_replace(state);
    }

    /// Tells the end of the credential, if that is news.
    pub(super) fn publish_expiry(&self, expiry: Option<&Expiry>) {
        self.states.send_if_modified(|state| {
            let is_news = state.expiry.as_ref() != expiry;
            if is_news {
                state.expiry = expiry.cloned();
            }
            is_news
        });
    }

    /// The task ends: nobody has to wait for it any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.states.send_modify(|_| {});
    }

    pub(super) fn state(&self) -> TokenState {
        self.states.borrow().clone()
    }

    /// Whether a demand waits that the token at hand does not meet already.
    pub(super) fn is_demanded(&self) -> bool {
        let mut demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        let obtained_at = self.states.borrow().token.as_ref().map(|token| token.obtained_at());
        if obtained_at > *demand {
            *demand = None;
        }
        demand.is_some()
    }

    /// The request that begins now meets every demand made so far.
    pub(super) fn forget_demand(&self) {
        *self.demand.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
