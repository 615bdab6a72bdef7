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

/// Lanes that are remembered before it is asked which of them are still watched.
const REMEMBERED: usize = 32;

#[derive(Debug, Default)]
struct State {
    /// Goes up with each commit that may give the lane something to do. Lanes do not wake each
    /// other.
    watched: HashMap<String, watch::Sender<u64>>,
    /// So many were watched when that was asked last.
    were_watched: usize,
    /// Lanes that had no watcher when a commit gave them something to do.
    unattended: BTreeSet<String>,
}

impl State {
    /// With a lane for each sender there is no end of lanes that come and go. What is forgotten here
    /// would make no difference: a lane without a watcher is unattended, known or not. Whoever
    /// watches subscribes before others get at the state.
    fn forget_unwatched(&mut self) {
        // Twice as many as last time, so that to watch a lane costs the same however many there are.
        if self.watched.len() >= REMEMBERED.max(2 * self.were_watched) {
            self.watched.retain(|_, watch| watch.receiver_count() > 0);
            self.were_watched = self.watched.len();
        }
    }
}

impl Arrivals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a lane from now on.
    pub fn watch(&self, lane: &str) -> watch::Receiver<u64> {
        let mut state = self.state();
        state.unattended.remove(lane);
        state.forget_unwatched();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(arrivals: &Arrivals, lane: &str) {
        arrivals.tell([lane.to_owned()].iter());
    }

    #[test]
    fn lanes_that_come_and_go_leave_nothing_behind() {
        let arrivals = Arrivals::default();
        let stays = arrivals.watch("stays");
        for number in 0..10_000 {
            let _ends_at_once = arrivals.watch(&format!("sender{number}@contoso.com"));
        }
        let kept = arrivals.state().watched.len();
        assert!(kept <= 64, "{kept} lanes are remembered, one is watched");
        tell(&arrivals, "stays");
        assert!(stays.has_changed().unwrap());
    }

    #[test]
    fn no_lane_that_is_watched_is_forgotten() {
        let arrivals = Arrivals::default();
        let watches: Vec<_> = (0..1000).map(|lane| arrivals.watch(&lane.to_string())).collect();
        for (lane, watch) in watches.iter().enumerate() {
            tell(&arrivals, &lane.to_string());
            assert!(watch.has_changed().unwrap(), "{lane}");
        }
    }

    #[tokio::test]
    async fn whoever_starts_lanes_hears_of_mail_for_one_that_has_ended() {
        let arrivals = Arrivals::default();
        drop(arrivals.watch("ended"));
        tell(&arrivals, "ended");
        assert_eq!(arrivals.unattended().await, BTreeSet::from(["ended".to_owned()]));
        let watch = arrivals.watch("ended");
        tell(&arrivals, "ended");
        assert!(watch.has_changed().unwrap());
    }
}
