//! One message's attempt: body, connection, transaction, judgement, settlement. What became of
//! the recipients is committed before anything else happens.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    OnUncertain,
    judged::Judged,
    lane::LaneState,
    notice::Occasion,
    pause::Cause,
    runner::Context,
    schedule::{self, Next},
};
use crate::{
    delivery::{
        Config,
        judge::{Judgement, judge},
        smarthost::{Connection, Verdict},
        trouble::{Stage, Trouble},
    },
    mail::queue_id::QueueId,
    office365::replies::{Names, PauseRule, Row, Scope},
    store::{Body, Entry, Outcome, PendingRecipient, Settlement, StoreError},
    telemetry::events::RecipientAttempted,
    token::AccessToken,
};

/// A token older than this may have lost its rights on the server's side: worth one new one.
const TOKEN_MAY_BE_STALE: Duration = Duration::from_secs(300);

/// How long to wait for that new token.
const NEW_TOKEN_PATIENCE: Duration = Duration::from_secs(30);

/// Between tries to record what upstream has said.
const SETTLE_RETRY: Duration = Duration::from_secs(1);

/// The end of an attempt.
pub(super) struct Finished {
    pub id: QueueId,
    /// A connection for the next message.
    pub connection: Option<Connection>,
}

/// Attempts one message, over `connection` if there is one, and settles what there is to settle.
pub(super) async fn run(
    context: Arc<Context>,
    lane: Arc<LaneState>,
    entry: Entry,
    connection: Option<Connection>,
) -> Finished {
    let id = entry.id;
    let attempt = Attempt { context: &context, lane: &lane, entry: &entry, begun: Instant::now() };
    let connection = match attempt.make(connection).await {
        Some(connection) if connection.is_reusable() => Some(connection),
        Some(connection) => {
            // Within the attempt, so that no further connection is made before this one is gone.
            connection.quit().await;
            None
        }
        None => None,
    };
    Finished { id, connection }
}

