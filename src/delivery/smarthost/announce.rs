//! MAIL and RCPT, in one write where upstream offers PIPELINING (RFC 2920).

use std::fmt::Write;

use super::{Connection, NullSender, Verdict, refused};
use crate::{
    delivery::trouble::{Stage, Trouble},
    smtp::{
        envelope::{self, MailParameters, Ret},
        path::ReversePath,
        reply::Reply,
    },
    store::{Entry, PendingRecipient},
};

/// Most recipients in one write: the replies to all of it have to find room on the way while we
/// are still writing (RFC 2920 section 3.1).
const GROUP: usize = 32;

/// Places of the recipients that upstream accepted, and verdicts on the others.
type Answers = (Vec<u32>, Vec<(u32, Verdict)>);

/// What has been said about the recipients so far.
#[derive(Default)]
struct Tally {
    accepted: Vec<u32>,
    verdicts: Vec<(u32, Verdict)>,
    /// No more fit into this transaction: the rest would hear the same.
    full: Option<Reply>,
}

impl Tally {
    fn take(&mut self, recipient: &PendingRecipient, reply: Reply) {
        match reply.code().value() {
            250 | 251 => return self.accepted.push(recipient.position),
            452 => self.full = Some(reply.clone()),
            _ => {}
        }
        self.verdicts.push((recipient.position, Verdict::Refused(Stage::Rcpt, reply)));
    }

    /// Upstream is closing: there will be no DATA, whatever it said before.
    fn close(mut self, recipients: &[PendingRecipient], reply: &Reply) -> Answers {
        let judged = |position| self.verdicts.iter().any(|(other, _)| *other == position);
        let others: Vec<_> = refused(recipients, Stage::Rcpt, reply)
            .into_iter()
            .filter(|(position, _)| !judged(*position))
            .collect();
        self.verdicts.extend(others);
        (Vec::new(), self.verdicts)
    }
}

impl Connection {
    /// Says who the message is from and for. Without PIPELINING each line waits for the reply to
    /// the one before.
    pub(super) async fn announce(
        &mut self,
        entry: &Entry,
        reverse_path: &ReversePath,
    ) -> Result<Answers, Trouble> {
        let recipients = entry.recipients.as_slice();
        let (most, at_once) = if self.offers.pipelining { (GROUP, GROUP) } else { (1, 0) };
        let (mut asked, mut rest) = recipients.split_at(recipients.len().min(at_once));
        let mut lines = vec![(Stage::Mail, self.mail_line(entry, reverse_path))];
        let mut tally = Tally::default();
        loop {
            lines.extend(asked.iter().map(|one| (Stage::Rcpt, self.rcpt_line(one))));
            let mut heard = Vec::with_capacity(lines.len());
            let outcome = self.link.exchange_all(&lines, &mut heard).await;
            let mut heard = heard.into_iter();
            if lines.first().is_some_and(|(stage, _)| *stage == Stage::Mail)
                && let Some(reply) = heard.next()
                && reply.code().value() != 250
            {
                // What the recipients heard then says nothing about them.
                return Ok((Vec::new(), refused(recipients, Stage::Mail, &reply)));
            }
            for (recipient, reply) in asked.iter().zip(heard) {
                if reply.code().value() == 421 {
                    return Ok(tally.close(recipients, &reply));
                }
                tally.take(recipient, reply);
            }
            outcome?;
            if let Some(full) = tally.full.take() {
                tally.verdicts.extend(refused(rest, Stage::Rcpt, &full));
                rest = &[];
            }
            if rest.is_empty() {
                return Ok((tally.accepted, tally.verdicts));
            }
            (asked, rest) = rest.split_at(rest.len().min(most));
            lines.clear();
        }
    }

    fn mail_line(&self, entry: &Entry, reverse_path: &ReversePath) -> String {
        let path = match (reverse_path, self.null_sender) {
            (ReversePath::Null, NullSender::Mailbox) => self.mailbox.as_str(),
            (path, _) => path.as_str(),
        };
        let MailParameters { body, smtputf8, ret, envid, .. } = &entry.parameters;
        let mut line = format!("MAIL FROM:<{path}>");
        let mut parameter = |offered: bool, text: std::fmt::Arguments<'_>| {
            if offered {
                let _ = write!(line, " {text}");
            }
        };
        parameter(self.offers.size.is_some(), format_args!("SIZE={}", entry.size));
        let eight_bit = *body == envelope::Body::EightBitMime;
        parameter(self.offers.eight_bit_mime && eight_bit, format_args!("BODY=8BITMIME"));
        parameter(*smtputf8, format_args!("SMTPUTF8"));
        if let Some(ret) = ret {
            parameter(self.offers.dsn, format_args!("RET={}", Ret::as_str(*ret)));
        }
        if let Some(envid) = envid {
            parameter(self.offers.dsn, format_args!("ENVID={envid}"));
        }
        line.push_str("\r\n");
        line
    }

    fn rcpt_line(&self, recipient: &PendingRecipient) -> String {
        let mut line = format!("RCPT TO:<{}>", recipient.forward_path);
        if self.offers.dsn {
            if let Some(notify) = &recipient.parameters.notify {
                let _ = write!(line, " NOTIFY={notify}");
            }
            if let Some(orcpt) = &recipient.parameters.orcpt {
                let _ = write!(line, " ORCPT={orcpt}");
            }
        }
        line.push_str("\r\n");
        line
    }
}
