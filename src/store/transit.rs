//! Messages that pass through without a queue. What does not fit into memory lies in a file
//! without a name, which is gone with the process however that ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
};

use super::{body::Body, digest::Digest, draft::Draft, error::StoreError};
use crate::{clock::Clock, mail::queue_id::QueueId};

/// Makes drafts that are never queued.
#[derive(Debug, Clone)]
pub struct Transit {
    directory: Arc<Path>,
    clock: Clock,
}

/// The octets of a message that passes through; can be read more than once.
#[derive(Debug)]
pub struct PassingBody {
    pub(super) id: QueueId,
    pub(super) octets: Octets,
    /// In octets.
    pub(super) length: u64,
    pub(super) digest: Digest,
}

#[derive(Debug)]
pub(super) enum Octets {
    Memory(Vec<u8>),
    /// A file without a name, and the directory that it is in.
    File(File, Arc<Path>),
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

impl PassingBody {
    /// The body from its begin. Read one to its end, or drop it, before the next.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(&self) -> io::Result<Body> {
        let Self { id, octets, length, digest } = self;
        match octets {
            Octets::Memory(octets) => {
                Ok(Body::from_row(*id, octets.clone(), *length, Some(*digest)))
            }
            Octets::File(file, directory) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(0))?;
                Ok(Body::from_file(*id, file, directory.to_path_buf(), *length, Some(*digest)))
            }
        }
    }
}

/// A new file that has no name.
pub(super) fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR) {
        // Not every file system can do that, and some kernels say so in odd ways.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => renounced(directory),
        other => Ok(other?.into()),
    }
}

/// The same by hand: the name is there for a moment, and nothing has been written yet.
fn renounced(directory: &Path) -> io::Result<File> {
    let path = directory.join(format!("o365-relay-{:016x}", fastrand::u64(..)));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::UnixMillis, store::draft::SPILL_BYTES};

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
    fn a_file_made_by_hand_has_no_name_either() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = renounced(directory.path()).unwrap();
        io::Write::write_all(&mut file, b"text").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let octets = Octets::File(file, directory.path().into());
        let id = QueueId::new(0, 0);
        let body = PassingBody { id, octets, length: 4, digest: Digest::of(b"text") };
        assert_eq!(read(&body), b"text");
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