struct Attempt<'a> {
    context: &'a Context,
    lane: &'a LaneState,
    entry: &'a Entry,
    begun: Instant,
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

    /// The body; a message without one is set aside, so that it stops no other. `None` also for
    /// a message that an operator has removed or held while it waited here.
    async fn body(&self) -> Option<Body> {
        match self.context.store.body_if_waiting(self.entry).await {
            Ok(Some(body)) => Some(body),
            Ok(None) => {
                tracing::info!(queue_id = %self.entry.id, "message withdrawn before its attempt");
                self.withdraw_probes();
                None
            }
            Err(error) if error.is_missing_body() => {
                self.set_aside(error.to_string()).await;
                None
            }
            Err(error) => {
                self.pause_for_store(&error);
                None
            }
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
        self.lane.gate.close(cause, PauseRule::NETWORK);
        self.context.gate.withdraw_probe();
    }

    fn withdraw_probes(&self) {
        self.context.gate.withdraw_probe();
        self.lane.gate.withdraw_probe();
    }

    /// Connects and logs in; trouble closes a gate and costs the message nothing.
    async fn connect(&self) -> Option<Connection> {
        let Some(token) = self.usable_token() else {
            self.withdraw_probes();
            return None;
        };
        let mailbox = &self.lane.config.mailbox;
        let mut result = self.context.smarthost.connect(mailbox, &token).await;
        if self.is_worth_a_new_token(&result, &token) {
            self.context.token.refresh_now(token.obtained_at());
            let newer = self.context.token.valid_after(&token);
            if let Ok(newer) = timeout(NEW_TOKEN_PATIENCE, newer).await {
                result = self.context.smarthost.connect(mailbox, &newer).await;
            }
        }
        match result {
            Ok(connection) => {
                self.context.gate.open();
                Some(connection)
            }
            Err(trouble) => {
                self.close_gate(&trouble);
                None
            }
        }
    }

    fn usable_token(&self) -> Option<Arc<AccessToken>> {
        self.context.token.snapshot().usable(self.context.clock.now()).cloned()
    }

    fn is_worth_a_new_token(
        &self,
        result: &Result<Connection, Trouble>,
        token: &AccessToken,
    ) -> bool {
        let refused = matches!(
            result,
            Err(Trouble::Refused { stage: Stage::Auth, reply }) if reply.code().value() == 535
        );
        refused && self.context.clock.now().since(token.obtained_at()) > TOKEN_MAY_BE_STALE
    }

    /// Closes the gate of whatever is hurt; only for trouble that is not the message's.
    fn close_gate(&self, trouble: &Trouble) {
        let judgement = match trouble {
            Trouble::Refused { stage, reply } => Some(judge(*stage, reply)),
            Trouble::Broken { .. } | Trouble::Unreadable { .. } => None,
        };
        let row = judgement.and_then(|judgement| judgement.row);
        let pause = judgement.map_or(PauseRule::NETWORK, |judgement| judgement.pause);
        let cause = Cause { reason: trouble.to_string(), advice: self.advice(row, trouble) };
        if judgement.is_some_and(|judgement| judgement.scope == Scope::Lane) {
            self.context.gate.open(); // the smarthost itself was reached
            self.lane.gate.close(cause, pause);
        } else {
            self.lane.gate.withdraw_probe();
            self.context.gate.close(cause, pause);
        }
    }

    fn advice(&self, row: Option<&'static Row>, trouble: &Trouble) -> Option<String> {
        if let Some(row) = row {
            return Some(self.cure(row));
        }
        let Config { host, port, ehlo_name, .. } = self.context.smarthost.config();
        let refused = matches!(trouble, Trouble::Refused { .. });
        match trouble.stage() {
            Stage::Connect => Some(format!(
                "check that this host can look up {host} and reach port {port} there (DNS, firewall)"
            )),
            Stage::Ehlo if refused => Some(format!(
                "set office365.ehlo_name to a host name with a domain; it is {ehlo_name} now"
            )),
            Stage::StartTls => Some(elsewhere(host, *port)),
            Stage::Greeting | Stage::Ehlo if !refused => Some(elsewhere(host, *port)),
            _ => None,
        }
    }

    /// What is wrong and the next step, with the names at hand filled in.
    fn cure(&self, row: &'static Row) -> String {
        let token = self.context.token.snapshot().token;
        let object_id = token.as_ref().and_then(|token| token.object_id());
        let names = Names {
            mailbox: &self.lane.config.mailbox,
            sender: match self.entry.reverse_path.as_str() {
                "" => &self.lane.config.mailbox,
                sender => sender,
            },
            object_id: object_id.as_deref(),
        };
        format!("{}: {}", names.fill(row.meaning), names.fill(row.cure))
    }

    /// The connection broke before the final dot: nothing was relayed.
    async fn broke_off(&self, trouble: &Trouble) {
        match trouble {
            Trouble::Unreadable { cause } => self.set_aside(cause.clone()).await,
            Trouble::Broken { stage, .. } if !stage.is_before_mail() => {
                // The message itself may be what breaks connections, so this attempt counts;
                // otherwise the oldest message could stop all others for ever. It proves nothing
                // about a pause: the next message is the probe.
                self.withdraw_probes();
                let verdicts = self.entry.recipients.iter().map(|recipient| {
                    (recipient.position, self.deferred(recipient, trouble.to_string(), None))
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
        let mut outcomes = Vec::new();
        let mut lane_cause = None;
        let progressed = verdicts.iter().any(|(_, verdict)| !is_for_the_rest(verdict));
        for (position, verdict) in verdicts {
            let Some(recipient) = self.recipient(position) else { continue };
            match self.outcome(recipient, verdict, progressed) {
                Ok(outcome) => outcomes.push((position, outcome)),
                Err(pause) => lane_cause = Some(pause),
            }
        }
        if !matches!(lane_cause, Some((Scope::Relay, ..))) {
            self.context.gate.open();
        }
        match lane_cause {
            None => self.lane.gate.open(),
            Some((Scope::Relay, cause, rule)) => {
                self.lane.gate.withdraw_probe();
                self.context.gate.close(cause, rule);
            }
            Some((_, cause, rule)) => self.lane.gate.close(cause, rule),
        }
        self.settle(outcomes, upstream_reports).await;
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

    /// What a verdict means for a recipient, or the pause that it means instead.
    fn outcome(
        &self,
        recipient: &PendingRecipient,
        verdict: Verdict,
        progressed: bool,
    ) -> Result<Judged, (Scope, Cause, PauseRule)> {
        let (stage, reply) = match verdict {
            Verdict::Relayed(reply) => {
                let status = reply.enhanced();
                let outcome = Outcome::Relayed { reply: reply.to_string() };
                return Ok(Judged { outcome, status, from_upstream: true, advice: None });
            }
            Verdict::Uncertain(cause) => {
                let reply = format!(
                    "{cause} (after the final dot; upstream may have the message, so it can come twice)"
                );
                return Ok(self.deferred(recipient, reply, None));
            }
            Verdict::Refused(stage, reply) => (stage, reply),
        };
        let Judgement { scope, pause, row } = judge(stage, &reply);
        let advice = row.map(|row| self.cure(row));
        let status = reply.enhanced();
        let reply = Trouble::Refused { stage, reply }.to_string();
        let judged = |outcome, advice| Judged { outcome, status, from_upstream: true, advice };
        match scope {
            Scope::Relay | Scope::Lane => Err((scope, Cause { reason: reply, advice }, pause)),
            scope if scope.fails() => Ok(judged(Outcome::Failed { reply }, advice)),
            // The others have been dealt with, so this one's turn comes at once.
            Scope::Rest if progressed => {
                let next_attempt = self.context.clock.now();
                Ok(judged(Outcome::Deferred { reply, next_attempt }, advice))
            }
            _ => {
                let deferred = self.deferred(recipient, reply, advice);
                Ok(Judged { status, from_upstream: true, ..deferred })
            }
        }
    }

    fn deferred(
        &self,
        recipient: &PendingRecipient,
        reply: String,
        advice: Option<String>,
    ) -> Judged {
        let next = schedule::after_attempt(
            recipient.attempts + 1,
            self.entry.arrival,
            self.context.clock.now(),
            self.context.give_up_after,
            fastrand::f64(),
        );
        let outcome = match next {
            Next::At(next_attempt) => Outcome::Deferred { reply, next_attempt },
            Next::GiveUp => {
                let reply =
                    format!("gave up after {} attempts; last: {reply}", recipient.attempts + 1);
                Outcome::Failed { reply }
            }
        };
        Judged { outcome, status: None, from_upstream: false, advice }
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
                    sleep(SETTLE_RETRY).await;
                }
            }
        }
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

fn elsewhere(host: &str, port: u16) -> String {
    format!(
        "check office365.smtp_host and office365.smtp_port (587): what answers at {host}:{port} \
         does not behave as Exchange Online; a firewall or a proxy may stand between"
    )
}

/// Whether upstream answered MAIL by closing the connection: on an idle one its timeout may have
/// come first, which is nobody's fault.
fn hung_up(verdicts: &[(u32, Verdict)]) -> bool {
    verdicts.iter().all(|(_, verdict)| {
        matches!(verdict, Verdict::Refused(Stage::Mail, reply) if reply.code().value() == 421)
    })
}

/// Whether upstream only wants this recipient in another transaction.
fn is_for_the_rest(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(stage, reply) if judge(*stage, reply).scope == Scope::Rest)
}
