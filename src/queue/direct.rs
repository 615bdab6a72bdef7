//! Direct mode: a message goes upstream while its client waits for the answer, and nothing is
//! stored. Pace, quota, connections, gates and judgement are the queue's own.
//!
//! | The client hears | when |
//! |---|---|
//! | upstream's 250 | upstream has taken the message for all recipients |
//! | upstream's 5yz | upstream refused the message, or a recipient; nobody has got it then |
//! | 4yz | anything else, with the reason: upstream's 4yz, a pause, no token, no turn, a shutdown |

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Before, Config, DirectConfig, LaneConfig, Lanes, SenderConfig, Upstream,
    heir::key,
    runner::{Queue, Registry},
    shared::{Account, Accounts, Ending, LaneState},
    transaction::{self, Origin, Transaction},
};
use crate::{
    clock::Clock,
    delivery::smarthost::{Connection, Share, Taken},
    drain::Drain,
    smtp::reply::Reply,
    store::{Body, Entry, PassingBody, Router},
};

mod answer;
mod door;
mod doors;

use answer::{Words, conclude, draining, hung_up, paused, shut_down_midway, unreadable};
use door::Door;
use doors::{Doors, Next};

/// Sends messages on while their clients wait. Clones are cheap.
#[derive(Clone)]
pub struct Direct {
    accounts: Accounts,
    router: Arc<Lanes>,
    sender: SenderConfig,
    registry: Arc<Registry>,
    before: Arc<Before>,
    /// By the name of the lane. That of a sender is there only as long as it remembers something.
    doors: Arc<Mutex<Doors>>,
    /// What goes by other settings now.
    next: Arc<Next>,
    by_sender: bool,
    clock: Clock,
    wait: Duration,
    drain: Drain,
}

