//! Hostile strings wherever somebody else chooses them, and what becomes of them in a real daemon's
//! log, in the Received fields and in the notices: one line for each event, each of which can be
//! read, and nothing that a terminal, a log reader or a mail program would take for its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;
mod served;

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use operator::{PATIENCE, Process, Tenant, wait_for};
use served::tls::Certificate;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

const LARGE: usize = 64 * 1024;

/// Longer lines than this are no use to anybody.
const LONGEST_LINE: usize = 8 * 1024;

/// What they all try to plant.
const FORGED: &str = "forged-event";

/// Terminal codes, ends of lines, quotes, what ends a field or an object of a log line, octets that
/// are no UTF-8, letters that turn the line round, and much of everything.
fn hostile() -> Vec<Vec<u8>> {
    let forged_text = format!("2026-11-23T00:00:00Z  INFO {FORGED} queue_id=1");
    let forged_json = format!("{{\"level\":\"INFO\",\"message\":\"{FORGED}\"}}");
    let mut strings = vec![
        b"\x1b[31mred\x1b]0;title\x07\x1b[2J".to_vec(),
        format!("cr\r{forged_text}").into_bytes(),
        format!("lf\n{forged_text}").into_bytes(),
        format!("\"\n{forged_json}\n").into_bytes(),
        format!("\"}}, {forged_json}").into_bytes(),
        br#"quote" hello="x" message="y' \ `id` $(id) %n %s ${jndi:ldap://x}"#.to_vec(),
        b"nul\0 del\x7f bs\x08".to_vec(),
        b"\xff\xfe\xc0\x80 \xed\xa0\x80".to_vec(),
        "c1 \u{9b}31m \u{85} \u{2028} rtl \u{202e}gpj.exe zero \u{200b}\u{feff}".into(),
        b"x\r\nBcc: planted@evil.example\r\nX-Planted: yes".to_vec(),
    ];
    strings.extend([b'A', b'"', b'\\', 0x1b, 0xff].map(|octet| vec![octet; LARGE]));
    strings
}

#[test]
fn hostile_strings_are_one_readable_line_each_in_json() {
    let log = play("json");
    for line in log.lines() {
        let object: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "message"] {
            assert!(object[key].is_string(), "no {key}: {line}");
        }
        assert!(!object["message"].as_str().unwrap().contains(FORGED), "{line}");
    }
}

#[test]
fn hostile_strings_are_one_readable_line_each_in_text() {
    let log = play("text");
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').unwrap_or_default();
        let digits = time.bytes().filter(u8::is_ascii_digit).count();
        let level = rest.split_whitespace().next().unwrap_or_default();
        let known = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level);
        assert!(time.ends_with('Z') && digits >= 14 && known, "no event: {line}");
        assert!(!rest.trim_start().starts_with(&format!("{level} {FORGED}")), "{line}");
        // Quotes come in pairs, those within a value behind a backslash.
        let mut open = false;
        let mut characters = line.chars();
        while let Some(c) = characters.next() {
            match c {
                '\\' if open => drop(characters.next()),
                '"' => open = !open,
                _ => {}
            }
        }
        assert!(!open, "a quote without its end: {line}");
        assert_facts(rest.trim_start().strip_prefix(level).unwrap(), line);
    }
}

/// What stands behind the level is a span or none, a message, and facts: `key=value` to the end, with
/// whatever is no single word in quotes.
fn assert_facts(text: &str, line: &str) {
    let text = match text.trim_start().strip_prefix("session{") {
        Some(rest) => {
            let (span, rest) = rest.split_once("}: ").unwrap_or_else(|| panic!("{line}"));
            assert_eq!(facts(span), None, "{line}");
            rest
        }
        None => text,
    };
    let is_key = |word: &&str| {
        let key = word.split('=').next().unwrap_or_default();
        word.contains('=') && key.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_')
    };
    if let Some(first) = text.split(' ').find(is_key) {
        let at = text.find(first).unwrap();
        assert_eq!(facts(&text[at..]), None, "{line}");
    }
}

