//! `sendmail`: takes a message from a program of this host as mailers have always done, and hands
//! it to the running relay, or puts it into its queue where none runs.

use std::{
    ffi::OsString,
    io::{Read, Write, stdin, stdout},
};

use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::{exit::Failure, output, runtime};
use crate::{config::Sources, mail::recipients};

mod arguments;
mod dialogue;
mod way;

use arguments::{Arguments, Mode};
use dialogue::{Dialogue, Message, Wishes};
use way::Way;

/// The names that the program may be called by instead.
pub(super) const NAMES: [&str; 3] = ["sendmail", "mailq", "newaliases"];

/// Largest message, in octets; `listener.max_message_size` is less.
const MAX_MESSAGE: u64 = 2 * 1024 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct Options {
    /// As for other mailers: -t -i -f -F -bs and more; `o365-relay sendmail --help` tells them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Each option and what it does, for the manual.
pub(super) fn flags() -> &'static [(&'static str, &'static str)] {
    arguments::FLAGS
}

pub(super) fn run(options: &Options, sources: Sources) -> Result<(), Failure> {
    carry_out("sendmail", &options.arguments, sources)
}

/// `name` is what the program was called by.
pub(super) fn carry_out(
    name: &str,
    arguments: &[OsString],
    mut sources: Sources,
) -> Result<(), Failure> {
    let mut read = Arguments::read(arguments, &mut sources).map_err(|fault| {
        Failure::usage(format!("sendmail: {fault}; `o365-relay sendmail --help` tells the options"))
    })?;
    match name {
        "mailq" => read.mode = Mode::Queue,
        "newaliases" => read.mode = Mode::Nothing("there are no aliases"),
        _ => {}
    }
    let quiet = read.quiet;
    let outcome = match read.mode {
        Mode::Send => send(&read, &sources),
        Mode::Session => session(&read, &sources),
        Mode::Queue => super::list_queue(&sources),
        Mode::Nothing(why) => Ok(output::line(format!("o365-relay: nothing to do, {why}"))?),
        Mode::Help => help(),
        Mode::Version => Ok(output::line(concat!("o365-relay ", env!("CARGO_PKG_VERSION")))?),
    };
    outcome.map_err(|failure| if quiet { failure.without_words() } else { failure })
}

fn help() -> Result<(), Failure> {
    output::line("Usage: sendmail [OPTIONS] [RECIPIENTS]  < MESSAGE\n")?;
    for (flag, meaning) in arguments::FLAGS {
        output::line(format!("  {flag}\n      {meaning}"))?;
    }
    output::line(
        "\nExit codes: 0 the message is safe with the relay, 64 usage, 67 a recipient was refused, \
         69 the message was refused, 75 try again later, 77 not allowed, 78 configuration",
    )?;
    Ok(())
}

fn send(arguments: &Arguments, sources: &Sources) -> Result<(), Failure> {
    if arguments.recipients.is_empty() && !arguments.read_recipients {
        return Err(Failure::usage("no recipients; name them, or use -t"));
    }
    let text = read_message(arguments.ignore_dots)?;
    let mut to = arguments.recipients.clone();
    let mut text = match arguments.read_recipients {
        true => {
            let named = recipients::of_message(&text);
            to.extend(named.addresses);
            named.message
        }
        false => text,
    };
    let mut known = std::collections::HashSet::new();
    to.retain(|address| known.insert(address.to_lowercase()));
    if to.is_empty() {
        return Err(Failure::usage("no recipients, neither as arguments nor in To, Cc and Bcc"));
    }
    if let Some(bad) = to.iter().chain(&arguments.from).find(|address| !fits(address)) {
        return Err(Failure::no_user(format!("{bad:?} is no address")));
    }
    let reverse_paths = reverse_paths(arguments.from.as_deref());
    complete_header(&mut text, arguments.name.as_deref(), &reverse_paths);
    let data = with_crlf(&text);
    let wishes = Wishes {
        notify: arguments.notify.clone(),
        ret: arguments.ret,
        envelope_id: arguments.envelope_id.clone(),
    };
    let message =
        Message { reverse_paths: &reverse_paths, recipients: &to, data: &data, wishes: &wishes };
    let found = way::find(arguments.server.as_ref(), sources)?;
    runtime()?.block_on(async {
        let mut way = Way::open(found).await?;
        let sent = async {
            let wire = &mut way.wire;
            Dialogue::begin(wire, &host_name(), arguments.verbose).await?.send(&message).await
        };
        let sent = sent.await;
        way.close().await;
        sent
    })
}

