//! Reload: the configuration is read again, and what can change does, without a mail or a session
//! lost.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Daemon,
    sending::{Sending, SendingConfig},
};
use crate::{
    clock::UnixMillis,
    config::{self, Change, Config, Faults, InForce, Sources},
    http::ReloadStatus,
    telemetry,
};

/// How long a reload waits until what sends has its new settings; after that it says so, and the
/// next signal need not wait.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the configuration again, and knows what is in force meanwhile.
pub struct Reloader {
    sources: Sources,
    in_force: InForce,
}

impl Reloader {
    /// Reads the sources for the first time.
    ///
    /// # Errors
    /// Every fault there is.
    pub fn load(sources: Sources) -> Result<(Config, Self), Faults> {
        let (config, in_force) = config::load_to_compare(&sources)?;
        Ok((config, Self { sources, in_force }))
    }

    /// Reads them again, gives the daemon what can change while it runs, and says what became of
    /// each change. Faults change nothing.
    pub async fn reload(&mut self, daemon: &mut Daemon) {
        let sources = self.sources.clone();
        let read = tokio::task::spawn_blocking(move || config::load_to_compare(&sources)).await;
        let (config, next) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(faults)) => return daemon.refuse(&faults),
            Err(error) => return tracing::error!(%error, "configuration not read again"),
        };
        let changes = self.in_force.changes(&next);
        // Before anything is waited for: a reload that is cut short has begun all the same.
        self.in_force.take(next, &changes);
        daemon.change(config, &changes).await;
    }
}

impl Daemon {
    fn refuse(&self, faults: &Faults) {
        let list: Vec<_> = faults.iter().map(ToString::to_string).collect();
        for fault in &list {
            tracing::error!(fault, "configuration fault");
        }
        tracing::error!(faults = list.len(), "configuration not reloaded, the old one stays");
        let time = self.now();
        self.watched.send_modify(|watched| {
            let before = watched.reload.take();
            let needs_restart = before.map(|reload| reload.needs_restart).unwrap_or_default();
            let changed = Vec::new();
            watched.reload = Some(ReloadStatus { time, changed, needs_restart, faults: list });
        });
    }

    async fn change(&mut self, mut config: Config, changes: &[Change]) {
        for warning in &config.warnings {
            tracing::warn!(warning, "configuration");
        }
        let (restart, now): (Vec<_>, Vec<_>) =
            changes.iter().cloned().partition(|change| change.needs_restart);
        for Change { key, from, to, .. } in &restart {
            tracing::warn!(key, from, to, "setting changed, which takes a restart");
        }
        for Change { key, from, to, .. } in &now {
            tracing::info!(key, from, to, "setting changed");
        }
        if now.iter().any(|change| change.key == "log.level") {
            telemetry::set_filter(&config.telemetry.filter);
        }
        self.grace = config.shutdown_grace;
        if !now.is_empty() {
            self.serving.change(std::mem::take(&mut config.listeners));
        }
        if let Some(store) = self.store() {
            store.set_limits(&config.store);
        }
        self.publish(&now, &restart);
        if now.iter().any(Change::is_of_sending) {
            self.change_sending(SendingConfig::of(config), now.clone()).await;
        }
        tracing::info!(
            changed = now.len(),
            needs_restart = restart.len(),
            "configuration reloaded"
        );
    }

    fn publish(&self, changed: &[Change], needs_restart: &[Change]) {
        let told = |changes: &[Change]| changes.iter().map(ToString::to_string).collect();
        let (changed, needs_restart) = (told(changed), told(needs_restart));
        let reload = ReloadStatus { time: self.now(), changed, needs_restart, faults: Vec::new() };
        let senders = self.serving.senders();
        self.watched.send_modify(|watched| {
            for (listener, sender) in watched.listeners.iter_mut().zip(senders) {
                listener.sender = sender;
            }
            watched.reload = Some(reload);
        });
    }

    async fn change_sending(&self, config: SendingConfig, changes: Vec<Change>) {
        let (sending, watched) = (Arc::clone(&self.sending), Arc::clone(&self.watched));
        // A task of its own: a slow disk must not keep the next signal waiting. Vital: if it broke
        // off halfway, nothing might be sent any more.
        let change = self.drain.vital("reload", async move {
            let mut sending = sending.lock().await;
            Sending::change(&mut sending, config, &changes).await;
            watched.send_modify(|watched| watched.queue = sending.queue().clone());
        });
        let mut change = tokio::spawn(change);
        match timeout(PATIENCE, &mut change).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "sending not changed; restart the relay");
            }
            Err(_) => tracing::warn!(
                "what sends is still waiting for its new settings, the store may be slow"
            ),
        }
    }

    fn now(&self) -> String {
        let now: UnixMillis = self.watched.borrow().clock.now();
        now.rfc3339()
    }
}
