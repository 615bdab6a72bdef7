//! The durable queue: SQLite for envelopes, state, history and small bodies, one file each for
//! large bodies. 250 after the final dot is built from a [`Receipt`], and only the committer
//! makes one, after the sync.
//!
//! | State of a message | On disk | After a crash here |
//! |---|---|---|
//! | draft, small | nothing | the client has no 250 and sends again |
//! | draft, large | `bodies/<id>.eml`, perhaps in part | an orphan, removed at start |
//! | body file and directory synced | the file, no row | an orphan, removed at start |
//! | **committed** (the row is synced) | row, and body row or file | delivered after the restart |
//! | leased to delivery | the same; a lease is in memory only | delivered again, same Message-ID |
//! | recipient settled | recipient moved to history in one transaction | goes on with the others |
//! | all settled | rows deleted, then the file | a file left over is an orphan |
//!
//! After damage of the database orphans may be all that is left of accepted mail: then they are
//! kept in `damaged-<time>/` instead (`aside.rs`).
//!
//! After a failed sync nobody knows what is on disk, so the store is *poisoned*: it takes no
//! more work until a restart has read what is there. Pages that cannot be read are another matter:
//! what can be is brought into a fresh database (`rebuild.rs`), and work goes on.
//!
//! No SQL type leaves this folder: another engine must fit behind the same interface.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::{Clock, UnixMillis},
    mail::queue_id::QueueId,
    smtp::path::ReversePath,
};

mod ahead;
mod arrivals;
mod aside;
mod attempts;
mod body;
mod committer;
mod desk;
mod digest;
mod directory;
mod draft;
mod due;
mod durability;
mod entry;
mod error;
mod ground;
mod passing;
mod query;
mod read;
mod rebuild;
mod recover;
mod reload;
mod repair;
mod routing;
mod schema;
mod space;
mod start;
mod survey;
mod totals;
mod transit;
mod wal;
mod work;
mod write;

use ahead::ClockWatch;
use arrivals::Arrivals;
pub use body::Body;
pub use desk::{
    Amended, Amendment, Attempt, Desk, Filter, HistoryFilter, PathPattern, Queued, Story, Waiting,
};
pub use draft::Draft;
pub use durability::{Durability, Durable, Synced};
pub use entry::{
    Arrival, Concluded, Entry, LaneSummary, NewNotice, Outcome, PendingRecipient, Reminder, Room,
    Settled, Settlement, Summary,
};
pub use error::{DatabaseFault, StoreError};
pub use ground::{Ground, Surroundings};
pub use passing::PassingBody;
pub use query::Page;
pub use rebuild::{Dropped, Lost, Rebuilt, Recovery, SetAside};
pub use recover::{import, recover};
pub use space::free_octets;
pub use transit::Transit;

use committer::Work;
use directory::Directory;
use read::Readers;
use space::SpaceWatch;

/// What the store needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The queue directory: database, `bodies/`, lock file.
    pub directory: PathBuf,
    /// Free octets below which no mail is accepted (452 4.3.1).
    pub min_free_bytes: u64,
    /// Queued messages above which no mail is accepted (452 4.3.1).
    pub max_messages: u64,
    /// How long settled recipients stay in the history.
    pub history_keep: Duration,
}

/// Proof that a message is durable. Its field is private to the store: nothing else can make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    id: QueueId,
}

impl Receipt {
    /// The queue id of the durable message.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }
}

/// Which lane a message waits in.
pub trait Router: Send + Sync + 'static {
    /// The lane for a message with this reverse-path.
    fn lane(&self, reverse_path: &ReversePath) -> String;
    /// Whether there is a lane of this name. Notices stay in theirs as long as there is; in others
    /// they are routed anew, at the start and at a reload.
    fn knows(&self, lane: &str) -> bool;
}

/// The handle to the store. Clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    directory: Directory,
    inbox: mpsc::Sender<Work>,
    readers: Readers,
    space: Arc<SpaceWatch>,
    state: Arc<State>,
    durability: Arc<dyn Durability>,
    router: RwLock<Arc<dyn Router>>,
}

