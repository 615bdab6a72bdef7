//! Who hears of a failure, a delay or a relayed message, and what (RFC 3461 section 5.2).
//!
//! A notice goes back through the same lane with the mailbox as its reverse-path, because
//! Exchange Online is not known to take a null one. So that no loop can arise, none is ever sent
//! for a null reverse-path or about a notice.

use std::time::Duration;

use super::{
    NoticeConfig,
    judged::Judged,
    shared::{Context, LaneState},
};
use crate::{
    mail::notice::{Action, Notice, Reported, Returned, header_section},
    smtp::{
        envelope::{Body as BodyType, Envelope, MailParameters, RcptParameters, Recipient, Ret},
        path::{Address, ForwardPath, ReversePath},
        reply::EnhancedStatusCode,
    },
    store::{Arrival, Entry, NewNotice, Outcome, PendingRecipient},
    telemetry::{events::notice_queued, metrics::causes::NoticeKind},
};

/// Most octets of the message that a notice returns; with RET=FULL a larger message comes back
/// as its header section.
const MAX_RETURNED: usize = 48 * 1024;

/// What an attempt has come to, for the notices about it.
pub(super) struct Occasion<'a> {
    pub context: &'a Context,
    pub lane: &'a LaneState,
    pub entry: &'a Entry,
    pub judged: &'a [(u32, Judged)],
    /// Upstream was asked to report success itself.
    pub upstream_reports: bool,
}

impl Occasion<'_> {
    /// The notices to queue with the outcomes.
    pub async fn notices(&self) -> Vec<NewNotice> {
        let mut notices = Vec::new();
        for action in [Action::Failed, Action::Delayed, Action::Relayed] {
            let reported = self.reported(action);
            if reported.is_empty() {
                continue;
            }
            match self.audience() {
                Some(to) => notices.push(self.notice(action, &to, &reported).await),
                None if action == Action::Failed => self.nobody_to_tell(reported.len()),
                None => {}
            }
        }
        notices
    }

    fn nobody_to_tell(&self, recipients: usize) {
        let why = if self.entry.is_notice { "it is a notice" } else { "null reverse-path" };
        tracing::error!(
            queue_id = %self.entry.id,
            recipients,
            why,
            "recipients failed and nobody can be told, see the history"
        );
    }

    /// Who may hear of this message; nobody for a null reverse-path or a notice.
    fn audience(&self) -> Option<Vec<Address>> {
        let ReversePath::Address(sender) = &self.entry.reverse_path else { return None };
        if self.entry.is_notice {
            return None;
        }
        let mut to = vec![sender.clone()];
        let others = self.config().to.iter().filter(|address| *address != sender);
        to.extend(others.cloned());
        Some(to)
    }

    fn config(&self) -> &NoticeConfig {
        &self.context.notices
    }

    fn reported(&self, action: Action) -> Vec<Reported> {
        let recipient = |position| self.entry.recipients.iter().find(|r| r.position == position);
        self.judged
            .iter()
            .filter_map(|(position, judged)| Some((recipient(*position)?, judged)))
            .filter(|(recipient, judged)| self.concerns(action, recipient, &judged.outcome))
            .map(|(recipient, judged)| report(recipient, judged, action))
            .collect()
    }

    fn concerns(&self, action: Action, recipient: &PendingRecipient, outcome: &Outcome) -> bool {
        let asked = |word| asks(recipient.parameters.notify.as_deref(), word);
        match (action, outcome) {
            (Action::Failed, Outcome::Failed { .. }) => asked("FAILURE").unwrap_or(true),
            (Action::Delayed, Outcome::Deferred { .. }) => {
                self.is_late() && asked("DELAY").unwrap_or(true)
            }
            (Action::Relayed, Outcome::Relayed { .. }) => {
                !self.upstream_reports && asked("SUCCESS").unwrap_or(false)
            }
            _ => false,
        }
    }

    fn is_late(&self) -> bool {
        let age = self.context.clock.now().since(self.entry.arrival);
        !self.entry.delay_told && self.config().delay_after.is_some_and(|after| age >= after)
    }

    async fn notice(&self, action: Action, to: &[Address], reported: &[Reported]) -> NewNotice {
        let id = self.context.store.new_id();
        let now = self.context.clock.now();
        let returned = self.returned().await;
        let full = self.entry.parameters.ret == Some(Ret::Full)
            && returned.len() as u64 == self.entry.size;
        let give_up: Duration = self.context.give_up_after;
        let retry_until = (self.entry.arrival + give_up).rfc5322();
        let names: Vec<_> = to.iter().map(ToString::to_string).collect();
        let notice = Notice {
            action,
            id,
            from: &self.lane.config.mailbox,
            to: &names,
            hostname: &self.config().hostname,
            remote: &self.context.smarthost.config().host,
            date: &now.rfc5322(),
            about: self.entry.id,
            arrival: &self.entry.arrival.rfc5322(),
            envid: self.entry.parameters.envid.as_deref(),
            message_id: &self.entry.message_id,
            retry_until: (action == Action::Delayed).then_some(retry_until.as_str()),
            recipients: reported,
            returned: match full && action == Action::Failed {
                true => Returned::Full(&returned),
                false => Returned::Headers(header_section(&returned)),
            },
        };
        let mail_data = notice.mail_data();
        let parameters = MailParameters {
            body: match mail_data.is_ascii() {
                true => BodyType::SevenBit,
                false => BodyType::EightBitMime,
            },
            smtputf8: !notice.is_ascii(),
            ..MailParameters::default()
        };
        tracing::info!(
            queue_id = %id, about = %self.entry.id, action = action.as_str(), to = names.join(" "),
            "notice queued"
        );
        notice_queued(match action {
            Action::Failed => NoticeKind::Failed,
            Action::Delayed => NoticeKind::Delayed,
            Action::Relayed => NoticeKind::Relayed,
        });
        let tells_delay = action == Action::Delayed;
        let envelope = Envelope {
            reverse_path: self.reverse_path(),
            parameters,
            recipients: to.iter().map(recipient).collect(),
        };
        let arrival = Arrival {
            envelope,
            time: now,
            client: "o365-relay".into(),
            hello: String::new(),
            message_id: format!("<{id}@{}>", self.config().hostname),
        };
        NewNotice { id, mail_data, arrival, tells_delay }
    }

    /// The mailbox; it was checked, so it is an address.
    fn reverse_path(&self) -> ReversePath {
        self.lane.config.mailbox.parse().map_or(ReversePath::Null, ReversePath::Address)
    }

    /// The front of the message, all of it if it is short. A message that cannot be read or is
    /// damaged is reported without it.
    async fn returned(&self) -> Vec<u8> {
        let front = self.context.store.front(self.entry, MAX_RETURNED + 1).await;
        let mut front = front.unwrap_or_default();
        if front.len() > MAX_RETURNED {
            let whole_lines = front[..MAX_RETURNED].windows(2).rposition(|pair| pair == b"\r\n");
            front.truncate(whole_lines.map_or(0, |at| at + 2));
        }
        front
    }
}

