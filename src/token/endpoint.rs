//! The token endpoint: the client credentials grant (RFC 6749 section 4.4) over HTTPS, and what
//! its answers mean.

#[cfg(fuzzing)]
pub mod fuzzing;
mod proof;
mod secrets;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use oauth2::{
    AuthType, Client, ClientId, ClientSecret, ErrorResponse, RequestTokenError, Scope,
    StandardRevocableToken, TokenResponse, TokenUrl,
    basic::{BasicRevocationErrorResponse, BasicTokenIntrospectionResponse},
};
use secrecy::{ExposeSecret, SecretString};

pub(super) use self::proof::read_federated_token;
use self::{proof::Proof, secrets::Secrets};
use super::{
    Config, Credential, Expiry, Fetched, ManagedIdentity, Source, TokenError,
    answer::{EntraError, EntraToken, parse_retry_after, usable},
    error::Refusal,
    http::{Answer, Http},
    identity, text,
};
use crate::clock::{Clock, UnixMillis};

/// Asks the token endpoint of one [`Config`].
#[derive(Debug)]
pub(super) struct Endpoint {
    config: Config,
    clock: Clock,
    /// `None` if the configured address is none.
    target: Result<(TokenUrl, Http), String>,
    secrets: Secrets,
    expiry: Mutex<Option<Expiry>>,
}

type Entra = Client<
    EntraError,
    EntraToken,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

impl Endpoint {
    pub(super) fn new(config: Config, clock: Clock) -> Self {
        let target = target(&config);
        let expiry = Mutex::new(Expiry::of_secret(&config));
        Self { config, clock, target, secrets: Secrets::default(), expiry }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// From now on the credential is known to end then.
    pub(super) fn set_expiry(&self, expiry: Option<Expiry>) {
        *self.expiry.lock().unwrap_or_else(PoisonError::into_inner) = expiry;
    }

    async fn ask(&self, url: &TokenUrl, http: &Http) -> Result<Fetched, TokenError> {
        match &self.config.credential {
            Credential::ClientSecret(secrets) => self.ask_with_one_of(secrets, url, http).await,
            Credential::Certificate(files) => {
                let (client_id, audience) = (&self.config.client_id, &self.config.token_url);
                let (assertion, expiry) =
                    proof::assertion(files, client_id, audience, self.clock.now()).await?;
                self.set_expiry(Some(expiry));
                self.grant(url, http, Proof::Assertion(assertion)).await
            }
            Credential::FederatedToken(path) => {
                let token = proof::federated_token(path).await?;
                self.grant(url, http, Proof::Assertion(token)).await
            }
            Credential::ManagedIdentity(identity) => self.ask_host(identity).await,
        }
    }

    /// Asks the host that we run on, which needs no token endpoint.
    async fn ask_host(&self, identity: &ManagedIdentity) -> Result<Fetched, TokenError> {
        let within = self.config.request_timeout;
        identity::fetch(identity, &self.config.scope, within, self.clock.now()).await
    }

    /// One request for the scope of mail, with one proof.
    async fn grant(
        &self,
        url: &TokenUrl,
        http: &Http,
        proof: Proof,
    ) -> Result<Fetched, TokenError> {
        self.grant_for(&self.config.scope, url, http, proof).await
    }

    async fn grant_for(
        &self,
        scope: &str,
        url: &TokenUrl,
        http: &Http,
        proof: Proof,
    ) -> Result<Fetched, TokenError> {
        let client: Entra = Client::new(ClientId::new(self.config.client_id.clone()));
        let mut client = client.set_auth_type(AuthType::RequestBody);
        if let Proof::Secret(secret) = &proof {
            client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        }
        let client = client.set_token_uri(url.clone());
        let exchange = http.exchange();
        let mut request =
            client.exchange_client_credentials().add_scope(Scope::new(scope.to_owned()));
        if let Proof::Assertion(assertion) = &proof {
            request = request
                .add_extra_param("client_assertion_type", ASSERTION_TYPE)
                .add_extra_param("client_assertion", assertion.expose_secret());
        }
        let outcome = request.request_async(&exchange).await;
        match (outcome, exchange.into_answer()) {
            (Ok(token), Some(answer)) => usable(
                token.access_token().secret(),
                token.expires_in(),
                token.refresh_in(),
                answer.status,
            ),
            (Err(error), Some(answer)) => {
                Err(judge(error, &answer, proof.secret(), self.clock.now()))
            }
            (Err(RequestTokenError::Request(error)), None) => Err(error),
            (outcome, None) => Err(TokenError::Address {
                url: url.to_string(),
                reason: outcome.err().map(|error| error.to_string()).unwrap_or_default(),
            }),
        }
    }
}

impl Source for Arc<Endpoint> {
    async fn fetch(&self) -> Result<Fetched, TokenError> {
        Endpoint::fetch(self).await
    }

