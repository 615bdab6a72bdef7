//! Configuration as text: the commented example, and the values that hold.

use std::fmt::Write;

use config::ValueKind;

use super::{
    Setting,
    keys::{self, AnyKey, Default, Spec},
    layers::{Origin, Settings},
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
    for (section, about) in keys::SECTIONS {
        let _ = write!(out, "\n[{section}]\n# {about}\n");
        for spec in keys::table().map(AnyKey::spec).filter(|spec| spec.section == *section) {
            out.push('\n');
            comment(&mut out, spec);
            let mark = if matches!(spec.default, Default::Required { .. }) { "" } else { "# " };
            let _ = writeln!(out, "{mark}{} = {}", spec.name, sample(spec));
        }
    }
    out
}

fn comment(out: &mut String, spec: &Spec) {
    let mut text = spec.doc.to_owned();
    match spec.default {
        Default::Computed { from, .. } => {
            let _ = write!(text, " Default: {from}.");
        }
        Default::Nothing { .. } => text.push_str(" Default: not set."),
        _ => {}
    }
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

fn sample(spec: &Spec) -> String {
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

/// Every key with the value that holds, in the order of the example.
pub(super) fn rows(settings: &Settings) -> Vec<Setting> {
    keys::table().map(AnyKey::spec).map(|spec| row(settings, spec)).collect()
}

fn row(settings: &Settings, spec: &Spec) -> Setting {
    let (value, origin) = match settings.effective(spec) {
        Some(_) if spec.secret => ("********".into(), settings.given(spec).unwrap_or_default()),
        Some(found) => match &found.origin {
            Origin::Given(origin) | Origin::Default(origin) => {
                (shown(spec, &found.value), origin.as_str())
            }
        },
        None => ("(not set)".into(), "default"),
    };
    Setting { key: spec.path(), value, origin: origin.to_owned() }
}

/// A number from the environment is text, but reads better as a number.
fn shown(spec: &Spec, value: &ValueKind) -> String {
    match (spec.default, value) {
        (Default::Count(_), ValueKind::String(text)) => text.trim().to_owned(),
        _ => literal(value),
    }
}

/// A value as TOML has it.
fn literal(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => toml::Value::from(text.as_str()).to_string(),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| literal(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}
