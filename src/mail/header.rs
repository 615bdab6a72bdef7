//! The header section as it streams in: Bcc goes, a missing From, Date or Message-ID comes,
//! Received fields are counted. Every other octet passes as it is.
//!
//! Exchange Online refuses mail without a From field (550 5.7.512) and may drop a repeated
//! Message-ID, so both are settled once, before the message becomes durable.

/// The fields to add where they are missing, as whole values without CRLF.
#[derive(Debug, Clone)]
pub struct Repair {
    /// An address for From; `None` leaves it out.
    pub from: Option<String>,
    /// RFC 5322 date-time.
    pub date: String,
    /// With its angle brackets.
    pub message_id: String,
}

/// What the header section said, after the repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderFacts {
    /// Received fields on arrival.
    pub received: usize,
    /// The Message-ID in force, at most [`MAX_KEPT`] octets of it.
    pub message_id: String,
    has_from: bool,
    has_date: bool,
    has_message_id: bool,
}

/// The longest Message-ID that is kept for logs and history, in octets.
pub const MAX_KEPT: usize = 250;

/// A field name longer than this is none: the section has ended without an empty line.
const MAX_FIELD_NAME: usize = 256;

/// Edits the header section in any chunks; the body passes untouched.
#[derive(Debug)]
pub struct HeaderEditor {
    repair: Repair,
    facts: HeaderFacts,
    place: Place,
    /// The start of a line, until it is known what kind of line it is.
    pending: Vec<u8>,
    /// The value of the Message-ID field is coming.
    collecting: bool,
    /// The start of that value. It becomes text at the end: reads break within characters too.
    collected: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the very first line.
    Top,
    /// At the start of a line after a field; its continuation lines share its fate.
    LineStart { keep: bool },
    /// Within a line whose fate is known.
    Line { keep: bool },
    /// Past the header section.
    Body,
}

/// What the start of a line turned out to be.
enum Kind {
    Undecided,
    EmptyLine,
    Continuation,
    Field,
    /// A line of the mbox format that some programs put on top; it is no header field.
    MboxFrom,
    NoField,
}

impl HeaderEditor {
    /// An editor for one message.
    #[must_use]
    pub fn new(repair: Repair) -> Self {
        Self {
            repair,
            facts: HeaderFacts::default(),
            place: Place::Top,
            pending: Vec::new(),
            collecting: false,
            collected: Vec::new(),
        }
    }

    /// Whether the header section has ended: what comes now passes untouched.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        self.place == Place::Body
    }

    /// Takes the next chunk of mail data, which has no bare CR or LF, and appends the edited
    /// octets to `out`.
    pub fn push(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            match self.place {
                Place::Body => {
                    out.extend_from_slice(data);
                    return;
                }
                Place::Line { keep } => data = self.pass_line(keep, data, out),
                Place::Top | Place::LineStart { .. } => {
                    self.pending.push(data[0]);
                    data = &data[1..];
                    self.decide(out);
                }
            }
        }
    }

    /// The end of mail data: a message may end within its header section.
    #[must_use]
    pub fn finish(mut self, out: &mut Vec<u8>) -> HeaderFacts {
        if self.place != Place::Body {
            self.add_missing(out);
            out.append(&mut self.pending);
        }
        if !self.collected.is_empty() {
            self.facts.message_id = printable(&self.collected);
        }
        self.facts
    }

    fn pass_line<'a>(&mut self, keep: bool, data: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let end = memchr::memchr(b'\n', data).map(|at| at + 1);
        let (piece, rest) = data.split_at(end.unwrap_or(data.len()));
        if keep {
            out.extend_from_slice(piece);
        }
        if self.collecting {
            self.collect(piece);
        }
        if end.is_some() {
            self.place = Place::LineStart { keep };
        }
        rest
    }

    fn collect(&mut self, piece: &[u8]) {
        // The last character that fits may end behind the limit of octets.
        let room = (MAX_KEPT + 4).saturating_sub(self.collected.len());
        let visible = |octet: &&u8| !octet.is_ascii_whitespace() && !octet.is_ascii_control();
        self.collected.extend(piece.iter().filter(visible).take(room));
    }

    fn decide(&mut self, out: &mut Vec<u8>) {
        let kind = classify(&self.pending, self.place == Place::Top);
        if !matches!(kind, Kind::Undecided | Kind::Continuation) {
            self.collecting = false;
        }
        match (kind, self.place) {
            (Kind::Undecided, _) => {}
            (Kind::Continuation, Place::LineStart { keep }) => self.begin_line(keep, out),
            (Kind::MboxFrom, _) => self.begin_line(false, out),
            (Kind::Field, _) => {
                let keep = self.note_field();
                self.begin_line(keep, out);
            }
            (Kind::EmptyLine, _) => {
                self.add_missing(out);
                self.begin_body(out);
            }
            (Kind::NoField | Kind::Continuation, _) => {
                self.add_missing(out);
                out.extend_from_slice(b"\r\n");
                self.begin_body(out);
            }
        }
    }

    fn begin_line(&mut self, keep: bool, out: &mut Vec<u8>) {
        if keep {
            out.append(&mut self.pending);
        }
        self.pending.clear();
        self.place = Place::Line { keep };
    }

    fn begin_body(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.pending);
        self.place = Place::Body;
    }

    /// Notes the field whose name stands in `pending`; false if it has to go.
    fn note_field(&mut self) -> bool {
        let name = self.pending.trim_ascii_end();
        let name = name.strip_suffix(b":").unwrap_or(name).trim_ascii_end();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("Received") {
            self.facts.received += 1;
        } else if is("From") {
            self.facts.has_from = true;
        } else if is("Date") {
            self.facts.has_date = true;
        } else if is("Message-ID") {
            // Of several, the first counts.
            self.collecting = !self.facts.has_message_id;
            self.facts.has_message_id = true;
        }
        !is("Bcc") && !is("Resent-Bcc")
    }

    fn add_missing(&mut self, out: &mut Vec<u8>) {
        let mut field = |name: &str, value: &str| {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        };
        if let (false, Some(from)) = (self.facts.has_from, &self.repair.from) {
            field("From", from);
        }
        if !self.facts.has_date {
            field("Date", &self.repair.date);
        }
        if !self.facts.has_message_id {
            field("Message-ID", &self.repair.message_id);
            self.facts.message_id.clone_from(&self.repair.message_id);
        }
    }
}

