//! `queue retry`, `hold`, `release` and `remove`.

use std::io::{self, BufWriter, Write};

use clap::Args;

use super::{
    daemon::{Cause, Daemon},
    select::{Chosen, Selection},
};
use crate::{
    cli::{
        exit::Failure,
        text::{count, json},
    },
    clock::Clock,
    mail::queue_id::QueueId,
    store::{Amended, Amendment, Desk},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// For programs: one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct HoldOptions {
    #[command(flatten)]
    options: Options,
    /// Why, for whoever meets the messages
    #[arg(long, default_value = "set aside by an operator")]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct RemoveOptions {
    #[command(flatten)]
    options: Options,
    /// Really, which --all wants to hear
    #[arg(long)]
    yes: bool,
}

pub(super) fn retry(options: &Options, desk: &Desk, daemon: &Daemon) -> Result<(), Failure> {
    let told = options.carry_out(desk, &Amendment::Retry, "due now")?;
    told.end(daemon)
}

pub(super) fn hold(options: &HoldOptions, desk: &Desk) -> Result<(), Failure> {
    let amendment = Amendment::Hold { reason: options.reason.clone() };
    let told = options.options.carry_out(desk, &amendment, "held")?;
    told.warn_of_attempts()?;
    told.result()
}

pub(super) fn release(options: &Options, desk: &Desk, daemon: &Daemon) -> Result<(), Failure> {
    let told = options.carry_out(desk, &Amendment::Release, "released")?;
    told.end(daemon)
}

pub(super) fn remove(options: &RemoveOptions, desk: &Desk) -> Result<(), Failure> {
    let RemoveOptions { options, yes } = options;
    if let (Chosen::Fitting(filter), false) = (options.selection.chosen()?, yes) {
        let mut messages = 0;
        for page in desk.ids(&filter) {
            messages += page?.len() as u64;
        }
        let messages = count(messages, "message", "messages");
        return Err(Failure::usage(format!(
            "this would remove {messages} for good; add --yes if that is meant"
        )));
    }
    let told = options.carry_out(desk, &Amendment::Remove, "removed")?;
    told.warn_of_attempts()?;
    told.result()
}

/// Pauses are the daemon's own, and kept nowhere else.
const NO_END: &str = "This ends no pause: the relay tries again by itself at the time above. Once the \
                      cause is mended, `systemctl restart o365-relay` tries at once; not while a \
                      mailbox is blocked, which every try prolongs.";

/// What has come of it all.
struct Told {
    json: bool,
    done: u64,
    unknown: Vec<QueueId>,
    held: Vec<QueueId>,
}

impl Options {
    fn carry_out(&self, desk: &Desk, change: &Amendment, done: &str) -> Result<Told, Failure> {
        let mut told = Told { json: self.json, done: 0, unknown: Vec::new(), held: Vec::new() };
        let mut out = BufWriter::new(io::stdout().lock());
        let now = Clock::system().now();
        match self.selection.chosen()? {
            Chosen::Ids(ids) => {
                let results = desk.amend(ids, change, now)?;
                told.add(ids, &results, Some(done), &mut out)?;
            }
            Chosen::Fitting(filter) => {
                for page in desk.ids(&filter) {
                    let ids = page?;
                    let results = desk.amend(&ids, change, now)?;
                    told.add(&ids, &results, None, &mut out)?;
                }
                // What has gone in the meantime, or is held, was not asked for by name.
                told.unknown.clear();
                told.held.clear();
                if !self.json {
                    writeln!(out, "{} {done}", count(told.done, "message", "messages"))?;
                }
            }
        }
        out.flush()?;
        Ok(told)
    }
}

impl Told {
    /// Tells of each message, for people only if `done` says in which words.
    fn add(
        &mut self,
        ids: &[QueueId],
        results: &[Amended],
        done: Option<&str>,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        for (id, result) in ids.iter().zip(results) {
            let (word, text) = match result {
                Amended::Done => ("done", done),
                Amended::NotQueued => ("not-queued", None),
                Amended::Held => ("held", None),
                Amended::NotHeld => ("not-held", done.map(|_| "was not held")),
            };
            if self.json {
                let line = serde_json::json!({ "id": id.as_str(), "result": word });
                writeln!(out, "{}", json(&line)?)?;
            } else if let Some(text) = text {
                writeln!(out, "{id}  {text}")?;
            }
            match result {
                Amended::Done => self.done += 1,
                Amended::NotQueued => self.unknown.push(*id),
                Amended::Held => self.held.push(*id),
                Amended::NotHeld => {}
            }
        }
        Ok(())
    }

    /// Leases are in the daemon's memory, so we cannot know.
    fn warn_of_attempts(&self) -> io::Result<()> {
        if self.done > 0 && !self.json {
            let mut out = io::stdout().lock();
            writeln!(out, "An attempt that has already begun goes on, and may still deliver.")?;
        }
        Ok(())
    }

    /// Says what else keeps the messages, for people.
    fn end(self, daemon: &Daemon) -> Result<(), Failure> {
        if self.done > 0 && !self.json {
            let mut out = io::stdout().lock();
            let causes = daemon.causes(None);
            causes.iter().try_for_each(|cause| cause.write(&mut out, ""))?;
            if causes.iter().any(Cause::is_pause) {
                writeln!(out, "{NO_END}")?;
            }
        }
        self.result()
    }

    fn result(self) -> Result<(), Failure> {
        if !self.unknown.is_empty() {
            return Err(Failure::no_message(&self.unknown, "in the queue"));
        }
        if !self.held.is_empty() {
            let ids: Vec<_> = self.held.iter().map(QueueId::as_str).collect();
            let ids = ids.join(" ");
            return Err(Failure::unavailable(format!(
                "held, so not attempted: {ids}; let them go with `o365-relay queue release {ids}`"
            )));
        }
        Ok(())
    }
}
