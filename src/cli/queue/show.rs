//! `queue show`: arrival, every attempt with upstream's words, what comes next and why not yet.

use std::io::{self, BufWriter, Write};

use clap::Args;
use serde::Serialize;

use super::{
    daemon::{Cause, Daemon},
    select::queue_id,
};
use crate::{
    cli::{
        exit::Failure,
        text::{count, json, path, plain, size, until},
    },
    clock::{Clock, UnixMillis},
    mail::queue_id::QueueId,
    store::{Attempt, Desk, Settled, Story, Waiting},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Queue ids
    #[arg(required = true, value_name = "ID", value_parser = queue_id)]
    ids: Vec<QueueId>,
    /// For programs: one object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, desk: &Desk, daemon: &Daemon) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut unknown = Vec::new();
    let mut shown = 0;
    for id in &options.ids {
        let Some(story) = desk.story(*id)? else {
            unknown.push(*id);
            continue;
        };
        let account = Account::new(&story, daemon, Clock::system().now());
        if options.json {
            writeln!(out, "{}", json(&account)?)?;
        } else {
            if shown > 0 {
                writeln!(out)?;
            }
            account.write(&mut out)?;
        }
        shown += 1;
    }
    out.flush()?;
    if unknown.is_empty() { Ok(()) } else { Err(Failure::no_message(&unknown, "on record")) }
}

/// A message for programs, and what is printed for people.
#[derive(Serialize)]
struct Account<'a> {
    id: &'a str,
    /// `queued`, `held` or `settled`.
    state: &'static str,
    arrival: String,
    client: &'a str,
    /// Not on record any more once the message is settled, as the four below.
    hello: Option<&'a str>,
    lane: Option<&'a str>,
    is_notice: Option<bool>,
    hold_reason: Option<&'a str>,
    next_attempt: Option<String>,
    reverse_path: &'a str,
    size: u64,
    message_id: &'a str,
    waits_for: Vec<Cause>,
    recipients: Vec<RecipientAccount<'a>>,
    #[serde(skip)]
    now: UnixMillis,
}

#[derive(Serialize)]
struct RecipientAccount<'a> {
    forward_path: &'a str,
    /// `waiting`, `relayed`, `failed` or `removed`.
    state: &'a str,
    /// Attempts that counted; the oldest may not be on record any more.
    attempts: u32,
    next_attempt: Option<String>,
    /// What has happened, oldest first.
    record: Vec<Event<'a>>,
    #[serde(skip)]
    position: u32,
    #[serde(skip)]
    next: Option<UnixMillis>,
}

#[derive(Serialize)]
struct Event<'a> {
    time: String,
    disposition: &'a str,
    reply: &'a str,
    advice: Option<&'a str>,
}

