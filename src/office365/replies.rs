//! What Exchange Online's SMTP replies mean for a relay, as data: who is hurt, how long to wait,
//! what to tell the admin. [`crate::delivery::judge`] looks here first and falls back on the
//! reply's class.
//!
//! The order matters: the first row that fits counts. Rows look at the code, then at the
//! enhanced status code, then at a part of the text, because Microsoft uses the same codes for
//! different things (`554 5.2.252` refuses one message, `550 5.2.252` blocks the mailbox).

mod rows;

use std::time::Duration;

use super::placeholders;
use crate::smtp::reply::{EnhancedStatusCode, Reply};

/// Who is hurt by a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The way to the smarthost, for all lanes.
    Relay,
    /// The mailbox as a whole.
    Lane,
    /// All mail with this sender; this message fails.
    Sender,
    /// This message.
    Message,
    /// This recipient.
    Recipient,
    /// This message, for the time being.
    Transient,
    /// This recipient, until the others have been sent.
    Rest,
}

impl Scope {
    /// Whether the fault is not the message's: it waits, and no attempt counts.
    #[must_use]
    pub fn pauses(self) -> bool {
        matches!(self, Self::Relay | Self::Lane)
    }
}

/// How long a pause lasts: it doubles from `first` up to `most` while the cause stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseRule {
    /// The kind of trouble, for metrics.
    pub kind: &'static str,
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

impl PauseRule {
    /// Trouble on the way: DNS, connect, TLS, a busy server.
    pub const NETWORK: Self = Self::of("network", 5, 300);
    /// The relay's own store cannot be read or written now.
    pub const STORE: Self = Self::of("store", 5, 300);
    /// The mailbox cannot log in; an admin has to act, or a change has to spread.
    pub const LOGIN: Self = Self::of("login", 60, 600);
    /// The server is busy with us.
    const BUSY: Self = Self::of("busy", 30, 600);
    /// The mailbox is blocked; trying again prolongs it.
    const BLOCKED: Self = Self::of("blocked", 30 * 60, 4 * 3600);
    /// A quota of a day is used up.
    const QUOTA: Self = Self::of("quota", 3600, 4 * 3600);
    /// A sender may not be used; repeating it would make Exchange block the mailbox.
    pub const SENDER: Self = Self::of("sender", 15 * 60, 4 * 3600);
    /// Microsoft limits our address or tenant.
    const LIMITED: Self = Self::of("limited", 600, 3600);

    /// Every kind, and what it means.
    pub const KINDS: &[(&str, &str)] = &[
        ("network", "the smarthost was not reached, or did not behave as one"),
        ("store", "the queue cannot be read or written"),
        ("login", "the mailbox cannot log in"),
        ("busy", "Office 365 is busy with this mailbox, or with everybody"),
        ("blocked", "Office 365 has blocked the mailbox"),
        ("quota", "the mailbox has sent to as many recipients as it may in a day"),
        ("sender", "the mailbox may not send as this sender, whose mail alone waits"),
        ("limited", "Office 365 limits the address of this host, or the tenant"),
    ];

    /// `first` and `most` in seconds.
    const fn of(kind: &'static str, first: u64, most: u64) -> Self {
        Self { kind, first: Duration::from_secs(first), most: Duration::from_secs(most) }
    }
}

/// One kind of reply.
#[derive(Debug)]
pub struct Row {
    /// A reply of this kind as it has been seen, or as Microsoft describes it.
    pub example: &'static str,
    /// The code and the enhanced status codes: `550 5.2.251-255`, `* 5.1.8 5.7.511`.
    codes: &'static str,
    /// Parts of the text, in lower case, of which one must occur; none asks for nothing.
    text: &'static [&'static str],
    /// Who is hurt.
    pub scope: Scope,
    /// How long a pause lasts, for scopes that pause.
    pub pause: PauseRule,
    /// What is wrong, in a few words.
    pub meaning: &'static str,
    /// The next step in one line, with placeholders; see [`Names::fill`].
    pub cure: &'static str,
}

impl Row {
    fn fits(&self, reply: &Reply) -> bool {
        let mut patterns = self.codes.split(' ');
        let code = patterns
            .next()
            .is_some_and(|code| code == "*" || code.parse() == Ok(reply.code().value()));
        let mut enhanced = patterns.peekable();
        let text = || reply.text().to_ascii_lowercase();
        code && (enhanced.peek().is_none() || enhanced.any(|p| covers(p, reply.enhanced())))
            && (self.text.is_empty() || self.text.iter().any(|part| text().contains(part)))
    }
}

