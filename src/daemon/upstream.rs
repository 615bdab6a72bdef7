//! Direct mode: the outlet that sends mail on while its client waits.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    delivery::smarthost::Taken,
    drain::Drain,
    listener::{Accepted, Evidence, Gone, HandOver, Outlet, Refusal},
    queue::direct::Direct,
    smtp::reply::{EnhancedStatusCode, Reply},
    store::{Arrival, Desk, Draft, Entry, Filter, Transit},
};

/// Hands mail straight to upstream; a message that does not fit into memory lies in `transit`.
pub(super) struct DirectOutlet {
    transit: Transit,
    now: RwLock<Arc<InUse>>,
}

/// What sends, until nobody waits at it any more.
struct InUse {
    direct: Direct,
    drain: Drain,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.drain.signal();
    }
}

impl DirectOutlet {
    /// `drain` ends what `direct` runs.
    pub fn new(transit: Transit, direct: Direct, drain: Drain) -> Self {
        Self { transit, now: RwLock::new(Arc::new(InUse { direct, drain })) }
    }

    /// What sends now.
    pub fn direct(&self) -> Direct {
        self.in_use().direct.clone()
    }

    /// Messages from here on go by another way. Those that are under way come to their end by the
    /// old one.
    pub fn change(&self, direct: Direct, drain: Drain) {
        let next = Arc::new(InUse { direct, drain });
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn in_use(&self) -> Arc<InUse> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Upstream's words, behind 250 whatever its second and third digit were.
impl Evidence for Taken {
    fn reply(&self) -> Reply {
        let reply = self.reply();
        let status = reply.enhanced().filter(|status| status.0 == 2);
        let lines: Vec<_> = reply.lines().map(str::to_owned).collect();
        Reply::wrapped(250, status.unwrap_or(EnhancedStatusCode(2, 0, 0)), &lines)
    }
}

impl Outlet for DirectOutlet {
    fn admission(&self) -> Result<(), Refusal> {
        self.in_use().direct.admission().map_err(Refusal::new)
    }

    fn draft(&self) -> Draft {
        self.transit.draft()
    }

    fn hand_over<'a>(&'a self, draft: Draft, arrival: Arrival, gone: Gone<'a>) -> HandOver<'a> {
        Box::pin(async move {
            let entry = Entry::passing(draft.id(), draft.size(), arrival);
            let body = draft.into_passing().await.map_err(|fault| {
                tracing::error!(error = %fault, "message not kept until it is sent");
                Refusal::new(fault.reply())
            })?;
            let in_use = self.in_use();
            let taken = in_use.direct.relay(entry, body, gone).await.map_err(Refusal::new)?;
            Ok(Accepted::on(&taken))
        })
    }
}

/// Messages counted at most.
const COUNTED: u64 = 10_000;

/// Says so if a queue of earlier times still holds mail, which nobody sends in direct mode. Looks
/// only; blocks.
pub(super) fn look_for_a_queue(directory: &Path) {
    let Ok(desk) = Desk::open(directory) else { return };
    let filter = Filter { limit: Some(COUNTED), ..Filter::default() };
    let messages: usize = desk.ids(&filter).map_while(Result::ok).map(|page| page.len()).sum();
    if messages > 0 {
        tracing::warn!(
            messages,
            directory = %directory.display(),
            "a queue of earlier times holds mail that is not sent in direct mode; \
             run once with queue.mode = \"queue\" to send it"
        );
    }
}
