//! A gate that trouble closes: it stays closed for a while, doubling with each failure, then
//! lets one message through as a probe. Success opens it.
//!
//! Where no message comes to be the probe, nobody knows whether the cause is still there. A pause
//! that has been over for as long as it could last at most is forgotten then: an alarm about a
//! hiccup of last night would go on until somebody sends, and a balancer that sends nobody to a relay
//! that is not ready would keep the very message away that could open the gate.

use std::time::Duration;

use tokio::time::Instant;

use crate::{clock::UnixMillis, office365::replies::PauseRule};

/// Why a gate is closed, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What happened, in upstream's or the system's words.
    pub reason: String,
    /// The next step for the admin, if there is one.
    pub advice: Option<String>,
}

/// Whether a message may pass now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Yes.
    Open,
    /// One, to see whether the cause is gone; the caller must tell how it went.
    Probe,
    /// Not before this time.
    Closed(Instant),
    /// A probe is under way: wait for its end.
    Probing,
}

/// A gate, open at first.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    pause: Option<Pause>,
}

/// A pause as `status` shows it.
#[derive(Debug, Clone)]
pub struct Pause {
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: UnixMillis,
    /// The kind of trouble, of a fixed set.
    pub kind: &'static str,
    /// When the next probe may go.
    pub until: Instant,
    began: Instant,
    length: Duration,
    most: Duration,
    probing: bool,
}

impl Pause {
    fn is_forgotten(&self, now: Instant) -> bool {
        !self.probing && now >= self.until + self.most
    }
}

impl Gate {
    /// Whether a message could pass now; changes nothing.
    #[must_use]
    pub fn look(&self, now: Instant) -> Passage {
        match self.pause(now) {
            None => Passage::Open,
            Some(pause) if pause.probing => Passage::Probing,
            Some(pause) if now < pause.until => Passage::Closed(pause.until),
            Some(_) => Passage::Probe,
        }
    }

    /// Whether a message may pass now. [`Passage::Probe`] marks the probe as under way.
    pub fn passage(&mut self, now: Instant) -> Passage {
        let passage = self.look(now);
        if let (Passage::Probe, Some(pause)) = (passage, &mut self.pause) {
            pause.probing = true;
        }
        passage
    }

    /// The probe did not get as far as this gate: another may go.
    pub fn withdraw_probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probing = false;
        }
    }

    /// Closes the gate, or keeps it closed for longer if the probe failed. Returns the length
    /// of the pause if it is worth telling: the gate was open, or the cause is a new one.
    pub fn close(
        &mut self,
        cause: Cause,
        rule: PauseRule,
        now: Instant,
        wall: UnixMillis,
    ) -> Option<Duration> {
        self.pause.take_if(|pause| pause.is_forgotten(now));
        let Some(pause) = &mut self.pause else {
            let PauseRule { kind, first: length, most } = rule;
            let (until, began, probing) = (now + length, now, false);
            self.pause =
                Some(Pause { cause, since: wall, kind, until, began, length, most, probing });
            return Some(length);
        };
        // Messages under way when the gate closed fail too; only a probe makes a pause longer.
        if std::mem::take(&mut pause.probing) {
            pause.length = (pause.length * 2).clamp(rule.first, rule.most);
            pause.until = now + pause.length;
        }
        let news = pause.cause.advice != cause.advice;
        pause.cause = cause;
        pause.kind = rule.kind;
        pause.most = rule.most;
        news.then_some(pause.length)
    }

    /// Opens the gate for what was begun at `begun` and went through. Returns how long it was
    /// closed, if it was. What was under way when it closed proves nothing: it began before the
    /// cause.
    pub fn open(&mut self, begun: Instant, wall: UnixMillis) -> Option<Duration> {
        self.pause.take_if(|pause| pause.began <= begun).map(|pause| wall.since(pause.since))
    }

    /// The pause, if there is one that is not forgotten.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Option<&Pause> {
        self.pause.as_ref().filter(|pause| !pause.is_forgotten(now))
    }
}

