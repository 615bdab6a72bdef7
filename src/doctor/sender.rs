//! A sender (`--from`): whether the relay takes its mail, and which mailbox sends it.

use super::{
    Case, Found,
    access::access,
    report::{Check, Report},
};
use crate::{listener, office365::exchange::Path};

pub(super) fn check(case: &Case<'_>, found: &Found, report: &mut Report) {
    let Some(from) = &case.patient.from else { return };
    let (id, subject) = ("sender", format!("sender {from}"));
    let refusing = |listener: &listener::Config| {
        let allowed = &listener.sender_allow;
        let known_as = listener.sender_map.get(from).unwrap_or(from);
        listener.sender.is_none()
            && !allowed.is_empty()
            && !allowed.iter().any(|pattern| pattern.matches(known_as))
    };
    if case.config.listeners.iter().all(refusing) {
        let finding =
            "the relay itself refuses it at MAIL (550 5.7.1): sender.allow does not have it";
        let add =
            format!("Add \"{from}\" to sender.allow, or let the application use another sender.");
        report.add(Check::red(id, subject, finding).cure(add));
        return;
    }
    let (mailbox, case) = case.mailbox_for(from);
    let (_, sent_as) = case.sent_as(from, &mailbox);
    if sent_as.as_str().eq_ignore_ascii_case(&mailbox) {
        let is_it = "is the mailbox itself, which needs no further right".to_owned();
        let goes =
            format!("goes out as the mailbox {mailbox} itself, which needs no further right");
        report.add(Check::green(id, subject, if sent_as == *from { is_it } else { goes }));
        return;
    }
    let other = if sent_as == *from { String::new() } else { format!(" as {sent_as}") };
    let finding = format!("goes out{other} through the mailbox {mailbox}");
    if case.patient.send_to.is_some() {
        let finding = format!("{finding}; the message below shows whether it may");
        report.add(Check::green(id, subject, finding));
        return;
    }
    let access = access(&case, found.token(&case), &mailbox, Path::Classic);
    report.add(
        Check::amber(
            id,
            subject,
            format!("{finding}; whether that may send as it, Exchange says after a message only"),
        )
        .cure(format!("o365-relay doctor --from {from} --send-to YOU@EXAMPLE.COM"))
        .cure("# If it is denied, in Exchange PowerShell:")
        .cure(access.connect())
        .cure(access.grant_send_as_of(sent_as.as_str())),
    );
}
