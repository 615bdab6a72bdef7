//! What the running relay says of itself: pauses that go on, mail that it does not take, another
//! version. The doctor's own login says whether the cause is still there.

use super::{
    Case, Daemon, Found,
    login_host::sentence,
    report::{Check, Report},
};
use crate::{
    config::OFFICE365,
    http::{AccountStatus, LaneStatus, PauseStatus, Status, TokenStatus},
    office365::{
        explain::{self, Finding},
        replies::{self, PauseRule, Scope},
    },
};

const ID: &str = "relay";
const SUBJECT: &str = "running relay";

pub(super) fn check(case: &Case<'_>, found: &Found, report: &mut Report) {
    let address = case.config.http.address;
    let place = address.map(|address| format!("http://{address}/status")).unwrap_or_default();
    let status = match &case.patient.daemon {
        Daemon::Off => {
            let why = "http.address is \"off\", so a running relay cannot be asked";
            report.add(Check::grey(ID, SUBJECT, why));
            return;
        }
        Daemon::Silent(cause) => {
            let finding = format!("none answers at {place}: {cause}");
            let check = Check::amber(ID, SUBJECT, finding);
            report.add(check.cure("Start it: systemctl start o365-relay, or o365-relay run"));
            return;
        }
        Daemon::Odd(cause) => {
            let finding = format!("what answers at {place} is no o365-relay: {cause}");
            let check = Check::red(ID, SUBJECT, finding);
            report.add(check.cure("Set http.address to an address of the relay's own."));
            return;
        }
        Daemon::Unwell(words) => {
            let check = Check::red(ID, SUBJECT, format!("it cannot tell how it is: {words}"));
            let check = check.cure("journalctl -u o365-relay -p err   # what it met");
            report.add(
                check.cure("If the queue is damaged: docs/reliability.md tells what is kept."),
            );
            return;
        }
        Daemon::Answers(status) => status,
    };
    let before = report.checks.len();
    report.extend(differs(case, status));
    report.extend(refuses_mail(status));
    if status.accounts.is_empty() {
        let (token, pause) = (&status.token, status.relay_pause.as_ref());
        report.extend(account(SUBJECT, OFFICE365, token, pause, found));
    }
    for AccountStatus { name, token, pause } in &status.accounts {
        let subject = format!("{SUBJECT} ({name})");
        report.extend(account(&subject, name, token, pause.as_ref(), found));
    }
    for lane in &status.lanes {
        let logged_in = found.logins.iter().any(|login| login.mailbox == lane.name);
        report.extend(lane_checks(lane, logged_in));
    }
    if report.checks.len() == before {
        let queued: u64 = status.lanes.iter().map(|lane| lane.queued).sum();
        let held: u64 = status.lanes.iter().map(|lane| lane.held).sum();
        let held = if held > 0 { format!(", {held} of them held") } else { String::new() };
        let finding = format!("version {}, no pause, {queued} queued{held}", status.version);
        report.add(Check::green(ID, SUBJECT, finding));
    }
}

fn differs(case: &Case<'_>, status: &Status) -> Vec<Check> {
    let mut checks = Vec::new();
    let own = env!("CARGO_PKG_VERSION");
    if status.version != own {
        let finding = format!("it is version {}, this program is {own}", status.version);
        let check = Check::amber(ID, SUBJECT, finding);
        checks.push(check.cure("systemctl restart o365-relay   # the queue is durable"));
    }
    let known = |mailbox: &str| status.lanes.iter().any(|lane| lane.name == mailbox);
    // The lane of a sender is there only as long as it has something to do.
    let identities = case.config.identities();
    let new = identities.iter().find(|one| !one.by_sender && !known(one.mailbox));
    if new.is_some() || status.mode != case.mode() {
        let what = match new {
            Some(one) => format!("it does not know the mailbox {}", one.mailbox),
            None => format!("its mode is {}", status.mode.as_str()),
        };
        let check =
            Check::amber(ID, SUBJECT, format!("it runs with another configuration: {what}"));
        checks.push(check.cure("systemctl restart o365-relay   # reads the configuration anew"));
    }
    checks
}

