//! What can be seen without leaving this host: the configuration and the credential.

use std::fs;

use super::{
    Case, Patient,
    login_host::sentence,
    report::{Check, Report},
};
use crate::{
    clock::UnixMillis,
    config::{self, AccountConfig, Config, Fault, OFFICE365, Sources},
    token::{self, Credential, Expiry},
};

/// The checked configuration, if it has no faults.
pub(super) fn configuration(sources: &Sources, report: &mut Report) -> Option<Config> {
    let subject = "configuration";
    let faults = match config::load(sources) {
        Ok(config) => {
            report.extend(config.warnings.iter().map(|warning| {
                let id = if is_credential(warning) { "credential" } else { "configuration" };
                Check::amber(id, subject, warning.clone())
            }));
            let finding = format!("no faults: {}", accounts(&config).join("; "));
            report.add(Check::green("configuration", subject, finding));
            return Some(config);
        }
        Err(faults) => faults,
    };
    let (credential, others): (Vec<&Fault>, Vec<&Fault>) =
        faults.iter().partition(|fault| is_credential(fault.subject()));
    for fault in &others {
        let red = Check::red("configuration", subject, fault.to_string());
        report.add(red.cure("o365-relay config check   # tells all faults at once"));
    }
    for fault in credential {
        report.add(credential_fault(fault));
    }
    None
}

/// Through whom mail goes, an account after the other.
fn accounts(config: &Config) -> Vec<String> {
    let identities = config.identities();
    let mut accounts = vec![OFFICE365];
    for one in &identities {
        if !accounts.contains(&one.account) {
            accounts.push(one.account);
        }
    }
    let account = |name: &&str| {
        let its = || identities.iter().filter(|one| one.account == *name);
        let mut mailboxes: Vec<String> = Vec::new();
        for one in its() {
            let mailbox = match one.by_sender {
                true => format!("of the sender, else {}", one.mailbox),
                false => one.mailbox.to_owned(),
            };
            if !mailboxes.contains(&mailbox) {
                mailboxes.push(mailbox);
            }
        }
        let of = if accounts.len() > 1 { format!("{name}: ") } else { String::new() };
        let cloud = its().next().map_or("", |one| one.cloud.name());
        let id = its().next().map_or("", |one| one.token.client_id.as_str());
        let id = if id.is_empty() { String::new() } else { format!(", application {id}") };
        format!("{of}cloud {cloud}{id}, mailbox {}", mailboxes.join(", "))
    };
    accounts.iter().map(account).collect()
}

const CREDENTIAL_KEYS: [&str; 5] = [
    "client_secret",
    "certificate_file",
    "private_key_file",
    "federated_token_file",
    "managed_identity",
];

/// Whether a fault or a warning is about one of a credential's keys, of `[office365]` or a route.
fn is_credential(text: &str) -> bool {
    let text = text.trim_start_matches('`');
    let of_account = text.starts_with("office365.") || text.starts_with("route.");
    let path = text.split(['`', ' ']).next().unwrap_or_default();
    let name = path.rsplit('.').next().unwrap_or_default();
    of_account && CREDENTIAL_KEYS.iter().any(|key| name.starts_with(key))
}

fn credential_fault(fault: &Fault) -> Check {
    // A fault of a file ends with the next step, which has a place of its own here.
    let (what, step) = match fault.message().split_once("; ") {
        Some((what, step)) if !what.starts_with("required") => (what, Some(step)),
        _ => (fault.message(), None),
    };
    let origin = fault.origin().map(|origin| format!(" ({origin})")).unwrap_or_default();
    let finding = format!("`{}`: {what}{origin}", fault.subject());
    let red = Check::red("credential", "credential", finding);
    if what.starts_with("required") {
        return red
            .cure(
                "Set one credential (docs/credentials.md). Where systemd hands it over, look as \
                 root while the unit runs, or hand it to the doctor too:",
            )
            .cure(
                "systemd-run --pipe --wait -p LoadCredential=client_secret:/etc/o365-relay/client_secret \
                 o365-relay doctor",
            );
    }
    if what.contains("ermission denied") {
        return red.cure(
            "If only you may not read it, run the doctor as root or as the user of the relay; else \
             let that user own the file, with mode 0600.",
        );
    }
    red.cure(sentence(step.unwrap_or("mend it, then: o365-relay config check")))
}

/// The credential of each account as its files are now. What cannot be read was a fault already.
pub(super) fn credentials(case: &Case<'_>, report: &mut Report) {
    for identity in case.accounts() {
        let shares = |other: &&AccountConfig| other.name == identity.account;
        let other = case.config.other_accounts.iter().find(shares);
        if other.is_some_and(|other| other.shares_token_of.is_some()) {
            continue;
        }
        let mut check = credential(identity.token, case.now());
        check.subject.push_str(&case.of(identity).of_account());
        report.add(check);
    }
}

