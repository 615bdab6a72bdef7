//! Why there is no new token, in words that name the cause, and what to do about it.

mod file;
mod refusal;

use std::{fmt, path::PathBuf, time::Duration};

use self::refusal::because;
pub use self::{
    file::{FileFault, FileKind},
    refusal::Refusal,
};
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
    /// A file of another credential cannot be used, so no request was made.
    #[error("{kind} {} {reason}", path.display())]
    File {
        /// What should be in it.
        kind: FileKind,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: FileFault,
    },
    /// The endpoint of the managed identity was not reached.
    #[error("could not reach the managed identity endpoint {url} ({stage}): {cause}")]
    NoIdentityEndpoint {
        /// Its address.
        url: String,
        /// How far it got.
        stage: Stage,
        /// The innermost cause.
        cause: String,
    },
    /// The endpoint of the managed identity gave no token.
    #[error("the managed identity endpoint gave no token: {0}")]
    Identity(Box<Refusal>),
    /// The challenge of Azure Arc cannot be met: its file is not what it has to be.
    #[error("the challenge of Azure Arc was not met: {reason}")]
    Challenge {
        /// What is wrong with it.
        reason: String,
        /// Whether it is a matter of rights on this host.
        denied: bool,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Reading what is on this host: configuration, secret, certificate, key.
    Credential,
    /// Looking up the host's addresses.
    Dns,
    /// The TCP connection.
    Connect,
    /// The TLS handshake, or TLS in use.
    Tls,
    /// The HTTP exchange.
    Http,
    /// What was answered.
    Answer,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential => "credential",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Answer => "answer",
        })
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
            Self::File { .. } => "file",
            Self::NoIdentityEndpoint { .. } => "no_identity_endpoint",
            Self::Identity(_) => "identity",
            Self::Challenge { .. } => "challenge",
            Self::Address { .. } => "address",
        }
    }

    /// How far the request got: the part to look at first.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Secret { .. }
            | Self::File { .. }
            | Self::Challenge { .. }
            | Self::Address { .. } => Stage::Credential,
            Self::Transport { stage, .. } | Self::NoIdentityEndpoint { stage, .. } => *stage,
            Self::Timeout { .. } => Stage::Http,
            Self::Throttled { .. }
            | Self::Refused(_)
            | Self::NotJson { .. }
            | Self::Malformed { .. }
            | Self::Identity(_) => Stage::Answer,
        }
    }

    /// Whether no request was made, because files on this host are not as they have to be. To
    /// look again costs nobody anything, and somebody may be writing them right now.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Secret { .. } | Self::File { .. } | Self::Challenge { .. })
    }

    /// Whether it can heal by itself, so that asking again soon makes sense. Where Entra ID gave
    /// an `error`, that decides, never a number.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Throttled { .. }
            | Self::NoIdentityEndpoint { .. } => true,
            // While an identity endpoint is updated or not there yet, it answers 410 and 404.
            Self::Identity(refusal) => {
                matches!(refusal.status, 404 | 410 | 429) || refusal.status >= 500
            }
            Self::Refused(refusal) => match refusal.error.as_str() {
                "temporarily_unavailable" | "server_error" => true,
                error if entra::cure_for_error(error).is_some() => false,
                _ => refusal.status >= 500,
            },
            // A portal or a proxy between us and Microsoft shows its pages with 200 and 3yz.
            Self::NotJson { status, .. } => *status < 400 || *status >= 500 || *status == 408,
            Self::Malformed { status, .. } => *status >= 500,
            Self::Secret { .. }
            | Self::File { .. }
            | Self::Challenge { .. }
            | Self::Address { .. } => false,
        }
    }

    /// How long the endpoint asked us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => *retry_after,
            Self::Refused(refusal) | Self::Identity(refusal) => refusal.retry_after,
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
            Self::File { kind, path, reason } => reason.advice(*kind, &path.display().to_string()),
            Self::NoIdentityEndpoint { .. } => NO_IDENTITY_ENDPOINT.into(),
            Self::Identity(refusal) => refusal.identity_advice().into(),
            Self::Challenge { denied: true, .. } => {
                "add the user that the relay runs as to the group himds, and restart the relay".into()
            }
            Self::Challenge { denied: false, .. } => {
                "something else than the agent of Azure Arc seems to answer: check \
                 IDENTITY_ENDPOINT and the agent (`azcmagent show`)"
                    .into()
            }
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
            (Self::Identity(new), Self::Identity(old)) => {
                new.status == old.status && new.error == old.error
            }
            (Self::Throttled { .. }, Self::Throttled { .. }) => true,
            // Page texts may hold the time; these have no member that changes by itself.
            (Self::NotJson { status: new, .. }, Self::NotJson { status: old, .. }) => new == old,
            _ => self.kind() == earlier.kind() && self.to_string() == earlier.to_string(),
        }
    }
}

impl Stage {
    fn advice(self, host: &str) -> String {
        match self {
            Self::Credential => "check the [office365] section of the configuration".into(),
            Self::Dns => format!(
                "check that this host can resolve {} (/etc/resolv.conf, the name servers), and \
                 office365.login_url if it was set",
                host.split(':').next().unwrap_or(host)
            ),
            Self::Connect | Self::Http | Self::Answer => format!(
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

const NO_IDENTITY_ENDPOINT: &str = "managed identities exist on Azure hosts only: elsewhere set \
    client_secret_file or certificate_file; on Azure, let nothing (firewall, proxy, network \
    policy of a pod) stand between this host and the endpoint";

/// `host` has a port if it is not that of https.
fn port_of(host: &str) -> String {
    match host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        Some((name, port)) => {
            format!("{name}, TCP port {port}, and that office365.login_url is right")
        }
        None => format!("{host}, TCP port 443"),
    }
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
