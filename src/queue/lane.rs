//! One lane's loop. It owns the lane's pace and connections; lanes never wait for each other,
//! except at the gate that they share, which trouble with the smarthost closes.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    LaneConfig,
    attempt::{self, Finished},
    pace::Bucket,
    pause::{Cause, Gate, Passage, Pause},
    runner::Context,
};
use crate::{
    clock::{Clock, UnixMillis},
    delivery::smarthost::Connection,
    drain::Drain,
    mail::queue_id::QueueId,
    office365::replies::PauseRule,
    store::{Entry, StoreError},
    telemetry::events::{Paused, Resumed},
    token::TokenHandle,
};

/// Messages read from the store at a time.
const PAGE: usize = 64;

/// After the store could not be read.
const STORE_RETRY: Duration = Duration::from_secs(5);

/// A gate that several tasks look at, and its log lines.
#[derive(Debug)]
pub(super) struct SharedGate {
    name: String,
    gate: Mutex<Gate>,
    changed: Notify,
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
            let advice = advice.as_deref();
            Paused { lane: &self.name, reason, advice, retry }.emit();
        } else {
            tracing::debug!(lane = self.name, reason = told.reason, "delivery still paused");
        }
        self.changed.notify_waiters();
    }

    pub fn open(&self) {
        let lasted = self.gate().open(self.clock.now());
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

    pub fn pause(&self) -> Option<Pause> {
        self.gate().pause().cloned()
    }
}

/// Whether a message may pass both gates now. A probe begins only if both let it through: one
/// that was taken back at once would wake every lane that waits at the gate, the caller's too.
fn pass(relay: &SharedGate, lane: &SharedGate) -> Result<(), Wait> {
    let (mut relay, mut lane) = (relay.gate(), lane.gate());
    let now = Instant::now();
    for passage in [relay.look(now), lane.look(now)] {
        match passage {
            Passage::Open | Passage::Probe => {}
            Passage::Closed(until) => return Err(Wait::until(until)),
            Passage::Probing => return Err(Wait::default()),
        }
    }
    relay.passage(now);
    lane.passage(now);
    Ok(())
}

/// What the rest of the relay may see of a lane.
#[derive(Debug)]
pub(super) struct LaneState {
    pub config: LaneConfig,
    pub gate: SharedGate,
    pub in_flight: AtomicUsize,
    pub idle_connections: AtomicUsize,
}

pub(super) struct Lane {
    context: Arc<Context>,
    state: Arc<LaneState>,
    token: TokenHandle,
    arrivals: watch::Receiver<u64>,
    amendments: watch::Receiver<u64>,
    bucket: Bucket,
    ready: VecDeque<Entry>,
    /// In `ready` or under way; in memory only, so a crash frees them.
    leased: HashSet<QueueId>,
    idle: Vec<Idle>,
    attempts: JoinSet<Finished>,
}

struct Idle {
    connection: Connection,
    closes: Instant,
}

/// What to wait for before looking again; an attempt's end always counts.
#[derive(Debug, Clone, Copy, Default)]
struct Wait {
    until: Option<Instant>,
    arrivals: bool,
    token: bool,
}

impl Wait {
    fn until(time: Instant) -> Self {
        Self { until: Some(time), ..Self::default() }
    }
}

impl Lane {
    pub fn new(context: Arc<Context>, state: Arc<LaneState>) -> Self {
        Self {
            token: context.token.clone(),
            arrivals: context.store.arrivals(),
            amendments: context.store.amendments(),
            bucket: Bucket::new(state.config.pace, Instant::now()),
            context,
            state,
            ready: VecDeque::new(),
            leased: HashSet::new(),
            idle: Vec::new(),
            attempts: JoinSet::new(),
        }
    }

    pub async fn run(mut self, drain: Drain) {
        let (context, state) = (Arc::clone(&self.context), Arc::clone(&self.state));
        while !drain.is_signaled() {
            // Made before the look, so that a change during it is not missed.
            let relay_changed = context.gate.changed.notified();
            let lane_changed = state.gate.changed.notified();
            tokio::pin!(relay_changed, lane_changed);
            relay_changed.as_mut().enable();
            lane_changed.as_mut().enable();

            let wait = self.dispatch_all().await;
            let until = self.wake_time(wait.until);
            tokio::select! {
                () = drain.signaled() => break,
                Some(done) = self.attempts.join_next() => self.finished(done),
                () = sleep_until(until) => {}
                _ = self.arrivals.changed(), if wait.arrivals => {}
                _ = self.amendments.changed() => self.read_anew(),
                () = self.token.changed(), if wait.token => {}
                () = relay_changed => {}
                () = lane_changed => {}
            }
        }
        self.drain().await;
    }

    /// Attempts under way come to their end; idle connections are closed politely.
    async fn drain(mut self) {
        while let Some(done) = self.attempts.join_next().await {
            self.finished(done);
        }
        let mut goodbyes = JoinSet::new();
        for idle in self.idle.drain(..) {
            goodbyes.spawn(idle.connection.quit());
        }
        while goodbyes.join_next().await.is_some() {}
    }

