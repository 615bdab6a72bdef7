//! The few header fields that the sandbox looks at: From decides, Subject and Message-ID are
//! shown.

use super::address;

/// What the header section says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Text of Subject.
    pub subject: Option<String>,
    /// Text of the first From.
    pub from: Option<String>,
    /// Text of Message-ID.
    pub message_id: Option<String>,
    /// How many From fields there are.
    from_fields: usize,
}

impl Header {
    /// Reads the header section at the start of `mail_data`.
    pub fn read(mail_data: &[u8]) -> Self {
        let mut header = Self::default();
        let mut lines = mail_data.split_inclusive(|octet| *octet == b'\n').peekable();
        while let Some(line) = lines.next() {
            let line = without_line_end(line);
            if line.is_empty() {
                break;
            }
            let wanted = split_field(line)
                .and_then(|(name, text)| header.place(name).map(|place| (place, text)));
            let mut body = match &wanted {
                Some((_, text)) => text.to_vec(),
                None => Vec::new(),
            };
            while let Some(folded) =
                lines.next_if(|next| next.starts_with(b" ") || next.starts_with(b"\t"))
            {
                if wanted.is_some() && body.len() < MAX_TEXT {
                    body.extend_from_slice(without_line_end(folded));
                }
            }
            if let Some((place, _)) = wanted {
                place.get_or_insert_with(|| shown(&body));
            }
        }
        header
    }

    fn place(&mut self, name: &[u8]) -> Option<&mut Option<String>> {
        if name.eq_ignore_ascii_case(b"From") {
            self.from_fields += 1;
            Some(&mut self.from)
        } else if name.eq_ignore_ascii_case(b"Subject") {
            Some(&mut self.subject)
        } else if name.eq_ignore_ascii_case(b"Message-ID") {
            Some(&mut self.message_id)
        } else {
            None
        }
    }

    /// The address in From, if there is exactly one such field with exactly one address.
    pub fn author(&self) -> Option<String> {
        match &self.from {
            Some(text) if self.from_fields == 1 => single_address(text),
            _ => None,
        }
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((line[..colon].trim_ascii_end(), &line[colon + 1..]))
}

fn shown(body: &[u8]) -> String {
    let body = &body[..body.len().min(MAX_TEXT)];
    String::from_utf8_lossy(body.trim_ascii()).replace(char::is_control, " ")
}

/// The one address of `text`: `a@b`, or `name <a@b>` where the name holds no unquoted `@`.
fn single_address(text: &str) -> Option<String> {
    let mut outside = String::new(); // neither in brackets nor in a comment
    let mut bracketed: Option<String> = None;
    let mut unquoted_at = false;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        match character {
            '"' => {
                let (quoted, after) = split_quoted(rest)?;
                outside.push_str(quoted);
                rest = after;
                continue;
            }
            '(' => {
                rest = after_comment(rest)?;
                continue;
            }
            '<' if bracketed.is_none() => {
                let (address, after) = address::split_path(rest)?;
                bracketed = Some(address.trim().to_owned());
                rest = after;
                continue;
            }
            '<' | '>' | ',' | ';' => return None,
            '@' => unquoted_at = true,
            _ if bracketed.is_some() && !character.is_whitespace() => return None,
            _ => {}
        }
        outside.push(character);
        rest = &rest[character.len_utf8()..];
    }
    let address = match bracketed {
        Some(_) if unquoted_at => return None,
        Some(address) => address,
        None => outside.trim().to_owned(),
    };
    address::check(&address, true).is_ok().then_some(address)
}

/// Splits a quoted string, with its quotes, from the front.
fn split_quoted(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(text.split_at(at + 1)),
            _ => {}
        }
    }
    None
}

/// What follows the (perhaps nested) comment at the front.
fn after_comment(text: &str) -> Option<&str> {
    let (mut depth, mut escaped) = (0_usize, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return Some(&text[at + 1..]),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// As much of a field's text as is looked at.
const MAX_TEXT: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn author(from: &str) -> Option<String> {
        Header::read(format!("From: {from}\r\n\r\n").as_bytes()).author()
    }

    #[test]
    fn fields_are_found_in_any_case_unfolded_and_only_in_the_header_section() {
        let mail =
            b"Received: by x\r\n\tfolded\r\nSUBJECT: one\r\n two\r\nfrom : <a@b.example>\r\n\
            Message-Id: <1@b.example>\r\n\r\nFrom: <c@d.example>\r\n";
        let header = Header::read(mail);
        assert_eq!(header.subject.as_deref(), Some("one two"));
        assert_eq!(header.message_id.as_deref(), Some("<1@b.example>"));
        assert_eq!(header.author().as_deref(), Some("a@b.example"));
        assert_eq!(Header::read(b"\r\nFrom: <a@b.example>\r\n").author(), None);
    }

    #[test]
    fn one_address_is_found_in_each_usual_form() {
        for from in [
            "a@b.example",
            "<a@b.example>",
            "Anna Example <a@b.example>",
            r#""Example, A. @work" <a@b.example>"#,
            "a@b.example (Anna, at home)",
            "(comment (nested)) Anna <a@b.example> (more)",
            "=?utf-8?Q?J=C3=B6rg?= <a@b.example>",
            "Jörg <a@b.example>",
        ] {
            assert_eq!(author(from).as_deref(), Some("a@b.example"), "{from}");
        }
        assert_eq!(author(r#""x y"@b.example"#).as_deref(), Some(r#""x y"@b.example"#));
    }

    #[test]
    fn what_exchange_refuses_has_no_author() {
        for from in [
            "",
            "Anna",
            "<>",
            "<root>",
            "Anna a@b.example",
            "a@b.example <a@b.example>",
            "<a@b.example>, <c@d.example>",
            "<a@b.example> <c@d.example>",
            "<a@b.example> trailing",
            "<a@b.example",
            r#""unfinished <a@b.example>"#,
            "(unfinished <a@b.example>",
            "undisclosed:;",
        ] {
            assert_eq!(author(from), None, "{from}");
        }
        let twice = b"From: <a@b.example>\r\nFrom: <a@b.example>\r\n\r\n";
        assert_eq!(Header::read(twice).author(), None);
    }
}
