//! TLS of a listener: what holds between its keys, and its settings.

use std::time::Duration;

use super::{
    fault::Faults,
    keys::listener as keys,
    layers::One,
    listeners::{add, warn},
    logins,
};
use crate::{
    clock::{Clock, UnixMillis},
    listener::{Address, Tls},
    tls::server::{PairFile, ServerTls},
};

/// An end that is nearer than this is worth a word.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The words of `tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    None,
    StartTls,
    Implicit,
}

/// Faults and warnings.
pub(super) fn check(one: One<'_>, faults: &mut Faults, warnings: &mut Vec<String>) {
    let Some(mode) = one.get(&keys::TLS) else { return };
    let (certificate, key) = (&keys::TLS_CERTIFICATE_FILE.spec, &keys::TLS_KEY_FILE.spec);
    match (mode, one.given(certificate), one.given(key)) {
        (Mode::None, ..) => without(one, warnings, faults),
        (_, Some(_), Some(_)) => files(one, faults, warnings),
        (_, Some(_), None) => {
            let key = one.slot(key).path();
            add(one, certificate, format!("it takes its private key too; set `{key}`"), faults);
        }
        (_, None, _) => {
            let certificate = one.slot(certificate).path();
            let message =
                format!("TLS takes a certificate; set `{certificate}` and `tls_key_file`");
            add(one, &keys::TLS.spec, message, faults);
        }
    }
}

fn without(one: One<'_>, warnings: &mut Vec<String>, faults: &mut Faults) {
    let explicit = one.given(&keys::TLS.spec).is_some();
    for spec in [&keys::TLS_CERTIFICATE_FILE.spec, &keys::TLS_KEY_FILE.spec] {
        match (one.given(spec), explicit) {
            (None, _) => {}
            (Some(_), true) => warn(one, spec, "has no effect while `tls` is \"none\"", warnings),
            // Only the key: with a certificate it would be STARTTLS.
            (Some(_), false) => {
                let certificate = one.slot(&keys::TLS_CERTIFICATE_FILE.spec).path();
                let message = format!("it takes its certificate too; set `{certificate}`");
                add(one, spec, message, faults);
            }
        }
    }
    if one.get(&keys::TLS_REQUIRED) == Some(true) {
        let message = "no client could send, as there is no TLS; set `tls_certificate_file` and \
                       `tls_key_file`";
        add(one, &keys::TLS_REQUIRED.spec, message.into(), faults);
    }
    let reachable =
        one.get(&keys::ADDRESSES).is_some_and(|addresses| !addresses.iter().all(Address::is_local));
    let login = one.get(&keys::AUTH).is_some_and(|mode| mode != logins::Mode::None);
    if login && reachable && one.get(&keys::AUTH_WITHOUT_TLS) != Some(true) {
        let text = "clients of other hosts cannot log in, as there is no TLS; set \
                    `tls_certificate_file` and `tls_key_file`, or `auth_without_tls = true`";
        warn(one, &keys::AUTH.spec, text, warnings);
    }
}

fn files(one: One<'_>, faults: &mut Faults, warnings: &mut Vec<String>) {
    let key = &keys::TLS_KEY_FILE;
    let certificate = &keys::TLS_CERTIFICATE_FILE.spec;
    match load(one) {
        Some(Err(error)) => {
            let spec = match error.file {
                PairFile::Certificate => certificate,
                PairFile::Key => &key.spec,
            };
            add(one, spec, error.to_string(), faults);
        }
        Some(Ok(tls)) => {
            if let Some(text) = not_valid(&tls, Clock::system().now()) {
                warn(one, certificate, &text, warnings);
            }
        }
        None => {}
    }
    if one.get(key).is_some_and(|path| logins::is_open_to_all(&path)) {
        warn(one, &key.spec, logins::OPEN_TO_ALL, warnings);
    }
}

/// A warning only: many devices do not look at the dates, and a relay that does not start after a
/// reboot takes no mail from any.
fn not_valid(tls: &ServerTls, now: UnixMillis) -> Option<String> {
    let (begin, end) = tls.validity()?;
    if now > end {
        let end = end.rfc3339();
        return Some(format!(
            "the certificate expired at {end}; clients that look at it will not send. Put a new \
             one and its key in place of the files"
        ));
    }
    if now < begin {
        let begin = begin.rfc3339();
        return Some(format!(
            "the certificate is not valid before {begin}, or the clock of this host is wrong; \
             clients that look at it will not send"
        ));
    }
    (now + SOON > end).then(|| {
        let end = end.rfc3339();
        format!("the certificate expires at {end}; put a new one and its key in place of the files")
    })
}

fn load(one: One<'_>) -> Option<Result<ServerTls, crate::tls::server::PairError>> {
    let (certificate, key) = (one.get(&keys::TLS_CERTIFICATE_FILE)?, one.get(&keys::TLS_KEY_FILE)?);
    Some(ServerTls::load(certificate, key))
}

/// Whether and when TLS begins.
pub(super) fn build(one: One<'_>) -> Option<Tls> {
    let mode = one.get(&keys::TLS)?;
    if mode == Mode::None {
        return Some(Tls::None);
    }
    let tls = load(one)?.ok()?;
    Some(if mode == Mode::Implicit { Tls::Implicit(tls) } else { Tls::StartTls(tls) })
}
