//! The body of a queued message, opened for delivery.

use std::{fs::File, io::Read};

use super::{directory::Places, error::StoreError};
use crate::mail::queue_id::QueueId;

/// Where the octets come from.
#[derive(Debug)]
pub enum Body {
    /// A small body, whole.
    Memory(Vec<u8>),
    /// A large one, and its length in octets.
    File(File, u64),
}

/// Octets read from a body file at a time.
const CHUNK: usize = 64 * 1024;

impl Body {
    /// Its length in octets.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(octets) => octets.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The octets in chunks. A chunk that cannot be read is an error, and the last one.
    pub fn chunks(self) -> impl Iterator<Item = std::io::Result<Vec<u8>>> {
        let mut body = Some(self);
        std::iter::from_fn(move || match body.take()? {
            Self::Memory(octets) => Some(Ok(octets)),
            Self::File(mut file, left) => {
                let want = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
                if want == 0 {
                    return None;
                }
                let mut chunk = vec![0; want];
                // A file that has become shorter is an error too, not an early end.
                if let Err(error) = file.read_exact(&mut chunk) {
                    return Some(Err(error));
                }
                body = Some(Self::File(file, left - want as u64));
                Some(Ok(chunk))
            }
        })
    }
}

/// Opens the body file, which must hold the octets that were made durable and no others.
pub(super) fn open_file(places: &Places, id: QueueId, size: u64) -> Result<Body, StoreError> {
    let path = places.body_file(id);
    let missing = |detail: String| StoreError::MissingBody { id, detail };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(missing(format!("no file {}", path.display())));
        }
        Err(error) => return Err(StoreError::io("open", path)(error)),
    };
    let length = file.metadata().map_err(StoreError::io("open", &path))?.len();
    if length != size {
        return Err(missing(format!("{} holds {length} octets of {size}", path.display())));
    }
    Ok(Body::File(file, length))
}
