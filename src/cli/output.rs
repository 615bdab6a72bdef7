//! Standard output: a reader that goes away (`| head`) must not make us panic.

use std::io::{self, Write};

/// Writes a line.
pub(super) fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A duration for people, such as `2h 5m`.
pub(super) fn seconds(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}
