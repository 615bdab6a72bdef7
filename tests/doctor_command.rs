//! `doctor` as an operator meets it: exit codes, what is printed, waiting, JSON.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;

use std::{fs, process::Command};

use operator::{Place, Tenant, Told, tell};

/// `doctor` with the configuration of this tenant; no relay is asked.
fn doctor(tenant: &Tenant, arguments: &[&str]) -> Command {
    let queue = tenant.root.path().join("queue");
    let mut command = operator::doctor(tenant.config().as_ref(), &queue);
    command.args(arguments);
    command
}

/// The lines that begin with a colour.
fn lines<'a>(told: &'a Told, colour: &str) -> Vec<&'a str> {
    told.out.lines().filter(|line| line.starts_with(colour)).collect()
}

#[test]
fn all_green_is_success_and_a_red_line_is_1() {
    let tenant = Tenant::start();
    let well = tell(&mut doctor(&tenant, &[]));
    assert_eq!((well.code, well.err.as_str()), (Some(0), ""), "{well:#?}");
    assert!(lines(&well, "red").is_empty() && lines(&well, "green").len() > 10, "{well:#?}");
    assert!(well.out.ends_with("nothing stands in the way of mail\n"), "{well:#?}");
    assert!(!well.out.contains('\u{1b}'), "colours only on a terminal: {well:#?}");
    let secret = tenant.key("client_secret");
    assert!(!well.out.contains(&secret) && !well.out.contains("eyJ"), "{well:#?}");

    let sick = tell(&mut doctor(&tenant, &["--set", "office365.mailbox=nobody@sandbox.example"]));
    assert_eq!((sick.code, sick.err.as_str()), (Some(1), ""), "{sick:#?}");
    assert_eq!(lines(&sick, "red").len(), 1, "{sick:#?}");
    let known = "\n       if (-not (Get-ServicePrincipal -Identity '";
    assert!(sick.out.contains(known), "{sick:#?}");
    assert!(sick.out.contains(" { New-ServicePrincipal -AppId 'c1e47a52-"), "{sick:#?}");
    let last = "1 red; mend the first one first: login as nobody@sandbox.example\n";
    assert!(sick.out.ends_with(last), "{sick:#?}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_78_and_one_with_faults_is_1() {
    let place = Place::new();
    fs::write(&place.config, "[office365\nmailbox =").unwrap();
    tell(&mut place.command(["doctor"])).fails(78, &["not TOML", "config.toml:1"]);

    let place = Place::new();
    let told = tell(&mut place.command(["doctor", "--set", "queue.give_up_aftre=5d"]));
    assert_eq!((told.code, told.err.as_str()), (Some(1), ""), "{told:#?}");
    assert!(lines(&told, "red")[0].contains("did you mean `queue.give_up_after`?"), "{told:#?}");
    assert_eq!(lines(&told, "grey").len(), 6, "{told:#?}");
}

#[test]
fn json_has_a_stable_shape() {
    let tenant = Tenant::start_with(&["--fault", "auth-disabled=mailbox"]);
    let told = tell(&mut doctor(&tenant, &["--json"]));
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert_eq!(told.out.lines().count(), 1, "{told:#?}");
    let report: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(report["result"], "red");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert!(report["time"].as_str().unwrap().ends_with('Z'), "{report}");
    let checks = report["checks"].as_array().unwrap();
    let ids: Vec<_> = checks.iter().map(|check| check["id"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        [
            "configuration",
            "credential",
            "login-dns",
            "login-connection",
            "clock",
            "login-tls",
            "smtp-dns",
            "smtp-connection",
            "smtp-tls",
            "xoauth2",
            "token",
            "audience",
            "application",
            "permission",
            "login",
            "relay",
            "listener",
            "queue",
            "service"
        ]
    );
    for check in checks {
        let colour = check["colour"].as_str().unwrap();
        assert!(["green", "amber", "red", "grey"].contains(&colour), "{check}");
        assert!(check["subject"].is_string() && check["finding"].is_string(), "{check}");
        assert!(check["cure"].is_array(), "{check}");
    }
    let of = |id: &str| &checks[ids.iter().position(|is| *is == id).unwrap()];
    assert!(of("application")["facts"]["oid"].as_str().unwrap().len() == 36, "{report}");
    assert!(of("login")["cure"].to_string().contains("Set-CASMailbox"), "{report}");
}

#[test]
fn waiting_ends_when_nothing_is_red_and_tells_only_what_changes() {
    let tenant = Tenant::start_with(&["--fault", "auth-535*3"]);
    let told = tell(&mut doctor(&tenant, &["--wait", "12s", "--every", "200ms"]));
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{told:#?}");
    assert_eq!(told.out.matches("  configuration: ").count(), 1, "{told:#?}");
    assert_eq!(told.out.matches("535 5.7.3").count(), 1, "{told:#?}");
    assert!(told.out.contains("looking again every 200ms for up to 12s"), "{told:#?}");
    let changed = told.out.lines().rev().nth(1).unwrap();
    assert!(
        changed.ends_with("green  login as relay@sandbox.example: AUTH XOAUTH2 is accepted"),
        "{told:#?}"
    );
    assert!(changed.starts_with("20"), "with the time: {told:#?}");

    let tenant = Tenant::start_with(&["--fault", "auth-535"]);
    let told = tell(&mut doctor(&tenant, &["--wait", "500ms", "--every", "100ms", "--json"]));
    assert_eq!((told.code, told.out.lines().count()), (Some(1), 1), "nothing changed: {told:#?}");
}

#[test]
fn a_message_that_was_refused_is_not_sent_again_while_waiting() {
    let tenant = Tenant::start_with(&["--fault", "deny-sender"]);
    let arguments = [
        "--wait",
        "10s",
        "--every",
        "50ms",
        "--send-to",
        "you@example.com",
        "--from",
        "erp@sandbox.example",
    ];
    let told = tell(&mut doctor(&tenant, &arguments));
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert!(
        told.out.contains("Add-RecipientPermission -Identity 'erp@sandbox.example'"),
        "{told:#?}"
    );
    let struck = tenant.process.text().matches("FAULT deny-sender strikes").count();
    assert_eq!(struck, 1, "{}", tenant.process.text());
}

#[test]
fn beside_a_running_relay_it_takes_no_lock_and_reads_its_status() {
    let tenant = Tenant::start();
    let relay = tenant.relay([]);
    let (smtp, http) = (relay.smtp.to_string(), relay.http.to_string());
    let told = tell(&mut doctor(
        &tenant,
        &[
            "--set",
            &format!("listener.addresses={smtp}"),
            "--set",
            &format!("http.address={http}"),
            "--send-to",
            "you@example.com",
        ],
    ));
    assert_eq!(told.code, Some(0), "{told:#?}");
    for words in [
        "green  running relay: version ",
        &format!("green  listener {smtp}: answers; no other host can reach it"),
        "green  message to you@example.com: upstream has taken it from relay@sandbox.example: 250 2.0.0 OK",
        "mode 0700",
    ] {
        assert!(told.out.contains(words), "no {words:?} in {told:#?}");
    }
    assert_eq!(tenant.arrived().len(), 1);
    relay.send().succeeds(&["the message was taken"]);
    relay.stop();
}

#[test]
fn a_reader_that_goes_away_has_seen_enough() {
    let tenant = Tenant::start();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = doctor(&tenant, &[]).stdout(writer).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
}
