//! What setup writes for people: the configuration, and the way through the portal for whoever
//! does it by hand.

use std::fmt::Write;

use super::{CredentialKind, Plan};
use crate::office365::{
    clouds::Cloud,
    exchange::{Access, Group, Path},
};

/// The configuration file for this application.
pub(super) fn configuration(plan: &Plan, client_id: &str, secret_ends: Option<&str>) -> String {
    let mut text = String::from(
        "# Written by `o365-relay setup`. Every key there is: `o365-relay config example`.\n\
         [office365]\n",
    );
    let quoted = |value: &str| toml::Value::from(value).to_string();
    let mut key = |name: &str, value: String| {
        let _ = writeln!(text, "{name} = {value}");
    };
    key("tenant_id", quoted(&plan.tenant));
    key("client_id", quoted(client_id));
    if !plan.systemd {
        for (name, path) in plan.credential_files() {
            key(name, quoted(&path.to_string_lossy()));
        }
    }
    if let (CredentialKind::Secret, Some(day)) = (plan.credential, secret_ends) {
        key("client_secret_expires", day.to_owned());
    }
    key("mailbox", quoted(&plan.mailbox));
    if plan.cloud.name() != "global" {
        key("cloud", quoted(plan.cloud.name()));
    }
    for (name, value) in &plan.places {
        match (name.as_str(), value.parse::<u16>()) {
            ("graph_url" | "sign_in_client_id", _) => {} // setup's alone
            (name, Ok(number)) => key(name, number.to_string()),
            (name, Err(_)) => key(name, quoted(value)),
        }
    }
    if plan.systemd {
        let what = match plan.credential {
            CredentialKind::Certificate => "certificate and key",
            CredentialKind::Secret => "client secret",
        };
        let _ = writeln!(
            text,
            "# The {what} in this directory are root's own; systemd hands copies to the service."
        );
    }
    text
}

/// What the unit hands over by itself.
const OF_THE_UNIT: [&str; 2] =
    ["/etc/o365-relay/certificate.pem", "/etc/o365-relay/private_key.pem"];

/// What the unit needs to hand over a certificate from elsewhere; for a secret it has it already.
pub(super) fn drop_in(plan: &Plan) -> Option<String> {
    let there = [plan.certificate(), plan.private_key()];
    let needed =
        !there.iter().zip(OF_THE_UNIT).all(|(path, known)| path == std::path::Path::new(known));
    (plan.systemd && plan.credential == CredentialKind::Certificate && needed).then(|| {
        format!(
            "# Written by `o365-relay setup`.\n[Service]\n\
             LoadCredential=certificate:{}\nLoadCredential=private_key:{}\n",
            plan.certificate().display(),
            plan.private_key().display()
        )
    })
}

/// What is known of the API permission for High Volume Email.
pub const HVE_PERMISSION: &str = "\
API permissions: High Volume Email asks for an Application permission with admin consent;
without it a login ends with 535 5.7.144. Take its name from Microsoft's page on High Volume
Email. It is not known here for sure: one project that sends this way has Mail.Send of Office
365 Exchange Online, which nobody has confirmed to us.";

/// The way through the portal, step by step.
#[must_use]
pub fn portal_steps(access: &Access, credential: CredentialKind) -> String {
    let mut steps = String::from(
        "In the Microsoft Entra admin center (entra.microsoft.com, or that of your cloud):\n",
    );
    let mut number = 0;
    let mut step = |text: &str| {
        number += 1;
        let _ = writeln!(steps, "{number:>3}. {}", text.replace('\n', "\n     "));
    };
    step(&format!(
        "App registrations > New registration: name {}, accounts in this directory only, no\n\
         redirect URI.",
        access.display_name
    ));
    step("On its Overview page note Application (client) ID and Directory (tenant) ID.");
    match credential {
        CredentialKind::Certificate => step(
            "On the host of the relay make a key and a certificate (the key stays there):\n\
             openssl req -x509 -newkey rsa:2048 -noenc -days 730 -subj /CN=o365-relay \\\n    \
             -keyout private_key.pem -out certificate.pem\n\
             Certificates & secrets > Certificates > Upload: certificate.pem, never the key.",
        ),
        CredentialKind::Secret => step(
            "Certificates & secrets > New client secret; copy its Value (not its Secret ID) into\n\
             the file client_secret, readable for the relay alone, and note the day on which it Expires:\n\
             the relay warns of it in time if it stands in the configuration below.",
        ),
    }
    match access.path {
        _ if access.cloud == Cloud::Hve => step(HVE_PERMISSION),
        Path::Applications(_) => step(
            "API permissions: leave SMTP.SendAsApp out. With it, Exchange would want FullAccess\n\
             to the mailbox. Nothing has to be consented to.",
        ),
        Path::Classic => step(
            "API permissions > Add a permission > APIs my organization uses > Office 365 Exchange\n\
             Online > Application permissions: SMTP.SendAsApp and nothing else; then Grant admin\n\
             consent (Privileged Role Administrator or Global Administrator).",
        ),
    }
    step(
        "Enterprise applications > (the application): note its Object ID. The one on the page of\n\
         the app registration is another and leads to 535 5.7.3.",
    );
    if access.cloud == Cloud::Hve {
        step(
            "The mailbox has to be an account of High Volume Email (New-MailUser -HVEAccount), and From\n\
             that same address.",
        );
    } else if let Path::Applications(Group::Existing(_)) = access.path {
        step("The group has to be a mail-enabled one; the mailbox becomes a direct member of it.");
    }
    step("Run the script below in Exchange Online PowerShell.");
    steps
}
