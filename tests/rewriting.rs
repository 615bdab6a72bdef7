//! Another sender in the header section, octet for octet: each `tests/rewriting/*/NAME.eml`
//! becomes `NAME.out`, however it is cut into chunks. `UPDATE_REWRITING=1` writes the files anew;
//! look at the difference then.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf, sync::Arc};

use o365_relay::{
    mail::rewrite::{Editor, MAX_SECTION, Rewriting},
    smtp::sender::SenderMap,
};

fn mailbox() -> Rewriting {
    Rewriting { map: Arc::default(), mailbox: Some("relay@contoso.com".parse().unwrap()) }
}

fn map() -> Rewriting {
    let lines = [
        "root@host.local -> alerts@contoso.com",
        "*@host.local -> relay@contoso.com",
        "anna@contoso.com -> anna@contoso.com",
    ];
    let map = SenderMap::new(lines.iter().map(|line| line.parse().unwrap()).collect());
    Rewriting { map: Arc::new(map), mailbox: None }
}

fn edit(rewriting: &Rewriting, message: &[u8], size: usize) -> Vec<u8> {
    let mut editor = Editor::new(rewriting.clone());
    let mut out = Vec::new();
    for chunk in message.chunks(size) {
        out.extend(editor.push(chunk.to_vec()));
    }
    out.extend(editor.finish());
    out
}

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rewriting").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "eml")).collect();
    cases.sort();
    cases
}

/// What no rewriting may touch: all but the fields that it is about, and the body.
fn others(message: &[u8]) -> Vec<u8> {
    let text: String = message.iter().map(|octet| char::from(*octet)).collect();
    let (header, body) = match text.split_once("\r\n\r\n") {
        Some((header, body)) => (format!("{header}\r\n"), body),
        None => (text.clone(), ""),
    };
    let mut kept = String::new();
    let mut keep = true;
    for line in header.split_inclusive("\r\n") {
        if !line.starts_with([' ', '\t']) {
            let name = line.split(':').next().unwrap().trim_end().to_lowercase();
            let ours = ["from", "reply-to", "x-original-from", "dkim-signature"];
            keep = !ours.contains(&name.as_str());
        }
        if keep {
            kept.push_str(line);
        }
    }
    (kept + "\r\n" + body).chars().map(|c| u8::try_from(c).unwrap()).collect()
}

#[track_caller]
fn check(folder: &str, rewriting: &Rewriting, least: usize) {
    let cases = cases(folder);
    assert!(cases.len() >= least, "{} cases", cases.len());
    for path in cases {
        let message = fs::read(&path).unwrap();
        let edited = edit(rewriting, &message, message.len());
        let expected = path.with_extension("out");
        if std::env::var_os("UPDATE_REWRITING").is_some() {
            fs::write(&expected, &edited).unwrap();
        }
        let expected = fs::read(&expected).unwrap();
        for size in [1, 2, 3, 7, 64, 100_000] {
            let edited = edit(rewriting, &message, size);
            assert_eq!(
                edited.escape_ascii().to_string().replace("\\r\\n", "\n"),
                expected.escape_ascii().to_string().replace("\\r\\n", "\n"),
                "{} in chunks of {size}",
                path.display()
            );
        }
        if !message.starts_with(b"\r\n") {
            let (before, after) = (others(&message), others(&expected));
            assert_eq!(before, after, "{}: something else has changed", path.display());
        }
        let again = edit(rewriting, &expected, 100);
        assert_eq!(again, expected, "{}: a second time changes nothing", path.display());
    }
}

#[test]
fn from_becomes_the_mailbox_and_nothing_else_changes() {
    check("mailbox", &mailbox(), 30);
}

#[test]
fn mapped_addresses_change_and_no_other() {
    check("map", &map(), 7);
}

#[test]
fn the_map_comes_before_the_mailbox() {
    let both = Rewriting { map: map().map, ..mailbox() };
    let from = |value: &str| {
        let message = format!("From: {value}\r\n\r\n");
        String::from_utf8(edit(&both, message.as_bytes(), 5)).unwrap()
    };
    assert!(from("Anna <anna@contoso.com>").starts_with("From: Anna <anna@contoso.com>\r\n\r\n"));
    assert!(from("root@host.local").starts_with("From: alerts@contoso.com\r\nX-Orig"));
    assert!(from("x@example.com").starts_with("From: relay@contoso.com\r\nReply-To: x@ex"));
    assert_eq!(from("relay@contoso.com"), "From: relay@contoso.com\r\n\r\n");
}

#[test]
fn a_header_section_without_end_does_not_fill_the_memory() {
    let filler = format!("X-Filler: {}\r\n", "x".repeat(900)).repeat(400);
    let message = format!("From: a@example.com\r\n{filler}Subject: s\r\n\r\nbody\r\n");
    assert!(message.len() > MAX_SECTION + 50_000);
    for size in [1000, 65_536, message.len()] {
        let edited = String::from_utf8(edit(&mailbox(), message.as_bytes(), size)).unwrap();
        let rest = edited.strip_prefix(
            "From: relay@contoso.com\r\nReply-To: a@example.com\r\nX-Original-From: a@example.com\r\n",
        );
        assert_eq!(rest, Some(&message["From: a@example.com\r\n".len()..]), "chunks of {size}");
    }
}
