//! Two secrets side by side: the old one until it ends, the new one from when Entra ID knows it.

use std::sync::atomic::{AtomicUsize, Ordering};

use oauth2::TokenUrl;

use super::{Endpoint, Proof};
use crate::token::{Fetched, SecretFault, SecretSource, TokenError, http::Http};

/// Remembers which of several secrets worked.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Its place in the list; the first, as long as none has worked.
    good: AtomicUsize,
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
            let outcome = match source.read().await {
                Ok(secret) => self.grant(url, http, Proof::Secret(secret)).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(fetched) => {
                    self.secrets.good.store(place, Ordering::Relaxed);
                    return Ok(fetched);
                }
                Err(error) if is_about_the_secret(&error) => failed.push((source.name(), error)),
                // Nothing that another secret could mend.
                Err(error) => return Err(error),
            }
        }
        Err(matters(failed, sources.len() > 1))
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
