//! What lets messages of a lane through, one by one: the token, the lane's pace, the recipients
//! of the day, its connections and the gates. The queue and direct mode go through the same one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::{
    pace::Bucket,
    quota::Quota,
    shared::{Account, Closed, LaneState, pass},
    slots::Slot,
};
use crate::delivery::smarthost::Connection;

/// With nothing to wait for, a lane still looks so often: the day's recipients go down with time.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(3600);

pub(super) struct Turnstile {
    account: Arc<Account>,
    state: Arc<LaneState>,
    bucket: Bucket,
    quota: Option<Quota>,
    /// It has been said that the day's recipients are used up.
    waits_for_quota: bool,
    idle: Vec<Idle>,
    /// Attempts under way.
    busy: usize,
    /// Room for the connections of attempts and for idle ones.
    slots: Vec<Slot>,
    /// Room that was waited for, for the next message.
    spare: Option<Slot>,
}

struct Idle {
    connection: Connection,
    closes: Instant,
}

/// What stands in the way of the next message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Obstacle {
    /// All connections are in use, until an attempt ends.
    Connections,
    /// There is no token to log in with.
    Token,
    /// The lane's pace, until then.
    Pace(Instant),
    /// The recipients of the day, until then.
    Quota(Instant),
    /// A gate.
    Gate(Closed),
    /// The connections of all lanes together, until [`Slots::take`] gives one.
    ///
    /// [`Slots::take`]: super::slots::Slots::take
    Slots,
}

impl Turnstile {
    pub fn new(account: Arc<Account>, state: Arc<LaneState>) -> Self {
        let now = Instant::now();
        let bucket = match state.is_heir {
            true => Bucket::empty(state.config.pace, now),
            false => Bucket::new(state.config.pace, now),
        };
        Self {
            account,
            state,
            bucket,
            quota: None,
            waits_for_quota: false,
            idle: Vec::new(),
            busy: 0,
            slots: Vec::new(),
            spare: None,
        }
    }

    /// Other settings: what is under way, what has been sent and whom to still counts. Connections
    /// that are idle say `goodbyes`, as they are logged in by the old settings.
    pub fn take_over(
        &mut self,
        account: Arc<Account>,
        state: Arc<LaneState>,
        goodbyes: &mut JoinSet<()>,
    ) {
        self.say_goodbye(goodbyes);
        self.spare = None;
        self.bucket.change(state.config.pace, Instant::now());
        self.quota = match (state.config.recipients_per_day, self.quota.take()) {
            (Some(limit), Some(quota)) => Some(quota.limited(limit)),
            (limit, _) => limit.map(|limit| Quota::new(limit, [])),
        };
        (self.account, self.state) = (account, state);
        self.publish();
    }

    /// Whether it goes by the settings of this lane.
    pub fn is_of(&self, lane: &Arc<LaneState>) -> bool {
        Arc::ptr_eq(&self.state, lane)
    }

    /// From here on recipients are counted.
    pub fn count(&mut self, quota: Quota) {
        self.quota = Some(quota);
    }

    pub fn has_room(&self) -> bool {
        self.busy < self.state.connections.now()
    }

    /// Lets a message for so many recipients through, with a connection if one is idle.
    /// [`Turnstile::leave`] has to follow.
    ///
    /// # Errors
    /// What stands in the way; nothing has been counted then.
    pub fn enter(&mut self, recipients: u64) -> Result<Option<Connection>, Obstacle> {
        let spare = self.spare.take(); // for others, unless it is used now
        if !self.has_room() {
            return Err(Obstacle::Connections);
        }
        let now = self.account.clock.now();
        if self.idle.is_empty() && self.account.token.snapshot().usable(now).is_none() {
            return Err(Obstacle::Token);
        }
        let slot = match self.idle.is_empty() {
            true => Some(spare.or_else(|| self.account.slots.try_take()).ok_or(Obstacle::Slots)?),
            false => None,
        };
        self.bucket.take(Instant::now()).map_err(Obstacle::Pace)?;
        if let Err(obstacle) = self.take_quota(recipients) {
            self.bucket.give_back();
            return Err(obstacle);
        }
        if let Err(closed) = pass(&self.account.gate, &self.state.gate) {
            self.bucket.give_back();
            self.give_quota_back(recipients);
            return Err(Obstacle::Gate(closed));
        }
        self.busy += 1;
        self.slots.extend(slot);
        let connection = self.idle.pop().map(|idle| idle.connection);
        self.publish();
        Ok(connection)
    }

