//! The cmdlets that the sandbox's Exchange knows: what each takes, and what it does.

use super::{Known, State, script::Token};

/// One cmdlet with its parameters.
pub(super) struct Call {
    name: String,
    parameters: Vec<(String, String)>,
}

/// Name, parameters that are needed, parameters that may be there.
const CMDLETS: &[(&str, &[&str], &[&str])] = &[
    ("Connect-ExchangeOnline", &["Organization"], &["ExchangeEnvironmentName"]),
    ("Get-ServicePrincipal", &[], &["Identity", "ErrorAction"]),
    ("New-ServicePrincipal", &["AppId", "ObjectId", "DisplayName"], &[]),
    ("Remove-ServicePrincipal", &["Identity", "Confirm"], &[]),
    ("Get-DistributionGroup", &["Identity"], &["ErrorAction"]),
    ("New-DistributionGroup", &["Name", "Type"], &[]),
    ("Remove-DistributionGroup", &["Identity", "Confirm"], &[]),
    ("Get-DistributionGroupMember", &["Identity", "ResultSize"], &[]),
    ("Add-DistributionGroupMember", &["Identity", "Member"], &[]),
    ("Remove-DistributionGroupMember", &["Identity", "Member", "Confirm"], &[]),
    ("Get-ManagementScope", &["Identity"], &["ErrorAction"]),
    ("New-ManagementScope", &["Name", "RecipientRestrictionFilter"], &[]),
    ("Remove-ManagementScope", &["Identity", "Confirm"], &[]),
    ("Get-ManagementRoleAssignment", &["Identity"], &["ErrorAction"]),
    ("New-ManagementRoleAssignment", &["Name", "Role", "App", "CustomResourceScope"], &[]),
    ("Remove-ManagementRoleAssignment", &["Identity", "Confirm"], &[]),
    ("Add-MailboxPermission", &["Identity", "User", "AccessRights"], &[]),
    ("Get-MailboxPermission", &["Identity", "User"], &["ErrorAction"]),
    ("Remove-MailboxPermission", &["Identity", "User", "AccessRights", "Confirm"], &[]),
    ("Add-RecipientPermission", &["Identity", "Trustee", "AccessRights", "Confirm"], &[]),
    ("Get-RecipientPermission", &["Identity", "Trustee"], &["ErrorAction"]),
    ("Remove-RecipientPermission", &["Identity", "Trustee", "AccessRights", "Confirm"], &[]),
    ("Set-CASMailbox", &["Identity", "SmtpClientAuthenticationDisabled"], &[]),
    ("Test-ServicePrincipalAuthorization", &["Identity", "Resource"], &[]),
];

