//! `queue recover`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    cli::{exit::Failure, output, text},
    clock::Clock,
    store::{self, Recovery, StoreError},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Take the messages from this file into a queue without any: a damaged queue.db that was moved
    /// away, or what `.recover` of sqlite3 has made of it
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, directory: &Path) -> Result<(), Failure> {
    let clock = Clock::system();
    let recovery = match &options.from {
        Some(file) => store::import(directory, file, clock).map(Some),
        None => store::recover(directory, clock),
    };
    let recovery = recovery.map_err(|error| match error {
        StoreError::Locked { .. } => Failure::try_later(format!(
            "{error}. A running relay does this on its own when it meets damage; to have the \
             whole database checked, stop it first"
        )),
        error => error.into(),
    })?;
    if options.json {
        let value = match &recovery {
            Some(recovery) => serde_json::json!({ "sound": false, "recovery": recovery }),
            None => serde_json::json!({ "sound": true }),
        };
        return Ok(output::line(text::json(&value)?)?);
    }
    match recovery {
        Some(recovery) => tell(&recovery),
        None => {
            let place = directory.join("queue.db");
            Ok(output::line(format!("{} is sound, nothing has been changed", place.display()))?)
        }
    }
}

fn tell(recovery: &Recovery) -> Result<(), Failure> {
    let messages = text::count(recovery.messages, "message", "messages");
    output::line(format!("{messages} in the queue"))?;
    if !recovery.set_aside.is_empty() {
        output::line("held, because part of it is lost (`queue release` lets it go as it is):")?;
    }
    for held in &recovery.set_aside {
        output::line(format!("  {}  {}", text::plain(&held.id), text::plain(&held.reason)))?;
    }
    if !recovery.lost.is_empty() {
        output::line("lost from the queue:")?;
    }
    for lost in &recovery.lost {
        let id = lost.id.as_deref().map_or("(id unknown)".into(), text::plain);
        output::line(format!("  {id}  {}", text::plain(&lost.known)))?;
        for path in &lost.forward_paths {
            output::line(format!("    to {}", text::path(path)))?;
        }
        if let Some(file) = &lost.file {
            output::line(format!("    {}", recovery.kept_in.join(file).display()))?;
        }
    }
    for dropped in &recovery.dropped {
        let rows = dropped.rows.map_or("an unknown number".into(), |rows| rows.to_string());
        output::line(format!("rows lost of the {}: {rows}", dropped.record))?;
    }
    if recovery.unread_changes > 0 {
        let changes = text::count(recovery.unread_changes, "change that was", "changes that were");
        output::line(format!(
            "the log of the file (its name with -wal behind it) is damaged: {changes} written last \
             cannot be read. Mail that was taken last may be missing here, and mail that had gone \
             may be in the queue again: `queue list` and the log of those minutes tell"
        ))?;
    }
    Ok(output::line(format!("kept as it was: {}", recovery.kept_in.display()))?)
}
