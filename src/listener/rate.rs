//! The smallest rate at which mail data may come: a client that trickles would hold a session
//! for an hour.

use std::time::Duration;

use tokio::time::Instant;

/// Watches the mail data of one message. Whatever takes less than the time allowed anyway may
/// be as slow as it likes: somebody typing into telnet is no attacker.
pub(super) struct RateWatch {
    octets_per_second: u64,
    tolerated: Duration,
    since: Instant,
    octets: u64,
}

impl RateWatch {
    pub fn new(octets_per_second: u64, tolerated: Duration) -> Self {
        Self { octets_per_second, tolerated, since: Instant::now(), octets: 0 }
    }

    pub fn begin(&mut self) {
        self.since = Instant::now();
        self.octets = 0;
    }

    /// Counts octets; false once they have come too slowly for too long.
    pub fn is_enough(&mut self, length: usize) -> bool {
        self.octets += length as u64;
        let elapsed = self.since.elapsed();
        elapsed < self.tolerated || self.octets >= self.octets_per_second * elapsed.as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERATED: Duration = Duration::from_secs(180);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_is_found_out() {
        let mut rate = RateWatch::new(64, TOLERATED);
        for _ in 0..179 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(rate.is_enough(1));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!rate.is_enough(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_line_and_a_slow_typist_pass() {
        let mut rate = RateWatch::new(64, TOLERATED);
        for _ in 0..1000 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(rate.is_enough(64));
        }
        rate.begin();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(rate.is_enough(5));
    }
}
