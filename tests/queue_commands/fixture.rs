//! Queues made through the store, the binary run on them, and daemons beside it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use o365_relay::{
    clock::{Clock, UnixMillis},
    config::{self, Sources},
    daemon::Daemon,
    mail::queue_id::QueueId,
    sandbox::Sandbox,
    smtp::{
        envelope::{Envelope, MailParameters, RcptParameters, Recipient},
        path::{ForwardPath, ReversePath},
    },
    store::{Arrival, Concluded, Config, Outcome, Router, Settlement, Store, Synced},
};

/// The sandbox's mailbox, which is the one lane.
pub const LANE: &str = "relay@sandbox.example";

/// Waiting for something that must come: a test that hangs is worse than one that fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

struct OneLane;

impl Router for OneLane {
    fn lane(&self, _: &ReversePath) -> String {
        LANE.to_owned()
    }

    fn knows(&self, lane: &str) -> bool {
        lane == LANE
    }
}

/// A queue directory, removed in the end.
pub struct Queue {
    directory: tempfile::TempDir,
}

impl Queue {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The store, while no daemon has it.
    pub fn store(&self) -> Store {
        let config = Config {
            directory: self.path("queue"),
            min_free_bytes: 0,
            max_messages: 1_000_000,
            history_keep: Duration::from_secs(86_400),
        };
        Store::open(config, Clock::system(), Arc::new(Synced), Arc::new(OneLane)).unwrap()
    }

    /// Runs a queue command on the directory, without a configuration.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        let directory = self.path("queue");
        self.run_with(&["--directory", directory.to_str().unwrap()], arguments).await
    }

    /// Runs a command with these settings.
    pub async fn run_with(&self, settings: &[&str], arguments: &[&str]) -> Ran {
        let mut command = command(arguments);
        command.args(settings);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        Ran::new(arguments, output)
    }

    /// Configures a relay in front of `sandbox` with this queue; `smtp_port` may be another's.
    pub fn configure(&self, sandbox: &Sandbox, smtp_port: u16) -> Settings {
        let (ca_file, file) = (self.path("ca.pem"), self.path("office365.toml"));
        std::fs::write(&ca_file, sandbox.ca_pem()).unwrap();
        std::fs::write(&file, sandbox.relay_config(&ca_file)).unwrap();
        let set = [
            format!("queue.directory={}", self.path("queue").display()),
            format!("office365.smtp_port={smtp_port}"),
            "office365.max_connections=1".into(),
            "office365.pace=unlimited".into(),
            "queue.min_free_bytes=0".into(),
            "listener.addresses=127.0.0.1:0".into(),
            "http.address=127.0.0.1:0".into(),
        ];
        Settings { file, set: set.to_vec() }
    }
}

/// What a daemon was configured with, for commands beside it.
pub struct Settings {
    file: PathBuf,
    set: Vec<String>,
}

impl Settings {
    pub async fn start(&self) -> Daemon {
        let (file, set) = (Some(self.file.clone()), self.set.clone());
        let sources = Sources { file, set, ..Sources::default() };
        let config = config::load(&sources).expect("a configuration without faults");
        Daemon::start(config, Clock::system()).await.expect("a daemon")
    }

    /// The arguments of a command about `daemon`.
    pub fn arguments(&self, daemon: &Daemon) -> Vec<String> {
        let mut arguments = vec!["--config".to_owned(), self.file.display().to_string()];
        let http = daemon.http_address().expect("an HTTP server");
        let http = format!("http.address={http}");
        for set in self.set.iter().chain([&http]) {
            arguments.extend(["--set".to_owned(), set.clone()]);
        }
        arguments
    }
}

/// The binary, with nothing of our own environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_o365-relay"));
    command.args(arguments).env_clear();
    command
}

/// What a command did.
pub struct Ran {
    what: String,
    pub code: i32,
    pub octets: Vec<u8>,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn new(arguments: &[&str], output: Output) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Self {
            what: arguments.join(" "),
            code: output.status.code().expect("an exit code"),
            out: text(&output.stdout),
            octets: output.stdout,
            err: text(&output.stderr),
        }
    }

    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        let Self { what, out, err, .. } = &self;
        assert_eq!(self.code, code, "{what}\nstdout: {out}\nstderr: {err}");
        self
    }

    #[track_caller]
    pub fn tells(self, wanted: &[&str]) -> Self {
        let text = format!("{}{}", self.out, self.err);
        for wanted in wanted {
            assert!(text.contains(wanted), "{}: no {wanted:?} in\n{text}", self.what);
        }
        self
    }

    /// Standard output, each line an object.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let line = |line| serde_json::from_str(line).expect("a line of JSON");
        self.out.lines().map(line).collect()
    }
}

pub fn arrival(from: &str, to: &[&str]) -> Arrival {
    let recipient = |text: &&str| Recipient {
        forward_path: ForwardPath(text.parse().unwrap()),
        parameters: RcptParameters::default(),
    };
    Arrival {
        envelope: Envelope {
            reverse_path: match from {
                "" => ReversePath::Null,
                from => ReversePath::Address(from.parse().unwrap()),
            },
            parameters: MailParameters { smtputf8: !from.is_ascii(), ..MailParameters::default() },
            recipients: to.iter().map(recipient).collect(),
        },
        time: Clock::system().now(),
        client: "192.0.2.7".into(),
        hello: "printer".into(),
        message_id: "<1@printer.example>".into(),
    }
}

pub async fn put(store: &Store, from: &str, to: &[&str]) -> QueueId {
    put_octets(store, &mail_data(from), arrival(from, to)).await
}

pub fn mail_data(from: &str) -> Vec<u8> {
    format!("From: <{from}>\r\nSubject: x\r\nMessage-ID: <1@printer.example>\r\n\r\nText\r\n")
        .into()
}

pub async fn put_octets(store: &Store, octets: &[u8], arrival: Arrival) -> QueueId {
    let mut draft = store.draft();
    draft.append(octets).await.unwrap();
    store.accept(draft, arrival).await.unwrap().id()
}

pub async fn settle(store: &Store, id: QueueId, position: u32, outcome: Outcome, advice: &str) {
    let advice = (!advice.is_empty()).then(|| advice.to_owned());
    let outcomes = vec![Concluded { position, outcome, advice }];
    store.settle(Settlement { id, outcomes, notices: Vec::new() }).await.unwrap();
}

/// An attempt has failed, and the next one is a day away.
pub async fn defer(store: &Store, id: QueueId, position: u32, reply: &str, advice: &str) {
    let outcome = Outcome::Deferred { reply: reply.into(), next_attempt: tomorrow() };
    settle(store, id, position, outcome, advice).await;
}

pub fn tomorrow() -> UnixMillis {
    Clock::system().now() + Duration::from_secs(86_400)
}

pub fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}
