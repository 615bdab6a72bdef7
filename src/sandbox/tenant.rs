//! The state that both services share, and the one place that decides: who gets a token, which
//! token opens which mailbox, what a mailbox may do.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use secrecy::SecretString;
use tokio::sync::broadcast;

use super::{
    Config, Event, SendAs,
    access_token::{self, Content, Holder, Resource, TokenFault, Tokens},
    address,
    admin::Admins,
    arrivals::Arrivals,
    credentials::{Credentials, Proved},
    entra::TokenRefusal,
    exchange::{Closed, Exchange, Known, ScriptFault, Visitor},
    faults::{Faults, Stage, Strike},
    form::Form,
    random,
    registry::Registry,
};
use crate::clock::{Clock, UnixMillis};

/// The fake tenant.
#[derive(Debug)]
pub(super) struct Tenant {
    pub config: Config,
    pub arrivals: Arrivals,
    pub faults: Faults,
    pub credentials: Credentials,
    pub registry: Registry,
    pub admins: Admins,
    pub exchange: Exchange,
    /// What stands in for `https://login.microsoftonline.com`.
    login_url: String,
    clock: Clock,
    object_id: String,
    tokens: Tokens,
    connections: Connections,
    events: broadcast::Sender<Event>,
}

/// The connections of each mailbox, in the order in which they logged in.
#[derive(Debug, Default)]
struct Connections {
    next: AtomicU64,
    by_mailbox: Mutex<HashMap<String, Vec<u64>>>,
}

/// An access token, and how long it is good.
#[derive(Debug)]
pub(super) struct Granted {
    pub client_id: String,
    pub token: SecretString,
    pub lifetime: Duration,
}

/// Why a login is refused; for our log only, the client hears the same in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginFault {
    /// No such mailbox, or closed to this application.
    Mailbox,
    /// The token does not open it.
    Token(TokenFault),
    /// SMTP AUTH is off for it.
    SmtpAuth,
    /// Exchange knows the application by another Object ID.
    Application,
}

impl Tenant {
    /// A tenant as `config` describes it.
    pub fn new(config: Config, login_url: String, clock: Clock) -> io::Result<Self> {
        let arrivals = Arrivals::new(config.save_to.clone(), config.keep_mail_data)?;
        Ok(Self {
            faults: Faults::new(config.fault_seed, &config.faults),
            credentials: Credentials::new(&config),
            registry: Registry::default(),
            admins: Admins::default(),
            exchange: Exchange::new(config.exchange),
            login_url,
            config,
            arrivals,
            clock,
            object_id: random::guid(),
            tokens: Tokens::default(),
            connections: Connections::default(),
            events: broadcast::Sender::new(EVENT_CAPACITY),
        })
    }

    /// The time now.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// The object id of the service principal, which is `oid` in its tokens.
    pub fn object_id(&self) -> &str {
        &self.object_id
    }

    /// Tells whoever has subscribed.
    pub fn emit(&self, event: Event) {
        // An error says that nobody listens, which is nobody's fault.
        let _ = self.events.send(event);
    }

    /// The events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// The fault that strikes at `stage` one of the `subjects`, if one does.
    pub fn strike(&self, stage: Stage, subjects: &[&str]) -> Option<Strike> {
        let strike = self.faults.strike(stage, subjects)?;
        let (name, stage) = (strike.kind.name(), strike.kind.stage());
        self.emit(Event::FaultStruck { name, stage, count: strike.count });
        Some(strike)
    }

    /// Decides about a token request to the endpoint of `tenant`.
    pub fn grant(&self, tenant: &str, form: &Form) -> Result<Granted, TokenRefusal> {
        self.check_tenant(tenant)?;
        let required = |name| form.value(name).ok_or_else(|| TokenRefusal::parameter_missing(name));
        let grant_type = required("grant_type")?;
        if grant_type != "client_credentials" {
            return Err(TokenRefusal::grant_type(grant_type));
        }
        let (client_id, scope) = (required("client_id")?, required("scope")?);
        if form.value("resource").is_some() {
            return Err(TokenRefusal::resource_parameter());
        }
        let lifetime = self.config.token_lifetime;
        if client_id.eq_ignore_ascii_case(&self.config.client_id) {
            let (audience, resource) = Resource::of_scope(scope, tenant)?;
            self.check_proof(&self.credentials, form, &self.config.client_id)?;
            return Ok(self.issue(audience, resource, lifetime));
        }
        let unknown = || TokenRefusal::unknown_application(client_id, tenant);
        let application = self.registry.application(client_id).ok_or_else(unknown)?;
        let (audience, resource) = Resource::of_scope(scope, tenant)?;
        self.check_proof(&application.credentials, form, &application.client_id)?;
        let (object_id, consented) = application
            .principal
            .ok_or_else(|| TokenRefusal::no_service_principal(client_id, tenant))?;
        let holder = Holder { client_id: application.client_id, object_id, consented };
        Ok(self.issue_to(&holder, audience, resource, lifetime))
    }

