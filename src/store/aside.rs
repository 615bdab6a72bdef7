//! What is left after damage is kept in `damaged-<time>/` in the queue directory, for an operator.
//! Nothing there is looked at again, and nothing is ever overwritten.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufReader, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    directory::{Directory, sync_directory},
    error::StoreError,
    wal,
};
use crate::{clock::UnixMillis, mail::queue_id::QueueId};

/// Orphans told by name; of more only the number is told.
const TOLD: usize = 20;

/// Things of one name at most; there is one second for each set of names.
const MOST: u32 = 1000;

/// A directory for what is left after damage.
#[derive(Debug)]
pub(super) struct Aside {
    path: PathBuf,
}

impl Aside {
    /// Keeps a copy of a file, synced; there is none if it fails.
    pub fn keep_copy(&self, of: &Path) -> Result<PathBuf, StoreError> {
        let copy = self.path.join(of.file_name().unwrap_or(of.as_os_str()));
        let run = || {
            let mut from = File::open(of)?;
            let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?;
            io::copy(&mut from, &mut to)
                .and_then(|_| to.sync_all())
                .inspect_err(|_| drop(fs::remove_file(&copy)))
        };
        run().map_err(StoreError::io("keep a copy of a damaged file as", &copy))?;
        sync_directory(&self.path)?;
        Ok(copy)
    }

    /// Whether it holds a file of the same name with the same octets.
    fn has_copy(&self, of: &Path) -> bool {
        let copy = self.path.join(of.file_name().unwrap_or(of.as_os_str()));
        let same = || {
            let (one, other) = (File::open(of)?, File::open(copy)?);
            if one.metadata()?.len() != other.metadata()?.len() {
                return Ok(false);
            }
            let mut other = BufReader::new(other).bytes();
            for octet in BufReader::new(one).bytes() {
                if other.next().transpose()? != Some(octet?) {
                    return Ok(false);
                }
            }
            Ok::<_, io::Error>(true)
        };
        same().unwrap_or(false)
    }
}

impl Directory {
    /// Looks through the log of the database before SQLite does. If committed transactions are
    /// lost in it: says so, and keeps a copy.
    pub fn keep_damaged_log(&self, now: UnixMillis) -> Result<Option<Aside>, StoreError> {
        let Some(damage) = wal::damage(&self.database())? else { return Ok(None) };
        let log = wal::log_of(&self.database());
        let aside = match self.asides().into_iter().find(|aside| aside.has_copy(&log)) {
            // An earlier start has failed after it kept the copy.
            Some(aside) => aside,
            None => {
                let aside = self.make_aside(now)?;
                aside.keep_copy(&log).inspect_err(|_| drop(fs::remove_dir(&aside.path)))?;
                aside
            }
        };
        tracing::error!(
            log = %log.display(),
            kept = %aside.path.display(),
            frames_intact = damage.intact,
            transactions_lost = damage.lost,
            "the queue's write-ahead log is damaged, and the changes behind that point are gone: \
             messages accepted lately may be lost, messages already relayed may be sent again; \
             check the disk, and see docs/reliability.md for what is left"
        );
        Ok(Some(aside))
    }

    /// Makes a new directory for what is left after damage, 0700.
    pub fn make_aside(&self, now: UnixMillis) -> Result<Aside, StoreError> {
        let time = now.rfc3339().replace(':', "");
        for number in numbers() {
            let path = self.root.join(format!("damaged-{time}{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(StoreError::io("make directory", &path))?;
                    sync_directory(&self.root)?;
                    return Ok(Aside { path });
                }
            }
        }
        let path = self.root.join(format!("damaged-{time}"));
        Err(StoreError::io("make directory", path)(ErrorKind::AlreadyExists.into()))
    }

    /// Moves body files that no row names to `to`, where their rows may have been lost: they may
    /// be all that is left of accepted mail. Returns how many there were.
    pub fn set_orphans_aside(
        &self,
        known: &HashSet<QueueId>,
        to: &Aside,
    ) -> Result<usize, StoreError> {
        let orphans = self.orphans(known)?;
        for (count, (id, path)) in orphans.iter().enumerate() {
            let mut names = numbers().map(|number| to.path.join(format!("{id}{number}.eml")));
            let free = names.find(|name| !name.exists()).ok_or(ErrorKind::AlreadyExists.into());
            let kept = free
                .and_then(|name| fs::rename(path, &name).map(|()| name))
                .map_err(StoreError::io("keep a body file without a message:", path))?;
            if count < TOLD {
                let kept = kept.display();
                tracing::warn!(queue_id = %id, %kept, "body file without a message kept");
            }
        }
        if let Some(more) = orphans.len().checked_sub(TOLD).filter(|more| *more > 0) {
            let kept = to.path.display();
            tracing::warn!(more, %kept, "more body files without a message kept");
        }
        sync_directory(&to.path)?;
        self.sync_bodies()?;
        Ok(orphans.len())
    }

    fn asides(&self) -> Vec<Aside> {
        let Ok(listing) = fs::read_dir(&self.root) else { return Vec::new() };
        let is_aside = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("damaged-"))
        };
        let paths = listing.flatten().map(|item| item.path());
        paths.filter(is_aside).map(|path| Aside { path }).collect()
    }
}

/// What stands behind a name, so that it is a new one.
fn numbers() -> impl Iterator<Item = String> {
    std::iter::once(String::new()).chain((2..MOST).map(|number| format!("-{number}")))
}
