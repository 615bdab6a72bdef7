//! What can be wrong with the files of a certificate or a federated token.

use std::{fmt, path::PathBuf};

use super::SecretFault;

/// What a file should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The certificate.
    Certificate,
    /// Its private key.
    PrivateKey,
    /// A token of another issuer.
    FederatedToken,
}

impl FileKind {
    /// The key of the configuration that names it.
    fn key(self) -> &'static str {
        match self {
            Self::Certificate => "office365.certificate_file",
            Self::PrivateKey => "office365.private_key_file",
            Self::FederatedToken => "office365.federated_token_file",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "the certificate file",
            Self::PrivateKey => "the private key file",
            Self::FederatedToken => "the federated token file",
        })
    }
}

/// Why it cannot be used. No part of a key or a token is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// It could not be read, or is no text.
    #[error(transparent)]
    Read(#[from] SecretFault),
    /// No `-----BEGIN CERTIFICATE-----`.
    #[error("holds no certificate in PEM form")]
    NoCertificate,
    /// A certificate that cannot be understood.
    #[error("holds a certificate that cannot be read: {0}")]
    BadCertificate(String),
    /// No `-----BEGIN PRIVATE KEY-----` and the like.
    #[error("holds no private key in PEM form")]
    NoKey,
    /// A key that wants a password.
    #[error("holds a private key that is encrypted with a password, which nobody can enter here")]
    Encrypted,
    /// An elliptic curve or something newer.
    #[error("holds a private key that is not RSA; Entra ID takes RSA")]
    NotRsa,
    /// RSA, but not of a size that is taken.
    #[error("holds an RSA key that {0}")]
    KeySize(&'static str),
    /// A key that cannot be understood.
    #[error("holds a private key that cannot be read: {0}")]
    BadKey(String),
    /// Two files of two pairs, or one of them is just being replaced.
    #[error("holds a certificate that does not belong to the private key in {}", key.display())]
    Mismatch {
        /// Where the key is.
        key: PathBuf,
    },
}

impl FileFault {
    /// Whether it can be that somebody is just replacing the files.
    pub(in crate::token) fn may_be_half_written(&self) -> bool {
        match self {
            Self::Read(fault) => matches!(fault, SecretFault::Unreadable(_) | SecretFault::Empty),
            Self::NoCertificate
            | Self::BadCertificate(_)
            | Self::NoKey
            | Self::BadKey(_)
            | Self::Mismatch { .. } => true,
            Self::Encrypted | Self::NotRsa | Self::KeySize(_) => false,
        }
    }

    /// The next step. `path` is the file that has the fault.
    #[must_use]
    pub fn advice(&self, kind: FileKind, path: &str) -> String {
        let key = kind.key();
        match self {
            Self::Read(SecretFault::Unreadable(_)) => format!(
                "make {path} exist and readable for the user the relay runs as ({key}); it is \
                 read again for each request"
            ),
            Self::Read(_) if kind == FileKind::FederatedToken => {
                format!("let {path} hold the token that the platform projects and nothing else")
            }
            Self::Read(SecretFault::NotText) => format!(
                "let {path} hold PEM text (-----BEGIN ...); a PFX file becomes that by `openssl \
                 pkcs12 -in {path} -noenc -out NEW.pem`, a certificate in DER by `openssl x509 \
                 -inform der -in {path} -out NEW.pem`, a key in DER by `openssl pkey -inform der \
                 -in {path} -out NEW.pem`"
            ),
            Self::Read(_) | Self::NoCertificate | Self::BadCertificate(_) | Self::NoKey => {
                format!("let {path} hold PEM text (-----BEGIN ...), and {key} name the right file")
            }
            Self::Encrypted => format!(
                "write the key without its password: `openssl pkey -in {path} -out NEW.pem`, mode \
                 0600; or make a new pair: {NEW_PAIR}"
            ),
            Self::NotRsa | Self::KeySize(_) => format!("make a new pair: {NEW_PAIR}"),
            Self::BadKey(_) => format!(
                "let {path} hold an unencrypted RSA key as PEM (PKCS#8 or PKCS#1); to make a new \
                 pair: {NEW_PAIR}"
            ),
            Self::Mismatch { .. } => format!(
                "put certificate and key of one pair there; after a rotation replace both files \
                 ({key}, and office365.private_key_file), they are read again for each request"
            ),
        }
    }
}

const NEW_PAIR: &str = "`openssl req -x509 -newkey rsa:2048 -noenc -days 730 -subj /CN=o365-relay \
                        -keyout key.pem -out certificate.pem`, and upload certificate.pem to the \
                        app registration";
