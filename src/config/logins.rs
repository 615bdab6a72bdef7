//! Who logs in to a listener: what holds between the keys of AUTH, and its settings.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use config::ValueKind;

use super::{
    fault::Faults,
    keys::listener as keys,
    kinds::{Mismatch, Parsed},
    layers::One,
    listeners::{self, warn},
};
use crate::listener::{Address, Auth, UserSource, Users};

/// The words of `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    None,
    Any,
    Users,
}

/// A list of `name:hash`; in text the entries have blanks between them, since a hash has commas.
pub(super) fn users(value: &ValueKind) -> Parsed<Users> {
    let lines = match value {
        ValueKind::String(text) => text.split_whitespace().collect::<Vec<_>>().join("\n"),
        ValueKind::Array(items) => {
            let line = |item: &config::Value| match &item.kind {
                ValueKind::String(text) => text.replace('\n', " "),
                _ => String::new(),
            };
            // What is no text is an entry without a colon, which has its message.
            let lines =
                items.iter().map(line).map(|line| if line.is_empty() { "?".into() } else { line });
            lines.collect::<Vec<_>>().join("\n")
        }
        _ => return Err(Mismatch("expected a list of \"name:hash\"".into())),
    };
    Users::parse(&lines).map_err(|fault| Mismatch(fault.to_string()))
}

/// Faults and warnings.
pub(super) fn check(one: One<'_>, faults: &mut Faults, warnings: &mut Vec<String>) {
    let Some(mode) = one.get(&keys::AUTH) else { return };
    let sources = [&keys::USERS.spec, &keys::USERS_FILE.spec];
    let given: Vec<_> = sources.into_iter().filter(|spec| one.given(spec).is_some()).collect();
    match (mode, &given[..]) {
        (Mode::Users, []) => {
            let users = one.slot(&keys::USERS.spec).path();
            let message = format!(
                "nobody could log in; set `{users}` or `users_file`, with hashes from \
                 `o365-relay hash-password`"
            );
            listeners::add(one, &keys::AUTH.spec, message, faults);
        }
        (Mode::Users, [_, _]) => {
            let message = "set together with `users_file`; keep one of them".into();
            listeners::add(one, &keys::USERS.spec, message, faults);
        }
        (Mode::Users, _) => file(one, faults, warnings),
        (Mode::None | Mode::Any, given) => {
            for spec in given {
                warn(one, spec, "has no effect unless `auth` is \"users\"", warnings);
            }
        }
    }
    if mode == Mode::Any {
        let text = "every name and password is taken; `allow` alone says who may send";
        warn(one, &keys::AUTH.spec, text, warnings);
    }
    in_the_clear(one, mode, warnings);
}

fn file(one: One<'_>, faults: &mut Faults, warnings: &mut Vec<String>) {
    let Some(path) = one.get(&keys::USERS_FILE) else { return };
    if let Err(fault) = Users::read(&path) {
        listeners::add(one, &keys::USERS_FILE.spec, fault.to_string(), faults);
    }
    if is_open_to_all(&path) {
        warn(one, &keys::USERS_FILE.spec, OPEN_TO_ALL, warnings);
    }
}

/// What is said of a file with secrets that is.
pub(super) const OPEN_TO_ALL: &str = "every user of this host can read the file; set its mode to 0640 \
                           with the service's group, or to 0600";

/// Whether users that are neither the owner nor in the group can read the file.
pub(super) fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0)
}

/// From other hosts, a login takes TLS or the consent to do without.
fn in_the_clear(one: One<'_>, mode: Mode, warnings: &mut Vec<String>) {
    let reachable =
        one.get(&keys::ADDRESSES).is_some_and(|addresses| !addresses.iter().all(Address::is_local));
    let consents = one.get(&keys::AUTH_WITHOUT_TLS) == Some(true);
    if mode == Mode::None || !reachable {
        return;
    }
    if consents {
        let text = "passwords from other hosts may cross the network unprotected";
        warn(one, &keys::AUTH_WITHOUT_TLS.spec, text, warnings);
    }
}

/// How clients log in.
pub(super) fn build(one: One<'_>) -> Option<Auth> {
    Some(match one.get(&keys::AUTH)? {
        Mode::None => Auth::None,
        Mode::Any => Auth::Any,
        Mode::Users => Auth::Users(match one.get(&keys::USERS_FILE) {
            Some(path) => UserSource::File(path),
            None => UserSource::List(one.get(&keys::USERS)?),
        }),
    })
}
