//! The last password that was right, for each user: a device that logs in anew for each message
//! would cost a slow hash each time. What is kept is a fast hash under a key that this process made
//! up and nobody else knows; it counts only as long as the user's slow hash stays the same.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use argon2::{Algorithm, Argon2, Params, Version};

use super::{hashing::PasswordHash, users::random};
use crate::smtp::auth::Credentials;

type Mark = [u8; 32];

/// As many as there are users, at most.
#[derive(Default)]
pub(super) struct Remembered(Mutex<Option<Known>>);

struct Known {
    key: [u8; 32],
    marks: HashMap<String, (PasswordHash, Mark)>,
}

impl Remembered {
    /// Whether this password was right the last time, against the same hash.
    pub fn knows(&self, credentials: &Credentials, hash: &PasswordHash) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.as_ref() else { return false };
        let Some((then, mark)) = known.marks.get(&credentials.name) else { return false };
        then == hash && known.mark(credentials) == Some(*mark)
    }

    /// This password was right against this hash.
    pub fn remember(&self, credentials: &Credentials, hash: &PasswordHash) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let key = random::<32>().ok();
            *known = key.map(|key| Known { key, marks: HashMap::new() });
        }
        let Some(known) = known.as_mut() else { return };
        if let Some(mark) = known.mark(credentials) {
            known.marks.insert(credentials.name.clone(), (hash.clone(), mark));
        }
    }
}

impl Known {
    /// Argon2 with its smallest parameters and our key: some microseconds.
    fn mark(&self, credentials: &Credentials) -> Option<Mark> {
        let params = Params::new(Params::MIN_M_COST, 1, 1, Some(32)).ok()?;
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        let fast = Argon2::new_with_secret(&self.key, algorithm, version, params).ok()?;
        let mut mark = Mark::default();
        let password = credentials.expose_password();
        fast.hash_password_into(password, b"o365-relay login", &mut mark).ok()?;
        Some(mark)
    }
}
