//! When the client secret in use ends, as the app registration has it: asked of Microsoft Graph
//! with a token of the application's own, which is answered where the application may read itself.
//!
//! Mail never waits for it: it is a task of its own that only ever adds a date. Whatever goes wrong
//! is a line for whoever debugs, as most applications have no right to read themselves.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::{
    Expiry, Graph, TokenError, TokenHandle,
    answer::parse_retry_after,
    endpoint::{Endpoint, host_of},
    handle::Shared,
    http::Http,
    text,
};
use crate::{
    clock::{Clock, UnixMillis},
    drain::Drain,
};

/// Asks as soon as there is a token for mail, once a day from then on, and anew when another secret
/// is in use, until the drain.
pub(super) async fn watch(
    endpoint: Arc<Endpoint>,
    graph: Graph,
    mut token: TokenHandle,
    shared: Arc<Shared>,
    clock: Clock,
    drain: Drain,
) {
    let (mut asked_about, mut next) = (None, Instant::now());
    loop {
        let in_use = endpoint.secret_in_use();
        if in_use.is_some() && (in_use != asked_about || Instant::now() >= next) {
            if in_use != asked_about && asked_about.is_some() {
                endpoint.set_expiry(None); // of a secret that has been replaced
                shared.wake.notify_one();
            }
            asked_about = in_use;
            let answer = tokio::select! {
                () = drain.signaled() => return,
                answer = ask(&endpoint, &graph, clock) => answer,
            };
            next = Instant::now() + tell(&answer);
            if let Ok(Some(expiry)) = answer {
                endpoint.set_expiry(Some(expiry));
                shared.wake.notify_one(); // the token task publishes it
            }
        }
        tokio::select! {
            () = drain.signaled() => return,
            () = token.changed() => {}
            () = sleep_until(next), if in_use.is_some() => {}
        }
    }
}

/// Logs what came of it; how long to wait until the next time.
fn tell(answer: &Result<Option<Expiry>, Unknown>) -> Duration {
    match answer {
        Ok(Some(expiry)) => {
            let expires = expiry.at.rfc3339();
            tracing::debug!(credential = %expiry.what, expires, "end of the credential learned");
            DAY
        }
        Ok(None) => {
            tracing::debug!("end of the client secret not known: Graph shows none that is like it");
            DAY
        }
        Err(error) => {
            tracing::debug!(%error, "end of the client secret not known");
            error.wait()
        }
    }
}

/// Asks once, with the secret that mail goes out with. `None` if the registration shows no secret
/// that can be this one.
pub(super) async fn ask(
    endpoint: &Endpoint,
    graph: &Graph,
    clock: Clock,
) -> Result<Option<Expiry>, Unknown> {
    let config = endpoint.config();
    let within = config.request_timeout.min(PATIENCE);
    let asked = async {
        let (token, secret) = endpoint.with_secret_in_use(&graph.scope).await?;
        let url = format!(
            "{}/v1.0/applications(appId='{}')?$select=passwordCredentials",
            graph.url, config.client_id
        );
        let host = host_of(&graph.url).ok_or(Unknown::Unreadable)?;
        let http = Http::new(&config.tls, host, within / 2);
        let answer = http.get(&url, &token).await?;
        if answer.status != 200 {
            let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
            let retry_after = answer.headers.get(hyper::header::RETRY_AFTER);
            return Err(Unknown::Refused {
                status: answer.status,
                code: text::one_line(&refusal.error.code, 64),
                retry_after: retry_after
                    .and_then(|value| parse_retry_after(value.to_str().ok()?, clock.now())),
            });
        }
        let registration: Registration =
            serde_json::from_slice(&answer.body).map_err(|_| Unknown::Unreadable)?;
        let end = end_of(&secret, &registration.secrets, clock.now());
        Ok(end.map(|at| Expiry::of_secret_of(config, at)))
    };
    tokio::time::timeout(within, asked).await.unwrap_or(Err(Unknown::Late))
}

/// The end of the secret that begins like this one. Of several the first: early is better than
/// late. Those that have ended are others, as this one has just worked.
fn end_of(secret: &SecretString, listed: &[Listed], now: UnixMillis) -> Option<UnixMillis> {
    let fits = |one: &&Listed| match one.hint.as_deref() {
        None | Some("") => false,
        Some(hint) => secret.expose_secret().starts_with(hint),
    };
    let end = |one: &Listed| {
        Some(UnixMillis(one.end.as_deref()?.parse::<jiff::Timestamp>().ok()?.as_millisecond()))
    };
    let first = |ends: &mut dyn Iterator<Item = UnixMillis>| ends.filter(|end| *end > now).min();
    let nameless = |one: &&Listed| one.hint.as_deref().unwrap_or_default().is_empty();
    first(&mut listed.iter().filter(fits).filter_map(end))
        .or_else(|| first(&mut listed.iter().filter(nameless).filter_map(end)))
}

