//! Takes back what setup has made, and nothing else.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    CredentialKind, SetupError, Tell, files,
    graph::Graph,
    key_pair,
    record::{Found, Record, Thing},
    renewal::NEXT_SECRET,
};

/// What stays in the directory, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Nothing of ours.
    Nothing,
    /// An application that was there before, without our credential.
    Theirs(String),
    /// Something that a person has to see to.
    ToDo(String),
}

/// Deletes from the directory what the record has, as the admin who has signed in. What has to
/// stay for now stays on record.
pub(super) async fn directory(
    mut graph: Graph<'_>,
    record: &mut Record,
    config: &Path,
    certificates: &[PathBuf],
    tell: Tell<'_>,
) -> Result<Left, SetupError> {
    // What is gone stays gone: no long search for it.
    graph.patience = graph.patience.min(Duration::from_secs(10));
    // A run may have been cut short before it heard what it had made.
    if record.application.is_none() && record.registering {
        record.application =
            unheard_of(&graph, "applications", "displayName", &record.name).await?;
    }
    let Some(application) = record.application.clone() else { return Ok(Left::Nothing) };
    let known = Credentials::look(&graph, record, &application.id, certificates).await?;
    let (name, client_id) = (record.name.clone(), &application.client_id);
    let left = match known {
        Some(known) if !application.made_here || !known.others.is_empty() => {
            let removed = known.remove_ours(&graph, &application.id).await?;
            let others = known.others.join(", ");
            match (removed, application.made_here) {
                (false, _) => Left::ToDo(format!(
                    "application \"{name}\" ({client_id}) stays with the certificate of this host: \
                     Graph does not show which of its certificates that is. Delete it under App \
                     registrations > {name} > Certificates & secrets"
                )),
                (true, true) => {
                    record.forget_credentials();
                    record.save(config)?;
                    tell("the credentials of this host are gone from the application");
                    return Ok(Left::ToDo(format!(
                        "application \"{name}\" ({client_id}) stays, as it has credentials that \
                         setup did not upload from here: {others}. Another host may live by them. \
                         If none does, delete them under App registrations > {name} > Certificates \
                         & secrets and run `o365-relay setup --undo` again, for which {} is kept; \
                         if the application is to stay, delete that file",
                        Record::path_for(config).display()
                    )));
                }
                (true, false) => Left::Theirs(format!(
                    "application \"{name}\" ({client_id}) was there before and stays; the \
                     credential of this host is gone from it"
                )),
            }
        }
        // Somebody has deleted what was never ours.
        None if !application.made_here => Left::Nothing,
        _ => {
            delete(&graph, record, &application, config, tell).await?;
            Left::Nothing
        }
    };
    record.forget_application();
    record.save(config)?;
    Ok(left)
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

/// The credentials of an application.
struct Credentials {
    /// Those that are not of this host, in words for people.
    others: Vec<String>,
    /// The list of certificates without ours, if that one is in it.
    certificates: Option<Vec<Value>>,
    /// Ids of our secrets.
    secrets: Vec<Value>,
    /// Whether one of the certificates is ours, and nobody knows which.
    hidden: bool,
}

impl Credentials {
    /// `None` if the application is gone.
    async fn look(
        graph: &Graph<'_>,
        record: &Record,
        application: &str,
        certificates: &[PathBuf],
    ) -> Result<Option<Self>, SetupError> {
        let path =
            format!("applications/{application}?$select=id,keyCredentials,passwordCredentials");
        let shown = graph.get_if_there("look at the credentials", path).await?;
        let Some(shown) = shown else { return Ok(None) };
        let list = |name: &str| shown[name].as_array().cloned().unwrap_or_default();
        let mut here = Vec::new();
        for path in certificates {
            here.extend(files::read(path)?.and_then(|pem| key_pair::for_graph(&pem)));
        }
        let is_ours = |one: &Value| {
            let key = one["key"].as_str();
            key.is_some_and(|key| {
                here.iter().any(|one| one == key) || record.has_uploaded(&files::digest(key))
            })
        };
        let all = list("keyCredentials");
        let (ours, mut rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_ours);
        let uploaded = record.credential() == CredentialKind::Certificate
            && (record.uploaded.is_some() || !here.is_empty());
        let mut hidden = uploaded && ours.is_empty() && rest.iter().any(|one| one["key"].is_null());
        // Without a word on which it is, the only one is ours.
        if hidden && rest.len() == 1 {
            (rest, hidden) = (Vec::new(), false);
        }
        // One that was made by a run which never heard of it is ours as well.
        let begun = record.credential() == CredentialKind::Secret
            && (record.uploaded.is_none() || record.next.is_none())
            && record.files.iter().any(|(path, digest)| {
                digest.is_none() && (record.uploaded.is_none() || path.ends_with(NEXT_SECRET))
            });
        let is_ours = |one: &Value| {
            one["keyId"].as_str().is_some_and(|id| record.has_uploaded(id))
                || (begun && one["displayName"] == record.name.as_str())
        };
        let (secrets, others): (Vec<_>, Vec<_>) =
            list("passwordCredentials").into_iter().partition(is_ours);
        let others = rest
            .iter()
            .map(|one| described("certificate", one))
            .chain(others.iter().map(|one| described("secret", one)))
            .collect();
        let certificates = (!ours.is_empty()).then_some(rest);
        let secrets = secrets.iter().map(|one| one["keyId"].clone()).collect();
        Ok(Some(Self { others, certificates, secrets, hidden }))
    }

    /// Leaves the others and nothing else; whether that could be done.
    async fn remove_ours(&self, graph: &Graph<'_>, application: &str) -> Result<bool, SetupError> {
        let what = "remove the credential";
        for id in &self.secrets {
            let path = format!("applications/{application}/removePassword");
            let body = json!({ "keyId": id });
            graph.send_about(what, Method::POST, path, &body).await?;
        }
        if let Some(certificates) = &self.certificates {
            let path = format!("applications/{application}");
            let body = json!({ "keyCredentials": certificates });
            graph.send_about(what, Method::PATCH, path, &body).await?;
        }
        Ok(!self.hidden)
    }
}

/// Such as `secret "rotated by hand" (until 2027-03-01)`.
fn described(kind: &str, one: &Value) -> String {
    let plain = |text: &Value| -> String {
        let text = text.as_str().unwrap_or_default().chars().filter(|c| !c.is_control());
        text.take(80).collect()
    };
    let name = match plain(&one["displayName"]) {
        name if name.is_empty() => plain(&one["keyId"]),
        name => name,
    };
    let end: String = plain(&one["endDateTime"]).chars().take(10).collect();
    let end = if end.is_empty() { end } else { format!(" (until {end})") };
    format!("{kind} \"{name}\"{end}")
}

/// Removes the files that setup wrote, unless somebody has changed them since.
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
    Ok(())
}
