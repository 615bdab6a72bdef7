//! The doctor against deliberate mistakes: its first red line names the cause, or the honest set of
//! causes, and the cure beside it is the right one with the ids filled in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "doctor/mistakes.rs"]
mod mistakes;
mod support;

use std::time::Duration;

use o365_relay::{
    clock::Clock,
    doctor::{
        Daemon, Patient, examine,
        report::{Colour, Report},
    },
    sandbox::{self, ClientCertificate, FederatedClaims, IdentityHost, RelayCredential, SendAs},
};
use secrecy::ExposeSecret;

use self::{
    mistakes::{MISTAKES, Mistake},
    support::{
        relay::{MAILBOX, Place, Relay, mail},
        wait::until,
    },
};

/// A configuration of this place, examined.
async fn report(place: &Place, mistake: &Mistake, daemon: Daemon) -> Report {
    let address = |text: &&str| text.parse().unwrap();
    let patient = Patient {
        sources: place.sources(),
        from: mistake.from.as_ref().map(address),
        send_to: mistake.send_to.as_ref().map(address),
        daemon,
        root: place.directory.path().to_path_buf(),
        let_in: None,
    };
    let clock = match mistake.clock_ahead {
        0 => Clock::system(),
        seconds => Clock::at(Clock::system().now() + Duration::from_secs(seconds)),
    };
    let report = examine(&patient, clock).await;
    let text = serde_json::to_string(&report).unwrap();
    let secret = place.sandbox.config().client_secret.expose_secret();
    assert!(!text.contains(secret), "{}: the secret is shown: {text}", mistake.name);
    assert!(!text.contains("user:secret"), "{}: the proxy's password is shown", mistake.name);
    assert!(!text.contains("eyJ"), "{}: a token is shown: {text}", mistake.name);
    report
}

fn not_running() -> Daemon {
    Daemon::Silent("Connection refused (os error 111)".into())
}

fn told(report: &Report) -> String {
    let line = |check: &o365_relay::doctor::report::Check| {
        let (colour, cure) = (check.colour.as_str(), check.cure.join("\n      "));
        format!("{colour} {} {}: {}\n      {cure}", check.id, check.subject, check.finding)
    };
    report.checks.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn place(mistake: &Mistake) -> Place {
    let mut config = sandbox::Config {
        faults: mistake.faults.iter().map(|fault| fault.parse().unwrap()).collect(),
        ..sandbox::Config::default()
    };
    (mistake.tenant)(&mut config);
    let mut place = Place::with(config).await;
    (mistake.make)(&mut place);
    for setting in mistake.set {
        place.set(setting);
    }
    place
}

#[tokio::test]
async fn the_first_red_line_names_the_cause_of_each_mistake_and_its_cure() {
    let mut failures = Vec::new();
    for mistake in MISTAKES {
        let place = place(mistake).await;
        let report = report(&place, mistake, not_running()).await;
        let config = place.sandbox.config();
        let filled = |text: &str| {
            text.replace("{oid}", place.sandbox.object_id())
                .replace("{client}", &config.client_id)
                .replace("{tenant}", &config.tenant_id)
                .replace("{mailbox}", MAILBOX)
                .replace("{directory}", &place.directory.path().display().to_string())
        };
        let mut missing = Vec::new();
        match report.first_red() {
            None => missing.push("a red line".to_owned()),
            Some(first) => {
                if first.id != mistake.red {
                    missing.push(format!("{} as the first red line", mistake.red));
                }
                let all = |text: &str, words: &[&str], missing: &mut Vec<String>| {
                    let words = words.iter().map(|word| filled(word));
                    missing.extend(words.filter(|word| !text.contains(word.as_str())));
                };
                all(&first.finding, mistake.says, &mut missing);
                all(&first.cure.join("\n"), mistake.cure, &mut missing);
            }
        }
        let reds = report.checks.iter().filter(|check| check.colour == Colour::Red).count();
        if reds != 1 + mistake.consequences {
            missing.push(format!("{} red lines, not {reds}", 1 + mistake.consequences));
        }
        if !missing.is_empty() {
            let (name, told) = (mistake.name, told(&report));
            failures.push(format!("=== {name}: missing {missing:#?} in\n{told}"));
        }
    }
    assert!(MISTAKES.len() >= 25);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The check of this id about `subject`.
fn line<'a>(report: &'a Report, id: &str, subject: &str) -> &'a o365_relay::doctor::report::Check {
    let found = report.checks.iter().find(|check| check.id == id && check.subject == subject);
    found.unwrap_or_else(|| panic!("no line {id} {subject} in\n{}", told(report)))
}

