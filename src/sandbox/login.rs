//! The token endpoint: `POST /{tenant}/oauth2/v2.0/token` over TLS, with Entra's answers. Device
//! codes (`/{tenant}/oauth2/v2.0/devicecode`) and Graph (`/v1.0/...`) are served beside it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::ExposeSecret;
use tokio::net::{TcpListener, TcpStream};

use super::{
    Event, accept,
    admin::Admins,
    certificates::Acceptors,
    entra::TokenRefusal,
    faults::{Action, Stage, Strike},
    form::{Form, decode},
    graph,
    tenant::{Granted, Tenant, is_guid},
};
use crate::{clock::UnixMillis, drain::Drain};

/// Serves `listener` until the drain begins.
pub(super) async fn serve(
    listener: TcpListener,
    acceptors: Acceptors,
    tenant: Arc<Tenant>,
    drain: Drain,
) {
    accept(&listener, &drain, |socket, peer| {
        let (acceptors, tenant) = (acceptors.clone(), Arc::clone(&tenant));
        connection(socket, peer, acceptors, tenant)
    })
    .await;
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    acceptors: Acceptors,
    tenant: Arc<Tenant>,
) {
    let acceptor = acceptors.pick(tenant.strike(Stage::LoginHandshake, &[]).as_ref());
    let stream = match tokio::time::timeout(REQUEST_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%peer, %error, "sandbox login: TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let service = service_fn(|request| {
        let tenant = Arc::clone(&tenant);
        async move { answer(request, &tenant).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "sandbox login: connection ended early");
    }
}

/// A client was left without an answer on purpose.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as a fault wants it")]
struct Silence;

async fn answer(
    request: Request<Incoming>,
    tenant: &Tenant,
) -> Result<Response<Full<Bytes>>, Silence> {
    // Only a GUID is taken over as correlation id; anything else gets a new one.
    let correlation_id = request
        .headers()
        .get("client-request-id")
        .and_then(|value| value.to_str().ok())
        .filter(|value| is_guid(value))
        .map(str::to_owned);
    let refuse = |refusal: &TokenRefusal| {
        let body = refusal.body(tenant.now(), correlation_id.as_deref());
        tenant.emit(Event::TokenRefused {
            error: refusal.error.to_owned(),
            code: refusal.code,
            description: refusal.description(),
        });
        response(refusal.status, serde_json::to_string(&body).unwrap_or_default())
    };
    if let Some(path) = request.uri().path().strip_prefix("/v1.0/").map(str::to_owned) {
        return Ok(graph(request, &path, tenant).await);
    }
    if request.method() == Method::HEAD && request.uri().path() == "/" {
        // Somebody who only looks whether there is a host, and at its clock.
        return Ok(dated(response(StatusCode::OK, String::new()), tenant));
    }
    let answer = match token(request, tenant).await {
        Ok(Grant::Other(body)) => Ok(response(StatusCode::OK, body.to_string())),
        Ok(Grant::Token(Granted { client_id, token, lifetime })) => {
            tenant.emit(Event::TokenIssued { client_id, expires_in: lifetime });
            let body = serde_json::json!({
                "token_type": "Bearer",
                "expires_in": lifetime.as_secs(),
                "ext_expires_in": lifetime.as_secs(),
                "access_token": token.expose_secret(),
            });
            Ok(response(StatusCode::OK, body.to_string()))
        }
        Err(NoToken::Refused(refusal)) => Ok(refuse(&refusal)),
        Err(NoToken::Fault(strike)) => fault(&strike, refuse).await,
    };
    answer.map(|answer| dated(answer, tenant))
}

/// With a Date field of the fault's that strikes; otherwise the server adds the right one.
fn dated(mut response: Response<Full<Bytes>>, tenant: &Tenant) -> Response<Full<Bytes>> {
    if let Some(strike) = tenant.strike(Stage::LoginAnswer, &[]) {
        let millis = i64::try_from(strike.time().as_millis()).unwrap_or(i64::MAX);
        let then = UnixMillis(tenant.now().0.saturating_sub(millis));
        let date = then.timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        if let Ok(date) = header::HeaderValue::from_str(&date) {
            response.headers_mut().insert(header::DATE, date);
        }
    }
    response
}

/// What is granted.
enum Grant {
    Token(Granted),
    /// A device code, or the token of an admin.
    Other(serde_json::Value),
}

/// Why there is no token.
enum NoToken {
    Refused(TokenRefusal),
    Fault(Strike),
}

impl From<TokenRefusal> for NoToken {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Answers as the fault has it that struck.
async fn fault(
    strike: &Strike,
    refuse: impl Fn(&TokenRefusal) -> Response<Full<Bytes>>,
) -> Result<Response<Full<Bytes>>, Silence> {
    match strike.action() {
        Action::TooManyRequests => {
            let mut response = refuse(&TokenRefusal::throttled());
            let seconds = strike.time().as_secs().into();
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            Ok(response)
        }
        Action::ServerError => Ok(refuse(&TokenRefusal::unavailable(strike.status()))),
        Action::Garbage => {
            let mut response = response(StatusCode::OK, PORTAL.to_owned());
            let html = header::HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, html);
            Ok(response)
        }
        _ => {
            tokio::time::sleep(strike.time()).await;
            Err(Silence)
        }
    }
}

