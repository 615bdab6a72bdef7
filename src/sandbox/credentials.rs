//! What is registered for the one application: client secrets, certificates, a federated
//! credential; and the word on whether a client has proved that it is the application.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ring::digest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use x509_cert::{Certificate, der::Decode};

use super::{
    Config, SandboxError,
    assertion::{Assertion, Kind},
    certificates,
    entra::TokenRefusal,
    form::Form,
    random,
    rsa_key::{RsaKey, pem},
};
use crate::clock::UnixMillis;

/// A self-signed certificate for the application, with its key.
pub struct ClientCertificate {
    key: RsaKey,
    der: Vec<u8>,
}

impl ClientCertificate {
    /// A new one that ends after so many days; it counts once it is registered.
    ///
    /// # Errors
    /// [`SandboxError`] if no key can be made here.
    pub fn new(days: u16) -> Result<Self, SandboxError> {
        let key = RsaKey::generate()?;
        let now = crate::clock::Clock::system().now();
        let der = certificates::for_client(&key.for_certificates()?, now, days.into())?;
        Ok(Self { key, der })
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// Its key as PEM, PKCS#8.
    #[must_use]
    pub fn private_key_pem(&self) -> String {
        self.key.pkcs8_pem()
    }

    /// Its key as PEM, PKCS#1.
    #[must_use]
    pub fn private_key_pkcs1_pem(&self) -> String {
        self.key.pkcs1_pem()
    }

    fn registered(&self) -> Registered {
        Registered::new(&self.der, self.key.public_key())
    }
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate(..)")
    }
}

/// What an app registration keeps of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registered {
    pub sha256: Vec<u8>,
    pub sha1: Vec<u8>,
    /// PKCS#1 DER.
    pub public_key: Vec<u8>,
}

impl Registered {
    fn new(der: &[u8], public_key: &[u8]) -> Self {
        let thumbprint = |algorithm| digest::digest(algorithm, der).as_ref().to_vec();
        Self {
            sha256: thumbprint(&digest::SHA256),
            sha1: thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            public_key: public_key.to_vec(),
        }
    }

    /// What is kept of a certificate that somebody uploads; `None` if it is none with an RSA key.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let parsed = Certificate::from_der(der).ok()?;
        let key = parsed.tbs_certificate().subject_public_key_info();
        // RFC 3279 section 2.3.1
        let rsa = key.algorithm.oid.to_string() == "1.2.840.113549.1.1.1";
        let public_key = key.subject_public_key.as_bytes()?;
        rsa.then(|| Self::new(der, public_key))
    }
}

/// The claims of a federated token; what a test changes makes it wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedClaims {
    /// Who has issued it.
    pub issuer: String,
    /// For which workload.
    pub subject: String,
    /// For whom.
    pub audience: String,
    /// How long it is good.
    pub lifetime: Duration,
}

impl Default for FederatedClaims {
    /// Those that the sandbox's application trusts, for a day.
    fn default() -> Self {
        Self {
            issuer: ISSUER.into(),
            subject: SUBJECT.into(),
            audience: AUDIENCE.into(),
            lifetime: Duration::from_secs(24 * 3600),
        }
    }
}

/// A client secret as it is registered.
pub(super) struct Secret {
    value: SecretString,
    id: String,
    /// `None` for one that never ends.
    end: Option<UnixMillis>,
}

impl Secret {
    pub fn new(value: SecretString, end: Option<UnixMillis>) -> Self {
        Self { value, id: random::guid(), end }
    }

    /// As Graph shows it: by how it begins.
    fn json(&self) -> Value {
        json!({
            "customKeyIdentifier": null,
            "displayName": "sandbox",
            "endDateTime": self.end.map_or(FAR_END.to_owned(), UnixMillis::rfc3339),
            "hint": self.value.expose_secret().chars().take(3).collect::<String>(),
            "keyId": self.id,
            "secretText": null,
        })
    }
}

/// Everything that is registered, and what has been used up.
pub(super) struct Credentials {
    secrets: Mutex<Vec<Secret>>,
    certificates: Mutex<Vec<Registered>>,
    issuer: Mutex<Option<RsaKey>>,
    /// Ids of assertions, with when they end anyway.
    used: Mutex<HashMap<String, UnixMillis>>,
}

impl Credentials {
    pub fn new(config: &Config) -> Self {
        Self {
            secrets: Mutex::new(vec![Secret::new(config.client_secret.clone(), None)]),
            certificates: Mutex::default(),
            issuer: Mutex::default(),
            used: Mutex::default(),
        }
    }

    /// Those of an application that has none yet.
    pub fn empty() -> Self {
        Self {
            secrets: Mutex::default(),
            certificates: Mutex::default(),
            issuer: Mutex::default(),
            used: Mutex::default(),
        }
    }

