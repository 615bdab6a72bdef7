//! One lane's loop. It owns the lane's pace and connections; lanes never wait for each other,
//! except at the gate that they share, which trouble with the smarthost closes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{self, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    attempt::{self, Finished},
    pause::Passage,
    quota::{self, Quota},
    shared::{Context, LaneState, STORE_RETRY, after_store_error},
    slots::Slot,
    turnstile::{Obstacle, Turnstile},
};
use crate::{
    clock::UnixMillis,
    drain::Drain,
    mail::queue_id::QueueId,
    smtp::path::ReversePath,
    store::{Body, Entry},
    token::TokenHandle,
};

/// Messages read from the store at a time; fewer where many lanes run, as all of them together
/// shall not hold more than so many.
const PAGE: usize = 64;
const LEAST_PAGE: usize = 4;
const PAGES: usize = 1024;

/// How long messages of a held sender wait for the end of a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Lane {
    context: Arc<Context>,
    state: Arc<LaneState>,
    token: TokenHandle,
    arrivals: watch::Receiver<u64>,
    amendments: watch::Receiver<u64>,
    turnstile: Turnstile,
    ready: VecDeque<Entry>,
    /// In `ready` or under way; in memory only, so a crash frees them.
    leased: HashSet<QueueId>,
    attempts: JoinSet<Finished>,
    /// Whose messages they are.
    senders: HashMap<task::Id, ReversePath>,
    /// It ends when it has nothing to do and remembers nothing.
    retires: bool,
    running: Running,
}

/// Counts the lanes that run.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }

    fn page(&self) -> usize {
        (PAGES / self.0.load(Ordering::Relaxed).max(1)).clamp(LEAST_PAGE, PAGE)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What to wait for before looking again; an attempt's end always counts.
#[derive(Debug, Clone, Copy, Default)]
struct Wait {
    until: Option<Instant>,
    arrivals: bool,
    token: bool,
    slot: bool,
}

impl Wait {
    fn until(time: Instant) -> Self {
        Self { until: Some(time), ..Self::default() }
    }
}

impl From<Obstacle> for Wait {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Connections => Self::default(),
            Obstacle::Token => Self { token: true, ..Self::default() },
            Obstacle::Pace(until) | Obstacle::Quota(until) => Self::until(until),
            Obstacle::Gate(closed) => Self { until: closed.until, ..Self::default() },
            Obstacle::Slots => Self { slot: true, ..Self::default() },
        }
    }
}

impl Lane {
    pub fn new(context: Arc<Context>, state: Arc<LaneState>, retires: bool) -> Self {
        Self {
            retires,
            running: Running::new(&context.running),
            token: context.token.clone(),
            arrivals: context.store.arrivals(&state.config.mailbox),
            amendments: context.store.amendments(),
            turnstile: Turnstile::new(Arc::clone(&context.account), Arc::clone(&state)),
            context,
            state,
            ready: VecDeque::new(),
            leased: HashSet::new(),
            attempts: JoinSet::new(),
            senders: HashMap::new(),
        }
    }

    pub async fn run(mut self, drain: Drain) {
        let (context, state) = (Arc::clone(&self.context), Arc::clone(&self.state));
        let mut turn: Option<Pin<Box<dyn Future<Output = Slot> + Send>>> = None;
        self.load_quota(&drain).await;
        while !drain.is_signaled() {
            // Made before the look, so that a change during it is not missed.
            let relay_changed = context.gate.changed.notified();
            let lane_changed = state.gate.changed.notified();
            tokio::pin!(relay_changed, lane_changed);
            relay_changed.as_mut().enable();
            lane_changed.as_mut().enable();
            let others_wait = context.slots.wanted();

            let mut wait = self.dispatch_all().await;
            if wait.slot {
                turn.get_or_insert_with(|| Box::pin(context.slots.clone().take()));
            } else {
                turn = None;
                self.turnstile.rest();
            }
            match self.may_retire(&wait) {
                Some(until) if until <= Instant::now() => return,
                until => wait.until = until.or(wait.until),
            }
            let until = self.turnstile.wake_time(wait.until);
            tokio::select! {
                () = drain.signaled() => break,
                Some(done) = self.attempts.join_next_with_id() => self.finished(done),
                () = sleep_until(until) => {}
                _ = self.arrivals.changed(), if wait.arrivals => {}
                _ = self.amendments.changed() => self.read_anew(),
                () = self.token.changed(), if wait.token => {}
                () = relay_changed => {}
                () = lane_changed => {}
                () = others_wait, if self.turnstile.has_idle() => {}
                slot = async { turn.as_mut()?.await.into() }, if turn.is_some() => {
                    turn = None;
                    self.grant(slot);
                }
            }
        }
        self.drain().await;
    }

