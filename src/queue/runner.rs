//! Starts the lanes and tells how they are.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    Config,
    lane::Lane,
    pause::PauseSnapshot,
    renewal,
    shared::{Account, Context, LaneState},
};
use crate::{
    clock::Clock,
    delivery::smarthost::Smarthost,
    drain::Drain,
    store::{Store, StoreError},
    token::TokenHandle,
};

/// How often the lanes hear of queue commands at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for what queue commands have changed, which wakes the lanes.
async fn watch_amendments(store: Store, drain: Drain) {
    loop {
        tokio::select! {
            () = drain.signaled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
        match store.look_for_amendments().await {
            Ok(()) => {}
            Err(StoreError::Poisoned | StoreError::Closed) => return,
            Err(error) => tracing::debug!(%error, "queue commands not looked for"),
        }
    }
}

/// The running lanes, with a queue or without, as others see them. Clones are cheap.
#[derive(Clone)]
pub struct Queue {
    pub(super) account: Arc<Account>,
    pub(super) lanes: Vec<Arc<LaneState>>,
}

/// How one lane is.
#[derive(Debug, Clone)]
pub struct LaneSnapshot {
    /// Its name: the mailbox.
    pub name: String,
    /// Messages being attempted.
    pub in_flight: usize,
    /// Clients that wait for their turn, in direct mode.
    pub waiting: usize,
    /// Connections waiting for the next message.
    pub idle_connections: usize,
    /// Connections that it uses at most now.
    pub connection_limit: usize,
    /// Recipients of the last day.
    pub recipients_today: u64,
    /// How many it may have.
    pub recipients_per_day: Option<u64>,
    /// Why it stands still, if it does.
    pub pause: Option<PauseSnapshot>,
    /// Senders whose mail waits, because the mailbox may not send as them.
    pub held_senders: Vec<(String, PauseSnapshot)>,
}

impl Queue {
    /// Starts a task for each lane; they end with the drain, once their attempts have ended.
    #[must_use]
    pub fn start(
        config: Config,
        store: Store,
        token: TokenHandle,
        smarthost: Smarthost,
        clock: Clock,
        drain: &Drain,
    ) -> Self {
        let account = Arc::new(Account::new(token, smarthost, clock));
        let Config { lanes, give_up_after, on_uncertain, notices, .. } = config;
        let context = Arc::new(Context {
            account: Arc::clone(&account),
            store,
            give_up_after,
            on_uncertain,
            notices,
        });
        let state = |config: super::LaneConfig| Arc::new(LaneState::new(config, clock));
        let lanes: Vec<_> = lanes.into_iter().map(state).collect();
        for lane in &lanes {
            let task = Lane::new(Arc::clone(&context), Arc::clone(lane));
            drain.spawn(task.run(drain.clone()));
        }
        if let Some(first) = lanes.first() {
            let lane = Arc::clone(first);
            drain.spawn(renewal::watch(Arc::clone(&context), lane, drain.clone()));
        }
        drain.spawn(watch_amendments(context.store.clone(), drain.clone()));
        Self { account, lanes }
    }

    /// Why no lane sends, if the way to the smarthost is the reason.
    #[must_use]
    pub fn relay_pause(&self) -> Option<PauseSnapshot> {
        self.account.gate.pause().map(Into::into)
    }

    /// How each lane is.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneSnapshot> {
        let snapshot = |lane: &Arc<LaneState>| LaneSnapshot {
            name: lane.config.mailbox.clone(),
            in_flight: lane.in_flight.load(Ordering::Relaxed),
            waiting: lane.waiting.load(Ordering::Relaxed),
            idle_connections: lane.idle_connections.load(Ordering::Relaxed),
            connection_limit: lane.connections.now(),
            recipients_today: lane.recipients_today.load(Ordering::Relaxed),
            recipients_per_day: lane.config.recipients_per_day,
            pause: lane.gate.pause().map(Into::into),
            held_senders: lane
                .senders
                .pauses()
                .into_iter()
                .map(|(sender, pause)| (sender, pause.into()))
                .collect(),
        };
        self.lanes.iter().map(snapshot).collect()
    }
}