fn credential(config: &token::Config, now: UnixMillis) -> Check {
    let credential = &config.credential;
    let (id, subject) = ("credential", credential.name());
    if let Credential::FederatedToken(path) = credential {
        return federated_token(credential, &path.display().to_string(), now);
    }
    let stated = config.client_secret_expires.map(|at| Expiry {
        what: "the client secret (office365.client_secret_expires)".into(),
        at,
    });
    let certificate = credential.expiry();
    let known = match certificate {
        Some(_) => EndKnown::Certificate,
        None => EndKnown::Configuration,
    };
    let check = match (credential, certificate.or(stated)) {
        (Credential::ManagedIdentity(identity), _) => {
            Check::green(id, subject, format!("asked for at {}", identity.host.url()))
        }
        (_, None) => Check::green(
            id,
            subject,
            "readable; its end is not known on this host (set office365.client_secret_expires to \
             be warned where Microsoft Graph does not tell)",
        ),
        (_, Some(expiry)) => expiring(&expiry, known, now),
    };
    match credential.thumbprint() {
        Some(thumbprint) => check.fact("thumbprint_sha1", thumbprint),
        None => check,
    }
}

/// Who says when the credential ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndKnown {
    Certificate,
    /// A person wrote it down.
    Configuration,
    /// The app registration.
    Graph,
}

/// How long a credential is good.
pub(super) fn expiring(expiry: &Expiry, known: EndKnown, now: UnixMillis) -> Check {
    let (days, date) = (expiry.days_left(now), expiry.at.rfc3339());
    let (id, what) = ("credential", &expiry.what);
    let of_certificate = known == EndKnown::Certificate;
    let subject = if of_certificate { "certificate" } else { "client secret" };
    let check = match days {
        // What a person wrote down may be wrong; a certificate knows.
        ..0 if of_certificate => Check::red(id, subject, format!("{what} ended at {date}")),
        ..0 => Check::amber(id, subject, format!("{what} ended at {date}")),
        0..=30 => {
            let left = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
            Check::amber(id, subject, format!("{what} ends in {left}, at {date}"))
        }
        _ => {
            let finding =
                format!("readable, key and certificate belong together; {days} days left");
            let finding = match known {
                EndKnown::Certificate => finding,
                EndKnown::Configuration => format!("readable; {days} days left"),
                EndKnown::Graph => {
                    format!("{days} days left, as the app registration has it: until {date}")
                }
            };
            return Check::green(id, subject, finding);
        }
    };
    if of_certificate {
        check
            .cure(BY_SETUP)
            .cure(
                "Otherwise make a new pair, upload the certificate to the app registration (Certificates & \
                 secrets), and put both files in place; no restart is needed:",
            )
            .cure(
                "openssl req -x509 -newkey rsa:2048 -noenc -days 730 -subj /CN=o365-relay -keyout \
                 key.pem -out certificate.pem",
            )
    } else {
        let anew = match known {
            EndKnown::Graph => ".",
            _ => ", and set office365.client_secret_expires anew.",
        };
        check.cure(BY_SETUP).cure(format!(
            "Otherwise create a new secret under App registrations > Certificates & secrets (24 months at \
             most), put its Value in place{anew}"
        ))
    }
}

const BY_SETUP: &str = "If setup made it, `o365-relay setup --renew` does all of it.";

fn federated_token(credential: &Credential, path: &str, now: UnixMillis) -> Check {
    let (id, subject) = ("credential", credential.name());
    let Some(claims) = credential.federated_claims() else {
        return Check::red(id, subject, format!("{path} holds no token (JWT)"))
            .cure("Let office365.federated_token_file name the token that the platform projects.");
    };
    let shown = |claim: &Option<String>| claim.clone().unwrap_or_else(|| "(none)".into());
    let (iss, sub) = (shown(&claims.issuer), shown(&claims.subject));
    let aud = shown(&claims.audience);
    if let Some(end) = claims.exp.filter(|end| *end <= now) {
        let finding = format!("{path} expired at {}: nobody keeps it fresh", end.rfc3339());
        return Check::red(id, subject, finding).cure(
            "See that the platform still projects the token (serviceAccountToken volume), and that \
             the file is that one.",
        );
    }
    Check::green(id, subject, format!("iss {iss}, sub {sub}, aud {aud}"))
        .fact("iss", iss)
        .fact("sub", sub)
        .fact("aud", aud)
}

/// When the file of the configuration was changed last.
pub(super) fn changed(patient: &Patient) -> Option<UnixMillis> {
    let changed = fs::metadata(patient.sources.path()).ok()?.modified().ok()?;
    Some(UnixMillis::from(changed))
}