#[tokio::test]
async fn each_account_is_looked_at_and_a_sender_goes_through_its_own_mailbox() {
    const ANNA: &str = "anna@sandbox.example";
    let config = sandbox::Config {
        mailboxes: vec![MAILBOX.into(), ANNA.into()],
        send_as: SendAs::OnlyMailbox,
        ..sandbox::Config::default()
    };
    let mut place = Place::with(config).await;
    place.set("office365.mailbox=sender");
    place.set(&format!("office365.default_mailbox={MAILBOX}"));
    place.set("sender.allow=*@sandbox.example,*@fabrikam.example");
    place.set("route.1.senders=*@fabrikam.example");
    place.set("route.1.mailbox=relay@fabrikam.example");
    place.set("route.1.client_secret=bm90LXRoZS1yaWdodC1vbmUtYXQtYWxsLWFuZC1sb25n");
    let anna = Mistake { from: Some(ANNA), send_to: Some("x@example.com"), ..Mistake::NONE };
    let found = report(&place, &anna, not_running()).await;
    let colour = |id: &str, subject: &str| line(&found, id, subject).colour;
    let finding = &line(&found, "configuration", "configuration").finding;
    assert!(finding.contains(&format!("mailbox of the sender, else {MAILBOX}; ")), "{finding}");
    assert!(finding.contains("; route: cloud "), "{finding}");
    assert_eq!(colour("credential", "client secret (office365)"), Colour::Green);
    assert_eq!(colour("credential", "client secret (route)"), Colour::Green);
    assert_eq!(colour("token", "access token (office365)"), Colour::Green);
    let token = line(&found, "token", "access token (route)");
    assert_eq!(token.colour, Colour::Red);
    assert!(token.finding.contains("AADSTS7000215"), "{}", token.finding);
    assert_eq!(colour("login", &format!("login as {MAILBOX}")), Colour::Green);
    assert_eq!(colour("login", &format!("login as {ANNA}")), Colour::Green);
    assert_eq!(colour("login", "login as relay@fabrikam.example"), Colour::Grey);
    assert_eq!(colour("sender", &format!("sender {ANNA}")), Colour::Green);
    assert_eq!(colour("send", "message to x@example.com"), Colour::Green);
    let hosts = found.checks.iter().filter(|check| check.id == "smtp-tls").count();
    assert_eq!(hosts, 1, "what both have in common is looked at once\n{}", told(&found));
    let arrival = place.arrivals(1).await.remove(0);
    assert_eq!((arrival.authenticated_as.as_str(), arrival.reverse_path.as_str()), (ANNA, ANNA));

    let other = Mistake { from: Some("erp@fabrikam.example"), ..anna };
    let found = report(&place, &other, not_running()).await;
    let send = line(&found, "send", "message to x@example.com");
    assert_eq!(send.colour, Colour::Grey);
    assert!(send.finding.contains("the login as relay@fabrikam.example"), "{}", send.finding);

    let relay = place.relay().await;
    let refused = until("a refusal", async || {
        let status = relay.status().await;
        let failed = status["accounts"][1]["token"]["last_error"].is_object();
        failed.then(|| Daemon::Answers(Box::new(serde_json::from_value(status).unwrap())))
    })
    .await;
    let found = report(&place, &anna, refused).await;
    let running = line(&found, "relay", "running relay (route)");
    assert_eq!(running.colour, Colour::Red);
    assert!(running.finding.contains("AADSTS7000215"), "{}", running.finding);
    let another = "it runs with another configuration";
    assert!(!told(&found).contains(another), "lanes of senders come and go\n{}", told(&found));
    relay.stop().await;
}

