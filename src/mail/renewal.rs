//! The mail that asks somebody to renew a credential in time.

use super::notice::{field, line, paragraph};

/// A reminder, complete but for its text.
#[derive(Debug, Clone)]
pub struct Renewal<'a> {
    /// What ends, such as `client secret`.
    pub what: &'a str,
    /// Whole days until then, 0 on the last.
    pub days_left: i64,
    /// When it ends, for people.
    pub ends: &'a str,
    /// The Message-ID, with its angle brackets.
    pub message_id: &'a str,
    /// Who it is from: the mailbox.
    pub from: &'a str,
    /// Who gets it.
    pub to: &'a [String],
    /// Our own name.
    pub hostname: &'a str,
    /// RFC 5322 date-time.
    pub date: &'a str,
    /// What to do.
    pub advice: &'a str,
}

impl Renewal<'_> {
    /// The reminder as mail data: lines end with CRLF, nothing is dot-stuffed. Whatever the names
    /// hold, no header field begins with them.
    #[must_use]
    pub fn mail_data(&self) -> Vec<u8> {
        let left = match self.days_left {
            ..=0 => "within a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        let Self { what, ends, from, hostname, .. } = self;
        let mut text = String::new();
        field(&mut text, "From", &format!("Mail relay <{from}>"));
        field(&mut text, "To", &self.to.join(",\r\n "));
        field(&mut text, "Subject", &format!("The mail relay's credential ends {left}"));
        field(&mut text, "Date", self.date);
        field(&mut text, "Message-ID", self.message_id);
        field(&mut text, "Auto-Submitted", "auto-generated");
        field(&mut text, "MIME-Version", "1.0");
        field(&mut text, "Content-Type", "text/plain; charset=utf-8");
        field(&mut text, "Content-Transfer-Encoding", "8bit");
        line(&mut text, "");
        paragraph(
            &mut text,
            "",
            &format!(
                "o365-relay on {hostname}, which sends as {from}, logs in with a credential that \
                 ends {left}: {what}, on {ends}. From then on no mail goes out; it waits in the \
                 queue until there is a new one."
            ),
        );
        line(&mut text, "");
        paragraph(&mut text, "", &format!("What to do: {}.", self.advice));
        line(&mut text, "");
        paragraph(&mut text, "", "This is told 60, 30, 7 days and 1 day before the end.");
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_ends_when_and_what_to_do_and_names_cannot_add_a_field() {
        let to = ["admin@contoso.com".to_owned(), "second@contoso.com".to_owned()];
        let renewal = Renewal {
            what: "certificate /etc/a\r\nBcc: thief@evil.example\r\n\r\nb.pem",
            days_left: 7,
            ends: "2026-11-30T00:00:00Z",
            message_id: "<id@relay.contoso.com>",
            from: "relay@contoso.com",
            to: &to,
            hostname: "relay.contoso.com",
            date: "Mon, 23 Nov 2026 06:24:10 +0000",
            advice: "add a new one",
        };
        let text = String::from_utf8(renewal.mail_data()).unwrap();
        let (header, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(header.contains("\r\nSubject: The mail relay's credential ends in 7 days\r\n"));
        assert!(header.contains("\r\nTo: admin@contoso.com,\r\n second@contoso.com\r\n"));
        assert!(!header.contains("evil") && !body.contains("\r\nBcc:"), "{text}");
        let words = body.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("on 2026-11-30T00:00:00Z.") && words.contains("What to do: add a"));
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        let last = Renewal { days_left: 0, ..renewal };
        assert!(String::from_utf8(last.mail_data()).unwrap().contains("ends within a day\r\n"));
    }
}
