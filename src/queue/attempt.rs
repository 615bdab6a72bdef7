//! One message's attempt: body, connection, transaction, judgement, settlement. What became of
//! the recipients is committed before anything else happens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    OnUncertain,
    consequence::{Consequences, Hurt, is_for_the_rest},
    judged::Judged,
    login,
    notice::Occasion,
    pause::Cause,
    shared::{Context, LaneState},
};
use crate::{
    delivery::{
        judge::judge,
        smarthost::{Connection, Verdict},
        trouble::{Stage, Trouble},
    },
    mail::queue_id::QueueId,
    office365::replies::{PauseRule, Scope},
    store::{Body, Entry, Outcome, PendingRecipient, Settlement, StoreError},
    telemetry::events::RecipientAttempted,
};

/// How long a message waits whose body could not be read.
const UNREADABLE_RETRY: Duration = Duration::from_secs(300);

/// Between tries to record what upstream has said.
const SETTLE_RETRY: Duration = Duration::from_secs(1);
const SETTLE_RETRY_MOST: Duration = Duration::from_secs(30);

/// The end of an attempt.
pub(super) struct Finished {
    pub id: QueueId,
    /// A connection for the next message.
    pub connection: Option<Connection>,
    /// Recipients that upstream did not take the message for.
    pub not_relayed: u64,
}

/// Attempts one message, over `connection` if there is one, and settles what there is to settle.
pub(super) async fn run(
    context: Arc<Context>,
    lane: Arc<LaneState>,
    entry: Entry,
    connection: Option<Connection>,
) -> Finished {
    let id = entry.id;
    let attempt = Attempt {
        context: &context,
        lane: &lane,
        entry: &entry,
        begun: Instant::now(),
        relayed: AtomicU64::new(0),
    };
    let connection = match attempt.make(connection).await {
        Some(connection) if connection.is_reusable() => Some(connection),
        Some(connection) => {
            // Within the attempt, so that no further connection is made before this one is gone.
            connection.quit().await;
            None
        }
        None => None,
    };
    let recipients = entry.recipients.len() as u64;
    let not_relayed = recipients.saturating_sub(attempt.relayed.load(Ordering::Relaxed));
    Finished { id, connection, not_relayed }
}

struct Attempt<'a> {
    context: &'a Context,
    lane: &'a LaneState,
    entry: &'a Entry,
    begun: Instant,
    relayed: AtomicU64,
}

