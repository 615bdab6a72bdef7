//! What the client of direct mode hears. A permanent reply is always upstream's, about the
//! message or a recipient; what is the relay's own fault, the network's or the mailbox's is 451.

use tokio::time::Instant;

use crate::{
    delivery::{
        judge::judge,
        smarthost::{Taken, Verdict},
        trouble::{Stage, Trouble},
    },
    mail::queue_id::QueueId,
    office365::replies::Scope,
    queue::{
        Pace,
        judged::Judged,
        pause::{Cause, Pause},
        shared::{Account, LaneState},
        transaction::{End, FAULT, Transaction},
        turnstile::Obstacle,
    },
    smtp::reply::{EnhancedStatusCode, Reply},
    store::Outcome,
};

/// Refused recipients that a reply names.
const NAMED: usize = 5;

/// RFC 3463: 4.3.0 other mail system status, 4.3.2 not accepting, 4.4.0 other network status,
/// 4.4.1 no answer from host, 4.4.2 bad connection, 4.4.5 system congestion, 4.7.0 other security
/// status.
const OTHER: EnhancedStatusCode = EnhancedStatusCode(4, 3, 0);
const SHUTTING_DOWN: EnhancedStatusCode = EnhancedStatusCode(4, 3, 2);
const PAUSED: EnhancedStatusCode = EnhancedStatusCode(4, 4, 0);
const NO_ANSWER: EnhancedStatusCode = EnhancedStatusCode(4, 4, 1);
const BROKEN: EnhancedStatusCode = EnhancedStatusCode(4, 4, 2);
const BUSY: EnhancedStatusCode = EnhancedStatusCode(4, 4, 5);
const CREDENTIALS: EnhancedStatusCode = EnhancedStatusCode(4, 7, 0);

fn later(status: EnhancedStatusCode, texts: &[String]) -> Reply {
    Reply::wrapped(451, status, texts)
}

fn with_advice(reason: String, advice: Option<&String>) -> Vec<String> {
    let advice = advice.map(|advice| format!("what to do: {advice}"));
    std::iter::once(reason).chain(advice).collect()
}

pub(super) fn draining() -> Reply {
    later(SHUTTING_DOWN, &["relay is shutting down, nothing was sent; try again later".into()])
}

pub(super) fn shut_down_midway() -> Reply {
    let text = "relay is shutting down before upstream has answered; sent again, the message may \
                come twice";
    later(SHUTTING_DOWN, &[text.into()])
}

pub(super) fn unreadable() -> Reply {
    later(OTHER, &["message could not be sent on; try again later".into()])
}

/// Only for the log: nobody reads it.
pub(super) fn hung_up(id: QueueId) -> Reply {
    tracing::warn!(queue_id = %id, "client hung up before its message had its turn, nothing was sent");
    later(BROKEN, &["client hung up before its turn".into()])
}

/// Why a message cannot go now.
pub(super) struct Words<'a> {
    pub account: &'a Account,
}

impl Words<'_> {
    /// When an obstacle may be gone by itself, if that is known.
    pub fn until(&self, obstacle: Obstacle) -> Option<Instant> {
        match obstacle {
            Obstacle::Connections | Obstacle::Slots => None,
            Obstacle::Token => self.next_token(),
            Obstacle::Pace(until) | Obstacle::Quota(until) => Some(until),
            Obstacle::Gate(closed) => closed.until,
        }
    }

    /// When the next token is asked for, after a request that failed.
    pub fn next_token(&self) -> Option<Instant> {
        let now = self.account.clock.now();
        let failed = self.account.token.snapshot().last_error?;
        let wait = failed.next_try.since(now);
        (!wait.is_zero()).then(|| Instant::now() + wait)
    }

    pub fn has_no_token(&self) -> bool {
        self.account.token.snapshot().usable(self.account.clock.now()).is_none()
    }

    /// A pause and a lack of a token explain the other obstacles too.
    pub fn why(&self, lane: &LaneState, obstacle: Obstacle) -> Reply {
        if let Some(pause) = self.account.gate.pause().or_else(|| lane.gate.pause()) {
            return paused(&pause);
        }
        if self.has_no_token() {
            return self.no_token();
        }
        let config = &lane.config;
        let what = match obstacle {
            Obstacle::Quota(_) => format!(
                "{} has sent to as many recipients as it may in 24 hours \
                 (office365.recipients_per_day is {})",
                config.mailbox,
                config.recipients_per_day.unwrap_or_default()
            ),
            Obstacle::Connections => {
                format!(
                    "all connections are in use (office365.max_connections is {})",
                    lane.connections.now()
                )
            }
            Obstacle::Slots => {
                "all connections of all mailboxes are in use (queue.max_connections)".into()
            }
            _ => match config.pace {
                Pace::PerMinute(rate) => format!(
                    "more messages than the mailbox may send in a minute \
                     (office365.messages_per_minute is {rate})"
                ),
                Pace::Unlimited => "too many messages at a time".into(),
            },
        };
        let text =
            format!("{what}; no turn within queue.direct_wait, nothing was sent; try again later");
        later(BUSY, &[text])
    }

    pub fn no_token(&self) -> Reply {
        let failed = self.account.token.snapshot().last_error;
        let error =
            failed.as_ref().map_or("not here yet".into(), |failed| failed.error.to_string());
        let advice = failed.as_ref().map(|failed| &failed.advice);
        let text = format!("no access token, nothing was sent: {error}");
        later(CREDENTIALS, &with_advice(text, advice))
    }
}

