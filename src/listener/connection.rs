//! One connection: drives [`Server`] over a socket. It decides nothing about the protocol; it
//! reads, writes, waits, and carries out the steps.

use std::{io, sync::Arc, time::Duration};

use secrecy::zeroize::Zeroize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};

use super::{
    Tls, client::Client, incoming::Incoming, proxy::Uninvited, rate::RateWatch, shared::Shared,
    stream::Stream,
};
use crate::{
    drain::Drain,
    smtp::{
        auth::{Credentials, Verdict},
        envelope::Envelope,
        peer::Channel,
        reply::Reply,
        server::{LimitMet, Server, Step},
    },
    telemetry::{
        events::{ClientRefused, session_cut},
        metrics::causes::{Cut, Refused},
    },
    tls::server::ServerTls,
};

/// Octets read at a time: commands are short, mail data is not, but most of it is over after the
/// first read.
const COMMAND_READ: usize = 4 * 1024;
const FIRST_DATA_READ: usize = 8 * 1024;
const DATA_READ: usize = 32 * 1024;

/// How long, and for how many octets, we go on reading after a last reply. Closing a socket with
/// unread input resets the connection, and some systems then drop the reply unread.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 1024 * 1024;

/// How long a client may take for a TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);

/// How a session ended: with QUIT, or cut.
type Ending = Result<Option<Cut>, io::Error>;

pub(super) struct Connection {
    stream: Stream,
    client: Client,
    shared: Arc<Shared>,
    drain: Drain,
    server: Server,
    incoming: Option<Incoming>,
    /// Replies that wait to leave in one write.
    replies: Vec<u8>,
    session_ends: Instant,
    rate: RateWatch,
    opening: Uninvited,
    /// Whether the last read was one of mail data.
    receiving: bool,
}

impl Connection {
    pub fn new(stream: Stream, client: Client, shared: Arc<Shared>, drain: Drain) -> Self {
        let session_ends = Instant::now() + shared.config.session_timeout;
        let channel = Channel { origin: client.origin(), tls: false };
        let server = Server::new(Arc::clone(&shared.rules), channel);
        let config = &shared.config;
        let rate = RateWatch::new(config.min_data_rate, config.data_timeout);
        Self {
            stream,
            client,
            shared,
            drain,
            server,
            incoming: None,
            replies: Vec::new(),
            session_ends,
            rate,
            opening: Uninvited::default(),
            receiving: false,
        }
    }

    pub async fn run(mut self) {
        tracing::debug!(client = %self.client, "session begun");
        let cut = match self.session().await {
            Ok(cut) => {
                let ending = cut.map_or("quit", Cut::as_str);
                tracing::debug!(client = %self.client, ending, "session ended");
                cut
            }
            Err(error) => {
                tracing::debug!(client = %self.client, %error, "session broken");
                // A client that does not take its replies is told apart by our own time limit.
                let late = error.kind() == io::ErrorKind::TimedOut;
                Some(if late { Cut::NotReading } else { Cut::Broken })
            }
        };
        if let Some(cut) = cut {
            session_cut(&self.shared.config.name, cut);
        }
    }

    async fn session(&mut self) -> Ending {
        let shared = Arc::clone(&self.shared);
        if let Some(tls) = shared.implicit_tls(self.client)
            && let Some(ending) = self.secure(tls).await
        {
            return Ok(Some(ending));
        }
        self.server.greeting().write_to(&mut self.replies);
        let mut buffer = Vec::new();
        let mut data = Vec::new();
        loop {
            self.flush().await?;
            let length = match self.read(&mut buffer).await? {
                Read::Octets(length) => length,
                Read::Ended(cut) => return Ok(Some(cut)),
                Read::Stop(reply, cut) => return self.close(&reply, Some(cut)).await,
            };
            let mut input = &buffer[..length];
            if self.opening.is_header(input) {
                let reply = self.shared.uninvited_header(self.client);
                return self.close(&reply, Some(Cut::ProxyHeader)).await;
            }
            while let Some(step) = self.advance(&mut input, &mut data) {
                if let Some(ending) = self.carry_out(step, &mut data).await? {
                    return Ok(ending);
                }
            }
            if self.server.has_read_secret() {
                buffer.zeroize();
            }
        }
    }

