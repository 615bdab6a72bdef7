//! The server side of a session as one machine: octets in, steps out. It does no IO; the
//! listener reads the socket, carries out each step and writes the replies. The code that
//! answers DATA is here: [`Server::advance`] up to 354, `Server::receive` to the final dot; BDAT
//! goes on in `server/chunks.rs`.

mod chunks;

use secrecy::zeroize::Zeroizing;

use super::{
    auth::{self, Credentials, Exchange, MAX_RESPONSE, Turn, Verdict},
    command::{self, CommandFault, CommandRules},
    envelope::Envelope,
    line::{Line, LineBuffer, MAX_COMMAND_LINE},
    mail_data::{BareLineFeed, Decoder},
    peer::{Channel, Peer},
    reply::Reply,
    session::{Answer, Login, Rules, Session, too_large},
};
use chunks::{Chunk, Chunks};

/// What the listener does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// All input is used up: send what is waiting, then read more.
    NeedInput,
    /// Queue this reply and go on.
    Reply(Reply),
    /// Send this reply and close.
    Close(Reply),
    /// A mail transaction has its envelope: begin a draft and queue [`Server::start_mail_input`].
    BeginMailData(Box<Envelope>),
    /// A mail transaction has its envelope, and its first chunk comes: begin a draft.
    BeginChunks(Box<Envelope>),
    /// Mail data was appended to `data`; more is to come.
    MailData,
    /// The rest of a chunk was appended to `data`; queue this reply. Another chunk is to come.
    EndOfChunk(Reply),
    /// The last mail data was appended to `data`: commit, then reply.
    EndOfMailData,
    /// Send this reply, shake hands, and say so with [`Server::secured`]. No octet that came before
    /// the handshake may be read as a command after it.
    StartTls(Reply),
    /// Find out whether the password is right, and say so with [`Server::resume`].
    Authenticate(Credentials),
    /// Mail data cannot be accepted, or the client has given it up between two chunks: drop the
    /// draft, if there is one, and queue this reply.
    RefusedMailData(Reply),
}

/// One session: framing, order of commands, mail data, faults.
#[derive(Debug)]
pub struct Server {
    rules: std::sync::Arc<Rules>,
    session: Session,
    lines: LineBuffer,
    receiving: Option<Receiving>,
    chunks: Chunks,
    /// A login waits for its next response.
    exchange: Option<Exchange>,
    /// The user whose password is being looked at.
    verifying: Option<String>,
    /// What to say next, before any more input is looked at.
    waiting: Option<Step>,
    read_secret: bool,
    faults: u32,
    limit_met: Option<LimitMet>,
}

/// A limit that a reply is about, where its codes do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitMet {
    /// A command line or a response of a login is too long.
    LineLength,
    /// Too many logins of this client have failed.
    FailedLogins,
}

/// Octets that are no commands.
#[derive(Debug)]
enum Receiving {
    /// Mail data up to the final dot.
    Text(Text),
    /// What a BDAT has announced.
    Chunk(Chunk),
}

#[derive(Debug, Default)]
struct Text {
    decoder: Decoder,
    size: u64,
    oversize: bool,
}

impl Server {
    /// A session that has not begun, with a client that came by `channel`.
    #[must_use]
    pub fn new(rules: std::sync::Arc<Rules>, channel: Channel) -> Self {
        Self {
            rules,
            session: Session::begin(channel),
            lines: LineBuffer::default(),
            receiving: None,
            chunks: Chunks::default(),
            exchange: None,
            verifying: None,
            waiting: None,
            read_secret: false,
            faults: 0,
            limit_met: None,
        }
    }

    /// 220, the first line of the session.
    #[must_use]
    pub fn greeting(&self) -> Reply {
        Reply::plain(220, vec![format!("{} ESMTP o365-relay", self.rules.hostname).into()])
    }

    /// 354, after which mail data comes.
    #[must_use]
    pub fn start_mail_input() -> Reply {
        Reply::plain(354, vec!["start mail input; end with <CRLF>.<CRLF>".into()])
    }

    /// The limit that the last step was about, if it was about one of these.
    #[must_use]
    pub fn limit_met(&self) -> Option<LimitMet> {
        self.limit_met
    }

