//! The doors that are open, and what takes their place when the settings change.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use tokio_util::sync::CancellationToken;

use super::{Direct, door::Door};
use crate::queue::heir::key;

#[derive(Default)]
pub(super) struct Doors {
    /// By the name of the lane.
    pub open: HashMap<String, Arc<Door>>,
    /// Those of settings before, until others take over from them, by the mailbox in lower case.
    pub before: HashMap<String, Arc<Door>>,
}

impl Doors {
    /// Those that others take over from. What nobody has taken over yet goes on to the next, as
    /// long as it counts.
    pub fn to_be_followed(&self) -> Self {
        let before = self.before.iter().filter(|(_, door)| door.counts());
        let before = before.map(|(name, door)| (name.clone(), Arc::clone(door)));
        let open = self.open.iter().map(|(name, door)| (key(name), Arc::clone(door)));
        Self { before: before.chain(open).collect(), open: HashMap::new() }
    }
}

/// Where messages go once the settings have changed.
#[derive(Default)]
pub(super) struct Next {
    pub direct: OnceLock<Direct>,
    /// Its doors are open.
    pub is_there: CancellationToken,
}
