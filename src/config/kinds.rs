//! The kinds of values: each function reads one kind or says what it found and what it expects.
//! Numbers and lists may come as text, since a variable holds nothing else.

mod network;
mod upstream;

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use config::ValueKind;
use secrecy::SecretString;

pub(super) use network::{
    address_or_off, file_mode, listener_addresses, networks, networks_if_any,
};

pub(super) use upstream::{
    Identity, Mailbox, guid, https_url, https_url_or_off, identity, mailbox, scope, tenant,
};

use super::text::{hides_secret, is_host_name, is_mailbox, is_placeholder};
use crate::{
    clock::UnixMillis,
    smtp::{
        path::{Address, SenderPattern},
        sender::Mapping,
    },
};

/// A value of kind `T`, or why it is none.
pub(super) type Parsed<T> = Result<T, Mismatch>;

/// Why a value does not fit its key; never tells a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch(pub(super) String);

impl Mismatch {
    fn expected(value: &ValueKind, expected: &str) -> Self {
        Self(format!("found {}, expected {expected}", describe(value)))
    }
}

/// Text that is not empty, without the blanks around it.
pub(super) fn text<'a>(value: &'a ValueKind, expected: &str) -> Parsed<&'a str> {
    match value {
        ValueKind::String(text) if !text.trim().is_empty() => Ok(text.trim()),
        _ => Err(Mismatch::expected(value, expected)),
    }
}

/// Text that `parse` accepts.
pub(super) fn text_as<T>(
    value: &ValueKind,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Parsed<T> {
    let found = text(value, expected)?;
    parse(found).ok_or_else(|| Mismatch::expected(value, expected))
}

/// A whole number within `range`.
pub(super) fn count<T>(value: &ValueKind, range: RangeInclusive<u64>) -> Parsed<T>
where
    T: TryFrom<u64>,
{
    whole_number(value)
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            Mismatch::expected(value, &expected)
        })
}

/// A duration with its unit, at least `least` and at most `most`.
pub(super) fn duration(value: &ValueKind, least: &str, most: &str) -> Parsed<Duration> {
    let expected =
        format!("a duration with its unit from {least} to {most}, such as \"90s\" or \"1h 30m\"");
    text_as(value, &expected, |text| {
        let found = humantime::parse_duration(text).ok()?;
        let least = humantime::parse_duration(least).ok()?;
        let most = humantime::parse_duration(most).ok()?;
        (least..=most).contains(&found).then_some(found)
    })
}

/// A size in octets, at least `least` and at most `most`; a plain number means octets.
pub(super) fn size(value: &ValueKind, least: &str, most: &str) -> Parsed<u64> {
    let found = match value {
        ValueKind::String(text) => text.trim().parse::<ByteSize>().ok(),
        _ => whole_number(value).map(ByteSize::b),
    };
    let within = |size: &ByteSize| {
        least.parse().is_ok_and(|least: ByteSize| *size >= least)
            && most.parse().is_ok_and(|most: ByteSize| *size <= most)
    };
    found.filter(within).map(|size| size.as_u64()).ok_or_else(|| {
        let expected = format!("a size from {least} to {most}, such as \"35MiB\", or octets");
        Mismatch::expected(value, &expected)
    })
}

/// One word of a fixed set.
pub(super) fn choice<T: Copy>(value: &ValueKind, words: &[(&str, T)]) -> Parsed<T> {
    let names: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    text_as(value, &format!("one of {}", names.join(", ")), |text| {
        words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
    })
}

/// Yes or no.
pub(super) fn flag(value: &ValueKind) -> Parsed<bool> {
    match value {
        ValueKind::Boolean(flag) => Ok(*flag),
        _ => choice(value, &[("true", true), ("false", false)]),
    }
}

