//! The table of keys for whoever documents it: the page of keys, the man page.

use config::ValueKind;

use super::{
    examples,
    keys::{self, AnyKey, Default, Section, Spec},
    kinds::Mismatch,
    render,
};

/// A section of the configuration file and its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionReference {
    /// As it stands in the file: `[listener]`, or `[[route]]` for one that there may be none of.
    pub heading: String,
    /// What it is about.
    pub about: &'static str,
    /// Its keys, in the order of [`super::example`].
    pub keys: Vec<KeyReference>,
}

/// What there is to know about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyReference {
    /// Its name within the section.
    pub name: &'static str,
    /// With the section: `listener.addresses`.
    pub path: String,
    /// What it means, with the unit.
    pub meaning: &'static str,
    /// The values that fit, as the fault about one that does not says it.
    pub takes: String,
    /// What holds when it is not set.
    pub default: DefaultReference,
    /// A value worth setting, as TOML has it.
    pub example: String,
    /// Whether a change takes a restart; the others hold from a reload on.
    pub needs_restart: bool,
    /// Whether its value is never shown.
    pub secret: bool,
    /// The variable that sets it, in the first of its sections if each has its own.
    pub variable: String,
    /// That variable where there are several of its section, if it is another then.
    pub numbered_variable: Option<String>,
    /// A variable of other tools, which is read where nothing else sets the key.
    pub fallback_variable: Option<&'static str>,
}

/// What holds when a key is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultReference {
    /// It, or something in its place, has to be set.
    Required,
    /// Nothing does.
    NotSet,
    /// What these words say.
    Computed(&'static str),
    /// This value, as TOML has it.
    Value(String),
}

/// Every section with every key, in the order of [`super::example`].
#[must_use]
pub fn reference() -> Vec<SectionReference> {
    let section = |section: &Section| {
        let name = section.name;
        SectionReference {
            heading: if section.optional { format!("[[{name}]]") } else { format!("[{name}]") },
            about: section.about,
            keys: keys::table()
                .filter(|key| key.spec().section == name)
                .map(|of_it| key(section, of_it))
                .collect(),
        }
    };
    keys::SECTIONS.iter().map(section).collect()
}

fn key(section: &Section, key: &dyn AnyKey) -> KeyReference {
    let spec = key.spec();
    let numbered = format!("O365_RELAY__{}__1__{}", section.name, spec.name).to_uppercase();
    let (variable, numbered_variable) = match (section.optional, section.repeatable) {
        (true, _) => (numbered, None),
        (false, true) => (spec.variable(), Some(numbered)),
        (false, false) => (spec.variable(), None),
    };
    KeyReference {
        name: spec.name,
        path: spec.path(),
        meaning: spec.doc,
        takes: takes(key),
        default: default(spec),
        example: example(spec),
        needs_restart: spec.restart,
        secret: spec.secret,
        variable,
        numbered_variable,
        fallback_variable: spec.fallback,
    }
}

/// What a key takes, as it tells whoever has written a section in its place.
fn takes(key: &dyn AnyKey) -> String {
    match key.check(&ValueKind::Nil) {
        Err(Mismatch(fault)) => match fault.split_once("expected ") {
            Some((_, expected)) => expected.to_owned(),
            None => fault,
        },
        Ok(()) => String::new(),
    }
}

fn default(spec: &Spec) -> DefaultReference {
    match spec.default {
        Default::Required { .. } => DefaultReference::Required,
        Default::Nothing { .. } => DefaultReference::NotSet,
        Default::Computed { from, .. } => DefaultReference::Computed(from),
        _ => DefaultReference::Value(render::sample(spec)),
    }
}

fn example(spec: &Spec) -> String {
    let listed = examples::EXAMPLES.iter().find(|(path, _)| *path == spec.path());
    match (listed, spec.default) {
        (Some((_, example)), _) => (*example).to_owned(),
        (None, Default::Flag(flag)) => (!flag).to_string(),
        (None, _) => render::sample(spec),
    }
}