/// An app registration, as far as it was asked for.
#[derive(Deserialize)]
struct Registration {
    #[serde(rename = "passwordCredentials")]
    secrets: Vec<Listed>,
}

/// A secret as Graph shows it.
#[derive(Deserialize)]
struct Listed {
    /// How its value begins; old secrets have none.
    hint: Option<String>,
    #[serde(rename = "endDateTime")]
    end: Option<String>,
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    error: RefusalCode,
}

#[derive(Deserialize, Default)]
struct RefusalCode {
    #[serde(default)]
    code: String,
}

/// Why Graph did not tell.
#[derive(Debug)]
pub(super) enum Unknown {
    /// There is no token for Graph, or no answer of it.
    Token(TokenError),
    /// It says no: with 403 the application may not read itself.
    Refused { status: u16, code: String, retry_after: Option<Duration> },
    /// Its answer is something else.
    Unreadable,
    /// It took too long.
    Late,
}

impl Unknown {
    /// A right is given by a person, a network comes back by itself.
    fn wait(&self) -> Duration {
        match self {
            Self::Refused { status: 429 | 500.., retry_after, .. } => {
                retry_after.unwrap_or_default().clamp(HOUR, DAY)
            }
            Self::Late => HOUR,
            Self::Token(error) if error.is_transient() => HOUR,
            Self::Token(_) | Self::Refused { .. } | Self::Unreadable => DAY,
        }
    }
}

impl From<TokenError> for Unknown {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => error.fmt(f),
            Self::Refused { status: 403, code, .. } => write!(
                f,
                "Microsoft Graph does not let the application read its own registration (403 {code})"
            ),
            Self::Refused { status, code, .. } => {
                write!(f, "Microsoft Graph answered {status} {code}")
            }
            Self::Unreadable => f.write_str("the answer of Microsoft Graph cannot be read"),
            Self::Late => f.write_str("Microsoft Graph did not answer in time"),
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// For the token and the answer; a doctor waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_415_050_000); // 2026-11-23

    fn end(json: &str) -> Option<String> {
        let registration: Registration = serde_json::from_str(json).unwrap();
        end_of(&"a8Q~secret".into(), &registration.secrets, NOW).map(UnixMillis::rfc3339)
    }

    fn listed(secrets: &[(&str, &str)]) -> String {
        let secrets = secrets
            .iter()
            .map(|(hint, end)| format!("{{\"hint\":{hint},\"endDateTime\":\"{end}\",\"x\":[]}}"));
        let secrets = secrets.collect::<Vec<_>>().join(",");
        format!("{{\"@odata.context\":\"x\",\"passwordCredentials\":[{secrets}]}}")
    }

    #[test]
    fn the_secret_in_use_is_known_by_how_it_begins() {
        let (soon, later) = ("2027-01-01T00:00:00Z", "2028-06-01T12:00:00.5Z");
        let (mine, other) = ("\"a8Q\"", "\"zzz\"");
        let told = |secrets: &[(&str, &str)]| end(&listed(secrets));
        assert_eq!(told(&[(other, soon), (mine, later)]).as_deref(), Some("2028-06-01T12:00:00Z"));
        assert_eq!(told(&[(mine, later), (mine, soon)]).as_deref(), Some(soon), "the first of two");
        let ended = "2026-11-22T00:00:00Z";
        assert_eq!(told(&[(mine, ended), (mine, soon)]).as_deref(), Some(soon), "one is over");
        assert_eq!(told(&[(mine, ended), (other, soon)]), None);
        assert_eq!(told(&[("null", soon), (other, later)]).as_deref(), Some(soon), "no hint");
        assert_eq!(told(&[("null", soon), (mine, later)]).as_deref(), Some("2028-06-01T12:00:00Z"));
        assert_eq!(told(&[(mine, "never")]), None);
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn a_missing_right_is_asked_about_daily_and_a_broken_network_hourly() {
        let refused = |status, retry_after: Option<u64>| Unknown::Refused {
            status,
            code: "Authorization_RequestDenied".into(),
            retry_after: retry_after.map(Duration::from_secs),
        };
        assert_eq!(refused(403, None).wait(), DAY);
        assert_eq!(refused(503, Some(1)).wait(), HOUR);
        assert_eq!(refused(429, Some(7200)).wait(), HOUR * 2);
        assert_eq!(Unknown::Late.wait(), HOUR);
        assert!(refused(403, None).to_string().contains("read its own registration (403 Auth"));
    }
}
