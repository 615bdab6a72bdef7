//! Reading the small files that credentials live in.

use std::{
    fs::{File, metadata},
    io::Read,
    path::Path,
};

use secrecy::zeroize::Zeroizing;

use super::error::SecretFault;

/// The whole content, which must be text. Blocks; a few kilobytes from a disk.
///
/// # Errors
/// [`SecretFault`] when there is no regular file, or when it is longer than `longest` octets.
pub(super) fn read(path: &Path, longest: u64) -> Result<Zeroizing<String>, SecretFault> {
    let unreadable = |error: std::io::Error| SecretFault::Unreadable(error.to_string());
    // Opening a pipe would wait for its writer.
    if !metadata(path).map_err(unreadable)?.is_file() {
        return Err(SecretFault::NotAFile);
    }
    let mut octets = Zeroizing::new(Vec::with_capacity(4 * 1024));
    let file = File::open(path).map_err(unreadable)?;
    file.take(longest + 1).read_to_end(&mut octets).map_err(unreadable)?;
    if octets.len() as u64 > longest {
        return Err(SecretFault::TooLong(longest));
    }
    let text = std::str::from_utf8(&octets).map_err(|_| SecretFault::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(Zeroizing::new(text.to_owned()))
}

/// Does what blocks where it may; `None` when the runtime ends.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
