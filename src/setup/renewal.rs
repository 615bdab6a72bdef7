//! A new credential beside the old one. It is made under a name of its own, uploaded, tried at the
//! login host, and takes the place of the old one only once it is accepted; at no moment is the
//! relay without a pair that works. The old one stays at Entra ID until it ends: copies of it may
//! be in use, as those that systemd hands over are until a restart.
//!
//! | Cut short after | The next run |
//! |---|---|
//! | making it | uploads what was made |
//! | uploading it | tries it, without a sign-in |
//! | the first file | writes all of them again |

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::zeroize::Zeroizing;
use tokio::time::{Instant, sleep};

use super::{
    CredentialKind, Plan, SetupError, Tell,
    files::{self, NewFile},
    key_pair::{self, KeyPair},
    record::{Earlier, Record, Thing},
    register::{Registrar, day_of},
};
use crate::{
    clock::{Clock, UnixMillis},
    token::{self, Algorithm, CertificateFiles, Credential, SecretSource},
};

/// A credential that has so many days left, or a third of its days, is renewed.
const DAYS_LEFT: i64 = 30;

/// Where a new secret waits.
pub(super) const NEXT_SECRET: &str = "client_secret.next";

impl Plan {
    pub(super) fn next_certificate(&self) -> PathBuf {
        self.beside("certificate.next.pem")
    }

    fn next_private_key(&self) -> PathBuf {
        self.beside("private_key.next.pem")
    }

    fn next_secret(&self) -> PathBuf {
        self.beside(NEXT_SECRET)
    }

    fn next_files(&self) -> Vec<PathBuf> {
        match self.credential {
            CredentialKind::Certificate => vec![self.next_private_key(), self.next_certificate()],
            CredentialKind::Secret => vec![self.next_secret()],
        }
    }

    fn next_credential(&self) -> Credential {
        match self.credential {
            CredentialKind::Certificate => Credential::Certificate(CertificateFiles {
                certificate: self.next_certificate(),
                private_key: Some(self.next_private_key()),
                algorithm: Algorithm::Ps256,
            }),
            CredentialKind::Secret => {
                Credential::ClientSecret(vec![SecretSource::File(self.next_secret())])
            }
        }
    }
}

/// When the credential in use ends, and how many whole days that is from now; as far as known.
pub(super) fn end(plan: &Plan, record: &Record, now: UnixMillis) -> Option<(String, i64)> {
    let at = match plan.credential {
        CredentialKind::Certificate => super::pair_of(plan).examine().ok()?.at,
        CredentialKind::Secret => {
            let day: jiff::civil::Date = record.ends.as_deref()?.parse().ok()?;
            let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
            UnixMillis(start.timestamp().as_millisecond())
        }
    };
    Some((day_of(at), at.0.saturating_sub(now.0).div_euclid(86_400_000)))
}

/// Whether the certificate in place is another one than was uploaded.
pub(super) fn is_another_pair(plan: &Plan, record: &Record) -> Result<bool, SetupError> {
    if plan.credential == CredentialKind::Secret || record.next.is_some() {
        return Ok(false);
    }
    let pem = files::read(&plan.certificate())?.unwrap_or_default();
    let digest = key_pair::for_graph(&pem).map(|key| files::digest(&key));
    Ok(digest.is_some() && record.uploaded.is_some() && digest != record.uploaded)
}

/// Whether there is to be a new credential, or one was begun.
pub(super) fn is_due(plan: &Plan, record: &Record, now: UnixMillis) -> Result<bool, SetupError> {
    if !record.is_registered() {
        return Ok(false);
    }
    let begun = plan.next_files().iter().any(|path| record.files.contains_key(path));
    if begun || record.next.is_some() {
        return Ok(true);
    }
    let written = plan.credential_files();
    let by_setup = written.iter().all(|(_, path)| record.files.contains_key(path));
    let ours = by_setup && !is_another_pair(plan, record)?;
    if plan.renew && !ours {
        return Err(SetupError::Key {
            reason: "the pair in place was not made by setup, and is not renewed by it: put a new \
                     one there (docs/credentials.md), and `o365-relay setup --verify` uploads it"
                .into(),
        });
    }
    let least = DAYS_LEFT.min(i64::from(plan.days) / 3);
    let ends = end(plan, record, now).is_some_and(|(_, days)| days <= least);
    Ok(ours && (plan.renew || ends))
}

/// Makes the new pair, unless it is there.
pub(super) fn make_pair(
    plan: &Plan,
    record: &mut Record,
    now: UnixMillis,
) -> Result<(), SetupError> {
    if record.next.is_some() || plan.next_credential().examine().is_ok() {
        return Ok(());
    }
    let pair = KeyPair::new(&plan.name, plan.days, now)?;
    for path in plan.next_files() {
        record.files.insert(path, None);
    }
    record.save(&plan.config)?;
    let files = [
        (plan.next_private_key(), pair.private_key.as_str(), files::PRIVATE),
        (plan.next_certificate(), pair.certificate.as_str(), files::PUBLIC),
    ];
    for (path, text, mode) in files {
        NewFile { path: &path, text, mode, owner: plan.owner }.write(true)?;
    }
    Ok(())
}

