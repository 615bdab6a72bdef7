//! A relay to test against: a real store in a directory of its own behind a real listener on a
//! port that the system chooses.
#![allow(dead_code, reason = "each test program uses its own part of this")]

pub mod tls;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use o365_relay::{
    clock::{Clock, UnixMillis},
    drain::Drain,
    listener::{self, Address, Auth, Listeners, Outlet, Tls},
    smtp::{mail_data::BareLineFeed, path::ReversePath},
    store::{self, Durability, Entry, Router, Store, Synced},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// The only lane.
pub const LANE: &str = "relay@corp.example";

/// Longer than anything here takes; it only turns a hang into a failure.
pub const PATIENCE: Duration = Duration::from_secs(10);

struct OneLane;

impl Router for OneLane {
    fn lane(&self, _: &ReversePath) -> String {
        LANE.to_owned()
    }

    fn knows(&self, lane: &str) -> bool {
        lane == LANE
    }
}

/// Settings under which nothing is refused by accident.
pub fn listener_config() -> listener::Config {
    listener::Config {
        name: "test".into(),
        keys: "listener".into(),
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        unix_mode: 0o660,
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        proxy_protocol: Vec::new(),
        sender: None,
        hostname: "relay.example".into(),
        default_domain: None,
        fallback_from: LANE.into(),
        add_from: true,
        max_message_size: 1_000_000,
        max_recipients: 100,
        max_connections: 100,
        max_connections_per_client: 100,
        command_timeout: Duration::from_secs(60),
        data_timeout: Duration::from_secs(60),
        session_timeout: Duration::from_secs(60),
        min_data_rate: 0,
        max_faults: 20,
        bare_line_feed: BareLineFeed::Normalize,
        sender_allow: Vec::new(),
        auth: Auth::None,
        auth_without_tls: false,
        tls: Tls::None,
        tls_required: false,
        sender_map: Arc::default(),
    }
}

/// A running relay; dropping it removes its directory.
pub struct Relay {
    pub address: SocketAddr,
    /// The TCP addresses of all listeners.
    pub tcp: Vec<SocketAddr>,
    pub store: Store,
    pub drain: Drain,
    directory: TempDir,
}

impl Relay {
    pub fn start(config: listener::Config) -> Self {
        Self::start_with(config, Arc::new(Synced), 0)
    }

    /// Several listeners; `address` is the first one's.
    pub fn start_all(configs: Vec<listener::Config>) -> Self {
        Self::start_each(configs, Arc::new(Synced), 0)
    }

    pub fn start_with(
        config: listener::Config,
        durability: Arc<dyn Durability>,
        min_free_bytes: u64,
    ) -> Self {
        Self::start_each(vec![config], durability, min_free_bytes)
    }

    fn start_each(
        configs: Vec<listener::Config>,
        durability: Arc<dyn Durability>,
        min_free_bytes: u64,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store_config = store::Config {
            directory: directory.path().join("queue"),
            min_free_bytes,
            max_messages: 1000,
            history_keep: Duration::from_secs(86_400),
        };
        let clock = Clock::at(UnixMillis(1_795_415_050_000));
        let store = Store::open(store_config, clock, durability, Arc::new(OneLane)).unwrap();
        let listeners = Listeners::bind(configs).unwrap();
        let listening = listeners.listening();
        let addresses: Vec<_> = listening.into_iter().flat_map(|one| one.addresses).collect();
        let tcp = addresses.iter().filter_map(|address| match address {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) | Address::Systemd(_) => None,
        });
        let tcp: Vec<_> = tcp.collect();
        let address = tcp.first().copied().unwrap_or(([127, 0, 0, 1], 0).into());
        let drain = Drain::new();
        let outlet: Arc<dyn Outlet> = Arc::new(store.clone());
        listeners.serve(&outlet, clock, &drain);
        Self { address, tcp, store, drain, directory }
    }

    pub async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// Ends the sessions and closes the store, so that it can be looked at from outside.
    pub async fn stop(&self) {
        self.drain.finish(PATIENCE).await.expect("sessions end");
        self.store.close().await;
    }

    /// All queued messages.
    pub async fn entries(&self) -> Vec<Entry> {
        self.store.due(LANE, 1000).await.unwrap()
    }

    pub async fn octets(&self, entry: &Entry) -> Vec<u8> {
        let body = self.store.body(entry).await.unwrap();
        body.chunks().collect::<Result<Vec<_>, _>>().unwrap().concat()
    }

    /// Where large bodies lie.
    pub fn bodies(&self) -> PathBuf {
        self.directory.path().join("queue/bodies")
    }

    pub fn body_files(&self) -> usize {
        std::fs::read_dir(self.bodies()).unwrap().count()
    }
}

/// An SMTP client that knows no SMTP: octets out, lines in.
pub struct Client {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    pub fn local(stream: UnixStream) -> Self {
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    /// One write. A server that has closed does not read it; what it said before tells why.
    pub async fn send(&mut self, octets: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(octets)).await.expect("the server reads");
    }

    /// The next line without its CRLF; `None` once the server has closed.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                let line = self.read.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).expect("replies are ASCII"));
            }
            let length = timeout(PATIENCE, self.stream.read_buf(&mut self.read))
                .await
                .expect("a reply in time")
                .unwrap_or(0);
            if length == 0 {
                assert!(self.read.is_empty(), "half a line: {:?}", self.read);
                return None;
            }
        }
    }

    /// Reads one line and expects it to begin like this.
    #[track_caller]
    pub fn expect(&mut self, start: &str) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        async move {
            let line = self.line().await.unwrap_or_else(|| "(closed)".into());
            assert!(line.starts_with(start), "{place}: expected {start:?}, got {line:?}");
            line
        }
    }

    /// Sends a line and expects a reply of one line.
    #[track_caller]
    pub fn say(&mut self, line: &str, start: &str) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        async move {
            self.send(format!("{line}\r\n").as_bytes()).await;
            let reply = self.line().await.unwrap_or_else(|| "(closed)".into());
            assert!(
                reply.starts_with(start),
                "{place}: {line:?}: expected {start:?}, got {reply:?}"
            );
            reply
        }
    }

    /// Everything up to the server's end of the connection, lines or not.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("an end");
        rest
    }

    /// No more is sent; the server may still answer.
    pub async fn finish_sending(&mut self) {
        let _ = self.stream.shutdown().await;
    }
}
