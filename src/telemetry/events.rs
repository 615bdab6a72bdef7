//! The events that an operator lives by, as types: each has one constant message and always the
//! same fields. Mail data, AUTH lines and tokens are in none of them.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::{
    mail::queue_id::QueueId,
    smtp::path::{ForwardPath, ReversePath},
};

/// A message is durable and was answered with 250.
#[derive(Debug)]
pub struct MessageAccepted<'a> {
    /// Its queue id.
    pub id: QueueId,
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
    /// Writes the log line.
    pub fn emit(self) {
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
    /// `relayed`, `deferred` or `failed`.
    pub disposition: &'static str,
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
    /// Writes the log line: a failure is an error, whoever caused it.
    pub fn emit(self) {
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    queue_id = %self.id,
                    lane = self.lane,
                    reverse_path = %self.reverse_path,
                    forward_path = %self.forward_path,
                    disposition = self.disposition,
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
            "relayed" => line!(info),
            "deferred" => line!(warn),
            _ => line!(error),
        }
    }
}

/// A lane, or all of them, has stopped for a fault that is not a message's.
#[derive(Debug)]
pub struct Paused<'a> {
    /// The lane, or `all`.
    pub lane: &'a str,
    /// What happened, in upstream's or the system's words.
    pub reason: &'a str,
    /// The next step for the admin, if there is one.
    pub advice: Option<&'a str>,
    /// How long until the next try.
    pub retry: Duration,
}

impl Paused<'_> {
    /// Writes the log line.
    pub fn emit(self) {
        error!(
            lane = self.lane,
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
