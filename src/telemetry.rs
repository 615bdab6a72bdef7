//! Logs and metrics: the subscriber's set-up, the event types, what is counted.

pub mod events;
pub mod journald;
pub mod metrics;
mod text;

use std::io;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

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
    /// Entries of journald, with the facts as fields.
    Journald,
}

/// Sends events to standard error from here on. A second call changes nothing.
///
/// Whatever the filter says, other crates are heard from `info` up only: at finer levels some
/// of them print what they send and receive.
pub fn init(config: &Config) {
    let filter = EnvFilter::builder().parse_lossy(bounded(&config.filter));
    if config.format == Format::Journald {
        match journald::Journald::new(journald::SOCKET) {
            Ok(layer) => {
                let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
                return;
            }
            Err(error) => no_journald(&error),
        }
    }
    let subscriber = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(colours());
    let _ = match config.format {
        Format::Text | Format::Journald => subscriber.fmt_fields(text::fields()).try_init(),
        Format::Json => subscriber.json().flatten_event(true).try_init(),
    };
}

/// There is no log yet that could say so. A log in text is better than none.
fn no_journald(error: &io::Error) {
    use io::Write;
    let socket = journald::SOCKET;
    let _ = writeln!(
        io::stderr(),
        "log.format is journald and {socket} cannot be written to ({error}); the log goes to \
         standard error as text"
    );
}

/// A bare level is ours; what stands behind it for other crates is never finer than `info`.
fn bounded(filter: &str) -> String {
    let own = |level: &str| match level.to_ascii_lowercase().as_str() {
        "debug" | "trace" => format!("info,o365_relay={level}"),
        _ => level.to_owned(),
    };
    filter.split(',').map(|part| own(part.trim())).collect::<Vec<_>>().join(",")
}

fn colours() -> bool {
    use io::IsTerminal;
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fine_level_is_for_this_crate_only() {
        assert_eq!(bounded("trace"), "info,o365_relay=trace");
        assert_eq!(bounded("warn"), "warn");
        assert_eq!(bounded("info,o365_relay::queue=debug"), "info,o365_relay::queue=debug");
    }
}
