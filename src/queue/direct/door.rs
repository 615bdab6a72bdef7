//! What a lane's messages go through in direct mode, one after the other.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use super::answer::{Words, held};
use crate::{
    delivery::smarthost::Connection,
    drain::Drain,
    queue::{
        pause::Passage,
        quota::{self, Quota},
        shared::{Account, LaneState},
        slots::Slot,
        turnstile::{Obstacle, Turnstile},
    },
    smtp::reply::Reply,
    store::Entry,
};

/// What a lane's messages go through.
pub(super) struct Door {
    pub account: Arc<Account>,
    pub lane: Arc<LaneState>,
    /// Held by the message whose turn is next: the others come in the order of their final dots.
    line: tokio::sync::Mutex<()>,
    /// Shared with the door that this one has taken over from, so that what is under way there
    /// counts here. It lets nobody through but at the last of them.
    turnstile: Arc<Mutex<Turnstile>>,
    /// An attempt has ended, or another door has taken over.
    freed: Arc<Notify>,
}

impl Door {
    pub fn new(account: Arc<Account>, lane: Arc<LaneState>) -> Self {
        let limit = lane.config.recipients_per_day;
        let mut turnstile = Turnstile::new(Arc::clone(&account), Arc::clone(&lane));
        if let Some(limit) = limit {
            // Nothing remembers the day before the start, but a lane that was here before may.
            let counted = lane.recipients_today.load(Ordering::Relaxed);
            turnstile.count(Quota::new(limit, [(account.clock.now(), counted)]));
        }
        let turnstile = Arc::new(Mutex::new(turnstile));
        Self {
            account,
            lane,
            line: tokio::sync::Mutex::default(),
            turnstile,
            freed: Arc::default(),
        }
    }

    /// One that takes the place of another, which lets nobody through from here on.
    pub fn heir(
        before: &Self,
        account: Arc<Account>,
        lane: Arc<LaneState>,
        goodbyes: &mut JoinSet<()>,
    ) -> Self {
        let (line, freed) = (tokio::sync::Mutex::default(), Arc::clone(&before.freed));
        let turnstile = Arc::clone(&before.turnstile);
        before.turnstile().take_over(Arc::clone(&account), Arc::clone(&lane), goodbyes);
        freed.notify_waiters();
        Self { account, lane, line, turnstile, freed }
    }

    fn turnstile(&self) -> MutexGuard<'_, Turnstile> {
        self.turnstile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the message's turn until `deadline`; not at all if it cannot come before.
    pub async fn wait(
        &self,
        entry: &Entry,
        deadline: Instant,
    ) -> Result<Option<Connection>, Reply> {
        let _waiting = Waiting::new(&self.lane);
        let words = Words { account: &self.account };
        // Before the line too: a sender that is held is not to stand in it.
        self.is_not_held(entry)?;
        let Ok(_line) = timeout_at(deadline, self.line.lock()).await else {
            return Err(words.why(&self.lane, self.obstacle()));
        };
        let mut token = self.account.token.clone();
        let mut turn: Option<Pin<Box<dyn Future<Output = Slot> + Send>>> = None;
        loop {
            // Made before the look, so that a change during it is not missed.
            let relay_changed = self.account.gate.changed.notified();
            let lane_changed = self.lane.gate.changed.notified();
            let freed = self.freed.notified();
            tokio::pin!(relay_changed, lane_changed, freed);
            relay_changed.as_mut().enable();
            lane_changed.as_mut().enable();
            freed.as_mut().enable();

            let obstacle = match self.enter(entry)? {
                Ok(connection) => return Ok(connection),
                Err(obstacle) => obstacle,
            };
            let until = words.until(obstacle).unwrap_or(deadline);
            if until > deadline || Instant::now() >= deadline {
                return Err(words.why(&self.lane, obstacle));
            }
            if matches!(obstacle, Obstacle::Slots) {
                turn.get_or_insert_with(|| Box::pin(self.account.slots.clone().take()));
            } else {
                turn = None;
            }
            let turned = async { Some(turn.as_mut()?.await) };
            tokio::select! {
                slot = turned, if matches!(obstacle, Obstacle::Slots) => {
                    turn = None;
                    self.grant(slot);
                }
                () = sleep_until(until) => {}
                () = token.changed(), if matches!(obstacle, Obstacle::Token) => {}
                () = relay_changed => {}
                () = lane_changed => {}
                () = freed => {}
            }
        }
    }

