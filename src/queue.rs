//! The schedule over the store: lanes with their pace and pauses, the runner, the retries.
//!
//! | Module | What it does |
//! |---|---|
//! | [`schedule`] | when the next attempt is; pure |
//! | [`pace`] | how fast messages may follow each other; pure |
//! | [`quota`] | recipients in a rolling day; pure |
//! | [`pause`] | when a gate is closed, and the one probe that opens it; pure |
//! | `lane` | one lane's loop: takes what is due, hands it to delivery |
//! | `notice` | who hears of a failure or a delay, and what |
//! | `renewal` | reminds by mail that the credential is going to end |
//! | `consequence` | what a verdict means for a recipient, a sender, a lane |
//! | `login` | from a token to a connection that is logged in |
//! | `attempt` | one message's attempt, from the body to the settlement |
//! | `transaction` | a message's way upstream: connection, verdicts, gates |
//! | `turnstile` | token, pace, recipients of the day, connections and gates of a lane |
//! | `judged` | what an attempt comes to for one recipient |
//! | `shared` | gates, lane states and parts that the tasks share |
//! | [`direct`] | the same without a store: the client waits for upstream's verdict |
//! | [`runner`] | starts the lanes and tells how they are |

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

mod attempt;
mod consequence;
pub mod direct;
mod judged;
mod lane;
mod login;
mod notice;
pub mod pace;
pub mod pause;
pub mod quota;
mod renewal;
pub mod runner;
pub mod schedule;
mod shared;
mod transaction;
mod turnstile;

use crate::{
    smtp::path::{Address, ReversePath},
    store::Router,
};

/// What becomes of a message whose final dot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is stored, answered, and sent on.
    #[default]
    Queue,
    /// It is sent on while its client waits for the answer; nothing is stored.
    Direct,
}

impl Mode {
    /// As the configuration has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Direct => "direct",
        }
    }
}

/// What the queue needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whether there is a queue at all.
    pub mode: Mode,
    /// What holds without one.
    pub direct: DirectConfig,
    /// One lane for each upstream identity; the first takes what no other claims.
    pub lanes: Vec<LaneConfig>,
    /// The give-up time (RFC 5321 section 4.5.4.1), counted from arrival.
    pub give_up_after: Duration,
    /// What follows when nobody knows whether upstream has a message.
    pub on_uncertain: OnUncertain,
    /// Who hears of mail that fails or waits.
    pub notices: NoticeConfig,
}

/// What holds in direct mode.
#[derive(Debug, Clone)]
pub struct DirectConfig {
    /// How long a message waits for its turn at most.
    pub wait: Duration,
    /// Where a large message lies meanwhile, in a file without a name.
    pub spool_directory: PathBuf,
}

/// What follows when the connection was lost between the final dot and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUncertain {
    /// The message is sent again with the same Message-ID: it may arrive twice.
    Retry,
    /// It is set aside for an operator: it may not have arrived.
    Hold,
}

/// Who hears of mail that fails or waits.
#[derive(Debug, Clone)]
pub struct NoticeConfig {
    /// Our own name.
    pub hostname: String,
    /// Addresses that get every notice besides the sender.
    pub to: Vec<Address>,
    /// Age at which a message that is still being tried is worth a notice; `None` for never.
    pub delay_after: Option<Duration>,
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
    /// Recipients in a rolling day; `None` for any number.
    pub recipients_per_day: Option<u64>,
}

/// How fast messages may follow each other in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At most this many messages a minute.
    PerMinute(NonZeroU32),
    /// As fast as they go: tests, other hosts.
    Unlimited,
}

/// Routes messages to the lanes of a configuration.
#[derive(Debug, Clone)]
pub struct Lanes {
    names: Vec<String>,
}

impl Lanes {
    /// The lanes of `config`, which has one at least.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { names: config.lanes.iter().map(|lane| lane.mailbox.clone()).collect() }
    }
}

impl Router for Lanes {
    fn lane(&self, _reverse_path: &ReversePath) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    fn knows(&self, lane: &str) -> bool {
        self.names.iter().any(|name| name == lane)
    }
}