    /// Looks whether the client has proved that it is this application.
    fn check_proof(
        &self,
        credentials: &Credentials,
        form: &Form,
        client_id: &str,
    ) -> Result<(), TokenRefusal> {
        let audiences = [&self.config.tenant_id, &self.config.tenant_domain]
            .map(|tenant| format!("{}/{tenant}/oauth2/v2.0/token", self.login_url));
        let proved = credentials.check(form, client_id, &audiences, self.now())?;
        if let Some(refusal) = self.credential_fault(proved) {
            return Err(refusal);
        }
        match self.strike(Stage::Policy, &[]) {
            Some(strike) => Err(TokenRefusal::of_policy(strike.choice(), client_id)),
            None => Ok(()),
        }
    }

    /// Whether the endpoints of `tenant` are ours.
    pub fn check_tenant(&self, tenant: &str) -> Result<(), TokenRefusal> {
        let Config { tenant_id, tenant_domain, .. } = &self.config;
        if [tenant_id, tenant_domain].iter().any(|name| name.eq_ignore_ascii_case(tenant)) {
            return Ok(());
        }
        let is_domain = tenant.contains('.') && tenant.is_ascii() && address::is_domain(tenant);
        Err(match tenant {
            "common" | "organizations" | "consumers" => {
                TokenRefusal::tenant_is_a_placeholder(tenant)
            }
            _ if is_domain || is_guid(tenant) => TokenRefusal::tenant_not_found(tenant),
            _ => TokenRefusal::tenant_malformed(tenant),
        })
    }

    /// Issues a token of the one application for `resource`, which goes by the name `audience`.
    pub fn issue(&self, audience: &str, resource: Resource, lifetime: Duration) -> Granted {
        let (client_id, object_id) = (self.config.client_id.clone(), self.object_id.clone());
        let holder = Holder { client_id, object_id, consented: true };
        self.issue_to(&holder, audience, resource, lifetime)
    }

    fn issue_to(
        &self,
        holder: &Holder,
        audience: &str,
        resource: Resource,
        lifetime: Duration,
    ) -> Granted {
        let lifetime = match self.strike(Stage::TokenIssue, &[]) {
            Some(strike) => strike.time(),
            None => lifetime,
        };
        let content = match self.strike(Stage::TokenContent, &[]).map(|strike| strike.choice()) {
            None => Content::Usual,
            Some(0) => Content::Delegated,
            Some(1) => Content::NoRoles,
            Some(2) => Content::OtherRoles,
            Some(_) => Content::OtherAudience,
        };
        let request = access_token::Request {
            tenant_id: &self.config.tenant_id,
            client_id: &holder.client_id,
            object_id: &holder.object_id,
            audience,
            resource,
            lifetime,
            consented: holder.consented,
            reads: self.config.application_reads,
            content,
        };
        let client_id = holder.client_id.clone();
        Granted { client_id, token: self.tokens.issue(&request, self.now()), lifetime }
    }

    /// The refusal of a fault that strikes a client which has proved itself.
    fn credential_fault(&self, proved: Proved) -> Option<TokenRefusal> {
        if proved == Proved::Secret {
            self.strike(Stage::Credential, &[])?;
            return Some(TokenRefusal::wrong_secret(&self.config.client_id));
        }
        let strike = self.strike(Stage::Assertion, &[])?;
        let federated = proved == Proved::Federated;
        let seconds = self.now().0.div_euclid(1000);
        Some(match strike.choice() {
            0 if federated => TokenRefusal::no_federation("issuer", "https://other.example/"),
            0 => TokenRefusal::unknown_certificate(),
            1 if federated => TokenRefusal::no_federation("audience", "api://other"),
            1 => TokenRefusal::assertion("`aud` is not this token endpoint"),
            2 => TokenRefusal::outside_its_time(seconds + 7200, seconds - 60, seconds + 540),
            _ if federated => TokenRefusal::no_federation("subject", "system:other"),
            _ => TokenRefusal::assertion("`iss` and `sub` have to be the client id"),
        })
    }

