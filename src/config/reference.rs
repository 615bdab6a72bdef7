//! The table of keys for whoever documents it: man page, reference.

use std::fmt::Write;

use super::{
    keys::{self, AnyKey, Default, Spec},
    render,
};

/// A section of the configuration file and its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionReference {
    /// Its name: `listener`.
    pub name: &'static str,
    /// As it stands in the file: `[listener]`, or `[[route]]` for one that there may be none of.
    pub heading: String,
    /// Whether it may stand several times, as `[[name]]`.
    pub repeatable: bool,
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
    /// What it means, with the unit.
    pub meaning: &'static str,
    /// What holds when it is not set, as a sentence.
    pub default: String,
    /// A value as TOML has it: the default where there is a fixed one, else an example.
    pub sample: String,
    /// Whether it must be set, itself or something in its place.
    pub required: bool,
    /// Whether a change takes a restart; the others hold from a reload on.
    pub needs_restart: bool,
    /// Whether its value is never shown.
    pub secret: bool,
    /// The variable that sets it, and behind it one of other tools that is read in its place.
    pub variables: Vec<String>,
}

/// Every section with every key, in the order of [`super::example`].
#[must_use]
pub fn reference() -> Vec<SectionReference> {
    let section = |section: &keys::Section| {
        let specs = keys::table().map(AnyKey::spec).filter(|spec| spec.section == section.name);
        let name = section.name;
        SectionReference {
            name,
            heading: if section.optional { format!("[[{name}]]") } else { format!("[{name}]") },
            repeatable: section.repeatable,
            about: section.about,
            keys: specs.map(key).collect(),
        }
    };
    keys::SECTIONS.iter().map(section).collect()
}

fn key(spec: &Spec) -> KeyReference {
    let variables = [Some(spec.variable()), spec.fallback.map(str::to_owned)];
    KeyReference {
        name: spec.name,
        meaning: spec.doc,
        default: default(spec),
        sample: render::sample(spec),
        required: matches!(spec.default, Default::Required { .. }),
        needs_restart: spec.restart,
        secret: spec.secret,
        variables: variables.into_iter().flatten().collect(),
    }
}

fn default(spec: &Spec) -> String {
    let mut text = String::from("Default: ");
    let _ = match spec.default {
        Default::Required { .. } => return "No default.".into(),
        Default::Nothing { .. } => write!(text, "not set."),
        Default::Computed { from, .. } => write!(text, "{from}."),
        _ => write!(text, "{}.", render::sample(spec)),
    };
    text
}
