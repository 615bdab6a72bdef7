//! The calls themselves.

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::{Answer, No, Request, bad, client_id_in, members, no, not_found};
use crate::clock::UnixMillis;
use crate::sandbox::{
    credentials::Registered,
    faults::Stage,
    random,
    registry::{Application, EXCHANGE_APP_ID, Principal, SEND_AS_APP},
    tenant::Tenant,
};

pub(super) fn route(request: &Request<'_>, parts: &[&str], tenant: &Tenant) -> Result<Answer, No> {
    let call = Call { request, tenant };
    match (request.method.as_str(), parts) {
        ("GET", ["applications"]) => call.list_applications(),
        ("POST", ["applications"]) => call.create_application(),
        ("GET", ["applications", id]) => call.show_application(id),
        ("PATCH", ["applications", id]) => call.set_certificates(id),
        ("DELETE", ["applications" | "servicePrincipals", id]) => call.delete(id),
        ("POST", ["applications", id, "addPassword"]) => call.add_password(id),
        ("POST", ["applications", id, "removePassword"]) => call.remove_password(id),
        ("GET", ["servicePrincipals"]) => call.list_principals(),
        ("POST", ["servicePrincipals"]) => call.create_principal(),
        ("GET", ["servicePrincipals", id, "appRoleAssignments"]) => call.list_roles(id),
        ("POST", ["servicePrincipals", id, "appRoleAssignments"]) => call.assign_role(id),
        ("DELETE", ["directory", "deletedItems", id]) => call.purge(id),
        ("GET", [one]) if client_id_in(one).is_some() => {
            call.show_secrets(client_id_in(one).unwrap_or_default())
        }
        _ => Err(no(
            StatusCode::NOT_FOUND,
            "BadRequest",
            format!("There is no {} {} here.", request.method, request.path),
        )),
    }
}

struct Call<'c> {
    request: &'c Request<'c>,
    tenant: &'c Tenant,
}

