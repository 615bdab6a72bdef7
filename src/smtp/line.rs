//! Command lines out of a stream of octets. A line that is too long is swallowed whole: its
//! tail is never taken for a further command.

use memchr::memchr;

/// Longest command line that we take, without its end. RFC 5321 section 4.5.3.1.4 asks for 512;
/// long paths and parameters need more.
pub const MAX_COMMAND_LINE: usize = 4096;

/// What was found in the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its CRLF. A bare LF ends a command line too: devices send it, and
    /// outside mail data no smuggling follows from it.
    Complete(Vec<u8>),
    /// A line longer than the limit has been swallowed.
    TooLong,
    /// The input ends before the line does.
    Incomplete,
}

/// Collects one line over as many reads as it takes.
#[derive(Debug, Default)]
pub struct LineBuffer {
    partial: Vec<u8>,
    swallowing: bool,
}

impl LineBuffer {
    /// Takes the next line off the front of `input`, up to `limit` octets long.
    pub fn next_line(&mut self, input: &mut &[u8], limit: usize) -> Line {
        let Some(end) = memchr(b'\n', input) else {
            if !self.swallowing && self.partial.len() + input.len() <= limit + 1 {
                self.partial.extend_from_slice(input);
            } else {
                self.swallow();
            }
            *input = &[];
            return Line::Incomplete;
        };
        let (piece, rest) = input.split_at(end);
        *input = &rest[1..];
        if std::mem::take(&mut self.swallowing) {
            return Line::TooLong;
        }
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(piece);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > limit { Line::TooLong } else { Line::Complete(line) }
    }

    /// Whether part of a line is waiting for its end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty() && !self.swallowing
    }

    fn swallow(&mut self) {
        self.swallowing = true;
        self.partial = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]], limit: usize) -> Vec<Line> {
        let mut buffer = LineBuffer::default();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut input = *chunk;
            while !input.is_empty() {
                match buffer.next_line(&mut input, limit) {
                    Line::Incomplete => {}
                    line => found.push(line),
                }
            }
        }
        found
    }

    fn complete(text: &str) -> Line {
        Line::Complete(text.into())
    }

    #[test]
    fn lines_end_at_crlf_or_lf_wherever_the_chunks_break() {
        let all = b"NOOP\r\nRSET\nQUIT\r\n";
        let expected = [complete("NOOP"), complete("RSET"), complete("QUIT")];
        for cut in 0..all.len() {
            let (a, b) = all.split_at(cut);
            assert_eq!(lines(&[a, b], 100), expected, "cut at {cut}");
        }
    }

    #[test]
    fn an_overlong_line_never_becomes_a_second_command() {
        let mut all = vec![b'x'; 50];
        all.extend_from_slice(b"\r\nQUIT\r\n");
        for size in 1..all.len() {
            let chunks = all.chunks(size).collect::<Vec<_>>();
            assert_eq!(lines(&chunks, 10), [Line::TooLong, complete("QUIT")], "chunks of {size}");
        }
        assert_eq!(lines(&[b"1234567890\r\n"], 10), [complete("1234567890")]);
        assert_eq!(lines(&[b"12345678901\r\n"], 10), [Line::TooLong]);
        assert_eq!(lines(&[b"1234567890\r", b"\n"], 10), [complete("1234567890")]);
    }
}
