//! `queue export`.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;

use super::select::queue_id;
use crate::{
    cli::{exit::Failure, output},
    mail::queue_id::QueueId,
    store::{Body, Desk, StoreError},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The message
    #[arg(value_name = "ID", value_parser = queue_id)]
    id: QueueId,
    /// Write to this new file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(options: &Options, desk: &Desk) -> Result<(), Failure> {
    let id = options.id;
    let body = desk.body(id)?.ok_or_else(|| Failure::no_message(&[id], "in the queue"))?;
    let size = body.len();
    let Some(path) = &options.output else {
        let mut out = io::stdout().lock();
        let damage = copy(body, |chunk| Ok(out.write_all(chunk)?))?;
        out.flush()?;
        return damage.map_or(Ok(()), Err);
    };
    let damage = write(path, body)?;
    output::line(format!("{} has {size} octets of {id}", path.display()))?;
    damage.map_or(Ok(()), Err)
}

/// Hands all chunks to `take`, of a damaged body too: they may be all that is left. What is wrong
/// with it comes back then.
fn copy(
    body: Body,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Option<Failure>, Failure> {
    for chunk in body.chunks_as_they_are() {
        match chunk {
            Ok(chunk) => take(&chunk)?,
            Err(StoreError::DamagedBody { id, place }) => {
                return Ok(Some(Failure::damaged(format!(
                    "the body of {id} is damaged: the octets in {place}, exported as they are, \
                     are not those that were accepted"
                ))));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Mail is private, so 0600; nothing is overwritten, and nothing is left by half.
fn write(path: &Path, body: Body) -> Result<Option<Failure>, Failure> {
    let cannot = |error: io::Error| {
        Failure::unavailable(format!("could not write {}: {error}", path.display()))
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    let copied = copy(body, |chunk| file.write_all(chunk).map_err(cannot));
    copied.and_then(|damage| file.sync_all().map(|()| damage).map_err(cannot)).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}