/// How soon to look again whether a door that somebody still holds can be closed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Direct {
    /// Gets ready; connects to nothing before the first message. `first` and `others` are the
    /// accounts, by their place in the lanes' settings.
    #[must_use]
    pub fn start(
        config: Config,
        first: Upstream,
        others: Vec<Upstream>,
        clock: Clock,
        drain: &Drain,
    ) -> Self {
        let upstreams = (first, others);
        let direct =
            Self::new(Before::default(), Doors::default(), config, upstreams, clock, drain);
        direct.open_fixed();
        direct
    }

    /// The same by other settings. Clients that wait for their turn go on to wait there; what is
    /// under way comes to its end by the old settings, and counts.
    #[must_use]
    pub fn succeed(
        &self,
        before: Before,
        config: Config,
        upstreams: (Upstream, Vec<Upstream>),
        clock: Clock,
        drain: &Drain,
    ) -> Self {
        let next = {
            // From here on no door is opened but there.
            let doors = self.doors();
            let before_next = doors.to_be_followed();
            let next = Self::new(before, before_next, config, upstreams, clock, drain);
            let _ = self.next.direct.set(next.clone());
            next
        };
        next.open_fixed();
        self.next.is_there.cancel();
        next
    }

    fn new(
        before: Before,
        doors: Doors,
        config: Config,
        (first, others): (Upstream, Vec<Upstream>),
        clock: Clock,
        drain: &Drain,
    ) -> Self {
        let router = Arc::new(Lanes::new(&config));
        let accounts = Accounts::new(first, others, config.max_connections, &before, clock);
        let by_sender = config.routes.iter().any(|route| route.by_sender);
        let Config { sender, direct: DirectConfig { wait, .. }, .. } = config;
        let lane = |lane: LaneConfig| before.lane(lane, &sender, clock);
        let registry = Arc::new(Registry::new(router.fixed().into_iter().map(lane).collect()));
        Self {
            accounts,
            router,
            sender,
            registry,
            before: Arc::new(before),
            doors: Arc::new(Mutex::new(doors)),
            next: Arc::default(),
            by_sender,
            clock,
            wait,
            drain: drain.clone(),
        }
    }

    fn open_fixed(&self) {
        let mut doors = self.doors();
        for lane in &self.registry.fixed {
            self.open(&mut doors, Arc::clone(lane));
        }
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, doors: &mut Doors, lane: Arc<LaneState>) -> Arc<Door> {
        let name = lane.config.mailbox.clone();
        if let Some(door) = doors.open.get(&name) {
            return Arc::clone(door);
        }
        let account = Arc::clone(self.accounts.get(lane.config.account));
        let door = Arc::new(match doors.before.remove(&key(&name)) {
            Some(before) => {
                let mut goodbyes = JoinSet::new();
                let door = Door::heir(&before, account, lane, &mut goodbyes);
                self.drain.spawn(async move { while goodbyes.join_next().await.is_some() {} });
                door
            }
            None => Door::new(account, lane),
        });
        doors.open.insert(name, Arc::clone(&door));
        let tender = self.clone().tend(Arc::clone(&door));
        self.drain.spawn(self.drain.vital("door", tender));
        door
    }

    /// The door of a lane, opened if need be; none if that is for other settings to do.
    fn door(&self, name: &str) -> Option<Arc<Door>> {
        let mut doors = self.doors();
        if let Some(door) = doors.open.get(name) {
            return Some(Arc::clone(door));
        }
        if self.next.direct.get().is_some() {
            return None;
        }
        let fixed = self.registry.fixed.iter().find(|lane| lane.config.mailbox == name);
        if let Some(lane) = fixed {
            return Some(self.open(&mut doors, Arc::clone(lane)));
        }
        let config = self.router.config(name)?;
        let lane = self.before.lane(config, &self.sender, self.clock);
        self.registry.others().insert(name.to_owned(), Arc::clone(&lane));
        Some(self.open(&mut doors, lane))
    }

    /// Keeps a door's connections in order; ends with the drain, when another door takes over, or
    /// when a sender's lane has nothing to do and remembers nothing.
    async fn tend(self, door: Arc<Door>) {
        let _ending = Ending(Arc::clone(&door.lane));
        let name = door.lane.config.mailbox.clone();
        let retires = self.registry.others().contains_key(&name);
        while !door.tend(&self.drain, retires).await {
            {
                let mut doors = self.doors();
                // Ours and the map's: nobody waits at it, and nobody comes while the map is locked.
                if Arc::strong_count(&door) == 2 {
                    doors.open.remove(&name);
                    self.registry.others().remove(&name);
                    return;
                }
            }
            tokio::select! {
                () = self.drain.signaled() => {}
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// The lanes, to look at.
    #[must_use]
    pub fn lanes(&self) -> Queue {
        let (accounts, lanes) = (self.accounts.clone(), Arc::clone(&self.registry));
        let (before, stopped) = (Arc::clone(&self.before), CancellationToken::new());
        Queue { accounts, lanes, by_sender: self.by_sender, before, stopped }
    }

    /// Whether a message could go before its client would have waited too long: asked before the
    /// client sends it, and before its route is known.
    ///
    /// # Errors
    /// The reply that refuses it for the time being: the way upstream is paused, or there is no
    /// token and none is to come soon, whichever account it would go to.
    pub fn admission(&self) -> Result<(), Reply> {
        let mut refusal = Ok(());
        for account in self.accounts.all() {
            match self.account_admission(account) {
                Ok(()) => return Ok(()),
                Err(reply) => refusal = refusal.and(Err(reply)),
            }
        }
        refusal
    }

    fn account_admission(&self, account: &Account) -> Result<(), Reply> {
        let words = Words { account };
        let deadline = Instant::now() + self.wait;
        if let Some(pause) = account.gate.pause().filter(|pause| pause.until > deadline) {
            return Err(paused(&pause));
        }
        let late = words.next_token().is_some_and(|next| next > deadline);
        if late && words.has_no_token() { Err(words.no_token()) } else { Ok(()) }
    }

    /// Sends a message on: to all its recipients or to none. `gone` completes when the client has
    /// hung up, after which nothing is begun any more; what has begun comes to its end.
    ///
    /// # Errors
    /// The reply that refuses the message: a permanent one if upstream's is.
    pub async fn relay(
        &self,
        entry: Entry,
        body: PassingBody,
        gone: impl Future<Output = ()>,
    ) -> Result<Taken, Reply> {
        let id = entry.id;
        tokio::pin!(gone);
        let deadline = Instant::now() + self.wait;
        let mut next = None;
        let (door, connection, drain) = loop {
            let direct: &Self = next.as_ref().unwrap_or(self);
            match direct.turn(&entry, deadline, gone.as_mut()).await {
                Ok((door, connection)) => break (door, connection, direct.drain.clone()),
                Err(Some(refusal)) => return Err(refusal),
                Err(None) => next = direct.next.direct.get().cloned(),
            }
        };
        let (answer, mut answered) = oneshot::channel();
        let attempt = Attempt { door, entry, body, done: false };
        // A task of its own, so that it comes to its end whatever becomes of the session.
        let attempt = attempt.run(connection, answer, drain.clone());
        drain.spawn(attempt.in_current_span());
        let mut listens = true;
        loop {
            tokio::select! {
                biased;
                answer = &mut answered => {
                    if let (Ok(Ok(_)), false) = (&answer, listens) {
                        tracing::warn!(queue_id = %id, "client hung up before the verdict, it may send the message again");
                    }
                    return answer.unwrap_or_else(|_| Err(unreadable()));
                }
                () = drain.last_call() => return Err(shut_down_midway()),
                () = &mut gone, if listens => listens = false,
            }
        }
    }

    /// Waits for a message's turn until `deadline`, as long as these settings hold: with others,
    /// there is no reply but the turn is to be waited for there. Returns a connection too, if one is
    /// idle.
    async fn turn(
        &self,
        entry: &Entry,
        deadline: Instant,
        gone: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(Arc<Door>, Option<Connection>), Option<Reply>> {
        let name = self.router.lane(&entry.reverse_path);
        let entered = match self.door(&name) {
            None => Err(unreadable()),
            Some(door) => tokio::select! {
                biased;
                () = self.next.is_there.cancelled() => Err(unreadable()),
                () = self.drain.signaled() => Err(draining()),
                entered = door.wait(entry, deadline) => {
                    entered.map(|connection| (door, connection))
                }
                () = gone => return Err(Some(hung_up(entry.id))),
            },
        };
        match (entered, self.next.direct.get()) {
            // Whatever stands in the way, the next settings may not.
            (Err(_), Some(_)) => Err(None),
            (entered, _) => entered.map_err(Some),
        }
    }
}

/// One message that has gone through.
struct Attempt {
    door: Arc<Door>,
    entry: Entry,
    body: PassingBody,
    /// It has left the turnstile.
    done: bool,
}

impl Attempt {
    async fn run(
        mut self,
        connection: Option<Connection>,
        answer: oneshot::Sender<Result<Taken, Reply>>,
        drain: Drain,
    ) {
        let transaction = Transaction {
            account: &self.door.account,
            lane: &self.door.lane,
            entry: &self.entry,
            share: Share::All,
            give_up_after: None,
            begun: Instant::now(),
        };
        let (end, connection) = transaction.run(connection, &self).await;
        let verdict = conclude(&transaction, end);
        let not_relayed = if verdict.is_ok() { 0 } else { self.entry.recipients.len() as u64 };
        if let Err(Ok(_)) = answer.send(verdict) {
            tracing::warn!(queue_id = %self.entry.id, "client was told to try again and upstream has the message, it may come twice");
        }
        let connection = match transaction::keep(connection).await {
            Some(connection) if drain.is_signaled() => {
                connection.quit().await;
                None
            }
            connection => connection,
        };
        self.done = true;
        self.door.leave(connection, not_relayed).await;
    }
}

impl Origin for Attempt {
    async fn body(&self) -> Option<Body> {
        match self.body.open() {
            Ok(body) => Some(body),
            Err(error) => {
                tracing::error!(queue_id = %self.entry.id, %error, "message not readable");
                None
            }
        }
    }
}

/// An attempt that breaks off by a fault of this program must not keep others out.
impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.done {
            tracing::error!(queue_id = %self.entry.id, "attempt broke off");
            self.door.lane.senders.withdraw_probe(self.entry.reverse_path.as_str());
            self.door.broken();
        }
    }
}
