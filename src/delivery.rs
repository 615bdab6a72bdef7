//! The SMTP client: hands a queued message to the smarthost and says what became of each
//! recipient.
//!
//! | Module | What it does |
//! |---|---|
//! | [`judge`] | says who is hurt by a refusal; pure |
//! | [`trouble`] | what can go wrong on the way, and at which stage |
//! | `connect` | TCP, STARTTLS and the TLS handshake, by hand |
//! | `wire` | the stream that lettre drives: deadlines, transcript, poison |
//! | `link` | one connection, command by command |
//! | [`smarthost`] | a connection's life: log in, transactions, close |

use std::{sync::Arc, time::Duration};

mod connect;
pub mod judge;
mod link;
pub mod smarthost;
pub mod trouble;
mod wire;

pub use connect::greet;

/// What delivery needs to know about the smarthost; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The smarthost's DNS name; its certificate must match it.
    pub host: String,
    /// Submission port, 587.
    pub port: u16,
    /// The name we give in EHLO (RFC 5321 section 4.1.1.1).
    pub ehlo_name: String,
    /// What becomes of a null reverse-path.
    pub null_sender: NullSender,
    /// Messages sent over one connection before it is closed.
    pub max_messages_per_connection: u32,
    /// How long a connection may wait for the next message.
    pub idle_close: Duration,
    /// Trusted roots for the smarthost.
    pub tls: Arc<rustls::ClientConfig>,
}

/// What becomes of a null reverse-path on its way upstream: Exchange Online is not known to
/// accept one on submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NullSender {
    /// The mailbox takes its place.
    Mailbox,
    /// It goes upstream as it is.
    Pass,
}
