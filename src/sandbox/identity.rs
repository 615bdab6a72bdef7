//! The endpoints that give tokens to the host itself: the metadata service of a virtual machine,
//! the one of App Service and Container Apps, the agent of Azure Arc. Plain HTTP, as there.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::{
    Event, accept,
    access_token::Resource,
    faults::Stage,
    form::decode,
    random,
    tenant::{Granted, Tenant},
};
use crate::drain::Drain;

/// Which host the sandbox plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityHost {
    /// A virtual machine.
    Imds,
    /// App Service, Functions, Container Apps.
    AppService,
    /// A host with the agent of Azure Arc, which writes its challenges into this directory.
    Arc {
        /// On a real host it is `/var/opt/azcmagent/tokens`.
        key_directory: PathBuf,
    },
}

impl IdentityHost {
    /// The path of the endpoint.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Imds | Self::Arc { .. } => "/metadata/identity/oauth2/token",
            Self::AppService => "/msi/token",
        }
    }

    fn takes_version(&self, version: &str) -> bool {
        match self {
            Self::Imds => ["2018-02-01", "2019-08-01"].contains(&version),
            Self::AppService => version == "2019-08-01",
            Self::Arc { .. } => ["2020-06-01", "2021-02-01"].contains(&version),
        }
    }
}

/// Serves `listener` until the drain begins.
pub(super) async fn serve(
    listener: TcpListener,
    host: IdentityHost,
    header: String,
    tenant: Arc<Tenant>,
    drain: Drain,
) {
    let desk = Arc::new(Desk { host, header, tenant });
    accept(&listener, &drain, |socket, peer| connection(socket, peer, Arc::clone(&desk))).await;
}

struct Desk {
    host: IdentityHost,
    /// `IDENTITY_HEADER`.
    header: String,
    tenant: Arc<Tenant>,
}

async fn connection(socket: TcpStream, peer: SocketAddr, desk: Arc<Desk>) {
    if desk.tenant.strike(Stage::IdentityConnection, &[]).is_some() {
        return;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let response = desk.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "sandbox identity: connection ended early");
    }
}

