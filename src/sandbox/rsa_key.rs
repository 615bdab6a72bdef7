//! RSA keys of the sandbox's own: those of client certificates, and that of the issuer of
//! federated tokens. ring signs and checks with them, but makes none.

use graviola::signing::rsa::{KeySize, SigningKey};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::SandboxError;

/// A new key of 2,048 bits.
pub(super) struct RsaKey {
    pair: RsaKeyPair,
    pkcs1: Vec<u8>,
    pkcs8: Vec<u8>,
}

impl RsaKey {
    /// Makes one; takes some tens of milliseconds.
    pub fn generate() -> Result<Self, SandboxError> {
        let fault = |reason| SandboxError::PrivateKey { reason };
        if !graviola::util::is_cpu_supported() {
            // It would end the program.
            return Err(fault("this processor lacks what making an RSA key needs"));
        }
        let key = SigningKey::generate(KeySize::Rsa2048)
            .map_err(|_| fault("an RSA key could not be made"))?;
        let written = |_| fault("a new RSA key could not be written");
        let (mut one, mut eight) = (vec![0; 4096], vec![0; 4096]);
        let pkcs1 = key.to_pkcs1_der(&mut one).map_err(written)?.to_vec();
        let pkcs8 = key.to_pkcs8_der(&mut eight).map_err(written)?.to_vec();
        let pair =
            RsaKeyPair::from_der(&pkcs1).map_err(|_| fault("a new RSA key could not be read"))?;
        Ok(Self { pair, pkcs1, pkcs8 })
    }

    /// PKCS#1 DER of the public key.
    pub fn public_key(&self) -> &[u8] {
        self.pair.public().as_ref()
    }

    /// PKCS#8 as PEM.
    pub fn pkcs8_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// PKCS#1 as PEM.
    pub fn pkcs1_pem(&self) -> String {
        pem("RSA PRIVATE KEY", &self.pkcs1)
    }

    /// For rcgen, which signs certificates with it.
    pub fn for_certificates(&self) -> Result<KeyPair, rcgen::Error> {
        let der = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256)
    }

    /// RS256 over `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .expect("the operating system's random source works");
        signature
    }
}

/// RFC 7468.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