    fn grant(&self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.turnstile().grant(slot);
        }
    }

    /// What stands in the way of a message that has not come to the front of the line.
    fn obstacle(&self) -> Obstacle {
        let turnstile = self.turnstile();
        match turnstile.has_room() {
            true => Obstacle::Pace(Instant::now()),
            false => Obstacle::Connections,
        }
    }

    fn is_not_held(&self, entry: &Entry) -> Result<(), Reply> {
        let sender = entry.reverse_path.as_str();
        let pause = self.lane.senders.holds(sender);
        pause.map_or(Ok(()), |pause| Err(held(sender, &pause)))
    }

    /// Goes through, if nothing stands in the way. As the sender's probe it does so at once or
    /// gives that up.
    fn enter(&self, entry: &Entry) -> Result<Result<Option<Connection>, Obstacle>, Reply> {
        self.is_not_held(entry)?;
        let mut turnstile = self.turnstile();
        if !turnstile.is_of(&self.lane) {
            return Ok(Err(Obstacle::Connections)); // until the client has heard of the heir
        }
        let sender = entry.reverse_path.as_str();
        let passage = self.lane.senders.passage(sender);
        let entered = turnstile.enter(entry.recipients.len() as u64);
        if entered.is_err() && passage == Passage::Probe {
            self.lane.senders.withdraw_probe(sender);
        }
        Ok(entered)
    }

    /// An attempt has ended. Its connection is for the next, unless that goes by other settings.
    pub async fn leave(&self, connection: Option<Connection>, not_relayed: u64) {
        let mut connection = connection;
        if !self.turnstile().is_of(&self.lane)
            && let Some(old) = connection.take()
        {
            old.quit().await;
        }
        let left_over = {
            let mut turnstile = self.turnstile();
            let fits = turnstile.is_of(&self.lane);
            let (next, left_over) = if fits { (connection, None) } else { (None, connection) };
            turnstile.leave(next, not_relayed);
            left_over
        };
        self.freed.notify_waiters();
        if let Some(old) = left_over {
            old.quit().await; // it has been taken over just now
        }
    }

    /// An attempt has broken off by a fault of this program.
    pub fn broken(&self) {
        self.turnstile().broken();
        self.freed.notify_waiters();
    }

    /// Whether what it counts would be missed: attempts under way, what has just been sent.
    pub fn counts(&self) -> bool {
        let mut turnstile = self.turnstile();
        !turnstile.is_still() || turnstile.counted() > 0 || turnstile.full_at() > Instant::now()
    }

    /// Closes connections that have been idle for long enough, or whose room others wait for, and
    /// all at the end, which is when this returns true; another door that has taken over is an end
    /// too. With `retires` it returns false as soon as there is nothing to keep.
    pub async fn tend(&self, drain: &Drain, retires: bool) -> bool {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let wanted = self.account.slots.wanted();
            let (until, has_idle) = {
                let mut turnstile = self.turnstile();
                if !turnstile.is_of(&self.lane) {
                    return true;
                }
                turnstile.close_idle();
                if turnstile.has_idle() {
                    turnstile.rest();
                }
                let until = retires.then(|| self.may_be_forgotten(&mut turnstile)).flatten();
                if until.is_some_and(|until| until <= Instant::now()) {
                    return false;
                }
                (turnstile.wake_time(until), turnstile.has_idle())
            };
            tokio::select! {
                () = drain.signaled() => break,
                () = sleep_until(until) => {}
                () = freed => {}
                () = wanted, if has_idle => {}
            }
        }
        let mut goodbyes = JoinSet::new();
        {
            let mut turnstile = self.turnstile();
            if turnstile.is_of(&self.lane) {
                turnstile.say_goodbye(&mut goodbyes);
            }
        }
        while goodbyes.join_next().await.is_some() {}
        true
    }

    /// When nothing is lost without it, if it has nothing to do. The recipients of the day are
    /// counted nowhere else.
    fn may_be_forgotten(&self, turnstile: &mut Turnstile) -> Option<Instant> {
        let waits = self.lane.waiting.load(Ordering::Relaxed) > 0;
        if waits || !turnstile.is_still() {
            return None;
        }
        if turnstile.counted() > 0 {
            return Some(Instant::now() + quota::STEP);
        }
        let full_at = turnstile.full_at();
        Some(self.lane.remembers_until().map_or(full_at, |until| until.max(full_at)))
    }
}

/// Counts a client that waits.
struct Waiting<'a>(&'a LaneState);

impl<'a> Waiting<'a> {
    fn new(lane: &'a LaneState) -> Self {
        lane.waiting.fetch_add(1, Ordering::Relaxed);
        Self(lane)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::Clock,
        mail::queue_id::QueueId,
        queue::fixture::{START, account, arrival, lane_state},
    };

    /// A lane without a token, so that whoever comes to the front of the line waits there.
    fn door() -> Door {
        let clock = Clock::at(START);
        Door::new(account(clock), lane_state(clock))
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_at_the_front_keeps_the_others_behind() {
        let (door, entry) = (door(), Entry::passing(QueueId::new(START.0, 0), 0, arrival()));
        let begun = Instant::now();
        let deadline = begun + Duration::from_secs(60);
        let first = door.wait(&entry, deadline);
        tokio::pin!(first);
        tokio::select! {
            biased;
            _ = &mut first => panic!("there is no token"),
            () = std::future::ready(()) => {}
        }
        assert!(door.line.try_lock().is_err());
        assert_eq!(door.lane.waiting.load(Ordering::Relaxed), 1);
        let sooner = begun + Duration::from_secs(10);
        let reply = door.wait(&entry, sooner).await.err().expect("no turn");
        assert!(reply.to_string().starts_with("451 4.7.0 no access token"), "{reply}");
        assert_eq!(begun.elapsed().as_secs(), 10);
        assert!(first.await.is_err() && begun.elapsed().as_secs() == 60);
        assert_eq!(door.lane.waiting.load(Ordering::Relaxed), 0);
    }
}
