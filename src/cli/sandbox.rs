//! `sandbox`: a fake tenant, a relay in front of it, and one message that is seen going through.

mod credential;
mod tenant;

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use lettre::Address;
use tokio::time::{sleep, timeout};

use self::{credential::CredentialKind, tenant::TenantOptions};
use super::{Settings, exit::Failure, output::line, run::Signals, send, storyline::Storyline};
use crate::{
    clock::Clock,
    config::{self, Sources},
    daemon::{Daemon, StartError},
    listener,
    sandbox::{self, Event, Sandbox, SandboxError},
    store::{Store, StoreError},
    telemetry,
};

/// How long the test message may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// End after the test message: exit 0 if it arrived
    #[arg(long)]
    once: bool,
    /// The fake tenant alone, as a test double for a relay or an application of your own
    #[arg(long, conflicts_with_all = ["once", "listen"])]
    only: bool,
    /// Where the relay takes plain SMTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2525")]
    listen: SocketAddr,
    /// Keep the CA certificate, the configuration and the queue here [default: a temporary one]
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Write each message that arrives here, as NUMBER.eml and NUMBER.json
    #[arg(long, value_name = "DIRECTORY")]
    save: Option<PathBuf>,
    /// Where the fake smarthost listens [default: any free port]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", hide_default_value = true)]
    smtp_address: SocketAddr,
    /// Where the fake token endpoint listens [default: any free port]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", hide_default_value = true)]
    login_address: SocketAddr,
    /// How a relay (or whatever you test) proves who it is; the files it needs come into the
    /// directory
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    credential: CredentialKind,
    #[command(flatten)]
    tenant: TenantOptions,
}

pub(super) async fn run(options: &Options, settings: &Settings) -> Result<(), Failure> {
    if options.tenant.list_faults {
        return Ok(tenant::list_faults()?);
    }
    let mut signals = Signals::new()?;
    let config = options.tenant.apply(sandbox::Config {
        login_address: options.login_address,
        smtp_address: options.smtp_address,
        save_to: options.save.clone(),
        identity: options.credential.identity(),
        ..sandbox::Config::default()
    })?;
    let place = Place::new(options.directory.as_deref())?;
    if options.only {
        telemetry::init(&quiet());
    }
    let sandbox = Sandbox::start(config).await;
    let sandbox = sandbox.map_err(|error| Failure::of(&error, no_sandbox(&error)))?;
    let mut story = Storyline::new(sandbox.subscribe());
    let configuration = place.write(&sandbox, options.credential)?;
    let mailbox = sandbox.config().mailboxes.join(", ");
    let (login, smtp) = (sandbox.login_url(), sandbox.smtp_address().port());
    story.tell(
        "sandbox",
        &format!("fake tenant ready: {login}, smarthost localhost:{smtp}, mailbox {mailbox}"),
    )?;

    tenant::tell_faults(&sandbox, &story)?;
    for (name, value) in sandbox.identity_environment() {
        story.tell("sandbox", &format!("the host's environment: {name}={value}"))?;
    }

    let result = if options.only {
        story.tell(
            "sandbox",
            &format!("a relay finds it with --config {}", configuration.display()),
        )?;
        watch(&mut story, &mut signals).await
    } else {
        let relay = Relay { options, settings, configuration: &configuration, place: &place };
        relay.run(&sandbox, &mut story, &mut signals).await
    };
    sandbox.shutdown().await;
    result
}

fn no_sandbox(error: &SandboxError) -> String {
    match error {
        SandboxError::SaveTo { path, source } => format!(
            "could not save messages in {}: {source}; name a directory that this user may write \
             to with --save",
            path.display()
        ),
        other => other.to_string(),
    }
}

/// Warnings only: the story is told on standard output.
fn quiet() -> telemetry::Config {
    telemetry::Config { format: telemetry::Format::Text, filter: "warn".into() }
}