    fn advance(&mut self, input: &mut &[u8], data: &mut Vec<u8>) -> Option<Step> {
        let shared = &self.shared;
        match self.server.advance(input, data, || shared.admission()) {
            Step::NeedInput => None,
            step => Some(step),
        }
    }

    async fn carry_out(
        &mut self,
        step: Step,
        data: &mut Vec<u8>,
    ) -> io::Result<Option<Option<Cut>>> {
        match step {
            Step::NeedInput => {}
            Step::Reply(reply) => self.reply(&reply),
            Step::Close(reply) => {
                let cut = match (self.server.limit_met(), reply.code().value()) {
                    (Some(LimitMet::FailedLogins), _) => Some(Cut::Logins),
                    (_, 421) => Some(Cut::Faults),
                    (_, code) => (code >= 400).then_some(Cut::Protocol),
                };
                return self.close(&reply, cut).await.map(Some);
            }
            Step::BeginMailData(envelope) => {
                self.begin(envelope);
                self.reply(&Server::start_mail_input());
            }
            Step::BeginChunks(envelope) => self.begin(envelope),
            Step::MailData => self.take_data(data).await,
            Step::EndOfChunk(reply) => {
                self.take_data(data).await;
                self.reply(&reply);
            }
            Step::EndOfMailData => {
                self.take_data(data).await;
                if let Some(incoming) = self.incoming.take() {
                    let gone = self.stream.hung_up();
                    let reply = incoming.finish(&self.shared, gone).await;
                    self.reply(&reply);
                }
            }
            Step::StartTls(reply) => {
                self.reply(&reply);
                self.flush().await?;
                let shared = Arc::clone(&self.shared);
                if let Tls::StartTls(tls) = &shared.config.tls {
                    return Ok(self.secure(tls).await.map(Some));
                }
            }
            Step::Authenticate(credentials) => {
                let verdict = self.verify(credentials).await;
                self.server.resume(verdict);
            }
            Step::RefusedMailData(reply) => {
                data.clear();
                self.incoming = None;
                self.reply(&reply);
            }
        }
        Ok(None)
    }

