//! The admin who signs in: device codes (RFC 8628) and the delegated tokens that come of them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{entra::TokenRefusal, random};
use crate::clock::UnixMillis;

/// Microsoft's public clients that a set-up may borrow; the first may ask for Graph.
pub(super) const GRAPH_COMMAND_LINE: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";

/// Codes that were handed out, and tokens of admins who have signed in.
#[derive(Default)]
pub(super) struct Admins {
    codes: Mutex<HashMap<String, Code>>,
    tokens: Mutex<HashMap<String, (Vec<String>, UnixMillis)>>,
}

struct Code {
    client_id: String,
    scopes: Vec<String>,
    expires: UnixMillis,
    interval: Duration,
    last_asked: Option<UnixMillis>,
    asked: u32,
}

impl Admins {
    /// Hands out a code for these scopes.
    pub fn begin(
        &self,
        client_id: &str,
        scope: &str,
        interval: Duration,
        now: UnixMillis,
    ) -> Result<Value, TokenRefusal> {
        if client_id != GRAPH_COMMAND_LINE {
            return Err(TokenRefusal::unknown_application(client_id, "the sandbox"));
        }
        let scopes: Result<Vec<String>, TokenRefusal> = scope
            .split(' ')
            .filter(|one| !["openid", "profile", "offline_access"].contains(one))
            .map(|one| match one.strip_prefix("https://graph.microsoft.com/") {
                Some(name) if DELEGATED.contains(&name) => Ok(name.to_owned()),
                _ => Err(TokenRefusal::scope_malformed(one)),
            })
            .collect();
        let device_code = random::unguessable::<32>();
        let user_code = random::hex(9).to_uppercase();
        let code = Code {
            client_id: client_id.to_owned(),
            scopes: scopes?,
            expires: now + CODE_LIFETIME,
            interval,
            last_asked: None,
            asked: 0,
        };
        lock(&self.codes).insert(device_code.clone(), code);
        let page = "https://microsoft.com/devicelogin";
        Ok(json!({
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": page,
            "expires_in": CODE_LIFETIME.as_secs(),
            "interval": interval.as_secs(),
            "message": format!(
                "To sign in, use a web browser to open the page {page} and enter the code \
                 {user_code} to authenticate."
            ),
        }))
    }

    /// Somebody asks whether the admin has signed in. The first time it is always too early.
    pub fn poll(
        &self,
        client_id: &str,
        device_code: &str,
        now: UnixMillis,
    ) -> Result<(SecretString, Vec<String>, Duration), TokenRefusal> {
        let mut codes = lock(&self.codes);
        let code = codes.get_mut(device_code).ok_or_else(bad_code)?;
        if code.client_id != client_id {
            return Err(bad_code());
        }
        if code.expires <= now {
            codes.remove(device_code);
            return Err(Self::expired());
        }
        // A little early is what clocks make of "on time".
        let early = code
            .last_asked
            .is_some_and(|last| now.since(last) + Duration::from_millis(50) < code.interval);
        code.last_asked = Some(now);
        if early {
            code.interval += Duration::from_secs(5);
            return Err(Self::slow_down());
        }
        code.asked += 1;
        if code.asked == 1 {
            return Err(Self::pending());
        }
        let scopes = code.scopes.clone();
        codes.remove(device_code);
        let token = random::unguessable::<96>();
        let until = now + TOKEN_LIFETIME;
        lock(&self.tokens).insert(token.clone(), (scopes.clone(), until));
        Ok((token.into(), scopes, TOKEN_LIFETIME))
    }

    /// What the holder of this token may do in Graph.
    pub fn scopes(&self, token: &str, now: UnixMillis) -> Option<Vec<String>> {
        let tokens = lock(&self.tokens);
        let (scopes, until) = tokens.get(token)?;
        (*until > now).then(|| scopes.clone())
    }

    pub fn pending() -> TokenRefusal {
        let text = "OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
        TokenRefusal::new("authorization_pending", 70_016, text)
    }

    pub fn slow_down() -> TokenRefusal {
        let text = "OAuth 2.0 device flow error. The client polls too often.";
        TokenRefusal::new("slow_down", 70_016, text)
    }

    pub fn expired() -> TokenRefusal {
        let text = "OAuth 2.0 device flow error. The device code has expired.";
        TokenRefusal::new("expired_token", 70_020, text)
    }

    pub fn declined() -> TokenRefusal {
        let text = "The user declined to sign in.";
        TokenRefusal::new("authorization_declined", 70_019, text)
    }

    /// Conditional access stands in the way of device codes.
    pub fn blocked() -> TokenRefusal {
        let text = "Access has been blocked by Conditional Access policies. The access policy \
                    does not allow token issuance.";
        TokenRefusal::new("invalid_grant", 53_003, text)
    }
}

fn bad_code() -> TokenRefusal {
    let text = "The device code is not known.";
    TokenRefusal::new("bad_verification_code", 70_018, text)
}

impl std::fmt::Debug for Admins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admins(..)")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Delegated permissions of Graph that a set-up may ask for.
const DELEGATED: [&str; 2] = ["Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All"];
const CODE_LIFETIME: Duration = Duration::from_secs(900);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_599);
