//! The applications that were registered through Graph while the sandbox runs: registrations,
//! their service principals, granted roles, and what was deleted and can still be brought back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::{
    credentials::{Credentials, Secret},
    random,
};
use crate::clock::UnixMillis;

/// Exchange Online as a resource; the ids are Microsoft's and the same in every tenant.
pub(super) const EXCHANGE_APP_ID: &str = "00000002-0000-0ff1-ce00-000000000000";
/// Its role `SMTP.SendAsApp`.
pub(super) const SEND_AS_APP: &str = "7146a1f0-8703-45b3-9eae-527a64c00995";

/// An app registration.
#[derive(Debug, Clone)]
pub(super) struct Application {
    /// Of the registration; not what Exchange wants.
    pub object_id: String,
    pub client_id: String,
    pub display_name: String,
    pub required_access: Value,
    /// As Graph shows them.
    pub certificates: Vec<Value>,
    /// As Graph shows them, without the secrets.
    pub secrets: Vec<Value>,
    pub credentials: Arc<Credentials>,
}

/// A service principal, the portal's "Enterprise application".
#[derive(Debug, Clone)]
pub(super) struct Principal {
    pub object_id: String,
    pub client_id: String,
    pub display_name: String,
    /// Ids of assignments of [`SEND_AS_APP`].
    pub assignments: Vec<String>,
}

/// What the directory holds.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    exchange: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub applications: Vec<Application>,
    pub principals: Vec<Principal>,
    /// Object ids of what was deleted.
    pub deleted: Vec<String>,
}

/// An application as the token endpoint sees it.
pub(super) struct Registered {
    pub client_id: String,
    pub credentials: Arc<Credentials>,
    /// Its service principal and whether that has [`SEND_AS_APP`].
    pub principal: Option<(String, bool)>,
}

impl Registry {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object id of Exchange's own service principal, another in each tenant.
    pub fn exchange_object_id(&self) -> String {
        let mut id = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        id.get_or_insert_with(random::guid).clone()
    }

    /// The application with this client id.
    pub fn application(&self, client_id: &str) -> Option<Registered> {
        let state = self.lock();
        let is = |other: &str| other.eq_ignore_ascii_case(client_id);
        let application = state.applications.iter().find(|one| is(&one.client_id))?;
        let principal = state.principals.iter().find(|one| is(&one.client_id));
        Some(Registered {
            client_id: application.client_id.clone(),
            credentials: Arc::clone(&application.credentials),
            principal: principal.map(|one| (one.object_id.clone(), !one.assignments.is_empty())),
        })
    }

    /// Client id and object id of each service principal.
    pub fn principals(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let pair = |one: &Principal| (one.client_id.clone(), one.object_id.clone());
        state.principals.iter().map(pair).collect()
    }

    /// One line for each thing that is there, for tests.
    pub fn contents(&self) -> Vec<String> {
        let state = self.lock();
        let mut lines = Vec::new();
        for one in &state.applications {
            let (certificates, secrets) = (one.certificates.len(), one.secrets.len());
            lines.push(format!(
                "application {} ({certificates} certificates, {secrets} secrets)",
                one.client_id
            ));
        }
        for one in &state.principals {
            let roles = one.assignments.len();
            lines.push(format!("service principal of {} ({roles} roles)", one.client_id));
        }
        lines.extend(state.deleted.iter().map(|id| format!("deleted object {id}")));
        lines
    }
}

impl State {
    /// A new registration.
    pub fn register(&mut self, display_name: &str, required_access: Value) -> &mut Application {
        self.applications.push(Application {
            object_id: random::guid(),
            client_id: random::guid(),
            display_name: display_name.to_owned(),
            required_access,
            certificates: Vec::new(),
            secrets: Vec::new(),
            credentials: Arc::new(Credentials::empty()),
        });
        let last = self.applications.len() - 1;
        &mut self.applications[last]
    }

    /// Deletes the object of this id, and a registration's service principal with it.
    pub fn delete(&mut self, object_id: &str) -> bool {
        if let Some(at) = self.applications.iter().position(|one| one.object_id == object_id) {
            let gone = self.applications.remove(at);
            let principal = self.principals.iter().find(|one| one.client_id == gone.client_id);
            let principal = principal.map(|one| one.object_id.clone());
            self.deleted.push(gone.object_id);
            if let Some(id) = principal {
                self.delete(&id);
            }
            return true;
        }
        let Some(at) = self.principals.iter().position(|one| one.object_id == object_id) else {
            return false;
        };
        self.deleted.push(self.principals.remove(at).object_id);
        true
    }
}

impl Application {
    /// Makes a secret; what comes back is the only thing that ever shows it.
    pub fn add_secret(&mut self, name: &Value, end: &str, ends: Option<UnixMillis>) -> Value {
        let secret = random::client_secret();
        let mut shown = json!({
            "keyId": random::guid(),
            "displayName": name,
            "endDateTime": end,
            "hint": secret.chars().take(3).collect::<String>(),
            "secretText": null,
        });
        self.secrets.push(shown.clone());
        self.credentials.add_secret(Secret::new(secret.as_str().into(), ends));
        shown["secretText"] = secret.into();
        shown
    }

    /// Removes a secret; whether it was there.
    pub fn remove_secret(&mut self, key_id: &Value) -> bool {
        let Some(at) = self.secrets.iter().position(|one| one["keyId"] == *key_id) else {
            return false;
        };
        self.secrets.remove(at);
        self.credentials.remove_secret(at);
        true
    }

    /// As Graph shows it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.object_id,
            "appId": self.client_id,
            "displayName": self.display_name,
            "signInAudience": "AzureADMyOrg",
            "requiredResourceAccess": self.required_access,
            "keyCredentials": self.certificates,
            "passwordCredentials": self.secrets,
        })
    }
}

impl Principal {
    /// As Graph shows it.
    pub fn json(&self) -> Value {
        json!({
            "id": self.object_id,
            "appId": self.client_id,
            "displayName": self.display_name,
            "accountEnabled": true,
            "appRoles": [],
        })
    }
}
