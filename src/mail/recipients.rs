//! Who gets a message, by its header section: for programs that leave it to their mailer to find
//! out. RFC 5322 sections 3.6.3 and 3.6.6.

use super::mailbox_list;

/// What the header section says, and what is left of the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The addresses of To, Cc and Bcc as they are written, those without a domain too. Where a
    /// message is sent again (Resent-To and the like), those fields alone.
    pub addresses: Vec<String>,
    /// The message without its Bcc and Resent-Bcc fields.
    pub message: Vec<u8>,
}

/// Reads the header section of a message with line ends of any kind.
#[must_use]
pub fn of_message(message: &[u8]) -> Named {
    let (mut plain, mut resent) = (Vec::new(), Vec::new());
    let mut kept = Vec::with_capacity(message.len());
    let mut rest = message;
    while let Some(length) = field_length(rest) {
        let (field, after) = rest.split_at(length);
        let (name, value) = split_field(field);
        let name = name.to_ascii_lowercase();
        match name.as_slice() {
            b"to" | b"cc" | b"bcc" => plain.extend(addresses(value)),
            b"resent-to" | b"resent-cc" | b"resent-bcc" => resent.extend(addresses(value)),
            _ => {}
        }
        if !name.ends_with(b"bcc") || !matches!(name.len(), 3 | 10) {
            kept.extend_from_slice(field);
        }
        rest = after;
    }
    kept.extend_from_slice(rest);
    let addresses = if resent.is_empty() { plain } else { resent };
    Named { addresses, message: kept }
}

/// The addresses in a list such as `a@b, "C" <c@d>, group: e@f;`.
#[must_use]
pub fn addresses(list: &[u8]) -> Vec<String> {
    let read = mailbox_list::read(list);
    let address = |item: &mailbox_list::Item| {
        let address = list.get(item.address.clone()).filter(|address| !address.is_empty());
        // A lone word is a name in From, and here a user of this host.
        let user = || list.get(item.phrase.clone()).filter(|word| is_user(word));
        let text = String::from_utf8_lossy(address.or_else(user)?);
        let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        (!text.is_empty()).then_some(text)
    };
    read.items.iter().filter_map(address).collect()
}

fn is_user(word: &[u8]) -> bool {
    word.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-_.+".contains(octet))
}

/// Whether a message has this field, by its name in lower case.
#[must_use]
pub fn has_field(message: &[u8], wanted: &str) -> bool {
    let mut rest = message;
    while let Some(length) = field_length(rest) {
        let (field, after) = rest.split_at(length);
        if split_field(field).0.eq_ignore_ascii_case(wanted.as_bytes()) {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether a message begins with a field, or with the empty line in front of its body.
#[must_use]
pub fn begins_with_header(message: &[u8]) -> bool {
    field_length(message).is_some() || message.starts_with(b"\n") || message.starts_with(b"\r\n")
}

/// Octets of the field that is next, its folded lines included; `None` at the end of the header
/// section.
fn field_length(text: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', text)?;
    let name = text.get(..colon)?.trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let mut end = 0;
    loop {
        let rest = text.get(end..).unwrap_or_default();
        end += memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            return Some(end);
        }
    }
}

fn split_field(field: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', field) {
        Some(colon) => {
            let (name, value) = field.split_at(colon);
            (name.trim_ascii_end(), value.get(1..).unwrap_or_default())
        }
        None => (field, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_section_names_who_gets_it_and_loses_bcc() {
        let message =
            b"To: root, \"A, B\" <a@x.example>\nSubject: to: nobody\nCC: team: b@x.example,\n \
                        c@x.example;\nBcc: d@x.example,\n\te@x.example\nX: 1\n\nBcc: f@x.example\n";
        let named = of_message(message);
        assert_eq!(
            named.addresses,
            ["root", "a@x.example", "b@x.example", "c@x.example", "d@x.example", "e@x.example"]
        );
        let text = String::from_utf8(named.message).unwrap();
        assert!(text.ends_with("c@x.example;\nX: 1\n\nBcc: f@x.example\n"), "{text}");
    }

    #[test]
    fn a_message_that_is_sent_again_goes_to_its_new_recipients() {
        let named = of_message(b"Resent-To: b@x.example\r\nTo: a@x.example\r\n\r\n");
        assert_eq!(named.addresses, ["b@x.example"]);
    }

    #[test]
    fn text_is_no_header() {
        assert!(!begins_with_header(b"backup failed: disk full\n"));
        assert!(!begins_with_header(b"hello\n"));
        assert!(begins_with_header(b"Subject: x\n") && begins_with_header(b"\nhello\n"));
        assert!(has_field(b"Subject: x\nfrom: y\n\n", "from"));
        assert!(!has_field(b"Subject: x\n\nfrom: y\n", "from"));
    }
}
