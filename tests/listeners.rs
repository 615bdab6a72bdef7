//! What tells listeners apart: networks, senders and limits of their own, Unix sockets, and
//! balancers in front of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;
mod served;

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr},
    os::unix::net::UnixListener as StdUnixListener,
    path::Path,
    time::Duration,
};

use o365_relay::listener::{Address, Config, Listeners};
use operator::{Place, mode, tell};
use served::{Client, PATIENCE, Relay, listener_config};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream, UnixStream},
    time::timeout,
};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// From the greeting to the final reply.
async fn send(client: &mut Client) {
    client.expect("220 ").await;
    send_on(client).await;
}

async fn send_on(client: &mut Client) {
    client.say("HELO app", "250 ").await;
    client.say("MAIL FROM:<app@b.example>", "250 2.1.0").await;
    client.say("RCPT TO:<c@d.example>", "250 2.1.5").await;
    client.say("DATA", "354").await;
    client.say("Subject: x\r\n\r\ntext\r\n.", "250 2.0.0 queued as").await;
}

/// The first line of the only message's Received field.
async fn received(relay: &Relay) -> String {
    let entries = relay.entries().await;
    assert_eq!(entries.len(), 1);
    let octets = String::from_utf8(relay.octets(&entries[0]).await).unwrap();
    octets.lines().next().unwrap().to_owned()
}

fn several(number: usize, config: Config) -> Config {
    Config { name: format!("app{number}"), keys: format!("listener.{number}"), ..config }
}

// ---- A port per application ------------------------------------------------------------------

#[tokio::test]
async fn each_listener_has_its_own_networks_sender_and_limits() {
    let sender = Some("erp@contoso.example".parse().unwrap());
    let relay = Relay::start_all(vec![
        several(1, Config { sender, max_recipients: 1, ..listener_config() }),
        several(2, Config { allow: vec!["127.0.0.2/32".parse().unwrap()], ..listener_config() }),
    ]);
    let connect = async |port| Client::new(TcpStream::connect(relay.tcp[port]).await.unwrap());

    let mut stranger = connect(1).await;
    let reply = stranger.expect("550 5.7.1 127.0.0.1 is not in listener.2.allow").await;
    assert!(reply.ends_with("(listener app2)"), "{reply}");
    assert_eq!(stranger.line().await, None);

    let mut erp = connect(0).await;
    send(&mut erp).await;
    erp.say("MAIL FROM:<whatever>", "250 2.1.0").await;
    erp.say("RCPT TO:<a@b.example>", "250 2.1.5").await;
    erp.say("RCPT TO:<b@b.example>", "452 4.5.3").await;

    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    send(&mut Client::new(socket.connect(relay.tcp[1]).await.unwrap())).await;
    let entries = relay.entries().await;
    let senders: Vec<_> = entries.iter().map(|entry| entry.reverse_path.as_str()).collect();
    assert_eq!(senders, ["erp@contoso.example", "app@b.example"]);
}

#[tokio::test]
async fn a_missing_from_field_is_added_unless_the_listener_is_told_otherwise() {
    for (add_from, expected) in [(true, 1), (false, 0)] {
        let relay = Relay::start_all(vec![Config { add_from, ..listener_config() }]);
        let mut client = Client::new(TcpStream::connect(relay.tcp[0]).await.unwrap());
        send(&mut client).await;
        let entries = relay.entries().await;
        let octets = String::from_utf8(relay.octets(&entries[0]).await).unwrap();
        let begin_with = |name| octets.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(begin_with("From: app@b.example"), expected, "{octets}");
        assert_eq!(begin_with("From"), expected, "{octets}");
        assert_eq!((begin_with("Date: "), begin_with("Message-ID: ")), (1, 1), "{octets}");
    }
}

#[tokio::test]
async fn a_listener_without_room_leaves_the_others_theirs() {
    let relay = Relay::start_all(vec![
        several(1, Config { max_connections: 3, ..listener_config() }),
        several(2, Config { max_connections: 1, ..listener_config() }),
    ]);
    let connect = async |port| Client::new(TcpStream::connect(relay.tcp[port]).await.unwrap());
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = connect(0).await;
        client.expect("220 ").await;
        held.push(client);
    }
    for _ in 0..50 {
        connect(0).await.expect("421 4.3.2 ").await;
    }
    connect(1).await.expect("220 ").await;
}

// ---- IPv6 ------------------------------------------------------------------------------------

