//! Values of labels. There is a series for each, so that their number has to be known beforehand:
//! lanes and listeners come from the configuration and are shown by name up to a bound, accounts are
//! sections of the configuration, causes are fixed sets.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

use super::{
    Counter, catalogue,
    causes::{Cut, Deferred, Failed, NoEntry, NoToken, NotStored, NoticeKind, Refused},
};
use crate::office365::replies::PauseRule;

/// What lanes and listeners beyond the bound are shown as, all together.
pub const OTHER: &str = "other";

/// Lanes shown by name, and listeners. A lane has some fifty series: with all of a thousand
/// mailboxes by name each look would bring a megabyte or more.
const MOST_NAMES: usize = 100;

/// Stands for the way to the smarthost, which all lanes use; of several accounts, `all of` and the
/// name of one. No mailbox is called like that.
const ALL_LANES: &str = "all";
const ALL_OF: &str = "all of ";

/// Names that have a series of their own, in the order in which they came.
struct Names(LazyLock<Mutex<HashSet<String>>>);

impl Names {
    const fn new() -> Self {
        Self(LazyLock::new(Mutex::default))
    }

    /// The name, if there is room for it or it is known.
    fn label(&self, name: &str) -> String {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            return name.to_owned();
        }
        if names.len() >= MOST_NAMES {
            return OTHER.to_owned();
        }
        names.insert(name.to_owned());
        name.to_owned()
    }
}

static LANES: Names = Names::new();
static LISTENERS: Names = Names::new();

/// How a lane is shown: by its name, as long as there are not too many.
#[must_use]
pub fn lane(name: &str) -> String {
    if name == ALL_LANES || name.starts_with(ALL_OF) {
        return name.to_owned();
    }
    LANES.label(name)
}

/// How a listener is shown.
pub(crate) fn listener(name: &str) -> String {
    LISTENERS.label(name)
}

/// Shows zero for each cause of a set, so that the first one is seen as a change.
fn exist(counter: &Counter, before: &[&str], causes: &[(&str, &str)]) {
    for (cause, _) in causes {
        let values: Vec<_> = before.iter().copied().chain([*cause]).collect();
        counter.exist(&values);
    }
}

/// What there is one of for the whole process.
pub(super) fn know_the_rest() {
    exist(&catalogue::NOTICES_QUEUED, &[], NoticeKind::ALL);
    exist(&catalogue::STORE_REFUSALS, &[], NotStored::ALL);
    catalogue::PANICS.exist(&[]);
}

/// The way to the smarthost of all accounts (`all`) or of one of them (`all of NAME`): its counters
/// show zero from now on.
pub fn know_smarthost(name: &str) {
    exist(&catalogue::PAUSES, &[&lane(name)], PauseRule::KINDS);
}

/// An account whose tokens are asked for, without a name if it is the only one.
pub fn know_account(name: &str) {
    catalogue::TOKEN_REFRESHES.exist(&[name]);
    exist(&catalogue::TOKEN_FAILURES, &[name], NoToken::ALL);
}

/// A lane of the configuration: its counters show zero from now on. Lanes that are known first are
/// those that are shown by name.
pub fn know_lane(name: &str) {
    let lane: &str = &lane(name);
    catalogue::RECIPIENTS_RELAYED.exist(&[lane]);
    catalogue::MESSAGES_SET_ASIDE.exist(&[lane]);
    exist(&catalogue::RECIPIENTS_DEFERRED, &[lane], Deferred::ALL);
    exist(&catalogue::RECIPIENTS_FAILED, &[lane], Failed::ALL);
    exist(&catalogue::PAUSES, &[lane], PauseRule::KINDS);
}

/// A listener of the configuration and its `max_connections`.
pub fn know_listener(name: &str, max_connections: usize) {
    let listener: &str = &listener(name);
    catalogue::CONNECTIONS_LIMIT.set(&[listener], max_connections);
    catalogue::CONNECTIONS.add(&[listener], 0);
    for counter in [
        &catalogue::MESSAGES_ACCEPTED,
        &catalogue::ACCEPTED_BYTES,
        &catalogue::RECIPIENTS_ACCEPTED,
        &catalogue::CONNECTIONS_ACCEPTED,
    ] {
        counter.exist(&[listener]);
    }
    exist(&catalogue::CONNECTIONS_REFUSED, &[listener], NoEntry::ALL);
    exist(&catalogue::SESSIONS_CUT, &[listener], Cut::ALL);
    exist(&catalogue::CLIENT_REFUSALS, &[listener], Refused::ALL);
}
