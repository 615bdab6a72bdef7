//! The sandbox's own certificate authority and the server certificate that both of its
//! services show. Nothing is kept: each start makes new ones.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::{SandboxError, faults::Strike};
use crate::clock::UnixMillis;

/// What [`issue`] made.
pub(super) struct Certificates {
    /// The authority, for whoever has to trust it.
    pub ca: CertificateDer<'static>,
    /// The same as PEM.
    pub ca_pem: String,
    /// The server side of TLS 1.2 and 1.3.
    pub acceptors: Acceptors,
}

/// The server side of TLS, with the right certificate or a wrong one.
#[derive(Clone)]
pub(super) struct Acceptors {
    right: TlsAcceptor,
    /// In the order of the words in the table of faults.
    wrong: [TlsAcceptor; 3],
}

impl Acceptors {
    /// The right one, unless a fault wants a wrong one.
    pub fn pick(&self, strike: Option<&Strike>) -> &TlsAcceptor {
        strike.and_then(|strike| self.wrong.get(strike.choice())).unwrap_or(&self.right)
    }
}

/// Makes an authority and a certificate for this host's loopback names, valid around `now`, and
/// certificates that no client may accept.
pub(super) fn issue(now: UnixMillis) -> Result<Certificates, SandboxError> {
    let authority = authority("o365-relay sandbox CA", now)?;
    let stranger = self::authority("Some Other CA", now)?;
    let right = server(&NAMES, now)?;
    let other_name = server(&["elsewhere.sandbox.example"], now)?;
    let mut expired = server(&NAMES, now)?;
    set_validity(&mut expired, now, -400, -2);
    let wrong = [
        acceptor(&other_name, &authority)?,
        acceptor(&right, &stranger)?,
        acceptor(&expired, &authority)?,
    ];
    Ok(Certificates {
        ca: authority.der().clone(),
        ca_pem: authority.pem(),
        acceptors: Acceptors { right: acceptor(&right, &authority)?, wrong },
    })
}

/// A self-signed certificate of an application, as `openssl req -x509` makes them.
pub(super) fn for_client(
    key: &KeyPair,
    now: UnixMillis,
    days: i64,
) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name("o365-relay sandbox application");
    set_validity(&mut params, now, -1, days);
    Ok(params.self_signed(key)?.der().to_vec())
}

/// What stands in a server certificate for `names`.
fn server(names: &[&str], now: UnixMillis) -> Result<CertificateParams, rcgen::Error> {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name = name(names.first().copied().unwrap_or_default());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    limit_validity(&mut params, now);
    Ok(params)
}

/// TLS with a new key and the certificate of it that `params` describe.
fn acceptor(
    params: &CertificateParams,
    authority: &CertifiedIssuer<'static, KeyPair>,
) -> Result<TlsAcceptor, SandboxError> {
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|reason| SandboxError::PrivateKey { reason })?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn authority(
    common_name: &str,
    now: UnixMillis,
) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(common_name);
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

/// From one day to another, counted from `now`.
fn set_validity(params: &mut CertificateParams, now: UnixMillis, first: i64, last: i64) {
    let midnight = |days: i64| {
        let then = UnixMillis(now.0.saturating_add(days.saturating_mul(DAY_MILLIS)));
        let date = then.timestamp().to_zoned(jiff::tz::TimeZone::UTC).date();
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(date.year().into(), month, day)
    };
    params.not_before = midnight(first);
    params.not_after = midnight(last);
}

/// From yesterday (clocks differ) for about a year: some TLS stacks refuse longer ones.
fn limit_validity(params: &mut CertificateParams, now: UnixMillis) {
    set_validity(params, now, -1, 366);
}

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY_MILLIS: i64 = 86_400_000;

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
