//! The SMTP server: accepts connections, keeps the limits, hands finished mail to an outlet: the
//! store, or upstream in direct mode.

mod accept;
mod address;
mod auth;
mod client;
mod connection;
mod incoming;
mod inherited;
mod inside;
mod limits;
mod outlet;
mod proxy;
mod rate;
mod serving;
mod shared;
mod socket;
mod stream;

pub use accept::{Listeners, Listening};
pub use address::{Address, NoAddress};
pub use auth::{Auth, HashError, UserSource, Users, UsersFault, hash_password};
pub use inherited::{Fitted, Inherited, InheritedError};
pub use inside::serve_inside;
pub use outlet::{Accepted, Evidence, Gone, HandOver, Outlet, Refusal};
pub use serving::Serving;
pub use socket::ListenerError;

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use crate::{
    smtp::{
        mail_data::BareLineFeed,
        path::{Address as MailAddress, SenderPattern},
        sender::SenderMap,
        session::Rules,
    },
    tls::server::ServerTls,
};

/// Whether and when TLS begins.
#[derive(Debug, Clone)]
pub enum Tls {
    /// Never.
    None,
    /// When the client asks for it.
    StartTls(ServerTls),
    /// At once, before the greeting.
    Implicit(ServerTls),
}

/// What one listener needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name in logs and status; no other listener has it.
    pub name: String,
    /// The section of its keys, for whoever is to set one: `listener`, or `listener.2` where there
    /// are several.
    pub keys: String,
    /// Addresses to listen on.
    pub addresses: Vec<Address>,
    /// The mode of a Unix socket's file.
    pub unix_mode: u32,
    /// Networks that may talk to us; everybody else gets 550 5.7.1. Clients of a Unix socket are
    /// not asked.
    pub allow: Vec<IpNet>,
    /// Networks of balancers, whose connections begin with a PROXY header.
    pub proxy_protocol: Vec<IpNet>,
    /// The reverse-path that each message gets, whatever the client says.
    pub sender: Option<MailAddress>,
    /// Our own name: greeting, EHLO reply and Received field.
    pub hostname: String,
    /// Completes an address without a domain (`<root>`); without it such addresses are refused.
    pub default_domain: Option<String>,
    /// The address for a missing From field when the reverse-path is null.
    pub fallback_from: String,
    /// Whether a missing From field is added.
    pub add_from: bool,
    /// Largest message, in octets of mail data (RFC 1870).
    pub max_message_size: u64,
    /// Most recipients in one mail transaction; more get 452 4.5.3.
    pub max_recipients: usize,
    /// Most connections at a time of this listener.
    pub max_connections: usize,
    /// Most connections at a time from one client address, over all listeners; programs of this
    /// host are counted at each listener on its own.
    pub max_connections_per_client: usize,
    /// How long we wait for the next command (RFC 5321 section 4.5.3.2.7: at least 5 minutes).
    pub command_timeout: Duration,
    /// How long we wait for the next block of mail data (section 4.5.3.2.5: 3 minutes).
    pub data_timeout: Duration,
    /// How long one session may last.
    pub session_timeout: Duration,
    /// Slowest mail data we put up with, in octets a second on average, once a message takes longer
    /// than `data_timeout`.
    pub min_data_rate: u64,
    /// Faults (unknown commands, wrong order, bad parameters) before 421 4.7.0 and close.
    pub max_faults: u32,
    /// What to do with a bare LF or CR in mail data.
    pub bare_line_feed: BareLineFeed,
    /// Which reverse-paths are taken; empty takes any. See [`SenderPattern`].
    pub sender_allow: Vec<SenderPattern>,
    /// How clients log in.
    pub auth: Auth,
    /// Whether they may do so where others can read along: without TLS, from another host.
    pub auth_without_tls: bool,
    /// Whether and when TLS begins. A Unix socket does without.
    pub tls: Tls,
    /// Whether mail and logins take TLS.
    pub tls_required: bool,
    /// Addresses that others take the place of, before that is looked at.
    pub sender_map: Arc<SenderMap>,
}

impl Config {
    /// Whether a program of this host can send with neither TLS nor a login.
    #[must_use]
    pub fn takes_mail_as_it_comes(&self) -> bool {
        let implicit = matches!(self.tls, Tls::Implicit(_));
        !implicit && !self.tls_required && !matches!(self.auth, Auth::Users(_))
    }

    /// What the session machine decides by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            hostname: self.hostname.clone(),
            max_message_size: self.max_message_size,
            max_recipients: self.max_recipients,
            default_domain: self.default_domain.clone(),
            sender: self.sender.clone(),
            sender_allow: self.sender_allow.clone(),
            sender_map: Arc::clone(&self.sender_map),
            max_faults: self.max_faults,
            bare_line_feed: self.bare_line_feed,
            login: self.auth.login(),
            auth_without_tls: self.auth_without_tls,
            starttls: matches!(self.tls, Tls::StartTls(_)),
            tls_required: self.tls_required,
        }
    }
}
