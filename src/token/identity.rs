//! Managed identities: the host that we run on gives us tokens, over plain HTTP and to nobody
//! outside of it. Each kind of host wants to hear in its own way that no proxy or web page asks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    Fetched, Refusal, TokenError,
    answer::{parse_retry_after, seconds, usable},
    error::SecretFault,
    file,
    http::{Answer, PlainHttp},
    text,
};
use crate::clock::UnixMillis;

/// A managed identity and where its tokens come from.
#[derive(Debug, Clone)]
pub struct ManagedIdentity {
    /// The kind of host.
    pub host: IdentityHost,
    /// The client id of a user-assigned identity; `None` is the system-assigned one.
    pub client_id: Option<String>,
}

/// What gives tokens to this host.
#[derive(Debug, Clone)]
pub enum IdentityHost {
    /// The Instance Metadata Service of an Azure VM, a scale set or a node.
    Imds {
        /// Without its query.
        url: String,
    },
    /// App Service, Functions, Container Apps.
    AppService {
        /// `IDENTITY_ENDPOINT`.
        url: String,
        /// `IDENTITY_HEADER`.
        header: SecretString,
    },
    /// Azure Arc on a host that is not Microsoft's.
    Arc {
        /// `IDENTITY_ENDPOINT`.
        url: String,
        /// The one directory that challenges may name.
        key_directory: PathBuf,
    },
}

impl IdentityHost {
    /// Where it is asked.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Imds { url } | Self::AppService { url, .. } | Self::Arc { url, .. } => url,
        }
    }

    fn api_version(&self) -> &'static str {
        match self {
            Self::Imds { .. } => "2018-02-01",
            Self::AppService { .. } => "2019-08-01",
            Self::Arc { .. } => "2020-06-01",
        }
    }
}

/// What is given.
#[derive(Deserialize)]
struct Given {
    access_token: oauth2::AccessToken,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    /// Seconds since 1970; App Service may say only this.
    #[serde(default, deserialize_with = "seconds")]
    expires_on: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    refresh_in: Option<u64>,
}

/// What is said instead. The two spellings are those of IMDS and of App Service.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Said {
    error: serde_json::Value,
    error_description: Option<String>,
    message: Option<String>,
}

/// Asks the endpoint of `identity` for a token for `scope`, within `within`.
pub(super) async fn fetch(
    identity: &ManagedIdentity,
    scope: &str,
    within: Duration,
    now: UnixMillis,
) -> Result<Fetched, TokenError> {
    let url = identity.host.url();
    // Off Azure nobody answers at the address, and a connection attempt would take minutes.
    let http = PlainHttp::new(CONNECT_TIMEOUT.min(within));
    tokio::time::timeout(within, ask(identity, scope, &http, now)).await.unwrap_or_else(|_| {
        Err(TokenError::NoIdentityEndpoint {
            url: url.to_owned(),
            stage: super::Stage::Http,
            cause: format!("no answer within {} s", within.as_secs_f64()),
        })
    })
}

async fn ask(
    identity: &ManagedIdentity,
    scope: &str,
    http: &PlainHttp,
    now: UnixMillis,
) -> Result<Fetched, TokenError> {
    let url = address(identity, scope);
    let metadata = (METADATA, HeaderValue::from_static("true"));
    let answer = match &identity.host {
        IdentityHost::Imds { .. } => http.get(&url, &[metadata]).await?,
        IdentityHost::AppService { header, .. } => {
            let proof = hidden(header.expose_secret().as_bytes())?;
            http.get(&url, &[(IDENTITY_HEADER, proof)]).await?
        }
        IdentityHost::Arc { key_directory, .. } => {
            let first = http.get(&url, std::slice::from_ref(&metadata)).await?;
            if first.status == 401 {
                let key = challenge_key(&first, key_directory).await?;
                let proof = hidden(format!("Basic {}", key.expose_secret()).as_bytes())?;
                http.get(&url, &[metadata, (AUTHORIZATION, proof)]).await?
            } else {
                first // a refusal with a reason of its own
            }
        }
    };
    read(&answer, now)
}

fn address(identity: &ManagedIdentity, scope: &str) -> String {
    let resource = scope.strip_suffix("/.default").unwrap_or(scope);
    let mut query = oauth2::url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("api-version", identity.host.api_version());
    query.append_pair("resource", resource);
    if let Some(client_id) = &identity.client_id {
        query.append_pair("client_id", client_id);
    }
    format!("{}?{}", identity.host.url(), query.finish())
}

