//! From nothing to an application that may submit mail: key and certificate, app registration,
//! service principal, configuration, and the script for what only Exchange can be told.
//!
//! Every step is on record before the next one begins ([`Record`]), so that a run that was cut
//! short goes on, a second run changes nothing, and everything can be taken back.

mod error;
mod files;
mod graph;
mod http;
mod key_pair;
mod record;
mod register;
mod renewal;
mod sign_in;
mod text;
mod undo;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use self::{
    error::SetupError, record::Record, text::HVE_PERMISSION, text::portal_steps, undo::Left,
};
use self::{
    files::NewFile, graph::Graph, http::Http, key_pair::KeyPair, record::Found, register::Registrar,
};
use crate::{
    clock::{Clock, UnixMillis},
    office365::{clouds::Cloud, exchange},
    token::{Algorithm, CertificateFiles},
};

/// Says something to whoever watches.
pub type Tell<'t> = &'t (dyn Fn(&str) + Sync);

/// The program that an admin signs in to unless another is named: Microsoft Graph Command Line
/// Tools. It is Microsoft's own, and whether others may borrow it is for the tenant to say.
pub const SIGN_IN_CLIENT_ID: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";

/// Which role registers applications.
const ROLE: &str = "Cloud Application Administrator, Application Administrator or Global \
                    Administrator";

/// How the application proves itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CredentialKind {
    /// A key and a certificate, made on this host.
    #[default]
    Certificate,
    /// A client secret, made by Entra ID.
    Secret,
}

/// What is to be set up; all values are checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Directory id or a domain of the tenant.
    pub tenant: String,
    /// Microsoft's cloud.
    pub cloud: Cloud,
    /// What the application is called.
    pub name: String,
    /// The mailbox to log in as.
    pub mailbox: String,
    /// Further addresses that may stand in From.
    pub send_as: Vec<String>,
    /// How the application gets at the mailbox.
    pub path: exchange::Path,
    /// What it proves itself with.
    pub credential: CredentialKind,
    /// How long that is good.
    pub days: u16,
    /// What is not where the cloud has it: the keys `login_url`, `smtp_host`, `smtp_port` and
    /// `ca_file` of `[office365]`, and besides `graph_url` and `sign_in_client_id`.
    pub places: BTreeMap<String, String>,
    /// Trusted roots for both.
    pub tls: Arc<rustls::ClientConfig>,
    /// The configuration file to write; everything else goes beside it.
    pub config: PathBuf,
    /// Whether systemd hands the credential to the service, so that the configuration does not
    /// name it.
    pub systemd: bool,
    /// Who owns key and secret; `None` for whoever runs this.
    pub owner: Option<(u32, u32)>,
    /// Whether files that others wrote may be replaced.
    pub overwrite: bool,
    /// Whether certificate and key are there already and to be used.
    pub existing_key: bool,
    /// Whether to make a new credential beside the old one, however long that is good.
    pub renew: bool,
    /// Whether to look at the tenant even if all is on record.
    pub verify: bool,
    /// How long a call to Graph may be tried again.
    pub patience: Duration,
}

impl Plan {
    fn beside(&self, name: &str) -> PathBuf {
        self.config.with_file_name(name)
    }

    /// Where the admin signs in: `https://` and a host.
    fn login_url(&self) -> &str {
        self.places.get("login_url").map_or(self.cloud.preset().login_url, String::as_str)
    }

    /// Where Graph is: `https://` and a host.
    fn graph_url(&self) -> &str {
        self.places.get("graph_url").map_or(self.cloud.preset().graph_url, String::as_str)
    }

    /// The public client that the admin signs in to.
    fn sign_in_client_id(&self) -> &str {
        self.places.get("sign_in_client_id").map_or(SIGN_IN_CLIENT_ID, String::as_str)
    }

    fn certificate(&self) -> PathBuf {
        self.beside("certificate.pem")
    }

    fn private_key(&self) -> PathBuf {
        self.beside("private_key.pem")
    }

    fn secret(&self) -> PathBuf {
        self.beside("client_secret")
    }

    /// Where the script for Exchange goes.
    #[must_use]
    pub fn script(&self) -> PathBuf {
        self.config.with_extension("exchange.ps1")
    }

    /// The keys of `[office365]` that name the credential, with their files.
    #[must_use]
    pub fn credential_files(&self) -> Vec<(&'static str, PathBuf)> {
        match self.credential {
            CredentialKind::Certificate => vec![
                ("certificate_file", self.certificate()),
                ("private_key_file", self.private_key()),
            ],
            CredentialKind::Secret => vec![("client_secret_file", self.secret())],
        }
    }
}