    /// An attempt has ended: its connection is for the next, and recipients that were not sent to
    /// do not count.
    pub fn leave(&mut self, connection: Option<Connection>, not_relayed: u64) {
        self.busy = self.busy.saturating_sub(1);
        self.give_quota_back(not_relayed);
        if let Some(connection) = connection {
            let closes = Instant::now() + self.account.smarthost.config().idle_close;
            self.idle.push(Idle { connection, closes });
        }
        self.publish();
    }

    /// Room for a connection of the next message.
    pub fn grant(&mut self, slot: Slot) {
        self.spare = Some(slot);
    }

    /// There is no next message now: others may have the room, that of idle connections too.
    pub fn rest(&mut self) {
        self.spare = None;
        if self.account.slots.are_wanted() {
            for idle in self.idle.drain(..) {
                tokio::spawn(idle.connection.quit());
            }
            self.publish();
        }
    }

    /// Whether there are idle connections.
    pub fn has_idle(&self) -> bool {
        !self.idle.is_empty()
    }

    /// How many connections wait for a message.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Whether nothing is under way or open.
    pub fn is_still(&self) -> bool {
        self.busy == 0 && self.idle.is_empty()
    }

    /// When it may be forgotten without sending faster for it.
    pub fn full_at(&self) -> Instant {
        self.bucket.full_at()
    }

    /// Recipients counted in the last day.
    pub fn counted(&mut self) -> u64 {
        let now = self.account.clock.now();
        self.quota.as_mut().map_or(0, |quota| quota.used(now))
    }

    /// An attempt has broken off by a fault of this program.
    pub fn broken(&mut self) {
        self.busy = self.busy.saturating_sub(1);
        self.account.gate.withdraw_probe();
        self.state.gate.withdraw_probe();
        self.publish();
    }

    fn take_quota(&mut self, recipients: u64) -> Result<(), Obstacle> {
        let Some(quota) = &mut self.quota else { return Ok(()) };
        let now = self.account.clock.now();
        let later = match quota.take(recipients, now) {
            Ok(()) => {
                self.waits_for_quota = false;
                return Ok(());
            }
            Err(later) => later,
        };
        // No pause, so nothing else tells; it may be one message with many recipients that waits,
        // and those behind it keep their order.
        if !std::mem::replace(&mut self.waits_for_quota, true) {
            let (lane, until) = (&self.state.config.mailbox, later.rfc3339());
            let used = quota.used(now);
            tracing::warn!(
                lane,
                used,
                recipients,
                until,
                "recipients of the day used up, mail waits (office365.recipients_per_day)"
            );
        }
        Err(Obstacle::Quota(Instant::now() + later.since(now)))
    }

    fn give_quota_back(&mut self, recipients: u64) {
        if let Some(quota) = &mut self.quota {
            quota.give_back(recipients);
        }
    }

    pub fn close_idle(&mut self) {
        let now = Instant::now();
        for idle in self.idle.extract_if(.., |idle| idle.closes <= now) {
            tokio::spawn(idle.connection.quit());
        }
        self.publish();
    }

    /// Closes idle connections politely, all at once.
    pub fn say_goodbye(&mut self, goodbyes: &mut JoinSet<()>) {
        for idle in self.idle.drain(..) {
            goodbyes.spawn(idle.connection.quit());
        }
        self.publish();
    }

    /// When to look again, at `wanted` or before: idle connections are to be closed.
    pub fn wake_time(&self, wanted: Option<Instant>) -> Instant {
        let closes = self.idle.iter().map(|idle| idle.closes);
        let far = Instant::now() + LOOK_AT_LEAST_EVERY;
        closes.chain(wanted).min().unwrap_or(far)
    }

    fn publish(&mut self) {
        self.slots.truncate(self.busy + self.idle.len());
        if let Some(quota) = &mut self.quota {
            let used = quota.used(self.account.clock.now());
            self.state.recipients_today.store(used, Ordering::Relaxed);
        }
        self.state.in_flight.store(self.busy, Ordering::Relaxed);
        self.state.idle_connections.store(self.idle.len(), Ordering::Relaxed);
    }
}
