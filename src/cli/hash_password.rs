//! `hash-password`: what `listener.users` holds in place of a password. The password comes from
//! standard input; an argument could be read by everybody in the list of processes.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::zeroize::Zeroizing;

use super::{exit::Failure, output};
use crate::listener;

/// Longest password, in octets: more does not fit into a response of AUTH.
const LONGEST: u64 = 4096;

type Password = Zeroizing<Vec<u8>>;

pub(super) fn run() -> Result<(), Failure> {
    let password = if io::stdin().is_terminal() { ask_twice()? } else { read(io::stdin().lock())? };
    let hash = listener::hash_password(&password)
        .map_err(|error| Failure::unavailable(error.to_string()))?;
    Ok(output::line(hash)?)
}

fn ask_twice() -> Result<Password, Failure> {
    let _silence = Silence::begin()?;
    let first = ask("Password: ")?;
    let second = ask("Once more: ")?;
    if first != second {
        return Err(Failure::usage("the two passwords differ; try again"));
    }
    Ok(first)
}

fn ask(prompt: &str) -> Result<Password, Failure> {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{prompt}").and_then(|()| stderr.flush());
    let mut line = Zeroizing::new(Vec::with_capacity(128));
    let read = io::stdin().lock().take(LONGEST + 2).read_until(b'\n', &mut line);
    let _ = writeln!(stderr);
    read.map_err(|error| unreadable(&error))?;
    checked(line)
}

fn read(input: impl Read) -> Result<Password, Failure> {
    let mut text = Zeroizing::new(Vec::with_capacity(128));
    input.take(LONGEST + 2).read_to_end(&mut text).map_err(|error| unreadable(&error))?;
    checked(text)
}

/// One line end is not part of the password, since `echo` adds one.
fn checked(mut text: Password) -> Result<Password, Failure> {
    if text.last() == Some(&b'\n') {
        text.pop();
        if text.last() == Some(&b'\r') {
            text.pop();
        }
    }
    let fault = if text.is_empty() {
        "there is no password; type it, or pipe it in as one line"
    } else if text.len() as u64 > LONGEST {
        "the password is too long; 4096 octets are the most that a client can send"
    } else if text.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n')) {
        "the password must be one line, without NUL; no client could send it otherwise"
    } else {
        return Ok(text);
    };
    Err(Failure::usage(fault))
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::unavailable(format!("could not read the password: {error}"))
}

/// The terminal does not show what is typed, until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> Result<Self, Failure> {
        let fault = |error| {
            Failure::unavailable(format!(
                "could not stop the terminal from showing the password: {error}; pipe it in"
            ))
        };
        let before = tcgetattr(io::stdin()).map_err(fault)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(fault)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
