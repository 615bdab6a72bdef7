//! A client of the sandbox that knows nothing of its insides: token requests and SMTP over real
//! sockets. Each test file that includes it uses a part.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "a test file that includes this uses a part")]

use std::{io, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use o365_relay::{
    sandbox::{Arrival, Config, Event, Sandbox},
    tls::client_config_with_roots,
};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::broadcast::Receiver,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub const SCOPE: &str = "https://outlook.office365.com/.default";
pub const MAIL: &str = "From: Anna <relay@sandbox.example>\r\nSubject: hello\r\n\
                    Message-ID: <1@client.example>\r\n\r\nText\r\n";

pub async fn start(config: Config) -> Sandbox {
    Sandbox::start(config).await.expect("the sandbox starts")
}

pub fn connector(sandbox: &Sandbox) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(sandbox.ca_certificate()).expect("a usable CA");
    TlsConnector::from(client_config_with_roots(roots))
}

pub async fn tls(sandbox: &Sandbox, socket: TcpStream) -> TlsStream<TcpStream> {
    try_tls(sandbox, socket).await.expect("a TLS handshake")
}

pub async fn try_tls(sandbox: &Sandbox, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a host name");
    connector(sandbox).connect(name, socket).await
}

// --- the token endpoint

/// A token request; what a test changes makes it wrong.
pub struct TokenRequest {
    pub method: &'static str,
    pub tenant: String,
    pub content_type: &'static str,
    pub headers: String,
    pub form: Vec<(String, String)>,
}

impl TokenRequest {
    pub fn new(config: &Config) -> Self {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", config.client_id.as_str()),
            ("client_secret", config.client_secret.expose_secret()),
            ("scope", SCOPE),
        ];
        Self {
            method: "POST",
            tenant: config.tenant_id.clone(),
            content_type: "application/x-www-form-urlencoded",
            headers: String::new(),
            form: form.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.form.retain(|(known, _)| known != name);
        self.form.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.form.retain(|(known, _)| known != name);
        self
    }

    pub fn at(mut self, tenant: &str) -> Self {
        tenant.clone_into(&mut self.tenant);
        self
    }

    /// The status and the JSON of the answer.
    pub async fn send(self, sandbox: &Sandbox) -> (u16, serde_json::Value) {
        let answer = self.exchange(sandbox).await.expect("a TLS handshake");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        assert!(head.contains("content-type: application/json; charset=utf-8"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        (head[9..12].parse().unwrap(), serde_json::from_str(body).expect("JSON"))
    }

    /// The answer with its head; empty if the connection was closed without one.
    pub async fn exchange(self, sandbox: &Sandbox) -> io::Result<String> {
        let encode = |text: &str| {
            text.bytes().fold(String::new(), |encoded, octet| format!("{encoded}%{octet:02X}"))
        };
        let pairs: Vec<String> =
            self.form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let body = pairs.join("&");
        let request = format!(
            "{} /{}/oauth2/v2.0/token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: {}\r\nContent-Length: {}\r\n{}\r\n{body}",
            self.method,
            self.tenant,
            self.content_type,
            body.len(),
            self.headers
        );
        let port = sandbox.login_url().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut stream = try_tls(sandbox, socket).await?;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            // Nobody says goodbye after an answer that never came.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(String::from_utf8(answer).unwrap()),
        }
    }
}

pub async fn token(sandbox: &Sandbox) -> String {
    let (status, answer) = TokenRequest::new(sandbox.config()).send(sandbox).await;
    assert_eq!(status, 200, "{answer}");
    answer["access_token"].as_str().expect("an access token").to_owned()
}

pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

// --- an admin: device codes and Graph

/// One request to the login host, which serves Graph as well: status and JSON.
pub async fn ask(
    sandbox: &Sandbox,
    request: &str,
    headers: &str,
    body: &str,
) -> (u16, serde_json::Value) {
    let port = sandbox.login_url().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut stream = tls(sandbox, socket).await;
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

/// A form to an OAuth endpoint of the tenant.
pub async fn oauth(sandbox: &Sandbox, endpoint: &str, form: &str) -> (u16, serde_json::Value) {
    let request = format!("POST /sandbox.example/oauth2/v2.0/{endpoint}");
    ask(sandbox, &request, "Content-Type: application/x-www-form-urlencoded\r\n", form).await
}

pub const GRAPH_TOOLS: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";

/// A new device code for these permissions of Graph.
pub async fn device_code(sandbox: &Sandbox, permissions: &[&str]) -> String {
    let scopes: Vec<_> = permissions
        .iter()
        .map(|one| format!("https%3A%2F%2Fgraph.microsoft.com%2F{one}"))
        .collect();
    let form = format!("client_id={GRAPH_TOOLS}&scope={}", scopes.join("+"));
    let (status, answer) = oauth(sandbox, "devicecode", &form).await;
    assert_eq!(status, 200, "{answer}");
    answer["device_code"].as_str().unwrap().to_owned()
}

/// Asks once whether the admin has signed in.
pub async fn poll(sandbox: &Sandbox, code: &str) -> (u16, serde_json::Value) {
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
    let form = format!("grant_type={grant}&client_id={GRAPH_TOOLS}&device_code={code}");
    oauth(sandbox, "token", &form).await
}

/// An admin's token with these permissions; the sandbox must not want to be waited for.
pub async fn admin(sandbox: &Sandbox, permissions: &[&str]) -> String {
    let code = device_code(sandbox, permissions).await;
    assert_eq!(poll(sandbox, &code).await.1["error"], "authorization_pending");
    let (status, answer) = poll(sandbox, &code).await;
    assert_eq!(status, 200, "{answer}");
    answer["access_token"].as_str().unwrap().to_owned()
}

/// One request to Graph.
pub async fn graph(
    sandbox: &Sandbox,
    token: &str,
    request: &str,
    body: &str,
) -> (u16, serde_json::Value) {
    let headers = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    ask(sandbox, &request.replacen(' ', " /v1.0/", 1), &headers, body).await
}

// --- the control endpoint

/// What the control endpoint answers: status and JSON (null if there is no body).
pub async fn control(sandbox: &Sandbox, request: &str, body: &str) -> (u16, serde_json::Value) {
    let length = body.len();
    let text =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut stream = TcpStream::connect(sandbox.control_address().unwrap()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

// --- the endpoint for managed identities

/// The answer to a GET with these header lines; empty if the connection was closed without one.
pub async fn identity_request(sandbox: &Sandbox, path: &str, headers: &str) -> String {
    let (_, url) = sandbox.identity_environment().remove(0);
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    let mut answer = String::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _ = stream.read_to_string(&mut answer).await; // a reset is a close as well
    }
    answer
}

// --- the submission service

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub struct Smtp<S = Box<dyn Stream>> {
    pub stream: S,
    pub unread: Vec<u8>,
}

impl<S: Stream> Smtp<S> {
    pub async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).await.expect("writing works");
        self.stream.flush().await.expect("writing works");
    }

    /// The next reply, lines joined by `/`; empty once the server has closed the connection.
    pub async fn reply(&mut self) -> String {
        let mut lines: Vec<String> = Vec::new();
        loop {
            while let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8(self.unread.drain(..end + 2).collect()).unwrap();
                let last = line.as_bytes()[3] == b' ';
                lines.push(line.trim_end_matches("\r\n").to_owned());
                if last {
                    return lines.join("/");
                }
            }
            let reading = self.stream.read_buf(&mut self.unread);
            match tokio::time::timeout(Duration::from_secs(5), reading).await.expect("a reply") {
                Ok(0) | Err(_) => return String::new(),
                Ok(_) => {}
            }
        }
    }

