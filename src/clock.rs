//! Wall-clock time, the one place that reads it. Durations are measured with
//! [`tokio::time::Instant`]; wall time is for what outlives the process: queue times, token
//! expiry, trace fields.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tokio::time::Instant;

/// A source of wall-clock time. Clones tell the same time.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Source);

#[derive(Debug, Clone, Copy)]
enum Source {
    System,
    /// Moves with tokio's clock, so a test that pauses and advances time moves this one too.
    Runtime {
        wall: UnixMillis,
        start: Instant,
    },
}

impl Clock {
    /// The clock of the operating system.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `wall` now and then moves with tokio's own (pausable) time.
    #[must_use]
    pub fn at(wall: UnixMillis) -> Self {
        Self(Source::Runtime { wall, start: Instant::now() })
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        match self.0 {
            Source::System => UnixMillis::from(system_time()),
            Source::Runtime { wall, start } => wall + start.elapsed(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one module that reads the clock")]
fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970-01-01 00:00 UTC: what the store keeps.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// How long after `earlier` this is; zero if it is not after it (clocks do step back).
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As a calendar time in UTC; times beyond the calendar show as its end.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::MAX)
    }

    /// RFC 5322 section 3.3 date-time in UTC, as trace and Date fields have it.
    #[must_use]
    pub fn rfc5322(self) -> String {
        self.timestamp().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }

    /// RFC 3339 to the second, as logs and JSON have it.
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl std::ops::Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(later.as_millis()).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_5322_and_rfc_3339_have_them() {
        let time = UnixMillis(1_795_415_050_123);
        assert_eq!(time.rfc5322(), "Mon, 23 Nov 2026 06:24:10 +0000");
        assert_eq!(time.rfc3339(), "2026-11-23T06:24:10Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_clock_moves_with_paused_time() {
        let clock = Clock::at(UnixMillis(1_000));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), UnixMillis(6_000));
    }
}
