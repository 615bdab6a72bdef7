//! The events that an operator lives by, as types: each has one constant message and always the
//! same fields, and counts itself, so that log and metrics cannot drift apart. Mail data, AUTH lines
//! and tokens are in none of them.

use std::time::Duration;

use tracing::{error, info, warn};

use super::metrics::{
    catalogue,
    causes::{Cut, Deferred, Failed, NoEntry, NotStored, NoticeKind, Refused},
    lane, listener,
};
use crate::{
    mail::queue_id::QueueId,
    smtp::{
        path::{ForwardPath, ReversePath},
        reply::Reply,
    },
};

/// A message is durable and was answered with 250.
#[derive(Debug)]
pub struct MessageAccepted<'a> {
    /// Its queue id.
    pub id: QueueId,
    /// The listener that took it.
    pub listener: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// The name the client gave in EHLO.
    pub hello: &'a str,
    /// The name it logged in with, if it did.
    pub user: Option<&'a str>,
    /// Its reverse-path.
    pub reverse_path: &'a ReversePath,
    /// Its forward-paths.
    pub recipients: usize,
    /// Octets of mail data.
    pub size: u64,
    /// Its Message-ID.
    pub message_id: &'a str,
    /// From MAIL to the receipt.
    pub took: Duration,
}

impl MessageAccepted<'_> {
    /// Writes the log line and counts.
    pub fn emit(self) {
        let listener: &str = &listener(self.listener);
        catalogue::MESSAGES_ACCEPTED.inc(&[listener]);
        catalogue::ACCEPTED_BYTES.add(&[listener], self.size);
        catalogue::RECIPIENTS_ACCEPTED.add(&[listener], self.recipients as u64);
        catalogue::ACCEPT_DURATION.took(&[], self.took);
        info!(
            queue_id = %self.id,
            client = self.client,
            hello = self.hello,
            user = self.user,
            reverse_path = %self.reverse_path,
            recipients = self.recipients,
            size = self.size,
            message_id = self.message_id,
            took_ms = millis(self.took),
            "message accepted"
        );
    }
}

/// What an attempt came to for a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Upstream took the message.
    Relayed,
    /// It is tried again.
    Deferred(Deferred),
    /// It is not tried again.
    Failed(Failed),
}

impl Disposition {
    /// `relayed`, `deferred` or `failed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relayed => "relayed",
            Self::Deferred(_) => "deferred",
            Self::Failed(_) => "failed",
        }
    }
}

/// One recipient of one attempt.
#[derive(Debug)]
pub struct RecipientAttempted<'a> {
    /// The message's queue id.
    pub id: QueueId,
    /// The lane it waited in.
    pub lane: &'a str,
    /// Its reverse-path.
    pub reverse_path: &'a ReversePath,
    /// The recipient.
    pub forward_path: &'a ForwardPath,
    /// What became of it.
    pub disposition: Disposition,
    /// Which attempt this was, from 1.
    pub attempt: u32,
    /// Octets of mail data.
    pub size: u64,
    /// From arrival to now.
    pub delay: Duration,
    /// From the hand-over to delivery to the last reply.
    pub took: Duration,
    /// Upstream's words, or our own reason.
    pub reply: &'a str,
    /// When it is tried again (RFC 3339), if it is.
    pub next_attempt: Option<String>,
    /// The next step for the admin, if there is one.
    pub advice: Option<&'a str>,
}

impl RecipientAttempted<'_> {
    /// Writes the log line, where a failure is an error, whoever caused it, and counts.
    pub fn emit(self) {
        let lane: &str = &lane(self.lane);
        match self.disposition {
            Disposition::Relayed => {
                catalogue::RECIPIENTS_RELAYED.inc(&[lane]);
                catalogue::RELAY_DELAY.took(&[], self.delay);
            }
            Disposition::Deferred(cause) => {
                catalogue::RECIPIENTS_DEFERRED.inc(&[lane, cause.as_str()]);
            }
            Disposition::Failed(cause) => {
                catalogue::RECIPIENTS_FAILED.inc(&[lane, cause.as_str()]);
            }
        }
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    queue_id = %self.id,
                    lane = self.lane,
                    reverse_path = %self.reverse_path,
                    forward_path = %self.forward_path,
                    disposition = self.disposition.as_str(),
                    attempt = self.attempt,
                    size = self.size,
                    delay_ms = millis(self.delay),
                    took_ms = millis(self.took),
                    reply = self.reply,
                    next_attempt = self.next_attempt,
                    advice = self.advice,
                    "recipient attempted"
                )
            };
        }
        match self.disposition {
            Disposition::Relayed => line!(info),
            Disposition::Deferred(_) => line!(warn),
            Disposition::Failed(_) => line!(error),
        }
    }
}

