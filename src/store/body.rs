//! The body of a queued message, opened for delivery. Octets that are not those that were accepted
//! are an error of their own: they must never be sent, and no other try makes them better.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::PathBuf,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use super::{
    Entry, Store,
    digest::{Digest, Digester},
    directory::Places,
    error::StoreError,
    read,
};
use crate::mail::queue_id::QueueId;

/// An opened body.
#[derive(Debug)]
pub struct Body {
    id: QueueId,
    octets: Octets,
    /// Its length in octets.
    length: u64,
    /// `None` for messages that were accepted before digests were kept.
    digest: Option<Digest>,
}

/// Where the octets come from.
#[derive(Debug)]
enum Octets {
    /// A small body, whole.
    Row(Vec<u8>),
    /// A large one.
    File(File, PathBuf),
}

/// Octets read from a body file at a time.
const CHUNK: usize = 64 * 1024;

impl Body {
    /// A body from its row.
    pub(super) fn from_row(
        id: QueueId,
        octets: Vec<u8>,
        length: u64,
        digest: Option<Digest>,
    ) -> Self {
        Self { id, octets: Octets::Row(octets), length, digest }
    }

    /// A body from a file that is open already; `path` is for messages.
    pub(super) fn from_file(
        id: QueueId,
        file: File,
        path: PathBuf,
        length: u64,
        digest: Option<Digest>,
    ) -> Self {
        Self { id, octets: Octets::File(file, path), length, digest }
    }

    /// Opens the body file, which must be as long as it was when it was made durable.
    pub(super) fn open(
        places: &Places,
        id: QueueId,
        length: u64,
        digest: Option<Digest>,
    ) -> Result<Self, StoreError> {
        let path = places.body_file(id);
        let missing = |detail: String| StoreError::MissingBody { id, detail };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(missing(format!("no file {}", path.display())));
            }
            Err(error) => return Err(StoreError::io("open", path)(error)),
        };
        let found = file.metadata().map_err(StoreError::io("open", &path))?.len();
        if found != length {
            return Err(missing(format!("{} holds {found} octets of {length}", path.display())));
        }
        Ok(Self { id, octets: Octets::File(file, path), length, digest })
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

    /// The octets in chunks, the last of them only if all are those that were accepted. A chunk
    /// that does not come is an error, and nothing follows it: [`StoreError::is_lost_body`] tells
    /// damage from a disk that may do better later.
    pub fn chunks(self) -> impl Iterator<Item = Result<Vec<u8>, StoreError>> + Send {
        let mut chunks = Chunks::new(self);
        std::iter::from_fn(move || match chunks.next()? {
            Ok(_) if chunks.is_damaged() => Some(Err(chunks.damage())),
            chunk => Some(chunk),
        })
    }

    /// The octets in chunks as they are, for an operator to look at. Damage is told at the end.
    pub fn chunks_as_they_are(self) -> impl Iterator<Item = Result<Vec<u8>, StoreError>> {
        let mut chunks = Chunks::new(self);
        let mut told = false;
        std::iter::from_fn(move || {
            chunks.next().or_else(|| {
                let tells = !std::mem::replace(&mut told, true) && chunks.is_damaged();
                tells.then(|| Err(chunks.damage()))
            })
        })
    }

    /// A small body is checked when it is read, before any connection is made for it.
    pub(super) fn checked(self) -> Result<Self, StoreError> {
        match &self.octets {
            Octets::Row(octets)
                if octets.len() as u64 != self.length
                    || self.digest.is_some_and(|digest| digest != Digest::of(octets)) =>
            {
                Err(damaged(self.id, &self.octets))
            }
            _ => Ok(self),
        }
    }

    /// The first octets, at most `most` of them, of a body that is unhurt as a whole.
    pub(super) fn front(self, most: usize) -> Result<Vec<u8>, StoreError> {
        let mut front = Vec::new();
        for chunk in self.chunks() {
            let mut chunk = chunk?;
            chunk.truncate(most - front.len());
            front.append(&mut chunk);
        }
        Ok(front)
    }

    /// A body that no store holds.
    #[cfg(test)]
    pub(crate) fn of(octets: &[u8]) -> Self {
        let length = octets.len() as u64;
        Self::from_row(QueueId::new(1, 1), octets.to_vec(), length, Some(Digest::of(octets)))
    }

    /// A file that should hold `expected`.
    #[cfg(test)]
    pub(crate) fn of_file(path: &std::path::Path, expected: &[u8]) -> std::io::Result<Self> {
        let octets = Octets::File(File::open(path)?, path.into());
        let (length, digest) = (expected.len() as u64, Some(Digest::of(expected)));
        Ok(Self { id: QueueId::new(1, 1), octets, length, digest })
    }
}

