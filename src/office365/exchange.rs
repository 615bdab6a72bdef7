//! What Exchange Online has to be told before an application may submit mail, as PowerShell with
//! the ids of the tenant at hand: there is no other supported way to say it.
//!
//! Every value stands in single quotes through [`quoted`], so that no name can become a command.

mod revoke;
mod script;

use super::clouds::Cloud;

/// One application, the mailbox that it shall submit as, and how it gets the right to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The cloud that the tenant is in.
    pub cloud: Cloud,
    /// The tenant: its id or one of its domains.
    pub tenant: String,
    /// What the application is called in Exchange.
    pub display_name: String,
    /// Application (client) id.
    pub client_id: String,
    /// Object id of the service principal (Enterprise applications), which is `oid` in its
    /// tokens. The object id on the page of the app registration is another one.
    pub object_id: String,
    /// The mailbox to log in as.
    pub mailbox: String,
    /// Further addresses that may stand in From.
    pub send_as: Vec<String>,
    /// What was granted before and is not wanted any more.
    pub former: Former,
    /// How the application gets at the mailbox.
    pub path: Path,
}

/// Rights of before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Former {
    /// Mailboxes that the application could log in as.
    pub mailboxes: Vec<String>,
    /// Addresses that could stand in From.
    pub send_as: Vec<String>,
}

/// The two ways in which Exchange lets an application submit for a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// RBAC for Applications: Exchange grants one role, for the members of one group. No API
    /// permission, no consent, no right to read mail.
    Applications(Group),
    /// The API permission `SMTP.SendAsApp` with an admin's consent, and `FullAccess` to the
    /// mailbox.
    Classic,
}

/// The group whose direct members the application may submit as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// One that the script makes for this application, and takes away again.
    Own,
    /// One that is there: its name or address.
    Existing(String),
}

impl Access {
    /// Opens the session that the other commands need.
    #[must_use]
    pub fn connect(&self) -> String {
        let environment = match self.cloud {
            Cloud::Global | Cloud::Hve => "",
            Cloud::GccHigh => " -ExchangeEnvironmentName O365USGovGCCHigh",
            Cloud::Dod => " -ExchangeEnvironmentName O365USGovDoD",
            Cloud::China => " -ExchangeEnvironmentName O365China",
        };
        format!("Connect-ExchangeOnline -Organization {}{environment}", quoted(&self.tenant))
    }

    /// Makes the application known to Exchange.
    #[must_use]
    pub fn service_principal(&self) -> String {
        format!(
            "New-ServicePrincipal -AppId {} -ObjectId {} -DisplayName {}",
            quoted(&self.client_id),
            quoted(&self.object_id),
            quoted(&self.display_name)
        )
    }

    /// The same, unless Exchange knows it with this object id.
    #[must_use]
    pub fn service_principal_unless_known(&self) -> String {
        unless(
            &format!(
                "Get-ServicePrincipal -Identity {} -ErrorAction SilentlyContinue",
                self.object()
            ),
            &self.service_principal(),
        )
    }

    /// Shows what Exchange knows of the application.
    #[must_use]
    pub fn show_service_principal(&self) -> String {
        format!("Get-ServicePrincipal -Identity {} | Format-List AppId,ObjectId", self.object())
    }

    /// Gives the right to submit as the mailbox, in this order. Neither fails nor changes
    /// anything where the right is there.
    #[must_use]
    pub fn grant(&self) -> Vec<String> {
        let mailbox = quoted(&self.mailbox);
        let object = self.object();
        if self.cloud == Cloud::Hve {
            return vec![format!("Add-HVEAppAccess -Identity {mailbox} -AppIds {object}")];
        }
        let Path::Applications(group) = &self.path else {
            return vec![format!(
                "Add-MailboxPermission -Identity {mailbox} -User {object} -AccessRights FullAccess"
            )];
        };
        let mut commands = Vec::new();
        let (name, own) = (quoted(&self.scope_name()), self.group_name());
        let shown = quoted(&own);
        if *group == Group::Own {
            commands.push(unless(
                &format!("Get-DistributionGroup -Identity {shown} -ErrorAction SilentlyContinue"),
                &format!("New-DistributionGroup -Name {shown} -Type Security"),
            ));
        }
        commands.push(unless(
            &format!(
                "Get-DistributionGroupMember -Identity {shown} -ResultSize Unlimited | \
                 Where-Object {{ $_.PrimarySmtpAddress -eq {mailbox} }}"
            ),
            &format!("Add-DistributionGroupMember -Identity {shown} -Member {mailbox}"),
        ));
        // In a filter, too, a quote is doubled.
        commands.push(format!(
            "$dn = (Get-DistributionGroup -Identity {shown}).DistinguishedName.Replace(\"'\", \"''\")"
        ));
        commands.push(unless(
            &format!("Get-ManagementScope -Identity {name} -ErrorAction SilentlyContinue"),
            &format!(
                "New-ManagementScope -Name {name} -RecipientRestrictionFilter \
                 \"MemberOfGroup -eq '$dn'\""
            ),
        ));
        commands.push(unless(
            &format!("Get-ManagementRoleAssignment -Identity {name} -ErrorAction SilentlyContinue"),
            &format!(
                "New-ManagementRoleAssignment -Name {name} -Role 'Application SMTP.SendAsApp' \
                 -App {object} -CustomResourceScope {name}"
            ),
        ));
        commands
    }

