//! AUTH as each mailbox that the configuration has: one login, which costs no pace.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    Case,
    access::{self, subject},
    report::{Check, Report},
    token::Token,
};
use crate::delivery::{
    judge::judge,
    smarthost::{Connection, Smarthost},
    trouble::{Stage, Trouble},
};

/// A mailbox that can be logged in to, and the connection that shows it.
pub(super) struct LoggedIn {
    pub mailbox: String,
    /// The name of its account.
    pub account: String,
    pub connection: Connection,
}

/// Logs in as each of the account.
pub(super) async fn check(
    case: &Case<'_>,
    token: Option<&Token>,
    offers: bool,
    report: &mut Report,
) -> Vec<LoggedIn> {
    let mut logins = Vec::new();
    for mailbox in &mailboxes(case) {
        let grey = |why| Check::grey("login", subject(mailbox), why);
        let token = match token {
            None => {
                report.add(grey("needs an access token"));
                continue;
            }
            Some(token) if token.hopeless => {
                report.add(grey("needs a token that Exchange can take"));
                continue;
            }
            Some(token) => token,
        };
        if !offers {
            report.add(grey("needs the submission host"));
            continue;
        }
        let smarthost = Smarthost::new(case.identity.delivery.clone());
        let login = timeout(PATIENCE, smarthost.connect(mailbox, &token.access)).await;
        let login = login.unwrap_or_else(|_| {
            let cause = format!("no answer within {PATIENCE:?}");
            Err(Trouble::Broken { stage: Stage::Auth, cause })
        });
        match login {
            Ok(connection) => {
                report.add(Check::green("login", subject(mailbox), "AUTH XOAUTH2 is accepted"));
                let (mailbox, account) = (mailbox.clone(), case.identity.account.to_owned());
                logins.push(LoggedIn { mailbox, account, connection });
            }
            Err(trouble) => report.add(refused(case, token, mailbox, &trouble)),
        }
    }
    logins
}

/// The mailboxes of the account that the configuration names, and the one of the sender who is
/// asked about: with `mailbox = "sender"` there may be any number.
fn mailboxes(case: &Case<'_>) -> Vec<String> {
    let mut mailboxes: Vec<String> = Vec::new();
    let mut add = |mailbox: &str| {
        if !mailboxes.iter().any(|known| known.eq_ignore_ascii_case(mailbox)) {
            mailboxes.push(mailbox.to_owned());
        }
    };
    let identities = case.config.identities();
    let of_account = identities.iter().filter(|one| one.account == case.identity.account);
    of_account.for_each(|one| add(one.mailbox));
    if let Some(from) = &case.patient.from {
        let (mailbox, its) = case.mailbox_for(from);
        if its.identity.account == case.identity.account {
            add(&mailbox);
        }
    }
    mailboxes
}

fn refused(case: &Case<'_>, token: &Token, mailbox: &str, trouble: &Trouble) -> Check {
    match trouble {
        Trouble::Refused { stage: Stage::Auth, reply } => {
            let row = judge(Stage::Auth, reply).row;
            access::refused(case, token, mailbox, reply, row)
        }
        other => Check::red("login", subject(mailbox), other.to_string()).cure(
            "The connection before this one went well, so this may pass: `o365-relay doctor` once \
             more.",
        ),
    }
}

/// Connection, TLS and AUTH.
const PATIENCE: Duration = Duration::from_secs(60);