impl Store {
    /// The body of a queued message, opened.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::is_lost_body`] if there is none, or a small one is damaged.
    pub async fn body(&self, entry: &Entry) -> Result<Body, StoreError> {
        let (id, directory) = (entry.id, self.shared.directory.clone());
        self.read(move |database| read::body(database, &directory, id)?.checked()).await
    }

    /// The first octets of a body that is unhurt as a whole, at most `most` of them.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::is_lost_body`] if it is missing or damaged.
    pub async fn front(&self, entry: &Entry, most: usize) -> Result<Vec<u8>, StoreError> {
        let (id, directory) = (entry.id, self.shared.directory.clone());
        self.read(move |database| read::body(database, &directory, id)?.front(most)).await
    }

    /// As [`Store::body`], at the begin of an attempt: `None` if the message has been removed or
    /// set aside since it was read.
    ///
    /// # Errors
    /// As for [`Store::body`].
    pub async fn body_if_waiting(&self, entry: &Entry) -> Result<Option<Body>, StoreError> {
        let (id, directory) = (entry.id, self.shared.directory.clone());
        self.read(move |database| {
            read::body_if_waiting(database, &directory, id)?.map(Body::checked).transpose()
        })
        .await
    }
}

fn damaged(id: QueueId, octets: &Octets) -> StoreError {
    let place = match octets {
        Octets::Row(_) => "its row in queue.db".to_owned(),
        Octets::File(_, path) => path.display().to_string(),
    };
    StoreError::DamagedBody { id, place }
}

/// Waits for the disk without keeping a worker of the runtime from its other tasks: a disk that
/// hangs must not take the replies to clients and the signs of life with it.
fn off_the_workers<T>(read: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(read),
        _ => read(), // no runtime, or one of a single thread as tests have it
    }
}

/// A body under way.
struct Chunks {
    body: Body,
    /// Octets still to come; the rest of a row comes in one piece.
    left: u64,
    ended: bool,
    digester: Digester,
}

impl Chunks {
    fn new(body: Body) -> Self {
        Self { left: body.length, ended: false, digester: Digester::new(), body }
    }

