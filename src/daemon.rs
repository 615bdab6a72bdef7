//! The composition root: builds every part from the configuration, binds, starts the tasks,
//! and owns the order of the drain. What sends and keeps depends on the mode.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

mod reload;
mod sending;
mod upstream;

use tokio::{
    sync::{Mutex, watch},
    time::timeout,
};

use crate::{
    clock::{Clock, UnixMillis},
    config::Config,
    drain::Drain,
    http::{self, HttpError, ListenerStatus, Watched},
    listener::{Address, Inherited, InheritedError, ListenerError, Listeners, Listening, Serving},
    store::{DatabaseFault, Ground, Store, StoreError},
};
pub use reload::Reloader;
use sending::{Keeping, Sending, SendingConfig};

/// Why the daemon did not start. Each message says what failed, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An SMTP address.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The sockets that systemd hands over.
    #[error(transparent)]
    Inherited(#[from] InheritedError),
    /// The HTTP address.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The directory for mail that passes through.
    #[error(transparent)]
    Transit(StoreError),
    /// The queue would go with the container.
    #[error("{}", refusal(directory, *ground))]
    Ground {
        /// The queue directory.
        directory: PathBuf,
        /// What it lies on.
        ground: Ground,
    },
    /// The queue directory.
    #[error("{source}{}", place_and_cure(directory, source))]
    Store {
        /// Which one.
        directory: PathBuf,
        /// What is wrong with it.
        source: StoreError,
    },
}

/// The faults of files say both themselves; the database knows neither.
fn place_and_cure(directory: &Path, error: &StoreError) -> String {
    let StoreError::Database { class, .. } = error else { return String::new() };
    let cure = match class {
        DatabaseFault::Full => "make room there",
        DatabaseFault::Busy | DatabaseFault::Passing => "see whether another program has it open",
        DatabaseFault::Damaged => "run `o365-relay queue recover`; docs/reliability.md tells more",
        DatabaseFault::Unsafe => {
            "see that all files in it belong to the user that o365-relay runs as and that the \
             disk is sound; to begin with an empty queue, set another queue.directory"
        }
    };
    format!(" (queue directory {}); {cure}", directory.display())
}

fn refusal(directory: &Path, ground: Ground) -> String {
    let (shown, meaning) = (directory.display(), ground.meaning().unwrap_or_default());
    format!(
        "the queue directory {shown} lies {meaning}. Mount something there that stays: in Docker or \
         Podman a volume with a name (-v o365-relay-queue:{shown}), in Kubernetes a \
         persistentVolumeClaim (docs/containers.md). Or set queue.mode = \"direct\", which keeps \
         nothing, or queue.ephemeral = true if mail may be lost"
    )
}

/// Refuses a queue that goes with the container, and warns of one that does not stay either.
fn look_at_ground(config: &Config) -> Result<(), StartError> {
    let directory = &config.store.directory;
    let ground = Ground::of(directory, &config.surroundings);
    if ground.goes_with_container() && !config.ephemeral {
        return Err(StartError::Ground { directory: directory.clone(), ground });
    }
    if let Some(meaning) = ground.meaning() {
        tracing::warn!(directory = %directory.display(), "the queue lies {meaning}");
    }
    Ok(())
}

/// How long the store may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A running daemon.
pub struct Daemon {
    listening: Vec<Listening>,
    serving: Serving,
    /// Whoever gives it other settings has it until they hold.
    sending: Arc<Mutex<Sending>>,
    store: Option<Store>,
    watched: Arc<watch::Sender<Watched>>,
    http_address: Option<SocketAddr>,
    drain: Drain,
    grace: Duration,
}

