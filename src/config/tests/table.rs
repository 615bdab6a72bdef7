//! The table of keys against what is made from it.

use super::{super::keys::AnyKey, encryption::Pair as ServerPair, logins::user, *};
use crate::token::test_pair::Pair;

#[test]
fn the_example_is_the_file_in_the_repository() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/config.toml");
    let file = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(file, example(), "write the output of `o365-relay config example` to {path}");
}

#[test]
fn the_reference_is_the_page_in_the_repository() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(page, page_of_keys(), "write the output of `o365-relay config reference` to {path}");
}

/// What the reference shows for a key can be pasted, and would change something.
#[test]
fn each_key_has_an_example_that_fits_and_is_not_its_default() {
    let paths: Vec<_> = keys::table().map(|key| key.spec().path()).collect();
    for (path, _) in examples::EXAMPLES {
        assert!(paths.iter().any(|known| known == path), "there is no {path}");
    }
    for KeyReference { path, example, .. } in reference().into_iter().flat_map(|all| all.keys) {
        let key = keys::table().find(|key| key.spec().path() == path).unwrap();
        let table: toml::Table = format!("value = {example}").parse().unwrap();
        let value = match &table["value"] {
            toml::Value::Integer(number) => (*number).into(),
            toml::Value::Boolean(flag) => (*flag).into(),
            toml::Value::String(text) => text.as_str().into(),
            toml::Value::Datetime(day) => day.to_string().into(),
            toml::Value::Array(items) => {
                items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().into()
            }
            other => panic!("{path}: {other}"),
        };
        assert_eq!(key.check(&value), Ok(()), "{path} = {example}");
        let default = key.spec().default.value().map(|value| render::literal(&value));
        assert_ne!(Some(example), default, "{path}: name another value in examples.rs");
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let bench = Bench::bare();
    let secret = bench.write("client_secret", SECRET);
    let text = example().replace("/etc/o365-relay/client_secret", &secret.display().to_string());
    let plain = Bench::new(&text).load();
    // A line such as `# key = value` is a key that is commented out; keep those with defaults.
    let samples: Vec<_> = keys::table()
        .map(AnyKey::spec)
        .filter(|spec| spec.default.value().is_none())
        .map(|spec| format!("# {} = ", spec.name))
        .collect();
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) {
            Some((name, value))
                if !name.contains(' ') && !samples.iter().any(|key| line.starts_with(key)) =>
            {
                format!("{name} = {value}")
            }
            _ => line.to_owned(),
        })
        .collect();
    let full = Bench::new(&uncommented.join("\n"));
    assert_eq!(full.shown("listener.max_faults").split_once(" (").unwrap().0, "20");
    assert!(full.shown("listener.max_faults").contains("config.toml:"));
    let full = full.load();
    assert_eq!(debug(&full), debug(&plain));
}

/// The configuration without its roots of trust, whose order is not fixed.
fn debug(config: &Config) -> String {
    let Config { listeners, store, token, delivery, queue, http, telemetry, .. } = config;
    let token = (&token.token_url, &token.client_id, &token.scope, token.request_timeout);
    let expires = config.token.client_secret_expires;
    let graph = &config.token.graph;
    let token = format!("{token:?} {:?} {expires:?} {graph:?}", config.token.credential);
    let delivery = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        delivery.host,
        delivery.port,
        delivery.ehlo_name,
        delivery.null_sender,
        delivery.max_messages_per_connection,
        delivery.idle_close
    );
    let (grace, ephemeral) = (config.shutdown_grace, config.ephemeral);
    format!(
        "{listeners:?} {store:?} {token} {delivery} {queue:?} {http:?} {telemetry:?} {grace:?} \
         {ephemeral:?}"
    )
}

