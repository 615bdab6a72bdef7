//! The trace field that each SMTP server puts on top (RFC 5321 section 4.4).

use std::net::IpAddr;

use super::queue_id::QueueId;

/// What a `Received:` field says.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// The name the client gave in HELO or EHLO; empty if it gave none.
    pub client_name: &'a str,
    /// The client's address; `None` for a local socket.
    pub client_address: Option<IpAddr>,
    /// Our own name.
    pub hostname: &'a str,
    /// SMTP, ESMTP, UTF8SMTP and their variants with S and A (RFC 3848, RFC 6531).
    pub protocol: &'a str,
    /// The message's queue id.
    pub id: QueueId,
    /// RFC 5322 date-time.
    pub date: &'a str,
}

/// More Received fields than this on arrival mean a loop (RFC 5321 section 6.3: at least 100 for
/// a relay that may stand anywhere; this one stands at the first hop).
pub const MAX_RECEIVED_FIELDS: usize = 50;

impl Received<'_> {
    /// The folded field with its final CRLF.
    #[must_use]
    pub fn field(&self) -> String {
        let name = safe_name(self.client_name);
        let address = match self.client_address {
            Some(IpAddr::V4(address)) => format!("([{address}])"),
            Some(IpAddr::V6(address)) => format!("([IPv6:{address}])"),
            None => "(local socket)".to_owned(),
        };
        format!(
            "Received: from {name} {address}\r\n\tby {} (o365-relay) with {} id {};\r\n\t{}\r\n",
            self.hostname, self.protocol, self.id, self.date
        )
    }
}

/// The client chose its name: only what a host name or an address literal is made of gets into
/// the field.
fn safe_name(name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "-._:[]".contains(*c);
    let name: String = name.chars().take(255).map(|c| if allowed(&c) { c } else { '?' }).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_names_client_server_protocol_id_and_date() {
        let field = Received {
            client_name: "printer\r\nBcc: x (y)",
            client_address: Some("192.0.2.7".parse().unwrap()),
            hostname: "relay.example",
            protocol: "ESMTP",
            id: QueueId::new(0, 0),
            date: "Mon, 23 Nov 2026 06:24:10 +0000",
        }
        .field();
        assert_eq!(
            field,
            "Received: from printer??Bcc:?x??y? ([192.0.2.7])\r\n\
             \tby relay.example (o365-relay) with ESMTP id 000000000000000000;\r\n\
             \tMon, 23 Nov 2026 06:24:10 +0000\r\n"
        );
    }
}
