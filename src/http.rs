//! Health and status over HTTP: reads snapshots, decides nothing.
//!
//! | Path | Answers |
//! |---|---|
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 200 if mail is accepted and can be relayed, else 503; JSON with the reasons |
//! | `/metrics` | counters, gauges and histograms for Prometheus |
//! | `/status` | JSON: token, lanes with pauses and advice, queue, last failures |

mod metrics;
mod process;
mod readiness;
mod serve;
mod status;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use serve::{HttpError, Server};
pub use status::{
    AccountStatus, CredentialStatus, Failure, HeldSender, LaneStatus, ListenerStatus, PauseStatus,
    QueueRebuilt, Readiness, Status, TokenErrorStatus, TokenStatus, Watched,
};

/// What the HTTP server needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; `None` turns it off.
    pub address: Option<SocketAddr>,
}

/// What came of a reload of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When.
    pub time: String,
    /// Each key that has changed, with both values; secrets are masked.
    pub changed: Vec<String>,
    /// The same of those whose old values stay until a restart.
    pub needs_restart: Vec<String>,
    /// What was wrong; nothing has changed then.
    pub faults: Vec<String>,
}
