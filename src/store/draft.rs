//! A message on its way in: in memory while it is small, in a body file once it is not.

use std::{fs::File, io::Write, path::Path, sync::Arc};

use super::{
    Durability, Durable,
    digest::{Digest, Digester},
    directory::Directory,
    error::{SYNC, StoreError},
    passing::{Octets, PassingBody, nameless},
};
use crate::mail::queue_id::QueueId;

/// Bodies up to this size stay in memory and then in the database; larger ones go to a file.
pub const SPILL_BYTES: usize = 64 * 1024;

/// A message that is not durable yet. Dropping it forgets it, file and all.
#[derive(Debug)]
pub struct Draft {
    id: QueueId,
    place: Place,
    buffer: Vec<u8>,
    file: Option<Spill>,
    size: u64,
    digester: Digester,
}

/// Where a draft goes that does not stay small.
#[derive(Debug, Clone)]
enum Place {
    /// Into the queue.
    Queue(Directory),
    /// Into a file without a name, in this directory.
    Transit(Arc<Path>),
}

/// What has become too large for memory.
#[derive(Debug)]
enum Spill {
    Queue(BodyFile),
    Transit(File, Arc<Path>),
}

/// A body file without a row: it goes when it is dropped before the commit.
#[derive(Debug)]
pub(super) struct BodyFile {
    id: QueueId,
    directory: Directory,
    file: Option<File>,
    committed: bool,
}

/// A draft whose octets are all where they belong.
#[derive(Debug)]
pub(super) struct Finished {
    pub id: QueueId,
    pub size: u64,
    pub digest: Digest,
    pub body: FinishedBody,
}

#[derive(Debug)]
pub(super) enum FinishedBody {
    /// Goes into the database with the row.
    Memory(Vec<u8>),
    /// Written and synced; its name is not synced yet.
    File(BodyFile),
}

impl Draft {
    pub(super) fn new(id: QueueId, directory: Directory) -> Self {
        Self::at(id, Place::Queue(directory))
    }

    /// A draft that is never queued.
    pub(super) fn passing(id: QueueId, directory: Arc<Path>) -> Self {
        Self::at(id, Place::Transit(directory))
    }

    fn at(id: QueueId, place: Place) -> Self {
        let digester = Digester::new();
        Self { id, place, buffer: Vec::new(), file: None, size: 0, digester }
    }

    /// The queue id that the message will have.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Octets so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends mail data.
    ///
    /// # Errors
    /// [`StoreError`] if a body file cannot be written; the draft is of no use then.
    pub async fn append(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.size += octets.len() as u64;
        self.digester.take(octets);
        self.buffer.extend_from_slice(octets);
        if self.buffer.len() > SPILL_BYTES { self.spill().await } else { Ok(()) }
    }

    /// Moves the buffer to the file, off the runtime: a disk may take its time.
    async fn spill(&mut self) -> Result<(), StoreError> {
        let buffer = std::mem::take(&mut self.buffer);
        let (id, place) = (self.id, self.place.clone());
        let file = self.file.take();
        let (file, mut buffer) = blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => Spill::create(id, place)?,
            };
            file.write(&buffer)?;
            Ok((file, buffer))
        })
        .await?;
        buffer.clear();
        self.buffer = buffer;
        self.file = Some(file);
        Ok(())
    }

    /// Writes what is left and syncs the body file, if there is one.
    pub(super) async fn finish(
        mut self,
        durability: Arc<dyn Durability>,
    ) -> Result<Finished, StoreError> {
        if matches!(self.place, Place::Transit(_)) {
            return Err(StoreError::NotForTheQueue);
        }
        let (id, size, digest) = (self.id, self.size, self.digester.digest());
        if self.file.is_none() {
            let body = FinishedBody::Memory(std::mem::take(&mut self.buffer));
            return Ok(Finished { id, size, digest, body });
        }
        self.spill().await?;
        let Some(Spill::Queue(mut file)) = self.file.take() else {
            return Err(StoreError::Closed);
        };
        let file = blocking(move || {
            durability.make_durable(Durable::BodyFile(id), &mut || file.sync())?;
            Ok(file)
        })
        .await?;
        Ok(Finished { id, size, digest, body: FinishedBody::File(file) })
    }

    /// Writes what is left, for a message that passes through.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub async fn into_passing(mut self) -> Result<PassingBody, StoreError> {
        let (id, length, digest) = (self.id, self.size, self.digester.digest());
        let octets = if self.file.is_none() {
            Octets::Memory(std::mem::take(&mut self.buffer))
        } else {
            self.spill().await?;
            match self.file.take() {
                Some(Spill::Transit(file, directory)) => Octets::File(file, directory),
                _ => return Err(StoreError::Closed),
            }
        };
        Ok(PassingBody { id, octets, length, digest })
    }
}

impl Spill {
    fn create(id: QueueId, place: Place) -> Result<Self, StoreError> {
        match place {
            Place::Queue(directory) => BodyFile::create(id, directory).map(Self::Queue),
            Place::Transit(directory) => {
                let file = nameless(&directory).map_err(StoreError::spool("make", &directory))?;
                Ok(Self::Transit(file, directory))
            }
        }
    }

    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Queue(file) => file.write(octets),
            Self::Transit(file, directory) => {
                file.write_all(octets).map_err(StoreError::spool("write", directory))
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}

impl BodyFile {
    fn create(id: QueueId, directory: Directory) -> Result<Self, StoreError> {
        let file = directory.create_body_file(id)?;
        Ok(Self { id, directory, file: Some(file), committed: false })
    }

    fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        let path = self.directory.body_file(self.id);
        match &mut self.file {
            Some(file) => file.write_all(octets).map_err(StoreError::io("write", path)),
            None => Err(StoreError::Closed),
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let path = self.directory.body_file(self.id);
        match self.file.take() {
            Some(file) => file.sync_all().map_err(StoreError::io(SYNC, path)),
            None => Ok(()),
        }
    }

    /// The row is durable: the file belongs to the queue now.
    pub fn committed(mut self) {
        self.committed = true;
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if !self.committed {
            // If this fails the file is an orphan, and the next start removes it.
            let _ = std::fs::remove_file(self.directory.body_file(self.id));
        }
    }
}
