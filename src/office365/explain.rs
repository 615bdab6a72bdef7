//! From what a person has at hand (a line of a log, a reply, an AADSTS number) to what the
//! catalogue knows of it.

use super::{
    entra::{self, Entry, Ids, Recheck},
    replies::{self, Names, PauseRule, Row, Scope},
};
use crate::smtp::reply::{EnhancedStatusCode, Reply};

/// Something in the text that Microsoft says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An AADSTS number of Entra ID.
    Login(u32),
    /// The `error` member of a token response (RFC 6749 section 5.2).
    LoginError(String),
    /// A whole reply, with its text.
    Reply(Reply),
    /// A reply code or an enhanced status code alone: several replies begin like this.
    Status(Option<u16>, Option<EnhancedStatusCode>),
}

/// What is known of a [`Finding`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The code, or the reply that it is known by.
    pub subject: String,
    /// What is wrong.
    pub meaning: String,
    /// The next step, ids filled in.
    pub cure: String,
    /// What the relay does about it by itself.
    pub relay: String,
}

/// Everything in `text` that is worth explaining, in the order in which it stands there.
#[must_use]
pub fn find(text: &str) -> Vec<Finding> {
    let text = text.trim();
    if let Some(alone) = find_alone(text) {
        return vec![alone];
    }
    let mut findings: Vec<_> = numbers(text).map(Finding::Login).collect();
    if findings.is_empty() {
        findings.extend(text.lines().filter_map(reply_in).map(Finding::Reply));
    }
    if findings.is_empty() {
        // "Error code: 53003", as portals and people write it.
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let known = words.filter_map(|word| word.parse().ok());
        findings.extend(known.filter(|code| entra::lookup(*code).is_some()).map(Finding::Login));
    }
    if findings.is_empty() {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let errors = words.filter(|word| entra::cure_for_error(word).is_some());
        findings.extend(errors.map(|word| Finding::LoginError(word.to_owned())));
    }
    let mut seen = Vec::new();
    findings.retain(|finding| {
        let new = !seen.contains(finding);
        if new {
            seen.push(finding.clone());
        }
        new
    });
    findings
}

/// A code and nothing else.
fn find_alone(text: &str) -> Option<Finding> {
    let (first, second) = match text.split_once(char::is_whitespace) {
        Some((first, second)) => (first, Some(second.trim())),
        None => (text, None),
    };
    if let Ok(enhanced) = first.parse() {
        return second.is_none().then_some(Finding::Status(None, Some(enhanced)));
    }
    if !first.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u32 = first.parse().ok()?;
    match (first.len(), second) {
        (3, None) => Some(Finding::Status(u16::try_from(number).ok(), None)),
        (3, Some(second)) => {
            let enhanced = second.parse().ok()?;
            Some(Finding::Status(u16::try_from(number).ok(), Some(enhanced)))
        }
        (5.., None) => Some(Finding::Login(number)),
        _ => None,
    }
}

/// The numbers behind each `AADSTS`.
fn numbers(text: &str) -> impl Iterator<Item = u32> {
    let upper = text.to_ascii_uppercase();
    let digits = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..end).and_then(|number| number.parse().ok())
    };
    upper.split("AADSTS").skip(1).filter_map(digits).collect::<Vec<_>>().into_iter()
}

/// The first refusal within a line: three digits, a space or `-`, and an enhanced status code;
/// at the begin of the line the last may be missing.
fn reply_in(line: &str) -> Option<Reply> {
    let line = line.trim_start();
    let starts = line.char_indices().map(|(at, _)| at).filter(|at| {
        let before = line.get(..*at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '.' && c != ':')
    });
    starts
        .filter_map(|at| Some((at, refusal(line.get(at..)?)?)))
        .find_map(|(at, reply)| (at == 0 || reply.enhanced().is_some()).then_some(reply))
}

