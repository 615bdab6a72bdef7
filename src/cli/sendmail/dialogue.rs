//! The client's side of an SMTP session (RFC 5321), with whoever takes the message: the running
//! relay, or its store in this process.

use std::{fmt::Write, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    time::timeout,
};

use super::super::exit::Failure;
use crate::smtp::mail_data::Encoder;

/// In direct mode the answer comes after `queue.direct_wait` and upstream's own.
const PATIENCE: Duration = Duration::from_secs(600);

/// Replies are short; whoever sends more is no SMTP server.
const MAX_LINE: usize = 64 * 1024;

/// What is said of a message besides its addresses.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub notify: Option<String>,
    pub ret: Option<&'static str>,
    pub envelope_id: Option<String>,
}

/// A message on its way.
pub(super) struct Message<'a> {
    /// In the order in which they are tried: the next one, if the first has no domain and the relay
    /// has none for it.
    pub reverse_paths: &'a [String],
    pub recipients: &'a [String],
    /// With CRLF at the end of each line.
    pub data: &'a [u8],
    pub wishes: &'a Wishes,
}

pub(super) struct Dialogue<S> {
    stream: BufReader<S>,
    offers: Vec<String>,
    verbose: bool,
}

struct Reply {
    code: u16,
    text: String,
}

impl Reply {
    fn is(&self, code: u16) -> bool {
        self.code == code
    }

    /// An enhanced code of the class of rights (RFC 3463: x.7.z).
    fn is_about_rights(&self) -> bool {
        self.text.starts_with("5.7.")
    }

    fn failure(&self, what: &str, permanent: fn(String) -> Failure) -> Failure {
        let message = format!("{what}: {} {}", self.code, self.text);
        match self.code {
            400..=499 => Failure::try_later(message),
            _ if self.is_about_rights() => Failure::permission(message),
            _ => permanent(message),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    /// Waits for the greeting and says who we are.
    pub async fn begin(stream: S, hello: &str, verbose: bool) -> Result<Self, Failure> {
        let mut dialogue = Self { stream: BufReader::new(stream), offers: Vec::new(), verbose };
        let greeting = dialogue.reply().await?;
        if !greeting.is(220) {
            return Err(greeting.failure("the relay takes no mail from here", Failure::unavailable));
        }
        let reply = dialogue.say(&format!("EHLO {hello}")).await?;
        if !reply.is(250) {
            return Err(reply.failure("the relay does not answer EHLO", Failure::unavailable));
        }
        dialogue.offers = reply.text.lines().skip(1).map(str::to_ascii_uppercase).collect();
        Ok(dialogue)
    }

    /// Sends a message to all recipients, or to none where one is refused. Where there are more
    /// than the relay takes at a time, it is sent several times.
    pub async fn send(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        let mut left = message.recipients;
        while !left.is_empty() {
            let accepted = self.transaction(message, left).await?;
            left = left.get(accepted..).unwrap_or_default();
        }
        let _ = self.say("QUIT").await; // the message is taken, whatever becomes of this
        Ok(())
    }

    /// How many of the recipients it was for.
    async fn transaction(
        &mut self,
        message: &Message<'_>,
        to: &[String],
    ) -> Result<usize, Failure> {
        self.mail(message, to).await?;
        let mut accepted = 0;
        for recipient in to {
            let mut command = format!("RCPT TO:<{recipient}>");
            if let Some(notify) = message.wishes.notify.as_ref().filter(|_| self.offers("DSN")) {
                command.push_str(" NOTIFY=");
                command.push_str(notify);
            }
            let reply = self.say(&command).await?;
            match reply.code {
                200..=299 => accepted += 1,
                452 if accepted > 0 => break,
                _ => {
                    let what = format!("the relay refused the recipient {recipient}");
                    return Err(reply.failure(&what, Failure::no_user));
                }
            }
        }
        let reply = self.say("DATA").await?;
        if !reply.is(354) {
            return Err(reply.failure("the relay refused the message", Failure::unavailable));
        }
        self.write(&Encoder::default().encode(message.data.to_vec())).await?;
        self.write(b".\r\n").await?;
        let reply = self.reply().await?;
        match reply.is(250) {
            true => Ok(accepted),
            false => Err(reply.failure("the relay refused the message", Failure::unavailable)),
        }
    }

    async fn mail(&mut self, message: &Message<'_>, to: &[String]) -> Result<(), Failure> {
        let mut parameters = String::new();
        if !message.data.is_ascii() && self.offers("8BITMIME") {
            parameters.push_str(" BODY=8BITMIME");
        }
        let named = message.reverse_paths.iter().chain(to);
        if named.clone().any(|address| !address.is_ascii()) && self.offers("SMTPUTF8") {
            parameters.push_str(" SMTPUTF8");
        }
        if self.offers("DSN") {
            if let Some(ret) = message.wishes.ret {
                let _ = write!(parameters, " RET={ret}");
            }
            if let Some(id) = &message.wishes.envelope_id {
                let _ = write!(parameters, " ENVID={}", xtext(id));
            }
        }
        let mut refusal = None;
        for path in message.reverse_paths {
            let reply = self.say(&format!("MAIL FROM:<{path}>{parameters}")).await?;
            if reply.is(250) {
                return Ok(());
            }
            let what = format!("the relay refused the sender {path}");
            let no_domain = reply.is(553) || reply.is(501);
            refusal = Some(reply.failure(&what, Failure::unavailable));
            if !no_domain {
                break;
            }
        }
        Err(refusal.unwrap_or_else(|| Failure::usage("no sender")))
    }

    fn offers(&self, keyword: &str) -> bool {
        self.offers.iter().any(|line| line.split(' ').next() == Some(keyword))
    }

    async fn say(&mut self, command: &str) -> Result<Reply, Failure> {
        if self.verbose {
            eprintln!(">>> {command}");
        }
        self.write(format!("{command}\r\n").as_bytes()).await?;
        self.reply().await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<(), Failure> {
        let write = async {
            self.stream.get_mut().write_all(octets).await?;
            self.stream.get_mut().flush().await
        };
        match timeout(PATIENCE, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(lost(&error.to_string())),
            Err(_) => Err(lost("it does not read")),
        }
    }

    async fn reply(&mut self) -> Result<Reply, Failure> {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = self.stream.read_until(b'\n', &mut line);
            match timeout(PATIENCE, read).await {
                Ok(Ok(0)) => return Err(lost("it hung up")),
                Ok(Ok(_)) if line.len() < MAX_LINE => {}
                Ok(Ok(_)) => return Err(lost("it is no SMTP server")),
                Ok(Err(error)) => return Err(lost(&error.to_string())),
                Err(_) => return Err(lost("it does not answer")),
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if self.verbose {
                eprintln!("{line}");
            }
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else { return Err(lost("it is no SMTP server")) };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text: lines.join("\n") });
            }
        }
    }
}

fn lost(why: &str) -> Failure {
    Failure::try_later(format!("no answer from the relay: {why}; the message was not sent"))
}

/// RFC 3461 section 4.
fn xtext(text: &str) -> String {
    let octet = |octet: u8| match octet {
        b'!'..=b'~' if octet != b'+' && octet != b'=' => char::from(octet).to_string(),
        other => format!("+{other:02X}"),
    };
    text.bytes().map(octet).collect()
}