pub(super) fn paused(pause: &Pause) -> Reply {
    let wait = pause.until.saturating_duration_since(Instant::now()).as_secs();
    let Cause { reason, advice } = &pause.cause;
    let text = format!("relay is paused for {wait} s more, nothing was sent: {reason}");
    later(PAUSED, &with_advice(text, advice.as_ref()))
}

pub(super) fn held(sender: &str, pause: &Pause) -> Reply {
    let wait = pause.until.saturating_duration_since(Instant::now()).as_secs();
    let Cause { reason, advice } = &pause.cause;
    let text =
        format!("mail from <{sender}> is held for {wait} s more, nothing was sent: {reason}");
    later(CREDENTIALS, &with_advice(text, advice.as_ref()))
}

/// What an attempt comes to.
pub(super) fn conclude(transaction: &Transaction<'_>, end: End) -> Result<Taken, Reply> {
    match end {
        End::NoBody | End::BrokenOff(Trouble::Unreadable { .. }) => {
            if let End::BrokenOff(trouble) = end {
                tracing::error!(queue_id = %transaction.entry.id, %trouble, "message not readable");
            }
            transaction.withdraw_probes();
            Err(unreadable())
        }
        End::NoToken => {
            transaction.withdraw_probes();
            Err(Words { account: transaction.account }.no_token())
        }
        End::BrokenOff(trouble) if !trouble.stage().is_before_mail() => {
            transaction.tell(&transaction.interrupted(&trouble));
            Err(later(BROKEN, &[format!("{trouble}; nobody has got the message")]))
        }
        End::Fault => {
            transaction.tell(&transaction.faulted());
            Err(later(OTHER, &[format!("{FAULT}; try again later")]))
        }
        End::NoConnection(trouble) | End::BrokenOff(trouble) => {
            let Cause { reason, advice } = transaction.close_gate(&trouble);
            Err(later(status(&trouble), &with_advice(reason, advice.as_ref())))
        }
        End::Verdicts { verdicts, .. } => {
            let (judged, paused) = transaction.judge(verdicts.clone());
            transaction.tell(&judged);
            if let Some(taken) = taken_for_all(transaction, &verdicts) {
                return Ok(taken);
            }
            Err(match paused {
                Some(Cause { reason, advice }) => {
                    let status = first_status(&verdicts).unwrap_or(PAUSED);
                    later(status, &with_advice(reason, advice.as_ref()))
                }
                None => refusal(transaction, &verdicts, &judged),
            })
        }
    }
}

/// Upstream's acceptance, if it holds for every recipient.
fn taken_for_all(transaction: &Transaction<'_>, verdicts: &[(u32, Verdict)]) -> Option<Taken> {
    let verdict_on = |position| verdicts.iter().find(|(other, _)| *other == position);
    let mut taken = None;
    for recipient in &transaction.entry.recipients {
        match verdict_on(recipient.position)? {
            (_, Verdict::Relayed(found)) => taken = Some(found),
            _ => return None,
        }
    }
    taken.cloned()
}

