//! The submission host, up to the login: its name, the connection, STARTTLS and who signed its
//! certificate, and whether it offers XOAUTH2.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    Case,
    login_host::{certificate, name, proxies, sentence, tls_to},
    report::{Check, Report},
};
use crate::{
    delivery::{
        Config,
        judge::judge,
        smarthost::Smarthost,
        trouble::{Stage, Trouble},
    },
    tls,
};

/// Whether a login can be tried.
pub(super) async fn check(case: &Case<'_>, report: &mut Report) -> bool {
    let Config { host, port, .. } = case.identity.delivery;
    match name("smtp-dns", host, *port).await {
        Ok((check, _)) => report.add(check),
        Err(cause) => {
            report.add(
                Check::red(
                    "smtp-dns",
                    format!("name {host}"),
                    format!("could not look up {host}: {cause}"),
                )
                .cure(format!(
                    "Check that this host can resolve {host} (/etc/resolv.conf, the name \
                         servers), and {} if it was set.",
                    case.key("smtp_host")
                )),
            );
            return false;
        }
    }
    let (tls, witness) = match tls::client_config_with_witness(case.identity.ca_file, false) {
        Ok(made) => made,
        Err(error) => {
            report.add(Check::red("smtp-tls", tls_to(host), error.to_string()));
            return false;
        }
    };
    let smarthost = Smarthost::new(Config { tls, ..case.identity.delivery.clone() });
    let looked = timeout(PATIENCE, smarthost.offers_xoauth2()).await.unwrap_or_else(|_| {
        let cause = format!("connected, but nothing meaningful came within {PATIENCE:?}");
        Err(Trouble::Broken { stage: Stage::Greeting, cause })
    });
    let connected = |report: &mut Report| {
        let finding = format!("connected to port {port}{}", proxies(case));
        report.add(Check::green("smtp-connection", format!("connection to {host}"), finding));
    };
    match looked {
        Ok(offered) => {
            connected(report);
            if let Some(shown) = witness.shown() {
                report.add(certificate(case, "smtp-tls", host, &shown, "smtp_host"));
            }
            report.add(xoauth2(case, host, offered));
            offered
        }
        Err(trouble) if trouble.stage() == Stage::Connect => {
            report.add(unreachable(case, host, *port, &trouble));
            report.add(Check::grey("smtp-tls", tls_to(host), "needs the connection"));
            false
        }
        Err(trouble) => {
            connected(report);
            let shown = witness.shown().filter(|shown| shown.fault.is_some());
            report.add(match shown {
                Some(shown) => certificate(case, "smtp-tls", host, &shown, "smtp_host"),
                None => before_login(case, host, &trouble),
            });
            false
        }
    }
}

fn unreachable(case: &Case<'_>, host: &str, port: u16, trouble: &Trouble) -> Check {
    let check = Check::red("smtp-connection", format!("connection to {host}"), trouble.to_string()).cure(format!(
        "Let the firewall pass {host}, TCP port {port}, from this host; most HTTP proxies do not \
         carry SMTP. Try it from here:"
    ));
    let check = check.cure(format!("openssl s_client -starttls smtp -connect {host}:{port}"));
    match case.proxy_variables().as_slice() {
        [] => check,
        set => check.cure(format!("{} is set, but o365-relay uses no proxy.", set.join(", "))),
    }
}

/// STARTTLS missing or refused, a greeting that is none, a busy server.
fn before_login(case: &Case<'_>, host: &str, trouble: &Trouble) -> Check {
    let subject = match trouble.stage() {
        Stage::Greeting | Stage::Ehlo => format!("service at {host}"),
        _ => tls_to(host),
    };
    let check = Check::red("smtp-tls", subject, trouble.to_string());
    let row = match trouble {
        Trouble::Refused { stage, reply } => judge(*stage, reply).row,
        _ => None,
    };
    check.cure(match row {
        Some(row) => sentence(row.cure),
        None => format!(
            "Something else than Exchange Online answers, or somebody in between cuts STARTTLS out: \
             check {} and {} (587), and see who stands between \
             this host and {host} (a mail proxy, an inspecting firewall).",
            case.key("smtp_host"),
            case.key("smtp_port")
        ),
    })
}

fn xoauth2(case: &Case<'_>, host: &str, offered: bool) -> Check {
    if offered {
        return Check::green("xoauth2", format!("login at {host}"), "offers AUTH XOAUTH2");
    }
    Check::red("xoauth2", format!("login at {host}"), "does not offer AUTH XOAUTH2 after STARTTLS")
        .cure(format!(
            "Check {} and {} (587): something else than Exchange Online is answering.",
            case.key("smtp_host"),
            case.key("smtp_port")
        ))
}

/// For connection, STARTTLS and EHLO together.
const PATIENCE: Duration = Duration::from_secs(45);
