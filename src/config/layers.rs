//! The layers, lowest first: defaults, variables of other tools, the file, our variables,
//! `--set`. The `config` crate merges them; each value carries its origin along.

mod presets;

use std::{collections::BTreeMap, path::Path};

use config::{ConfigBuilder, Value, ValueKind, builder::DefaultState};

use super::{
    Sources, credential,
    fault::Faults,
    file::{self, FileState},
    keys::{self, AnyKey, Default as KeyDefault, Key, Spec, office365, route::ROUTE},
    kinds,
    layer::Layer,
    slots::{self, Counts, Slot},
    text, variables,
};
use crate::token::IdentityHost;

/// Where a value that holds comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody set it, here.
    Given(String),
    /// Nobody did; how we came to it.
    Default(String),
}

/// The value of one key that holds, unchecked.
pub(super) struct Effective {
    pub(super) value: ValueKind,
    pub(super) origin: Origin,
}

/// The values that hold, unchecked.
pub(super) struct Settings {
    values: BTreeMap<String, Effective>,
    /// Which sections stand several times.
    counts: Counts,
    /// The default file that does not exist, where that is so.
    pub(super) absent_file: Option<std::path::PathBuf>,
    /// The file could not be used, so that keys may seem to be missing.
    pub(super) broken_file: bool,
    /// What a managed identity would get its tokens from.
    identity_host: IdentityHost,
}

/// Puts all layers together. Faults are those of form: unknown keys, unreadable sources.
pub(super) fn gather(sources: &Sources, default_file: &Path, faults: &mut Faults) -> Settings {
    let (file, absent_file, broken_file) = match file::read(sources, default_file, faults) {
        FileState::Read(layer) => (layer, None, false),
        FileState::Absent(path) => (Layer::default(), Some(path), false),
        FileState::Broken => (Layer::default(), None, true),
    };
    let mut layers = [
        defaults(),
        variables::fallbacks(&sources.environment),
        file,
        variables::own(&sources.environment, faults),
        variables::set(&sources.set, faults),
    ];
    let mut counts = Counts::default();
    for layer in &layers {
        layer.count(&mut counts);
    }
    counts.complain_of_gaps(faults);
    for layer in &mut layers {
        layer.drop_needless_numbers(&counts);
    }
    let merged = layers
        .into_iter()
        .fold(config::Config::builder(), ConfigBuilder::<DefaultState>::add_source)
        .build();
    let values = match merged {
        Ok(merged) => effective(&merged.cache, &counts),
        Err(_) => {
            // Layers hold nothing but known paths; the error's text may show a value.
            faults.add("configuration", "its sources could not be merged", None);
            BTreeMap::new()
        }
    };
    let identity_host = credential::identity_host(sources);
    let mut settings = Settings { values, counts, absent_file, broken_file, identity_host };
    credential::settle(&mut settings, sources, default_file);
    settings.compute();
    settings
}

fn defaults() -> Layer {
    let mut layer = Layer::default();
    for spec in keys::table().map(AnyKey::spec) {
        if let Some(value) = spec.default.value() {
            layer.set(Slot::of(spec), Value::new(None, value));
        }
    }
    layer
}

fn effective(merged: &Value, counts: &Counts) -> BTreeMap<String, Effective> {
    let entry = |table: &Value, name: &str| match &table.kind {
        ValueKind::Table(entries) => entries.get(name).cloned(),
        _ => None,
    };
    let mut values = BTreeMap::new();
    for slot in slots::all(counts) {
        let table = entry(merged, slot.spec.section).and_then(|table| match slot.number {
            Some(number) => entry(&table, &number.to_string()),
            None => Some(table),
        });
        let Some(value) = table.and_then(|table| entry(&table, slot.spec.name)) else { continue };
        let origin = match value.origin() {
            Some(origin) => Origin::Given(origin.to_owned()),
            None => Origin::Default("default".into()),
        };
        values.insert(slot.path(), Effective { value: value.kind, origin });
    }
    values
}