/// As text without blanks and controls, at most [`MAX_KEPT`] octets of it.
fn printable(octets: &[u8]) -> String {
    let mut kept = String::new();
    for c in String::from_utf8_lossy(octets).chars() {
        if kept.len() + c.len_utf8() > MAX_KEPT {
            break;
        }
        if !c.is_whitespace() && !c.is_control() {
            kept.push(c);
        }
    }
    kept
}

fn classify(start: &[u8], top: bool) -> Kind {
    let Some(&last) = start.last() else { return Kind::Undecided };
    match start {
        b"\r" => return Kind::Undecided,
        b"\r\n" => return Kind::EmptyLine,
        [b' ' | b'\t'] => return Kind::Continuation,
        _ => {}
    }
    if top && (start.starts_with(b"From ") || start.starts_with(b">From ")) {
        return match last {
            b' ' | b'\t' if start.len() <= MAX_FIELD_NAME => Kind::Undecided,
            b':' => Kind::Field,
            _ => Kind::MboxFrom,
        };
    }
    let named = start.iter().any(|b| !matches!(b, b' ' | b'\t'));
    match last {
        b':' if start.len() > 1 => Kind::Field,
        // Blanks before the colon are obsolete syntax (RFC 5322 section 4.5), still sent.
        b' ' | b'\t' if named && start.len() <= MAX_FIELD_NAME => Kind::Undecided,
        b'>' if top && start == b">" => Kind::Undecided,
        b'!'..=b'~' if last != b':' && !follows_blank(start) && start.len() <= MAX_FIELD_NAME => {
            Kind::Undecided
        }
        _ => Kind::NoField,
    }
}

