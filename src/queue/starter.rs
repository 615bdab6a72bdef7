//! Starts lanes: those of the configuration at once and for good, that of a sender when there is
//! mail for it. Such a lane ends when it has nothing to do, and nothing of it is left.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::DropGuard;

use super::{
    Before, SenderConfig, heir,
    lane::Lane,
    routes::Lanes,
    runner::Registry,
    shared::{Context, Ending, LaneState, after_store_error},
};
use crate::{
    clock::Clock,
    drain::Drain,
    store::{Store, StoreError},
};

pub(super) struct Starter {
    /// One for each account, by its place.
    contexts: Vec<Arc<Context>>,
    router: Lanes,
    sender: SenderConfig,
    registry: Arc<Registry>,
    before: Arc<Before>,
    clock: Clock,
    running: JoinSet<()>,
    names: HashMap<Id, String>,
    /// Tasks that move the mail of lanes that are gone.
    leaving: JoinSet<String>,
    left: HashSet<String>,
}

impl Starter {
    pub fn new(
        contexts: Vec<Arc<Context>>,
        router: Lanes,
        sender: SenderConfig,
        registry: Arc<Registry>,
        (before, clock): (Arc<Before>, Clock),
    ) -> Self {
        let (running, names) = (JoinSet::new(), HashMap::new());
        let (leaving, left) = (JoinSet::new(), HashSet::new());
        Self { contexts, router, sender, registry, before, clock, running, names, leaving, left }
    }

    /// Until the drain begins, when `stops` is dropped, and every lane has ended.
    pub async fn run(mut self, drain: Drain, stops: DropGuard) {
        self.start_and_stop(&drain).await;
        drop(stops);
        while self.running.join_next().await.is_some() {}
        while self.leaving.join_next().await.is_some() {}
    }

    async fn start_and_stop(&mut self, drain: &Drain) {
        for lane in self.registry.fixed.clone() {
            self.spawn(lane, false, drain);
        }
        let Some(store) = self.contexts.first().map(|context| context.store.clone()) else {
            return;
        };
        let before = Arc::clone(&self.before);
        for lane in before.working() {
            self.start(&lane.config.mailbox, drain);
        }
        let mut amendments = store.amendments();
        self.start_waiting(&store, drain).await;
        loop {
            tokio::select! {
                biased;
                () = drain.signaled() => break,
                lanes = store.unattended() => {
                    for lane in lanes {
                        self.start(&lane, drain);
                    }
                }
                Some(ended) = self.running.join_next_with_id() => {
                    self.ended(ended, &store, drain).await;
                }
                Some(gone) = self.leaving.join_next() => {
                    self.left.remove(&gone.unwrap_or_default());
                }
                changed = changed(&mut amendments) => match changed {
                    true => self.start_waiting(&store, drain).await,
                    false => break,
                },
            }
        }
    }

    fn spawn(&mut self, state: Arc<LaneState>, retires: bool, drain: &Drain) {
        let context = self.contexts.get(state.config.account).or(self.contexts.first());
        let Some(context) = context.map(Arc::clone) else { return };
        let name = state.config.mailbox.clone();
        let before = self.before.lane_at_work(&name).cloned();
        state.set_waits_for(before.clone());
        let (ending, ends) = (Ending(Arc::clone(&state)), drain.clone());
        let task = async move {
            let _ending = ending;
            if before.is_some() {
                let store = context.store.clone();
                heir::follow(before, store, &state.config.mailbox, &ends).await;
                state.set_waits_for(None);
            }
            Lane::new(context, state, retires).run(ends).await;
        };
        let id = self.running.spawn(drain.vital("lane", task)).id();
        self.names.insert(id, name);
    }

    /// Has the mail of a lane moved to which no route leads any more.
    fn leave(&mut self, name: &str, drain: &Drain) {
        let Some(store) = self.contexts.first().map(|context| context.store.clone()) else {
            return;
        };
        if !self.left.insert(name.to_owned()) {
            return;
        }
        let before = self.before.lane_at_work(name).cloned();
        let (name, ends) = (name.to_owned(), drain.clone());
        let task = async move {
            heir::follow(before, store, &name, &ends).await;
            name
        };
        self.leaving.spawn(drain.vital("rerouting", task));
    }

    /// Starts the lane of this name, unless it runs or no route leads to it.
    fn start(&mut self, name: &str, drain: &Drain) {
        if self.registry.fixed.iter().any(|lane| lane.config.mailbox == name)
            || self.registry.others().contains_key(name)
        {
            return;
        }
        // The mailbox of a lane may be spelt differently now.
        let config = self.router.config(name).filter(|config| config.mailbox == name);
        let Some(config) = config else { return self.leave(name, drain) };
        let state = self.before.lane(config, &self.sender, self.clock);
        self.registry.others().insert(name.to_owned(), Arc::clone(&state));
        self.spawn(state, true, drain);
    }

    /// Starts the lanes in which mail waits.
    async fn start_waiting(&mut self, store: &Store, drain: &Drain) {
        while !drain.is_signaled() {
            match store.waiting_lanes().await {
                Ok(lanes) => {
                    for lane in lanes {
                        self.start(&lane, drain);
                    }
                    return;
                }
                Err(StoreError::Poisoned | StoreError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "lanes with mail not readable, trying again");
                    after_store_error(drain).await;
                }
            }
        }
    }

    /// Mail may have come in while the lane was ending: nobody has been told of it then.
    async fn ended(&mut self, ended: Result<(Id, ()), JoinError>, store: &Store, drain: &Drain) {
        // One that broke off ends the whole, and waits for the next start with the others.
        let Ok((id, ())) = ended else { return };
        let Some(name) = self.names.remove(&id) else { return };
        self.registry.others().remove(&name);
        if drain.is_signaled() {
            return;
        }
        let waits = store.next_due(&name).await.map(|next| next.is_some());
        let due = store.due(&name, 1).await.map(|due| !due.is_empty());
        if waits.unwrap_or(true) || due.unwrap_or(true) {
            self.start(&name, drain);
        }
    }
}

async fn changed(amendments: &mut watch::Receiver<u64>) -> bool {
    amendments.changed().await.is_ok()
}
