//! The smarthost: logging in with XOAUTH2, mail transactions, one verdict a recipient.

mod announce;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::{
    Config, NullSender,
    connect::{connect, expect},
    link::Link,
    trouble::{Stage, Trouble},
    wire::Control,
};
use crate::{
    mail::rewrite::{Editor, Rewriting},
    smtp::reply::Reply,
    store::{Body, Entry, PendingRecipient},
    token::AccessToken,
};

/// Where mail goes. Connections are made one by one; how many is for the queue to say.
#[derive(Debug, Clone)]
pub struct Smarthost {
    config: Config,
}

/// A connection that is logged in as one mailbox.
pub struct Connection {
    link: Link,
    mailbox: String,
    offers: Offers,
    null_sender: NullSender,
    /// Mail transactions that this connection may still carry.
    left: u32,
    /// The last transaction did not end with a 250, so RSET comes before the next.
    unfinished: bool,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Upstream has taken the message for it.
    Relayed(Taken),
    /// Upstream said no.
    Refused(Stage, Reply),
    /// The final dot was sent and no reply came: nobody knows.
    Uncertain(String),
}

/// Upstream's 2yz to the final dot. Its field is private to this module, where one is made as
/// that reply is read: nothing else can stand for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    reply: Reply,
}

impl Taken {
    /// Upstream's words.
    #[must_use]
    pub fn reply(&self) -> &Reply {
        &self.reply
    }
}

/// For whom a message may go upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// For those whom upstream accepts; the others are tried again or fail by themselves.
    Accepted,
    /// For all or for nobody: one reply has to hold for all of them.
    All,
}

impl Smarthost {
    /// A smarthost; connects to nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Stage::know();
        Self { config }
    }

    /// How connections are kept.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Connects, secures and logs in.
    ///
    /// # Errors
    /// [`Trouble`] of a stage up to AUTH, which is never a message's fault.
    pub async fn connect(&self, mailbox: &str, token: &AccessToken) -> Result<Connection, Trouble> {
        let (mut link, offers) = self.open().await?;
        authenticate(&mut link, &offers, mailbox, token).await?;
        Ok(Connection {
            link,
            mailbox: mailbox.to_owned(),
            offers,
            null_sender: self.config.null_sender,
            left: self.config.max_messages_per_connection,
            unfinished: false,
        })
    }

    /// Connects, secures and says goodbye, without a login: tells whether XOAUTH2 is offered.
    ///
    /// # Errors
    /// [`Trouble`] of a stage before AUTH.
    pub async fn offers_xoauth2(&self) -> Result<bool, Trouble> {
        let (link, offers) = self.open().await?;
        link.quit().await;
        Ok(offers.xoauth2)
    }

    async fn open(&self) -> Result<(Link, Offers), Trouble> {
        let control = Control::default();
        let wire = connect(&self.config, control.clone()).await?;
        let (link, offers) = Link::open(wire, control, &self.config.ehlo_name).await?;
        match expect(Stage::Ehlo, 250, offers) {
            Ok(offers) => Ok((link, Offers::read(&offers))),
            Err(refused) => {
                link.quit().await;
                Err(refused)
            }
        }
    }
}

/// AUTH XOAUTH2 in two steps: a token does not fit into a command line of 512 octets (RFC 4954
/// section 4), and servers exist that break on it.
async fn authenticate(
    link: &mut Link,
    offers: &Offers,
    mailbox: &str,
    token: &AccessToken,
) -> Result<(), Trouble> {
    let stage = Stage::Auth;
    if !offers.xoauth2 {
        let reply =
            Reply::new(504, (5, 7, 4), "the server's EHLO reply does not offer AUTH XOAUTH2");
        return Err(Trouble::Refused { stage, reply });
    }
    expect(stage, 334, link.exchange(stage, "AUTH XOAUTH2\r\n").await?)?;
    let response = format!("user={mailbox}\u{1}auth=Bearer {}\u{1}\u{1}", token.secret());
    let reply = link.exchange(stage, &format!("{}\r\n", BASE64.encode(response))).await?;
    if reply.code().value() != 334 {
        return expect(stage, 235, reply).map(|_| ());
    }
    // A refusal may come as a challenge with JSON first; an empty line asks for the real reply.
    let challenge =
        BASE64.decode(reply.text()).map(|json| String::from_utf8_lossy(&json).into_owned());
    let reply = link.exchange(stage, "\r\n").await?;
    let reply = reply.with_line(challenge.unwrap_or_default());
    expect(stage, 235, reply).map(|_| ())
}

/// What upstream's EHLO reply offers, as far as we use it.
#[derive(Debug, Default)]
struct Offers {
    size: Option<u64>,
    eight_bit_mime: bool,
    smtputf8: bool,
    dsn: bool,
    pipelining: bool,
    xoauth2: bool,
}

impl Offers {
    fn read(reply: &Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines().skip(1) {
            let line = line.to_ascii_uppercase();
            let mut words = line.split([' ', '=']);
            match words.next() {
                Some("SIZE") => offers.size = words.next().and_then(|n| n.parse().ok()),
                Some("8BITMIME") => offers.eight_bit_mime = true,
                Some("SMTPUTF8") => offers.smtputf8 = true,
                Some("DSN") => offers.dsn = true,
                Some("PIPELINING") => offers.pipelining = true,
                Some("AUTH") => offers.xoauth2 |= words.any(|word| word == "XOAUTH2"),
                _ => {}
            }
        }
        offers
    }

