//! `doctor`: why mail does not go through, one line for each check, and what to do.

use std::{
    collections::BTreeMap, fs, io::IsTerminal, net::SocketAddr, path::PathBuf, time::Duration,
};

use clap::Args;
use hyper::StatusCode;
use tokio::time::Instant;

use super::{
    exit::Failure,
    fetch,
    output::line,
    text::{json, plain},
};
use crate::{
    clock::Clock,
    config::{self, Sources},
    doctor::{
        self, Daemon, Patient,
        report::{Check, Colour, Report},
    },
    setup::Record,
    smtp::path::Address,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Also ask about this sender: whether its mail is taken, and which mailbox sends it
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Address>,
    /// Send a message there and wait for upstream's reply: it alone tells of Send-As, quotas, and a
    /// full or blocked mailbox
    #[arg(long, value_name = "ADDRESS")]
    send_to: Option<Address>,
    /// Look again until nothing is red, for this long; tells only what changes [default: 2h]
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "2h",
          value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    /// How often to look while waiting
    #[arg(long, value_name = "TIME", default_value = "1m", requires = "wait",
          value_parser = humantime::parse_duration)]
    every: Duration,
    /// For programs: one object a line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    let mut patient = patient(sources);
    patient.from.clone_from(&options.from);
    patient.send_to.clone_from(&options.send_to);
    let screen = Screen::new(options.json, sources);
    let deadline = options.wait.map(|wait| Instant::now() + wait);
    let mut before = None;
    loop {
        let report = examine(&mut patient).await?;
        screen.show(&report, before.as_ref())?;
        let red = report.first_red().is_some();
        // A message that was refused is not sent again: Exchange blocks mailboxes for that.
        let refused =
            report.checks.iter().any(|check| check.id == "send" && check.colour == Colour::Red);
        let again = deadline.filter(|deadline| red && !refused && Instant::now() < *deadline);
        let Some(deadline) = again else {
            return if red { Err(Failure::red()) } else { Ok(()) };
        };
        if before.is_none() {
            screen.waiting(options)?;
        }
        before = Some(report);
        tokio::time::sleep_until(deadline.min(Instant::now() + options.every)).await;
    }
}

/// This host, with this configuration.
pub(super) fn patient(sources: &Sources) -> Patient {
    Patient {
        sources: with_credentials_of_the_unit(sources.clone()),
        from: None,
        send_to: None,
        daemon: Daemon::Off,
        root: PathBuf::from("/"),
        // Root's own; whoever else runs this does without.
        let_in: Record::load(&sources.path()).ok().flatten().and_then(|record| record.let_in()),
    }
}

/// One look at everything, with what the relay says now.
pub(super) async fn examine(patient: &mut Patient) -> Result<Report, Failure> {
    patient.daemon = ask(&patient.sources).await?;
    Ok(doctor::examine(patient, Clock::system()).await)
}

/// What the unit hands over lies where root can see it while the unit runs.
fn with_credentials_of_the_unit(mut sources: Sources) -> Sources {
    let variable = "CREDENTIALS_DIRECTORY";
    if fs::read_dir(OF_THE_UNIT).is_ok() && !sources.environment.contains_key(variable) {
        sources.environment.insert(variable.into(), OF_THE_UNIT.into());
    }
    sources
}

const OF_THE_UNIT: &str = "/run/credentials/o365-relay.service";

/// What the running relay says, if one can be asked.
async fn ask(sources: &Sources) -> Result<Daemon, Failure> {
    match config::load(sources) {
        Ok(config) => match config.http.address {
            Some(address) => Ok(status(address).await),
            None => Ok(Daemon::Off),
        },
        // There is nothing to examine.
        Err(faults) if faults.unconfigured().is_some() || faults.is_unreadable() => {
            Err(faults.into())
        }
        Err(_) => Ok(Daemon::Off),
    }
}

