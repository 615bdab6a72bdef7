//! Client assertions: a JWT (RFC 7519) that says "this is me, now, to you" (RFC 7523 section 3),
//! signed with the key of a certificate that Entra ID knows.

use std::{fmt::Write, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair},
};
use secrecy::SecretString;
use serde_json::json;

use super::certificate::{Algorithm, Pair};
use crate::clock::UnixMillis;

/// Who speaks to whom.
pub(super) struct Statement<'a> {
    /// The application (client) id: issuer and subject.
    pub client_id: &'a str,
    /// The token endpoint that it is for.
    pub audience: &'a str,
    /// Now.
    pub now: UnixMillis,
    /// Never the same twice.
    pub id: String,
}

impl Statement<'_> {
    /// The signed assertion; `None` if the key cannot sign, which a key that was read can.
    pub(super) fn sign(&self, pair: &Pair, algorithm: Algorithm) -> Option<SecretString> {
        let header = match algorithm {
            Algorithm::Ps256 => json!({
                "alg": "PS256",
                "typ": "JWT",
                "x5t#S256": thumbprint(&digest::SHA256, pair),
            }),
            Algorithm::Rs256 => json!({
                "alg": "RS256",
                "typ": "JWT",
                "x5t": thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY, pair),
            }),
        };
        let seconds = self.now.0.div_euclid(1000);
        let claims = json!({
            "aud": self.audience,
            "iss": self.client_id,
            "sub": self.client_id,
            "jti": self.id,
            "iat": seconds,
            "nbf": seconds - BEFORE.as_secs().cast_signed(),
            "exp": seconds + AFTER.as_secs().cast_signed(),
        });
        let signed = format!(
            "{}.{}",
            BASE64_URL.encode(header.to_string()),
            BASE64_URL.encode(claims.to_string())
        );
        let signature = BASE64_URL.encode(signature(&pair.key, algorithm, signed.as_bytes())?);
        Some(format!("{signed}.{signature}").into())
    }
}

fn signature(key: &RsaKeyPair, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
    let encoding: &dyn RsaEncoding = match algorithm {
        Algorithm::Ps256 => &RSA_PSS_SHA256,
        Algorithm::Rs256 => &RSA_PKCS1_SHA256,
    };
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message, &mut signature).ok()?;
    Some(signature)
}

fn thumbprint(algorithm: &'static digest::Algorithm, pair: &Pair) -> String {
    BASE64_URL.encode(digest::digest(algorithm, &pair.certificate))
}

/// The certificate's SHA-1 in upper-case hexadecimal digits.
pub(super) fn sha1_in_hex(pair: &Pair) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &pair.certificate);
    digest.as_ref().iter().fold(String::new(), |mut hex, octet| {
        let _ = write!(hex, "{octet:02X}");
        hex
    })
}

/// How long before now it is valid already, for clocks that go slow at the other side.
const BEFORE: Duration = Duration::from_secs(60);
/// How long it stays valid: ten minutes in all, as Microsoft advises.
const AFTER: Duration = Duration::from_secs(540);
