//! The client side of a whole session with an upstream that says anything at any time, before
//! STARTTLS and behind it, over a real socket and real TLS, with time that does not pass by
//! itself.
//!
//! - It comes to an end, however upstream stalls.
//! - Before TLS there is nothing but EHLO and STARTTLS.
//! - A message counts as relayed only after all of it went out with its dot.
//!
//! The first octet picks whether upstream closes or falls silent at the end, and for whom the
//! message may go. In the rest NUL waits for the client to say something, 0x01 begins TLS, and
//! all else is sent as it is.

#![no_main]

use std::{
    cell::{OnceCell, RefCell},
    sync::Arc,
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use o365_relay::{
    clock::{Clock, UnixMillis},
    delivery::{
        Config, NullSender,
        smarthost::{Share, Smarthost, Verdict},
        trouble::Trouble,
    },
    smtp::{
        envelope::{Envelope, MailParameters, RcptParameters, Recipient},
        path::{ForwardPath, ReversePath},
    },
    store::{Arrival, Entry, PassingBody, Transit},
    tls::client_config_with_roots,
    token::AccessToken,
};
use o365_relay_fuzz::is_one_printable_line;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

const BODY: &[u8] = b"Subject: x\r\n\r\n.dot\r\n";
const ON_THE_WIRE: &[u8] = b"DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\n";
const MESSAGES: usize = 2;

/// Each stage's patience is at most ten minutes.
const LONGEST_SESSION: Duration = Duration::from_secs(6 * 3600);
const SERVER_PATIENCE: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_secs(30 * 24 * 3600);

struct Place {
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    smarthost: Smarthost,
    token: AccessToken,
    entry: Entry,
    body: PassingBody,
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let Some((first, script)) = input.split_first() else { return };
    let falls_silent = first & 1 == 1;
    let share = if first & 2 == 2 { Share::All } else { Share::Accepted };
    PLACE.with(|place| {
        let place = place.get_or_init(Place::new);
        let heard = RefCell::new(Heard::default());
        let mut relayed = 0;
        runtime().block_on(async {
            let listener = place.listener.try_clone().expect("a listener");
            let listener = TcpListener::from_std(listener).expect("a listener");
            let serve = async {
                let (stream, _) = listener.accept().await.expect("a connection");
                serve(place, stream, script, falls_silent, &heard).await;
            };
            let both = async { tokio::join!(serve, place.deliver(share, &mut relayed)) };
            timeout(LONGEST_SESSION, both).await.expect("an end");
        });
        let heard = heard.into_inner();
        match heard.plain.strip_prefix(EHLO_STARTTLS) {
            Some(rest) => assert!(rest.is_empty() || rest[0] == TLS_HANDSHAKE, "{heard:?}"),
            None => assert!(EHLO_STARTTLS.starts_with(&heard.plain), "{heard:?}"),
        }
        let whole =
            heard.secured.windows(ON_THE_WIRE.len()).filter(|window| *window == ON_THE_WIRE);
        assert!(!heard.to_the_end || relayed <= whole.count(), "{relayed} relayed, {heard:?}");
    });
});

const EHLO_STARTTLS: &[u8] = b"EHLO relay.example\r\nSTARTTLS\r\n";
/// The first octet of a hello that a script takes no notice of (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// What upstream has had from the client.
#[derive(Debug, Default)]
struct Heard {
    plain: Vec<u8>,
    secured: Vec<u8>,
    /// A client that hangs up with replies unread takes with it what is still on its way.
    to_the_end: bool,
}

/// Time stands still as long as there is anything to do, and jumps when there is nothing.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("a runtime")
}

impl Place {
    fn new() -> Self {
        // As Rust's own start does it, which libFuzzer's takes the place of.
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        let (roots, acceptor) = certificates();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a setting");
        let config = Config {
            host: "127.0.0.1".into(),
            port: listener.local_addr().expect("an address").port(),
            ehlo_name: "relay.example".into(),
            null_sender: NullSender::Mailbox,
            max_messages_per_connection: 50,
            idle_close: Duration::from_secs(30),
            tls: client_config_with_roots(roots),
        };
        let transit = Transit::open(std::env::temp_dir(), Clock::system()).expect("a directory");
        let mut draft = transit.draft();
        let (id, body) = runtime().block_on(async {
            draft.append(BODY).await.expect("room");
            let id = draft.id();
            (id, draft.into_passing().await.expect("a body"))
        });
        Self {
            listener,
            acceptor,
            smarthost: Smarthost::new(config),
            token: AccessToken::new("token".into(), UnixMillis(0), UnixMillis(i64::MAX)),
            entry: Entry::passing(id, BODY.len() as u64, arrival()),
            body,
        }
    }

    /// Two messages, if upstream lets it come to that.
    async fn deliver(&self, share: Share, relayed: &mut usize) {
        let mut connection = match self.smarthost.connect("a@corp.example", &self.token).await {
            Ok(connection) => connection,
            Err(trouble) => return check_trouble(&trouble),
        };
        for _ in 0..MESSAGES {
            let body = self.body.open().expect("the body");
            match connection.send(&self.entry, body, share).await {
                Err(trouble) => return check_trouble(&trouble),
                Ok(verdicts) => *relayed += usize::from(check_verdicts(&verdicts, share)),
            }
            if !connection.is_reusable() {
                return;
            }
        }
        connection.quit().await;
    }
}

