//! What systemd does with the daemon, played without systemd: sockets handed over, and what is told
//! through the notify socket. `tests/systemd/run` has the real one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    process::{Command, Stdio},
    sync::Arc,
};

use operator::{BINARY, PATIENCE, Place, Process, Told, o365_relay, tell, wait_for};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};
use rustls_pki_types::ServerName;

fn bound() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The daemon as systemd starts it: descriptors from 3 on, and their number and names in the
/// environment. The shell keeps its process id when it becomes the daemon.
fn handed(place: &Place, names: &str, sockets: Vec<OwnedFd>, set: &[&str]) -> Command {
    const SCRIPT: &str = "exec 3<&0 4<&1 </dev/null >&2; export LISTEN_PID=$$; exec \"$@\"";
    let mut command = Command::new("sh");
    command.env_clear().env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    command.env("NO_COLOR", "1").args(["-c", SCRIPT, "sh", BINARY, "--config"]).arg(&place.config);
    for set in set {
        command.args(["--set", set]);
    }
    let mut sockets = sockets.into_iter().map(Stdio::from);
    command.arg("run").stdin(sockets.next().unwrap_or_else(Stdio::null));
    command.stdout(sockets.next().unwrap_or_else(Stdio::null)).stderr(Stdio::piped());
    command
}

fn start(place: &Place, names: &str, sockets: Vec<OwnedFd>, set: &[&str]) -> Process {
    let process = Process::watch(handed(place, names, sockets, set).spawn().unwrap());
    process.line_with("relay started");
    process
}

/// A start that fails.
fn refused(place: &Place, names: &str, sockets: Vec<OwnedFd>, set: &[&str]) -> Told {
    let output = handed(place, names, sockets, set).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Told { code: output.status.code(), out: String::new(), err }
}

