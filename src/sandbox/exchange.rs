//! What Exchange Online knows of applications, and an admin who tells it by a script. The script
//! is read by an interpreter of its own (`exchange/script.rs`), which knows the few cmdlets that
//! matter here and takes no others.

mod cmdlets;
mod script;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use self::script::ScriptFault;

/// Who tells Exchange about applications that are registered while the sandbox runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExchangeAdmin {
    /// Somebody who runs a script: [`Sandbox::run_exchange_script`](super::Sandbox), or
    /// `POST /exchange` at the control endpoint.
    #[default]
    Script,
    /// Nobody has to: each application gets all mailboxes as soon as it has a service principal.
    Auto,
}

/// The state of Exchange. Names and addresses are in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Object id and client id of the service principals that it was told of.
    principals: BTreeMap<String, String>,
    /// Names of groups, with their members.
    groups: BTreeMap<String, BTreeSet<String>>,
    /// Names of management scopes, with the group each stands for.
    scopes: BTreeMap<String, String>,
    /// Names of role assignments, with object id and scope.
    assignments: BTreeMap<String, (String, String)>,
    /// Mailbox and object id.
    full_access: BTreeSet<(String, String)>,
    /// Address and object id.
    send_as: BTreeSet<(String, String)>,
    /// Mailboxes whose SMTP AUTH was switched on (`false`: off).
    smtp_auth: BTreeMap<String, bool>,
}

/// What an application wants at a mailbox.
pub(super) struct Visitor<'v> {
    pub client_id: &'v str,
    pub object_id: &'v str,
    /// Whether its tokens carry the role `SMTP.SendAsApp`.
    pub consented: bool,
}

/// Why a mailbox stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// No right to the mailbox.
    NoRight,
    /// SMTP AUTH is off.
    SmtpAuth,
}

/// Exchange Online.
#[derive(Debug)]
pub(super) struct Exchange {
    admin: ExchangeAdmin,
    state: Mutex<State>,
}

/// What a script may refer to: mailboxes, and pairs of client id and object id.
pub(super) struct Known<'k> {
    pub tenant: [&'k str; 2],
    pub mailboxes: &'k [String],
    pub principals: &'k [(String, String)],
}

impl Exchange {
    pub fn new(admin: ExchangeAdmin) -> Self {
        Self { admin, state: Mutex::default() }
    }

    /// An admin runs `script`. Nothing of it counts if a line of it fails.
    pub fn run(&self, script: &str, known: &Known<'_>) -> Result<Vec<String>, ScriptFault> {
        let mut state = self.lock();
        let mut next = state.clone();
        let output = script::run(script, &mut next, known)?;
        *state = next;
        Ok(output)
    }

    /// Whether the application may log in to `mailbox`.
    pub fn admits(&self, visitor: &Visitor<'_>, mailbox: &str) -> Result<(), Closed> {
        if self.admin == ExchangeAdmin::Auto {
            return Ok(());
        }
        let (state, mailbox) = (self.lock(), mailbox.to_lowercase());
        let known =
            state.principals.get(visitor.object_id).is_some_and(|id| id == visitor.client_id);
        let object_id = visitor.object_id.to_owned();
        // With the API permission granted, the older check of the mailbox's permissions runs.
        let right = match visitor.consented {
            true => state.full_access.contains(&(mailbox.clone(), object_id)),
            false => state.assignments.values().any(|(app, scope)| {
                let group = state.scopes.get(scope).and_then(|group| state.groups.get(group));
                *app == object_id && group.is_some_and(|members| members.contains(&mailbox))
            }),
        };
        match (known && right, state.smtp_auth.get(&mailbox)) {
            (false, _) => Err(Closed::NoRight),
            // Tenants made after January 2020 have it off.
            (true, None | Some(false)) => Err(Closed::SmtpAuth),
            (true, Some(true)) => Ok(()),
        }
    }

    /// Whether the application may put `address`, which is not its mailbox, into From.
    pub fn may_send_as(&self, object_id: &str, address: &str) -> bool {
        let grant = (address.to_lowercase(), object_id.to_owned());
        self.admin == ExchangeAdmin::Auto || self.lock().send_as.contains(&grant)
    }

    /// What is on record about applications, for tests: nothing once all is undone.
    pub fn rights(&self) -> Vec<String> {
        let state = self.lock();
        let mut rights = Vec::new();
        rights.extend(state.principals.iter().map(|(id, app)| format!("principal {id} of {app}")));
        rights.extend(state.groups.keys().map(|name| format!("group {name}")));
        rights.extend(state.scopes.keys().map(|name| format!("scope {name}")));
        rights.extend(state.assignments.keys().map(|name| format!("assignment {name}")));
        rights.extend(state.full_access.iter().map(|(who, id)| format!("{id} uses {who}")));
        rights.extend(state.send_as.iter().map(|(who, id)| format!("{id} sends as {who}")));
        rights
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
