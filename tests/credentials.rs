//! Every credential against the fake tenant, which verifies what it gets: mail goes through with
//! each, files change under a running relay, and nothing that goes wrong with one fails a message.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path, time::Duration};

use o365_relay::{
    clock::Clock,
    sandbox::{
        self, ClientCertificate, Event, FederatedClaims, IdentityHost as Played, RelayCredential,
    },
    token::{self, Credential, IdentityHost, ManagedIdentity, Stage, TokenError},
};
use secrecy::ExposeSecret;
use tokio::sync::watch;

use self::support::{
    relay::{MAILBOX, Place, Relay, mail, pass, subjects},
    wait::until,
};

async fn send(relay: &Relay, subject: &str) {
    let text = mail(MAILBOX, subject);
    relay.client().await.send(MAILBOX, &["somebody@example.com"], &text).await;
}

/// Messages of a burst.
const BURST: usize = 4 * 10;

/// Four clients that send ten messages each. Once some are taken, with the rest under way, `change`
/// comes.
async fn burst(place: &Place, relay: &Relay, change: impl FnOnce(&Place)) {
    let (taken, mut hears) = watch::channel(0);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = relay.client().await;
        let taken = taken.clone();
        clients.spawn(async move {
            for _ in 0..10 {
                client.send(MAILBOX, &["somebody@example.com"], &mail(MAILBOX, "load")).await;
                taken.send_modify(|taken| *taken += 1);
            }
        });
    }
    // Told rather than looked for, so that the rest cannot have gone meanwhile.
    hears.wait_for(|taken| *taken > 3).await.unwrap();
    assert!(*taken.borrow() < BURST, "some is still to come");
    change(place);
    while let Some(sent) = clients.join_next().await {
        sent.unwrap();
    }
}

/// Each of so many messages has arrived once, at its first attempt.
async fn all_relayed(place: &mut Place, relay: &Relay, messages: usize) {
    assert_eq!(place.arrivals(messages).await.len(), messages);
    let settled = relay.settled(messages).await;
    assert!(
        settled.iter().all(|one| one.reply.starts_with("250 ") && one.attempts == 1),
        "{settled:?}"
    );
    assert_eq!(place.sandbox.arrivals(), messages as u64);
}

/// A relay of this place gets one message through.
async fn mail_goes_through(place: &mut Place) {
    let relay = place.relay().await;
    send(&relay, "hello").await;
    assert_eq!(subjects(&place.arrivals(1).await), ["hello"]);
    relay.settled(1).await;
    relay.stop().await;
}

/// Certificate and key of their own files.
fn write(place: &Place, certificate: &str, key: &str) -> RelayCredential {
    RelayCredential::Certificate {
        certificate: place.write("certificate.pem", certificate),
        private_key: place.write("key.pem", key),
    }
}

fn playing(host: Played) -> sandbox::Config {
    let identity = Some((host, "127.0.0.1:0".parse().unwrap()));
    sandbox::Config { identity, ..sandbox::Config::default() }
}

/// The error of one request.
async fn refusal(place: &Place) -> TokenError {
    token::fetch(place.config().token, Clock::system()).await.map(drop).unwrap_err()
}

fn codes(error: &TokenError) -> &[u32] {
    error.refusal().map_or(&[], |refusal| &refusal.codes)
}

fn refused(place: &mut Place) -> usize {
    place.seen().iter().filter(|event| matches!(event, Event::TokenRefused { .. })).count()
}

// --- certificates