/// What is wrong with a request.
struct No(StatusCode, &'static str, String);

fn no(status: StatusCode, error: &'static str, text: impl Into<String>) -> No {
    No(status, error, text.into())
}

impl Desk {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if let IdentityHost::Arc { key_directory } = &self.host
            && request.uri().path() == self.host.path()
            && request.headers().contains_key("metadata")
            && !request.headers().contains_key(AUTHORIZATION)
        {
            return challenge(key_directory);
        }
        match self.token(request) {
            Ok(body) => response(StatusCode::OK, &body),
            Err(No(status, error, text)) => {
                self.tenant.emit(Event::TokenRefused {
                    error: error.to_owned(),
                    code: 0,
                    description: text.clone(),
                });
                let body = json!({ "error": error, "error_description": text });
                let mut response = response(status, &body);
                if status == StatusCode::TOO_MANY_REQUESTS {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                }
                response
            }
        }
    }

    fn token(&self, request: &Request<Incoming>) -> Result<Value, No> {
        let bad = |text: &str| no(StatusCode::BAD_REQUEST, "invalid_request", text);
        let uri = request.uri();
        if uri.path() != self.host.path() || request.method() != Method::GET {
            return Err(no(StatusCode::NOT_FOUND, "not_found", "no such endpoint"));
        }
        self.check_caller(request.headers())?;
        let query = Query::read(uri.query().unwrap_or_default())
            .ok_or_else(|| bad("the query is malformed"))?;
        if !query.get("api-version").is_some_and(|version| self.host.takes_version(version)) {
            return Err(bad("api-version is missing or not known"));
        }
        let resource = query.get("resource").ok_or_else(|| bad("resource is missing"))?;
        let known = Resource::named(resource).ok_or_else(|| {
            let text =
                format!("AADSTS50001: The resource principal named {resource} was not found");
            no(StatusCode::BAD_REQUEST, "invalid_resource", text)
        })?;
        let wanted = self.tenant.config.identity_client_id.as_deref();
        if query.get("client_id") != wanted {
            return Err(bad("Identity not found"));
        }
        if let Some(strike) = self.tenant.strike(Stage::Identity, &[]) {
            return Err(refusal(strike.choice()));
        }
        let Granted { client_id, token, lifetime } =
            self.tenant.issue(resource, known, IDENTITY_LIFETIME);
        self.tenant.emit(Event::TokenIssued { client_id, expires_in: lifetime });
        let on = (self.tenant.now() + lifetime).0.div_euclid(1000);
        let mut body = json!({
            "access_token": token.expose_secret(),
            "expires_on": on.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        });
        if self.host != IdentityHost::AppService {
            body["expires_in"] = lifetime.as_secs().to_string().into();
        }
        Ok(body)
    }

    /// The header that tells a program on the host from a web page or a proxy.
    fn check_caller(&self, headers: &HeaderMap) -> Result<(), No> {
        let is = |name: &str, value: &str| {
            headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes())
        };
        match &self.host {
            IdentityHost::Imds if !is("metadata", "true") => {
                let text = "Required metadata header not specified";
                Err(no(StatusCode::BAD_REQUEST, "bad_request_102", text))
            }
            IdentityHost::AppService if !is("x-identity-header", &self.header) => {
                let text = "the header X-IDENTITY-HEADER is missing or wrong";
                Err(no(StatusCode::UNAUTHORIZED, "unauthorized", text))
            }
            IdentityHost::Arc { key_directory } => {
                let key = std::fs::read_to_string(key_directory.join(KEY_FILE)).unwrap_or_default();
                // A challenge can be met once.
                let _ = std::fs::remove_file(key_directory.join(KEY_FILE));
                if is("metadata", "true")
                    && !key.is_empty()
                    && is("authorization", &format!("Basic {key}"))
                {
                    return Ok(());
                }
                let text = "the challenge was not met";
                Err(no(StatusCode::FORBIDDEN, "forbidden", text))
            }
            _ => Ok(()),
        }
    }
}

/// In the order of the words in the table of faults.
fn refusal(choice: usize) -> No {
    match choice {
        0 => no(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests"),
        1 => no(StatusCode::GONE, "gone", "The service is being updated"),
        2 => no(StatusCode::NOT_FOUND, "not_found", "The service is not there yet"),
        3 => no(StatusCode::INTERNAL_SERVER_ERROR, "unknown", "Failed to retrieve token"),
        _ => no(StatusCode::BAD_REQUEST, "invalid_request", "Identity not found"),
    }
}

/// Arc's first answer: who can read the file runs on this host with the right to.
fn challenge(key_directory: &std::path::Path) -> Response<Full<Bytes>> {
    let path = key_directory.join(KEY_FILE);
    if let Err(error) = std::fs::write(&path, random::unguessable::<32>()) {
        let text = format!("could not write {}: {error}", path.display());
        return response(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": text }));
    }
    let mut response = response(StatusCode::UNAUTHORIZED, &json!({ "error": "unauthorized" }));
    if let Ok(value) = HeaderValue::from_str(&format!("Basic realm={}", path.display())) {
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    response
}

/// The parameters of a query, each once.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str) -> Option<Self> {
        let mut query = Self(Vec::new());
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (decode(name.as_bytes(), true)?, decode(value.as_bytes(), true)?);
            if query.get(&name).is_some() {
                return None;
            }
            query.0.push((name, value));
        }
        Some(query)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

const KEY_FILE: &str = "challenge.key";
const PATIENCE: Duration = Duration::from_secs(10);
/// Tokens of managed identities live for about a day.
const IDENTITY_LIFETIME: Duration = Duration::from_secs(86_399);
