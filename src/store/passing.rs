//! The octets of a message that passes through. What does not fit into memory lies in a file
//! without a name, which is gone with the process however that ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    io::Errno,
};

use super::{body::Body, digest::Digest};
use crate::mail::queue_id::QueueId;

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

impl PassingBody {
    /// A message of our own that is small enough for memory.
    #[must_use]
    pub fn small(id: QueueId, octets: Vec<u8>) -> Self {
        let (length, digest) = (octets.len() as u64, Digest::of(&octets));
        Self { id, octets: Octets::Memory(octets), length, digest }
    }

    /// Its length in octets.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

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

    #[test]
    fn a_file_made_by_hand_has_no_name_either() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = renounced(directory.path()).unwrap();
        io::Write::write_all(&mut file, b"text").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let octets = Octets::File(file, directory.path().into());
        let id = QueueId::new(0, 0);
        let body = PassingBody { id, octets, length: 4, digest: Digest::of(b"text") };
        let chunks: Result<Vec<_>, _> = body.open().unwrap().chunks().collect();
        assert_eq!(chunks.unwrap().concat(), b"text");
    }
}