    /// Shakes hands. A failure costs the connection and nothing else; the ending says which.
    async fn secure(&mut self, tls: &ServerTls) -> Option<Cut> {
        let deadline = self.session_ends.min(Instant::now() + HANDSHAKE_PATIENCE);
        let handshake = tokio::select! {
            handshake = timeout_at(deadline, self.stream.secure(tls)) => handshake,
            () = self.drain.signaled() => return Some(Cut::Shutdown),
        };
        let error = match handshake {
            Ok(Ok(())) => {
                self.server.secured();
                return None;
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        tracing::info!(client = %self.client, %error, "TLS handshake failed");
        Some(Cut::Handshake)
    }

    async fn verify(&self, credentials: Credentials) -> Verdict {
        tokio::select! {
            biased;
            () = self.drain.last_call() => Verdict::Unavailable,
            verdict = self.shared.authenticator.verify(self.client, credentials) => verdict,
        }
    }

    fn begin(&mut self, envelope: Box<Envelope>) {
        let peer = self.server.peer();
        self.incoming = Some(Incoming::begin(&self.shared, self.client, peer, envelope));
    }

    async fn take_data(&mut self, data: &mut Vec<u8>) {
        if let Some(incoming) = &mut self.incoming {
            incoming.push(data).await;
        }
        data.clear();
    }

    /// Queues a reply. A refusal is worth a line: it is how an operator learns why a device
    /// cannot send.
    fn reply(&mut self, reply: &Reply) {
        if reply.code().value() >= 400 {
            let cause = match self.server.limit_met() {
                Some(LimitMet::LineLength) => Refused::LineLength,
                Some(LimitMet::FailedLogins) => Refused::Logins,
                None => Refused::of(reply),
            };
            ClientRefused {
                listener: &self.shared.config.name,
                client: &self.client.to_string(),
                hello: self.server.peer().hello.name(),
                reply,
                cause,
            }
            .emit();
        }
        reply.write_to(&mut self.replies);
    }

    async fn close(&mut self, reply: &Reply, cut: Option<Cut>) -> Ending {
        self.reply(reply);
        self.flush().await?;
        let linger = async {
            self.stream.shutdown().await?; // TLS says so too (close_notify)
            self.read_on().await
        };
        let _ = timeout(LINGER, linger).await;
        Ok(cut)
    }

    async fn read_on(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; COMMAND_READ]; // an array would be part of each session's state
        let mut left = LINGER_OCTETS;
        while left > 0 {
            match self.stream.read(&mut buffer).await? {
                0 => return Ok(()),
                length => left = left.saturating_sub(length),
            }
        }
        Ok(())
    }

    /// One write for all replies that wait.
    async fn flush(&mut self) -> io::Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&self.replies).await?;
            self.stream.flush().await // what encrypts keeps octets back until then
        };
        timeout(self.shared.config.command_timeout, write)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.replies.clear();
        Ok(())
    }

    async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Read> {
        let receiving = self.server.is_receiving();
        let begins = receiving && !self.receiving;
        if begins {
            // Anew for each chunk: between two of them it is our turn to speak.
            self.rate.begin();
        }
        self.receiving = receiving;
        let (least, most) = match (receiving, begins) {
            (false, _) => (COMMAND_READ, FIRST_DATA_READ),
            (true, true) => (FIRST_DATA_READ, DATA_READ),
            (true, false) => (DATA_READ, DATA_READ),
        };
        if !(least..=most).contains(&buffer.len()) {
            // Also gives the largest buffer back: an idle connection shall be cheap.
            *buffer = vec![0; least];
        }
        let config = &self.shared.config;
        let patience = if receiving { config.data_timeout } else { config.command_timeout };
        let deadline = self.session_ends.min(Instant::now() + patience);
        let idle = self.server.is_idle();
        let read = tokio::select! {
            biased; // the end of the grace period, then what the client has sent, then the drain
            () = self.drain.last_call() => {
                let reply = Reply::new(421, (4, 3, 2), "relay is shutting down; try again later");
                return Ok(Read::Stop(reply, Cut::Shutdown));
            }
            read = timeout_at(deadline, self.stream.read(buffer)) => read,
            () = self.drain.signaled(), if idle => {
                let reply = Reply::new(421, (4, 3, 2), "relay is shutting down; try again later");
                return Ok(Read::Stop(reply, Cut::Shutdown));
            }
        };
        match read {
            Err(_) => {
                let reply = Reply::new(421, (4, 4, 2), "timeout; closing connection");
                let cut = match receiving {
                    _ if deadline == self.session_ends => Cut::SessionTimeout,
                    true => Cut::DataTimeout,
                    false => Cut::CommandTimeout,
                };
                Ok(Read::Stop(reply, cut))
            }
            Ok(Err(error)) => Err(error),
            Ok(Ok(0)) => Ok(Read::Ended(if idle { Cut::Disconnected } else { Cut::Midway })),
            Ok(Ok(length)) if receiving && !self.rate.is_enough(length) => {
                let reply = Reply::new(
                    421,
                    (4, 4, 2),
                    "mail data comes too slowly (listener.min_data_rate)",
                );
                Ok(Read::Stop(reply, Cut::TooSlow))
            }
            Ok(Ok(length)) => Ok(Read::Octets(length)),
        }
    }
}

enum Read {
    Octets(usize),
    Ended(Cut),
    Stop(Reply, Cut),
}
