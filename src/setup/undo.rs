//! Takes back what setup has made, and nothing else.

use std::{path::Path, time::Duration};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    CredentialKind, SetupError, Tell, files,
    graph::Graph,
    key_pair,
    record::{Found, Record, Thing},
};

/// Deletes from the directory what the record has, as the admin who has signed in.
pub(super) async fn directory(
    mut graph: Graph<'_>,
    record: &mut Record,
    config: &Path,
    certificate: &Path,
    tell: Tell<'_>,
) -> Result<(), SetupError> {
    // What is gone stays gone: no long search for it.
    graph.patience = graph.patience.min(Duration::from_secs(10));
    // A run may have been cut short before it heard what it had made.
    if record.application.is_none() && record.registering {
        record.application =
            unheard_of(&graph, "applications", "displayName", &record.name).await?;
    }
    let Some(application) = record.application.clone() else { return Ok(()) };
    let others = others(&graph, record, &application.id, certificate).await?;
    if application.made_here && others.as_ref().is_none_or(Others::is_empty) {
        delete(&graph, record, &application, config, tell).await?;
    } else if let Some(others) = others {
        let why = if application.made_here { "has other credentials" } else { "was there before" };
        let client_id = &application.client_id;
        match others.replace(&graph, record, &application.id).await? {
            true => tell(&format!(
                "application {client_id} {why} and stays; the credential of this host is gone"
            )),
            false => tell(&format!(
                "application {client_id} {why} and stays; its certificates are not shown, so \
                 delete that of this host in the portal"
            )),
        }
    }
    record.application = None;
    record.service_principal = None;
    record.role_assignment = None;
    record.uploaded = None;
    record.registering = false;
    record.save(config)
}

/// Deletes application and service principal for good.
async fn delete(
    graph: &Graph<'_>,
    record: &mut Record,
    application: &Thing,
    config: &Path,
    tell: Tell<'_>,
) -> Result<(), SetupError> {
    if record.service_principal.is_none() {
        record.service_principal =
            unheard_of(graph, "servicePrincipals", "appId", &application.client_id).await?;
    }
    if let Some(principal) = record.service_principal.take() {
        let path = format!("servicePrincipals/{}", principal.id);
        graph.delete("delete the service principal", path).await?;
        graph.purge(&principal.id).await?;
        tell(&format!("service principal {} deleted", principal.id));
        record.save(config)?;
    }
    let path = format!("applications/{}", application.id);
    graph.delete("delete the application", path).await?;
    graph.purge(&application.id).await?;
    tell(&format!("application {} deleted, for good", application.client_id));
    Ok(())
}

/// What was being made when a run ended.
async fn unheard_of(
    graph: &Graph<'_>,
    collection: &str,
    property: &str,
    value: &str,
) -> Result<Option<Thing>, SetupError> {
    let found = graph.find(collection, property, value).await?;
    let [one] = found.as_slice() else { return Ok(None) };
    let text = |member: &str| one[member].as_str().map(str::to_owned);
    Ok(text("id").zip(text("appId")).map(|(id, client_id)| Thing {
        id,
        client_id,
        made_here: true,
    }))
}

/// The credentials of an application that are not of this host.
struct Others {
    certificates: Vec<Value>,
    /// Whether ours is among those that are shown.
    ours_is_shown: bool,
    secrets: usize,
}

/// `None` if the application is gone.
async fn others(
    graph: &Graph<'_>,
    record: &Record,
    application: &str,
    certificate: &Path,
) -> Result<Option<Others>, SetupError> {
    let path = format!("applications/{application}?$select=id,keyCredentials,passwordCredentials");
    let shown = graph.get_if_there("look at the credentials", path).await?;
    let Some(shown) = shown else { return Ok(None) };
    let list = |name: &str| shown[name].as_array().cloned().unwrap_or_default();
    let pem = files::read(certificate)?.unwrap_or_default();
    let ours = key_pair::for_graph(&pem).unwrap_or_default();
    let all = list("keyCredentials");
    let count = all.len();
    let mut certificates = all;
    certificates.retain(|one| one["key"] != ours.as_str());
    let ours_is_shown = certificates.len() < count;
    // Without a word on which it is, the only one is ours.
    if !ours_is_shown && count == 1 && certificates.iter().all(|one| one["key"].is_null()) {
        certificates.clear();
    }
    // One that was made by a run which never heard of it is ours as well.
    let foreign =
        |one: &&Value| record.uploaded.as_deref().is_some_and(|uploaded| one["keyId"] != *uploaded);
    let secrets = list("passwordCredentials");
    let secrets = match record.credential() {
        CredentialKind::Secret => secrets.iter().filter(foreign).count(),
        CredentialKind::Certificate => secrets.len(),
    };
    Ok(Some(Others { certificates, ours_is_shown, secrets }))
}

impl Others {
    fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.secrets == 0
    }

    /// Leaves these and nothing else; whether that could be done.
    async fn replace(
        self,
        graph: &Graph<'_>,
        record: &Record,
        application: &str,
    ) -> Result<bool, SetupError> {
        let what = "remove the credential";
        let Some(uploaded) = &record.uploaded else { return Ok(true) };
        if record.credential() == CredentialKind::Secret {
            let path = format!("applications/{application}/removePassword");
            let body = json!({ "keyId": uploaded });
            graph.send_about(what, Method::POST, path, &body).await?;
            return Ok(true);
        }
        if !self.ours_is_shown {
            return Ok(false);
        }
        let path = format!("applications/{application}");
        let body = json!({ "keyCredentials": self.certificates });
        graph.send_about(what, Method::PATCH, path, &body).await?;
        Ok(true)
    }
}

/// Removes the files that setup wrote, unless somebody has changed them since, and the record.
pub(super) fn files(record: &mut Record, config: &Path, tell: Tell<'_>) -> Result<(), SetupError> {
    for path in record.files.keys().cloned().collect::<Vec<_>>() {
        match record.look_at(&path)? {
            Found::Ours => {
                files::remove(&path)?;
                tell(&format!("{} removed", path.display()));
            }
            Found::Absent => {}
            Found::Changed | Found::Foreign => {
                tell(&format!("{} was changed since setup wrote it, and stays", path.display()));
            }
        }
        record.files.remove(&path);
        record.save(config)?;
    }
    files::remove(&Record::path_for(config))
}
