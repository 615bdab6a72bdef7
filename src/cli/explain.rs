//! `explain`: what a code or a reply of Microsoft means, and what to do about it.

use std::{fmt::Write, io::Read};

use clap::Args;
use serde::Serialize;

use super::{
    exit::Failure,
    output,
    text::{json, plain},
};
use crate::{
    config::{self, Sources},
    office365::{
        entra::{self, Ids},
        explain::{self, Explanation, Finding},
        replies::{self, Names},
    },
    smtp::reply::Reply,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// An AADSTS number, an SMTP reply, a status code such as 5.7.3, or a line of a log that holds
    /// one of these; `-` or nothing reads standard input
    #[arg(value_name = "CODE|REPLY", allow_hyphen_values = true)]
    text: Vec<String>,
    /// For programs: one object a line
    #[arg(long)]
    json: bool,
    /// Print the whole catalogue as docs/errors.md has it
    #[arg(long, hide = true, conflicts_with_all = ["json", "text"])]
    markdown: bool,
}

pub(super) fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    if options.markdown {
        return Ok(output::line(markdown().trim_end())?);
    }
    let text = text(&options.text)?;
    let known = Known::read(sources);
    let findings = explain::find(&text);
    if findings.is_empty() {
        return Err(Failure::not_known(format!(
            "nothing to explain in {:?}: give an AADSTS number (AADSTS7000222), an SMTP reply \
             (\"535 5.7.3 Authentication unsuccessful\"), a status code (5.7.3), or a line of the \
             log that holds one",
            plain(&clipped(&text))
        )));
    }
    let mut unknown = Vec::new();
    let mut first = true;
    for finding in &findings {
        let explanations = explain::explain(finding, &known.ids(), &known.names());
        if explanations.is_empty() {
            unknown.push(finding);
        }
        for explanation in explanations {
            show(&explanation, options.json, std::mem::take(&mut first))?;
        }
    }
    match unknown.first() {
        Some(finding) if first => Err(Failure::not_known(not_known(finding))),
        _ => Ok(()),
    }
}

fn show(explanation: &Explanation, as_json: bool, first: bool) -> Result<(), Failure> {
    let Explanation { subject, meaning, cure, relay } = explanation;
    if as_json {
        #[derive(Serialize)]
        struct Line<'a> {
            subject: &'a str,
            meaning: &'a str,
            cure: &'a str,
            relay: &'a str,
        }
        return Ok(output::line(json(&Line { subject, meaning, cure, relay })?)?);
    }
    let gap = if first { "" } else { "\n" };
    let (subject, meaning) = (plain(subject), plain(meaning));
    let (cure, relay) = (plain(cure), plain(relay));
    Ok(output::line(format!(
        "{gap}{subject}\n  means  {meaning}\n  do     {cure}\n  relay  {relay}"
    ))?)
}

fn text(words: &[String]) -> Result<String, Failure> {
    const MOST: u64 = 1024 * 1024;
    if !words.is_empty() && words != ["-"] {
        return Ok(words.join(" "));
    }
    let mut octets = Vec::new();
    std::io::stdin()
        .lock()
        .take(MOST)
        .read_to_end(&mut octets)
        .map_err(|error| Failure::unavailable(format!("could not read standard input: {error}")))?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

fn clipped(text: &str) -> String {
    super::text::clip(text.trim(), 80).into_owned()
}

/// What has no row keeps its class, and that is what the relay goes by.
fn not_known(finding: &Finding) -> String {
    match finding {
        Finding::Login(code) => format!(
            "AADSTS{code} is not in the catalogue; while the token is refused, mail waits in the \
             queue and nothing bounces. Microsoft's list: https://login.microsoftonline.com/error"
        ),
        Finding::Reply(reply) => {
            format!("no entry for {}: {}", clipped(&reply.to_string()), class(reply))
        }
        Finding::Status(..) | Finding::LoginError(_) => {
            "no entry begins with that code; paste the whole reply".into()
        }
    }
}

fn class(reply: &Reply) -> &'static str {
    if reply.code().is_permanent() {
        "before MAIL, mail waits and nothing bounces; after it, the relay takes this for permanent: \
         the message or the recipient fails, with a notice to the sender"
    } else {
        "the relay takes this for transient and tries again at growing intervals, until \
         queue.give_up_after"
    }
}