/// Prints what happens until a signal comes.
async fn watch(story: &mut Storyline, signals: &mut Signals) -> Result<(), Failure> {
    line("Ctrl-C ends it.")?;
    loop {
        tokio::select! {
            event = story.next() => if event?.is_none() { return Ok(()) },
            () = signals.wait() => return Ok(()),
        }
    }
}

struct Relay<'a> {
    options: &'a Options,
    settings: &'a Settings,
    configuration: &'a Path,
    place: &'a Place,
}

impl Relay<'_> {
    async fn run(
        &self,
        sandbox: &Sandbox,
        story: &mut Storyline,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let config = config::load(&self.sources(sandbox))?;
        telemetry::init(&config.telemetry);
        let daemon = Daemon::start(config, Clock::system()).await.map_err(not_started)?;
        let outcome = self.show(&daemon, sandbox, story, signals).await;
        daemon.drain().await;
        outcome
    }

    /// The configuration that the sandbox wrote, and what `--set` says. The environment is that
    /// of the host which the sandbox plays: ours may belong to a real tenant.
    fn sources(&self, sandbox: &Sandbox) -> Sources {
        let mut set = vec![
            format!("listener.addresses={}", self.options.listen),
            format!("queue.directory={}", self.place.queue().display()),
            "queue.min_free_bytes=0".to_owned(),
            // What is tried out may go with the container that it is tried in.
            "queue.ephemeral=true".to_owned(),
            "http.address=off".to_owned(),
            "log.level=warn".to_owned(),
        ];
        set.extend(self.settings.set.iter().cloned());
        let file = Some(self.configuration.to_path_buf());
        let variables = sandbox.identity_environment().into_iter();
        let environment = variables.map(|(name, value)| (name.to_owned(), value)).collect();
        Sources { file, environment, set }
    }

    async fn show(
        &self,
        daemon: &Daemon,
        sandbox: &Sandbox,
        story: &mut Storyline,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let first = daemon.listening().first().and_then(|one| one.addresses.first());
        let Some(relay) = first else {
            return Err(Failure::usage("listener.addresses is empty"));
        };
        story.tell("relay", &format!("takes plain SMTP on {relay}"))?;
        tokio::select! {
            sent = timeout(PATIENCE, send_and_follow(relay, daemon, sandbox, story)) => match sent {
                Ok(result) => result?,
                Err(_) => return Err(did_not_arrive(daemon)),
            },
            () = signals.wait() => return Ok(()),
        }
        if self.options.once {
            return Ok(());
        }
        line(format!("\nNow send to {relay} from any program; nothing leaves this machine."))?;
        watch(story, signals).await
    }
}

/// The same faults as those of `run`, but here the arguments say where things are.
fn not_started(error: StartError) -> Failure {
    let message = match &error {
        StartError::Listener(fault) => format!(
            "the sandbox's relay could not listen on {}: {}; choose another address with --listen, \
             such as --listen 127.0.0.1:0 for any free port",
            fault.address(),
            fault.cause()
        ),
        StartError::Store { source: StoreError::Locked { path, .. }, .. } => {
            let path = path.display();
            return Failure::try_later(format!(
                "{path} is in use by another sandbox; choose another place with --directory"
            ));
        }
        _ => return error.into(),
    };
    Failure::of(&error, message)
}

