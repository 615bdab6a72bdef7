//! The access token as the rest of the relay holds it.

use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use super::claims::Claims;
use crate::clock::UnixMillis;

/// A token with less time than this left is not handed out: the SMTP dialogue has to get as far
/// as AUTH with it.
pub const LEAST_TIME_LEFT: Duration = Duration::from_secs(30);

/// An access token (RFC 6749 section 1.4). It is opaque, and neither printed nor written to disk.
pub struct AccessToken {
    secret: SecretString,
    obtained_at: UnixMillis,
    expires_at: UnixMillis,
}

impl AccessToken {
    /// A token that was obtained and expires at these times.
    #[must_use]
    pub fn new(secret: SecretString, obtained_at: UnixMillis, expires_at: UnixMillis) -> Self {
        Self { secret, obtained_at, expires_at }
    }

    /// The token itself, for the `auth=Bearer` part of XOAUTH2.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// When the answer with this token arrived. It also tells two tokens apart.
    #[must_use]
    pub fn obtained_at(&self) -> UnixMillis {
        self.obtained_at
    }

    /// When it stops being valid, counted from when it was asked for.
    #[must_use]
    pub fn expires_at(&self) -> UnixMillis {
        self.expires_at
    }

    /// The `oid` claim, for advice to people: the Object ID of the enterprise application, which
    /// `New-ServicePrincipal -ObjectId` needs. `None` for a token that is no readable JWT.
    #[must_use]
    pub fn object_id(&self) -> Option<String> {
        self.claims()?.oid
    }

    /// What is written in it, for diagnosis only: nothing verifies the signature. `None` for a
    /// token that is no readable JWT.
    #[must_use]
    pub fn claims(&self) -> Option<Claims> {
        Claims::read(self.secret())
    }

    /// Whether enough of its life is left at `now` to log in with it.
    #[must_use]
    pub fn is_usable(&self, now: UnixMillis) -> bool {
        self.expires_at.since(now) >= LEAST_TIME_LEFT
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL};

    use super::*;

    #[test]
    fn it_does_not_print_itself_and_knows_its_end() {
        let token = AccessToken::new("eyJ0".into(), UnixMillis(0), UnixMillis(60_000));
        assert_eq!(format!("{token:?}"), "AccessToken(..)");
        assert!(token.is_usable(UnixMillis(30_000)) && !token.is_usable(UnixMillis(30_001)));
        assert!(!token.is_usable(UnixMillis(90_000)));
    }

    #[test]
    fn it_tells_the_object_id_if_it_can() {
        let token = |payload: &str| {
            let jwt = format!("e30.{}.x", BASE64_URL.encode(payload));
            AccessToken::new(jwt.into(), UnixMillis(0), UnixMillis(0)).object_id()
        };
        assert_eq!(token("{\"oid\":\"11-aa\"}").as_deref(), Some("11-aa"));
        assert_eq!(token("{\"oid\":\"$(reboot)\"}"), None);
        assert_eq!(token("no json"), None);
    }
}
