//! Why there is no new token, in words that name the cause, and what to do about it.

use std::{fmt, path::PathBuf, time::Duration};

use crate::office365::entra::{self, Ids};

/// Why a request for a token failed. Neither its Display nor its Debug holds a secret or a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The token endpoint was not reached, or the connection broke.
    #[error("could not reach {host} ({stage}): {cause}")]
    Transport {
        /// The host of the token endpoint, with its port if that is not the one of https.
        host: String,
        /// How far it got.
        stage: Stage,
        /// The innermost cause.
        cause: String,
    },
    /// The request took longer than `request_timeout`.
    #[error("{host} did not answer within {} s", after.as_secs_f64())]
    Timeout {
        /// The host of the token endpoint.
        host: String,
        /// How long we waited.
        after: Duration,
    },
    /// The endpoint wants fewer requests: 429, or 5yz with Retry-After (RFC 9110 section 10.2.3).
    #[error("the token endpoint asks for patience: HTTP {status}{}", because(refusal.as_deref()))]
    Throttled {
        /// The HTTP status.
        status: u16,
        /// How long it asked us to wait.
        retry_after: Option<Duration>,
        /// What its body said, where that was an error of the protocol.
        refusal: Option<Box<Refusal>>,
    },
    /// An error response of the protocol (RFC 6749 section 5.2).
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// An answer that is no JSON: a captive portal, an inspecting proxy, an error page.
    #[error("the answer is no token and no error of Entra ID: HTTP {status}, {}", Shown(body))]
    NotJson {
        /// The HTTP status.
        status: u16,
        /// The first characters of the body; empty if it had none.
        body: String,
    },
    /// JSON, but not with what RFC 6749 section 5 asks for.
    #[error("the answer of the token endpoint is not usable: HTTP {status}, {detail}")]
    Malformed {
        /// The HTTP status.
        status: u16,
        /// What is wrong; no part of the body.
        detail: String,
    },
    /// The secret could not be read, so no request was made.
    #[error("{} {reason}", secret_name(path.as_ref()))]
    Secret {
        /// The file, if it is in one.
        path: Option<PathBuf>,
        /// What is wrong with it.
        reason: SecretFault,
    },
    /// The configured address cannot be asked.
    #[error("the token endpoint {url:?} is not a usable address: {reason}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking up the host's addresses.
    Dns,
    /// The TCP connection.
    Connect,
    /// The TLS handshake, or TLS in use.
    Tls,
    /// The HTTP exchange.
    Http,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Http => "http",
        })
    }
}

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
        f.write_str("]")
    }
}

/// What is wrong with a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// The operating system's reason.
    #[error("could not be read: {0}")]
    Unreadable(String),
    /// A directory, a pipe: nothing that can be read again for each request.
    #[error("is not a regular file")]
    NotAFile,
    /// No octet, or only a line end.
    #[error("is empty")]
    Empty,
    /// Longer than any secret.
    #[error("is longer than {0} octets")]
    TooLong(u64),
    /// Not UTF-8, as a UTF-16 file from a Windows editor.
    #[error("is not UTF-8 text")]
    NotText,
    /// More than one line, or another control character.
    #[error("holds more than one line")]
    ManyLines,
}

