//! From values that hold to a checked configuration: each key on its own, then the keys
//! against each other, then the parts.

use std::sync::Arc;

use super::{
    Config, credential,
    fault::Faults,
    keys::{self, AnyKey, Default, daemon, listener as listener_keys, notices, office365},
    kinds::Mismatch,
    layers::Settings,
};
use crate::{
    delivery, http, listener,
    office365::clouds::Cloud,
    queue::{self, DirectConfig, LaneConfig, Mode, OnUncertain, Pace},
    store, telemetry, tls,
    token::{self, Credential},
};

/// Builds the configuration; `None` when there are faults, old or new.
pub(super) fn check(settings: &Settings, faults: &mut Faults) -> Option<Config> {
    for key in keys::table() {
        let spec = key.spec();
        let Some(found) = settings.effective(spec) else { continue };
        if let Err(Mismatch(message)) = key.check(&found.value) {
            faults.add(spec.path(), message, settings.given(spec));
        }
    }
    if !settings.broken_file {
        missing(settings, faults);
    }
    let mut warnings = Vec::new();
    reachable_listener(settings, faults);
    credential::check(settings, faults, &mut warnings);
    pace(settings, &mut warnings);
    mode(settings, faults, &mut warnings);
    wide_open(settings, &mut warnings);
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

/// Nobody becomes an open relay by accident.
fn reachable_listener(settings: &Settings, faults: &mut Faults) {
    if settings.given(&listener_keys::ALLOW.spec).is_some() {
        return;
    }
    let addresses = settings.get(&listener_keys::ADDRESSES).unwrap_or_default();
    if let Some(address) = addresses.iter().find(|address| !address.ip().is_loopback()) {
        let spec = &listener_keys::ADDRESSES.spec;
        let message = format!(
            "other hosts can reach {address}, and nothing says which of them may send; set \
             `listener.allow`, such as [\"127.0.0.0/8\", \"::1/128\", \"10.1.2.0/24\"]"
        );
        faults.add(spec.path(), message, settings.given(spec));
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

fn wide_open(settings: &Settings, warnings: &mut Vec<String>) {
    let spec = &listener_keys::ALLOW.spec;
    let networks = settings.get(&listener_keys::ALLOW).unwrap_or_default();
    if let Some(network) = networks.iter().find(|network| network.prefix_len() == 0) {
        let (path, origin) = (spec.path(), settings.given(spec).unwrap_or_default());
        warnings.push(format!(
            "`{path}`: {network} lets every host send that can reach a listener ({origin})"
        ));
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
        listener: build_listener(settings)?,
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
        warnings,
    })
}

fn build_listener(settings: &Settings) -> Option<listener::Config> {
    Some(listener::Config {
        addresses: settings.get(&listener_keys::ADDRESSES)?,
        allow: settings.get(&listener_keys::ALLOW)?,
        hostname: settings.get(&listener_keys::HOSTNAME)?,
        default_domain: settings.get(&listener_keys::DEFAULT_DOMAIN),
        fallback_from: settings.get(&office365::MAILBOX)?,
        max_message_size: settings.get(&listener_keys::MAX_MESSAGE_SIZE)?,
        max_recipients: settings.get(&listener_keys::MAX_RECIPIENTS)?,
        max_connections: settings.get(&listener_keys::MAX_CONNECTIONS)?,
        max_connections_per_client: settings.get(&listener_keys::MAX_CONNECTIONS_PER_CLIENT)?,
        command_timeout: settings.get(&listener_keys::COMMAND_TIMEOUT)?,
        data_timeout: settings.get(&listener_keys::DATA_TIMEOUT)?,
        session_timeout: settings.get(&listener_keys::SESSION_TIMEOUT)?,
        min_data_rate: settings.get(&listener_keys::MIN_DATA_RATE)?,
        max_faults: settings.get(&listener_keys::MAX_FAULTS)?,
        bare_line_feed: settings.get(&listener_keys::BARE_LINE_FEED)?,
        sender_allow: settings.get(&office365::SENDER_ALLOW)?,
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
            hostname: settings.get(&listener_keys::HOSTNAME)?,
            to: settings.get(&notices::TO)?,
            delay_after: settings.get(&notices::DELAY_AFTER)?,
        },
    })
}
