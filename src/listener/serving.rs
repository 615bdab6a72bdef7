//! The listeners while they are served: their settings can change under way. Sessions that have
//! begun keep those that they began with.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Config, accept::Door, limits::Limits};
use crate::telemetry::metrics;

/// Where the sockets of one listener find their door.
#[derive(Clone)]
pub(super) struct Doorway(Arc<RwLock<Door>>);

impl Doorway {
    pub fn new(door: Door) -> Self {
        Self(Arc::new(RwLock::new(door)))
    }

    /// The door that is there now.
    pub fn door(&self) -> Door {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The listeners that are served.
pub struct Serving {
    doorways: Vec<Doorway>,
    limits: Limits,
}

impl Serving {
    pub(super) fn new(doorways: Vec<Doorway>, limits: Limits) -> Self {
        Self { doorways, limits }
    }

    /// Who connects from here on finds these settings. Addresses, names and the modes of Unix
    /// sockets stay as they are; where `configs` has other addresses than those that are listened
    /// on, nothing but which senders are taken changes.
    pub fn change(&self, configs: Vec<Config>) {
        let doors: Vec<_> = self.doorways.iter().map(Doorway::door).collect();
        let same =
            |(door, config): (&Door, &Config)| door.shared.config.addresses == config.addresses;
        let all_same = doors.len() == configs.len() && doors.iter().zip(&configs).all(same);
        let Some(first) = configs.first().cloned() else { return };
        let mut configs = configs.into_iter();
        for (number, door) in doors.into_iter().enumerate() {
            let old = &door.shared.config;
            let config = match configs.next().filter(|_| all_same) {
                Some(config) => Config { name: old.name.clone(), ..config },
                None => Config {
                    sender_allow: first.sender_allow.clone(),
                    sender_map: Arc::clone(&first.sender_map),
                    fallback_from: first.fallback_from.clone(),
                    ..old.clone()
                },
            };
            self.put(number, &door, config);
        }
    }

    fn put(&self, number: usize, door: &Door, config: Config) {
        let Some(doorway) = self.doorways.get(number) else { return };
        metrics::know_listener(&config.name, config.max_connections);
        let room =
            self.limits.room(number, config.max_connections, config.max_connections_per_client);
        let shared = Arc::new(door.shared.with(config));
        let door = Door { shared, room, drain: door.drain.clone() };
        *doorway.0.write().unwrap_or_else(PoisonError::into_inner) = door;
    }

    /// The reverse-path that the mail of each gets, where it is fixed.
    #[must_use]
    pub fn senders(&self) -> Vec<Option<String>> {
        let sender = |doorway: &Doorway| {
            doorway.door().shared.config.sender.as_ref().map(ToString::to_string)
        };
        self.doorways.iter().map(sender).collect()
    }
}
