//! One HTTPS request to the token endpoint: hyper under the oauth2 crate's client trait.

use std::{error::Error, future::Future, io, pin::Pin, sync::OnceLock, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use secrecy::{ExposeSecret, SecretString};

use super::error::{Stage, TokenError};

/// A client for one host. No connection is kept: half an hour passes between two requests.
#[derive(Debug)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    host: String,
}

/// What an answer was, noted on its way to the oauth2 crate, whose errors keep none of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// One request. It is dropped with what it noted.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    http: &'a Http,
    answer: OnceLock<Answer>,
}

impl Http {
    /// `connect_timeout` is for all addresses of `host` together.
    pub(super) fn new(tls: &rustls::ClientConfig, host: String, connect_timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false); // The TLS layer above it refuses http.
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let mut tls = tls.clone();
        tls.alpn_protocols.clear(); // The builder wants to fill them in.
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https);
        Self { client, host }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn exchange(&self) -> Exchange<'_> {
        Exchange { http: self, answer: OnceLock::new() }
    }

    /// One GET with a bearer token (RFC 6750 section 2.1).
    pub(super) async fn get(&self, url: &str, token: &SecretString) -> Result<Answer, TokenError> {
        let invalid = |reason: String| TokenError::Address { url: url.to_owned(), reason };
        let bearer = format!("Bearer {}", token.expose_secret());
        let mut bearer =
            HeaderValue::try_from(bearer).map_err(|error| invalid(error.to_string()))?;
        bearer.set_sensitive(true);
        let request = Request::get(url).header(header::AUTHORIZATION, bearer).body(Vec::new());
        let request = request.map_err(|error| invalid(error.to_string()))?;
        let (head, body) = self.send(request).await?.into_parts();
        let status = head.status.as_u16();
        let body = self.body(status, body).await?;
        Ok(Answer { status, headers: head.headers, body })
    }

    async fn send(&self, request: HttpRequest) -> Result<Response<Incoming>, TokenError> {
        let (mut head, body) = request.into_parts();
        add_headers(&mut head.headers);
        let request = Request::from_parts(head, Full::new(Bytes::from(body)));
        self.client.request(request).await.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &legacy::Error) -> TokenError {
        self.transport(error, if error.is_connect() { Stage::Connect } else { Stage::Http })
    }

    fn transport(&self, error: &(dyn Error + 'static), reached: Stage) -> TokenError {
        let (stage, cause) = innermost(error, reached);
        TokenError::Transport { host: self.host.clone(), stage, cause }
    }

    async fn body(&self, status: u16, body: Incoming) -> Result<Bytes, TokenError> {
        match Limited::new(body, LONGEST_BODY).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(TokenError::Malformed {
                status,
                detail: format!("the body is longer than {LONGEST_BODY} octets"),
            }),
            Err(error) => Err(self.transport(&*error, Stage::Http)),
        }
    }
}

/// A client for the endpoints of managed identities, on this host and without TLS.
#[derive(Debug)]
pub(super) struct PlainHttp {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl PlainHttp {
    pub(super) fn new(connect_timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        Self { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(tcp) }
    }

    /// One GET.
    pub(super) async fn get(
        &self,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, TokenError> {
        let shown = || url.split('?').next().unwrap_or_default().to_owned();
        let mut request = Request::get(url).body(Full::default()).map_err(|error| {
            TokenError::NoIdentityEndpoint {
                url: shown(),
                stage: Stage::Credential,
                cause: error.to_string(),
            }
        })?;
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        request.headers_mut().extend(headers.iter().cloned());
        let broken = |error: &(dyn Error + 'static), reached| {
            let (stage, cause) = innermost(error, reached);
            TokenError::NoIdentityEndpoint { url: shown(), stage, cause }
        };
        let response = self.client.request(request).await.map_err(|error| {
            broken(&error, if error.is_connect() { Stage::Connect } else { Stage::Http })
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_BODY).collect().await;
        let body = body.map_err(|error| broken(&*error, Stage::Http))?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

impl Exchange<'_> {
    /// The answer, if one arrived whole.
    pub(super) fn into_answer(self) -> Option<Answer> {
        self.answer.into_inner()
    }
}

impl<'c> AsyncHttpClient<'c> for Exchange<'_> {
    type Error = TokenError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, TokenError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let (head, body) = self.http.send(request).await?.into_parts();
            let status = head.status.as_u16();
            let body = self.http.body(status, body).await?;
            let octets = body.to_vec();
            // One exchange makes one call, so there is nothing in it yet.
            let _ = self.answer.set(Answer { status, headers: head.headers.clone(), body });
            Ok(Response::from_parts(head, octets))
        })
    }
}

