//! Messages that pass through without a queue.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{draft::Draft, error::StoreError, passing::nameless};
use crate::{clock::Clock, mail::queue_id::QueueId};

/// Makes drafts that are never queued.
#[derive(Debug, Clone)]
pub struct Transit {
    directory: Arc<Path>,
    clock: Clock,
}

impl Transit {
    /// Drafts in `directory`, after a look whether files can be made there.
    ///
    /// # Errors
    /// [`StoreError`] says what failed and what to do about it.
    pub fn open(directory: PathBuf, clock: Clock) -> Result<Self, StoreError> {
        nameless(&directory).map_err(StoreError::spool("make", &directory))?;
        Ok(Self { directory: directory.into(), clock })
    }

    /// A draft for a new message.
    #[must_use]
    pub fn draft(&self) -> Draft {
        let id = QueueId::new(self.clock.now().0, fastrand::u64(..));
        Draft::passing(id, Arc::clone(&self.directory))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        clock::UnixMillis,
        store::{
            draft::SPILL_BYTES,
            passing::{Octets, PassingBody},
        },
    };

    fn read(body: &PassingBody) -> Vec<u8> {
        let chunks: Result<Vec<_>, _> = body.open().unwrap().chunks().collect();
        chunks.unwrap().concat()
    }

    #[tokio::test]
    async fn a_message_comes_out_as_it_went_in_twice_and_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::at(UnixMillis(1_795_415_050_000));
        let transit = Transit::open(directory.path().into(), clock).unwrap();
        for size in [0, 10, SPILL_BYTES, SPILL_BYTES + 1, 3_000_000] {
            let octets: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut draft = transit.draft();
            for chunk in octets.chunks(30_000) {
                draft.append(chunk).await.unwrap();
                assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
            }
            assert_eq!(draft.size(), size as u64);
            let body = draft.into_passing().await.unwrap();
            assert_eq!(matches!(body.octets, Octets::File(..)), size > SPILL_BYTES);
            assert!(read(&body) == octets && read(&body) == octets, "{size}");
            assert_eq!(body.open().unwrap().len(), size as u64);
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_with_its_key() {
        let directory = tempfile::tempdir().unwrap().path().join("gone");
        let clock = Clock::at(UnixMillis(0));
        let error = Transit::open(directory.clone(), clock).unwrap_err().to_string();
        assert!(error.contains(&directory.display().to_string()), "{error}");
        assert!(error.contains("queue.spool_directory"), "{error}");
    }
}