impl Call<'_> {
    /// What has just been made may not have reached the server that is asked.
    fn lags(&self) -> bool {
        self.tenant.strike(Stage::GraphObject, &[]).is_some()
    }

    fn reach(&self, id: &str) -> Result<(), No> {
        if self.lags() { Err(not_found(id)) } else { Ok(()) }
    }

    fn list_applications(&self) -> Result<Answer, No> {
        let (property, value) = self.request.filter()?;
        let state = self.tenant.registry.lock();
        let found: Vec<Value> = state
            .applications
            .iter()
            .map(Application::json)
            .filter(|one| one[property.as_str()] == *value)
            .collect();
        check_property(&property)?;
        Ok((StatusCode::OK, Some(json!({ "value": found }))))
    }

    fn create_application(&self) -> Result<Answer, No> {
        let needed = ["displayName", "signInAudience"];
        let body = self.request.object(&needed, &["requiredResourceAccess"])?;
        let name = text(&body, "displayName")?;
        if name.is_empty() || name.len() > 256 {
            return Err(bad("Invalid value specified for property 'displayName'."));
        }
        if body["signInAudience"] != "AzureADMyOrg" {
            return Err(bad("The sandbox wants signInAudience AzureADMyOrg: a single tenant."));
        }
        let access = body.get("requiredResourceAccess").cloned().unwrap_or_else(|| json!([]));
        let wanted = json!([{
            "resourceAppId": EXCHANGE_APP_ID,
            "resourceAccess": [{ "id": SEND_AS_APP, "type": "Role" }],
        }]);
        if access != json!([]) && access != wanted {
            return Err(bad("Invalid value specified for property 'requiredResourceAccess'."));
        }
        let mut state = self.tenant.registry.lock();
        let made = state.register(&name, access).json();
        Ok((StatusCode::CREATED, Some(made)))
    }

    fn show_application(&self, id: &str) -> Result<Answer, No> {
        self.request.only_select()?;
        self.reach(id)?;
        let state = self.tenant.registry.lock();
        let found = state.applications.iter().find(|one| one.object_id == *id);
        Ok((StatusCode::OK, Some(found.ok_or_else(|| not_found(id))?.json())))
    }

    /// An application by its client id: the sandbox shows its secrets and nothing else of it.
    fn show_secrets(&self, client_id: &str) -> Result<Answer, No> {
        if self.request.selected()?.is_none_or(|names| names != ["passwordCredentials"]) {
            return Err(bad("The sandbox wants $select=passwordCredentials here."));
        }
        self.reach(client_id)?;
        let secrets = self.tenant.shown_secrets(client_id).ok_or_else(|| not_found(client_id))?;
        Ok((StatusCode::OK, Some(json!({ "passwordCredentials": secrets }))))
    }

    /// `keyCredentials` replaces the whole list.
    fn set_certificates(&self, id: &str) -> Result<Answer, No> {
        let body = self.request.object(&["keyCredentials"], &[])?;
        self.reach(id)?;
        let Value::Array(list) = &body["keyCredentials"] else {
            return Err(bad("keyCredentials has to be a list."));
        };
        let mut state = self.tenant.registry.lock();
        let mut applications = state.applications.iter_mut();
        let application =
            applications.find(|one| one.object_id == *id).ok_or_else(|| not_found(id))?;
        let mut kept = Vec::new();
        let mut registered = Vec::new();
        for one in list {
            let known = one["keyId"]
                .as_str()
                .and_then(|id| application.certificates.iter().find(|known| known["keyId"] == *id));
            let (shown, certificate) = match known {
                Some(known) => (known.clone(), stored(&known["key"])?),
                None => new_certificate(one)?,
            };
            kept.push(shown);
            registered.push(certificate);
        }
        application.certificates = kept;
        application.credentials.set_certificates(registered);
        Ok((StatusCode::NO_CONTENT, None))
    }

    fn add_password(&self, id: &str) -> Result<Answer, No> {
        let mut body = self.request.object(&["passwordCredential"], &[])?;
        self.reach(id)?;
        let Some(Value::Object(asked)) = body.remove("passwordCredential") else {
            return Err(bad("passwordCredential has to be an object."));
        };
        let asked = members("passwordCredential", asked, &["displayName", "endDateTime"], &[])?;
        let end = text(&asked, "endDateTime")?;
        let Ok(ends) = end.parse::<jiff::Timestamp>() else {
            return Err(bad("endDateTime is no time."));
        };
        let ends = Some(UnixMillis(ends.as_millisecond()));
        let mut state = self.tenant.registry.lock();
        let mut applications = state.applications.iter_mut();
        let application =
            applications.find(|one| one.object_id == *id).ok_or_else(|| not_found(id))?;
        Ok((StatusCode::OK, Some(application.add_secret(&asked["displayName"], &end, ends))))
    }

    fn remove_password(&self, id: &str) -> Result<Answer, No> {
        let body = self.request.object(&["keyId"], &[])?;
        self.reach(id)?;
        let mut state = self.tenant.registry.lock();
        let mut applications = state.applications.iter_mut();
        let application =
            applications.find(|one| one.object_id == *id).ok_or_else(|| not_found(id))?;
        match application.remove_secret(&body["keyId"]) {
            true => Ok((StatusCode::NO_CONTENT, None)),
            false => Err(bad("No password credential found with keyId.")),
        }
    }

    fn delete(&self, id: &str) -> Result<Answer, No> {
        match self.tenant.registry.lock().delete(id) {
            true => Ok((StatusCode::NO_CONTENT, None)),
            false => Err(not_found(id)),
        }
    }

    fn purge(&self, id: &str) -> Result<Answer, No> {
        self.reach(id)?;
        let mut state = self.tenant.registry.lock();
        let before = state.deleted.len();
        state.deleted.retain(|gone| gone != id);
        match state.deleted.len() < before {
            true => Ok((StatusCode::NO_CONTENT, None)),
            false => Err(not_found(id)),
        }
    }

    fn list_principals(&self) -> Result<Answer, No> {
        let (property, value) = self.request.filter()?;
        check_property(&property)?;
        let exchange = json!({
            "id": self.tenant.registry.exchange_object_id(),
            "appId": EXCHANGE_APP_ID,
            "displayName": "Office 365 Exchange Online",
            "accountEnabled": true,
            "appRoles": [
                { "id": "dc890d15-9560-4a4c-9b7f-a736ec74ec40", "value": "full_access_as_app" },
                { "id": SEND_AS_APP, "value": "SMTP.SendAsApp" },
            ],
        });
        let state = self.tenant.registry.lock();
        let found: Vec<Value> = std::iter::once(exchange)
            .chain(state.principals.iter().map(Principal::json))
            .filter(|one| one[property.as_str()] == *value)
            .collect();
        Ok((StatusCode::OK, Some(json!({ "value": found }))))
    }

    fn create_principal(&self) -> Result<Answer, No> {
        let body = self.request.object(&["appId"], &[])?;
        let client_id = text(&body, "appId")?;
        let unknown = || {
            bad(format!("The appId '{client_id}' does not reference a valid application object."))
        };
        if self.lags() {
            return Err(unknown());
        }
        let mut state = self.tenant.registry.lock();
        if state.principals.iter().any(|one| one.client_id == client_id) {
            let text = "The service principal name is already in use.";
            let code = "Request_MultipleObjectsWithSameKeyValue";
            return Err(no(StatusCode::CONFLICT, code, text));
        }
        let mut applications = state.applications.iter();
        let application =
            applications.find(|one| one.client_id == client_id).ok_or_else(unknown)?;
        let principal = Principal {
            object_id: random::guid(),
            client_id: application.client_id.clone(),
            display_name: application.display_name.clone(),
            assignments: Vec::new(),
        };
        let shown = principal.json();
        state.principals.push(principal);
        Ok((StatusCode::CREATED, Some(shown)))
    }

    fn list_roles(&self, id: &str) -> Result<Answer, No> {
        self.request.only_select()?;
        self.reach(id)?;
        let state = self.tenant.registry.lock();
        let principal = state.principals.iter().find(|one| one.object_id == *id);
        let principal = principal.ok_or_else(|| not_found(id))?;
        let assignments = principal.assignments.iter();
        let found: Vec<Value> = assignments.map(|one| self.assignment(one, id)).collect();
        Ok((StatusCode::OK, Some(json!({ "value": found }))))
    }

    fn assign_role(&self, id: &str) -> Result<Answer, No> {
        let body = self.request.object(&["principalId", "resourceId", "appRoleId"], &[])?;
        self.reach(id)?;
        if body["principalId"] != *id {
            return Err(bad("principalId is not the one of the path."));
        }
        if body["resourceId"] != *self.tenant.registry.exchange_object_id() {
            return Err(not_found(&text(&body, "resourceId")?));
        }
        if body["appRoleId"] != SEND_AS_APP {
            return Err(bad("Permission being assigned was not found on application."));
        }
        let mut state = self.tenant.registry.lock();
        let mut principals = state.principals.iter_mut();
        let principal = principals.find(|one| one.object_id == *id).ok_or_else(|| not_found(id))?;
        if !principal.assignments.is_empty() {
            return Err(bad("Permission being assigned already exists on the object."));
        }
        let assignment = random::unguessable::<24>();
        principal.assignments.push(assignment.clone());
        Ok((StatusCode::CREATED, Some(self.assignment(&assignment, id))))
    }

    fn assignment(&self, assignment: &str, principal: &str) -> Value {
        json!({
            "id": assignment,
            "appRoleId": SEND_AS_APP,
            "principalId": principal,
            "principalType": "ServicePrincipal",
            "resourceId": self.tenant.registry.exchange_object_id(),
        })
    }
}

