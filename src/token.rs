//! Access tokens (RFC 6749 section 4.4, client credentials grant), always fresh.
//!
//! One task per credential asks for tokens and publishes them; delivery and the status pages
//! read through a [`TokenHandle`]. A failure keeps the old token, which stays good until it
//! expires, and says what to do in [`TokenState::last_error`].

mod access;
mod answer;
mod assertion;
mod certificate;
mod claims;
mod endpoint;
mod error;
mod events;
mod expiry;
mod file;
mod handle;
mod http;
mod identity;
mod refresher;
mod registration;
mod schedule;
mod secret;
#[cfg(test)]
pub(crate) mod test_pair;
mod text;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::endpoint::fuzzing;
pub use self::{
    access::{AccessToken, LEAST_TIME_LEFT},
    certificate::{Algorithm, CertificateFiles},
    claims::{Claims, FederatedClaims},
    error::{FileFault, FileKind, Refusal, SecretFault, Stage, TokenError},
    events::RENEW,
    expiry::Expiry,
    handle::{FailedRefresh, TokenHandle, TokenState},
    identity::{IdentityHost, ManagedIdentity},
};
use crate::{
    clock::{Clock, UnixMillis},
    drain::Drain,
};

/// Starts the token task for one credential; it ends with the drain.
#[must_use]
pub fn spawn(config: Config, clock: Clock, drain: &Drain) -> TokenHandle {
    let events = events::Events::new(&config);
    let (handle, shared) = TokenHandle::new(clock);
    let graph = config.graph.clone();
    let endpoint = Arc::new(endpoint::Endpoint::new(config, clock));
    if let Some(graph) = graph {
        let (endpoint, token, shared) =
            (Arc::clone(&endpoint), handle.clone(), Arc::clone(&shared));
        drain.spawn(registration::watch(endpoint, graph, token, shared, clock, drain.clone()));
    }
    let task = refresher::Refresher::new(endpoint, clock, shared, events);
    drain.spawn(drain.vital("token", task.run(drain.clone())));
    handle
}

/// Asks once and starts no task: for commands that check the set-up.
///
/// # Errors
/// [`TokenError`] when no token could be had; its [`TokenError::advice`] says what to do.
pub async fn fetch(config: Config, clock: Clock) -> Result<AccessToken, TokenError> {
    fetch_from(&endpoint::Endpoint::new(config, clock), clock).await
}

/// As [`fetch`], and besides when the client secret ends, if Microsoft Graph is to be asked
/// ([`Config::graph`]) and tells.
///
/// # Errors
/// As [`fetch`]; a Graph that does not tell is none.
pub async fn examine(
    config: Config,
    clock: Clock,
) -> Result<(AccessToken, Option<Expiry>), TokenError> {
    let graph = config.graph.clone();
    let endpoint = endpoint::Endpoint::new(config, clock);
    let token = fetch_from(&endpoint, clock).await?;
    let expiry = match graph {
        Some(graph) => registration::ask(&endpoint, &graph, clock).await.ok().flatten(),
        None => None,
    };
    Ok((token, expiry))
}

async fn fetch_from(
    endpoint: &endpoint::Endpoint,
    clock: Clock,
) -> Result<AccessToken, TokenError> {
    let asked_at = clock.now();
    let fetched = endpoint.fetch().await?;
    Ok(AccessToken::new(fetched.token, clock.now(), asked_at + fetched.lifetime))
}

/// Where tokens come from.
trait Source: Send + Sync + 'static {
    /// Asks once. It ends by itself within the time limit of a request.
    fn fetch(&self) -> impl Future<Output = Result<Fetched, TokenError>> + Send;

    /// When the credential ends, as far as that is known by now.
    fn expiry(&self) -> Option<Expiry> {
        None
    }
}

/// What a source brought.
#[derive(Debug)]
struct Fetched {
    token: SecretString,
    lifetime: Duration,
    /// When the issuer would like to be asked again.
    refresh_in: Option<Duration>,
}

/// Microsoft Graph of a cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// `https://` and a host, no slash at the end.
    pub url: String,
    /// What a token for it is asked for.
    pub scope: String,
}

/// What a token task needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The account that the tokens are for, where there are several; empty where there is one only.
    pub account: String,
    /// The token endpoint, `{login_url}/{tenant}/oauth2/v2.0/token`. A managed identity does not
    /// use it.
    pub token_url: String,
    /// The tenant as configured: directory id or a verified domain. It may be empty with a
    /// managed identity, which knows its own.
    pub tenant_id: String,
    /// The application (client) id. It may be empty with a managed identity.
    pub client_id: String,
    /// One resource and `/.default`.
    pub scope: String,
    /// How the application proves itself.
    pub credential: Credential,
    /// When the client secret ends, where somebody has said so; a certificate tells itself.
    pub client_secret_expires: Option<UnixMillis>,
    /// Where to ask when the client secret ends; `None` for nowhere.
    pub graph: Option<Graph>,
    /// Longest time for one token request, from connect to the last octet.
    pub request_timeout: Duration,
    /// Trusted roots for the token endpoint.
    pub tls: Arc<rustls::ClientConfig>,
}

/// How the application proves itself to the token endpoint. Files are read again for each
/// request, so that a rotation needs no restart.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `client_secret` (RFC 6749 section 2.3.1). More than one while a new secret takes over
    /// from an old one: they are tried in this order, the one that worked last first.
    ClientSecret(Vec<SecretSource>),
    /// A JWT signed with the key of a certificate (RFC 7523 section 2.2).
    Certificate(CertificateFiles),
    /// A JWT of another issuer that Entra ID trusts, in a file that somebody else keeps fresh:
    /// workload identity.
    FederatedToken(PathBuf),
    /// Whoever runs this host vouches for it: no token endpoint, no credential of ours.
    ManagedIdentity(ManagedIdentity),
}

impl Credential {
    /// Looks whether its files can be used as they are now; secrets are not looked into. Blocks.
    ///
    /// # Errors
    /// [`TokenError::File`] with what is wrong.
    pub fn examine(&self) -> Result<(), TokenError> {
        match self {
            Self::ClientSecret(_) | Self::ManagedIdentity(_) => Ok(()),
            Self::Certificate(files) => files.examine().map(drop),
            Self::FederatedToken(path) => endpoint::read_federated_token(path).map(drop),
        }
    }

    /// When it ends, as far as its files tell. Blocks.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        match self {
            Self::Certificate(files) => files.examine().ok(),
            _ => None,
        }
    }

    /// The certificate's SHA-1 in hexadecimal digits, by which certificates are told apart.
    /// Blocks.
    #[must_use]
    pub fn thumbprint(&self) -> Option<String> {
        let Self::Certificate(files) = self else { return None };
        Some(assertion::sha1_in_hex(&files.read().ok()?))
    }

    /// What the platform's token says of itself, where that is the credential. Blocks.
    #[must_use]
    pub fn federated_claims(&self) -> Option<FederatedClaims> {
        let Self::FederatedToken(path) = self else { return None };
        FederatedClaims::read(endpoint::read_federated_token(path).ok()?.expose_secret())
    }

    /// Its kind in a few words, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ClientSecret(_) => "client secret",
            Self::Certificate(_) => "certificate",
            Self::FederatedToken(_) => "federated token file",
            Self::ManagedIdentity(_) => "managed identity",
        }
    }
}

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// Given in the configuration or the environment.
    Value(SecretString),
    /// Read from a file; one trailing line end is not part of it.
    File(PathBuf),
}
