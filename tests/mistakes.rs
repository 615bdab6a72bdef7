//! Every mistake an operator can make gives one message that says what is wrong, where, and
//! what to do; mail that was accepted stays queued and goes out once the mistake is mended.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use operator::{BINARY, PATIENCE, Place, Relay, SECRET, Tenant, o365_relay, tell, wait_for};
use tokio::net::TcpSocket;

// ---- Before anything runs: arguments and configuration -------------------------------------

#[test]
fn a_newcomer_without_a_configuration_is_shown_the_way() {
    let file = "/etc/o365-relay/config.toml";
    if Path::new(file).exists() {
        return eprintln!("skipped: this host has a {file}");
    }
    for arguments in [&[][..], &["run"], &["config", "check"], &["status"], &["doctor"]] {
        tell(&mut o365_relay(arguments.iter().copied())).fails(
            78,
            &[
                "there is no configuration yet",
                "no file /etc/o365-relay/config.toml",
                "o365-relay sandbox",
                "o365-relay config example > /etc/o365-relay/config.toml",
                "--config FILE",
                "O365_RELAY__OFFICE365__TENANT_ID",
            ],
        );
    }
    // Who has begun is told what is still missing.
    let mut begun = o365_relay(["run"]);
    let told = tell(begun.env("O365_RELAY__OFFICE365__TENANT_ID", "contoso.example"));
    told.fails(78, &["`office365.mailbox`: required", "O365_RELAY__OFFICE365__MAILBOX", file]);
    assert!(!told.err.contains("office365.tenant_id"), "{told:#?}");
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let place = Place::new();
    let path = place.path("nowhere.toml").display().to_string();
    let cure = format!("create it with `o365-relay config example > {path}`");
    let told = tell(&mut o365_relay(["run", "--config", &path]));
    told.fails(78, &["could not read the file: No such file", &path, &cure, "(--config)"]);

    let told = tell(o365_relay(["run"]).env("O365_RELAY_CONFIG", &path));
    told.fails(78, &["could not read the file", &cure, "variable O365_RELAY_CONFIG"]);
}

#[test]
fn a_misspelt_key_or_variable_is_told_with_its_place_and_a_guess() {
    let place = Place::new();
    let mut text = fs::read_to_string(&place.config).unwrap();
    text.push_str("give_up_aftre = \"5d\"\n");
    fs::write(&place.config, &text).unwrap();
    let at = format!("({}:{})", place.config.display(), text.lines().count());
    let told = tell(&mut place.command(["run"]));
    told.fails(78, &["`queue.give_up_aftre`", "did you mean `give_up_after`?", &at]);
    assert_eq!(told.err.lines().count(), 2, "one fault, one line below the first: {told:#?}");

    let place = Place::new();
    let told = tell(place.command(["run"]).env("O365_RELAY__OFFICE365__MAILBX", SECRET));
    let guess = "did you mean `O365_RELAY__OFFICE365__MAILBOX`?";
    told.fails(78, &["`O365_RELAY__OFFICE365__MAILBX`", guess]);
    assert_eq!(told.err.lines().count(), 2, "{told:#?}");
}

#[test]
fn wrong_arguments_are_told() {
    tell(&mut o365_relay(["bogus"])).fails(64, &["unrecognized subcommand 'bogus'", "--help"]);
    let bad_address = tell(&mut o365_relay(["send", "--to", "nobody"]));
    bad_address.fails(64, &["'nobody'", "--to <ADDRESS>"]);

    let told = tell(&mut Place::new().command(["config", "check", "--set", SECRET]));
    told.fails(78, &["`--set`: argument 1 is not `section.key=value`"]);
    let told = tell(&mut Place::new().command(["config", "check", "--set", "http.adress=off"]));
    told.fails(78, &["`http.adress`", "did you mean `http.address`?", "(--set)"]);
}

#[test]
fn config_check_show_and_example() {
    let place = Place::new();
    let told = tell(&mut place.command(["config", "check"]));
    told.succeeds(&[]);
    assert_eq!(told.out, "configuration ok\n");

    for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
        let told = tell(&mut place.command(arguments.iter().copied()));
        told.succeeds(&["office365.client_secret", "********", "config.toml:4"]);
    }

    // `config example | head -1`: whoever reads has gone before the first octet is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = o365_relay(["config", "example"]).stdout(writer).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));

    let secret_file = place.path("secret");
    fs::write(&secret_file, SECRET).unwrap();
    let example = tell(&mut o365_relay(["config", "example"])).out;
    let own = format!("client_secret_file = \"{}\"", secret_file.display());
    let lines = example.lines().map(|line| match line.starts_with("client_secret_file = ") {
        true => own.as_str(),
        false => line,
    });
    fs::write(&place.config, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let ca = format!("office365.ca_file={}", place.path("ca.pem").display());
    tell(&mut place.command(["config", "check", "--set", &ca])).succeeds(&["configuration ok"]);
}

