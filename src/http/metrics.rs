//! `/metrics`: what is counted since the start, and what is read at the moment of asking. Neither
//! reads mail nor the whole queue, however long it is.

use super::{process, status::Watched};
use crate::{
    clock::UnixMillis,
    queue::{pause::PauseSnapshot, runner::LaneSnapshot},
    store::{Store, StoreError},
    telemetry::metrics::{
        Page,
        catalogue::{self as all},
        lane,
    },
    token::TokenHandle,
};

impl Watched {
    /// The page of metrics.
    ///
    /// # Errors
    /// [`StoreError`] if the queue cannot be read.
    pub async fn metrics(&self) -> Result<Page, StoreError> {
        let now = self.clock.now();
        let mut page = Page::default();
        let lanes = self.queue.lanes();
        for one in &lanes {
            show_lane(&mut page, one, now, self.store.is_some());
        }
        let accounts = self.queue.accounts();
        for account in &accounts {
            show_pause(&mut page, &account.gate, account.pause.as_ref(), now);
            let name = if accounts.len() > 1 { account.name.as_str() } else { "" };
            show_token(&mut page, name, &account.token, now);
        }
        if let Some(store) = &self.store {
            show_queue(&mut page, store, now).await?;
        }
        let readiness = self.readiness();
        page.set(&all::READY, &[], flag(readiness.ready));
        let version = env!("CARGO_PKG_VERSION");
        page.set(&all::BUILD_INFO, &[version, readiness.mode.as_str()], 1.0);
        page.set(&all::PROCESS_START, &[], seconds_since_1970(self.started));
        process::show(&mut page);
        Ok(page)
    }
}

fn show_lane(page: &mut Page, snapshot: &LaneSnapshot, now: UnixMillis, queues: bool) {
    let label: &str = &lane(&snapshot.name);
    if queues {
        // A lane with nothing in it is not in the summary.
        for metric in
            [&all::QUEUE_MESSAGES, &all::QUEUE_HELD, &all::QUEUE_BYTES, &all::QUEUE_OLDEST]
        {
            page.add(metric, &[label], 0.0);
        }
    }
    page.add(&all::ATTEMPTS, &[label], count(snapshot.in_flight));
    page.add(&all::WAITING, &[label], count(snapshot.waiting));
    page.add(&all::UPSTREAM_IDLE, &[label], count(snapshot.idle_connections));
    page.add(&all::UPSTREAM_LIMIT, &[label], count(snapshot.connection_limit));
    if let Some(limit) = snapshot.recipients_per_day {
        page.add(&all::DAY_RECIPIENTS, &[label], large(snapshot.recipients_today));
        page.add(&all::DAY_RECIPIENTS_LIMIT, &[label], large(limit));
    }
    page.add(&all::HELD_SENDERS, &[label], count(snapshot.held_senders.len()));
    show_pause(page, label, snapshot.pause.as_ref(), now);
}

/// Of lanes that share a label the longest pause is shown.
fn show_pause(page: &mut Page, label: &str, pause: Option<&PauseSnapshot>, now: UnixMillis) {
    page.most(&all::PAUSED, &[label], flag(pause.is_some()));
    let age = pause.map_or(0.0, |pause| now.since(pause.since).as_secs_f64());
    page.most(&all::PAUSE_AGE, &[label], age);
    if let Some(pause) = pause {
        page.set(&all::PAUSE_CAUSE, &[label, pause.kind], 1.0);
    }
}

async fn show_queue(page: &mut Page, store: &Store, now: UnixMillis) -> Result<(), StoreError> {
    for queued in store.summary().await?.lanes {
        let label: &str = &lane(&queued.lane);
        page.add(&all::QUEUE_MESSAGES, &[label], large(queued.messages));
        page.add(&all::QUEUE_HELD, &[label], large(queued.held));
        page.add(&all::QUEUE_BYTES, &[label], large(queued.octets));
        let age = queued.oldest_waiting.map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
        page.most(&all::QUEUE_OLDEST, &[label], age);
    }
    let room = store.room();
    page.set(&all::QUEUE_LIMIT, &[], large(room.max_messages));
    page.set(&all::DISK_WANTED, &[], large(room.wanted));
    if let Some(free) = room.free {
        page.set(&all::DISK_FREE, &[], large(free));
    }
    page.set(&all::STORE_POISONED, &[], flag(store.is_poisoned()));
    Ok(())
}

fn show_token(page: &mut Page, account: &str, token: &TokenHandle, now: UnixMillis) {
    let state = token.snapshot();
    let usable = state.usable(now);
    page.set(&all::TOKEN_VALID, &[account], flag(usable.is_some()));
    let remaining = usable.map_or(0.0, |token| token.expires_at().since(now).as_secs_f64());
    page.set(&all::TOKEN_REMAINING, &[account], remaining);
    if let Some(token) = usable {
        let age = now.since(token.obtained_at()).as_secs_f64();
        page.set(&all::TOKEN_AGE, &[account], age);
    }
    if let Some(expiry) = &state.expiry {
        let end = seconds_since_1970(expiry.at);
        page.set(&all::CREDENTIAL_EXPIRY, &[account], end);
        page.set(&all::CREDENTIAL_REMAINING, &[account], end - seconds_since_1970(now));
    }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

fn seconds_since_1970(time: UnixMillis) -> f64 {
    let seconds = time.0.div_euclid(1000);
    let magnitude = large(seconds.unsigned_abs());
    if seconds < 0 { -magnitude } else { magnitude }
}

fn count(value: usize) -> f64 {
    large(value as u64)
}

/// Exact up to 2^53, which no count here comes near.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
pub(super) fn large(value: u64) -> f64 {
    value as f64
}