/// From the greeting to the final reply.
fn send(stream: impl Read + Write) {
    let mut stream = BufReader::new(stream);
    let mut say = |line: &str, reply: &str| {
        stream.get_mut().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        assert!(answer.starts_with(reply), "{line:?} {answer:?}");
    };
    say("", "220 ");
    say("HELO app\r\n", "250 ");
    say("MAIL FROM:<app@b.example>\r\n", "250 ");
    say("RCPT TO:<c@d.example>\r\n", "250 ");
    say("DATA\r\n", "354 ");
    say("Subject: x\r\n\r\ntext\r\n.\r\n", "250 2.0.0 queued as ");
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_socket_with_a_listeners_address_outlives_the_daemon_and_refuses_nobody() {
    let place = Place::new();
    let (socket, address) = bound();
    let set = format!("listener.addresses={address}");
    let run =
        || start(&place, "o365-relay.socket", vec![socket.try_clone().unwrap().into()], &[&set]);

    let mut first = run();
    send(connect(address));
    first.terminate();
    assert!(first.ended().success());
    // Nobody serves it now, and yet nobody is refused.
    let waiting = connect(address);
    let second = run();
    send(waiting);
    drop(second); // SIGKILL
    let waiting = connect(address);
    let _third = run();
    send(waiting);
}

#[test]
fn sockets_go_to_listeners_by_address_then_by_name_then_to_who_takes_all() {
    let place = Place::new();
    let ((named, named_address), (rest, rest_address)) = (bound(), bound());
    let path = place.path("smtp.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let of_its_own = format!("unix:{}", path.display());
    let first = ["listener.1.addresses=systemd:printers,127.0.0.1:0", "listener.1.name=printers"];
    let others = |address: &'static str| ["listener.2.name=rest", address];
    let config = fs::read_to_string(&place.config).unwrap();
    fs::write(&place.config, config.replace("[listener]\naddresses = [\"127.0.0.1:0\"]\n", ""))
        .unwrap();

    let sockets = vec![rest.into(), named.into()];
    let set: Vec<_> = first.into_iter().chain(others("listener.2.addresses=systemd")).collect();
    let process = start(&place, "o365-relay.socket:printers", sockets, &set);
    let line = process.line_with("listener=\"printers\"");
    assert!(line.contains(&named_address.to_string()), "{line}");
    assert!(line.matches("127.0.0.1:").count() == 2, "its own address too: {line}");
    let line = process.line_with("listener=\"rest\"");
    assert!(line.contains(&rest_address.to_string()), "{line}");
    send(connect(named_address));
    send(connect(rest_address));
    drop(process);

    // The file of a Unix socket is systemd's: the daemon removes it neither at the start nor at
    // the end.
    let set = [format!("listener.addresses={of_its_own}")];
    let mut process = start(&place, "smtp", vec![unix.into()], &[&set[0]]);
    let stream = UnixStream::connect(&path).unwrap();
    send(&stream);
    process.terminate();
    assert!(process.ended().success());
    assert!(path.exists());
}

#[test]
fn an_inherited_socket_can_speak_tls() {
    let place = Place::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(place.path("cert.pem"), made.cert.pem()).unwrap();
    fs::write(place.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let certificate = format!("listener.tls_certificate_file={}", place.path("cert.pem").display());
    let key = format!("listener.tls_key_file={}", place.path("key.pem").display());
    let (socket, address) = bound();
    let set = ["listener.addresses=systemd", "listener.tls=implicit", &certificate, &key];
    let _process = start(&place, "smtps", vec![socket.into()], &set);

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    send(rustls::StreamOwned::new(session, connect(address)));
}

#[test]
fn what_systemd_hands_over_has_to_fit_the_configuration() {
    let place = Place::new();
    let (socket, address) = bound();
    refused(&place, "o365-relay.socket", vec![socket.into()], &[]).fails(
        78,
        &[
            &format!("systemd hands over a socket at {address} (\"o365-relay.socket\")"),
            &format!("add \"{address}\" or \"systemd:o365-relay.socket\" to listener.addresses"),
            "systemctl edit --full o365-relay.socket",
        ],
    );

    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    let set = ["listener.addresses=systemd"];
    refused(&place, "x", vec![datagram.into()], &set)
        .fails(78, &["descriptor 3 (\"x\")", "not one of a stream", "ListenStream="]);

    // Nothing at all, and nothing of that name.
    refused(&place, "", vec![], &set)
        .fails(78, &["could not listen on systemd: ", "systemctl enable --now o365-relay.socket"]);
    let (socket, _) = bound();
    let set = ["listener.addresses=systemd,systemd:erp"];
    refused(&place, "x", vec![socket.into()], &set)
        .fails(78, &["could not listen on systemd:erp: ", "FileDescriptorName=erp"]);

    tell(place.command(["config", "check"]).args(["--set", set[0]]))
        .succeeds(&["configuration ok"]);
}

#[test]
fn commands_say_who_knows_where_a_socket_of_systemds_is() {
    let place = Place::new();
    let set = ["--set", "listener.addresses=systemd"];
    let told = tell(place.command(["send", "--to", "somebody@example.com"]).args(set));
    told.fails(64, &["systemctl list-sockets", "--relay"]);
}

#[test]
fn systemd_hears_of_the_start_of_life_and_of_the_end() {
    let place = Place::new();
    let path = place.path("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = place.command(["run"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let mut process = Process::start(&mut command, false);
    let mut told = Vec::new();
    let mut hear = |words: &str| {
        wait_for(words, || {
            let mut octets = [0; 2048];
            let length = notify.recv(&mut octets).unwrap();
            told.push(String::from_utf8(octets[..length].to_vec()).unwrap());
            told.last().unwrap().contains(words).then_some(())
        });
    };
    hear("READY=1");
    hear("STATUS=");
    for _ in 0..3 {
        hear("WATCHDOG=1");
    }
    process.terminate();
    hear("STOPPING=1");
    assert!(process.ended().success());
    assert!(told[0].starts_with("READY=1"), "nothing before it: {told:?}");
    let line = told.iter().find(|text| text.starts_with("STATUS=")).unwrap();
    assert!(line.contains("0 queued") && line.contains("NO TOKEN"), "{line}");
}

#[test]
fn the_configuration_of_a_package_asks_for_three_values_and_a_credential() {
    let told = tell(&mut o365_relay(["--config", "src/setup/placeholder.toml", "config", "check"]));
    let asked = ["tenant_id", "client_id", "mailbox", "client_secret_file"];
    told.fails(78, &asked.map(|key| format!("`office365.{key}`")).each_ref().map(String::as_str));
    assert_eq!(told.err.lines().filter(|line| line.starts_with("- ")).count(), asked.len());
}
