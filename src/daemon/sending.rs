//! The sending side: what keeps mail, the tokens, the lanes. It can be given other settings while
//! clients are served.

use std::sync::Arc;

use super::{
    StartError, look_at_ground,
    upstream::{DirectOutlet, look_for_a_queue},
};
use crate::{
    clock::Clock,
    config::{AccountConfig, Change, Config, OFFICE365},
    delivery::{self, smarthost::Smarthost},
    drain::Drain,
    listener::Outlet,
    queue::{self, Before, Lanes, Mode, Upstream, direct::Direct, runner::Queue},
    store::{Store, StoreError, Synced, Transit},
    token::{self, TokenHandle},
};

/// What keeps mail that is not upstream yet.
pub(super) enum Keeping {
    Queue(Store),
    Transit(Transit),
}

impl Keeping {
    pub async fn open(config: &Config, clock: Clock) -> Result<Self, StartError> {
        match config.queue.mode {
            Mode::Queue => {
                look_at_ground(config)?;
                let directory = config.store.directory.clone();
                let store = open_store(config, clock).await;
                store.map(Self::Queue).map_err(|source| StartError::Store { directory, source })
            }
            Mode::Direct => {
                let queue = config.store.directory.clone();
                let _ = tokio::task::spawn_blocking(move || look_for_a_queue(&queue)).await;
                let directory = config.queue.direct.spool_directory.clone();
                Transit::open(directory, clock).map(Self::Transit).map_err(StartError::Transit)
            }
        }
    }
}

async fn open_store(config: &Config, clock: Clock) -> Result<Store, StoreError> {
    let store = config.store.clone();
    let lanes = Arc::new(Lanes::new(&config.queue));
    tokio::task::spawn_blocking(move || Store::open(store, clock, Arc::new(Synced), lanes))
        .await
        .map_err(|_| StoreError::Closed)?
}

/// The settings of the sending side.
pub(super) struct SendingConfig {
    queue: queue::Config,
    first: (token::Config, delivery::Config),
    others: Vec<AccountConfig>,
}

impl SendingConfig {
    pub fn of(config: Config) -> Self {
        let first = (config.token, config.delivery);
        Self { queue: config.queue, first, others: config.other_accounts }
    }
}

/// The tokens of one account.
struct Tokens {
    account: String,
    handle: TokenHandle,
    /// What its task ends by, unless it is that of another account.
    task: Option<Drain>,
}

/// Where mail goes from the listeners.
enum Way {
    Queue(Store),
    Direct(Arc<DirectOutlet>),
}

/// The running sending side.
pub(super) struct Sending {
    way: Way,
    tokens: Vec<Tokens>,
    queue: Queue,
    /// The end of the lanes, in direct mode of nothing.
    lanes: Drain,
    clock: Clock,
    drain: Drain,
}

impl Sending {
    /// Starts tokens and lanes.
    pub fn start(keeping: Keeping, config: SendingConfig, clock: Clock, drain: &Drain) -> Self {
        let mut tokens = Vec::new();
        let SendingConfig { queue, first, others } = config;
        let accounts = upstreams(&mut tokens, |_| None, first, others, clock, drain);
        let (lanes, before) = (drain.part(), Before::default());
        let (queue, way) = match keeping {
            Keeping::Queue(store) => {
                let queue =
                    Queue::start_after(before, queue, store.clone(), accounts, clock, &lanes);
                (queue, Way::Queue(store))
            }
            Keeping::Transit(transit) => {
                let direct = Direct::start(queue, accounts.0, accounts.1, clock, &lanes);
                let queue = direct.lanes();
                (queue, Way::Direct(Arc::new(DirectOutlet::new(transit, direct, lanes.clone()))))
            }
        };
        Self { way, tokens, queue, lanes, clock, drain: drain.clone() }
    }

    /// What the listeners hand their mail to.
    pub fn outlet(&self) -> Arc<dyn Outlet> {
        match &self.way {
            Way::Queue(store) => Arc::new(store.clone()),
            Way::Direct(outlet) => Arc::clone(outlet) as Arc<dyn Outlet>,
        }
    }

