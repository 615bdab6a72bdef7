//! The SMTP session as a state machine (RFC 5321 section 4.1.4): a step consumes the old state,
//! so a command out of order finds no state to act on, and DATA without a forward-path cannot
//! make an [`Envelope`].

mod offers;

use std::sync::Arc;

use super::{
    auth::{self, Mechanism, Response},
    chunk::ChunkSize,
    command::Command,
    envelope::{Envelope, MailParameters, Recipient},
    path::{Address, ReversePath, SenderPattern},
    peer::{Channel, Hello, Peer},
    reply::Reply,
    sender::SenderMap,
};

/// What the session decides by: settings that stay the same for all sessions of a listener.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Our own name.
    pub hostname: String,
    /// Largest message, in octets (RFC 1870).
    pub max_message_size: u64,
    /// Most recipients in a mail transaction.
    pub max_recipients: usize,
    /// Completes an address without a domain.
    pub default_domain: Option<String>,
    /// The reverse-path of every message, whatever the client says.
    pub sender: Option<Address>,
    /// Which reverse-paths are taken; empty takes any.
    pub sender_allow: Vec<SenderPattern>,
    /// Addresses that others take the place of, before that is looked at.
    pub sender_map: Arc<SenderMap>,
    /// Faults before 421 4.7.0.
    pub max_faults: u32,
    /// What to do with a bare LF or CR in mail data.
    pub bare_line_feed: super::mail_data::BareLineFeed,
    /// Whether clients log in.
    pub login: Login,
    /// Whether they may do so where others can read along.
    pub auth_without_tls: bool,
    /// Whether STARTTLS is offered.
    pub starttls: bool,
    /// Whether MAIL and AUTH take TLS. Unix sockets do without.
    pub tls_required: bool,
}

impl Rules {
    fn takes(&self, sender: &Address) -> bool {
        self.sender_allow.is_empty()
            || self.sender_allow.iter().any(|pattern| pattern.matches(sender))
    }
}

/// Whether clients log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Login {
    /// They cannot.
    #[default]
    No,
    /// Those that want to.
    Optional,
    /// MAIL takes one.
    Required,
}

/// A mail transaction between MAIL and DATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Vec<Recipient>,
}

impl Transaction {
    fn into_envelope(self) -> Result<Envelope, Self> {
        if self.recipients.is_empty() {
            return Err(self);
        }
        let Self { reverse_path, parameters, recipients } = self;
        Ok(Envelope { reverse_path, parameters, recipients })
    }
}

/// Where the session stands between two commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Session {
    /// No mail transaction is open.
    Idle(Peer),
    /// MAIL was accepted.
    Open(Peer, Transaction),
    /// A chunk of mail data came, and not the last one.
    Chunked(Peer),
}

/// What a command leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A reply, and the session goes on.
    Reply(Reply),
    /// A reply to a command that was out of order: it counts as a fault.
    Fault(Reply),
    /// Mail data follows, once 354 has been sent.
    Receive(Box<Envelope>),
    /// The octets of a chunk follow: the first one, with the envelope, or a further one.
    ReceiveChunk(Option<Box<Envelope>>, ChunkSize),
    /// The octets of a chunk follow and are not taken; then this reply, which counts as a fault.
    RefuseChunk(Reply, ChunkSize),
    /// The client logs in, perhaps with its first response.
    Authenticate(Mechanism, Option<Response>),
    /// TLS begins after this reply, unless more octets have come.
    StartTls(Reply),
    /// A last reply.
    Close(Reply),
}

impl Session {
    /// The state after the greeting.
    #[must_use]
    pub fn begin(channel: Channel) -> Self {
        Self::Idle(Peer::new(channel))
    }

    /// Whether the open transaction declared SMTPUTF8.
    #[must_use]
    pub fn smtputf8(&self) -> bool {
        matches!(self, Self::Open(_, transaction) if transaction.parameters.smtputf8)
    }

