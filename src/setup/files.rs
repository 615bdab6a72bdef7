//! Writing files: whole or not at all, with the right mode from the first octet on, and never
//! over one that is not ours.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::SetupError;

/// For what holds no secret: a service that runs as another user has to read it.
pub(super) const PUBLIC: u32 = 0o644;
/// For keys and secrets.
pub(super) const PRIVATE: u32 = 0o600;

/// One file to be written.
pub(super) struct NewFile<'f> {
    pub path: &'f Path,
    pub text: &'f str,
    pub mode: u32,
    /// User and group; `None` for whoever runs this.
    pub owner: Option<(u32, u32)>,
}

impl NewFile<'_> {
    /// Writes it; `replace` says whether another file of this name may go.
    pub fn write(&self, replace: bool) -> Result<(), SetupError> {
        let fault =
            |source| SetupError::File { action: "write", path: self.path.to_path_buf(), source };
        let new = unfinished(self.path);
        remove(&new)?;
        let outcome = self.write_at(&new, replace);
        if outcome.is_err() {
            let _ = fs::remove_file(&new);
        }
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(SetupError::FileExists { path: self.path.to_path_buf() })
            }
            other => other.map_err(fault),
        }
    }

    fn write_at(&self, new: &Path, replace: bool) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(new)?;
        file.write_all(self.text.as_bytes())?;
        if let Some((user, group)) = self.owner {
            std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(self.mode);
        file.set_permissions(mode)?; // whatever the umask takes away
        file.sync_all()?;
        if replace {
            fs::rename(new, self.path)?;
        } else {
            // Unlike a rename, a link never takes the place of a file.
            fs::hard_link(new, self.path)?;
            fs::remove_file(new)?;
        }
        Ok(())
    }
}

/// Makes the directory that `path` lies in.
pub(super) fn make_directory_of(path: &Path) -> Result<PathBuf, SetupError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let fault = |source| SetupError::File { action: "make", path: directory.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&directory).map_err(fault)?;
    fs::canonicalize(&directory).map_err(fault)
}

/// Where a file is written before it gets its name.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Removes what a run left that was cut short while it wrote `path`.
pub(super) fn remove_unfinished(path: &Path) -> Result<(), SetupError> {
    remove(&unfinished(path))
}

/// The content; `None` if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, SetupError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SetupError::File { action: "read", path: path.to_path_buf(), source }),
    }
}

/// Removes it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), SetupError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SetupError::File { action: "remove", path: path.to_path_buf(), source: error })
        }
        _ => Ok(()),
    }
}

/// SHA-256 in hexadecimal digits.
pub(super) fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |hex, octet| hex + &format!("{octet:02x}"))
}
