//! Why Exchange does not let a good token in, as far as it can be told, with the PowerShell that
//! tells the rest and mends it. Exchange says `535 5.7.3` for all of it.

use super::{Case, claims::SEND_AS_APP, login_host::sentence, report::Check, token::Token};
use crate::{
    clock::UnixMillis,
    office365::{
        clouds::Cloud,
        exchange::{self, Access, Group, Path, quoted},
        replies::{Names, Row},
    },
    smtp::reply::Reply,
};

/// In the place of an id that is not known.
const UNKNOWN_OBJECT: &str = "<Object ID under Enterprise applications>";

/// What Exchange has to be told about this application and this mailbox.
pub(super) fn access(case: &Case<'_>, token: Option<&Token>, mailbox: &str, path: Path) -> Access {
    let config = case.identity.token;
    let claims = token.map(|token| &token.claims);
    let or = |configured: &String, claim: Option<String>| match configured.as_str() {
        "" => claim.unwrap_or_default(),
        configured => configured.to_owned(),
    };
    Access {
        cloud: case.identity.cloud,
        tenant: or(&config.tenant_id, claims.and_then(|claims| claims.tid.clone())),
        display_name: claims.and_then(|claims| claims.name.clone()).unwrap_or("o365-relay".into()),
        client_id: or(&config.client_id, claims.and_then(|claims| claims.appid.clone())),
        object_id: claims
            .and_then(|claims| claims.oid.clone())
            .unwrap_or_else(|| UNKNOWN_OBJECT.into()),
        mailbox: mailbox.to_owned(),
        send_as: Vec::new(),
        former: exchange::Former::default(),
        path,
    }
}

/// The line for a refusal at AUTH.
pub(super) fn refused(
    case: &Case<'_>,
    token: &Token,
    mailbox: &str,
    reply: &Reply,
    row: Option<&Row>,
) -> Check {
    let says = |part: &str| reply.text().to_ascii_lowercase().contains(part);
    let status = reply.enhanced().map(|status| (status.1, status.2));
    if says("smtpclientauthentication is disabled") || says("smtp_auth_disabled") {
        return switched_off(case, token, mailbox, reply, says("for the tenant"));
    }
    if reply.code().value() == 535 && matches!(status, None | Some((7, 3))) {
        return no_way_in(case, token, mailbox, reply);
    }
    let object_id = token.claims.oid.as_deref();
    let names = Names { mailbox, sender: mailbox, object_id };
    let Some(row) = row else {
        let finding = format!("{reply}: a refusal that this version does not know");
        return Check::red("login", subject(mailbox), finding)
            .cure("Look the reply up in Microsoft's documentation, and report it to us.");
    };
    let check = Check::red("login", subject(mailbox), format!("{}: {reply}", row.meaning));
    let check = check.cure(sentence(&names.fill(row.cure)));
    if status != Some((7, 139)) {
        return check;
    }
    check
        .cure(
            "Entra admin centre > Sign-in logs > Service principal sign-ins names the policy that \
             said no; exempt the application there.",
        )
        .cure(connect(case, token, mailbox))
        .cure(exchange::SHOW_SMTP_AUTH_OF_TENANT)
}

/// The subject of a line about a login.
pub(super) fn subject(mailbox: &str) -> String {
    format!("login as {mailbox}")
}

fn connect(case: &Case<'_>, token: &Token, mailbox: &str) -> String {
    access(case, Some(token), mailbox, Path::Classic).connect()
}

fn switched_off(
    case: &Case<'_>,
    token: &Token,
    mailbox: &str,
    reply: &Reply,
    by_tenant: bool,
) -> Check {
    let access = access(case, Some(token), mailbox, Path::Classic);
    let whose = if by_tenant { "the tenant, and not on for the mailbox" } else { "the mailbox" };
    Check::red("login", subject(mailbox), format!("SMTP AUTH is switched off for {whose}: {reply}"))
        .cure(
            "Exchange PowerShell; the mailbox's switch outweighs the tenant's, which can stay off:",
        )
        .cure(access.connect())
        .cure(access.smtp_auth_of_mailbox())
        .cure(access.show_smtp_auth_of_mailbox())
        .cure("# It can take from minutes to a day to spread: o365-relay doctor --wait 2h")
}

