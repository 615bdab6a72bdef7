//! One secured connection, driven command by command through lettre.

use std::{error::Error, time::Duration};

use lettre::transport::smtp::{client::AsyncSmtpConnection, extension::ClientId};
use tokio::time::Instant;

use super::{
    trouble::{Stage, Trouble},
    wire::{Control, Wire},
};
use crate::{
    mail::rewrite::Editor,
    smtp::{mail_data::Encoder, reply::Reply},
    store::{Body, StoreError},
};

/// RFC 5321 section 4.5.3.2: MAIL and RCPT 5 minutes, DATA 2 minutes, final dot 10 minutes.
const COMMAND_PATIENCE: Duration = Duration::from_secs(300);
const DATA_PATIENCE: Duration = Duration::from_secs(120);
const FINAL_PATIENCE: Duration = Duration::from_secs(600);
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Link {
    smtp: AsyncSmtpConnection,
    control: Control,
    /// A reply is missing, or more came than was asked for: the next could be mistaken for
    /// another's.
    out_of_step: bool,
}

impl Link {
    /// Hands the stream to lettre, which says EHLO on it. The reply is ours to judge: lettre does
    /// not keep all of its lines (SIZE, DSN).
    pub async fn open(
        wire: Wire,
        control: Control,
        ehlo_name: &str,
    ) -> Result<(Self, Reply), Trouble> {
        control.expect_reply(COMMAND_PATIENCE);
        let begun = Instant::now();
        let hello = ClientId::Domain(ehlo_name.to_owned());
        let opened = AsyncSmtpConnection::connect_with_transport(Box::new(wire), &hello).await;
        let smtp = opened.map_err(|error| no_reply(Stage::Ehlo, &error, &[]))?;
        let mut link = Self { smtp, control, out_of_step: false };
        // What lettre has read so far are the wire's own words.
        let outcome = link.smtp.read_response().await;
        let reply = link.reply(Stage::Ehlo, begun, outcome.err())?;
        Ok((link, reply))
    }

    /// Whether replies and commands can still be matched.
    pub fn is_in_step(&self) -> bool {
        !self.out_of_step && !self.control.is_poisoned()
    }

    /// The connection is not to be used any more.
    pub fn give_up(&mut self) {
        self.out_of_step = true;
    }

    /// Sends a line, which must end in CRLF and hold no other, and reads the reply to it.
    pub async fn exchange(&mut self, stage: Stage, line: &str) -> Result<Reply, Trouble> {
        let patience = if stage == Stage::Data { DATA_PATIENCE } else { COMMAND_PATIENCE };
        self.control.expect_reply(patience);
        let begun = Instant::now();
        let outcome = self.smtp.command(line).await;
        self.reply(stage, begun, outcome.err())
    }

