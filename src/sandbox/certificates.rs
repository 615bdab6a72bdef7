//! The sandbox's own certificate authority and the one server certificate that both of its
//! services show. Nothing is kept: each start makes new ones.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::SandboxError;
use crate::clock::UnixMillis;

/// What [`issue`] made.
pub(super) struct Certificates {
    /// The authority, for whoever has to trust it.
    pub ca: CertificateDer<'static>,
    /// The same as PEM.
    pub ca_pem: String,
    /// The server side of TLS 1.2 and 1.3.
    pub acceptor: TlsAcceptor,
}

/// Makes an authority and a certificate for this host's loopback names, valid around `now`.
pub(super) fn issue(now: UnixMillis) -> Result<Certificates, SandboxError> {
    let authority = authority(now)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(NAMES.map(String::from))?;
    params.distinguished_name = name("localhost");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    limit_validity(&mut params, now);
    let certificate = params.signed_by(&key, &authority)?;

    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|reason| SandboxError::PrivateKey { reason })?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(Certificates {
        ca: authority.der().clone(),
        ca_pem: authority.pem(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
    })
}

fn authority(now: UnixMillis) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name("o365-relay sandbox CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    limit_validity(&mut params, now);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// From yesterday (clocks differ) for about a year: some TLS stacks refuse longer ones.
fn limit_validity(params: &mut CertificateParams, now: UnixMillis) {
    let midnight = |time: UnixMillis| {
        let date = time.timestamp().to_zoned(jiff::tz::TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = midnight(UnixMillis(now.0 - i64::from(DAY_SECONDS) * 1_000));
    params.not_after = midnight(now + Duration::from_secs(u64::from(DAY_SECONDS) * 366));
}

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY_SECONDS: u32 = 86_400;

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn the_pem_holds_the_authority() {
        let made = issue(UnixMillis(1_795_415_050_123)).unwrap();
        let from_pem = CertificateDer::from_pem_slice(made.ca_pem.as_bytes()).unwrap();
        assert_eq!(from_pem, made.ca);
    }

    #[test]
    fn each_start_has_its_own_authority() {
        let now = UnixMillis(1_795_415_050_123);
        assert_ne!(issue(now).unwrap().ca, issue(now).unwrap().ca);
    }
}
