//! The reference of all keys as a page, `docs/configuration.md`: made from the table of keys, with
//! what each takes in the words of its own fault.

use std::fmt::Write;

use config::ValueKind;

use super::{
    examples,
    keys::{self, AnyKey, Default, Spec},
    kinds::Mismatch,
    render::{literal, sample},
};
use crate::office365::clouds::Cloud;

const HEAD: &str = "\
# Configuration

Every key there is. `o365-relay config example` prints them as a commented file to begin with,
`o365-relay config check` names every fault at once, with its line or variable, and `o365-relay
config show` tells what holds and where each value comes from. This page is made by `o365-relay
config reference`, and a test keeps the two in step.

## Where settings come from

The lower ones in this table win:

| Source | |
|---|---|
| default | as told with each key |
| variable of another tool | `AZURE_TENANT_ID` and the like, where a key tells of one; see [Variables](credentials.md#variables) |
| file | `--config FILE`, else the one that `O365_RELAY_CONFIG` names, else `/etc/o365-relay/config.toml`; TOML |
| variable | `O365_RELAY__SECTION__KEY`; an empty one counts as not set |
| command line | `--set section.key=value`, as often as needed |

No file is needed where variables say enough. A key that does not exist, a value that does not fit
and a misspelt variable are faults: the relay does not start, and exits with 78.

## How values are written

| Kind | In the file | In a variable or `--set` |
|---|---|---|
| text, path | `\"relay@contoso.com\"` | as it is, without quotes |
| number | `28` | `28` |
| yes or no | `true`, `false` | `true`, `false` |
| list | `[\"10.1.2.0/24\", \"::1\"]` | `10.1.2.0/24,::1`; users of `listener.users` with blanks between them |
| duration | `\"90s\"`, `\"1h 30m\"`, `\"5d\"` | the same without quotes; the unit has to be there |
| size | `\"35MiB\"`, `\"20MB\"`, or octets as a number | the same without quotes |
| date | `2027-03-01` | the same |
";

/// The whole page.
#[must_use]
pub fn page_of_keys() -> String {
    let mut page = HEAD.to_owned();
    for section in keys::SECTIONS {
        let header = match section.optional {
            true => format!("[[{}]]", section.name),
            false => format!("[{}]", section.name),
        };
        let _ = write!(page, "\n## `{header}`\n\n{}\n", prose(section.about));
        for key in keys::table().filter(|key| key.spec().section == section.name) {
            entry(&mut page, key);
            if key.spec().name == "cloud" {
                presets(&mut page);
            }
        }
    }
    page
}

fn entry(page: &mut String, key: &dyn AnyKey) {
    let spec = key.spec();
    let _ = write!(page, "\n### `{}`\n\n{}\n\n", spec.path(), prose(spec.doc));
    let _ = writeln!(page, "- Takes: {}", prose(&expected(key)));
    let _ = writeln!(page, "- Default: {}", default(spec));
    let _ = writeln!(page, "- Example: `{} = {}`", spec.name, example(spec));
    let _ = writeln!(page, "- Variable: {}", variable(spec));
    let reload = if spec.restart { "a change takes a restart" } else { "takes a change" };
    let _ = writeln!(page, "- Reload: {reload}");
    if spec.secret {
        page.push_str("- Secret: no command, log or error shows it\n");
    }
}

/// What a key takes, as it tells whoever has written a section in its place.
fn expected(key: &dyn AnyKey) -> String {
    match key.check(&ValueKind::Nil) {
        Err(Mismatch(fault)) => match fault.split_once("expected ") {
            Some((_, expected)) => expected.to_owned(),
            None => fault,
        },
        Ok(()) => String::new(),
    }
}

fn default(spec: &Spec) -> String {
    match spec.default {
        Default::Computed { from, .. } => from.to_owned(),
        Default::Nothing { .. } => "not set".into(),
        Default::Required { .. } => {
            "none; this, or what the text above names in its place, has to be set".into()
        }
        Default::List([]) => "`[]`, an empty list".into(),
        fixed => fixed.value().map(|value| format!("`{}`", literal(&value))).unwrap_or_default(),
    }
}

/// A value worth setting, as TOML has it.
pub(super) fn example(spec: &Spec) -> String {
    let listed = examples::EXAMPLES.iter().find(|(path, _)| *path == spec.path());
    match (listed, spec.default) {
        (Some((_, example)), _) => (*example).to_owned(),
        (None, Default::Flag(flag)) => (!flag).to_string(),
        (None, _) => sample(spec),
    }
}

fn variable(spec: &Spec) -> String {
    let own = match keys::section(spec.section) {
        Some(section) if section.optional => numbered(spec),
        Some(section) if section.repeatable => {
            format!("`{}`; with several of them `{}`", spec.variable(), numbered(spec))
        }
        _ => format!("`{}`", spec.variable()),
    };
    let own = if own.starts_with('`') { own } else { format!("`{own}`") };
    match spec.fallback {
        Some(other) => format!("{own}; where nothing else sets it, `{other}`"),
        None => own,
    }
}

fn numbered(spec: &Spec) -> String {
    format!("O365_RELAY__{}__1__{}", spec.section, spec.name).to_uppercase()
}

fn presets(page: &mut String) {
    let keys = ["login_url", "scope", "smtp_host", "smtp_port", "graph_url"];
    let keys = keys.map(|name| format!("`{name}`"));
    let _ = writeln!(page, "\n| `cloud` | {} |\n|---|---|---|---|---|---|", keys.join(" | "));
    for (word, cloud) in Cloud::ALL {
        let preset = cloud.preset();
        let _ = writeln!(
            page,
            "| `\"{word}\"` | `{}` | `{}` | `{}` | `{}` | `{}` |",
            preset.login_url, preset.scope, preset.smtp_host, preset.smtp_port, preset.graph_url
        );
    }
}

/// Text without accidental markup outside of backticks.
fn prose(text: &str) -> String {
    let escape = |part: &str| part.replace('*', "\\*").replace('<', "\\<");
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 0 { escape(part) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("`")
}