/// A list, or text with commas; names every item that does not fit.
pub(super) fn list<T>(
    value: &ValueKind,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Parsed<Vec<T>> {
    let items: Vec<ValueKind> = match value {
        ValueKind::Array(items) => items.iter().map(|item| item.kind.clone()).collect(),
        ValueKind::String(text) => text
            .split(',')
            .filter(|item| !item.trim().is_empty())
            .map(|item| ValueKind::from(item.trim()))
            .collect(),
        _ => return Err(Mismatch::expected(value, &format!("a list, each {expected}"))),
    };
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    for item in items {
        match text_as(&item, expected, &parse) {
            Ok(value) => fitting.push(value),
            Err(_) => others.push(describe(&item)),
        }
    }
    if others.is_empty() {
        return Ok(fitting);
    }
    Err(Mismatch(format!("found {} in the list, expected {expected}", others.join(", "))))
}

/// As [`list`], with one item at least.
pub(super) fn filled_list<T>(
    value: &ValueKind,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Parsed<Vec<T>> {
    let items = list(value, expected, parse)?;
    if items.is_empty() {
        return Err(Mismatch(format!("found an empty list, expected at least {expected}")));
    }
    Ok(items)
}

/// A short name for logs and metrics.
pub(super) fn name(value: &ValueKind) -> Parsed<String> {
    text_as(value, "a name of up to 128 ASCII characters, without blanks and quotes", |text| {
        (text.len() <= 128 && text.bytes().all(in_name)).then(|| text.to_owned())
    })
}

/// Whether an octet may stand in a [`name`].
pub(super) fn in_name(octet: u8) -> bool {
    octet.is_ascii_graphic() && !b"\"'\\".contains(&octet)
}

/// One e-mail address.
pub(super) fn sender(value: &ValueKind) -> Parsed<Address> {
    text_as(value, "an e-mail address such as \"erp@contoso.com\"", |text| {
        is_mailbox(text).then(|| text.parse().ok()).flatten()
    })
}

/// Patterns of reverse-paths; may be empty.
pub(super) fn sender_patterns(value: &ValueKind) -> Parsed<Vec<SenderPattern>> {
    list(value, "`*@domain`, `local@domain` or `*`", |text| text.parse().ok())
}

/// A host name (RFC 1123).
pub(super) fn host_name(value: &ValueKind) -> Parsed<String> {
    text_as(value, "a host name such as \"mail.contoso.com\"", |text| {
        is_host_name(text).then(|| text.to_owned())
    })
}

/// A host to connect to: its name or its address.
pub(super) fn host(value: &ValueKind) -> Parsed<String> {
    text_as(value, "a host name or an IP address, without a port", |text| {
        (is_host_name(text) || text.parse::<IpAddr>().is_ok()).then(|| text.to_owned())
    })
}

/// The address of a mailbox.
pub(super) fn address(value: &ValueKind) -> Parsed<String> {
    text_as(value, "an e-mail address such as \"relay@contoso.com\"", |text| {
        is_mailbox(text).then(|| text.to_owned())
    })
}

/// Which addresses stand for others; may be empty.
pub(super) fn mappings(value: &ValueKind) -> Parsed<Vec<Mapping>> {
    list(
        value,
        "`old address -> new address`, such as \"root@host.local -> it@contoso.com\"",
        |text| text.parse().ok(),
    )
}

/// A path; may not exist yet. A secret pasted here would come back in "could not read ...".
pub(super) fn path(value: &ValueKind) -> Parsed<PathBuf> {
    text_as(value, "a path in quotes", |text| {
        (!text.contains('\0') && !hides_secret(text)).then(|| PathBuf::from(text))
    })
}

/// Paths: one as text, several as a list (or, as text, with commas).
pub(super) fn paths(value: &ValueKind) -> Parsed<Vec<PathBuf>> {
    let expected = "a path in quotes";
    if let ValueKind::String(_) | ValueKind::Array(_) = value {
        return filled_list(value, expected, |text| {
            (!text.contains('\0') && !hides_secret(text)).then(|| PathBuf::from(text))
        });
    }
    Err(Mismatch::expected(value, "a path in quotes, or a list of them"))
}

/// A day, as the portal shows when a secret ends: its first moment, in UTC.
pub(super) fn day(value: &ValueKind) -> Parsed<UnixMillis> {
    text_as(value, "a date such as 2027-03-01", |text| {
        let day: jiff::civil::Date = text.parse().ok()?;
        let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(UnixMillis(start.timestamp().as_millisecond()))
    })
}

/// A secret. One line end is not part of it, since tools that make secrets from files add one.
pub(super) fn secret(value: &ValueKind) -> Parsed<SecretString> {
    let ValueKind::String(text) = value else {
        return Err(Mismatch(format!("found {}, expected text in quotes", type_name(value))));
    };
    secret_text(text)
}

/// The secret in `text`, wherever that came from.
pub(super) fn secret_text(text: &str) -> Parsed<SecretString> {
    let secret = text.strip_suffix('\n').unwrap_or(text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    let fault = if secret.trim().is_empty() {
        "it is empty"
    } else if is_placeholder(secret) {
        "it is still a placeholder"
    } else if secret.chars().any(char::is_control) {
        "it has a line end or another control character within"
    } else {
        return Ok(SecretString::from(secret));
    };
    Err(Mismatch(format!("{fault}; paste the Value column of the app's client secret")))
}

/// Filter directives for the log: levels, alone or for one module.
pub(super) fn log_filter(value: &ValueKind) -> Parsed<String> {
    let expected = "\"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\", or a list \
                    such as \"info,o365_relay::delivery=debug\"";
    text_as(value, expected, |text| {
        // The filter takes a misspelt level for the name of a module and logs nothing else.
        let level = |word: &str| word.parse::<tracing::level_filters::LevelFilter>().is_ok();
        let alone = text.split(',').filter(|directive| !directive.contains('='));
        let known = alone.clone().all(|word| level(word.trim()));
        let valid = tracing_subscriber::EnvFilter::builder().parse(text).is_ok();
        (known && valid).then(|| text.to_owned())
    })
}

/// E-mail addresses; may be empty.
pub(super) fn addresses(value: &ValueKind) -> Parsed<Vec<Address>> {
    list(value, "an e-mail address such as \"postmaster@contoso.com\"", |text| {
        is_mailbox(text).then(|| text.parse().ok()).flatten()
    })
}

/// As [`duration`], or `off`.
pub(super) fn duration_or_off(
    value: &ValueKind,
    least: &str,
    most: &str,
) -> Parsed<Option<Duration>> {
    if matches!(value, ValueKind::String(text) if text.trim() == "off") {
        return Ok(None);
    }
    duration(value, least, most)
        .map(Some)
        .map_err(|Mismatch(fault)| Mismatch(format!("{fault}, or \"off\"")))
}

/// What was found, as a message may show it.
pub(super) fn describe(value: &ValueKind) -> String {
    const LONGEST: usize = 60;
    match value {
        ValueKind::String(text) if hides_secret(text) => {
            "text that may hold a secret (not shown)".into()
        }
        ValueKind::String(text) if text.chars().count() > LONGEST => {
            format!("{:?} and more", text.chars().take(LONGEST).collect::<String>())
        }
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(_) | ValueKind::Table(_) | ValueKind::Nil => type_name(value).into(),
        number_or_boolean => number_or_boolean.to_string(),
    }
}

fn type_name(value: &ValueKind) -> &'static str {
    match value {
        ValueKind::String(_) => "text",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::Array(_) => "a list",
        // Layers pass an empty value where a key was written as a section.
        ValueKind::Nil | ValueKind::Table(_) => "a section",
        _ => "a number",
    }
}

fn whole_number(value: &ValueKind) -> Option<u64> {
    match value {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::U64(number) => Some(*number),
        ValueKind::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
