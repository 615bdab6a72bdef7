//! What the sandbox tells about itself.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::Arrival;

/// What happens in the sandbox. No event holds a secret, a token or mail data that was not asked
/// for.
#[derive(Debug, Clone)]
pub enum Event {
    /// A client got an access token.
    TokenIssued {
        /// The application.
        client_id: String,
        /// How long the token is good.
        expires_in: Duration,
    },
    /// A token request was refused.
    TokenRefused {
        /// The `error` member of the answer.
        error: String,
        /// The AADSTS number; 0 where a managed identity was refused.
        code: u32,
        /// What was wrong, as the client heard it.
        description: String,
    },
    /// An admin has signed in with a device code.
    SignedIn {
        /// What the admin's token is good for.
        scope: String,
    },
    /// Graph was asked.
    Graph {
        /// Method and path.
        request: String,
        /// The HTTP status.
        status: u16,
    },
    /// An admin ran a script in Exchange.
    Exchange {
        /// How it went.
        outcome: String,
    },
    /// A fault that was set has struck. What the client saw of it follows, if it saw a refusal.
    FaultStruck {
        /// Its name.
        name: &'static str,
        /// Where it struck.
        stage: &'static str,
        /// How many times it has struck by now.
        count: u32,
    },
    /// An SMTP client has begun TLS.
    Connected {
        /// Where it comes from.
        peer: SocketAddr,
        /// Whether TLS protects the connection.
        secured: bool,
    },
    /// An SMTP client has logged in.
    Authenticated {
        /// The mailbox.
        mailbox: String,
    },
    /// An SMTP client did something that was refused, or broke off.
    Refused {
        /// The verb or stage; never its data.
        command: String,
        /// The reply it got, or what happened instead of one.
        reply: String,
    },
    /// A message was accepted.
    Arrived {
        /// The message.
        arrival: Arc<Arrival>,
        /// The reply to its final dot.
        reply: String,
    },
}
