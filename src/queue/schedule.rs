//! The retry interval and the give-up time (RFC 5321 section 4.5.4.1).

use std::time::Duration;

use crate::clock::UnixMillis;

/// Minutes to wait after the first, second ... attempt; then hourly.
const INTERVALS: [u64; 7] = [1, 2, 5, 10, 20, 30, 60];

/// Hourly retries are moved by up to this share of the hour, so that a queue that was filled at
/// once is not tried at once for ever.
const JITTER: f64 = 0.1;

/// What follows a transient failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again at this time.
    At(UnixMillis),
    /// The give-up time has passed: the recipient has failed.
    GiveUp,
}

/// What follows the attempt that ended at `now`, the `attempts`-th (from 1) for this recipient
/// of a message that arrived at `arrival`. `random` is between 0 and 1.
///
/// The give-up time counts from the arrival, and a pause is part of it. So the attempts of the
/// first hours are owed in any case: mail that an outage of the relay's own has kept back for longer
/// than that, or that came while the clock was wrong, is not returned for the first hiccup.
#[must_use]
pub fn after_attempt(
    attempts: u32,
    arrival: UnixMillis,
    now: UnixMillis,
    give_up_after: Duration,
    random: f64,
) -> Next {
    let give_up = arrival + give_up_after;
    let next = retry(attempts, now, random);
    if now < give_up {
        // The last attempt is made when the give-up time comes, not up to an hour before.
        return Next::At(next.min(give_up));
    }
    if attempts < owed(give_up_after) { Next::At(next) } else { Next::GiveUp }
}

/// The attempts that a message has in `give_up_after` if nothing holds it up, as far as their
/// intervals grow.
fn owed(give_up_after: Duration) -> u32 {
    let mut attempts = 1;
    let mut age = Duration::ZERO;
    for minutes in INTERVALS {
        if age >= give_up_after {
            break;
        }
        age += Duration::from_secs(minutes * 60);
        attempts += 1;
    }
    attempts
}

/// When a message is tried again that is never given up, with the arguments of
/// [`after_attempt`].
#[must_use]
pub fn retry(attempts: u32, now: UnixMillis, random: f64) -> UnixMillis {
    let step = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let interval = match INTERVALS.get(step) {
        Some(minutes) => Duration::from_secs(minutes * 60),
        None => Duration::from_secs(3600).mul_f64(1.0 + JITTER * (2.0 * random - 1.0)),
    };
    now + interval
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const START: UnixMillis = UnixMillis(1_000_000);

    #[test]
    fn intervals_grow_to_an_hour_and_stay_there() {
        let minutes = |attempts| match after_attempt(attempts, START, START, DAY * 5, 0.5) {
            Next::At(time) => time.since(START).as_secs() / 60,
            Next::GiveUp => panic!(),
        };
        assert_eq!((1..=9).map(minutes).collect::<Vec<_>>(), [1, 2, 5, 10, 20, 30, 60, 60, 60]);
    }

    #[test]
    fn hourly_retries_spread() {
        let at = |random| after_attempt(20, START, START, DAY, random);
        assert_eq!(at(0.0), Next::At(START + Duration::from_secs(54 * 60)));
        assert_eq!(at(1.0), Next::At(START + Duration::from_secs(66 * 60)));
    }

    #[test]
    fn mail_that_an_outage_kept_back_for_long_has_its_attempts_nevertheless() {
        let mended = START + DAY * 6;
        let first = after_attempt(1, START, mended, DAY * 5, 0.5);
        assert_eq!(first, Next::At(mended + Duration::from_secs(60)));
        let hours_later = mended + Duration::from_secs(2 * 3600);
        assert!(matches!(after_attempt(7, START, hours_later, DAY * 5, 0.5), Next::At(_)));
        assert_eq!(after_attempt(8, START, hours_later, DAY * 5, 0.5), Next::GiveUp);
    }

    #[test]
    fn no_more_attempts_are_owed_than_fit_into_a_short_give_up_time() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let owed = |give_up| owed(minutes(give_up));
        // At once, and after 1, 3 and 8 minutes; the last one when the time comes.
        assert_eq!([0, 1, 3, 8, 10, 600].map(owed), [1, 2, 3, 4, 5, 8]);
    }

    #[test]
    fn a_last_attempt_is_made_at_the_give_up_time() {
        let almost = START + DAY.checked_sub(Duration::from_secs(5)).unwrap();
        assert_eq!(after_attempt(30, START, almost, DAY, 0.5), Next::At(START + DAY));
        assert_eq!(after_attempt(31, START, START + DAY, DAY, 0.5), Next::GiveUp);
    }
}
