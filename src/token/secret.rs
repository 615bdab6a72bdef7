//! Reading the client secret, again for each request, so that a rotation needs no restart.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::{SecretSource, TokenError, error::SecretFault, file};

impl SecretSource {
    /// What it is called in an error.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Value(_) => "office365.client_secret".into(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// The secret as it is now.
    ///
    /// # Errors
    /// [`TokenError::Secret`] when the file cannot be read, or when it holds no secret.
    pub(super) async fn read(&self) -> Result<SecretString, TokenError> {
        let (path, secret) = match self {
            Self::Value(secret) => (None, Ok(secret.clone())),
            Self::File(path) => {
                let file = path.clone();
                let read = file::aside(move || read_file(&file)).await;
                let ended = || Err(SecretFault::Unreadable("the program is ending".into()));
                (Some(path), read.unwrap_or_else(ended))
            }
        };
        secret
            .and_then(|secret| checked(&secret))
            .map_err(|reason| TokenError::Secret { path: path.cloned(), reason })
    }
}

fn read_file(path: &Path) -> Result<SecretString, SecretFault> {
    let text = file::read(path, LONGEST)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(SecretString::from(text.strip_suffix('\r').unwrap_or(text)))
}

fn checked(secret: &SecretString) -> Result<SecretString, SecretFault> {
    let text = secret.expose_secret();
    if text.trim().is_empty() {
        return Err(SecretFault::Empty);
    }
    if text.contains(char::is_control) {
        return Err(SecretFault::ManyLines);
    }
    Ok(secret.clone())
}

const LONGEST: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content: &[u8]) -> Result<String, SecretFault> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client_secret");
        std::fs::write(&path, content).unwrap();
        match SecretSource::File(path.clone()).read().await {
            Ok(secret) => Ok(secret.expose_secret().to_owned()),
            Err(TokenError::Secret { path: Some(named), reason }) if named == path => Err(reason),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn one_line_end_and_a_byte_order_mark_are_no_part_of_the_secret() {
        assert_eq!(read(b"s3cr+t&").await.unwrap(), "s3cr+t&");
        assert_eq!(read(b"s3cr+t&\n").await.unwrap(), "s3cr+t&");
        assert_eq!(read(b"\xef\xbb\xbfs3cr+t&\r\n").await.unwrap(), "s3cr+t&");
        assert_eq!(read(b" a b ").await.unwrap(), " a b ");
    }

    #[tokio::test]
    async fn what_holds_no_secret_is_named() {
        assert_eq!(read(b"").await, Err(SecretFault::Empty));
        assert_eq!(read(b"\r\n").await, Err(SecretFault::Empty));
        assert_eq!(read(b"one\ntwo").await, Err(SecretFault::ManyLines));
        assert_eq!(read(b"\xff\xfea\0b\0").await, Err(SecretFault::NotText));
        assert_eq!(read(&vec![b'x'; 20_000]).await, Err(SecretFault::TooLong(16_384)));
    }

    #[tokio::test]
    async fn a_missing_file_and_a_directory_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let missing = SecretSource::File(directory.path().join("none")).read().await.unwrap_err();
        assert!(missing.to_string().contains("none could not be read: No such file"), "{missing}");
        let folder = SecretSource::File(directory.path().into()).read().await.unwrap_err();
        assert!(folder.to_string().ends_with("is not a regular file"), "{folder}");
        assert!(!missing.is_transient() && !folder.is_transient());
        let empty = SecretSource::Value("".into()).read().await.unwrap_err();
        assert_eq!(empty.to_string(), "the client secret is empty");
    }
}
