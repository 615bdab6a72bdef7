//! What can go wrong on the way to upstream's final reply.

use tokio::time::Instant;

use crate::{smtp::reply::Reply, telemetry::metrics::catalogue};

/// How far the dialogue with the smarthost had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Name look-up and TCP.
    Connect,
    /// The 220 line.
    Greeting,
    /// EHLO, before or after TLS.
    Ehlo,
    /// STARTTLS and its reply.
    StartTls,
    /// The TLS handshake.
    Tls,
    /// AUTH XOAUTH2.
    Auth,
    /// RSET between two transactions.
    Reset,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, up to 354.
    Data,
    /// The mail data itself, before the final dot is out.
    MailData,
    /// The final dot and its reply.
    EndOfData,
}

impl Stage {
    /// What we were doing, as a phrase after "during".
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Tls => "TLS handshake",
            Self::Auth => "AUTH XOAUTH2",
            Self::Reset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::MailData => "mail data",
            Self::EndOfData => "end of mail data",
        }
    }

    /// The label of its metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Reset => "rset",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::MailData => "mail_data",
            Self::EndOfData => "end_of_data",
        }
    }

    /// Those that a connection can come to nothing at.
    const ALL: &[Self] = &[
        Self::Connect,
        Self::Greeting,
        Self::Ehlo,
        Self::StartTls,
        Self::Tls,
        Self::Auth,
        Self::Reset,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::MailData,
        Self::EndOfData,
    ];

    /// Shows zero failures of each from now on, so that the first one is seen as a change.
    pub(super) fn know() {
        for stage in Self::ALL {
            catalogue::UPSTREAM_FAILURES.add(&[stage.name()], 0);
        }
    }

    /// Counts how long upstream took for it.
    pub(super) fn answered(self, begun: Instant) {
        catalogue::UPSTREAM_DURATION.took(&[self.name()], begun.elapsed());
    }

    /// Counts a connection that came to nothing here, or broke.
    pub(crate) fn failed(self) {
        catalogue::UPSTREAM_FAILURES.inc(&[self.name()]);
    }

    /// Whether no message has been named yet, so that none can be at fault.
    #[must_use]
    pub fn is_before_mail(self) -> bool {
        self < Self::Mail
    }
}

/// Why a stage was not passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Upstream said no.
    #[error("{reply} (in reply to {})", stage.label())]
    Refused {
        /// To what.
        stage: Stage,
        /// Its words.
        reply: Reply,
    },
    /// There was no reply that means anything.
    #[error("{cause}{}", during(*stage))]
    Broken {
        /// When.
        stage: Stage,
        /// What happened, and to what.
        cause: String,
    },
    /// Our own copy of the message could not be read now; another try may do better.
    #[error("the message could not be read from the queue: {cause}")]
    Unreadable {
        /// Why.
        cause: String,
    },
    /// Our own copy of the message is not what was accepted, and will not be.
    #[error("{cause}")]
    Damaged {
        /// Which message, where, and in what way.
        cause: String,
    },
}

/// A cause that could not connect says so itself.
fn during(stage: Stage) -> String {
    match stage {
        Stage::Connect => String::new(),
        _ => format!(" (during {})", stage.label()),
    }
}

impl Trouble {
    pub(super) fn broken(stage: Stage, cause: impl Into<String>) -> Self {
        Self::Broken { stage, cause: cause.into() }
    }

    /// Octets that are no reply. They are shown as a literal: a log or a terminal must not obey them.
    pub(super) fn no_reply(stage: Stage, octets: &[u8]) -> Self {
        let start = String::from_utf8_lossy(&octets[..octets.len().min(60)]);
        Self::broken(stage, format!("this is no SMTP reply: {start:?}"))
    }

    /// How far the dialogue had come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Refused { stage, .. } | Self::Broken { stage, .. } => *stage,
            Self::Unreadable { .. } | Self::Damaged { .. } => Stage::MailData,
        }
    }
}