/// The code for trouble on the way to the first MAIL.
fn status(trouble: &Trouble) -> EnhancedStatusCode {
    match trouble {
        Trouble::Refused { stage: Stage::Auth, .. } => CREDENTIALS,
        Trouble::Refused { reply, .. } => transient(reply).unwrap_or(PAUSED),
        Trouble::Broken { stage: Stage::Connect | Stage::Greeting, .. } => NO_ANSWER,
        _ => BROKEN,
    }
}

/// Upstream's code with class 4.
fn transient(reply: &Reply) -> Option<EnhancedStatusCode> {
    let EnhancedStatusCode(class, subject, detail) = reply.enhanced()?;
    (class != 2).then_some(EnhancedStatusCode(4, subject, detail))
}

fn first_status(verdicts: &[(u32, Verdict)]) -> Option<EnhancedStatusCode> {
    verdicts.iter().find_map(|(_, verdict)| match verdict {
        Verdict::Refused(_, reply) => transient(reply),
        _ => None,
    })
}

/// One reply for all that upstream has refused: permanent if it is so for any of them, as the
/// message would meet the same refusal again.
fn refusal(
    transaction: &Transaction<'_>,
    verdicts: &[(u32, Verdict)],
    judged: &[(u32, Judged)],
) -> Reply {
    let failed = |judged: &Judged| matches!(judged.outcome, Outcome::Failed { .. });
    let permanent = judged.iter().any(|(_, judged)| failed(judged));
    let concerned: Vec<_> =
        judged.iter().filter(|(_, judged)| failed(judged) == permanent).collect();
    let Some((position, first)) = concerned.first() else { return unreadable() };
    let refused = verdicts.iter().find_map(|(other, verdict)| match verdict {
        Verdict::Refused(stage, reply) if other == position => Some((*stage, reply)),
        _ => None,
    });

    let at_rcpt = matches!(refused, Some((Stage::Rcpt, _)));
    let mut texts = match at_rcpt {
        true => by_name(transaction, &concerned),
        false => vec![words(first).to_owned()],
    };
    let too_many = refused.and_then(|(stage, reply)| too_many(transaction, verdicts, stage, reply));
    let advice = too_many.or_else(|| first.advice.clone());
    texts.extend(advice.map(|advice| format!("what to do: {advice}")));
    if at_rcpt && transaction.entry.recipients.len() > judged.len() {
        texts.push("the other recipients have not got the message either".into());
    }

    let class = if permanent { 5 } else { 4 };
    let code = match refused.map(|(_, reply)| reply.code().value()) {
        _ if !permanent => 451,
        Some(code @ 550..=554) => code,
        _ => 554,
    };
    let enhanced = match refused.map(|(_, reply)| reply.enhanced()) {
        None => BROKEN,
        Some(Some(enhanced)) if enhanced.0 == class => enhanced,
        Some(_) => EnhancedStatusCode(class, 0, 0),
    };
    Reply::wrapped(code, enhanced, &texts)
}

fn words(judged: &Judged) -> &str {
    let (Outcome::Failed { reply } | Outcome::Deferred { reply, .. } | Outcome::Relayed { reply }) =
        &judged.outcome;
    reply
}

/// The refused recipients, a line each.
fn by_name(transaction: &Transaction<'_>, refused: &[&(u32, Judged)]) -> Vec<String> {
    let line = |(position, judged): &&(u32, Judged)| {
        let recipient = transaction.recipient(*position)?;
        Some(format!("<{}>: {}", recipient.forward_path, words(judged)))
    };
    let mut lines: Vec<_> = refused.iter().take(NAMED).filter_map(line).collect();
    if refused.len() > NAMED {
        lines.push(format!("and {} more", refused.len() - NAMED));
    }
    lines
}

/// What to do where upstream takes no more recipients; a queue would send the rest by itself.
fn too_many(
    transaction: &Transaction<'_>,
    verdicts: &[(u32, Verdict)],
    stage: Stage,
    reply: &Reply,
) -> Option<String> {
    let all = transaction.entry.recipients.len();
    let most = all.saturating_sub(verdicts.len());
    (judge(stage, reply).scope == Scope::Rest && most > 0).then(|| {
        format!(
            "upstream takes {most} recipients in one message and this one has {all}; send to fewer \
             at a time, or set listener.max_recipients to {most}, by which clients are told to"
        )
    })
}
