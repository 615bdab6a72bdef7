//! What all sessions of a listener use.

use std::sync::Arc;

use super::Config;
use crate::{
    clock::Clock,
    smtp::{reply::Reply, session::Rules},
    store::Store,
};

/// The settings, the store to hand mail to, and the clock.
pub(super) struct Shared {
    pub config: Config,
    pub rules: Arc<Rules>,
    pub store: Store,
    pub clock: Clock,
}

impl Shared {
    pub fn new(config: Config, store: Store, clock: Clock) -> Self {
        let rules = Arc::new(config.rules());
        Self { config, rules, store, clock }
    }

    /// Asked at MAIL: a full or poisoned store takes no mail now.
    pub fn admission(&self) -> Option<Reply> {
        let fault = self.store.admission().err()?;
        tracing::warn!(error = %fault, "mail refused for the time being");
        Some(fault.reply())
    }
}
