//! What each SMTP command does and how it is answered. No socket here: lines come in, replies
//! pile up in `replies` until the connection sends them.

mod auth;

use std::{borrow::Cow, io::Write as _, net::SocketAddr, sync::Arc};

pub(super) use self::auth::Mechanism;
use super::{
    Arrival, Event, ForwardPath,
    command::{self, Verb},
    faults::{Stage, Strike},
    header::Header,
    mail_data::MailData,
    random,
    tenant::{Login, Tenant},
    verdict::{self, Verdict},
};

/// The server's side of one connection.
pub(super) struct Session {
    /// Replies that have not been sent yet.
    pub replies: Vec<u8>,
    tenant: Arc<Tenant>,
    peer: SocketAddr,
    id: String,
    secured: bool,
    /// STARTTLS was not offered, so it is not known either.
    starttls_hidden: bool,
    xoauth2_hidden: bool,
    greeting: Option<Greeting>,
    login: Option<Login>,
    transaction: Option<Transaction>,
}

struct Greeting {
    name: String,
    extended: bool,
}

struct Transaction {
    mail: command::Mail,
    forward_paths: Vec<ForwardPath>,
}

/// What the connection has to do after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the next command.
    Command,
    /// Read the answer to a 334.
    AuthResponse(Mechanism),
    /// Begin TLS.
    Upgrade,
    /// Read mail data.
    MailData,
    /// Wait for mail data to begin, then drop the connection.
    BreakOff,
    /// Close the connection.
    Close,
    /// Drop it without a word.
    Drop,
}

type Outcome = Result<Step, Cow<'static, str>>;

impl Session {
    /// A session that has not greeted yet.
    pub fn new(tenant: Arc<Tenant>, peer: SocketAddr) -> Self {
        Self {
            replies: Vec::with_capacity(512),
            tenant,
            peer,
            id: random::trace_id(),
            secured: false,
            starttls_hidden: false,
            xoauth2_hidden: false,
            greeting: None,
            login: None,
            transaction: None,
        }
    }

    /// The first words.
    pub fn greet(&mut self) -> Step {
        if let Err(reply) = self.fault(Stage::Greeting, &[]) {
            return self.refused("greeting", &reply);
        }
        let (date, id) = (self.tenant.now().rfc5322(), self.id.clone());
        self.reply(&format!("220 {HOST} Microsoft ESMTP MAIL Service ready at {date} [{id}]"));
        Step::Command
    }

    /// The fault that strikes the TLS handshake.
    pub fn handshake_fault(&self) -> Option<Strike> {
        self.tenant.strike(Stage::SmtpHandshake, &[])
    }

    /// After the TLS handshake everything begins anew (RFC 3207 section 4.2).
    pub fn secure(&mut self) {
        self.secured = true;
        self.greeting = None;
        self.transaction = None;
        self.tenant.emit(Event::Connected { peer: self.peer, secured: true });
    }

    /// An empty message, for what follows 354.
    pub fn new_message(&self) -> MailData {
        verdict::new_message(&self.tenant)
    }

    /// Executes one command line.
    pub fn command(&mut self, line: &[u8]) -> Step {
        let (verb, argument) = match command::split(line) {
            Ok(parts) => parts,
            Err(reply) => {
                // What the client sent may be a stray token: it is not repeated.
                self.refuse("unknown command", reply);
                return Step::Command;
            }
        };
        let outcome = match verb {
            Verb::Ehlo | Verb::Helo => self.hello(argument, verb == Verb::Ehlo),
            Verb::StartTls => self.start_tls(argument),
            Verb::Auth => self.auth(argument),
            Verb::Mail => self.mail(argument),
            Verb::Rcpt => self.rcpt(argument),
            Verb::Data => self.data(argument),
            Verb::Rset | Verb::Noop | Verb::Vrfy | Verb::Help | Verb::Quit => {
                self.simple(verb, argument)
            }
        };
        outcome.unwrap_or_else(|reply| self.refused(verb.name(), &reply))
    }

