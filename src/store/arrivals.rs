//! Who is told that a lane may have something to do: the lane's watcher, or, where it has none,
//! whoever starts lanes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

/// The watchers of lanes, and the lanes that nobody watches.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    state: Mutex<State>,
    unattended: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Goes up with each commit that may give the lane something to do. Lanes do not wake each
    /// other.
    watched: HashMap<String, watch::Sender<u64>>,
    /// Lanes that had no watcher when a commit gave them something to do.
    unattended: BTreeSet<String>,
}

impl Arrivals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a lane from now on.
    pub fn watch(&self, lane: &str) -> watch::Receiver<u64> {
        let mut state = self.state();
        state.unattended.remove(lane);
        state.watched.entry(lane.to_owned()).or_default().subscribe()
    }

    /// A lane may have something to do.
    pub fn tell<'a>(&self, lanes: impl Iterator<Item = &'a String>) {
        let mut state = self.state();
        for lane in lanes {
            let watch = state.watched.get(lane).filter(|watch| watch.receiver_count() > 0);
            if let Some(watch) = watch {
                watch.send_modify(|count| *count += 1);
                continue;
            }
            state.watched.remove(lane); // its watcher has gone
            state.unattended.insert(lane.clone());
        }
        if !state.unattended.is_empty() {
            self.unattended.notify_one();
        }
    }

    /// The lanes that have something to do and no watcher, as soon as there is one.
    pub async fn unattended(&self) -> BTreeSet<String> {
        loop {
            let lanes = std::mem::take(&mut self.state().unattended);
            if !lanes.is_empty() {
                return lanes;
            }
            self.unattended.notified().await;
        }
    }
}
