//! What the tasks of the queue share: the gates, the lanes' states, and the parts that all use.

use std::{
    collections::BTreeSet,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    Before, LaneConfig, NoticeConfig, OnUncertain, SenderConfig, Upstream,
    pause::{Cause, Gate, Passage, Pause},
    senders::Senders,
    slots::Slots,
};
use crate::{
    clock::Clock,
    delivery::smarthost::Smarthost,
    drain::Drain,
    mail::rewrite::Rewriting,
    office365::replies::PauseRule,
    store::{Entry, Store},
    telemetry::{
        events::{Paused, Resumed},
        metrics,
    },
    token::TokenHandle,
};

/// What all lanes of an account use, with a queue or without.
pub(super) struct Account {
    pub token: TokenHandle,
    pub smarthost: Smarthost,
    pub clock: Clock,
    /// Closed by trouble on the way to the smarthost, for all lanes.
    pub gate: Arc<SharedGate>,
    /// Its name, for people.
    pub name: String,
    /// Room for connections, of all accounts together.
    pub slots: Slots,
}

impl Account {
    pub fn new(upstream: Upstream, gate: Arc<SharedGate>, slots: Slots, clock: Clock) -> Self {
        let Upstream { name, token, smarthost } = upstream;
        metrics::know_smarthost(gate.name());
        Self { token, smarthost, clock, gate, name, slots }
    }
}

/// The accounts, by their place; there is one at least.
#[derive(Clone)]
pub(super) struct Accounts {
    first: Arc<Account>,
    others: Vec<Arc<Account>>,
}

impl Accounts {
    pub fn new(
        first: Upstream,
        others: Vec<Upstream>,
        max_connections: usize,
        before: &Before,
        clock: Clock,
    ) -> Self {
        let slots = before.slots(max_connections);
        let alone = others.is_empty();
        let account = |upstream: Upstream| {
            let name = if alone { "all".to_owned() } else { format!("all of {}", upstream.name) };
            let gate = match before.gate(&upstream.name) {
                Some(gate) => SharedGate::heir(gate, name),
                None => Arc::new(SharedGate::new(name, clock)),
            };
            Arc::new(Account::new(upstream, gate, slots.clone(), clock))
        };
        Self { first: account(first), others: others.into_iter().map(account).collect() }
    }