    fn next(&mut self) -> Option<Result<Vec<u8>, StoreError>> {
        if self.ended {
            return None;
        }
        let chunk = match &mut self.body.octets {
            Octets::Row(octets) => {
                self.ended = true;
                let octets = std::mem::take(octets);
                self.left = self.left.abs_diff(octets.len() as u64);
                octets
            }
            Octets::File(file, path) => {
                let mut chunk = vec![0; CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK))];
                if let Err(error) = off_the_workers(|| file.read_exact(&mut chunk)) {
                    self.ended = true;
                    // It was as long as it should be when it was opened.
                    return Some(Err(match error.kind() {
                        ErrorKind::UnexpectedEof => self.damage(),
                        _ => StoreError::io("read", path.as_path())(error),
                    }));
                }
                self.left -= chunk.len() as u64;
                self.ended = self.left == 0;
                chunk
            }
        };
        self.digester.take(&chunk);
        (!chunk.is_empty()).then_some(Ok(chunk))
    }

    /// Whether all has come, and is not what was accepted.
    fn is_damaged(&self) -> bool {
        let differs = |digest| digest != self.digester.digest();
        self.ended && (self.left != 0 || self.body.digest.is_some_and(differs))
    }

    fn damage(&mut self) -> StoreError {
        self.ended = true;
        damaged(self.body.id, &self.body.octets)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::fd::AsRawFd, path::Path, sync::mpsc, time::Duration};

    use super::*;

    type Told = Vec<Result<usize, bool>>;

    /// What came: the length of a chunk, or whether the body is lost.
    fn told(chunks: impl Iterator<Item = Result<Vec<u8>, StoreError>>) -> Told {
        let tell = |chunk: Result<Vec<u8>, StoreError>| {
            chunk.map(|chunk| chunk.len()).map_err(|error| error.is_lost_body())
        };
        chunks.map(tell).collect()
    }

    #[test]
    fn the_last_chunk_of_a_damaged_body_is_kept_back_except_for_an_operator() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("body");
        let good = vec![b'x'; 2 * CHUNK + 10];
        for at in [0, CHUNK, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let body = || Body::of_file(&path, &good).unwrap();
            assert_eq!(told(body().chunks()), [Ok(CHUNK), Ok(CHUNK), Err(true)]);
            let all = [Ok(CHUNK), Ok(CHUNK), Ok(10), Err(true)];
            assert_eq!(told(body().chunks_as_they_are()), all);
            assert!(body().front(5).unwrap_err().is_lost_body());
        }
        std::fs::write(&path, &good).unwrap();
        let body = || Body::of_file(&path, &good).unwrap();
        assert_eq!(told(body().chunks()), [Ok(CHUNK), Ok(CHUNK), Ok(10)]);
        assert_eq!(told(body().chunks_as_they_are()), [Ok(CHUNK), Ok(CHUNK), Ok(10)]);
        assert_eq!(body().front(5).unwrap(), b"xxxxx");
    }

    #[test]
    fn a_damaged_row_gives_nothing_and_names_its_place() {
        let id = QueueId::new(1, 1);
        let body = || Body::from_row(id, b"bad".to_vec(), 3, Some(Digest::of(b"god")));
        assert_eq!(told(body().chunks()), [Err(true)]);
        assert_eq!(told(body().chunks_as_they_are()), [Ok(3), Err(true)]);
        let error = body().checked().unwrap_err().to_string();
        assert!(error.contains(id.as_str()) && error.contains("its row in queue.db"), "{error}");
        assert!(error.contains("not those that were accepted"), "{error}");
        // Without a digest the length is all that can be told.
        assert!(Body::from_row(id, b"bad".to_vec(), 3, None).checked().is_ok());
        assert!(Body::from_row(id, b"bad".to_vec(), 4, None).checked().is_err());
        assert_eq!(told(Body::from_row(id, b"bad".to_vec(), 4, None).chunks()), [Err(true)]);
    }

    #[test]
    fn an_empty_body_has_no_chunks() {
        assert_eq!(told(Body::of(b"").chunks()), []);
        let body = Body::from_row(QueueId::new(1, 1), Vec::new(), 0, Some(Digest::of(b"x")));
        assert_eq!(told(body.chunks_as_they_are()), [Err(true)]);
    }

    #[test]
    fn a_directory_in_place_of_the_file_is_not_taken_for_damage() {
        let directory = tempfile::tempdir().unwrap();
        let body = Body::of_file(directory.path(), b"expected").unwrap();
        assert_eq!(told(body.chunks()), [Err(false)]);
    }

    #[test]
    fn a_disk_that_hangs_does_not_keep_other_tasks_from_their_worker() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (disk, mut disk_goes_on) = std::io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", disk.as_raw_fd());
        let body = Body::of_file(Path::new(&path), b"abcd").unwrap();
        let (say, hear) = mpsc::channel();
        let said = say.clone();
        let reading = runtime.spawn(async move {
            said.send("it reads").unwrap();
            body.chunks().map(Result::unwrap).collect::<Vec<_>>().concat()
        });
        assert_eq!(hear.recv().unwrap(), "it reads");
        runtime.spawn(async move { say.send("another task").unwrap() });
        let heard = hear.recv_timeout(Duration::from_secs(30));
        disk_goes_on.write_all(b"abcd").unwrap();
        assert_eq!(heard.expect("the other task runs while the disk hangs"), "another task");
        assert_eq!(runtime.block_on(reading).unwrap(), b"abcd");
    }
}
