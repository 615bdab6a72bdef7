//! Which credential the application has: exactly one, wherever it was set.
//!
//! Our own keys come first, then the variables of Azure's tools, then what systemd has put into
//! `$CREDENTIALS_DIRECTORY`, or, for commands beside the service, what it would put there; the first
//! of them that names a credential is the only one that counts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret;

use super::{
    Sources,
    fault::Faults,
    file,
    keys::{
        Spec,
        office365::{self, Identity},
    },
    kinds::{self, Mismatch},
    layers::{One, Settings},
    text::is_guid,
};
use crate::token::{
    CertificateFiles, Credential, FileKind, IdentityHost, ManagedIdentity, SecretSource, TokenError,
};

/// The keys that each name a credential, in the order in which they are told.
fn rivals() -> [&'static Spec; 5] {
    [
        &office365::CLIENT_SECRET_FILE.spec,
        &office365::CLIENT_SECRET.spec,
        &office365::CERTIFICATE_FILE.spec,
        &office365::FEDERATED_TOKEN_FILE.spec,
        &office365::MANAGED_IDENTITY.spec,
    ]
}

/// Whether a key says something about the credential: one is inherited as a whole or not at all.
pub(super) fn is_part(spec: &Spec) -> bool {
    parts().any(|part| std::ptr::eq(part, spec))
}

fn parts() -> impl Iterator<Item = &'static Spec> {
    let others = [
        &office365::CLIENT_SECRET_EXPIRES.spec,
        &office365::PRIVATE_KEY_FILE.spec,
        &office365::CERTIFICATE_ALGORITHM.spec,
    ];
    rivals().into_iter().chain(others)
}

/// Whether a route says anything about its credential.
pub(super) fn is_touched(route: One<'_>) -> bool {
    parts().any(|spec| route.set_here(spec).is_some())
}

/// Whether a route names a credential of its own. Of `[office365]` nothing is inherited anyway.
pub(super) fn has_own(one: One<'_>) -> bool {
    one.is_route() && rivals().into_iter().any(|spec| one.set_here(spec).is_some())
}

/// Decides which source counts and drops what the others say.
pub(super) fn settle(settings: &mut Settings, sources: &Sources, default_file: &Path) {
    let is_fallback = |settings: &Settings, spec: &Spec| {
        let variable = spec.fallback.map(|name| format!("environment variable {name}"));
        variable.is_some() && settings.given(spec) == variable.as_deref()
    };
    let own = |settings: &Settings| {
        let mut set = rivals().into_iter().filter(|spec| settings.given(spec).is_some());
        set.any(|spec| !is_fallback(settings, spec))
    };
    if own(settings) {
        for spec in rivals() {
            if is_fallback(settings, spec) {
                settings.forget(spec);
            }
        }
        return;
    }
    if rivals().iter().any(|spec| settings.given(spec).is_some()) {
        return;
    }
    let Some(Handed { directory, names: [secret, certificate, key], origin }) =
        handed(sources, default_file)
    else {
        return;
    };
    let handed_over = |name: &str| {
        let path = directory.join(name);
        // Where we cannot tell, reading it later says why.
        (!matches!(path.try_exists(), Ok(false))).then_some(path)
    };
    let secret = handed_over(secret);
    if let Some(certificate) = handed_over(certificate).filter(|path| holds_pem(path)) {
        settings.give(&office365::CERTIFICATE_FILE.spec, &certificate, origin);
        let own_key = settings.given(&office365::PRIVATE_KEY_FILE.spec).is_some();
        if let Some(key) = handed_over(key).filter(|path| holds_pem(path) && !own_key) {
            settings.give(&office365::PRIVATE_KEY_FILE.spec, &key, origin);
        }
        // The unit hands over a placeholder where there is no secret.
        if secret.as_ref().is_none_or(|path| read_secret(path).is_err()) {
            return;
        }
    }
    if let Some(secret) = secret {
        settings.give(&office365::CLIENT_SECRET_FILE.spec, &secret, origin);
    }
}