async fn status(address: SocketAddr) -> Daemon {
    let body = match fetch::ask(address, "/status").await {
        Ok((StatusCode::INTERNAL_SERVER_ERROR, body)) => {
            return Daemon::Unwell(String::from_utf8_lossy(&body).trim_end().to_owned());
        }
        Ok((_, body)) => body,
        Err(cause) => return Daemon::Silent(cause),
    };
    match serde_json::from_slice(&body) {
        Ok(status) => Daemon::Answers(Box::new(status)),
        Err(error) => Daemon::Odd(error.to_string()),
    }
}

/// Where the report goes.
pub(super) struct Screen {
    json: bool,
    coloured: bool,
}

impl Screen {
    pub fn new(json: bool, sources: &Sources) -> Self {
        let is_set = |name| sources.environment.get(name).filter(|value| !value.is_empty());
        let is_dumb = is_set("TERM").is_some_and(|terminal| terminal == "dumb");
        let unwanted = is_set("NO_COLOR").is_some() || is_dumb;
        Self { json, coloured: !unwanted && std::io::stdout().is_terminal() }
    }

    /// All of it, or what is otherwise than before.
    pub fn show(&self, report: &Report, before: Option<&Report>) -> Result<(), Failure> {
        let Some(before) = before else {
            if self.json {
                return Ok(line(json(report)?)?);
            }
            for check in &report.checks {
                self.check(check, "")?;
            }
            return self.summary(report);
        };
        let known: BTreeMap<_, _> = keyed(before).collect();
        let changed: Vec<_> =
            keyed(report).filter(|(key, check)| differs(known.get(key).copied(), check)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        if self.json {
            return Ok(line(json(report)?)?);
        }
        let time = format!("{}  ", report.time.rfc3339());
        for (_, check) in changed {
            self.check(check, &time)?;
        }
        self.summary(report)
    }

    fn check(&self, check: &Check, time: &str) -> Result<(), Failure> {
        let Check { subject, colour, finding, cure, .. } = check;
        let word = self.word(*colour, &format!("{:5}", colour.as_str()));
        line(format!("{time}{word}  {}: {}", plain(subject), plain(finding)))?;
        for step in cure {
            line(format!("       {}", plain(step)))?;
        }
        Ok(())
    }

    fn summary(&self, report: &Report) -> Result<(), Failure> {
        let count = |colour| report.checks.iter().filter(|check| check.colour == colour).count();
        let text = match (report.first_red(), count(Colour::Amber)) {
            (Some(first), _) => format!(
                "{} red; mend the first one first: {}",
                count(Colour::Red),
                plain(&first.subject)
            ),
            (None, 0) => "nothing stands in the way of mail".into(),
            (None, amber) => format!("nothing stands in the way of mail; {amber} amber to look at"),
        };
        Ok(line(self.word(report.result(), &text))?)
    }

    fn waiting(&self, options: &Options) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let every = humantime::format_duration(options.every);
        let wait = humantime::format_duration(options.wait.unwrap_or_default());
        Ok(line(format!(
            "looking again every {every} for up to {wait}; what changes is told here"
        ))?)
    }

    fn word(&self, colour: Colour, word: &str) -> String {
        let code = match colour {
            Colour::Grey => 90,
            Colour::Green => 32,
            Colour::Amber => 33,
            Colour::Red => 31,
        };
        if self.coloured { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() }
    }
}

/// A check may have several lines: the how-manieth counts as well.
fn keyed(report: &Report) -> impl Iterator<Item = ((&'static str, usize), &Check)> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    report.checks.iter().map(move |check| {
        let count = counts.entry(check.id).or_default();
        *count += 1;
        ((check.id, *count), check)
    })
}

/// Findings hold times and ids that change by themselves. The cure of a red line changes with its
/// cause.
fn differs(before: Option<&Check>, now: &Check) -> bool {
    before.is_none_or(|before| {
        before.colour != now.colour || (now.colour == Colour::Red && before.cure != now.cure)
    })
}