fn no_way_in(case: &Case<'_>, token: &Token, mailbox: &str, reply: &Reply) -> Check {
    let classic = access(case, Some(token), mailbox, Path::Classic);
    let consented = token.claims.roles.iter().any(|role| role == SEND_AS_APP);
    let oid = &classic.object_id;
    let hve = case.identity.cloud == Cloud::Hve;
    let right = match consented {
        _ if hve => "the account of High Volume Email does not list the application",
        true => "the application has no FullAccess to the mailbox",
        false => {
            "it has no right: neither a role assignment of RBAC for Applications whose scope holds \
             the mailbox, nor (the token has no roles) consent to SMTP.SendAsApp"
        }
    };
    let finding = format!(
        "{reply}: the token is good, but opens no way into the mailbox. One of: Exchange does not \
         know the application, or knows it by another Object ID than {oid}; {right}; there is no \
         mailbox {mailbox}; or the change has not spread yet, which takes 30 min to 2 h ({})",
        case.since_login(mailbox)
    );
    let check = Check::red("login", subject(mailbox), finding)
        .fact("oid", token.claims.oid.clone())
        .cure("# Exchange PowerShell, as an Exchange Administrator")
        .cure(classic.connect());
    if hve {
        return check.cures(classic.grant()).cure(classic.test());
    }
    let check = known(check, &classic);
    let mut rbac = Access { path: Path::Applications(Group::Own), ..classic.clone() };
    // A scope that is there already stays with its group, whatever it is called.
    let set_up = case.patient.let_in.as_ref().filter(|(id, _)| *id == rbac.client_id);
    let group_known = match set_up {
        Some((_, path @ Path::Applications(_))) => {
            rbac.path = path.clone();
            true
        }
        _ => false,
    };
    let rbac = Rbac { access: rbac, group_known };
    let check = if consented {
        path_a_first(check, &classic, &rbac)
    } else {
        path_b_first(check, &classic, &rbac)
    };
    check
        .cure("# 3. SMTP AUTH of the mailbox")
        .cure(classic.smtp_auth_of_mailbox())
        .cure(format!("# 4. Is it the right mailbox? Get-Mailbox -Identity {}", quoted(mailbox)))
        .cure("# Then wait until it has spread: o365-relay doctor --wait 2h")
}

/// The trap of the two Object IDs: with the wrong one every step succeeds and AUTH fails.
fn known(check: Check, classic: &Access) -> Check {
    check
        .cure(format!("# 1. Is the application known, with ObjectId {}?", classic.object_id))
        .cure(format!(
            "Get-ServicePrincipal | Where-Object {{ $_.AppId -eq {} }} | Format-List \
             DisplayName,AppId,ObjectId",
            quoted(&classic.client_id)
        ))
        .cure(
            "#    With another ObjectId: Remove-ServicePrincipal -Identity <that ObjectId>. If there \
             is none (any more):",
        )
        .cure(classic.service_principal_unless_known())
}

/// Path B.
struct Rbac {
    access: Access,
    /// Whether its group is the one that the scope has, if there is a scope.
    group_known: bool,
}

impl Rbac {
    fn grant(&self, check: Check) -> Check {
        let check = match self.group_known {
            true => check,
            false => check
                .cure(
                    "#    Is there a scope already? If this shows a group behind MemberOfGroup, the \
                     mailbox belongs into that one: put its name in place of the group's below.",
                )
                .cure(self.access.show_scope()),
        };
        check.cures(self.access.grant())
    }
}

fn path_a_first(check: Check, classic: &Access, rbac: &Rbac) -> Check {
    let title = "# 2. Path A, as the token has it: AccessRights must show FullAccess";
    let check = path_a(check, classic, title).cure(
        "#    Or path B, to be preferred (RBAC for Applications): remove the API permission \
         SMTP.SendAsApp, as with it the mailbox's own permissions are asked; then",
    );
    rbac.grant(check).cure(rbac.access.test())
}

fn path_b_first(check: Check, classic: &Access, rbac: &Rbac) -> Check {
    let check = check
        .cure("# 2. Path B, to be preferred: RBAC for Applications. InScope must be True:")
        .cure(rbac.access.test())
        .cure("#    Else (each line can be run again):");
    let check = rbac.grant(check);
    let title = "#    Or path A, the classic way: App registrations > API permissions: Office 365 \
                 Exchange Online, Application permission SMTP.SendAsApp, admin consent; then";
    path_a(check, classic, title)
}

fn path_a(check: Check, classic: &Access, title: &str) -> Check {
    check.cure(title).cures(classic.grant()).cure(classic.test())
}

impl Case<'_> {
    /// Since when things can have been as they are.
    pub(super) fn since(&self) -> String {
        match self.changed {
            Some(changed) => {
                format!("the configuration was changed {} ago", self.ago(changed))
            }
            None => "since when it is configured like this is not known here".into(),
        }
    }

    /// The same, with what the running relay knows of this mailbox.
    fn since_login(&self, mailbox: &str) -> String {
        let refused = self.patient.daemon.status().and_then(|status| {
            let lane = status.lanes.iter().find(|lane| lane.name == mailbox)?;
            lane.pause.as_ref().map(|pause| pause.since.clone())
        });
        match refused {
            Some(since) => {
                format!("the running relay is refused since {since}; {}", self.since())
            }
            None => format!("{}; when Exchange was told is not known here", self.since()),
        }
    }

    fn ago(&self, then: UnixMillis) -> String {
        match self.now().since(then).as_secs() / 60 {
            0 => "less than a minute".into(),
            minutes => {
                humantime::format_duration(std::time::Duration::from_secs(minutes * 60)).to_string()
            }
        }
    }
}
