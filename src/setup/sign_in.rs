//! An admin signs in with a device code (RFC 8628): this host needs no browser.

use std::time::Duration;

use hyper::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    Plan, SetupError, Tell,
    http::{Body, Http},
};

/// The sign-in page's name is shown, then this asks until the admin has signed in.
pub(super) async fn sign_in(
    plan: &Plan,
    http: &Http,
    permissions: &[&str],
    tell: Tell<'_>,
) -> Result<SecretString, SetupError> {
    let base = format!("{}/{}/oauth2/v2.0", plan.login_url(), plan.tenant);
    // The scope names the resource of the cloud, wherever Graph is asked.
    let resource = plan.cloud.preset().graph_url;
    let scope: Vec<String> = permissions.iter().map(|one| format!("{resource}/{one}")).collect();
    let scope = scope.join(" ");
    let client_id = plan.sign_in_client_id();
    let form = [("client_id", client_id), ("scope", scope.as_str())];
    let url = format!("{base}/devicecode");
    let answer = http.ask(Method::POST, &url, None, Body::Form(&form)).await?;
    if answer.status != StatusCode::OK {
        return Err(SetupError::SignIn { text: words(&answer.body) });
    }
    let text = |member: &'static str| {
        let what = "device code".to_owned();
        let value = answer.body[member].as_str().map(str::to_owned);
        value.ok_or(SetupError::Incomplete { what, member })
    };
    let (device_code, page) = (text("device_code")?, text("verification_uri")?);
    tell(&format!(
        "Sign in: open {} in any browser and enter the code {} (as {}).",
        plain(&page),
        plain(&text("user_code")?),
        super::ROLE
    ));
    let seconds = |member: &str, default| {
        Duration::from_secs(answer.body[member].as_u64().unwrap_or(default))
    };
    let waiting = Waiting {
        url: format!("{base}/token"),
        form: [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", client_id),
            ("device_code", &device_code),
        ],
        until: Instant::now() + seconds("expires_in", 900).min(LONGEST),
        interval: seconds("interval", 5).max(SHORTEST_INTERVAL),
    };
    waiting.token(http).await
}

struct Waiting<'w> {
    url: String,
    form: [(&'w str, &'w str); 3],
    until: Instant,
    interval: Duration,
}

impl Waiting<'_> {
    async fn token(mut self, http: &Http) -> Result<SecretString, SetupError> {
        loop {
            if Instant::now() + self.interval >= self.until {
                return Err(SetupError::CodeExpired);
            }
            sleep(self.interval).await;
            let asked = http.ask(Method::POST, &self.url, None, Body::Form(&self.form)).await;
            let answer = match asked {
                Ok(answer) => answer,
                // RFC 8628 section 3.5: a connection that broke is tried again, more slowly.
                Err(SetupError::Unreachable { .. }) => {
                    self.interval *= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(token) = answer.body["access_token"].as_str() {
                return Ok(token.into());
            }
            match answer.body["error"].as_str().unwrap_or_default() {
                "authorization_pending" => {}
                "slow_down" => self.interval += Duration::from_secs(5),
                _ if answer.status.is_server_error()
                    || answer.status == StatusCode::TOO_MANY_REQUESTS =>
                {
                    self.interval += Duration::from_secs(5);
                }
                "expired_token" => return Err(SetupError::CodeExpired),
                "authorization_declined" | "access_denied" => return Err(SetupError::Declined),
                _ => return Err(SetupError::SignIn { text: words(&answer.body) }),
            }
        }
    }
}

/// What Entra says, on one line and without the ids at its end.
fn words(body: &Value) -> String {
    let text = body["error_description"].as_str().or(body["error"].as_str());
    let text = text.unwrap_or("no reason was given");
    let start = text.split_once("Trace ID:").map_or(text, |(start, _)| start);
    plain(start).trim().chars().take(400).collect()
}

/// Nothing that a terminal would act on.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A sandbox may have 0.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
/// Keeps sums in range.
const LONGEST: Duration = Duration::from_secs(3600);
