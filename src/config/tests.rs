//! The whole of the configuration: what is read, and from where.

mod credentials;
mod encryption;
mod faults;
mod logins;
mod routes;
mod several;
mod table;

use std::{fs, num::NonZeroU32, path::PathBuf, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::{
    delivery::NullSender,
    queue::Pace,
    token::{Credential, SecretSource},
};

const SECRET: &str = "k3y8Q~dGhpcyBpcyBub3QgYSBzZWNyZXQhISEhISE";
const REQUIRED: &str = r#"
[office365]
tenant_id = "contoso.onmicrosoft.com"
client_id = "58d827e0-c69c-401f-8deb-b1224d129dc8"
client_secret = "k3y8Q~dGhpcyBpcyBub3QgYSBzZWNyZXQhISEhISE"
mailbox = "relay@contoso.com"
"#;

/// A file, and sources that name it.
struct Bench {
    directory: TempDir,
    sources: Sources,
}

impl Bench {
    fn new(file: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("config.toml");
        fs::write(&path, file).unwrap();
        Self { sources: Sources { file: Some(path), ..Sources::default() }, directory }
    }

    /// No file, and no default file either.
    fn bare() -> Self {
        let directory = TempDir::new().unwrap();
        Self { sources: Sources::default(), directory }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.insert(name.into(), value.into());
        self
    }

    fn set(mut self, argument: &str) -> Self {
        self.sources.set.push(argument.into());
        self
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn load_all(&self) -> Result<(Config, layers::Settings), Faults> {
        load_or(&self.sources, &self.directory.path().join("default.toml"))
    }

    fn load(&self) -> Config {
        self.load_all().map_or_else(|faults| panic!("{faults}"), |(config, _)| config)
    }

    /// The faults, without the directory of the test.
    fn faults(&self) -> String {
        let faults = self.load_all().map(drop).expect_err("a fault").to_string();
        faults.replace(&format!("{}/", self.directory.path().display()), "")
    }

    fn shown(&self, key: &str) -> String {
        let rows = render::rows(&self.load_all().unwrap().1);
        let row = rows.into_iter().find(|row| row.key == key).unwrap();
        let text = format!("{} ({})", row.value, row.origin);
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn is_value(credential: &Credential) -> bool {
    matches!(credential, Credential::ClientSecret(all) if matches!(all[..], [SecretSource::Value(_)]))
}

fn secret_files(credential: &Credential) -> Vec<PathBuf> {
    let Credential::ClientSecret(all) = credential else { panic!("expected a secret") };
    all.iter()
        .map(|source| match source {
            SecretSource::File(path) => path.clone(),
            SecretSource::Value(_) => panic!("expected a file"),
        })
        .collect()
}

fn with(extra: &str) -> Bench {
    Bench::new(&format!("{REQUIRED}{extra}"))
}

#[test]
fn defaults_hold_once_the_required_keys_are_set() {
    let config = with("").load();
    let addresses: Vec<_> = config.listeners[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1:25", "[::1]:25"]);
    assert_eq!(config.listeners[0].max_message_size, 35 * 1024 * 1024);
    assert_eq!(config.listeners[0].min_data_rate, 64);
    assert_eq!(config.listeners[0].fallback_from, "relay@contoso.com");
    assert_eq!(config.store.history_keep, Duration::from_secs(30 * 24 * 3600));
    assert_eq!(
        config.token.token_url,
        "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"
    );
    assert_eq!(config.token.scope, "https://outlook.office365.com/.default");
    assert_eq!((config.delivery.host.as_str(), config.delivery.port), ("smtp.office365.com", 587));
    assert_eq!(config.delivery.null_sender, NullSender::Mailbox);
    assert_eq!(config.queue.routes.len(), 1);
    assert_eq!(config.queue.routes[0].lane.mailbox, "relay@contoso.com");
    assert_eq!(config.queue.routes[0].lane.pace, Pace::PerMinute(NonZeroU32::new(28).unwrap()));
    assert_eq!(config.http.address, Some("127.0.0.1:9587".parse().unwrap()));
    assert_eq!(config.telemetry.filter, "info");
    assert_eq!(config.shutdown_grace, Duration::from_secs(20));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn later_sources_win() {
    let file = || with("[listener]\nmax_recipients = 2\nallow = [\"10.0.0.0/8\", \"::1\"]\n");
    let name = "O365_RELAY__LISTENER__MAX_RECIPIENTS";
    assert_eq!(with("").load().listeners[0].max_recipients, 500);
    assert_eq!(file().load().listeners[0].max_recipients, 2);
    assert_eq!(file().variable(name, "3").load().listeners[0].max_recipients, 3);
    let all = file().variable(name, "3").set("listener.max_recipients=4");
    assert_eq!(all.load().listeners[0].max_recipients, 4);
    assert_eq!(all.set("listener.max_recipients=5").load().listeners[0].max_recipients, 5);
    // An empty variable counts as unset, and a list replaces a list.
    assert_eq!(file().variable(name, "").load().listeners[0].max_recipients, 2);
    let lists = file().variable("O365_RELAY__LISTENER__ALLOW", "192.0.2.7, 10.0.0.0/8,");
    let allow: Vec<_> = lists.load().listeners[0].allow.iter().map(ToString::to_string).collect();
    assert_eq!(allow, ["192.0.2.7/32", "10.0.0.0/8"]);
}

#[test]
fn a_file_is_named_by_option_or_variable() {
    let bench = with("");
    let other = bench.write("other.toml", &format!("{REQUIRED}[http]\naddress = \"off\"\n"));
    let mut bench = bench.variable("O365_RELAY_CONFIG", &other.display().to_string());
    assert!(bench.load().http.address.is_some(), "--config comes first");
    bench.sources.file = None;
    assert_eq!(bench.load().http.address, None);
}

#[test]
fn the_environment_alone_is_enough() {
    let bench = Bench::bare()
        .variable("AZURE_TENANT_ID", "5b0ec6a0-3b0c-4e0c-9c56-0a7bd5c2b6f1")
        .variable("AZURE_CLIENT_ID", "58D827E0-C69C-401F-8DEB-B1224D129DC8")
        .variable("AZURE_CLIENT_SECRET", SECRET)
        .variable("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/")
        .variable("O365_RELAY__OFFICE365__MAILBOX", "relay@contoso.com");
    let config = bench.load();
    assert_eq!(config.token.client_id, "58d827e0-c69c-401f-8deb-b1224d129dc8");
    assert!(config.token.token_url.starts_with("https://login.microsoftonline.us/5b0ec6a0-"));
    assert!(is_value(&config.token.credential));
    assert_eq!(
        bench.shown("office365.login_url"),
        "\"https://login.microsoftonline.us/\" (environment variable AZURE_AUTHORITY_HOST)"
    );
}

#[test]
fn our_own_keys_come_before_those_of_azure() {
    let bench = with("")
        .variable("AZURE_TENANT_ID", "fabrikam.com")
        .variable("AZURE_AUTHORITY_HOST", "https://login.example")
        .set("office365.login_url=https://login.test:8443");
    let config = bench.load();
    assert_eq!(
        config.token.token_url,
        "https://login.test:8443/contoso.onmicrosoft.com/oauth2/v2.0/token"
    );

    let text = REQUIRED.replace(&format!("client_secret = \"{SECRET}\""), "");
    let bench = Bench::new(&text).variable("AZURE_CLIENT_SECRET", "another secret");
    let path = bench.write("secret", SECRET);
    let bench = bench.set(&format!("office365.client_secret_file={}", path.display()));
    assert_eq!(secret_files(&bench.load().token.credential), [path]);
}

#[test]
fn the_credential_directory_holds_the_secret_when_nothing_else_does() {
    let text = REQUIRED.replace(&format!("client_secret = \"{SECRET}\""), "");
    let bench = Bench::new(&text);
    let directory = bench.directory.path().display().to_string();
    let bench = bench.variable("CREDENTIALS_DIRECTORY", &directory);
    assert!(bench.faults().starts_with("- `office365.client_secret_file`: required"));

    let path = bench.write("client_secret", &format!("{SECRET}\n"));
    assert_eq!(secret_files(&bench.load().token.credential), [path]);
    assert_eq!(
        bench.shown("office365.client_secret_file").replace(&directory, "DIR"),
        "\"client_secret\" (environment variable CREDENTIALS_DIRECTORY)"
    );
    let bench = bench.variable("AZURE_CLIENT_SECRET", SECRET);
    assert!(is_value(&bench.load().token.credential));
}

#[test]
fn a_cloud_sets_what_is_not_set() {
    let config = with("cloud = \"hve\"\nsmtp_port = 2587\n").load();
    assert_eq!(config.cloud, Cloud::Hve);
    assert_eq!(config.delivery.host, "smtp.hve.mx.microsoft");
    assert_eq!(config.delivery.port, 2587);
    let bench = with("cloud = \"gcc-high\"\n");
    assert_eq!(
        bench.shown("office365.smtp_host"),
        "\"smtp.office365.us\" (default, cloud \"gcc-high\")"
    );
}