impl TokenError {
    /// The kind as a constant word, for metrics and for telling causes apart.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Transport { .. } => "transport",
            Self::Timeout { .. } => "timeout",
            Self::Throttled { .. } => "throttled",
            Self::Refused(_) => "refused",
            Self::NotJson { .. } => "not_json",
            Self::Malformed { .. } => "malformed",
            Self::Secret { .. } => "secret",
            Self::Address { .. } => "address",
        }
    }

    /// Whether it can heal by itself, so that asking again soon makes sense. Where Entra ID gave
    /// an `error`, that decides, never a number.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Timeout { .. } | Self::Throttled { .. } => true,
            Self::Refused(refusal) => match refusal.error.as_str() {
                "temporarily_unavailable" | "server_error" => true,
                error if entra::cure_for_error(error).is_some() => false,
                _ => refusal.status >= 500,
            },
            // A portal or a proxy between us and Microsoft shows its pages with 200 and 3yz.
            Self::NotJson { status, .. } => *status < 400 || *status >= 500 || *status == 408,
            Self::Malformed { status, .. } => *status >= 500,
            Self::Secret { .. } | Self::Address { .. } => false,
        }
    }

    /// How long the endpoint asked us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => *retry_after,
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }

    /// What Entra ID said, if it was Entra ID that answered.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Throttled { refusal, .. } => refusal.as_deref(),
            _ => None,
        }
    }

    /// The next step for the person in charge, with the names filled in.
    #[must_use]
    pub fn advice(&self, ids: &Ids<'_>) -> String {
        match self {
            Self::Transport { host, stage, .. } => stage.advice(host),
            Self::Timeout { host, .. } => format!(
                "check that a firewall lets this host reach {}; the request is repeated", port_of(host)
            ),
            Self::Throttled { .. } => "nothing to do: the request is repeated after a pause".into(),
            Self::Refused(refusal) => refusal.advice(ids),
            Self::NotJson { .. } | Self::Malformed { .. } => {
                "something else than Entra ID seems to answer: look for a captive portal or a proxy \
                 between this host and the login host, and check office365.login_url"
                    .into()
            }
            Self::Secret { path: Some(path), reason } => reason.advice(&path.display().to_string()),
            Self::Secret { path: None, reason } => reason.advice("office365.client_secret"),
            Self::Address { .. } => {
                "set office365.login_url to the https address of the cloud's login host, or leave it out"
                    .into()
            }
        }
    }

    /// Whether this is the trouble that `earlier` was, so that a log need not say it again.
    pub(super) fn has_cause_of(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Refused(new), Self::Refused(old)) => {
                new.error == old.error && new.codes == old.codes
            }
            (Self::Throttled { .. }, Self::Throttled { .. }) => true,
            // Page texts may hold the time; these have no member that changes by itself.
            (Self::NotJson { status: new, .. }, Self::NotJson { status: old, .. }) => new == old,
            _ => self.kind() == earlier.kind() && self.to_string() == earlier.to_string(),
        }
    }
}

impl Refusal {
    fn advice(&self, ids: &Ids<'_>) -> String {
        if let Some(entry) = self.codes.iter().find_map(|code| entra::lookup(*code)) {
            return entry.advice(ids);
        }
        let cure = entra::cure_for_error(&self.error)
            .unwrap_or("look the error up under https://login.microsoftonline.com/error");
        ids.fill(cure)
    }
}

impl Stage {
    fn advice(self, host: &str) -> String {
        match self {
            Self::Dns => format!(
                "check that this host can resolve {} (/etc/resolv.conf, the name servers), and \
                 office365.login_url if it was set",
                host.split(':').next().unwrap_or(host)
            ),
            Self::Connect | Self::Http => format!(
                "check that a firewall lets this host reach {}; the request is repeated",
                port_of(host)
            ),
            Self::Tls => format!(
                "if a proxy inspects TLS to {host}, set office365.ca_file to its CA certificate; \
                 else check the ca-certificates package and the clock of this host"
            ),
        }
    }
}

impl SecretFault {
    fn advice(&self, place: &str) -> String {
        match self {
            Self::Unreadable(_) => format!(
                "make {place} exist and readable for the user the relay runs as; it is read again \
                 for each request"
            ),
            Self::NotAFile => format!("let {place} name a regular file"),
            Self::Empty => format!("put the client secret's value into {place}"),
            Self::TooLong(_) | Self::NotText | Self::ManyLines => format!(
                "let {place} hold the client secret's value and nothing else: one line of UTF-8 text"
            ),
        }
    }
}

/// `host` has a port if it is not that of https.
fn port_of(host: &str) -> String {
    match host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        Some((name, port)) => {
            format!("{name}, TCP port {port}, and that office365.login_url is right")
        }
        None => format!("{host}, TCP port 443"),
    }
}

fn because(refusal: Option<&Refusal>) -> String {
    refusal.map(|refusal| format!(", {refusal}")).unwrap_or_default()
}

fn secret_name(path: Option<&PathBuf>) -> String {
    path.map_or_else(
        || "the client secret".to_owned(),
        |path| format!("the client secret file {}", path.display()),
    )
}

/// The start of a body, as an error shows it.
struct Shown<'a>(&'a String);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("an empty body");
        }
        write!(f, "a body that starts with {:?}", self.0)
    }
}

#[cfg(test)]
mod tests;