    /// The store; none in direct mode.
    pub fn store(&self) -> Option<&Store> {
        match &self.way {
            Way::Queue(store) => Some(store),
            Way::Direct(_) => None,
        }
    }

    /// The lanes.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Other settings: messages under way come to their end with the old ones, and what waits goes
    /// on with the new ones, in each lane as soon as nothing is under way there. A token task whose
    /// settings are the same goes on.
    pub async fn change(&mut self, config: SendingConfig, changes: &[Change]) {
        let SendingConfig { queue, first, others } = config;
        let pauses = !changes.iter().any(Change::is_of_way);
        let before = match &self.way {
            Way::Queue(store) => {
                self.lanes.signal();
                self.queue.stopped().await;
                let before = Before::of(&self.queue, pauses);
                let router = Arc::new(Lanes::new(&queue));
                if let Err(error) = store.set_router(router, before.at_work()).await {
                    tracing::error!(%error, "mail that waits not routed anew, the next start will");
                }
                before
            }
            Way::Direct(_) => Before::of(&self.queue, pauses),
        };
        let mut old = std::mem::take(&mut self.tokens);
        let mut keep = |account: &str| {
            let same = !changes.iter().any(|change| change.is_of_token(account));
            let is_it = |one: &Tokens| one.account == account && one.task.is_some();
            old.iter().position(is_it).filter(|_| same).map(|place| old.swap_remove(place))
        };
        let (clock, drain) = (self.clock, self.drain.clone());
        let accounts = upstreams(&mut self.tokens, &mut keep, first, others, clock, &drain);
        let lanes = self.drain.part();
        match &self.way {
            Way::Queue(store) => {
                self.queue =
                    Queue::start_after(before, queue, store.clone(), accounts, clock, &lanes);
            }
            Way::Direct(outlet) => {
                let direct = outlet.direct().succeed(before, queue, accounts, clock, &lanes);
                self.queue = direct.lanes();
                outlet.change(direct, lanes.clone());
            }
        }
        let before = std::mem::replace(&mut self.lanes, lanes);
        let tokens: Vec<_> = old.into_iter().filter_map(|tokens| tokens.task).collect();
        // What is under way may still have to log in.
        drain.spawn(async move {
            before.signaled().await;
            before.end().await;
            tokens.iter().for_each(Drain::signal);
        });
    }
}

/// The accounts, that of `[office365]` first. Each distinct credential has one token task; `keep`
/// has those that go on.
fn upstreams(
    tokens: &mut Vec<Tokens>,
    mut keep: impl FnMut(&str) -> Option<Tokens>,
    first: (token::Config, delivery::Config),
    others: Vec<AccountConfig>,
    clock: Clock,
    drain: &Drain,
) -> (Upstream, Vec<Upstream>) {
    let mut start = |account: &str, config: token::Config| {
        keep(account).unwrap_or_else(|| {
            let task = drain.part();
            let handle = token::spawn(config, clock, &task);
            Tokens { account: account.to_owned(), handle, task: Some(task) }
        })
    };
    let mut upstream = |of: Tokens, delivery: delivery::Config| {
        let (name, token) = (of.account.clone(), of.handle.clone());
        tokens.push(of);
        Upstream { name, token, smarthost: Smarthost::new(delivery) }
    };
    let office365 = start(OFFICE365, first.0);
    let mut handles = vec![office365.handle.clone()];
    let first = upstream(office365, first.1);
    let mut upstreams = Vec::new();
    for AccountConfig { name, token, shares_token_of, delivery, .. } in others {
        let shared = shares_token_of.and_then(|place| handles.get(place)).cloned();
        let tokens = match shared {
            Some(handle) => Tokens { account: name, handle, task: None },
            None => start(&name, token),
        };
        handles.push(tokens.handle.clone());
        upstreams.push(upstream(tokens, delivery));
    }
    (first, upstreams)
}
