//! Two secrets side by side: the old one until it ends, the new one from when Entra ID knows it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use oauth2::TokenUrl;
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

use super::{Endpoint, Proof};
use crate::token::{Credential, Fetched, SecretFault, SecretSource, TokenError, http::Http};

/// Remembers which of several secrets worked.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Its place in the list; the first, as long as none has worked.
    good: AtomicUsize,
    /// Its digest, by which another one is told; `None` as long as none has worked.
    digest: Mutex<Option<SecretDigest>>,
}

/// What tells two secrets apart and shows neither.
pub(in crate::token) type SecretDigest = [u8; 32];

fn digest_of(secret: &SecretString) -> Option<SecretDigest> {
    digest(&SHA256, secret.expose_secret().as_bytes()).as_ref().try_into().ok()
}

impl Endpoint {
    /// Asks with the secret that worked last, and with the others if that one is refused or
    /// cannot be read. Each is sent once at most. If none works, the trouble of the first of
    /// them is told, with a word on the others: it is the one that mail went out with.
    pub(super) async fn ask_with_one_of(
        &self,
        sources: &[SecretSource],
        url: &TokenUrl,
        http: &Http,
    ) -> Result<Fetched, TokenError> {
        let good = self.secrets.good.load(Ordering::Relaxed);
        let others = (0..sources.len()).filter(|place| *place != good);
        let mut failed: Vec<(String, TokenError)> = Vec::new();
        for place in std::iter::once(good).chain(others) {
            let Some(source) = sources.get(place) else { continue };
            let (digest, outcome) = match source.read().await {
                Ok(secret) => {
                    let digest = digest_of(&secret);
                    (digest, self.grant(url, http, Proof::Secret(secret)).await)
                }
                Err(error) => (None, Err(error)),
            };
            match outcome {
                Ok(fetched) => {
                    self.secrets.good.store(place, Ordering::Relaxed);
                    *self.secrets.digest.lock().unwrap_or_else(PoisonError::into_inner) = digest;
                    return Ok(fetched);
                }
                Err(error) if is_about_the_secret(&error) => failed.push((source.name(), error)),
                // Nothing that another secret could mend.
                Err(error) => return Err(error),
            }
        }
        Err(matters(failed, sources.len() > 1))
    }

    /// Which secret worked last; `None` as long as none has.
    pub(in crate::token) fn secret_in_use(&self) -> Option<SecretDigest> {
        *self.secrets.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token for another scope than that of mail, and the secret that it was asked for with:
    /// the one that worked last. What comes of it changes nothing for mail.
    pub(in crate::token) async fn with_secret_in_use(
        &self,
        scope: &str,
    ) -> Result<(SecretString, SecretString), TokenError> {
        let (url, http) = self.reach()?;
        let sources = match &self.config.credential {
            Credential::ClientSecret(sources) => sources.as_slice(),
            _ => &[],
        };
        let Some(source) = sources.get(self.secrets.good.load(Ordering::Relaxed)) else {
            return Err(TokenError::Secret { path: None, reason: SecretFault::Empty });
        };
        let secret = source.read().await?;
        let fetched = self.grant_for(scope, url, http, Proof::Secret(secret.clone())).await?;
        Ok((fetched.token, secret))
    }
}

fn is_about_the_secret(error: &TokenError) -> bool {
    match error {
        TokenError::Refused(refusal) => refusal.error == "invalid_client",
        error => matches!(error, TokenError::Secret { .. }),
    }
}

/// A refusal by Entra ID comes before a file that is not there (the old one may be gone by now).
fn matters(mut failed: Vec<(String, TokenError)>, several: bool) -> TokenError {
    let refused = |(_, error): &(String, TokenError)| error.refusal().is_some();
    let place = failed.iter().position(refused).unwrap_or_default();
    if place >= failed.len() {
        // A list without a secret, which the configuration does not let through.
        return TokenError::Secret { path: None, reason: SecretFault::Empty };
    }
    let (name, mut error) = failed.remove(place);
    if let (TokenError::Refused(refusal), true) = (&mut error, several) {
        refusal.sent = Some(name);
        refusal.others = failed
            .into_iter()
            .map(|(name, error)| match error {
                TokenError::Refused(other) => {
                    let code = other.codes.first().map(|code| format!(" (AADSTS{code})"));
                    format!("{name} refused as well{}", code.unwrap_or_default())
                }
                error => error.to_string(),
            })
            .collect();
    }
    error
}
