//! What is written in an access token. Nothing here decides anything: Exchange looks at the same
//! claims and says yes or no; these are for telling people why.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL};
use serde_json::{Map, Value};

use super::text;
use crate::clock::UnixMillis;

/// The claims of a token of Entra ID, as far as they matter for SMTP; unverified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// `aud`: the resource that it is for, as a URL or as its application id.
    pub aud: Option<String>,
    /// `tid`: the tenant's directory id.
    pub tid: Option<String>,
    /// `appid`, or `azp` in a token of version 2: the application id.
    pub appid: Option<String>,
    /// `app_displayname`.
    pub name: Option<String>,
    /// `oid`: the object id of the service principal, which is the one of the enterprise
    /// application. Hexadecimal digits and `-` only, so that it can stand in a command.
    pub oid: Option<String>,
    /// `idtyp`: `app`, where it is issued.
    pub idtyp: Option<String>,
    /// `roles`: the application permissions.
    pub roles: Vec<String>,
    /// `scp`: delegated permissions, which an application's token has none of.
    pub scp: Option<String>,
    /// `upn` or `unique_name`: the user, in a delegated token.
    pub user: Option<String>,
    /// `exp`: when it expires.
    pub exp: Option<UnixMillis>,
}

impl Claims {
    /// Reads the payload of a JWT (RFC 7519 section 3); `None` if it is none.
    pub(super) fn read(token: &str) -> Option<Self> {
        let claims = payload(token)?;
        let claim = |name: &str| shown(claims.get(name)?);
        let id =
            |id: &String| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        let roles = claims.get("roles").and_then(Value::as_array);
        Some(Self {
            aud: claim("aud"),
            tid: claim("tid"),
            appid: claim("appid").or_else(|| claim("azp")),
            name: claim("app_displayname"),
            oid: claim("oid").filter(id),
            idtyp: claim("idtyp"),
            roles: roles.map(|roles| roles.iter().filter_map(shown).collect()).unwrap_or_default(),
            scp: claim("scp"),
            user: claim("upn").or_else(|| claim("unique_name")),
            exp: time(&claims, "exp"),
        })
    }
}

/// What a federated credential is compared with: letter by letter, case included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FederatedClaims {
    /// `iss`: who has issued it.
    pub issuer: Option<String>,
    /// `sub`: for which workload.
    pub subject: Option<String>,
    /// `aud`: for whom; the first, where there are several.
    pub audience: Option<String>,
    /// `exp`: when it expires.
    pub exp: Option<UnixMillis>,
}

impl FederatedClaims {
    /// Reads the payload of a JWT; `None` if it is none.
    pub(super) fn read(token: &str) -> Option<Self> {
        let claims = payload(token)?;
        let claim = |name: &str| shown(claims.get(name)?);
        let audience = match claims.get("aud") {
            Some(Value::Array(several)) => several.first().and_then(shown),
            one => one.and_then(shown),
        };
        let (issuer, subject) = (claim("iss"), claim("sub"));
        Some(Self { issuer, subject, audience, exp: time(&claims, "exp") })
    }
}

fn payload(token: &str) -> Option<Map<String, Value>> {
    let payload = BASE64_URL.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn shown(value: &Value) -> Option<String> {
    value.as_str().map(|value| text::one_line(value, LONGEST))
}

fn time(claims: &Map<String, Value>, name: &str) -> Option<UnixMillis> {
    claims.get(name)?.as_i64()?.checked_mul(1000).map(UnixMillis)
}

const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> Option<Claims> {
        Claims::read(&format!("e30.{}.x", BASE64_URL.encode(payload)))
    }

    #[test]
    fn what_is_there_is_read_and_what_is_odd_is_left_out() {
        let claims = read(
            r#"{"aud":"https://outlook.office365.com","appid":"58d8","tid":"5a4d","oid":"11-aa",
                "idtyp":"app","roles":["SMTP.SendAsApp",7],"exp":1795418650,"app_displayname":"a\nb"}"#,
        )
        .unwrap();
        assert_eq!(claims.roles, ["SMTP.SendAsApp"]);
        assert_eq!(claims.exp, Some(UnixMillis(1_795_418_650_000)));
        assert_eq!(claims.name.as_deref(), Some("a b"));
        assert_eq!((claims.scp, claims.user), (None, None));

        let delegated =
            read(r#"{"azp":"58d8","scp":"SMTP.Send","upn":"a@b.c","roles":"x"}"#).unwrap();
        assert_eq!(delegated.appid.as_deref(), Some("58d8"));
        assert_eq!(delegated.scp.as_deref(), Some("SMTP.Send"));
        assert_eq!(delegated.user.as_deref(), Some("a@b.c"));
        assert!(delegated.roles.is_empty() && delegated.exp.is_none());
        let federated = r#"{"iss":"https://i","sub":"system:x","aud":["api://A"],"exp":1}"#;
        let federated = format!("e30.{}.x", BASE64_URL.encode(federated));
        let federated = FederatedClaims::read(&federated).unwrap();
        assert_eq!(federated.audience.as_deref(), Some("api://A"));
        assert_eq!(federated.exp, Some(UnixMillis(1000)));
        assert_eq!(read("[]"), None);
        assert_eq!(Claims::read("opaque"), None);
    }
}