/// The ids of the configuration, or what stands for them where there is none to read.
struct Known {
    tenant: String,
    client_id: String,
    mailbox: String,
}

impl Known {
    /// Whoever explains a code may have no right to the configuration, or none at all.
    fn read(sources: &Sources) -> Self {
        let unknown = Self::unknown();
        let Ok(settings) = config::show(sources) else { return unknown };
        let value = |key: &str, otherwise: String| {
            let set = settings.iter().find(|setting| setting.key == key);
            set.map(|setting| setting.value.trim_matches('"').to_owned())
                .filter(|value| !value.is_empty() && !value.starts_with('('))
                .unwrap_or(otherwise)
        };
        Self {
            tenant: value("office365.tenant_id", unknown.tenant),
            client_id: value("office365.client_id", unknown.client_id),
            mailbox: value("office365.mailbox", unknown.mailbox),
        }
    }

    fn unknown() -> Self {
        Self {
            tenant: "<tenant>".into(),
            client_id: "<client id>".into(),
            mailbox: "<mailbox>".into(),
        }
    }

    fn ids(&self) -> Ids<'_> {
        Ids { tenant: &self.tenant, client_id: &self.client_id, app: None }
    }

    fn names(&self) -> Names<'_> {
        Names { mailbox: &self.mailbox, sender: "<sender>", object_id: None }
    }
}

const INTRODUCTION: &str = "\
# What Microsoft's errors mean

`o365-relay explain` prints these entries for a code, a reply or a line of the log, with the ids of
your configuration filled in:

```sh
o365-relay explain AADSTS7000222
o365-relay explain \"535 5.7.3 Authentication unsuccessful\"
journalctl -u o365-relay -n 20 | o365-relay explain
```

The relay judges by the same table. This page is made from it (`o365-relay explain --markdown`), and
a test keeps the two in step.
";

/// The catalogue as a page.
fn markdown() -> String {
    let known =
        Known { tenant: "TENANT".into(), client_id: "CLIENT-ID".into(), mailbox: "MAILBOX".into() };
    let ids = Ids { app: Some("APP"), ..known.ids() };
    let names = Names { sender: "SENDER", object_id: Some("OBJECT-ID"), ..known.names() };
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## Entra ID refuses the token\n");
    for known in entra::entries() {
        let title: Vec<_> = known.codes.iter().map(|code| format!("AADSTS{code}")).collect();
        section(&mut page, &title.join(", "), &explain::of_entry(String::new(), known, &ids));
    }
    page.push_str("\n## Exchange Online refuses a login or a message\n");
    for row in replies::rows() {
        section(&mut page, &format!("`{}`", row.example), &explain::of_row(row, &names));
    }
    page
}

fn section(page: &mut String, title: &str, explanation: &Explanation) {
    let Explanation { meaning, cure, relay, .. } = explanation;
    let cure = unmarked(cure);
    let _ = write!(
        page,
        "\n### {title}\n\n- Means: {meaning}.\n- Do: {cure}.\n- The relay: {relay}.\n"
    );
}

/// `<sender>` outside of code would be taken for markup, and not be shown.
fn unmarked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts =
        parts.map(|(at, part)| if at % 2 == 0 { part.replace('<', "\\<") } else { part.into() });
    parts.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_errors_is_the_catalogue() {
        let page = include_str!("../../docs/errors.md");
        assert_eq!(
            page.trim_end(),
            markdown().trim_end(),
            "o365-relay explain --markdown > docs/errors.md"
        );
    }

    #[test]
    fn what_was_pasted_by_mistake_is_not_shown_back_whole() {
        let told = not_known(&explain::find(&"400 ".repeat(15_000))[0]);
        assert!(told.starts_with("no entry for 400") && told.len() < 250, "{}", told.len());
    }
}