/// A poisoned store, a full disk: the relay tells both in words.
fn refuses_mail(status: &Status) -> Vec<Check> {
    let refusals =
        status.readiness.reasons.iter().filter(|reason| reason.starts_with("no mail is accepted"));
    refusals
        .map(|reason| {
            Check::red(ID, SUBJECT, reason.clone())
                .cure("journalctl -u o365-relay   # what it said when that began")
                .cure("Make room or mend the disk, then: systemctl restart o365-relay")
        })
        .collect()
}

/// The way of an account: its token, and what pauses all of its lanes.
fn account(
    subject: &str,
    name: &str,
    status: &TokenStatus,
    pause: Option<&PauseStatus>,
    found: &Found,
) -> Vec<Check> {
    let token = token(subject, status, found.tokens.contains_key(name));
    // Whoever has logged in has passed all that pauses everything.
    let logged_in = found.logins.iter().any(|login| login.account == name);
    let pause = pause.map(|pause| paused(subject.into(), "nothing is relayed", pause, logged_in));
    token.into_iter().chain(pause).collect()
}

fn token(subject: &str, status: &TokenStatus, mended: bool) -> Option<Check> {
    let failed = status.last_error.as_ref()?;
    let finding = format!("its token requests fail since {}: {}", failed.since, failed.error);
    Some(match mended {
        true => Check::amber(ID, subject, finding).cure(format!(
            "The doctor's own request went well, so it will go on by itself at {}.",
            failed.next_try
        )),
        false => Check::red(ID, subject, finding).cure(sentence(&failed.advice)),
    })
}

fn lane_checks(lane: &LaneStatus, logged_in: bool) -> Vec<Check> {
    let subject = format!("running relay: {}", lane.name);
    let pause = lane.pause.as_ref().map(|pause| {
        let mended = logged_in && is_of_the_login(&pause.reason);
        paused(subject.clone(), "nothing is relayed as this mailbox", pause, mended)
    });
    let held = lane.held_senders.iter().map(|held| {
        let what = format!("mail from {} is held", held.sender);
        paused(subject.clone(), &what, &held.pause, false)
    });
    pause.into_iter().chain(held).chain(used_up(lane, &subject)).collect()
}

/// The relay counts recipients itself, and waits without a pause once they are used up.
fn used_up(lane: &LaneStatus, subject: &str) -> Option<Check> {
    let most = lane.recipients_per_day.filter(|most| lane.recipients_today >= *most)?;
    let finding = format!(
        "the {most} recipients of the last 24 hours are used up (office365.recipients_per_day): mail \
         waits"
    );
    let check = Check::red(ID, subject, finding);
    Some(
        check.cure("Wait, or spread the mail over several mailboxes: Exchange allows 10,000 each."),
    )
}

/// Whether a login that goes well now shows that the cause is gone. It does not for what Exchange
/// says about a message: quotas, a full or blocked mailbox.
fn is_of_the_login(reason: &str) -> bool {
    let row = explain::find(reason).into_iter().find_map(|finding| match finding {
        Finding::Reply(reply) => replies::lookup(&reply),
        _ => None,
    });
    row.is_none_or(|row| {
        row.scope == Scope::Relay
            || (row.pause == PauseRule::LOGIN && !row.example.contains("QuotaExceeded"))
    })
}

fn paused(subject: String, what: &str, pause: &PauseStatus, mended: bool) -> Check {
    let PauseStatus { reason, advice, since, retry_in_seconds, .. } = pause;
    let next = humantime::format_duration(std::time::Duration::from_secs(*retry_in_seconds));
    let finding = format!("{what} since {since}: {reason}; next try in {next}");
    let check = match mended {
        true => Check::amber(ID, subject, finding).cure(
            "The doctor's own login went well, so the cause is gone: the relay notices at its next \
             try.",
        ),
        false => Check::red(ID, subject, finding),
    };
    let advice = advice.as_ref().filter(|_| !mended);
    check.cures(advice.map(|advice| sentence(advice))).fact("since", since.clone())
}