fn check_property(property: &str) -> Result<(), No> {
    match property {
        "appId" | "displayName" => Ok(()),
        other => Err(bad(format!("The sandbox has no filter for {other}."))),
    }
}

fn text(object: &Map<String, Value>, name: &str) -> Result<String, No> {
    let text = object.get(name).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| bad(format!("'{name}' has to be text.")))
}

/// A certificate that is uploaded, as Graph shows it from now on.
fn new_certificate(given: &Value) -> Result<(Value, Registered), No> {
    let Value::Object(given) = given else { return Err(bad("a key credential is an object.")) };
    let needed = ["type", "usage", "key"];
    let given = members("keyCredentials", given.clone(), &needed, &["displayName"])?;
    if given["type"] != "AsymmetricX509Cert" || given["usage"] != "Verify" {
        return Err(bad("Key credential type or usage is invalid."));
    }
    let certificate = stored(&given["key"])?;
    let shown = json!({
        "keyId": random::guid(),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        "displayName": given.get("displayName").cloned().unwrap_or(Value::Null),
        "customKeyIdentifier": hex(&certificate.sha1),
        "key": given["key"],
    });
    Ok((shown, certificate))
}

/// Base64 of a certificate's DER, and nothing that may be a key.
fn stored(key: &Value) -> Result<Registered, No> {
    let invalid = || bad("Key credential's key is not an X.509 certificate in base64.");
    let der = STANDARD.decode(key.as_str().unwrap_or_default()).map_err(|_| invalid())?;
    Registered::of_certificate(&der).ok_or_else(invalid)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |hex, octet| hex + &format!("{octet:02X}"))
}
