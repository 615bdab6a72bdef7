//! Access tokens (RFC 6749 section 4.4, client credentials grant), always fresh.
//!
//! One task per credential asks for tokens and publishes them; delivery and the status pages
//! read through a [`TokenHandle`]. A failure keeps the old token, which stays good until it
//! expires, and says what to do in [`TokenState::last_error`].

mod access;
mod answer;
mod endpoint;
mod error;
mod events;
mod handle;
mod http;
mod refresher;
mod schedule;
mod secret;
mod text;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;

pub use self::{
    access::{AccessToken, LEAST_TIME_LEFT},
    error::{Refusal, SecretFault, Stage, TokenError},
    handle::{FailedRefresh, TokenHandle, TokenState},
};
use crate::{clock::Clock, drain::Drain};

/// Starts the token task for one credential; it ends with the drain.
#[must_use]
pub fn spawn(config: Config, clock: Clock, drain: &Drain) -> TokenHandle {
    let events = events::Events::new(&config);
    let (handle, shared) = TokenHandle::new(clock);
    let endpoint = endpoint::Endpoint::new(config, clock);
    let task = refresher::Refresher::new(endpoint, clock, shared, events);
    drain.spawn(task.run(drain.clone()));
    handle
}

/// Asks once and starts no task: for commands that check the set-up.
///
/// # Errors
/// [`TokenError`] when no token could be had; its [`TokenError::advice`] says what to do.
pub async fn fetch(config: Config, clock: Clock) -> Result<AccessToken, TokenError> {
    let asked_at = clock.now();
    let fetched = endpoint::Endpoint::new(config, clock).fetch().await?;
    Ok(AccessToken::new(fetched.token, clock.now(), asked_at + fetched.lifetime))
}

/// Where tokens come from.
trait Source: Send + Sync + 'static {
    /// Asks once. It ends by itself within the time limit of a request.
    fn fetch(&self) -> impl Future<Output = Result<Fetched, TokenError>> + Send;
}

/// What a source brought.
#[derive(Debug)]
struct Fetched {
    token: SecretString,
    lifetime: Duration,
    /// When the issuer would like to be asked again.
    refresh_in: Option<Duration>,
}

/// What a token task needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The token endpoint, `{login_url}/{tenant}/oauth2/v2.0/token`.
    pub token_url: String,
    /// The tenant as configured: directory id or a verified domain.
    pub tenant_id: String,
    /// The application (client) id.
    pub client_id: String,
    /// One resource and `/.default`.
    pub scope: String,
    /// How the application proves itself.
    pub credential: Credential,
    /// Longest time for one token request, from connect to the last octet.
    pub request_timeout: Duration,
    /// Trusted roots for the token endpoint.
    pub tls: Arc<rustls::ClientConfig>,
}

/// How the application proves itself to the token endpoint.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `client_secret` (RFC 6749 section 2.3.1).
    ClientSecret(SecretSource),
}

/// Where a secret comes from. Files are read again for each request, so that a rotation needs
/// no restart.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// Given in the configuration or the environment.
    Value(SecretString),
    /// Read from a file; one trailing line end is not part of it.
    File(PathBuf),
}