#[tokio::test]
async fn a_sender_that_is_rewritten_needs_no_right() {
    let config = sandbox::Config { send_as: SendAs::OnlyMailbox, ..sandbox::Config::default() };
    let mut place = Place::with(config).await;
    place.set("sender.allow=erp@contoso.example");
    place.set("sender.map=root@host.local -> erp@contoso.example");
    let mail_of =
        |from| Mistake { from: Some(from), send_to: Some("x@example.com"), ..Mistake::NONE };
    let found = report(&place, &mail_of("root@host.local"), not_running()).await;
    let sender = line(&found, "sender", "sender root@host.local");
    assert!(
        sender.finding.starts_with("goes out as erp@contoso.example through"),
        "{}",
        told(&found)
    );
    let send = line(&found, "send", "message to x@example.com");
    assert_eq!(send.colour, Colour::Red, "the mailbox may not send as erp");
    assert!(send.cure.join("\n").contains("erp@contoso.example"), "{}", told(&found));

    place.set("sender.rewrite=mailbox");
    let found = report(&place, &mail_of("erp@contoso.example"), not_running()).await;
    assert!(found.first_red().is_none(), "{}", told(&found));
    let sender = line(&found, "sender", "sender erp@contoso.example");
    assert_eq!(sender.colour, Colour::Green);
    assert!(sender.finding.contains(&format!("goes out as the mailbox {MAILBOX} itself")));
    assert_eq!(place.arrivals(1).await[0].reverse_path, MAILBOX);
}

