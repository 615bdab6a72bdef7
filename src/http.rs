//! Health and status over HTTP: reads snapshots, decides nothing.

use std::net::SocketAddr;

/// What the HTTP server needs to know; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; `None` turns it off.
    pub address: Option<SocketAddr>,
}
