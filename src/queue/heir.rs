//! New settings for lanes that run: others take their place, and remember what must not be
//! forgotten.

use std::{collections::HashMap, sync::Arc};

use super::{
    LaneConfig, SenderConfig,
    runner::Queue,
    shared::{Accounts, LaneState},
};
use crate::clock::Clock;

/// The lanes that others take over from.
#[derive(Default)]
pub struct Before {
    accounts: Option<Accounts>,
    lanes: HashMap<String, Arc<LaneState>>,
    pauses: bool,
}

impl Before {
    /// The lanes of `queue`, which have come to their end, or do so while the others begin. With
    /// `pauses` these last: their causes are none that the settings have changed.
    #[must_use]
    pub fn of(queue: &Queue, pauses: bool) -> Self {
        let lanes = queue.lanes.all().into_iter();
        let lanes = lanes.map(|lane| (lane.config.mailbox.clone(), lane)).collect();
        Self { accounts: Some(queue.accounts.clone()), lanes, pauses }
    }

    pub(super) fn lane(
        &self,
        config: LaneConfig,
        sender: &SenderConfig,
        clock: Clock,
    ) -> Arc<LaneState> {
        let before = self.lanes.get(&config.mailbox);
        let lane = LaneState::new(config, sender, clock);
        Arc::new(match before {
            Some(before) => lane.succeed(before, self.pauses),
            None => lane,
        })
    }

    pub(super) fn pass_on(&self, accounts: &Accounts) {
        let Some(before) = self.accounts.as_ref().filter(|_| self.pauses) else { return };
        for account in accounts.all() {
            if let Some(before) = before.all().find(|before| before.name == account.name) {
                account.gate.succeed(&before.gate);
            }
        }
    }
}