    /// Sends lines in one write, each as for [`Link::exchange`], and puts the replies into `heard`
    /// as they are read. After a 421 the server closes the connection (RFC 5321 section 3.8),
    /// whatever it was asked: it is the last then.
    pub async fn exchange_all(
        &mut self,
        lines: &[(Stage, String)],
        heard: &mut Vec<Reply>,
    ) -> Result<(), Trouble> {
        self.control.expect_reply(COMMAND_PATIENCE);
        let begun = Instant::now();
        let together: String = lines.iter().map(|(_, line)| line.as_str()).collect();
        let mut outcome = self.smtp.command(together).await;
        let mut end = 0;
        for (stage, _) in lines {
            if !heard.is_empty() {
                outcome = self.smtp.read_response().await;
            }
            let unheard = self.control.transcript_from(end);
            let Some((reply, alone)) = first_reply(&unheard) else {
                self.out_of_step = true;
                return Err(match outcome.err() {
                    Some(error) => no_reply(*stage, &error, &unheard),
                    None => Trouble::broken(*stage, "no reply"),
                });
            };
            stage.answered(begun);
            end += end_of_first(&unheard).unwrap_or_default();
            let closing = reply.code().value() == 421;
            heard.push(reply);
            if closing || (heard.len() == lines.len() && !alone) {
                self.out_of_step = true;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends the mail data, edited if there is an editor, with the final dot, and reads the reply
    /// to it.
    pub async fn mail_data(
        &mut self,
        body: Body,
        editor: Option<Editor>,
    ) -> Result<Reply, Trouble> {
        self.control.expect_reply(FINAL_PATIENCE);
        let mut source = Source::new(body, editor, self.control.clone());
        let (mut encoder, control) = (Encoder::default(), self.control.clone());
        // lettre sees empty parts, and flushes after each.
        let parts = (&mut source).map(|part| {
            control.send(encoder.encode(part));
            []
        });
        let begun = Instant::now();
        let outcome = self.smtp.message_iter::<_, [u8; 0]>(parts).await;
        if let Some(error) = source.error {
            let cause = error.to_string();
            return Err(match error.is_lost_body() {
                true => Trouble::Damaged { cause },
                false => Trouble::Unreadable { cause },
            });
        }
        // Until the source was used up, and all of it is on its way, the final dot cannot be out.
        let ended = source.exhausted && self.control.is_flushed();
        let stage = if ended { Stage::EndOfData } else { Stage::MailData };
        self.reply(stage, begun, outcome.err())
    }

    /// Says goodbye and does not wait long for an answer; a connection that is broken or being
    /// closed is only dropped.
    pub async fn quit(mut self) {
        if !self.is_in_step() {
            return;
        }
        let quit = self.exchange(Stage::Reset, "QUIT\r\n");
        let _ = tokio::time::timeout(GOODBYE_PATIENCE, quit).await;
    }

    /// Upstream's words are what counts, not what lettre made of them.
    fn reply(
        &mut self,
        stage: Stage,
        begun: Instant,
        error: Option<lettre::transport::smtp::Error>,
    ) -> Result<Reply, Trouble> {
        let transcript = self.control.take_transcript();
        if let Some((reply, alone)) = first_reply(&transcript) {
            self.out_of_step |= !alone;
            stage.answered(begun);
            return Ok(reply);
        }
        self.out_of_step = true;
        Err(match error {
            Some(error) => no_reply(stage, &error, &transcript),
            None => Trouble::broken(stage, "no reply"),
        })
    }
}

/// The first whole reply, and whether nothing stands behind it.
fn first_reply(octets: &[u8]) -> Option<(Reply, bool)> {
    let end = end_of_first(octets)?;
    Reply::parse(&octets[..end]).map(|reply| (reply, end == octets.len()))
}

/// Where the first reply ends, if it is one.
fn end_of_first(octets: &[u8]) -> Option<usize> {
    let mut end = 0;
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        end += line.len();
        let continued = line.get(3) == Some(&b'-') && line[..3].iter().all(u8::is_ascii_digit);
        if !continued && line.ends_with(b"\n") {
            return Some(end);
        }
    }
    None
}

/// Why there is no reply. lettre's own text is "network error", and the reason stands at the end
/// of the chain; of what it read, it shows the octets as they came.
fn no_reply(stage: Stage, error: &lettre::transport::smtp::Error, transcript: &[u8]) -> Trouble {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.to_string() {
        text if text == "incomplete response" => {
            Trouble::broken(stage, "the server closed the connection")
        }
        _ if error.is_response() || error.is_transient() || error.is_permanent() => {
            if transcript.is_empty() {
                return Trouble::broken(stage, "the server answered before it was asked");
            }
            // What stands behind it was said to nothing.
            let end = end_of_first(transcript).unwrap_or(transcript.len());
            Trouble::no_reply(stage, &transcript[..end])
        }
        text => Trouble::broken(stage, crate::tls::plain(&text)),
    }
}

/// The body without its final CRLF, which lettre puts before the dot by itself.
struct Source {
    chunks: Box<dyn Iterator<Item = Result<Vec<u8>, StoreError>> + Send>,
    /// It still edits, or has not been asked yet what it keeps.
    editor: Option<Editor>,
    /// Octets still to come before the last two; how many there will be of an edited body is not
    /// known before its end.
    left: Option<u64>,
    /// The last two octets, so far: they may be the final CRLF.
    tail: Vec<u8>,
    control: Control,
    exhausted: bool,
    error: Option<StoreError>,
}

impl Source {
    fn new(body: Body, editor: Option<Editor>, control: Control) -> Self {
        let left = editor.is_none().then(|| body.len().saturating_sub(2));
        let chunks = Box::new(body.chunks());
        Self { chunks, editor, left, tail: Vec::new(), control, exhausted: false, error: None }
    }

    /// The next octets as they go upstream, the final CRLF among them.
    fn edited(&mut self) -> Option<Result<Vec<u8>, StoreError>> {
        let Some(editor) = &mut self.editor else { return self.chunks.next() };
        match self.chunks.next() {
            Some(Ok(chunk)) => Some(Ok(editor.push(chunk))),
            None => self.editor.take().map(|mut editor| Ok(editor.finish())),
            error => error,
        }
    }

    fn before_the_last_two(&mut self, mut chunk: Vec<u8>) -> Vec<u8> {
        if let Some(left) = &mut self.left {
            let now = chunk.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= now as u64;
            self.tail.extend_from_slice(&chunk[now..]);
            chunk.truncate(now);
            return chunk;
        }
        let mut octets = std::mem::take(&mut self.tail);
        octets.append(&mut chunk);
        self.tail = octets.split_off(octets.len().saturating_sub(2));
        octets
    }
}

impl Iterator for &mut Source {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        while let Some(chunk) = self.edited() {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.control.poison();
                    self.error = Some(error);
                    return None;
                }
            };
            let octets = self.before_the_last_two(chunk);
            if !octets.is_empty() {
                return Some(octets);
            }
        }
        let tail = std::mem::take(&mut self.tail);
        if tail.is_empty() || tail == b"\r\n" {
            self.exhausted = true;
            return None;
        }
        Some(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::rewrite::Rewriting;

    fn sent(body: &[u8]) -> Vec<u8> {
        let mut source = Source::new(Body::of(body), None, Control::default());
        let sent = (&mut source).flatten().collect();
        assert!(source.exhausted);
        sent
    }

    #[test]
    fn the_final_crlf_is_left_to_lettre_and_nothing_else() {
        assert_eq!(sent(b"a\r\n"), b"a");
        assert_eq!(sent(b"a\r\n\r\n"), b"a\r\n");
        assert_eq!(sent(b"\r\n"), b"");
        assert_eq!(sent(b"no line end"), b"no line end");
        assert_eq!(sent(b"x"), b"x");
    }

    #[test]
    fn an_edited_body_goes_whole_up_to_its_final_crlf() {
        let mailbox = "relay@contoso.com".parse().ok();
        let rewriting = Rewriting { mailbox, ..Rewriting::default() };
        let sent = |body: &[u8]| {
            let editor = Some(Editor::new(rewriting.clone()));
            let mut source = Source::new(Body::of(body), editor, Control::default());
            let sent: Vec<u8> = (&mut source).flatten().collect();
            assert!(source.exhausted);
            String::from_utf8(sent).unwrap()
        };
        let edited = "From: relay@contoso.com\r\nReply-To: a@b\r\nX-Original-From: a@b";
        assert_eq!(sent(b"From: a@b\r\n"), edited);
        assert_eq!(sent(b"From: a@b\r\n\r\n"), format!("{edited}\r\n"));
        assert_eq!(sent(b"From: a@b\r\n\r\nx\r\n"), format!("{edited}\r\n\r\nx"));
    }

    #[test]
    fn a_body_that_cannot_be_read_is_never_taken_for_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("body");
        let expected = vec![b'x'; 200_000];
        let mut changed = expected.clone();
        changed[5] = b'y';
        for found in [&expected[..100_000], &changed] {
            std::fs::write(&path, found).unwrap();
            let control = Control::default();
            let body = Body::of_file(&path, &expected).unwrap();
            let mut source = Source::new(body, None, control.clone());
            let sent: usize = (&mut source).map(|chunk| chunk.len()).sum();
            assert!(sent < 199_998 && !source.exhausted && control.is_poisoned());
            assert!(source.error.is_some_and(|error| error.is_lost_body()));
        }
    }

    #[test]
    fn a_reply_with_something_behind_it_is_told_apart() {
        let (reply, alone) = first_reply(b"250-a\r\n250 b\r\n").unwrap();
        assert_eq!((reply.text().as_str(), alone), ("a b", true));
        let (reply, alone) = first_reply(b"250 ok\r\n421 4.3.2 closing\r\n").unwrap();
        assert_eq!((reply.code().value(), alone), (250, false));
        assert!(first_reply(b"250-a\r\n").is_none());
        assert!(first_reply(b"250 cut o").is_none());
        assert!(first_reply(b"").is_none());
    }
}