#[tokio::test]
async fn a_certificate_gets_mail_through_with_either_algorithm_and_form_of_key() {
    let mut place = Place::new().await;
    let certificate = ClientCertificate::new(90).unwrap();
    place.sandbox.register(&certificate);
    let pem = certificate.certificate_pem();
    let pkcs8 = write(&place, &pem, &certificate.private_key_pem());
    place.use_credential(&pkcs8);
    mail_goes_through(&mut place).await;

    let pkcs1 = write(&place, &pem, &certificate.private_key_pkcs1_pem());
    place.use_credential(&pkcs1);
    place.set("office365.certificate_algorithm=RS256");
    mail_goes_through(&mut place).await;

    // One file for both, named by the variable of Azure's tools.
    let both = place.write("both.pem", &format!("{}{pem}", certificate.private_key_pem()));
    let file = fs::read_to_string(place.directory.path().join("config.toml")).unwrap();
    let lines =
        file.lines().filter(|line| !line.contains("key.pem") && !line.contains("certificate"));
    place.write("config.toml", &lines.collect::<Vec<_>>().join("\n"));
    let variable = "AZURE_CLIENT_CERTIFICATE_PATH".to_owned();
    place.environment.insert(variable, both.display().to_string());
    mail_goes_through(&mut place).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_with_its_number_and_cure() {
    let mut place = Place::new().await;
    let certificate = ClientCertificate::new(90).unwrap();
    let files = write(&place, &certificate.certificate_pem(), &certificate.private_key_pem());
    place.use_credential(&files);
    let error = refusal(&place).await;
    assert_eq!(codes(&error), [700_027], "nobody has uploaded it: {error}");
    assert_eq!(error.stage(), Stage::Answer);
    assert!(!error.is_transient());

    place.sandbox.register(&certificate);
    let login_url = place.sandbox.login_url();
    let mut config = place.config().token;
    config.token_url = format!("{login_url}/{}/oauth2/v2.0/token", config.tenant_id);
    assert!(token::fetch(config.clone(), Clock::system()).await.is_ok());
    // A clock that is an hour fast.
    let fast = Clock::at(Clock::system().now() + Duration::from_secs(3600));
    let error = token::fetch(config, fast).await.map(drop).unwrap_err();
    assert_eq!(codes(&error), [700_024], "{error}");

    for (fault, code) in [
        ("bad-assertion=unregistered*1", 700_027),
        ("bad-assertion=audience*1", 50_013),
        ("bad-assertion=clock*1", 700_024),
        ("bad-assertion=subject*1", 50_013),
    ] {
        place.sandbox.set_fault(fault.parse().unwrap());
        assert_eq!(codes(&refusal(&place).await), [code], "{fault}");
    }
    // The description may show what was sent; the assertion is not among it.
    assert!(!format!("{error} {error:?}").contains("eyJ"));
}

#[tokio::test]
async fn a_pair_that_is_replaced_under_load_costs_no_message_and_no_restart() {
    let short = sandbox::Config { token_lifetime: Duration::from_secs(60), ..Default::default() };
    let mut place = Place::with(short).await;
    let (old, new) = (ClientCertificate::new(90).unwrap(), ClientCertificate::new(400).unwrap());
    place.sandbox.register(&old);
    let files = write(&place, &old.certificate_pem(), &old.private_key_pem());
    place.use_credential(&files);
    let relay = place.relay().await;
    let days =
        async |relay: &Relay| relay.status().await["token"]["credential"]["days_left"].as_i64();
    until("the first certificate's end", async || {
        days(&relay).await.filter(|days| (88..=90).contains(days))
    })
    .await;

    for round in 0..6 {
        if round == 3 {
            until("the fault", async || {
                let error = relay.status().await["token"]["last_error"]["error"].clone();
                error.as_str()?.contains("does not belong to the private key").then_some(())
            })
            .await;
        }
        burst(&place, &relay, |place| match round {
            1 => {
                place.sandbox.register(&new);
                place.write("certificate.pem", &new.certificate_pem()); // and the key is the old one
            }
            3 => {
                place.write("key.pem", &new.private_key_pem());
                place.sandbox.unregister(&old);
            }
            _ => {}
        })
        .await;
        pass(Duration::from_secs(20)).await;
    }
    all_relayed(&mut place, &relay, 6 * BURST).await;
    until("the new certificate's end", async || days(&relay).await.filter(|days| *days > 390))
        .await;
    assert_eq!(relay.status().await["token"]["last_error"], serde_json::Value::Null);
    relay.stop().await;
}

// --- workload identity

#[tokio::test]
async fn a_federated_token_gets_mail_through_and_is_read_anew_for_each_request() {
    let mut place = Place::new().await;
    let stale = FederatedClaims { lifetime: Duration::from_secs(1), ..FederatedClaims::default() };
    let good = place.sandbox.federated_token(&FederatedClaims::default()).unwrap();
    let file = place.write("token", &format!("\n{good}\n"));
    place.use_credential(&RelayCredential::FederatedToken(file));
    mail_goes_through(&mut place).await;

    let wrong = |claims: FederatedClaims| place.sandbox.federated_token(&claims).unwrap();
    let claims = FederatedClaims::default;
    for (token, code) in [
        (wrong(FederatedClaims { issuer: "https://x.example/".into(), ..claims() }), 700_211),
        (wrong(FederatedClaims { audience: "api://x".into(), ..claims() }), 700_212),
        (wrong(FederatedClaims { subject: "system:x".into(), ..claims() }), 700_213),
        (
            wrong(FederatedClaims { subject: claims().subject.to_uppercase(), ..claims() }),
            7_002_138,
        ),
    ] {
        place.write("token", &token);
        assert_eq!(codes(&refusal(&place).await), [code]);
    }
    // Its last octets are the signature's.
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    place.write("token", &forged);
    let error = refusal(&place).await;
    assert_eq!(codes(&error), [50_013]);
    assert!(!format!("{error} {error:?}").contains(&forged[..20]), "{error}");

    place.write("token", &wrong(stale));
    let later = Clock::at(Clock::system().now());
    assert!(token::fetch(place.config().token, later).await.is_ok(), "clocks may differ a little");

    let config = place.config().token;
    place.write("token", " \n");
    let empty = token::fetch(config, later).await.map(drop).unwrap_err();
    assert!(empty.to_string().ends_with("token is empty"), "{empty}");
    assert!(empty.is_local() && empty.stage() == Stage::Credential);
}

// --- managed identities

#[tokio::test]
async fn each_host_gives_its_identity_and_mail_goes_through() {
    let user = Some("9d1f0a52-0c3b-4f89-8a2e-0b9d5f7c3e61".to_owned());
    for (host, identity_client_id) in [
        (Played::Imds, None),
        (Played::Imds, user.clone()),
        (Played::AppService, None),
        (Played::AppService, user),
    ] {
        let mut place = Place::with(sandbox::Config { identity_client_id, ..playing(host) }).await;
        place.use_credential(&RelayCredential::ManagedIdentity);
        mail_goes_through(&mut place).await;
    }
}

/// The configuration for Azure Arc, whose challenges come to `keys`.
fn arc(place: &Place, keys: &Path) -> token::Config {
    let (_, url) = place.sandbox.identity_environment().remove(0);
    let host = IdentityHost::Arc { url, key_directory: keys.to_path_buf() };
    let credential = Credential::ManagedIdentity(ManagedIdentity { host, client_id: None });
    token::Config { credential, ..place.config().token }
}

#[tokio::test]
async fn a_challenge_of_azure_arc_is_met_only_if_it_is_one() {
    let keys = tempfile::tempdir().unwrap();
    let host = Played::Arc { key_directory: keys.path().to_path_buf() };
    let place = Place::with(playing(host)).await;
    let clock = Clock::system();
    token::fetch(arc(&place, keys.path()), clock).await.unwrap();

    let other = tempfile::tempdir().unwrap();
    let error = token::fetch(arc(&place, other.path()), clock).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("challenge.key is not in "), "{error}");
    assert!(matches!(error, TokenError::Challenge { denied: false, .. }));
    let key = fs::read_to_string(keys.path().join("challenge.key")).unwrap();
    assert!(!format!("{error} {error:?}").contains(&key));
}

