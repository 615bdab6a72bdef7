//! What all sessions of a listener use.

use std::sync::Arc;

use super::{
    Config, Tls,
    auth::{Authenticator, Workshop},
    client::Client,
    outlet::{Outlet, Refusal},
    proxy::HeaderFault,
};
use crate::{
    clock::Clock,
    smtp::{peer::Origin, reply::Reply, session::Rules},
    tls::server::ServerTls,
};

/// The settings, where finished mail goes, the clock, and who knows the users.
pub(super) struct Shared {
    pub config: Config,
    pub rules: Arc<Rules>,
    pub outlet: Arc<dyn Outlet>,
    pub clock: Clock,
    pub authenticator: Authenticator,
}

impl Shared {
    /// `hashing` is where passwords are looked at, which all listeners share.
    pub fn new(config: Config, outlet: Arc<dyn Outlet>, clock: Clock, hashing: Workshop) -> Self {
        let rules = Arc::new(config.rules());
        let authenticator = Authenticator::new(&config.auth, hashing);
        Self { config, rules, outlet, clock, authenticator }
    }

    /// The same with other settings: who has failed to log in stays known.
    pub fn with(&self, config: Config) -> Self {
        let rules = Arc::new(config.rules());
        let authenticator = self.authenticator.with(&config.auth);
        Self { config, rules, outlet: Arc::clone(&self.outlet), clock: self.clock, authenticator }
    }

    /// Why this client may not send, if it may not. Who reaches a Unix socket was let in by the
    /// permissions of its file.
    pub fn not_allowed(&self, client: Client) -> Option<Reply> {
        let address = client.address()?;
        if self.config.allow.iter().any(|network| network.contains(&address)) {
            return None;
        }
        let keys = &self.config.keys;
        let text = format!("{client} is not in {keys}.allow of this relay{}", self.by_name());
        Some(Reply::new(550, (5, 7, 1), text))
    }

    /// Whether a connection from `peer` has to begin with a PROXY header.
    pub fn is_balancer(&self, peer: Client) -> bool {
        let networks = &self.config.proxy_protocol;
        peer.address().is_some_and(|peer| networks.iter().any(|network| network.contains(&peer)))
    }

    /// What a client has to shake hands with before anything is said.
    pub fn implicit_tls(&self, client: Client) -> Option<&ServerTls> {
        match &self.config.tls {
            Tls::Implicit(tls) if client.origin() != Origin::Socket => Some(tls),
            _ => None,
        }
    }

    /// What a balancer hears without a header that we take. It is transient: the mail of whoever
    /// stands behind a balancer that is set up wrongly shall not be lost for it.
    pub fn no_header(&self, balancer: Client, fault: &HeaderFault) -> Reply {
        let keys = &self.config.keys;
        let text = format!("{fault} from {balancer}, which is in {keys}.proxy_protocol");
        Reply::new(421, (4, 3, 2), text)
    }

    /// What somebody hears who sends a header without being a balancer of ours.
    pub fn uninvited_header(&self, client: Client) -> Reply {
        let keys = &self.config.keys;
        let text = format!("PROXY header from {client}, which is not in {keys}.proxy_protocol");
        Reply::new(421, (4, 3, 2), text)
    }

    /// The listener's name for a reply, where there are several.
    fn by_name(&self) -> String {
        match self.config.keys.contains('.') {
            true => format!(" (listener {})", self.config.name),
            false => String::new(),
        }
    }

    /// Asked at MAIL: there may be no place for mail now.
    pub fn admission(&self) -> Option<Reply> {
        self.outlet.admission().err().map(Refusal::into_reply)
    }
}