fn add_headers(headers: &mut HeaderMap) {
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    // As Microsoft's own libraries say that they heed Retry-After and 429.
    headers.insert(CAPABILITY, HeaderValue::from_static("retry-after, h429"));
    if let Ok(id) = HeaderValue::from_str(&random_guid()) {
        headers.insert(REQUEST_ID, id);
    }
}

/// A version 4 UUID (RFC 9562 section 5.4). It names a request and guards nothing.
pub(super) fn random_guid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The last cause in the chain: what lies above it says "client error" and the like.
fn innermost(error: &(dyn Error + 'static), reached: Stage) -> (Stage, String) {
    let mut stage = reached;
    let mut last = error;
    let mut resolved = false;
    loop {
        let wrapped = last.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if last.is::<rustls::Error>() {
            stage = Stage::Tls;
        } else if let Some(wrapped) = wrapped {
            // Only a broken handshake wraps one io::Error in another. An operating system's
            // error wraps nothing, so what else wraps something comes from the resolver.
            resolved |= wrapped.is::<io::Error>() || is_timeout(last);
            if reached == Stage::Connect && !resolved {
                stage = Stage::Dns;
            }
        }
        // An io::Error passes over what it wraps when asked for its source.
        match wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| last.source()) {
            Some(cause) => last = cause,
            None => {
                let cause = last.to_string();
                return (stage, super::text::one_line(crate::tls::plain(&cause), 200));
            }
        }
    }
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut)
}

const LONGEST_BODY: usize = 64 * 1024;
const USER_AGENT: &str = concat!("o365-relay/", env!("CARGO_PKG_VERSION"));
const REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");
const CAPABILITY: HeaderName = HeaderName::from_static("x-ms-lib-capability");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_configuration_with_protocols_of_its_own_is_taken() {
        let tls = crate::tls::client_config_with_roots(rustls::RootCertStore::empty());
        let mut tls = (*tls).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let http = Http::new(&tls, "login.example".into(), Duration::from_secs(1));
        assert_eq!(http.host(), "login.example");
    }

    #[test]
    fn a_guid_has_its_version_and_variant() {
        for _ in 0..100 {
            let guid = random_guid();
            let parts: Vec<usize> = guid.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{guid}");
            assert!(guid[14..].starts_with('4') && guid[19..].starts_with(['8', '9', 'a', 'b']));
        }
    }

    #[test]
    fn the_innermost_cause_is_found_and_its_stage_told() {
        let tls = io::Error::other(rustls::Error::NoCertificatesPresented);
        let (stage, cause) = innermost(&tls, Stage::Connect);
        assert_eq!((stage, cause), (Stage::Tls, "peer sent no certificates".into()));

        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(innermost(&refused, Stage::Connect).0, Stage::Connect);
        let name = io::Error::other("failed to lookup address information");
        assert_eq!(innermost(&name, Stage::Connect).0, Stage::Dns);
        assert_eq!(innermost(&name, Stage::Http).0, Stage::Http);
        let cut = io::Error::other(io::Error::new(io::ErrorKind::UnexpectedEof, "tls eof"));
        assert_eq!(innermost(&cut, Stage::Connect), (Stage::Connect, "tls eof".into()));
        let manual = "peer closed connection without sending TLS close_notify: \
                      https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof";
        let hung_up = io::Error::new(io::ErrorKind::UnexpectedEof, manual);
        assert_eq!(innermost(&hung_up, Stage::Http).1, "the server closed the connection");
        let late = io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed");
        assert_eq!(innermost(&late, Stage::Connect).0, Stage::Connect);
    }
}