#[test]
fn commands_that_need_a_running_relay_say_so() {
    let place = Place::new();
    let port = ClosedPort::new();
    let closed = port.address().to_string();
    let told = tell(&mut place.command(["send", "--to", "a@b.example", "--relay", &closed]));
    told.fails(69, &[&closed, "Connection refused", "`o365-relay run`", "--relay"]);
    for command in ["status", "health"] {
        let told = tell(&mut place.command([command, "--address", &closed]));
        told.fails(69, &[&closed, "Connection refused", "`o365-relay run`", "http.address"]);
        let told = tell(&mut place.command([command, "--set", "http.address=off"]));
        told.fails(78, &["http.address is \"off\"", "127.0.0.1:9587"]);
    }
}

// ---- At start: ports, directories, rights --------------------------------------------------

#[test]
fn a_taken_port_is_told_with_the_way_to_find_who_has_it() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (text, port) = (address.to_string(), address.port());
    let told = tell(&mut place.command(["--set", &format!("listener.addresses={text}"), "run"]));
    let find = format!("ss -ltnp 'sport = :{port}'");
    told.fails(75, &[&format!("could not listen on {text}"), &find, "listener.addresses"]);
    assert!(!place.path("queue").exists(), "nothing was touched");

    let told = tell(&mut place.command(["--set", &format!("http.address={text}"), "run"]));
    told.fails(75, &[&format!("could not listen on {text}"), "http.address"]);

    let told = tell(&mut o365_relay(["sandbox", "--once", "--listen", &text]));
    assert_eq!(told.code, Some(75), "{told:#?}");
    assert_eq!(told.err.matches("in use").count(), 1, "{told:#?}");
    assert!(told.err.contains(&format!("could not listen on {text}")), "{told:#?}");
    assert!(told.err.contains("--listen 127.0.0.1:0"), "{told:#?}");
}

#[test]
fn a_foreign_address_is_told() {
    // 192.0.2.0/24 belongs to nobody (RFC 5737).
    let place = Place::new();
    let set = ["--set", "listener.addresses=192.0.2.1:2525", "--set", "listener.allow=127.0.0.1"];
    let told = tell(&mut place.command(set.into_iter().chain(["run"])));
    told.fails(
        78,
        &["could not listen on 192.0.2.1:2525", "no such address", "listener.addresses"],
    );
}

#[test]
fn a_queue_directory_that_cannot_be_is_told() {
    let place = Place::new();
    let missing = place.path("missing/queue").display().to_string();
    let told = tell(&mut place.command(["--set", &format!("queue.directory={missing}"), "run"]));
    let cure = format!("make {} first", place.path("missing").display());
    told.fails(78, &["No such file or directory", &missing, &cure, "queue.directory"]);

    let file = place.config.display().to_string();
    let told = tell(&mut place.command(["--set", &format!("queue.directory={file}"), "run"]));
    told.fails(78, &["set queue.directory to a directory, not to a file", &file]);
}

#[test]
fn a_queue_that_is_none_is_told() {
    let place = Place::new();
    let database = place.path("queue/queue.db");
    fs::create_dir(place.path("queue")).unwrap();
    fs::write(&database, "Dear diary, today I met a mail relay.\n".repeat(40)).unwrap();
    let path = database.display().to_string();
    let told = tell(&mut place.command(["run"]));
    told.fails(78, &["is not a queue database", &path, "move it away", "queue.directory"]);

    fs::remove_file(&database).unwrap();
    fs::create_dir(&database).unwrap();
    let directory = place.path("queue").display().to_string();
    let told = tell(&mut place.command(["run"]));
    told.fails(69, &["unable to open database", &directory, "set another queue.directory"]);
}

#[test]
fn a_disk_that_is_too_full_is_told() {
    let place = Place::new();
    let relay = place.start(["--set", "queue.min_free_bytes=900TiB"]);
    relay.send().fails(75, &["452 4.3.1", "does not take the message now"]);
    let words = ["no mail is accepted: only ", "queue.min_free_bytes is 900.0 TiB", "make room"];
    relay.ask(&["health", "--ready"]).fails(69, &words);
    relay.ask(&["status"]).succeeds(&words);
    relay.stop();
}