/// Files that are a credential by their place and name alone.
struct Handed {
    directory: PathBuf,
    /// Client secret, certificate, private key.
    names: [&'static str; 3],
    origin: &'static str,
}

/// What systemd has handed over; without it, and with the default configuration, the files that our
/// unit hands over, so that `doctor` and `send` find what the service has.
fn handed(sources: &Sources, default_file: &Path) -> Option<Handed> {
    if let Some(directory) = sources.variable("CREDENTIALS_DIRECTORY") {
        return Some(Handed {
            directory: directory.into(),
            names: ["client_secret", "certificate", "private_key"],
            origin: "environment variable CREDENTIALS_DIRECTORY",
        });
    }
    let (path, named) = file::place(sources, default_file);
    let directory = path.parent().filter(|_| named.is_none() && path.exists())?;
    Some(Handed {
        directory: directory.to_path_buf(),
        names: ["client_secret", "certificate.pem", "private_key.pem"],
        origin: "found beside the configuration",
    })
}

/// Whether this is a certificate or a key, and no placeholder.
fn holds_pem(path: &Path) -> bool {
    fs::read_to_string(path).map_or(true, |text| text.contains("-----BEGIN"))
}

/// Whether nothing is missing although `spec`, which is required as a rule, is not set.
pub(super) fn replaces(settings: &Settings, spec: &Spec) -> bool {
    let set = |spec: &Spec| settings.effective(spec).is_some();
    let path = spec.path();
    if path == office365::CLIENT_SECRET_FILE.spec.path() {
        return rivals().into_iter().any(set);
    }
    let named_by_host =
        path == office365::TENANT_ID.spec.path() || path == office365::CLIENT_ID.spec.path();
    named_by_host && set(&office365::MANAGED_IDENTITY.spec)
}

/// Faults and warnings about the credential.
pub(super) fn check(one: One<'_>, faults: &mut Faults, warnings: &mut Vec<String>) {
    let set: Vec<_> = rivals().into_iter().filter(|spec| one.effective(spec).is_some()).collect();
    if let Some((first, others)) = set.split_first() {
        for other in others {
            let message = format!(
                "set together with `{}` ({}); keep one of them",
                first.name,
                one.given(first).unwrap_or_default()
            );
            faults.add(one.slot(other).path(), message, one.given(other));
        }
    }
    without_its_owner(one, faults, warnings);
    secrets(one, faults, warnings);
    files(one, faults);
}

/// Keys that mean something only beside another one.
fn without_its_owner(one: One<'_>, faults: &mut Faults, warnings: &mut Vec<String>) {
    let set = |spec: &'static Spec| one.effective(spec).is_some();
    let certificate = set(&office365::CERTIFICATE_FILE.spec);
    let key = &office365::PRIVATE_KEY_FILE.spec;
    if set(key) && !certificate {
        let message = "set without `certificate_file`; name the certificate that it belongs to";
        faults.add(one.slot(key).path(), message, one.given(key));
    }
    let mut idle = |spec: &'static Spec, why: &str| {
        if let Some(origin) = one.given(spec) {
            warnings.push(format!("`{}`: has no effect {why} ({origin})", one.slot(spec).path()));
        }
    };
    if !certificate {
        idle(&office365::CERTIFICATE_ALGORITHM.spec, "without `certificate_file`");
    }
    if !set(&office365::CLIENT_SECRET.spec) && !set(&office365::CLIENT_SECRET_FILE.spec) {
        idle(&office365::CLIENT_SECRET_EXPIRES.spec, "without a client secret");
    }
}

fn secrets(one: One<'_>, faults: &mut Faults, warnings: &mut Vec<String>) {
    const SECRET_ID: &str =
        "this looks like the secret's id; paste the Value column, which is shown only once";

    let (value, file) = (&office365::CLIENT_SECRET, &office365::CLIENT_SECRET_FILE);
    let mut note = |spec: &'static Spec, text: &str| {
        let origin = one.given(spec).unwrap_or_default();
        warnings.push(format!("`{}`: {text} ({origin})", one.slot(spec).path()));
    };
    if let Some(secret) = one.get(value) {
        if is_guid(secret.expose_secret().trim()) {
            note(&value.spec, SECRET_ID);
        }
        if one.given(&value.spec) == Some("--set") {
            note(&value.spec, "every user of this host can read it in the list of processes");
        }
    }
    let paths = one.get(file).unwrap_or_default();
    let several = paths.len() > 1;
    let mut usable = false;
    let mut refused = Vec::new();
    for path in &paths {
        match read_secret(path) {
            Ok(looks_like_id) => {
                usable = true;
                if looks_like_id {
                    note(&file.spec, SECRET_ID);
                }
            }
            Err(message) => refused.push(message),
        }
    }
    for message in refused {
        // Of an old and a new one, one may be gone already or not be there yet.
        if several && usable {
            note(&file.spec, &message);
        } else {
            faults.add(one.slot(&file.spec).path(), message, one.given(&file.spec));
        }
    }
}

