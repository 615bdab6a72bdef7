//! The commands as scripts that an admin runs as they are: one that gives, one that takes back.

use super::{Access, Group, Path};
use crate::office365::clouds::Cloud;

impl Access {
    /// Everything that has to be said to Exchange, in one script that can be run again: it does
    /// what is not done yet. The undo section stands at its end as a comment.
    #[must_use]
    pub fn script(&self) -> String {
        let mut script = Script::new("what Exchange Online has to be told about o365-relay");
        script.comment(
            "Run it in PowerShell 7 as an Exchange Administrator. It can be run again: what is \
             done stays.\nOnce on that machine:  Install-Module ExchangeOnlineManagement",
        );
        script.line("$ErrorActionPreference = 'Stop'");
        script.line(&self.connect());
        if self.cloud != Cloud::Hve {
            script.step("Exchange learns of the application (its Enterprise application).");
            script.line(&self.service_principal_unless_known());
        }
        script.step(match self.path {
            _ if self.cloud == Cloud::Hve => "It may use this account of High Volume Email.",
            Path::Applications(_) => {
                "It may submit as the members of one group, and do nothing else: RBAC for\n\
                 Applications. Only direct members count."
            }
            Path::Classic => {
                "It may use the mailbox. FullAccess and SMTP.SendAsApp together; without\n\
                 IMAP.AccessAsApp or POP.AccessAsApp it cannot read mail."
            }
        });
        script.lines(&self.grant());
        if self.cloud != Cloud::Hve {
            script.step(
                "SMTP AUTH for this mailbox; the tenant's switch can stay as it is, since the\n\
                 mailbox's outweighs it.",
            );
            script.line(&self.smtp_auth_of_mailbox());
        }
        if !self.send_as.is_empty() {
            script.step("Further addresses that may stand in From.");
            script.lines(&self.grant_send_as());
        }
        let revoke = self.revoke_former();
        if !revoke.is_empty() {
            script.step("What was granted before and is not wanted any more is taken back.");
            if let (Path::Applications(Group::Existing(_)), false) =
                (&self.path, self.former.mailboxes.is_empty())
            {
                script.comment(
                    "The group is not o365-relay's: whoever is in it for nothing else leaves it by\n\
                     the line without its leading #. Until then the application can log in as well.",
                );
            }
            script.lines(&revoke);
        }
        script.comment(match self.path {
            _ if self.cloud == Cloud::Hve => "Look: AllowedApps holds the object id.",
            Path::Applications(_) => {
                "Look: InScope is True. The service itself may take from some minutes up to two\n\
                 hours to notice; 535 5.7.3 until then proves nothing."
            }
            Path::Classic => {
                "Look: AccessRights has FullAccess. The service may take from some minutes up to\n\
                 two hours to notice; 535 5.7.3 until then proves nothing."
            }
        });
        script.line(&self.test());
        script.comment("To take it all back, run these lines without their leading #:");
        for command in self.undo() {
            script.comment(&command);
        }
        script.text
    }

    /// The undo section as a script of its own.
    #[must_use]
    pub fn undo_script(&self) -> String {
        let mut script = Script::new("takes back what Exchange Online was told about o365-relay");
        script.line("$ErrorActionPreference = 'Stop'");
        script.line(&self.connect());
        script.lines(&self.undo());
        if self.cloud != Cloud::Hve {
            script.comment(
                "The mailbox's SMTP AUTH stays on, as others may log in to it. Where nobody does:",
            );
            script
                .comment(&self.smtp_auth_of_mailbox().replace("Disabled $false", "Disabled $null"));
        }
        script.text
    }
}

/// The text of a script as it grows.
struct Script {
    text: String,
    /// How many steps it has by now.
    steps: u8,
}

impl Script {
    fn new(title: &str) -> Self {
        Self { text: format!("# {title}\n"), steps: 0 }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn lines(&mut self, lines: &[String]) {
        for line in lines {
            self.line(line);
        }
    }

    /// A comment with the next number.
    fn step(&mut self, text: &str) {
        self.steps += 1;
        self.comment(&format!("{}. {text}", self.steps));
    }

    fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("# {line}"));
        }
    }
}
