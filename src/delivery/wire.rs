//! The TLS stream that lettre drives. It adds what lettre lacks:
//!
//! - each read and write has a deadline (lettre's own covers only the TCP connect);
//! - the octets of each reply are kept, so that upstream's words reach the log unchanged;
//! - octets that are no ASCII do not break the reply reader, and a blank line between the offers
//!   of an EHLO reply does not bring it down;
//! - a reply that never ends is not collected until memory does;
//! - a poisoned stream fails the next write: lettre's message iterator cannot report an error,
//!   and a body that ends early must never be followed by the final dot; nor shall its QUIT wait
//!   for a server that has just not answered in time;
//! - small writes leave together, once a reply is waited for: lettre sends a body, and then its
//!   final dot, each with a flush, which would be two TLS records and two packets;
//! - mail data goes past lettre, which would look at each octet by itself and copy it.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::client::TlsStream;

/// A block of mail data must be taken within this time (RFC 5321 section 4.5.3.2.5).
const WRITE_PATIENCE: Duration = Duration::from_secs(180);

/// Longest reply, in octets. lettre has a limit too, but looks at it only behind a line end.
const MAX_TRANSCRIPT: usize = 64 * 1024;

/// Octets that wait for company at most: one TLS record.
const TOGETHER: usize = 16 * 1024;

/// lettre wants to read a greeting, which came before TLS, and the reply to its EHLO, of which it
/// makes a list of its own: that panics on a blank line. So it has both from here, and the reply
/// that follows is read like that to any command.
const OPENING: &[u8] = b"220 ready\r\n250 ready\r\n";

/// What the driver and the stream share.
#[derive(Debug, Clone, Default)]
pub(super) struct Control(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    read_patience_millis: AtomicU64,
    poisoned: AtomicBool,
    unsent: AtomicBool,
    /// To be sent before anything else.
    outbox: Mutex<Vec<u8>>,
    transcript: Mutex<Vec<u8>>,
}

impl Control {
    /// Before a command: forgets the last reply and sets how long the next may take.
    pub fn expect_reply(&self, patience: Duration) {
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.0.read_patience_millis.store(millis, Ordering::Relaxed);
        self.transcript().clear();
    }

    /// The octets read since [`Control::expect_reply`].
    pub fn take_transcript(&self) -> Vec<u8> {
        std::mem::take(&mut self.transcript())
    }

    /// Those behind the first `end` of them.
    pub fn transcript_from(&self, end: usize) -> Vec<u8> {
        self.transcript().get(end..).unwrap_or_default().to_vec()
    }

    /// Has these octets sent as they are, before whatever is written or flushed later.
    pub fn send(&self, octets: Vec<u8>) {
        self.0.unsent.store(true, Ordering::Relaxed);
        append(&mut self.outbox(), octets);
    }

    /// Whether all that was written has been handed to the system.
    pub fn is_flushed(&self) -> bool {
        !self.0.unsent.load(Ordering::Relaxed)
    }

    /// Makes every further write fail.
    pub fn poison(&self) {
        self.0.poisoned.store(true, Ordering::Relaxed);
    }

    pub fn is_poisoned(&self) -> bool {
        self.0.poisoned.load(Ordering::Relaxed)
    }

