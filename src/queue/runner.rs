//! Starts the lanes and tells how they are.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    Config, NoticeConfig, OnUncertain,
    lane::{Lane, LaneState, SharedGate},
};
use crate::{
    clock::Clock,
    delivery::smarthost::Smarthost,
    drain::Drain,
    store::{Store, StoreError},
    token::TokenHandle,
};

pub use super::lane::PauseSnapshot;

/// What all lanes of an account use.
pub(super) struct Context {
    pub store: Store,
    pub token: TokenHandle,
    pub smarthost: Smarthost,
    pub clock: Clock,
    pub give_up_after: Duration,
    pub on_uncertain: OnUncertain,
    pub notices: NoticeConfig,
    /// Closed by trouble on the way to the smarthost, for all lanes.
    pub gate: SharedGate,
}

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

/// The running queue, as others see it. Clones are cheap.
#[derive(Clone)]
pub struct Queue {
    context: Arc<Context>,
    lanes: Vec<Arc<LaneState>>,
}

/// How one lane is.
#[derive(Debug, Clone)]
pub struct LaneSnapshot {
    /// Its name: the mailbox.
    pub name: String,
    /// Messages being attempted.
    pub in_flight: usize,
    /// Connections waiting for the next message.
    pub idle_connections: usize,
    /// Why it stands still, if it does.
    pub pause: Option<PauseSnapshot>,
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
        let gate = SharedGate::new("all", clock);
        let Config { lanes, give_up_after, on_uncertain, notices } = config;
        let context = Arc::new(Context {
            store,
            token,
            smarthost,
            clock,
            give_up_after,
            on_uncertain,
            notices,
            gate,
        });
        let state = |config: super::LaneConfig| {
            Arc::new(LaneState {
                gate: SharedGate::new(config.mailbox.clone(), clock),
                config,
                in_flight: 0.into(),
                idle_connections: 0.into(),
            })
        };
        let lanes: Vec<_> = lanes.into_iter().map(state).collect();
        for lane in &lanes {
            let task = Lane::new(Arc::clone(&context), Arc::clone(lane));
            drain.spawn(task.run(drain.clone()));
        }
        drain.spawn(watch_amendments(context.store.clone(), drain.clone()));
        Self { context, lanes }
    }

    /// Why no lane sends, if the way to the smarthost is the reason.
    #[must_use]
    pub fn relay_pause(&self) -> Option<PauseSnapshot> {
        self.context.gate.pause().map(Into::into)
    }

    /// How each lane is.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneSnapshot> {
        let snapshot = |lane: &Arc<LaneState>| LaneSnapshot {
            name: lane.config.mailbox.clone(),
            in_flight: lane.in_flight.load(Ordering::Relaxed),
            idle_connections: lane.idle_connections.load(Ordering::Relaxed),
            pause: lane.gate.pause().map(Into::into),
        };
        self.lanes.iter().map(snapshot).collect()
    }
}
