//! Mail data in chunks (RFC 3030 section 2): each BDAT says how many octets follow it. Nothing in
//! them is looked at for framing, and a dot is a dot.

use memchr::memchr2;

/// What BDAT announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSize {
    /// Octets that follow the command line.
    pub octets: u64,
    /// No further chunk follows.
    pub last: bool,
}

/// Brings the line ends of a message to CRLF, over any number of chunks and reads. Where they
/// break never matters: a CR at the end of one chunk and an LF at the start of the next are a
/// line end.
#[derive(Debug, Clone)]
pub struct LineEnds {
    state: State,
    bare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After a line end, or at the very beginning.
    LineStart,
    /// Within a line.
    Text,
    /// After a CR that may turn out to be bare.
    Cr,
}

impl Default for LineEnds {
    fn default() -> Self {
        Self { state: State::LineStart, bare: false }
    }
}

impl LineEnds {
    /// Whether a bare LF or CR has been met.
    #[must_use]
    pub fn met_bare_line_end(&self) -> bool {
        self.bare
    }

    /// Appends `input` to `out`; a CR at its very end waits for what follows.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while let Some((&octet, rest)) = input.split_first() {
            if self.state == State::Cr {
                out.extend_from_slice(b"\r\n");
                self.state = State::LineStart;
                if octet == b'\n' {
                    input = rest;
                } else {
                    self.bare = true;
                }
                continue;
            }
            let run = memchr2(b'\r', b'\n', input).unwrap_or(input.len());
            if run > 0 {
                let (text, after) = input.split_at(run);
                out.extend_from_slice(text);
                input = after;
                self.state = State::Text;
                continue;
            }
            input = rest;
            self.state = if octet == b'\r' {
                State::Cr
            } else {
                self.bare = true;
                out.extend_from_slice(b"\r\n");
                State::LineStart
            };
        }
    }

    /// Ends the message: its last line gets its CRLF if it came without one.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.bare |= self.state == State::Cr;
        if self.state != State::LineStart {
            out.extend_from_slice(b"\r\n");
        }
        self.state = State::LineStart;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(chunks: &[&[u8]]) -> (String, bool) {
        let (mut lines, mut out) = (LineEnds::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, &mut out);
        }
        lines.finish(&mut out);
        (String::from_utf8(out).unwrap(), lines.met_bare_line_end())
    }

    #[test]
    fn line_ends_become_crlf_and_dots_stay() {
        for (input, stored, bare) in [
            ("", "", false),
            ("a", "a\r\n", false),
            ("a\r\n", "a\r\n", false),
            ("\r\n", "\r\n", false),
            ("..\r\n.\r\nb", "..\r\n.\r\nb\r\n", false),
            ("a\nb", "a\r\nb\r\n", true),
            ("a\rb", "a\r\nb\r\n", true),
            ("a\r", "a\r\n", true),
            ("a\r\r\n", "a\r\n\r\n", true),
            ("a\n\r\n", "a\r\n\r\n", true),
            ("a\n.\n", "a\r\n.\r\n", true),
        ] {
            assert_eq!(message(&[input.as_bytes()]), (stored.to_owned(), bare), "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_message_without_a_bare_cr_or_lf(
            input in prop::collection::vec(prop::sample::select(b"\r\n.a\0".to_vec()), 0..60),
            size in 1usize..7,
        ) {
            let whole = message(&[&input]);
            let chunks: Vec<_> = input.chunks(size).collect();
            prop_assert_eq!(&message(&chunks), &whole);
            let (text, _) = whole;
            prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
            prop_assert!(text.is_empty() || text.ends_with("\r\n"));
        }
    }
}
