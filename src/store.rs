//! The durable queue.

use std::{path::PathBuf, time::Duration};

/// What the store needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The queue directory: database, `bodies/`, lock file.
    pub directory: PathBuf,
    /// Free octets below which no mail is accepted (452 4.3.1).
    pub min_free_bytes: u64,
    /// Queued messages above which no mail is accepted (452 4.3.1).
    pub max_messages: u64,
    /// How long settled recipients stay in the history.
    pub history_keep: Duration,
}