/// Whether NOTIFY asks for a report of this kind; `None` if it was not given.
fn asks(notify: Option<&str>, word: &str) -> Option<bool> {
    notify.map(|notify| notify.split(',').any(|asked| asked.eq_ignore_ascii_case(word)))
}

pub(super) fn recipient(address: &Address) -> Recipient {
    Recipient {
        forward_path: ForwardPath(address.clone()),
        parameters: RcptParameters { notify: Some("NEVER".into()), orcpt: None },
    }
}

fn report(recipient: &PendingRecipient, judged: &Judged, action: Action) -> Reported {
    let (Outcome::Relayed { reply } | Outcome::Failed { reply } | Outcome::Deferred { reply, .. }) =
        &judged.outcome;
    let class = match action {
        Action::Failed => 5,
        Action::Delayed => 4,
        Action::Relayed => 2,
    };
    Reported {
        forward_path: recipient.forward_path.clone(),
        orcpt: recipient.parameters.orcpt.clone(),
        status: match judged.status {
            Some(status) if status.0 == class => status,
            // Given up: delivery time expired (RFC 3463 section 3.5).
            Some(_) if action == Action::Failed => EnhancedStatusCode(5, 4, 7),
            None if action == Action::Failed && !judged.from_upstream => {
                EnhancedStatusCode(5, 4, 7)
            }
            _ => EnhancedStatusCode(class, 0, 0),
        },
        reply: reply.clone(),
        from_upstream: judged.from_upstream,
        advice: judged.advice.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_decides_what_is_told() {
        assert_eq!(asks(None, "FAILURE"), None);
        assert_eq!(asks(Some("NEVER"), "FAILURE"), Some(false));
        assert_eq!(asks(Some("SUCCESS,DELAY"), "DELAY"), Some(true));
        assert_eq!(asks(Some("SUCCESS,DELAY"), "FAILURE"), Some(false));
    }
}
