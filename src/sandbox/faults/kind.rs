//! What a row of the table is made of.

use super::table::FAULTS;

/// One row: a name, where it strikes, what it does.
#[derive(Debug, PartialEq, Eq)]
pub struct FaultKind {
    pub(super) name: &'static str,
    pub(in crate::sandbox) stage: Stage,
    pub(super) form: Form,
    pub(super) action: Action,
    pub(super) meaning: &'static str,
}

impl FaultKind {
    /// The row of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FAULTS.iter().find(|kind| kind.name == name)
    }

    /// As it is written on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it strikes, in a word or two.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        self.stage.label()
    }

    /// The parameter that it has when none is given, if it has one.
    #[must_use]
    pub fn default_parameter(&self) -> Option<String> {
        self.form.text(&self.form.default())
    }

    /// What its parameter may be, if it has one.
    #[must_use]
    pub fn parameter(&self) -> Option<String> {
        match self.form {
            Form::Nothing => None,
            Form::Time(seconds) => Some(format!("a time such as {seconds}s")),
            Form::Status => Some("a status from 500 to 599, such as 503".into()),
            Form::Addresses => {
                Some("addresses such as erp@contoso.com,*@fabrikam.com, or * for all".into())
            }
            Form::Choice(words) => Some(words.join(", ")),
        }
    }

    /// What it does, in one line.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        self.meaning
    }

    /// The reply that the client gets, where the fault is just that.
    #[must_use]
    pub fn reply(&self) -> Option<&'static str> {
        match self.action {
            Action::Refuse(replies) => replies.first().copied(),
            _ => None,
        }
    }

    /// Its place in the table.
    pub(super) fn place(&self) -> usize {
        FAULTS.iter().position(|kind| kind.name == self.name).unwrap_or(FAULTS.len())
    }
}

/// Every fault there is.
#[must_use]
pub fn fault_kinds() -> &'static [FaultKind] {
    FAULTS
}

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Stage {
    LoginHandshake,
    TokenRequest,
    Credential,
    /// Once an assertion has been found to be right.
    Assertion,
    TokenIssue,
    /// Somebody asks whether the admin has signed in.
    DeviceCode,
    /// Any request to Graph.
    Graph,
    /// A request to Graph about something that was made before.
    GraphObject,
    /// What is written into a token.
    TokenContent,
    /// A policy of the tenant, once a client has proved itself.
    Policy,
    /// An answer of the login host, whatever it is.
    LoginAnswer,
    /// A connection to the endpoint for managed identities.
    IdentityConnection,
    /// A request there that would be granted.
    Identity,
    Greeting,
    Ehlo,
    /// EHLO under TLS.
    SecuredEhlo,
    StartTls,
    SmtpHandshake,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// After 354.
    MailData,
    /// Once all of a message has been read that would be taken otherwise.
    FinalDot,
    /// Once a message has been taken.
    Taken,
    /// Before the reply to the final dot goes out, whichever it is.
    FinalReply,
}

impl Stage {
    fn label(self) -> &'static str {
        match self {
            Self::LoginHandshake => "login TLS",
            Self::TokenRequest
            | Self::Credential
            | Self::Assertion
            | Self::TokenIssue
            | Self::TokenContent
            | Self::Policy
            | Self::LoginAnswer => "token request",
            Self::DeviceCode => "device code",
            Self::Graph | Self::GraphObject => "Graph",
            Self::IdentityConnection | Self::Identity => "managed identity",
            Self::Greeting => "greeting",
            Self::Ehlo | Self::SecuredEhlo => "EHLO",
            Self::StartTls | Self::SmtpHandshake => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::MailData => "mail data",
            Self::FinalDot | Self::Taken | Self::FinalReply => "final dot",
        }
    }
}

/// What a parameter looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Nothing,
    /// With the default in seconds.
    Time(u64),
    Status,
    Addresses,
    /// One of these words, the first being the default.
    Choice(&'static [&'static str]),
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Action {
    /// Gives this reply, one for each choice; after a 421 the connection is closed.
    Refuse(&'static [&'static str]),
    /// Shows the certificate that was chosen.
    Certificate,
    TooManyRequests,
    ServerError,
    Garbage,
    Hang,
    WrongSecret,
    WrongAssertion,
    RefuseIdentity,
    RefuseDeviceCode,
    RefuseGraph,
    Lag,
    ShortToken,
    OddToken,
    RefuseToken,
    WrongDate,
    HideStartTls,
    HideXoauth2,
    /// The token that was shown is void from now on.
    VoidToken,
    /// 334 first, and 535 after whatever follows.
    RefuseAfterChallenge,
    DenySender,
    /// The connection ends without a word.
    Drop,
    Delay,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sound() {
        for (at, kind) in FAULTS.iter().enumerate() {
            assert_eq!(kind.place(), at, "{} stands twice", kind.name);
            let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(kind.name.chars().all(sound), "{}", kind.name);
            assert!(!kind.meaning.ends_with('.') && !kind.meaning.contains('|'), "{}", kind.name);
            let Action::Refuse(replies) = kind.action else { continue };
            let choices = match kind.form {
                Form::Choice(words) => words.len(),
                _ => 1,
            };
            assert_eq!(replies.len(), choices, "{}", kind.name);
            for reply in replies {
                assert!(reply.starts_with(['4', '5']) && reply.len() < 400, "{reply}");
            }
        }
    }
}
