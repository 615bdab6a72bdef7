//! Direct mode: a message goes upstream while its client waits for the answer, and nothing is
//! stored. Pace, quota, connections, gates and judgement are the queue's own.
//!
//! | The client hears | when |
//! |---|---|
//! | upstream's 250 | upstream has taken the message for all recipients |
//! | upstream's 5yz | upstream refused the message, or a recipient; nobody has got it then |
//! | 4yz | anything else, with the reason: upstream's 4yz, a pause, no token, no turn, a shutdown |

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until, timeout_at},
};
use tracing::Instrument;

use super::{
    Config, DirectConfig, LaneConfig, Lanes,
    pause::Passage,
    quota::Quota,
    runner::Queue,
    shared::{Account, LaneState},
    transaction::{self, Origin, Transaction},
    turnstile::{Obstacle, Turnstile},
};
use crate::{
    clock::Clock,
    delivery::smarthost::{Connection, Share, Smarthost, Taken},
    drain::Drain,
    smtp::reply::Reply,
    store::{Body, Entry, PassingBody, Router},
    token::TokenHandle,
};

mod answer;

use answer::{Words, conclude, draining, held, hung_up, paused, shut_down_midway, unreadable};

/// Sends messages on while their clients wait. Clones are cheap.
#[derive(Clone)]
pub struct Direct {
    account: Arc<Account>,
    router: Arc<Lanes>,
    /// One for each lane; the first takes what no other claims.
    doors: Vec<Arc<Door>>,
    wait: Duration,
    drain: Drain,
}

/// What a lane's messages go through.
struct Door {
    account: Arc<Account>,
    lane: Arc<LaneState>,
    /// Held by the message whose turn is next: the others come in the order of their final dots.
    line: tokio::sync::Mutex<()>,
    turnstile: Mutex<Turnstile>,
    /// An attempt has ended.
    freed: Notify,
}

impl Direct {
    /// Gets ready; connects to nothing before the first message.
    #[must_use]
    pub fn start(
        config: Config,
        token: TokenHandle,
        smarthost: Smarthost,
        clock: Clock,
        drain: &Drain,
    ) -> Self {
        let router = Arc::new(Lanes::new(&config));
        let account = Arc::new(Account::new(token, smarthost, clock));
        let Config { lanes, direct: DirectConfig { wait, .. }, .. } = config;
        let door = |lane: LaneConfig| Arc::new(Door::new(Arc::clone(&account), lane));
        let doors: Vec<_> = lanes.into_iter().map(door).collect();
        for door in &doors {
            drain.spawn(Arc::clone(door).tend(drain.clone()));
        }
        Self { account, router, doors, wait, drain: drain.clone() }
    }

    /// The lanes, to look at.
    #[must_use]
    pub fn lanes(&self) -> Queue {
        let lanes = self.doors.iter().map(|door| Arc::clone(&door.lane)).collect();
        Queue { account: Arc::clone(&self.account), lanes }
    }

    /// Whether a message could go before its client would have waited too long: asked before the
    /// client sends it.
    ///
    /// # Errors
    /// The reply that refuses it for the time being: the way upstream is paused, or there is no
    /// token and none is to come soon.
    pub fn admission(&self) -> Result<(), Reply> {
        let words = Words { account: &self.account };
        let deadline = Instant::now() + self.wait;
        if let Some(pause) = self.account.gate.pause().filter(|pause| pause.until > deadline) {
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
        let name = self.router.lane(&entry.reverse_path);
        let found = self.doors.iter().find(|door| door.lane.config.mailbox == name);
        let Some(door) = found.or(self.doors.first()) else { return Err(unreadable()) };
        let id = entry.id;
        tokio::pin!(gone);
        let connection = tokio::select! {
            biased;
            () = self.drain.signaled() => return Err(draining()),
            entered = door.wait(&entry, Instant::now() + self.wait) => entered?,
            () = &mut gone => return Err(hung_up(id)),
        };
        let (answer, mut answered) = oneshot::channel();
        let attempt = Attempt { door: Arc::clone(door), entry, body, done: false };
        // A task of its own, so that it comes to its end whatever becomes of the session.
        let attempt = attempt.run(connection, answer, self.drain.clone());
        self.drain.spawn(attempt.in_current_span());
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
                () = self.drain.last_call() => return Err(shut_down_midway()),
                () = &mut gone, if listens => listens = false,
            }
        }
    }
}