    /// Shows which group the scope of the application stands for, if there is one.
    #[must_use]
    pub fn show_scope(&self) -> String {
        let name = quoted(&self.scope_name());
        format!(
            "Get-ManagementScope -Identity {name} -ErrorAction SilentlyContinue | Format-List \
             RecipientFilter"
        )
    }

    /// Switches SMTP AUTH on for the mailbox, which outweighs the tenant's switch.
    #[must_use]
    pub fn smtp_auth_of_mailbox(&self) -> String {
        let mailbox = quoted(&self.mailbox);
        format!("Set-CASMailbox -Identity {mailbox} -SmtpClientAuthenticationDisabled $false")
    }

    /// Shows the mailbox's switch: `False` is on, nothing is as the tenant has it.
    #[must_use]
    pub fn show_smtp_auth_of_mailbox(&self) -> String {
        let mailbox = quoted(&self.mailbox);
        format!("Get-CASMailbox -Identity {mailbox} | Format-List SmtpClientAuthenticationDisabled")
    }

    /// Lets the application put each further sender into From.
    #[must_use]
    pub fn grant_send_as(&self) -> Vec<String> {
        self.send_as.iter().map(|sender| self.grant_send_as_of(sender)).collect()
    }

    /// Lets the application put `sender` into From.
    #[must_use]
    pub fn grant_send_as_of(&self, sender: &str) -> String {
        format!(
            "Add-RecipientPermission -Identity {} -Trustee {} -AccessRights SendAs -Confirm:$false",
            quoted(sender),
            self.object()
        )
    }

    /// Shows whether the right is there. That of RBAC for Applications tells at once, while the
    /// service itself may take up to two hours to notice.
    #[must_use]
    pub fn test(&self) -> String {
        let (mailbox, object) = (quoted(&self.mailbox), self.object());
        match self.path {
            _ if self.cloud == Cloud::Hve => {
                format!("Get-HVEAccountSettings -Identity {mailbox} | Format-List AllowedApps")
            }
            Path::Applications(_) => {
                format!("Test-ServicePrincipalAuthorization -Identity {object} -Resource {mailbox}")
            }
            Path::Classic => {
                format!("Get-MailboxPermission -Identity {mailbox} -User {object} | Format-List")
            }
        }
    }

    /// The name of the scope and of the role assignment; Exchange takes up to 64 characters.
    fn scope_name(&self) -> String {
        format!("o365-relay {}", self.client_id)
    }

    /// The group's name or address.
    fn group_name(&self) -> String {
        match &self.path {
            Path::Applications(Group::Existing(name)) => name.clone(),
            _ => {
                let start = self.client_id.get(..8);
                let start = start.filter(|start| start.bytes().all(|b| b.is_ascii_hexdigit()));
                format!("o365-relay-{}", start.unwrap_or(FIRST_DIGITS))
            }
        }
    }

    fn object(&self) -> String {
        quoted(&self.object_id)
    }
}

/// In the name of a group while the client id is not known.
pub const FIRST_DIGITS: &str = "FIRST 8 DIGITS OF THE APPLICATION ID";

/// Shows the tenant's SMTP AUTH switch: `True` is off for every mailbox that does not say
/// otherwise.
pub const SHOW_SMTP_AUTH_OF_TENANT: &str =
    "Get-TransportConfig | Format-List SmtpClientAuthenticationDisabled";

/// Switches SMTP AUTH on for all mailboxes of the tenant that do not say otherwise. Rarely right:
/// one mailbox is opened without it.
pub const SMTP_AUTH_OF_TENANT: &str =
    "Set-TransportConfig -SmtpClientAuthenticationDisabled $false";

/// `text` as one PowerShell string that means nothing but itself: in single quotes, with single
/// quotes doubled. PowerShell counts the typographic ones among them. Control characters go,
/// since no name has them and a line end could end a comment.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}') {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

fn unless(there: &str, command: &str) -> String {
    format!("if (-not ({there})) {{ {command} }}")
}

fn when(there: &str, command: &str) -> String {
    format!("if ({there}) {{ {command} }}")
}

#[cfg(test)]
mod tests;