#[tokio::test]
async fn an_ipv4_client_of_an_ipv6_socket_is_judged_by_its_ipv4_address() {
    if std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err() {
        return eprintln!("skipped: a host without IPv6");
    }
    // Alone, `[::]` takes IPv4 too, where the system says so.
    if fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|text| text.trim() == "1") {
        return eprintln!("skipped: the system keeps IPv6 sockets to IPv6");
    }
    let any = Address::Tcp((Ipv6Addr::UNSPECIFIED, 0).into());
    let config = Config {
        addresses: vec![any],
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        max_connections_per_client: 1,
        ..listener_config()
    };
    let relay = Relay::start(config);
    let port = relay.address.port();
    let four = SocketAddr::from(([127, 0, 0, 1], port));
    let mut client = Client::new(TcpStream::connect(four).await.unwrap());
    send(&mut client).await;
    let mut second = Client::new(TcpStream::connect(four).await.unwrap());
    second.expect("421 4.3.2 too many connections from your address").await;
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut six = Client::new(TcpStream::connect(six).await.unwrap());
    six.expect("550 5.7.1 ::1 is not in listener.allow").await;
    let field = received(&relay).await;
    assert_eq!(field, "Received: from app ([127.0.0.1])");
}

// ---- Unix sockets ----------------------------------------------------------------------------

fn unix(path: &Path) -> Config {
    let allow = vec!["192.0.2.0/24".parse().unwrap()];
    Config { addresses: vec![Address::Unix(path.to_owned())], allow, ..listener_config() }
}

async fn connect_to(path: &Path) -> Client {
    Client::local(UnixStream::connect(path).await.unwrap())
}

#[tokio::test]
async fn a_program_of_this_host_sends_through_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smtp.sock");
    let config = Config { unix_mode: 0o600, max_connections_per_client: 1, ..unix(&path) };
    let relay = Relay::start(config);
    assert_eq!(mode(&path), 0o600);
    let mut client = connect_to(&path).await;
    send(&mut client).await;
    connect_to(&path).await.expect("421 4.3.2 too many connections from your address").await;
    let field = received(&relay).await;
    assert_eq!(field, "Received: from app (local socket)");

    relay.drain.signal();
    client.expect("421 4.3.2 ").await;
    relay.stop().await;
    assert!(!path.exists(), "the socket goes with the relay");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smtp.sock");
    drop(StdUnixListener::bind(&path).unwrap()); // the file stays, as behind a killed daemon
    let first = Relay::start(unix(&path));
    connect_to(&path).await.expect("220 ").await;

    let error = Listeners::bind(vec![unix(&path)]).unwrap_err().to_string();
    let shown = path.display().to_string();
    for words in [
        &format!("could not listen on unix:{shown}: "),
        "ss -lxp",
        "listener.addresses",
        "is listening",
    ] {
        assert!(error.contains(words), "{error}");
    }
    connect_to(&path).await.expect("220 ").await;

    // Somebody has put another socket there: that one stays.
    fs::remove_file(&path).unwrap();
    let other = StdUnixListener::bind(&path).unwrap();
    first.stop().await;
    assert!(path.exists());
    drop(other);
}

