//! What a verdict means: for the recipient, and for whoever else is hurt.

use std::time::Duration;

use super::{
    judged::Judged,
    pause::Cause,
    schedule::{self, Next},
    shared::{Account, LaneState},
};
use crate::{
    delivery::{
        Config,
        judge::{Judgement, judge},
        smarthost::Verdict,
        trouble::{Stage, Trouble},
    },
    office365::replies::{Names, PauseRule, Row, Scope},
    store::{Entry, Outcome, PendingRecipient},
    telemetry::{
        events::Disposition,
        metrics::causes::{Deferred, Failed},
    },
};

/// Exchange Online counts too many connections to the mailbox (`432 4.3.2`).
const TOO_MANY_CONNECTIONS: u16 = 432;

/// Somebody besides the recipient is hurt: the relay, the lane or the sender.
pub(super) struct Hurt {
    pub scope: Scope,
    pub cause: Cause,
    pub rule: PauseRule,
    pub too_many_connections: bool,
}

/// Reads verdicts on one message.
pub(super) struct Consequences<'a> {
    pub account: &'a Account,
    pub lane: &'a LaneState,
    pub entry: &'a Entry,
    /// The give-up time, counted from arrival; `None` where nothing is tried again.
    pub give_up_after: Option<Duration>,
}

impl Consequences<'_> {
    /// What a verdict means for a recipient, if the attempt counts for it, and who else is hurt.
    /// `progressed` says that another recipient was dealt with.
    pub fn of(
        &self,
        recipient: &PendingRecipient,
        verdict: Verdict,
        progressed: bool,
    ) -> (Option<Judged>, Option<Hurt>) {
        let (stage, reply) = match verdict {
            Verdict::Relayed(taken) => {
                let reply = taken.reply();
                let status = reply.enhanced();
                let outcome = Outcome::Relayed { reply: reply.to_string() };
                let disposition = Disposition::Relayed;
                let judged =
                    Judged { outcome, disposition, status, from_upstream: true, advice: None };
                return (Some(judged), None);
            }
            Verdict::Uncertain(cause) => {
                let reply = format!(
                    "{cause} (after the final dot; upstream may have the message, so it can come twice)"
                );
                return (Some(self.deferred(recipient, Deferred::Uncertain, reply, None)), None);
            }
            Verdict::Refused(stage, reply) => (stage, reply),
        };
        let Judgement { scope, pause, row } = judge(stage, &reply);
        let advice = row.map(|row| self.cure(row));
        let status = reply.enhanced();
        let too_many_connections = reply.code().value() == TOO_MANY_CONNECTIONS;
        let reply = Trouble::Refused { stage, reply }.to_string();
        let failed = |reply, cause, advice| Judged {
            outcome: Outcome::Failed { reply },
            disposition: Disposition::Failed(cause),
            status,
            from_upstream: true,
            advice,
        };
        let hurt = |reply: &String, advice: &Option<String>| {
            let cause = Cause { reason: reply.clone(), advice: advice.clone() };
            Hurt { scope, cause, rule: pause, too_many_connections }
        };
        match scope {
            Scope::Relay | Scope::Lane => (None, Some(hurt(&reply, &advice))),
            Scope::Sender => {
                let hurt = hurt(&reply, &advice);
                (Some(failed(reply, Failed::Sender, advice)), Some(hurt))
            }
            Scope::Recipient => (Some(failed(reply, Failed::Recipient, advice)), None),
            Scope::Message => (Some(failed(reply, Failed::Message, advice)), None),
            // The others have been dealt with, so this one's turn comes at once.
            Scope::Rest if progressed => {
                let next_attempt = self.account.clock.now();
                let outcome = Outcome::Deferred { reply, next_attempt };
                let disposition = Disposition::Deferred(Deferred::NextTransaction);
                let judged = Judged { outcome, disposition, status, from_upstream: true, advice };
                (Some(judged), None)
            }
            Scope::Rest | Scope::Transient => {
                let deferred = self.deferred(recipient, Deferred::Transient, reply, advice);
                (Some(Judged { status, from_upstream: true, ..deferred }), None)
            }
        }
    }

    /// Another attempt at its time, or the end if the give-up time has passed. For a fault of its
    /// own the relay never gives up.
    pub fn deferred(
        &self,
        recipient: &PendingRecipient,
        cause: Deferred,
        reply: String,
        advice: Option<String>,
    ) -> Judged {
        let now = self.account.clock.now();
        let attempts = recipient.attempts + 1;
        let (arrival, random) = (self.entry.arrival, fastrand::f64());
        let next = match self.give_up_after {
            None => Next::At(now),
            Some(_) if cause == Deferred::Fault => Next::At(schedule::retry(attempts, now, random)),
            Some(give_up) => schedule::after_attempt(attempts, arrival, now, give_up, random),
        };
        let (outcome, disposition) = match next {
            Next::At(next_attempt) => {
                (Outcome::Deferred { reply, next_attempt }, Disposition::Deferred(cause))
            }
            Next::GiveUp => {
                let reply = format!("gave up after {attempts} attempts; last: {reply}");
                (Outcome::Failed { reply }, Disposition::Failed(Failed::GaveUp))
            }
        };
        Judged { outcome, disposition, status: None, from_upstream: false, advice }
    }

    /// The next step for trouble before a message was named.
    pub fn advice(&self, row: Option<&'static Row>, trouble: &Trouble) -> Option<String> {
        if let Some(row) = row {
            return Some(self.cure(row));
        }
        let Config { host, port, ehlo_name, .. } = self.account.smarthost.config();
        let refused = matches!(trouble, Trouble::Refused { .. });
        match trouble.stage() {
            Stage::Connect => Some(format!(
                "check that this host can look up {host} and reach port {port} there (DNS, firewall)"
            )),
            Stage::Ehlo if refused => Some(format!(
                "set office365.ehlo_name to a host name with a domain; it is {ehlo_name} now"
            )),
            Stage::StartTls => Some(elsewhere(host, *port)),
            Stage::Tls => Some(format!(
                "look at the certificate: openssl s_client -starttls smtp -connect {host}:{port}"
            )),
            Stage::Greeting | Stage::Ehlo if !refused => Some(elsewhere(host, *port)),
            _ => None,
        }
    }

    /// What is wrong and the next step, with the names at hand filled in.
    fn cure(&self, row: &'static Row) -> String {
        let token = self.account.token.snapshot().token;
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
}

fn elsewhere(host: &str, port: u16) -> String {
    format!(
        "check office365.smtp_host and office365.smtp_port (587): what answers at {host}:{port} \
         does not behave as Exchange Online; a firewall or a proxy may stand between"
    )
}

/// Whether upstream only wants this recipient in another transaction.
pub(super) fn is_for_the_rest(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(stage, reply) if judge(*stage, reply).scope == Scope::Rest)
}
