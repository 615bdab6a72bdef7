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
    if let Some(Thing { client_id, made_here: true, .. }) = &record.application
        && record.service_principal.is_none()
    {
        record.service_principal =
            unheard_of(&graph, "servicePrincipals", "appId", client_id).await?;
    }
    if let Some(principal) = record.service_principal.clone() {
        if principal.made_here {
            let path = format!("servicePrincipals/{}", principal.id);
            graph.delete("delete the service principal", path).await?;
            graph.purge(&principal.id).await?;
            tell(&format!("service principal {} deleted", principal.id));
        } else if let Some(assignment) = &record.role_assignment {
            let path =
                format!("servicePrincipals/{}/appRoleAssignments/{assignment}", principal.id);
            graph.delete("take back the consent", path).await?;
        }
        record.service_principal = None;
        record.role_assignment = None;
        record.save(config)?;
    }
    let Some(application) = record.application.clone() else { return Ok(()) };
    if application.made_here {
        let path = format!("applications/{}", application.id);
        graph.delete("delete the application", path).await?;
        graph.purge(&application.id).await?;
        tell(&format!("application {} deleted, for good", application.client_id));
    } else {
        credential(&graph, record, &application.id, certificate).await?;
        tell(&format!(
            "application {} was there before setup and stays; its credential of this host is gone",
            application.client_id
        ));
    }
    record.application = None;
    record.uploaded = None;
    record.registering = false;
    record.save(config)
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

/// Takes our own credential from an application that stays.
async fn credential(
    graph: &Graph<'_>,
    record: &Record,
    application: &str,
    certificate: &Path,
) -> Result<(), SetupError> {
    let what = "remove the credential";
    let Some(uploaded) = &record.uploaded else { return Ok(()) };
    if record.credential() == CredentialKind::Secret {
        let (path, body) =
            (format!("applications/{application}/removePassword"), json!({ "keyId": uploaded }));
        graph.send_about(what, Method::POST, path, &body).await?;
        return Ok(());
    }
    let pem = files::read(certificate)?.unwrap_or_default();
    let ours = key_pair::for_graph(&pem).unwrap_or_default();
    let path = format!("applications/{application}?$select=id,keyCredentials");
    let shown = graph.get(what, path).await?;
    let list = shown["keyCredentials"].as_array().cloned().unwrap_or_default();
    let others: Vec<Value> = list.into_iter().filter(|one| one["key"] != ours.as_str()).collect();
    let body = json!({ "keyCredentials": others });
    let path = format!("applications/{application}");
    graph.send_about(what, Method::PATCH, path, &body).await?;
    Ok(())
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