    /// Who the client is.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        match self {
            Self::Idle(peer) | Self::Open(peer, _) | Self::Chunked(peer) => peer,
        }
    }

    /// No mail transaction is open any more.
    #[must_use]
    pub fn give_up(self) -> Self {
        Self::Idle(self.into_peer())
    }

    fn into_peer(self) -> Peer {
        match self {
            Self::Idle(peer) | Self::Open(peer, _) | Self::Chunked(peer) => peer,
        }
    }

    /// Takes one command. `admission` is asked at MAIL whether the store takes mail now; its
    /// reply refuses the transaction.
    pub fn step(
        self,
        command: Command,
        rules: &Rules,
        admission: impl FnOnce() -> Option<Reply>,
    ) -> (Self, Answer) {
        match (self, command) {
            (state, Command::Ehlo(name)) => {
                let peer = state.into_peer().greets(Hello::Ehlo(name));
                let reply = offers::ehlo(&peer, rules);
                (Self::Idle(peer), Answer::Reply(reply))
            }
            (state, Command::Helo(name)) => {
                let peer = state.into_peer().greets(Hello::Helo(name));
                let reply = Reply::plain(250, vec![rules.hostname.clone().into()]);
                (Self::Idle(peer), Answer::Reply(reply))
            }
            (Self::Idle(peer), Command::Mail(path, parameters)) => {
                mail(peer, path, parameters, rules, admission)
            }
            (Self::Open(peer, transaction), Command::Rcpt(path, parameters)) => {
                let recipient = Recipient { forward_path: path, parameters };
                rcpt(peer, transaction, recipient, rules)
            }
            (Self::Open(peer, transaction), Command::Data) => match transaction.into_envelope() {
                Ok(envelope) => (Self::Idle(peer), Answer::Receive(Box::new(envelope))),
                Err(transaction) => (Self::Open(peer, transaction), Answer::Fault(no_recipients())),
            },
            (state, Command::Bdat(chunk)) => state.bdat(chunk),
            (state, Command::Auth(mechanism, initial)) => {
                let answer = match state.mechanism(mechanism, rules) {
                    Ok(mechanism) => Answer::Authenticate(mechanism, initial),
                    Err(reply) => Answer::Fault(reply),
                };
                (state, answer)
            }
            (state, Command::StartTls) => {
                let answer = match state.starttls_refusal(rules) {
                    None => Answer::StartTls(Reply::new(220, (2, 0, 0), "ready to start TLS")),
                    Some(reply) => Answer::Fault(reply),
                };
                (state, answer)
            }
            (state, Command::Rset) => {
                (state.give_up(), Answer::Reply(Reply::new(250, (2, 0, 0), "reset")))
            }
            (state, command) => {
                let answer = state.without_change(&command, rules);
                (state, answer)
            }
        }
    }

    /// The client is this user from now on.
    #[must_use]
    pub fn logged_in(self, user: String) -> Self {
        Self::Idle(Peer { user: Some(user), ..self.into_peer() })
    }

    /// The mechanism, if AUTH is in order (RFC 4954 section 4).
    fn mechanism(&self, named: Option<Mechanism>, rules: &Rules) -> Result<Mechanism, Reply> {
        if let Some(reply) = offers::auth_refusal(self.peer(), rules) {
            return Err(reply);
        }
        if !matches!(self, Self::Idle(_)) {
            return Err(transaction_open());
        }
        named.ok_or_else(|| {
            let text = format!("mechanism is not known; there are {}", auth::MECHANISMS);
            Reply::new(504, (5, 5, 4), text)
        })
    }

    /// Why STARTTLS is not in order, if it is not (RFC 3207 section 4).
    fn starttls_refusal(&self, rules: &Rules) -> Option<Reply> {
        offers::starttls_refusal(self.peer(), rules)
            .or_else(|| (!matches!(self, Self::Idle(_))).then(transaction_open))
    }

    /// A chunk that is not taken ends the transaction: a message must not lose its middle
    /// because the client sends the next chunk all the same.
    fn bdat(self, chunk: ChunkSize) -> (Self, Answer) {
        let refuse = |peer, reply| (Self::Idle(peer), Answer::RefuseChunk(reply, chunk));
        let (peer, first) = match self {
            Self::Idle(peer) => {
                return refuse(peer, Reply::new(503, (5, 5, 1), "send MAIL first"));
            }
            Self::Open(peer, transaction) => match transaction.into_envelope() {
                Ok(envelope) => (peer, Some(Box::new(envelope))),
                Err(_) => return refuse(peer, no_recipients()),
            },
            Self::Chunked(peer) => (peer, None),
        };
        let state = if chunk.last { Self::Idle(peer) } else { Self::Chunked(peer) };
        (state, Answer::ReceiveChunk(first, chunk))
    }

    /// The answer to a command that leaves the session as it is.
    fn without_change(&self, command: &Command, rules: &Rules) -> Answer {
        match command {
            Command::Noop => Answer::Reply(Reply::new(250, (2, 0, 0), "OK")),
            Command::Vrfy => Answer::Reply(Reply::new(
                252,
                (2, 5, 0),
                "cannot verify; send the mail and it will be relayed",
            )),
            Command::Help => Answer::Reply(offers::help(self.peer(), rules)),
            Command::Quit => Answer::Close(Reply::new(
                221,
                (2, 0, 0),
                format!("{} closing connection", rules.hostname),
            )),
            Command::Rcpt(..) | Command::Data if matches!(self, Self::Chunked(_)) => {
                out_of_order("mail data comes in chunks; BDAT LAST or RSET ends it")
            }
            Command::Mail(..) => Answer::Fault(transaction_open()),
            Command::Rcpt(..) | Command::Data => out_of_order("send MAIL first"),
            Command::Helo(_)
            | Command::Ehlo(_)
            | Command::Rset
            | Command::Bdat(_)
            | Command::StartTls
            | Command::Auth(..) => out_of_order("not now"), // taken care of by `step`
        }
    }
}

