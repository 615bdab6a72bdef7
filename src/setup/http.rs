//! One HTTPS request to the login host or to Graph, and its answer as JSON.

use std::{error::Error, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::SetupError;

/// Asks over HTTPS; plain HTTP is refused.
#[derive(Debug)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// Seconds, where the server asks for them.
    pub retry_after: Option<Duration>,
    /// `Null` where there was no body.
    pub body: Value,
}

/// What goes out.
#[derive(Clone, Copy)]
pub(super) enum Body<'b> {
    Nothing,
    Form(&'b [(&'b str, &'b str)]),
    Json(&'b Value),
}

impl Http {
    pub fn new(tls: &Arc<rustls::ClientConfig>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false); // the TLS layer above it refuses http
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(PATIENCE / 2));
        let mut tls = (**tls).clone();
        tls.alpn_protocols.clear(); // the builder wants to fill them in
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        Self { client: Client::builder(TokioExecutor::new()).build(https) }
    }

    /// One request. No part of it or of the answer is ever logged: either may hold a secret.
    pub async fn ask(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&SecretString>,
        body: Body<'_>,
    ) -> Result<Answer, SetupError> {
        let host = url.split('/').nth(2).unwrap_or(url).to_owned();
        let broken = |cause: String| SetupError::Unreachable { host: host.clone(), cause };
        let request =
            request(method, url, bearer, body).map_err(|error| broken(error.to_string()))?;
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| broken(innermost(&error)))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_BODY).collect().await;
            let body = body.map_err(|error| broken(innermost(&*error)))?.to_bytes();
            let retry_after = head.headers.get(header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
            let status = head.status;
            let body = match body.is_empty() {
                true => Value::Null,
                false => serde_json::from_slice(&body).map_err(|_| SetupError::NotJson {
                    host: host.clone(),
                    status: status.as_u16(),
                })?,
            };
            Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), body })
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .unwrap_or_else(|_| Err(broken(format!("no answer within {} s", PATIENCE.as_secs()))))
    }
}

fn request(
    method: Method,
    url: &str,
    bearer: Option<&SecretString>,
    body: Body<'_>,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(url)
        .header(header::USER_AGENT, concat!("o365-relay/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json");
    if let Some(bearer) = bearer {
        let mut value =
            header::HeaderValue::try_from(format!("Bearer {}", bearer.expose_secret()))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    match body {
        Body::Nothing => request.body(Full::default()),
        Body::Form(pairs) => {
            let mut form = oauth2::url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(pairs);
            request
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::from(form.finish()))
        }
        Body::Json(value) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(value.to_string())),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// For one request, from connect to the last octet.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_BODY: usize = 1024 * 1024;
