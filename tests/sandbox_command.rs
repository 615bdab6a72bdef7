//! `o365-relay sandbox`: what a newcomer sees, and what a test double is used for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;

use std::{
    fs,
    net::{SocketAddr, TcpListener},
};

use operator::{Process, Tenant, mode, o365_relay, tell, wait_for};
use tempfile::TempDir;

#[test]
fn once_tells_the_way_of_one_message_and_ends() {
    let told = tell(&mut o365_relay(["sandbox", "--once", "--listen", "127.0.0.1:0"]));
    told.succeeds(&[]);
    let lines: Vec<&str> = told.out.lines().collect();
    assert!(lines.len() <= 25, "too much to read: {}", told.out);

    let place = |words: &[&str]| {
        let found = lines.iter().position(|line| words.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("no line with {words:?} in {}", told.out))
    };
    let ready = place(&["sandbox", "fake tenant ready"]);
    let listening = place(&["relay", "takes plain SMTP on 127.0.0.1:"]);
    let sent = place(&["app", "sends a test message to 127.0.0.1:"]);
    let accepted = place(&["relay", "accepted, durable: 250 2.0.0 queued as "]);
    let token = place(&["login", "token issued"]);
    let secured = place(&["upstream", "STARTTLS"]);
    let login = place(&["upstream", "XOAUTH2"]);
    let arrived = place(&["upstream", "arrived", "answered 250 2.0.0"]);
    let relayed = place(&["relay", "relayed ", "upstream's reply is on record: 250 2.0.0"]);
    // When the token comes is not certain, only that nothing goes upstream before.
    assert!([ready, listening, sent, accepted].is_sorted(), "{}", told.out);
    assert!([sent, arrived, relayed].is_sorted(), "{}", told.out);
    assert!([ready, token, secured, login, arrived].is_sorted(), "{}", told.out);
    assert_eq!(relayed, lines.len() - 1, "{}", told.out);

    let address = |line: &str| -> SocketAddr {
        line.split(' ').rev().find_map(|word| word.trim_end_matches(':').parse().ok()).unwrap()
    };
    assert_ne!(address(lines[listening]).port(), 0, "the real port");
    let id = lines[accepted].rsplit(' ').next().unwrap();
    assert!(lines[relayed].contains(id), "one and the same message: {}", told.out);
}

#[test]
fn the_test_message_is_saved_and_the_directory_kept() {
    let root = TempDir::new().unwrap();
    let mut command = o365_relay(["sandbox", "--once", "--listen", "127.0.0.1:0", "--directory"]);
    command.arg(root.path().join("kept")).arg("--save").arg(root.path().join("saved"));
    tell(&mut command).succeeds(&["relayed"]);
    let message = fs::read_to_string(root.path().join("saved/000001.eml")).unwrap();
    assert!(message.starts_with("Received: "), "{message}");
    assert!(message.contains("\r\nTo: somebody@example.com\r\n"), "{message}");
    let facts = fs::read(root.path().join("saved/000001.json")).unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
    assert_eq!(facts["authenticated_as"], "relay@sandbox.example");
    assert_eq!(facts["forward_paths"][0]["address"], "somebody@example.com");
    assert!(root.path().join("kept/queue/queue.db").exists());

    // A second run finds the directory as it is.
    tell(&mut command).succeeds(&["relayed"]);
    assert!(root.path().join("saved/000002.eml").exists());
}

