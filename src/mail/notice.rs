//! Delivery status notifications: multipart/report (RFC 6522) with message/delivery-status
//! (RFC 3464), marked as automatic (RFC 3834).

use std::fmt::Write;

use super::queue_id::QueueId;
use crate::smtp::{path::ForwardPath, reply::EnhancedStatusCode};

/// What a notice tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It will never arrive.
    Failed,
    /// It has not arrived yet; we go on trying.
    Delayed,
    /// Upstream took it and cannot tell what becomes of it (RFC 3461 section 5.2.2).
    Relayed,
}

impl Action {
    /// The value of the Action field (RFC 3464 section 2.3.3).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Mail could not be relayed",
            Self::Delayed => "Mail is delayed",
            Self::Relayed => "Mail was relayed",
        }
    }

    fn introduction(self) -> &'static str {
        match self {
            Self::Failed => {
                "The mail relay could not pass on the message described below. It has given up \
                 on these recipients:"
            }
            Self::Delayed => {
                "The mail relay has not been able yet to pass on the message described below. \
                 Nothing needs to be sent again: it goes on trying for these recipients:"
            }
            Self::Relayed => {
                "The mail relay has passed on the message described below. The next server does \
                 not report what becomes of it. This is about these recipients:"
            }
        }
    }
}

/// One recipient that a notice is about.
#[derive(Debug, Clone)]
pub struct Reported {
    /// Its address.
    pub forward_path: ForwardPath,
    /// ORCPT as the client sent it: address type and xtext.
    pub orcpt: Option<String>,
    /// The status code of the outcome.
    pub status: EnhancedStatusCode,
    /// Upstream's words, or our own reason.
    pub reply: String,
    /// Whether the words are an SMTP reply of upstream.
    pub from_upstream: bool,
    /// The next step for somebody who can take it.
    pub advice: Option<String>,
}

/// A notice, complete but for its text.
#[derive(Debug, Clone)]
pub struct Notice<'a> {
    /// What it tells of; the same for all its recipients.
    pub action: Action,
    /// The notice's own queue id.
    pub id: QueueId,
    /// Who it is from: the mailbox.
    pub from: &'a str,
    /// Who gets it.
    pub to: &'a [String],
    /// Our own name.
    pub hostname: &'a str,
    /// The next server's name.
    pub remote: &'a str,
    /// RFC 5322 date-time of the notice.
    pub date: &'a str,
    /// The message's queue id.
    pub about: QueueId,
    /// RFC 5322 date-time of the message's arrival.
    pub arrival: &'a str,
    /// ENVID as the client sent it, xtext.
    pub envid: Option<&'a str>,
    /// The message's Message-ID.
    pub message_id: &'a str,
    /// RFC 5322 date-time of the give-up time, for a delay.
    pub retry_until: Option<&'a str>,
    /// The recipients it is about.
    pub recipients: &'a [Reported],
    /// What is returned of the message.
    pub returned: Returned<'a>,
}