    fn hello(&mut self, argument: Option<&str>, extended: bool) -> Outcome {
        let name = argument
            .filter(|name| command::is_client_name(name))
            .ok_or("501 5.5.4 Invalid domain name")?;
        self.transaction = None;
        self.greeting = Some(Greeting { name: name.to_owned(), extended });
        let hello = format!("{HOST} Hello [{}]", self.peer.ip().to_canonical());
        if !extended {
            self.reply(&format!("250 {hello}"));
            return Ok(Step::Command);
        }
        let size = format!("SIZE {}", self.tenant.config.max_message_size);
        self.starttls_hidden = !self.secured && self.tenant.strike(Stage::Ehlo, &[]).is_some();
        self.xoauth2_hidden = self.secured && self.tenant.strike(Stage::SecuredEhlo, &[]).is_some();
        let door = match (self.secured, self.starttls_hidden) {
            (true, _) if self.xoauth2_hidden => Some("AUTH LOGIN"),
            (true, _) => Some("AUTH LOGIN XOAUTH2"),
            (false, hidden) => (!hidden).then_some("STARTTLS"),
        };
        let offers = [&hello, &size, "PIPELINING", "DSN", "ENHANCEDSTATUSCODES"];
        for offer in offers.into_iter().chain(door).chain(["8BITMIME"]) {
            self.reply(&format!("250-{offer}"));
        }
        self.reply("250 SMTPUTF8");
        Ok(Step::Command)
    }

    fn start_tls(&mut self, argument: Option<&str>) -> Outcome {
        self.need_extended_greeting()?;
        none_expected(argument)?;
        if self.starttls_hidden {
            return Err(command::UNRECOGNIZED.into());
        }
        if self.secured {
            return Err("503 5.5.2 Only one STARTTLS command can be issued per session".into());
        }
        self.fault(Stage::StartTls, &[])?;
        self.reply("220 2.0.0 SMTP server ready");
        Ok(Step::Upgrade)
    }

    fn mail(&mut self, argument: Option<&str>) -> Outcome {
        self.need_greeting()?;
        if self.login.is_none() {
            return Err("530 5.7.57 Client not authenticated to send mail.".into());
        }
        if self.transaction.is_some() {
            return Err("503 5.5.2 Sender already specified".into());
        }
        let mail = command::mail(argument, self.tenant.config.max_message_size)?;
        self.fault(Stage::Mail, &[])?;
        self.transaction = Some(Transaction { mail, forward_paths: Vec::new() });
        self.reply("250 2.1.0 Sender OK");
        Ok(Step::Command)
    }

    fn rcpt(&mut self, argument: Option<&str>) -> Outcome {
        self.need_greeting()?;
        let most = self.tenant.config.max_recipients;
        let transaction = self.transaction.as_ref().ok_or("503 5.5.2 Need mail command")?;
        let rcpt = command::rcpt(argument, transaction.mail.smtputf8)?;
        if transaction.forward_paths.len() >= most {
            return Err("452 4.5.3 Too many recipients".into());
        }
        self.fault(Stage::Rcpt, &[&rcpt.forward_path])?;
        let command::Rcpt { forward_path: address, parameters } = rcpt;
        if let Some(transaction) = &mut self.transaction {
            transaction.forward_paths.push(ForwardPath { address, parameters });
        }
        self.reply("250 2.1.5 Recipient OK");
        Ok(Step::Command)
    }

    fn data(&mut self, argument: Option<&str>) -> Outcome {
        self.need_greeting()?;
        none_expected(argument)?;
        let transaction = self.transaction.as_ref().ok_or("503 5.5.2 Need mail command")?;
        if transaction.forward_paths.is_empty() {
            return Err("503 5.5.2 Need rcpt command".into());
        }
        if !self.login.as_ref().is_some_and(Login::may_submit) {
            self.transaction = None;
            return Err(TOO_MANY_CONNECTIONS.into());
        }
        if let Err(reply) = self.fault(Stage::Data, &[]) {
            self.transaction = None;
            return Err(reply);
        }
        let step = match self.tenant.strike(Stage::MailData, &[]) {
            None => Step::MailData,
            Some(_) => Step::BreakOff,
        };
        self.reply("354 Start mail input; end with <CRLF>.<CRLF>");
        Ok(step)
    }

    fn simple(&mut self, verb: Verb, argument: Option<&str>) -> Outcome {
        if !matches!(verb, Verb::Noop | Verb::Vrfy | Verb::Help) {
            none_expected(argument)?;
        }
        self.reply(match verb {
            Verb::Rset => "250 2.0.0 Resetting",
            Verb::Vrfy => "252 2.1.5 Cannot VRFY user",
            Verb::Help => "214 2.0.0 This is a test double of Office 365: see o365-relay sandbox",
            Verb::Quit => "221 2.0.0 Service closing transmission channel",
            _ => "250 2.0.0 OK",
        });
        match verb {
            Verb::Rset => self.transaction = None,
            Verb::Quit => {
                // Before the client can read the 221, its place is free for another connection.
                self.login = None;
                return Ok(Step::Close);
            }
            _ => {}
        }
        Ok(Step::Command)
    }