    /// Logs a connection in to the mailbox `user` with an access token.
    pub fn log_in(self: &Arc<Self>, user: &str, token: &str) -> Result<Login, LoginFault> {
        let holder = self.tokens.check(token, self.now()).map_err(LoginFault::Token)?;
        let told = self.config.object_id_in_exchange.as_ref();
        if told.is_some_and(|told| !told.eq_ignore_ascii_case(&holder.object_id)) {
            return Err(LoginFault::Application);
        }
        let mut mailboxes = self.config.mailboxes.iter();
        let mailbox = mailboxes
            .find(|mailbox| mailbox.eq_ignore_ascii_case(user))
            .ok_or(LoginFault::Mailbox)?;
        // The one application of the configuration has all its rights from the start.
        let newcomer = (holder.client_id != self.config.client_id).then_some(holder);
        if let Some(Holder { client_id, object_id, consented }) = &newcomer {
            let visitor = Visitor { client_id, object_id, consented: *consented };
            self.exchange.admits(&visitor, mailbox).map_err(|closed| match closed {
                Closed::NoRight => LoginFault::Mailbox,
                Closed::SmtpAuth => LoginFault::SmtpAuth,
            })?;
        }
        let connection = self.connections.next.fetch_add(1, Ordering::Relaxed);
        let mut connections = lock(&self.connections.by_mailbox);
        connections.entry(mailbox.clone()).or_default().push(connection);
        let newcomer = newcomer.map(|holder| holder.object_id);
        Ok(Login { tenant: Arc::clone(self), mailbox: mailbox.clone(), newcomer, connection })
    }

    /// What the holder of this token may do in Graph: an admin, or an application.
    pub fn graph_permissions(&self, token: &str) -> Option<Vec<String>> {
        let now = self.now();
        self.admins.scopes(token, now).or_else(|| self.tokens.check_graph(token, now))
    }

    /// The secrets of the application with this client id, as Graph shows them.
    pub fn shown_secrets(&self, client_id: &str) -> Option<Vec<serde_json::Value>> {
        if client_id.eq_ignore_ascii_case(&self.config.client_id) {
            return Some(self.credentials.shown_secrets());
        }
        Some(self.registry.application(client_id)?.credentials.shown_secrets())
    }

    /// Makes `token` one that has expired.
    pub fn void(&self, token: &str) {
        self.tokens.void(token, self.now());
    }

    /// An admin runs a script in Exchange Online PowerShell.
    pub fn run_exchange_script(&self, script: &str) -> Result<Vec<String>, ScriptFault> {
        let Config { tenant_id, tenant_domain, mailboxes, .. } = &self.config;
        let principals = self.registry.principals();
        let tenant = [tenant_id.as_str(), tenant_domain.as_str()];
        let known = Known { tenant, mailboxes, principals: &principals };
        let result = self.exchange.run(script, &known);
        self.emit(Event::Exchange {
            outcome: match &result {
                Ok(_) => "carried out".into(),
                Err(fault) => format!("FAILED: {fault}"),
            },
        });
        result
    }

    /// Whether whoever logged in as `mailbox` may put `address` into From or MAIL.
    fn may_send_as(&self, mailbox: &str, address: &str) -> bool {
        let is = |other: &str| other.eq_ignore_ascii_case(address);
        match &self.config.send_as {
            SendAs::Anyone => true,
            SendAs::OnlyMailbox => is(mailbox),
            SendAs::Listed(addresses) => is(mailbox) || addresses.iter().any(|other| is(other)),
        }
    }
}

/// A connection that has logged in; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Login {
    tenant: Arc<Tenant>,
    mailbox: String,
    /// The object id of an application that was registered while the sandbox runs.
    newcomer: Option<String>,
    connection: u64,
}

impl Login {
    /// Whether it may put `address` into From or MAIL. A newcomer may what Exchange was told.
    pub fn may_send_as(&self, address: &str) -> bool {
        match &self.newcomer {
            Some(_) if self.mailbox.eq_ignore_ascii_case(address) => true,
            Some(object_id) => self.tenant.exchange.may_send_as(object_id, address),
            None => self.tenant.may_send_as(&self.mailbox, address),
        }
    }

    /// The mailbox, as the configuration spells it.
    pub fn mailbox(&self) -> &str {
        &self.mailbox
    }

