//! Users and the hashes of their passwords.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, phc},
};

use super::hashing::{PasswordHash, Place};
use crate::smtp::auth::{Credentials, MAX_NAME};

/// Why a list of users cannot be used. No message shows a hash.
#[derive(Debug, thiserror::Error)]
pub enum UsersFault {
    /// The file.
    #[error("could not read {}: {source}; put a line `name:hash` there for each user", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One entry.
    #[error(
        "entry {number} {reason}; write name:hash, with a hash from `o365-relay hash-password`"
    )]
    Entry {
        /// Counted from 1; in a file it is the line.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nobody could log in.
    #[error("there is no user; write name:hash, with a hash from `o365-relay hash-password`")]
    Empty,
}

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The system's random numbers.
    #[error("the system gave no random numbers; try again")]
    Random,
    /// Argon2 itself.
    #[error("could not hash the password: {0}")]
    Hash(String),
}

/// Who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Users(BTreeMap<String, PasswordHash>);

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Users {
    /// Reads lines of `name:hash`; blank ones and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// The first entry that is none, or that there is none at all.
    pub fn parse(text: &str) -> Result<Self, UsersFault> {
        let mut users = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = |reason| UsersFault::Entry { number: at + 1, reason };
            let (name, hash) = line.split_once(':').ok_or(fault("has no colon"))?;
            let name = name.trim();
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(fault("has no usable name"));
            }
            let hash = PasswordHash::parse(hash.trim())
                .ok_or(fault("has no Argon2id hash, or one that asks for more than 64 MiB"))?;
            if users.insert(name.to_owned(), hash).is_some() {
                return Err(fault("names a user a second time"));
            }
        }
        if users.is_empty() { Err(UsersFault::Empty) } else { Ok(Self(users)) }
    }

    /// As [`Users::parse`], from a file.
    ///
    /// # Errors
    /// The same, or that the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, UsersFault> {
        let text = fs::read_to_string(path)
            .map_err(|source| UsersFault::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text)
    }

    pub(super) fn hash_of(&self, name: &str) -> Option<&PasswordHash> {
        self.0.get(name)
    }

    /// Whether the password is that of the name. A name that does not exist takes as long as one
    /// that does: it is compared with the hash of somebody else.
    pub(super) fn verify(&self, credentials: &Credentials, place: &Place) -> bool {
        let password = credentials.expose_password();
        match (self.hash_of(&credentials.name), self.0.values().next()) {
            (Some(hash), _) => hash.matches(password, place),
            (None, Some(stranger)) => {
                stranger.matches(password, place);
                false
            }
            (None, None) => false,
        }
    }
}

/// The users of a file, which may change at any time.
pub(super) struct FileWatch {
    path: PathBuf,
    /// What the file looked like when it was last read, for better or worse.
    seen: Option<Look>,
    users: Option<Arc<Users>>,
}

/// Changes when the file does: inode, size, time of its last change.
type Look = (u64, u64, i64, i64);

impl FileWatch {
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, users: None }
    }

    /// The users; those of before while the file cannot be used.
    pub fn users(&mut self) -> Option<Arc<Users>> {
        let look = fs::metadata(&self.path)
            .ok()
            .map(|data| (data.ino(), data.len(), data.mtime(), data.mtime_nsec()));
        if self.users.is_none() || look != self.seen {
            self.seen = look;
            match Users::read(&self.path) {
                Ok(users) => self.users = Some(Arc::new(users)),
                Err(error) => tracing::error!(
                    %error,
                    file = %self.path.display(),
                    kept = self.users.is_some(),
                    "users not read anew"
                ),
            }
        }
        self.users.clone()
    }
}

