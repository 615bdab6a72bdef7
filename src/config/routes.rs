//! The accounts upstream and the routes to them: `[office365]`, and each `[[route]]`, which has the
//! values from there for what it does not set itself.

use std::sync::Arc;

use config::ValueKind;

use super::{
    AccountConfig, credential,
    fault::Faults,
    keys::{
        Spec,
        office365::{self, Mailbox},
        route as keys,
    },
    layers::{One, Settings},
};
use crate::{
    delivery,
    office365::clouds::Cloud,
    queue::{LaneConfig, Pace, Route},
    smtp::{path::Address, path::SenderPattern, sender::SenderMap},
    tls,
    token::{self, Credential, Graph},
};

/// Whom mail goes through, checked.
pub(super) struct Accounts {
    /// The account of `[office365]`.
    pub token: token::Config,
    pub delivery: delivery::Config,
    /// The accounts of routes that differ from it.
    pub others: Vec<AccountConfig>,
    pub routes: Vec<Route>,
}

/// Faults and warnings, and what it comes to if there are no faults.
pub(super) fn check(
    settings: &Settings,
    faults: &mut Faults,
    warnings: &mut Vec<String>,
) -> Option<Accounts> {
    let office365 = settings.office365();
    credential::check(office365, faults, warnings);
    pace(office365, warnings);
    foreign_login(office365, warnings);
    default_mailbox(office365, faults, warnings);
    for route in settings.routes() {
        if credential::is_touched(route) {
            credential::check(route, faults, warnings);
        }
        senders(route, faults);
        default_mailbox(route, faults, warnings);
    }
    out_of_reach(settings, warnings);
    everybody(settings, warnings);
    mapped_are_taken(settings, faults);
    build(settings, faults)
}

fn senders(route: One<'_>, faults: &mut Faults) {
    let spec = &keys::SENDERS.spec;
    let message = match route.set_here(spec) {
        None => "required: whose mail takes this route, such as [\"*@fabrikam.com\"]",
        Some(_) if route.get(&keys::SENDERS).is_some_and(|patterns| patterns.is_empty()) => {
            "empty; name those whose mail takes this route, or remove the route"
        }
        Some(_) => return,
    };
    let origin = route.given(spec).or(route.origin());
    faults.add(route.slot(spec).path(), message, origin);
}

/// A message without a sender has no mailbox of its own.
fn default_mailbox(one: One<'_>, faults: &mut Faults, warnings: &mut Vec<String>) {
    let (mailbox, default) = (&office365::MAILBOX, &office365::DEFAULT_MAILBOX.spec);
    match one.get(mailbox) {
        Some(Mailbox::Sender) if one.effective(default).is_none() => {
            let message = "required while `mailbox` is \"sender\": the mailbox for messages with a \
                           null reverse-path, which name no sender";
            faults.add(one.slot(default).path(), message, one.given(&mailbox.spec));
        }
        Some(Mailbox::Of(_)) if one.set_here(default).is_some() => {
            let text = "has no effect unless `mailbox` is \"sender\"";
            warn(one, default, text, warnings);
        }
        _ => {}
    }
}

/// Mail takes the first route that fits, so a later one for the same senders gets none.
fn out_of_reach(settings: &Settings, warnings: &mut Vec<String>) {
    let allowed = settings.get(&office365::SENDER_ALLOW).unwrap_or_default();
    let mut earlier: Vec<(SenderPattern, String)> = Vec::new();
    for route in settings.routes() {
        let patterns = route.get(&keys::SENDERS).unwrap_or_default();
        for pattern in &patterns {
            if let Some((other, of)) = earlier.iter().find(|(other, _)| other.covers(pattern)) {
                let text = format!("no mail of {pattern} comes here, as `{of}` takes {other}");
                warn(route, &keys::SENDERS.spec, &text, warnings);
            }
            let overlaps = |other: &SenderPattern| other.covers(pattern) || pattern.covers(other);
            if !allowed.is_empty() && !allowed.iter().any(overlaps) {
                let text =
                    format!("no mail of {pattern} is taken, as `sender.allow` has not got it");
                warn(route, &keys::SENDERS.spec, &text, warnings);
            }
        }
        earlier.extend(patterns.into_iter().map(|pattern| (pattern, route.path())));
    }
}

