//! Mail data as it comes after 354: where it ends, how large it is, what it really says.
//!
//! It ends at CRLF.CRLF and nowhere else. A bare CR or LF never ends a line, so a stuffed dot
//! is only looked for after a CRLF; that one was met is remembered for the reply.

use memchr::memchr2;

/// Reads mail data piece by piece; where the pieces are cut makes no difference.
#[derive(Debug)]
pub(super) struct MailData {
    state: State,
    size: u64,
    bare_line_ends: bool,
    octets: Vec<u8>,
    keep: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    Within,
    /// After a CR that has not been passed on yet.
    Cr,
    /// After a dot that began a line; it is not passed on.
    Dot,
    DotCr,
    Ended,
}

impl MailData {
    /// Nothing read yet. Only the first `keep` octets will be held in memory.
    pub fn new(keep: usize) -> Self {
        Self { state: State::LineStart, size: 0, bare_line_ends: false, octets: Vec::new(), keep }
    }

    /// Reads from `input` up to the end of mail data; returns how many octets belonged to it.
    pub fn feed(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        while at < input.len() && self.state != State::Ended {
            at += self.advance(&input[at..]);
        }
        at
    }

    /// One step of the machine over an `input` that is not empty; returns the octets used.
    fn advance(&mut self, input: &[u8]) -> usize {
        let (next, used) = match (self.state, input[0]) {
            (State::LineStart, b'.') => (State::Dot, 1),
            (State::LineStart, _) => (State::Within, 0),
            (State::Within, _) => return self.line(input),
            (State::Cr, b'\n') => {
                self.push(b"\r\n");
                (State::LineStart, 1)
            }
            (State::Dot, b'\r') => (State::DotCr, 1),
            (State::Dot, _) => (State::Within, 0),
            (State::DotCr, b'\n') => (State::Ended, 1),
            (State::Cr | State::DotCr, _) => {
                self.bare_line_ends = true;
                self.push(b"\r");
                (State::Within, 0)
            }
            (State::Ended, _) => (State::Ended, 0),
        };
        self.state = next;
        used
    }

    /// Passes on what is left of a line, as far as `input` has it.
    fn line(&mut self, input: &[u8]) -> usize {
        match memchr2(b'\r', b'\n', input) {
            None => {
                self.push(input);
                input.len()
            }
            Some(at) if input[at] == b'\n' => {
                self.bare_line_ends = true;
                self.push(&input[..=at]);
                at + 1
            }
            Some(at) if input.get(at + 1) == Some(&b'\n') => {
                self.push(&input[..at + 2]);
                self.state = State::LineStart;
                at + 2
            }
            Some(at) => {
                self.push(&input[..at]);
                self.state = State::Cr;
                at + 1
            }
        }
    }

    fn push(&mut self, octets: &[u8]) {
        self.size += octets.len() as u64;
        let room = self.keep.saturating_sub(self.octets.len());
        self.octets.extend_from_slice(&octets[..room.min(octets.len())]);
    }

    /// Whether the final dot has been read.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Octets of mail data after unstuffing.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a CR or LF stood alone.
    pub fn has_bare_line_ends(&self) -> bool {
        self.bare_line_ends
    }

    /// What was held in memory.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Gives up what was held in memory.
    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `wire` in pieces of each size; all must agree. Returns what was read and what is
    /// left over, or `None` if no end was found.
    fn read(wire: &[u8]) -> Option<(Vec<u8>, bool, Vec<u8>)> {
        let outcome = |piece: usize| {
            let mut data = MailData::new(usize::MAX);
            let mut used = 0;
            for chunk in wire.chunks(piece) {
                used += data.feed(chunk);
            }
            assert_eq!(data.size(), data.octets().len() as u64);
            let (ended, bare) = (data.ended(), data.has_bare_line_ends());
            ended.then(|| (data.into_octets(), bare, wire[used..].to_vec()))
        };
        let whole = outcome(wire.len().max(1));
        for piece in 1..wire.len() {
            assert_eq!(outcome(piece), whole, "pieces of {piece}");
        }
        whole
    }

    #[track_caller]
    fn assert_read(wire: &[u8], expected: &[u8], bare: bool) {
        let (octets, found_bare, rest) = read(wire).expect("an end");
        assert_eq!((octets.as_slice(), found_bare, rest.as_slice()), (expected, bare, &b""[..]));
    }

    #[test]
    fn stuffed_dots_are_taken_away() {
        assert_read(b".\r\n", b"", false);
        assert_read(b"a\r\n.\r\n", b"a\r\n", false);
        assert_read(b"..\r\n...\r\n..a\r\na.\r\n.\r\n", b".\r\n..\r\n.a\r\na.\r\n", false);
        assert_read(b".a\r\n.\r\n", b"a\r\n", false);
        assert_read(b"\r\n\r\n.\r\n", b"\r\n\r\n", false);
    }

    #[test]
    fn only_crlf_dot_crlf_ends_mail_data() {
        for wire in [
            &b"a\n.\n"[..],
            b"a\n.\r\n",
            b"a\r.\r",
            b"a\r\n.\n",
            b"a\r\n.\r",
            b"a\r.\r\n",
            b"a\r\n.\r\r\n",
            b"a.\r\n",
            b"a\r\n..\r\n",
            b"a\n\r.\r\n",
        ] {
            assert_eq!(read(wire), None, "{wire:?}");
        }
    }

    #[test]
    fn bare_line_ends_are_kept_and_noticed() {
        assert_read(b"a\nb\r\n.\r\n", b"a\nb\r\n", true);
        assert_read(b"a\rb\r\n.\r\n", b"a\rb\r\n", true);
        assert_read(b"a\r\r\n.\r\n", b"a\r\r\n", true);
        assert_read(b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n", true);
        assert_read(b".\rb\r\n.\r\n", b"\rb\r\n", true);
        assert_read(b".\n\r\n.\r\n", b"\n\r\n", true);
    }

    #[test]
    fn what_follows_the_end_is_left_alone() {
        let (octets, _, rest) = read(b"a\r\n.\r\nQUIT\r\n").expect("an end");
        assert_eq!((octets.as_slice(), rest.as_slice()), (&b"a\r\n"[..], &b"QUIT\r\n"[..]));
    }

    #[test]
    fn no_more_is_held_than_asked_for() {
        let mut data = MailData::new(4);
        data.feed(b"abcdefgh\r\n.\r\n");
        assert_eq!((data.octets(), data.size()), (&b"abcd"[..], 10));
    }
}
