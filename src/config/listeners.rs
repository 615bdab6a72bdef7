//! The listeners: what holds between their keys, and between them, and their settings.

use std::sync::Arc;

use super::{
    encryption,
    fault::Faults,
    keys::{Spec, listener as keys, office365},
    layers::{One, Settings},
    logins, routes,
};
use crate::listener::{self, Address};

const SECTION: &str = "listener";

/// Faults and warnings.
pub(super) fn check(settings: &Settings, faults: &mut Faults, warnings: &mut Vec<String>) {
    for one in settings.each(SECTION) {
        own_addresses(one, faults);
        reachable(one, faults);
        wide_open(one, warnings);
        one_client_takes_all(one, warnings);
        sender_is_taken(settings, one, faults);
        logins::check(one, faults, warnings);
        encryption::check(one, faults, warnings);
    }
    overlaps(settings, faults);
    same_names(settings, faults);
    without_effect(settings, warnings);
}

/// The addresses of listeners that ask for neither TLS nor a login.
pub(super) fn plain_addresses(settings: &Settings) -> Vec<Address> {
    let plain = |one: &One<'_>| {
        one.get(&keys::AUTH) != Some(logins::Mode::Users)
            && one.get(&keys::TLS) != Some(encryption::Mode::Implicit)
            && one.get(&keys::TLS_REQUIRED) != Some(true)
    };
    let listeners = settings.each(SECTION).into_iter().filter(plain);
    listeners.filter_map(|one| one.get(&keys::ADDRESSES)).flatten().collect()
}

/// One of several cannot have the default, or that of all: only one would get it.
fn own_addresses(one: One<'_>, faults: &mut Faults) {
    let slot = one.slot(&keys::ADDRESSES.spec);
    if slot.number.is_some() && one.own(slot.spec).is_none() {
        let message = "required: each of several listeners names its own";
        faults.add(slot.path(), message, one.origin());
    }
}

/// Nobody becomes an open relay by accident.
fn reachable(one: One<'_>, faults: &mut Faults) {
    if one.given(&keys::ALLOW.spec).is_some() {
        return;
    }
    let addresses = one.get(&keys::ADDRESSES).unwrap_or_default();
    if let Some(address) = addresses.iter().find(|address| !address.is_local()) {
        let allow = one.slot(&keys::ALLOW.spec).path();
        let message = format!(
            "other hosts can reach {address}, and nothing says which of them may send; set \
             `{allow}`, such as [\"127.0.0.0/8\", \"::1/128\", \"10.1.2.0/24\"]"
        );
        add(one, &keys::ADDRESSES.spec, message, faults);
    }
}

fn wide_open(one: One<'_>, warnings: &mut Vec<String>) {
    let widest = |networks: Vec<ipnet::IpNet>| {
        networks.into_iter().find(|network| network.prefix_len() == 0)
    };
    if let Some(network) = one.get(&keys::ALLOW).and_then(widest) {
        let text = format!("{network} lets every host send that can reach a listener");
        warn(one, &keys::ALLOW.spec, &text, warnings);
    }
    if let Some(network) = one.get(&keys::PROXY_PROTOCOL).and_then(widest) {
        let text = format!("{network} lets every host name itself as it likes");
        warn(one, &keys::PROXY_PROTOCOL.spec, &text, warnings);
    }
}

/// On loopback there may well be one client only.
fn one_client_takes_all(one: One<'_>, warnings: &mut Vec<String>) {
    let (most, share) =
        (one.get(&keys::MAX_CONNECTIONS), one.get(&keys::MAX_CONNECTIONS_PER_CLIENT));
    let addresses = one.get(&keys::ADDRESSES).unwrap_or_default();
    let (Some(most), Some(share)) = (most, share) else { return };
    if share >= most && !addresses.iter().all(Address::is_local) {
        let per_client = one.slot(&keys::MAX_CONNECTIONS_PER_CLIENT.spec).path();
        let text = format!("one client can take all {most}, as `{per_client}` is {share}");
        warn(one, &keys::MAX_CONNECTIONS.spec, &text, warnings);
    }
}

fn sender_is_taken(settings: &Settings, one: One<'_>, faults: &mut Faults) {
    let allowed = settings.get(&office365::SENDER_ALLOW).unwrap_or_default();
    let Some(sender) = one.get(&keys::SENDER) else { return };
    let sender = routes::sender_map(settings).get(&sender).cloned().unwrap_or(sender);
    if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.matches(&sender)) {
        let message = format!(
            "{sender} is not in `sender.allow`, so that every message would be refused; add it \
             there"
        );
        add(one, &keys::SENDER.spec, message, faults);
    }
}

