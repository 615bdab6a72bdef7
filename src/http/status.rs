//! The snapshot behind `/status` and `/readyz`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ReloadStatus;
use crate::{
    clock::{Clock, UnixMillis},
    queue::{
        Mode,
        pause::PauseSnapshot,
        runner::{LaneSnapshot, Queue},
    },
    store::{LaneSummary, Rebuilt, Settled, Store, StoreError},
    token::TokenHandle,
};

/// Failed recipients shown.
const FAILURES: usize = 10;

/// The running parts that a snapshot is taken of.
#[derive(Clone)]
pub struct Watched {
    /// The store; none in direct mode.
    pub store: Option<Store>,
    /// The queue and its accounts.
    pub queue: Queue,
    /// The clock.
    pub clock: Clock,
    /// When the daemon started.
    pub started: UnixMillis,
    /// The listeners of the SMTP server.
    pub listeners: Vec<ListenerStatus>,
    /// What came of the last reload, if there was one.
    pub reload: Option<ReloadStatus>,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether mail is accepted and can be relayed.
    pub ready: bool,
    /// Whether accepted mail is queued, or sent on while its client waits.
    #[serde(default)]
    pub mode: Mode,
    /// Why not.
    pub reasons: Vec<String>,
    /// What stands in the way of mail without making the relay unready: a pause that has not
    /// lasted long, or one of some lanes only; and a credential that ends within a week.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What `/status` answers. Durations are in seconds, times are RFC 3339 in UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Whether accepted mail is queued, or sent on while its client waits (`direct`): then nothing
    /// is ever queued, and failures are known to the clients alone.
    #[serde(default)]
    pub mode: Mode,
    /// When the daemon started.
    pub started: String,
    /// Where the SMTP server listens: the addresses of all listeners.
    pub listening: Vec<String>,
    /// The listeners of the SMTP server.
    #[serde(default)]
    pub listeners: Vec<ListenerStatus>,
    /// As `/readyz`.
    pub readiness: Readiness,
    /// The access token of `[office365]`.
    pub token: TokenStatus,
    /// Why no lane of `[office365]`'s account sends, if the way to its smarthost is the reason.
    pub relay_pause: Option<PauseStatus>,
    /// Every account, where there are several: `token` and `relay_pause` are those of the first.
    #[serde(default)]
    pub accounts: Vec<AccountStatus>,
    /// One for each lane.
    pub lanes: Vec<LaneStatus>,
    /// The recipients that failed last, newest first.
    pub failures: Vec<Failure>,
    /// What came of damage to the queue database, if it has had to be rebuilt since the start.
    #[serde(default)]
    pub queue_rebuilt: Option<QueueRebuilt>,
    /// What came of the last reload, if there was one.
    #[serde(default)]
    pub reload: Option<ReloadStatus>,
}

/// What came of damage to the queue database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueueRebuilt {
    /// When it was rebuilt.
    pub time: String,
    /// Messages set aside because something of them is lost.
    pub set_aside: usize,
    /// Messages that are no more in the queue.
    pub lost: usize,
    /// Where the damaged files are, and the messages that are no more in the queue.
    pub kept_in: String,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Its addresses: IP addresses with a port, and `unix:` with a path.
    pub addresses: Vec<String>,
    /// The reverse-path that its mail gets; `null` if the client names it.
    pub sender: Option<String>,
}

/// One account: a tenant, an application or a host of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountStatus {
    /// Its name: the section of the configuration that it was first named in.
    pub name: String,
    /// Its access token.
    pub token: TokenStatus,
    /// Why none of its lanes sends, if the way to its smarthost is the reason.
    pub pause: Option<PauseStatus>,
}

/// The access token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TokenStatus {
    /// Whether it can be used now.
    pub valid: bool,
    /// How long it stays valid.
    pub expires_in_seconds: Option<u64>,
    /// When the next one is asked for.
    pub next_refresh: Option<String>,
    /// Why the last request failed, if it did.
    pub last_error: Option<TokenErrorStatus>,
    /// When the credential itself ends, if that is known.
    #[serde(default)]
    pub credential: Option<CredentialStatus>,
}

