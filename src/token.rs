//! Access tokens (RFC 6749 section 4.4, client credentials grant), always fresh.

use std::{path::PathBuf, sync::Arc, time::Duration};

use secrecy::SecretString;

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
