//! TLS at the socket, with a real client: STARTTLS and TLS from the first octet on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;
mod served;

use std::{fs, io, os::unix::fs::PermissionsExt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    address::Envelope,
    transport::smtp::{
        AsyncSmtpTransportBuilder,
        authentication::{Credentials, Mechanism},
        client::{
            Certificate as RootCertificate, CertificateStore, Tls as LettreTls, TlsParameters,
        },
    },
};
use o365_relay::listener::{Auth, Config, Tls, UserSource, Users, hash_password};
use operator::{BINARY, Place, tell};
use rustls::{ALL_VERSIONS, HandshakeKind, version};
use served::{Client, PATIENCE, Relay, listener_config, tls::Certificate};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const PASSWORD: &str = "s3cret";

fn starttls(certificate: &Certificate) -> Config {
    Config { tls: Tls::StartTls(certificate.server()), ..listener_config() }
}

fn implicit(certificate: &Certificate) -> Config {
    Config { tls: Tls::Implicit(certificate.server()), ..listener_config() }
}

fn with_a_user(config: Config) -> Config {
    let hash = hash_password(PASSWORD.as_bytes()).unwrap();
    let users = Users::parse(&format!("scanner:{hash}")).unwrap();
    Config { auth: Auth::Users(UserSource::List(users)), ..config }
}

fn login() -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(format!("\0scanner\0{PASSWORD}")))
}

/// The keywords of the reply to EHLO.
async fn ehlo(client: &mut Client) -> Vec<String> {
    client.send(b"EHLO client\r\n").await;
    let mut keywords = Vec::new();
    loop {
        let line = client.line().await.unwrap();
        assert!(line.starts_with("250"), "{line}");
        keywords.push(line[4..].to_owned());
        if line.starts_with("250 ") {
            return keywords;
        }
    }
}

fn offers(keywords: &[String], name: &str) -> bool {
    keywords.iter().any(|keyword| keyword.split(' ').next() == Some(name))
}

async fn send(client: &mut Client) {
    client.say("MAIL FROM:<a@b.example>", "250 2.1.0").await;
    client.say("RCPT TO:<c@d.example>", "250 2.1.5").await;
    client.say("DATA", "354").await;
    client.say("Subject: x\r\n\r\ntext\r\n.", "250 2.0.0 queued as").await;
}

/// What the Received fields say behind `with`.
async fn protocols(relay: &Relay) -> Vec<String> {
    let mut found = Vec::new();
    for entry in relay.entries().await {
        let octets = String::from_utf8(relay.octets(&entry).await).unwrap();
        let (_, rest) = octets.split_once("(o365-relay) with ").unwrap();
        found.push(rest.split(' ').next().unwrap().to_owned());
    }
    found
}

#[tokio::test]
async fn starttls_secures_a_session_and_begins_it_anew() {
    let certificate = Certificate::make();
    let relay = Relay::start(with_a_user(starttls(&certificate)));
    for version in [&version::TLS12, &version::TLS13] {
        let mut client = relay.connect().await;
        client.expect("220 ").await;
        let plain = ehlo(&mut client).await;
        assert!(offers(&plain, "STARTTLS") && offers(&plain, "AUTH"), "{plain:?}");
        client.say(&login(), "235").await;
        let mut client = client.start_tls(&certificate.connector(&[version])).await;
        // Nothing of what was said in the clear counts: neither the login nor the name.
        client.say("MAIL FROM:<a@b.example>", "530 5.7.0 log in first").await;
        let secured = ehlo(&mut client).await;
        assert!(!offers(&secured, "STARTTLS") && offers(&secured, "AUTH"), "{secured:?}");
        client.say("STARTTLS", "503 5.5.1").await;
        client.say(&login(), "235").await;
        send(&mut client).await;
        client.say("QUIT", "221 ").await;
    }
    assert_eq!(protocols(&relay).await, ["ESMTPSA", "ESMTPSA"]);
}

#[tokio::test]
async fn implicit_tls_comes_before_the_greeting_and_ends_with_a_notice() {
    let certificate = Certificate::make();
    let relay = Relay::start(implicit(&certificate));
    let connector = certificate.connector(ALL_VERSIONS);
    let mut client = relay.connect().await.secure(&connector).await;
    client.expect("220 relay.example ESMTP").await;
    let keywords = ehlo(&mut client).await;
    assert!(!offers(&keywords, "STARTTLS"), "{keywords:?}");
    client.say("STARTTLS", "503 5.5.1").await;
    send(&mut client).await;
    assert_eq!(protocols(&relay).await, ["ESMTPS"]);

    let mut stream = relay.connect().await.handshake(&connector).await.unwrap();
    stream.write_all(b"QUIT\r\n").await.unwrap();
    let mut said = String::new();
    // Without close_notify this would be an error: somebody might have cut it short.
    timeout(PATIENCE, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.ends_with("closing connection\r\n"), "{said}");
}