/// What is returned of the message.
#[derive(Debug, Clone, Copy)]
pub enum Returned<'a> {
    /// Its header section.
    Headers(&'a [u8]),
    /// All of it.
    Full(&'a [u8]),
}

impl Notice<'_> {
    /// The notice as mail data: lines end with CRLF, nothing is dot-stuffed.
    #[must_use]
    pub fn mail_data(&self) -> Vec<u8> {
        let boundary = format!("=_{}_{}", self.about, self.id);
        let mut text = String::new();
        self.header(&mut text, &boundary);
        line(&mut text, &format!("--{boundary}"));
        self.for_people(&mut text);
        line(&mut text, "");
        line(&mut text, &format!("--{boundary}"));
        self.for_programs(&mut text);
        line(&mut text, &format!("--{boundary}"));
        let mut data = text.into_bytes();
        self.original(&mut data);
        data.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        data
    }

    fn header(&self, text: &mut String, boundary: &str) {
        field(text, "From", &format!("Mail relay <{}>", self.from));
        field(text, "To", &self.to.join(",\r\n "));
        field(text, "Subject", self.action.subject());
        field(text, "Date", self.date);
        field(text, "Message-ID", &format!("<{}@{}>", self.id, self.hostname));
        if is_message_id(self.message_id) {
            field(text, "In-Reply-To", self.message_id);
            field(text, "References", self.message_id);
        }
        field(text, "Auto-Submitted", "auto-replied");
        field(text, "MIME-Version", "1.0");
        field(
            text,
            "Content-Type",
            &format!("multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\""),
        );
        line(text, "");
    }

    fn for_people(&self, text: &mut String) {
        field(text, "Content-Type", "text/plain; charset=utf-8");
        field(text, "Content-Transfer-Encoding", "8bit");
        line(text, "");
        paragraph(text, "", self.action.introduction());
        for reported in self.recipients {
            line(text, "");
            line(text, &format!("  <{}>", reported.forward_path));
            let who = if reported.from_upstream { "the next server said: " } else { "" };
            paragraph(text, "    ", &format!("{who}{}", reported.reply));
            if let Some(advice) = &reported.advice {
                paragraph(text, "    ", &format!("what to do: {advice}"));
            }
        }
        line(text, "");
        if let Some(until) = self.retry_until {
            line(text, &format!("It gives up on {until}."));
        }
        line(text, &format!("The message came in on {}.", self.arrival));
        line(text, &format!("Its queue id is {}, its Message-ID {}.", self.about, self.message_id));
        line(text, &format!("Relay: {}. Next server: {}.", self.hostname, self.remote));
    }

    fn for_programs(&self, text: &mut String) {
        let kind = match self.is_ascii() {
            true => "message/delivery-status",
            false => "message/global-delivery-status", // RFC 6533 section 3
        };
        field(text, "Content-Type", kind);
        line(text, "");
        if let Some(envid) = self.envid {
            field(text, "Original-Envelope-Id", &from_xtext(envid));
        }
        field(text, "Reporting-MTA", &format!("dns; {}", self.hostname));
        field(text, "Arrival-Date", self.arrival);
        for reported in self.recipients {
            line(text, "");
            if let Some((kind, address)) = reported.orcpt.as_deref().and_then(|o| o.split_once(';'))
            {
                field(text, "Original-Recipient", &format!("{kind};{}", from_xtext(address)));
            }
            let address = &reported.forward_path.0;
            let kind = if address.needs_smtputf8() { "utf-8" } else { "rfc822" };
            field(text, "Final-Recipient", &format!("{kind};{address}"));
            field(text, "Action", self.action.as_str());
            field(text, "Status", &reported.status.to_string());
            if reported.from_upstream {
                field(text, "Remote-MTA", &format!("dns; {}", self.remote));
                let reply: String = reported.reply.chars().take(900).collect();
                field(text, "Diagnostic-Code", &format!("smtp; {reply}"));
            }
            field(text, "Last-Attempt-Date", self.date);
            if let Some(until) = self.retry_until {
                field(text, "Will-Retry-Until", until);
            }
        }
        line(text, "");
    }

    fn original(&self, data: &mut Vec<u8>) {
        let (kind, octets) = match self.returned {
            Returned::Headers(octets) if octets.is_ascii() => ("text/rfc822-headers", octets),
            Returned::Headers(octets) => ("message/global-headers", octets),
            Returned::Full(octets) => ("message/rfc822", octets),
        };
        let encoding = if octets.is_ascii() { "7bit" } else { "8bit" };
        let head = format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        data.extend_from_slice(head.as_bytes());
        data.extend_from_slice(octets);
    }

    /// Whether the notice's own fields can travel without SMTPUTF8.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.to.iter().all(|address| address.is_ascii())
            && self.recipients.iter().all(|reported| !reported.forward_path.0.needs_smtputf8())
    }
}

/// The header section at the front of mail data, with the CRLF of its last line.
#[must_use]
pub fn header_section(data: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(data, b"\r\n\r\n").map(|at| at + 2);
    &data[..end.unwrap_or(data.len())]
}

pub(super) fn line(text: &mut String, content: &str) {
    text.push_str(content);
    text.push_str("\r\n");
}

pub(super) fn field(text: &mut String, name: &str, value: &str) {
    let _ = write!(text, "{name}: {value}\r\n");
}

/// Breaks text into lines of some 76 characters, so that no mail program shows one endless line.
pub(super) fn paragraph(text: &mut String, indent: &str, content: &str) {
    let mut length = 0;
    for word in content.split_whitespace() {
        if length > 0 && length + 1 + word.len() > 76 {
            text.push_str("\r\n");
            length = 0;
        }
        let before = if length == 0 { indent } else { " " };
        text.push_str(before);
        text.push_str(word);
        length += before.len() + word.len();
    }
    text.push_str("\r\n");
}

/// xtext (RFC 3461 section 4) decoded; what would break a line stays encoded.
fn from_xtext(text: &str) -> String {
    let mut decoded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('+') {
        decoded.push_str(before);
        let octet = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match octet.filter(|octet| (b' '..=b'~').contains(octet)) {
            Some(octet) => {
                decoded.push(octet.into());
                rest = &after[2..];
            }
            None => {
                decoded.push('+');
                rest = after;
            }
        }
    }
    decoded + rest
}

