//! Configuration as text: the commented example, and the values that hold.

use std::fmt::Write;

use config::ValueKind;

use super::{
    Setting,
    keys::{self, AnyKey, Default, Spec, route::SENDERS},
    layers::{One, Origin, Settings},
};

const HEAD: &str = "\
# Configuration of o365-relay. Keys without `#` must be set; the others show their default.
# Each key can also be set by a variable, O365_RELAY__SECTION__KEY (lists with commas), which
# comes before this file, and by `--set section.key=value`, which comes before both.
# `o365-relay config check` tells what is wrong, `o365-relay config show` what holds.
";

const WIDTH: usize = 96;

/// The whole configuration file, commented: required keys with sample values, the others
/// commented out with their defaults.
#[must_use]
pub fn example() -> String {
    let mut out = HEAD.to_owned();
    for keys::Section { name, about, optional, .. } in keys::SECTIONS {
        let header = if *optional { format!("# [[{name}]]") } else { format!("[{name}]") };
        let _ = writeln!(out, "\n{header}");
        comment(&mut out, about);
        for spec in keys::table().map(AnyKey::spec).filter(|spec| spec.section == *name) {
            out.push('\n');
            explain(&mut out, spec);
            let mark = if matches!(spec.default, Default::Required { .. }) { "" } else { "# " };
            let _ = writeln!(out, "{mark}{} = {}", spec.name, sample(spec));
        }
    }
    out
}

fn explain(out: &mut String, spec: &Spec) {
    let mut text = spec.doc.to_owned();
    match spec.default {
        Default::Computed { from, .. } => {
            let _ = write!(text, " Default: {from}.");
        }
        Default::Nothing { .. } => text.push_str(" Default: not set."),
        _ => {}
    }
    if spec.restart {
        text.push_str(" A change takes a restart.");
    }
    comment(out, &text);
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

/// The default as TOML has it, or an example where there is none.
pub(super) fn sample(spec: &Spec) -> String {
    match spec.default {
        Default::Computed { sample, .. } if sample.bytes().all(|byte| byte.is_ascii_digit()) => {
            sample.to_owned()
        }
        Default::Computed { sample, .. }
        | Default::Nothing { sample }
        | Default::Required { sample } => literal(&sample.into()),
        fixed => fixed.value().map(|value| literal(&value)).unwrap_or_default(),
    }
}

/// Every key with the value that holds, in the order of the example; where there are several of a
/// section, one after the other.
pub(super) fn rows(settings: &Settings) -> Vec<Setting> {
    places(settings).into_iter().map(|(one, spec)| row(one, spec)).collect()
}

/// Every key where it has a value of its own, in that order.
pub(super) fn places(settings: &Settings) -> Vec<(One<'_>, &'static Spec)> {
    let mut places = Vec::new();
    for section in keys::SECTIONS {
        let ones = if section.optional { settings.routes() } else { settings.each(section.name) };
        for one in ones {
            let keys = keys::all().map(AnyKey::spec).filter(|spec| spec.section == section.name);
            // What a route inherits is told once, where it is set.
            let told = keys.filter(|spec| {
                !section.optional
                    || spec.path() == SENDERS.spec.path()
                    || one.set_here(spec).is_some()
            });
            places.extend(told.map(|spec| (one, spec)));
        }
    }
    places
}

/// What holds for a key there, and why.
pub(super) fn row(one: One<'_>, spec: &'static Spec) -> Setting {
    let (value, origin) = match one.effective(spec) {
        Some(_) if spec.secret => ("********".into(), one.given(spec).unwrap_or_default()),
        Some(found) => match &found.origin {
            Origin::Given(origin) | Origin::Default(origin) => {
                (shown(spec, &found.value), origin.as_str())
            }
        },
        None => ("(not set)".into(), "default"),
    };
    Setting { key: one.slot(spec).path(), value, origin: origin.to_owned() }
}

/// A number from the environment is text, but reads better as a number.
fn shown(spec: &Spec, value: &ValueKind) -> String {
    match (spec.default, value) {
        (Default::Count(_), ValueKind::String(text)) => text.trim().to_owned(),
        _ => literal(value),
    }
}

/// A value as TOML has it.
pub(super) fn literal(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => toml::Value::from(text.as_str()).to_string(),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| literal(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}
