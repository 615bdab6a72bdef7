//! The HTTP server: four paths, nothing to configure, nothing secret.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};

use super::status::Watched;
use crate::{drain::Drain, telemetry::metrics::Page};

/// A client must have sent its request within this time.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// Longest request header section, in octets.
const MAX_HEADER: usize = 16 * 1024;

/// How long requests under way may take once the drain has begun.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// After a failed accept (out of descriptors, say) the loop must not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(200);

/// Why the address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not listen on {address} for http: {source}; \
     set http.address to another address, or to \"off\""
)]
pub struct HttpError {
    address: SocketAddr,
    source: io::Error,
}

/// A bound HTTP server.
#[derive(Debug)]
pub struct Server {
    socket: TcpListener,
}

impl Server {
    /// Binds.
    ///
    /// # Errors
    /// [`HttpError`] names the address and the reason.
    pub async fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let socket = TcpListener::bind(address).await;
        socket.map(|socket| Self { socket }).map_err(|source| HttpError { address, source })
    }

    /// The address in use.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Answers until the drain begins.
    pub fn serve(self, watched: watch::Receiver<Watched>, drain: &Drain) {
        let drained = drain.clone();
        drain.spawn(drain.vital("http", async move {
            let graceful = GracefulShutdown::new();
            loop {
                tokio::select! {
                    accepted = self.socket.accept() => match accepted {
                        Ok((stream, _)) => answer(stream, watched.clone(), &graceful),
                        Err(error) => {
                            tracing::warn!(%error, "accept for http failed, trying again");
                            sleep(ACCEPT_BACK_OFF).await;
                        }
                    },
                    () = drained.signaled() => break,
                }
            }
            let _ = timeout(DRAIN_PATIENCE, graceful.shutdown()).await;
        }));
    }
}

fn answer(stream: TcpStream, watched: watch::Receiver<Watched>, graceful: &GracefulShutdown) {
    let service = service_fn(move |request| {
        let watched = watched.borrow().clone();
        async move { Ok::<_, Infallible>(route(&request, &watched).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "http connection broken");
        }
    });
}

async fn route(request: &Request<Incoming>, watched: &Watched) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => {
            let readiness = watched.readiness();
            let status = match readiness.ready {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            json(status, &readiness)
        }
        "/metrics" => match watched.metrics().await {
            Ok(page) => metrics(&page, request.headers().get(ACCEPT)),
            Err(error) => {
                tracing::error!(%error, "metrics not readable");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the queue cannot be read; see the log\n")
            }
        },
        "/status" => match watched.status().await {
            Ok(status) => json(StatusCode::OK, &status),
            Err(error) => {
                tracing::error!(%error, "status not readable");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the queue cannot be read; see the log\n")
            }
        },
        _ => text(StatusCode::NOT_FOUND, "try /healthz, /readyz, /metrics or /status\n"),
    }
}

/// In the format that is asked for; without a wish in the one that all programs read.
fn metrics(page: &Page, accept: Option<&HeaderValue>) -> Response<Full<Bytes>> {
    let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match accept.contains("application/openmetrics-text") {
        true => respond(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            page.open_metrics(),
        ),
        false => respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page.plain()),
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            respond(status, "application/json", body)
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "status cannot be written as JSON\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
