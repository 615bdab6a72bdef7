//! Against a TLS server on the loopback interface, in real time.

use std::{
    collections::VecDeque,
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, header::HeaderMap, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    office365::entra::Ids,
    tls,
    token::{SecretSource, Stage, answer::USUAL_LIFETIME},
};

const TOKEN: &str = r#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,
    "refresh_in":1799,"access_token":"eyJ0.x.y"}"#;
const EXPIRED: &str = r#"{"error":"invalid_client","error_codes":[7000222],
    "error_description":"AADSTS7000222: The keys of s3cr+t&s3cr+t  are expired.\r\nTrace ID: t-1\r\nCorrelation ID: c-1",
    "timestamp":"2026-01-05 10:11:12Z","trace_id":"t-1","correlation_id":"c-1",
    "error_uri":"https://login.example/error?code=7000222"}"#;

/// One answer of the fake endpoint.
#[derive(Clone)]
struct Reply {
    status: u16,
    content_type: &'static str,
    retry_after: Option<String>,
    body: String,
}

fn json(status: u16, body: &str) -> Reply {
    Reply {
        status,
        content_type: "application/json; charset=utf-8",
        retry_after: None,
        body: body.into(),
    }
}

fn html(status: u16, body: &str) -> Reply {
    Reply { content_type: "text/html", ..json(status, body) }
}

fn patience(reply: Reply, retry_after: &str) -> Reply {
    Reply { retry_after: Some(retry_after.into()), ..reply }
}

/// A token endpoint; without a reply left it stays silent.
struct Server {
    port: u16,
    certificate: CertificateDer<'static>,
    seen: Arc<Mutex<Vec<(String, HeaderMap, String)>>>,
}

impl Server {
    async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = key.cert.der().clone();
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, certificate, seen: Arc::default() };
        let replies = Arc::new(Mutex::new(replies.into_iter().collect()));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(serve(listener, acceptor, replies, Arc::clone(&server.seen)));
        server
    }

    fn config(&self, secret: SecretSource) -> Config {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Config {
            account: String::new(),
            token_url: format!("https://localhost:{}/contoso.example/oauth2/v2.0/token", self.port),
            tenant_id: "contoso.example".into(),
            client_id: "58d827e0".into(),
            scope: "https://outlook.office365.com/.default".into(),
            credential: Credential::ClientSecret(vec![secret]),
            client_secret_expires: None,
            graph: None,
            request_timeout: Duration::from_secs(20),
            tls: tls::client_config_with_roots(roots),
        }
    }

    fn endpoint(&self) -> Endpoint {
        let secret = SecretSource::Value("s3cr+t&s3cr+t".into());
        Endpoint::new(self.config(secret), Clock::system())
    }

    fn bodies(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, _, body)| body.clone()).collect()
    }
}

type Replies = Arc<Mutex<VecDeque<Reply>>>;
type Seen = Arc<Mutex<Vec<(String, HeaderMap, String)>>>;

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, replies: Replies, seen: Seen) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (acceptor, replies, seen) = (acceptor.clone(), replies.clone(), seen.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let service = service_fn(|request| answer(request, replies.clone(), seen.clone()));
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    replies: Replies,
    seen: Seen,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    seen.lock().unwrap().push((format!("{} {}", head.method, head.uri), head.headers, body));
    let reply = replies.lock().unwrap().pop_front();
    let Some(reply) = reply else { return std::future::pending().await };
    let mut response = Response::builder().status(reply.status);
    response = response.header("content-type", reply.content_type);
    if let Some(retry_after) = reply.retry_after {
        response = response.header("retry-after", retry_after);
    }
    Ok(response.body(Full::from(reply.body)).unwrap())
}

/// The error that one reply becomes.
async fn error_of(reply: Reply) -> TokenError {
    let server = Server::start([reply]).await;
    let error = server.endpoint().fetch().await.unwrap_err();
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("s3cr") && !text.contains("eyJ0"), "{text}");
    }
    error
}

#[tokio::test]
async fn the_request_is_a_client_credentials_grant_with_an_escaped_secret() {
    let server = Server::start([json(200, TOKEN)]).await;
    let fetched = server.endpoint().fetch().await.unwrap();
    assert_eq!(fetched.token.expose_secret(), "eyJ0.x.y");
    assert_eq!(fetched.lifetime, Duration::from_secs(3599));
    assert_eq!(fetched.refresh_in, Some(Duration::from_secs(1799)));
    assert!(!format!("{fetched:?}").contains("eyJ0"));

    let (line, headers, body) = server.seen.lock().unwrap().remove(0);
    assert_eq!(line, "POST /contoso.example/oauth2/v2.0/token");
    let mut form: Vec<&str> = body.split('&').collect();
    form.sort_unstable();
    assert_eq!(
        form,
        [
            "client_id=58d827e0",
            "client_secret=s3cr%2Bt%26s3cr%2Bt",
            "grant_type=client_credentials",
            "scope=https%3A%2F%2Foutlook.office365.com%2F.default",
        ]
    );
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(headers["accept"], "application/json");
    assert_eq!(headers["x-ms-lib-capability"], "retry-after, h429");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("o365-relay/"));
    assert_eq!(headers["client-request-id"].len(), 36);
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_lifetime_may_be_a_string_and_may_lack() {
    let string = r#"{"token_type":"Bearer","expires_in":"7200","access_token":"eyJ0","new":null}"#;
    let lacking = r#"{"token_type":"Bearer","access_token":"eyJ0"}"#;
    let server = Server::start([json(200, string), json(200, lacking)]).await;
    let endpoint = server.endpoint();
    assert_eq!(endpoint.fetch().await.unwrap().lifetime, Duration::from_secs(7200));
    assert_eq!(endpoint.fetch().await.unwrap().lifetime, USUAL_LIFETIME);
}