/// libesmtp waits for ever when a ticket comes where it looks for room to write.
#[tokio::test]
async fn no_session_tickets_are_sent() {
    let certificate = Certificate::make();
    let relay = Relay::start(implicit(&certificate));
    let connector = certificate.connector(&[&version::TLS13]);
    for _ in 0..2 {
        let mut stream = relay.connect().await.handshake(&connector).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        stream.write_all(b"QUIT\r\n").await.unwrap();
        timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_large_message_goes_through_tls_in_lines_and_in_chunks() {
    let certificate = Certificate::make();
    let relay = Relay::start(implicit(&certificate));
    let mut client = relay.connect().await.secure(&certificate.connector(ALL_VERSIONS)).await;
    client.expect("220 ").await;
    let text = b"a line of text that is not very long\r\n".repeat(20_000);
    for chunked in [false, true] {
        client.say("MAIL FROM:<a@b.example>", "250 2.1.0").await;
        client.say("RCPT TO:<c@d.example>", "250 2.1.5").await;
        if chunked {
            client.send(format!("BDAT {} LAST\r\n", text.len()).as_bytes()).await;
            client.send(&text).await;
        } else {
            client.say("DATA", "354").await;
            client.send(&text).await;
            client.send(b".\r\n").await;
        }
        client.expect("250 2.0.0 queued as").await;
    }
    for entry in relay.entries().await {
        assert!(relay.octets(&entry).await.ends_with(&text));
    }
}

/// Whoever can write into the connection before the handshake must not get a command in.
#[tokio::test]
async fn octets_behind_starttls_are_never_commands() {
    let certificate = Certificate::make();
    let relay = Relay::start(starttls(&certificate));
    let mut client = relay.connect().await;
    client.expect("220 ").await;
    client.send(b"STARTTLS\r\nMAIL FROM:<injected@b.example>\r\n").await;
    client.expect("501 5.5.2 octets behind STARTTLS").await;
    assert_eq!(client.line().await, None);

    // Half a command counts too.
    let mut client = relay.connect().await;
    client.expect("220 ").await;
    client.send(b"STARTTLS\r\nM").await;
    client.expect("501 5.5.2").await;
    assert_eq!(client.line().await, None);

    // A moment later they are no handshake, and the connection ends without a word in the clear.
    let mut client = relay.connect().await;
    client.expect("220 ").await;
    client.say("STARTTLS", "220 ").await;
    client.send(b"MAIL FROM:<injected@b.example>\r\n").await;
    let rest = client.rest().await;
    let alert = rest.first().is_none_or(|kind| *kind == 21) && rest.len() < 16;
    assert!(alert, "an alert at most: {}", rest.escape_ascii());
}

#[tokio::test]
async fn a_handshake_that_fails_or_never_comes_costs_its_own_connection() {
    let certificate = Certificate::make();
    let soon = Duration::from_millis(200);
    let relay = Relay::start_all(vec![
        Config { session_timeout: soon, max_connections: 1, ..implicit(&certificate) },
        Config { name: "two".into(), keys: "listener.2".into(), ..starttls(&certificate) },
    ]);
    let mut silent = relay.connect().await;
    assert_eq!(silent.line().await, None, "closed after session_timeout, without a word");

    let connect = async || {
        let stream = tokio::net::TcpStream::connect(relay.tcp[1]).await.unwrap();
        let mut client = Client::new(stream);
        client.expect("220 ").await;
        client
    };
    // A client that does not trust the certificate.
    let mut client = connect().await;
    client.say("STARTTLS", "220 ").await;
    let stranger = Certificate::make().connector(ALL_VERSIONS);
    assert!(client.handshake(&stranger).await.is_err());
    // One that goes away.
    let mut client = connect().await;
    client.say("STARTTLS", "220 ").await;
    drop(client);
    let mut client = connect().await.start_tls(&certificate.connector(ALL_VERSIONS)).await;
    send(&mut client).await;
    assert_eq!(protocols(&relay).await, ["SMTP"], "no EHLO after TLS");
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart() {
    let mut certificate = Certificate::make();
    let relay = Relay::start(implicit(&certificate));
    let mut old = relay.connect().await.secure(&certificate.connector(ALL_VERSIONS)).await;
    old.expect("220 ").await;
    certificate.renew();
    let connector = certificate.connector(ALL_VERSIONS);
    let renewed = async {
        // The files are looked at once a second.
        while relay.connect().await.handshake(&connector).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, renewed).await.expect("the new certificate is shown");
    old.say("NOOP", "250 ").await;
}

#[tokio::test]
async fn from_another_host_a_login_takes_tls() {
    let certificate = Certificate::make();
    let mut config = with_a_user(starttls(&certificate));
    config.proxy_protocol.push("127.0.0.1/32".parse().unwrap());
    config.allow.push("192.0.2.7/32".parse().unwrap());
    let relay = Relay::start(config);
    let mut client = relay.connect().await;
    client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 1025 25\r\n").await;
    client.expect("220 ").await;
    assert!(!offers(&ehlo(&mut client).await, "AUTH"));
    client.say(&login(), "538 5.7.11 a login takes encryption; send STARTTLS first").await;
    let mut client = client.start_tls(&certificate.connector(ALL_VERSIONS)).await;
    assert!(offers(&ehlo(&mut client).await, "AUTH"));
    client.say(&login(), "235").await;
    send(&mut client).await;
}

#[tokio::test]
async fn who_is_not_let_in_hears_nothing_in_the_clear_where_tls_comes_first() {
    let certificate = Certificate::make();
    let allow = vec!["127.0.0.2/32".parse().unwrap()];
    let relay = Relay::start(Config { allow, ..implicit(&certificate) });
    assert_eq!(relay.connect().await.rest().await, b"");
    let connector = certificate.connector(ALL_VERSIONS);
    let error = relay.connect().await.handshake(&connector).await.err().unwrap();
    let gone =
        [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(gone.contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn a_drain_says_so_under_tls_and_does_not_wait_for_handshakes() {
    let certificate = Certificate::make();
    let relay = Relay::start(implicit(&certificate));
    let mut greeted = relay.connect().await.secure(&certificate.connector(ALL_VERSIONS)).await;
    greeted.expect("220 ").await;
    let mut silent = relay.connect().await;
    relay.drain.signal();
    greeted.expect("421 4.3.2 ").await;
    assert_eq!(greeted.line().await, None);
    assert_eq!(silent.line().await, None);
    assert_eq!(relay.drain.finish(PATIENCE).await, Ok(()));
}

// ---- The whole program, and a client that is not ours -----------------------------------------

#[tokio::test]
async fn an_operator_sets_up_users_and_tls_and_lettre_logs_in() {
    let place = Place::new();
    let certificate = Certificate::make();
    let hash = assert_cmd::Command::new(BINARY)
        .arg("hash-password")
        .write_stdin(format!("{PASSWORD}\n"))
        .output()
        .unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap();
    let users = place.path("users");
    fs::write(&users, format!("scanner:{hash}")).unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = [
        "listener.auth=users".to_owned(),
        format!("listener.users_file={}", users.display()),
        format!("listener.tls_certificate_file={}", certificate.path("cert")),
        format!("listener.tls_key_file={}", certificate.path("key")),
        "log.level=trace".to_owned(),
    ];
    let set = settings.iter().flat_map(|setting| ["--set", setting.as_str()]).collect::<Vec<_>>();
    let relay = place.start(set.clone());

    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let smtp = lettre(&relay, &certificate).authentication(vec![mechanism]);
        smtp.credentials(login_of(PASSWORD)).build().send_raw(&envelope(), MESSAGE).await.unwrap();
    }
    let wrong = lettre(&relay, &certificate).credentials(login_of("guess")).build();
    let error = wrong.send_raw(&envelope(), MESSAGE).await.unwrap_err();
    assert_eq!(error.status().unwrap().to_string(), "535");
    let error =
        lettre(&relay, &certificate).build().send_raw(&envelope(), MESSAGE).await.unwrap_err();
    assert_eq!(error.status().unwrap().to_string(), "530");

    // Our own test message has no login to offer, and says so rather than hang or be refused.
    let told = tell(place.command(["send", "--to", "a@b.example"]).args(set));
    told.fails(64, &["every listener asks for a login or for TLS", "--relay"]);

    let log = relay.stop();
    let accepted: Vec<_> = log.lines().filter(|line| line.contains("message accepted")).collect();
    assert_eq!(accepted.len(), 2, "{log}");
    assert!(accepted[0].contains("user=\"scanner\""), "{}", accepted[0]);
    for hidden in [PASSWORD, "argon2id", &login()[11..], &STANDARD.encode(PASSWORD)] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}

#[test]
fn what_takes_every_password_is_said_loudly_at_start() {
    let relay = Place::new().start(["--set", "listener.auth=any"]);
    let log = relay.stop();
    let line = log.lines().find(|line| line.contains("every name and password is taken")).unwrap();
    assert!(line.contains("WARN"), "{line}");
}

const MESSAGE: &[u8] = b"From: a@b.example\r\nSubject: x\r\n\r\ntext\r\n";

fn envelope() -> Envelope {
    Envelope::new("a@b.example".parse().ok(), vec!["c@d.example".parse().unwrap()]).unwrap()
}

fn login_of(password: &str) -> Credentials {
    Credentials::new("scanner".into(), password.into())
}

fn lettre(relay: &operator::Relay, certificate: &Certificate) -> AsyncSmtpTransportBuilder {
    let tls = TlsParameters::builder("localhost".into())
        .certificate_store(CertificateStore::None)
        .add_root_certificate(RootCertificate::from_der(certificate.der.to_vec()).unwrap())
        .build()
        .unwrap();
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(relay.smtp.port())
        .tls(LettreTls::Required(tls))
}