#[test]
fn nothing_is_left_of_a_temporary_directory() {
    let temporary = TempDir::new().unwrap();
    let mut command = o365_relay(["sandbox", "--once", "--listen", "127.0.0.1:0"]);
    tell(command.env("TMPDIR", temporary.path())).succeeds(&["relayed"]);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn the_environment_of_a_real_tenant_is_left_alone() {
    let mut command = o365_relay(["sandbox", "--once", "--listen", "127.0.0.1:0"]);
    command.env("O365_RELAY__OFFICE365__SMTP_PORT", "1").env("AZURE_TENANT_ID", "contoso.com");
    tell(&mut command).succeeds(&["relayed"]);
}

#[test]
fn the_fake_tenant_alone_serves_a_relay() {
    let tenant = Tenant::start();
    tenant.process.line_with(&format!("--config {}", canonical(&tenant)));
    for name in ["ca.pem", "office365.toml"] {
        assert_eq!(mode(&tenant.root.path().join("tenant").join(name)), 0o600, "{name}");
    }
    assert_eq!(mode(&tenant.root.path().join("tenant")), 0o700);

    let relay = tenant.relay([]);
    relay.send().succeeds(&["250 2.0.0 queued as"]);
    wait_for("the message", || (tenant.arrived().len() == 1).then_some(()));
    tenant.process.line_with("message 1 arrived: <relay@sandbox.example>");
    relay.stop();
    let shown = tenant.process.text();
    assert!(!shown.contains(&tenant.key("client_secret")), "the secret is for the file: {shown}");
}

#[test]
fn a_configuration_of_an_earlier_sandbox_is_gone_before_the_new_one_is_there() {
    let root = TempDir::new().unwrap();
    let earlier = root.path().join("office365.toml");
    fs::write(&earlier, "of yesterday").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = o365_relay(["sandbox", "--only", "--directory"]);
    command.arg(root.path()).arg("--smtp-address").arg(taken.local_addr().unwrap().to_string());
    tell(&mut command).fails(75, &["could not listen on"]);
    assert!(!earlier.exists(), "who waits for the new one would take it");
}

#[test]
fn each_credential_gets_the_message_through_and_leaves_its_files() {
    for (kind, files) in [
        ("certificate", &["certificate.pem", "private_key.pem"][..]),
        ("federated-token", &["federated_token"]),
        ("imds", &[]),
        ("app-service", &[]),
    ] {
        let root = TempDir::new().unwrap();
        let mut command = o365_relay(["sandbox", "--once", "--listen", "127.0.0.1:0"]);
        command.args(["--credential", kind, "--directory"]).arg(root.path());
        tell(&mut command).succeeds(&["relayed"]);
        let text = fs::read_to_string(root.path().join("office365.toml")).unwrap();
        assert!(!text.contains("client_secret"), "{text}");
        for file in files {
            assert_eq!(mode(&root.path().join(file)), 0o600, "{file}");
            assert!(text.contains(&format!("/{file}\"")), "{text}");
        }
        assert_eq!(text.contains("managed_identity = \"system\""), files.is_empty(), "{text}");
    }
    let told = tell(&mut o365_relay(["sandbox", "--credential", "password"]));
    told.fails(64, &["'password'", "federated-token"]);
}

#[test]
fn a_relay_tells_the_end_of_its_credential_in_log_and_status() {
    let tenant = Tenant::start_with(&["--credential", "certificate"]);
    let relay = tenant.relay([]);
    relay.process.line_with("access token obtained");
    let path = tenant.key("certificate_file");
    relay.ask(&["status"]).succeeds(&[&format!("credential certificate {path}: 36")]);
    relay.ask(&["status"]).succeeds(&[" days left, expires 20"]);
    assert!(!relay.stop().contains("credential expires soon"));

    let tenant = Tenant::start();
    let relay = tenant.relay(["--set", "office365.client_secret_expires=2026-01-01"]);
    let line = relay.process.line_with("credential has expired");
    assert!(line.contains("ERROR") && line.contains("2026-01-01") && line.contains("advice="));
    relay.ask(&["status"]).succeeds(&["credential client secret: EXPIRED, expires 2026-01-01"]);
    relay.send().succeeds(&["250 2.0.0 queued as"]); // only Entra ID knows whether it is so
    wait_for("the message", || (tenant.arrived().len() == 1).then_some(()));
    assert_eq!(relay.stop().matches("credential has expired").count(), 1);
}

#[test]
fn a_signal_ends_it_well() {
    let Tenant { mut process, root: _kept } = Tenant::start();
    process.terminate();
    assert_eq!(process.ended().code(), Some(0), "{}", process.text());

    let mut command = o365_relay(["sandbox", "--listen", "127.0.0.1:0"]);
    let mut process = Process::start(&mut command, true);
    process.line_with("nothing leaves this machine");
    assert!(process.is_running());
    process.terminate();
    assert_eq!(process.ended().code(), Some(0), "{}", process.text());
}

#[test]
fn its_mistakes_are_told() {
    let (root, taken) = (TempDir::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--smtp-address", "--login-address"] {
        let told = tell(&mut o365_relay(["sandbox", "--only", option, &address]));
        told.fails(75, &[&format!("could not listen on {address}"), "port 0 for any free port"]);
    }
    tell(&mut o365_relay(["sandbox", "--only", "--once"])).fails(64, &["cannot be used with"]);

    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let told = tell(o365_relay(["sandbox", "--only", "--directory"]).arg(&file));
    told.fails(78, &["could not write", file.to_str().unwrap(), "--directory"]);
    let told = tell(o365_relay(["sandbox", "--only", "--save"]).arg(&file));
    told.fails(78, &["could not save messages in", file.to_str().unwrap(), "--save"]);

    let kept = root.path().join("kept");
    let mut command = o365_relay(["sandbox", "--listen", "127.0.0.1:0", "--directory"]);
    let first = Process::start(command.arg(&kept), true);
    first.line_with("takes plain SMTP");
    let told = tell(command.arg("--once"));
    assert_eq!(told.code, Some(75), "{told:#?}");
    assert_eq!(told.err.matches("is in use by another sandbox").count(), 1, "{told:#?}");
    assert!(told.err.contains("--directory"), "{told:#?}");
}

fn canonical(tenant: &Tenant) -> String {
    fs::canonicalize(tenant.config()).unwrap().display().to_string()
}
