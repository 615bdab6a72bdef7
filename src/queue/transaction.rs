//! A message's way upstream, wherever it comes from: connection, transaction, judgement, gates.
//! What becomes of the message afterwards is for the caller: the queue keeps it, direct mode
//! tells its client.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    consequence::{Consequences, Hurt, is_for_the_rest},
    judged::Judged,
    login,
    pause::Cause,
    shared::{Account, LaneState},
};
use crate::{
    delivery::{
        judge::judge,
        smarthost::{Connection, Share, Verdict},
        trouble::{Stage, Trouble},
    },
    office365::replies::{PauseRule, Scope},
    store::{Body, Entry, Outcome, PendingRecipient},
    telemetry::{events::RecipientAttempted, metrics::causes::Deferred},
};

/// One message on its way.
pub(super) struct Transaction<'a> {
    pub account: &'a Account,
    pub lane: &'a LaneState,
    pub entry: &'a Entry,
    pub share: Share,
    /// The give-up time, counted from arrival; `None` where nothing is tried again.
    pub give_up_after: Option<Duration>,
    pub begun: Instant,
}

/// Where the octets come from, as often as they are asked for.
pub(super) trait Origin {
    /// The body; `None` if there is none to send, for which the origin has done what there is to
    /// do.
    fn body(&self) -> impl Future<Output = Option<Body>> + Send;
}

/// How far it came.
pub(super) enum End {
    /// There was no body to send.
    NoBody,
    /// There was no token to log in with.
    NoToken,
    /// Nobody was reached or nobody let us in: nothing of the message was said.
    NoConnection(Trouble),
    /// The connection broke before the final dot, or the body could not be read.
    BrokenOff(Trouble),
    /// A fault of this program broke it off; nobody knows how far it had come.
    Fault,
    /// Upstream has spoken, or is silent after the final dot.
    Verdicts {
        verdicts: Vec<(u32, Verdict)>,
        /// Upstream was asked to report success itself.
        upstream_reports: bool,
    },
}

/// The connection for the next message, if it is good for one.
pub(super) async fn keep(connection: Option<Connection>) -> Option<Connection> {
    match connection {
        Some(connection) if connection.is_reusable() => Some(connection),
        Some(connection) => {
            // Within the attempt, so that no further connection is made before this one is gone.
            connection.quit().await;
            None
        }
        None => None,
    }
}