impl Daemon {
    /// Starts every part. When this returns, clients are served.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_with(config, clock, Inherited::default()).await
    }

    /// As [`Daemon::start`], with sockets that systemd has bound.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start_with(
        mut config: Config,
        clock: Clock,
        inherited: Inherited,
    ) -> Result<Self, StartError> {
        // Ports first: they fail for the most common reasons, and leave nothing behind.
        let listeners = std::mem::take(&mut config.listeners);
        let inherited = inherited.fit(&listeners)?;
        let listeners = Listeners::bind_beside(listeners, inherited)?;
        let http = match config.http.address {
            Some(address) => Some(http::Server::bind(address).await?),
            None => None,
        };
        let keeping = Keeping::open(&config, clock).await?;

        let listening = listeners.listening();
        let drain = Drain::new();
        let grace = config.shutdown_grace;
        let mode = config.queue.mode;
        let directory = config.store.directory.clone();
        let sending = Sending::start(keeping, SendingConfig::of(config), clock, &drain);
        let watched = Watched {
            store: sending.store().cloned(),
            queue: sending.queue().clone(),
            clock,
            started: clock.now(),
            listeners: listening.iter().map(listener_status).collect(),
            reload: None,
        };
        let http_address = http.as_ref().and_then(http::Server::address);
        let (watched, watching) = watch::channel(watched);
        if let Some(http) = http {
            http.serve(watching, &drain);
        }
        tell(&listening);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            listening = %format!("[{}]", addresses(&listening).join(", ")),
            http = http_address.map(tracing::field::display),
            mode = mode.as_str(),
            queue = sending.store().map(|_| tracing::field::display(directory.display())),
            "relay started"
        );
        let serving = listeners.serve(&sending.outlet(), clock, &drain);
        let store = sending.store().cloned();
        let (sending, watched) = (Arc::new(Mutex::new(sending)), Arc::new(watched));
        Ok(Self { listening, serving, sending, store, watched, http_address, drain, grace })
    }

    /// Where each listener of the SMTP server listens.
    #[must_use]
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Where the SMTP server listens with TCP, one listener after the other.
    #[must_use]
    pub fn smtp_addresses(&self) -> Vec<SocketAddr> {
        let tcp = |address: &Address| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) | Address::Systemd(_) => None,
        };
        self.listening.iter().flat_map(|one| &one.addresses).filter_map(tcp).collect()
    }

    /// Where the HTTP server listens, if it does.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// When it started.
    #[must_use]
    pub fn started(&self) -> UnixMillis {
        self.watched.borrow().started
    }

    /// The store, to look at; there is none in direct mode.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// The parts that status is read from, as they are now.
    #[must_use]
    pub fn watched(&self) -> Watched {
        self.watched.borrow().clone()
    }

    /// The same, for whoever goes on looking: a reload changes them.
    #[must_use]
    pub fn watching(&self) -> watch::Receiver<Watched> {
        self.watched.subscribe()
    }

    /// Completes if a part has broken off, by a fault of this program, that the relay cannot be
    /// without. What was acknowledged is safe, and a restart goes on with it.
    pub async fn broken(&self) {
        let store_ended = async {
            match &self.store {
                Some(store) => store.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.drain.broken() => {}
            () = store_ended => {}
        }
    }

    /// Stops: sessions between transactions hear 421, mail data under way and attempts under
    /// way may finish within the grace period, then the store is closed. Nothing durable
    /// depends on it: whatever is cut off is in the queue or was never acknowledged.
    pub async fn drain(self) {
        tracing::info!(grace_seconds = self.grace.as_secs(), "drain begun");
        if let Err(tasks) = self.drain.finish(self.grace).await {
            tracing::warn!(tasks, "grace period is over, the rest is cut off");
        }
        // A disk that is slow to take the log home shall not hold up the end: the next start reads
        // the log.
        if let Some(store) = self.store()
            && timeout(CLOSE_PATIENCE, store.close()).await.is_err()
        {
            tracing::warn!("queue database not closed in time, the next start completes it");
        }
        tracing::info!("relay stopped");
    }
}

/// Where there are several, a line for each.
fn tell(listening: &[Listening]) {
    for one in listening.iter().filter(|_| listening.len() > 1) {
        let addresses = addresses(std::slice::from_ref(one)).join(", ");
        tracing::info!(listener = one.name, addresses, sender = one.sender, "listening");
    }
}

fn addresses(listening: &[Listening]) -> Vec<String> {
    listening.iter().flat_map(|one| &one.addresses).map(ToString::to_string).collect()
}

fn listener_status(one: &Listening) -> ListenerStatus {
    ListenerStatus {
        name: one.name.clone(),
        addresses: addresses(std::slice::from_ref(one)),
        sender: one.sender.clone(),
    }
}
