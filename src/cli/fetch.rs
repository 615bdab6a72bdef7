//! Asks the running relay's HTTP server.

use std::{net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{StatusCode, body::Bytes};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::exit::Failure;
use crate::config::{self, Sources};

const PATIENCE: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Where the relay of this configuration answers HTTP, unless `address` says so.
pub(super) fn address(
    address: Option<SocketAddr>,
    sources: &Sources,
) -> Result<SocketAddr, Failure> {
    if let Some(address) = address {
        return Ok(address);
    }
    let found = config::load(sources)?.http.address;
    found.ok_or_else(|| {
        Failure::configuration(
            "http.address is \"off\", so the running relay cannot be asked; set it, such as to \
             \"127.0.0.1:9587\", and start the relay again",
        )
    })
}

/// GET `path`; the status and the body.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), Failure> {
    ask(address, path).await.map_err(|cause| {
        Failure::unavailable(format!(
            "no answer from http://{address}{path}: {cause}; is the relay running (`o365-relay run`), \
             and is this its http.address? (--address asks at another)"
        ))
    })
}

/// The same, with the bare cause where there is no answer.
pub(super) async fn ask(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), String> {
    let uri = format!("http://{address}{path}").parse().map_err(|error| format!("{error}"))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let fetch = async {
        let response = client.get(uri).await.map_err(|error| innermost(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    tokio::time::timeout(PATIENCE, fetch)
        .await
        .unwrap_or_else(|_| Err("nothing within 5 s".to_owned()))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