    /// Who the client is.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.session.peer()
    }

    /// Whether a password may have been in the input since this was last asked: whoever holds the
    /// input overwrites it then.
    pub fn has_read_secret(&mut self) -> bool {
        std::mem::take(&mut self.read_secret)
    }

    /// Goes on after [`Step::Authenticate`].
    pub fn resume(&mut self, verdict: Verdict) {
        let Some(user) = self.verifying.take() else { return };
        let reply = verdict.reply();
        self.waiting = Some(match verdict {
            Verdict::Accepted => {
                self.session = self.take_session().logged_in(user);
                Step::Reply(reply)
            }
            Verdict::Refused => self.fault(reply),
            Verdict::Unavailable => Step::Reply(reply),
            Verdict::Blocked => {
                self.limit_met = Some(LimitMet::FailedLogins);
                Step::Close(reply)
            }
        });
    }

    /// TLS is in use: whatever was said before counts no more (RFC 3207 section 4.2).
    pub fn secured(&mut self) {
        let channel = Channel { tls: true, ..self.peer().channel };
        self.session = Session::begin(channel);
        self.lines = LineBuffer::default();
    }

    fn take_session(&mut self) -> Session {
        std::mem::replace(&mut self.session, Session::begin(Channel::default()))
    }

    /// Whether mail data is being received.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        self.receiving.is_some()
    }

    /// Whether nothing is under way: no open transaction, no half command. Then a shutdown may
    /// close the session without hurting the client.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.session, Session::Idle(_))
            && self.receiving.is_none()
            && self.lines.is_empty()
    }

    /// Takes what it can from the front of `input` and says what to do. Mail data goes to the
    /// end of `data`. `admission` is asked at MAIL; its reply refuses the transaction.
    pub fn advance(
        &mut self,
        input: &mut &[u8],
        data: &mut Vec<u8>,
        admission: impl FnOnce() -> Option<Reply>,
    ) -> Step {
        if let Some(step) = self.waiting.take() {
            return step;
        }
        self.limit_met = None;
        match self.receiving.take() {
            // May be complete as it is: BDAT 0.
            Some(Receiving::Chunk(chunk)) => return self.receive_chunk(chunk, input, data),
            Some(Receiving::Text(text)) if !input.is_empty() => {
                return self.receive(text, input, data);
            }
            receiving => self.receiving = receiving,
        }
        if input.is_empty() {
            return Step::NeedInput;
        }
        if self.exchange.is_some() {
            return self.response(input);
        }
        match self.lines.next_line(input, MAX_COMMAND_LINE) {
            Line::Incomplete => Step::NeedInput,
            Line::TooLong => {
                let text = format!("command line longer than {MAX_COMMAND_LINE} octets");
                self.line_too_long(Reply::new(500, (5, 5, 2), text))
            }
            Line::Complete(line) => self.command(&Zeroizing::new(line), input, data, admission),
        }
    }

    fn command(
        &mut self,
        line: &[u8],
        input: &mut &[u8],
        data: &mut Vec<u8>,
        admission: impl FnOnce() -> Option<Reply>,
    ) -> Step {
        let rules = CommandRules {
            default_domain: self.rules.default_domain.as_deref(),
            sender: self.rules.sender.as_ref(),
            smtputf8: self.session.smtputf8(),
            auth: self.rules.login != Login::No,
        };
        let command = match command::parse(line, rules) {
            Ok(command) => command,
            Err(fault) => return self.command_fault(&fault, input, data),
        };
        let session = self.take_session();
        let chunked = matches!(session, Session::Chunked(_));
        let (session, answer) = session.step(command, &self.rules, admission);
        self.session = session;
        match answer {
            // RSET, EHLO or HELO between two chunks.
            Answer::Reply(reply) if chunked && !self.is_chunked() => Step::RefusedMailData(reply),
            Answer::Reply(reply) => Step::Reply(reply),
            Answer::Fault(reply) => self.fault(reply),
            Answer::Close(reply) => Step::Close(reply),
            // Whoever put them there may be another than the client (CVE-2011-0411).
            Answer::StartTls(_) if !input.is_empty() => {
                let text = "octets behind STARTTLS; closing connection";
                Step::Close(Reply::new(501, (5, 5, 2), text))
            }
            Answer::StartTls(reply) => Step::StartTls(reply),
            Answer::Authenticate(mechanism, initial) => {
                self.turn(auth::begin(mechanism, initial.as_ref()))
            }
            Answer::Receive(envelope) => {
                self.receiving = Some(Receiving::Text(Text::default()));
                Step::BeginMailData(envelope)
            }
            Answer::ReceiveChunk(first, size) => self.begin_chunk(first, size, input, data),
            Answer::RefuseChunk(reply, size) => {
                self.receive_chunk(Chunk::refused(size.octets, reply), input, data)
            }
        }
    }

    /// A line within a login.
    fn response(&mut self, input: &mut &[u8]) -> Step {
        self.read_secret = true;
        let line = self.lines.next_line(input, MAX_RESPONSE);
        let exchange = match line {
            Line::Incomplete => None,
            _ => self.exchange.take(),
        };
        match (line, exchange) {
            (Line::Complete(line), Some(exchange)) => {
                self.turn(exchange.respond(&Zeroizing::new(line)))
            }
            (Line::TooLong, _) => {
                let text = format!("response longer than {MAX_RESPONSE} octets");
                self.line_too_long(Reply::new(500, (5, 5, 6), text))
            }
            _ => Step::NeedInput,
        }
    }

    fn turn(&mut self, turn: Turn) -> Step {
        self.read_secret = true;
        match turn {
            Turn::Challenge(exchange, challenge) => {
                self.exchange = Some(exchange);
                Step::Reply(challenge)
            }
            Turn::Verify(credentials) => {
                self.verifying = Some(credentials.name.clone());
                Step::Authenticate(credentials)
            }
            Turn::Refused(reply) => self.fault(reply),
        }
    }

    fn command_fault(
        &mut self,
        fault: &CommandFault,
        input: &mut &[u8],
        data: &mut Vec<u8>,
    ) -> Step {
        match fault {
            CommandFault::Chunk(octets) => {
                self.receive_chunk(Chunk::refused(*octets, fault.reply()), input, data)
            }
            // Whatever comes next may be mail data as well as a command.
            CommandFault::ChunkLength => Step::Close(fault.reply()),
            fault => self.fault(fault.reply()),
        }
    }

    fn receive(&mut self, mut receiving: Text, input: &mut &[u8], data: &mut Vec<u8>) -> Step {
        let before = data.len();
        let ended = receiving.decoder.decode(input, data);
        receiving.size += (data.len() - before) as u64;
        if receiving.oversize || receiving.size > self.rules.max_message_size {
            // The rest is read and thrown away: a client in the middle of its mail data does
            // not listen before its final dot.
            receiving.oversize = true;
            data.truncate(before);
        }
        if !ended {
            self.receiving = Some(Receiving::Text(receiving));
            return Step::MailData;
        }
        if receiving.oversize {
            return Step::RefusedMailData(too_large(Some(receiving.size), &self.rules));
        }
        self.end_of_mail_data(receiving.decoder.met_bare_line_end())
    }

    fn end_of_mail_data(&self, bare: bool) -> Step {
        if bare && self.rules.bare_line_feed == BareLineFeed::Reject {
            return Step::RefusedMailData(Reply::new(
                550,
                (5, 6, 11),
                "mail data holds a bare CR or LF; lines end with CRLF (listener.bare_line_feed)",
            ));
        }
        Step::EndOfMailData
    }

    fn line_too_long(&mut self, reply: Reply) -> Step {
        let step = self.fault(reply);
        if let Step::Reply(_) = step {
            self.limit_met = Some(LimitMet::LineLength);
        }
        step
    }

    /// A reply that counts as a fault; too many of them end the session.
    fn fault(&mut self, reply: Reply) -> Step {
        self.faults += 1;
        if self.faults < self.rules.max_faults {
            return Step::Reply(reply);
        }
        Step::Close(Reply::new(421, (4, 7, 0), "too many errors on this connection"))
    }
}
