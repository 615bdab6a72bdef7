//! Connections upstream over all lanes. A thousand mailboxes may have mail at once, and each lane
//! by itself would open its connections: together they would take more memory than the rest of the
//! relay, and more connections than a host should make.
//!
//! Whoever waits gets the next one in turn, and lanes with idle connections close them meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified};

/// Room for one connection, until it is dropped.
pub(super) type Slot = OwnedSemaphorePermit;

/// The room for connections. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    wanted: Notify,
}

impl Slots {
    pub fn new(most: usize) -> Self {
        let room = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Inner { room, waiting: 0.into(), wanted: Notify::new() }))
    }

    /// A slot, if there is one that nobody waits for.
    pub fn try_take(&self) -> Option<Slot> {
        Arc::clone(&self.0.room).try_acquire_owned().ok()
    }

    /// A slot, in turn.
    pub async fn take(self) -> Slot {
        let _waiting = Waiting::new(&self.0);
        match Arc::clone(&self.0.room).acquire_owned().await {
            Ok(slot) => slot,
            Err(_) => std::future::pending().await, // it is never closed
        }
    }

    /// Whether somebody waits.
    pub fn are_wanted(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    /// Completes when somebody begins to wait after this call.
    pub fn wanted(&self) -> Notified<'_> {
        self.0.wanted.notified()
    }
}

struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        inner.wanted.notify_waiters();
        Self(inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_comes_before_who_comes() {
        let slots = Slots::new(1);
        let slot = slots.try_take().unwrap();
        let wanted = slots.wanted();
        let next = tokio::spawn(slots.clone().take());
        wanted.await;
        assert!(slots.are_wanted());
        drop(slot);
        assert!(slots.try_take().is_none(), "it is promised");
        let slot = next.await.unwrap();
        assert!(!slots.are_wanted());
        drop(slot);
        assert!(slots.try_take().is_some());
    }
}
