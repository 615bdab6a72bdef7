//! Finds out why mail does not go through: one check after the other, from the configuration on
//! this host to Exchange's final word, each with a colour and, where it is red, with the cure.
//!
//! The order is that of cause and effect, and what depends on a check that failed is not tried but
//! grey. So the first red line is the cause, or says honestly which causes there can be.
//!
//! | Module | What it looks at |
//! |---|---|
//! | [`report`] | what a check says, and its colour |
//! | `settings` | configuration and credential, on this host |
//! | `login_host`, `smarthost` | name, connection, TLS with the issuer; the clock |
//! | `token`, `claims` | the access token: whether there is one, and what is in it |
//! | `mailbox`, `access` | AUTH as each mailbox, and what a refusal can mean |
//! | `running` | what the running relay says of itself |
//! | `sender`, `trial` | a sender, and a message that waits for upstream's verdict |
//! | `listener`, `queue_directory`, `service` | this host: who can send, where mail is kept |
//!
//! It takes no lock of the store's and needs nothing of the daemon, so both run side by side.

mod access;
mod claims;
mod listener;
mod login_host;
mod mailbox;
mod queue_directory;
pub mod report;
mod running;
mod sender;
mod service;
mod settings;
mod smarthost;
mod token;
mod trial;

use std::path::PathBuf;

use crate::{
    clock::{Clock, UnixMillis},
    config::{Config, Sources},
    http::Status,
    queue::Mode,
    smtp::path::Address,
};
use report::{Check, Report};

/// What is examined.
#[derive(Debug)]
pub struct Patient {
    /// Where the configuration comes from; proxy variables are looked for in its environment.
    pub sources: Sources,
    /// A sender to ask about.
    pub from: Option<Address>,
    /// Somebody to send a message to.
    pub send_to: Option<Address>,
    /// What the running relay said.
    pub daemon: Daemon,
    /// Where this host's facts are read from: `/`, elsewhere in tests.
    pub root: PathBuf,
}

/// What the running relay said to `/status`.
#[derive(Debug)]
pub enum Daemon {
    /// `http.address` is off, so it cannot be asked.
    Off,
    /// Nothing answers there.
    Silent(String),
    /// Something answers, but not as a relay does.
    Odd(String),
    /// A relay answers that cannot tell how it is, in its words.
    Unwell(String),
    /// This.
    Answers(Box<Status>),
}

impl Daemon {
    /// The status, if there is one.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Answers(status) => Some(status),
            Self::Off | Self::Silent(_) | Self::Odd(_) | Self::Unwell(_) => None,
        }
    }
}

/// Makes every check.
pub async fn examine(patient: &Patient, clock: Clock) -> Report {
    let mut report = Report::new(clock.now());
    let Some(config) = settings::configuration(&patient.sources, &mut report) else {
        let needs = "needs a configuration without faults";
        let later = [
            ("login-tls", "login host"),
            ("token", "access token"),
            ("smtp-tls", "submission host"),
            ("login", "login"),
            ("listener", "listener"),
            ("queue", "queue"),
        ];
        report.extend(later.map(|(id, subject)| Check::grey(id, subject, needs)));
        return report;
    };
    settings::credential(&config, clock.now(), &mut report);
    let case = Case { config: &config, patient, clock, changed: settings::changed(patient) };
    upstream(&case, &mut report).await;
    listener::check(&case, &mut report).await;
    queue_directory::check(&case, &mut report);
    service::check(&case, &mut report);
    report
}

/// From the login host to upstream's verdict.
async fn upstream(case: &Case<'_>, report: &mut Report) {
    let login_host = login_host::check(case, report).await;
    let offers = smarthost::check(case, report).await;
    let token = match login_host {
        true => token::check(case, report).await,
        false => {
            report.add(Check::grey("token", "access token", "needs the login host"));
            None
        }
    };
    let logins = mailbox::check(case, token.as_ref(), offers, report).await;
    running::check(case, &logins, report);
    sender::check(case, token.as_ref(), report);
    trial::check(case, token.as_ref(), logins, report).await;
}

/// What all checks go by.
struct Case<'a> {
    config: &'a Config,
    patient: &'a Patient,
    clock: Clock,
    /// When the configuration's file was changed last.
    changed: Option<UnixMillis>,
}

impl Case<'_> {
    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    fn mode(&self) -> Mode {
        self.config.queue.mode
    }

    /// The mailbox that takes mail of this sender.
    fn mailbox_for(&self, _sender: &Address) -> &str {
        self.config.queue.lanes.first().map_or("", |lane| lane.mailbox.as_str())
    }

    /// The proxy variables of this environment: no use is made of them, and people expect it.
    fn proxy_variables(&self) -> Vec<&str> {
        let set = |name: &&&str| {
            self.patient.sources.environment.get(**name).is_some_and(|value| !value.is_empty())
        };
        PROXY_VARIABLES.iter().filter(set).copied().collect()
    }
}

const PROXY_VARIABLES: &[&str] =
    &["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
