//! The reference of all keys as a page, `docs/configuration.md`.

use std::fmt::Write;

use super::reference::{DefaultReference, KeyReference, reference};
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
    for section in reference() {
        let _ = write!(page, "\n## `{}`\n\n{}\n", section.heading, prose(section.about));
        for key in &section.keys {
            entry(&mut page, key);
            if key.name == "cloud" {
                presets(&mut page);
            }
        }
    }
    page
}

fn entry(page: &mut String, key: &KeyReference) {
    let _ = write!(page, "\n### `{}`\n\n{}\n\n", key.path, prose(key.meaning));
    let _ = writeln!(page, "- Takes: {}", prose(&key.takes));
    let _ = writeln!(page, "- Default: {}", default(&key.default));
    let _ = writeln!(page, "- Example: `{} = {}`", key.name, key.example);
    let _ = writeln!(page, "- Variable: {}", variable(key));
    let reload = if key.needs_restart { "a change takes a restart" } else { "takes a change" };
    let _ = writeln!(page, "- Reload: {reload}");
    if key.secret {
        page.push_str("- Secret: no command, log or error shows it\n");
    }
}

fn default(default: &DefaultReference) -> String {
    match default {
        DefaultReference::Required => {
            "none; this, or what the text above names in its place, has to be set".into()
        }
        DefaultReference::NotSet => "not set".into(),
        DefaultReference::Computed(from) => (*from).to_owned(),
        DefaultReference::Value(value) if value == "[]" => "`[]`, an empty list".into(),
        DefaultReference::Value(value) => format!("`{value}`"),
    }
}

fn variable(key: &KeyReference) -> String {
    let mut text = format!("`{}`", key.variable);
    if let Some(numbered) = &key.numbered_variable {
        let _ = write!(text, "; with several of them `{numbered}`");
    }
    if let Some(other) = key.fallback_variable {
        let _ = write!(text, "; where nothing else sets it, `{other}`");
    }
    text
}

/// What `cloud` stands for.
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
