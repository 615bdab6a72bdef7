//! What goes into the store and what comes out of it.

use crate::{
    clock::UnixMillis,
    mail::queue_id::QueueId,
    smtp::{
        envelope::{Envelope, MailParameters, RcptParameters, Recipient},
        path::{ForwardPath, ReversePath},
    },
};

/// A message as it arrived, beside its octets.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who gets it and who hears of its failure.
    pub envelope: Envelope,
    /// When its final dot came.
    pub time: UnixMillis,
    /// The client's address, for people.
    pub client: String,
    /// The name the client gave in EHLO, for people.
    pub hello: String,
    /// The Message-ID in force.
    pub message_id: String,
}

/// A queued message with those of its recipients whose attempt is due.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its queue id.
    pub id: QueueId,
    /// When it arrived.
    pub arrival: UnixMillis,
    /// Its reverse-path.
    pub reverse_path: ReversePath,
    /// What travels with MAIL.
    pub parameters: MailParameters,
    /// Octets of mail data.
    pub size: u64,
    /// The Message-ID in force.
    pub message_id: String,
    /// Whether it is a notice of ours; nobody is told what becomes of those.
    pub is_notice: bool,
    /// Whether its sender has heard that it is delayed.
    pub delay_told: bool,
    /// Who has still to get it, and may now.
    pub recipients: Vec<PendingRecipient>,
    pub(super) sequence: i64,
}

impl Entry {
    /// A message that passes through without being queued.
    #[must_use]
    pub fn passing(id: QueueId, size: u64, arrival: Arrival) -> Self {
        let Arrival { envelope, time, message_id, .. } = arrival;
        let recipients = (0..).zip(envelope.recipients).map(|(position, recipient)| {
            let Recipient { forward_path, parameters } = recipient;
            PendingRecipient { position, forward_path, parameters, attempts: 0 }
        });
        Self {
            id,
            arrival: time,
            reverse_path: envelope.reverse_path,
            parameters: envelope.parameters,
            size,
            message_id,
            is_notice: false,
            delay_told: false,
            recipients: recipients.collect(),
            sequence: 0,
        }
    }
}

/// A recipient that is not settled.
#[derive(Debug, Clone)]
pub struct PendingRecipient {
    /// Its place in the envelope.
    pub position: u32,
    /// Its address.
    pub forward_path: ForwardPath,
    /// What travels with RCPT.
    pub parameters: RcptParameters,
    /// Attempts that counted.
    pub attempts: u32,
}

/// What became of some recipients of one message.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Which message.
    pub id: QueueId,
    /// What became of each recipient that was attempted.
    pub outcomes: Vec<Concluded>,
    /// Notices about it, which become durable with the outcomes.
    pub notices: Vec<NewNotice>,
}

/// The end of an attempt for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concluded {
    /// The recipient's place in the envelope.
    pub position: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// The next step for the admin, if there is one.
    pub advice: Option<String>,
}

/// A notice of ours on its way into the queue.
#[derive(Debug, Clone)]
pub struct NewNotice {
    /// Its queue id.
    pub id: QueueId,
    /// Its mail data.
    pub mail_data: Vec<u8>,
    /// Its envelope and the rest.
    pub arrival: Arrival,
    /// Whether it tells of a delay, which is told once.
    pub tells_delay: bool,
}

/// A notice of ours about something that ends, which is told once for each mark that is passed,
/// whatever restarts lie between.
#[derive(Debug, Clone)]
pub struct Reminder {
    /// What ends: one thing has one name.
    pub subject: String,
    /// When. With another end all marks count anew.
    pub ends: UnixMillis,
    /// How many marks have been passed, from 1.
    pub mark: u32,
    /// The lane that the notice goes through.
    pub lane: String,
    /// What is told.
    pub notice: NewNotice,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Upstream took it.
    Relayed {
        /// Upstream's words.
        reply: String,
    },
    /// It will never be taken.
    Failed {
        /// Upstream's words, or our own reason.
        reply: String,
    },
    /// It will be tried again; this attempt counts.
    Deferred {
        /// Upstream's words, or our own reason.
        reply: String,
        /// When.
        next_attempt: UnixMillis,
    },
}

/// What is queued.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// By lane; a lane without messages is absent.
    pub lanes: Vec<LaneSummary>,
}

/// What is queued in one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSummary {
    /// The lane's name.
    pub lane: String,
    /// Messages, held ones included.
    pub messages: u64,
    /// Messages set aside for an operator.
    pub held: u64,
    /// Octets of mail data.
    pub octets: u64,
    /// Arrival of the oldest.
    pub oldest: UnixMillis,
    /// Arrival of the oldest that is not set aside.
    pub oldest_waiting: Option<UnixMillis>,
}

/// How much more mail the store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Messages above which none is taken.
    pub max_messages: u64,
    /// Free octets on the disk, if they can be measured.
    pub free: Option<u64>,
    /// Free octets below which no mail is taken.
    pub wanted: u64,
}

/// A settled recipient, from the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// When.
    pub time: UnixMillis,
    /// The message.
    pub id: String,
    /// The recipient's place in the envelope.
    pub position: u32,
    /// When the message arrived.
    pub arrival: UnixMillis,
    /// The client's address.
    pub client: String,
    /// Its reverse-path; empty for the null reverse-path.
    pub reverse_path: String,
    /// The recipient.
    pub forward_path: String,
    /// `relayed` or `failed` (RFC 3464 section 2.3.3), or `removed` by an operator.
    pub disposition: String,
    /// Attempts, the last one included.
    pub attempts: u32,
    /// Upstream's words, or our own reason.
    pub reply: String,
    /// The next step for the admin, if there was one.
    pub advice: Option<String>,
    /// Octets of mail data.
    pub size: u64,
    /// Its Message-ID.
    pub message_id: String,
}
