//! Connections upstream over all lanes. A thousand mailboxes may have mail at once, and each lane
//! by itself would open its connections: together they would take more memory than the rest of the
//! relay, and more connections than a host should make.
//!
//! Whoever waits gets the next one in turn, and lanes with idle connections close them meanwhile.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified};

/// As many as anybody could want, and few enough to be counted.
const MOST: usize = 1 << 20;

/// Room for one connection, until it is dropped.
pub(super) type Slot = OwnedSemaphorePermit;

/// The room for connections. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    room: Arc<Semaphore>,
    most: Mutex<usize>,
    waiting: AtomicUsize,
    wanted: Notify,
}

impl Slots {
    pub fn new(most: usize) -> Self {
        let most = most.min(MOST);
        let room = Arc::new(Semaphore::new(most));
        let most = Mutex::new(most);
        Self(Arc::new(Inner { room, most, waiting: 0.into(), wanted: Notify::new() }))
    }

    /// The same room, for so many from now on: whoever has a slot keeps it, and those that are too
    /// many go as they are given back.
    pub fn resized(&self, most: usize) -> Self {
        let most = most.min(MOST);
        let mut now = self.0.most.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.room.add_permits(most.saturating_sub(*now));
        let over = now.saturating_sub(most);
        let later = over - self.0.room.forget_permits(over);
        if let Some(later) = u32::try_from(later).ok().filter(|later| *later > 0) {
            let inner = Arc::clone(&self.0);
            tokio::spawn(async move {
                let _waiting = Waiting::new(&inner);
                if let Ok(slots) = inner.room.acquire_many(later).await {
                    slots.forget();
                }
            });
        }
        *now = most;
        self.clone()
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

    #[tokio::test]
    async fn other_settings_count_what_is_in_use() {
        let slots = Slots::new(2);
        let (one, other) = (slots.try_take().unwrap(), slots.try_take().unwrap());
        let fewer = slots.resized(1);
        drop(one);
        tokio::task::yield_now().await;
        assert!(fewer.try_take().is_none(), "the other is in use");
        drop(other);
        let only = fewer.clone().take().await;
        assert!(fewer.try_take().is_none());
        let more = fewer.resized(3);
        let taken = (more.try_take().unwrap(), more.try_take().unwrap());
        assert!(more.try_take().is_none());
        drop((only, taken));
    }
}