/// Whether the secret in the file looks like an id, or why it cannot be used.
fn read_secret(path: &Path) -> Result<bool, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        let cure = match error.kind() {
            io::ErrorKind::NotFound => "put the client secret's Value there, or name its file",
            io::ErrorKind::PermissionDenied => {
                "make the user of the service its owner, with mode 0600 \
                 (`chown o365-relay`, `chmod 0600`)"
            }
            io::ErrorKind::InvalidData => "it must hold the secret as text and nothing else",
            _ => "name a file that holds the client secret's Value",
        };
        format!("could not read {shown}: {error}; {cure}")
    })?;
    let secret = kinds::secret_text(&text)
        .map_err(|Mismatch(message)| format!("{shown} holds no secret: {message}"))?;
    Ok(is_guid(secret.expose_secret().trim()))
}

/// Certificate, key and federated token, as they are now.
fn files(one: One<'_>, faults: &mut Faults) {
    let key_file = &office365::PRIVATE_KEY_FILE.spec;
    for credential in certificate(one).into_iter().chain(federated_token(one)) {
        let Err(TokenError::File { kind, path, reason }) = credential.examine() else { continue };
        let spec = match kind {
            FileKind::FederatedToken => &office365::FEDERATED_TOKEN_FILE.spec,
            FileKind::PrivateKey if one.effective(key_file).is_some() => key_file,
            FileKind::PrivateKey | FileKind::Certificate => &office365::CERTIFICATE_FILE.spec,
        };
        let shown = path.display().to_string();
        let message = format!("{shown} {reason}; {}", reason.advice(kind, &shown));
        faults.add(one.slot(spec).path(), message, one.given(spec));
    }
}

fn certificate(one: One<'_>) -> Option<Credential> {
    Some(Credential::Certificate(CertificateFiles {
        certificate: one.get(&office365::CERTIFICATE_FILE)?,
        private_key: one.get(&office365::PRIVATE_KEY_FILE),
        algorithm: one.get(&office365::CERTIFICATE_ALGORITHM)?,
    }))
}

fn federated_token(one: One<'_>) -> Option<Credential> {
    one.get(&office365::FEDERATED_TOKEN_FILE).map(Credential::FederatedToken)
}

/// The credential, once [`check`] has found no fault.
pub(super) fn build(one: One<'_>) -> Option<Credential> {
    if let Some(identity) = one.get(&office365::MANAGED_IDENTITY) {
        let client_id = match identity {
            Identity::System => None,
            Identity::User(client_id) => Some(client_id),
        };
        let host = one.identity_host().clone();
        return Some(Credential::ManagedIdentity(ManagedIdentity { host, client_id }));
    }
    let secrets = || {
        let files: Vec<_> = one.get(&office365::CLIENT_SECRET_FILE).unwrap_or_default();
        let files: Vec<_> = files.into_iter().map(SecretSource::File).collect();
        let value = || one.get(&office365::CLIENT_SECRET).map(SecretSource::Value);
        let all = if files.is_empty() { Vec::from_iter(value()) } else { files };
        (!all.is_empty()).then_some(Credential::ClientSecret(all))
    };
    certificate(one).or_else(|| federated_token(one)).or_else(secrets)
}

/// What gives tokens to this host, by the variables that its platform sets.
pub(super) fn identity_host(sources: &Sources) -> IdentityHost {
    let arc_home = Path::new(ARC_HOME);
    match (sources.variable("IDENTITY_ENDPOINT"), sources.variable("IDENTITY_HEADER")) {
        (Some(url), Some(header)) => {
            IdentityHost::AppService { url: url.to_owned(), header: header.into() }
        }
        (Some(url), None) => IdentityHost::Arc { url: url.to_owned(), key_directory: arc_keys() },
        // A service gets no variables from the agent, but can see that it is installed.
        (None, _) if arc_home.exists() => {
            IdentityHost::Arc { url: ARC_ENDPOINT.to_owned(), key_directory: arc_keys() }
        }
        (None, _) => {
            // Not for operators: test doubles of Azure are named by it, ours among them.
            let base = sources.variable("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or(IMDS);
            let base = base.trim_end_matches('/');
            IdentityHost::Imds { url: format!("{base}/metadata/identity/oauth2/token") }
        }
    }
}

fn arc_keys() -> PathBuf {
    Path::new(ARC_HOME).join("tokens")
}

const IMDS: &str = "http://169.254.169.254";
const ARC_HOME: &str = "/var/opt/azcmagent";
const ARC_ENDPOINT: &str = "http://localhost:40342/metadata/identity/oauth2/token";
