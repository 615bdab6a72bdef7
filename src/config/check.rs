//! From values that hold to a checked configuration: each key on its own, then the keys
//! against each other, then the parts.

use std::sync::Arc;

use super::{
    Config, credential,
    fault::Faults,
    keys::{self, AnyKey, Default, daemon, notices, office365},
    kinds::Mismatch,
    layers::Settings,
    listeners,
};
use crate::{
    delivery, http,
    office365::clouds::Cloud,
    queue::{self, DirectConfig, LaneConfig, Mode, OnUncertain, Pace},
    store, telemetry, tls,
    token::{self, Credential},
};

/// Builds the configuration; `None` when there are faults, old or new.
pub(super) fn check(settings: &Settings, faults: &mut Faults) -> Option<Config> {
    for (slot, found) in settings.slots() {
        if let Err(Mismatch(message)) = keys::check(slot.spec, &found.value) {
            faults.add(slot.path(), message, found.given());
        }
    }
    if settings.broken_file {
        faults.set_unreadable();
    } else {
        missing(settings, faults);
    }
    let mut warnings = Vec::new();
    listeners::check(settings, faults, &mut warnings);
    credential::check(settings, faults, &mut warnings);
    pace(settings, &mut warnings);
    mode(settings, faults, &mut warnings);
    foreign_login(settings, &mut warnings);
    let tls = trust(settings, faults);
    if !faults.is_empty() {
        return None;
    }
    let config = build(settings, &tls?, warnings);
    if config.is_none() {
        faults.add("configuration", "a key has neither value nor default; please report", None);
    }
    config
}

fn missing(settings: &Settings, faults: &mut Faults) {
    let clean = faults.is_empty();
    let (mut any, mut set) = (false, false);
    for spec in keys::table().map(AnyKey::spec) {
        let required = matches!(spec.default, Default::Required { .. });
        let secret = spec.path() == office365::CLIENT_SECRET_FILE.spec.path();
        let replaced = || credential::replaces(settings, spec);
        if !required || settings.effective(spec).is_some() || replaced() {
            set |= required;
            continue;
        }
        any = true;
        let mut variables = vec![spec.variable()];
        let mut or = String::new();
        if secret {
            or = ", or `client_secret`, `certificate_file`, `federated_token_file` or \
                  `managed_identity`,"
                .into();
            variables.push(office365::CLIENT_SECRET.spec.variable());
            variables.extend(office365::CLIENT_SECRET.spec.fallback.map(str::to_owned));
        }
        variables.extend(spec.fallback.map(str::to_owned));
        let message = format!(
            "required; set it{or} below `[{}]`, or as {} in the environment",
            spec.section,
            variables.join(" or ")
        );
        faults.add(spec.path(), message, None);
    }
    if let (true, Some(path)) = (any, &settings.absent_file) {
        let message = "no such file; `o365-relay config example` prints one to start from";
        faults.add(path.display().to_string(), message, None);
        if clean && !set {
            faults.set_unconfigured(path);
        }
    }
}

fn pace(settings: &Settings, warnings: &mut Vec<String>) {
    let spec = &office365::MESSAGES_PER_MINUTE.spec;
    if let (Some(false), Some(origin)) = (settings.get(&office365::PACE), settings.given(spec)) {
        let path = spec.path();
        warnings.push(format!("`{path}`: has no effect while `pace` is \"unlimited\" ({origin})"));
    }
}

/// Keys of the other mode are told rather than passed over.
fn mode(settings: &Settings, faults: &mut Faults, warnings: &mut Vec<String>) {
    let queue_only: [&keys::Spec; 6] = [
        &daemon::GIVE_UP_AFTER.spec,
        &daemon::MIN_FREE_BYTES.spec,
        &daemon::MAX_MESSAGES.spec,
        &daemon::HISTORY_KEEP.spec,
        &notices::TO.spec,
        &notices::DELAY_AFTER.spec,
    ];
    let direct_only = [&daemon::DIRECT_WAIT.spec, &daemon::SPOOL_DIRECTORY.spec];
    let (mode, idle) = match settings.get(&daemon::QUEUE_MODE) {
        None => return,
        Some(Mode::Queue) => ("queue", &direct_only[..]),
        Some(Mode::Direct) => ("direct", &queue_only[..]),
    };
    for spec in idle {
        let Some(origin) = settings.given(spec) else { continue };
        // A variable of other tools is not meant for us.
        let foreign = spec.fallback.map(|name| format!("environment variable {name}"));
        if foreign.as_deref() != Some(origin) {
            let path = spec.path();
            warnings.push(format!(
                "`{path}`: has no effect while `queue.mode` is \"{mode}\" ({origin})"
            ));
        }
    }
    let hold = settings.get(&daemon::ON_UNCERTAIN) == Some(OnUncertain::Hold);
    if mode == "direct" && hold {
        let spec = &daemon::ON_UNCERTAIN.spec;
        let message = "nothing can be set aside while `queue.mode` is \"direct\": a client whose \
                       message is uncertain is told to send it again; set \"retry\", or \
                       `queue.mode` to \"queue\"";
        faults.add(spec.path(), message, settings.given(spec));
    }
}