#[tokio::test]
async fn a_path_that_is_no_place_for_a_socket_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mail");
    fs::write(&file, "precious").unwrap();
    let error = Listeners::bind(vec![unix(&file)]).unwrap_err().to_string();
    assert!(error.contains("no socket, and it is left alone"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

    let missing = directory.path().join("run/smtp.sock");
    let error = Listeners::bind(vec![unix(&missing)]).unwrap_err().to_string();
    let cure = format!("install -d -o o365-relay {}", directory.path().join("run").display());
    assert!(error.contains(&cure), "{error}");
}

// ---- Balancers -------------------------------------------------------------------------------

/// A balancer at 127.0.0.1, which may name clients of `allow`.
fn balanced() -> Config {
    Config {
        allow: ["192.0.2.0/24", "2001:db8::/32"].map(|net| net.parse().unwrap()).into(),
        proxy_protocol: vec!["127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()],
        ..listener_config()
    }
}

fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.1 40000 25\r\n").into()
}

fn v2(octets: [u8; 4]) -> Vec<u8> {
    [V2, &[0x21, 0x11, 0, 12], &octets, &[10, 0, 0, 1, 0x9c, 0x40, 0, 25]].concat()
}

async fn through(relay: &Relay, header: &[u8]) -> Client {
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(header).await.unwrap();
    Client::new(stream)
}

#[tokio::test]
async fn the_client_that_a_balancer_names_is_the_one_that_counts() {
    let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 25\r\n".to_vec();
    for header in [v1("192.0.2.7"), v2([192, 0, 2, 7]), mapped] {
        let relay = Relay::start(balanced());
        // The client's own octets may be in the same packet.
        let mut client = through(&relay, &[&header[..], b"NOOP\r\n"].concat()).await;
        client.expect("220 ").await;
        client.expect("250 ").await;
        send_on(&mut client).await;
        let field = received(&relay).await;
        assert_eq!(field, "Received: from app ([192.0.2.7])");
    }
    let relay = Relay::start(balanced());
    for header in [v1("198.51.100.1"), v2([198, 51, 100, 1])] {
        let mut stranger = through(&relay, &header).await;
        stranger.expect("550 5.7.1 198.51.100.1 is not in listener.allow").await;
        assert_eq!(stranger.line().await, None);
    }
}

#[tokio::test]
async fn a_header_may_be_split_at_every_octet() {
    let relay = Relay::start(balanced());
    for header in [v1("192.0.2.7"), v2([192, 0, 2, 7])] {
        for at in 1..header.len() {
            let mut stream = TcpStream::connect(relay.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(&header[..at]).await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(&header[at..]).await.unwrap();
            Client::new(stream).expect("220 ").await;
        }
    }
}

#[tokio::test]
async fn a_client_has_one_share_of_all_listeners_and_a_balancer_has_none() {
    let config = || Config { max_connections_per_client: 2, ..balanced() };
    let relay = Relay::start_all(vec![several(1, config()), several(2, config())]);
    let mut held = Vec::new();
    for (port, client, start) in [
        (0, "192.0.2.7", "220 "),
        (0, "192.0.2.7", "220 "),
        (0, "192.0.2.7", "421 4.3.2 too many connections from your address"),
        (1, "192.0.2.7", "421 4.3.2 too many connections from your address"),
        (0, "192.0.2.8", "220 "),
        (1, "192.0.2.8", "220 "),
        (1, "192.0.2.9", "220 "),
    ] {
        let mut stream = TcpStream::connect(relay.tcp[port]).await.unwrap();
        stream.write_all(&v1(client)).await.unwrap();
        let mut client = Client::new(stream);
        client.expect(start).await;
        held.push(client);
    }
}

#[tokio::test]
async fn a_balancer_without_a_proper_header_is_sent_away() {
    let relay = Relay::start(balanced());
    for (octets, words) in [
        (&b"EHLO printer.example\r\n"[..], "no PROXY header from 127.0.0.1"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 x\r\n", "bad PROXY header: "),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", "bad PROXY header: "),
        (&[V2, &[0x31, 0x11, 0, 0]].concat(), "bad PROXY header: "),
        (&[V2, &[0x21, 0x11, 0xff, 0xff]].concat(), "bad PROXY header: "),
    ] {
        let mut balancer = through(&relay, octets).await;
        let reply = balancer.expect(&format!("421 4.3.2 {words}")).await;
        assert!(reply.contains("listener.proxy_protocol"), "{reply}");
        assert_eq!(balancer.line().await, None);
    }
    // Gone before the header was whole: nobody is left to answer, and the room comes back.
    drop(through(&relay, b"PROXY TCP4 192.").await);
    through(&relay, &v1("192.0.2.7")).await.expect("220 ").await;
}

#[tokio::test]
async fn a_balancer_that_speaks_for_itself_needs_to_be_allowed_like_anybody() {
    let local = [V2, &[0x20, 0, 0, 0]].concat();
    let relay = Relay::start(balanced());
    for header in [&b"PROXY UNKNOWN\r\n"[..], &local] {
        let mut check = through(&relay, header).await;
        check.expect("550 5.7.1 127.0.0.1 is not in listener.allow").await;
    }
    let relay = Relay::start(Config { allow: listener_config().allow, ..balanced() });
    for header in [&b"PROXY UNKNOWN\r\n"[..], &local] {
        through(&relay, header).await.expect("220 ").await;
    }
}

#[tokio::test]
async fn a_header_from_somebody_else_is_no_way_in() {
    let relay = Relay::start(Config { proxy_protocol: vec![], ..listener_config() });
    for header in [v1("192.0.2.7"), v2([192, 0, 2, 7])] {
        for at in [0, 1, 5, 12] {
            let mut client = relay.connect().await;
            client.expect("220 ").await;
            client.send(&header[..at]).await;
            client.send(&[&header[at..], b"MAIL FROM:<a@b.example>\r\n"].concat()).await;
            let last = async {
                let mut lines = Vec::new();
                while let Some(line) = client.line().await {
                    lines.push(line);
                }
                lines
            };
            let lines = timeout(PATIENCE, last).await.unwrap();
            let last = lines.last().unwrap();
            assert!(last.starts_with("421 4.3.2 PROXY header from 127.0.0.1"), "{lines:?}");
            assert!(last.contains("listener.proxy_protocol"), "{lines:?}");
            assert!(!lines.iter().any(|line| line.starts_with("250 ")), "{lines:?}");
        }
    }
}

#[tokio::test]
async fn a_balancer_that_sends_nothing_holds_up_neither_the_end_nor_others() {
    let relay = Relay::start(Config { max_connections: 2, ..balanced() });
    let silent = TcpStream::connect(relay.address).await.unwrap();
    through(&relay, &v1("192.0.2.7")).await.expect("220 ").await;
    let end = timeout(Duration::from_secs(2), relay.drain.finish(PATIENCE)).await;
    assert_eq!(end.unwrap(), Ok(()));
    drop(silent);
}

// ---- The commands ----------------------------------------------------------------------------

#[test]
fn commands_know_several_listeners_and_unix_sockets() {
    let place = Place::new();
    let socket = place.path("smtp.sock").display().to_string();
    let config = fs::read_to_string(&place.config).unwrap().replace(
        "[listener]\naddresses = [\"127.0.0.1:0\"]\n",
        &format!(
            "[[listener]]\nname = \"sidecar\"\naddresses = [\"unix:{socket}\", \"127.0.0.1:0\"]\n\
             [[listener]]\nname = \"erp\"\naddresses = [\"127.0.0.1:0\"]\n\
             sender = \"erp@contoso.example\"\n"
        ),
    );
    fs::write(&place.config, config).unwrap();
    let mut process = operator::Process::start(place.command(["run"]).env("NO_COLOR", "1"), false);
    let started = process.line_with("relay started");
    assert!(started.contains(&format!("listening=\"[unix:{socket}, 127.0.0.1:")), "{started}");
    let erp = process.line_with("listener=\"erp\"");
    assert!(erp.contains("erp@contoso.example") && erp.contains("127.0.0.1:"), "{erp}");
    let http = started.split_once("http=").unwrap().1.split(' ').next().unwrap().to_owned();

    let to = ["send", "--to", "somebody@example.com"];
    tell(&mut place.command(to)).succeeds(&[&format!("unix:{socket} answered: 250 2.0.0")]);
    let relay = format!("unix:{socket}");
    let named = ["--from", "a@b.example", "--relay", &relay];
    tell(place.command(to).args(named)).succeeds(&["the message was taken"]);
    let line = process.line_with("message accepted");
    assert!(line.contains("client=\"unix\"") && line.contains("listener=\"sidecar\""), "{line}");

    let told = tell(&mut place.command(["status", "--address", &http]));
    told.succeeds(&[
        &format!("listening  unix:{socket}, 127.0.0.1:"),
        "(sidecar)",
        "(erp), every message from <erp@contoso.example>",
    ]);
    let told = tell(&mut place.command(["status", "--json", "--address", &http]));
    let status: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(status["listeners"][0]["addresses"][0], format!("unix:{socket}"));
    assert_eq!(status["listeners"][1]["name"], "erp");
    assert_eq!(status["listeners"][1]["sender"], "erp@contoso.example");
    tell(&mut place.command(["health", "--address", &http])).succeeds(&["healthy"]);

    // Another daemon on the same socket, with a queue of its own.
    let queue = format!("queue.directory={}", place.path("queue2").display());
    let second = tell(&mut place.command(["--set", &queue, "run"]));
    second.fails(75, &[&format!("could not listen on unix:{socket}"), "listener.1.addresses"]);

    process.terminate();
    assert!(process.ended().success());
    assert!(!Path::new(&socket).exists());
    tell(&mut place.command(to)).fails(69, &["no relay took the message", "`o365-relay run`"]);
}

#[test]
fn a_queue_that_cannot_be_opened_leaves_no_socket_behind() {
    let place = Place::new();
    let socket = place.path("smtp.sock").display().to_string();
    let set = [format!("listener.addresses=unix:{socket}"), "queue.directory=/proc/queue".into()];
    let told = tell(place.command(["run"]).args(["--set", &set[0], "--set", &set[1]]));
    assert_ne!(told.code, Some(0), "{told:#?}");
    assert!(!Path::new(&socket).exists());
}
