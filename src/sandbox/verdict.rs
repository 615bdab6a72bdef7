//! What becomes of a message once its final dot has been read: the checks that Exchange makes
//! only then, and the final reply.

use std::borrow::Cow;

use super::{
    Arrival, command,
    faults::{Action, Stage},
    header::Header,
    mail_data::MailData,
    random,
    session::HOST,
    tenant::{Login, Tenant},
};

/// What becomes of a message.
pub(super) enum Verdict {
    /// It was taken, and this is the reply.
    Taken(String),
    /// It was not, and this is the reply.
    Refused(Cow<'static, str>),
    /// There is no reply.
    Drop,
}

impl From<&'static str> for Verdict {
    fn from(reply: &'static str) -> Self {
        Self::Refused(reply.into())
    }
}

/// An empty message that holds as much mail data in memory as somebody will want to have.
pub(super) fn new_message(tenant: &Tenant) -> MailData {
    let most = usize::try_from(tenant.config.max_message_size).unwrap_or(usize::MAX);
    let all = tenant.arrivals.wants_mail_data();
    MailData::new(if all { most } else { most.min(HEADER_LIMIT) })
}

/// Judges a message that `login` submits; the error is why it is not taken.
pub(super) fn judge(
    tenant: &Tenant,
    login: &Login,
    reverse_path: &str,
    data: &MailData,
    header: &Header,
) -> Result<(), Verdict> {
    if data.size() > tenant.config.max_message_size {
        return Err(command::TOO_LARGE.into());
    }
    if data.has_bare_line_ends() {
        return Err("550 5.6.11 Bare line feed or carriage return in the message".into());
    }
    let author = header
        .author()
        .ok_or("550 5.7.512 Access denied, the From header lacks a valid address")?;
    let mailbox = login.mailbox();
    // Which of the two Exchange compares is not known, so both have to be allowed.
    let denied =
        [author.as_str(), reverse_path].into_iter().find(|address| !login.may_send_as(address));
    if let Some(address) = denied {
        return Err(send_as_denied(mailbox, address));
    }
    let Some(strike) = tenant.strike(Stage::FinalDot, &[&author, reverse_path]) else {
        return Ok(());
    };
    Err(match (strike.action(), strike.refusal()) {
        (Action::DenySender, _) => send_as_denied(mailbox, &strike.subject),
        (_, Some(reply)) => reply.into(),
        _ => Verdict::Drop,
    })
}

fn send_as_denied(mailbox: &str, address: &str) -> Verdict {
    Verdict::Refused(
        format!(
            "554 5.2.252 SendAsDenied; {mailbox} not allowed to send as {}; \
             STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
            address.escape_default()
        )
        .into(),
    )
}

/// The final reply to a message that was accepted.
pub(super) fn accepted(arrival: &Arrival) -> String {
    let fit = |id: &&str| {
        id.len() <= MAX_ID
            && id.starts_with('<')
            && id.ends_with('>')
            && id.bytes().all(|octet| octet.is_ascii_graphic())
    };
    let id: Cow<'_, str> = match arrival.message_id.as_deref().filter(fit) {
        Some(id) => id.into(),
        None => format!("<{}@{HOST}>", random::guid()).into(),
    };
    format!("250 2.0.0 OK {id} [Hostname={HOST}]")
}

const MAX_ID: usize = 400; // so that the reply line stays under 512 octets
const HEADER_LIMIT: usize = 256 * 1024;