/// Octets both ways, with the relay's own session at the other end.
fn session(arguments: &Arguments, sources: &Sources) -> Result<(), Failure> {
    let found = way::find(arguments.server.as_ref(), sources)?;
    runtime()?.block_on(async {
        let mut way = Way::open(found).await?;
        let (mut from_relay, mut to_relay) = tokio::io::split(&mut way.wire);
        let mut input = read_input();
        let upwards = async {
            while let Some(octets) = input.recv().await {
                if to_relay.write_all(&octets).await.is_err() || to_relay.flush().await.is_err() {
                    break;
                }
            }
            let _ = to_relay.shutdown().await;
            std::future::pending::<()>().await;
        };
        let downwards = async {
            let mut octets = vec![0; 4096];
            while let Ok(length @ 1..) = from_relay.read(&mut octets).await {
                let mut out = stdout().lock();
                let octets = octets.get(..length).unwrap_or_default();
                if out.write_all(octets).and_then(|()| out.flush()).is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = downwards => {}
            () = upwards => {}
        }
        way.close().await;
        Ok(())
    })
}

/// Standard input may be anything, so a thread reads it.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut octets = vec![0; 16 * 1024];
        while let Ok(length @ 1..) = stdin().lock().read(&mut octets) {
            let read = octets.get(..length).unwrap_or_default().to_vec();
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The whole of it, before anybody is asked to take it: what a program writes may take hours.
fn read_message(ignore_dots: bool) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = stdin().lock().take(MAX_MESSAGE).read_to_end(&mut text);
    read.map_err(|error| Failure::unavailable(format!("could not read the message: {error}")))?;
    if !ignore_dots {
        let mut at = 0;
        for line in text.split_inclusive(|octet| *octet == b'\n') {
            if matches!(line, b".\n" | b".\r\n" | b".") {
                break;
            }
            at += line.len();
        }
        text.truncate(at);
    }
    // A mailbox file's mark in front of a message is no field.
    if text.starts_with(b"From ") {
        let end = memchr::memchr(b'\n', &text).map_or(text.len(), |at| at + 1);
        text.drain(..end);
    }
    Ok(text)
}

/// What may stand between angle brackets without ending them.
fn fits(address: &str) -> bool {
    !address.chars().any(|c| c.is_control() || matches!(c, '<' | '>' | ' '))
}

/// That which is asked for, else the user: as it is, for the relay to complete, and with the name
/// of this host.
fn reverse_paths(from: Option<&str>) -> Vec<String> {
    let from = from.map_or_else(user_name, str::to_owned);
    if from.is_empty() || from.contains('@') {
        return vec![from];
    }
    let host = mail_name();
    vec![from.clone(), format!("{from}@{host}")]
}

fn user_name() -> String {
    let id = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)? == id).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid{id}"))
}

/// `/etc/mailname` is what Debian has for this.
fn mail_name() -> String {
    let named = std::fs::read_to_string("/etc/mailname").unwrap_or_default();
    match named.trim() {
        "" => host_name(),
        name => name.to_owned(),
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let odd = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-');
    if name.is_empty() || name.contains(odd) { "localhost".into() } else { name }
}

/// A text without a header section gets one; a name for the sender becomes a From field, if there
/// is none. The relay adds what else is missing.
fn complete_header(text: &mut Vec<u8>, name: Option<&str>, reverse_paths: &[String]) {
    if !recipients::begins_with_header(text) {
        text.splice(..0, *b"\n");
    }
    let address = reverse_paths.last().filter(|address| !address.is_empty());
    let (Some(name), Some(address)) = (name, address) else { return };
    if recipients::has_field(text, "from") || name.chars().any(char::is_control) {
        return;
    }
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    text.splice(..0, format!("From: \"{name}\" <{address}>\n").into_bytes());
}

/// Lines end in CRLF, the last one too.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
    }
    out
}