    pub async fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n")).await;
        self.reply().await
    }

    #[track_caller]
    pub fn expect<'a>(
        &'a mut self,
        line: &'a str,
        start: &'a str,
    ) -> impl Future<Output = String> + 'a {
        let at = std::panic::Location::caller();
        async move {
            let reply = self.say(line).await;
            let shown: String = line.chars().take(60).collect();
            assert!(reply.starts_with(start), "{at}: {shown} -> {reply}, not {start}");
            reply
        }
    }
}

/// A connection that has read the greeting.
pub async fn plain(sandbox: &Sandbox) -> Smtp<TcpStream> {
    let stream = TcpStream::connect(sandbox.smtp_address()).await.unwrap();
    let mut smtp = Smtp { stream, unread: Vec::new() };
    assert!(smtp.reply().await.starts_with("220 "));
    smtp
}

/// A connection after STARTTLS and EHLO.
pub async fn secured(sandbox: &Sandbox) -> Smtp {
    let mut smtp = plain(sandbox).await;
    smtp.expect("EHLO client.example", "250-").await;
    smtp.expect("STARTTLS", "220 2.0.0 ").await;
    let stream: Box<dyn Stream> = Box::new(tls(sandbox, smtp.stream).await);
    let mut smtp = Smtp { stream, unread: Vec::new() };
    smtp.expect("EHLO client.example", "250-").await;
    smtp
}

pub fn xoauth2(mailbox: &str, token: &str) -> String {
    STANDARD.encode(format!("user={mailbox}\u{1}auth=Bearer {token}\u{1}\u{1}"))
}

/// A connection that has logged in.
pub async fn logged_in(sandbox: &Sandbox, token: &str) -> Smtp {
    let mut smtp = secured(sandbox).await;
    assert_eq!(smtp.say("AUTH XOAUTH2").await, "334 ");
    smtp.expect(&xoauth2("relay@sandbox.example", token), "235 2.7.0 ").await;
    smtp
}

pub async fn ready(sandbox: &Sandbox) -> Smtp {
    logged_in(sandbox, &token(sandbox).await).await
}

/// Sends one message and returns the final reply. `wire` is what follows 354, dots and all.
pub async fn submit(smtp: &mut Smtp, wire: impl AsRef<[u8]>) -> String {
    smtp.expect("MAIL FROM:<relay@sandbox.example>", "250 2.1.0 Sender OK").await;
    smtp.expect("RCPT TO:<a@b.example>", "250 2.1.5 Recipient OK").await;
    smtp.expect("DATA", "354 Start mail input; end with <CRLF>.<CRLF>").await;
    smtp.send(wire).await;
    smtp.reply().await
}

/// The arrival among the events so far.
pub fn arrival(events: &mut Receiver<Event>) -> Option<Arc<Arrival>> {
    while let Ok(event) = events.try_recv() {
        if let Event::Arrived { arrival, .. } = event {
            return Some(arrival);
        }
    }
    None
}