    /// Whether this connection is one of the first so many of its mailbox that may submit.
    pub fn may_submit(&self) -> bool {
        let Some(most) = self.tenant.config.max_connections else { return true };
        let connections = lock(&self.tenant.connections.by_mailbox);
        let first =
            connections.get(&self.mailbox).map_or(&[][..], |all| &all[..all.len().min(most)]);
        first.contains(&self.connection)
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let mut connections = lock(&self.tenant.connections.by_mailbox);
        if let Some(all) = connections.get_mut(&self.mailbox) {
            all.retain(|connection| *connection != self.connection);
        }
    }
}

/// Whether `text` is a GUID in its usual form.
pub(super) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, octet)| match at {
            8 | 13 | 18 | 23 => octet == b'-',
            _ => octet.is_ascii_hexdigit(),
        })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const EVENT_CAPACITY: usize = 4_096;

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    const SCOPE: &str = "https://outlook.office365.com/.default";

    fn tenant(config: Config) -> Arc<Tenant> {
        Arc::new(
            Tenant::new(
                config,
                "https://login.test".into(),
                Clock::at(UnixMillis(1_795_415_050_000)),
            )
            .unwrap(),
        )
    }

    fn form(tenant: &Tenant, changes: &[(&str, &str)]) -> Form {
        let config = &tenant.config;
        let mut form = Form::default();
        for (name, value) in [
            ("grant_type", "client_credentials"),
            ("client_id", &config.client_id),
            ("client_secret", config.client_secret.expose_secret()),
            ("scope", SCOPE),
        ] {
            let change = changes.iter().find(|(changed, _)| *changed == name);
            form.set(name, change.map_or(value, |(_, value)| value));
        }
        form
    }

    #[tokio::test]
    async fn scopes_are_told_apart() {
        let tenant = tenant(Config::default());
        let code = |scope: &str| {
            let form = form(&tenant, &[("scope", scope)]);
            tenant.grant("sandbox.example", &form).map_or_else(|refusal| refusal.code, |_| 0)
        };
        assert_eq!(code(SCOPE), 0);
        assert_eq!(code("https://graph.microsoft.com/.default"), 0);
        assert_eq!(code("https://outlook.office365.com/SMTP.Send"), 1_002_012);
        assert_eq!(code("https://outlook.office365.com"), 1_002_012);
        assert_eq!(code("SMTP.Send"), 70_011);
        assert_eq!(code(&format!("{SCOPE} offline_access")), 70_011);
        assert_eq!(code(&format!("{SCOPE} https://graph.microsoft.com/.default")), 700_022);
        assert_eq!(code("https://outlook.office365.us/.default"), 500_011);
        assert_eq!(code("/.default"), 70_011);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_opens_a_mailbox_of_the_tenant_until_it_expires() {
        let tenant = tenant(Config::default());
        let token = tenant.grant("sandbox.example", &form(&tenant, &[])).unwrap().token;
        let log_in = |user: &str| {
            tenant.log_in(user, token.expose_secret()).map(|login| login.mailbox().to_owned())
        };
        assert_eq!(log_in("RELAY@Sandbox.Example"), Ok("relay@sandbox.example".to_owned()));
        assert_eq!(log_in("other@sandbox.example"), Err(LoginFault::Mailbox));
        tokio::time::advance(Duration::from_secs(3_599)).await;
        assert_eq!(log_in("relay@sandbox.example"), Err(LoginFault::Token(TokenFault::Expired)));
    }

    #[tokio::test]
    async fn connections_over_the_limit_may_not_submit_until_another_closes() {
        let tenant = tenant(Config { max_connections: Some(2), ..Config::default() });
        let token = tenant.grant("sandbox.example", &form(&tenant, &[])).unwrap().token;
        let log_in = || tenant.log_in("relay@sandbox.example", token.expose_secret()).unwrap();
        let (first, second, third) = (log_in(), log_in(), log_in());
        assert_eq!([&first, &second, &third].map(Login::may_submit), [true, true, false]);
        drop(first);
        assert!(third.may_submit());
    }

    #[tokio::test]
    async fn send_as_rights_are_compared_in_any_case() {
        let allowed = |send_as, address: &str| {
            tenant(Config { send_as, ..Config::default() }).may_send_as("relay@x.example", address)
        };
        let listed = || SendAs::Listed(vec!["boss@x.example".into()]);
        assert!(allowed(SendAs::Anyone, "who@ever.example"));
        assert!(allowed(SendAs::OnlyMailbox, "Relay@X.example"));
        assert!(!allowed(SendAs::OnlyMailbox, "boss@x.example"));
        assert!(allowed(listed(), "BOSS@x.example") && allowed(listed(), "relay@x.example"));
        assert!(!allowed(listed(), "who@ever.example"));
    }
}
