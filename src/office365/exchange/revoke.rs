//! Taking back what Exchange was told. Each command looks first, so that what was never granted, or
//! is gone already, stops no script.

use super::{Access, Group, Path, quoted, when};
use crate::office365::clouds::Cloud;

const QUIETLY: &str = "-ErrorAction SilentlyContinue";

impl Access {
    /// Takes back what was granted before and is not wanted any more.
    #[must_use]
    pub fn revoke_former(&self) -> Vec<String> {
        let senders = self.former.send_as.iter().map(|sender| self.revoke_send_as(sender));
        let mailboxes = self.former.mailboxes.iter();
        senders.chain(mailboxes.map(|mailbox| self.revoke_mailbox(mailbox))).collect()
    }

    /// Takes everything back, that of before too, except the mailbox's SMTP AUTH switch, which
    /// others may rely on.
    #[must_use]
    pub fn undo(&self) -> Vec<String> {
        let senders = self.send_as.iter().chain(&self.former.send_as);
        let mut commands: Vec<String> = senders.map(|sender| self.revoke_send_as(sender)).collect();
        let mailboxes = std::iter::once(&self.mailbox).chain(&self.former.mailboxes);
        let remove = |noun: &str, name: &str| {
            let name = quoted(name);
            when(
                &format!("Get-{noun} -Identity {name} {QUIETLY}"),
                &format!("Remove-{noun} -Identity {name} -Confirm:$false"),
            )
        };
        match &self.path {
            _ if self.cloud == Cloud::Hve => {
                commands.extend(mailboxes.map(|mailbox| self.revoke_mailbox(mailbox)));
                return commands;
            }
            Path::Applications(group) => {
                commands.push(remove("ManagementRoleAssignment", &self.scope_name()));
                commands.push(remove("ManagementScope", &self.scope_name()));
                if *group == Group::Own {
                    commands.push(remove("DistributionGroup", &self.group_name()));
                }
            }
            Path::Classic => {
                commands.extend(mailboxes.map(|mailbox| self.revoke_mailbox(mailbox)));
            }
        }
        commands.push(remove("ServicePrincipal", &self.object_id));
        commands
    }

    fn revoke_send_as(&self, sender: &str) -> String {
        let (sender, object) = (quoted(sender), self.object());
        when(
            &format!("Get-RecipientPermission -Identity {sender} -Trustee {object} {QUIETLY}"),
            &format!(
                "Remove-RecipientPermission -Identity {sender} -Trustee {object} -AccessRights \
                 SendAs -Confirm:$false"
            ),
        )
    }

    fn revoke_mailbox(&self, mailbox: &str) -> String {
        let (mailbox, object) = (quoted(mailbox), self.object());
        let group = quoted(&self.group_name());
        let leave = format!(
            "Remove-DistributionGroupMember -Identity {group} -Member {mailbox} -Confirm:$false"
        );
        match &self.path {
            _ if self.cloud == Cloud::Hve => {
                format!("Remove-HVEAppAccess -Identity {mailbox} -AppIds {object}")
            }
            Path::Applications(Group::Own) => when(
                &format!(
                    "Get-DistributionGroupMember -Identity {group} -ResultSize Unlimited | \
                     Where-Object {{ $_.PrimarySmtpAddress -eq {mailbox} }}"
                ),
                &leave,
            ),
            // Who else goes by that group is not known here.
            Path::Applications(Group::Existing(_)) => format!("# {leave}"),
            Path::Classic => when(
                &format!("Get-MailboxPermission -Identity {mailbox} -User {object} {QUIETLY}"),
                &format!(
                    "Remove-MailboxPermission -Identity {mailbox} -User {object} -AccessRights \
                     FullAccess -Confirm:$false"
                ),
            ),
        }
    }
}