/// What is left that is no `key=value`.
fn facts(mut text: &str) -> Option<&str> {
    loop {
        let (key, value) = text.split_once('=')?;
        let is_key = |octet: u8| octet.is_ascii_lowercase() || octet == b'_';
        if key.is_empty() || !key.bytes().all(is_key) {
            return Some(text);
        }
        let end = match value.strip_prefix('"') {
            Some(inner) => {
                let mut escaped = false;
                let close = inner.char_indices().find(|(_, c)| {
                    let is_end = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    is_end
                });
                close.map_or(value.len(), |(at, _)| at + 2)
            }
            None => value.find(' ').unwrap_or(value.len()),
        };
        let (word, rest) = value.split_at(end);
        let is_word = word.starts_with('"') || !word.is_empty() && !word.contains(['"', '=']);
        if !is_word {
            return Some(text);
        }
        if rest.is_empty() {
            return None;
        }
        text = rest.strip_prefix(' ').unwrap_or(rest);
    }
}

/// Says everything to a relay with this log format, and looks at what holds for both.
fn play(format: &str) -> String {
    let upstream = Upstream::start();
    let tenant = Tenant::start();
    let relay = relay(&tenant, &upstream, format);
    let mut said = Said::default();
    for (number, string) in hostile().into_iter().enumerate() {
        let [anybody, users] = relay.listening;
        said.names(anybody, &string);
        said.paths_and_headers(anybody, &string);
        said.login(users, &string, number + 1);
        said.proxy_header(users, &string);
    }
    // Each message leads to a notice, for one of its recipients is refused.
    let accepted = said.accepted;
    wait_for("every message and notice upstream", || {
        (upstream.messages.lock().unwrap().len() >= 2 * accepted).then_some(())
    });
    // A reply without end is none: that message waits, and nobody hears of it yet.
    said.large_reply(relay.listening[0]);
    assert!(relay.process.line_with("large@d.example").contains("deferred"));
    let log = relay.stop();

    let lines = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(lines("message accepted"), said.accepted);
    assert_eq!(lines("login refused"), said.logins);
    assert_eq!(lines("connection refused"), said.headers);
    assert_eq!(lines("client refused"), said.refused);
    assert!(said.accepted > 10 && said.logins > 1 && said.headers > 10 && said.refused > 40);
    for line in log.lines() {
        assert!(line.len() < LONGEST_LINE, "{} octets: {}", line.len(), &line[..200]);
        let odd = line.chars().find(|c| c.is_control());
        assert_eq!(odd, None, "{line}");
    }
    for message in upstream.messages.lock().unwrap().iter() {
        check_message(message);
    }
    log
}