/// What a set-up has come to.
#[derive(Debug)]
pub struct Done {
    /// Whether anything was made or written.
    pub changed: bool,
    /// Whether the script for Exchange is another one than before.
    pub new_script: bool,
    /// What Exchange has to be told.
    pub access: exchange::Access,
    /// The drop-in that the systemd unit needs, if it needs one.
    pub drop_in: Option<String>,
    /// The day on which the credential ends, such as `2027-03-01`, and how many days are left.
    pub ends: Option<(String, i64)>,
    /// Whether the application has a credential that it had not before.
    pub new_credential: bool,
}

/// Does what is missing. `tell` hears of each thing that is done.
///
/// # Errors
/// [`SetupError`]; what was done until then is on record, and the next run goes on from there.
pub async fn run(plan: &Plan, clock: Clock, tell: Tell<'_>) -> Result<Done, SetupError> {
    // Absolute, so that the configuration says where the files are.
    let directory = files::make_directory_of(&plan.config)?;
    let name = plan.config.file_name().unwrap_or_default();
    let plan = &Plan { config: directory.join(name), ..plan.clone() };

    let mut record = Record::begin(plan)?;
    let former = record.former();
    let known = Record::load(&plan.config)?.is_none_or(|before| before.former() == former);
    if !known && (former.mailboxes.len() + former.send_as.len()) > 0 {
        let all = [former.mailboxes, former.send_as].concat().join(", ");
        tell(&format!("not wanted any more: {all}; the script takes the rights of before back"));
    }
    refuse_foreign_files(plan, &record)?;
    let mut changed = false;
    record.save(&plan.config)?; // what cannot be written shows before anybody signs in
    if plan.credential == CredentialKind::Certificate {
        changed |= key_pair_here(plan, &mut record, clock, tell)?;
    }
    let before = record.uploaded.clone();
    let now = clock.now();
    let due = renewal::is_due(plan, &record, now)?;
    if due && plan.credential == CredentialKind::Certificate {
        renewal::make_pair(plan, &mut record, now)?;
    }
    let renew = due && record.next.is_none();
    if !plan.verify && record.is_registered() && renewal::is_another_pair(plan, &record)? {
        tell(&format!(
            "{} is not the certificate that setup uploaded; unless somebody did that in the portal, \
             `o365-relay setup --verify` uploads it",
            plan.certificate().display()
        ));
    }
    if plan.verify || renew || !record.is_registered() {
        changed |= in_the_directory(plan, &mut record, now, renew, tell).await?;
    }
    if record.next.is_some() {
        renewal::take_over(plan, &mut record, clock, tell).await?;
        changed = true;
    }
    let access = record.access().ok_or_else(|| SetupError::Record {
        path: Record::path_for(&plan.config),
        reason: "the service principal is missing".into(),
    })?;
    let configuration = text::configuration(plan, &access.client_id, record.ends.as_deref());
    changed |= put(plan, &mut record, &plan.config, &configuration, tell)?;
    let new_script = put(plan, &mut record, &plan.script(), &access.script(), tell)?;
    changed |= new_script;
    Ok(Done {
        changed,
        new_script,
        access,
        drop_in: text::drop_in(plan),
        ends: renewal::end(plan, &record, now),
        new_credential: before != record.uploaded,
    })
}

/// What takes an admin's sign-in; whether anything was made. `renew` says whether there shall be a
/// new credential as well.
async fn in_the_directory(
    plan: &Plan,
    record: &mut Record,
    now: UnixMillis,
    renew: bool,
    tell: Tell<'_>,
) -> Result<bool, SetupError> {
    let http = Http::new(&plan.tls);
    let mut permissions = vec!["Application.ReadWrite.All"];
    if plan.path == exchange::Path::Classic {
        permissions.push("AppRoleAssignment.ReadWrite.All");
    }
    let token = sign_in::sign_in(plan, &http, &permissions, tell).await?;
    let graph = Graph { http: &http, url: plan.graph_url(), token, patience: plan.patience };
    let ended = Vec::new();
    let mut registrar = Registrar { plan, graph, record, tell, now, changed: false, ended };
    registrar.run().await?;
    if renew {
        registrar.renew().await?;
    }
    Ok(registrar.changed)
}

/// What is not ours stays, and that shows before anything is done.
fn refuse_foreign_files(plan: &Plan, record: &Record) -> Result<(), SetupError> {
    let mut ours = vec![plan.config.clone(), plan.script()];
    if !plan.existing_key {
        ours.extend(plan.credential_files().into_iter().map(|(_, path)| path));
    }
    for path in ours {
        files::remove_unfinished(&path)?;
        if !plan.overwrite && record.look_at(&path)? == Found::Foreign {
            return Err(SetupError::FileExists { path });
        }
    }
    Ok(())
}

