//! The machine without a socket or a store: what the listener does with its steps, in memory.

use std::{collections::VecDeque, sync::Arc};

use o365_relay::{
    listener::{self, Auth},
    mail::{
        header::{HeaderEditor, Repair},
        queue_id::QueueId,
        trace::{MAX_RECEIVED_FIELDS, Received},
    },
    smtp::{
        auth::{Credentials, Verdict},
        envelope::Envelope,
        path::ReversePath,
        peer::{Channel, Origin},
        reply::Reply,
        server::{Server, Step},
    },
};

use super::Message;

const DATE: &str = "Mon, 23 Nov 2026 06:24:10 +0000";

pub struct Bare {
    server: Server,
    users: Vec<Credentials>,
    config: listener::Config,
    incoming: Option<Incoming>,
    data: Vec<u8>,
    /// Reply lines that nobody has looked at.
    pub lines: VecDeque<String>,
    pub closed: bool,
    pub messages: Vec<Message>,
}

struct Incoming {
    id: QueueId,
    envelope: Envelope,
    editor: HeaderEditor,
    octets: Vec<u8>,
    /// Mail data that the machine passed on.
    size: u64,
}

impl Bare {
    /// `users` with their passwords, where the settings have hashes.
    pub fn new(config: listener::Config, users: Vec<Credentials>, origin: Origin) -> Self {
        let channel = Channel { origin, tls: false };
        let mut bare = Self {
            server: Server::new(Arc::new(config.rules()), channel),
            users,
            config,
            incoming: None,
            data: Vec::new(),
            lines: VecDeque::new(),
            closed: false,
            messages: Vec::new(),
        };
        let greeting = bare.server.greeting();
        bare.reply(&greeting);
        bare
    }

    pub fn feed(&mut self, mut input: &[u8]) {
        while !self.closed {
            match self.server.advance(&mut input, &mut self.data, || None) {
                Step::NeedInput => break,
                Step::Reply(reply) => self.reply(&reply),
                Step::Close(reply) => {
                    self.reply(&reply);
                    self.closed = true;
                }
                Step::BeginMailData(envelope) => {
                    self.begin(*envelope);
                    self.reply(&Server::start_mail_input());
                }
                Step::BeginChunks(envelope) => self.begin(*envelope),
                Step::MailData => self.take_data(),
                Step::EndOfChunk(reply) => {
                    self.take_data();
                    self.reply(&reply);
                }
                Step::EndOfMailData => {
                    self.take_data();
                    let reply = self.end();
                    self.reply(&reply);
                }
                Step::StartTls(_) => panic!("a dialogue cannot go on under TLS; tests/tls.rs can"),
                Step::Authenticate(credentials) => {
                    let any = matches!(self.config.auth, Auth::Any);
                    let right = any || self.users.contains(&credentials);
                    let verdict = if right { Verdict::Accepted } else { Verdict::Refused };
                    self.server.resume(verdict);
                }
                Step::RefusedMailData(reply) => {
                    self.incoming = None;
                    self.data.clear();
                    self.reply(&reply);
                }
            }
        }
    }

    fn begin(&mut self, envelope: Envelope) {
        let id = QueueId::new(1_795_415_050_000, self.messages.len() as u64);
        let peer = self.server.peer();
        let received = Received {
            client_name: peer.hello.name(),
            client_address: Some([127, 0, 0, 1].into()),
            hostname: &self.config.hostname,
            protocol: peer.protocol(envelope.parameters.smtputf8),
            id,
            date: DATE,
        };
        let from = match &envelope.reverse_path {
            ReversePath::Null => self.config.fallback_from.clone(),
            ReversePath::Address(address) => address.to_string(),
        };
        let editor = HeaderEditor::new(Repair {
            from: Some(from),
            date: DATE.into(),
            message_id: format!("<{id}@{}>", self.config.hostname),
        });
        let octets = received.field().into_bytes();
        self.incoming = Some(Incoming { id, envelope, editor, octets, size: 0 });
    }

    fn take_data(&mut self) {
        let incoming = self.incoming.as_mut().expect("354 before mail data");
        incoming.size += self.data.len() as u64;
        let limit = self.config.max_message_size;
        assert!(incoming.size <= limit, "what is over the limit must not fill the disk");
        incoming.editor.push(&self.data, &mut incoming.octets);
        self.data.clear();
    }

    fn end(&mut self) -> Reply {
        let mut incoming = self.incoming.take().expect("354 before the end of mail data");
        let facts = incoming.editor.finish(&mut incoming.octets);
        if facts.received > MAX_RECEIVED_FIELDS {
            return Reply::new(554, (5, 4, 6), "too many Received fields");
        }
        let Envelope { reverse_path, parameters, recipients } = incoming.envelope;
        self.messages.push(Message {
            reverse_path,
            parameters,
            recipients: recipients.into_iter().map(|r| (r.forward_path, r.parameters)).collect(),
            octets: incoming.octets,
        });
        Reply::new(250, (2, 0, 0), format!("queued as {}", incoming.id))
    }

    fn reply(&mut self, reply: &Reply) {
        let mut octets = Vec::new();
        reply.write_to(&mut octets);
        let text = String::from_utf8(octets).expect("replies are ASCII");
        self.lines.extend(text.split_terminator("\r\n").map(str::to_owned));
    }
}
