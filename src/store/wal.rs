//! A look through the write-ahead log before SQLite reads it.
//!
//! SQLite takes the frames up to the last commit before the first frame whose checksum does not
//! fit, and says nothing about the rest. Behind a power cut that is right: the rest is a
//! transaction that was never synced, so nobody was told that it is durable. Damage in the middle
//! of the log looks the same to SQLite, and there the rest is mail with a 250.
//!
//! The two are told apart by what stands behind the end. A writer computes each frame's checksum
//! from that of the frame before, and begins a transaction behind the commit of the one before,
//! once that is synced. So where an unbroken chain leads from one commit to another, the first had
//! been synced; if it stands behind the end, the log is damaged. Leftovers do not look like that:
//! a transaction cut off by a crash has one commit, those that failed and were written over do not
//! hang together, and frames from before the log began anew have other salts.
//!
//! The format is that of <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::error::StoreError;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const MAGIC: u32 = 0x377f_0682;
const READ_BLOCK: usize = 256 * 1024;

/// A log that is written while it is read looks different each time; damage does not.
const LOOKS: usize = 8;

/// What SQLite would not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    /// Frames that SQLite will take.
    pub intact: u64,
    /// Commits behind those that can be recognised.
    pub lost: u64,
    header: Vec<u8>,
}

/// Where SQLite keeps the log of a database.
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

/// Whether committed transactions of this database stand behind damage in its log.
pub(super) fn damage(database: &Path) -> Result<Option<Damage>, StoreError> {
    let path = log_of(database);
    let look = || match look(&path, database) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Log::damage).map_err(StoreError::io("read", &path)),
    };
    let mut before = look()?;
    for _ in 0..LOOKS {
        if before.is_none() {
            return Ok(None);
        }
        let now = look()?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    // A running process writes it, and knows what is in it.
    Ok(None)
}

fn look(path: &Path, database: &Path) -> io::Result<Log> {
    let mut file = BufReader::with_capacity(READ_BLOCK, File::open(path)?);
    let mut header = [0; HEADER];
    if !fill(&mut file, &mut header)? {
        return Ok(Log::default());
    }
    let mut log = Log::new(header, || page_size(database));
    let mut frame = vec![0; FRAME_HEADER + log.page_size];
    while fill(&mut file, &mut frame)? {
        log.take(&frame);
    }
    Ok(log)
}

/// Reads as much as fits; false if there is no more than a part of that.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The page size as the database has it (octets 16 and 17), for a log whose header is damaged.
fn page_size(database: &Path) -> usize {
    let mut header = [0; 18];
    let read = File::open(database).and_then(|mut file| file.read_exact(&mut header));
    let size = match (read, u16::from_be_bytes([header[16], header[17]])) {
        (Ok(()), 1) => 65_536,
        (Ok(()), size) => u32::from(size),
        (Err(_), _) => 0,
    };
    valid_page_size(size).unwrap_or(4096)
}

fn valid_page_size(size: u32) -> Option<usize> {
    let valid = size.is_power_of_two() && (512..=65_536).contains(&size);
    if valid { usize::try_from(size).ok() } else { None }
}

/// The running sum over 32-bit words, taken by twos.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum(u32, u32);

impl Sum {
    fn over(self, octets: &[u8], word: fn([u8; 4]) -> u32) -> Self {
        let Self(mut one, mut two) = self;
        for [a, b, c, d, e, f, g, h] in octets.as_chunks().0 {
            one = one.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(two);
            two = two.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(one);
        }
        Self(one, two)
    }
}

/// What has been seen of a log.
#[derive(Debug, Default)]
struct Log {
    header: Vec<u8>,
    page_size: usize,
    /// Those of the log as it is now; `None` if its header is damaged.
    salts: Option<[u32; 2]>,
    /// How checksums read their words.
    word: Option<fn([u8; 4]) -> u32>,
    frames: u64,
    /// Frames up to the last commit before the first bad frame: what SQLite will take.
    committed: u64,
    /// A bad frame has come.
    behind: bool,
    /// Of the frame before.
    sum: Sum,
    last_salts: [u32; 2],
    /// Commits in the chain that leads to the frame before, behind the first bad frame.
    chained: u64,
    /// Those in chains of two and more.
    lost: u64,
}

impl Log {
    fn new(header: [u8; HEADER], fallback_page_size: impl FnOnce() -> usize) -> Self {
        let field = |at: usize| u32_at(&header, at);
        let word: fn([u8; 4]) -> u32 = match field(0) {
            magic if magic == MAGIC | 1 => u32::from_be_bytes,
            magic if magic == MAGIC => u32::from_le_bytes,
            _ => u32::from_ne_bytes,
        };
        let sum = Sum(field(24), field(28));
        let page_size = valid_page_size(field(8));
        let sound = field(0) & !1 == MAGIC
            && page_size.is_some()
            && Sum::default().over(&header[..24], word) == sum;
        Self {
            header: header.to_vec(),
            page_size: page_size.filter(|_| sound).unwrap_or_else(fallback_page_size),
            salts: sound.then(|| [field(16), field(20)]),
            word: Some(word),
            behind: !sound,
            sum,
            ..Self::default()
        }
    }

    /// The next frame, whole.
    fn take(&mut self, frame: &[u8]) {
        let (Some(word), Some((&head, page))) = (self.word, frame.split_first_chunk()) else {
            return;
        };
        let head: [u8; FRAME_HEADER] = head;
        self.frames += 1;
        let salts = [u32_at(&head, 8), u32_at(&head, 12)];
        let is_commit = u32_at(&head, 4) != 0;
        let stored = Sum(u32_at(&head, 16), u32_at(&head, 20));
        // The sum last: it takes long, and most of a log may be leftovers with other salts.
        let fits = u32_at(&head, 0) != 0
            && salts == self.salts.unwrap_or(self.last_salts)
            && self.sum.over(&head[..8], word).over(page, word) == stored;
        let is_ours = self.salts.is_none_or(|ours| ours == salts);
        self.behind |= !fits;
        if !fits {
            self.chained = 0;
        }
        if is_commit && !self.behind {
            self.committed = self.frames;
        }
        if is_commit && self.behind && is_ours {
            self.chained += 1;
            self.lost += match self.chained {
                1 => 0,
                2 => 2,
                _ => 1,
            };
        }
        (self.sum, self.last_salts) = (stored, salts);
    }

    fn damage(self) -> Option<Damage> {
        let Self { committed: intact, lost, header, .. } = self;
        (lost > 0).then_some(Damage { intact, lost, header })
    }
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    octets.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests;
