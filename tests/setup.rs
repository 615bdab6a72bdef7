//! `o365-relay setup` against the fake tenant: from nothing to the first message, and back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "setup/again.rs"]
mod again;
#[path = "setup/cures.rs"]
mod cures;
mod operator;
#[path = "setup/renewal.rs"]
mod renewal;

use std::{
    collections::BTreeMap,
    fs, mem,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use o365_relay::sandbox::{Config, Event, ExchangeAdmin, Sandbox};
use operator::{Told, doctor, mode, o365_relay, tell};
use tempfile::TempDir;
use tokio::{sync::broadcast::Receiver, time::Instant};

const MAILBOX: &str = "relay@sandbox.example";

/// A fake tenant, and an empty directory on the host of the relay.
struct Place {
    sandbox: Sandbox,
    events: Receiver<Event>,
    root: TempDir,
}

impl Place {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn auto() -> Self {
        Self::with(Config { exchange: ExchangeAdmin::Auto, ..Config::default() }).await
    }

    async fn with(config: Config) -> Self {
        let config = Config { device_interval: Duration::ZERO, ..config };
        let sandbox = Sandbox::start(config).await.unwrap();
        let root = TempDir::new().unwrap();
        fs::write(root.path().join("ca.pem"), sandbox.ca_pem()).unwrap();
        let events = sandbox.subscribe();
        Self { sandbox, events, root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("etc").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// `setup --config ...` with what every run here needs, and these arguments.
    async fn setup(&self, arguments: &[&str]) -> Told {
        let mut command = self.command(arguments);
        // The tenant runs on this test's threads.
        let told = tokio::task::spawn_blocking(move || tell(&mut command)).await.unwrap();
        for text in [&told.out, &told.err] {
            assert!(!text.contains("PRIVATE KEY") && !text.contains("eyJ"), "{text}");
        }
        told
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = o365_relay(["setup", "--config"]);
        command.arg(self.path("config.toml"));
        let url = self.sandbox.login_url();
        let port = self.sandbox.smtp_address().port().to_string();
        command.args(["--login-url", &url, "--graph-url", &url, "--smtp-host", "localhost"]);
        command.args(["--smtp-port", &port, "--ca-file"]).arg(self.root.path().join("ca.pem"));
        command.args(arguments);
        command
    }

    /// The same for the sandbox's own tenant and mailbox.
    async fn plain(&self, arguments: &[&str]) -> Told {
        let all = [&["--tenant", "sandbox.example", "--mailbox", MAILBOX][..], arguments].concat();
        self.setup(&all).await
    }

    /// Starts a set-up and kills it once Graph has got so many requests; whether it ended first.
    async fn kill_after(&mut self, requests: usize, arguments: &[&str]) -> bool {
        let mut command = self.command(arguments);
        command.args(["--tenant", "sandbox.example", "--mailbox", MAILBOX]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut seen = 0;
        let ended = loop {
            if let Ok(Some(_)) = child.try_wait() {
                break true;
            }
            match tokio::time::timeout(Duration::from_millis(20), self.events.recv()).await {
                Ok(Ok(Event::SignedIn { .. })) if requests == 0 => break false,
                Ok(Ok(Event::Graph { .. })) => {
                    seen += 1;
                    if seen == requests {
                        break false;
                    }
                }
                _ => {}
            }
        };
        let _ = child.kill();
        child.wait().unwrap();
        ended
    }

    /// The admin runs the script that was written.
    fn run_script(&self) -> Vec<String> {
        self.run_in_exchange(&self.read("config.exchange.ps1"))
    }

    fn run_in_exchange(&self, script: &str) -> Vec<String> {
        let output = self.sandbox.run_exchange_script(script);
        output.unwrap_or_else(|fault| panic!("{fault}\n{script}"))
    }

    /// Takes everything back, Exchange's part by the script that `--undo` prints.
    async fn undo_all(&self) {
        let undone = self.setup(&["--undo"]).await;
        undone.succeeds(&["Done"]);
        let (_, script) = undone.out.split_once("# takes back").unwrap();
        self.run_in_exchange(&format!("# {}", script.split("\nDone;").next().unwrap()));
    }

    /// Content, mode and time of every file.
    fn files(&self) -> BTreeMap<String, (String, u32, i64)> {
        let Ok(entries) = fs::read_dir(self.root.path().join("etc")) else {
            return BTreeMap::new();
        };
        let facts = |path: &Path| {
            let facts = fs::metadata(path).unwrap();
            (fs::read_to_string(path).unwrap(), facts.mode() & 0o777, facts.mtime_nsec())
        };
        let entries = entries.map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().to_str().unwrap().to_owned(), facts(&entry.path())))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    /// Requests to Graph that changed something, and sign-ins, since this was asked last.
    fn seen(&mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.events.try_recv().ok());
        events
            .filter_map(|event| match event {
                Event::Graph { request, status } if !request.starts_with("GET") => {
                    let request = request.split('/').nth(2).unwrap_or_default().to_owned();
                    Some(format!("{request} {status}"))
                }
                Event::SignedIn { .. } => Some("sign-in".to_owned()),
                _ => None,
            })
            .collect()
    }

    /// How many of each kind are in the directory.
    fn count(&self, what: &str) -> usize {
        self.sandbox.directory().iter().filter(|line| line.starts_with(what)).count()
    }

    fn fault(&self, text: &str) {
        self.sandbox.set_fault(text.parse().unwrap());
    }
}

const ALL_FILES: [&str; 5] = [
    "certificate.pem",
    "config.exchange.ps1",
    "config.setup.json",
    "config.toml",
    "private_key.pem",
];

#[tokio::test(flavor = "multi_thread")]
async fn one_command_from_nothing_to_the_first_message_and_back_to_nothing() {
    let mut place = Place::auto().await;
    let begun = Instant::now();
    let told = place.plain(&["--send-to", "somebody@example.com"]).await;
    told.succeeds(&[
        "Sign in: open https://microsoft.com/devicelogin in any browser and enter the code ",
        "application \"o365-relay\" registered",
        "Logged in to relay@sandbox.example with XOAUTH2: mail can go.",
        "The first message is on its way to somebody@example.com: 250 2.0.0 OK",
        "New-ServicePrincipal -AppId '",
    ]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(place.sandbox.arrivals(), 1);
    assert_eq!(
        place.seen(),
        ["sign-in", "applications 201", "applications 204", "servicePrincipals 201"]
    );

    assert_eq!(place.names(), ALL_FILES);
    for (name, wanted) in [
        ("config.toml", 0o644),
        ("private_key.pem", 0o600),
        ("certificate.pem", 0o644),
        ("config.setup.json", 0o600),
    ] {
        assert_eq!(mode(&place.path(name)), wanted, "{name}");
    }
    let record = place.read("config.setup.json");
    assert!(!record.contains("BEGIN") && !record.contains("secretText"), "{record}");

    // A second run changes nothing, asks nobody to sign in, and needs no options.
    let (files, directory) = (place.files(), place.sandbox.directory());
    let again = place.setup(&[]).await;
    again.succeeds(&["nothing was changed", "mail can go"]);
    assert!(!again.out.contains("Sign in"), "{}", again.out);
    let mut bare = o365_relay(["setup", "--config"]);
    bare.arg(place.path("config.toml"));
    let told = tokio::task::spawn_blocking(move || tell(&mut bare)).await.unwrap();
    told.succeeds(&["nothing was changed", "mail can go"]);
    place.plain(&[]).await.succeeds(&["nothing was changed"]);
    assert_eq!(place.seen(), [""; 0]);
    // Even with a look at the tenant.
    place.setup(&["--verify"]).await.succeeds(&["nothing was changed"]);
    assert_eq!(place.seen(), ["sign-in"]);
    assert_eq!((place.files(), place.sandbox.directory()), (files, directory));

    let told = place.setup(&["--undo"]).await;
    told.succeeds(&["deleted, for good", "private_key.pem removed", "Remove-ServicePrincipal"]);
    assert_eq!(place.sandbox.directory(), [""; 0]);
    assert_eq!(place.names(), [""; 0]);
    place.setup(&["--undo"]).await.fails(78, &["nothing to take back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_opens_the_mailbox_and_its_undo_closes_it_on_both_paths() {
    for (path, scope) in [("applications", "AppRole"), ("classic", "Application")] {
        let mut place = Place::new().await;
        let arguments = ["--path", path, "--send-as", "erp@sandbox.example"];
        let told = place.plain(&arguments).await;
        assert_eq!(told.code, Some(75), "{told:#?}");
        assert!(told.err.contains("still missing: "), "{told:#?}");
        assert!(told.out.contains("535 5.7.3"), "{told:#?}");
        let classic = path == "classic";
        let signed_in = std::iter::from_fn(|| place.events.try_recv().ok())
            .find_map(|event| match event {
                Event::SignedIn { scope } => Some(scope),
                _ => None,
            })
            .unwrap();
        assert_eq!(signed_in.contains("AppRoleAssignment"), classic, "{scope} {signed_in}");
        assert_eq!(place.count("service principal"), 1);
        let roles = if classic { "(1 roles)" } else { "(0 roles)" };
        assert!(place.sandbox.directory().iter().any(|line| line.ends_with(roles)));

        let output = place.run_script();
        let shown = if classic { "AccessRights FullAccess" } else { "InScope True" };
        assert_eq!(output.last().map(String::as_str), Some(shown));
        let rights = place.sandbox.directory();
        place.run_script(); // it can be run again
        assert_eq!(place.sandbox.directory(), rights);

        let told = place.setup(&["--send-to", "somebody@example.com"]).await;
        told.succeeds(&["nothing was changed", "250 2.0.0 OK"]);

        place.undo_all().await;
        assert_eq!(place.sandbox.directory(), [""; 0], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_into_its_file_and_nowhere_else() {
    let place = Place::auto().await;
    let told = place.plain(&["--credential", "secret", "--days", "90"]).await;
    told.succeeds(&["client secret made, good until ", "mail can go"]);
    let secret = place.read("client_secret");
    let secret = secret.trim_end();
    assert!(secret.len() > 30);
    assert_eq!(mode(&place.path("client_secret")), 0o600);
    for (name, (text, ..)) in place.files() {
        assert!(name == "client_secret" || !text.contains(secret), "{name}");
    }
    assert!(!told.out.contains(secret));
    place.setup(&[]).await.succeeds(&["nothing was changed"]);
    place.setup(&["--undo"]).await.succeeds(&["client_secret removed"]);
    assert_eq!((place.sandbox.directory(), place.names()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_just_been_made_may_take_a_while_to_be_seen() {
    let place = Place::auto().await;
    place.fault("graph-lag*2");
    place.fault("graph-refuses=429*1");
    place.plain(&[]).await.succeeds(&["mail can go"]);
    assert_eq!((place.count("application"), place.count("service principal")), (1, 1));
    assert!(place.sandbox.faults().iter().all(o365_relay::sandbox::FaultState::is_healed));
}

/// Wherever a run is killed, the next one goes on and makes nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_killed_goes_on_where_it_was() {
    for (path, least) in [("applications", 5), ("classic", 8)] {
        for request in 0.. {
            let mut place = Place::auto().await;
            let ended = place.kill_after(request, &["--path", path]).await;
            if request % 3 == 2 {
                // Or it is taken back from there.
                place.setup(&["--undo"]).await.succeeds(&["Done"]);
                assert_eq!((place.sandbox.directory(), place.names()), (vec![], vec![]));
            }
            let told = place.plain(&["--path", path]).await;
            told.succeeds(&["mail can go"]);
            let count = ["application", "service principal"].map(|what| place.count(what));
            let directory = place.sandbox.directory();
            assert_eq!(count, [1, 1], "{path} after {request}: {directory:?}");
            assert!(directory[0].ends_with("(1 certificates, 0 secrets)"), "{directory:?}");
            assert_eq!(place.names(), ALL_FILES, "{path} after {request}");
            if ended {
                assert!(request >= least, "{path}: only {request} requests?");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_secret_is_taken_away_again() {
    for request in 4..8 {
        let mut place = Place::auto().await;
        place.kill_after(request, &["--credential", "secret"]).await;
        place.plain(&["--credential", "secret"]).await.succeeds(&["mail can go"]);
        let directory = place.sandbox.directory();
        assert!(directory[0].ends_with("(0 certificates, 1 secrets)"), "{request}: {directory:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_keeps_looking_until_the_script_was_run() {
    let place = Place::new().await;
    let waiting = place.plain(&["--wait", "14s", "--send-to", "somebody@example.com"]);
    let admin = async {
        until("the script", || place.path("config.exchange.ps1").exists()).await;
        place.run_script();
    };
    let (told, ()) = tokio::join!(waiting, admin);
    told.succeeds(&["mail can go", "The first message is on its way"]);
}

async fn until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + operator::PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_systemd_the_configuration_leaves_the_credential_to_the_unit() {
    let place = Place::auto().await;
    let told = place.plain(&["--systemd"]).await;
    let line = format!("LoadCredential=private_key:{}", place.path("private_key.pem").display());
    told.succeeds(&["systemctl edit o365-relay", &line, "mail can go"]);
    let configuration = place.read("config.toml");
    assert!(!configuration.contains("_file = \"/") || configuration.contains("ca_file"));
    for key in ["certificate_file", "private_key_file"] {
        assert!(!configuration.contains(key), "{configuration}");
    }
    assert_eq!(mode(&place.path("private_key.pem")), 0o600);
    place.setup(&[]).await.succeeds(&["nothing was changed", "mail can go"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_is_there_can_be_used_and_stays_at_the_end() {
    let place = Place::auto().await;
    fs::create_dir(place.root.path().join("etc")).unwrap();
    let pair = o365_relay::sandbox::ClientCertificate::new(30).unwrap();
    fs::write(place.path("certificate.pem"), pair.certificate_pem()).unwrap();
    let told = place.plain(&["--existing-key"]).await;
    told.fails(78, &["private_key.pem could not be read", "make a new pair"]);
    fs::write(place.path("private_key.pem"), pair.private_key_pem()).unwrap();
    let user = rustix::process::geteuid().as_raw().to_string();
    place.plain(&["--existing-key", "--owner", &user]).await.succeeds(&["mail can go"]);
    place.setup(&["--undo"]).await.succeeds(&["Done"]);
    assert_eq!(place.names(), ["certificate.pem", "private_key.pem"]);
}

// --- what goes wrong, and what a person is told

#[tokio::test(flavor = "multi_thread")]
async fn each_trouble_with_the_sign_in_gets_one_clear_message() {
    for (fault, code, words) in [
        ("device-code=declined", 77, "the sign-in was declined"),
        ("device-code=expired", 75, "nobody signed in before the code expired"),
        ("device-code=blocked", 69, "a conditional access policy stands in the way"),
    ] {
        let place = Place::auto().await;
        place.fault(fault);
        let told = place.plain(&[]).await;
        assert_eq!(told.code, Some(code), "{fault}: {told:#?}");
        assert_eq!(told.err.matches(words).count(), 1, "{fault}: {told:#?}");
        assert_eq!(told.err.lines().count(), 1, "{fault}: {told:#?}");
        assert_eq!(place.sandbox.directory(), [""; 0]);
        // Nothing stands in the way of another try.
        place.sandbox.clear_faults();
        place.setup(&[]).await.succeeds(&["mail can go"]);
    }
    let place = Place::auto().await;
    place.fault("device-code=pending*2");
    place.plain(&[]).await.succeeds(&["mail can go"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_without_the_role_and_a_wrong_tenant_are_told() {
    let place = Place::auto().await;
    place.fault("graph-refuses=403");
    let told = place.plain(&[]).await;
    assert_eq!(told.code, Some(77), "{told:#?}");
    assert!(told.err.contains("Cloud Application Administrator"), "{told:#?}");
    assert!(told.err.contains("403, Insufficient privileges"), "{told:#?}");

    let place = Place::auto().await;
    let told = place.setup(&["--tenant", "other.example", "--mailbox", MAILBOX]).await;
    assert_eq!(told.code, Some(69), "{told:#?}");
    assert!(told.err.contains("AADSTS90002") && told.err.contains("check --tenant"), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_is_not_touched_unless_asked() {
    for name in ["config.toml", "private_key.pem", "certificate.pem", "config.exchange.ps1"] {
        let mut place = Place::auto().await;
        fs::create_dir(place.root.path().join("etc")).unwrap();
        fs::write(place.path(name), "precious").unwrap();
        let told = place.plain(&[]).await;
        told.fails(78, &["is there already and was not written by setup", name, "--overwrite"]);
        assert_eq!((place.read(name), place.names()), ("precious".into(), vec![name.to_owned()]));
        assert_eq!(place.seen(), [""; 0], "nobody had to sign in for that");
        place.plain(&["--overwrite"]).await.succeeds(&["mail can go"]);
        assert_ne!(place.read(name), "precious");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_a_package_makes_room_until_somebody_has_put_values_in() {
    const PLACEHOLDER: &str = include_str!("../src/setup/placeholder.toml");
    let place = Place::auto().await;
    fs::create_dir(place.root.path().join("etc")).unwrap();
    fs::write(place.path("config.toml"), PLACEHOLDER.replace("your-mailbox", MAILBOX)).unwrap();
    place.plain(&[]).await.fails(78, &["is there already and was not written by setup"]);
    fs::write(place.path("config.toml"), PLACEHOLDER).unwrap();
    place.plain(&[]).await.succeeds(&["mail can go"]);
    assert!(place.read("config.toml").contains(MAILBOX));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_was_edited_since_stays_even_at_the_end() {
    let place = Place::auto().await;
    place.plain(&[]).await.succeeds(&["mail can go"]);
    let edited =
        format!("{}[listener]\naddresses = [\"127.0.0.1:0\"]\n", place.read("config.toml"));
    fs::write(place.path("config.toml"), &edited).unwrap();
    let told = place.setup(&["--send-as", "erp@sandbox.example"]).await;
    told.succeeds(&["config.exchange.ps1 written"]);
    assert_eq!(place.read("config.toml"), edited);
    place
        .setup(&["--undo"])
        .await
        .succeeds(&["config.toml was changed since setup wrote it, and stays"]);
    assert_eq!(place.names(), ["config.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_that_name_is_used_and_not_deleted() {
    let mut place = Place::auto().await;
    place.plain(&[]).await.succeeds(&["registered"]);
    // Another host of the same tenant.
    let mut other = TempDir::new().unwrap();
    fs::write(other.path().join("ca.pem"), place.sandbox.ca_pem()).unwrap();
    mem::swap(&mut place.root, &mut other);
    place.plain(&[]).await.succeeds(&["found and will be used", "mail can go"]);
    assert!(place.sandbox.directory()[0].ends_with("(2 certificates, 0 secrets)"));
    // Whoever made it must not take it from under the other host either.
    mem::swap(&mut place.root, &mut other);
    let told = place.setup(&["--undo"]).await;
    assert_eq!(told.code, Some(75), "{told:#?}");
    assert!(told.err.contains("stays, as it has credentials"), "{told:#?}");
    assert!(told.out.contains("if nobody else uses the application"), "{told:#?}");
    mem::swap(&mut place.root, &mut other);
    place.setup(&["--verify"]).await.succeeds(&["nothing was changed", "mail can go"]);
    place.setup(&["--undo"]).await.succeeds(&["was there before and stays"]);
    let directory = place.sandbox.directory();
    assert!(directory[0].ends_with("(0 certificates, 0 secrets)"), "{directory:?}");
    assert_eq!(place.count("service principal"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_on_the_command_line_get_one_message() {
    let place = Place::auto().await;
    for (arguments, words) in [
        (
            &[][..],
            &["setup has to know more; give --tenant contoso.onmicrosoft.com and --mailbox"][..],
        ),
        (&["--tenant", "contoso.com"], &["give --mailbox"]),
        (&["--tenant", "my tenant/", "--mailbox", MAILBOX], &["neither a Directory (tenant) ID"]),
        (
            &["--tenant", "c.com", "--mailbox", MAILBOX, "--path", "classic", "--group", "g"],
            &["--group goes with --path applications"],
        ),
        (
            &["--tenant", "c.com", "--mailbox", MAILBOX, "--owner", "nobody-here"],
            &["there is no user"],
        ),
        (&["--undo"], &[]),
    ] {
        let told = place.setup(arguments).await;
        if words.is_empty() {
            told.fails(78, &["there is no record of a set-up"]);
        } else {
            told.fails(64, words);
        }
        assert_eq!(place.names(), [""; 0]);
    }
    place.plain(&[]).await.succeeds(&["mail can go"]);
    let told = place.plain(&["--path", "classic"]).await;
    let changed = "was set up with --path \"applications\", and now it is \"classic\"";
    told.fails(78, &[changed, "take it back with --undo first and set it up anew"]);

    let place = Place::auto().await;
    place.fault("device-code=declined");
    place.plain(&[]).await;
    let told = place.plain(&["--credential", "secret"]).await;
    told.fails(78, &["was begun with --credential \"certificate\"", "finish it as it was"]);
}

#[test]
fn print_only_needs_nothing_and_writes_nothing() {
    let root = TempDir::new().unwrap();
    let (client, object) =
        ("58d827e0-c69c-401f-8deb-b1224d129dc8", "9d1f0a52-0c3b-4f89-8a2e-0b9d5f7c3e61");
    let print = |arguments: &[&str]| {
        let mut command = o365_relay(["setup", "--print-only", "--tenant", "contoso.com"]);
        command.args(["--mailbox", "o'neill@contoso.com"]).args(arguments).current_dir(root.path());
        tell(&mut command)
    };
    let told = print(&["--client-id", client, "--object-id", object]);
    told.succeeds(&[
        "App registrations > New registration",
        "leave SMTP.SendAsApp out",
        &format!("New-ServicePrincipal -AppId '{client}' -ObjectId '{object}'"),
        "-Member 'o''neill@contoso.com'",
        "Test-ServicePrincipalAuthorization",
        &format!("client_id = \"{client}\""),
        "# if (Get-ServicePrincipal",
    ]);
    print(&["--path", "classic"]).succeeds(&[
        "SMTP.SendAsApp and nothing else",
        "Add-MailboxPermission",
        "run this again with --client-id and --object-id",
    ]);
    let hve = print(&["--cloud", "hve"]);
    hve.succeeds(&[
        "535 5.7.144",
        "Microsoft's page on High Volume",
        "\n# 1. It may use this account",
    ]);
    assert!(!hve.out.contains("FullAccess") && !hve.out.contains("\n# 2."), "{hve:#?}");
    assert_eq!(hve.out.matches("asks for an Application permission").count(), 1, "{hve:#?}");
    print(&["--cloud", "gcc-high"]).succeeds(&["-ExchangeEnvironmentName O365USGovGCCHigh"]);
    print(&["--client-id", client, "--object-id", client]).fails(64, &["are the same"]);
    print(&["--client-id", "myapp"]).fails(64, &["--client-id is not an id"]);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_script_whose_ids_were_put_in_by_hand_is_the_one_with_the_ids() {
    let (client, object) =
        ("58d827e0-c69c-401f-8deb-b1224d129dc8", "9d1f0a52-0c3b-4f89-8a2e-0b9d5f7c3e61");
    let script = |arguments: &[&str]| {
        let mut command = o365_relay(["setup", "--print-only", "--tenant", "contoso.com"]);
        let told = tell(command.args(["--mailbox", MAILBOX]).args(arguments));
        let (before, script) = told.out.split_once("# what Exchange Online").unwrap();
        (before.to_owned(), script.to_owned())
    };
    let (_, wanted) = script(&["--client-id", client, "--object-id", object]);
    let (before, mut filled) = script(&[]);
    for (placeholder, value) in [
        ("APPLICATION (CLIENT) ID", client),
        ("OBJECT ID UNDER ENTERPRISE APPLICATIONS", object),
        ("FIRST 8 DIGITS OF THE APPLICATION ID", "58d827e0"),
    ] {
        assert!(before.contains(placeholder), "{before}");
        filled = filled.replace(placeholder, value);
    }
    assert_eq!(filled, wanted);
}