async fn send_and_follow(
    relay: &listener::Address,
    daemon: &Daemon,
    sandbox: &Sandbox,
    story: &mut Storyline,
) -> Result<(), Failure> {
    let mailbox = sandbox.config().mailboxes.first().map_or("", String::as_str);
    let from: Address = mailbox
        .parse()
        .map_err(|error| Failure::unavailable(format!("the sandbox's mailbox: {error}")))?;
    let to = Address::new("somebody", "example.com")
        .map_err(|error| Failure::unavailable(error.to_string()))?;
    story.tell("app", &format!("sends a test message to {relay}: no TLS, no password"))?;
    let reply = send::send(relay, &from, &[to], "Mail goes through").await?;
    let Some(store) = daemon.store() else {
        while !matches!(story.next().await?, Some(Event::Arrived { .. }) | None) {}
        return Ok(story.tell("relay", &format!("passed upstream's reply on: {reply}"))?);
    };
    story.tell("relay", &format!("accepted, durable: {reply}"))?;
    let id = reply.rsplit(' ').next().unwrap_or_default().to_owned();
    loop {
        match story.next().await? {
            // The relay gave the message its Message-ID, made of the queue id.
            Some(Event::Arrived { arrival, .. })
                if arrival.message_id.as_deref().is_some_and(|found| found.contains(&id)) =>
            {
                break;
            }
            Some(_) => {}
            None => return Err(Failure::unavailable("the sandbox ended")),
        }
    }
    let recorded = settled(store, &id).await?;
    story.tell("relay", &format!("relayed {id}; upstream's reply is on record: {recorded}"))?;
    Ok(())
}

/// Upstream's reply, once the relay has recorded it.
async fn settled(store: &Store, id: &str) -> Result<String, Failure> {
    loop {
        let history = store.history(false, 10).await;
        let history = history.map_err(|error| Failure::unavailable(error.to_string()))?;
        if let Some(settled) = history.into_iter().find(|settled| settled.id == id) {
            return Ok(settled.reply);
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn did_not_arrive(daemon: &Daemon) -> Failure {
    let readiness = daemon.watched().readiness();
    let causes = [readiness.reasons, readiness.warnings].concat();
    Failure::unavailable(format!(
        "the test message did not arrive within 30 s: {}",
        causes.join("; ")
    ))
}

/// What a relay finds the sandbox by.
const CONFIGURATION: &str = "office365.toml";

/// The directory that the sandbox keeps its things in.
struct Place {
    directory: PathBuf,
    temporary: bool,
}

impl Place {
    fn new(wanted: Option<&Path>) -> Result<Self, Failure> {
        let (directory, temporary) = match wanted {
            Some(directory) => (directory.to_path_buf(), false),
            None => {
                let name = format!("o365-relay-sandbox-{:016x}", fastrand::u64(..));
                (std::env::temp_dir().join(name), true)
            }
        };
        let make = fs::DirBuilder::new().mode(0o700).recursive(!temporary).create(&directory);
        make.map_err(|error| cannot(&directory, &error))?;
        let place = Self { directory, temporary };
        place.forget_earlier()?;
        Ok(place)
    }

    fn queue(&self) -> PathBuf {
        self.directory.join("queue")
    }

    /// Who waits for the configuration of this sandbox must not find that of an earlier one, which
    /// had another secret.
    fn forget_earlier(&self) -> Result<(), Failure> {
        let configuration = self.directory.join(CONFIGURATION);
        match fs::remove_file(&configuration) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(cannot(&configuration, &error))
            }
            _ => Ok(()),
        }
    }

    /// Writes `ca.pem`, what the credential needs, and then `office365.toml`, whole or not at
    /// all: who waits for the last finds all.
    fn write(&self, sandbox: &Sandbox, credential: CredentialKind) -> Result<PathBuf, Failure> {
        let directory =
            fs::canonicalize(&self.directory).map_err(|error| cannot(&self.directory, &error))?;
        let (ca_file, configuration) = (directory.join("ca.pem"), directory.join(CONFIGURATION));
        let (credential, files) = credential
            .make(sandbox, &directory)
            .map_err(|error| Failure::of(&error, error.to_string()))?;
        for (path, text) in files {
            replace(&path, &text).map_err(|error| cannot(&path, &error))?;
        }
        let text = sandbox.relay_config_with(&ca_file, &credential);
        replace(&ca_file, sandbox.ca_pem()).map_err(|error| cannot(&ca_file, &error))?;
        replace(&configuration, &text).map_err(|error| cannot(&configuration, &error))?;
        Ok(configuration)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// By rename; 0600, since one of the files holds a secret, if only the sandbox's.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::rename(&new, path)
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    let message = format!("could not write {path}: {error}; name another place with --directory");
    Failure::of(error, message)
}
