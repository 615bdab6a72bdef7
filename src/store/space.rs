//! The disk watch: below `queue.min_free_bytes` no mail is taken, so that what is queued can
//! still be settled.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::error::StoreError;

/// How long one look at the disk is good for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) struct SpaceWatch {
    directory: PathBuf,
    wanted: AtomicU64,
    last: Mutex<Option<(Instant, u64)>>,
}

impl SpaceWatch {
    pub fn new(directory: PathBuf, wanted: u64) -> Self {
        Self { directory, wanted: wanted.into(), last: Mutex::new(None) }
    }

    /// Octets that shall be free.
    pub fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// From here on so many shall be.
    pub fn set_wanted(&self, octets: u64) {
        self.wanted.store(octets, Ordering::Relaxed);
    }

    /// Fails if there is less room than wanted.
    pub fn check(&self) -> Result<(), StoreError> {
        let free = self.free()?;
        let wanted = self.wanted();
        if free < wanted {
            return Err(StoreError::LowSpace { free, wanted });
        }
        Ok(())
    }

    /// Fails if what is about to be stored would leave no room to settle what is queued: mail let
    /// in while there was room may be more than the room. Looks at the disk each time.
    pub fn check_reserve(&self) -> Result<(), StoreError> {
        let free = self.look()?;
        let wanted = self.wanted();
        if free < wanted / 2 {
            return Err(StoreError::LowSpace { free, wanted });
        }
        Ok(())
    }

    /// Octets free to us, at most half a second old.
    pub fn free(&self) -> Result<u64, StoreError> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((when, free)) = *last
            && when.elapsed() < LOOK_AGAIN
        {
            return Ok(free);
        }
        let free = self.look()?;
        *last = Some((Instant::now(), free));
        Ok(free)
    }

    fn look(&self) -> Result<u64, StoreError> {
        free_octets(&self.directory)
    }
}

/// Octets free to us where `directory` lies.
///
/// # Errors
/// [`StoreError`] if the system does not say.
pub fn free_octets(directory: &Path) -> Result<u64, StoreError> {
    let facts = rustix::fs::statvfs(directory)
        .map_err(|error| StoreError::io("measure the free space of", directory)(error.into()))?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}
