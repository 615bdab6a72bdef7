//! `queue list`.

use std::io::{self, BufWriter, Write};

use clap::Args;
use serde::Serialize;

use super::{
    daemon::{Cause, Daemon},
    select::Filters,
};
use crate::{
    cli::{
        exit::Failure,
        text::{Table, clip, count, json, path, plain, size, until},
    },
    clock::{Clock, UnixMillis},
    store::{Desk, Queued, Waiting},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    filters: Filters,
    /// For programs: one object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, desk: &Desk, daemon: &Daemon) -> Result<(), Failure> {
    let filter = options.filters.filter();
    let mut out = BufWriter::new(io::stdout().lock());
    let now = Clock::system().now();
    let mut listing = Listing::new(now);
    for page in desk.messages(&filter) {
        let page = page?;
        if options.json {
            for message in &page {
                writeln!(out, "{}", json(&MessageLine::new(message, daemon, now))?)?;
            }
        } else {
            listing.page(&page, &mut out)?;
        }
        out.flush()?; // a page is seen before the next one is read
    }
    if !options.json {
        listing.end(&options.filters, daemon, &mut out)?;
    }
    Ok(out.flush()?)
}

const HEADS: [&str; 7] = ["ID", "ARRIVED", "SIZE", "TRIES", "NEXT", "FROM", "TO"];

/// The widest column.
const COLUMN: usize = 40;

/// The longest reply.
const REPLY: usize = 240;

/// The table for people. Its columns may become wider from page to page.
struct Listing {
    now: UnixMillis,
    table: Table<7>,
    messages: u64,
    held: u64,
    octets: u64,
}

impl Listing {
    fn new(now: UnixMillis) -> Self {
        Self { now, table: Table::new(HEADS, COLUMN), messages: 0, held: 0, octets: 0 }
    }

    fn page(&mut self, page: &[Queued], out: &mut impl Write) -> io::Result<()> {
        let rows: Vec<_> = page.iter().map(|message| self.cells(message)).collect();
        for row in &rows {
            self.table.fit(row);
        }
        if self.messages == 0 {
            writeln!(out, "{}", self.table.row(&HEADS))?;
        }
        for (message, row) in page.iter().zip(&rows) {
            writeln!(out, "{}", self.table.row(row))?;
            if let Some(reason) = reason(message) {
                writeln!(out, "    {}", clip(&plain(reason), REPLY))?;
            }
            self.messages += 1;
            self.held += u64::from(message.hold_reason.is_some());
            self.octets += message.size;
        }
        Ok(())
    }

    fn cells(&self, message: &Queued) -> [String; 7] {
        let to = message.recipients.first().map_or_else(String::new, |first| {
            let others = message.recipients.len() - 1;
            let more = if others > 0 { format!(" +{others}") } else { String::new() };
            path(&first.forward_path) + &more
        });
        let next = match message.hold_reason {
            Some(_) => "held".to_owned(),
            None => until(message.next_attempt, self.now),
        };
        [
            message.id.to_string(),
            message.arrival.rfc3339(),
            size(message.size),
            message.recipients.iter().map(|one| one.attempts).max().unwrap_or(0).to_string(),
            next,
            path(&message.reverse_path),
            to,
        ]
    }

    fn end(&self, filters: &Filters, daemon: &Daemon, out: &mut impl Write) -> io::Result<()> {
        if self.messages == 0 {
            let fits = filters.is_given();
            writeln!(out, "{}", if fits { "no such message" } else { "the queue is empty" })?;
        } else {
            let held = if self.held > 0 { format!(", {} held", self.held) } else { String::new() };
            let messages = count(self.messages, "message", "messages");
            writeln!(out, "\n{messages}{held}, {}", size(self.octets))?;
        }
        daemon.causes(None).iter().try_for_each(|cause| cause.write(out, ""))
    }
}

/// Why it is held, or what the last attempt came to.
fn reason(message: &Queued) -> Option<&str> {
    let reply = || message.recipients.iter().find_map(|one| one.last_reply.as_deref());
    message.hold_reason.as_deref().or_else(reply)
}

/// A message for programs.
#[derive(Serialize)]
struct MessageLine<'a> {
    id: &'a str,
    lane: &'a str,
    arrival: String,
    client: &'a str,
    reverse_path: &'a str,
    size: u64,
    message_id: &'a str,
    is_notice: bool,
    held: bool,
    hold_reason: Option<&'a str>,
    next_attempt: String,
    waits_for: Vec<Cause>,
    recipients: Vec<RecipientLine<'a>>,
}

#[derive(Serialize)]
struct RecipientLine<'a> {
    forward_path: &'a str,
    attempts: u32,
    next_attempt: String,
    last_reply: Option<&'a str>,
}

impl<'a> MessageLine<'a> {
    fn new(message: &'a Queued, daemon: &Daemon, now: UnixMillis) -> Self {
        let recipient = |one: &'a Waiting| RecipientLine {
            forward_path: &one.forward_path,
            attempts: one.attempts,
            next_attempt: one.next_attempt.rfc3339(),
            last_reply: one.last_reply.as_deref(),
        };
        Self {
            id: message.id.as_str(),
            lane: &message.lane,
            arrival: message.arrival.rfc3339(),
            client: &message.client,
            reverse_path: &message.reverse_path,
            size: message.size,
            message_id: &message.message_id,
            is_notice: message.is_notice,
            held: message.hold_reason.is_some(),
            hold_reason: message.hold_reason.as_deref(),
            next_attempt: message.next_attempt.rfc3339(),
            waits_for: daemon.why_waits(message, now),
            recipients: message.recipients.iter().map(recipient).collect(),
        }
    }
}
