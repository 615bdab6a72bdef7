//! Exactly one credential, from wherever it was set.

use super::*;
use crate::token::{Algorithm, IdentityHost, test_pair::Pair};

/// [`REQUIRED`] without its secret.
fn bench(lines: &str) -> Bench {
    let text = REQUIRED.replace(&format!("client_secret = \"{SECRET}\"\n"), "");
    Bench::new(&format!("{text}{lines}"))
}

/// What the credential is, with file names instead of paths.
fn kind(config: &Config) -> String {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    match &config.token.credential {
        Credential::ClientSecret(all) => {
            let all = all.iter().map(|source| match source {
                SecretSource::Value(_) => "value".to_owned(),
                SecretSource::File(path) => name(path),
            });
            format!("secret {}", all.collect::<Vec<_>>().join(" "))
        }
        Credential::Certificate(files) => {
            let key = files.private_key.as_deref().map(name).unwrap_or_default();
            format!("certificate {} {key}", name(&files.certificate)).trim_end().to_owned()
        }
        Credential::FederatedToken(path) => format!("federated {}", name(path)),
        Credential::ManagedIdentity(identity) => {
            let host = match &identity.host {
                IdentityHost::Imds { url } => format!("imds {url}"),
                IdentityHost::AppService { url, .. } => format!("app service {url}"),
                IdentityHost::Arc { url, key_directory } => {
                    format!("arc {url} {}", key_directory.display())
                }
            };
            format!("{host} {}", identity.client_id.as_deref().unwrap_or("system"))
        }
    }
}

#[test]
fn the_variables_of_azure_count_where_no_credential_of_ours_is_set() {
    let pair = Pair::new();
    let bench = bench("");
    let file = |name: &str, text: &str| bench.write(name, text).display().to_string();
    let (both, secret) = (file("both.pem", &pair.both()), file("secret", SECRET));
    let token = file("token", "eyJ0.x.y");
    let with = |settings: &[(&str, &str)]| {
        let mut sources = bench.sources.clone();
        for (name, value) in settings {
            match name.starts_with("AZURE") {
                true => drop(sources.environment.insert((*name).into(), (*value).into())),
                false => sources.set.push(format!("office365.{name}={value}")),
            }
        }
        match load_or(&sources, Path::new("/nonexistent")) {
            Ok((config, _)) => kind(&config),
            Err(faults) => faults.to_string(),
        }
    };
    let azure_certificate = ("AZURE_CLIENT_CERTIFICATE_PATH", both.as_str());
    let azure_token = ("AZURE_FEDERATED_TOKEN_FILE", token.as_str());
    let azure_secret = ("AZURE_CLIENT_SECRET", SECRET);

    assert_eq!(with(&[azure_certificate]), "certificate both.pem");
    assert_eq!(with(&[azure_token]), "federated token");
    // A pod of AKS gets the token whether it wants it or not: our own key decides.
    let own = ("client_secret_file", secret.as_str());
    assert_eq!(with(&[azure_token, azure_certificate, azure_secret, own]), "secret secret");
    assert_eq!(with(&[azure_token, ("certificate_file", &both)]), "certificate both.pem");
    assert_eq!(with(&[azure_secret, ("federated_token_file", &token)]), "federated token");
    let identity = with(&[azure_secret, azure_token, ("managed_identity", "system")]);
    assert_eq!(identity, "imds http://169.254.169.254/metadata/identity/oauth2/token system");
    // Of two that are not ours, nobody knows which is meant.
    let two = with(&[azure_token, azure_secret]);
    let words = "- `office365.federated_token_file`: set together with `client_secret` (environment \
                 variable AZURE_CLIENT_SECRET); keep one of them (environment variable \
                 AZURE_FEDERATED_TOKEN_FILE)";
    assert_eq!(two, words);
}

#[test]
fn a_certificate_has_its_key_and_algorithm() {
    let pair = Pair::new();
    let first = bench("certificate_algorithm = \"RS256\"\n");
    let (certificate, key) =
        (first.write("certificate.pem", &pair.certificate), first.write("key.pem", &pair.key));
    let set = first
        .set(&format!("office365.certificate_file={}", certificate.display()))
        .set(&format!("office365.private_key_file={}", key.display()));
    let config = set.load();
    assert_eq!(kind(&config), "certificate certificate.pem key.pem");
    let Credential::Certificate(files) = config.token.credential else { unreachable!() };
    assert_eq!(files.algorithm, Algorithm::Rs256);

    // Without the key's file, the key is looked for beside the certificate.
    let mut without = Bench { directory: set.directory, sources: set.sources };
    without.sources.set.pop();
    assert!(without.faults().contains("certificate.pem holds no private key in PEM form"));
}