impl Shared {
    fn router(&self) -> Arc<dyn Router> {
        Arc::clone(&self.router.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the committer and the handles both look at.
#[derive(Debug)]
struct State {
    /// Messages queued, as of the last commit.
    queued: AtomicU64,
    /// Of [`Config`]: it can change while the store is open, as can `history_keep`.
    max_messages: AtomicU64,
    /// Of [`Config`], in seconds.
    history_keep: AtomicU64,
    poisoned: AtomicBool,
    /// How often the database has been rebuilt because it was damaged.
    rebuilds: AtomicU64,
    rebuilt: Mutex<Option<Rebuilt>>,
    arrivals: Arrivals,
    clock: ClockWatch,
    /// Goes up when a commit of somebody else has been noticed.
    amendments: watch::Sender<u64>,
}

impl State {
    fn rebuilt(&self) -> MutexGuard<'_, Option<Rebuilt>> {
        self.rebuilt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works waiting for the committer at most; more make their senders wait.
const INBOX: usize = 1024;

impl Store {
    /// Opens the queue directory, making it if its parent exists: takes the lock, migrates the
    /// schema, removes orphans (or keeps them, after damage), routes what waits anew, starts the
    /// committer. A damaged database is rebuilt from what can be read of it. Blocks; call it before
    /// serving.
    ///
    /// # Errors
    /// [`StoreError`] says what failed and what to do about it.
    pub fn open(
        config: Config,
        clock: Clock,
        durability: Arc<dyn Durability>,
        router: Arc<dyn Router>,
    ) -> Result<Self, StoreError> {
        let Config { directory: root, min_free_bytes, max_messages, history_keep } = config;
        let directory = Directory::open(&root)?;
        let (database, queued, rebuilt) =
            start::open(&directory, clock, &*durability, router.as_ref())?;
        let state = Arc::new(State {
            queued: AtomicU64::new(queued),
            max_messages: AtomicU64::new(max_messages),
            history_keep: AtomicU64::new(history_keep.as_secs()),
            poisoned: AtomicBool::new(false),
            rebuilds: AtomicU64::new(0),
            rebuilt: Mutex::new(rebuilt),
            arrivals: Arrivals::default(),
            clock: ClockWatch::default(),
            amendments: watch::Sender::new(0),
        });
        let space = Arc::new(SpaceWatch::new(root, min_free_bytes));
        let (inbox, works) = mpsc::channel(INBOX);
        committer::spawn(committer::Committer {
            version: schema::data_version(&database)?,
            database,
            directory: directory.clone(),
            works,
            state: Arc::clone(&state),
            durability: Arc::clone(&durability),
            pruned: None,
            space: Arc::clone(&space),
            clock,
            rebuilt: Vec::new(),
        })?;
        let readers = Readers::new(directory.database());
        let router = RwLock::new(router);
        let shared = Shared { clock, directory, inbox, readers, space, state, durability, router };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whether mail is taken now: asked at MAIL.
    ///
    /// # Errors
    /// [`StoreError`], whose reply refuses the transaction for the time being.
    pub fn admission(&self) -> Result<(), StoreError> {
        let Shared { state, space, .. } = &*self.shared;
        if state.poisoned.load(Ordering::Relaxed) {
            return Err(StoreError::Poisoned);
        }
        let limit = state.max_messages.load(Ordering::Relaxed);
        if state.queued.load(Ordering::Relaxed) >= limit {
            return Err(StoreError::TooManyMessages { limit });
        }
        space.check()
    }

    /// Whether a sync has failed, so that only a restart helps.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.shared.state.poisoned.load(Ordering::Relaxed)
    }

    /// Completes when the committer has ended: after [`Store::close`], or by a fault of this
    /// program, after which only a restart helps.
    pub async fn ended(&self) {
        self.shared.inbox.closed().await;
    }

    /// What came of the last rebuild of a damaged database since the start, at the start included.
    #[must_use]
    pub fn last_rebuild(&self) -> Option<Rebuilt> {
        self.shared.state.rebuilt().clone()
    }

    /// A new queue id.
    #[must_use]
    pub fn new_id(&self) -> QueueId {
        QueueId::new(self.shared.clock.now().0, fastrand::u64(..))
    }

    /// A draft for a new message.
    #[must_use]
    pub fn draft(&self) -> Draft {
        Draft::new(self.new_id(), self.shared.directory.clone())
    }

    /// Makes a draft durable. When this returns a [`Receipt`] the message survives any crash.
    ///
    /// # Errors
    /// [`StoreError`]; the message is not queued then, as far as anybody can know.
    pub async fn accept(&self, draft: Draft, arrival: Arrival) -> Result<Receipt, StoreError> {
        let finished = draft.finish(Arc::clone(&self.shared.durability)).await?;
        // Routes may change before it is committed: whoever starts lanes hears of a lane that is
        // gone, and has its mail moved.
        let lane = self.shared.router().lane(&arrival.envelope.reverse_path);
        let arrival = Box::new(arrival);
        self.submit(|answer| Work::Accept { finished, arrival, lane, answer }).await
    }

    /// Records what became of the recipients of a message; with none left, the message goes.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub async fn settle(&self, settlement: Settlement) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        self.submit(|answer| Work::Settle { settlement, now, answer }).await
    }

    /// Puts messages off until `until`, without counting an attempt. Recipients that wait for longer
    /// go on to do so.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub async fn postpone(&self, ids: Vec<QueueId>, until: UnixMillis) -> Result<(), StoreError> {
        self.submit(|answer| Work::Postpone { ids, until, answer }).await
    }

    /// Sets a message aside with a reason, for an operator to look at. The reason goes on record
    /// as an attempt of each recipient that is left.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub async fn hold(&self, id: QueueId, reason: String) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        self.submit(|answer| Work::Hold { id, reason, now, answer }).await
    }

    async fn submit<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Work,
    ) -> Result<T, StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let (answer, answered) = oneshot::channel();
        self.shared.inbox.send(work(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// A watch that changes when messages of a lane may have become due.
    #[must_use]
    pub fn arrivals(&self, lane: &str) -> watch::Receiver<u64> {
        self.shared.state.arrivals.watch(lane)
    }

    /// The lanes that have got something to do while nobody watched them, as soon as there are any.
    pub async fn unattended(&self) -> BTreeSet<String> {
        self.shared.state.arrivals.unattended().await
    }

    /// The lanes in which messages wait that nobody has set aside, due or not.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub async fn waiting_lanes(&self) -> Result<Vec<String>, StoreError> {
        self.read(read::waiting_lanes).await
    }

    /// A watch that changes when somebody else has changed what is queued.
    #[must_use]
    pub fn amendments(&self) -> watch::Receiver<u64> {
        self.shared.state.amendments.subscribe()
    }

    /// Finishes the work that waits and closes the database. Later work is refused.
    pub async fn close(&self) {
        // While a reader is open the committer cannot write the log home.
        self.shared.readers.close();
        let (done, closed) = oneshot::channel();
        if self.shared.inbox.send(Work::Stop { done }).await.is_ok() {
            let _ = closed.await;
        }
    }
}

#[cfg(test)]
mod tests;