#[tokio::test]
async fn a_relay_that_is_well_has_no_red_line_with_each_credential() {
    type Make<'a> = &'a dyn Fn(&mut Place);

    let certificate = ClientCertificate::new(90).unwrap();
    let by_certificate = |place: &mut Place| {
        place.sandbox.register(&certificate);
        mistakes::use_pair(place, &certificate, &certificate);
    };
    let by_token = |place: &mut Place| mistakes::use_federated(place, &FederatedClaims::default());
    let kinds: [(&str, Make<'_>); 3] = [
        ("client secret", &|_| {}),
        ("certificate", &by_certificate),
        ("federated token file", &by_token),
    ];
    for (kind, make) in kinds {
        let mut place = Place::new().await;
        make(&mut place);
        let mistake = Mistake { send_to: Some("somebody@example.com"), ..Mistake::NONE };
        let report = report(&place, &mistake, not_running()).await;
        let amber: Vec<_> =
            report.checks.iter().filter(|check| check.colour > Colour::Green).collect();
        // That no relay runs is told, and is no fault.
        assert!(amber.len() == 1 && amber[0].id == "relay", "{kind}: {}", told(&report));
        let credential = report.checks.iter().find(|check| check.id == "credential").unwrap();
        assert_eq!((credential.subject.as_str(), credential.colour), (kind, Colour::Green));
        let sent = report.checks.iter().find(|check| check.id == "send").unwrap();
        assert!(sent.finding.contains("250 2.0.0 OK"), "{}", sent.finding);
        assert_eq!(place.sandbox.arrivals(), 1, "{kind}");
    }
}

#[tokio::test]
async fn a_managed_identity_and_rbac_for_applications_are_no_faults() {
    let identity = Some((IdentityHost::Imds, "127.0.0.1:0".parse().unwrap()));
    let faults = vec!["token-content=no-roles".parse().unwrap()];
    let config = sandbox::Config { identity, faults, ..sandbox::Config::default() };
    let mut place = Place::with(config).await;
    place.use_credential(&RelayCredential::ManagedIdentity);
    let report = report(&place, &Mistake::NONE, not_running()).await;
    assert_eq!(report.first_red(), None, "{}", told(&report));
    let permission = report.checks.iter().find(|check| check.id == "permission").unwrap();
    assert!(permission.finding.starts_with("no roles: right for RBAC"), "{permission:?}");
    assert!(!report.checks.iter().any(|check| check.id == "login-tls"), "{}", told(&report));
}

#[tokio::test]
async fn what_is_near_its_end_or_more_than_needed_is_amber() {
    let faults = vec!["token-content=other-roles".parse().unwrap()];
    let mut place = Place::with(sandbox::Config { faults, ..sandbox::Config::default() }).await;
    let certificate = ClientCertificate::new(20).unwrap();
    place.sandbox.register(&certificate);
    mistakes::use_pair(&mut place, &certificate, &certificate);
    let mistake = Mistake { from: Some("erp@sandbox.example"), clock_ahead: 90, ..Mistake::NONE };
    let report = report(&place, &mistake, not_running()).await;
    let amber: Vec<_> = report
        .checks
        .iter()
        .filter(|check| check.colour == Colour::Amber)
        .map(|check| (check.id, check.finding.as_str()))
        .collect();
    for (id, part) in [
        ("credential", " ends in "),
        ("clock", "1m 3"),
        ("permission", "roles IMAP.AccessAsApp, POP.AccessAsApp, but not SMTP.SendAsApp"),
        ("sender", "goes out through the mailbox relay@sandbox.example; whether that may"),
    ] {
        let found = amber.iter().any(|(is, finding)| *is == id && finding.contains(part));
        assert!(found, "no {part:?} in {}", told(&report));
    }
}

#[tokio::test]
async fn the_end_of_a_secret_is_told_where_the_application_may_read_itself() {
    for (application_reads, days, expected) in [
        (true, 20, Some((Colour::Amber, "client secret ends in 20 days, at 20"))),
        (true, 90, Some((Colour::Green, "90 days left, as the app registration has it"))),
        (false, 20, None),
    ] {
        let config = sandbox::Config { application_reads, ..sandbox::Config::default() };
        let mut place = Place::with(config).await;
        place.set(&format!("office365.graph_url={}", place.sandbox.login_url()));
        let secret = place.sandbox.config().client_secret.clone();
        let end = Clock::system().now() + Duration::from_secs(86_400 * days + 3600);
        place.sandbox.set_client_secrets_until([(secret, end)]);
        let report = report(&place, &Mistake::NONE, not_running()).await;
        let of_registration = report.checks.iter().filter(|check| check.id == "credential").nth(1);
        let found = of_registration.map(|check| (check.colour, check.finding.as_str()));
        let is_right = match (found, expected) {
            (Some((colour, finding)), Some((expected, start))) => {
                colour == expected && finding.starts_with(start)
            }
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(is_right, "{}", told(&report));
        assert_eq!(report.checks.iter().filter(|check| check.colour == Colour::Red).count(), 0);
    }
}

// --- beside a running relay

async fn status(relay: &Relay) -> Daemon {
    let status = relay.status().await;
    Daemon::Answers(Box::new(serde_json::from_value(status).unwrap()))
}

async fn send(relay: &Relay) {
    relay.client().await.send(MAILBOX, &["a@example.com"], &mail(MAILBOX, "x")).await;
}

fn of<'a>(report: &'a Report, id: &str) -> Vec<(&'a str, &'a str)> {
    let checks = report.checks.iter().filter(|check| check.id == id);
    checks.map(|check| (check.colour.as_str(), check.finding.as_str())).collect()
}

/// The relay as it is once it says that its mailbox is paused.
async fn paused(relay: &Relay) -> Daemon {
    until("a pause", async || {
        let found = relay.status().await["lanes"][0]["pause"].is_object();
        found.then_some(())
    })
    .await;
    status(relay).await
}

#[tokio::test]
async fn all_is_green_beside_a_relay_that_runs() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    let daemon = status(&relay).await;
    let report = report(&place, &Mistake::NONE, daemon).await;
    assert_eq!(report.result(), Colour::Green, "{}", told(&report));
    assert_eq!(of(&report, "listener"), [("green", "answers; no other host can reach it")]);
    assert!(of(&report, "relay")[0].1.contains("no pause, 0 queued"), "{}", told(&report));
    assert_eq!(of(&report, "queue")[0].0, "green");
    send(&relay).await;
    place.arrivals(1).await; // nothing was disturbed
    relay.stop().await;
}

