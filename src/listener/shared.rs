//! What all sessions of a listener use.

use std::sync::Arc;

use super::{
    Config,
    outlet::{Outlet, Refusal},
};
use crate::{
    clock::Clock,
    smtp::{reply::Reply, session::Rules},
};

/// The settings, where finished mail goes, and the clock.
pub(super) struct Shared {
    pub config: Config,
    pub rules: Arc<Rules>,
    pub outlet: Arc<dyn Outlet>,
    pub clock: Clock,
}

impl Shared {
    pub fn new(config: Config, outlet: Arc<dyn Outlet>, clock: Clock) -> Self {
        let rules = Arc::new(config.rules());
        Self { config, rules, outlet, clock }
    }

    /// Asked at MAIL: there may be no place for mail now.
    pub fn admission(&self) -> Option<Reply> {
        self.outlet.admission().err().map(Refusal::into_reply)
    }
}
