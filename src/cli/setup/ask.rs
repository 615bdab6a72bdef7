//! Questions to a person at a terminal.

use std::io::{self, IsTerminal, Write};

use super::options::{Wanted, checked_tenant};
use crate::{
    cli::exit::Failure,
    office365::{clouds::Cloud, exchange::Path},
    setup::{CredentialKind, Plan},
};

/// Whether somebody can answer.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Asks for what has to be known and is not.
pub(super) fn missing(mut wanted: Wanted) -> Result<Wanted, Failure> {
    while wanted.tenant.is_none() {
        let answer = answer("Tenant (a domain such as contoso.onmicrosoft.com, or its ID): ")?;
        match checked_tenant(&answer) {
            Ok(tenant) => wanted.tenant = Some(tenant),
            Err(_) => say("That is neither a domain nor an ID.")?,
        }
    }
    while wanted.mailbox.is_none() {
        let answer = answer("Mailbox to send from (such as relay@contoso.com): ")?;
        match answer.parse::<lettre::Address>() {
            Ok(mailbox) => wanted.mailbox = Some(mailbox.to_string()),
            Err(_) => say("That is no address.")?,
        }
    }
    Ok(wanted)
}

/// Tells what is going to happen and asks whether it shall.
pub(super) fn go_on(plan: &Plan) -> Result<bool, Failure> {
    let credential = match plan.credential {
        CredentialKind::Certificate => "a certificate, whose key is made here and stays here",
        CredentialKind::Secret => "a client secret",
    };
    let path = match plan.path {
        _ if plan.cloud == Cloud::Hve => "its API permission is for you to give",
        Path::Applications(_) => "no API permission, no consent",
        Path::Classic => "API permission SMTP.SendAsApp, with consent",
    };
    say(&format!(
        "In tenant {} an application \"{}\" gets {credential}; {path}.\nIt shall submit as {}. \
         Files go beside {}.\nAn admin signs in by a code next; --undo takes everything back.",
        plan.tenant,
        plan.name,
        plan.mailbox,
        plan.config.display()
    ))?;
    loop {
        match answer("Go on? [Y/n] ")?.to_lowercase().as_str() {
            "" | "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => say("Please answer y or n.")?,
        }
    }
}

fn say(text: &str) -> Result<(), Failure> {
    Ok(super::line(text)?)
}

fn answer(question: &str) -> Result<String, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(question.as_bytes())?;
    out.flush()?;
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line);
    match read.map_err(|error| Failure::usage(format!("could not read the answer: {error}")))? {
        0 => Err(Failure::usage("nothing was done")),
        _ => Ok(line.trim().to_owned()),
    }
}