#[test]
fn a_managed_identity_needs_neither_tenant_nor_application() {
    let file = |identity: &str| {
        Bench::new(&format!(
            "[office365]\nmailbox = \"relay@contoso.com\"\nmanaged_identity = \"{identity}\"\n"
        ))
    };
    let user = "58D827E0-C69C-401F-8DEB-B1224D129DC8";
    let config = file(user).load();
    assert!(kind(&config).ends_with(" 58d827e0-c69c-401f-8deb-b1224d129dc8"));
    assert_eq!((config.token.tenant_id.as_str(), config.token.client_id.as_str()), ("", ""));

    let host = |variables: &[(&str, &str)]| {
        let bench = variables
            .iter()
            .fold(file("system"), |bench, (name, value)| bench.variable(name, value));
        kind(&bench.load())
    };
    let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi/token");
    assert_eq!(
        host(&[endpoint, ("IDENTITY_HEADER", "x")]),
        "app service http://127.0.0.1:41/msi/token system"
    );
    assert_eq!(
        host(&[endpoint]),
        "arc http://127.0.0.1:41/msi/token /var/opt/azcmagent/tokens system"
    );
    let text = format!(
        "{:?}",
        file("system")
            .variable(endpoint.0, endpoint.1)
            .variable("IDENTITY_HEADER", SECRET)
            .load()
            .token
            .credential
    );
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn systemd_may_hand_over_a_certificate_beside_the_placeholder_of_a_secret() {
    let pair = Pair::new();
    let bench = bench("");
    let directory = bench.directory.path().display().to_string();
    let bench = bench.variable("CREDENTIALS_DIRECTORY", &directory);
    bench.write("client_secret", "changeme");
    bench.write("certificate", &pair.certificate);
    bench.write("private_key", &pair.key);
    assert_eq!(kind(&bench.load()), "certificate certificate private_key");
    bench.write("client_secret", SECRET);
    assert!(bench.faults().contains("keep one of them"), "{}", bench.faults());
    bench.write("certificate", "none");
    assert_eq!(kind(&bench.load()), "secret client_secret");
}

#[test]
fn what_the_unit_would_hand_over_is_found_beside_the_default_file() {
    let pair = Pair::new();
    let mut bench = bench("");
    bench.write("client_secret", SECRET);
    assert!(bench.faults().contains("`office365.client_secret_file`: required"));
    fs::copy(bench.sources.file.take().unwrap(), bench.directory.path().join("default.toml"))
        .unwrap();
    assert_eq!(kind(&bench.load()), "secret client_secret");
    fs::remove_file(bench.directory.path().join("client_secret")).unwrap();
    bench.write("certificate.pem", &pair.certificate);
    bench.write("private_key.pem", &pair.key);
    assert_eq!(kind(&bench.load()), "certificate certificate.pem private_key.pem");
}

#[test]
fn old_and_new_secret_stand_in_a_list() {
    let bench = bench("");
    let (old, new) = (bench.write("old", SECRET), bench.write("new", SECRET));
    let list = format!("{},{}", old.display(), new.display());
    let bench = bench.variable("O365_RELAY__OFFICE365__CLIENT_SECRET_FILE", &list);
    assert_eq!(kind(&bench.load()), "secret old new");
    fs::remove_file(&old).unwrap();
    let config = bench.load();
    assert_eq!(kind(&config), "secret old new");
    assert!(config.warnings[0].contains("old: No such file"), "{:?}", config.warnings);
    fs::remove_file(&new).unwrap();
    assert_eq!(bench.faults().lines().count(), 2);
}

#[test]
fn keys_that_have_no_effect_are_told() {
    let bench = with("certificate_algorithm = \"RS256\"\n");
    assert!(bench.load().warnings[0].contains("has no effect without `certificate_file`"));
    let identity = Bench::new(
        "[office365]\nmailbox = \"a@b.example\"\nmanaged_identity = \"system\"\n\
         client_secret_expires = 2027-03-01\n",
    );
    assert!(identity.load().warnings[0].contains("has no effect without a client secret"));
    let config = with("client_secret_expires = 2027-03-01\n").load();
    assert_eq!(config.token.client_secret_expires.unwrap().rfc3339(), "2027-03-01T00:00:00Z");
}
