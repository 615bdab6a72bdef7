//! The first message, through a relay that lives just for it.

use std::time::Duration;

use lettre::Address;
use tokio::time::{sleep, timeout};

use crate::{
    cli::{exit::Failure, output::line, send},
    clock::Clock,
    config::{self, Sources},
    daemon::Daemon,
};

/// Sends one message through a relay with this configuration, on a free port and with a queue
/// of its own.
pub(super) async fn first(sources: &Sources, mailbox: &str, to: &Address) -> Result<(), Failure> {
    let queue = std::env::temp_dir().join(format!("o365-relay-setup-{:016x}", fastrand::u64(..)));
    let mut sources = sources.clone();
    sources.set.extend([
        "listener.addresses=127.0.0.1:0".to_owned(),
        "http.address=off".to_owned(),
        "queue.min_free_bytes=0".to_owned(),
        format!("queue.directory={}", queue.display()),
    ]);
    let config = config::load(&sources)?;
    let daemon = Daemon::start(config, Clock::system()).await?;
    let outcome = timeout(PATIENCE, send_and_follow(&daemon, mailbox, to)).await;
    let waiting = daemon.watched().readiness();
    daemon.drain().await;
    let _ = std::fs::remove_dir_all(&queue);
    outcome.unwrap_or_else(|_| {
        let causes = [waiting.reasons, waiting.warnings].concat().join("; ");
        Err(Failure::try_later(format!(
            "the first message did not go within {} s: {causes}; `o365-relay send` tries again once \
             the relay runs",
            PATIENCE.as_secs()
        )))
    })
}

async fn send_and_follow(daemon: &Daemon, mailbox: &str, to: &Address) -> Result<(), Failure> {
    let from: Address = mailbox
        .parse()
        .map_err(|error| Failure::usage(format!("the mailbox cannot be a sender: {error}")))?;
    let relay = daemon.listening().iter().flat_map(|one| &one.addresses).next();
    let relay = relay.ok_or_else(|| Failure::unavailable("the relay has no address"))?;
    send::send(relay, &from, std::slice::from_ref(to), "The first message of o365-relay").await?;
    let Some(store) = daemon.store() else { return Ok(()) };
    loop {
        let history = store.history(false, 1).await;
        let history = history.map_err(|error| Failure::unavailable(error.to_string()))?;
        if let Some(settled) = history.first() {
            let reply = &settled.reply;
            return match reply.starts_with('2') {
                true => Ok(line(format!("The first message is on its way to {to}: {reply}"))?),
                false => Err(Failure::unavailable(format!("the first message failed: {reply}"))),
            };
        }
        sleep(Duration::from_millis(20)).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
