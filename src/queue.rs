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
//! | [`routes`] | whose mail goes through which mailbox; pure |
//! | `slots` | connections over all lanes |
//! | `heir` | new settings for lanes that run |
//! | `starter` | starts a lane when there is mail for it |
//! | `senders` | which senders are held, and until when |
//! | `shared` | gates, lane states and parts that the tasks share |
//! | [`direct`] | the same without a store: the client waits for upstream's verdict |
//! | [`runner`] | starts the lanes and tells how they are |

use std::{num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

mod attempt;
mod consequence;
pub mod direct;
#[cfg(test)]
mod fixture;
mod heir;
mod judged;
mod lane;
mod login;
mod notice;
pub mod pace;
pub mod pause;
pub mod quota;
mod renewal;
pub mod routes;
pub mod runner;
pub mod schedule;
mod senders;
mod shared;
mod slots;
mod starter;
mod transaction;
mod turnstile;

pub use heir::Before;
pub use routes::Lanes;

use crate::{
    delivery::smarthost::Smarthost,
    mail::rewrite::Rewriting,
    smtp::{
        path::{Address, SenderPattern},
        sender::SenderMap,
    },
    token::TokenHandle,
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
    /// Whose mail goes through which mailbox: the first route that fits. The last takes what no
    /// other does.
    pub routes: Vec<Route>,
    /// As whom mail goes upstream.
    pub sender: SenderConfig,
    /// Connections upstream at a time, over all lanes.
    pub max_connections: usize,
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

/// As whom mail goes upstream.
#[derive(Debug, Clone, Default)]
pub struct SenderConfig {
    /// Addresses that others take the place of.
    pub map: Arc<SenderMap>,
    /// Whether the mailbox takes the place of all others.
    pub rewrite: bool,
}

impl SenderConfig {
    /// What it comes to for mail that goes through `mailbox`.
    #[must_use]
    pub fn rewriting(&self, mailbox: &str) -> Rewriting {
        let mailbox = self.rewrite.then(|| mailbox.parse().ok()).flatten();
        Rewriting { map: Arc::clone(&self.map), mailbox }
    }
}

/// Whose mail goes through which mailbox.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where its keys stand in the configuration: `office365`, `route.2`.
    pub keys: String,
    /// Whose mail takes it; empty for everybody's.
    pub senders: Vec<SenderPattern>,
    /// Mail goes through the mailbox of whoever sends it. That of `lane` is for a null
    /// reverse-path then.
    pub by_sender: bool,
    /// Where it leads.
    pub lane: LaneConfig,
}

impl Route {
    /// A route for everybody, to one mailbox.
    #[must_use]
    pub fn to(lane: LaneConfig) -> Self {
        Self { keys: "office365".into(), senders: Vec::new(), by_sender: false, lane }
    }
}

/// An account upstream: whom tokens are for, and where mail goes. Several lanes share it.
pub struct Upstream {
    /// Its name, for people.
    pub name: String,
    /// Its tokens.
    pub token: TokenHandle,
    /// Where mail goes.
    pub smarthost: Smarthost,
}

/// One lane: an upstream identity with its own pace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneConfig {
    /// The account that the mailbox belongs to, by its place.
    pub account: usize,
    /// The mailbox we log in as; also the lane's name.
    pub mailbox: String,
    /// Connections to the smarthost at a time.
    pub max_connections: usize,
    /// How fast messages may follow each other.
    pub pace: Pace,
    /// Recipients in a rolling day; `None` for any number.
    pub recipients_per_day: Option<u64>,
}

impl LaneConfig {
    /// Whether it is the lane of this mailbox; Exchange Online knows no upper case.
    fn is_of(&self, mailbox: &str) -> bool {
        self.mailbox.eq_ignore_ascii_case(mailbox)
    }
}

/// How fast messages may follow each other in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// At most this many messages a minute.
    PerMinute(NonZeroU32),
    /// As fast as they go: tests, other hosts.
    Unlimited,
}