#[tokio::test]
async fn a_pause_of_the_running_relay_is_red_with_its_cause_and_amber_without() {
    let place = Place::new().await;
    place.sandbox.set_fault("auth-535".parse().unwrap());
    let relay = place.relay().await;
    send(&relay).await;
    let daemon = paused(&relay).await;
    let sick = report(&place, &Mistake::NONE, daemon).await;
    let first = sick.first_red().unwrap();
    assert_eq!(first.id, "login", "{}", told(&sick));
    assert!(first.finding.contains("the running relay is refused since 20"), "{}", first.finding);
    assert_eq!(of(&sick, "relay")[0].0, "red");

    place.sandbox.clear_faults();
    let daemon = status(&relay).await;
    let mended = report(&place, &Mistake::NONE, daemon).await;
    assert_eq!(mended.first_red(), None, "{}", told(&mended));
    let (colour, finding) = of(&mended, "relay")[0];
    assert_eq!(colour, "amber", "{}", told(&mended));
    assert!(finding.starts_with("nothing is relayed as this mailbox since 20"), "{finding}");
    relay.stop().await;
}

#[tokio::test]
async fn a_blocked_mailbox_is_not_tried_again() {
    let place = Place::new().await;
    place.sandbox.set_fault("blocked=5.2.251".parse().unwrap());
    let relay = place.relay().await;
    send(&relay).await;
    let daemon = paused(&relay).await;
    let struck = place.sandbox.faults()[0].struck;
    let mistake = Mistake { send_to: Some("a@example.com"), ..Mistake::NONE };
    let report = report(&place, &mistake, daemon).await;
    let first = report.first_red().unwrap();
    assert_eq!(first.id, "relay", "{}", told(&report));
    assert!(first.finding.contains("550 5.2.251"), "{}", first.finding);
    assert!(first.cure.join(" ").contains("Sent Items"), "{:?}", first.cure);
    assert_eq!(of(&report, "send")[0].0, "grey");
    assert_eq!(place.sandbox.faults()[0].struck, struck, "the mailbox was used");
    relay.stop().await;
}

