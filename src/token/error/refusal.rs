//! What an endpoint said instead of giving a token.

use std::{fmt, time::Duration};

use crate::office365::entra::{self, Ids};

/// What Entra ID said, cleaned: one line each, ids apart from the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The `error` member, such as `invalid_client`.
    pub error: String,
    /// The HTTP status.
    pub status: u16,
    /// The AADSTS numbers, the most telling first.
    pub codes: Vec<u32>,
    /// `suberror`, as conditional access sends it.
    pub suberror: Option<String>,
    /// `error_description` without the ids at its end.
    pub description: String,
    /// The id that Microsoft's support asks for.
    pub trace_id: Option<String>,
    /// Our `client-request-id`, if the endpoint took it over.
    pub correlation_id: Option<String>,
    /// The endpoint's time, as it wrote it.
    pub timestamp: Option<String>,
    /// How long it asked us to wait.
    pub retry_after: Option<Duration>,
    /// Which of several secrets was sent.
    pub sent: Option<String>,
    /// What became of the other secrets.
    pub others: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        if let Some(suberror) = &self.suberror {
            write!(f, " ({suberror})")?;
        }
        if !self.description.is_empty() {
            write!(f, ": {}", self.description)?;
        }
        write!(f, " [HTTP {}", self.status)?;
        for (name, value) in [
            ("trace id", &self.trace_id),
            ("correlation id", &self.correlation_id),
            ("time", &self.timestamp),
        ] {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        if let Some(sent) = &self.sent {
            write!(f, ", sent {sent}")?;
        }
        for other in &self.others {
            write!(f, "; {other}")?;
        }
        f.write_str("]")
    }
}

impl Refusal {
    pub(super) fn advice(&self, ids: &Ids<'_>) -> String {
        if let Some(entry) = self.codes.iter().find_map(|code| entra::lookup(*code)) {
            return entry.advice(ids);
        }
        let cure = entra::cure_for_error(&self.error)
            .unwrap_or("look the error up under https://login.microsoftonline.com/error");
        ids.fill(cure)
    }

    /// The next step where the endpoint of a managed identity refused.
    pub(super) fn identity_advice(&self) -> &'static str {
        let said = self.description.to_lowercase();
        match self.error.as_str() {
            _ if self.status == 429 || self.status >= 500 => {
                "nothing to do: the request is repeated after a pause"
            }
            _ if self.status == 410 => {
                "nothing to do: the endpoint is being updated, which takes up to 70 seconds"
            }
            _ if self.status == 404 => {
                "if it lasts, see that this host has a managed identity at all (Identity > System \
             assigned, or User assigned), and that office365.managed_identity names it"
            }
            "invalid_resource" => {
                "check office365.scope: the tenant lacks Exchange Online, or the scope is that of \
             another cloud"
            }
            _ if said.contains("identity not found") => {
                "give this host a managed identity (Identity > System assigned > On), or set \
             office365.managed_identity to the Client ID of one that is assigned to it"
            }
            _ if matches!(self.status, 401 | 403) => {
                "see whether a proxy or a firewall stands between this host and the endpoint, and \
             let the request bypass it; where the platform sets IDENTITY_ENDPOINT and \
             IDENTITY_HEADER (App Service, Container Apps), hand both to the relay unchanged"
            }
            _ => {
                "check office365.managed_identity and office365.scope; if a proxy stands between \
             this host and the endpoint, let the request bypass it"
            }
        }
    }
}

pub(super) fn because(refusal: Option<&Refusal>) -> String {
    refusal.map(|refusal| format!(", {refusal}")).unwrap_or_default()
}
