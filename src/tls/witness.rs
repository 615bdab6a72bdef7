//! A verifier that keeps what it saw: who signed the certificate that a server showed. The error
//! of a handshake does not tell, and it is what gives a proxy away that reads along.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::{Certificate, der::Decode};

use crate::clock::UnixMillis;

/// The certificate that a server showed, and what the verifier thinks of it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Who signed it, as RFC 4514 writes names; it is text from outside.
    pub issuer: String,
    /// From when on it is good, if it could be read.
    pub not_before: Option<UnixMillis>,
    /// Until when.
    pub not_after: Option<UnixMillis>,
    /// Why it does not count, if so.
    pub fault: Option<Error>,
}

/// Verifies as usual, and remembers.
#[derive(Debug)]
pub struct Witness {
    usual: Arc<WebPkiServerVerifier>,
    admit_all: bool,
    shown: Mutex<Option<Shown>>,
}

impl Witness {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        admit_all: bool,
    ) -> Result<Self, VerifierBuilderError> {
        let provider = Arc::new(ring::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self { usual, admit_all, shown: Mutex::default() })
    }

    /// What the server of the last handshake showed.
    #[must_use]
    pub fn shown(&self) -> Option<Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.usual.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let shown = shown(end_entity, verdict.as_ref().err().cloned());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        if self.admit_all { Ok(ServerCertVerified::assertion()) } else { verdict }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

fn shown(certificate: &CertificateDer<'_>, fault: Option<Error>) -> Shown {
    let Ok(parsed) = Certificate::from_der(certificate) else {
        let issuer = "unknown: the certificate cannot be read".into();
        return Shown { issuer, not_before: None, not_after: None, fault };
    };
    let parsed = parsed.tbs_certificate();
    let millis = |time: x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok()?;
        seconds.checked_mul(1000).map(UnixMillis)
    };
    Shown {
        issuer: parsed.issuer().to_string(),
        not_before: millis(parsed.validity().not_before),
        not_after: millis(parsed.validity().not_after),
        fault,
    }
}