/// Hashes a password for [`Users`], with a new salt. It takes a part of a second, and 19 MiB.
///
/// # Errors
/// [`HashError`]; nothing of the password is in it.
pub fn hash_password(password: &[u8]) -> Result<String, HashError> {
    let salt = random::<16>()?;
    // OWASP's parameters, which are the crate's default: 19 MiB, 2 passes, 1 lane.
    let hash: phc::PasswordHash = Argon2::default()
        .hash_password_with_salt(password, &salt)
        .map_err(|error| HashError::Hash(error.to_string()))?;
    Ok(hash.to_string())
}

/// Octets that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], HashError> {
    let mut octets = [0; N];
    let source = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut octets).map_err(|_| HashError::Random)?;
    Ok(octets)
}

#[cfg(test)]
pub(super) mod tests {
    use argon2::Params;

    use super::{super::hashing::Workshop, *};

    /// A hash that costs next to nothing.
    pub fn cheap(password: &str) -> String {
        let params = Params::new(Params::MIN_M_COST, 1, 1, None).unwrap();
        let hash: phc::PasswordHash = Argon2::from(params)
            .hash_password_with_salt(password.as_bytes(), &random::<16>().unwrap())
            .unwrap();
        hash.to_string()
    }

    #[tokio::test]
    async fn a_new_hash_is_taken_and_fits_its_password_only() {
        let hash = hash_password(b"s3cret").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, hash_password(b"s3cret").unwrap(), "each has a salt of its own");
        let users = Users::parse(&format!("# staff\n\n scanner : {hash}\r\n")).unwrap();
        let place = Workshop::default().enter().await.unwrap();
        let verify =
            |name: &str, password: &str| users.verify(&Credentials::new(name, password), &place);
        assert!(verify("scanner", "s3cret"));
        assert!(!verify("scanner", "s3cret "));
        assert!(!verify("nobody", "s3cret"));
    }

    #[test]
    fn what_is_no_list_of_users_is_refused_without_showing_a_hash() {
        let hash = cheap("x");
        let greedy = hash.replace("m=8", "m=1048576");
        let other = hash.replace("$argon2id$", "$argon2i$");
        let old = hash.replace("v=19", "v=16");
        for (text, expected) in [
            (String::new(), "there is no user"),
            ("# only a comment\n".into(), "there is no user"),
            (format!("a:{hash}\nb"), "entry 2 has no colon"),
            (format!(":{hash}"), "entry 1 has no usable name"),
            (format!("{}:{hash}", "x".repeat(256)), "entry 1 has no usable name"),
            ("a:password".into(), "entry 1 has no Argon2id hash"),
            (format!("a:{greedy}"), "entry 1 has no Argon2id hash"),
            (format!("a:{other}"), "entry 1 has no Argon2id hash"),
            (format!("a:{old}"), "entry 1 has no Argon2id hash"),
            ("a:$argon2id$v=19$m=8,t=1,p=1".into(), "entry 1 has no Argon2id hash"),
            (format!("a:{hash}\n\na:{hash}"), "entry 3 names a user a second time"),
        ] {
            let fault = Users::parse(&text).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{text:?}: {fault}");
            assert!(!fault.contains("argon2id$") && !fault.contains("password:"), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_takes_as_long_as_one_that_does() {
        let hash = hash_password(b"s3cret").unwrap();
        let users = Users::parse(&format!("scanner:{hash}")).unwrap();
        let place = Workshop::default().enter().await.unwrap();
        users.verify(&Credentials::new("scanner", "to have the memory"), &place);
        let time = |name: &str| {
            let start = tokio::time::Instant::now();
            assert!(!users.verify(&Credentials::new(name, "guess"), &place));
            start.elapsed()
        };
        let (wrong, unknown) = (time("scanner"), time("nobody"));
        // Without a hash to compare with it would be a thousandth.
        assert!(unknown * 10 > wrong, "{unknown:?} {wrong:?}");
    }

    #[test]
    fn names_are_shown_and_hashes_are_not() {
        let users = Users::parse(&format!("scanner:{}", cheap("x"))).unwrap();
        assert_eq!(format!("{users:?}"), "{\"scanner\"}");
    }
}