#[tokio::test]
async fn an_error_of_entra_keeps_its_ids_and_its_words() {
    let error = error_of(json(401, EXPIRED)).await;
    let refusal = error.refusal().unwrap();
    assert_eq!((refusal.error.as_str(), refusal.status), ("invalid_client", 401));
    assert_eq!(refusal.codes, [7_000_222]);
    assert_eq!(refusal.description, "AADSTS7000222: The keys of *** are expired.");
    assert_eq!(refusal.trace_id.as_deref(), Some("t-1"));
    assert_eq!(refusal.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(refusal.timestamp.as_deref(), Some("2026-01-05 10:11:12Z"));
    assert!(!error.is_transient());
    let ids = Ids { tenant: "contoso.example", client_id: "58d827e0", app: None };
    assert!(error.advice(&ids).contains("24 months"));
}

#[tokio::test]
async fn a_429_says_how_long_to_wait() {
    let body = r#"{"error":"temporarily_unavailable","error_codes":[90055]}"#;
    let error = error_of(patience(json(429, body), "17")).await;
    assert!(matches!(error, TokenError::Throttled { status: 429, .. }), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
    assert_eq!(error.refusal().unwrap().codes, [90_055]);
    assert!(matches!(
        error_of(json(429, "")).await,
        TokenError::Throttled { retry_after: None, .. }
    ));
    let page = error_of(patience(html(503, "<html>down</html>"), "120")).await;
    assert_eq!(page.retry_after(), Some(Duration::from_secs(120)));
}

#[test]
fn retry_after_is_a_number_or_a_date_and_at_most_an_hour() {
    let now = UnixMillis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT
    let parsed = |value| parse_retry_after(value, now).map(|wait| wait.as_secs());
    assert_eq!(parsed("17"), Some(17));
    assert_eq!(parsed(" 99999 "), Some(3600));
    assert_eq!(parsed("Sun, 06 Nov 1994 08:51:37 GMT"), Some(120));
    assert_eq!(parsed("Mon, 07 Nov 1994 08:51:37 GMT"), Some(3600));
    assert_eq!(parsed("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
    assert_eq!(parsed("-1"), None);
    assert_eq!(parsed("soon"), None);
}

#[tokio::test]
async fn pages_are_shown_by_their_first_characters() {
    let page = format!("<html>\r\n<title>down</title>{}", "x".repeat(500));
    match error_of(html(503, &page)).await {
        TokenError::NotJson { status: 503, body } => {
            assert!(body.starts_with("<html> <title>down</title>xx"));
            assert_eq!(body.len(), 123);
        }
        other => panic!("{other:?}"),
    }
    let portal = error_of(html(200, "<h1>Please log in</h1> s3cr%2Bt%26s3cr%2Bt")).await;
    assert_eq!(
        portal.to_string(),
        "the answer is no token and no error of Entra ID: HTTP 200, a body that starts with \
         \"<h1>Please log in</h1> ***\""
    );
    assert!(portal.is_transient());
    let empty = error_of(html(500, "")).await;
    assert!(empty.to_string().ends_with("HTTP 500, an empty body") && empty.is_transient());
    assert!(matches!(error_of(html(302, "")).await, TokenError::NotJson { status: 302, .. }));
}

#[tokio::test]
async fn json_that_is_no_good_is_never_shown() {
    for (reply, text) in [
        (html(200, TOKEN), "HTTP 200, its Content-Type is not application/json"),
        (json(200, &TOKEN[..90]), "HTTP 200, the JSON is broken"),
        (
            json(200, r#"{"access_token":"eyJ0"}"#),
            "HTTP 200, a member that RFC 6749 requires is missing",
        ),
        (
            json(200, r#"{"access_token":"eyJ0","token_type":"Bearer","expires_in":"eyJ0"}"#),
            "HTTP 200, the member expires_in is not as it should be",
        ),
        (
            json(200, r#"{"access_token":"eyJ0\u0001","token_type":"Bearer"}"#),
            "HTTP 200, the access token is empty or holds odd characters",
        ),
        (
            json(200, r#"{"access_token":"eyJ0","token_type":"Bearer","expires_in":5}"#),
            "HTTP 200, the access token expires after 5 s",
        ),
        (
            json(500, r#"{"message":"eyJ0"}"#),
            "HTTP 500, a member that RFC 6749 requires is missing",
        ),
    ] {
        let error = error_of(reply).await;
        assert!(error.to_string().ends_with(text), "{error}");
    }
}

#[tokio::test]
async fn a_huge_body_is_cut_off() {
    let error = error_of(json(200, &"x".repeat(200_000))).await;
    assert!(error.to_string().ends_with("the body is longer than 65536 octets"), "{error}");
}

#[tokio::test]
async fn a_silent_server_meets_the_time_limit() {
    let server = Server::start([]).await;
    let request_timeout = Duration::from_millis(300);
    let config = Config { request_timeout, ..server.config(SecretSource::Value("s3cr+t&".into())) };
    let error = Endpoint::new(config, Clock::system()).fetch().await.unwrap_err();
    let (host, rest) =
        error.to_string().split_once(' ').map(|(h, r)| (h.to_owned(), r.to_owned())).unwrap();
    assert_eq!(rest, "did not answer within 0.3 s");
    assert!(
        host.strip_prefix("localhost:").is_some_and(|port| port.parse::<u16>().is_ok()),
        "{host}"
    );
    assert!(error.is_transient());
}

fn stage_and_cause(error: &TokenError) -> (Stage, &str) {
    match error {
        TokenError::Transport { host, stage, cause } if !host.is_empty() => (*stage, cause),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_told_with_stage_and_cause() {
    let server = Server::start([]).await;
    let config = server.config(SecretSource::Value("s3cr+t&".into()));
    let failure =
        async |config: Config| Endpoint::new(config, Clock::system()).fetch().await.unwrap_err();

    let tls = tls::client_config_with_roots(RootCertStore::empty());
    let unknown = failure(Config { tls, ..config.clone() }).await;
    assert_eq!(stage_and_cause(&unknown), (Stage::Tls, "invalid peer certificate: UnknownIssuer"));

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let token_url = format!("https://{closed}/token");
    let refused = failure(Config { token_url, ..config.clone() }).await;
    assert_eq!(stage_and_cause(&refused), (Stage::Connect, "Connection refused (os error 111)"));

    for token_url in ["http://localhost/token", "localhost/token", ""] {
        let error = failure(Config { token_url: token_url.into(), ..config.clone() }).await;
        assert!(matches!(error, TokenError::Address { .. }) && !error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_fault_of_transport() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let token_url = format!("https://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket);
        }
    });
    let server = Server::start([]).await;
    let config = Config { token_url, ..server.config(SecretSource::Value("s3cr+t&".into())) };
    let error = Endpoint::new(config, Clock::system()).fetch().await.unwrap_err();
    let (stage, _) = stage_and_cause(&error);
    assert!(stage != Stage::Dns && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_secret_file_is_read_for_each_request() {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("client_secret");
    let server = Server::start([json(200, TOKEN), json(200, TOKEN)]).await;
    let endpoint = Endpoint::new(server.config(SecretSource::File(path.clone())), Clock::system());

    let missing = endpoint.fetch().await.unwrap_err();
    assert!(matches!(missing, TokenError::Secret { .. }), "{missing}");
    std::fs::write(&path, "first+\n").unwrap();
    endpoint.fetch().await.unwrap();
    std::fs::write(&path, "second\r\n").unwrap();
    endpoint.fetch().await.unwrap();

    let bodies = server.bodies();
    assert_eq!(bodies.len(), 2);
    for (body, secret) in bodies.iter().zip(["first%2B", "second"]) {
        assert!(body.split('&').any(|pair| pair == format!("client_secret={secret}")), "{body}");
    }
}

#[tokio::test]
async fn the_whole_task_runs_over_a_real_socket() {
    let server = Server::start([json(400, EXPIRED)]).await;
    let drain = crate::drain::Drain::new();
    let config = server.config(SecretSource::Value("s3cr+t&s3cr+t".into()));
    let mut handle = crate::token::spawn(config, Clock::system(), &drain);
    handle.changed().await;
    let failed = handle.snapshot().last_error.unwrap();
    assert!(failed.advice.contains("App registrations > 58d827e0"), "{}", failed.advice);
    drain.finish(Duration::from_secs(5)).await.unwrap();

    let server = Server::start([json(200, TOKEN), json(200, TOKEN)]).await;
    let config = server.config(SecretSource::Value("s3cr+t&s3cr+t".into()));
    let token = crate::token::fetch(config.clone(), Clock::system()).await.unwrap();
    assert_eq!(token.expires_at().since(token.obtained_at()).as_secs() / 10, 359);
    let drain = crate::drain::Drain::new();
    let handle = crate::token::spawn(config, Clock::system(), &drain);
    assert_eq!(handle.valid().await.secret(), "eyJ0.x.y");
    drain.finish(Duration::from_secs(5)).await.unwrap();
}
