//! `[[route]]`: senders that go another way. A route has every key of `[office365]` besides its
//! own, and the values of `[office365]` for those that it does not set.

use std::sync::LazyLock;

use config::ValueKind;

use super::{AnyKey, Default::Nothing, Key, Spec, office365};
use crate::{
    config::kinds::{self, Parsed},
    smtp::path::SenderPattern,
};

pub(in crate::config) const ROUTE: &str = "route";

pub(in crate::config) static KEYS: &[&dyn AnyKey] = &[&SENDERS];

pub(in crate::config) static SENDERS: Key<Vec<SenderPattern>> = Key::new(
    ROUTE,
    "senders",
    Nothing { sample: "*@fabrikam.com" },
    "Whose mail takes this route: a list of addresses and patterns such as \"*@fabrikam.com\". \
     Required in each.",
    kinds::sender_patterns,
);

/// A key of `[office365]`, in a route.
struct Twin {
    spec: Spec,
    of: &'static dyn AnyKey,
}

impl AnyKey for Twin {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn check(&self, value: &ValueKind) -> Parsed<()> {
        self.of.check(value)
    }
}

static TWINS: LazyLock<Vec<Twin>> = LazyLock::new(|| {
    let keys = office365::KEYS.iter().filter(|key| key.spec().section == office365::OFFICE365);
    let twin = |key: &&'static dyn AnyKey| {
        let Spec { name, secret, doc, .. } = *key.spec();
        let default = Nothing { sample: "" };
        let (section, fallback, restart) = (ROUTE, None, false);
        Twin { spec: Spec { section, name, default, secret, fallback, restart, doc }, of: *key }
    };
    keys.map(twin).collect()
});

/// The keys of `[office365]`, as a route has them.
pub(in crate::config) fn twins() -> impl Iterator<Item = &'static dyn AnyKey> {
    TWINS.iter().map(|twin| twin as &dyn AnyKey)
}
