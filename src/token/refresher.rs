//! The token task: it alone asks for tokens, so that never two requests are under way.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    AccessToken, FailedRefresh, Fetched, Source, TokenError, TokenState,
    events::Events,
    expiry::Reminder,
    handle::Shared,
    schedule::{Backoff, Plan, refresh_wait},
};
use crate::{
    clock::{Clock, UnixMillis},
    drain::Drain,
};

/// Keeps the published state fresh until the drain.
#[derive(Debug)]
pub(super) struct Refresher<S> {
    source: S,
    clock: Clock,
    shared: Arc<Shared>,
    events: Events,
    backoff: Backoff,
    reminder: Reminder,
    forced_at: Option<Instant>,
}

impl<S: Source> Refresher<S> {
    pub(super) fn new(source: S, clock: Clock, shared: Arc<Shared>, events: Events) -> Self {
        Self {
            source,
            clock,
            shared,
            events,
            backoff: Backoff::default(),
            reminder: Reminder::default(),
            forced_at: None,
        }
    }

    pub(super) async fn run(mut self, drain: Drain) {
        self.refresh_until(&drain).await;
        self.shared.end();
    }

    async fn refresh_until(&mut self, drain: &Drain) {
        if let Some(expiry) = self.source.expiry() {
            self.shared.publish(TokenState { expiry: Some(expiry), ..TokenState::default() });
        }
        let mut plan = Plan::after(Duration::ZERO, Instant::now(), self.clock.now(), false);
        loop {
            tokio::select! {
                biased;
                () = drain.signaled() => return,
                () = self.until_due(&plan) => {}
            }
            self.shared.forget_demand();
            let asked_at = self.clock.now();
            let outcome = tokio::select! {
                biased;
                () = drain.signaled() => return,
                outcome = self.source.fetch() => outcome,
            };
            plan = match outcome {
                Ok(fetched) => self.obtained(fetched, asked_at),
                Err(error) => self.failed(error),
            };
        }
    }

    async fn until_due(&mut self, plan: &Plan) {
        loop {
            self.remind();
            let now = Instant::now();
            if plan.is_due(now, self.clock.now()) {
                return;
            }
            let mut next_look = plan.next_look(now);
            if plan.yields && self.shared.is_demanded() {
                let allowed = self
                    .forced_at
                    .map_or(plan.not_before, |last| plan.not_before.max(last + BETWEEN_FORCED));
                if now >= allowed {
                    self.forced_at = Some(now);
                    return;
                }
                next_look = next_look.min(allowed);
            }
            tokio::select! {
                () = sleep_until(next_look) => {}
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// Says in time that the credential is going to end.
    fn remind(&mut self) {
        let now = self.clock.now();
        let expiry = self.source.expiry();
        self.shared.publish_expiry(expiry.as_ref());
        if let Some(expiry) = expiry
            && self.reminder.is_due(&expiry, now)
        {
            self.events.ends_soon(&expiry, now);
        }
    }

    fn obtained(&mut self, fetched: Fetched, asked_at: UnixMillis) -> Plan {
        let now = self.clock.now();
        // Counted from the question, as the answer may have been under way for long.
        let expires_at = asked_at + fetched.lifetime;
        let wait = refresh_wait(fetched.lifetime, fetched.refresh_in, fastrand::f64());
        let plan = Plan::after(wait, Instant::now(), now, true);
        let failures = self.shared.state().last_error.map_or(0, |failed| failed.attempts);
        self.backoff = Backoff::default();
        self.events.obtained(expires_at.since(now), wait, failures);
        self.shared.publish(TokenState {
            token: Some(Arc::new(AccessToken::new(fetched.token, now, expires_at))),
            last_error: None,
            next_refresh: Some(plan.due_wall),
            expiry: self.source.expiry(),
        });
        plan
    }

    fn failed(&mut self, error: TokenError) -> Plan {
        let now = self.clock.now();
        let wait = self.backoff.after(&error, fastrand::f64());
        let yields = !error.is_transient() && error.retry_after().is_none();
        let plan = Plan::after(wait, Instant::now(), now, yields);
        let TokenState { token, last_error: earlier, .. } = self.shared.state();
        let failed = FailedRefresh {
            advice: self.events.advice(&error),
            since: earlier.as_ref().map_or(now, |earlier| earlier.since),
            at: now,
            attempts: earlier.as_ref().map_or(0, |earlier| earlier.attempts).saturating_add(1),
            next_try: plan.due_wall,
            has_token: token.as_ref().is_some_and(|token| token.is_usable(now)),
            error,
        };
        let left = token.as_ref().map_or(Duration::ZERO, |token| token.expires_at().since(now));
        self.events.failed(&failed, earlier.as_deref(), wait, left);
        self.shared.publish(TokenState {
            token,
            last_error: Some(Arc::new(failed)),
            next_refresh: Some(plan.due_wall),
            expiry: self.source.expiry(),
        });
        plan
    }
}

/// Between two requests that delivery or a person demanded.
const BETWEEN_FORCED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
