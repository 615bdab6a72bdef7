//! The arguments of a mailer as programs have called it for decades: single letters, bundled or
//! not, with values behind them or in the next argument.

use std::ffi::OsString;

use crate::{config::Sources, listener::Address, mail::recipients};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    /// Send the message on standard input.
    #[default]
    Send,
    /// Speak SMTP on standard input and output.
    Session,
    /// Show the queue.
    Queue,
    /// What the relay does by itself or has nothing of: aliases, queue runs.
    Nothing(&'static str),
    Help,
    Version,
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub mode: Mode,
    /// The reverse-path; empty for the null reverse-path.
    pub from: Option<String>,
    /// The name for a From field, where the message has none.
    pub name: Option<String>,
    pub read_recipients: bool,
    pub ignore_dots: bool,
    pub notify: Option<String>,
    pub ret: Option<&'static str>,
    pub envelope_id: Option<String>,
    pub quiet: bool,
    pub verbose: bool,
    pub server: Option<Address>,
    pub recipients: Vec<String>,
}

/// Each option and what it does; `Arguments::read` knows these and no others.
pub(super) static FLAGS: &[(&str, &str)] = &[
    (
        "-t",
        "Recipients are those of To, Cc and Bcc, besides those that are arguments; Bcc is removed.",
    ),
    ("-f ADDRESS, -r ADDRESS", "The sender of the envelope; `<>` for none. Default: the user."),
    ("-F NAME", "The sender's name, for a message without a From field."),
    ("-i, -oi", "A line with a dot alone does not end the message."),
    ("-bm", "Send the message on standard input: what happens without -b."),
    ("-bs", "Speak SMTP on standard input and output."),
    ("-bp", "List the queue, as `o365-relay queue list` does. So does the name mailq."),
    ("-N WHEN", "Which notices are wanted: never, or success, failure, delay with commas."),
    ("-R full|hdrs", "How much of the message a notice holds."),
    ("-V ID", "The envelope's id, for notices."),
    ("-v", "Show the SMTP session on standard error."),
    ("-oeq, -eq", "No message on standard error, only the exit code."),
    ("-bi, -q", "Nothing: there are no aliases, and the queue runs by itself. So does newaliases."),
    (
        "-B, -C, -G, -h, -L, -m, -n, -O, -o, -p, -U, -X, -d, -D, -A, -E",
        "Taken with their values, and without effect: the relay sees to it itself.",
    ),
    (
        "--server ADDRESS",
        "The relay to hand the message to, such as 127.0.0.1:25 or unix:/run/o365-relay/smtp.sock.",
    ),
    ("--config FILE, --set KEY=VALUE", "As for the other commands."),
];

/// Those that take a value.
const VALUES: &str = "ABCDFNORVXbefhLopr";