/// A name with a blank inside is no field name.
fn follows_blank(start: &[u8]) -> bool {
    start.len() >= 2 && matches!(start[start.len() - 2], b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repair() -> Repair {
        Repair {
            from: Some("a@b.example".into()),
            date: "DATE".into(),
            message_id: "<id@r>".into(),
        }
    }

    fn edit(message: &str, size: usize) -> (String, HeaderFacts) {
        let mut editor = HeaderEditor::new(repair());
        let mut out = Vec::new();
        for chunk in message.as_bytes().chunks(size) {
            editor.push(chunk, &mut out);
        }
        let facts = editor.finish(&mut out);
        (String::from_utf8(out).unwrap(), facts)
    }

    #[track_caller]
    fn check(message: &str, expected: &str) {
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(edit(message, size).0, expected, "chunks of {size}");
        }
    }

    const COMPLETE: &str = "From: x@y\r\nDate: d\r\nMessage-ID: <m@y>\r\n";

    #[test]
    fn a_complete_message_passes_octet_for_octet() {
        check(
            &format!("{COMPLETE}Subject: a\r\n b\r\n\r\nbody: x\r\n.\r\n"),
            &format!("{COMPLETE}Subject: a\r\n b\r\n\r\nbody: x\r\n.\r\n"),
        );
        check(
            &format!("{COMPLETE}X :  odd but valid\r\n\r\n"),
            &format!("{COMPLETE}X :  odd but valid\r\n\r\n"),
        );
        check(COMPLETE, COMPLETE);
    }

    #[test]
    fn missing_fields_are_added_at_the_end_of_the_section() {
        check(
            "Subject: a\r\n\r\nbody\r\n",
            "Subject: a\r\nFrom: a@b.example\r\nDate: DATE\r\nMessage-ID: <id@r>\r\n\r\nbody\r\n",
        );
        check("FROM: x\r\ndate: y\r\n\r\n", "FROM: x\r\ndate: y\r\nMessage-ID: <id@r>\r\n\r\n");
        check("", "From: a@b.example\r\nDate: DATE\r\nMessage-ID: <id@r>\r\n");
        check(
            "Subject: a\r\n",
            "Subject: a\r\nFrom: a@b.example\r\nDate: DATE\r\nMessage-ID: <id@r>\r\n",
        );
    }

    #[test]
    fn text_without_a_header_section_becomes_the_body() {
        let added = "From: a@b.example\r\nDate: DATE\r\nMessage-ID: <id@r>\r\n\r\n";
        for body in [
            "hello world\r\n",
            " indented\r\n",
            ": x\r\n",
            "gr\u{fc}n: x\r\n",
            "..\r\nx: y\r\n",
            "x y: z\r\n",
        ] {
            check(body, &format!("{added}{body}"));
        }
        check(&"x".repeat(2000), &format!("{added}{}", "x".repeat(2000)));
        check(
            &format!("{COMPLETE}no field\r\nX: y\r\n"),
            &format!("{COMPLETE}\r\nno field\r\nX: y\r\n"),
        );
    }

    #[test]
    fn bcc_goes_with_its_continuation_lines() {
        check(&format!("{COMPLETE}Resent-Bcc: a@x\r\n\r\n"), &format!("{COMPLETE}\r\n"));
        check(
            &format!("{COMPLETE}bcc: a@x,\r\n\tb@x\r\nSubject: s\r\n\r\nBcc: stays\r\n"),
            &format!("{COMPLETE}Subject: s\r\n\r\nBcc: stays\r\n"),
        );
    }

    #[test]
    fn an_mbox_line_on_top_goes() {
        check(&format!("From root Mon Nov 23\r\n{COMPLETE}\r\n"), &format!("{COMPLETE}\r\n"));
        check(&format!(">From root x\r\n{COMPLETE}\r\n"), &format!("{COMPLETE}\r\n"));
    }

    #[test]
    fn a_from_field_with_blanks_before_its_colon_is_no_mbox_line() {
        for from in ["From : x@y\r\n", "From \t : x@y\r\n", "FROM : x@y\r\n"] {
            let message = format!("{from}Date: d\r\nMessage-ID: <m@y>\r\n\r\n");
            check(&message, &message);
            check(&format!("From root Mon Nov 23\r\n{message}"), &message);
        }
    }

    #[test]
    fn facts_are_collected() {
        let (_, facts) = edit(
            "Received: a\r\nRECEIVED: b\r\n c\r\nMessage-Id:\r\n <m@y>\r\nMessage-ID: <second@y>\r\n\r\nReceived: body\r\n",
            5,
        );
        assert_eq!((facts.received, facts.message_id.as_str()), (2, "<m@y>"));
        let long = format!("Message-ID: <{}>\r\n\r\n", "x".repeat(1000));
        assert_eq!(edit(&long, 100).1.message_id.len(), MAX_KEPT);
        assert_eq!(edit("", 1).1.message_id, "<id@r>");
    }

    #[test]
    fn a_message_id_that_is_no_ascii_is_the_same_wherever_the_reads_break() {
        let short = "Message-ID: <gr\u{fc}n\u{20ac}@y>\r\n\r\n";
        let long = format!("Message-ID: <{}>\r\n\r\n", "\u{20ac}".repeat(200));
        let kept = format!("<{}", "\u{20ac}".repeat((MAX_KEPT - 1) / 3));
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(edit(short, size).1.message_id, "<gr\u{fc}n\u{20ac}@y>", "chunks of {size}");
            assert_eq!(edit(&long, size).1.message_id, kept, "chunks of {size}");
        }
    }
}
