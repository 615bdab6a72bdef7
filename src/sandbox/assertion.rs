//! Client assertions as the token endpoint looks at them: every claim, the thumbprint, the
//! signature. Stricter than Entra in two things that tests want to know: an assertion is good
//! once, and not for longer than an hour.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

use super::{
    credentials::{FederatedClaims, Registered},
    entra::TokenRefusal,
};
use crate::clock::UnixMillis;

/// A JWT in its parts, unchecked.
pub(super) struct Assertion {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

/// Whose it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of the application itself.
    Certificate,
    /// Of another issuer.
    Federated,
}

impl Assertion {
    /// Makes one.
    pub fn sign(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Takes it apart.
    pub fn read(text: &str) -> Result<Self, TokenRefusal> {
        let malformed = || TokenRefusal::bad_jwt("it is no signed JWT");
        let (signed, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
        let octets = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed());
        let object = |part: &str| match serde_json::from_slice(&octets(part)?) {
            Ok(Value::Object(object)) => Ok(Value::Object(object)),
            _ => Err(malformed()),
        };
        Ok(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed: signed.to_owned(),
            signature: octets(signature)?,
        })
    }

    /// Whose it claims to be.
    pub fn kind(&self, client_id: &str) -> Kind {
        let thumbprint = ["x5t", "x5t#S256"].iter().any(|name| self.header.get(name).is_some());
        match thumbprint || self.text("iss").eq_ignore_ascii_case(client_id) {
            true => Kind::Certificate,
            false => Kind::Federated,
        }
    }

    /// Its id.
    pub fn id(&self) -> Result<String, TokenRefusal> {
        match self.text("jti") {
            "" => Err(TokenRefusal::assertion("the claim `jti` is missing")),
            id => Ok(id.to_owned()),
        }
    }

    /// Checks one that the application signed itself, and tells when it ends.
    pub fn check_own(
        &self,
        registered: &[Registered],
        client_id: &str,
        audiences: &[String],
        now: UnixMillis,
    ) -> Result<UnixMillis, TokenRefusal> {
        let (name, algorithm) = self.algorithm()?;
        let thumbprint = |member: &str| {
            let text = self.header.get(member)?.as_str()?;
            // Microsoft's own libraries pad it, or write it in the other alphabet; Entra takes both.
            let text = text.trim_end_matches('=');
            URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()
        };
        let (sha256, sha1) = (thumbprint("x5t#S256"), thumbprint("x5t"));
        if name == "PS256" && sha256.is_none() {
            return Err(TokenRefusal::bad_jwt("with PS256, x5t#S256 names the certificate"));
        }
        let certificate = registered.iter().find(|certificate| match (&sha256, &sha1) {
            (Some(sha256), _) => certificate.sha256 == *sha256,
            (None, Some(sha1)) => certificate.sha1 == *sha1,
            (None, None) => false,
        });
        let certificate = certificate.ok_or_else(TokenRefusal::unknown_certificate)?;
        if !self.is_signed_by(&certificate.public_key, algorithm) {
            return Err(TokenRefusal::wrong_signature());
        }
        if self.text("iss") != client_id || self.text("sub") != client_id {
            return Err(TokenRefusal::assertion("`iss` and `sub` have to be the client id"));
        }
        if !audiences.iter().any(|audience| audience == self.text("aud")) {
            return Err(TokenRefusal::assertion("`aud` is not this token endpoint"));
        }
        let (start, end) = self.window(now)?;
        if end - start > LONGEST {
            return Err(TokenRefusal::assertion("it is good for more than an hour"));
        }
        Ok(UnixMillis(end.saturating_mul(1000)))
    }

