//! Access tokens of the form that Entra issues for Exchange: a v1.0 JWT whose claims can be read
//! for diagnosis. The signature is random; a token counts because it is remembered here.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

use super::{entra::TokenRefusal, random};
use crate::clock::UnixMillis;

/// What a token may be issued for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// Office 365 Exchange Online.
    Exchange,
    /// Microsoft Graph; its tokens open no mailbox.
    Graph,
}

impl Resource {
    /// The resource that goes by this application ID URI.
    pub fn named(uri: &str) -> Option<Self> {
        match uri {
            "https://outlook.office365.com" | "https://outlook.office.com" => Some(Self::Exchange),
            "https://graph.microsoft.com" => Some(Self::Graph),
            _ => None,
        }
    }

    /// The resource that `scope` asks for, with its URI.
    pub fn of_scope<'s>(scope: &'s str, tenant: &str) -> Result<(&'s str, Self), TokenRefusal> {
        let mut scopes = scope.split(' ');
        let (Some(only), None) = (scopes.next(), scopes.next()) else {
            let all_sound = scope.split(' ').all(|one| one.ends_with(DEFAULT) && one != DEFAULT);
            return Err(match all_sound {
                true => TokenRefusal::several_resources(scope),
                false => TokenRefusal::scope_malformed(scope),
            });
        };
        let resource = match only.strip_suffix(DEFAULT) {
            Some(resource) => resource,
            None if only.contains("://") => return Err(TokenRefusal::scope_without_default(only)),
            None => return Err(TokenRefusal::scope_malformed(only)),
        };
        match Self::named(resource) {
            Some(known) => Ok((resource, known)),
            None if resource.starts_with("https://") || resource.starts_with("api://") => {
                Err(TokenRefusal::unknown_resource(resource, tenant))
            }
            None => Err(TokenRefusal::scope_malformed(only)),
        }
    }
}

/// Who asks for a token, and for what.
pub(super) struct Request<'r> {
    pub tenant_id: &'r str,
    pub client_id: &'r str,
    /// Object id of the service principal.
    pub object_id: &'r str,
    pub audience: &'r str,
    pub resource: Resource,
    pub lifetime: Duration,
    /// Whether it carries the role `SMTP.SendAsApp`.
    pub consented: bool,
    /// Whether it carries Graph's role `Application.Read.All`.
    pub reads: bool,
    pub content: Content,
}

/// Whose a good token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub client_id: String,
    pub object_id: String,
    pub consented: bool,
}

/// What is written into a token besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// What belongs there.
    Usual,
    /// That it speaks for a user.
    Delegated,
    /// No application permission.
    NoRoles,
    /// Others than the one for SMTP.
    OtherRoles,
    /// Another resource.
    OtherAudience,
}

/// The tokens that were issued and have not expired.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Issued>>);

struct Issued {
    resource: Resource,
    content: Content,
    expires: UnixMillis,
    holder: Holder,
    reads: bool,
}

/// Why a token does not open a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenFault {
    /// Not issued here, or expired so long ago that it is forgotten.
    Unknown,
    /// Issued here and expired.
    Expired,
    /// Issued for something else than Exchange.
    OtherAudience,
    /// Issued for a user.
    Delegated,
}

