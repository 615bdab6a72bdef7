//! Logs: the subscriber's set-up and the event types.

/// How the log looks; all values are checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// One line an event, for people or for programs.
    pub format: Format,
    /// Filter directives as in `tracing_subscriber::EnvFilter`, such as `info`.
    pub filter: String,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