impl Arguments {
    /// Reads the arguments behind the program's name. Settings that are among them go into
    /// `sources`.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn read(arguments: &[OsString], sources: &mut Sources) -> Result<Self, String> {
        let mut read = Self::default();
        let mut rest = arguments.iter().map(|one| one.to_string_lossy().into_owned());
        while let Some(argument) = rest.next() {
            if argument == "--" {
                read.recipients.extend(rest.by_ref());
            } else if let Some(long) = argument.strip_prefix("--") {
                read.long(long, &mut rest, sources)?;
            } else if let Some(letters) = argument.strip_prefix('-').filter(|it| !it.is_empty()) {
                read.short(letters, &mut rest)?;
            } else {
                read.recipients.push(argument);
            }
        }
        let given = std::mem::take(&mut read.recipients);
        let addresses = given.iter().flat_map(|list| recipients::addresses(list.as_bytes()));
        read.recipients = addresses.collect();
        Ok(read)
    }

    fn long(
        &mut self,
        argument: &str,
        rest: &mut impl Iterator<Item = String>,
        sources: &mut Sources,
    ) -> Result<(), String> {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument, None),
        };
        let mut value = || {
            value.clone().or_else(|| rest.next()).ok_or_else(|| format!("--{name} takes a value"))
        };
        match name {
            "help" => self.mode = Mode::Help,
            "version" => self.mode = Mode::Version,
            "server" => {
                let address = value()?.parse();
                self.server = Some(address.map_err(|error| format!("--server: {error}"))?);
            }
            "config" => sources.file = Some(value()?.into()),
            "set" => sources.set.push(value()?),
            _ => return Err(format!("unknown option --{name}")),
        }
        Ok(())
    }

    fn short(
        &mut self,
        letters: &str,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            let behind = &letters[at + letter.len_utf8()..];
            if VALUES.contains(letter) {
                let value = match behind {
                    "" => rest.next().ok_or_else(|| format!("-{letter} takes a value"))?,
                    behind => behind.to_owned(),
                };
                return self.value(letter, value);
            }
            match letter {
                't' => self.read_recipients = true,
                'i' => self.ignore_dots = true,
                'v' => self.verbose = true,
                // Their value, if there is one, stands right behind them.
                'q' => {
                    self.mode = Mode::Nothing("the queue runs by itself");
                    return Ok(());
                }
                'd' => return Ok(()),
                'G' | 'm' | 'n' | 's' | 'U' | 'E' | 'x' => {}
                _ => return Err(format!("unknown option -{letter}")),
            }
        }
        Ok(())
    }

    fn value(&mut self, letter: char, value: String) -> Result<(), String> {
        match letter {
            'f' | 'r' => {
                let plain = value.trim().trim_start_matches('<').trim_end_matches('>');
                let address = match plain {
                    "" => String::new(),
                    _ => recipients::addresses(value.as_bytes())
                        .into_iter()
                        .next()
                        .unwrap_or_default(),
                };
                self.from = Some(address);
            }
            'F' => self.name = Some(value),
            'N' => self.notify = Some(notify(&value)?),
            'R' => {
                self.ret = Some(match value.to_ascii_lowercase().as_str() {
                    "full" => "FULL",
                    "hdrs" => "HDRS",
                    _ => return Err("-R takes full or hdrs".into()),
                });
            }
            'V' => self.envelope_id = Some(value),
            'e' => self.quiet = value == "q",
            'o' if value == "i" => self.ignore_dots = true,
            'o' if value.starts_with('e') => self.quiet = value == "eq",
            'b' => self.mode = mode(&value)?,
            _ => {}
        }
        Ok(())
    }
}

fn notify(value: &str) -> Result<String, String> {
    let words = value.to_ascii_uppercase();
    let known = |word: &str| matches!(word, "SUCCESS" | "FAILURE" | "DELAY");
    match words == "NEVER" || words.split(',').all(known) {
        true => Ok(words),
        false => Err("-N takes never, or a list of success, failure and delay".into()),
    }
}

fn mode(value: &str) -> Result<Mode, String> {
    Ok(match value {
        "m" | "a" => Mode::Send,
        "s" => Mode::Session,
        "p" | "P" => Mode::Queue,
        "i" | "I" => Mode::Nothing("there are no aliases"),
        "d" | "D" => return Err("the daemon is `o365-relay run`".into()),
        _ => return Err(format!("-b{value} is not known here")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        let arguments: Vec<_> = line.split(' ').map(OsString::from).collect();
        Arguments::read(&arguments, &mut Sources::default())
    }

    #[test]
    fn what_programs_write_is_understood() {
        let cron = read("-FCronDaemon -i -B8BITMIME -oem root").unwrap();
        assert_eq!((cron.name.as_deref(), cron.ignore_dots), (Some("CronDaemon"), true));
        assert_eq!(cron.recipients, ["root"]);
        let php = read("-t -i -f bounce@x.example").unwrap();
        assert!(php.read_recipients && php.from.as_deref() == Some("bounce@x.example"));
        let git = read("-i a@x.example B<b@x.example>").unwrap();
        assert_eq!(git.recipients, ["a@x.example", "b@x.example"]);
        let mutt = read("-oem -oi -f a@x.example -- -odd@x.example").unwrap();
        assert_eq!(mutt.recipients, ["-odd@x.example"]);
        let bundled = read("-tiv -oeq -f<> -N failure,delay -R hdrs -V x").unwrap();
        assert!(bundled.read_recipients && bundled.ignore_dots && bundled.verbose && bundled.quiet);
        assert_eq!(bundled.from.as_deref(), Some(""));
        assert_eq!(bundled.notify.as_deref(), Some("FAILURE,DELAY"));
        assert_eq!(read("-bs").unwrap().mode, Mode::Session);
        assert_eq!(read("-q30m").unwrap().mode, Mode::Nothing("the queue runs by itself"));
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for line in ["-Z", "-f", "--serve x", "-N soon", "-R all", "-bd", "--server nowhere"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