/// Whatever a client calls itself would be tried as a mailbox.
fn everybody(settings: &Settings, warnings: &mut Vec<String>) {
    let office365 = settings.office365();
    let anybody = settings.get(&office365::SENDER_ALLOW).is_some_and(|allow| allow.is_empty());
    if anybody && office365.get(&office365::MAILBOX) == Some(Mailbox::Sender) {
        let text = "any address that a client gives is taken for a mailbox, and its mail waits if \
                    there is none; set `sender.allow` to the domains of the tenant";
        warn(office365, &office365::MAILBOX.spec, text, warnings);
    }
}

fn mapped_are_taken(settings: &Settings, faults: &mut Faults) {
    let allowed = settings.get(&office365::SENDER_ALLOW).unwrap_or_default();
    if allowed.is_empty() {
        return;
    }
    let spec = &office365::SENDER_MAP.spec;
    let taken = |address: &Address| allowed.iter().any(|pattern| pattern.matches(address));
    for address in sender_map(settings).targets().filter(|address| !taken(address)) {
        let message = format!("{address} is not in `sender.allow`; add it there");
        faults.add(spec.path(), message, settings.given(spec));
    }
}

/// Which addresses stand for others.
pub(super) fn sender_map(settings: &Settings) -> SenderMap {
    SenderMap::new(settings.get(&office365::SENDER_MAP).unwrap_or_default())
}

fn pace(one: One<'_>, warnings: &mut Vec<String>) {
    let spec = &office365::MESSAGES_PER_MINUTE.spec;
    if one.get(&office365::PACE) == Some(false) && one.given(spec).is_some() {
        warn(one, spec, "has no effect while `pace` is \"unlimited\"", warnings);
    }
}

fn warn(one: One<'_>, spec: &'static Spec, text: &str, warnings: &mut Vec<String>) {
    let (path, origin) = (one.slot(spec).path(), one.given(spec).unwrap_or("default"));
    warnings.push(format!("`{path}`: {text} ({origin})"));
}

/// Workload identity sets `AZURE_AUTHORITY_HOST` to the cluster's cloud, whatever ours is.
fn foreign_login(one: One<'_>, warnings: &mut Vec<String>) {
    let spec = &office365::LOGIN_URL.spec;
    let (Some(origin), Some(url), Some(cloud)) =
        (one.given(spec), one.get(&office365::LOGIN_URL), one.get(&office365::CLOUD))
    else {
        return;
    };
    let owner = Cloud::ALL.iter().find(|(_, other)| other.preset().login_url == url);
    if let Some((owner, _)) = owner.filter(|_| cloud.preset().login_url != url) {
        let (path, cloud) = (one.slot(spec).path(), cloud.name());
        warnings.push(format!(
            "`{path}`: {url} belongs to cloud \"{owner}\", but `cloud` is \"{cloud}\" ({origin})"
        ));
    }
}

fn trust(one: One<'_>, faults: &mut Faults) -> Option<Arc<rustls::ClientConfig>> {
    let spec = &office365::CA_FILE.spec;
    match tls::client_config(one.get(&office365::CA_FILE).as_deref()) {
        Ok(tls) => Some(tls),
        Err(error) => {
            faults.add(one.slot(spec).path(), error.to_string(), one.given(spec));
            None
        }
    }
}

/// What a token task depends on.
static TOKEN_KEYS: [&Spec; 15] = [
    &office365::TENANT_ID.spec,
    &office365::CLIENT_ID.spec,
    &office365::CLIENT_SECRET_FILE.spec,
    &office365::CLIENT_SECRET.spec,
    &office365::CLIENT_SECRET_EXPIRES.spec,
    &office365::CERTIFICATE_FILE.spec,
    &office365::PRIVATE_KEY_FILE.spec,
    &office365::CERTIFICATE_ALGORITHM.spec,
    &office365::FEDERATED_TOKEN_FILE.spec,
    &office365::MANAGED_IDENTITY.spec,
    &office365::LOGIN_URL.spec,
    &office365::SCOPE.spec,
    &office365::GRAPH_URL.spec,
    &office365::CA_FILE.spec,
    &office365::TOKEN_TIMEOUT.spec,
];