    /// One more secret is right.
    pub fn add_secret(&self, secret: Secret) {
        lock(&self.secrets).push(secret);
    }

    /// The secrets as Graph shows them.
    pub fn shown_secrets(&self) -> Vec<Value> {
        lock(&self.secrets).iter().map(Secret::json).collect()
    }

    /// The secret that was added at this place is right no more.
    pub fn remove_secret(&self, at: usize) {
        let mut secrets = lock(&self.secrets);
        if at < secrets.len() {
            secrets.remove(at);
        }
    }

    /// From now on these certificates are registered, and no others.
    pub fn set_certificates(&self, certificates: Vec<Registered>) {
        *lock(&self.certificates) = certificates;
    }

    /// From now on these secrets are right, and no others.
    pub fn set_secrets(&self, secrets: Vec<Secret>) {
        *lock(&self.secrets) = secrets;
    }

    /// A certificate is uploaded.
    pub fn register(&self, certificate: &ClientCertificate) {
        lock(&self.certificates).push(certificate.registered());
    }

    /// A certificate is deleted.
    pub fn unregister(&self, certificate: &ClientCertificate) {
        let gone = certificate.registered();
        lock(&self.certificates).retain(|registered| *registered != gone);
    }

    /// A token of the issuer that the application trusts.
    pub fn federated_token(
        &self,
        claims: &FederatedClaims,
        now: UnixMillis,
    ) -> Result<String, SandboxError> {
        let mut issuer = lock(&self.issuer);
        let key = match issuer.as_ref() {
            Some(key) => key,
            None => issuer.insert(RsaKey::generate()?),
        };
        let seconds = now.0.div_euclid(1000);
        let header = json!({ "alg": "RS256", "kid": "sandbox-1", "typ": "JWT" });
        let claims = json!({
            "aud": [claims.audience],
            "iss": claims.issuer,
            "sub": claims.subject,
            "iat": seconds,
            "nbf": seconds,
            "exp": seconds.saturating_add_unsigned(claims.lifetime.as_secs()),
            "jti": random::guid(),
        });
        Ok(Assertion::sign(&header, &claims, |message| key.sign(message)))
    }

    /// Whether the client has proved that it is the application, and by which kind of proof.
    pub fn check(
        &self,
        form: &Form,
        client_id: &str,
        audiences: &[String],
        now: UnixMillis,
    ) -> Result<Proved, TokenRefusal> {
        let (secret, assertion) = (form.value("client_secret"), form.value("client_assertion"));
        if let Some(secret) = secret {
            let secrets = lock(&self.secrets);
            let mut same = secrets.iter().filter(|known| known.value.expose_secret() == secret);
            return match same.next() {
                None => Err(TokenRefusal::wrong_secret(client_id)),
                Some(known) if known.end.is_some_and(|end| end <= now) => {
                    Err(TokenRefusal::expired_secret(client_id))
                }
                Some(_) => Ok(Proved::Secret),
            };
        }
        let assertion = assertion.ok_or_else(TokenRefusal::no_credential)?;
        match form.value("client_assertion_type") {
            Some(ASSERTION_TYPE) => {}
            Some(_) => return Err(TokenRefusal::malformed("client_assertion_type is not known")),
            None => return Err(TokenRefusal::parameter_missing("client_assertion_type")),
        }
        let assertion = Assertion::read(assertion)?;
        match assertion.kind(client_id) {
            Kind::Certificate => {
                let registered = lock(&self.certificates);
                let end = assertion.check_own(&registered, client_id, audiences, now)?;
                self.use_up(&assertion, end, now)?;
                Ok(Proved::Certificate)
            }
            Kind::Federated => {
                let issuer = lock(&self.issuer);
                let key = issuer.as_ref().map(RsaKey::public_key);
                assertion.check_federated(key, &FederatedClaims::default(), now)?;
                Ok(Proved::Federated)
            }
        }
    }

    /// RFC 7523 section 3, point 7: an assertion is good once.
    fn use_up(
        &self,
        assertion: &Assertion,
        end: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), TokenRefusal> {
        let id = assertion.id()?;
        let mut used = lock(&self.used);
        used.retain(|_, end| *end > now);
        match used.insert(id, end) {
            None => Ok(()),
            Some(_) => Err(TokenRefusal::assertion("the assertion (`jti`) was used before")),
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// What a client has proved itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proved {
    Secret,
    Certificate,
    Federated,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const FAR_END: &str = "2299-12-31T00:00:00Z";
const ISSUER: &str = "https://issuer.sandbox.example/";
const SUBJECT: &str = "system:serviceaccount:mail:o365-relay";
const AUDIENCE: &str = "api://AzureADTokenExchange";