impl Door {
    fn new(account: Arc<Account>, config: LaneConfig) -> Self {
        let limit = config.recipients_per_day;
        let lane = Arc::new(LaneState::new(config, account.clock));
        let mut turnstile = Turnstile::new(Arc::clone(&account), Arc::clone(&lane));
        if let Some(limit) = limit {
            turnstile.count(Quota::new(limit, [])); // nothing remembers the day before the start
        }
        let (line, turnstile) = (tokio::sync::Mutex::default(), Mutex::new(turnstile));
        Self { account, lane, line, turnstile, freed: Notify::new() }
    }

    fn turnstile(&self) -> MutexGuard<'_, Turnstile> {
        self.turnstile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the message's turn until `deadline`; not at all if it cannot come before.
    async fn wait(&self, entry: &Entry, deadline: Instant) -> Result<Option<Connection>, Reply> {
        let _waiting = Waiting::new(&self.lane);
        let words = Words { account: &self.account };
        // Before the line too: a sender that is held is not to stand in it.
        self.is_not_held(entry)?;
        let Ok(_line) = timeout_at(deadline, self.line.lock()).await else {
            return Err(words.why(&self.lane, self.obstacle()));
        };
        let mut token = self.account.token.clone();
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
            tokio::select! {
                () = sleep_until(until) => {}
                () = token.changed(), if matches!(obstacle, Obstacle::Token) => {}
                () = relay_changed => {}
                () = lane_changed => {}
                () = freed => {}
            }
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
        let sender = entry.reverse_path.as_str();
        let passage = self.lane.senders.passage(sender);
        let entered = self.turnstile().enter(entry.recipients.len() as u64);
        if entered.is_err() && passage == Passage::Probe {
            self.lane.senders.withdraw_probe(sender);
        }
        Ok(entered)
    }

    /// Closes connections that have been idle for long enough, and all at the end.
    async fn tend(self: Arc<Self>, drain: Drain) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let until = {
                let mut turnstile = self.turnstile();
                turnstile.close_idle();
                turnstile.wake_time(None)
            };
            tokio::select! {
                () = drain.signaled() => break,
                () = sleep_until(until) => {}
                () = freed => {}
            }
        }
        let mut goodbyes = self.turnstile().say_goodbye();
        while goodbyes.join_next().await.is_some() {}
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
        self.door.turnstile().leave(connection, not_relayed);
        self.door.freed.notify_waiters();
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
            self.door.turnstile().broken();
            self.door.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UnixMillis,
        delivery::{self, NullSender},
        mail::queue_id::QueueId,
        queue::Pace,
        smtp::{
            envelope::{Envelope, MailParameters},
            path::ReversePath,
        },
        store::Arrival,
        tls,
        token::AccessToken,
    };

    const START: UnixMillis = UnixMillis(1_795_415_050_000);

    /// A lane without a token, so that whoever comes to the front of the line waits there.
    fn door() -> Door {
        let smarthost = Smarthost::new(delivery::Config {
            host: "localhost".into(),
            port: 1,
            ehlo_name: "relay.contoso.com".into(),
            null_sender: NullSender::Mailbox,
            max_messages_per_connection: 1,
            idle_close: Duration::from_secs(1),
            tls: tls::client_config(None).unwrap(),
        });
        let token = TokenHandle::fixed(AccessToken::new("t".into(), START, START));
        let account = Arc::new(Account::new(token, smarthost, Clock::at(START)));
        let config = LaneConfig {
            mailbox: "relay@contoso.com".into(),
            max_connections: 1,
            pace: Pace::Unlimited,
            recipients_per_day: None,
        };
        Door::new(account, config)
    }

    fn entry() -> Entry {
        let envelope = Envelope {
            reverse_path: ReversePath::Null,
            parameters: MailParameters::default(),
            recipients: Vec::new(),
        };
        let arrival = Arrival {
            envelope,
            time: START,
            client: String::new(),
            hello: String::new(),
            message_id: String::new(),
        };
        Entry::passing(QueueId::new(START.0, 0), 0, arrival)
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_at_the_front_keeps_the_others_behind() {
        let (door, entry) = (door(), entry());
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