impl Row {
    /// Whether such a reply may as well answer the greeting, EHLO, STARTTLS or AUTH, where no
    /// message can be at fault.
    #[must_use]
    pub fn may_precede_mail(&self) -> bool {
        let starts = ["421", "451 4.7.0", "500", "501 5.5.4", "503"];
        !self.scope.pauses() && starts.iter().any(|start| self.codes.starts_with(start))
    }
}

/// `5.7.3`, or a range of details `5.7.501-503`.
fn covers(pattern: &str, found: Option<EnhancedStatusCode>) -> bool {
    let Some(found) = found else { return false };
    let (from, to) = match pattern.split_once('-') {
        Some((from, to)) => (from, to.parse().ok()),
        None => (pattern, None),
    };
    let Ok(from) = from.parse::<EnhancedStatusCode>() else { return false };
    let last = to.unwrap_or(from.2);
    (found.0, found.1) == (from.0, from.1) && (from.2..=last).contains(&found.2)
}

/// The names that stand for the placeholders of a cure.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// For `{mailbox}`.
    pub mailbox: &'a str,
    /// For `{sender}`: the reverse-path of the message.
    pub sender: &'a str,
    /// For `{object_id}`: the enterprise application's, where the token tells it.
    pub object_id: Option<&'a str>,
}

impl<'a> Names<'a> {
    /// Replaces `{mailbox}`, `{sender}` and `{object_id}` in `cure`.
    #[must_use]
    pub fn fill(&self, cure: &'a str) -> String {
        placeholders::fill(cure, |name| match name {
            "mailbox" => Some(self.mailbox),
            "sender" => Some(self.sender),
            "object_id" => Some(
                self.object_id.unwrap_or("<Object ID of the app under Enterprise applications>"),
            ),
            _ => None,
        })
    }
}

/// The first row that fits the reply.
#[must_use]
pub fn lookup(reply: &Reply) -> Option<&'static Row> {
    rows().iter().find(|row| row.fits(reply))
}

/// The rows of replies that may begin with this code and this enhanced status code, whatever their
/// text; `None` stands for any.
pub fn beginning_with(
    code: Option<u16>,
    enhanced: Option<EnhancedStatusCode>,
) -> impl Iterator<Item = &'static Row> {
    rows().iter().filter(move |row| {
        let Some(example) = Reply::parse(format!("{}\r\n", row.example).as_bytes()) else {
            return false;
        };
        let mut patterns = row.codes.split(' ');
        let row_code = patterns.next().and_then(|code| code.parse().ok());
        let code_fits = code.is_none_or(|code| code == row_code.unwrap_or(example.code().value()));
        let enhanced_fits = enhanced.is_none()
            || example.enhanced() == enhanced
            || patterns.any(|pattern| covers(pattern, enhanced));
        code_fits && enhanced_fits
    })
}

