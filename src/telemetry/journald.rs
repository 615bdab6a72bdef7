//! Log lines as journald keeps them: each fact of an event is a field of its own, to search by
//! (`journalctl RELAY_QUEUE_ID=...`). A kind of event has a `MESSAGE_ID` (`ids.rs`).
//!
//! The protocol is a datagram to a socket: `NAME=value` in a line, or the name, a line feed, the
//! length as 64 bits and the value, which may then hold anything. Values are always written the
//! second way: whatever a client or upstream puts into one, it cannot begin another field. Our own
//! fields begin with `RELAY_`, so that none can pass for one of journald's, such as `MESSAGE_ID`.

pub mod ids;

use std::{fmt, io, os::unix::net::UnixDatagram, path::PathBuf};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Begins the name of each field that is ours.
const PREFIX: &str = "RELAY_";

/// Longest value, in octets; more is cut. With some twenty fields an event stays below what a
/// datagram takes (a little over 200 KiB).
const MOST_OCTETS: usize = 8 * 1024;

/// What goes on standard error when journald does not answer.
const FALLBACK: &str = "journald does not take this line";

/// Sends events to journald.
#[derive(Debug)]
pub struct Journald {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journald {
    /// A layer that sends to the socket at `path`.
    ///
    /// # Errors
    /// The socket is not there: this system has no journald.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let socket = UnixDatagram::unbound()?;
        // An empty datagram is ignored; it tells whether anybody listens.
        socket.send_to(&[], &path)?;
        Ok(Self { socket, path })
    }

    fn send(&self, entry: &Entry) {
        if let Err(error) = self.socket.send_to(&entry.0, &self.path) {
            use io::Write;
            let text = String::from_utf8_lossy(entry.message());
            let _ = writeln!(io::stderr(), "{text} ({FALLBACK}: {error})");
        }
    }
}

/// Fields of a span, which each event within it has too.
struct SpanFields(Vec<(String, String)>);

impl<S> Layer<S> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let name = span.name();
        let named =
            fields.named.into_iter().map(|(field, value)| (format!("{name}_{field}"), value));
        span.extensions_mut().insert(SpanFields(named.collect()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(of_span)) = span.extensions().get::<SpanFields>() {
                fields.named.extend(of_span.iter().cloned());
            }
        }
        self.send(&Entry::of(event, &fields));
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(String, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.to_owned());
    }
}

impl Fields {
    fn keep(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.named.push((name.to_owned(), value)),
        }
    }
}

/// One entry of the journal, as the socket takes it.
struct Entry(Vec<u8>);

impl Entry {
    fn of(event: &Event<'_>, fields: &Fields) -> Self {
        let mut entry = Self(Vec::new());
        // First, so that the fallback finds it.
        entry.put("MESSAGE", &in_a_line(fields));
        entry.put("PRIORITY", priority(*event.metadata().level()));
        entry.put("SYSLOG_IDENTIFIER", "o365-relay");
        entry.put("CODE_MODULE", event.metadata().target());
        if let Some(id) = ids::of(&fields.message) {
            entry.put("MESSAGE_ID", id);
        }
        entry.put(&format!("{PREFIX}EVENT"), &fields.message);
        for (name, value) in &fields.named {
            entry.put(&format!("{PREFIX}{}", field_name(name)), value);
        }
        entry
    }

    fn put(&mut self, name: &str, value: &str) {
        let mut end = MOST_OCTETS.min(value.len());
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = value.get(..end).unwrap_or_default();
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    fn message(&self) -> &[u8] {
        let start = "MESSAGE\n".len() + size_of::<u64>();
        let length = self.0.get(start - size_of::<u64>()..start).and_then(|it| it.try_into().ok());
        let length = length.map_or(0, u64::from_le_bytes);
        let end = start.saturating_add(usize::try_from(length).unwrap_or(0));
        self.0.get(start..end).unwrap_or_default()
    }
}

/// The whole event as people read it with plain `journalctl`, in one line.
fn in_a_line(fields: &Fields) -> String {
    use fmt::Write;
    let mut line = fields.message.clone();
    for (name, value) in &fields.named {
        // A string takes whatever is written.
        let _ = write!(line, " {name}={}", value.escape_debug());
    }
    line
}

/// journald takes capital letters, digits and underscores.
fn field_name(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(fit).take(50).collect()
}

/// As syslog counts.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

#[cfg(test)]
mod tests;
