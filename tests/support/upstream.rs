//! A fake smarthost that follows scripts to the letter, one for each connection, and knows
//! nothing of SMTP. It runs on a thread and a clock of its own, so that a test may stop time on
//! the client's side.
//!
//! | Line of a script | Meaning |
//! |---|---|
//! | `S: text` | sends the line; lines that follow each other leave in one write |
//! | `S| text` | the same without a line end |
//! | `C: text` | the client must send exactly this line; a final `*` stands for any rest |
//! | `TLS` | a TLS handshake that succeeds |
//! | `TLS FAILS` | one that must not |
//! | `DATA` | mail data up to and with the final dot, kept for the test |
//! | `READ n` | so many octets, not looked at |
//! | `SILENCE` | tells the test; from here on nothing is said or read until the client is gone |
//! | `CLOSE` | closes the connection |
//!
//! A script that does not end in `CLOSE` ends with the client hanging up; what it sends before
//! that is a fault.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// The client is expected to act within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running fake smarthost.
pub struct Upstream {
    pub port: u16,
    authority: CertificateDer<'static>,
    silences: mpsc::UnboundedReceiver<()>,
    /// Ends a silence, for a client that would never hang up.
    over: Arc<Notify>,
    outcome: oneshot::Receiver<Result<(), String>>,
    mail_data: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Upstream {
    /// Serves one connection after the other, each with its script, as `localhost`.
    pub fn start<S: AsRef<str>>(scripts: &[S]) -> Self {
        Self::start_as("localhost", scripts)
    }

    /// The same with a certificate for another name.
    pub fn start_as<S: AsRef<str>>(name: &str, scripts: &[S]) -> Self {
        let scripts: Vec<Vec<Step>> = scripts.iter().map(|script| parse(script.as_ref())).collect();
        let (authority, acceptor) = certificates(name);
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (told, silences) = mpsc::unbounded_channel();
        let (report, outcome) = oneshot::channel();
        let mail_data = Arc::default();
        let over = Arc::new(Notify::new());
        let side =
            Side { acceptor, told, over: Arc::clone(&over), mail_data: Arc::clone(&mail_data) };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = runtime.expect("a runtime").block_on(side.serve(listener, &scripts));
            let _ = report.send(outcome);
        });
        Self { port, authority, silences, over, outcome, mail_data }
    }

    /// TLS settings of a client that trusts this server's authority.
    pub fn tls(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).expect("a usable authority");
        trusting(roots)
    }

    /// Waits until a script has come to `SILENCE`.
    pub async fn silence(&mut self) {
        self.silences.recv().await.expect("a script that gets as far as SILENCE");
    }

    /// Where the client left the script, for tests that want it to.
    pub async fn fault(self) -> String {
        self.outcome.await.expect("a report").expect_err("the client followed the script")
    }

    /// Waits for the end of all scripts, which the client must have followed. Returns the mail
    /// data of each `DATA`, as it came over the wire.
    pub async fn finish(self) -> Vec<Vec<u8>> {
        self.over.notify_one();
        if let Err(fault) = self.outcome.await.expect("a report") {
            panic!("{fault}");
        }
        let mut mail_data = self.mail_data.lock().expect("no panic");
        std::mem::take(&mut mail_data)
    }
}

/// TLS settings of a client with these roots.
pub fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions that ring has");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn certificates(name: &str) -> (CertificateDer<'static>, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key()).expect("an authority");
    let key = key();
    let leaf = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key that rustls takes");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions that ring has")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a usable certificate");
    (authority.der().clone(), TlsAcceptor::from(Arc::new(config)))
}

#[derive(Debug)]
enum Step {
    Send(Vec<u8>),
    Line(Vec<u8>),
    Tls,
    TlsFails,
    MailData,
    Read(usize),
    Silence,
    Close,
}