impl Tokens {
    /// Makes a token and remembers it.
    pub fn issue(&self, request: &Request<'_>, now: UnixMillis) -> SecretString {
        let expires = now + request.lifetime;
        let token = format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(header().to_string()),
            URL_SAFE_NO_PAD.encode(claims(request, now, expires).to_string()),
            random::unguessable::<256>(), // as long as an RS256 signature
        );
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() == tokens.capacity() {
            tokens.retain(|_, issued| issued.expires > now);
        }
        let holder = Holder {
            client_id: request.client_id.to_owned(),
            object_id: request.object_id.to_owned(),
            consented: request.consented,
        };
        let Request { resource, content, reads, .. } = *request;
        tokens.insert(token.clone(), Issued { resource, content, expires, holder, reads });
        token.into()
    }

    /// Makes `token` one that has expired, if it was issued here.
    pub fn void(&self, token: &str, now: UnixMillis) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(issued) = tokens.get_mut(token) {
            issued.expires = now;
        }
    }

    /// The roles in `token`, if it was issued here for Graph and is good at `now`.
    pub fn check_graph(&self, token: &str, now: UnixMillis) -> Option<Vec<String>> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let issued = tokens.get(token)?;
        let is_good = issued.resource == Resource::Graph && issued.expires > now;
        is_good.then(|| if issued.reads { vec![READ_ALL.to_owned()] } else { Vec::new() })
    }

    /// Whose `token` is, if it was issued here for Exchange and is good at `now`.
    pub fn check(&self, token: &str, now: UnixMillis) -> Result<Holder, TokenFault> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let issued = tokens.get(token).ok_or(TokenFault::Unknown)?;
        if issued.expires <= now {
            return Err(TokenFault::Expired);
        }
        match (issued.resource, issued.content) {
            (Resource::Graph, _) | (_, Content::OtherAudience) => Err(TokenFault::OtherAudience),
            (_, Content::Delegated) => Err(TokenFault::Delegated),
            _ => Ok(issued.holder.clone()),
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// Graph's role with which an application may read app registrations, its own among them.
pub(super) const READ_ALL: &str = "Application.Read.All";

const DEFAULT: &str = "/.default";

fn header() -> serde_json::Value {
    let key = random::hex(27);
    serde_json::json!({ "typ": "JWT", "alg": "RS256", "x5t": key, "kid": key })
}

fn claims(request: &Request<'_>, now: UnixMillis, expires: UnixMillis) -> serde_json::Value {
    let issuer = format!("https://sts.windows.net/{}/", request.tenant_id);
    let mut claims = serde_json::json!({
        "aud": request.audience,
        "iss": issuer,
        "iat": now.0 / 1_000,
        "nbf": now.0 / 1_000,
        "exp": expires.0 / 1_000,
        "aio": random::hex(48),
        "app_displayname": "o365-relay sandbox",
        "appid": request.client_id,
        "appidacr": "1",
        "idp": issuer,
        "idtyp": "app",
        "oid": request.object_id,
        "rh": random::hex(40),
        "sub": request.object_id,
        "tid": request.tenant_id,
        "uti": random::hex(22),
        "ver": "1.0",
    });
    if request.resource == Resource::Exchange && request.consented {
        claims["roles"] = serde_json::json!(["SMTP.SendAsApp"]);
    }
    if request.resource == Resource::Graph && request.reads {
        claims["roles"] = serde_json::json!([READ_ALL]);
    }
    match request.content {
        Content::Usual => {}
        Content::NoRoles => claims["roles"] = serde_json::Value::Null,
        Content::OtherRoles => {
            claims["roles"] = serde_json::json!(["IMAP.AccessAsApp", "POP.AccessAsApp"]);
        }
        Content::OtherAudience => claims["aud"] = "https://management.azure.com".into(),
        Content::Delegated => {
            claims["idtyp"] = "user".into();
            claims["scp"] = "SMTP.Send".into();
            claims["upn"] = "somebody@sandbox.example".into();
            claims["roles"] = serde_json::Value::Null;
        }
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, claim| !claim.is_null());
    }
    claims
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_415_050_000);

    fn request(resource: Resource) -> Request<'static> {
        Request {
            tenant_id: "11111111-2222-4333-8444-555555555555",
            client_id: "client",
            object_id: "object",
            audience: "https://outlook.office365.com",
            resource,
            lifetime: Duration::from_secs(60),
            consented: true,
            reads: false,
            content: Content::Usual,
        }
    }

    #[test]
    fn a_token_has_the_claims_of_an_app_only_exchange_token() {
        let token = Tokens::default().issue(&request(Resource::Exchange), NOW);
        let payload = token.expose_secret().split('.').nth(1).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(payload).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], "https://outlook.office365.com");
        assert_eq!(claims["iss"], "https://sts.windows.net/11111111-2222-4333-8444-555555555555/");
        assert_eq!(claims["roles"], serde_json::json!(["SMTP.SendAsApp"]));
        assert_eq!(claims["exp"].as_i64(), Some(1_795_415_110));
        assert_eq!(
            (&claims["appid"], &claims["oid"], &claims["sub"], &claims["idtyp"]),
            (&"client".into(), &"object".into(), &"object".into(), &"app".into())
        );
        assert!(claims.get("scp").is_none() && claims.get("upn").is_none());
    }

    #[test]
    fn a_token_counts_until_it_expires_and_only_for_exchange() {
        let tokens = Tokens::default();
        let token = tokens.issue(&request(Resource::Exchange), NOW);
        let graph = tokens.issue(&request(Resource::Graph), NOW);
        let check = |token: &str, seconds| {
            let holder = tokens.check(token, NOW + Duration::from_secs(seconds))?;
            assert_eq!((holder.client_id.as_str(), holder.consented), ("client", true));
            Ok(())
        };
        assert_eq!(check(token.expose_secret(), 59), Ok(()));
        assert_eq!(check(token.expose_secret(), 60), Err(TokenFault::Expired));
        assert_eq!(check(graph.expose_secret(), 0), Err(TokenFault::OtherAudience));
        assert_eq!(check("made.up.token", 0), Err(TokenFault::Unknown));
        let tampered = format!("{}x", token.expose_secret());
        assert_eq!(check(&tampered, 0), Err(TokenFault::Unknown));
    }

    #[test]
    fn expired_tokens_are_forgotten() {
        let tokens = Tokens::default();
        for minute in 0..200 {
            let now = NOW + Duration::from_secs(60 * minute);
            tokens.issue(&request(Resource::Exchange), now);
        }
        assert!(tokens.0.lock().unwrap().len() < 20);
    }
}