    fn grant(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.turnstile.grant(slot);
        }
    }

    /// When it may end, if there is nothing to do for it: it must not be forgotten how much it has
    /// just sent, nor that it is paused.
    fn may_retire(&self, wait: &Wait) -> Option<Instant> {
        let idle = wait.arrivals && wait.until.is_none();
        if !self.retires || !idle || !self.leased.is_empty() || !self.turnstile.is_still() {
            return None;
        }
        let full_at = self.turnstile.full_at();
        Some(self.state.remembers_until().map_or(full_at, |until| until.max(full_at)))
    }

    /// The count of the last day. Without it nothing is sent: guessing low would get the mailbox
    /// refused.
    async fn load_quota(&mut self, drain: &Drain) {
        let Some(limit) = self.state.config.recipients_per_day else { return };
        while !drain.is_signaled() {
            let since = self.context.clock.now();
            let since = UnixMillis(
                since
                    .0
                    .saturating_sub(i64::try_from(quota::WINDOW.as_millis()).unwrap_or(i64::MAX)),
            );
            let lane = &self.state.config.mailbox;
            match self.context.store.relayed_since(lane, since, quota::STEP).await {
                Ok(history) => {
                    self.turnstile.count(Quota::new(limit, history));
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, lane, "history not readable, trying again");
                    after_store_error(drain).await;
                }
            }
        }
    }

    /// Attempts under way come to their end; idle connections are closed politely, at once: other
    /// lanes may wait for their room.
    async fn drain(mut self) {
        let mut goodbyes = JoinSet::new();
        self.turnstile.say_goodbye(&mut goodbyes);
        while let Some(done) = self.attempts.join_next_with_id().await {
            self.finished(done);
            self.turnstile.say_goodbye(&mut goodbyes);
        }
        while goodbyes.join_next().await.is_some() {}
    }

    /// Hands out messages until something stands in the way, and says what.
    async fn dispatch_all(&mut self) -> Wait {
        // Of messages that go at once; whoever waits is read anew, and takes no memory until then.
        let mut bodies = HashMap::new();
        loop {
            self.turnstile.close_idle();
            if !self.turnstile.has_room() || self.context.store.is_poisoned() {
                return Wait::default();
            }
            if self.ready.is_empty() {
                match self.refill().await {
                    Ok(read) => bodies = read,
                    Err(wait) => return wait,
                }
            }
            match self.put_held_sender_off().await {
                Ok(false) => {}
                Ok(true) => continue,
                Err(wait) => return wait,
            }
            if let Err(wait) = self.dispatch(&mut bodies) {
                return wait;
            }
        }
    }

    /// If the next message's sender is held, moves all of that sender's messages at hand to the
    /// end of the hold, so that they stand in nobody's way. A probe goes ahead.
    async fn put_held_sender_off(&mut self) -> Result<bool, Wait> {
        let Some(sender) = self.ready.front().map(|entry| entry.reverse_path.to_string()) else {
            return Ok(false);
        };
        let wait = match self.state.senders.passage(&sender) {
            Passage::Open | Passage::Probe => return Ok(false),
            Passage::Closed(until) => until.saturating_duration_since(Instant::now()),
            Passage::Probing => PROBE_PATIENCE,
        };
        let held: Vec<_> = self
            .ready
            .iter()
            .filter(|entry| entry.reverse_path.as_str().eq_ignore_ascii_case(&sender))
            .map(|entry| entry.id)
            .collect();
        let until = self.context.clock.now() + wait;
        if let Err(error) = self.context.store.postpone(held.clone(), until).await {
            tracing::error!(%error, sender, "messages of a held sender not put off, trying again");
            return Err(Wait::until(Instant::now() + STORE_RETRY));
        }
        self.ready.retain(|entry| !held.contains(&entry.id));
        for id in &held {
            self.leased.remove(id);
        }
        Ok(true)
    }

    /// A queue command has changed something: what waits here may be held, gone or not the next
    /// any more.
    fn read_anew(&mut self) {
        for entry in self.ready.drain(..) {
            self.leased.remove(&entry.id);
        }
    }

    /// Reads what is due, with the bodies of those that a connection waits for.
    async fn refill(&mut self) -> Result<HashMap<QueueId, Body>, Wait> {
        self.arrivals.mark_unchanged();
        let context = Arc::clone(&self.context);
        let lane = &self.state.config.mailbox;
        let (limit, bodies) = (self.running.page(), self.turnstile.idle());
        match context.store.page(lane, limit, bodies, &self.leased).await {
            Ok(page) if page.entries.is_empty() => Err(Wait {
                until: page.next.map(|due| Instant::now() + due.since(context.clock.now())),
                arrivals: true,
                ..Wait::default()
            }),
            Ok(page) => {
                self.leased.extend(page.entries.iter().map(|entry| entry.id));
                self.ready.extend(page.entries);
                Ok(page.bodies)
            }
            Err(error) => {
                tracing::error!(%error, lane, "queue not readable, trying again");
                Err(Wait::until(Instant::now() + STORE_RETRY))
            }
        }
    }

    /// Starts an attempt on the next message, unless token, pace or a gate say no.
    fn dispatch(&mut self, bodies: &mut HashMap<QueueId, Body>) -> Result<(), Wait> {
        let recipients = self.ready.front().map_or(0, |entry| entry.recipients.len() as u64);
        let connection =
            self.turnstile.enter(recipients).map_err(|obstacle| self.not_now(obstacle.into()))?;
        if let Some(entry) = self.ready.pop_front() {
            let (context, state) = (Arc::clone(&self.context), Arc::clone(&self.state));
            let (sender, body) = (entry.reverse_path.clone(), bodies.remove(&entry.id));
            self.begin(sender, attempt::run(context, state, entry, connection, body));
        }
        Ok(())
    }

    fn begin(
        &mut self,
        sender: ReversePath,
        attempt: impl Future<Output = Finished> + Send + 'static,
    ) {
        // An attempt's state is large; boxed, it is not copied on its way into the task.
        let task = self.attempts.spawn(Box::pin(attempt));
        self.senders.insert(task.id(), sender);
    }

    /// The next message does not go now: if it was to be its sender's probe, another may be.
    fn not_now(&self, wait: Wait) -> Wait {
        if let Some(entry) = self.ready.front() {
            self.state.senders.withdraw_probe(entry.reverse_path.as_str());
        }
        wait
    }

    fn finished(&mut self, done: Result<(task::Id, Finished), task::JoinError>) {
        let id = done.as_ref().map_or_else(task::JoinError::id, |(id, _)| *id);
        let sender = self.senders.remove(&id);
        match done {
            Ok((_, finished)) => {
                self.leased.remove(&finished.id);
                self.turnstile.leave(finished.connection, finished.not_relayed);
            }
            Err(error) => {
                // A fault of this program: the message stays leased until a restart, so that it
                // cannot bring down attempt after attempt.
                tracing::error!(%error, lane = self.state.config.mailbox, "attempt broke off");
                self.turnstile.broken();
                if let Some(sender) = sender {
                    self.state.senders.withdraw_probe(sender.as_str());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        office365::replies::PauseRule,
        queue::{
            fixture::{START, context, lane_state},
            pause::Cause,
        },
    };

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_attempt_breaks_off_does_not_hold_its_sender_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::at(START);
        let mut lane = Lane::new(context(directory.path(), clock), lane_state(clock), false);
        let sender = "erp@contoso.com";
        let cause = Cause { reason: "554 5.2.252 SendAsDenied".into(), advice: None };
        lane.state.senders.close(sender, cause, PauseRule::SENDER);
        tokio::time::advance(PauseRule::SENDER.first).await;
        assert_eq!(lane.state.senders.passage(sender), Passage::Probe);
        let path = ReversePath::Address(sender.parse().unwrap());
        lane.begin(path, async { panic!("a fault of this program") });
        assert_eq!(lane.state.senders.passage(sender), Passage::Probing);
        let done = lane.attempts.join_next_with_id().await.unwrap();
        lane.finished(done);
        assert_eq!(lane.state.senders.passage(sender), Passage::Probe);
        assert!(lane.senders.is_empty());
    }
}
