//! What Exchange Online's SMTP replies mean for a relay, as data: who is hurt, how long to wait,
//! what to tell the admin. [`crate::delivery::judge`] looks here first and falls back on the
//! reply's class.
//!
//! The order matters: the first row that fits counts. Rows look at the code, then at the
//! enhanced status code, then at a part of the text, because Microsoft uses the same codes for
//! different things (`554 5.2.252` refuses one message, `550 5.2.252` blocks the mailbox).

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

    /// Whether the recipients concerned have failed for good.
    #[must_use]
    pub fn fails(self) -> bool {
        matches!(self, Self::Sender | Self::Message | Self::Recipient)
    }
}

/// How long a pause lasts: it doubles from `first` up to `most` while the cause stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseRule {
    /// The first pause.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
}

impl PauseRule {
    /// Trouble on the way: DNS, connect, TLS, a busy server.
    pub const NETWORK: Self = Self::seconds(5, 300);
    /// The mailbox cannot log in; an admin has to act, or a change has to spread.
    pub const LOGIN: Self = Self::seconds(60, 600);
    /// The server is busy with us.
    const BUSY: Self = Self::seconds(30, 600);
    /// The mailbox is blocked; trying again prolongs it.
    const BLOCKED: Self = Self::seconds(30 * 60, 4 * 3600);
    /// A quota of a day is used up.
    const QUOTA: Self = Self::seconds(3600, 4 * 3600);

    const fn seconds(first: u64, most: u64) -> Self {
        Self { first: Duration::from_secs(first), most: Duration::from_secs(most) }
    }
}

/// One kind of reply.
#[derive(Debug)]
pub struct Row {
    code: Option<u16>,
    enhanced: &'static [&'static str],
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
        let text = reply.text().to_ascii_lowercase();
        self.code.is_none_or(|code| code == reply.code().value())
            && (self.enhanced.is_empty()
                || self.enhanced.iter().any(|p| covers(p, reply.enhanced())))
            && (self.text.is_empty() || self.text.iter().any(|part| text.contains(part)))
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
    ROWS.iter().find(|row| row.fits(reply))
}

/// All rows, in order.
#[must_use]
pub fn rows() -> &'static [Row] {
    ROWS
}

const fn row(
    code: u16,
    enhanced: &'static [&'static str],
    text: &'static [&'static str],
    scope: Scope,
    pause: PauseRule,
    meaning: &'static str,
    cure: &'static str,
) -> Row {
    let code = if code == 0 { None } else { Some(code) };
    Row { code, enhanced, text, scope, pause, meaning, cure }
}

const NONE: PauseRule = PauseRule::NETWORK;