/// What a connection depends on.
static DELIVERY_KEYS: [&Spec; 7] = [
    &office365::SMTP_HOST.spec,
    &office365::SMTP_PORT.spec,
    &office365::CA_FILE.spec,
    &office365::EHLO_NAME.spec,
    &office365::NULL_SENDER.spec,
    &office365::MAX_MESSAGES_PER_CONNECTION.spec,
    &office365::IDLE_CLOSE.spec,
];

/// Whether tokens depend on a key of this name, in `[office365]` or a route.
pub(super) fn is_of_token(name: &str) -> bool {
    TOKEN_KEYS.iter().any(|spec| spec.name == name)
}

/// Whether connections do.
pub(super) fn is_of_delivery(name: &str) -> bool {
    DELIVERY_KEYS.iter().any(|spec| spec.name == name)
}

fn token_values(one: One<'_>) -> Vec<Option<&ValueKind>> {
    TOKEN_KEYS.into_iter().map(|spec| one.effective(spec).map(|found| &found.value)).collect()
}

fn delivery_values(one: One<'_>) -> Vec<Option<&ValueKind>> {
    DELIVERY_KEYS.into_iter().map(|spec| one.effective(spec).map(|found| &found.value)).collect()
}

/// Sections with the same values share an account, and those with the same credential its tokens.
fn build(settings: &Settings, faults: &mut Faults) -> Option<Accounts> {
    let office365 = settings.office365();
    let tls = trust(office365, faults);
    let mut sections = vec![office365];
    let mut others: Vec<AccountConfig> = Vec::new();
    let mut routes: Vec<Route> = Vec::new();
    for route in settings.routes() {
        let same = |other: &One<'_>| {
            token_values(*other) == token_values(route)
                && delivery_values(*other) == delivery_values(route)
        };
        let account = sections.iter().position(same).unwrap_or(sections.len());
        if account == sections.len() {
            let tls = trust(route, faults);
            if !faults.is_empty() {
                continue;
            }
            let tls = tls?;
            let same_token = |other: &One<'_>| token_values(*other) == token_values(route);
            others.push(AccountConfig {
                name: route.path(),
                token: build_token(route, &tls)?,
                shares_token_of: sections.iter().position(same_token),
                delivery: build_delivery(route, &tls)?,
                cloud: route.get(&office365::CLOUD)?,
                ca_file: route.get(&office365::CA_FILE),
            });
            sections.push(route);
        }
        if !faults.is_empty() {
            continue;
        }
        let mut built = build_route(route, account)?;
        built.senders = route.get(&keys::SENDERS)?;
        one_mailbox_one_lane(route, &built, &routes, faults);
        routes.push(built);
    }
    if !faults.is_empty() {
        return None;
    }
    let last = build_route(office365, 0)?;
    one_mailbox_one_lane(office365, &last, &routes, faults);
    routes.push(last);
    let tls = tls?;
    let (mut token, delivery) = (build_token(office365, &tls)?, build_delivery(office365, &tls)?);
    if others.is_empty() {
        token.account.clear();
    }
    faults.is_empty().then_some(Accounts { token, delivery, others, routes })
}