/// Whether it was relayed.
fn check_verdicts(verdicts: &[(u32, Verdict)], share: Share) -> bool {
    let mut positions: Vec<_> = verdicts.iter().map(|(position, _)| *position).collect();
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), verdicts.len(), "two verdicts on one: {verdicts:?}");
    assert!(positions.iter().all(|position| *position < 2), "{verdicts:?}");
    let mut relayed = 0;
    for (_, verdict) in verdicts {
        match verdict {
            Verdict::Relayed(taken) => {
                assert!(taken.reply().code().is_success());
                relayed += 1;
            }
            Verdict::Uncertain(cause) => assert!(is_one_printable_line(cause), "{cause:?}"),
            Verdict::Refused(_, reply) => assert!(is_one_printable_line(&reply.to_string())),
        }
    }
    assert!(share == Share::Accepted || matches!(relayed, 0 | 2), "{verdicts:?}");
    relayed > 0
}

fn check_trouble(trouble: &Trouble) {
    let text = trouble.to_string();
    assert!(is_one_printable_line(&text) && text.len() < 100_000, "{text:?}");
    assert!(!text.contains("Bearer"), "{text}");
}

/// Upstream's side.
async fn serve(
    place: &Place,
    mut stream: TcpStream,
    script: &[u8],
    falls_silent: bool,
    heard: &RefCell<Heard>,
) {
    stream.set_nodelay(true).expect("a setting");
    let (plain, secured) = match script.iter().position(|octet| *octet == 1) {
        Some(at) => (&script[..at], Some(&script[at + 1..])),
        None => (script, None),
    };
    let hear = |octets: &[u8]| heard.borrow_mut().plain.extend_from_slice(octets);
    if !say(&mut stream, plain, &hear).await {
        return;
    }
    let Some(secured) = secured else {
        end(&mut stream, falls_silent, &hear).await;
        return;
    };
    // Without this the hello of TLS would be taken for something the client says in plain text.
    let accepted = timeout(SERVER_PATIENCE, async {
        while heard.borrow().plain != EHLO_STARTTLS {
            let mut octet = [0];
            match stream.read(&mut octet).await {
                Ok(1) => hear(&octet),
                _ => return None,
            }
        }
        place.acceptor.accept(stream).await.ok()
    });
    let Ok(Some(mut stream)) = accepted.await else { return };
    let hear = |octets: &[u8]| heard.borrow_mut().secured.extend_from_slice(octets);
    let goes_on = say(&mut stream, secured, &hear).await;
    let to_the_end = end(&mut stream, goes_on && falls_silent, &hear).await;
    heard.borrow_mut().to_the_end = to_the_end;
}

/// Follows the script; `false` if the client is gone.
async fn say(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    script: &[u8],
    hear: &impl Fn(&[u8]),
) -> bool {
    for (at, text) in script.split(|octet| *octet == 0).enumerate() {
        if at > 0 {
            let mut octets = [0; 4096];
            match timeout(SERVER_PATIENCE, stream.read(&mut octets)).await {
                Ok(Ok(0) | Err(_)) => return false,
                Ok(Ok(count)) => hear(&octets[..count]),
                Err(_) => {}
            }
        }
        let write = async { stream.write_all(text).await.is_ok() && stream.flush().await.is_ok() };
        if !matches!(timeout(SERVER_PATIENCE, write).await, Ok(true)) {
            return false;
        }
    }
    true
}

/// Hears the client out, after closing its own side or without a word; whether it came to its
/// end in good order.
async fn end(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    falls_silent: bool,
    hear: &impl Fn(&[u8]),
) -> bool {
    if !falls_silent {
        let _ = stream.shutdown().await;
    }
    let mut octets = [0; 4096];
    loop {
        match timeout(FOREVER, stream.read(&mut octets)).await {
            Ok(Ok(count @ 1..)) => hear(&octets[..count]),
            Ok(Ok(0)) => return true,
            // Without the end that TLS has for it.
            Ok(Err(error)) => return error.kind() == std::io::ErrorKind::UnexpectedEof,
            Err(_) => return false,
        }
    }
}

fn certificates() -> (RootCertStore, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, authority).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key that rustls takes");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions that ring has")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("a usable certificate");
    // One input must not depend on the one before.
    config.send_tls13_tickets = 0;
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).expect("a usable authority");
    (roots, TlsAcceptor::from(Arc::new(config)))
}

fn arrival() -> Arrival {
    let to = |address: &str| Recipient {
        forward_path: ForwardPath(address.parse().expect("an address")),
        parameters: RcptParameters::default(),
    };
    let envelope = Envelope {
        reverse_path: ReversePath::Address("a@corp.example".parse().expect("an address")),
        parameters: MailParameters::default(),
        recipients: vec![to("b@example.net"), to("c@example.net")],
    };
    Arrival {
        envelope,
        time: UnixMillis(0),
        client: "127.0.0.1".into(),
        hello: "printer".into(),
        message_id: "<1@x>".into(),
    }
}