impl Registrar<'_> {
    /// Uploads the new certificate, or has a new secret made.
    pub async fn renew(&mut self) -> Result<(), SetupError> {
        let Some(application) = self.record.application.clone() else { return Ok(()) };
        match self.plan.credential {
            CredentialKind::Certificate => {
                self.forget_ended();
                let file = self.plan.next_certificate();
                let (id, _) = self.upload(&application, &file).await?;
                let ends = self.plan.next_credential().expiry().map(|expiry| day_of(expiry.at));
                self.record.next = Some(Earlier { id, ends });
                self.note("new certificate uploaded beside the old one")
            }
            CredentialKind::Secret => self.new_secret(&application).await,
        }
    }

    /// Those of ours that have ended need not be uploaded again.
    fn forget_ended(&mut self) {
        let today = day_of(self.now);
        let (ended, earlier) = std::mem::take(&mut self.record.earlier)
            .into_iter()
            .partition(|one| one.ends.as_ref().is_some_and(|end| *end < today));
        self.record.earlier = earlier;
        self.ended = ended;
    }

    async fn new_secret(&mut self, application: &Thing) -> Result<(), SetupError> {
        let file = self.plan.next_secret();
        let (id, ends) = self.make_secret(application, &file, true).await?;
        self.record.next = Some(Earlier { id, ends });
        self.note("new client secret made beside the old one")
    }
}

/// Waits until the new credential is accepted, and puts it in the place of the old one.
pub(super) async fn take_over(
    plan: &Plan,
    record: &mut Record,
    clock: Clock,
    tell: Tell<'_>,
) -> Result<(), SetupError> {
    let Some(next) = record.next.clone() else { return Ok(()) };
    // Without them a run was cut short when all was written.
    if plan.next_files().iter().all(|path| path.exists()) {
        accepted(plan, record, clock, tell).await?;
        match plan.credential {
            CredentialKind::Certificate => {
                for (path, text) in steps(plan)? {
                    replace(&path, &text, plan.owner)?;
                }
            }
            CredentialKind::Secret => {
                let secret = content(&plan.next_secret())?;
                replace(&plan.secret(), &secret, plan.owner)?;
            }
        }
        for path in plan.next_files() {
            files::remove(&path)?;
        }
    }
    for path in plan.next_files() {
        record.files.remove(&path);
    }
    let until = next.ends.clone().unwrap_or_default();
    record.next = None;
    record.takes(next.id, next.ends);
    record.save(&plan.config)?;
    let then = match (plan.systemd, plan.credential) {
        (true, _) => "`systemctl restart o365-relay` hands it to the service",
        (false, CredentialKind::Certificate) => "the relay takes it by itself",
        (false, CredentialKind::Secret) => {
            "the relay takes it by itself, and `systemctl reload o365-relay` tells it the new end"
        }
    };
    tell(&format!(
        "the new credential is accepted and in place, good until {until}; {then}. The old one stays \
         at Entra ID until it ends"
    ));
    Ok(())
}

/// Asks for a token with the new credential until there is one.
async fn accepted(
    plan: &Plan,
    record: &Record,
    clock: Clock,
    tell: Tell<'_>,
) -> Result<(), SetupError> {
    let client_id = record.application.as_ref().map(|one| one.client_id.clone());
    let config = token::Config {
        account: String::new(),
        token_url: format!("{}/{}/oauth2/v2.0/token", plan.login_url(), plan.tenant),
        tenant_id: plan.tenant.clone(),
        client_id: client_id.unwrap_or_default(),
        scope: plan.cloud.preset().scope.to_owned(),
        credential: plan.next_credential(),
        client_secret_expires: None,
        graph: None,
        request_timeout: Duration::from_secs(30),
        tls: plan.tls.clone(),
    };
    let deadline = Instant::now() + plan.patience;
    let mut pause = Duration::from_secs(1);
    loop {
        let refused = match token::fetch(config.clone(), clock).await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        if Instant::now() + pause > deadline {
            return Err(SetupError::NotAccepted { refused });
        }
        if pause == Duration::from_secs(1) {
            tell("waiting until Entra ID accepts it; the old one stays in use until then");
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(8));
    }
}

/// What to write where, in this order, so that the new pair takes the place of the one in use. At
/// each moment the certificate of the key that is in place is in the file of certificates: the
/// relay finds it there by its key.
fn steps(plan: &Plan) -> Result<[(PathBuf, Zeroizing<String>); 3], SetupError> {
    let (certificate, private_key) = (plan.certificate(), plan.private_key());
    let new = content(&plan.next_certificate())?;
    let both = format!("{}{}", new.as_str(), files::read(&certificate)?.unwrap_or_default());
    Ok([
        (certificate.clone(), both.into()),
        (private_key, content(&plan.next_private_key())?),
        (certificate, new),
    ])
}

fn content(path: &Path) -> Result<Zeroizing<String>, SetupError> {
    let missing = || SetupError::File {
        action: "read",
        path: path.to_path_buf(),
        source: io::ErrorKind::NotFound.into(),
    };
    Ok(files::read(path)?.ok_or_else(missing)?.into())
}

/// Replaces a file of ours; mode and owner stay, since somebody may have made it readable for the
/// service.
fn replace(path: &Path, text: &str, owner: Option<(u32, u32)>) -> Result<(), SetupError> {
    let before = fs::metadata(path);
    let mode = before.as_ref().map_or(files::PRIVATE, |facts| facts.permissions().mode() & 0o777);
    let owner = owner.or(before.ok().map(|facts| (facts.uid(), facts.gid())));
    NewFile { path, text, mode, owner }.write(true)
}

#[cfg(test)]
mod tests;