/// What `status` shows of a pause.
#[derive(Debug, Clone)]
pub struct PauseSnapshot {
    /// Why.
    pub cause: Cause,
    /// The kind of trouble, of a fixed set.
    pub kind: &'static str,
    /// Since when.
    pub since: UnixMillis,
    /// How long until the next probe.
    pub retry: Duration,
}

impl From<Pause> for PauseSnapshot {
    fn from(pause: Pause) -> Self {
        let retry = pause.until.saturating_duration_since(Instant::now());
        Self { cause: pause.cause, kind: pause.kind, since: pause.since, retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: PauseRule =
        PauseRule { kind: "test", first: Duration::from_secs(5), most: Duration::from_secs(15) };
    const WALL: UnixMillis = UnixMillis(0);

    fn cause() -> Cause {
        Cause { reason: "535 5.7.3".into(), advice: None }
    }

    #[test]
    fn a_pause_doubles_with_each_failed_probe_and_one_success_ends_it() {
        let mut gate = Gate::default();
        let mut now = Instant::now();
        assert_eq!(gate.passage(now), Passage::Open);
        assert_eq!(gate.close(cause(), RULE, now, WALL), Some(RULE.first));
        for length in [5, 10, 15, 15] {
            let until = now + Duration::from_secs(length);
            assert_eq!(gate.passage(now), Passage::Closed(until));
            now = until;
            assert_eq!(gate.passage(now), Passage::Probe);
            assert_eq!(gate.passage(now), Passage::Probing);
            assert_eq!(gate.close(cause(), RULE, now, WALL), None, "the same cause is no news");
        }
        let wall = UnixMillis(60_000);
        assert_eq!(gate.open(now, wall), Some(Duration::from_secs(60)));
        assert_eq!(gate.open(now, wall), None);
        assert_eq!(gate.passage(now), Passage::Open);
    }

    #[test]
    fn a_message_that_was_under_way_when_the_gate_closed_does_not_open_it() {
        let mut gate = Gate::default();
        let begun = Instant::now();
        let closed = begun + Duration::from_secs(1);
        gate.close(cause(), RULE, closed, WALL);
        assert_eq!(gate.open(begun, WALL), None);
        assert_eq!(gate.passage(closed), Passage::Closed(closed + RULE.first));
        assert!(gate.open(closed + RULE.first, WALL).is_some());
    }

    #[test]
    fn failures_of_messages_under_way_do_not_lengthen_a_pause() {
        let mut gate = Gate::default();
        let now = Instant::now();
        gate.close(cause(), RULE, now, WALL);
        gate.close(cause(), RULE, now, WALL);
        assert_eq!(gate.passage(now), Passage::Closed(now + RULE.first));
    }

    #[test]
    fn a_pause_that_no_message_has_tested_for_long_is_forgotten() {
        let mut gate = Gate::default();
        let now = Instant::now();
        gate.close(cause(), RULE, now, WALL);
        let over = now + RULE.first;
        let forgotten = over + RULE.most;
        let just_before = forgotten.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(gate.look(just_before), Passage::Probe);
        assert!(gate.pause(just_before).is_some());
        assert_eq!(gate.look(forgotten), Passage::Open);
        assert!(gate.pause(forgotten).is_none());
        assert_eq!(gate.close(cause(), RULE, forgotten, WALL), Some(RULE.first), "it begins anew");

        assert_eq!(gate.passage(forgotten + RULE.first), Passage::Probe);
        let later = forgotten + RULE.most * 10;
        assert_eq!(gate.look(later), Passage::Probing, "a probe that takes long is waited for");
    }

    #[test]
    fn a_probe_that_came_to_nothing_lets_another_go() {
        let mut gate = Gate::default();
        let now = Instant::now();
        gate.close(cause(), RULE, now, WALL);
        let later = now + RULE.first;
        assert_eq!(gate.passage(later), Passage::Probe);
        gate.withdraw_probe();
        assert_eq!(gate.passage(later), Passage::Probe);
    }
}
