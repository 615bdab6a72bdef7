//! One SMTP connection as octets: lines and mail data in, replies out.

use std::{io, time::Duration};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::mail_data::MailData;

/// A stream with the octets that were read from it and not used yet.
pub(super) struct Wire<S> {
    stream: S,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// What [`Wire::read_line`] met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A line that ended in CRLF.
    Whole,
    /// A line over the limit; all of it has been swallowed.
    TooLong,
    /// An LF without a CR before it. Where the line ends is anybody's guess.
    BareLineFeed,
    /// The client has closed the connection.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Whether there is input that nobody has asked for yet.
    pub fn has_input(&self) -> bool {
        self.start < self.end
    }

    /// Gives up the stream, and with it what was read ahead.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Reads one line into `line`, without its CRLF. `replies` go out before waiting for input,
    /// so those to a group of pipelined commands leave in one write.
    pub async fn read_line(
        &mut self,
        line: &mut Vec<u8>,
        limit: fn(&[u8]) -> usize,
        replies: &mut Vec<u8>,
    ) -> io::Result<Line> {
        line.clear();
        let mut too_long = false;
        loop {
            let unread = &self.buffer[self.start..self.end];
            let found = memchr(b'\n', unread);
            let used = found.map_or(unread.len(), |at| at + 1);
            if too_long {
                // Only the last octet matters: it may be the CR of the CRLF.
                line.drain(..line.len().saturating_sub(1));
            }
            line.extend_from_slice(&unread[..used]);
            self.start += used;
            too_long |= line.len() > limit(line);
            if found.is_some() {
                return Ok(match line.strip_suffix(b"\r\n") {
                    None => Line::BareLineFeed,
                    Some(_) if too_long => Line::TooLong,
                    Some(text) => {
                        line.truncate(text.len());
                        Line::Whole
                    }
                });
            }
            if !self.fill(replies).await? {
                return Ok(Line::Closed);
            }
        }
    }

    /// Reads mail data to its end; `false` if the client closed the connection before that.
    pub async fn read_mail_data(
        &mut self,
        data: &mut MailData,
        replies: &mut Vec<u8>,
    ) -> io::Result<bool> {
        loop {
            self.start += data.feed(&self.buffer[self.start..self.end]);
            if data.ended() {
                return Ok(true);
            }
            if !self.fill(replies).await? {
                return Ok(false);
            }
        }
    }

    /// Sends `replies` and waits until the client has sent something, or closed.
    pub async fn wait_for_input(&mut self, replies: &mut Vec<u8>) -> io::Result<()> {
        if self.has_input() {
            return self.send(replies).await;
        }
        self.fill(replies).await.map(|_| ())
    }

    /// Sends `replies` in one write and empties them.
    pub async fn send(&mut self, replies: &mut Vec<u8>) -> io::Result<()> {
        if replies.is_empty() {
            return Ok(());
        }
        let work = async {
            self.stream.write_all(replies).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(IDLE_TIMEOUT, work).await??;
        replies.clear();
        Ok(())
    }

    /// Closes in an orderly way: a socket that is dropped with unread input takes the last
    /// reply with it. How far that gets is the client's affair.
    pub async fn close(mut self) {
        let work = async {
            self.stream.shutdown().await?;
            while self.stream.read(&mut self.buffer).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, work).await;
    }

    /// Waits for more input once all that there was has been used; `false` at its end.
    async fn fill(&mut self, replies: &mut Vec<u8>) -> io::Result<bool> {
        debug_assert_eq!(self.start, self.end, "unused input would be lost");
        self.send(replies).await?;
        self.start = 0;
        self.end = 0;
        let read = self.stream.read(&mut self.buffer);
        self.end = tokio::time::timeout(IDLE_TIMEOUT, read).await??;
        Ok(self.end > 0)
    }
}

const BUFFER: usize = 32 * 1024;
/// RFC 5321 section 4.5.3.2.7; Exchange's own number is not known.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads every line of `input`, with a limit of 8 octets.
    async fn lines(input: &[u8]) -> Vec<(Line, Vec<u8>)> {
        let (client, server) = tokio::io::duplex(3); // pieces of at most three octets
        let input = input.to_vec();
        let sender = tokio::spawn(async move {
            let mut client = client;
            client.write_all(&input).await.unwrap();
        });
        let mut wire = Wire::new(server);
        let (mut seen, mut line) = (Vec::new(), Vec::new());
        loop {
            match wire.read_line(&mut line, |_| 8, &mut Vec::new()).await.unwrap() {
                Line::Closed => break,
                Line::TooLong => seen.push((Line::TooLong, Vec::new())),
                kind => seen.push((kind, line.clone())),
            }
        }
        sender.await.unwrap();
        seen
    }

    #[tokio::test]
    async fn lines_end_at_crlf_and_long_ones_are_swallowed_whole() {
        let seen =
            lines(b"NOOP\r\n123456\r\n1234567\r\nNOOP NOOP NOOP NOOP\r\n\r\na\rb\r\nQU").await;
        let expected = [
            (Line::Whole, &b"NOOP"[..]),
            (Line::Whole, b"123456"),
            (Line::TooLong, b""),
            (Line::TooLong, b""),
            (Line::Whole, b""),
            (Line::Whole, b"a\rb"),
        ];
        assert_eq!(seen, expected.map(|(kind, text)| (kind, text.to_vec())));
    }

    #[tokio::test]
    async fn a_bare_line_feed_is_told_from_a_line() {
        for input in [&b"NOOP\n"[..], b"\n", b"NOOP NOOP NOOP NOOP\n"] {
            assert_eq!(lines(input).await[0].0, Line::BareLineFeed, "{input:?}");
        }
    }
}