/// RFC 5321 section 4.1.1.4: 554 when no recipient was accepted.
fn no_recipients() -> Reply {
    Reply::new(554, (5, 5, 1), "no valid recipients")
}

fn transaction_open() -> Reply {
    Reply::new(503, (5, 5, 1), "a mail transaction is open; RSET ends it")
}

fn out_of_order(text: &'static str) -> Answer {
    Answer::Fault(Reply::new(503, (5, 5, 1), text))
}

fn mail(
    peer: Peer,
    reverse_path: ReversePath,
    parameters: MailParameters,
    rules: &Rules,
    admission: impl FnOnce() -> Option<Reply>,
) -> (Session, Answer) {
    if let Some(refusal) = offers::mail_refusal(&peer, rules) {
        return (Session::Idle(peer), Answer::Reply(refusal));
    }
    if let Some(size) = parameters.size.filter(|size| *size > rules.max_message_size) {
        let reply = too_large(Some(size), rules);
        return (Session::Idle(peer), Answer::Reply(reply));
    }
    if let ReversePath::Address(address) = &reverse_path
        && !rules.takes(rules.sender_map.get(address).unwrap_or(address))
    {
        let text = format!("reverse-path <{address}> is not in sender.allow of this relay");
        return (Session::Idle(peer), Answer::Reply(Reply::new(550, (5, 7, 1), text)));
    }
    if let Some(refusal) = admission() {
        return (Session::Idle(peer), Answer::Reply(refusal));
    }
    let transaction = Transaction { reverse_path, parameters, recipients: Vec::new() };
    (Session::Open(peer, transaction), Answer::Reply(Reply::new(250, (2, 1, 0), "sender OK")))
}

fn rcpt(
    peer: Peer,
    mut transaction: Transaction,
    recipient: Recipient,
    rules: &Rules,
) -> (Session, Answer) {
    // The same forward-path twice is one recipient: it must get the message once. Refused for
    // want of room it would get a second one, in the client's next transaction.
    let known = transaction.recipients.iter().any(|r| r.forward_path == recipient.forward_path);
    let reply = if !known && transaction.recipients.len() >= rules.max_recipients {
        let text = format!(
            "more than {} recipients; send the rest in another transaction",
            rules.max_recipients
        );
        Reply::new(452, (4, 5, 3), text)
    } else {
        if !known {
            transaction.recipients.push(recipient);
        }
        Reply::new(250, (2, 1, 5), "recipient OK")
    };
    (Session::Open(peer, transaction), Answer::Reply(reply))
}

/// The reply to a message over the limit, with both numbers where both are known.
#[must_use]
pub fn too_large(size: Option<u64>, rules: &Rules) -> Reply {
    let limit = rules.max_message_size;
    let text = match size {
        Some(size) => format!(
            "message of {size} octets exceeds the limit of {limit} (listener.max_message_size)"
        ),
        None => format!("message exceeds the limit of {limit} octets (listener.max_message_size)"),
    };
    Reply::new(552, (5, 3, 4), text)
}