/// Each key, set to something else, changes the checked configuration: none is forgotten.
#[test]
fn every_key_has_an_effect() {
    let text = REQUIRED.replace(&format!("client_secret = \"{SECRET}\""), "");
    let bench = Bench::new(&text);
    let (first, second) = (bench.write("first", SECRET), bench.write("second", SECRET));
    let ours = ServerPair::new(&bench);
    let settings = [
        "listener.auth=users".to_owned(),
        format!("listener.users={}", user("scanner")),
        format!("listener.tls_certificate_file={}", ours.path("tls_certificate_file")),
        format!("listener.tls_key_file={}", ours.path("tls_key_file")),
    ];
    let secret = format!("office365.client_secret_file={}", first.display());
    let base = settings.iter().fold(bench.set(&secret), |bench, setting| bench.set(setting));
    let (pair, other) = (Pair::new(), Pair::new());
    let file = |name: &str, text: &str| base.write(name, text).display().to_string();
    let (key, both) = (file("key.pem", &pair.key), file("both.pem", &other.both()));
    let key_in_both = file("again.pem", &pair.both());
    for spec in keys::table().map(AnyKey::spec) {
        // A credential takes the place of the secret.
        let instead: &[&str] = match spec.name {
            "certificate_file" | "federated_token_file" | "managed_identity" => &[],
            "private_key_file" | "certificate_algorithm" => &[&key_in_both],
            _ => &["the secret"],
        };
        let mut sources = base.sources.clone();
        if instead != ["the secret"] {
            let instead = instead.iter().map(|path| format!("office365.certificate_file={path}"));
            sources.set = settings.iter().cloned().chain(instead).collect();
        }
        let before = match load_or(&sources, Path::new("/nonexistent")) {
            Ok((config, _)) => debug(&config),
            Err(faults) => faults.to_string(), // nothing at all is set
        };
        let value = match spec.path().as_str() {
            // Its roots of trust are compared nowhere; `client_secret` replaces the file.
            // `users_file` takes the place of `users` too; `logins.rs` has it. A certificate
            // makes `tls` what it is; `encryption.rs` has the other words.
            "office365.ca_file"
            | "office365.client_secret"
            | "listener.users_file"
            | "listener.tls" => continue,
            "listener.tls_certificate_file" | "listener.tls_key_file" => ours.other(spec.name),
            "office365.client_secret_file" => second.display().to_string(),
            "office365.client_secret_expires" => "2027-03-01".into(),
            "office365.certificate_file" => both.clone(),
            "office365.private_key_file" => key.clone(),
            "office365.certificate_algorithm" => "RS256".into(),
            "office365.federated_token_file" => second.display().to_string(),
            "office365.managed_identity" => "system".into(),
            "office365.tenant_id" => "fabrikam.com".into(),
            "office365.client_id" => "68d827e0-c69c-401f-8deb-b1224d129dc8".into(),
            "office365.mailbox" => "other@contoso.com".into(),
            "office365.cloud" => "china".into(),
            "office365.login_url" => "https://login.example".into(),
            "office365.graph_url" => "https://graph.example".into(),
            "office365.scope" => "https://mail.example/.default".into(),
            "office365.smtp_host" | "office365.ehlo_name" | "listener.hostname" => {
                "a-host.example".into()
            }
            "office365.pace" => "unlimited".into(),
            "office365.null_sender" => "pass".into(),
            "office365.default_mailbox" => {
                sources.set.push("office365.mailbox=sender".into());
                "other@contoso.com".into()
            }
            "sender.allow" | "route.senders" => "*@contoso.com".into(),
            "sender.rewrite" => "mailbox".into(),
            "sender.map" => "root@host.local -> it@contoso.com".into(),
            "queue.on_uncertain" => "hold".into(),
            "queue.mode" => "direct".into(),
            "notices.to" => "postmaster@contoso.com".into(),
            "listener.addresses" | "http.address" => "127.0.0.1:2525".into(),
            "listener.allow" | "listener.proxy_protocol" => "10.0.0.0/8".into(),
            "listener.name" => "printers".into(),
            "listener.sender" => "erp@contoso.com".into(),
            "listener.unix_mode" => "0600".into(),
            "listener.auth" => "any".into(),
            "listener.add_from" => "false".into(),
            "listener.users" => user("fax"),
            "listener.default_domain" => "contoso.com".into(),
            "listener.bare_line_feed" => "reject".into(),
            "listener.max_message_size" | "listener.min_data_rate" | "queue.min_free_bytes" => {
                "77KiB".into()
            }
            "queue.directory" | "queue.spool_directory" => "/tmp/queue".into(),
            "queue.history_keep" => "77d".into(),
            "log.format" => "json".into(),
            "log.level" => "info,o365_relay::queue=debug".into(),
            _ if matches!(spec.default, keys::Default::Flag(_)) => "true".into(),
            _ if matches!(spec.default, keys::Default::Text(_)) => "77m".to_owned(),
            _ => "77".to_owned(),
        };
        let short =
            matches!(spec.name, "shutdown_grace" | "idle_close" | "token_timeout" | "direct_wait");
        let value = if short { "77s".into() } else { value };
        sources.set.push(format!("{}={value}", spec.path()));
        let (config, settings) = load_or(&sources, Path::new("/nonexistent"))
            .unwrap_or_else(|faults| panic!("{faults}"));
        assert_ne!(debug(&config), before, "{} has no effect", spec.path());
        assert_eq!(settings.given(spec), Some("--set"));
    }
}

#[test]
fn every_key_is_offered_for_its_misspelling() {
    for spec in keys::table().map(AnyKey::spec) {
        let wrong = format!("{}x", spec.name);
        let faults = with("").set(&format!("{}.{wrong}=1", spec.section)).faults();
        let expected = format!(
            "- `{}.{wrong}`: unknown key, did you mean `{}`? (--set)",
            spec.section,
            spec.path()
        );
        assert_eq!(faults, expected);
    }
}

#[test]
fn every_key_stands_in_a_section_and_reads_its_own_sample() {
    for key in keys::table() {
        let spec = key.spec();
        assert!(keys::section(spec.section).is_some());
        assert!(spec.doc.ends_with('.') && !spec.doc.contains('\n'), "{}", spec.path());
        let sample = match spec.default {
            keys::Default::Computed { sample, .. }
            | keys::Default::Nothing { sample }
            | keys::Default::Required { sample } => sample.into(),
            fixed => fixed.value().unwrap(),
        };
        assert_eq!(key.check(&sample), Ok(()), "{}", spec.path());
    }
}
