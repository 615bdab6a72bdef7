//! Settings from the environment and from `--set`.

use std::collections::BTreeMap;

use config::Value;

use super::{
    fault::Faults,
    guess::guess,
    keys::{self, AnyKey, Spec},
    layer::Layer,
    slots::{Slot, split_path, split_variable},
    suggest,
};

const PREFIX: &str = "O365_RELAY_";

/// Variables of ours that set no key: the file, and where `sendmail` finds the relay.
const OTHERS: [&str; 2] = ["O365_RELAY_CONFIG", "O365_RELAY_SERVER"];

/// The variables `O365_RELAY__SECTION__KEY`; names that come near are faults.
pub(super) fn own(environment: &BTreeMap<String, String>, faults: &mut Faults) -> Layer {
    let mut layer = Layer::default();
    for (name, value) in environment {
        let upper = name.to_uppercase();
        let ours = upper.starts_with(PREFIX) && !OTHERS.contains(&name.as_str());
        if !ours || value.is_empty() || is_service_link(name, value) {
            continue;
        }
        let origin = format!("environment variable {name}");
        match Slot::at_variable(name) {
            // Where the environment is read, this stands for octets that are not UTF-8.
            _ if value.contains(char::REPLACEMENT_CHARACTER) => {
                faults.add(name, "its value is not UTF-8", None);
            }
            Some(slot) => layer.set(slot, Value::new(Some(&origin), value.as_str())),
            None => faults.add(name, misspelt(&upper), None),
        }
    }
    layer
}

/// The variables of other tools, for keys that are set nowhere else.
pub(super) fn fallbacks(environment: &BTreeMap<String, String>) -> Layer {
    let mut layer = Layer::default();
    for spec in specs() {
        let Some(name) = spec.fallback else { continue };
        if let Some(value) = environment.get(name).filter(|value| !value.is_empty()) {
            let origin = format!("environment variable {name}");
            layer.set(Slot::of(spec), Value::new(Some(&origin), value.as_str()));
        }
    }
    layer
}

/// The arguments of `--set`, each `section.key=value`.
pub(super) fn set(arguments: &[String], faults: &mut Faults) -> Layer {
    let mut layer = Layer::default();
    let origin = "--set".to_owned();
    for (index, argument) in arguments.iter().enumerate() {
        let (path, value) = match argument.split_once('=') {
            Some((path, value)) => (path.trim(), Some(value)),
            None => (argument.trim(), None),
        };
        let parts = split_path(path).filter(|_| is_path(path));
        match (Slot::at_path(path), parts, value) {
            (Some(slot), _, Some(value)) => layer.set(slot, Value::new(Some(&origin), value)),
            (Some(_), _, None) => {
                faults.add(path, "no value; write `section.key=value`", Some(&origin));
            }
            (None, Some((section, number, name)), Some(_)) => {
                let numbered = |spec: &'static Spec| near(spec, section, number).path();
                let message = guess(section, name).message("unknown key", numbered);
                faults.add(path, message, Some(&origin));
            }
            // What is no path is not shown, since it may be a secret.
            _ => {
                let message = format!("argument {} is not `section.key=value`", index + 1);
                faults.add("--set", message, None);
            }
        }
    }
    layer
}

fn specs() -> impl Iterator<Item = &'static Spec> {
    keys::table().map(AnyKey::spec)
}

fn is_path(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.')
}

/// Kubernetes gives each pod the address of each service: one that is called `o365-relay` yields
/// `O365_RELAY_PORT_25_TCP_ADDR` and the like. They are not meant for us.
fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !rest.starts_with('_')) else {
        return false;
    };
    let after_port = rest.split("PORT_").nth(1).unwrap_or_default();
    rest.ends_with("SERVICE_HOST")
        || rest.ends_with("SERVICE_PORT")
        || rest.contains("SERVICE_PORT_")
        || (rest.ends_with("PORT") && value.contains("://"))
        || after_port.starts_with(|first: char| first.is_ascii_digit())
}

fn misspelt(upper: &str) -> String {
    let same = specs().find(|spec| plain(&spec.variable()) == plain(upper));
    if let Some(spec) = same {
        return format!("not read; write `{}`", spec.variable());
    }
    if let Some((section, number, name)) = split_variable(upper) {
        let numbered = |spec: &'static Spec| near(spec, &section, number).variable();
        return guess(&section, &name).message("unknown variable", numbered);
    }
    let names: Vec<_> = specs().map(|spec| plain(&spec.variable())).collect();
    let near = suggest::nearest(&plain(upper), names.iter().map(String::as_str));
    match specs().find(|spec| Some(plain(&spec.variable()).as_str()) == near) {
        Some(spec) => format!("unknown variable, did you mean `{}`?", spec.variable()),
        None => "unknown variable; ours are O365_RELAY_CONFIG and O365_RELAY__SECTION__KEY".into(),
    }
}

/// What was meant, in the section by its number if it is a key of that section.
fn near(spec: &'static Spec, section: &str, number: Option<usize>) -> Slot {
    Slot { spec, number: number.filter(|_| spec.section == section) }
}

/// A variable's name without our prefix and without regard to doubled underscores.
fn plain(variable: &str) -> String {
    let rest = variable.strip_prefix(PREFIX).unwrap_or(variable);
    rest.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}