/// A client secret or a certificate, which does not live for ever.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// What it is.
    pub what: String,
    /// When it ends.
    pub expires: String,
    /// Whole days until then; negative afterwards.
    pub days_left: i64,
}

/// A failed token request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenErrorStatus {
    /// What the endpoint or the network said.
    pub error: String,
    /// The next step.
    pub advice: String,
    /// Since when requests fail.
    pub since: String,
    /// When the next is made.
    pub next_try: String,
}

/// One lane.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LaneStatus {
    /// Its name: the mailbox.
    pub name: String,
    /// The name of its account.
    #[serde(default)]
    pub account: String,
    /// Whether it is there only as long as it has something to do.
    #[serde(default)]
    pub by_sender: bool,
    /// Messages queued, held ones included.
    pub queued: u64,
    /// Messages set aside for an operator.
    pub held: u64,
    /// Octets queued.
    pub octets: u64,
    /// Age of the oldest message.
    pub oldest_seconds: Option<u64>,
    /// Messages being attempted now.
    pub in_flight: usize,
    /// Whether it sends nothing else until these have ended, since they go by settings of before a
    /// reload.
    #[serde(default)]
    pub takes_over: bool,
    /// Clients that wait for their message's turn, in direct mode.
    #[serde(default)]
    pub waiting: usize,
    /// Connections waiting for the next message.
    pub idle_connections: usize,
    /// Connections that it uses at most now.
    pub connection_limit: usize,
    /// Recipients of the last day.
    pub recipients_today: u64,
    /// How many it may have; `null` for any number.
    pub recipients_per_day: Option<u64>,
    /// Why it stands still, if it does.
    pub pause: Option<PauseStatus>,
    /// Senders whose mail waits, because the mailbox may not send as them.
    pub held_senders: Vec<HeldSender>,
}

/// A sender whose mail waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldSender {
    /// The reverse-path.
    pub sender: String,
    /// Why, and until when.
    pub pause: PauseStatus,
}

/// A pause.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PauseStatus {
    /// The kind of trouble, as in the metrics.
    #[serde(default)]
    pub kind: String,
    /// What happened.
    pub reason: String,
    /// The next step for the admin, if there is one.
    pub advice: Option<String>,
    /// Since when.
    pub since: String,
    /// How long until the next try.
    pub retry_in_seconds: u64,
}

/// A recipient that failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub time: String,
    /// The message's queue id.
    pub id: String,
    /// Its reverse-path; empty for the null reverse-path.
    pub reverse_path: String,
    /// The recipient.
    pub forward_path: String,
    /// Upstream's words, or our own reason.
    pub reply: String,
}

impl Watched {
    pub(super) fn mode(&self) -> Mode {
        if self.store.is_some() { Mode::Queue } else { Mode::Direct }
    }

    /// The whole snapshot.
    ///
    /// # Errors
    /// [`StoreError`] if the queue cannot be read.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let now = self.clock.now();
        let (summary, failures) = match &self.store {
            Some(store) => (store.summary().await?, store.history(true, FAILURES).await?),
            None => Default::default(),
        };
        let mut summary: BTreeMap<_, _> =
            summary.lanes.into_iter().map(|queued| (queued.lane.clone(), queued)).collect();
        let mut lanes: Vec<_> = Vec::new();
        for lane in self.queue.lanes() {
            let queued = summary.remove(&lane.name);
            lanes.push(lane_status(lane, queued.as_ref(), now));
        }
        // Where all mail is set aside no lane runs.
        lanes.extend(summary.values().map(|queued| still_lane(queued, now)));
        let mut accounts: Vec<_> = self
            .queue
            .accounts()
            .into_iter()
            .map(|account| AccountStatus {
                name: account.name,
                token: token_status(&account.token, now),
                pause: account.pause.map(pause_status),
            })
            .collect();
        let first = accounts.first().cloned();
        if accounts.len() == 1 {
            accounts.clear();
        }
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.mode(),
            started: self.started.rfc3339(),
            listening: self.listeners.iter().flat_map(|one| one.addresses.clone()).collect(),
            listeners: self.listeners.clone(),
            readiness: self.readiness(),
            token: first.as_ref().map(|first| first.token.clone()).unwrap_or_default(),
            relay_pause: first.and_then(|first| first.pause),
            accounts,
            lanes,
            failures: failures.into_iter().map(failure).collect(),
            queue_rebuilt: self
                .store
                .as_ref()
                .and_then(Store::last_rebuild)
                .as_ref()
                .map(queue_rebuilt),
            reload: self.reload.clone(),
        })
    }
}