impl Call {
    pub fn read(name: &str, arguments: &[Token]) -> Result<Self, String> {
        let (name, needed, allowed) = CMDLETS
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name))
            .ok_or_else(|| format!("{name} is not a cmdlet that the sandbox knows"))?;
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Token::Word(word) = argument else {
                return Err(format!("{name}: a value without the name of its parameter"));
            };
            let parameter =
                word.strip_prefix('-').ok_or_else(|| format!("{name}: {word} is no parameter"))?;
            let (parameter, value) = match parameter.split_once(':') {
                Some((parameter, value)) => (parameter, value.to_owned()),
                None => match arguments.next() {
                    Some(Token::Word(value) | Token::Text(value)) => (parameter, value.clone()),
                    _ => return Err(format!("{name}: -{parameter} has no value")),
                },
            };
            let mut may = needed.iter().chain(*allowed);
            if !may.any(|known| known.eq_ignore_ascii_case(parameter)) {
                return Err(format!("{name}: there is no parameter -{parameter}"));
            }
            parameters.push((parameter.to_lowercase(), value));
        }
        let call = Self { name: (*name).to_owned(), parameters };
        match needed.iter().find(|needed| call.find(needed).is_none()) {
            Some(missing) => Err(format!("{name}: -{missing} is missing")),
            None => Ok(call),
        }
    }

    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    fn find(&self, parameter: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(parameter));
        found.map(|(_, value)| value.as_str())
    }

    fn text(&self, parameter: &str) -> String {
        self.find(parameter).unwrap_or_default().to_owned()
    }

    /// Names and addresses are the same in any case.
    fn name(&self, parameter: &str) -> String {
        self.text(parameter).to_lowercase()
    }

    fn expect(&self, parameter: &str, wanted: &str) -> Result<(), String> {
        match self.text(parameter) {
            value if value.eq_ignore_ascii_case(wanted) => Ok(()),
            value => Err(format!("{}: -{parameter} {value} is not {wanted}", self.name)),
        }
    }

    fn confirmed(&self) -> Result<(), String> {
        self.expect("Confirm", "$false")
    }

    fn mailbox(&self, parameter: &str, known: &Known<'_>) -> Result<String, String> {
        let mailbox = self.name(parameter);
        match known.mailboxes.iter().any(|one| one.eq_ignore_ascii_case(&mailbox)) {
            true => Ok(mailbox),
            false => Err(format!("{}: there is no mailbox {mailbox} here", self.name)),
        }
    }

    /// A service principal that Exchange was told of.
    fn principal(&self, parameter: &str, state: &State) -> Result<String, String> {
        let id = self.name(parameter);
        match state.principals.contains_key(&id) {
            true => Ok(id),
            false => Err(format!("{}: Exchange knows no service principal {id}", self.name)),
        }
    }

    pub fn carry_out(&self, state: &mut State, known: &Known<'_>) -> Result<Vec<String>, String> {
        let (verb, noun) = self.name.split_once('-').unwrap_or_default();
        match noun {
            "ExchangeOnline" => {
                let named = self.text("Organization");
                let ours = known.tenant.iter().any(|name| name.eq_ignore_ascii_case(&named));
                if ours { Ok(Vec::new()) } else { Err(format!("there is no organization {named}")) }
            }
            "ServicePrincipal" => self.service_principal(verb, state, known),
            "DistributionGroup" | "DistributionGroupMember" => self.group(state, known),
            "ManagementScope" | "ManagementRoleAssignment" => self.role(state),
            "MailboxPermission" | "RecipientPermission" => self.permission(state, known),
            "CASMailbox" => {
                let mailbox = self.mailbox("Identity", known)?;
                match self.text("SmtpClientAuthenticationDisabled").as_str() {
                    "$false" => state.smtp_auth.insert(mailbox, true),
                    "$true" => state.smtp_auth.insert(mailbox, false),
                    "$null" => state.smtp_auth.remove(&mailbox),
                    other => return Err(format!("{other} is neither $true, $false nor $null")),
                };
                Ok(Vec::new())
            }
            _ => {
                let id = self.principal("Identity", state)?;
                let mailbox = self.mailbox("Resource", known)?;
                let mut scopes = state.assignments.values().filter(|(app, _)| *app == id);
                let inside = scopes.any(|(_, scope)| {
                    let group = state.scopes.get(scope).and_then(|name| state.groups.get(name));
                    group.is_some_and(|members| members.contains(&mailbox))
                });
                Ok(vec![format!("InScope {}", if inside { "True" } else { "False" })])
            }
        }
    }

    fn service_principal(
        &self,
        verb: &str,
        state: &mut State,
        known: &Known<'_>,
    ) -> Result<Vec<String>, String> {
        if verb == "New" {
            let (app, object) = (self.name("AppId"), self.name("ObjectId"));
            // Exchange itself takes any id here, and the login says 535 5.7.3 for ever after.
            let Some((_, right)) = known.principals.iter().find(|(client_id, _)| *client_id == app)
            else {
                return Err(format!("no enterprise application has the client id {app}"));
            };
            if *right != object {
                return Err(format!(
                    "{object} is not the object id of the enterprise application {app}"
                ));
            }
            return match state.principals.insert(object.clone(), app) {
                None => Ok(vec![object]),
                Some(_) => Err(format!("the service principal {object} is there already")),
            };
        }
        let id = self.name("Identity");
        if verb == "Get" {
            if self.find("Identity").is_none() {
                return Ok(state.principals.keys().cloned().collect());
            }
            let there = state.principals.contains_key(&id);
            return Ok(Vec::from_iter(there.then_some(id)));
        }
        self.confirmed()?;
        self.principal("Identity", state)?;
        state.principals.remove(&id);
        Ok(Vec::new())
    }

    fn group(&self, state: &mut State, known: &Known<'_>) -> Result<Vec<String>, String> {
        let name = self.name(if self.is("New-DistributionGroup") { "Name" } else { "Identity" });
        let there = state.groups.contains_key(&name);
        let missing = || format!("{}: there is no group {name}", self.name);
        match self.name.as_str() {
            "Get-DistributionGroup" => return Ok(Vec::from_iter(there.then_some(name))),
            "New-DistributionGroup" if there => return Err(format!("a group {name} is there")),
            "New-DistributionGroup" => {
                self.expect("Type", "Security")?;
                state.groups.insert(name, std::collections::BTreeSet::new());
            }
            "Remove-DistributionGroup" => {
                self.confirmed()?;
                state.groups.remove(&name).ok_or_else(missing)?;
            }
            "Remove-DistributionGroupMember" => {
                self.confirmed()?;
                let member = self.mailbox("Member", known)?;
                if !state.groups.get_mut(&name).ok_or_else(missing)?.remove(&member) {
                    return Err(format!("it is no member of {name}"));
                }
            }
            "Add-DistributionGroupMember" => {
                let member = self.mailbox("Member", known)?;
                if !state.groups.get_mut(&name).ok_or_else(missing)?.insert(member) {
                    return Err(format!("it is a member of {name} already"));
                }
            }
            _ => {
                let members = state.groups.get(&name).ok_or_else(missing)?;
                return Ok(members.iter().cloned().collect());
            }
        }
        Ok(Vec::new())
    }

    fn role(&self, state: &mut State) -> Result<Vec<String>, String> {
        let (verb, noun) = self.name.split_once('-').unwrap_or_default();
        let name = self.name(if verb == "New" { "Name" } else { "Identity" });
        let scope = noun == "ManagementScope";
        let there = match scope {
            true => state.scopes.contains_key(&name),
            false => state.assignments.contains_key(&name),
        };
        match verb {
            "Get" => return Ok(Vec::from_iter(there.then_some(name))),
            "New" if there => return Err(format!("{name} is there already")),
            "New" if name.len() > 64 => return Err(format!("the name {name} is too long")),
            "New" if scope => {
                let filter = self.text("RecipientRestrictionFilter");
                let group = filter
                    .strip_prefix("MemberOfGroup -eq 'CN=")
                    .and_then(|rest| rest.strip_suffix('\''))
                    .and_then(|rest| rest.split(',').next())
                    .map(|name| name.replace("''", "'"))
                    .and_then(|shown| {
                        let mut names = state.groups.keys();
                        names.find(|name| name.replace(' ', "-") == shown).cloned()
                    });
                let group = group.ok_or_else(|| format!("the filter {filter} finds no group"))?;
                state.scopes.insert(name, group);
            }
            "New" => {
                self.expect("Role", "Application SMTP.SendAsApp")?;
                let app = self.principal("App", state)?;
                let scope = self.name("CustomResourceScope");
                if !state.scopes.contains_key(&scope) {
                    return Err(format!("there is no scope {scope}"));
                }
                state.assignments.insert(name, (app, scope));
            }
            _ => {
                self.confirmed()?;
                if scope && state.assignments.values().any(|(_, used)| *used == name) {
                    return Err(format!("the scope {name} is in use"));
                }
                let gone = match scope {
                    true => state.scopes.remove(&name).is_some(),
                    false => state.assignments.remove(&name).is_some(),
                };
                if !gone {
                    return Err(format!("there is no {name}"));
                }
            }
        }
        Ok(Vec::new())
    }

    fn permission(&self, state: &mut State, known: &Known<'_>) -> Result<Vec<String>, String> {
        let (verb, noun) = self.name.split_once('-').unwrap_or_default();
        let mailbox = noun == "MailboxPermission";
        let id = self.principal(if mailbox { "User" } else { "Trustee" }, state)?;
        // Send-As may be for a group or a shared mailbox that nobody logs in to.
        let whose = match mailbox {
            true => self.mailbox("Identity", known)?,
            false => self.name("Identity"),
        };
        let grants = if mailbox { &mut state.full_access } else { &mut state.send_as };
        if verb == "Get" {
            let there = grants.contains(&(whose, id));
            let right = if mailbox { "FullAccess" } else { "SendAs" };
            return Ok(Vec::from_iter(there.then(|| format!("AccessRights {right}"))));
        }
        self.expect("AccessRights", if mailbox { "FullAccess" } else { "SendAs" })?;
        if verb == "Remove" || !mailbox {
            self.confirmed()?;
        }
        if verb == "Add" {
            grants.insert((whose, id));
        } else if !grants.remove(&(whose, id)) {
            return Err(format!("{}: there is no such right", self.name));
        }
        Ok(Vec::new())
    }
}
