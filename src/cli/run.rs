//! `run`: the daemon, until a signal ends it.

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{exit::Failure, systemd};
use crate::{
    clock::Clock,
    config::{Config, Sources},
    daemon::{Daemon, Reloader, StartError},
    listener::Inherited,
    telemetry,
};

pub(super) async fn run(sources: &Sources) -> Result<(), Failure> {
    // Before anything else opens files.
    let inherited = Inherited::take().map_err(StartError::from)?;
    let (config, mut reloader) = Reloader::load(sources.clone())?;
    telemetry::init(&config.telemetry);
    forbid_core_dumps();
    warn(&config);
    let mut signals = Signals::new()?;
    let mut reloads = listen(SignalKind::hangup())?;
    let mut daemon = Daemon::start_with(config, Clock::system(), inherited).await?;
    notify(&[NotifyState::Ready]);
    let _informed = systemd::keep_informed(daemon.watching(), sources);
    let end = loop {
        tokio::select! {
            () = signals.wait() => break Ok(()),
            () = daemon.broken() => break Err(broken()),
            _ = reloads.recv() => {}
        }
        notify(&reloading());
        tokio::select! {
            () = signals.wait() => break Ok(()),
            () = reloader.reload(&mut daemon) => {}
        }
        notify(&[NotifyState::Ready]);
    };
    notify(&[NotifyState::Stopping, NotifyState::Status("finishing what is under way")]);
    tokio::select! {
        () = daemon.drain() => end,
        // Whoever asks twice does not want to wait; what was acknowledged is on disk.
        () = signals.wait() => Err(Failure::try_later("second signal, drain cut short")),
    }
}

/// systemd, Docker and Kubernetes start it again.
fn broken() -> Failure {
    Failure::fault(
        "a part of o365-relay broke off by a fault of its own; the log tells which and where, please \
         report it. What was answered with 250 is in the queue: start o365-relay again",
    )
}

fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(warning, "configuration");
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind)
        .map_err(|error| Failure::unavailable(format!("could not wait for signals: {error}")))
}

/// systemd compares the time with that of its own request.
fn reloading() -> Vec<NotifyState<'static>> {
    NotifyState::monotonic_usec_now()
        .map_or_else(|_| vec![NotifyState::Reloading], |now| vec![NotifyState::Reloading, now])
}

impl Signals {
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells systemd; without it there is nobody to tell.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd not notified");
    }
}

/// A core dump would hold the client secret and the token.
fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core dumps not forbidden");
    }
}