impl Attempt<'_> {
    async fn make(&self, mut connection: Option<Connection>) -> Option<Connection> {
        let reused = connection.is_some();
        loop {
            let Some(body) = self.body().await else { return connection };
            let fresh = connection.is_none();
            let mut link = match connection.take() {
                Some(link) => link,
                None => self.connect().await?,
            };
            match link.send(self.entry, body).await {
                Ok(verdicts) if reused && !fresh && hung_up(&verdicts) => {
                    tracing::debug!("idle connection was closed with a 421, connecting anew");
                }
                Ok(verdicts) => {
                    self.conclude(verdicts, link.reports_success()).await;
                    return Some(link);
                }
                // The server closed the connection while it was idle: nobody's fault.
                Err(trouble) if reused && !fresh && trouble.stage() <= Stage::Mail => {
                    tracing::debug!(%trouble, "idle connection was closed, connecting anew");
                }
                Err(trouble) => {
                    self.broke_off(&trouble).await;
                    return None;
                }
            }
        }
    }

    /// The body; a message without one, or with a damaged one, is set aside, so that it stops no other. `None` also for
    /// a message that an operator has removed or held while it waited here.
    async fn body(&self) -> Option<Body> {
        match self.context.store.body_if_waiting(self.entry).await {
            Ok(Some(body)) => Some(body),
            Ok(None) => {
                tracing::info!(queue_id = %self.entry.id, "message withdrawn before its attempt");
                self.withdraw_probes();
                None
            }
            Err(error) if error.is_lost_body() => {
                self.set_aside(error.to_string()).await;
                None
            }
            Err(error) if error.is_shortage() => {
                self.pause_for_store(&error);
                None
            }
            Err(error) => {
                self.put_off(&error.to_string()).await;
                None
            }
        }
    }

    /// A body that cannot be read now may be readable later; until then it stops no other.
    async fn put_off(&self, error: &str) {
        let id = self.entry.id;
        tracing::error!(queue_id = %id, error, "message not readable, put off");
        let until = self.context.clock.now() + UNREADABLE_RETRY;
        match self.context.store.postpone(vec![id], until).await {
            Ok(()) => self.withdraw_probes(),
            Err(error) => self.pause_for_store(&error),
        }
    }

    async fn set_aside(&self, reason: String) {
        tracing::error!(queue_id = %self.entry.id, reason, "message set aside");
        match self.context.store.hold(self.entry.id, reason).await {
            Ok(()) => self.withdraw_probes(),
            Err(error) => {
                tracing::error!(queue_id = %self.entry.id, %error, "message not set aside");
                // It is still due: without a pause it would be the next again, at once.
                self.pause_for_store(&error);
            }
        }
    }

    fn pause_for_store(&self, error: &StoreError) {
        let cause = Cause { reason: error.to_string(), advice: None };
        self.withdraw_probes();
        self.lane.gate.close(cause, PauseRule::NETWORK);
    }

    fn withdraw_probes(&self) {
        self.context.gate.withdraw_probe();
        self.lane.gate.withdraw_probe();
        self.lane.senders.withdraw_probe(self.entry.reverse_path.as_str());
    }

    /// Connects and logs in; trouble closes a gate and costs the message nothing.
    async fn connect(&self) -> Option<Connection> {
        match login::log_in(self.context, &self.lane.config.mailbox).await {
            Ok(Some(connection)) => {
                self.context.gate.open(self.begun);
                Some(connection)
            }
            Ok(None) => {
                self.withdraw_probes();
                None
            }
            Err(trouble) => {
                self.close_gate(&trouble);
                None
            }
        }
    }

    /// Closes the gate of whatever is hurt; only for trouble that is not the message's.
    fn close_gate(&self, trouble: &Trouble) {
        let judgement = match trouble {
            Trouble::Refused { stage, reply } => Some(judge(*stage, reply)),
            _ => None,
        };
        let row = judgement.and_then(|judgement| judgement.row);
        let pause = judgement.map_or(PauseRule::NETWORK, |judgement| judgement.pause);
        let cause =
            Cause { reason: trouble.to_string(), advice: self.consequences().advice(row, trouble) };
        self.lane.senders.withdraw_probe(self.entry.reverse_path.as_str());
        if judgement.is_some_and(|judgement| judgement.scope == Scope::Lane) {
            self.context.gate.open(self.begun); // the smarthost itself was reached
            self.lane.gate.close(cause, pause);
        } else {
            self.lane.gate.withdraw_probe();
            self.context.gate.close(cause, pause);
        }
    }

    /// The connection broke before the final dot: nothing was relayed.
    async fn broke_off(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Damaged { cause } => self.set_aside(cause.clone()).await,
            Trouble::Unreadable { .. } => self.put_off(&trouble.to_string()).await,
            Trouble::Broken { stage, .. } if !stage.is_before_mail() => {
                // The message itself may be what breaks connections, so this attempt counts;
                // otherwise the oldest message could stop all others for ever. It proves nothing
                // about a pause: the next message is the probe.
                self.withdraw_probes();
                let verdicts = self.entry.recipients.iter().map(|recipient| {
                    (
                        recipient.position,
                        self.consequences().deferred(recipient, trouble.to_string(), None),
                    )
                });
                self.settle(verdicts.collect(), false).await;
            }
            _ => self.close_gate(trouble),
        }
    }

    async fn conclude(&self, verdicts: Vec<(u32, Verdict)>, upstream_reports: bool) {
        if let Some(cause) = self.is_to_be_held(&verdicts) {
            return self.set_aside(cause).await;
        }
        let consequences = self.consequences();
        let mut outcomes = Vec::new();
        let mut hurt = None;
        let progressed = verdicts.iter().any(|(_, verdict)| !is_for_the_rest(verdict));
        for (position, verdict) in verdicts {
            let Some(recipient) = self.recipient(position) else { continue };
            match consequences.of(recipient, verdict, progressed) {
                (Some(judged), more) => {
                    outcomes.push((position, judged));
                    hurt = hurt.or(more);
                }
                (None, more) => hurt = more.or(hurt),
            }
        }
        self.set_gates(hurt);
        self.settle(outcomes, upstream_reports).await;
    }

    /// What the verdicts mean for the relay, the lane and the sender: whoever is not hurt has
    /// been passed, which ends its pause.
    fn set_gates(&self, hurt: Option<Hurt>) {
        let sender = self.entry.reverse_path.as_str();
        let Some(Hurt { scope, cause, rule, too_many_connections }) = hurt else {
            self.context.gate.open(self.begun);
            self.lane.gate.open(self.begun);
            self.lane.senders.open(sender, self.begun);
            return;
        };
        if too_many_connections {
            self.lane.connections.lower();
        }
        match scope {
            Scope::Relay => {
                self.lane.gate.withdraw_probe();
                self.lane.senders.withdraw_probe(sender);
                self.context.gate.close(cause, rule);
            }
            Scope::Sender => {
                self.context.gate.open(self.begun);
                self.lane.gate.open(self.begun);
                self.lane.senders.close(sender, cause, rule);
            }
            _ => {
                self.context.gate.open(self.begun);
                self.lane.senders.withdraw_probe(sender);
                self.lane.gate.close(cause, rule);
            }
        }
    }

    fn consequences(&self) -> Consequences<'_> {
        Consequences { context: self.context, lane: self.lane, entry: self.entry }
    }

    /// With `on_uncertain = "hold"`, the reason to set the message aside. Either all accepted
    /// recipients are uncertain or none is; the others are tried when it is released.
    fn is_to_be_held(&self, verdicts: &[(u32, Verdict)]) -> Option<String> {
        let uncertain = verdicts.iter().find_map(|(_, verdict)| match verdict {
            Verdict::Uncertain(cause) => Some(cause),
            _ => None,
        })?;
        (self.context.on_uncertain == OnUncertain::Hold).then(|| {
            format!(
                "{uncertain} after the final dot: nobody knows whether upstream has the message"
            )
        })
    }

    fn recipient(&self, position: u32) -> Option<&PendingRecipient> {
        self.entry.recipients.iter().find(|recipient| recipient.position == position)
    }

    /// Records the outcomes, however long that takes: upstream has spoken, and forgetting it
    /// would send the message again.
    async fn settle(&self, judged: Vec<(u32, Judged)>, upstream_reports: bool) {
        if judged.is_empty() {
            return;
        }
        let occasion = Occasion {
            context: self.context,
            lane: self.lane,
            entry: self.entry,
            judged: &judged,
            upstream_reports,
        };
        let notices = occasion.notices().await;
        let outcomes: Vec<_> = judged.iter().map(Judged::concluded).collect();
        let id = self.entry.id;
        let mut wait = SETTLE_RETRY;
        loop {
            let settlement =
                Settlement { id, outcomes: outcomes.clone(), notices: notices.clone() };
            match self.context.store.settle(settlement).await {
                Ok(()) => break,
                Err(error @ (StoreError::Poisoned | StoreError::Closed)) => {
                    tracing::error!(queue_id = %id, %error, "outcome not recorded, the message may be sent twice");
                    break;
                }
                Err(error) => {
                    tracing::error!(queue_id = %id, %error, "outcome not recorded yet, trying again");
                    sleep(wait).await;
                    wait = (wait * 2).min(SETTLE_RETRY_MOST);
                }
            }
        }
        let relayed =
            |(_, judged): &&(u32, Judged)| matches!(judged.outcome, Outcome::Relayed { .. });
        let relayed = judged.iter().filter(relayed).count() as u64;
        self.relayed.fetch_add(relayed, Ordering::Relaxed);
        for (position, judged) in &judged {
            if let Some(recipient) = self.recipient(*position) {
                self.tell(recipient, judged);
            }
        }
    }

    fn tell(&self, recipient: &PendingRecipient, judged: &Judged) {
        let (disposition, reply, next_attempt) = match &judged.outcome {
            Outcome::Relayed { reply } => ("relayed", reply, None),
            Outcome::Failed { reply } => ("failed", reply, None),
            Outcome::Deferred { reply, next_attempt } => {
                ("deferred", reply, Some(next_attempt.rfc3339()))
            }
        };
        RecipientAttempted {
            id: self.entry.id,
            lane: &self.lane.config.mailbox,
            reverse_path: &self.entry.reverse_path,
            forward_path: &recipient.forward_path,
            disposition,
            attempt: recipient.attempts + 1,
            size: self.entry.size,
            delay: self.context.clock.now().since(self.entry.arrival),
            took: self.begun.elapsed(),
            reply,
            next_attempt,
            advice: judged.advice.as_deref(),
        }
        .emit();
    }
}

/// Whether upstream answered MAIL by closing the connection: on an idle one its timeout may have
/// come first, which is nobody's fault.
fn hung_up(verdicts: &[(u32, Verdict)]) -> bool {
    verdicts.iter().all(|(_, verdict)| {
        matches!(verdict, Verdict::Refused(Stage::Mail, reply) if reply.code().value() == 421)
    })
}
