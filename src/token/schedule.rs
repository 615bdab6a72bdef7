//! When the next request is due. Pure: the times come in, jitter as a fraction.

use std::time::Duration;

use tokio::time::Instant;

use super::{LEAST_TIME_LEFT, TokenError};
use crate::clock::UnixMillis;

/// When the refresher acts next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// The wait by the monotonic clock, which stands still while the machine is suspended.
    pub due: Instant,
    /// The same by wall time, which does not.
    pub due_wall: UnixMillis,
    /// Not before this, whatever happens.
    pub not_before: Instant,
    /// Whether a demand may pull the request forward. It may not where a pause was asked for.
    pub yields: bool,
}

impl Plan {
    /// A request `wait` after now.
    pub(super) fn after(wait: Duration, now: Instant, wall: UnixMillis, yields: bool) -> Self {
        Self {
            due: now + wait,
            due_wall: wall + wait,
            not_before: now + LEAST_WAIT.min(wait),
            yields,
        }
    }

    pub(super) fn is_due(&self, now: Instant, wall: UnixMillis) -> bool {
        now >= self.due || (wall >= self.due_wall && now >= self.not_before)
    }

    /// The next moment at which [`Plan::is_due`] can have become true.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        self.due.min(self.not_before.max(now + CLOCK_CHECK))
    }
}

/// The wait after a success: the earlier of `refresh_in` and half of the lifetime, a few percent
/// less by `jitter` (0 to 1). Half of a lifetime of 20 minutes or more leaves the 10 minutes
/// that the token should never go below.
pub(super) fn refresh_wait(
    lifetime: Duration,
    refresh_in: Option<Duration>,
    jitter: f64,
) -> Duration {
    let half = lifetime / 2;
    let wished = refresh_in.map_or(half, |wish| wish.min(half));
    // A very short life: renew while the token can still be handed out.
    let in_use = lifetime.saturating_sub(LEAST_TIME_LEFT + REQUEST_ALLOWANCE);
    wished.min(in_use).mul_f64(1.0 - 0.05 * jitter).max(LEAST_REFRESH_WAIT)
}

/// Waits after failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    transient: usize,
    faults: usize,
    local: usize,
}

impl Backoff {
    /// The wait after `error`, up to a fifth longer by `jitter` (0 to 1), so that many relays
    /// that failed together do not come back together.
    pub(super) fn after(&mut self, error: &TokenError, jitter: f64) -> Duration {
        let Self { transient, faults, local } = *self;
        *self = Self::default();
        let step = if error.is_transient() {
            self.transient = transient;
            next(&mut self.transient, &TRANSIENT_WAITS)
        } else if error.is_local() {
            self.local = local;
            next(&mut self.local, &TRANSIENT_WAITS)
        } else {
            self.faults = faults;
            next(&mut self.faults, &FAULT_WAITS)
        };
        let step = match error {
            TokenError::Throttled { .. } => step.max(THROTTLED_WAIT),
            _ => step,
        };
        let asked = error.retry_after().filter(|wait| !wait.is_zero());
        asked.unwrap_or(step).mul_f64(1.0 + 0.2 * jitter)
    }
}

fn next(count: &mut usize, waits: &[u64]) -> Duration {
    let wait = waits[(*count).min(waits.len() - 1)];
    *count += 1;
    Duration::from_secs(wait)
}

/// Seconds. Trouble that passes, and files on this host that somebody may just be writing.
const TRANSIENT_WAITS: [u64; 6] = [1, 2, 5, 15, 30, 60];
/// Seconds. What a person has to mend: soon once, as it may just be mended, then slowly.
const FAULT_WAITS: [u64; 2] = [30, 300];
/// After a 429 that names no time, as Microsoft's own libraries wait.
const THROTTLED_WAIT: Duration = Duration::from_secs(5);
/// Between any two requests: Entra ID blocks clients that loop (AADSTS50196).
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// Between a success and the next request that nobody demanded.
const LEAST_REFRESH_WAIT: Duration = Duration::from_secs(10);
/// Time for a request before a short-lived token becomes unusable.
const REQUEST_ALLOWANCE: Duration = Duration::from_secs(10);
/// How often wall time is compared: a machine may have slept.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(lifetime: u64, refresh_in: Option<u64>) -> u64 {
        refresh_wait(Duration::from_secs(lifetime), refresh_in.map(Duration::from_secs), 0.0)
            .as_secs()
    }

    #[test]
    fn a_refresh_comes_at_the_earlier_of_the_wish_and_half_life() {
        assert_eq!(at(3600, None), 1800);
        assert_eq!(at(86_400, Some(43_200)), 43_200);
        assert_eq!(at(3600, Some(600)), 600);
        assert_eq!(at(3600, Some(3000)), 1800);
        assert_eq!(at(600, None), 300);
        assert_eq!(at(70, None), 30);
        assert_eq!(at(45, None), 10);
        assert_eq!(at(3600, Some(0)), 10);
    }

    #[test]
    fn jitter_only_ever_refreshes_earlier_and_leaves_ten_minutes() {
        for lifetime in [20 * MINUTE, 60 * MINUTE, 90 * MINUTE, 1440 * MINUTE] {
            for jitter in [0.0, 0.5, 1.0] {
                let wait = refresh_wait(lifetime, None, jitter);
                assert!(lifetime >= wait + 10 * MINUTE);
                assert!(wait <= lifetime / 2 && wait >= lifetime.mul_f64(0.474));
            }
        }
    }

    #[test]
    fn a_suspended_machine_is_noticed_by_wall_time() {
        let (now, wall) = (Instant::now(), UnixMillis(0));
        let plan = Plan::after(30 * MINUTE, now, wall, true);
        let second = Duration::from_secs(1);
        assert!(!plan.is_due(now + second, wall + second));
        assert!(plan.is_due(now + second, wall + 8 * 60 * MINUTE));
        assert!(plan.is_due(now + 30 * MINUTE, UnixMillis(-1)), "a clock set back changes nothing");
        assert!(!plan.is_due(now, wall + 8 * 60 * MINUTE), "never two requests at once");
        assert_eq!(plan.next_look(now), now + CLOCK_CHECK);
    }

    #[test]
    fn waits_grow_and_a_wish_of_the_server_wins() {
        let mut backoff = Backoff::default();
        let timeout = TokenError::Timeout { host: "h".into(), after: MINUTE };
        let waits: Vec<u64> = (0..8).map(|_| backoff.after(&timeout, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 5, 15, 30, 60, 60, 60]);
        assert_eq!(backoff.after(&timeout, 1.0).as_secs(), 72);

        let url = TokenError::Address { url: String::new(), reason: String::new() };
        let waits: Vec<u64> = (0..3).map(|_| backoff.after(&url, 0.0).as_secs()).collect();
        assert_eq!(waits, [30, 300, 300]);
        assert_eq!(backoff.after(&timeout, 0.0).as_secs(), 1, "another kind starts anew");

        let throttled =
            |retry_after| TokenError::Throttled { status: 429, retry_after, refusal: None };
        assert_eq!(backoff.after(&throttled(None), 0.0).as_secs(), 5);
        assert_eq!(backoff.after(&throttled(Some(17 * MINUTE)), 0.0), 17 * MINUTE);
        assert_eq!(backoff.after(&throttled(Some(Duration::ZERO)), 0.0).as_secs(), 15);
    }
}
