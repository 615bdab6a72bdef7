//! What `/readyz` says: whether mail is taken and goes on, and what stands in the way.

use std::time::Duration;

use super::status::{Readiness, Watched};
use crate::{
    clock::UnixMillis,
    queue::{
        pause::{Cause, PauseSnapshot},
        runner::LaneSnapshot,
    },
    store::Store,
    token::{Expiry, RENEW},
};

/// A pause of all lanes makes the relay unready only when it has lasted this long.
const PAUSE_TOLERATED: Duration = Duration::from_secs(60);

/// A credential with so many days left or fewer is worth a warning.
const ENDS_SOON: i64 = 7;

impl Watched {
    /// Whether mail is accepted and can be relayed.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let (mut reasons, mut warnings) = (Vec::new(), Vec::new());
        if let Some(Err(error)) = self.store.as_ref().map(Store::admission) {
            reasons.push(format!("no mail is accepted: {error}"));
        }
        let now = self.clock.now();
        self.accounts_readiness(now, &mut reasons, &mut warnings);
        let lanes = self.queue.lanes();
        let lasting = |pause: &PauseSnapshot| now.since(pause.since) >= PAUSE_TOLERATED;
        let stands = |lane: &LaneSnapshot| lane.pause.as_ref().is_some_and(lasting);
        // The mailbox of one sender says nothing about those of others.
        let all_stand = !self.queue.is_by_sender() && lanes.iter().all(stands);
        for lane in lanes {
            let Some(pause) = lane.pause else { continue };
            let told = if all_stand { &mut reasons } else { &mut warnings };
            told.push(format!("nothing is relayed as {}: {}", lane.name, words(pause.cause)));
        }
        Readiness { ready: reasons.is_empty(), mode: self.mode(), reasons, warnings }
    }

    /// Of several accounts one that stands is a warning: mail of the others goes.
    fn accounts_readiness(
        &self,
        now: UnixMillis,
        reasons: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) {
        let accounts = self.queue.accounts();
        let several = accounts.len() > 1;
        let (mut standing, mut passing) = (Vec::new(), Vec::new());
        let mut stand = 0;
        for account in accounts {
            let of = if several { format!(" ({})", account.name) } else { String::new() };
            let before = standing.len();
            let token = account.token.snapshot();
            if token.usable(now).is_none() {
                standing.push(match &token.last_error {
                    Some(failed) => {
                        format!("no valid token{of}: {}; {}", failed.error, failed.advice)
                    }
                    None => format!("no valid token yet{of}"),
                });
            }
            // Accounts that share a certificate say the same.
            let ends = token.expiry.and_then(|expiry| ends_soon(&expiry, now));
            passing.extend(ends.filter(|warning| !passing.contains(warning)));
            if let Some(pause) = account.pause {
                let lasting = now.since(pause.since) >= PAUSE_TOLERATED;
                let told = if lasting { &mut standing } else { &mut passing };
                told.push(format!("nothing is relayed{of}: {}", words(pause.cause)));
            }
            stand += usize::from(standing.len() > before);
        }
        let all = stand == self.queue.accounts().len();
        if all { reasons } else { &mut *warnings }.extend(standing);
        warnings.extend(passing);
    }
}

fn ends_soon(expiry: &Expiry, now: UnixMillis) -> Option<String> {
    if expiry.days_left(now) > ENDS_SOON {
        return None;
    }
    let (what, at) = (&expiry.what, expiry.at.rfc3339());
    let word = if expiry.at < now { "ended" } else { "ends" };
    Some(format!("the credential {word} on {at} ({what}): {RENEW}"))
}

fn words(cause: Cause) -> String {
    match cause.advice {
        Some(advice) => format!("{}; {advice}", cause.reason),
        None => cause.reason,
    }
}