/// Only a well-formed Message-ID may stand in a field of ours: the sender wrote it.
fn is_message_id(text: &str) -> bool {
    text.starts_with('<')
        && text.ends_with('>')
        && text.len() > 2
        && text.bytes().all(|b| (b'!'..=b'~').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(path: &str) -> Reported {
        Reported {
            forward_path: ForwardPath(path.parse().unwrap()),
            orcpt: Some("rfc822;Bob+2Bx@d.example".into()),
            status: EnhancedStatusCode(5, 1, 10),
            reply: "550 5.1.10 no such user here".into(),
            from_upstream: true,
            advice: Some("correct the address".into()),
        }
    }

    fn notice<'a>(
        recipients: &'a [Reported],
        to: &'a [String],
        returned: Returned<'a>,
    ) -> Notice<'a> {
        Notice {
            action: Action::Failed,
            id: QueueId::new(2, 2),
            from: "relay@contoso.com",
            to,
            hostname: "relay.example",
            remote: "smtp.office365.com",
            date: "Mon, 23 Nov 2026 06:24:10 +0000",
            about: QueueId::new(1, 1),
            arrival: "Mon, 23 Nov 2026 06:00:00 +0000",
            envid: Some("job+2B7"),
            message_id: "<m@b.example>",
            retry_until: None,
            recipients,
            returned,
        }
    }

    #[test]
    fn a_failure_notice_is_a_report_for_people_and_programs() {
        let recipients = [reported("c@d.example")];
        let to = ["a@b.example".to_owned()];
        let data = notice(&recipients, &to, Returned::Headers(b"Subject: x\r\n")).mail_data();
        let text = String::from_utf8(data).unwrap();
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        insta::assert_snapshot!(text.replace('\r', ""), @r#"
        From: Mail relay <relay@contoso.com>
        To: a@b.example
        Subject: Mail could not be relayed
        Date: Mon, 23 Nov 2026 06:24:10 +0000
        Message-ID: <000000000200000002@relay.example>
        In-Reply-To: <m@b.example>
        References: <m@b.example>
        Auto-Submitted: auto-replied
        MIME-Version: 1.0
        Content-Type: multipart/report; report-type=delivery-status;
         boundary="=_000000000100000001_000000000200000002"

        --=_000000000100000001_000000000200000002
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: 8bit

        The mail relay could not pass on the message described below. It has given
        up on these recipients:

          <c@d.example>
            the next server said: 550 5.1.10 no such user here
            what to do: correct the address

        The message came in on Mon, 23 Nov 2026 06:00:00 +0000.
        Its queue id is 000000000100000001, its Message-ID <m@b.example>.
        Relay: relay.example. Next server: smtp.office365.com.

        --=_000000000100000001_000000000200000002
        Content-Type: message/delivery-status

        Original-Envelope-Id: job+7
        Reporting-MTA: dns; relay.example
        Arrival-Date: Mon, 23 Nov 2026 06:00:00 +0000

        Original-Recipient: rfc822;Bob+x@d.example
        Final-Recipient: rfc822;c@d.example
        Action: failed
        Status: 5.1.10
        Remote-MTA: dns; smtp.office365.com
        Diagnostic-Code: smtp; 550 5.1.10 no such user here
        Last-Attempt-Date: Mon, 23 Nov 2026 06:24:10 +0000

        --=_000000000100000001_000000000200000002
        Content-Type: text/rfc822-headers
        Content-Transfer-Encoding: 7bit

        Subject: x

        --=_000000000100000001_000000000200000002--
        "#);
    }

    #[test]
    fn addresses_of_utf8_make_a_global_report() {
        let recipients = [reported("gr\u{fc}n@d.example")];
        let to = ["a@b.example".to_owned()];
        let report = notice(&recipients, &to, Returned::Full(b"X: y\r\n\r\nbody\r\n"));
        assert!(!report.is_ascii());
        let text = String::from_utf8(report.mail_data()).unwrap();
        assert!(text.contains("message/global-delivery-status"));
        assert!(text.contains("Final-Recipient: utf-8;gr\u{fc}n@d.example\r\n"));
        assert!(text.contains("Content-Type: message/rfc822\r\n"));
    }

    #[test]
    fn what_the_sender_wrote_cannot_add_a_field() {
        assert_eq!(from_xtext("a+0D+0ABcc: x"), "a+0D+0ABcc: x");
        assert_eq!(from_xtext("a+2Bb+3Dc+"), "a+b=c+");
        assert!(!is_message_id("<a b>") && !is_message_id("<>") && is_message_id("<a@b>"));
    }

    #[test]
    fn the_header_section_ends_before_the_empty_line() {
        assert_eq!(header_section(b"A: b\r\nC: d\r\n\r\nbody"), b"A: b\r\nC: d\r\n");
        assert_eq!(header_section(b"A: b\r\n"), b"A: b\r\n");
    }
}
