//! Configuration: the only reader of the file and of the environment. It merges what is set,
//! checks every key, and builds the checked settings that each part declares for itself.
//!
//! Sources, the later ones winning: defaults, variables of other tools (`AZURE_TENANT_ID` and
//! the like), the file, our variables `O365_RELAY__SECTION__KEY`, `--set section.key=value`.
//! An empty variable counts as unset. All faults are found in one go, and no message, `Debug`
//! output or listing holds a secret.

mod check;
mod credential;
mod documentation;
mod encryption;
mod examples;
mod fault;
mod file;
mod guess;
mod in_force;
mod keys;
mod kinds;
mod layer;
mod layers;
mod listeners;
mod logins;
mod reference;
mod render;
mod routes;
mod slots;
mod suggest;
#[cfg(test)]
mod tests;
mod text;
mod variables;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use documentation::page_of_keys;
pub use fault::{Fault, Faults};
pub use in_force::{Change, InForce};
pub use reference::{DefaultReference, KeyReference, SectionReference, reference};
pub use render::example;

use crate::{
    delivery, http, listener,
    office365::clouds::Cloud,
    queue::{self, Lanes},
    smtp::path::{ReversePath, SenderPattern},
    store::{self, Router, Surroundings},
    telemetry, token,
};

/// The section that the routes inherit from, which is the name of its account too.
pub const OFFICE365: &str = keys::office365::OFFICE365;

/// The file that is read when no other is named. It need not exist.
pub const DEFAULT_FILE: &str = "/etc/o365-relay/config.toml";

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file that was asked for (`--config`); it must exist. `None` reads the one that
    /// `O365_RELAY_CONFIG` names, else [`DEFAULT_FILE`].
    pub file: Option<PathBuf>,
    /// The variables of the environment, all of them.
    pub environment: BTreeMap<String, String>,
    /// `section.key=value`, as given with `--set`.
    pub set: Vec<String>,
}

impl Sources {
    /// The sources of this process. Variables that are not UTF-8 are left out unless they are
    /// ours; those are kept with U+FFFD in them, which [`load`] reports.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>, set: Vec<String>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| {
                let name = name.to_string_lossy().into_owned();
                match value.into_string() {
                    Ok(value) => Some((name, value)),
                    Err(value) if name.starts_with("O365_RELAY") => {
                        Some((name, value.to_string_lossy().into_owned()))
                    }
                    Err(_) => None,
                }
            })
            .collect();
        Self { file, environment, set }
    }

    /// The file that is read, whether it is there or not.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        file::place(self, Path::new(DEFAULT_FILE)).0
    }

    /// Where this process runs, as far as the environment tells.
    fn surroundings(&self) -> Surroundings {
        Surroundings {
            root: PathBuf::from("/"),
            container: self.variable("container").map(str::to_owned),
            kubernetes: self.variable("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }

    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Names only: a value may be a secret.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The SMTP server: at least one listener.
    pub listeners: Vec<listener::Config>,
    /// The durable queue.
    pub store: store::Config,
    /// Whether the queue may go with the container.
    pub ephemeral: bool,
    /// Where this process runs.
    pub surroundings: Surroundings,
    /// Access tokens of `[office365]`.
    pub token: token::Config,
    /// The SMTP client of `[office365]`.
    pub delivery: delivery::Config,
    /// The accounts of routes that differ from that; the lanes name them by place, counted from 1.
    pub other_accounts: Vec<AccountConfig>,
    /// The schedule.
    pub queue: queue::Config,
    /// Health and status.
    pub http: http::Config,
    /// The log.
    pub telemetry: telemetry::Config,
    /// How long running transactions may take to finish at shutdown.
    pub shutdown_grace: Duration,
    /// Whose presets were taken; set-up and diagnosis ask that cloud.
    pub cloud: Cloud,
    /// Roots that are trusted besides the system's; the parts that need them have them already.
    pub ca_file: Option<PathBuf>,
    /// What is allowed and yet looks wrong; to be logged at start.
    pub warnings: Vec<String>,
}

/// An account upstream of some routes: another tenant, application or host.
#[derive(Debug, Clone)]
pub struct AccountConfig {
    /// The route that it was first named in: `route.2`.
    pub name: String,
    /// Access tokens.
    pub token: token::Config,
    /// The account with the same credential, by its place: one token serves both.
    pub shares_token_of: Option<usize>,
    /// The SMTP client.
    pub delivery: delivery::Config,
    /// Whose presets were taken.
    pub cloud: Cloud,
    /// Roots that are trusted besides the system's; the parts that need them have them already.
    pub ca_file: Option<PathBuf>,
}

/// As whom mail goes upstream: what set-up has to allow, and what a diagnosis can try.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The section of the configuration: `office365`, `route.2`.
    pub route: &'a str,
    /// Whose mail takes it; empty for everybody's that no other route takes.
    pub senders: &'a [SenderPattern],
    /// The account's name: that of the section that it was first named in.
    pub account: &'a str,
    /// Its access tokens.
    pub token: &'a token::Config,
    /// Its SMTP client.
    pub delivery: &'a delivery::Config,
    /// The mailbox.
    pub mailbox: &'a str,
    /// Mail goes through the mailbox of its sender, and only that without one through `mailbox`.
    pub by_sender: bool,
    /// Whose presets the account has.
    pub cloud: Cloud,
    /// Roots that it trusts besides the system's.
    pub ca_file: Option<&'a Path>,
}

impl Config {
    /// The identities that mail goes upstream with, in the order of the routes; that of
    /// `[office365]` is the last.
    #[must_use]
    pub fn identities(&self) -> Vec<Identity<'_>> {
        self.queue.routes.iter().map(|route| self.identity(route)).collect()
    }

    /// The mailbox that sends mail with this reverse-path, and its identity.
    #[must_use]
    pub fn identity_of(&self, reverse_path: &ReversePath) -> (String, Identity<'_>) {
        let lanes = Lanes::new(&self.queue);
        let mailbox = lanes.lane(reverse_path);
        let account = lanes.config(&mailbox).map_or(0, |lane| lane.account);
        let identity = |route: &queue::Route| {
            let is_its = route.by_sender || route.lane.mailbox == mailbox;
            route.lane.account == account && is_its
        };
        let route = self.queue.routes.iter().find(|route| identity(route));
        let of_office365 = || self.account_of_office365();
        let identity = route.map_or_else(of_office365, |route| self.identity(route));
        (mailbox, identity)
    }

    fn identity<'a>(&'a self, route: &'a queue::Route) -> Identity<'a> {
        let queue::Route { keys, senders, by_sender, lane } = route;
        let place = lane.account.checked_sub(1);
        let other = place.and_then(|place| self.other_accounts.get(place));
        let (mailbox, by_sender) = (lane.mailbox.as_str(), *by_sender);
        let Some(other) = other else {
            let of_office365 = self.account_of_office365();
            return Identity { route: keys, senders, mailbox, by_sender, ..of_office365 };
        };
        Identity {
            route: keys,
            senders,
            account: &other.name,
            token: &other.token,
            delivery: &other.delivery,
            mailbox,
            by_sender,
            cloud: other.cloud,
            ca_file: other.ca_file.as_deref(),
        }
    }

    /// `[office365]` without a mailbox.
    fn account_of_office365(&self) -> Identity<'_> {
        Identity {
            route: OFFICE365,
            senders: &[],
            account: OFFICE365,
            token: &self.token,
            delivery: &self.delivery,
            mailbox: "",
            by_sender: false,
            cloud: self.cloud,
            ca_file: self.ca_file.as_deref(),
        }
    }
}

