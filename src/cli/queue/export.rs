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
    store::{Body, Desk},
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
        for chunk in body.chunks() {
            out.write_all(&chunk.map_err(|error| unreadable(id, &error))?)?;
        }
        return Ok(out.flush()?);
    };
    write(path, id, body)?;
    Ok(output::line(format!("{} has {size} octets of {id}", path.display()))?)
}

/// Mail is private, so 0600; nothing is overwritten, and nothing is left by half.
fn write(path: &Path, id: QueueId, body: Body) -> Result<(), Failure> {
    let cannot = |error: io::Error| {
        Failure::unavailable(format!("could not write {}: {error}", path.display()))
    };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    let copied = body.chunks().try_for_each(|chunk| {
        let chunk = chunk.map_err(|error| unreadable(id, &error))?;
        file.write_all(&chunk).map_err(cannot)
    });
    copied.and_then(|()| file.sync_all().map_err(cannot)).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

fn unreadable(id: QueueId, error: &io::Error) -> Failure {
    Failure::unavailable(format!("could not read the body of {id}: {error}"))
}