#[tokio::test]
async fn what_a_host_refuses_is_told_and_trouble_that_passes_is_waited_for() {
    let mut place = Place::with(playing(Played::Imds)).await;
    place.use_credential(&RelayCredential::ManagedIdentity);
    for (word, status, passes) in [
        ("429", 429, true),
        ("410", 410, true),
        ("404", 404, true),
        ("500", 500, true),
        ("no-identity", 400, false),
    ] {
        place.sandbox.set_fault(format!("identity-refuses={word}*1").parse().unwrap());
        let error = refusal(&place).await;
        let TokenError::Identity(refusal) = &error else { panic!("{error}") };
        assert_eq!((refusal.status, error.is_transient()), (status, passes), "{error}");
        let waits = refusal.retry_after;
        assert_eq!(waits, (status == 429).then_some(Duration::from_secs(1)));
    }
    place.sandbox.set_fault("identity-absent*1".parse().unwrap());
    let error = refusal(&place).await;
    assert!(matches!(error, TokenError::NoIdentityEndpoint { stage: Stage::Http, .. }), "{error}");
    assert!(error.is_transient());

    // The header that keeps web pages and proxies away is asked for.
    let mut config = place.config().token;
    let (_, url) = place.sandbox.identity_environment().remove(0);
    let url = format!("{url}/metadata/identity/oauth2/token");
    let host = IdentityHost::AppService { url, header: "x".into() };
    config.credential = Credential::ManagedIdentity(ManagedIdentity { host, client_id: None });
    let error = token::fetch(config, Clock::system()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("bad_request_102"), "{error}");

    // Mail waits for a host that is not ready, and then goes.
    place.sandbox.set_fault("identity-refuses=410*2".parse().unwrap());
    mail_goes_through(&mut place).await;
}