fn refusal(text: &str) -> Option<Reply> {
    let (code, rest) = text.split_at_checked(3)?;
    if !matches!(code.bytes().next(), Some(b'4' | b'5')) || !rest.starts_with([' ', '-']) {
        return None;
    }
    Reply::parse(format!("{code} {}\r\n", rest.get(1..)?).as_bytes())
}

/// What the catalogue says of `finding`; empty if nothing is known.
#[must_use]
pub fn explain(finding: &Finding, ids: &Ids<'_>, names: &Names<'_>) -> Vec<Explanation> {
    match finding {
        Finding::Login(code) => entra::lookup(*code)
            .map(|entry| of_entry(format!("AADSTS{code}"), entry, ids))
            .into_iter()
            .collect(),
        Finding::LoginError(error) => entra::cure_for_error(error)
            .map(|cure| Explanation {
                subject: error.clone(),
                meaning: "Entra ID refuses to give a token".into(),
                cure: ids.fill(cure),
                relay: LOGIN.into(),
            })
            .into_iter()
            .collect(),
        Finding::Reply(reply) => replies::lookup(reply)
            .map(|row| Explanation {
                subject: reply.to_string().trim_end().to_owned(),
                ..of_row(row, names)
            })
            .into_iter()
            .collect(),
        Finding::Status(code, enhanced) => {
            replies::beginning_with(*code, *enhanced).map(|row| of_row(row, names)).collect()
        }
    }
}

/// The explanation of an entry of Entra ID's.
#[must_use]
pub fn of_entry(subject: String, entry: &Entry, ids: &Ids<'_>) -> Explanation {
    let heals = match entry.recheck {
        Recheck::WhenChanged => "it works again once somebody has mended the cause",
        Recheck::Slowly => "it works again some minutes after somebody has mended the cause",
        Recheck::Once | Recheck::AfterPause => "this often passes by itself",
    };
    Explanation {
        subject,
        meaning: entry.meaning.into(),
        cure: entry.advice(ids),
        relay: format!("{LOGIN}; {heals}"),
    }
}

/// The explanation of a reply of Exchange Online's.
#[must_use]
pub fn of_row(row: &Row, names: &Names<'_>) -> Explanation {
    Explanation {
        subject: row.example.into(),
        meaning: names.fill(row.meaning),
        cure: names.fill(row.cure),
        relay: if row.may_precede_mail() {
            format!("{}; {EARLY}", deed(row.scope, row.pause))
        } else {
            deed(row.scope, row.pause)
        },
    }
}

const EARLY: &str = "if it answers the greeting, EHLO, STARTTLS or AUTH, no message can be at \
                     fault: mail waits and nothing bounces";

const LOGIN: &str = "mail waits in the queue and nothing bounces; the relay goes on asking for a \
                     token by itself";