#[tokio::test]
async fn a_sender_that_is_held_and_another_version_are_told() {
    let place =
        Place::with(sandbox::Config { send_as: SendAs::OnlyMailbox, ..sandbox::Config::default() })
            .await;
    let relay = place.relay().await;
    let erp = "erp@sandbox.example";
    relay.client().await.send(erp, &["a@example.com"], &mail(erp, "x")).await;
    let mut status = until("a held sender", async || {
        let status = relay.status().await;
        status["lanes"][0]["held_senders"][0].is_object().then_some(status)
    })
    .await;
    status["version"] = "0.0.1".into();
    status["lanes"][0]["recipients_today"] = 10_000.into();
    status["lanes"][0]["recipients_per_day"] = 10_000.into();
    status["readiness"]["reasons"] = vec!["no mail is accepted: only 1 MiB free"].into();
    let daemon = Daemon::Answers(Box::new(serde_json::from_value(status).unwrap()));
    let report = report(&place, &Mistake::NONE, daemon).await;
    for words in [
        "red relay running relay: no mail is accepted: only 1 MiB free",
        "red relay running relay: relay@sandbox.example: mail from erp@sandbox.example is held",
        "Add-RecipientPermission -Identity erp@sandbox.example",
        "red relay running relay: relay@sandbox.example: the 10000 recipients of the last 24 hours",
        "amber relay running relay: it is version 0.0.1, this program is",
    ] {
        assert!(told(&report).contains(words), "no {words:?} in {}", told(&report));
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_relay_that_cannot_read_its_queue_or_another_program_in_its_place_is_told() {
    let place = Place::new().await;
    for (daemon, words) in [
        (Daemon::Unwell("the queue cannot be read".into()), "the queue cannot be read"),
        (Daemon::Odd("expected value".into()), "is no o365-relay: expected value"),
    ] {
        let report = report(&place, &Mistake::NONE, daemon).await;
        let first = report.first_red().unwrap();
        assert!(first.id == "relay" && first.finding.contains(words), "{}", told(&report));
    }
    let report = report(&place, &Mistake::NONE, Daemon::Off).await;
    assert_eq!(report.result(), Colour::Green, "{}", told(&report));
}

#[tokio::test]
async fn who_else_answers_on_the_port_is_told() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = stranger.local_addr().unwrap().port();
    place.set(&format!("listener.addresses=127.0.0.1:{port}"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = stranger.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client, b"SSH-2.0-x\r\n").await;
        }
    });
    let daemon = status(&relay).await;
    let other = report(&place, &Mistake::NONE, daemon).await;
    let first = other.first_red().unwrap();
    assert!(first.id == "listener" && first.finding.contains("SSH-2.0"), "{}", told(&other));
    assert!(first.cure.join(" ").contains(&format!("sport = :{port}")), "{first:?}");

    // The relay runs, but is not where clients look for it.
    place.set("listener.addresses=127.0.0.1:1");
    let daemon = status(&relay).await;
    let nobody = report(&place, &Mistake::NONE, daemon).await;
    let first = nobody.first_red().unwrap();
    assert!(first.finding.contains("nothing answers at 127.0.0.1:1"), "{}", told(&nobody));
    relay.stop().await;
}

#[tokio::test]
async fn a_listener_for_other_hosts_is_tried_at_its_addresses() {
    let mut place = Place::new().await;
    place.set("listener.addresses=0.0.0.0:0");
    place.set("listener.allow=127.0.0.0/8,0.0.0.0/0");
    let relay = place.relay().await;
    let daemon = status(&relay).await;
    let open = report(&place, &Mistake::NONE, daemon).await;
    let (colour, finding) = of(&open, "listener")[0];
    assert!(colour == "amber" && finding.contains("every host that reaches it"), "{finding}");
    relay.stop().await;

    place.set("listener.allow=127.0.0.0/8,10.1.2.0/24");
    let relay = place.relay().await;
    let daemon = status(&relay).await;
    let narrow = report(&place, &Mistake::NONE, daemon).await;
    let (colour, finding) = of(&narrow, "listener")[0];
    assert!(colour == "green" && finding.contains("hosts of 10.1.2.0/24 may send"), "{finding}");

    // It runs with a list that the file does not have any more.
    place.set("listener.allow=10.1.2.0/24");
    let daemon = status(&relay).await;
    let older = report(&place, &Mistake::NONE, daemon).await;
    let first = older.first_red().unwrap();
    assert!(
        first.finding.contains("talks to 127.0.0.1, which listener.allow does not"),
        "{first:?}"
    );
    relay.stop().await;
}

#[tokio::test]
async fn files_of_another_user_in_the_queue_are_told() {
    use std::os::unix::fs::chown;
    let place = Place::new().await;
    place.relay().await.stop().await;
    let queue = place.directory.path().join("queue");
    if chown(queue.join("queue.db"), Some(12_345), None).is_err() {
        return eprintln!("skipped: only root can give files away");
    }
    let report = report(&place, &Mistake::NONE, not_running()).await;
    let first = report.first_red().unwrap();
    assert!(first.id == "queue" && first.finding.contains("queue.db to user 12345"), "{first:?}");
    assert!(first.cure[0].starts_with("chown -R "), "{first:?}");
}
