//! The message that `send` and `doctor` send.

/// What differs from one to the next.
#[derive(Debug, Clone, Copy)]
pub struct Heading<'a> {
    /// Who it is from.
    pub from: &'a str,
    /// Who gets it.
    pub to: &'a [&'a str],
    /// Its subject; control characters become blanks.
    pub subject: &'a str,
    /// Its Date field.
    pub date: &'a str,
    /// Its Message-ID with brackets; whoever relays it adds one if there is none.
    pub message_id: Option<&'a str>,
}

/// The whole message.
#[must_use]
pub fn text(heading: &Heading<'_>) -> String {
    let Heading { from, to, subject, date, message_id } = heading;
    let to = to.join(",\r\n ");
    let subject: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let message_id = message_id.map(|id| format!("Message-ID: {id}\r\n")).unwrap_or_default();
    format!(
        "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {date}\r\n{message_id}\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         This is a test message from o365-relay.\r\nIf you read it, mail goes through.\r\n"
    )
}