fn parse(script: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in script.lines().filter(|line| !line.is_empty()) {
        let step = match line {
            "TLS" => Step::Tls,
            "TLS FAILS" => Step::TlsFails,
            "DATA" => Step::MailData,
            "SILENCE" => Step::Silence,
            "CLOSE" => Step::Close,
            _ => {
                let (kind, text) = line.split_once(' ').expect("a step with its text");
                match kind {
                    "C:" => Step::Line(format!("{text}\r\n").into_bytes()),
                    "S:" => Step::Send(format!("{text}\r\n").into_bytes()),
                    "S|" => Step::Send(text.as_bytes().to_vec()),
                    "READ" => Step::Read(text.parse().expect("a number of octets")),
                    _ => panic!("no such step: {line}"),
                }
            }
        };
        match (steps.last_mut(), step) {
            (Some(Step::Send(before)), Step::Send(more)) => before.extend(more),
            (_, step) => steps.push(step),
        }
    }
    steps
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

struct Side {
    acceptor: TlsAcceptor,
    told: mpsc::UnboundedSender<()>,
    over: Arc<Notify>,
    mail_data: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Side {
    async fn serve(
        self,
        listener: std::net::TcpListener,
        scripts: &[Vec<Step>],
    ) -> Result<(), String> {
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
        for (at, script) in scripts.iter().enumerate() {
            let accepted = timeout(PATIENCE, listener.accept()).await;
            let (socket, _) = accepted
                .map_err(|_| format!("connection {at}: nobody came"))?
                .map_err(|error| error.to_string())?;
            let _ = socket.set_nodelay(true);
            self.follow(socket, script)
                .await
                .map_err(|fault| format!("connection {at}: {fault}"))?;
        }
        Ok(())
    }

    async fn follow(&self, socket: TcpStream, script: &[Step]) -> Result<(), String> {
        let mut stream: Box<dyn Stream> = Box::new(socket);
        for step in script {
            let fault = |error: String| format!("at {}: {error}", describe(step));
            match step {
                Step::Tls => {
                    let handshake = timeout(PATIENCE, self.acceptor.accept(stream)).await;
                    let tls = handshake
                        .map_err(|_| fault("no handshake".into()))?
                        .map_err(|error| fault(error.to_string()))?;
                    stream = Box::new(tls);
                }
                Step::TlsFails => {
                    let handshake = timeout(PATIENCE, self.acceptor.accept(stream)).await;
                    // With TLS 1.3 the server may be done before the client objects.
                    let Ok(Ok(mut tls)) = handshake else { return Ok(()) };
                    return match tls.read_u8().await {
                        Err(_) => Ok(()),
                        Ok(octet) => Err(fault(format!("the client sent {octet:?}"))),
                    };
                }
                Step::Silence => {
                    let _ = self.told.send(());
                    self.over.notified().await;
                    return Ok(());
                }
                Step::Close => {
                    let _ = stream.shutdown().await;
                    return Ok(());
                }
                step => self.exchange(&mut stream, step).await.map_err(fault)?,
            }
        }
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        match (end, rest.is_empty()) {
            (Err(_), true) => Err("the client does not hang up".into()),
            (_, true) => Ok(()),
            (_, false) => Err(format!("unexpected: {:?}", String::from_utf8_lossy(&rest))),
        }
    }

    async fn exchange(&self, stream: &mut Box<dyn Stream>, step: &Step) -> Result<(), String> {
        let work = async {
            match step {
                Step::Send(octets) => {
                    stream.write_all(octets).await?;
                    stream.flush().await?;
                }
                Step::Line(wanted) => {
                    let line = read_until(stream, b"\n").await?;
                    if !fits(wanted, &line) {
                        let text = format!("the client sent {:?}", String::from_utf8_lossy(&line));
                        return Err(std::io::Error::other(text));
                    }
                }
                Step::MailData => {
                    let octets = read_until(stream, b"\r\n.\r\n").await?;
                    self.mail_data.lock().expect("no panic").push(octets);
                }
                Step::Read(count) => {
                    stream.read_exact(&mut vec![0; *count]).await?;
                }
                Step::Tls | Step::TlsFails | Step::Silence | Step::Close => {}
            }
            Ok(())
        };
        let done = timeout(PATIENCE, work).await.map_err(|_| "nothing came".to_owned())?;
        done.map_err(|error| error.to_string())
    }
}

/// Octet by octet, so that nothing is read ahead of a handshake.
async fn read_until(stream: &mut Box<dyn Stream>, end: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    while !octets.ends_with(end) {
        match stream.read_u8().await {
            Ok(octet) => octets.push(octet),
            Err(error) => {
                let text = String::from_utf8_lossy(&octets[..octets.len().min(200)]).into_owned();
                return Err(std::io::Error::other(format!("{error} after {text:?}")));
            }
        }
    }
    Ok(octets)
}

fn describe(step: &Step) -> String {
    match step {
        Step::Send(octets) => format!("S: {:?}", String::from_utf8_lossy(octets)),
        Step::Line(octets) => format!("C: {:?}", String::from_utf8_lossy(octets)),
        other => format!("{other:?}"),
    }
}

fn fits(wanted: &[u8], line: &[u8]) -> bool {
    match wanted.strip_suffix(b"*\r\n") {
        Some(start) => line.starts_with(start),
        None => line == wanted,
    }
}
