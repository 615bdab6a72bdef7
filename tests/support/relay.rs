//! The whole relay in one process, between plain SMTP clients and the sandbox.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use o365_relay::{
    clock::Clock,
    config::{self, Sources},
    daemon::Daemon,
    sandbox::{self, Arrival, Event, RelayCredential, Sandbox},
    store::Settled,
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::broadcast::Receiver,
    time::timeout,
};

use super::{
    client::{Client, get},
    wait::{PATIENCE, until},
};

pub const MAILBOX: &str = "relay@sandbox.example";

/// A fake tenant, and a directory for the relay's files.
pub struct Place {
    pub sandbox: Sandbox,
    pub events: Receiver<Event>,
    pub directory: tempfile::TempDir,
    pub set: Vec<String>,
    /// What the relay finds in its environment.
    pub environment: BTreeMap<String, String>,
}

impl Place {
    /// From now on this goes wrong in the tenant; see docs/sandbox.md.
    pub fn fault(&self, text: &str) {
        self.sandbox.set_fault(text.parse().unwrap_or_else(|error| panic!("{error}")));
    }

    /// How often this has gone wrong.
    pub fn struck(&self, name: &str) -> u32 {
        let faults = self.sandbox.faults();
        faults.iter().find(|state| state.fault.name() == name).map_or(0, |state| state.struck)
    }

    pub async fn new() -> Self {
        Self::with(sandbox::Config::default()).await
    }

    pub async fn with(config: sandbox::Config) -> Self {
        let config = sandbox::Config { keep_mail_data: true, ..config };
        let sandbox = Sandbox::start(config).await.expect("a sandbox");
        let directory = tempfile::tempdir().expect("a directory");
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, sandbox.ca_pem()).expect("ca.pem");
        std::fs::write(directory.path().join("config.toml"), sandbox.relay_config(&ca_file))
            .expect("config.toml");
        let events = sandbox.subscribe();
        let mut place =
            Self { sandbox, events, directory, set: Vec::new(), environment: BTreeMap::new() };
        for setting in [
            "listener.addresses=127.0.0.1:0",
            "http.address=127.0.0.1:0",
            "queue.min_free_bytes=0",
            "queue.ephemeral=true", // CI may run in a container
            "office365.pace=unlimited",
        ] {
            place.set(setting);
        }
        let queue = place.directory.path().join("queue");
        place.set(&format!("queue.directory={}", queue.display()));
        place
    }

    pub fn set(&mut self, setting: &str) {
        self.set.push(setting.to_owned());
    }

    /// Points the relay at a port of 127.0.0.1 instead of the sandbox's.
    pub fn set_smtp_port(&mut self, port: u16) {
        self.set(&format!("office365.smtp_port={port}"));
    }

    /// The client secret goes into a file, with this content at first.
    pub fn use_secret_file(&mut self, content: &str) -> PathBuf {
        let path = self.directory.path().join("client_secret");
        std::fs::write(&path, content).expect("the secret file");
        let file = self.directory.path().join("config.toml");
        let text = std::fs::read_to_string(&file).expect("config.toml");
        let lines = text.lines().filter(|line| !line.starts_with("client_secret"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = format!("{text}\nclient_secret_file = {:?}\n", path.display().to_string());
        std::fs::write(file, text).expect("config.toml");
        path
    }

    /// Writes a file into the directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The relay proves itself by this from now on.
    pub fn use_credential(&mut self, credential: &RelayCredential) {
        let ca_file = self.directory.path().join("ca.pem");
        self.write("config.toml", &self.sandbox.relay_config_with(&ca_file, credential));
        let variables = self.sandbox.identity_environment().into_iter();
        self.environment = variables.map(|(name, value)| (name.to_owned(), value)).collect();
    }

    /// Where a relay here has its configuration from.
    pub fn sources(&self) -> Sources {
        let file = Some(self.directory.path().join("config.toml"));
        Sources { file, set: self.set.clone(), environment: self.environment.clone() }
    }

    /// The configuration that a relay here runs with.
    pub fn config(&self) -> config::Config {
        config::load(&self.sources()).unwrap_or_else(|faults| panic!("{faults}"))
    }

    pub async fn relay(&self) -> Relay {
        let config = self.config();
        let clock = Clock::at(Clock::system().now()); // it moves when a test lets time pass
        Relay { daemon: Daemon::start(config, clock).await.expect("a relay") }
    }

    /// The next `count` messages that arrive in the tenant.
    pub async fn arrivals(&mut self, count: usize) -> Vec<Arc<Arrival>> {
        let mut arrivals = Vec::new();
        while arrivals.len() < count {
            let event = timeout(PATIENCE, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("{} of {count} arrived", arrivals.len()));
            if let Event::Arrived { arrival, .. } = event.expect("an event") {
                arrivals.push(arrival);
            }
        }
        arrivals
    }

    /// What the fake tenant has seen and nobody has asked for yet.
    pub fn seen(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

/// A running relay.
pub struct Relay {
    pub daemon: Daemon,
}

impl Relay {
    pub fn smtp(&self) -> SocketAddr {
        self.daemon.smtp_addresses()[0]
    }

    pub fn http(&self) -> SocketAddr {
        self.daemon.http_address().expect("http")
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.smtp()).await
    }

    /// The lane, once it is as wanted.
    pub async fn lane_with(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, async || {
            let lane = self.status().await["lanes"][0].clone();
            wanted(&lane).then_some(lane)
        })
        .await
    }

    /// Waits until nothing is being attempted.
    pub async fn quiet(&self) {
        self.lane_with("no attempt", |lane| lane["in_flight"] == 0).await;
    }

    pub async fn status(&self) -> Value {
        let (code, body) = get(self.http(), "/status").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    pub async fn queued(&self) -> u64 {
        self.status().await["lanes"][0]["queued"].as_u64().expect("a number")
    }

    pub async fn history(&self) -> Vec<Settled> {
        self.daemon.store().expect("a queue").history(false, 1000).await.expect("a history")
    }

    /// Waits until this many recipients are settled and nothing is queued.
    pub async fn settled(&self, count: usize) -> Vec<Settled> {
        until("an empty queue", async || {
            let history = self.history().await;
            (history.len() >= count && self.queued().await == 0).then_some(history)
        })
        .await
    }

    pub async fn stop(self) {
        self.daemon.drain().await;
    }
}

/// A message that the relay has no reason to change.
pub fn mail(from: &str, subject: &str) -> String {
    format!(
        "From: {from}\r\nTo: somebody@example.com\r\nDate: Mon, 23 Nov 2026 06:24:10 +0000\r\n\
         Message-ID: <{subject}@printer.example>\r\nSubject: {subject}\r\n\r\nText\r\n"
    )
}

pub fn subjects(arrivals: &[Arc<Arrival>]) -> Vec<&str> {
    arrivals.iter().map(|arrival| arrival.subject.as_deref().unwrap_or_default()).collect()
}

/// Lets time pass for the relay while nothing is under way: it need not be waited for.
pub async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A port that refuses connections until something listens on it, and that nobody else takes.
pub fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let port = socket.local_addr().expect("an address").port();
    (socket, port)
}

/// Hands each connection on to `target`.
pub fn forward(listener: TcpListener, target: SocketAddr) {
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
}
