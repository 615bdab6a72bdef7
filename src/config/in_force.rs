//! What is in force in a running daemon, and what a new reading of the sources changes.

use std::{collections::BTreeMap, fmt, fs};

use config::ValueKind;
use twox_hash::XxHash3_64;

use super::{
    keys::{
        Spec, listener,
        office365::{self, OFFICE365},
        route::ROUTE,
    },
    layers::{One, Settings},
    render, routes,
};

/// The values that a daemon works with, by key. Secrets are among them: it prints keys only.
#[derive(Clone)]
pub struct InForce {
    values: BTreeMap<String, Held>,
}

#[derive(Clone)]
struct Held {
    spec: &'static Spec,
    value: Option<ValueKind>,
    /// Of a file that is read with the configuration, a digest of what was in it.
    content: Option<u64>,
    /// For people, masked where it is a secret.
    shown: String,
}

/// One key whose value is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `section.key`, or `section.2.key`.
    pub key: String,
    /// The value in force, as TOML has it; masked if it is a secret.
    pub from: String,
    /// The new one.
    pub to: String,
    /// Whether the old value stays until a restart.
    pub needs_restart: bool,
}

impl Change {
    /// `listener`, `listener.2`, `route.1`
    #[must_use]
    pub fn section(&self) -> &str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Whether it is about what the tokens of this account depend on.
    #[must_use]
    pub fn is_of_token(&self, account: &str) -> bool {
        let section = self.section();
        routes::is_of_token(self.name()) && (section == OFFICE365 || section == account)
    }

    /// Whether it is about the way upstream: credential, host, mailbox.
    #[must_use]
    pub fn is_of_way(&self) -> bool {
        let name = self.name();
        let of_way = routes::is_of_token(name) || routes::is_of_delivery(name);
        self.is_of_sending() && of_way
    }

    /// Whether what sends has to begin anew for it.
    #[must_use]
    pub fn is_of_sending(&self) -> bool {
        match self.section().split('.').next().unwrap_or_default() {
            OFFICE365 | ROUTE | "sender" | "notices" => true,
            "queue" => !matches!(self.name(), "min_free_bytes" | "max_messages" | "history_keep"),
            listener::SECTION => self.name() == listener::HOSTNAME.spec.name,
            _ => false,
        }
    }

    /// The key without its section.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.rsplit_once('.').map_or(self.key.as_str(), |(_, name)| name)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.key, self.from, self.to)
    }
}

impl InForce {
    pub(super) fn of(settings: &Settings) -> Self {
        let places = render::places(settings).into_iter();
        Self { values: places.map(|(one, spec)| held(one, spec)).collect() }
    }

    /// What is different in `next`, by key. Where listeners come, go or move, none of them changes
    /// before a restart: nobody could say which of them is which.
    #[must_use]
    pub fn changes(&self, next: &Self) -> Vec<Change> {
        let moved = self.addresses() != next.addresses();
        let keys = self.values.keys().chain(next.values.keys().filter(|key| !self.has(key)));
        let mut changes: Vec<_> = keys
            .filter_map(|key| change(key, self.values.get(key), next.values.get(key)))
            .collect();
        for change in &mut changes {
            let listener = change.section().split('.').next() == Some(listener::SECTION);
            change.needs_restart |= listener && moved;
        }
        changes.sort_by(|one, other| one.key.cmp(&other.key));
        changes
    }

    /// `next` holds from here on, but for those of `changes` that take a restart.
    pub fn take(&mut self, next: Self, changes: &[Change]) {
        let before = std::mem::replace(self, next);
        for change in changes.iter().filter(|change| change.needs_restart) {
            match before.values.get(&change.key) {
                Some(held) => self.values.insert(change.key.clone(), held.clone()),
                None => self.values.remove(&change.key),
            };
        }
    }

    fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn addresses(&self) -> Vec<&Option<ValueKind>> {
        let addresses = listener::ADDRESSES.spec.path();
        let listeners = self.values.values().filter(|held| held.spec.path() == addresses);
        listeners.map(|held| &held.value).collect()
    }
}

fn held(one: One<'_>, spec: &'static Spec) -> (String, Held) {
    let value = one.effective(spec).map(|found| found.value.clone());
    let content = (spec.name == office365::CA_FILE.spec.name)
        .then(|| fs::read(one.get(&office365::CA_FILE)?).ok())
        .flatten()
        .map(|octets| XxHash3_64::oneshot(&octets));
    let row = render::row(one, spec);
    (row.key, Held { spec, value, content, shown: row.value })
}

fn change(key: &str, before: Option<&Held>, next: Option<&Held>) -> Option<Change> {
    let value = |held: Option<&Held>| held.and_then(|held| held.value.clone());
    let content = |held: Option<&Held>| held.and_then(|held| held.content);
    let other_content = content(before) != content(next);
    if value(before) == value(next) && !other_content {
        return None;
    }
    let shown = |held: Option<&Held>| match held {
        Some(held) => held.shown.clone(),
        None => "(not set)".to_owned(),
    };
    let (from, mut to) = (shown(before), shown(next));
    if from == to {
        to.push_str(if other_content { " (another content)" } else { " (another value)" });
    }
    let needs_restart = before.or(next).is_some_and(|held| held.spec.restart);
    Some(Change { key: key.to_owned(), from, to, needs_restart })
}

/// Keys only: a value may be a secret.
impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}
