//! What the fake tenant looks like.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use secrecy::SecretString;

use super::{ExchangeAdmin, Fault, IdentityHost, random};

/// What the fake tenant looks like.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the token endpoint listens; port 0 takes any free port.
    pub login_address: SocketAddr,
    /// Where the submission service listens; port 0 takes any free port.
    pub smtp_address: SocketAddr,
    /// Where the control endpoint listens, with plain HTTP and for everybody who can reach it;
    /// `None` for not at all.
    pub control_address: Option<SocketAddr>,
    /// Which host's endpoint for managed identities is played, and where it listens, with plain
    /// HTTP; `None` for none.
    pub identity: Option<(IdentityHost, SocketAddr)>,
    /// The client id of the user-assigned identity of that host; `None` if the host has a
    /// system-assigned one.
    pub identity_client_id: Option<String>,
    /// Directory (tenant) id.
    pub tenant_id: String,
    /// The tenant's domain, which does as well as its id.
    pub tenant_domain: String,
    /// Application (client) id of the one registered application.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// Whether applications have the Graph permission `Application.Read.All`, with which they may
    /// read their own registration.
    pub application_reads: bool,
    /// The Object ID that Exchange was told in `New-ServicePrincipal`; `None` for the right one. With
    /// another, no token opens a mailbox.
    pub object_id_in_exchange: Option<String>,
    /// The mailboxes it may log in to; upper and lower case are the same.
    pub mailboxes: Vec<String>,
    /// The addresses it may send as.
    pub send_as: SendAs,
    /// How long an access token is good.
    pub token_lifetime: Duration,
    /// Connections of one mailbox that may submit at a time; `None` for any number.
    pub max_connections: Option<usize>,
    /// Recipients of one message.
    pub max_recipients: usize,
    /// Octets of one message.
    pub max_message_size: u64,
    /// A directory that each accepted message is written to.
    pub save_to: Option<PathBuf>,
    /// Whether an [`Arrival`](super::Arrival) carries its mail data.
    pub keep_mail_data: bool,
    /// Who tells Exchange about applications that are registered while it runs.
    pub exchange: ExchangeAdmin,
    /// How long to wait between two questions whether the admin has signed in; whole seconds.
    pub device_interval: Duration,
    /// What goes wrong from the start.
    pub faults: Vec<Fault>,
    /// What decides when faults strike that do so by chance: the same seed, the same order.
    pub fault_seed: u64,
}

/// Which addresses may stand in From and MAIL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SendAs {
    /// All.
    #[default]
    Anyone,
    /// That of the mailbox which is logged in to.
    OnlyMailbox,
    /// That of the mailbox, and these.
    Listed(Vec<String>),
}

impl Default for Config {
    /// A tenant with one application and one mailbox on loopback, with a new random secret.
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            login_address: loopback,
            smtp_address: loopback,
            control_address: None,
            identity: None,
            identity_client_id: None,
            tenant_id: "5a4db0c5-0f5e-4b0e-9d36-7e1c2b8a9f10".into(),
            tenant_domain: "sandbox.example".into(),
            client_id: "c1e47a52-6d3b-4f89-8a2e-0b9d5f7c3e61".into(),
            client_secret: random::client_secret().into(),
            application_reads: false,
            object_id_in_exchange: None,
            mailboxes: vec!["relay@sandbox.example".into()],
            send_as: SendAs::default(),
            token_lifetime: Duration::from_secs(3_599),
            max_connections: Some(3),
            max_recipients: 500,
            max_message_size: 157_286_400,
            save_to: None,
            keep_mail_data: false,
            exchange: ExchangeAdmin::default(),
            device_interval: Duration::from_secs(1),
            faults: Vec::new(),
            fault_seed: 0,
        }
    }
}
