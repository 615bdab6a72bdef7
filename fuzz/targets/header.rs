//! The header editor: however the message is cut, the same comes out; the body comes out as it
//! went in; what was edited needs no further edit; nothing but the fields that are ours to add is
//! new.

#![no_main]

use libfuzzer_sys::fuzz_target;
use o365_relay::mail::header::{HeaderEditor, HeaderFacts, MAX_KEPT, Repair};
use o365_relay_fuzz::{dice, has_bare_line_end, normalized, splits};

fuzz_target!(|input: &[u8]| {
    let (mut dice, octets) = dice(input);
    // What comes out of the decoder: each line ends in CRLF.
    let mut message = normalized(octets);
    if !message.is_empty() && !message.ends_with(b"\r\n") {
        message.extend_from_slice(b"\r\n");
    }
    let [whole, single, random] = splits(&mut dice, &message).map(|chunks| edit(&chunks));
    assert_eq!(whole, single, "octet by octet");
    assert_eq!(whole, random, "in random pieces");
    let (edited, facts) = whole;
    assert!(!has_bare_line_end(&edited));
    assert!(facts.message_id.len() <= MAX_KEPT && !facts.message_id.chars().any(char::is_control));
    assert!(edited.ends_with(body(&message)), "the body was touched");
    let added = ADDED.iter().map(|field| field.len()).sum::<usize>();
    assert!(edited.len() <= message.len() + added + 2);
    let (again, _) = edit(&[&edited]);
    assert_eq!(again, edited, "what was edited needs no further edit");
});

const ADDED: [&str; 3] = ["From: a@b.example\r\n", "Date: DATE\r\n", "Message-ID: <id@r>\r\n"];

fn edit(chunks: &[&[u8]]) -> (Vec<u8>, HeaderFacts) {
    let mut editor = HeaderEditor::new(Repair {
        from: Some("a@b.example".into()),
        date: "DATE".into(),
        message_id: "<id@r>".into(),
    });
    let mut out = Vec::new();
    for chunk in chunks {
        editor.push(chunk, &mut out);
    }
    let facts = editor.finish(&mut out);
    (out, facts)
}

/// What stands behind the first empty line: whatever the header section was taken for, this is
/// body.
fn body(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") {
        return message;
    }
    let end = message.windows(4).position(|window| window == b"\r\n\r\n");
    end.map_or(&[], |end| &message[end + 2..])
}
