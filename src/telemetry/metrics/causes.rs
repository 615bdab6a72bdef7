//! The fixed sets that causes are told by, so that no label can grow with what others say.

use crate::smtp::reply::Reply;

/// A set of causes, as an enumeration whose values know their label and what they mean.
macro_rules! causes {
    ($(#[$about:meta])* $set:ident { $($(#[doc = $meaning:literal])+ $cause:ident = $label:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $set {
            $($(#[doc = $meaning])+ $cause,)*
        }

        impl $set {
            /// Labels and what they mean.
            pub const ALL: &[(&str, &str)] = &[$(($label, concat!($($meaning),+)),)*];

            /// The label's value.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$cause => $label,)*
                }
            }
        }
    };
}

causes! {
    /// Why a connection was not let in.
    NoEntry {
        /// its address is not in `listener.allow`
        NotAllowed = "not_allowed",
        /// `listener.max_connections` was reached
        MaxConnections = "max_connections",
        /// `listener.max_connections_per_client` was reached
        PerClient = "max_connections_per_client",
        /// a balancer sent no usable PROXY header
        ProxyHeader = "proxy_header",
    }
}

causes! {
    /// Why a session ended without QUIT.
    Cut {
        /// the client hung up between two messages
        Disconnected = "disconnected",
        /// the client hung up within a mail transaction
        Midway = "disconnected_midway",
        /// the connection broke
        Broken = "broken",
        /// no command came within `listener.command_timeout`
        CommandTimeout = "command_timeout",
        /// no mail data came within `listener.data_timeout`
        DataTimeout = "data_timeout",
        /// the session lasted longer than `listener.session_timeout`
        SessionTimeout = "session_timeout",
        /// the client did not take its replies within `listener.command_timeout`
        NotReading = "replies_not_taken",
        /// mail data came more slowly than `listener.min_data_rate`
        TooSlow = "too_slow",
        /// more faults than `listener.max_faults`
        Faults = "too_many_faults",
        /// too many failed logins
        Logins = "too_many_failed_logins",
        /// the client said what a session cannot go on after: octets behind STARTTLS, a chunk of unknown length
        Protocol = "protocol",
        /// the TLS handshake failed
        Handshake = "tls_handshake",
        /// a PROXY header came from a client that is no balancer
        ProxyHeader = "proxy_header",
        /// the relay is shutting down
        Shutdown = "shutdown",
    }
}

causes! {
    /// Why a client heard a reply of 400 or above.
    Refused {
        /// a command that is unknown, not offered, or wrong in its form
        Command = "command",
        /// a command out of order
        Order = "order",
        /// an address that is none, or has no domain
        Address = "address",
        /// the sender is not in `sender.allow`
        Sender = "sender",
        /// the client has to log in first, or its login was refused
        Login = "login",
        /// more recipients than `listener.max_recipients`
        Recipients = "recipients",
        /// larger than `listener.max_message_size`
        Size = "size",
        /// no room: the disk (`queue.min_free_bytes`) or `queue.max_messages`
        Storage = "storage",
        /// the queue cannot be written, or in direct mode the way upstream is not open
        NotNow = "not_now",
        /// a bare CR or LF in mail data
        LineEnd = "line_end",
        /// the mail goes in a loop
        Loop = "loop",
        /// a command line or a response of a login that is too long
        LineLength = "line_too_long",
        /// more faults than `listener.max_faults`
        Faults = "too_many_faults",
        /// too many failed logins
        Logins = "too_many_failed_logins",
        /// too slow or silent for too long; `sessions_cut_total` has the limit
        Timeout = "timeout",
        /// the relay is shutting down, or a PROXY header was where it must not be
        Closing = "closing",
        /// in direct mode, upstream's refusal for the time being
        Transient = "upstream_transient",
        /// in direct mode, upstream's refusal for good
        Permanent = "upstream_permanent",
    }
}

impl Refused {
    /// The cause behind a reply of our own. In direct mode a reply may also be upstream's, which
    /// can only be told by looking like none of ours.
    #[must_use]
    pub fn of(reply: &Reply) -> Self {
        let status = reply.enhanced().map(|status| (status.0, status.1, status.2));
        match (reply.code().value(), status) {
            (421, Some((4, 7, 0))) => Self::Faults,
            (421, Some((4, 4, 2))) => Self::Timeout,
            (421, _) => Self::Closing,
            (454 | 530 | 534 | 535 | 538, _) => Self::Login,
            (452, Some((4, 5, 3))) => Self::Recipients,
            (452, _) => Self::Storage,
            (552, Some((5, 3, 4))) => Self::Size,
            (503, _) | (554, Some((5, 5, 1))) => Self::Order,
            (554, Some((5, 4, 6))) => Self::Loop,
            (550, Some((5, 7, 1))) => Self::Sender,
            (550, Some((5, 6, 11))) => Self::LineEnd,
            (501 | 553, Some((5, 1, _))) | (553, _) => Self::Address,
            (500..=504 | 555, _) => Self::Command,
            (451, Some((4, 3 | 7, 0) | (4, 4, 0 | 1 | 2 | 5))) => Self::NotNow,
            (code, _) if code < 500 => Self::Transient,
            _ => Self::Permanent,
        }
    }
}

causes! {
    /// Why nothing could be stored.
    NotStored {
        /// less room on the disk than `queue.min_free_bytes`, or none
        DiskFull = "disk_full",
        /// `queue.max_messages` are queued
        QueueFull = "queue_full",
        /// a sync has failed, and only a restart helps
        Poisoned = "poisoned",
        /// anything else; the log says what
        Fault = "fault",
    }
}

causes! {
    /// Why a recipient is tried again.
    Deferred {
        /// Office 365 said no for the time being
        Transient = "transient",
        /// Office 365 takes no more recipients in this transaction; the next follows at once
        NextTransaction = "next_transaction",
        /// the connection broke within the message
        Connection = "connection",
        /// the connection broke after the final dot: nobody knows whether the message arrived
        Uncertain = "uncertain",
        /// a fault of o365-relay itself broke the attempt off; the log has it
        Fault = "fault",
    }
}

causes! {
    /// Why a recipient failed for good.
    Failed {
        /// Office 365 refused this recipient
        Recipient = "recipient",
        /// Office 365 refused the message
        Message = "message",
        /// the mailbox may not send as this sender
        Sender = "sender",
        /// `queue.give_up_after` has passed
        GaveUp = "gave_up",
    }
}

causes! {
    /// Why there is no new token.
    NoToken {
        /// the token endpoint was not reached, or did not answer in time
        Network = "network",
        /// the endpoint asks for patience, or has a fault of its own
        Endpoint = "endpoint",
        /// Entra ID, or the host of the managed identity, said no
        Refused = "refused",
        /// a secret, certificate or token file cannot be read
        File = "file",
        /// what the configuration says cannot be asked
        Settings = "settings",
    }
}

causes! {
    /// What a notice tells of.
    NoticeKind {
        /// recipients failed
        Failed = "failed",
        /// a message is late
        Delayed = "delayed",
        /// a message was relayed, and its sender had asked
        Relayed = "relayed",
        /// the client secret or certificate is going to end
        Credential = "credential",
    }
}
