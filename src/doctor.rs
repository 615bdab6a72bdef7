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
//! | `container` | cures in words that fit where the relay runs |
//!
//! It takes no lock of the store's and needs nothing of the daemon, so both run side by side.

mod access;
mod claims;
mod container;
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

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    clock::{Clock, UnixMillis},
    config::{Config, Identity, OFFICE365, Sources},
    http::Status,
    mail::rewrite::Rewriting,
    office365::exchange,
    queue::Mode,
    smtp::path::{Address, ReversePath},
};
use container::Container;
use mailbox::LoggedIn;
use report::{Check, Report};
use token::Token;

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
    /// The client id of an application that was set up from here, and how Exchange lets it in.
    pub let_in: Option<(String, exchange::Path)>,
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
    let identities = config.identities();
    let Some(identity) = identities.iter().find(|one| one.route == OFFICE365) else {
        return report;
    };
    let changed = settings::changed(patient);
    let case = Case { config: &config, identity: *identity, patient, clock, changed };
    settings::credentials(&case, &mut report);
    upstream(&case, &mut report).await;
    listener::check(&case, &mut report).await;
    queue_directory::check(&case, &mut report);
    service::check(&case, &mut report);
    if let Some(container) = Container::around(&patient.root, &patient.sources.environment) {
        container.reword(&mut report);
    }
    report
}

/// From the login host to upstream's verdict.
async fn upstream(case: &Case<'_>, report: &mut Report) {
    let (mut hosts, mut found) = (Hosts::default(), Found::default());
    for identity in case.accounts() {
        account(&case.of(identity), &mut hosts, &mut found, report).await;
    }
    running::check(case, &found, report);
    sender::check(case, &found, report);
    trial::check(case, found, report).await;
}

/// What two accounts have in common is looked at once.
async fn account(case: &Case<'_>, hosts: &mut Hosts, found: &mut Found, report: &mut Report) {
    let place = (login_host::target_of(case), case.identity.ca_file.map(Into::into));
    let login_host = match hosts.login.get(&place) {
        Some(known) => *known,
        None => login_host::check(case, report).await,
    };
    hosts.login.insert(place, login_host);
    let (host, port) = (&case.identity.delivery.host, case.identity.delivery.port);
    let place = (Some((host.clone(), port)), case.identity.ca_file.map(Into::into));
    let offers = match hosts.smtp.get(&place) {
        Some(known) => *known,
        None => smarthost::check(case, report).await,
    };
    hosts.smtp.insert(place, offers);
    let before = report.checks.len();
    let token = match login_host {
        true => token::check(case, report).await,
        false => {
            report.add(Check::grey("token", "access token", "needs the login host"));
            None
        }
    };
    for check in report.checks.iter_mut().skip(before) {
        check.subject.push_str(&case.of_account());
    }
    let logins = mailbox::check(case, token.as_ref(), offers, report).await;
    found.logins.extend(logins);
    found.tokens.extend(token.map(|token| (case.identity.account.to_owned(), token)));
}

/// Hosts that have been looked at, with the roots that were trusted, and whether they will do.
#[derive(Default)]
struct Hosts {
    login: BTreeMap<Place, bool>,
    smtp: BTreeMap<Place, bool>,
}

type Place = (Option<(String, u16)>, Option<PathBuf>);

/// What the accounts have shown.
#[derive(Default)]
struct Found {
    /// By account.
    tokens: BTreeMap<String, Token>,
    logins: Vec<LoggedIn>,
}

impl Found {
    fn token(&self, case: &Case<'_>) -> Option<&Token> {
        self.tokens.get(case.identity.account)
    }
}

/// What all checks go by.
#[derive(Clone, Copy)]
struct Case<'a> {
    config: &'a Config,
    /// Whose account is looked at: that of `[office365]` where all are.
    identity: Identity<'a>,
    patient: &'a Patient,
    clock: Clock,
    /// When the configuration's file was changed last.
    changed: Option<UnixMillis>,
}

impl<'a> Case<'a> {
    /// The same with another account.
    fn of(&self, identity: Identity<'a>) -> Self {
        Self { identity, ..*self }
    }

    /// An identity of each account, that of `[office365]` first.
    fn accounts(&self) -> Vec<Identity<'a>> {
        let mut accounts = vec![self.identity];
        for identity in self.config.identities() {
            if accounts.iter().all(|known| known.account != identity.account) {
                accounts.push(identity);
            }
        }
        accounts
    }

    /// Behind a subject: which account it is, where there are several.
    fn of_account(&self) -> String {
        match self.config.other_accounts.as_slice() {
            [] => String::new(),
            _ => format!(" ({})", self.identity.account),
        }
    }

    /// The name of a key of the account.
    fn key(&self, name: &str) -> String {
        match self.identity.account {
            OFFICE365 => format!("{OFFICE365}.{name}"),
            route => format!("{route}.{name} (or {OFFICE365}.{name})"),
        }
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    fn mode(&self) -> Mode {
        self.config.queue.mode
    }

    /// The mailbox that takes mail of this sender, and the same case with its account.
    fn mailbox_for(&self, sender: &Address) -> (String, Self) {
        let (mailbox, identity) = self.config.identity_of(&ReversePath::Address(sender.clone()));
        (mailbox, self.of(identity))
    }

    /// As whom mail of this sender goes through the mailbox.
    fn sent_as(&self, sender: &Address, mailbox: &str) -> (Rewriting, Address) {
        let rewriting = self.config.queue.sender.rewriting(mailbox);
        let path = rewriting.reverse_path(&ReversePath::Address(sender.clone()));
        let sender = match path {
            ReversePath::Address(address) => address,
            ReversePath::Null => sender.clone(),
        };
        (rewriting, sender)
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