/// What the relay does about a refusal.
fn deed(scope: Scope, pause: PauseRule) -> String {
    let PauseRule { first, most, .. } = pause;
    let again = format!(
        "the relay tries again by itself after {}, then at growing intervals of up to {}",
        humantime::format_duration(first),
        humantime::format_duration(most)
    );
    match scope {
        Scope::Relay => format!("all mail waits and nothing bounces; {again}"),
        Scope::Lane => format!("all mail of this mailbox waits and nothing bounces; {again}"),
        Scope::Sender => format!(
            "this message fails, with a notice to its sender; other mail of that sender waits, \
             mail of others goes on; {again}"
        ),
        Scope::Message => "the message fails, with a notice to its sender".into(),
        Scope::Recipient => "this recipient fails, with a notice to the sender".into(),
        Scope::Transient => "the message is tried again at growing intervals, until \
                             queue.give_up_after"
            .into(),
        Scope::Rest => "the relay sends the message to the remaining recipients in further mail \
                        transactions"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: Ids<'_> = Ids { tenant: "contoso.example", client_id: "58d8", app: None };
    const NAMES: Names<'_> =
        Names { mailbox: "relay@c.example", sender: "erp@c.example", object_id: Some("11-22") };

    fn explained(text: &str) -> Vec<Explanation> {
        find(text).iter().flat_map(|finding| explain(finding, &IDS, &NAMES)).collect()
    }

    fn subjects(text: &str) -> Vec<String> {
        explained(text).into_iter().map(|explanation| explanation.subject).collect()
    }

    #[test]
    fn every_number_and_every_reply_of_the_catalogue_is_explained() {
        for entry in entra::entries() {
            for code in entry.codes {
                for text in [format!("AADSTS{code}"), code.to_string(), format!("aadsts{code}: x")]
                {
                    assert_eq!(subjects(&text), [format!("AADSTS{code}")], "{text}");
                }
            }
        }
        for row in replies::rows() {
            assert_eq!(explained(row.example), [of_row(row, &NAMES)]);
            let log =
                format!("2026-11-23T06:24:00Z  WARN paused lane=a@b.c reason={}", row.example);
            if Reply::parse(row.example.as_bytes()).unwrap().enhanced().is_some() {
                assert_eq!(explained(&log), [of_row(row, &NAMES)], "{log}");
            }
        }
    }

    #[test]
    fn a_code_alone_brings_all_that_begin_like_it() {
        assert!(subjects("5.7.139").len() >= 3);
        assert_eq!(subjects("535 5.7.139"), subjects("5.7.139"));
        let both = subjects("5.2.252");
        assert!(both.iter().any(|reply| reply.starts_with("550 5.2.252")), "{both:?}");
        assert!(both.iter().any(|reply| reply.starts_with("554 5.2.252")), "{both:?}");
        assert!(subjects("432").iter().all(|reply| reply.starts_with("432")));
    }

    #[test]
    fn text_around_it_does_not_matter() {
        let json = r#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired. Trace ID: 5352 Correlation ID: x","error_codes":[7000222]}"#;
        assert_eq!(subjects(json), ["AADSTS7000222"]);
        assert_eq!(subjects("error=invalid_scope"), ["invalid_scope"]);
        let two = "535-5.7.3 Authentication\r\n535 5.7.3 unsuccessful\r\n";
        assert_eq!(subjects(two).len(), 2, "two lines");
        for nothing in
            ["", "hello", "250 2.0.0 OK", "550", "12:535 5.7.3x", "at 10:535", "99999999999"]
        {
            let found = subjects(nothing);
            assert!(found.is_empty() || nothing == "550", "{nothing}: {found:?}");
        }
    }

    #[test]
    fn a_number_that_portals_show_is_found_without_its_prefix() {
        assert_eq!(subjects("Error code: 53003"), ["AADSTS53003"]);
        assert_eq!(subjects("Error: 7000215 (Trace 99999)"), ["AADSTS7000215"]);
        assert_eq!(subjects("see ticket 4711 of 2026"), Vec::<String>::new());
    }

    #[test]
    fn a_reply_that_may_come_before_any_message_is_told_with_both_ends() {
        let relay = |text| explained(text).remove(0).relay;
        let name = relay("501 5.5.4 Invalid domain name");
        assert!(name.starts_with("the message fails") && name.contains("EHLO"), "{name}");
        let busy = relay("421 4.3.2 Service not available");
        assert!(busy.contains("nothing bounces"), "{busy}");
        let header = explained("552 5.3.4 Header size exceeds fixed maximum size").remove(0);
        assert!(!header.cure.contains("MaxSendSize") && !header.relay.contains("EHLO"));
    }

    #[test]
    fn what_the_relay_does_follows_from_the_judgement() {
        let blocked = explained("550 5.2.252 Sender throttled").remove(0);
        assert!(blocked.relay.contains("nothing bounces"));
        let denied = explained("554 5.2.252 SendAsDenied; x").remove(0);
        assert!(denied.relay.starts_with("this message fails"));
        assert!(denied.meaning.contains("relay@c.example may not send as erp@c.example"));
        assert!(denied.cure.contains("-Trustee 11-22"));
    }
}