/// One key and the value that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `section.key`
    pub key: String,
    /// The value as TOML has it; `********` for a secret, `(not set)` for none.
    pub value: String,
    /// `file:line`, `environment variable NAME`, `--set`, or `default`, with its reason after a
    /// comma where there is one.
    pub origin: String,
}

/// Reads, merges and checks all sources. Files with secrets are looked into, so that a wrong
/// path or mode shows now, but their content is not kept.
///
/// # Errors
/// Every fault there is.
pub fn load(sources: &Sources) -> Result<Config, Faults> {
    load_or(sources, Path::new(DEFAULT_FILE)).map(|(config, _)| config)
}

/// Where a relay with this configuration takes mail from programs of this host that neither log in
/// nor know TLS. Other keys may have faults, and secrets need not be readable.
///
/// # Errors
/// The faults of the file's form; it may not be readable for this user.
pub fn plain_addresses(sources: &Sources) -> Result<Vec<listener::Address>, Faults> {
    let mut faults = Faults::default();
    let settings = layers::gather(sources, Path::new(DEFAULT_FILE), &mut faults);
    if settings.broken_file {
        return Err(faults);
    }
    Ok(listeners::plain_addresses(&settings))
}

/// As [`load`], with what holds then, to compare later readings with.
///
/// # Errors
/// Every fault there is.
pub fn load_to_compare(sources: &Sources) -> Result<(Config, InForce), Faults> {
    let (config, settings) = load_or(sources, Path::new(DEFAULT_FILE))?;
    Ok((config, InForce::of(&settings)))
}

/// Every key with the value that holds and its origin, in the order of [`example`]. Secrets are
/// masked.
///
/// # Errors
/// Every fault there is, as [`load`] has them.
pub fn show(sources: &Sources) -> Result<Vec<Setting>, Faults> {
    load_or(sources, Path::new(DEFAULT_FILE)).map(|(_, settings)| render::rows(&settings))
}

fn load_or(sources: &Sources, default_file: &Path) -> Result<(Config, layers::Settings), Faults> {
    let mut faults = Faults::default();
    let settings = layers::gather(sources, default_file, &mut faults);
    match check::check(&settings, sources.surroundings(), &mut faults) {
        Some(config) => Ok((config, settings)),
        None => Err(faults),
    }
}