#[test]
fn a_ca_file_that_is_none_is_told() {
    let place = Place::new();
    for (file, reason) in [("nowhere.pem", "No such file"), ("config.toml", "no PEM certificate")] {
        let path = place.path(file).display().to_string();
        let told = tell(&mut place.command(["run", "--set", &format!("office365.ca_file={path}")]));
        told.fails(
            78,
            &["could not read CA certificates", reason, &path, "as PEM text", "(--set)"],
        );
    }
}

#[test]
fn two_relays_cannot_share_a_queue() {
    let place = Place::new();
    let first = place.start([]);
    let told = tell(&mut place.command(["run"]));
    let process = format!("(process {})", first.process.id());
    let queue = place.path("queue").display().to_string();
    told.fails(75, &["is in use by another o365-relay", &process, &queue, "queue.directory"]);
    first.stop();
    place.start([]).stop();
}

#[test]
fn files_that_this_user_may_not_touch_are_told() {
    let Some(user) = Unprivileged::new() else { return };
    let place = &user.place;
    fs::write(place.path("secret"), SECRET).unwrap();
    user.lock(&place.path("secret"));
    let secret = place.path("secret").display().to_string();
    let told = tell(user.command(&[]).args([
        "--set",
        "office365.client_secret=",
        "--set",
        &format!("office365.client_secret_file={secret}"),
    ]));
    let words = ["Permission denied", &secret, "`chmod 0600`"];
    told.fails(78, &words);

    let queue = place.path("queue");
    fs::create_dir(&queue).unwrap();
    user.lock(&queue);
    let queue = queue.display().to_string();
    let told = tell(&mut user.command(&[]));
    told.fails(77, &["Permission denied", &queue, "chown -R", "queue.directory"]);

    let parent = place.path("closed");
    fs::create_dir(&parent).unwrap();
    user.lock(&parent);
    let inside = format!("queue.directory={}", parent.join("queue").display());
    let told = tell(user.command(&[]).args(["--set", &inside]));
    told.fails(77, &["Permission denied", "install -d -m 0700", "queue.directory"]);

    user.lock(&place.config);
    let config = place.config.display().to_string();
    let told = tell(&mut user.command(&[]));
    told.fails(78, &["Permission denied", &config, "chmod 0640"]);
}

#[test]
fn port_25_without_the_right_to_it_is_told() {
    let Some(user) = Unprivileged::new() else { return };
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    let (before, address): (&[&str], _) = match (first > 25, user.is_root) {
        (true, _) => (&[], "127.0.0.1:25"),
        // A new network namespace has the usual rule, but no loopback address yet.
        (false, true) if works(Command::new("unshare").args(["-n", "true"])) => {
            (&["unshare", "-n"], "0.0.0.0:25")
        }
        _ => return eprintln!("skipped: every user of this host may listen on port 25"),
    };
    let told = tell(user.command(before).args([
        "--set",
        &format!("listener.addresses={address}"),
        "--set",
        "listener.allow=127.0.0.1",
    ]));
    told.fails(
        77,
        &[
            &format!("could not listen on {address}: Permission denied"),
            "below 1024",
            "CAP_NET_BIND_SERVICE",
            "systemd unit",
            "127.0.0.1:2525",
        ],
    );
}

// ---- While it runs: accepted mail waits until the mistake is mended ------------------------

#[test]
fn a_wrong_tenant_is_told_and_costs_no_mail() {
    let tenant = Tenant::start();
    Mistake {
        set: &["office365.tenant_id=11111111-2222-3333-4444-555555555555"],
        ready: 69,
        words: &[
            "AADSTS90002: Tenant '11111111-2222-3333-4444-555555555555' not found",
            "trace id",
            "set tenant_id (11111111-2222-3333-4444-555555555555 now)",
        ],
    }
    .is_told_and_mended(&tenant);
}

#[test]
fn a_wrong_client_id_is_told_and_costs_no_mail() {
    let tenant = Tenant::start();
    Mistake {
        set: &["office365.client_id=11111111-2222-3333-4444-555555555555"],
        ready: 69,
        words: &[
            "AADSTS700016: Application with identifier '11111111-2222-3333-4444-555555555555'",
            "trace id",
            "check that client_id 11111111-2222-3333-4444-555555555555 and tenant_id",
        ],
    }
    .is_told_and_mended(&tenant);
}

#[test]
fn a_wrong_secret_is_told_and_costs_no_mail() {
    let tenant = Tenant::start();
    Mistake {
        set: &[&format!("office365.client_secret={SECRET}")],
        ready: 69,
        words: &[
            "AADSTS7000215: Invalid client secret provided",
            "trace id",
            "put the Value column of App registrations",
        ],
    }
    .is_told_and_mended(&tenant);
}