/// The Received field is ours to the letter; a notice holds nothing but readable text.
fn check_message(message: &[u8]) {
    let text = message.escape_ascii().to_string().replace("\\r\\n", "\r\n").replace("\\t", "\t");
    let first: Vec<_> = text.lines().take(3).collect();
    if !first[0].starts_with("Received: ") {
        return check_notice(message);
    }
    let name = first[0].strip_prefix("Received: from ").and_then(|rest| rest.split_once(" (["));
    let (name, address) = name.unwrap_or_else(|| panic!("{first:?}"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]?".contains(c);
    assert!(name.len() <= 255 && name.chars().all(plain), "{first:?}");
    assert!(address.starts_with("127.0.0.1])"), "{first:?}");
    assert!(first[1].starts_with("\tby ") && first[1].contains(" (o365-relay) with "), "{first:?}");
    assert!(first[2].starts_with('\t') && first[2].ends_with(" +0000"), "{first:?}");
}

fn check_notice(message: &[u8]) {
    // The third part is the message's own header section, in its sender's words.
    let third =
        [&b"Content-Type: text/rfc822-headers"[..], b"Content-Type: message/global-headers"]
            .into_iter()
            .find_map(|kind| memchr::memmem::find(message, kind))
            .unwrap();
    let ours = std::str::from_utf8(&message[..third]).unwrap();
    assert!(ours.contains("Content-Type: multipart/report"), "{ours}");
    assert!(ours.contains("Diagnostic-Code: smtp; 550 5.1.1"), "{ours}");
    for line in ours.split("\r\n") {
        let odd = line.chars().find(|c| c.is_control() && *c != '\t');
        assert_eq!(odd, None, "{line:?}");
        assert!(line.len() <= 998, "{} octets: {line}", line.len());
        assert!(!line.starts_with("Bcc:") && !line.starts_with("X-Planted"), "{ours}");
    }
}

// ---- The relay and those who talk to it ---------------------------------------------------------

fn relay(tenant: &Tenant, upstream: &Upstream, format: &str) -> Relay {
    let (ca, users) = (tenant.root.path().join("both.pem"), tenant.root.path().join("users"));
    let authority = fs::read_to_string(tenant.key("ca_file")).unwrap();
    fs::write(&ca, format!("{authority}{}", upstream.certificate)).unwrap();
    let hash = o365_relay::listener::hash_password(b"s3cret").unwrap();
    fs::write(&users, format!("scanner:{hash}\n")).unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    let set = [
        format!("office365.ca_file={}", ca.display()),
        format!("office365.smtp_port={}", upstream.address.port()),
        "office365.pace=unlimited".to_owned(),
        format!("log.format={format}"),
        "log.level=debug".to_owned(),
        "listener.1.addresses=127.0.0.1:0".to_owned(),
        "listener.1.max_faults=1000".to_owned(),
        "listener.2.addresses=127.0.0.1:0".to_owned(),
        "listener.2.auth=users".to_owned(),
        format!("listener.2.users_file={}", users.display()),
        "listener.2.proxy_protocol=127.0.0.1".to_owned(),
    ];
    let arguments = set.iter().flat_map(|setting| ["--set", setting.as_str()]);
    let process = Process::start(&mut tenant.relay_command(arguments), false);
    let line = process.line_with("relay started");
    let (_, listening) = line.split_once("listening").unwrap();
    let (listening, _) = listening.split_once('[').unwrap().1.split_once(']').unwrap();
    let listening: Vec<_> = listening.split(", ").map(|one| one.parse().unwrap()).collect();
    Relay { process, listening: listening.try_into().unwrap() }
}

/// Its listeners: for anybody, and for users behind a balancer.
struct Relay {
    process: Process,
    listening: [SocketAddr; 2],
}

impl Relay {
    fn stop(mut self) -> String {
        self.process.terminate();
        assert_eq!(self.process.ended().code(), Some(0), "{}", self.process.text());
        self.process.text()
    }
}

/// What was said, and how often the relay had something to log about it.
#[derive(Default)]
struct Said {
    accepted: usize,
    refused: usize,
    logins: usize,
    headers: usize,
}

impl Said {
    /// In HELO and EHLO, as a command, an argument, a parameter.
    fn names(&mut self, relay: SocketAddr, string: &[u8]) {
        let mut client = Client::new(relay);
        for command in
            ["HELO ", "EHLO ", "", "NOOP ", "VRFY ", "MAIL FROM:<a@b.example> X=", "BDAT "]
        {
            client.send(&[command.as_bytes(), string, b"\r\n"]);
        }
        client.send(&[b"QUIT\r\n"]);
        self.refused += client.replies().iter().filter(|code| **code >= 400).count();
    }

    /// In a name that the relay takes, in both paths, in the header section. One recipient is
    /// refused, and its reply is hostile too.
    fn paths_and_headers(&mut self, relay: SocketAddr, string: &[u8]) {
        let mut client = Client::new(relay);
        let short: Vec<u8> = string.iter().copied().take(60).collect();
        for parts in [
            [&b"EHLO "[..], &short, b""],
            [b"MAIL FROM:<", &short, b"@b.example>"],
            [b"RSET\r\nMAIL FROM:<\"", &short, b"\"@b.example>"],
            [b"RSET\r\nMAIL FROM:<", &short, b"@b.example> SMTPUTF8"],
            [b"RSET\r\nMAIL FROM:<sender@b.example> ENVID=", &short, b""],
            [b"RSET\r\nMAIL FROM:<sender@b.example>\r\nRCPT TO:<", &short, b"@d.example>"],
            [
                b"RCPT TO:<\"",
                &short,
                b"\"@d.example>\r\nRCPT TO:<good@d.example>\r\nRCPT TO:<refused@d.example>\r\nDATA",
            ],
            [b"From: \"", string, b"\" <a@b.example>"],
            [b"Message-ID: <", string, b"@x>"],
            [b"Subject: ", string, b""],
            [b"", string, b": x"],
            [b"\r\n", string, b"\r\n.\r\nQUIT"],
        ] {
            client.send(&[&parts.concat(), b"\r\n"]);
        }
        self.refused += client.replies().iter().filter(|code| **code >= 400).count();
        self.accepted += client.queued;
    }

    /// To a recipient about whom the smarthost has 64 KB to say.
    fn large_reply(&mut self, relay: SocketAddr) {
        let mut client = Client::new(relay);
        client.send(&[
            b"MAIL FROM:<a@b.example>\r\nRCPT TO:<large@d.example>\r\nDATA\r\n.\r\nQUIT\r\n",
        ]);
        client.replies();
        self.accepted += client.queued;
    }

    /// As the name of a user, at an address of its own: each refusal would take longer otherwise.
    fn login(&mut self, relay: SocketAddr, string: &[u8], number: usize) {
        let mut client = Client::new(relay);
        let from = format!("PROXY TCP4 127.0.1.{number} 127.0.0.1 1 2\r\nEHLO x\r\nAUTH LOGIN\r\n");
        client.send(&[from.as_bytes()]);
        assert_eq!([client.reply(), client.reply(), client.reply()], [220, 250, 334]);
        client.send(&[STANDARD.encode(string).as_bytes(), b"\r\n"]);
        let mut replies = Vec::new();
        // Unless the name was refused as no name.
        if client.reply_to(&mut replies) == 334 {
            client.send(&[b"Z3Vlc3M=\r\n"]);
            assert_eq!(client.reply_to(&mut replies), 535);
            self.logins += 1;
        }
        client.send(&[b"AUTH PLAIN ", string, b"\r\nQUIT\r\n"]);
        replies.extend(client.replies());
        self.refused += replies.iter().filter(|code| **code >= 400).count();
    }

    /// In place of a PROXY header, and within one of each version.
    fn proxy_header(&mut self, relay: SocketAddr, string: &[u8]) {
        let length = u16::try_from(string.len()).unwrap_or(u16::MAX);
        let binary = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length.to_be_bytes()[..]].concat();
        for start in [&b""[..], b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ::1 ", &binary] {
            let mut client = Client::new(relay);
            client.send(&[start, string, b"\r\n"]);
            client.finish();
            let replies = client.replies();
            // A header that names a client may be good by chance; what is none is refused.
            if replies.first() != Some(&220) {
                self.headers += 1;
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    queued: usize,
}

impl Client {
    fn new(relay: SocketAddr) -> Self {
        let stream = TcpStream::connect(relay).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader, queued: 0 }
    }

    /// In one write. A relay that has hung up meanwhile is seen at the next reply.
    fn send(&mut self, parts: &[&[u8]]) {
        let _ = self.stream.write_all(&parts.concat());
    }

    fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The code of the next reply; 0 at the end.
    fn reply(&mut self) -> u16 {
        loop {
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) => return 0,
                Ok(_) if line.as_bytes()[3] == b'-' => {}
                Ok(_) => {
                    self.queued += usize::from(line.contains(" queued as "));
                    return line[..3].parse().unwrap();
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return 0,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn reply_to(&mut self, replies: &mut Vec<u16>) -> u16 {
        let code = self.reply();
        replies.push(code);
        code
    }

    /// All that are still to come.
    fn replies(&mut self) -> Vec<u16> {
        std::iter::from_fn(|| Some(self.reply()).filter(|code| *code > 0)).collect()
    }
}

// ---- A smarthost with a sharp tongue ------------------------------------------------------------

struct Upstream {
    address: SocketAddr,
    certificate: String,
    messages: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Upstream {
    fn start() -> Self {
        let certificate = Certificate::make();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let messages = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (pem, kept) = (fs::read_to_string(certificate.path("cert")).unwrap(), messages.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let tls = certificate.server();
                let turn = Arc::new(AtomicUsize::new(0));
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (tls, kept, turn) = (tls.clone(), kept.clone(), Arc::clone(&turn));
                    tokio::spawn(async move {
                        let mut plain = tokio::io::BufStream::new(stream);
                        if converse(&mut plain, "220 \x1b[31mhost", &kept, &turn).await {
                            let stream = tls.accept(plain.into_inner()).await.unwrap();
                            converse(&mut tokio::io::BufStream::new(stream), "", &kept, &turn)
                                .await;
                        }
                    });
                }
            });
        });
        Self { address, certificate: pem, messages }
    }
}

/// Answers until the client has gone, or true when it wants TLS.
async fn converse<S>(
    stream: &mut S,
    greeting: &str,
    kept: &Mutex<Vec<Vec<u8>>>,
    turn: &AtomicUsize,
) -> bool
where
    S: AsyncBufRead + AsyncWrite + Unpin,
{
    if !greeting.is_empty() {
        say(stream, greeting.as_bytes()).await;
    }
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return false;
        }
        match line.split([' ', '\r']).next().unwrap() {
            "EHLO" if greeting.is_empty() => {
                say(stream, b"250-x\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH LOGIN XOAUTH2")
                    .await;
            }
            "EHLO" => say(stream, b"250-x\r\n250 STARTTLS").await,
            "STARTTLS" => {
                say(stream, b"220 go on").await;
                return true;
            }
            "AUTH" if line.trim_end() == "AUTH XOAUTH2" => say(stream, b"334 ").await,
            "RCPT" if line.contains("refused@") => {
                let strings = hostile();
                let turn = turn.fetch_add(1, Ordering::Relaxed) % strings.len();
                let string = strings[turn].get(..900).unwrap_or(&strings[turn]);
                say(stream, &[b"550 5.1.1 ", string].concat()).await;
            }
            "RCPT" if line.contains("large@") => {
                say(stream, &[b"550 5.1.1 ", &vec![b'A'; LARGE][..]].concat()).await;
            }
            "DATA" => {
                say(stream, b"354 go on").await;
                let mut message = Vec::new();
                while !message.ends_with(b"\r\n.\r\n") {
                    if stream.read_until(b'\n', &mut message).await.unwrap_or(0) == 0 {
                        return false;
                    }
                }
                kept.lock().unwrap().push(message);
                say(stream, b"250 2.0.0 \x1b[2Jtaken \"as\" \xff it is").await;
            }
            // The token, in the second step of the login.
            "MAIL" | "RCPT" | "RSET" | "NOOP" | "QUIT" => say(stream, b"250 2.0.0 \x1b[31m").await,
            _ => say(stream, b"235 2.7.0 \x07 in").await,
        }
    }
}

/// A line feed would begin another reply, and the relay would rightly hang up.
async fn say(stream: &mut (impl AsyncWrite + Unpin), reply: &[u8]) {
    let ours = reply.starts_with(b"250-");
    let safe = |octet: &u8| if *octet == b'\n' && !ours { b'\r' } else { *octet };
    let mut octets: Vec<u8> = reply.iter().map(safe).collect();
    octets.extend(b"\r\n");
    let _ = stream.write_all(&octets).await;
    let _ = stream.flush().await;
}
