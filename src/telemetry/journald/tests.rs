use std::collections::HashSet;

use tracing_subscriber::prelude::*;

use super::*;

/// What journald would make of a datagram, read as its documentation says.
fn fields(datagram: &[u8]) -> Vec<(String, String)> {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let mut fields = Vec::new();
    let mut rest = datagram;
    while let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
        let (line, behind) = (&rest[..end], &rest[end + 1..]);
        if let Some(equals) = line.iter().position(|octet| *octet == b'=') {
            fields.push((text(&line[..equals]), text(&line[equals + 1..])));
            rest = behind;
            continue;
        }
        let length = u64::from_le_bytes(behind[..8].try_into().unwrap());
        let length = usize::try_from(length).unwrap();
        fields.push((text(line), text(&behind[8..8 + length])));
        assert_eq!(behind[8 + length], b'\n');
        rest = &behind[9 + length..];
    }
    assert_eq!(rest, b"");
    fields
}

/// The entries that arrive at a socket while `tell` runs.
fn entries(tell: impl FnOnce()) -> Vec<Vec<(String, String)>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journald = UnixDatagram::bind(&path).unwrap();
    let layer = Journald::new(&path).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), tell);
    journald.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 300_000];
    let mut entries = Vec::new();
    while let Ok(length) = journald.recv(&mut buffer) {
        entries.extend((length > 0).then(|| fields(&buffer[..length])));
    }
    entries
}

fn value<'a>(entry: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    entry.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn an_event_has_its_facts_as_fields_and_those_of_its_session() {
    let entries = entries(|| {
        let span = tracing::info_span!("session", id = "0badcafe", listener = "printers");
        span.in_scope(|| tracing::warn!(queue_id = "abc", took_ms = 5, "message accepted"));
    });
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    for (name, expected) in [
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "o365-relay"),
        ("RELAY_EVENT", "message accepted"),
        ("RELAY_QUEUE_ID", "abc"),
        ("RELAY_TOOK_MS", "5"),
        ("RELAY_SESSION_ID", "0badcafe"),
        ("RELAY_SESSION_LISTENER", "printers"),
        ("MESSAGE_ID", ids::of("message accepted").unwrap()),
    ] {
        assert_eq!(value(entry, name), [expected], "{name} in {entry:#?}");
    }
    let [message] = value(entry, "MESSAGE")[..] else { panic!("{entry:?}") };
    assert!(message.starts_with("message accepted queue_id=abc took_ms=5"), "{message}");
}

#[test]
fn nothing_that_a_client_says_begins_a_field() {
    let evil = "x\nPRIORITY=0\nMESSAGE_ID=00000000000000000000000000000000\n_UID\n";
    let entries = entries(|| {
        tracing::info!(hello = evil, message_id = evil, "message accepted");
    });
    let entry = &entries[0];
    assert_eq!(value(entry, "RELAY_HELLO"), [evil]);
    assert_eq!(value(entry, "RELAY_MESSAGE_ID"), [evil]);
    assert_eq!(value(entry, "PRIORITY"), ["6"]);
    assert_eq!(value(entry, "MESSAGE_ID"), [ids::of("message accepted").unwrap()]);
    assert!(value(entry, "_UID").is_empty());
    assert!(!value(entry, "MESSAGE")[0].contains('\n'));
}

#[test]
fn a_value_without_end_is_cut_at_a_character() {
    let long = "\u{e9}".repeat(200_000);
    let entries = entries(|| tracing::info!(reply = long.as_str(), "client refused"));
    let found = value(&entries[0], "RELAY_REPLY")[0];
    assert_eq!(found.len(), MOST_OCTETS);
    assert!(found.chars().all(|c| c == '\u{e9}'));
}

#[test]
fn a_system_without_journald_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Journald::new(directory.path().join("nothing")).is_err());
}

#[test]
fn an_entry_gives_its_message_back() {
    let mut entry = Entry(Vec::new());
    entry.put("MESSAGE", "hello");
    entry.put("PRIORITY", "6");
    assert_eq!(entry.message(), b"hello");
    assert_eq!(Entry(Vec::new()).message(), b"");
}

/// A text that nobody says any more would have an id for nothing.
#[test]
fn ids_are_unique_and_stand_for_what_is_said() {
    fn sources(folder: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, text);
            } else if !path.ends_with("ids.rs") && !path.ends_with("tests.rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    sources(std::path::Path::new("src"), &mut text);
    let mut seen = HashSet::new();
    for (kind, id, _) in ids::KINDS {
        assert!(seen.insert(id) && seen.insert(kind), "{kind}");
        assert!(id.len() == 32 && id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')), "{id}");
        assert!(text.contains(&format!("\"{kind}\"")), "nobody says {kind:?}");
    }
}
