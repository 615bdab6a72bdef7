//! The mail data codec (RFC 5321 section 4.5.2).
//!
//! Mail data ends at CRLF.CRLF, or at .CRLF as its first line, and nowhere else. A bare LF or CR
//! never counts as a line end for that, whatever stands around it; what is stored has neither.

use memchr::{memchr2, memmem};

/// What becomes of a bare LF or a bare CR in mail data. Neither is ever a line end for framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BareLineFeed {
    /// It becomes CRLF in the stored message.
    Normalize,
    /// The message is refused with 550 5.6.11 after its end.
    Reject,
}

/// Finds the end of mail data and undoes the client's dot-stuffing. Chunk boundaries never
/// matter: any split of the same octets gives the same result.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    bare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After CRLF, or at the very beginning.
    LineStart,
    /// Within a line; also after a bare LF or CR, which is no line end.
    Text,
    /// After a CR that may turn out to be bare.
    Cr,
    /// After a dot at the start of a line.
    Dot,
    /// After a dot at the start of a line and a CR.
    DotCr,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::LineStart, bare: false }
    }
}

impl Decoder {
    /// Whether a bare LF or CR has been met.
    #[must_use]
    pub fn met_bare_line_end(&self) -> bool {
        self.bare
    }

    /// Decodes from the front of `input` into `out`. True when the end of mail data was found;
    /// what follows it stays in `input`.
    pub fn decode(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> bool {
        while let Some((&octet, rest)) = input.split_first() {
            if self.state == State::Text {
                let run = memchr2(b'\r', b'\n', input).unwrap_or(input.len());
                if run > 0 {
                    out.extend_from_slice(&input[..run]);
                    *input = &input[run..];
                    continue;
                }
            }
            *input = rest;
            if self.state == State::DotCr && octet == b'\n' {
                return true;
            }
            self.step(octet, out);
        }
        false
    }

    fn step(&mut self, octet: u8, out: &mut Vec<u8>) {
        self.state = match (self.state, octet) {
            (State::LineStart, b'.') => State::Dot,
            (State::LineStart | State::Text, b'\r') => State::Cr,
            (State::LineStart | State::Text, octet) => self.text(octet, out),
            (State::Cr, b'\n') => {
                out.extend_from_slice(b"\r\n");
                State::LineStart
            }
            (State::Cr, octet) => self.after_bare_cr(octet, out),
            (State::Dot, b'\r') => State::DotCr,
            (State::Dot, b'\n') => {
                // Not a stuffed dot: a client that stuffs never sends one before a line end.
                out.push(b'.');
                self.text(b'\n', out)
            }
            (State::Dot, octet) => self.text(octet, out), // the stuffed dot goes
            (State::DotCr, octet) => {
                out.push(b'.');
                self.after_bare_cr(octet, out)
            }
        };
    }

    fn text(&mut self, octet: u8, out: &mut Vec<u8>) -> State {
        if octet == b'\n' {
            self.bare = true;
            out.extend_from_slice(b"\r\n");
        } else {
            out.push(octet);
        }
        State::Text
    }

    fn after_bare_cr(&mut self, octet: u8, out: &mut Vec<u8>) -> State {
        self.bare = true;
        out.extend_from_slice(b"\r\n");
        if octet == b'\r' { State::Cr } else { self.text(octet, out) }
    }
}

/// Dot-stuffing on the way out: a dot at the start of a line is doubled. A line starts after CRLF,
/// and at the very beginning. Chunk boundaries never matter.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// The last two octets.
    before: [u8; 2],
}

impl Default for Encoder {
    fn default() -> Self {
        Self { before: *b"\r\n" }
    }
}

impl Encoder {
    /// Encodes the next chunk, which is given back as it is if there is nothing to double in it.
    #[must_use]
    pub fn encode(&mut self, chunk: Vec<u8>) -> Vec<u8> {
        let dots = self.dots(&chunk);
        for octet in &chunk[chunk.len().saturating_sub(2)..] {
            self.before = [self.before[1], *octet];
        }
        if dots.is_empty() {
            return chunk;
        }
        let mut stuffed = Vec::with_capacity(chunk.len() + dots.len());
        let mut from = 0;
        for dot in dots {
            stuffed.extend_from_slice(&chunk[from..=dot]);
            from = dot;
        }
        stuffed.extend_from_slice(&chunk[from..]);
        stuffed
    }

    /// Where in the chunk lines begin with a dot.
    fn dots(&self, chunk: &[u8]) -> Vec<usize> {
        let at_start = self.before == *b"\r\n" && chunk.starts_with(b".");
        let at_second = self.before[1] == b'\r' && chunk.starts_with(b"\n.");
        let further = memmem::find_iter(chunk, b"\r\n.").map(|at| at + 2);
        at_start.then_some(0).into_iter().chain(at_second.then_some(1)).chain(further).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_in(chunks: &[&[u8]]) -> (Vec<u8>, bool, Vec<u8>, bool) {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        let mut ended = false;
        let mut rest = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            if !ended {
                ended = decoder.decode(&mut input, &mut out);
            }
            rest.extend_from_slice(input);
        }
        (out, ended, rest, decoder.met_bare_line_end())
    }

