//! Logs and metrics: the subscriber's set-up, the event types, what is counted.

pub mod events;
pub mod journald;
pub mod metrics;
mod panics;
mod text;

use std::{io, sync::OnceLock};

use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

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

/// Sends events to standard error from here on, panics among them. A second call changes nothing.
///
/// Whatever the filter says, other crates are heard from `info` up only: at finer levels some
/// of them print what they send and receive.
pub fn init(config: &Config) {
    let (filter, handle) = reload::Layer::new(filter(&config.filter));
    let subscriber = tracing_subscriber::registry().with(filter).with(layer(config.format));
    if subscriber.try_init().is_ok() {
        let _ = FILTER.set(handle);
        panics::report();
    }
}

/// Another filter for the log from here on, in place of that of [`init`].
pub fn set_filter(directives: &str) {
    let Some(handle) = FILTER.get() else { return };
    if let Err(error) = handle.reload(filter(directives)) {
        tracing::warn!(%error, "log level not changed");
    }
}

/// What [`set_filter`] changes.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

fn filter(directives: &str) -> EnvFilter {
    EnvFilter::builder().parse_lossy(bounded(directives))
}

/// The registry with a filter that can change.
type Filtered = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;

fn layer(format: Format) -> Box<dyn Layer<Filtered> + Send + Sync> {
    if format == Format::Journald {
        match journald::Journald::new(journald::SOCKET) {
            Ok(layer) => return layer.boxed(),
            Err(error) => no_journald(&error),
        }
    }
    let layer = fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(colours());
    match format {
        Format::Text | Format::Journald => layer.fmt_fields(text::fields()).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
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
