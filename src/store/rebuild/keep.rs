//! `damaged-<time>/` in the queue directory: the damaged files as they were, and what could not go
//! back into the queue. It is complete and synced before anything else is changed, and nothing in
//! it is ever overwritten or removed by us.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    clock::UnixMillis,
    store::{
        directory::sync_directory,
        error::{SYNC, StoreError},
    },
};

/// Ends the name of a directory that is not complete.
const PARTIAL: &str = ".partial";

/// A `damaged-<time>` in the making. Dropped before the end it goes.
#[derive(Debug)]
pub(super) struct Keep {
    root: PathBuf,
    partial: PathBuf,
    place: PathBuf,
    finished: bool,
}

impl Keep {
    /// Begins a directory (0700) with a name that is free.
    pub fn begin(root: &Path, now: UnixMillis) -> Result<Self, StoreError> {
        let time: String = now.rfc3339().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let name = |number: u32| match number {
            1 => format!("damaged-{time}"),
            _ => format!("damaged-{time}-{number}"),
        };
        let names = (1..1000).map(name);
        let free = names.into_iter().find(|name| !root.join(name).exists());
        let name = free.unwrap_or_else(|| name(1000));
        let partial = root.join(format!("{name}{PARTIAL}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&partial)
            .map_err(StoreError::io("make directory", &partial))?;
        Ok(Self { root: root.into(), place: root.join(name), partial, finished: false })
    }

    /// Copies a file, if it is there.
    pub fn copy(&self, from: &Path) -> Result<(), StoreError> {
        let Some(name) = from.file_name() else { return Ok(()) };
        let mut source = match File::open(from) {
            Ok(source) => source,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(StoreError::io("open", from)(error)),
        };
        let path = self.partial.join(name);
        let mut file = create(&path)?;
        io::copy(&mut source, &mut file).map_err(StoreError::io("keep a copy of", from))?;
        file.sync_all().map_err(StoreError::io(SYNC, path))
    }

    /// Writes a file.
    pub fn write(&self, name: &str, octets: &[u8]) -> Result<(), StoreError> {
        let path = self.partial.join(name);
        let mut file = create(&path)?;
        file.write_all(octets).map_err(StoreError::io("write", &path))?;
        file.sync_all().map_err(StoreError::io(SYNC, path))
    }

    /// Gives a body file a second name here, so that it stays when its first one goes. False if
    /// there is no such file.
    pub fn link(&self, from: &Path, name: &str) -> Result<bool, StoreError> {
        match fs::hard_link(from, self.partial.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("keep", from)(error)),
        }
    }

    /// Makes it durable under its name.
    pub fn finish(mut self) -> Result<PathBuf, StoreError> {
        sync_directory(&self.partial)?;
        fs::rename(&self.partial, &self.place).map_err(StoreError::io("rename", &self.partial))?;
        self.finished = true;
        sync_directory(&self.root)?;
        Ok(self.place.clone())
    }

    /// The name it will have.
    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        if !self.finished {
            // If this fails the next rebuild or start does it.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

fn create(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::io("create", path))
}

/// Removes what a rebuild left that did not come to its end. What it was made from is still there.
pub(super) fn sweep(root: &Path) -> Result<(), StoreError> {
    let listing = fs::read_dir(root).map_err(StoreError::io("list", root))?;
    for item in listing {
        let path = item.map_err(StoreError::io("list", root))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with(super::SCRATCH) {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        } else if name.starts_with("damaged-") && name.ends_with(PARTIAL) {
            fs::remove_dir_all(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}