    fn expiry(&self) -> Option<Expiry> {
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Endpoint {
    fn reach(&self) -> Result<(&TokenUrl, &Http), TokenError> {
        match &self.target {
            Ok((url, http)) => Ok((url, http)),
            Err(reason) => Err(TokenError::Address {
                url: self.config.token_url.clone(),
                reason: reason.clone(),
            }),
        }
    }

    /// Asks once, within the time limit of a request.
    pub(super) async fn fetch(&self) -> Result<Fetched, TokenError> {
        if let Credential::ManagedIdentity(identity) = &self.config.credential {
            return self.ask_host(identity).await;
        }
        let (url, http) = self.reach()?;
        let after = self.config.request_timeout;
        tokio::time::timeout(after, self.ask(url, http))
            .await
            .unwrap_or_else(|_| Err(TokenError::Timeout { host: http.host().to_owned(), after }))
    }
}

fn target(config: &Config) -> Result<(TokenUrl, Http), String> {
    let url = TokenUrl::new(config.token_url.clone()).map_err(|error| error.to_string())?;
    if url.url().scheme() != "https" {
        return Err("it does not start with https://".into());
    }
    let host = host_of(&config.token_url).ok_or("it names no host")?;
    // Half of the time, so that an address that swallows packets shows as that.
    let http = Http::new(&config.tls, host, config.request_timeout / 2);
    Ok((url, http))
}

/// The host that an https URL names, with its port if that is not the one of https.
pub(super) fn host_of(url: &str) -> Option<String> {
    let url = oauth2::url::Url::parse(url).ok()?;
    let host = url.host_str()?.to_owned();
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    })
}

/// What an answer without a token means.
fn judge(
    error: RequestTokenError<TokenError, EntraError>,
    answer: &Answer,
    secret: &SecretString,
    now: UnixMillis,
) -> TokenError {
    let status = answer.status;
    let retry_after = answer
        .headers
        .get(hyper::header::RETRY_AFTER)
        .and_then(|value| parse_retry_after(value.to_str().ok()?, now));
    let refusal = match &error {
        RequestTokenError::ServerResponse(entra) => {
            Some(Box::new(entra.refusal(status, retry_after, secret.expose_secret())))
        }
        _ => None,
    };
    if status == 429 || (status >= 500 && retry_after.is_some()) {
        return TokenError::Throttled { status, retry_after, refusal };
    }
    match (refusal, error) {
        (Some(refusal), _) => TokenError::Refused(refusal),
        (None, RequestTokenError::Request(error)) => error,
        (None, RequestTokenError::Parse(error, _)) => unreadable(answer, Some(&error), secret),
        (None, _) => unreadable(answer, None, secret),
    }
}

/// A body in JSON may hold a token, and so is not shown.
fn unreadable(
    answer: &Answer,
    error: Option<&serde_path_to_error::Error<serde_json::Error>>,
    secret: &SecretString,
) -> TokenError {
    let status = answer.status;
    let body = String::from_utf8_lossy(&answer.body);
    if !body.trim_start().starts_with(['{', '[', '"']) {
        let body = text::without(&text::one_line(&body, 1000), secret.expose_secret());
        return TokenError::NotJson { status, body: text::one_line(&body, 120) };
    }
    let detail = match error.map(|error| (error.path().to_string(), error.inner().classify())) {
        None => "its Content-Type is not application/json".into(),
        Some((_, serde_json::error::Category::Syntax | serde_json::error::Category::Eof)) => {
            "the JSON is broken".into()
        }
        Some((path, _)) if path == "." => "a member that RFC 6749 requires is missing".into(),
        Some((path, _)) => {
            format!("the member {} is not as it should be", text::one_line(&path, 60))
        }
    };
    TokenError::Malformed { status, detail }
}

impl EntraError {
    fn refusal(&self, status: u16, retry_after: Option<Duration>, secret: &str) -> Refusal {
        let clean = |text: &str, limit| text::one_line(&text::without(text, secret), limit);
        let id = |text: &Option<String>| text.as_deref().map(|text| clean(text, 64));
        Refusal {
            error: clean(&self.error, 64),
            status,
            codes: self.error_codes.clone(),
            suberror: id(&self.suberror),
            description: text::description(&text::without(&self.error_description, secret), 500),
            trace_id: id(&self.trace_id),
            correlation_id: id(&self.correlation_id),
            timestamp: id(&self.timestamp),
            retry_after,
            ..Refusal::default()
        }
    }
}

impl ErrorResponse for EntraError {}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[cfg(test)]
mod tests;
