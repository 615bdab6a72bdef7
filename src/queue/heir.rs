//! New settings for lanes that run: others take their place, and remember what must not be
//! forgotten.
//!
//! A lane begins when the one that it takes over from has ended, so that no message goes twice and
//! no mailbox has more connections than it may. No other lane waits for it. Mail changes lanes
//! only then too: whatever a lane has under way stays in it until its end.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Mutex, time::timeout};

use super::{
    LaneConfig, SenderConfig,
    runner::Queue,
    shared::{Account, LaneState, SharedGate, after_store_error},
    slots::Slots,
};
use crate::{
    clock::Clock,
    drain::Drain,
    store::{Store, StoreError},
};

/// How long a lane waits without a word.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long after its end what a lane has sent may still count for its pace.
const COUNTS_FOR: Duration = Duration::from_secs(600);

/// The lanes that others take over from.
#[derive(Default)]
pub struct Before {
    accounts: Vec<Arc<Account>>,
    /// By the mailbox in lower case: it is the same however it is spelt.
    lanes: HashMap<String, Old>,
    pauses: bool,
    pub(super) reminders: Arc<Mutex<()>>,
}

struct Old {
    lane: Arc<LaneState>,
    pauses: bool,
}

impl Before {
    /// The lanes of `queue`, of which none begins any more, and those that they have taken over
    /// from and that have not ended yet. With `pauses` these last: their causes are none that the
    /// settings have changed.
    #[must_use]
    pub fn of(queue: &Queue, pauses: bool) -> Self {
        let older = queue.before.lanes.iter().filter(|(_, old)| counts(&old.lane));
        let older = older.map(|(name, Old { lane, pauses: lasted })| {
            (name.clone(), Old { lane: Arc::clone(lane), pauses: pauses && *lasted })
        });
        let lanes = queue.lanes.all().into_iter();
        let lanes = lanes.map(|lane| (key(&lane.config.mailbox), Old { lane, pauses }));
        Self {
            lanes: older.chain(lanes).collect(),
            accounts: queue.accounts.all().cloned().collect(),
            pauses,
            reminders: Arc::clone(&queue.before.reminders),
        }
    }

    /// The names of lanes that may have something under way. A mailbox may have been spelt in
    /// several ways since.
    #[must_use]
    pub fn at_work(&self) -> BTreeSet<String> {
        self.working().flat_map(|lane| lane.names()).collect()
    }

    pub(super) fn working(&self) -> impl Iterator<Item = &Arc<LaneState>> {
        self.lanes.values().map(|old| &old.lane).filter(|lane| !lane.end.has_come())
    }

    /// The lane of this mailbox that has to end first.
    pub(super) fn lane_at_work(&self, mailbox: &str) -> Option<&Arc<LaneState>> {
        let old = self.lanes.get(&key(mailbox))?;
        (!old.lane.end.has_come()).then_some(&old.lane)
    }

    pub(super) fn lane(
        &self,
        config: LaneConfig,
        sender: &SenderConfig,
        clock: Clock,
    ) -> Arc<LaneState> {
        let before = self.lanes.get(&key(&config.mailbox));
        let lane = LaneState::new(config, sender, clock);
        Arc::new(match before {
            Some(Old { lane: before, pauses }) => lane.succeed(before, *pauses),
            None => lane,
        })
    }

    /// The gate of the account of this name, if its pause lasts.
    pub(super) fn gate(&self, account: &str) -> Option<&Arc<SharedGate>> {
        let mut before = self.accounts.iter().filter(|_| self.pauses);
        before.find(|before| before.name == account).map(|before| &before.gate)
    }

    /// Room for so many connections. What is under way has its share of it.
    pub(super) fn slots(&self, most: usize) -> Slots {
        match self.accounts.first() {
            Some(before) => before.slots.resized(most),
            None => Slots::new(most),
        }
    }
}

/// A mailbox however it is spelt.
pub(super) fn key(mailbox: &str) -> String {
    mailbox.to_lowercase()
}

/// Whether something would be forgotten without it.
fn counts(lane: &LaneState) -> bool {
    let remembers =
        || lane.remembers_until().is_some_and(|until| until > tokio::time::Instant::now());
    lane.end.age().is_none_or(|age| age < COUNTS_FOR) || remembers()
}

/// Waits for the end of a lane that others take over from, and has its mail moved to where the
/// routes lead now.
pub(super) async fn follow(
    before: Option<Arc<LaneState>>,
    store: Store,
    lane: &str,
    drain: &Drain,
) {
    if let Some(before) = before {
        wait_for(&before).await;
        // It may have been spelt differently.
        if before.config.mailbox != lane {
            move_mail(&store, &before.config.mailbox, drain).await;
        }
    }
    move_mail(&store, lane, drain).await;
}

async fn wait_for(before: &LaneState) {
    if timeout(PATIENCE, before.end.come()).await.is_ok() {
        return;
    }
    let (lane, under_way) = (&before.config.mailbox, before.under_way());
    tracing::warn!(
        lane,
        under_way,
        "new settings wait for what is under way with the old ones, the lane sends nothing else until that has ended"
    );
    before.end.come().await;
    tracing::info!(lane, "what was under way with the old settings has ended");
}

/// Until it has worked; the drain ends it too, as whatever comes after it begins with this.
async fn move_mail(store: &Store, lane: &str, drain: &Drain) {
    while !drain.is_signaled() {
        match store.route_lane(lane).await {
            Ok(()) | Err(StoreError::Poisoned | StoreError::Closed) => return,
            Err(error) => tracing::error!(%error, lane, "mail not routed anew, trying again"),
        }
        after_store_error(drain).await;
    }
}