    /// Hands out messages until something stands in the way, and says what.
    async fn dispatch_all(&mut self) -> Wait {
        loop {
            self.close_idle();
            if self.attempts.len() >= self.state.config.max_connections
                || self.context.store.is_poisoned()
            {
                return Wait::default();
            }
            if self.ready.is_empty()
                && let Err(wait) = self.refill().await
            {
                return wait;
            }
            if let Err(wait) = self.dispatch() {
                return wait;
            }
        }
    }

    /// A queue command has changed something: what waits here may be held, gone or not the next
    /// any more.
    fn read_anew(&mut self) {
        for entry in self.ready.drain(..) {
            self.leased.remove(&entry.id);
        }
    }

    async fn refill(&mut self) -> Result<(), Wait> {
        self.arrivals.mark_unchanged();
        let context = Arc::clone(&self.context);
        let lane = &self.state.config.mailbox;
        let result: Result<_, StoreError> = async {
            // Asked first: what becomes due between the two questions is in both answers, not in
            // neither.
            let next = context.store.next_due(lane).await?;
            let due = context.store.due(lane, PAGE + self.leased.len()).await?;
            let fresh: Vec<_> =
                due.into_iter().filter(|entry| !self.leased.contains(&entry.id)).collect();
            Ok((fresh, next))
        }
        .await;
        match result {
            Ok((fresh, next)) if fresh.is_empty() => Err(Wait {
                until: next.map(|due| Instant::now() + due.since(context.clock.now())),
                arrivals: true,
                token: false,
            }),
            Ok((fresh, _)) => {
                self.leased.extend(fresh.iter().map(|entry| entry.id));
                self.ready.extend(fresh);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, lane, "queue not readable, trying again");
                Err(Wait::until(Instant::now() + STORE_RETRY))
            }
        }
    }

    /// Starts an attempt on the next message, unless token, pace or a gate say no.
    fn dispatch(&mut self) -> Result<(), Wait> {
        let token = self.token.snapshot();
        if self.idle.is_empty() && token.usable(self.context.clock.now()).is_none() {
            return Err(Wait { token: true, ..Wait::default() });
        }
        self.bucket.take(Instant::now()).map_err(Wait::until)?;
        if let Err(wait) = pass(&self.context.gate, &self.state.gate) {
            self.bucket.give_back();
            return Err(wait);
        }
        if let Some(entry) = self.ready.pop_front() {
            let connection = self.idle.pop().map(|idle| idle.connection);
            let (context, state) = (Arc::clone(&self.context), Arc::clone(&self.state));
            self.attempts.spawn(attempt::run(context, state, entry, connection));
            self.publish();
        }
        Ok(())
    }

    fn finished(&mut self, done: Result<Finished, tokio::task::JoinError>) {
        match done {
            Ok(finished) => {
                self.leased.remove(&finished.id);
                if let Some(connection) = finished.connection {
                    let closes = Instant::now() + self.context.smarthost.config().idle_close;
                    self.idle.push(Idle { connection, closes });
                }
            }
            Err(error) => {
                // A fault of this program: the message stays leased until a restart, so that it
                // cannot bring down attempt after attempt.
                tracing::error!(%error, lane = self.state.config.mailbox, "attempt broke off");
                self.context.gate.withdraw_probe();
                self.state.gate.withdraw_probe();
            }
        }
        self.publish();
    }

    fn close_idle(&mut self) {
        let now = Instant::now();
        for idle in self.idle.extract_if(.., |idle| idle.closes <= now) {
            tokio::spawn(idle.connection.quit());
        }
        self.publish();
    }

    fn wake_time(&self, wanted: Option<Instant>) -> Instant {
        let closes = self.idle.iter().map(|idle| idle.closes);
        let far = Instant::now() + Duration::from_secs(3600);
        closes.chain(wanted).min().unwrap_or(far)
    }

    fn publish(&self) {
        self.state.in_flight.store(self.attempts.len(), Ordering::Relaxed);
        self.state.idle_connections.store(self.idle.len(), Ordering::Relaxed);
    }
}

/// What `status` shows of a pause.
#[derive(Debug, Clone)]
pub struct PauseSnapshot {
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: UnixMillis,
    /// How long until the next probe.
    pub retry: Duration,
}

impl From<Pause> for PauseSnapshot {
    fn from(pause: Pause) -> Self {
        let retry = pause.until.saturating_duration_since(Instant::now());
        Self { cause: pause.cause, since: pause.since, retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(name: &str, rule: PauseRule) -> SharedGate {
        let gate = SharedGate::new(name, Clock::at(UnixMillis(0)));
        gate.close(Cause { reason: "no".into(), advice: None }, rule);
        gate
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
            assert!(pass(first, second).is_err_and(|wait| wait.until.is_some()));
            assert!(!at_relay.as_mut().enable() && !at_lane.as_mut().enable());
        }
        tokio::time::advance(PauseRule::LOGIN.first).await;
        assert!(pass(&relay, &lane).is_ok());
        assert!(pass(&relay, &lane).is_err_and(|wait| wait.until.is_none()), "one probe at a time");
    }
}
