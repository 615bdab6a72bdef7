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
    routes::{self, Accounts},
};
use crate::{
    http,
    queue::{self, DirectConfig, Mode, OnUncertain, Route, SenderConfig},
    store::{self, Surroundings},
    telemetry,
};

/// Builds the configuration; `None` when there are faults, old or new.
pub(super) fn check(
    settings: &Settings,
    surroundings: Surroundings,
    faults: &mut Faults,
) -> Option<Config> {
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
    mode(settings, faults, &mut warnings);
    let accounts = routes::check(settings, faults, &mut warnings);
    if !faults.is_empty() {
        return None;
    }
    let config = build(settings, surroundings, accounts?, warnings);
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

fn build(
    settings: &Settings,
    surroundings: Surroundings,
    accounts: Accounts,
    warnings: Vec<String>,
) -> Option<Config> {
    let Accounts { token, delivery, others, routes } = accounts;
    Some(Config {
        listeners: listeners::build(settings)?,
        store: build_store(settings)?,
        ephemeral: settings.get(&daemon::EPHEMERAL)?,
        surroundings,
        token,
        delivery,
        other_accounts: others,
        queue: build_queue(settings, routes)?,
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

fn build_queue(settings: &Settings, routes: Vec<Route>) -> Option<queue::Config> {
    Some(queue::Config {
        mode: settings.get(&daemon::QUEUE_MODE)?,
        direct: DirectConfig {
            wait: settings.get(&daemon::DIRECT_WAIT)?,
            spool_directory: settings.get(&daemon::SPOOL_DIRECTORY)?,
        },
        routes,
        sender: SenderConfig {
            map: Arc::new(routes::sender_map(settings)),
            rewrite: settings.get(&office365::SENDER_REWRITE)?,
        },
        max_connections: settings.get(&daemon::MAX_UPSTREAM)?,
        give_up_after: settings.get(&daemon::GIVE_UP_AFTER)?,
        on_uncertain: settings.get(&daemon::ON_UNCERTAIN)?,
        notices: queue::NoticeConfig {
            hostname: listeners::hostname(settings)?,
            to: settings.get(&notices::TO)?,
            delay_after: settings.get(&notices::DELAY_AFTER)?,
        },
    })
}