#[tokio::test]
async fn without_a_host_that_answers_the_error_says_where_managed_identities_exist() {
    let (_held, port) = support::relay::closed_port();
    let mut place = Place::with(playing(Played::Imds)).await;
    place.use_credential(&RelayCredential::ManagedIdentity);
    let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST".to_owned();
    place.environment.insert(name, format!("http://127.0.0.1:{port}"));
    let error = refusal(&place).await;
    let ids = o365_relay::office365::entra::Ids { tenant: "", client_id: "", app: None };
    assert!(error.advice(&ids).contains("on Azure hosts only"), "{}", error.advice(&ids));
    assert_eq!(error.stage(), Stage::Connect, "{error}");
}

// --- secrets

/// The relay reads its secret from two files.
fn use_two_secrets(place: &mut Place, first: &str, second: &str) {
    place.use_secret_file(first);
    let files = [place.directory.path().join("client_secret"), place.write("second", second)];
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    place.set(&format!("office365.client_secret_file={}", files.join(",")));
}

#[tokio::test]
async fn of_two_secrets_the_one_that_works_is_found_at_once_and_remembered() {
    let mut place = Place::new().await;
    let right = place.sandbox.config().client_secret.expose_secret().to_owned();
    use_two_secrets(&mut place, "the-old-one-that-ended", &right);
    let relay = place.relay().await;
    send(&relay, "first").await;
    assert_eq!(subjects(&place.arrivals(1).await), ["first"]);
    assert_eq!(relay.status().await["token"]["valid"], true);
    relay.stop().await;

    // Remembered: the next refresh begins with the right one.
    let short = sandbox::Config { token_lifetime: Duration::from_secs(60), ..Default::default() };
    let mut place = Place::with(short).await;
    let right = place.sandbox.config().client_secret.expose_secret().to_owned();
    use_two_secrets(&mut place, "the-old-one-that-ended", &right);
    let relay = place.relay().await;
    let issued = async |place: &mut Place, count: usize| {
        let (mut issued, mut refused) = (0, 0);
        while issued < count {
            match place.events.recv().await.unwrap() {
                Event::TokenIssued { .. } => issued += 1,
                Event::TokenRefused { .. } => refused += 1,
                _ => {}
            }
        }
        refused
    };
    assert_eq!(issued(&mut place, 1).await, 1);
    for _ in 0..3 {
        until("a plan", async || relay.status().await["token"]["next_refresh"].as_str().map(drop))
            .await;
        pass(Duration::from_secs(20)).await;
        assert_eq!(issued(&mut place, 1).await, 0);
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_secret_that_ends_hands_over_to_the_other_within_one_request() {
    let mut place = Place::new().await;
    let right = place.sandbox.config().client_secret.expose_secret().to_owned();
    use_two_secrets(&mut place, &right, "the-new-one-made-in-the-portal");
    let config = place.config().token;
    token::fetch(config.clone(), Clock::system()).await.unwrap();
    place.sandbox.set_client_secrets(["the-new-one-made-in-the-portal".into()]);
    token::fetch(config, Clock::system()).await.unwrap();
    assert_eq!(refused(&mut place), 1, "each is sent once");
}

#[tokio::test]
async fn two_refused_secrets_are_sent_once_each_and_both_are_named() {
    let mut place = Place::new().await;
    use_two_secrets(&mut place, "neither-this-one", "nor-that-one");
    let error = refusal(&place).await;
    assert_eq!(refused(&mut place), 2);
    assert_eq!(codes(&error), [7_000_215]);
    let text = error.to_string();
    assert!(
        text.contains("/client_secret; ") && text.contains("/second refused as well"),
        "{text}"
    );
    assert!(!text.contains("neither") && !text.contains("nor-that"), "{text}");

    // One that is not there (yet) does not stand in the way, and is no fault at the start.
    let right = place.sandbox.config().client_secret.expose_secret().to_owned();
    place.write("client_secret", &right);
    fs::remove_file(place.directory.path().join("second")).unwrap();
    assert!(place.config().warnings[0].contains("second: No such file"));
    token::fetch(place.config().token, Clock::system()).await.unwrap();
}

#[tokio::test]
async fn a_secret_file_that_is_replaced_under_load_costs_no_message() {
    let short = sandbox::Config { token_lifetime: Duration::from_secs(60), ..Default::default() };
    let mut place = Place::with(short).await;
    let right = place.sandbox.config().client_secret.expose_secret().to_owned();
    let file = place.use_secret_file(&right);
    let relay = place.relay().await;
    for round in 0..5 {
        burst(&place, &relay, |place| match round {
            1 => fs::write(&file, "").unwrap(), // half-way through
            2 => {
                place.sandbox.set_client_secrets(["a-new-client-secret".into()]);
                fs::write(&file, "a-new-client-secret\n").unwrap();
            }
            _ => {}
        })
        .await;
        pass(Duration::from_secs(20)).await;
    }
    all_relayed(&mut place, &relay, 5 * BURST).await;
    relay.stop().await;
}

#[tokio::test]
async fn the_end_of_a_secret_is_shown_in_days() {
    let mut place = Place::new().await;
    place.set("office365.client_secret_expires=2001-01-01");
    let relay = place.relay().await;
    let credential = until("the end", async || {
        let status = relay.status().await;
        status["token"]["credential"].is_object().then(|| status["token"]["credential"].clone())
    })
    .await;
    assert_eq!(credential["what"], "client secret");
    assert_eq!(credential["expires"], "2001-01-01T00:00:00Z");
    assert!(credential["days_left"].as_i64().unwrap() < -9_000);
    relay.stop().await;
}

#[tokio::test]
async fn the_admin_is_reminded_by_mail_once_for_each_mark_whatever_restarts() {
    let mut place = Place::new().await;
    // Midnight: between four and five days from now.
    let end = (Clock::system().now() + DAY * 5).rfc3339();
    let (date, _) = end.split_once('T').unwrap();
    place.set(&format!("office365.client_secret_expires={date}"));
    place.set("notices.to=admin@contoso.com");

    let relay = place.relay().await;
    let reminder = place.arrivals(1).await.remove(0);
    assert_eq!(reminder.subject.as_deref(), Some("The mail relay's credential ends in 4 days"));
    assert_eq!(reminder.reverse_path, MAILBOX);
    assert_eq!(reminder.forward_paths.len(), 1);
    assert_eq!(reminder.forward_paths[0].address, "admin@contoso.com");
    let text = String::from_utf8(reminder.mail_data.clone().unwrap()).unwrap();
    assert!(text.contains(date) && text.contains("Certificates & secrets"), "{text}");
    let warnings = relay.status().await["readiness"]["warnings"].to_string();
    assert!(warnings.contains(&format!("ends on {date}")), "{warnings}");
    relay.settled(1).await;
    relay.stop().await;

    let relay = place.relay().await;
    send(&relay, "between").await;
    assert_eq!(subjects(&place.arrivals(1).await), ["between"]);
    relay.settled(2).await;
    pass(DAY * 3).await;
    let arrivals = place.arrivals(1).await;
    assert_eq!(subjects(&arrivals), ["The mail relay's credential ends in 1 day"]);
    assert_eq!(relay.settled(3).await.len(), 3, "nothing was told twice");
    relay.stop().await;
}

// --- the end of a secret, as Microsoft Graph has it

const DAY: Duration = Duration::from_secs(86_400);

/// A tenant whose application may read itself, or not; the relay asks Graph there.
async fn asking_graph(application_reads: bool) -> Place {
    let short = Duration::from_secs(60);
    let config = sandbox::Config { application_reads, token_lifetime: short, ..Default::default() };
    let mut place = Place::with(config).await;
    place.set(&format!("office365.graph_url={}", place.sandbox.login_url()));
    place
}

/// What Graph was asked, and how it answered.
fn asked_of_graph(events: &[Event]) -> Vec<(&str, u16)> {
    let mut asked = Vec::new();
    for event in events {
        if let Event::Graph { request, status } = event {
            asked.push((request.as_str(), *status));
        }
    }
    asked
}

async fn days_left(relay: &Relay) -> Option<i64> {
    relay.status().await["token"]["credential"]["days_left"].as_i64()
}

#[tokio::test]
async fn the_end_of_a_secret_is_learned_where_the_application_may_read_itself() {
    let mut place = asking_graph(true).await;
    let right = place.sandbox.config().client_secret.clone();
    let now = Clock::system().now();
    let hour = Duration::from_secs(3600);
    let secrets =
        [("another~secret".into(), now + DAY * 400), (right.clone(), now + DAY * 5 + hour)];
    place.sandbox.set_client_secrets_until(secrets);
    let file = place.use_secret_file(right.expose_secret());
    place.set("notices.to=admin@contoso.com");
    let relay = place.relay().await;
    until("the end", async || (days_left(&relay).await == Some(5)).then_some(())).await;
    let reminder = place.arrivals(1).await.remove(0);
    assert_eq!(reminder.subject.as_deref(), Some("The mail relay's credential ends in 5 days"));
    let status = relay.status().await;
    assert_eq!(status["token"]["credential"]["what"], "client secret");
    let warnings = status["readiness"]["warnings"].to_string();
    assert!(warnings.contains("client secret"), "{warnings}");
    let (_, metrics) = support::client::get(relay.http(), "/metrics").await;
    assert!(metrics.contains("o365_relay_credential_remaining_seconds"), "{metrics}");

    // Another secret takes over: the old end is forgotten, the new one learned with the next token.
    let renewed = "renewed~secret";
    place.sandbox.set_client_secrets_until([(renewed.into(), now + DAY * 300 + hour)]);
    fs::write(&file, renewed).unwrap();
    until("a plan", async || relay.status().await["token"]["next_refresh"].as_str().map(drop))
        .await;
    pass(Duration::from_secs(61)).await;
    until("the new end", async || (days_left(&relay).await == Some(300)).then_some(())).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_graph_that_does_not_tell_is_asked_once_a_day_and_changes_nothing() {
    let mut place = asking_graph(false).await;
    let relay = place.relay().await;
    let path = {
        let client_id = &place.sandbox.config().client_id;
        format!("GET /v1.0/applications(appId='{client_id}')")
    };
    let mut seen = Vec::new();
    let mut asked = async |place: &mut Place, count: usize| {
        while asked_of_graph(&seen).len() < count {
            let event = tokio::time::timeout(Duration::from_secs(20), place.events.recv()).await;
            seen.push(event.expect("a question").unwrap());
        }
        seen.extend(place.seen());
        assert_eq!(asked_of_graph(&seen), vec![(path.as_str(), 403); count]);
    };
    asked(&mut place, 1).await;
    send(&relay, "hello").await;
    relay.settled(1).await;
    // Tokens come and go in the meantime.
    for _ in 0..3 {
        pass(Duration::from_secs(61)).await;
        send(&relay, "again").await;
    }
    relay.settled(4).await;
    asked(&mut place, 1).await;
    pass(DAY).await;
    asked(&mut place, 2).await;
    let status = relay.status().await;
    assert!(status["token"]["credential"].is_null(), "{status}");
    assert!(status["token"]["last_error"].is_null(), "{status}");
    assert_eq!(status["readiness"]["warnings"], serde_json::json!([]), "{status}");
    relay.stop().await;
}

#[tokio::test]
async fn mail_goes_through_whatever_is_wrong_with_graph() {
    for fault in ["graph-refuses=503", "graph-refuses=429", "graph-lag"] {
        let mut place = asking_graph(true).await;
        place.sandbox.set_fault(fault.parse().unwrap());
        mail_goes_through(&mut place).await;
    }
    let (_held, port) = support::relay::closed_port();
    let mut place = asking_graph(true).await;
    place.set(&format!("office365.graph_url=https://localhost:{port}"));
    mail_goes_through(&mut place).await;
}

#[tokio::test]
async fn graph_is_not_asked_where_somebody_has_said_when_the_secret_ends() {
    for setting in ["office365.client_secret_expires=2099-01-01", "office365.graph_url=off"] {
        let mut place = asking_graph(true).await;
        place.set(setting);
        assert_eq!(place.config().token.graph, None);
    }
    let certificate = ClientCertificate::new(90).unwrap();
    let mut place = asking_graph(true).await;
    let files = write(&place, &certificate.certificate_pem(), &certificate.private_key_pem());
    place.use_credential(&files);
    assert_eq!(place.config().token.graph, None, "a certificate tells itself");
    assert_eq!(Place::new().await.config().token.graph, None, "another login host");
}
