//! What is left after damage is kept in `damaged-<time>/` in the queue directory, for an operator.
//! It has that name once it is complete and synced. Nothing there is looked at again, and nothing is
//! ever overwritten or removed by us.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io::{self, BufReader, ErrorKind, Read, Write},
    ops::Deref,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    directory::{Directory, private, sync_directory},
    error::{SYNC, StoreError},
    wal,
};
use crate::{clock::UnixMillis, mail::queue_id::QueueId};

/// Orphans told by name; of more only the number is told.
const TOLD: usize = 20;

/// Things of one name at most; there is one second for each set of names.
const MOST: u32 = 1000;

/// Begins the names.
const DAMAGED: &str = "damaged-";

/// Ends the name of one that is not complete.
const PARTIAL: &str = ".partial";

/// A directory for what is left after damage.
#[derive(Debug)]
pub(super) struct Aside {
    path: PathBuf,
}

/// One in the making. Dropped before the end it goes.
#[derive(Debug)]
pub(super) struct AsideBegun {
    partial: Aside,
    place: PathBuf,
}

impl AsideBegun {
    /// The name it will have.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Makes it durable under its name.
    pub fn finish(self) -> Result<Aside, StoreError> {
        let from = &self.partial.path;
        sync_directory(from)?;
        fs::rename(from, &self.place).map_err(StoreError::io("rename", from))?;
        sync_directory(self.place.parent().unwrap_or(&self.place))?;
        Ok(Aside { path: self.place.clone() })
    }
}

impl Deref for AsideBegun {
    type Target = Aside;

    fn deref(&self) -> &Aside {
        &self.partial
    }
}

impl Drop for AsideBegun {
    fn drop(&mut self) {
        // Once it is finished there is none of this name. If it fails the next start does it.
        let _ = fs::remove_dir_all(&self.partial.path);
    }
}

impl Aside {
    /// Keeps a copy of a file, synced; there is none if it fails.
    pub fn keep_copy(&self, of: &Path) -> Result<PathBuf, StoreError> {
        let copy = self.path.join(of.file_name().unwrap_or(of.as_os_str()));
        let run = || {
            let mut from = File::open(of)?;
            let mut to = private().open(&copy)?;
            io::copy(&mut from, &mut to)
                .and_then(|_| to.sync_all())
                .inspect_err(|_| drop(fs::remove_file(&copy)))
        };
        run().map_err(StoreError::io("keep a copy of a damaged file as", &copy))?;
        sync_directory(&self.path)?;
        Ok(copy)
    }

    /// Writes a file, synced.
    pub fn write(&self, name: &str, octets: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let mut file = private().open(&path).map_err(StoreError::io("create", &path))?;
        file.write_all(octets).map_err(StoreError::io("write", &path))?;
        file.sync_all().map_err(StoreError::io(SYNC, path))
    }

    /// Gives a body file a second name here, so that it stays when its first one goes. False if
    /// there is no such file.
    pub fn keep_body(&self, from: &Path, name: &str) -> Result<bool, StoreError> {
        match fs::hard_link(from, self.path.join(name)) {
            Ok(()) => Ok(true),
            // An earlier start has failed after it kept the file.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("keep a body file without a message:", from)(error)),
        }
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
        let aside = match self.asides().find(|aside| aside.has_copy(&log)) {
            // An earlier start has failed after it kept the copy.
            Some(aside) => aside,
            None => {
                let aside = self.begin_aside(now)?;
                aside.keep_copy(&log)?;
                aside.finish()?
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

    /// Begins a new directory for what is left after damage, 0700.
    pub fn begin_aside(&self, now: UnixMillis) -> Result<AsideBegun, StoreError> {
        let time = now.rfc3339().replace(':', "");
        for number in numbers() {
            let name = format!("{DAMAGED}{time}{number}");
            let (place, partial) = (self.root.join(&name), self.root.join(name + PARTIAL));
            if place.exists() {
                continue;
            }
            match DirBuilder::new().mode(0o700).create(&partial) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(StoreError::io("make directory", &partial))?;
                    return Ok(AsideBegun { partial: Aside { path: partial }, place });
                }
            }
        }
        let path = self.root.join(format!("{DAMAGED}{time}"));
        Err(StoreError::io("make directory", path)(ErrorKind::AlreadyExists.into()))
    }

    /// Removes those that were begun and did not come to their end. What they were made from is
    /// still there.
    pub fn sweep_asides(&self) -> Result<(), StoreError> {
        let is_partial = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(PARTIAL));
        for path in self.asides_and_partial().filter(is_partial) {
            fs::remove_dir_all(&path).map_err(StoreError::io("remove", &path))?;
        }
        Ok(())
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

    /// Gives all body files a second name in `to`.
    pub fn keep_all_bodies(&self, to: &Aside) -> Result<(), StoreError> {
        for (id, path) in self.body_files()? {
            to.keep_body(&path, &format!("{id}.eml"))?;
        }
        sync_directory(&to.path)
    }

    fn asides(&self) -> impl Iterator<Item = Aside> {
        let is_whole = |path: &PathBuf| path.to_str().is_none_or(|path| !path.ends_with(PARTIAL));
        self.asides_and_partial().filter(is_whole).map(|path| Aside { path })
    }

    fn asides_and_partial(&self) -> impl Iterator<Item = PathBuf> {
        let is_aside = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(DAMAGED))
        };
        let listing = fs::read_dir(&self.root).into_iter().flatten().flatten();
        listing.map(|item| item.path()).filter(is_aside)
    }
}

/// What stands behind a name, so that it is a new one.
fn numbers() -> impl Iterator<Item = String> {
    std::iter::once(String::new()).chain((2..MOST).map(|number| format!("-{number}")))
}