static ROWS: &[Row] = &[
    row(
        535,
        &["5.7.139"],
        &[
            "smtpclientauthentication is disabled for the tenant",
            "smtpclientauthentication is disabled for the mailbox",
            "smtp_auth_disabled",
        ],
        Scope::Lane,
        PauseRule::LOGIN,
        "SMTP AUTH is switched off for the mailbox or the tenant",
        "Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false",
    ),
    row(
        0,
        &["5.7.139", "5.7.30"],
        &["basic authentication"],
        Scope::Lane,
        PauseRule::LOGIN,
        "the server took the login for basic authentication",
        "check office365.smtp_host: it must be Exchange Online's own name, with no proxy between that rewrites AUTH",
    ),
    row(
        535,
        &["5.7.139"],
        &[],
        Scope::Lane,
        PauseRule::LOGIN,
        "a policy of the tenant refuses the login",
        "look up the service principal's sign-in log for {mailbox}; review security defaults, conditional access and authentication policies",
    ),
    row(
        535,
        &[],
        &[],
        Scope::Lane,
        PauseRule::LOGIN,
        "the token is good but opens no way into the mailbox: the app has no right on it, was registered in Exchange with the wrong Object ID, or the change has not spread yet (30 min to 2 h)",
        "Get-ServicePrincipal | Format-List ObjectId must show {object_id}; then Add-MailboxPermission -Identity {mailbox} -User {object_id} -AccessRights FullAccess",
    ),
    row(
        530,
        &["5.7.57", "5.7.0"],
        &[],
        Scope::Relay,
        PauseRule::LOGIN,
        "the server wants STARTTLS or AUTH that it did not get",
        "check office365.smtp_host and office365.smtp_port (587): something else may be answering",
    ),
    row(
        504,
        &["5.7.4"],
        &[],
        Scope::Relay,
        PauseRule::LOGIN,
        "the server does not offer XOAUTH2",
        "check office365.smtp_host and office365.smtp_port (587): something else may be answering",
    ),
    row(
        550,
        &["5.2.251-255"],
        &[],
        Scope::Lane,
        PauseRule::BLOCKED,
        "Exchange has blocked the mailbox because the same error came again and again; trying prolongs it",
        "remove the cause (5.2.251 mailbox full, 5.2.252 sender without Send-As, 5.2.253 licence, 5.2.254 too many recipients, 5.2.255 bad recipients), then wait",
    ),
    row(
        0,
        &[],
        &["sendasdenied"],
        Scope::Sender,
        NONE,
        "the mailbox may not send as this address",
        "Add-RecipientPermission -Identity {sender} -Trustee {object_id} -AccessRights SendAs -Confirm:$false",
    ),
    row(
        550,
        &["5.7.60"],
        &[],
        Scope::Sender,
        NONE,
        "the mailbox may not send as this address",
        "Add-RecipientPermission -Identity {sender} -Trustee {object_id} -AccessRights SendAs -Confirm:$false",
    ),
    row(
        432,
        &[],
        &[],
        Scope::Lane,
        PauseRule::BUSY,
        "more than three connections use the mailbox at once",
        "lower office365.max_connections, or find the other program that sends as {mailbox}",
    ),
    row(
        0,
        &[],
        &["submissionquotaexceeded"],
        Scope::Lane,
        PauseRule::QUOTA,
        "the mailbox has used up its 10,000 recipients of the last 24 hours",
        "wait, or spread the mail over several mailboxes",
    ),
    row(
        0,
        &["5.1.90", "5.7.232-233", "5.7.236"],
        &[],
        Scope::Lane,
        PauseRule::QUOTA,
        "a daily limit on recipients is used up",
        "wait, or spread the mail over several mailboxes; 5.7.232 to 5.7.236 are limits of the whole tenant",
    ),
    row(
        0,
        &["5.2.2"],
        &[],
        Scope::Lane,
        PauseRule::LOGIN,
        "the mailbox is full, mostly with copies in Sent Items",
        "empty it, then Set-Mailbox -Identity {mailbox} -MessageCopyForSMTPClientSubmissionEnabled $false",
    ),
    row(
        0,
        &["5.1.8", "5.7.501-503", "5.7.511"],
        &[],
        Scope::Lane,
        PauseRule::BLOCKED,
        "the mailbox or our address is banned for sending spam",
        "Defender portal > Email & collaboration > Restricted entities: unblock {mailbox}; for an address, Microsoft's delisting portal",
    ),
    row(
        0,
        &["5.7.705", "5.7.708", "5.7.750"],
        &[],
        Scope::Lane,
        PauseRule::BLOCKED,
        "the tenant is blocked: over its limits, new, or sending from domains it has not verified",
        "open a support ticket with Microsoft; verify the tenant's accepted domains",
    ),
    row(
        452,
        &["4.5.3"],
        &[],
        Scope::Rest,
        NONE,
        "more recipients than the mailbox may address at once; the rest is sent separately",
        "Set-Mailbox -Identity {mailbox} -RecipientLimits 1000",
    ),
    row(
        421,
        &["4.4.2"],
        &["submission rate"],
        Scope::Lane,
        PauseRule::BUSY,
        "messages come faster than the mailbox may send",
        "lower office365.messages_per_minute, or find the other program that sends as {mailbox}",
    ),
    row(
        451,
        &["4.7.500-699"],
        &[],
        Scope::Relay,
        PauseRule { first: Duration::from_secs(600), most: Duration::from_secs(3600) },
        "Microsoft limits our address or tenant",
        "wait; if it lasts, check the reputation of the public address of this host",
    ),
    row(
        0,
        &["5.7.509"],
        &[],
        Scope::Message,
        NONE,
        "the sender's domain fails DMARC",
        "set up SPF, DKIM and DMARC for the domain of {sender}",
    ),
    row(
        0,
        &["5.7.512"],
        &[],
        Scope::Message,
        NONE,
        "the From field holds no valid address",
        "correct the From field that the application writes",
    ),
    row(
        0,
        &["5.6.11", "5.6.0"],
        &[],
        Scope::Message,
        NONE,
        "Exchange cannot read the message",
        "look at the message that the application writes: header fields, MIME structure",
    ),
    row(
        0,
        &["5.1.7"],
        &[],
        Scope::Message,
        NONE,
        "the reverse-path is no address that Exchange takes",
        "correct the sender address that the application uses",
    ),
    row(
        0,
        &["5.3.4"],
        &[],
        Scope::Message,
        NONE,
        "the message is larger than the mailbox may send",
        "Set-Mailbox -Identity {mailbox} -MaxSendSize 150MB",
    ),
    row(
        0,
        &["5.4.6", "5.4.14"],
        &[],
        Scope::Message,
        NONE,
        "the message goes in a loop",
        "look at its Received fields; this relay must not be pointed at itself",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(line: &str) -> Option<Scope> {
        lookup(&Reply::parse(format!("{line}\r\n").as_bytes()).unwrap()).map(|row| row.scope)
    }

    #[test]
    fn microsofts_replies_fall_where_they_belong() {
        for (line, expected) in [
            ("535 5.7.3 Authentication unsuccessful [HOST time id]", Scope::Lane),
            (
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled",
                Scope::Lane,
            ),
            (
                "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria",
                Scope::Lane,
            ),
            (
                "550 5.7.30 Basic authentication is not supported for Client Submission.",
                Scope::Lane,
            ),
            ("530 5.7.57 Client not authenticated to send mail.", Scope::Relay),
            ("504 5.7.4 Unrecognized authentication type", Scope::Relay),
            (
                "554 5.2.252 SendAsDenied; relay@contoso.com not allowed to send as x@contoso.com; STOREDRV.Submission.Exception:SendAsDeniedException",
                Scope::Sender,
            ),
            (
                "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
                Scope::Sender,
            ),
            (
                "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
                Scope::Sender,
            ),
            ("550 5.2.252 Sender throttled due to continuous send as denied errors", Scope::Lane),
            (
                "550 5.2.255 Sender throttled due to continuous invalid recipients errors",
                Scope::Lane,
            ),
            (
                "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
                Scope::Lane,
            ),
            ("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Scope::Lane),
            (
                "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
                Scope::Lane,
            ),
            ("554 5.2.2 STOREDRV.Submission.Exception:QuotaExceededException", Scope::Lane),
            ("550 5.1.8 Access denied, bad outbound sender", Scope::Lane),
            ("550 5.7.502 Access denied, banned sender", Scope::Lane),
            ("550 5.7.233 Your message can't be sent", Scope::Lane),
            ("550 5.7.705 Access denied, tenant has exceeded threshold", Scope::Lane),
            ("452 4.5.3 Too many recipients", Scope::Rest),
            ("451 4.7.500 Server busy. Please try again later", Scope::Relay),
            (
                "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
                Scope::Lane,
            ),
            ("550 5.6.11 bare LF", Scope::Message),
            ("552 5.3.4 Message size exceeds fixed maximum message size", Scope::Message),
            (
                "550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant",
                Scope::Message,
            ),
            ("554 5.4.14 Hop count exceeded", Scope::Message),
        ] {
            assert_eq!(scope(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn other_replies_keep_their_class() {
        for line in [
            "550 5.1.10 no such user",
            "451 4.7.0 Temporary server error",
            "250 2.0.0 OK",
            "421 4.4.2 Connection dropped",
            "550 5.2.256 x",
            "451 4.7.499 x",
        ] {
            assert_eq!(scope(line), None, "{line}");
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