    pub fn get(&self, place: usize) -> &Arc<Account> {
        let other = place.checked_sub(1).and_then(|place| self.others.get(place));
        other.unwrap_or(&self.first)
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Account>> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// What all lanes of a queue use.
pub(super) struct Context {
    pub account: Arc<Account>,
    pub store: Store,
    pub give_up_after: Duration,
    pub on_uncertain: OnUncertain,
    pub notices: NoticeConfig,
    /// Lanes that are running, of all accounts.
    pub running: Arc<AtomicUsize>,
}

impl Deref for Context {
    type Target = Account;

    fn deref(&self) -> &Account {
        &self.account
    }
}

/// How long to wait after the store could not be read or written.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(5);

/// Waits before the store is asked again, unless there is no more time for that.
pub(super) async fn after_store_error(drain: &Drain) {
    let _ = timeout(STORE_RETRY, drain.signaled()).await;
}

/// A gate that several tasks look at, and its log lines.
#[derive(Debug)]
pub(super) struct SharedGate {
    name: String,
    gate: Mutex<Gate>,
    pub changed: Notify,
    clock: Clock,
}

impl SharedGate {
    pub fn new(name: impl Into<String>, clock: Clock) -> Self {
        Self { name: name.into(), gate: Mutex::default(), changed: Notify::new(), clock }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn close(&self, cause: Cause, rule: PauseRule) {
        let told = cause.clone();
        let news = self.gate().close(cause, rule, Instant::now(), self.clock.now());
        if let Some(retry) = news {
            let Cause { reason, advice } = &told;
            let (lane, advice) = (&self.name, advice.as_deref());
            Paused { lane, counted: lane, kind: rule.kind, reason, advice, retry }.emit();
        } else {
            tracing::debug!(lane = self.name, reason = told.reason, "delivery still paused");
        }
        self.changed.notify_waiters();
    }

    pub fn open(&self, begun: Instant) {
        let lasted = self.gate().open(begun, self.clock.now());
        if let Some(lasted) = lasted {
            Resumed { lane: &self.name, lasted }.emit();
            self.changed.notify_waiters();
        }
    }

    /// A probe that came to no result must not keep the gate closed for ever.
    pub fn withdraw_probe(&self) {
        self.gate().withdraw_probe();
        self.changed.notify_waiters();
    }

    /// The same gate: what is under way goes on to open and close it. With another name it is one
    /// of its own, where a probe that is under way may be begun too.
    pub fn heir(before: &Arc<Self>, name: String) -> Arc<Self> {
        if before.name == name {
            return Arc::clone(before);
        }
        let mut gate = before.gate().clone();
        gate.withdraw_probe();
        Arc::new(Self { name, gate: Mutex::new(gate), changed: Notify::new(), clock: before.clock })
    }

    /// What its pauses are called in the log and the metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pause(&self) -> Option<Pause> {
        self.gate().pause(Instant::now()).cloned()
    }
}

/// What the rest of the relay may see of a lane, and what its attempts tell it.
#[derive(Debug)]
pub(super) struct LaneState {
    pub config: LaneConfig,
    /// As whom its mail goes upstream.
    pub rewriting: Rewriting,
    pub gate: Arc<SharedGate>,
    pub senders: Arc<Senders>,
    pub connections: ConnectionLimit,
    pub in_flight: AtomicUsize,
    /// Clients that wait for their turn, in direct mode.
    pub waiting: AtomicUsize,
    pub idle_connections: AtomicUsize,
    /// It takes the place of a lane that may have sent just now.
    pub is_heir: bool,
    /// Recipients counted in the last day; see [`super::quota`].
    pub recipients_today: AtomicU64,
    /// It may have something under way until then.
    pub end: End,
    /// What it waits for before it begins.
    waits_for: Mutex<Option<Arc<LaneState>>>,
}

impl LaneState {
    pub fn new(config: LaneConfig, sender: &SenderConfig, clock: Clock) -> Self {
        metrics::know_lane(&config.mailbox);
        Self {
            rewriting: sender.rewriting(&config.mailbox),
            gate: Arc::new(SharedGate::new(config.mailbox.clone(), clock)),
            senders: Arc::new(Senders::new(&config.mailbox, clock)),
            connections: ConnectionLimit { most: config.max_connections, lowered: Arc::default() },
            config,
            in_flight: 0.into(),
            waiting: 0.into(),
            idle_connections: 0.into(),
            is_heir: false,
            recipients_today: 0.into(),
            end: End::default(),
            waits_for: Mutex::default(),
        }
    }

    /// Takes over from a lane of the same mailbox: what it has sent counts, and with `pauses` those
    /// last, and what is under way there goes on to open and close the gates.
    pub fn succeed(mut self, before: &Self, pauses: bool) -> Self {
        self.is_heir = true;
        self.recipients_today = before.recipients_today.load(Ordering::Relaxed).into();
        if pauses {
            self.gate = SharedGate::heir(&before.gate, self.config.mailbox.clone());
            self.senders = Arc::clone(&before.senders);
            self.connections.lowered = Arc::clone(&before.connections.lowered);
        }
        self
    }

    fn waits_for(&self) -> MutexGuard<'_, Option<Arc<Self>>> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It does not begin before the end of that one.
    pub fn set_waits_for(&self, before: Option<Arc<Self>>) {
        *self.waits_for() = before;
    }

    /// Its name, and those of the lanes that it waits for.
    pub fn names(&self) -> BTreeSet<String> {
        let before = self.waits_for().clone();
        let mut names = before.map_or_else(BTreeSet::new, |before| before.names());
        names.insert(self.config.mailbox.clone());
        names
    }

    /// Whether it has not begun yet.
    pub fn takes_over(&self) -> bool {
        self.waits_for().is_some()
    }

    /// Messages under way, here and where it is to take over from.
    pub fn under_way(&self) -> usize {
        let before = self.waits_for().clone();
        self.in_flight.load(Ordering::Relaxed) + before.map_or(0, |before| before.under_way())
    }

    /// As whom a message goes upstream; notices are the mailbox's own.
    pub fn rewriting(&self, entry: &Entry) -> Rewriting {
        if entry.is_notice { Rewriting::default() } else { self.rewriting.clone() }
    }

    /// Until when it remembers what must not be forgotten: a pause, of the lane or of a sender, and
    /// that upstream has counted too many connections.
    pub fn remembers_until(&self) -> Option<Instant> {
        let pause = self.gate.pause().map(|pause| pause.until);
        let senders = self.senders.pauses().into_iter().map(|(_, pause)| pause.until);
        pause.into_iter().chain(senders).chain(self.connections.lowered_until()).max()
    }
}

/// The end of a lane, for whoever takes over from it.
#[derive(Debug, Default)]
pub(super) struct End(watch::Sender<Option<Instant>>);

impl End {
    /// Nothing is under way any more, nor will be.
    pub fn has_come(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// How long ago that was.
    pub fn age(&self) -> Option<Duration> {
        self.0.borrow().map(|ended| ended.elapsed())
    }

    /// Completes at the end.
    pub async fn come(&self) {
        // The sender is our own, so that it cannot be gone.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

/// A lane ends when this is dropped, however that comes about.
pub(super) struct Ending(pub Arc<LaneState>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.set_waits_for(None);
        self.0.end.0.send_replace(Some(Instant::now()));
    }
}

/// How many connections a lane uses: one only for a while after Exchange has counted too many.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    most: usize,
    lowered: Arc<Mutex<Option<Instant>>>,
}

/// How long a lane keeps to one connection.
const ONE_CONNECTION_FOR: Duration = Duration::from_secs(600);

impl ConnectionLimit {
    pub fn now(&self) -> usize {
        let lowered = self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        match *lowered {
            Some(since) if since.elapsed() < ONE_CONNECTION_FOR => 1,
            _ => self.most,
        }
    }

    fn lowered_until(&self) -> Option<Instant> {
        let lowered = self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        lowered.map(|since| since + ONE_CONNECTION_FOR)
    }

    pub fn lower(&self) {
        let mut lowered = self.lowered.lock().unwrap_or_else(PoisonError::into_inner);
        *lowered = Some(Instant::now());
    }
}

/// Whether a message may pass both gates now. A probe begins only if both let it through: one
/// that was taken back at once would wake every lane that waits at the gate, the caller's too.
pub(super) fn pass(relay: &SharedGate, lane: &SharedGate) -> Result<(), Closed> {
    let (mut relay, mut lane) = (relay.gate(), lane.gate());
    let now = Instant::now();
    for passage in [relay.look(now), lane.look(now)] {
        match passage {
            Passage::Open | Passage::Probe => {}
            Passage::Closed(until) => return Err(Closed { until: Some(until) }),
            Passage::Probing => return Err(Closed { until: None }),
        }
    }
    relay.passage(now);
    lane.passage(now);
    Ok(())
}

/// A gate stops the message; without a time, until something changes there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed {
    pub until: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;

    fn closed(name: &str, rule: PauseRule) -> SharedGate {
        let gate = SharedGate::new(name, Clock::at(UnixMillis(0)));
        gate.close(Cause { reason: "no".into(), advice: None }, rule);
        gate
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_connections_lower_their_number_for_a_while() {
        let limit = ConnectionLimit { most: 3, lowered: Arc::default() };
        assert_eq!(limit.now(), 3);
        limit.lower();
        assert_eq!(limit.now(), 1);
        tokio::time::advance(ONE_CONNECTION_FOR).await;
        assert_eq!(limit.now(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_one_gate_stops_wakes_nobody_at_the_other() {
        let (relay, lane) = (closed("all", PauseRule::NETWORK), closed("lane", PauseRule::LOGIN));
        let turns = [(&relay, &lane), (&lane, &relay)];
        tokio::time::advance(PauseRule::NETWORK.first).await;
        for (first, second) in turns {
            let (at_relay, at_lane) = (relay.changed.notified(), lane.changed.notified());
            tokio::pin!(at_relay, at_lane);
            assert!(!at_relay.as_mut().enable() && !at_lane.as_mut().enable());
            assert!(pass(first, second).is_err_and(|closed| closed.until.is_some()));
            assert!(!at_relay.as_mut().enable() && !at_lane.as_mut().enable());
        }
        tokio::time::advance(PauseRule::LOGIN.first).await;
        assert!(pass(&relay, &lane).is_ok());
        assert!(
            pass(&relay, &lane).is_err_and(|closed| closed.until.is_none()),
            "one probe at a time"
        );
    }
}