/// The answer of Graph.
async fn graph(request: Request<Incoming>, path: &str, tenant: &Tenant) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect();
    let answer = match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => {
            let request = graph::Request {
                method: &parts.method,
                path,
                query: parts.uri.query(),
                headers: &parts.headers,
                body: &body.to_bytes(),
            };
            graph::answer(&request, tenant)
        }
        _ => Err(graph::no(StatusCode::BAD_REQUEST, "BadRequest", "The body ended early.")),
    };
    let (status, body) = match answer {
        Ok((status, body)) => (status, body.map(|body| body.to_string())),
        Err(no) => (no.status, Some(no.body(tenant).to_string())),
    };
    let request = format!("{} /v1.0/{path}", parts.method);
    tenant.emit(Event::Graph { request, status: status.as_u16() });
    let mut answer = response(status, body.unwrap_or_default());
    if status == StatusCode::TOO_MANY_REQUESTS {
        answer.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    answer
}

async fn token(request: Request<Incoming>, tenant: &Tenant) -> Result<Grant, NoToken> {
    let (name, endpoint) = endpoint_of(request.uri().path())?;
    if request.method() != Method::POST {
        return Err(TokenRefusal::not_a_post(request.method().as_str()).into());
    }
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect();
    let body = match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(TokenRefusal::body_too_large().into());
        }
        Ok(Err(_)) | Err(_) => {
            return Err(TokenRefusal::malformed("the body ended early").into());
        }
    };
    if let Some(strike) = tenant.strike(Stage::TokenRequest, &[]) {
        return Err(NoToken::Fault(strike));
    }
    // Entra does not look into a body of another type: to it, every parameter is missing.
    let mut form = match is_form(&parts.headers) {
        true => Form::read(&body).ok_or_else(|| TokenRefusal::malformed("the form"))?,
        false => Form::default(),
    };
    if endpoint == Endpoint::DeviceCode {
        tenant.check_tenant(&name)?;
        return Ok(Grant::Other(device_code(&form, tenant)?));
    }
    if form.value("grant_type") == Some(DEVICE_GRANT) {
        tenant.check_tenant(&name)?;
        return Ok(Grant::Other(admin_token(&form, tenant)?));
    }
    form.add_basic_credentials(&parts.headers)?;
    Ok(Grant::Token(tenant.grant(&name, &form)?))
}

/// RFC 8628 section 3.1.
fn device_code(form: &Form, tenant: &Tenant) -> Result<serde_json::Value, TokenRefusal> {
    let required = |name| form.value(name).ok_or_else(|| TokenRefusal::parameter_missing(name));
    let (client_id, scope) = (required("client_id")?, required("scope")?);
    tenant.admins.begin(client_id, scope, tenant.config.device_interval, tenant.now())
}

/// RFC 8628 section 3.4.
fn admin_token(form: &Form, tenant: &Tenant) -> Result<serde_json::Value, TokenRefusal> {
    let required = |name| form.value(name).ok_or_else(|| TokenRefusal::parameter_missing(name));
    let (client_id, code) = (required("client_id")?, required("device_code")?);
    if form.value("client_secret").is_some() {
        return Err(TokenRefusal::public_client());
    }
    if let Some(strike) = tenant.strike(Stage::DeviceCode, &[]) {
        return Err(match strike.choice() {
            0 => Admins::declined(),
            1 => Admins::expired(),
            2 => Admins::slow_down(),
            3 => Admins::pending(),
            _ => Admins::blocked(),
        });
    }
    let (token, scopes, lifetime) = tenant.admins.poll(client_id, code, tenant.now())?;
    let scopes: Vec<String> =
        scopes.iter().map(|scope| format!("https://graph.microsoft.com/{scope}")).collect();
    tenant.emit(Event::SignedIn { scope: scopes.join(" ") });
    Ok(serde_json::json!({
        "token_type": "Bearer",
        "scope": scopes.join(" "),
        "expires_in": lifetime.as_secs(),
        "ext_expires_in": lifetime.as_secs(),
        "access_token": token.expose_secret(),
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Token,
    DeviceCode,
}

/// The tenant that `path` names, and what is asked of it.
fn endpoint_of(path: &str) -> Result<(String, Endpoint), TokenRefusal> {
    let (tenant, endpoint) = path
        .strip_prefix('/')
        .and_then(|rest| rest.split_once("/oauth2/v2.0/"))
        .filter(|(tenant, _)| !tenant.is_empty() && !tenant.contains('/'))
        .ok_or_else(TokenRefusal::no_such_path)?;
    let endpoint = match endpoint {
        "token" => Endpoint::Token,
        "devicecode" => Endpoint::DeviceCode,
        _ => return Err(TokenRefusal::no_such_path()),
    };
    let tenant =
        decode(tenant.as_bytes(), false).ok_or_else(|| TokenRefusal::malformed("the path"))?;
    Ok((tenant, endpoint))
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

fn response(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = header::HeaderValue::from_static("application/json; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, json);
    // RFC 6749 section 5.1
    let no_store = header::HeaderValue::from_static("no-store, no-cache");
    headers.insert(header::CACHE_CONTROL, no_store);
    headers.insert(header::PRAGMA, header::HeaderValue::from_static("no-cache"));
    response
}

/// What a network shows that wants its visitors to log in first.
const PORTAL: &str = "<!DOCTYPE html><html><head><title>Welcome</title></head>\
                      <body>Please log in to use this network.</body></html>\n";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const MAX_BODY: usize = 64 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_path_is_served() {
        let tenant_of = |path: &str| endpoint_of(path).map(|(tenant, _)| tenant);
        assert_eq!(tenant_of("/a.example/oauth2/v2.0/token").ok().as_deref(), Some("a.example"));
        assert_eq!(tenant_of("/%7Btenant%7D/oauth2/v2.0/token").ok().as_deref(), Some("{tenant}"));
        for path in [
            "/",
            "/oauth2/v2.0/token",
            "//oauth2/v2.0/token",
            "/a/oauth2/token",
            "/a/b/oauth2/v2.0/token",
            "/a/oauth2/v2.0/token/",
        ] {
            let refusal = tenant_of(path).unwrap_err();
            assert_eq!(refusal.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
}