    /// Judges a message that has been read to its end, and answers.
    pub async fn message(&mut self, data: MailData) -> Step {
        let (Some(transaction), Some(login)) = (self.transaction.take(), &self.login) else {
            return Step::Command; // no 354 went out without both
        };
        let verdict = self.take_in(login, transaction, data).await;
        if let Some(strike) = self.tenant.strike(Stage::FinalReply, &[]) {
            tokio::time::sleep(strike.time()).await;
        }
        match verdict {
            Verdict::Taken(reply) => self.reply(&reply),
            Verdict::Refused(reply) => return self.refused(MAIL_DATA, &reply),
            Verdict::Drop => {
                self.note(MAIL_DATA, "connection dropped at the final dot".into());
                return Step::Drop;
            }
        }
        Step::Command
    }

    async fn take_in(&self, login: &Login, transaction: Transaction, data: MailData) -> Verdict {
        let header = Header::read(data.octets());
        let reverse_path = &transaction.mail.reverse_path;
        if let Err(verdict) = verdict::judge(&self.tenant, login, reverse_path, &data, &header) {
            return verdict;
        }
        let arrival = Arrival {
            number: 0, // given by Arrivals::add
            arrived_at: self.tenant.now(),
            authenticated_as: login.mailbox().to_owned(),
            helo: self.greeting.as_ref().map(|greeting| greeting.name.clone()).unwrap_or_default(),
            reverse_path: transaction.mail.reverse_path,
            mail_parameters: transaction.mail.parameters,
            forward_paths: transaction.forward_paths,
            size: data.size(),
            mail_data: None,
            subject: header.subject,
            from: header.from,
            message_id: header.message_id,
        };
        let arrival = match self.tenant.arrivals.add(arrival, data.into_octets()).await {
            Ok(arrival) => arrival,
            Err(error) => {
                tracing::error!(%error, "sandbox could not save an arrival");
                return Verdict::Refused(
                    "451 4.7.0 Temporary server error. Please try again later.".into(),
                );
            }
        };
        let (verdict, reply) = match self.tenant.strike(Stage::Taken, &[]) {
            None => {
                let reply = verdict::accepted(&arrival);
                (Verdict::Taken(reply.clone()), reply)
            }
            Some(_) => (Verdict::Drop, "nothing: the connection is dropped".to_owned()),
        };
        self.tenant.emit(Event::Arrived { arrival, reply });
        verdict
    }

    /// The refusal of the fault that strikes at `stage`, if one does.
    fn fault(&self, stage: Stage, subjects: &[&str]) -> Result<(), Cow<'static, str>> {
        match self.tenant.strike(stage, subjects).and_then(|strike| strike.refusal()) {
            None => Ok(()),
            Some(reply) => Err(reply.into()),
        }
    }

    /// Refuses a command; RFC 5321 section 4.2.2 has the connection closed after a 421.
    fn refused(&mut self, command: &str, reply: &str) -> Step {
        self.refuse(command, reply);
        if reply.starts_with("421 ") { Step::Close } else { Step::Command }
    }

    fn need_greeting(&self) -> Result<(), Cow<'static, str>> {
        self.greeting.as_ref().map(|_| ()).ok_or(Cow::Borrowed(NO_GREETING))
    }

    fn need_extended_greeting(&self) -> Result<(), Cow<'static, str>> {
        let greeted = self.greeting.as_ref().is_some_and(|greeting| greeting.extended);
        greeted.then_some(()).ok_or(Cow::Borrowed(NO_GREETING))
    }

    /// Refuses a command; the tail is what Microsoft's support would trace it by.
    pub fn refuse(&mut self, command: &str, reply: &str) {
        let time = self.tenant.now().timestamp().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let reply = format!("{reply} [{HOST} {time} {}]", self.id);
        self.reply(&reply);
        self.tenant.emit(Event::Refused { command: command.to_owned(), reply });
    }

    /// Notes what went wrong where no reply can be sent.
    pub fn note(&self, stage: &str, what: String) {
        self.tenant.emit(Event::Refused { command: stage.to_owned(), reply: what });
    }

    fn reply(&mut self, line: &str) {
        let _ = write!(self.replies, "{line}\r\n"); // writing to memory does not fail
    }
}

fn none_expected(argument: Option<&str>) -> Result<(), Cow<'static, str>> {
    argument.map_or(Ok(()), |_| Err(command::INVALID_ARGUMENTS.into()))
}

/// The stage after DATA, in events.
pub(super) const MAIL_DATA: &str = "mail data";
/// The name that this server goes by in its replies.
pub(super) const HOST: &str = "SB0P000CA0001.outlook.sandbox.example";
/// More connections of one mailbox than may submit at a time.
pub(super) const TOO_MANY_CONNECTIONS: &str = "432 4.3.2 Concurrent connections limit exceeded. \
                                               Visit https://aka.ms/concurrent_sending for more \
                                               information.";
const NO_GREETING: &str = "503 5.5.2 Send hello first";
