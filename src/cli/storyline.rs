//! What happens in the sandbox, as lines for people.

use std::io;

use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};

use super::output::line;
use crate::sandbox::Event;

/// Prints events with the time since it began.
pub(super) struct Storyline {
    begun: Instant,
    events: Receiver<Event>,
}

impl Storyline {
    pub fn new(events: Receiver<Event>) -> Self {
        Self { begun: Instant::now(), events }
    }

    /// The next event, already printed. `None` when the sandbox has ended.
    pub async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            match self.events.recv().await {
                Ok(event) => {
                    let (who, text) = describe(&event);
                    self.tell(who, &text)?;
                    return Ok(Some(event));
                }
                // Printing fell behind a flood; what was missed still arrived.
                Err(RecvError::Lagged(missed)) => {
                    self.tell("sandbox", &format!("... {missed} more events, not shown"))?;
                }
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    /// One line of the story.
    pub fn tell(&self, who: &str, text: &str) -> io::Result<()> {
        let seconds = self.begun.elapsed().as_secs_f64();
        line(format!("{seconds:>8.3}s  {who:<8} {}", plain(text)))
    }
}

fn describe(event: &Event) -> (&'static str, String) {
    match event {
        Event::TokenIssued { client_id, expires_in } => (
            "login",
            format!("access token issued to {client_id}, good for {} s", expires_in.as_secs()),
        ),
        // The endpoints of managed identities have no numbers.
        Event::TokenRefused { error, code: 0, description } => {
            ("identity", format!("access token REFUSED: {error}: {description}"))
        }
        Event::TokenRefused { error, code, description } => {
            ("login", format!("access token REFUSED: {error} {code}: {description}"))
        }
        Event::SignedIn { scope } => ("login", format!("an admin has signed in for {scope}")),
        Event::Graph { request, status } => ("graph", format!("{request}: {status}")),
        Event::Exchange { outcome } => ("exchange", format!("an admin's script: {outcome}")),
        Event::FaultStruck { name, stage, count } => {
            ("sandbox", format!("FAULT {name} strikes at {stage}, time {count}"))
        }
        Event::Connected { peer, .. } => ("upstream", format!("STARTTLS: {peer} is secured")),
        Event::Authenticated { mailbox } => {
            ("upstream", format!("AUTH XOAUTH2: logged in as {mailbox}"))
        }
        Event::Refused { command, reply } => ("upstream", format!("{command} REFUSED: {reply}")),
        Event::Arrived { arrival, reply } => {
            let to: Vec<_> =
                arrival.forward_paths.iter().map(|path| format!("<{}>", path.address)).collect();
            let to = match to.as_slice() {
                [one, two, three, rest @ ..] if !rest.is_empty() => {
                    format!("{one} {two} {three} and {} more", rest.len())
                }
                few => few.join(" "),
            };
            let subject = arrival.subject.as_deref().unwrap_or("(no subject)");
            let text = format!(
                "message {} arrived: <{}> to {to}, {} octets, {subject:?}; answered {reply}",
                arrival.number, arrival.reverse_path, arrival.size
            );
            ("upstream", text)
        }
    }
}

/// Senders choose subjects; a terminal must not act on them.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