/// Exchange Online counts by mailbox, so one that two sections name can have one pace only.
fn one_mailbox_one_lane(one: One<'_>, built: &Route, others: &[Route], faults: &mut Faults) {
    let same = |other: &&Route| other.lane.mailbox.eq_ignore_ascii_case(&built.lane.mailbox);
    let Some(other) = others.iter().filter(|other| !other.by_sender && !built.by_sender).find(same)
    else {
        return;
    };
    let spelt = LaneConfig { mailbox: built.lane.mailbox.clone(), ..other.lane.clone() };
    if spelt != built.lane {
        let spec = &office365::MAILBOX.spec;
        let message = format!(
            "`{}` has the same mailbox with other settings (account, max_connections, \
             messages_per_minute, recipients_per_day, pace); a mailbox has one lane: give both the \
             same",
            other.keys
        );
        faults.add(one.slot(spec).path(), message, one.given(spec));
    }
}

fn build_route(one: One<'_>, account: usize) -> Option<Route> {
    let pace = match one.get(&office365::PACE)? {
        true => Pace::PerMinute(one.get(&office365::MESSAGES_PER_MINUTE)?),
        false => Pace::Unlimited,
    };
    let (mailbox, by_sender) = match one.get(&office365::MAILBOX)? {
        Mailbox::Of(mailbox) => (mailbox, false),
        Mailbox::Sender => (one.get(&office365::DEFAULT_MAILBOX)?, true),
    };
    let lane = LaneConfig {
        account,
        mailbox,
        max_connections: one.get(&office365::MAX_CONNECTIONS)?,
        recipients_per_day: match pace {
            Pace::PerMinute(_) => Some(one.get(&office365::RECIPIENTS_PER_DAY)?),
            Pace::Unlimited => None,
        },
        pace,
    };
    Some(Route { keys: one.path(), by_sender, ..Route::to(lane) })
}

/// The address of mail that names no sender: the mailbox, or that for a null reverse-path.
pub(super) fn fallback_from(settings: &Settings) -> Option<String> {
    match settings.get(&office365::MAILBOX)? {
        Mailbox::Of(mailbox) => Some(mailbox),
        Mailbox::Sender => settings.get(&office365::DEFAULT_MAILBOX),
    }
}

fn build_token(one: One<'_>, tls: &Arc<rustls::ClientConfig>) -> Option<token::Config> {
    let credential = credential::build(one)?;
    // A managed identity knows its own tenant and application.
    let or_none = |id: Option<String>| match credential {
        Credential::ManagedIdentity(_) => Some(id.unwrap_or_default()),
        _ => id,
    };
    let tenant_id = or_none(one.get(&office365::TENANT_ID))?;
    let login_url = one.get(&office365::LOGIN_URL)?;
    Some(token::Config {
        account: one.path(),
        token_url: format!("{login_url}/{tenant_id}/oauth2/v2.0/token"),
        tenant_id,
        client_id: or_none(one.get(&office365::CLIENT_ID))?,
        scope: one.get(&office365::SCOPE)?,
        graph: graph(one, &credential),
        client_secret_expires: one.get(&office365::CLIENT_SECRET_EXPIRES),
        credential,
        request_timeout: one.get(&office365::TOKEN_TIMEOUT)?,
        tls: Arc::clone(tls),
    })
}

/// Only the end of a secret has to be asked for, and only where nobody has said it.
fn graph(one: One<'_>, credential: &Credential) -> Option<Graph> {
    let Credential::ClientSecret(_) = credential else { return None };
    if one.get(&office365::CLIENT_SECRET_EXPIRES).is_some() {
        return None;
    }
    let url = one.get(&office365::GRAPH_URL)??;
    let scope = format!("{}/.default", one.get(&office365::CLOUD)?.preset().graph_url);
    Some(Graph { url, scope })
}

fn build_delivery(one: One<'_>, tls: &Arc<rustls::ClientConfig>) -> Option<delivery::Config> {
    Some(delivery::Config {
        host: one.get(&office365::SMTP_HOST)?,
        port: one.get(&office365::SMTP_PORT)?,
        ehlo_name: one.get(&office365::EHLO_NAME)?,
        null_sender: one.get(&office365::NULL_SENDER)?,
        max_messages_per_connection: one.get(&office365::MAX_MESSAGES_PER_CONNECTION)?,
        idle_close: one.get(&office365::IDLE_CLOSE)?,
        tls: Arc::clone(tls),
    })
}