    /// Checks one of another issuer, whose `key` signs and whose `trusted` claims count.
    pub fn check_federated(
        &self,
        key: Option<&[u8]>,
        trusted: &FederatedClaims,
        now: UnixMillis,
    ) -> Result<(), TokenRefusal> {
        let (_, algorithm) = self.algorithm()?;
        let key = key.ok_or_else(|| TokenRefusal::no_federation("issuer", self.text("iss")))?;
        if self.text("iss") != trusted.issuer {
            return Err(TokenRefusal::no_federation("issuer", self.text("iss")));
        }
        let audiences: Vec<&str> = match &self.claims["aud"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !audiences.contains(&trusted.audience.as_str()) {
            return Err(TokenRefusal::no_federation("audience", &audiences.join(" ")));
        }
        match self.text("sub") {
            subject if subject == trusted.subject => {}
            subject if subject.eq_ignore_ascii_case(&trusted.subject) => {
                return Err(TokenRefusal::subject_in_other_case(subject));
            }
            subject => return Err(TokenRefusal::no_federation("subject", subject)),
        }
        if !self.is_signed_by(key, algorithm) {
            return Err(TokenRefusal::assertion("the issuer's keys have not signed it"));
        }
        self.window(now).map(drop)
    }

    fn algorithm(&self) -> Result<(&str, &'static dyn VerificationAlgorithm), TokenRefusal> {
        match self.header["alg"].as_str() {
            Some("PS256") => Ok(("PS256", &RSA_PSS_2048_8192_SHA256)),
            Some("RS256") => Ok(("RS256", &RSA_PKCS1_2048_8192_SHA256)),
            _ => Err(TokenRefusal::bad_jwt("`alg` is neither PS256 nor RS256")),
        }
    }

    fn is_signed_by(&self, key: &[u8], algorithm: &'static dyn VerificationAlgorithm) -> bool {
        let key = UnparsedPublicKey::new(algorithm, key);
        key.verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    /// Start and end in seconds, around `now`. The start may lack (RFC 7523 section 3): then it
    /// is when the assertion was made, or now.
    fn window(&self, now: UnixMillis) -> Result<(i64, i64), TokenRefusal> {
        let time = |name: &str| match &self.claims[name] {
            Value::Null => Ok(None),
            value => whole_seconds(value).map(Some),
        };
        let now = now.0.div_euclid(1000);
        let start = time("nbf")?.or(time("iat")?).unwrap_or(now);
        let end = time("exp")?.ok_or_else(|| TokenRefusal::assertion("`exp` is missing"))?;
        if now + TOLERANCE < start || now - TOLERANCE >= end || start >= end {
            return Err(TokenRefusal::outside_its_time(now, start, end));
        }
        Ok((start, end))
    }

    fn text(&self, claim: &str) -> &str {
        self.claims[claim].as_str().unwrap_or_default()
    }
}

impl TokenRefusal {
    fn bad_jwt(what: &str) -> Self {
        Self::new("invalid_client", 50_027, format!("Invalid JWT token. {what}."))
    }

    /// A claim is not as it has to be.
    pub fn assertion(what: &str) -> Self {
        Self::new("invalid_client", 50_013, format!("Assertion is not valid: {what}."))
    }

    fn wrong_signature() -> Self {
        let text = "Client assertion contains an invalid signature. [Reason - The key used is \
                    another than that of the certificate.]";
        Self::new("invalid_client", 700_027, text)
    }

    /// The clocks differ, or the assertion is an old one.
    pub fn outside_its_time(now: i64, start: i64, end: i64) -> Self {
        let shown = |seconds: i64| UnixMillis(seconds.saturating_mul(1000)).rfc3339();
        let text = format!(
            "Client assertion is not within its valid time range. Current time: {}, assertion \
             valid from {}, expiry time of assertion {}.",
            shown(now),
            shown(start),
            shown(end)
        );
        Self::new("invalid_client", 700_024, text)
    }

    /// No federated credential has this issuer, audience or subject.
    pub fn no_federation(what: &str, found: &str) -> Self {
        let code = match what {
            "issuer" => 700_211,
            "audience" => 700_212,
            _ => 700_213,
        };
        let found: String = found.chars().filter(|c| !c.is_control()).take(128).collect();
        let text = format!(
            "No matching federated identity record found for presented assertion {what} '{found}'."
        );
        Self::new("invalid_client", code, text)
    }

    fn subject_in_other_case(found: &str) -> Self {
        let found: String = found.chars().filter(|c| !c.is_control()).take(128).collect();
        let text = format!(
            "The presented assertion subject '{found}' differs from the federated identity record \
             in letter case only; the comparison is case-sensitive."
        );
        Self::new("invalid_client", 7_002_138, text)
    }
}

/// RFC 7519 section 2, `NumericDate`: it may have a fraction, which some libraries write.
fn whole_seconds(value: &Value) -> Result<i64, TokenRefusal> {
    let text = value.as_number().map(ToString::to_string).unwrap_or_default();
    let whole = text.split('.').next().unwrap_or_default();
    whole
        .parse()
        .ok()
        .filter(|seconds| (0..=LAST_SECOND).contains(seconds))
        .ok_or_else(|| TokenRefusal::assertion("`nbf`, `iat` and `exp` have to be times"))
}

/// Seconds that clocks may differ.
const TOLERANCE: i64 = 300;
/// Seconds.
const LONGEST: i64 = 3600;
/// The end of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;