fn token_status(token: &TokenHandle, now: UnixMillis) -> TokenStatus {
    let state = token.snapshot();
    let usable = state.usable(now);
    TokenStatus {
        valid: usable.is_some(),
        expires_in_seconds: usable.map(|token| token.expires_at().since(now).as_secs()),
        next_refresh: state.next_refresh.map(UnixMillis::rfc3339),
        last_error: state.last_error.as_ref().map(|failed| TokenErrorStatus {
            error: failed.error.to_string(),
            advice: failed.advice.clone(),
            since: failed.since.rfc3339(),
            next_try: failed.next_try.rfc3339(),
        }),
        credential: state.expiry.as_ref().map(|expiry| CredentialStatus {
            what: expiry.what.clone(),
            expires: expiry.at.rfc3339(),
            days_left: expiry.days_left(now),
        }),
    }
}
/// A lane that does not run.
fn still_lane(queued: &LaneSummary, now: UnixMillis) -> LaneStatus {
    LaneStatus {
        name: queued.lane.clone(),
        by_sender: true,
        queued: queued.messages,
        held: queued.held,
        octets: queued.octets,
        oldest_seconds: Some(now.since(queued.oldest).as_secs()),
        ..LaneStatus::default()
    }
}

fn lane_status(lane: LaneSnapshot, queued: Option<&LaneSummary>, now: UnixMillis) -> LaneStatus {
    LaneStatus {
        name: lane.name,
        account: lane.account,
        by_sender: lane.by_sender,
        queued: queued.map_or(0, |queued| queued.messages),
        held: queued.map_or(0, |queued| queued.held),
        octets: queued.map_or(0, |queued| queued.octets),
        oldest_seconds: queued.map(|queued| now.since(queued.oldest).as_secs()),
        in_flight: lane.in_flight,
        takes_over: lane.takes_over,
        waiting: lane.waiting,
        idle_connections: lane.idle_connections,
        connection_limit: lane.connection_limit,
        recipients_today: lane.recipients_today,
        recipients_per_day: lane.recipients_per_day,
        pause: lane.pause.map(pause_status),
        held_senders: lane
            .held_senders
            .into_iter()
            .map(|(sender, pause)| HeldSender { sender, pause: pause_status(pause) })
            .collect(),
    }
}

fn queue_rebuilt(rebuilt: &Rebuilt) -> QueueRebuilt {
    QueueRebuilt {
        time: rebuilt.time.rfc3339(),
        set_aside: rebuilt.set_aside,
        lost: rebuilt.lost,
        kept_in: rebuilt.kept_in.display().to_string(),
    }
}

fn pause_status(pause: PauseSnapshot) -> PauseStatus {
    PauseStatus {
        kind: pause.kind.to_owned(),
        reason: pause.cause.reason,
        advice: pause.cause.advice,
        since: pause.since.rfc3339(),
        retry_in_seconds: pause.retry.as_secs(),
    }
}

fn failure(settled: Settled) -> Failure {
    Failure {
        time: settled.time.rfc3339(),
        id: settled.id,
        reverse_path: settled.reverse_path,
        forward_path: settled.forward_path,
        reply: settled.reply,
    }
}