fn hidden(octets: &[u8]) -> Result<HeaderValue, TokenError> {
    let mut value = HeaderValue::from_bytes(octets).map_err(|_| TokenError::Challenge {
        reason: "what has to be sent does not fit into a header".into(),
        denied: false,
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The key that a challenge of Azure Arc points to. The checks keep a stranger on the endpoint's
/// port from having us read out whatever file it names.
async fn challenge_key(answer: &Answer, directory: &Path) -> Result<SecretString, TokenError> {
    let fault = |reason: String| TokenError::Challenge { reason, denied: false };
    let path = answer
        .headers
        .get(WWW_AUTHENTICATE)
        .and_then(|value| value.to_str().ok()?.trim().strip_prefix("Basic realm="))
        .map(|path| PathBuf::from(path.trim_matches('"')))
        .ok_or_else(|| fault("its 401 names no file".into()))?;
    let shown = text::one_line(&path.display().to_string(), 200);
    let within = Arc::<Path>::from(directory);
    let read = file::aside(move || read_key(&path, &within)).await;
    match read {
        Some(Ok(key)) => Ok(key),
        Some(Err(KeyFault::Refused(reason))) => Err(fault(format!("its file {shown} {reason}"))),
        Some(Err(KeyFault::Denied(reason))) => {
            let reason = format!("its file {shown} could not be read: {reason}");
            Err(TokenError::Challenge { reason, denied: true })
        }
        None => Err(fault("the program is ending".into())),
    }
}

enum KeyFault {
    Refused(String),
    Denied(String),
}

fn read_key(path: &Path, directory: &Path) -> Result<SecretString, KeyFault> {
    let refused = |reason: String| Err(KeyFault::Refused(reason));
    if path.extension().is_none_or(|end| end != "key") {
        return refused("does not end in .key".into());
    }
    // Before anything is asked of the path itself: it may lead to the ends of the world.
    if path.parent() != Some(directory) {
        return refused(format!("is not in {}", directory.display()));
    }
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => {}
        Ok(_) => return refused("is not a regular file".into()),
        Err(error) => return Err(KeyFault::Denied(error.to_string())),
    }
    match file::read(path, LONGEST_KEY) {
        Ok(key) if key.trim().is_empty() => refused("is empty".into()),
        Ok(key) => Ok(SecretString::from(key.trim())),
        Err(SecretFault::Unreadable(error)) => Err(KeyFault::Denied(error)),
        Err(fault) => refused(fault.to_string()),
    }
}

pub(super) fn read(answer: &Answer, now: UnixMillis) -> Result<Fetched, TokenError> {
    let status = answer.status;
    if status != 200 {
        return Err(refused(answer, now));
    }
    let Ok(given) = serde_json::from_slice::<Given>(&answer.body) else {
        let detail = "it is no token of a managed identity".into();
        return Err(TokenError::Malformed { status, detail });
    };
    let on = given.expires_on.and_then(|on| i64::try_from(on).ok()?.checked_mul(1000));
    let lifetime = given
        .expires_in
        .map(Duration::from_secs)
        .or_else(|| on.map(|on| UnixMillis(on).since(now)));
    let refresh_in = given.refresh_in.map(Duration::from_secs);
    usable(given.access_token.secret(), lifetime, refresh_in, status)
}

fn refused(answer: &Answer, now: UnixMillis) -> TokenError {
    let said: Said = serde_json::from_slice(&answer.body).unwrap_or_default();
    let clean = |text: &str| text::one_line(text, 300);
    // `"error": "invalid_request"`, or `"error": {"code": ..., "message": ...}`.
    let code = said.error.as_str().or_else(|| said.error.get("code")?.as_str());
    let message = said.error.get("message").and_then(serde_json::Value::as_str);
    let description = said.error_description.as_deref().or(said.message.as_deref()).or(message);
    let body = String::from_utf8_lossy(&answer.body);
    TokenError::Identity(Box::new(Refusal {
        error: clean(code.unwrap_or("no error code")),
        status: answer.status,
        description: clean(description.unwrap_or(&body)),
        retry_after: answer
            .headers
            .get(hyper::header::RETRY_AFTER)
            .and_then(|value| parse_retry_after(value.to_str().ok()?, now)),
        ..Refusal::default()
    }))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_KEY: u64 = 4 * 1024;
const METADATA: HeaderName = HeaderName::from_static("metadata");
const IDENTITY_HEADER: HeaderName = HeaderName::from_static("x-identity-header");

#[cfg(test)]
mod tests;