#[test]
fn a_login_host_that_is_down_is_told_and_costs_no_mail() {
    let tenant = Tenant::start();
    let port = ClosedPort::new();
    let closed = port.address().port();
    Mistake {
        set: &[&format!("office365.login_url=https://localhost:{closed}")],
        ready: 69,
        words: &[
            &format!("could not reach localhost:{closed} (connect): Connection refused"),
            &format!("reach localhost, TCP port {closed}"),
            "office365.login_url",
        ],
    }
    .is_told_and_mended(&tenant);
}

#[test]
fn a_smarthost_that_is_down_is_told_and_costs_no_mail() {
    let tenant = Tenant::start();
    let port = ClosedPort::new();
    let closed = port.address().port();
    Mistake {
        set: &[&format!("office365.smtp_port={closed}")],
        ready: 0,
        words: &[
            &format!("could not connect to localhost:{closed}"),
            "Connection refused",
            &format!("reach port {closed} there (DNS, firewall)"),
        ],
    }
    .is_told_and_mended(&tenant);
}

#[test]
fn an_unknown_authority_is_told_and_costs_no_mail() {
    let (tenant, other) = (Tenant::start(), Place::new());
    Mistake {
        set: &[&format!("office365.ca_file={}", other.path("ca.pem").display())],
        ready: 69,
        words: &[
            "could not reach localhost:",
            "(tls): invalid peer certificate",
            "office365.ca_file",
        ],
    }
    .is_told_and_mended(&tenant);
}

#[test]
fn a_smarthost_of_an_unknown_authority_is_told_and_costs_no_mail() {
    let (tenant, other) = (Tenant::start(), Tenant::start());
    Mistake {
        set: &[&format!("office365.smtp_port={}", other.key("smtp_port"))],
        ready: 0,
        words: &["TLS handshake", "localhost: invalid peer certificate", "office365.ca_file"],
    }
    .is_told_and_mended(&tenant);
}

#[test]
fn a_mailbox_without_right_is_told_and_costs_no_mail() {
    let tenant = Tenant::start();
    Mistake {
        set: &["office365.mailbox=other@sandbox.example"],
        ready: 0,
        words: &[
            "535 5.7.3 Authentication unsuccessful",
            "outlook.sandbox.example",
            "Add-MailboxPermission -Identity other@sandbox.example",
        ],
    }
    .is_told_and_mended(&tenant);
}

/// What was set wrong, and what must then be told.
struct Mistake<'a> {
    set: &'a [&'a str],
    /// How `health --ready` ends: trouble that may pass makes it unready only after a while.
    ready: i32,
    words: &'a [&'a str],
}

impl Mistake<'_> {
    #[track_caller]
    fn is_told_and_mended(&self, tenant: &Tenant) {
        let wrong = self.set.iter().flat_map(|set| ["--set", set]);
        let relay = tenant.relay(wrong);
        relay.send().succeeds(&["250 2.0.0 queued as", "the message was taken"]);

        let line = relay.process.line_with(" ERROR ");
        self.assert_in(&line);
        let status = wait_for("the status", || {
            let told = relay.ask(&["status"]);
            self.words.iter().all(|word| told.out.contains(word)).then_some(told)
        });
        status.succeeds(&["1 queued", "o365-relay doctor"]);
        assert_eq!(status.out.matches(self.words[0]).count(), 1, "{status:#?}");
        let ready = relay.ask(&["health", "--ready"]);
        assert_eq!(ready.code, Some(self.ready), "{ready:#?}");
        self.assert_in(if self.ready == 0 { &ready.out } else { &ready.err });
        relay.ask(&["health"]).succeeds(&["healthy"]);

        let log = relay.stop();
        let loud = log.lines().filter(|line| line.contains(" ERROR ")).count();
        assert_eq!(loud, 1, "not told once: {log}");
        assert!(tenant.arrived().is_empty());

        let relay = tenant.relay([]);
        wait_for("the message", || (tenant.arrived().len() == 1).then_some(()));
        wait_for("an empty queue", || {
            relay.ask(&["status"]).out.contains(" 0 queued").then_some(())
        });
        relay.ask(&["health", "--ready"]).succeeds(&["ready\n"]);
        relay.stop();
        assert_eq!(tenant.arrived().len(), 1, "once");
    }

    #[track_caller]
    fn assert_in(&self, text: &str) {
        for word in self.words {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        assert_eq!(text.matches(self.words[0]).count(), 1, "not once: {text}");
    }
}