    #[track_caller]
    fn check(input: &str, stored: &str, ends: bool) {
        let (out, ended, _, _) = decode_in(&[input.as_bytes()]);
        assert_eq!((String::from_utf8(out).unwrap().as_str(), ended), (stored, ends), "{input:?}");
    }

    #[test]
    fn only_crlf_dot_crlf_ends_mail_data() {
        check(".\r\n", "", true);
        check("a\r\n.\r\n", "a\r\n", true);
        check("\r\n.\r\n", "\r\n", true);
        check("a\n.\n", "a\r\n.\r\n", false);
        check("a\n.\r\n", "a\r\n.\r\n", false);
        check("a\r\n.\n", "a\r\n.\r\n", false);
        check("a\r.\r\n", "a\r\n.\r\n", false);
        check("a\r\n.\r.\r\n", "a\r\n.\r\n.\r\n", false);
        check("a\r\n.\r\r\n", "a\r\n.\r\n\r\n", false);
        check("a\r\r\n.\r\n", "a\r\n\r\n", true);
        check("a\n\r\n.\r\n", "a\r\n\r\n", true);
    }

    #[test]
    fn dots_are_unstuffed_after_crlf_only() {
        check("..\r\n...\r\n.x\r\n.\r\n", ".\r\n..\r\nx\r\n", true);
        check("a\n..b\r\n.\r\n", "a\r\n..b\r\n", true);
    }

    #[test]
    fn nul_and_long_lines_pass() {
        let long = "x".repeat(20_000);
        check(&format!("{long}\0\r\n.\r\n"), &format!("{long}\0\r\n"), true);
    }

    #[test]
    fn what_follows_the_end_is_left_in_the_input() {
        let (out, ended, rest, _) = decode_in(&[b"a\r\n.\r\nQUIT\r\n"]);
        assert_eq!(
            (out.as_slice(), ended, rest.as_slice()),
            (&b"a\r\n"[..], true, &b"QUIT\r\n"[..])
        );
    }

    #[test]
    fn bare_line_ends_are_told() {
        for (input, bare) in [
            ("a\r\n.\r\n", false),
            ("a\nb\r\n.\r\n", true),
            ("a\rb\r\n.\r\n", true),
            ("a\r\n.\rb\r\n.\r\n", true),
            ("\r\r\n.\r\n", true),
        ] {
            assert_eq!(decode_in(&[input.as_bytes()]).3, bare, "{input:?}");
        }
    }

    fn encode_in(chunks: &[&[u8]]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        chunks.iter().flat_map(|chunk| encoder.encode(chunk.to_vec())).collect()
    }

    #[test]
    fn a_dot_is_doubled_at_the_start_of_a_line_and_nowhere_else() {
        for (mail_data, sent) in [
            (".", ".."),
            ("..\r\n.a\r\n", "...\r\n..a\r\n"),
            ("a.b\r\n\r\n.", "a.b\r\n\r\n.."),
            ("a\n.\r.\r\r\n.", "a\n.\r.\r\r\n.."),
        ] {
            assert_eq!(encode_in(&[mail_data.as_bytes()]), sent.as_bytes(), "{mail_data:?}");
        }
    }

    #[test]
    fn a_chunk_without_such_a_dot_is_not_copied() {
        let chunk = b"Subject: x\r\n\r\nno. dots.\r\n".to_vec();
        let before = chunk.as_ptr();
        let sent = Encoder::default().encode(chunk);
        assert_eq!(sent.as_ptr(), before);
    }

    /// Octets that matter to the codec, and one that does not.
    fn octets() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(b"\r\n.a\0".to_vec()), 0..60)
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_result(input in octets(), sizes in prop::collection::vec(1usize..5, 1..60)) {
            let mut chunks = Vec::new();
            let mut rest = input.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break }
                let (chunk, after) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            prop_assert_eq!(decode_in(&chunks), decode_in(&[&input]));
            prop_assert_eq!(encode_in(&chunks), encode_in(&[&input]));
        }

        #[test]
        fn what_is_sent_is_received(input in octets()) {
            let (stored, ..) = decode_in(&[&input, b"\r\n"]);
            let sent = encode_in(&[&stored]);
            let received = decode_in(&[&sent, b".\r\nQUIT"]);
            prop_assert_eq!(received, (stored, true, b"QUIT".to_vec(), false));
        }

        #[test]
        fn what_is_stored_has_no_bare_cr_or_lf(input in octets()) {
            let (out, ..) = decode_in(&[&input]);
            let text = String::from_utf8(out).unwrap().replace("\r\n", "");
            prop_assert!(!text.contains(['\r', '\n']), "{:?}", text);
        }

        #[test]
        fn the_end_is_where_the_standard_says(input in octets()) {
            let end = if input.starts_with(b".\r\n") { Some(3) } else {
                input.windows(5).position(|w| w == b"\r\n.\r\n").map(|at| at + 5)
            };
            let (_, ended, rest, _) = decode_in(&[&input]);
            prop_assert_eq!(ended.then(|| input.len() - rest.len()), end);
        }
    }
}