impl<'a> Account<'a> {
    fn new(story: &'a Story, daemon: &Daemon, now: UnixMillis) -> Self {
        let Story { id, queued, settled, attempts } = story;
        let queued = queued.as_ref();
        let waiting = queued.map(|message| message.recipients.as_slice()).unwrap_or_default();
        let mut recipients: Vec<_> = settled
            .iter()
            .map(|one| RecipientAccount::settled(one, attempts))
            .chain(waiting.iter().map(|one| RecipientAccount::waiting(one, attempts)))
            .collect();
        recipients.sort_by_key(|recipient| recipient.position);
        let first = settled.first();
        let hold_reason = queued.and_then(|message| message.hold_reason.as_deref());
        let either = |queued: Option<&'a str>, settled: Option<&'a str>| {
            queued.or(settled).unwrap_or_default()
        };
        let arrival = queued.map(|message| message.arrival).or(first.map(|one| one.arrival));
        Self {
            id: id.as_str(),
            state: match (queued, hold_reason) {
                (None, _) => "settled",
                (Some(_), None) => "queued",
                (Some(_), Some(_)) => "held",
            },
            arrival: arrival.map(UnixMillis::rfc3339).unwrap_or_default(),
            client: either(
                queued.map(|message| message.client.as_str()),
                first.map(|one| one.client.as_str()),
            ),
            hello: queued.map(|message| message.hello.as_str()),
            lane: queued.map(|message| message.lane.as_str()),
            is_notice: queued.map(|message| message.is_notice),
            hold_reason,
            next_attempt: queued.map(|message| message.next_attempt.rfc3339()),
            reverse_path: either(
                queued.map(|message| message.reverse_path.as_str()),
                first.map(|one| one.reverse_path.as_str()),
            ),
            size: queued.map(|message| message.size).or(first.map(|one| one.size)).unwrap_or(0),
            message_id: either(
                queued.map(|message| message.message_id.as_str()),
                first.map(|one| one.message_id.as_str()),
            ),
            waits_for: queued.map(|message| daemon.why_waits(message, now)).unwrap_or_default(),
            recipients,
            now,
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}  {}", self.id, self.state)?;
        let hello = self.hello.filter(|hello| !hello.is_empty());
        let hello = hello.map(|hello| format!(" ({})", plain(hello))).unwrap_or_default();
        let (client, size) = (plain(self.client), size(self.size));
        writeln!(out, "  arrived     {} from {client}{hello}, {size}", self.arrival)?;
        writeln!(out, "  from        {}", path(self.reverse_path))?;
        writeln!(out, "  message-id  {}", plain(self.message_id))?;
        if let Some(lane) = self.lane {
            let notice = if self.is_notice == Some(true) { ", a notice of ours" } else { "" };
            writeln!(out, "  lane        {}{notice}", plain(lane))?;
        }
        if !self.waits_for.is_empty() {
            writeln!(out, "  waits for")?;
            self.waits_for.iter().try_for_each(|cause| cause.write(out, "    "))?;
        }
        for recipient in &self.recipients {
            recipient.write(out, self.now)?;
        }
        Ok(())
    }
}

impl<'a> RecipientAccount<'a> {
    fn settled(one: &'a Settled, attempts: &'a [Attempt]) -> Self {
        let mut record = Event::of(one.position, attempts);
        record.push(Event {
            time: one.time.rfc3339(),
            disposition: &one.disposition,
            reply: &one.reply,
            advice: one.advice.as_deref(),
        });
        Self {
            forward_path: &one.forward_path,
            state: &one.disposition,
            attempts: one.attempts,
            next_attempt: None,
            record,
            position: one.position,
            next: None,
        }
    }

    fn waiting(one: &'a Waiting, attempts: &'a [Attempt]) -> Self {
        Self {
            forward_path: &one.forward_path,
            state: "waiting",
            attempts: one.attempts,
            next_attempt: Some(one.next_attempt.rfc3339()),
            record: Event::of(one.position, attempts),
            position: one.position,
            next: Some(one.next_attempt),
        }
    }

    fn write(&self, out: &mut impl Write, now: UnixMillis) -> io::Result<()> {
        let attempts = count(self.attempts.into(), "attempt", "attempts");
        let next = self.next.map(|next| format!(", next {}", until(next, now)));
        let (to, state) = (path(self.forward_path), plain(self.state));
        writeln!(out, "  to {to}  {state}, {attempts}{}", next.unwrap_or_default())?;
        let forgotten =
            usize::try_from(self.attempts).unwrap_or(0).saturating_sub(self.record.len());
        if forgotten > 0 && !self.record.is_empty() {
            writeln!(out, "    ... earlier attempts are not kept")?;
        }
        for event in &self.record {
            let (disposition, reply) = (plain(event.disposition), plain(event.reply));
            writeln!(out, "    {}  {disposition}: {reply}", event.time)?;
            if let Some(advice) = event.advice {
                writeln!(out, "      do: {}", plain(advice))?;
            }
        }
        Ok(())
    }
}

impl<'a> Event<'a> {
    fn of(position: u32, attempts: &'a [Attempt]) -> Vec<Self> {
        let event = |attempt: &'a Attempt| Self {
            time: attempt.time.rfc3339(),
            disposition: &attempt.disposition,
            reply: &attempt.reply,
            advice: attempt.advice.as_deref(),
        };
        attempts.iter().filter(|attempt| attempt.position == position).map(event).collect()
    }
}