/// All rows, in order.
#[must_use]
pub fn rows() -> &'static [Row] {
    rows::ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(line: &str) -> Option<Scope> {
        lookup(&Reply::parse(format!("{line}\r\n").as_bytes()).unwrap()).map(|row| row.scope)
    }

    #[test]
    fn each_row_is_found_by_its_example() {
        for row in rows() {
            let found = lookup(&Reply::parse(format!("{}\r\n", row.example).as_bytes()).unwrap());
            assert!(found.is_some_and(|found| std::ptr::eq(found, row)), "{}", row.example);
        }
    }

    #[test]
    fn microsofts_replies_fall_where_they_belong() {
        for (line, expected) in [
            (
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled",
                Scope::Lane,
            ),
            (
                "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy",
                Scope::Lane,
            ),
            (
                "535 5.7.139 Authentication unsuccessful, the organization configuration doesn't allow this authentication request",
                Scope::Lane,
            ),
            (
                "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.",
                Scope::Lane,
            ),
            ("530 5.7.0 Must issue a STARTTLS command first", Scope::Relay),
            (
                "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
                Scope::Sender,
            ),
            (
                "550 5.2.255 Sender throttled due to continuous invalid recipients errors",
                Scope::Lane,
            ),
            ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Scope::Lane),
            ("550 5.2.2 Submission quota exceeded", Scope::Lane),
            ("550 5.7.502 Access denied, banned sender", Scope::Lane),
            ("550 5.7.236 Your message can't be sent", Scope::Relay),
            (
                "550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains",
                Scope::Relay,
            ),
            ("451 4.7.699 Server busy", Scope::Relay),
            ("421 4.4.1 Connection timed out", Scope::Transient),
            ("554 5.6.0 Corrupt message content", Scope::Message),
            ("501 5.1.7 Invalid address", Scope::Message),
            ("554 5.4.6 Hop count exceeded", Scope::Message),
        ] {
            assert_eq!(scope(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn other_replies_keep_their_class() {
        for line in [
            "454 4.7.0 TLS not available due to temporary reason",
            "550 5.1.10 no such user",
            "250 2.0.0 OK",
            "550 5.2.256 x",
            "451 4.7.499 x",
        ] {
            assert_eq!(scope(line), None, "{line}");
        }
    }

    /// Every reply that Microsoft or a transcript is known to have for a client that submits mail,
    /// those of High Volume Email among them.
    const KNOWN: &str = "
        421 4.3.2; 421 4.4.1; 421 4.4.2; 421 4.4.2 submission rate; 421 4.7.0; 420 4.2.0; 430 4.2.0
        432 4.3.2; 450 4.2.1; 450 4.7.1; 451 4.3.0; 451 4.3.2; 451 4.7.0; 451 4.7.0 timeout
        451 4.7.500; 451 4.7.699; 452 4.3.1; 452 4.5.3; 454 4.7.0 authentication
        500 5.3.3; 500 5.5.2; 501 5.1.3; 501 5.1.7; 501 5.5.4; 503 5.5.1; 503 5.5.2; 504 5.7.4
        501 5.5.121; 501 5.5.122; 501 5.5.123; 501 5.5.124; 501 5.5.125; 501 5.5.126
        530 5.7.0; 530 5.7.57; 535 5.7.3; 535 5.7.139; 535 5.7.142; 535 5.7.143; 535 5.7.144
        535 5.7.139 basic authentication is disabled; 535 5.7.139 organization configuration
        535 5.7.139 security defaults; 535 5.7.139 smtpclientauthentication is disabled
        550 5.1.3; 550 5.1.8; 550 5.1.90; 550 5.2.2; 550 5.5.105; 550 5.6.11; 550 5.7.30; 550 5.7.60
        550 5.2.251; 550 5.2.252; 550 5.2.253; 550 5.2.254; 550 5.2.255
        550 5.7.232; 550 5.7.233; 550 5.7.236; 550 5.7.240; 550 5.7.501; 550 5.7.502; 550 5.7.503
        550 5.7.509; 550 5.7.511; 550 5.7.512; 550 5.7.705; 550 5.7.708; 550 5.7.750
        552 5.3.4; 554 5.2.0 sendasdenied; 554 5.2.0 submissionquotaexceeded; 554 5.2.2
        554 5.2.252 sendasdenied; 554 5.4.6; 554 5.4.14; 554 5.6.0";

    /// Codes that mean the same whatever their second part is.
    const WHOLE: [&str; 5] = ["450", "432", "503", "500", "421"];

    #[test]
    fn each_known_reply_has_a_row_of_its_own_kind() {
        for line in KNOWN.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
            let reply = Reply::parse(format!("{line}\r\n").as_bytes()).unwrap();
            let row = lookup(&reply).unwrap_or_else(|| panic!("{line} is not known"));
            let example = Reply::parse(format!("{}\r\n", row.example).as_bytes()).unwrap();
            let named = row.codes.split(' ').skip(1).any(|one| covers(one, reply.enhanced()));
            let shown = example.enhanced() == reply.enhanced();
            let text = line.splitn(3, ' ').nth(2).unwrap_or_default();
            let by_text = row.text.iter().any(|part| text.contains(part));
            assert!(text.is_empty() || by_text, "{line} is taken for {row:?}");
            let is_own = named || shown || by_text || WHOLE.contains(&row.codes);
            assert!(is_own, "{line} is taken for {row:?}");
        }
    }

    #[test]
    fn cures_are_filled_in() {
        let reply = Reply::parse(b"554 5.2.252 SendAsDenied; x\r\n").unwrap();
        let names = Names { mailbox: "relay@c.com", sender: "erp@c.com", object_id: Some("11-22") };
        assert_eq!(
            names.fill(lookup(&reply).unwrap().cure),
            "Add-RecipientPermission -Identity erp@c.com -Trustee 11-22 -AccessRights SendAs -Confirm:$false"
        );
        for row in rows() {
            let filled = names.fill(row.cure);
            assert!(!filled.contains('{') && !row.meaning.is_empty(), "{filled}");
        }
    }
}