impl Transaction<'_> {
    /// Runs it over `connection`, or over a new one. A panic is the end of this attempt and of
    /// nothing else.
    pub async fn run(
        &self,
        connection: Option<Connection>,
        origin: &impl Origin,
    ) -> (End, Option<Connection>) {
        let end = survive(pin!(self.go(connection, origin))).await;
        end.unwrap_or((End::Fault, None))
    }

    async fn go(
        &self,
        mut connection: Option<Connection>,
        origin: &impl Origin,
    ) -> (End, Option<Connection>) {
        let reused = connection.is_some();
        let rewriting = self.lane.rewriting(self.entry);
        loop {
            let Some(body) = origin.body().await else { return (End::NoBody, connection) };
            let fresh = connection.is_none();
            let mut link = match connection.take() {
                Some(link) => link,
                None => match self.connect().await {
                    Ok(link) => link,
                    Err(end) => return (end, None),
                },
            };
            match link.send_as(&rewriting, self.entry, body, self.share).await {
                Ok(verdicts) if reused && !fresh && hung_up(&verdicts) => {
                    tracing::debug!("idle connection was closed with a 421, connecting anew");
                }
                Ok(verdicts) => {
                    let upstream_reports = link.reports_success();
                    return (End::Verdicts { verdicts, upstream_reports }, Some(link));
                }
                // The server closed the connection while it was idle: nobody's fault.
                Err(trouble) if reused && !fresh && trouble.stage() <= Stage::Mail => {
                    tracing::debug!(%trouble, "idle connection was closed, connecting anew");
                }
                Err(trouble) => {
                    count(&trouble);
                    return (End::BrokenOff(trouble), None);
                }
            }
        }
    }

    /// Connects and logs in.
    async fn connect(&self) -> Result<Connection, End> {
        match login::log_in(self.account, &self.lane.config.mailbox).await {
            Ok(Some(connection)) => {
                self.account.gate.open(self.begun);
                Ok(connection)
            }
            Ok(None) => Err(End::NoToken),
            Err(trouble) => {
                count(&trouble);
                Err(End::NoConnection(trouble))
            }
        }
    }

    pub fn withdraw_probes(&self) {
        self.account.gate.withdraw_probe();
        self.lane.gate.withdraw_probe();
        self.lane.senders.withdraw_probe(self.entry.reverse_path.as_str());
    }

    /// Closes the gate of whatever is hurt, and says why; only for trouble that is not the
    /// message's.
    pub fn close_gate(&self, trouble: &Trouble) -> Cause {
        let judgement = match trouble {
            Trouble::Refused { stage, reply } => Some(judge(*stage, reply)),
            _ => None,
        };
        let row = judgement.and_then(|judgement| judgement.row);
        let pause = judgement.map_or(PauseRule::NETWORK, |judgement| judgement.pause);
        let advice = self.consequences().advice(row, trouble);
        let cause = Cause { reason: trouble.to_string(), advice };
        self.lane.senders.withdraw_probe(self.entry.reverse_path.as_str());
        if judgement.is_some_and(|judgement| judgement.scope == Scope::Lane) {
            self.account.gate.open(self.begun); // the smarthost itself was reached
            self.lane.gate.close(cause.clone(), pause);
        } else {
            self.lane.gate.withdraw_probe();
            self.account.gate.close(cause.clone(), pause);
        }
        cause
    }

    /// What the verdicts come to for the recipients for whom this attempt counts, and who else is
    /// hurt. Gates are closed and opened by it.
    pub fn judge(&self, verdicts: Vec<(u32, Verdict)>) -> (Vec<(u32, Judged)>, Option<Cause>) {
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
        let paused = hurt.as_ref().filter(|hurt| hurt.scope.pauses());
        let paused = paused.map(|hurt| hurt.cause.clone());
        self.set_gates(hurt);
        (outcomes, paused)
    }

    /// What the verdicts mean for the relay, the lane and the sender: whoever is not hurt has
    /// been passed, which ends its pause.
    fn set_gates(&self, hurt: Option<Hurt>) {
        let sender = self.entry.reverse_path.as_str();
        let Some(Hurt { scope, cause, rule, too_many_connections }) = hurt else {
            self.account.gate.open(self.begun);
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
                self.account.gate.close(cause, rule);
            }
            Scope::Sender => {
                self.account.gate.open(self.begun);
                self.lane.gate.open(self.begun);
                self.lane.senders.close(sender, cause, rule);
            }
            _ => {
                self.account.gate.open(self.begun);
                self.lane.senders.withdraw_probe(sender);
                self.lane.gate.close(cause, rule);
            }
        }
    }

    /// The connection broke in the middle of the message, which may be what breaks connections,
    /// so this attempt counts. It proves nothing about a pause: the next message is the probe.
    pub fn interrupted(&self, trouble: &Trouble) -> Vec<(u32, Judged)> {
        self.all_deferred(Deferred::Connection, &trouble.to_string())
    }

    /// The same for [`End::Fault`].
    pub fn faulted(&self) -> Vec<(u32, Judged)> {
        self.all_deferred(Deferred::Fault, FAULT)
    }

    fn all_deferred(&self, cause: Deferred, reply: &str) -> Vec<(u32, Judged)> {
        self.withdraw_probes();
        let consequences = self.consequences();
        let deferred = |recipient: &PendingRecipient| {
            let judged = consequences.deferred(recipient, cause, reply.to_owned(), None);
            (recipient.position, judged)
        };
        self.entry.recipients.iter().map(deferred).collect()
    }

    fn consequences(&self) -> Consequences<'_> {
        let Self { account, lane, entry, give_up_after, .. } = *self;
        Consequences { account, lane, entry, give_up_after }
    }

    pub fn recipient(&self, position: u32) -> Option<&PendingRecipient> {
        self.entry.recipients.iter().find(|recipient| recipient.position == position)
    }

    /// Writes a line for each recipient.
    pub fn tell(&self, judged: &[(u32, Judged)]) {
        for (position, judged) in judged {
            let Some(recipient) = self.recipient(*position) else { continue };
            let (reply, next_attempt) = match &judged.outcome {
                Outcome::Relayed { reply } | Outcome::Failed { reply } => (reply, None),
                Outcome::Deferred { reply, next_attempt } => {
                    let again = self.give_up_after.is_some();
                    (reply, again.then(|| next_attempt.rfc3339()))
                }
            };
            RecipientAttempted {
                id: self.entry.id,
                lane: &self.lane.config.mailbox,
                reverse_path: &self.entry.reverse_path,
                forward_path: &recipient.forward_path,
                disposition: judged.disposition,
                attempt: recipient.attempts + 1,
                size: self.entry.size,
                delay: self.account.clock.now().since(self.entry.arrival),
                took: self.begun.elapsed(),
                reply,
                next_attempt,
                advice: judged.advice.as_deref(),
            }
            .emit();
        }
    }
}

/// What an attempt came to that a fault of this program broke off. The log has the panic itself.
pub(super) const FAULT: &str =
    "a fault of o365-relay itself broke the attempt off; its log tells where, please report it";

/// Runs it to its end; `None` if it panics.
async fn survive<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}

/// Counts trouble on the way; a body that cannot be read is none of it.
fn count(trouble: &Trouble) {
    if matches!(trouble, Trouble::Refused { .. } | Trouble::Broken { .. }) {
        trouble.stage().failed();
    }
}

/// Whether upstream answered MAIL by closing the connection: on an idle one its timeout may have
/// come first, which is nobody's fault.
fn hung_up(verdicts: &[(u32, Verdict)]) -> bool {
    verdicts.iter().all(|(_, verdict)| {
        matches!(verdict, Verdict::Refused(Stage::Mail, reply) if reply.code().value() == 421)
    })
}
