//! The senders that a mailbox may not send as: their mail waits, that of others goes on.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::pause::{Cause, Gate, Passage, Pause};
use crate::{
    clock::Clock,
    office365::replies::PauseRule,
    telemetry::events::{Paused, Resumed},
};

/// A gate for each sender that the mailbox may not send as. Repeating the same refusal would
/// make Exchange block the mailbox for all senders.
#[derive(Debug)]
pub(super) struct Senders {
    /// The lane that they send through.
    lane: String,
    clock: Clock,
    /// By reverse-path in lower case; a sender whose gate is open has none.
    gates: Mutex<HashMap<String, Gate>>,
}

/// Gates kept at most: whoever invents senders must not fill the memory.
const MAX_SENDERS: usize = 10_000;

impl Senders {
    fn gates(&self) -> MutexGuard<'_, HashMap<String, Gate>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of this lane, with nobody held.
    pub fn new(lane: &str, clock: Clock) -> Self {
        Self { lane: lane.to_owned(), clock, gates: Mutex::default() }
    }

    pub fn passage(&self, sender: &str) -> Passage {
        let key = sender.to_lowercase();
        self.gates().get_mut(&key).map_or(Passage::Open, |gate| gate.passage(Instant::now()))
    }

    /// Why mail of this sender is held, unless a probe may go; changes nothing.
    pub fn holds(&self, sender: &str) -> Option<Pause> {
        let gates = self.gates();
        let gate = gates.get(&sender.to_lowercase())?;
        match gate.look(Instant::now()) {
            Passage::Open | Passage::Probe => None,
            Passage::Closed(_) | Passage::Probing => gate.pause(Instant::now()).cloned(),
        }
    }

    pub fn close(&self, sender: &str, cause: Cause, rule: PauseRule) {
        let mut gates = self.gates();
        let key = sender.to_lowercase();
        if key.is_empty() || (gates.len() >= MAX_SENDERS && !gates.contains_key(&key)) {
            return;
        }
        let told = cause.clone();
        let gate = gates.entry(key).or_default();
        let news = gate.close(cause, rule, Instant::now(), self.clock.now());
        if let Some(retry) = news {
            let Cause { reason, advice } = &told;
            let (counted, kind, advice) = (self.lane.as_str(), rule.kind, advice.as_deref());
            Paused { lane: sender, counted, kind, reason, advice, retry }.emit();
        }
    }

    pub fn open(&self, sender: &str, begun: Instant) {
        let mut gates = self.gates();
        let key = sender.to_lowercase();
        let lasted = gates.get_mut(&key).and_then(|gate| gate.open(begun, self.clock.now()));
        if let Some(lasted) = lasted {
            gates.remove(&key);
            Resumed { lane: sender, lasted }.emit();
        }
    }

    pub fn withdraw_probe(&self, sender: &str) {
        if let Some(gate) = self.gates().get_mut(&sender.to_lowercase()) {
            gate.withdraw_probe();
        }
    }

    /// The senders that are held, with their pauses.
    pub fn pauses(&self) -> Vec<(String, Pause)> {
        let now = Instant::now();
        let mut gates = self.gates();
        gates.retain(|_, gate| gate.pause(now).is_some());
        let mut held: Vec<_> = gates
            .iter()
            .filter_map(|(sender, gate)| Some((sender.clone(), gate.pause(now)?.clone())))
            .collect();
        held.sort_by(|one, other| one.0.cmp(&other.0));
        held
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::UnixMillis;

    #[tokio::test(start_paused = true)]
    async fn a_sender_is_held_for_a_quarter_of_an_hour_and_then_probed() {
        let clock = Clock::at(UnixMillis(0));
        let senders = Senders::new("relay", clock);
        let cause = || Cause { reason: "554 5.2.252 SendAsDenied".into(), advice: None };
        senders.close("ERP@contoso.com", cause(), PauseRule::SENDER);
        assert!(matches!(senders.passage("erp@contoso.com"), Passage::Closed(_)));
        assert_eq!(senders.passage("other@contoso.com"), Passage::Open);
        tokio::time::advance(Duration::from_secs(15 * 60)).await;
        assert_eq!(senders.passage("erp@contoso.com"), Passage::Probe);
        assert_eq!(senders.passage("erp@contoso.com"), Passage::Probing);
        senders.close("erp@contoso.com", cause(), PauseRule::SENDER);
        tokio::time::advance(Duration::from_secs(29 * 60)).await;
        assert!(matches!(senders.passage("erp@contoso.com"), Passage::Closed(_)), "twice as long");
        assert_eq!(senders.pauses().len(), 1);
        senders.open("erp@contoso.com", Instant::now());
        assert_eq!(senders.passage("erp@contoso.com"), Passage::Open);
        senders.close("mistaken@contoso.com", cause(), PauseRule::SENDER);
        assert_eq!(senders.pauses().len(), 1);
        tokio::time::advance(PauseRule::SENDER.first + PauseRule::SENDER.most).await;
        assert!(senders.pauses().is_empty(), "nobody has sent as that since");
    }
}
