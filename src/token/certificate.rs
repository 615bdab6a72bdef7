//! A certificate and its private key, as an administrator puts them into files.

use std::path::{Path, PathBuf};

use ring::{error::KeyRejected, signature::RsaKeyPair};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use x509_cert::{Certificate, der::Decode};

use super::{
    Expiry, TokenError, UnixMillis,
    error::{FileFault, FileKind, SecretFault},
    file,
};

/// Where certificate and key are. Both are read again for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM with the certificate; others may stand beside it.
    pub certificate: PathBuf,
    /// PEM with the private key, PKCS#8 or PKCS#1; `None` if it stands in the same file.
    pub private_key: Option<PathBuf>,
    /// What to sign with.
    pub algorithm: Algorithm,
}

/// How an assertion is signed and how it names its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA-PSS with SHA-256, and the certificate's SHA-256 (`x5t#S256`).
    Ps256,
    /// PKCS#1 v1.5 with SHA-256, and the certificate's SHA-1 (`x5t`).
    Rs256,
}

/// A certificate and the key that belongs to it.
pub(super) struct Pair {
    pub key: RsaKeyPair,
    /// DER.
    pub certificate: Vec<u8>,
    pub not_after: UnixMillis,
}

impl CertificateFiles {
    /// Looks whether the files can be used as they are now, and tells when the certificate ends.
    /// Blocks.
    ///
    /// # Errors
    /// [`TokenError::File`] with what is wrong.
    pub fn examine(&self) -> Result<Expiry, TokenError> {
        Ok(Expiry::of_certificate(self, &self.read()?))
    }

    /// Reads both. Blocks.
    ///
    /// # Errors
    /// [`TokenError::File`] with what is wrong.
    pub(super) fn read(&self) -> Result<Pair, TokenError> {
        let certificate_fault = |reason| TokenError::File {
            kind: FileKind::Certificate,
            path: self.certificate.clone(),
            reason,
        };
        let certificates = read(&self.certificate)
            .and_then(|text| certificates(&text))
            .map_err(certificate_fault)?;
        let path = self.private_key.as_ref().unwrap_or(&self.certificate);
        let key = read(path).and_then(|text| private_key(&text)).map_err(|reason| {
            TokenError::File { kind: FileKind::PrivateKey, path: path.clone(), reason }
        })?;
        // A file may hold the chain as well, in any order: the one with our key is ours.
        let public_key = key.public().as_ref().to_vec();
        let mut broken = None;
        for der in certificates {
            match Certificate::from_der(&der) {
                Ok(parsed) => {
                    let parsed = parsed.tbs_certificate();
                    let theirs = &parsed.subject_public_key_info().subject_public_key;
                    if theirs.as_bytes() == Some(&public_key) {
                        let seconds = parsed.validity().not_after.to_unix_duration().as_secs();
                        let millis = i64::try_from(seconds).unwrap_or(i64::MAX / 1000) * 1000;
                        let certificate = der.as_ref().to_vec();
                        return Ok(Pair { key, certificate, not_after: UnixMillis(millis) });
                    }
                }
                Err(error) => broken = Some(FileFault::BadCertificate(error.to_string())),
            }
        }
        Err(certificate_fault(broken.unwrap_or_else(|| FileFault::Mismatch { key: path.clone() })))
    }
}

fn read(path: &Path) -> Result<secrecy::zeroize::Zeroizing<String>, FileFault> {
    let text = file::read(path, LONGEST)?;
    if text.trim().is_empty() {
        return Err(SecretFault::Empty.into());
    }
    Ok(text)
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err(FileFault::NoCertificate),
        Ok(found) => Ok(found),
        Err(error) => Err(FileFault::BadCertificate(words(&error))),
    }
}

fn private_key(text: &str) -> Result<RsaKeyPair, FileFault> {
    // The second is how PKCS#1 says it (RFC 1421 section 4.6.1.1).
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENC") {
        return Err(FileFault::Encrypted);
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => FileFault::NoKey,
        error => FileFault::BadKey(words(&error)),
    })?;
    let key = match &key {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(FileFault::NotRsa), // SEC 1 is for elliptic curves
    };
    key.map_err(rejected)
}

/// ring tells its reasons as constant words and in no other way.
fn rejected(error: KeyRejected) -> FileFault {
    match error.to_string().as_str() {
        "WrongAlgorithm" => FileFault::NotRsa,
        "TooSmall" => FileFault::KeySize("is shorter than 2048 bits"),
        "TooLarge" => FileFault::KeySize("is longer than 4096 bits"),
        words => FileFault::BadKey(words.to_owned()),
    }
}

/// Never a part of the text, which is a key.
fn words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its END line is missing",
        pem::Error::IllegalSectionStart { .. } => "its BEGIN line is broken",
        pem::Error::Base64Decode(_) => "it holds something else than base64",
        _ => "it is no PEM text",
    }
    .to_owned()
}

/// Room for a chain of certificates and a key.
const LONGEST: u64 = 256 * 1024;

#[cfg(test)]
mod tests;
