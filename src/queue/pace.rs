//! How fast messages may follow each other: a token bucket.
//!
//! Exchange Online allows a mailbox 30 messages a minute. A bucket of 28 a minute that holds two
//! lets a lone message go at once and still keeps every minute at 30.

use std::time::Duration;

use tokio::time::Instant;

use super::Pace;

/// Messages that may go without a wait after a quiet time.
const BURST: f64 = 2.0;

/// A token bucket; one token a message.
#[derive(Debug)]
pub struct Bucket {
    pace: Pace,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, tokens: BURST, filled: now }
    }

    /// An empty bucket, for a lane that may have sent just now.
    #[must_use]
    pub fn empty(pace: Pace, now: Instant) -> Self {
        Self { pace, tokens: 0.0, filled: now }
    }

    /// Another pace. Nobody knows what the old one has let through, so that it begins empty.
    pub fn change(&mut self, pace: Pace, now: Instant) {
        if self.pace != pace {
            *self = Self::empty(pace, now);
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time to come back at, if there is none.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let Pace::PerMinute(rate) = self.pace else { return Ok(()) };
        let per_second = f64::from(rate.get()) / 60.0;
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * per_second).min(BURST);
        self.filled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // A millisecond more, so that rounding does not bring us back a moment too soon.
        let wait = Duration::from_secs_f64((1.0 - self.tokens) / per_second);
        Err(now + wait + Duration::from_millis(1))
    }

    /// When it is full again: from then on nothing is lost by forgetting it.
    #[must_use]
    pub fn full_at(&self) -> Instant {
        let Pace::PerMinute(rate) = self.pace else { return self.filled };
        let per_second = f64::from(rate.get()) / 60.0;
        self.filled + Duration::from_secs_f64((BURST - self.tokens) / per_second)
    }

    /// Gives a token back: the message was not sent after all.
    pub fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_lone_message_goes_at_once_and_no_minute_sees_more_than_thirty() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Pace::PerMinute(NonZeroU32::new(28).unwrap()), start);
        let mut now = start;
        let mut sent = Vec::new();
        while now < start + Duration::from_secs(300) {
            match bucket.take(now) {
                Ok(()) => sent.push(now),
                Err(later) => now = later,
            }
        }
        assert_eq!(sent[0], start);
        for first in &sent {
            let minute =
                sent.iter().filter(|t| **t >= *first && **t < *first + Duration::from_secs(60));
            assert!(minute.count() <= 30);
        }
        assert!(sent.len() >= 28 * 5, "{} in five minutes", sent.len());
    }

    #[test]
    fn another_pace_gives_nothing_away_and_the_same_one_forgets_nothing() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let steady = Pace::PerMinute(NonZeroU32::new(1).unwrap());
        let mut bucket = Bucket::new(Pace::Unlimited, now);
        assert!((0..100).all(|_| bucket.take(now).is_ok()));
        bucket.change(steady, now);
        assert!(bucket.take(now).is_err());
        bucket.change(steady, now + minute);
        assert!(bucket.take(now + minute).is_ok());
        assert!(bucket.take(now + minute).is_err());
    }

    #[test]
    fn unlimited_never_waits() {
        let mut bucket = Bucket::new(Pace::Unlimited, Instant::now());
        assert!((0..10_000).all(|_| bucket.take(Instant::now()).is_ok()));
    }
}
