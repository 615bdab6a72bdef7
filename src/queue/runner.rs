//! Starts the lanes and tells how they are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Before, Config, Upstream,
    pause::PauseSnapshot,
    renewal,
    routes::Lanes,
    shared::{Account, Accounts, Context, LaneState},
    starter::Starter,
};
use crate::{
    clock::Clock,
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

/// The lanes that are there: those of the configuration in its order, and those of senders that
/// have something to do, by name.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub fixed: Vec<Arc<LaneState>>,
    others: Mutex<BTreeMap<String, Arc<LaneState>>>,
}

impl Registry {
    pub fn new(fixed: Vec<Arc<LaneState>>) -> Self {
        Self { fixed, others: Mutex::default() }
    }

    pub fn others(&self) -> MutexGuard<'_, BTreeMap<String, Arc<LaneState>>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Arc<LaneState>> {
        self.fixed.iter().cloned().chain(self.others().values().cloned()).collect()
    }
}

/// The running lanes, with a queue or without, as others see them. Clones are cheap.
#[derive(Clone)]
pub struct Queue {
    pub(super) accounts: Accounts,
    pub(super) lanes: Arc<Registry>,
    /// Whether some lanes come and go with the mail of their sender.
    pub(super) by_sender: bool,
    /// What these lanes have taken over from.
    pub(super) before: Arc<Before>,
    pub(super) stopped: CancellationToken,
}

/// How one account is.
#[derive(Debug, Clone)]
pub struct AccountSnapshot {
    /// Its name.
    pub name: String,
    /// What its pause is called in the log and the metrics.
    pub gate: String,
    /// Its tokens.
    pub token: TokenHandle,
    /// Why none of its lanes sends, if the way to the smarthost is the reason.
    pub pause: Option<PauseSnapshot>,
}

/// How one lane is.
#[derive(Debug, Clone)]
pub struct LaneSnapshot {
    /// Its name: the mailbox.
    pub name: String,
    /// The name of its account.
    pub account: String,
    /// Whether it is there only as long as it has something to do.
    pub by_sender: bool,
    /// Messages being attempted.
    pub in_flight: usize,
    /// It sends nothing else before their end, as they go by settings of before a reload.
    pub takes_over: bool,
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
    /// Starts the lanes; they end with the drain, once their attempts have ended. `first` and
    /// `others` are the accounts, by their place in the lanes' settings.
    #[must_use]
    pub fn start(
        config: Config,
        store: Store,
        first: Upstream,
        others: Vec<Upstream>,
        clock: Clock,
        drain: &Drain,
    ) -> Self {
        Self::start_after(Before::default(), config, store, (first, others), clock, drain)
    }

    /// The same, in place of other lanes: each begins when the one before it has ended.
    #[must_use]
    pub fn start_after(
        before: Before,
        config: Config,
        store: Store,
        (first, others): (Upstream, Vec<Upstream>),
        clock: Clock,
        drain: &Drain,
    ) -> Self {
        let before = Arc::new(before);
        let accounts = Accounts::new(first, others, config.max_connections, &before, clock);
        let router = Lanes::new(&config);
        let by_sender = config.routes.iter().any(|route| route.by_sender);
        let Config { routes, sender, give_up_after, on_uncertain, notices, .. } = config;
        let running = Arc::default();
        let context = |account: &Arc<Account>| {
            Arc::new(Context {
                account: Arc::clone(account),
                store: store.clone(),
                give_up_after,
                on_uncertain,
                notices: notices.clone(),
                running: Arc::clone(&running),
            })
        };
        let contexts: Vec<_> = accounts.all().map(context).collect();
        renewal::watch_all(&contexts, &routes, &before.reminders, drain);
        let fixed = router.fixed().into_iter();
        let fixed = fixed.map(|lane| before.lane(lane, &sender, clock)).collect();
        let lanes = Arc::new(Registry::new(fixed));
        let known = (Arc::clone(&before), clock);
        let starter = Starter::new(contexts, router, sender, Arc::clone(&lanes), known);
        let stopped = CancellationToken::new();
        let stops = stopped.clone().drop_guard();
        drain.spawn(drain.vital("starter", starter.run(drain.clone(), stops)));
        drain.spawn(drain.vital("amendments", watch_amendments(store, drain.clone())));
        Self { accounts, lanes, by_sender, before, stopped }
    }

    /// Completes when no lane is started any more, which is soon after the drain begins; those that
    /// run may take longer.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Why no lane of some account sends, if the way to its smarthost is the reason.
    #[must_use]
    pub fn relay_pause(&self) -> Option<PauseSnapshot> {
        self.accounts.all().find_map(|account| account.gate.pause()).map(Into::into)
    }

    /// How each account is.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountSnapshot> {
        let snapshot = |account: &Arc<Account>| AccountSnapshot {
            name: account.name.clone(),
            gate: account.gate.name().to_owned(),
            token: account.token.clone(),
            pause: account.gate.pause().map(Into::into),
        };
        self.accounts.all().map(snapshot).collect()
    }

    /// Whether some lanes come and go with the mail of their sender.
    #[must_use]
    pub fn is_by_sender(&self) -> bool {
        self.by_sender
    }

    /// How each lane is.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneSnapshot> {
        let fixed = self.lanes.fixed.len();
        let snapshot = |(place, lane): (usize, Arc<LaneState>)| LaneSnapshot {
            name: lane.config.mailbox.clone(),
            account: self.accounts.get(lane.config.account).name.clone(),
            by_sender: place >= fixed,
            in_flight: lane.under_way(),
            takes_over: lane.takes_over(),
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
        self.lanes.all().into_iter().enumerate().map(snapshot).collect()
    }
}