/// Certificate and key beside the configuration.
fn pair_of(plan: &Plan) -> CertificateFiles {
    CertificateFiles {
        certificate: plan.certificate(),
        private_key: Some(plan.private_key()),
        algorithm: Algorithm::Ps256,
    }
}

/// Makes key and certificate unless they are there; whether it did.
fn key_pair_here(
    plan: &Plan,
    record: &mut Record,
    clock: Clock,
    tell: Tell<'_>,
) -> Result<bool, SetupError> {
    let (certificate, private_key) = (plan.certificate(), plan.private_key());
    let ours = record.files.contains_key(&certificate) && record.files.contains_key(&private_key);
    if plan.existing_key || ours {
        let usable = pair_of(plan).examine().map(drop);
        if usable.is_ok() || plan.existing_key || record.uploaded.is_some() {
            return usable.map(|()| false).map_err(|error| SetupError::Key {
                reason: format!("{error}; make a new pair (docs/credentials.md)"),
            });
        }
    }
    let pair = KeyPair::new(&plan.name, plan.days, clock.now())?;
    // On record before they are there: a run that is cut short here makes them anew.
    for path in [&private_key, &certificate] {
        let replace = plan.overwrite || record.files.contains_key(path);
        record.files.insert(path.clone(), None);
        record.save(&plan.config)?;
        let (text, mode) = match path == &private_key {
            true => (pair.private_key.as_str(), files::PRIVATE),
            false => (pair.certificate.as_str(), files::PUBLIC),
        };
        NewFile { path, text, mode, owner: plan.owner }.write(replace)?;
    }
    tell(&format!(
        "key and certificate made, good for {} days: {}",
        plan.days,
        certificate.display()
    ));
    Ok(true)
}

/// Writes a file that holds no secret, unless it is there; whether it did.
fn put(
    plan: &Plan,
    record: &mut Record,
    path: &Path,
    text: &str,
    tell: Tell<'_>,
) -> Result<bool, SetupError> {
    let digest = Some(files::digest(text));
    let found = record.look_at(path)?;
    let as_before = record.files.get(path) == Some(&digest);
    match found {
        Found::Ours if as_before => return Ok(false),
        Found::Changed if !plan.overwrite => {
            tell(&format!(
                "{} was changed since setup wrote it, and stays as it is",
                path.display()
            ));
            return Ok(false);
        }
        _ => {}
    }
    // On record before it is there: a run that is cut short in between knows it for its own.
    record.files.insert(path.to_path_buf(), digest);
    record.save(&plan.config)?;
    let file = NewFile { path, text, mode: files::PUBLIC, owner: None };
    file.write(plan.overwrite || found == Found::Ours)?;
    tell(&format!("{} written", path.display()));
    Ok(true)
}

/// What is there after all was taken back that can be.
#[derive(Debug)]
pub struct Undone {
    /// Takes back what Exchange was told, if it was told anything.
    pub script: Option<String>,
    /// What is still there in Entra ID.
    pub left: Left,
}

/// Takes everything back that is on record beside `plan.config`.
///
/// # Errors
/// [`SetupError`]; the next run goes on from there.
pub async fn undo(plan: &Plan, tell: Tell<'_>) -> Result<Undone, SetupError> {
    let nothing = || SetupError::NothingToUndo { path: Record::path_for(&plan.config) };
    Record::load(&plan.config)?.ok_or_else(nothing)?;
    let directory = files::make_directory_of(&plan.config)?;
    let config = directory.join(plan.config.file_name().unwrap_or_default());
    let path = Record::path_for(&config);
    let mut record = Record::load(&config)?.ok_or(SetupError::NothingToUndo { path })?;
    // It is undone where it was done.
    let tenant = record.tenant.clone();
    let plan = &Plan { config: config.clone(), tenant, ..plan.clone() };
    let script = record.access().map(|access| access.undo_script());
    let mut left = Left::Nothing;
    if record.application.is_some() || record.registering {
        let http = Http::new(&plan.tls);
        let token = sign_in::sign_in(plan, &http, &["Application.ReadWrite.All"], tell).await?;
        let graph = Graph { http: &http, url: plan.graph_url(), token, patience: plan.patience };
        let certificates = [plan.certificate(), plan.next_certificate()];
        left = undo::directory(graph, &mut record, &config, &certificates, tell).await?;
    }
    undo::files(&mut record, &config, tell)?;
    if record.application.is_none() {
        files::remove(&Record::path_for(&config))?;
    }
    Ok(Undone { script, left })
}