/// A lane, all of them, or a sender has stopped for a fault that is not a message's.
#[derive(Debug)]
pub struct Paused<'a> {
    /// The lane, `all`, or the sender.
    pub lane: &'a str,
    /// The lane that it is counted under: never a sender.
    pub counted: &'a str,
    /// The kind of trouble, of a fixed set.
    pub kind: &'static str,
    /// What happened, in upstream's or the system's words.
    pub reason: &'a str,
    /// The next step for the admin, if there is one.
    pub advice: Option<&'a str>,
    /// How long until the next try.
    pub retry: Duration,
}

impl Paused<'_> {
    /// Writes the log line and counts.
    pub fn emit(self) {
        catalogue::PAUSES.inc(&[&lane(self.counted), self.kind]);
        error!(
            lane = self.lane,
            kind = self.kind,
            reason = self.reason,
            advice = self.advice,
            retry_seconds = self.retry.as_secs(),
            "delivery paused"
        );
    }
}

/// A pause is over.
#[derive(Debug)]
pub struct Resumed<'a> {
    /// The lane, or `all`.
    pub lane: &'a str,
    /// How long it lasted.
    pub lasted: Duration,
}

impl Resumed<'_> {
    /// Writes the log line.
    pub fn emit(self) {
        info!(lane = self.lane, paused_seconds = self.lasted.as_secs(), "delivery resumed");
    }
}

/// A connection was not let in.
#[derive(Debug)]
pub struct ConnectionRefused<'a> {
    /// The listener that it came to.
    pub listener: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// What it heard.
    pub reply: &'a Reply,
    /// Why.
    pub cause: NoEntry,
}

impl ConnectionRefused<'_> {
    /// Writes the log line and counts.
    pub fn emit(self) {
        let Self { client, reply, .. } = self;
        catalogue::CONNECTIONS_REFUSED.inc(&[&listener(self.listener), self.cause.as_str()]);
        warn!(client, listener = self.listener, %reply, "connection refused");
    }
}

/// A client heard that something is not to be. It is how an operator learns why a device cannot
/// send.
#[derive(Debug)]
pub struct ClientRefused<'a> {
    /// The listener that it came to.
    pub listener: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// The name the client gave in EHLO.
    pub hello: &'a str,
    /// What it heard: 400 or above.
    pub reply: &'a Reply,
    /// Why.
    pub cause: Refused,
}

impl ClientRefused<'_> {
    /// Writes the log line and counts.
    pub fn emit(self) {
        let Self { client, hello, reply, .. } = self;
        catalogue::CLIENT_REFUSALS.inc(&[&listener(self.listener), self.cause.as_str()]);
        info!(client, hello, %reply, "client refused");
    }
}

/// Counts a session that ended without QUIT; only a fine log tells of it.
pub fn session_cut(name: &str, cause: Cut) {
    catalogue::SESSIONS_CUT.inc(&[&listener(name), cause.as_str()]);
}

/// Counts mail that was refused because nothing can be stored; whoever knows why writes the line.
pub fn not_stored(cause: NotStored) {
    catalogue::STORE_REFUSALS.inc(&[cause.as_str()]);
}

/// A message waits for an operator to look at it.
#[derive(Debug)]
pub struct SetAside<'a> {
    /// Its queue id.
    pub id: QueueId,
    /// The lane it waited in.
    pub lane: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl SetAside<'_> {
    /// Writes the log line and counts.
    pub fn emit(self) {
        catalogue::MESSAGES_SET_ASIDE.inc(&[&lane(self.lane)]);
        error!(queue_id = %self.id, reason = self.reason, "message set aside");
    }
}

/// A panic: a fault of this program.
#[derive(Debug)]
pub struct Fault<'a> {
    /// What the panic says.
    pub fault: &'a str,
    /// File, line and column.
    pub place: &'a str,
    /// The thread's name.
    pub thread: &'a str,
}

impl Fault<'_> {
    /// Writes the log line and counts.
    pub fn emit(self) {
        let Self { fault, place, thread } = self;
        catalogue::PANICS.inc(&[]);
        error!(fault, place, thread, "fault of o365-relay itself, please report it");
    }
}

/// A notice of ours is in the queue.
pub fn notice_queued(kind: NoticeKind) {
    catalogue::NOTICES_QUEUED.inc(&[kind.as_str()]);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
