//! The control endpoint: faults and arrivals over plain HTTP, for tests in any language.
//!
//! | Request | Does |
//! |---|---|
//! | `GET /faults` | what is set, and how often each fault has struck |
//! | `PUT /faults/NAME` | sets one; the body is what would follow its name, such as `5s*3` |
//! | `DELETE /faults/NAME`, `DELETE /faults` | takes one or all back |
//! | `POST /exchange` | an admin runs the script in the body; what it shows, or the line that fails |
//! | `GET /directory` | what was registered through Graph, and what Exchange knows of it |
//! | `GET /arrivals` | how many messages were taken, and the last hundred without mail data |

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{Arrival, Fault, FaultKind, accept, tenant::Tenant};
use crate::drain::Drain;

/// Serves `listener` until the drain begins.
pub(super) async fn serve(listener: TcpListener, tenant: Arc<Tenant>, drain: Drain) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    accept(&listener, &drain, |socket, peer| {
        let place = Arc::clone(&places).try_acquire_owned();
        let tenant = Arc::clone(&tenant);
        async move {
            // Over the limit the connection is closed at once.
            if place.is_ok() {
                connection(socket, peer, tenant).await;
            }
        }
    })
    .await;
}

async fn connection(socket: TcpStream, peer: SocketAddr, tenant: Arc<Tenant>) {
    let service = service_fn(|request| {
        let tenant = Arc::clone(&tenant);
        async move { Ok::<_, Infallible>(answer(request, &tenant).await.into_response()) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    match timeout(PATIENCE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%peer, %error, "sandbox control: connection ended early"),
        Err(_) => tracing::debug!(%peer, "sandbox control: a request took too long"),
    }
}

/// What is answered.
enum Answer {
    Json(Value),
    Done,
    NotAllowed(&'static str),
    Fault(StatusCode, String),
}

async fn answer(request: Request<Incoming>, tenant: &Tenant) -> Answer {
    if request.uri().query().is_some() {
        return Answer::Fault(StatusCode::BAD_REQUEST, "a query is not understood here".into());
    }
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    match path.strip_prefix("/faults/") {
        Some(name) => one_fault(&method, name, request, tenant).await,
        None => match (path.as_str(), &method) {
            ("/faults", &Method::GET) => Answer::Json(json!({
                "seed": tenant.config.fault_seed,
                "faults": tenant.faults.states(),
            })),
            ("/faults", &Method::DELETE) => {
                tenant.faults.clear_all();
                Answer::Done
            }
            ("/faults", _) => Answer::NotAllowed("GET, DELETE"),
            ("/arrivals", &Method::GET) => Answer::Json(arrivals(tenant)),
            ("/arrivals", _) => Answer::NotAllowed("GET"),
            ("/exchange", &Method::POST) => exchange(request, tenant).await,
            ("/exchange", _) => Answer::NotAllowed("POST"),
            ("/directory", &Method::GET) => Answer::Json(json!({
                "graph": tenant.registry.contents(),
                "exchange": tenant.exchange.rights(),
            })),
            ("/directory", _) => Answer::NotAllowed("GET"),
            _ => Answer::Fault(
                StatusCode::NOT_FOUND,
                "there are /faults, /faults/NAME, /arrivals, /directory and /exchange".into(),
            ),
        },
    }
}

fn arrivals(tenant: &Tenant) -> Value {
    let last = tenant.arrivals.last();
    let last: Vec<&Arrival> = last.iter().map(Arc::as_ref).collect();
    json!({ "count": tenant.arrivals.count(), "last": last })
}

/// The body, or why there is none.
async fn body_of(request: Request<Incoming>, most: usize) -> Result<String, Answer> {
    let Ok(body) = Limited::new(request.into_body(), most).collect().await else {
        let text = format!("the body is longer than {most} octets, or ended early");
        return Err(Answer::Fault(StatusCode::PAYLOAD_TOO_LARGE, text));
    };
    String::from_utf8(body.to_bytes().to_vec())
        .map_err(|_| Answer::Fault(StatusCode::BAD_REQUEST, "the body is not UTF-8".into()))
}

async fn exchange(request: Request<Incoming>, tenant: &Tenant) -> Answer {
    let script = match body_of(request, MAX_SCRIPT).await {
        Ok(script) => script,
        Err(answer) => return answer,
    };
    match tenant.run_exchange_script(&script) {
        Ok(output) => Answer::Json(json!({ "output": output })),
        Err(fault) => Answer::Fault(StatusCode::BAD_REQUEST, fault.to_string()),
    }
}

async fn one_fault(
    method: &Method,
    name: &str,
    request: Request<Incoming>,
    tenant: &Tenant,
) -> Answer {
    if FaultKind::named(name).is_none() {
        let text = "no such fault; o365-relay sandbox --list-faults names them".into();
        return Answer::Fault(StatusCode::NOT_FOUND, text);
    }
    match *method {
        Method::PUT => {
            let text = match body_of(request, MAX_BODY).await {
                Ok(text) => text,
                Err(answer) => return answer,
            };
            match Fault::named(name, text.trim()) {
                Ok(fault) => {
                    let text = fault.to_string();
                    tenant.faults.set(fault);
                    Answer::Json(json!({ "set": text }))
                }
                Err(error) => Answer::Fault(StatusCode::BAD_REQUEST, error.to_string()),
            }
        }
        Method::DELETE => {
            tenant.faults.clear(name);
            Answer::Done
        }
        _ => Answer::NotAllowed("PUT, DELETE"),
    }
}

impl Answer {
    fn into_response(self) -> Response<Full<Bytes>> {
        let (status, body) = match self {
            Self::Json(value) => (StatusCode::OK, Some(value)),
            Self::Done => (StatusCode::NO_CONTENT, None),
            Self::NotAllowed(methods) => {
                let error = json!({ "error": format!("only {methods}") });
                let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, Some(&error));
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
                return response;
            }
            Self::Fault(status, error) => (status, Some(json!({ "error": error }))),
        };
        json_response(status, body.as_ref())
    }
}

fn json_response(status: StatusCode, body: Option<&Value>) -> Response<Full<Bytes>> {
    let text = body.map(|body| format!("{body:#}\n")).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    if body.is_some() {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
    }
    response
}

const MAX_CONNECTIONS: usize = 64;
const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 4 * 1024;
const MAX_SCRIPT: usize = 64 * 1024;
/// For a whole request with its answer.
const PATIENCE: Duration = Duration::from_secs(10);
