//! What has been done so far, in a small file beside the configuration: a run that was cut short
//! goes on from there, and `--undo` knows what to take back. No secret is in it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    CredentialKind, Plan, SetupError,
    files::{self, NewFile},
};
use crate::office365::{
    clouds::Cloud,
    exchange::{Access, Former, Group, Path as ExchangePath},
};

/// What has been done so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The tenant, as it was given.
    pub tenant: String,
    cloud: String,
    /// The name of the application.
    pub name: String,
    /// The mailbox to log in as.
    pub mailbox: String,
    /// Further senders.
    pub send_as: Vec<String>,
    /// Mailboxes of earlier runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former_mailboxes: Vec<String>,
    /// Senders of earlier runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former_send_as: Vec<String>,
    /// `applications` or `classic`.
    path: String,
    /// A group that was there; `None` for one that the script makes.
    pub group: Option<String>,
    /// `certificate` or `secret`.
    credential: String,
    /// Where things are, as far as it was said.
    pub places: BTreeMap<String, String>,
    /// Whether systemd hands over the credential.
    pub systemd: bool,
    /// An application was about to be made, so one of its name is ours.
    pub(super) registering: bool,
    pub(super) application: Option<Thing>,
    pub(super) service_principal: Option<Thing>,
    /// The assignment of `SMTP.SendAsApp`, on the classic path.
    pub(super) role_assignment: Option<String>,
    /// The certificate is uploaded, or the secret is made; then this is the id of its entry.
    pub(super) uploaded: Option<String>,
    /// The day on which it ends, such as `2027-03-01`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ends: Option<String>,
    /// Credentials of before, which the application may have still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<Earlier>,
    /// One that is uploaded and has not taken over yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Earlier>,
    /// For how many days a credential is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u16>,
    /// Files that were written, with a digest unless they are secret.
    pub(super) files: BTreeMap<PathBuf, Option<String>>,
}

/// Something in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Thing {
    /// Its object id.
    pub id: String,
    /// Application (client) id.
    pub client_id: String,
    /// Whether setup has made it, and so may delete it.
    pub made_here: bool,
}

/// A credential besides the one in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Earlier {
    /// As in [`Record::uploaded`].
    pub id: String,
    /// The day on which it ends.
    pub ends: Option<String>,
}

/// What has become of a file that setup would write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none.
    Absent,
    /// It is as it was written, or may not be looked into.
    Ours,
    /// Setup wrote it, and somebody has changed it since.
    Changed,
    /// Somebody else wrote it.
    Foreign,
}

impl Record {
    /// The record that goes with this configuration file, if there is one.
    ///
    /// # Errors
    /// [`SetupError`] if it cannot be read or is none.
    pub fn load(config: &Path) -> Result<Option<Self>, SetupError> {
        let path = Self::path_for(config);
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let fault = |reason: String| SetupError::Record { path: path.clone(), reason };
        let record: Self = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
        match record.version {
            VERSION => Ok(Some(record)),
            other => Err(fault(format!("its version {other} is not known to this program"))),
        }
    }

    /// Where the record of this configuration file lies.
    #[must_use]
    pub fn path_for(config: &Path) -> PathBuf {
        config.with_extension("setup.json")
    }

    /// The cloud.
    #[must_use]
    pub fn cloud(&self) -> Cloud {
        let found = Cloud::ALL.iter().find(|(name, _)| *name == self.cloud);
        found.map_or(Cloud::Global, |(_, cloud)| *cloud)
    }

    /// How the application gets at the mailbox.
    #[must_use]
    pub fn path(&self) -> ExchangePath {
        match (self.path.as_str(), &self.group) {
            (CLASSIC, _) => ExchangePath::Classic,
            (_, None) => ExchangePath::Applications(Group::Own),
            (_, Some(name)) => ExchangePath::Applications(Group::Existing(name.clone())),
        }
    }

    /// The client id of the application and how Exchange lets it in, once there is one.
    #[must_use]
    pub fn let_in(&self) -> Option<(String, ExchangePath)> {
        let application = self.application.as_ref()?;
        Some((application.client_id.clone(), self.path()))
    }

    /// The kind of credential.
    #[must_use]
    pub fn credential(&self) -> CredentialKind {
        match self.credential.as_str() {
            SECRET => CredentialKind::Secret,
            _ => CredentialKind::Certificate,
        }
    }

    /// The record to go on with: that of an earlier run if what is asked for goes with it.
    pub(super) fn begin(plan: &Plan) -> Result<Self, SetupError> {
        let new = Self::of(plan);
        let Some(old) = Self::load(&plan.config)? else { return Ok(new) };
        let group = |record: &Self| record.group.clone().unwrap_or_else(|| "one of its own".into());
        for (what, was, now) in [
            ("--tenant", &old.tenant, &new.tenant),
            ("--cloud", &old.cloud, &new.cloud),
            ("--name", &old.name, &new.name),
            ("--path", &old.path, &new.path),
            ("--credential", &old.credential, &new.credential),
            ("--group", &group(&old), &group(&new)),
        ] {
            if !was.eq_ignore_ascii_case(now) {
                let path = Self::path_for(&plan.config);
                let (was, now) = (was.clone(), now.clone());
                let complete = old.is_registered();
                return Err(SetupError::Changed { path, what, was, now, complete });
            }
        }
        let mut former = old.former();
        // Before that nobody could be told to grant anything.
        if old.service_principal.is_some() {
            former.mailboxes.push(old.mailbox.clone());
            former.send_as.extend(old.send_as.iter().cloned());
        }
        let Former { mailboxes, send_as } = former;
        let former_mailboxes = without(mailboxes, std::slice::from_ref(&new.mailbox));
        let former_send_as = without(send_as, &new.send_as);
        let Self { mailbox, send_as, places, systemd, days, .. } = new;
        Ok(Self {
            mailbox,
            send_as,
            former_mailboxes,
            former_send_as,
            places,
            systemd,
            days,
            ..old
        })
    }

