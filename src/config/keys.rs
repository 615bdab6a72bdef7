//! The table of keys, the one source of truth: what there is, what it defaults to, how it is
//! read and what it means. Checks, `config show`, `config example`, spelling hints and the
//! reference all come from it.

pub(super) mod daemon;
pub(super) mod listener;
pub(super) mod notices;
pub(super) mod office365;
pub(super) mod route;

use config::ValueKind;

use super::kinds::Parsed;

/// One key and how its value is read.
pub(super) struct Key<T: 'static> {
    pub(super) spec: Spec,
    parse: fn(&ValueKind) -> Parsed<T>,
}

/// What there is to know about a key apart from its type.
#[derive(Debug)]
pub(super) struct Spec {
    /// The section it stands in.
    pub(super) section: &'static str,
    /// Its name in that section.
    pub(super) name: &'static str,
    /// What holds when it is not set.
    pub(super) default: Default,
    /// Whether its value must never be shown.
    pub(super) secret: bool,
    /// A variable that is read when the key is set nowhere else.
    pub(super) fallback: Option<&'static str>,
    /// Whether a running daemon keeps the old value until it is started again.
    pub(super) restart: bool,
    /// Its meaning, with the unit.
    pub(super) doc: &'static str,
}

/// What holds when a key is not set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Default {
    /// This text.
    Text(&'static str),
    /// This number.
    Count(u64),
    /// This, or its opposite.
    Flag(bool),
    /// This list.
    List(&'static [&'static str]),
    /// Found out at start; `sample` is a likely value, `from` says where it comes from.
    Computed { sample: &'static str, from: &'static str },
    /// Nothing; `sample` shows how it could be set.
    Nothing { sample: &'static str },
    /// Nothing: it must be set, to something like `sample`.
    Required { sample: &'static str },
}

impl<T> Key<T> {
    /// A key with its default, its meaning and the way its value is read.
    const fn new(
        section: &'static str,
        name: &'static str,
        default: Default,
        doc: &'static str,
        parse: fn(&ValueKind) -> Parsed<T>,
    ) -> Self {
        let (secret, fallback, restart) = (false, None, false);
        let spec = Spec { section, name, default, secret, fallback, restart, doc };
        Self { spec, parse }
    }

    /// Also reads the variable `name`, which other tools set.
    const fn or_variable(mut self, name: &'static str) -> Self {
        self.spec.fallback = Some(name);
        self
    }

    /// A change takes a restart.
    const fn needs_restart(mut self) -> Self {
        self.spec.restart = true;
        self
    }

    /// Never shows its value.
    const fn secret(mut self) -> Self {
        self.spec.secret = true;
        self
    }

    /// Reads a value.
    pub(super) fn parse(&self, value: &ValueKind) -> Parsed<T> {
        (self.parse)(value)
    }
}

/// A key of any type.
pub(super) trait AnyKey: Sync {
    fn spec(&self) -> &Spec;
    /// Whether `value` can be read, and if not, why.
    fn check(&self, value: &ValueKind) -> Parsed<()>;
}

impl<T> AnyKey for Key<T> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn check(&self, value: &ValueKind) -> Parsed<()> {
        self.parse(value).map(drop)
    }
}

impl Spec {
    /// `section.name`
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("O365_RELAY__{}__{}", self.section, self.name).to_uppercase()
    }
}

impl Default {
    /// The value, if it is known beforehand.
    pub(super) fn value(self) -> Option<ValueKind> {
        match self {
            Self::Text(text) => Some(text.into()),
            Self::Count(number) => Some(number.into()),
            Self::Flag(flag) => Some(flag.into()),
            Self::List(items) => Some(items.to_vec().into()),
            Self::Computed { .. } | Self::Nothing { .. } | Self::Required { .. } => None,
        }
    }
}

/// A section of the file.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    /// What it is about.
    pub(super) about: &'static str,
    /// Whether it may stand several times, as `[[name]]`.
    pub(super) repeatable: bool,
    /// Whether there is none unless somebody writes it.
    pub(super) optional: bool,
}

/// Every section in the order of the example.
pub(super) const SECTIONS: &[Section] = &[
    once("office365", "The tenant, the application and the mailbox that mail is relayed through."),
    Section {
        name: route::ROUTE,
        about: "Senders that go another way, as many as there are other ways: another mailbox, \
                tenant or application. Mail takes the first route whose `senders` fit, and \
                `[office365]` if none does. A route can set every key of `[office365]` for \
                itself, and has the values from there for those that it does not set; \
                a credential and `cloud` are inherited as a whole or not at all. Their variables \
                and paths for `--set` have its number, O365_RELAY__ROUTE__1__MAILBOX and \
                `route.1.mailbox`.",
        repeatable: true,
        optional: true,
    },
    once("sender", "Whose mail is taken, and as whom it goes upstream."),
    Section {
        name: "listener",
        about: "The SMTP server that applications send to. For several, such as a port per \
                application, write `[[listener]]` for each: it has all of these keys with their \
                defaults, and must set `addresses`. Their variables and paths for `--set` have its \
                number, O365_RELAY__LISTENER__2__ALLOW and `listener.2.allow`; without a number \
                they hold for each that does not set the key itself.",
        repeatable: true,
        optional: false,
    },
    once("queue", "Where accepted mail waits, and for how long."),
    once("notices", "Who hears of mail that fails or waits."),
    once("http", "Health, metrics and status."),
    once("log", "The log."),
    once("daemon", "The process."),
];

const fn once(name: &'static str, about: &'static str) -> Section {
    Section { name, about, repeatable: false, optional: false }
}

/// The section of this name.
pub(super) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// Whether the section may stand several times.
pub(super) fn is_repeatable(name: &str) -> bool {
    section(name).is_some_and(|section| section.repeatable)
}

/// Every key, in the order of the example.
pub(super) fn table() -> impl Iterator<Item = &'static dyn AnyKey> {
    let keys = [office365::KEYS, route::KEYS, listener::KEYS, daemon::KEYS, notices::KEYS];
    keys.into_iter().flatten().copied()
}

/// Every key, and those of `[office365]` once more as a route has them.
pub(super) fn all() -> impl Iterator<Item = &'static dyn AnyKey> {
    table().chain(route::twins())
}

/// The key in another section: what a route sets in place of `[office365]`.
pub(super) fn in_section(section: &str, spec: &'static Spec) -> &'static Spec {
    if section == route::ROUTE && spec.section == office365::OFFICE365 {
        return find(section, spec.name).unwrap_or(spec);
    }
    spec
}

/// Whether `value` can be read as one of this key, and if not, why.
pub(super) fn check(spec: &Spec, value: &ValueKind) -> Parsed<()> {
    all().find(|key| key.spec().path() == spec.path()).map_or(Ok(()), |key| key.check(value))
}

/// The key `section.name`.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Spec> {
    all().map(AnyKey::spec).find(|spec| spec.section == section && spec.name == name)
}