/// Workload identity sets `AZURE_AUTHORITY_HOST` to the cluster's cloud, whatever ours is.
fn foreign_login(settings: &Settings, warnings: &mut Vec<String>) {
    let spec = &office365::LOGIN_URL.spec;
    let (Some(origin), Some(url), Some(cloud)) = (
        settings.given(spec),
        settings.get(&office365::LOGIN_URL),
        settings.get(&office365::CLOUD),
    ) else {
        return;
    };
    let owner = Cloud::ALL.iter().find(|(_, other)| other.preset().login_url == url);
    if let Some((owner, _)) = owner.filter(|_| cloud.preset().login_url != url) {
        let (path, cloud) = (spec.path(), cloud.name());
        warnings.push(format!(
            "`{path}`: {url} belongs to cloud \"{owner}\", but `cloud` is \"{cloud}\" ({origin})"
        ));
    }
}

fn trust(settings: &Settings, faults: &mut Faults) -> Option<Arc<rustls::ClientConfig>> {
    let spec = &office365::CA_FILE.spec;
    match tls::client_config(settings.get(&office365::CA_FILE).as_deref()) {
        Ok(tls) => Some(tls),
        Err(error) => {
            faults.add(spec.path(), error.to_string(), settings.given(spec));
            None
        }
    }
}

fn build(
    settings: &Settings,
    tls: &Arc<rustls::ClientConfig>,
    warnings: Vec<String>,
) -> Option<Config> {
    Some(Config {
        listeners: listeners::build(settings)?,
        store: build_store(settings)?,
        token: build_token(settings, tls)?,
        delivery: build_delivery(settings, tls)?,
        queue: build_queue(settings)?,
        http: http::Config { address: settings.get(&daemon::HTTP_ADDRESS)? },
        telemetry: telemetry::Config {
            format: settings.get(&daemon::LOG_FORMAT)?,
            filter: settings.get(&daemon::LOG_LEVEL)?,
        },
        shutdown_grace: settings.get(&daemon::SHUTDOWN_GRACE)?,
        cloud: settings.get(&office365::CLOUD)?,
        ca_file: settings.get(&office365::CA_FILE),
        warnings,
    })
}

fn build_store(settings: &Settings) -> Option<store::Config> {
    Some(store::Config {
        directory: settings.get(&daemon::QUEUE_DIRECTORY)?,
        min_free_bytes: settings.get(&daemon::MIN_FREE_BYTES)?,
        max_messages: settings.get(&daemon::MAX_MESSAGES)?,
        history_keep: settings.get(&daemon::HISTORY_KEEP)?,
    })
}

fn build_token(settings: &Settings, tls: &Arc<rustls::ClientConfig>) -> Option<token::Config> {
    let credential = credential::build(settings)?;
    // A managed identity knows its own tenant and application.
    let or_none = |id: Option<String>| match credential {
        Credential::ManagedIdentity(_) => Some(id.unwrap_or_default()),
        _ => id,
    };
    let tenant_id = or_none(settings.get(&office365::TENANT_ID))?;
    let login_url = settings.get(&office365::LOGIN_URL)?;
    Some(token::Config {
        token_url: format!("{login_url}/{tenant_id}/oauth2/v2.0/token"),
        tenant_id,
        client_id: or_none(settings.get(&office365::CLIENT_ID))?,
        scope: settings.get(&office365::SCOPE)?,
        credential,
        client_secret_expires: settings.get(&office365::CLIENT_SECRET_EXPIRES),
        request_timeout: settings.get(&office365::TOKEN_TIMEOUT)?,
        tls: Arc::clone(tls),
    })
}

fn build_delivery(
    settings: &Settings,
    tls: &Arc<rustls::ClientConfig>,
) -> Option<delivery::Config> {
    Some(delivery::Config {
        host: settings.get(&office365::SMTP_HOST)?,
        port: settings.get(&office365::SMTP_PORT)?,
        ehlo_name: settings.get(&office365::EHLO_NAME)?,
        null_sender: settings.get(&office365::NULL_SENDER)?,
        max_messages_per_connection: settings.get(&office365::MAX_MESSAGES_PER_CONNECTION)?,
        idle_close: settings.get(&office365::IDLE_CLOSE)?,
        tls: Arc::clone(tls),
    })
}

fn build_queue(settings: &Settings) -> Option<queue::Config> {
    let pace = if settings.get(&office365::PACE)? {
        Pace::PerMinute(settings.get(&office365::MESSAGES_PER_MINUTE)?)
    } else {
        Pace::Unlimited
    };
    let lane = LaneConfig {
        mailbox: settings.get(&office365::MAILBOX)?,
        max_connections: settings.get(&office365::MAX_CONNECTIONS)?,
        recipients_per_day: match pace {
            Pace::PerMinute(_) => Some(settings.get(&office365::RECIPIENTS_PER_DAY)?),
            Pace::Unlimited => None,
        },
        pace,
    };
    Some(queue::Config {
        mode: settings.get(&daemon::QUEUE_MODE)?,
        direct: DirectConfig {
            wait: settings.get(&daemon::DIRECT_WAIT)?,
            spool_directory: settings.get(&daemon::SPOOL_DIRECTORY)?,
        },
        lanes: vec![lane],
        give_up_after: settings.get(&daemon::GIVE_UP_AFTER)?,
        on_uncertain: settings.get(&daemon::ON_UNCERTAIN)?,
        notices: queue::NoticeConfig {
            hostname: listeners::hostname(settings)?,
            to: settings.get(&notices::TO)?,
            delay_after: settings.get(&notices::DELAY_AFTER)?,
        },
    })
}
