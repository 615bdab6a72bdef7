//! The steps that take an admin's sign-in. Each looks first, does what is missing, and puts it on
//! record before the next one begins.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    CredentialKind, Plan, SetupError, Tell,
    files::{self, NewFile},
    graph::Graph,
    key_pair,
    record::{Earlier, Record, Thing},
};
use crate::{clock::UnixMillis, office365::exchange::Path};

/// Office 365 Exchange Online as a resource, in every tenant.
const EXCHANGE: &str = "00000002-0000-0ff1-ce00-000000000000";

/// Everything that the steps work on.
pub(super) struct Registrar<'r> {
    pub plan: &'r Plan,
    pub graph: Graph<'r>,
    pub record: &'r mut Record,
    pub tell: Tell<'r>,
    pub now: UnixMillis,
    /// Whether anything was made.
    pub changed: bool,
    /// Certificates of ours that need not be kept.
    pub ended: Vec<Earlier>,
}

impl Registrar<'_> {
    /// All steps.
    pub async fn run(&mut self) -> Result<(), SetupError> {
        let classic = self.plan.path == Path::Classic;
        let exchange = if classic { Some(self.exchange().await?) } else { None };
        let application = self.application(exchange.as_ref()).await?;
        match self.plan.credential {
            CredentialKind::Certificate => self.certificate(&application).await?,
            CredentialKind::Secret => self.secret(&application).await?,
        }
        let principal = self.service_principal(&application).await?;
        if let Some(exchange) = &exchange {
            self.consent(&principal, exchange).await?;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, text: &str) -> Result<(), SetupError> {
        self.changed = true;
        (self.tell)(text);
        self.record.save(&self.plan.config)
    }

    /// Exchange's service principal and the id of its role.
    async fn exchange(&self) -> Result<Role, SetupError> {
        let what = "find Office 365 Exchange Online";
        let found = self.graph.find("servicePrincipals", "appId", EXCHANGE).await?;
        let missing = |member| SetupError::Incomplete { what: what.to_owned(), member };
        let found = found.first().ok_or_else(|| missing("entry (has this tenant Exchange?)"))?;
        let roles = found["appRoles"].as_array().ok_or_else(|| missing("appRoles"))?;
        let role = roles.iter().find(|role| role["value"] == "SMTP.SendAsApp");
        let role = role.and_then(|role| role["id"].as_str());
        Ok(Role {
            resource: text(found, "id", what)?,
            role: role.ok_or_else(|| missing("role SMTP.SendAsApp"))?.to_owned(),
        })
    }

    async fn application(&mut self, exchange: Option<&Role>) -> Result<Thing, SetupError> {
        if let Some(known) = self.record.application.clone() {
            let path = format!("applications/{}?$select=id,appId", known.id);
            if self.graph.get_if_there("look at the application", path).await?.is_some() {
                return Ok(known);
            }
            self.record.forget_application();
            self.note(&format!("application {} is gone from the tenant", known.client_id))?;
        }
        let mut body = json!({
            "displayName": self.plan.name,
            "signInAudience": "AzureADMyOrg",
        });
        if let Some(Role { role, .. }) = exchange {
            let access = json!([{ "id": role, "type": "Role" }]);
            body["requiredResourceAccess"] =
                json!([{ "resourceAppId": EXCHANGE, "resourceAccess": access }]);
        }
        let (found, made_here) = self.find_or_create(&body).await?;
        let what = "register the application";
        let thing = Thing {
            id: text(&found, "id", what)?,
            client_id: text(&found, "appId", what)?,
            made_here,
        };
        self.record.application = Some(thing.clone());
        self.record.registering = false;
        let verb = if made_here { "registered" } else { "found and will be used" };
        self.note(&format!(
            "application \"{}\" {verb}: client id {}",
            self.plan.name, thing.client_id
        ))?;
        Ok(thing)
    }

    /// Looks by name before each try, since a try without an answer may have worked.
    async fn find_or_create(&mut self, body: &Value) -> Result<(Value, bool), SetupError> {
        let deadline = Instant::now() + self.plan.patience;
        let mut pause = Duration::from_secs(1);
        loop {
            let name = &self.plan.name;
            let found = self.graph.find("applications", "displayName", name).await?;
            match found.as_slice() {
                [] => {}
                [one] => return Ok((one.clone(), self.record.registering)),
                several => {
                    let (name, count) = (name.clone(), several.len());
                    return Err(SetupError::Several { name, count });
                }
            }
            self.record.registering = true;
            self.record.save(&self.plan.config)?;
            match self.graph.create_application(body).await {
                Ok(made) => return Ok((made, true)),
                Err(
                    SetupError::Unreachable { .. } | SetupError::Graph { status: 429 | 500.., .. },
                ) if Instant::now() + pause < deadline => {}
                Err(error) => {
                    // A clear no has made none: whatever has this name later is not ours.
                    if matches!(
                        error,
                        SetupError::NoRole { .. } | SetupError::Graph { status: ..=499, .. }
                    ) {
                        self.record.registering = false;
                        self.record.save(&self.plan.config)?;
                    }
                    return Err(error);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(8));
        }
    }

    async fn certificate(&mut self, application: &Thing) -> Result<(), SetupError> {
        let file = self.plan.certificate();
        let (digest, new) = self.upload(application, &file).await?;
        let ends = super::pair_of(self.plan).examine().ok().map(|expiry| day_of(expiry.at));
        self.record.takes(digest, ends);
        match new {
            true => {
                self.note(&format!("certificate {} uploaded; the key stays here", file.display()))
            }
            false => self.record.save(&self.plan.config),
        }
    }

    /// Uploads the first certificate of a file unless it is there; its digest, and whether it was
    /// uploaded now.
    pub(super) async fn upload(
        &mut self,
        application: &Thing,
        file: &std::path::Path,
    ) -> Result<(String, bool), SetupError> {
        let pem = files::read(file)?.unwrap_or_default();
        let ours = key_pair::for_graph(&pem).ok_or_else(|| SetupError::Key {
            reason: format!("{} holds no certificate", file.display()),
        })?;
        let path = format!("applications/{}?$select=id,keyCredentials", application.id);
        let what = "look at the certificates";
        let shown = self.graph.get(what, path).await?;
        let mut list = match &shown["keyCredentials"] {
            Value::Array(list) => list.clone(),
            _ => Vec::new(),
        };
        let digest = files::digest(&ours);
        let there = list.iter().any(|one| one["key"] == ours.as_str());
        // Not every answer shows what was uploaded.
        let hidden = !list.is_empty() && list.iter().all(|one| one["key"].is_null());
        if there || (hidden && self.record.has_uploaded(&digest)) {
            return Ok((digest, false));
        }
        // The list is replaced as a whole, so whoever else has one there keeps it.
        let ended = |one: &Value| {
            let id = one["key"].as_str().map(files::digest);
            self.ended.iter().any(|ended| Some(&ended.id) == id.as_ref())
        };
        list.retain(|one| !ended(one));
        list.push(json!({
            "type": "AsymmetricX509Cert",
            "usage": "Verify",
            "key": ours,
            "displayName": self.plan.name,
        }));
        let body = json!({ "keyCredentials": list });
        let path = format!("applications/{}", application.id);
        self.graph.send_about("upload the certificate", Method::PATCH, path, &body).await?;
        Ok((digest, true))
    }

    async fn secret(&mut self, application: &Thing) -> Result<(), SetupError> {
        let file = self.plan.secret();
        let list = self.secrets_of(application).await?;
        let uploaded = self.record.uploaded.as_deref();
        let there = list.iter().find(|one| uploaded.is_some_and(|id| one["keyId"] == *id));
        if let (Some(there), Some(_)) = (there, files::read(&file)?) {
            let end = day(&there["endDateTime"]);
            if self.record.ends.is_none() && end.is_some() {
                self.record.ends = end;
                self.record.save(&self.plan.config)?;
            }
            return Ok(());
        }
        // Without its file it is of no use to anybody.
        if application.made_here {
            self.record.uploaded = None;
        }
        let (id, end) = self.make_secret(application, &file, self.plan.overwrite).await?;
        self.record.takes(id, end.clone());
        let (end, shown) = (end.unwrap_or_default(), file.display());
        self.note(&format!("client secret made, good until {end}; it is in {shown}"))
    }

    /// Has a secret made and writes it into `file`: its id, and the day on which it ends.
    pub(super) async fn make_secret(
        &mut self,
        application: &Thing,
        file: &std::path::Path,
        overwrite: bool,
    ) -> Result<(String, Option<String>), SetupError> {
        // A run that was cut short may have made one that nobody knows.
        let begun = self.record.files.insert(file.to_path_buf(), None).is_some();
        self.record.save(&self.plan.config)?;
        if begun && application.made_here {
            self.remove_lost_secrets(application).await?;
        }
        let what = "make a client secret";
        let made = self.add_secret(application, what).await?;
        let (secret, id) = (text(&made, "secretText", what)?, text(&made, "keyId", what)?);
        let text = format!("{secret}\n");
        let file =
            NewFile { path: file, text: &text, mode: files::PRIVATE, owner: self.plan.owner };
        file.write(overwrite || begun)?;
        // The tenant may allow less than was asked for.
        Ok((id, day(&made["endDateTime"])))
    }

    async fn remove_lost_secrets(&self, application: &Thing) -> Result<(), SetupError> {
        for lost in self.secrets_of(application).await? {
            let of_another = lost["displayName"] != self.plan.name.as_str();
            if of_another || lost["keyId"].as_str().is_none_or(|id| self.record.has_uploaded(id)) {
                continue;
            }
            let path = format!("applications/{}/removePassword", application.id);
            let (what, body) = ("remove a lost secret", json!({ "keyId": lost["keyId"] }));
            self.graph.send_about(what, Method::POST, path, &body).await?;
        }
        Ok(())
    }

    async fn secrets_of(&self, application: &Thing) -> Result<Vec<Value>, SetupError> {
        let path = format!("applications/{}?$select=id,passwordCredentials", application.id);
        let shown = self.graph.get("look at the secrets", path).await?;
        Ok(shown["passwordCredentials"].as_array().cloned().unwrap_or_default())
    }

    /// The new secret, as Graph shows it this once.
    async fn add_secret(&self, application: &Thing, what: &str) -> Result<Value, SetupError> {
        let end = self.now.0.saturating_add(i64::from(self.plan.days).saturating_mul(86_400_000));
        let end = UnixMillis(end).timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let asked = json!({ "displayName": self.plan.name, "endDateTime": end });
        let body = json!({ "passwordCredential": asked });
        let path = format!("applications/{}/addPassword", application.id);
        let mut made = self.graph.send_about(what, Method::POST, path, &body).await?;
        if day(&made["endDateTime"]).is_none() {
            made["endDateTime"] = end.into();
        }
        Ok(made)
    }

    async fn service_principal(&mut self, application: &Thing) -> Result<Thing, SetupError> {
        let client_id = &application.client_id;
        let mut found = self.graph.find("servicePrincipals", "appId", client_id).await?;
        // Nobody else makes one for an application that we have made.
        let mut made_here = application.made_here
            || self.record.service_principal.as_ref().is_some_and(|one| one.made_here);
        if found.is_empty() {
            match self.graph.create_service_principal(client_id).await {
                Ok(made) => {
                    found.push(made);
                    made_here = true;
                }
                // It is there, and the list does not have it yet.
                Err(SetupError::Graph { status: 409, .. }) => {
                    found = self.until_listed(client_id).await?;
                }
                Err(error) => return Err(error),
            }
        }
        let what = "create the service principal";
        let missing = || SetupError::Incomplete { what: what.to_owned(), member: "entry" };
        let id = text(found.first().ok_or_else(missing)?, "id", what)?;
        let thing = Thing { id, client_id: client_id.clone(), made_here };
        if self.record.service_principal.as_ref() != Some(&thing) {
            self.record.service_principal = Some(thing.clone());
            self.note(&format!(
                "service principal (enterprise application): object id {}",
                thing.id
            ))?;
        }
        Ok(thing)
    }

    async fn until_listed(&self, client_id: &str) -> Result<Vec<Value>, SetupError> {
        let deadline = Instant::now() + self.plan.patience;
        loop {
            let found = self.graph.find("servicePrincipals", "appId", client_id).await?;
            if !found.is_empty() || Instant::now() > deadline {
                return Ok(found);
            }
            sleep(Duration::from_secs(2)).await;
        }
    }

    async fn consent(&mut self, principal: &Thing, exchange: &Role) -> Result<(), SetupError> {
        let path = format!("servicePrincipals/{}/appRoleAssignments", principal.id);
        let what = "look at the consent";
        let shown = self.graph.get(what, path.clone()).await?;
        let assigned = shown["value"].as_array().into_iter().flatten().find(|one| {
            one["appRoleId"] == exchange.role.as_str()
                && one["resourceId"] == exchange.resource.as_str()
        });
        let (id, new) = match assigned {
            Some(assigned) => (text(assigned, "id", what)?, false),
            None => {
                let body = json!({
                    "principalId": principal.id,
                    "resourceId": exchange.resource,
                    "appRoleId": exchange.role,
                });
                let what = "give admin consent to SMTP.SendAsApp";
                let made = self.graph.send_about(what, Method::POST, path, &body).await?;
                (text(&made, "id", what)?, true)
            }
        };
        if new || self.record.role_assignment.is_none() {
            self.record.role_assignment = Some(id);
            self.note("admin consent to SMTP.SendAsApp is given")?;
        }
        Ok(())
    }
}

/// A role of a resource.
struct Role {
    resource: String,
    role: String,
}

/// The day of a moment, in the same way as [`day`].
pub(super) fn day_of(at: UnixMillis) -> String {
    at.rfc3339().chars().take(10).collect()
}

/// The day of a time that Graph shows, such as `2027-03-01`.
fn day(time: &Value) -> Option<String> {
    let day: jiff::civil::Date = time.as_str()?.get(..10)?.parse().ok()?;
    Some(day.to_string())
}

fn text(value: &Value, member: &'static str, what: &str) -> Result<String, SetupError> {
    let found = value[member].as_str().filter(|text| !text.is_empty() && text.len() < 512);
    let missing = || SetupError::Incomplete { what: what.to_owned(), member };
    found.map(str::to_owned).ok_or_else(missing)
}