    /// Why upstream cannot take this message, where its EHLO reply says so already.
    fn objection(&self, entry: &Entry) -> Option<Reply> {
        if let Some(limit) = self.size.filter(|limit| *limit > 0 && entry.size > *limit) {
            let text =
                format!("message of {} octets exceeds upstream's limit of {limit}", entry.size);
            return Some(Reply::new(552, (5, 3, 4), text));
        }
        if entry.parameters.smtputf8 && !self.smtputf8 {
            let text = "message needs SMTPUTF8, which upstream does not offer";
            return Some(Reply::new(550, (5, 6, 7), text));
        }
        None
    }
}

impl Connection {
    /// Whether another message may go over this connection.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.left > 0 && self.link.is_in_step()
    }

    /// Whether upstream reports the success that a NOTIFY parameter asked for (RFC 3461).
    #[must_use]
    pub fn reports_success(&self) -> bool {
        self.offers.dsn
    }

    /// Runs one mail transaction. There is a verdict for each recipient of the entry, by place.
    /// With [`Share::All`] a refused recipient keeps the mail data from being sent; those whom
    /// upstream had accepted have no verdict then, as nothing has become of them.
    ///
    /// # Errors
    /// [`Trouble`] if the connection broke before the final dot, or the body could not be read;
    /// nothing has been relayed then, and the connection must be dropped.
    pub async fn send(
        &mut self,
        entry: &Entry,
        body: Body,
        share: Share,
    ) -> Result<Vec<(u32, Verdict)>, Trouble> {
        self.send_as(&Rewriting::default(), entry, body, share).await
    }

    /// As [`Connection::send`], with another sender in the envelope and in the header section.
    ///
    /// # Errors
    /// As for [`Connection::send`].
    pub async fn send_as(
        &mut self,
        rewriting: &Rewriting,
        entry: &Entry,
        body: Body,
        share: Share,
    ) -> Result<Vec<(u32, Verdict)>, Trouble> {
        if let Some(objection) = self.offers.objection(entry) {
            return Ok(refused(&entry.recipients, Stage::Mail, &objection));
        }
        if std::mem::replace(&mut self.unfinished, true) {
            expect(Stage::Reset, 250, self.link.exchange(Stage::Reset, "RSET\r\n").await?)?;
        }
        self.left = self.left.saturating_sub(1);
        let reverse_path = rewriting.reverse_path(&entry.reverse_path);
        let (accepted, mut verdicts) = self.announce(entry, &reverse_path).await?;
        if accepted.is_empty() || (share == Share::All && !verdicts.is_empty()) {
            return Ok(verdicts);
        }
        let reply = self.exchange(Stage::Data, "DATA\r\n").await?;
        if reply.code().value() != 354 {
            let refusals = accepted
                .iter()
                .map(|position| (*position, Verdict::Refused(Stage::Data, reply.clone())));
            verdicts.extend(refusals);
            return Ok(verdicts);
        }
        let editor = (!rewriting.is_idle()).then(|| Editor::new(rewriting.clone()));
        let verdict = self.end_of_data(body, editor).await?;
        verdicts.extend(accepted.iter().map(|position| (*position, verdict.clone())));
        Ok(verdicts)
    }

    /// Sends a line and reads the reply to it. With a 421 the server closes the connection
    /// (RFC 5321 section 3.8), whatever it was asked.
    async fn exchange(&mut self, stage: Stage, line: &str) -> Result<Reply, Trouble> {
        let reply = self.link.exchange(stage, line).await?;
        self.heed(&reply);
        Ok(reply)
    }

    fn heed(&mut self, reply: &Reply) {
        if reply.code().value() == 421 {
            self.link.give_up();
        }
    }

    async fn end_of_data(
        &mut self,
        body: Body,
        editor: Option<Editor>,
    ) -> Result<Verdict, Trouble> {
        let outcome = self.link.mail_data(body, editor).await;
        if let Ok(reply) = &outcome {
            self.heed(reply);
        }
        match outcome {
            Ok(reply) if reply.code().is_success() => {
                self.unfinished = false;
                Ok(Verdict::Relayed(Taken { reply }))
            }
            Ok(reply) => Ok(Verdict::Refused(Stage::EndOfData, reply)),
            Err(Trouble::Broken { stage: Stage::EndOfData, cause }) => {
                Stage::EndOfData.failed();
                Ok(Verdict::Uncertain(cause))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Says goodbye and does not wait long for an answer; a connection that is broken or being
    /// closed is only dropped.
    pub async fn quit(self) {
        self.link.quit().await;
    }
}

fn refused(recipients: &[PendingRecipient], stage: Stage, reply: &Reply) -> Vec<(u32, Verdict)> {
    let verdict =
        |recipient: &PendingRecipient| (recipient.position, Verdict::Refused(stage, reply.clone()));
    recipients.iter().map(verdict).collect()
}