/// One section: the only one of its name, or one of several by its number.
#[derive(Clone, Copy)]
pub(super) struct One<'a> {
    settings: &'a Settings,
    section: &'static str,
    number: Option<usize>,
}

impl<'a> One<'a> {
    /// Where its own value of a key belongs.
    pub(super) fn slot(self, spec: &'static Spec) -> Slot {
        Slot { spec: keys::in_section(self.section, spec), number: self.number }
    }

    /// Whether it inherits from `[office365]`.
    pub(super) fn is_route(self) -> bool {
        self.section == ROUTE
    }

    /// What a managed identity would get its tokens from.
    pub(super) fn identity_host(self) -> &'a IdentityHost {
        &self.settings.identity_host
    }

    /// `listener`, or `listener.2`.
    pub(super) fn path(self) -> String {
        slots::section_path(self.section, self.number)
    }

    /// Where it begins in the file, if it is one of several.
    pub(super) fn origin(self) -> Option<&'a str> {
        self.settings.counts.origin(self.section, self.number?)
    }

    /// What it sets itself.
    pub(super) fn own(self, spec: &'static Spec) -> Option<&'a Effective> {
        self.settings.values.get(&self.slot(spec).path())
    }

    /// What holds for a key, if anything does: its own value, else that of all of them, else that
    /// of the section that it inherits from.
    pub(super) fn effective(self, spec: &'static Spec) -> Option<&'a Effective> {
        let inherited = || match credential::is_part(spec) && credential::has_own(self) {
            true => None,
            false => self.settings.effective(spec),
        };
        self.set_here(spec).or_else(inherited)
    }

    /// What its section sets, for it alone or for all of them.
    pub(super) fn set_here(self, spec: &'static Spec) -> Option<&'a Effective> {
        let of_all = keys::in_section(self.section, spec);
        self.own(spec).or_else(|| self.settings.effective(of_all))
    }

    /// The value of a key, if there is one and it can be read.
    pub(super) fn get<T>(self, key: &'static Key<T>) -> Option<T> {
        self.effective(&key.spec).and_then(|found| key.parse(&found.value).ok())
    }

    /// Where a key was set, if somebody did.
    pub(super) fn given(self, spec: &'static Spec) -> Option<&'a str> {
        self.effective(spec)?.given()
    }
}

impl Effective {
    /// Where it was set, if somebody did.
    pub(super) fn given(&self) -> Option<&str> {
        match &self.origin {
            Origin::Given(origin) => Some(origin),
            Origin::Default(_) => None,
        }
    }
}

impl Settings {
    /// Each section of this name.
    pub(super) fn each(&self, section: &'static str) -> Vec<One<'_>> {
        let one = |number| One { settings: self, section, number };
        let numbers = self.counts.numbers(section);
        if numbers.is_empty() {
            return vec![one(None)];
        }
        numbers.into_iter().map(|number| one(Some(number))).collect()
    }

    /// `[office365]`, which the routes inherit from.
    pub(super) fn office365(&self) -> One<'_> {
        One { settings: self, section: office365::OFFICE365, number: None }
    }

    /// Each route; none where nobody has written one.
    pub(super) fn routes(&self) -> Vec<One<'_>> {
        let set = |slot: Slot| self.values.contains_key(&slot.path());
        let any = || slots::all(&self.counts).any(|slot| slot.spec.section == ROUTE && set(slot));
        if self.counts.has(ROUTE) || any() { self.each(ROUTE) } else { Vec::new() }
    }

    /// Every value that somebody set or that is a default, before one takes the place of another.
    pub(super) fn slots(&self) -> impl Iterator<Item = (Slot, &Effective)> {
        slots::all(&self.counts).filter_map(|slot| Some((slot, self.values.get(&slot.path())?)))
    }

    /// What holds for a key, if anything does.
    pub(super) fn effective(&self, spec: &Spec) -> Option<&Effective> {
        self.values.get(&spec.path())
    }

    /// The value of a key, if there is one and it can be read.
    pub(super) fn get<T>(&self, key: &Key<T>) -> Option<T> {
        self.effective(&key.spec).and_then(|found| key.parse(&found.value).ok())
    }

    /// Where a key was set, if somebody did.
    pub(super) fn given(&self, spec: &Spec) -> Option<&str> {
        self.effective(spec)?.given()
    }

    /// Takes back what was set for a key.
    pub(super) fn forget(&mut self, spec: &Spec) {
        self.values.remove(&spec.path());
    }

    /// Sets a key to a path that was found at `origin`.
    pub(super) fn give(&mut self, spec: &Spec, path: &Path, origin: &str) {
        let value = path.display().to_string().into();
        let origin = Origin::Given(origin.to_owned());
        self.values.insert(spec.path(), Effective { value, origin });
    }

    fn compute(&mut self) {
        self.presets();

        let uname = rustix::system::uname();
        let (hostname, ehlo_name) = own_names(&uname.nodename().to_string_lossy());
        self.fill(&keys::listener::HOSTNAME.spec, hostname, "default, the host's name");
        self.fill(&office365::EHLO_NAME.spec, ehlo_name, "default, the host's name");
        self.name_listeners();
        self.settle_tls();
    }

    fn name_listeners(&mut self) {
        let (name, addresses) = (&keys::listener::NAME, &keys::listener::ADDRESSES);
        let named = |one: One<'_>| {
            let address = one.get(addresses)?.first()?.to_string();
            let octet = |c: char| if c.is_ascii() && kinds::in_name(c as u8) { c } else { '_' };
            Some((one.slot(&name.spec).path(), address.chars().map(octet).collect::<String>()))
        };
        let nameless = self.each(name.spec.section).into_iter();
        let nameless = nameless.filter(|one| one.own(&name.spec).is_none());
        let names: Vec<_> = nameless.filter_map(named).collect();
        for (path, name) in names {
            let origin = Origin::Default("default, its first address".into());
            self.values.insert(path, Effective { value: name.into(), origin });
        }
    }

    fn settle_tls(&mut self) {
        let (tls, certificate) = (&keys::listener::TLS, &keys::listener::TLS_CERTIFICATE_FILE);
        let settled = |one: &One<'_>| {
            let (mode, note) = match one.given(&certificate.spec) {
                Some(_) => ("starttls", "default, with a certificate"),
                None => ("none", "default, without a certificate"),
            };
            let origin = Origin::Default(note.into());
            (one.slot(&tls.spec).path(), Effective { value: mode.into(), origin })
        };
        let open = self.each(tls.spec.section).into_iter();
        let open = open.filter(|one| one.effective(&tls.spec).is_none());
        let modes: Vec<_> = open.map(|one| settled(&one)).collect();
        self.values.extend(modes);
    }

    fn fill(&mut self, spec: &Spec, value: impl Into<ValueKind>, note: &str) {
        debug_assert!(matches!(spec.default, KeyDefault::Computed { .. }));
        self.values.entry(spec.path()).or_insert_with(|| Effective {
            value: value.into(),
            origin: Origin::Default(note.to_owned()),
        });
    }
}

/// Our name as a server and our name as a client. Exchange Online refuses odd names in EHLO
/// (501 5.5.4), so a host without a domain does not tell its own there.
fn own_names(node: &str) -> (String, String) {
    const NAMELESS: &str = "localhost.localdomain";
    let valid = text::is_host_name(node);
    let full = valid && node.contains('.');
    let pick = |fits: bool| if fits { node.to_owned() } else { NAMELESS.to_owned() };
    (pick(valid), pick(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_domain_does_not_tell_its_name_upstream() {
        let names = |node| {
            let (hostname, ehlo_name) = own_names(node);
            format!("{hostname} {ehlo_name}")
        };
        assert_eq!(names("mail.contoso.com"), "mail.contoso.com mail.contoso.com");
        assert_eq!(names("mail"), "mail localhost.localdomain");
        assert_eq!(names("my_pod"), "localhost.localdomain localhost.localdomain");
        assert_eq!(names("(none)"), "localhost.localdomain localhost.localdomain");
    }
}