fn overlaps(settings: &Settings, faults: &mut Faults) {
    let mut seen: Vec<(Address, One<'_>)> = Vec::new();
    for one in settings.each(SECTION) {
        if one.own(&keys::ADDRESSES.spec).is_none() {
            continue;
        }
        for address in one.get(&keys::ADDRESSES).unwrap_or_default() {
            if let Some((other, of)) = seen.iter().find(|(other, _)| other.overlaps(&address)) {
                let of = of.slot(&keys::ADDRESSES.spec).path();
                let message =
                    format!("{address} overlaps with {other} of `{of}`; keep one of them");
                add(one, &keys::ADDRESSES.spec, message, faults);
            }
            seen.push((address, one));
        }
    }
}

fn same_names(settings: &Settings, faults: &mut Faults) {
    let mut seen: Vec<(String, One<'_>)> = Vec::new();
    for one in settings.each(SECTION) {
        let given = one.own(&keys::NAME.spec).is_some_and(|name| name.given().is_some());
        let Some(name) = one.get(&keys::NAME).filter(|_| given) else { continue };
        if let Some((_, other)) = seen.iter().find(|(other, _)| *other == name) {
            let message = format!("`{}` is called \"{name}\" too", other.path());
            add(one, &keys::NAME.spec, message, faults);
        }
        seen.push((name, one));
    }
}

/// A key without a number is for listeners that do not set it themselves, unlike elsewhere, where
/// the environment comes before the file.
fn without_effect(settings: &Settings, warnings: &mut Vec<String>) {
    let each = settings.each(SECTION);
    let Some(first) = each.first().filter(|_| each.len() > 1) else { return };
    for (slot, found) in settings.slots() {
        let Some(origin) = found.given().filter(|_| slot.number.is_none()) else { continue };
        if slot.spec.section == SECTION && each.iter().all(|one| one.own(slot.spec).is_some()) {
            let (path, numbered) = (slot.path(), first.slot(slot.spec).path());
            warnings.push(format!(
                "`{path}`: has no effect, as each of the listeners sets its own; set it for one of \
                 them, such as `{numbered}` ({origin})"
            ));
        }
    }
}

pub(super) fn add(one: One<'_>, spec: &'static Spec, message: String, faults: &mut Faults) {
    faults.add(one.slot(spec).path(), message, one.given(spec));
}

pub(super) fn warn(one: One<'_>, spec: &'static Spec, text: &str, warnings: &mut Vec<String>) {
    let (path, origin) = (one.slot(spec).path(), one.given(spec).unwrap_or("default"));
    warnings.push(format!("`{path}`: {text} ({origin})"));
}

/// Our name in notices: that of the first listener.
pub(super) fn hostname(settings: &Settings) -> Option<String> {
    settings.each(SECTION).first()?.get(&keys::HOSTNAME)
}

/// The settings of each listener; `None` if a key has no value, which the table rules out.
pub(super) fn build(settings: &Settings) -> Option<Vec<listener::Config>> {
    settings.each(SECTION).into_iter().map(|one| build_one(settings, one)).collect()
}

fn build_one(settings: &Settings, one: One<'_>) -> Option<listener::Config> {
    Some(listener::Config {
        name: one.get(&keys::NAME)?,
        keys: one.path(),
        addresses: one.get(&keys::ADDRESSES)?,
        unix_mode: one.get(&keys::UNIX_MODE)?,
        allow: one.get(&keys::ALLOW)?,
        proxy_protocol: one.get(&keys::PROXY_PROTOCOL)?,
        sender: one.get(&keys::SENDER),
        hostname: one.get(&keys::HOSTNAME)?,
        default_domain: one.get(&keys::DEFAULT_DOMAIN),
        fallback_from: routes::fallback_from(settings)?,
        add_from: one.get(&keys::ADD_FROM)?,
        max_message_size: one.get(&keys::MAX_MESSAGE_SIZE)?,
        max_recipients: one.get(&keys::MAX_RECIPIENTS)?,
        max_connections: one.get(&keys::MAX_CONNECTIONS)?,
        max_connections_per_client: one.get(&keys::MAX_CONNECTIONS_PER_CLIENT)?,
        command_timeout: one.get(&keys::COMMAND_TIMEOUT)?,
        data_timeout: one.get(&keys::DATA_TIMEOUT)?,
        session_timeout: one.get(&keys::SESSION_TIMEOUT)?,
        min_data_rate: one.get(&keys::MIN_DATA_RATE)?,
        max_faults: one.get(&keys::MAX_FAULTS)?,
        bare_line_feed: one.get(&keys::BARE_LINE_FEED)?,
        sender_allow: settings.get(&office365::SENDER_ALLOW)?,
        auth: logins::build(one)?,
        auth_without_tls: one.get(&keys::AUTH_WITHOUT_TLS)?,
        tls: encryption::build(one)?,
        tls_required: one.get(&keys::TLS_REQUIRED)?,
        sender_map: Arc::new(routes::sender_map(settings)),
    })
}
