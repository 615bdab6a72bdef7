//! A key and a certificate of it. The key is made here and never leaves this host.

use base64::{Engine, engine::general_purpose::STANDARD};
use graviola::signing::rsa::{KeySize, SigningKey};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair as Signer, PKCS_RSA_SHA256};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use secrecy::zeroize::Zeroizing;

use super::SetupError;
use crate::clock::UnixMillis;

/// Both as PEM.
pub(super) struct KeyPair {
    pub private_key: Zeroizing<String>,
    pub certificate: String,
}

impl KeyPair {
    /// A new RSA key of 2,048 bits and a self-signed certificate, good from yesterday (clocks
    /// differ) for `days`. Takes some tens of milliseconds.
    pub fn new(common_name: &str, days: u16, now: UnixMillis) -> Result<Self, SetupError> {
        let fault = |reason: String| SetupError::Key { reason };
        if !graviola::util::is_cpu_supported() {
            // It would end the program.
            let reason = "this processor lacks what making an RSA key here needs; make a pair with \
                          openssl (docs/credentials.md) and give --existing-key, or take \
                          --credential secret";
            return Err(fault(reason.into()));
        }
        let key = SigningKey::generate(KeySize::Rsa2048)
            .map_err(|_| fault("an RSA key could not be made".into()))?;
        let mut room = Zeroizing::new(vec![0; 4096]);
        let pkcs8 = key
            .to_pkcs8_der(&mut room)
            .map_err(|_| fault("the new RSA key could not be written".into()))?;
        let private_key = Zeroizing::new(pem("PRIVATE KEY", pkcs8));
        let certificate = self_signed(pkcs8, common_name, days, now)
            .map_err(|error| fault(format!("could not make a certificate: {error}")))?;
        Ok(Self { private_key, certificate: pem("CERTIFICATE", &certificate) })
    }
}

fn self_signed(
    pkcs8: &[u8],
    common_name: &str,
    days: u16,
    now: UnixMillis,
) -> Result<Vec<u8>, rcgen::Error> {
    let der = PrivatePkcs8KeyDer::from(pkcs8);
    let key = Signer::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let midnight = |days: i64| {
        let then = UnixMillis(now.0.saturating_add(days.saturating_mul(86_400_000)));
        let date = then.timestamp().to_zoned(jiff::tz::TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = midnight(-1);
    params.not_after = midnight(days.into());
    Ok(params.self_signed(&key)?.der().to_vec())
}

/// The first certificate of a PEM text, as Graph wants it: base64 of the DER.
pub(super) fn for_graph(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Some(STANDARD.encode(der.as_ref()))
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}
