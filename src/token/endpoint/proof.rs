//! What is sent to prove who asks.

use std::{path::Path, time::Duration};

use secrecy::SecretString;

use crate::{
    clock::UnixMillis,
    token::{
        CertificateFiles, Expiry, FileFault, FileKind, SecretFault, TokenError,
        assertion::Statement, file, http::random_guid,
    },
};

/// What is sent to prove who asks.
pub(super) enum Proof {
    /// `client_secret`.
    Secret(SecretString),
    /// `client_assertion`.
    Assertion(SecretString),
}

impl Proof {
    /// What nothing may show.
    pub(super) fn secret(&self) -> &SecretString {
        match self {
            Self::Secret(secret) | Self::Assertion(secret) => secret,
        }
    }
}

/// A new assertion, signed with the key as it is now, and when the certificate ends.
pub(super) async fn assertion(
    files: &CertificateFiles,
    client_id: &str,
    audience: &str,
    now: UnixMillis,
) -> Result<(SecretString, Expiry), TokenError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let (files, id) = (files.clone(), random_guid());
        let (client_id, audience) = (client_id.to_owned(), audience.to_owned());
        let signed = file::aside(move || {
            let statement = Statement { client_id: &client_id, audience: &audience, now, id };
            sign(&files, &statement)
        });
        match signed.await.unwrap_or_else(|| Err(ending(FileKind::Certificate))) {
            // Two files cannot be replaced at once: whoever does it may be half-way.
            Err(TokenError::File { reason, .. })
                if reason.may_be_half_written() && looks < LOOKS =>
            {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            outcome => return outcome,
        }
    }
}

fn sign(
    files: &CertificateFiles,
    statement: &Statement<'_>,
) -> Result<(SecretString, Expiry), TokenError> {
    let pair = files.read()?;
    let signed = statement.sign(&pair, files.algorithm).ok_or_else(|| TokenError::File {
        kind: FileKind::PrivateKey,
        path: files.private_key.as_ref().unwrap_or(&files.certificate).clone(),
        reason: FileFault::BadKey("it does not sign".into()),
    })?;
    Ok((signed, Expiry::of_certificate(files, &pair)))
}

/// The token that somebody else keeps fresh in a file.
pub(super) async fn federated_token(path: &Path) -> Result<SecretString, TokenError> {
    let file = path.to_path_buf();
    let read = file::aside(move || read_federated_token(&file)).await;
    read.unwrap_or_else(|| Err(ending(FileKind::FederatedToken)))
}

/// The trimmed content of the file. Blocks.
///
/// # Errors
/// [`TokenError::File`] if there is none.
pub(in crate::token) fn read_federated_token(path: &Path) -> Result<SecretString, TokenError> {
    let token = file::read(path, LONGEST_TOKEN).and_then(|text| match text.trim() {
        "" => Err(SecretFault::Empty),
        token if token.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err(SecretFault::ManyLines)
        }
        token => Ok(SecretString::from(token)),
    });
    token.map_err(|fault| TokenError::File {
        kind: FileKind::FederatedToken,
        path: path.into(),
        reason: fault.into(),
    })
}

/// The runtime takes no more work.
fn ending(kind: FileKind) -> TokenError {
    let reason = SecretFault::Unreadable("the program is ending".into());
    TokenError::File { kind, path: "(none)".into(), reason: reason.into() }
}

/// How often a pair of files is looked at within one request, and the pause between.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
const LONGEST_TOKEN: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::token::{Algorithm, test_pair::Pair};

    #[tokio::test(start_paused = true)]
    async fn a_pair_caught_half_written_is_read_again_within_the_same_request() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (Pair::new(), Pair::new());
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("certificate.pem"), &new.certificate).unwrap();
        std::fs::write(path("key.pem"), &old.key).unwrap();
        let files = CertificateFiles {
            certificate: path("certificate.pem"),
            private_key: Some(path("key.pem")),
            algorithm: Algorithm::Ps256,
        };
        let start = Instant::now();
        let ask = || assertion(&files, "58d8", "https://login.example", UnixMillis(0));
        let error = ask().await.map(drop).unwrap_err();
        assert!(error.to_string().contains("does not belong"), "{error}");
        assert_eq!(start.elapsed(), BETWEEN_LOOKS * 2);

        let (signed, ()) = tokio::join!(ask(), async {
            tokio::time::sleep(BETWEEN_LOOKS / 2).await;
            std::fs::write(path("key.pem"), &new.key).unwrap();
        });
        assert!(signed.unwrap().1.what.ends_with("certificate.pem"));
        assert_eq!(start.elapsed(), BETWEEN_LOOKS * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_wait_mends_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let pair = Pair::new();
        let path = directory.path().join("both.pem");
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        std::fs::write(&path, format!("{}{encrypted}", pair.certificate)).unwrap();
        let files =
            CertificateFiles { certificate: path, private_key: None, algorithm: Algorithm::Rs256 };
        let start = Instant::now();
        let error = assertion(&files, "58d8", "https://login.example", UnixMillis(0)).await;
        assert!(error.map(drop).unwrap_err().to_string().contains("encrypted with a password"));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
