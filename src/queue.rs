//! The schedule over the store: lanes with their pace and pauses, the runner, the retries.

use std::{num::NonZeroU32, time::Duration};

/// What the queue needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// One lane for each upstream identity; the first takes what no other claims.
    pub lanes: Vec<LaneConfig>,
    /// The give-up time (RFC 5321 section 4.5.4.1), counted from arrival.
    pub give_up_after: Duration,
}

/// One lane: an upstream identity with its own pace.
#[derive(Debug, Clone)]
pub struct LaneConfig {
    /// The mailbox we log in as; also the lane's name.
    pub mailbox: String,
    /// Connections to the smarthost at a time.
    pub max_connections: usize,
    /// How fast messages may follow each other.
    pub pace: Pace,
}

/// How fast messages may follow each other in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At most this many messages a minute.
    PerMinute(NonZeroU32),
    /// As fast as they go: tests, other hosts.
    Unlimited,
}