    fn outbox(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transcript(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.transcript.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_patience(&self) -> Duration {
        Duration::from_millis(self.0.read_patience_millis.load(Ordering::Relaxed))
    }
}

pub(super) struct Wire {
    tls: TlsStream<TcpStream>,
    /// What lettre reads first, [`OPENING`].
    opening: &'static [u8],
    /// Octets that wait for company, and how many of them have gone.
    together: Vec<u8>,
    gone: usize,
    control: Control,
    timer: Pin<Box<Sleep>>,
    armed: bool,
    peer: SocketAddr,
}

impl Wire {
    pub fn new(tls: TlsStream<TcpStream>, peer: SocketAddr, control: Control) -> Self {
        let timer = Box::pin(sleep_until(Instant::now()));
        let together = Vec::new();
        Self { tls, opening: OPENING, together, gone: 0, control, timer, armed: false, peer }
    }

    /// Turns a wait that lasts too long into an error.
    fn limit<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
        patience: Duration,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.armed = false;
            return poll;
        }
        if !self.armed {
            self.armed = true;
            self.timer.as_mut().reset(Instant::now() + patience);
        }
        ready!(self.timer.as_mut().poll(context));
        self.armed = false;
        self.control.poison();
        let text = format!("no answer within {} s", patience.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }

    /// Writes what waits for company.
    fn poll_together(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.together.len() {
            self.refuse_if_poisoned()?;
            let poll = Pin::new(&mut self.tls).poll_write(context, &self.together[self.gone..]);
            match ready!(self.limit(context, poll, WRITE_PATIENCE))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.gone += count,
            }
        }
        // A large one is not kept for as long as the connection lasts.
        match self.together.capacity() > 2 * TOGETHER {
            true => self.together = Vec::new(),
            false => self.together.clear(),
        }
        self.gone = 0;
        Poll::Ready(Ok(()))
    }

    /// Puts what is in the outbox behind what waits.
    fn take_outbox(&mut self) -> io::Result<()> {
        let octets = std::mem::take(&mut *self.control.outbox());
        if !octets.is_empty() {
            self.refuse_if_poisoned()?;
            append(&mut self.together, octets);
        }
        Ok(())
    }

    /// Hands all that was written to the system.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.take_outbox()?;
        ready!(self.poll_together(context))?;
        let poll = Pin::new(&mut self.tls).poll_flush(context);
        ready!(self.limit(context, poll, WRITE_PATIENCE))?;
        self.control.0.unsent.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn refuse_if_poisoned(&self) -> io::Result<()> {
        match self.control.is_poisoned() {
            true => Err(io::Error::other("the dialogue was broken off")),
            false => Ok(()),
        }
    }

    fn record(&self, octets: &mut [u8]) -> io::Result<()> {
        let mut transcript = self.control.transcript();
        if transcript.len() + octets.len() > MAX_TRANSCRIPT {
            self.control.poison();
            return Err(endless_reply());
        }
        transcript.extend_from_slice(octets);
        for octet in octets.iter_mut().filter(|octet| !octet.is_ascii()) {
            *octet = b'?';
        }
        Ok(())
    }
}

/// Without a copy where nothing waits, as is the rule.
fn append(waiting: &mut Vec<u8>, octets: Vec<u8>) {
    match waiting.is_empty() {
        true => *waiting = octets,
        false => waiting.extend_from_slice(&octets),
    }
}

/// Whoever sends this much to one command does not speak SMTP.
pub(super) fn endless_reply() -> io::Error {
    io::Error::other("the server's reply never ends")
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.opening.is_empty() {
            let (now, later) = this.opening.split_at(this.opening.len().min(buffer.remaining()));
            buffer.put_slice(now);
            this.opening = later;
            return Poll::Ready(Ok(()));
        }
        if !this.control.is_flushed() {
            ready!(this.poll_send(context))?;
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.tls).poll_read(context, buffer);
        this.record(&mut buffer.filled_mut()[before..])?;
        let patience = this.control.read_patience();
        this.limit(context, poll, patience)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.refuse_if_poisoned()?;
        this.control.0.unsent.store(true, Ordering::Relaxed);
        this.take_outbox()?;
        if this.together.len() + octets.len() <= TOGETHER {
            this.together.extend_from_slice(octets);
            return Poll::Ready(Ok(octets.len()));
        }
        ready!(this.poll_together(context))?;
        let poll = Pin::new(&mut this.tls).poll_write(context, octets);
        this.limit(context, poll, WRITE_PATIENCE)
    }

    /// Writes only what is too much to wait: lettre flushes after each write, and waits for a reply
    /// after the last.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.take_outbox()?;
        match self.together.len() > TOGETHER {
            true => self.poll_together(context),
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        let poll = Pin::new(&mut self.tls).poll_shutdown(context);
        self.limit(context, poll, WRITE_PATIENCE)
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.peer).finish_non_exhaustive()
    }
}