#[test]
fn trouble_that_lasts_is_not_told_again() {
    let place = Place::new();
    let relay = place.start(["--set", "log.level=debug"]);
    relay.process.line_with("access token request failed again");
    let log = relay.stop();
    assert_eq!(log.matches(" ERROR ").count(), 1, "{log}");
    assert_eq!(log.matches(" WARN ").count(), 0, "{log}");
}

// ---- Its end -------------------------------------------------------------------------------

#[test]
fn an_idle_relay_ends_at_once() {
    // Whoever waited for the grace period would not end within this test's patience.
    let relay = Place::new().start(["--set", "daemon.shutdown_grace=1h"]);
    let log = relay.stop();
    assert!(log.contains("drain begun") && log.contains("relay stopped"), "{log}");
}

#[test]
fn mail_data_under_way_is_waited_for() {
    let place = Place::new();
    let mut relay = place.start([]);
    let mut client = Client::in_mail_data(&relay);
    relay.process.terminate();
    relay.process.line_with("drain begun");
    client.write("the rest\r\n");
    assert!(relay.process.is_running(), "{}", relay.process.text());
    client.write(".\r\n");
    let reply = client.read();
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    assert_eq!(relay.process.ended().code(), Some(0));

    let relay = place.start([]);
    relay.ask(&["status"]).succeeds(&["1 queued"]);
    relay.stop();
}

#[test]
fn a_second_signal_does_not_wait() {
    let place = Place::new();
    let mut relay = place.start(["--set", "daemon.shutdown_grace=1h"]);
    let _client = Client::in_mail_data(&relay);
    relay.process.terminate();
    relay.process.line_with("drain begun");
    assert!(relay.process.is_running());
    relay.process.terminate();
    assert_eq!(relay.process.ended().code(), Some(75));
    relay.process.line_with("second signal");

    let relay = place.start([]);
    relay.ask(&["status"]).succeeds(&[" 0 queued"]);
    relay.stop();
}

/// An SMTP client in the middle of its mail data.
struct Client {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Client {
    fn in_mail_data(relay: &Relay) -> Self {
        let stream = TcpStream::connect(relay.smtp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let replies = BufReader::new(stream.try_clone().unwrap());
        let mut client = Self { stream, replies };
        assert!(client.read().starts_with("220"));
        for (command, reply) in [
            ("HELO client.example\r\n", "250"),
            ("MAIL FROM:<a@example.com>\r\n", "250"),
            ("RCPT TO:<b@example.com>\r\n", "250"),
            ("DATA\r\n", "354"),
        ] {
            client.write(command);
            assert!(client.read().starts_with(reply), "{command}");
        }
        client.write("Subject: slow\r\n\r\nthe beginning\r\n");
        client
    }

    fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        line
    }
}

/// A port of loopback that nothing listens on, nor can as long as this is kept.
struct ClosedPort(TcpSocket);

impl ClosedPort {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}

/// Somebody without rights: user 65534 if we are root, else we ourselves.
struct Unprivileged {
    place: Place,
    is_root: bool,
}

impl Unprivileged {
    /// `None`, with the reason printed, where root cannot become somebody else.
    fn new() -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        if is_root && !works(Command::new("setpriv").args(NOBODY).arg("true")) {
            eprintln!("skipped: root, and no setpriv to give that up with");
            return None;
        }
        let place = Place::new();
        let binary = place.path("o365-relay");
        if fs::hard_link(BINARY, &binary).is_err() {
            fs::copy(BINARY, &binary).unwrap();
        }
        open(&binary, 0o755);
        open(&place.config, 0o644);
        open(&place.path("ca.pem"), 0o644);
        open(place.root.path(), 0o755);
        Some(Self { place, is_root })
    }

    /// The relay as that user, started by way of `before`.
    fn command(&self, before: &[&str]) -> Command {
        let (binary, config) = (self.place.path("o365-relay"), &self.place.config);
        let mut words: Vec<&str> = before.to_vec();
        if self.is_root {
            words.push("setpriv");
            words.extend(NOBODY);
        }
        words.push(binary.to_str().unwrap());
        let mut command = Command::new(words[0]);
        command.env_clear().args(&words[1..]).arg("run").arg("--config").arg(config);
        command
    }

    /// Takes a file or directory away from that user.
    fn lock(&self, path: &Path) {
        let mode = match (self.is_root, path.is_dir()) {
            (true, _) => 0o700,
            (false, true) => 0o500, // so that it can be removed in the end
            (false, false) => 0o000,
        };
        open(path, mode);
    }
}

const NOBODY: [&str; 5] =
    ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