    /// What was granted by earlier runs and is not wanted any more.
    pub(super) fn former(&self) -> Former {
        let (mailboxes, send_as) = (self.former_mailboxes.clone(), self.former_send_as.clone());
        Former { mailboxes, send_as }
    }

    fn of(plan: &Plan) -> Self {
        let (path, group) = match &plan.path {
            ExchangePath::Classic => (CLASSIC, None),
            ExchangePath::Applications(Group::Own) => (APPLICATIONS, None),
            ExchangePath::Applications(Group::Existing(name)) => (APPLICATIONS, Some(name.clone())),
        };
        let credential = match plan.credential {
            CredentialKind::Certificate => CERTIFICATE,
            CredentialKind::Secret => SECRET,
        };
        Self {
            version: VERSION,
            tenant: plan.tenant.clone(),
            cloud: plan.cloud.name().to_owned(),
            name: plan.name.clone(),
            mailbox: plan.mailbox.clone(),
            send_as: plan.send_as.clone(),
            former_mailboxes: Vec::new(),
            former_send_as: Vec::new(),
            path: path.to_owned(),
            group,
            credential: credential.to_owned(),
            places: plan.places.clone(),
            systemd: plan.systemd,
            registering: false,
            application: None,
            service_principal: None,
            role_assignment: None,
            uploaded: None,
            ends: None,
            earlier: Vec::new(),
            next: None,
            days: Some(plan.days),
            files: BTreeMap::new(),
        }
    }

    /// Whether everything that takes an admin's sign-in has been done.
    pub(super) fn is_registered(&self) -> bool {
        self.application.is_some()
            && self.service_principal.is_some()
            && self.uploaded.is_some()
            && (self.path == APPLICATIONS || self.role_assignment.is_some())
    }

    /// What Exchange has to be told, once the ids are known.
    pub(super) fn access(&self) -> Option<Access> {
        let principal = self.service_principal.as_ref()?;
        Some(Access {
            cloud: self.cloud(),
            tenant: self.tenant.clone(),
            display_name: self.name.clone(),
            client_id: principal.client_id.clone(),
            object_id: principal.id.clone(),
            mailbox: self.mailbox.clone(),
            send_as: self.send_as.clone(),
            former: self.former(),
            path: self.path(),
        })
    }

    /// The credential in use is this one from now on. What was uploaded before is remembered.
    pub(super) fn takes(&mut self, id: String, ends: Option<String>) {
        let ends_before = std::mem::replace(&mut self.ends, ends);
        let before = self.uploaded.replace(id);
        let before = before.filter(|before| self.uploaded.as_ref() != Some(before));
        self.earlier.extend(before.map(|id| Earlier { id, ends: ends_before }));
        let now = self.uploaded.clone();
        self.earlier.retain(|one| now.as_ref() != Some(&one.id));
    }

    /// Whether setup has uploaded the credential of this id.
    pub(super) fn has_uploaded(&self, id: &str) -> bool {
        let others = self.earlier.iter().chain(&self.next);
        self.uploaded.as_deref() == Some(id) || others.into_iter().any(|one| one.id == id)
    }

    /// The application has none of our credentials.
    pub(super) fn forget_credentials(&mut self) {
        self.uploaded = None;
        self.ends = None;
        self.earlier.clear();
        self.next = None;
    }

    /// Nothing of ours is in the directory.
    pub(super) fn forget_application(&mut self) {
        self.forget_credentials();
        self.application = None;
        self.service_principal = None;
        self.role_assignment = None;
        self.registering = false;
    }

    /// Writes it, if it differs from what is on the disk.
    pub(super) fn save(&self, config: &Path) -> Result<(), SetupError> {
        let path = Self::path_for(config);
        let text = serde_json::to_string_pretty(self).map_err(|error| SetupError::Record {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let text = format!("{text}\n");
        if files::read(&path)?.as_deref() == Some(text.as_str()) {
            return Ok(());
        }
        let file = NewFile { path: &path, text: &text, mode: files::PRIVATE, owner: None };
        file.write(true)
    }

    /// What has become of the file at `path`.
    pub(super) fn look_at(&self, path: &Path) -> Result<Found, SetupError> {
        let Some(text) = files::read(path)? else { return Ok(Found::Absent) };
        Ok(match self.files.get(path) {
            None if text == PLACEHOLDER => Found::Ours,
            None => Found::Foreign,
            Some(None) => Found::Ours,
            Some(Some(digest)) if *digest == files::digest(&text) => Found::Ours,
            Some(Some(_)) => Found::Changed,
        })
    }
}

/// `addresses`, each once, but for `wanted`.
fn without(addresses: Vec<String>, wanted: &[String]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for address in addresses {
        if !wanted.iter().chain(&kept).any(|one| one.eq_ignore_ascii_case(&address)) {
            kept.push(address);
        }
    }
    kept
}

/// The configuration that a package brings, as long as nobody has put values in.
const PLACEHOLDER: &str = include_str!("placeholder.toml");
const VERSION: u32 = 1;
const APPLICATIONS: &str = "applications";
const CLASSIC: &str = "classic";
const CERTIFICATE: &str = "certificate";
const SECRET: &str = "secret";
