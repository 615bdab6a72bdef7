//! What is in the token, judged as Exchange will: for whom it is, whose it is, and whether it is
//! an application's own. Pure but for the time.

use super::{Case, report::Check};
use crate::{
    office365::clouds::Cloud,
    token::{Claims, Credential},
};

/// Office 365 Exchange Online and Microsoft Graph, as resources go by number.
const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";
const GRAPH: &str = "00000003-0000-0000-c000-000000000000";

/// The one application permission that SMTP asks for, on path A.
pub(super) const SEND_AS_APP: &str = "SMTP.SendAsApp";

/// One line for each question.
pub(super) fn judge(case: &Case<'_>, claims: &Claims) -> Vec<Check> {
    let mut checks =
        vec![audience(case, claims), application(case, claims), permission(case, claims)];
    checks.extend(lifetime(case, claims));
    checks
}

fn shown(claim: Option<&String>) -> &str {
    claim.map_or("(none)", String::as_str)
}

/// `aud`.
fn audience(case: &Case<'_>, claims: &Claims) -> Check {
    let (id, subject) = ("audience", "token: audience");
    let aud = shown(claims.aud.as_ref()).trim_end_matches('/');
    let scope = &case.identity.token.scope;
    let right = case.identity.cloud.preset().scope;
    let cure = |check: Check| {
        check
            .cure(format!("Set {} to {right}, or leave it out, then:", case.key("scope")))
            .cure("o365-relay doctor")
            .fact("aud", aud.to_owned())
    };
    if aud == GRAPH || aud.contains("//graph.microsoft") || aud.contains("microsoftgraph.") {
        let finding = format!(
            "aud {aud}: the token is for Microsoft Graph, and Exchange's SMTP refuses such tokens \
             with 535 5.7.3 ({} is {scope})",
            case.key("scope")
        );
        return cure(Check::red(id, subject, finding));
    }
    let of_exchange = |cloud: Cloud| cloud.preset().scope.trim_end_matches("/.default") == aud;
    let exchange = aud == EXCHANGE
        || aud == "https://outlook.office.com"
        || Cloud::ALL.iter().any(|(_, cloud)| of_exchange(*cloud));
    if exchange {
        return Check::green(id, subject, format!("aud {aud}: Exchange Online"))
            .fact("aud", aud.to_owned());
    }
    let finding = format!(
        "aud {aud} is not Exchange Online of any cloud: SMTP refuses such tokens with 535 5.7.3 \
         ({} is {scope})",
        case.key("scope")
    );
    cure(Check::red(id, subject, finding))
}

/// `tid`, `appid`, `oid`.
fn application(case: &Case<'_>, claims: &Claims) -> Check {
    let (id, subject) = ("application", "token: application");
    let config = case.identity.token;
    let (tid, appid) = (shown(claims.tid.as_ref()), shown(claims.appid.as_ref()));
    let oid = shown(claims.oid.as_ref());
    let facts = |check: Check| {
        check
            .fact("tid", claims.tid.clone())
            .fact("appid", claims.appid.clone())
            .fact("oid", claims.oid.clone())
            .fact("app_displayname", claims.name.clone())
    };
    // A domain names the tenant as well, and a managed identity knows both itself.
    let is_id = config.tenant_id.len() == 36 && !config.tenant_id.contains('.');
    if is_id && !config.tenant_id.eq_ignore_ascii_case(tid) {
        let key = case.key("tenant_id");
        let finding = format!("tid {tid} is not {key} {}", config.tenant_id);
        return facts(Check::red(id, subject, finding))
            .cure(format!("Set {key} to the tenant of the mailbox."));
    }
    let managed = matches!(config.credential, Credential::ManagedIdentity(_));
    if !managed && !config.client_id.eq_ignore_ascii_case(appid) {
        let finding =
            format!("appid {appid} is not {} {}", case.key("client_id"), config.client_id);
        return facts(Check::red(id, subject, finding))
            .cure("See which credential is in use: it belongs to another application.");
    }
    let name = claims.name.as_deref().map(|name| format!("{name:?}, ")).unwrap_or_default();
    facts(Check::green(
        id,
        subject,
        format!("{name}appid {appid}, tid {tid}; Object ID for Exchange (oid): {oid}"),
    ))
}

/// `idtyp`, `roles`, `scp`.
fn permission(case: &Case<'_>, claims: &Claims) -> Check {
    let (id, subject) = ("permission", "token: permission");
    let facts = |check: Check| {
        check
            .fact("roles", claims.roles.clone())
            .fact("scp", claims.scp.clone())
            .fact("idtyp", claims.idtyp.clone())
    };
    let user_token = claims.idtyp.as_deref().is_some_and(|kind| kind != "app");
    if claims.scp.is_some() || claims.user.is_some() || user_token {
        let user = claims.user.as_deref().map(|user| format!(" of {user}")).unwrap_or_default();
        let finding = format!(
            "a delegated token{user} (scp {}): it speaks for a person, while the relay needs one of \
             the application itself",
            shown(claims.scp.as_ref())
        );
        return facts(Check::red(id, subject, finding)).cure(format!(
            "Whatever issues this token used a user's sign-in. Use the client credentials grant: \
             leave {} out or set it to the cloud's own login host, and grant an Application \
             permission, not a Delegated one (SMTP.SendAsApp, not SMTP.Send).",
            case.key("login_url")
        ));
    }
    if case.identity.cloud == Cloud::Hve {
        let roles = claims.roles.join(", ");
        return facts(Check::green(id, subject, format!("roles: {roles}")));
    }
    facts(roles(claims))
}

/// Either the one that path A needs, or none.
fn roles(claims: &Claims) -> Check {
    let (id, subject) = ("permission", "token: permission");
    let others: Vec<_> =
        claims.roles.iter().filter(|role| *role != SEND_AS_APP).map(String::as_str).collect();
    let others = others.join(", ");
    match (claims.roles.iter().any(|role| role == SEND_AS_APP), others.as_str()) {
        (true, "") => Check::green(
            id,
            subject,
            format!("roles {SEND_AS_APP}: the classic way, with FullAccess to the mailbox"),
        ),
        (true, others) => Check::amber(
            id,
            subject,
            format!("roles {SEND_AS_APP}, and more than sending needs: {others}"),
        )
        .cure("Remove them under App registrations > API permissions if nothing else needs them."),
        (false, "") => Check::green(
            id,
            subject,
            "no roles: right for RBAC for Applications; on the classic way the consent to \
             SMTP.SendAsApp is missing",
        ),
        (false, others) => Check::amber(
            id,
            subject,
            format!(
                "roles {others}, but not {SEND_AS_APP}: right only with RBAC for Applications, and \
                 then no API permission is needed"
            ),
        )
        .cure(
            "On the classic way grant the Application permission SMTP.SendAsApp of Office 365 \
             Exchange Online with admin consent; else remove the permissions.",
        ),
    }
}

/// `exp` by this host's clock.
fn lifetime(case: &Case<'_>, claims: &Claims) -> Option<Check> {
    let exp = claims.exp?;
    if exp > case.now() {
        return None;
    }
    let finding = format!("exp {}: expired on arrival, by the clock of this host", exp.rfc3339());
    Some(
        Check::red("lifetime", "token: lifetime", finding)
            .cure("Set the clock of this host right: timedatectl set-ntp true"),
    )
}
