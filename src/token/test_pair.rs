//! Certificates with RSA keys, made for one test each.

use graviola::signing::rsa::{KeySize, SigningKey};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;

/// PEM texts of a self-signed certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) key_pkcs1: String,
}

impl Pair {
    /// A new one that ends on 2027-03-01.
    pub(crate) fn new() -> Self {
        let key = SigningKey::generate(KeySize::Rsa2048).unwrap();
        let (mut eight, mut one) = ([0; 4096], [0; 4096]);
        let pkcs8 = key.to_pkcs8_der(&mut eight).unwrap();
        let pkcs1 = key.to_pkcs1_der(&mut one).unwrap();
        let der = PrivatePkcs8KeyDer::from(pkcs8);
        let signer = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256).unwrap();
        let mut params = CertificateParams::new(vec!["relay.example".into()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2027, 3, 1);
        Self {
            certificate: params.self_signed(&signer).unwrap().pem(),
            key: pem("PRIVATE KEY", pkcs8),
            key_pkcs1: pem("RSA PRIVATE KEY", pkcs1),
        }
    }

    /// Key and certificate in one text.
    pub(crate) fn both(&self) -> String {
        format!("{}{}", self.key, self.certificate)
    }
}

/// RFC 7468.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}
