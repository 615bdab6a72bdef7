//! A message (`--send-to`) that waits for upstream's reply: it alone tells of Send-As, quotas, and a
//! mailbox that is full or blocked. It does not go through the queue.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    Case, Found,
    access::access,
    login_host::sentence,
    mailbox::LoggedIn,
    report::{Check, Colour, Report},
    token::Token,
};
use crate::{
    delivery::{
        judge::judge,
        smarthost::{Share, Verdict},
        trouble::{Stage, Trouble},
    },
    mail::{queue_id::QueueId, test_message},
    office365::{
        exchange::Path,
        replies::{Names, Scope},
    },
    smtp::{
        envelope::{Envelope, MailParameters, RcptParameters, Recipient},
        path::{Address, ForwardPath, ReversePath},
        reply::Reply,
    },
    store::{Arrival, Entry, PassingBody},
};

const ID: &str = "send";

/// Sends it with one of `logins`, and says goodbye on all of them.
pub(super) async fn check(case: &Case<'_>, Found { tokens, logins }: Found, report: &mut Report) {
    let Some(to) = &case.patient.send_to else {
        for login in logins {
            login.connection.quit().await;
        }
        return;
    };
    let subject = format!("message to {to}");
    let default = case.identity.mailbox.parse().ok();
    let Some(from) = case.patient.from.clone().or(default) else {
        report.add(Check::grey(ID, subject, "needs a sender: give --from"));
        return;
    };
    let (mailbox, case) = &case.mailbox_for(&from);
    let token = tokens.get(case.identity.account);
    let mut chosen = None;
    for login in logins {
        if chosen.is_none() && login.mailbox == *mailbox {
            chosen = Some(login);
        } else {
            login.connection.quit().await;
        }
    }
    let stands = report
        .checks
        .iter()
        .any(|check| (check.id == "relay" || check.id == "sender") && check.colour == Colour::Red);
    match chosen {
        None => report.add(Check::grey(ID, subject, &format!("needs the login as {mailbox}"))),
        // What Exchange has blocked is blocked for longer by each further try.
        Some(login) if stands => {
            login.connection.quit().await;
            let why = "a red line above stands against it, and another refusal could make Exchange \
                       block the mailbox";
            report.add(Check::grey(ID, subject, why));
        }
        Some(login) => report.add(send(case, token, login, &from, to).await),
    }
}

async fn send(
    case: &Case<'_>,
    token: Option<&Token>,
    mut login: LoggedIn,
    from: &Address,
    to: &Address,
) -> Check {
    let subject = format!("message to {to}");
    let (entry, body) = message(case, from, to);
    let body = match body.open() {
        Ok(body) => body,
        Err(error) => return Check::red(ID, subject, error.to_string()),
    };
    let (rewriting, sent_as) = case.sent_as(from, &login.mailbox);
    let sent = login.connection.send_as(&rewriting, &entry, body, Share::All);
    let sent = timeout(PATIENCE, sent).await;
    let from = &sent_as;
    let sent = sent.unwrap_or_else(|_| {
        let cause = format!("no reply within {PATIENCE:?}");
        Err(Trouble::Broken { stage: Stage::EndOfData, cause })
    });
    let check = match sent.map(|verdicts| verdicts.into_iter().next()) {
        Ok(Some((_, Verdict::Relayed(taken)))) => {
            let finding = format!("upstream has taken it from {from}: {}", taken.reply());
            Check::green(ID, subject, finding).fact("reply", taken.reply().to_string())
        }
        Ok(Some((_, Verdict::Refused(stage, reply)))) => {
            refused(case, token, &login.mailbox, from, to, stage, &reply)
        }
        Ok(Some((_, Verdict::Uncertain(cause)))) => {
            Check::amber(ID, subject, format!("nobody knows whether it arrived: {cause}"))
        }
        Ok(None) => Check::red(ID, subject, "there was no verdict"),
        Err(trouble) => Check::red(ID, subject, trouble.to_string())
            .cure("The connection broke, which may pass: `o365-relay doctor` once more."),
    };
    login.connection.quit().await;
    check
}

fn message(case: &Case<'_>, from: &Address, to: &Address) -> (Entry, PassingBody) {
    let now = case.now();
    let id = QueueId::new(now.0, fastrand::u64(..));
    let hostname = case.config.listeners.first().map_or("localhost", |listener| &listener.hostname);
    let message_id = format!("<{id}@{hostname}>");
    let text = test_message::text(&test_message::Heading {
        from: from.as_str(),
        to: &[to.as_str()],
        subject: "Test message from o365-relay doctor",
        date: &now.rfc5322(),
        message_id: Some(&message_id),
    });
    let smtputf8 = from.needs_smtputf8() || to.needs_smtputf8();
    let recipient =
        Recipient { forward_path: ForwardPath(to.clone()), parameters: RcptParameters::default() };
    let envelope = Envelope {
        reverse_path: ReversePath::Address(from.clone()),
        parameters: MailParameters { smtputf8, ..MailParameters::default() },
        recipients: vec![recipient],
    };
    let arrival =
        Arrival { envelope, time: now, client: "doctor".into(), hello: String::new(), message_id };
    let body = PassingBody::small(id, text.into_bytes());
    (Entry::passing(id, body.len(), arrival), body)
}

fn refused(
    case: &Case<'_>,
    token: Option<&Token>,
    mailbox: &str,
    from: &Address,
    to: &Address,
    stage: Stage,
    reply: &Reply,
) -> Check {
    let subject = format!("message to {to}");
    let row = judge(stage, reply).row;
    let object_id = token.and_then(|token| token.claims.oid.as_deref());
    let names = Names { mailbox, sender: from.as_str(), object_id };
    let trouble = Trouble::Refused { stage, reply: reply.clone() };
    let Some(row) = row else {
        return Check::red(ID, subject, trouble.to_string())
            .cure("o365-relay explain does not know this reply; look it up at Microsoft's.");
    };
    let finding = format!("{}: {trouble}", names.fill(row.meaning));
    let check = Check::red(ID, subject, finding).fact("reply", reply.to_string());
    if row.scope != Scope::Sender {
        return check.cure(sentence(&names.fill(row.cure)));
    }
    let access = access(case, token, mailbox, Path::Classic);
    check
        .cure("Exchange PowerShell; or let the application send as the mailbox itself:")
        .cure(access.connect())
        .cure(access.grant_send_as_of(from.as_str()))
        .cure(
            "# Until then keep such mail from the relay (sender.allow): Exchange blocks a mailbox \
             that repeats this.",
        )
}

/// From MAIL to the reply to the final dot.
const PATIENCE: Duration = Duration::from_secs(120);
