//! Faults on demand: what goes wrong, how often, and for whom. The table in `table.rs` is the one
//! place that knows their names; the parser, `--list-faults` and the guide take them from there.

mod kind;
mod parse;
mod table;

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use serde::{Serialize, Serializer, ser::SerializeStruct};

pub(super) use self::kind::{Action, Stage};
pub use self::{
    kind::{FaultKind, fault_kinds},
    parse::FaultError,
};

/// One fault, ready to be set: a row of the table, its parameter, and how often it strikes.
///
/// As text it is `NAME[=PARAMETER][*TIMES][~PERCENT%]`: `throttle`, `throttle*3` (three times,
/// then healed), `slow-dot=5s`, `deny-sender=erp@contoso.com,*@fabrikam.com`, `token-5xx~20%`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    kind: &'static FaultKind,
    parameter: Parameter,
    times: Option<NonZeroU32>,
    percent: Option<u8>,
}

impl Fault {
    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> &'static FaultKind {
        self.kind
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// The same fault, healed after it has struck so many times.
    #[must_use]
    pub fn times(self, times: NonZeroU32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Which of the `subjects` it is for; those without addresses are for everybody.
    fn applies_to<'s>(&self, subjects: &[&'s str]) -> Option<&'s str> {
        let Parameter::Addresses(patterns) = &self.parameter else {
            return Some(subjects.first().copied().unwrap_or_default());
        };
        subjects
            .iter()
            .find(|subject| patterns.iter().any(|pattern| fits(pattern, subject)))
            .copied()
    }
}

/// What stands after `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parameter {
    Nothing,
    Time(Duration),
    /// An HTTP status.
    Status(u16),
    /// Addresses, or `*@domain`, or `*` for all.
    Addresses(Vec<String>),
    /// The place of a word in the row's list.
    Choice(usize),
}

/// `*@contoso.com` fits every address there, `*` every address.
fn fits(pattern: &str, address: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => address
            .len()
            .checked_sub(end.len())
            .and_then(|start| address.get(start..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(end)),
        None => pattern.eq_ignore_ascii_case(address),
    }
}

/// A fault that was set, and what it has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultState {
    /// The fault.
    pub fault: Fault,
    /// How many times it has struck since it was set.
    pub struck: u32,
}

impl FaultState {
    /// How many times it will strike yet; `None` for as long as it is set.
    #[must_use]
    pub fn left(&self) -> Option<u32> {
        self.fault.times.map(|times| times.get().saturating_sub(self.struck))
    }

    /// Whether it has struck as often as it was to.
    #[must_use]
    pub fn is_healed(&self) -> bool {
        self.left() == Some(0)
    }
}

impl Serialize for FaultState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fault = &self.fault;
        let mut object = serializer.serialize_struct("FaultState", 8)?;
        object.serialize_field("name", fault.name())?;
        object.serialize_field("text", &fault.to_string())?;
        object.serialize_field("stage", fault.kind.stage())?;
        object.serialize_field("parameter", &fault.parameter_text())?;
        object.serialize_field("times", &fault.times)?;
        object.serialize_field("percent", &fault.percent)?;
        object.serialize_field("struck", &self.struck)?;
        object.serialize_field("left", &self.left())?;
        object.end()
    }
}

/// The faults that are set, in the order of the table.
pub(super) struct Faults {
    seed: u64,
    set: Mutex<Vec<Active>>,
}

struct Active {
    state: FaultState,
    chance: Rng,
}

/// A fault that has just struck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strike {
    pub kind: &'static FaultKind,
    pub parameter: Parameter,
    /// The address that it struck, if it was looking for one.
    pub subject: String,
    /// The how-manieth time this is.
    pub count: u32,
}

impl Strike {
    pub fn action(&self) -> Action {
        self.kind.action
    }

    /// The reply of a fault that is nothing but a refusal.
    pub fn refusal(&self) -> Option<&'static str> {
        let Action::Refuse(replies) = self.kind.action else { return None };
        replies.get(self.choice()).copied()
    }

    /// The HTTP status, for a fault that has one.
    pub fn status(&self) -> u16 {
        match self.parameter {
            Parameter::Status(status) => status,
            _ => 503,
        }
    }

    /// Which of the row's words was chosen, counted from 0.
    pub fn choice(&self) -> usize {
        match self.parameter {
            Parameter::Choice(at) => at,
            _ => 0,
        }
    }

    /// How long, for a fault that lasts.
    pub fn time(&self) -> Duration {
        match self.parameter {
            Parameter::Time(time) => time,
            _ => Duration::ZERO,
        }
    }
}

impl Faults {
    /// `seed` decides when those strike that strike by chance: the same seed, the same order.
    pub fn new(seed: u64, faults: &[Fault]) -> Self {
        let set = Self { seed, set: Mutex::default() };
        for fault in faults {
            set.set(fault.clone());
        }
        set
    }

    /// Sets `fault` anew; another of the same name goes.
    pub fn set(&self, fault: Fault) {
        let place = fault.kind.place();
        let chance = Rng::with_seed(self.seed.wrapping_add(place as u64));
        let active = Active { state: FaultState { fault, struck: 0 }, chance };
        let mut set = self.lock();
        match set.binary_search_by_key(&place, |active| active.state.fault.kind.place()) {
            Ok(at) => set[at] = active,
            Err(at) => set.insert(at, active),
        }
    }

    /// Whether a fault of this name was set.
    pub fn clear(&self, name: &str) -> bool {
        let mut set = self.lock();
        let before = set.len();
        set.retain(|active| active.state.fault.name() != name);
        set.len() < before
    }

    pub fn clear_all(&self) {
        self.lock().clear();
    }

    pub fn states(&self) -> Vec<FaultState> {
        self.lock().iter().map(|active| active.state.clone()).collect()
    }

    /// The first fault in the order of the table that strikes at `stage` one of the `subjects`.
    pub fn strike(&self, stage: Stage, subjects: &[&str]) -> Option<Strike> {
        let mut set = self.lock();
        set.iter_mut()
            .filter(|active| active.state.fault.kind.stage == stage && !active.state.is_healed())
            .find_map(|Active { state, chance }| {
                let fault = &state.fault;
                let subject = fault.applies_to(subjects)?.to_owned();
                if fault.percent.is_some_and(|percent| chance.u8(0..100) >= percent) {
                    return None;
                }
                state.struck = state.struck.saturating_add(1);
                let (kind, parameter) = (fault.kind, fault.parameter.clone());
                Some(Strike { kind, parameter, subject, count: state.struck })
            })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Active>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("seed", &self.seed).field("set", &self.states()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(texts: &[&str]) -> Faults {
        let faults: Vec<Fault> = texts.iter().map(|text| text.parse().unwrap()).collect();
        Faults::new(7, &faults)
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_is_told_and_then_no_more() {
        let faults = faults(&["throttle*2"]);
        let strike = || faults.strike(Stage::Data, &[]).map(|strike| strike.count);
        assert_eq!(faults.strike(Stage::Mail, &[]), None);
        assert_eq!([strike(), strike(), strike()], [Some(1), Some(2), None]);
        let state = &faults.states()[0];
        assert!(state.is_healed() && state.struck == 2);
        faults.set("throttle*1".parse().unwrap());
        assert_eq!(strike(), Some(1), "set anew");
    }

    #[test]
    fn addresses_decide_whom_it_strikes() {
        let faults = faults(&["deny-sender=ERP@contoso.com,*@fabrikam.com*2"]);
        let strike = |subjects: &[&str]| {
            faults.strike(Stage::FinalDot, subjects).map(|strike| strike.subject)
        };
        assert_eq!(strike(&["a@contoso.com", "b@contoso.com"]), None);
        assert_eq!(strike(&["a@contoso.com", "erp@CONTOSO.com"]).unwrap(), "erp@CONTOSO.com");
        assert_eq!(strike(&["x@Fabrikam.com"]).unwrap(), "x@Fabrikam.com");
        assert_eq!(strike(&["x@fabrikam.com"]), None, "twice and no more");
        assert!(fits("*", "ä") && !fits("*@x.example", "@y") && !fits("*ö", "ä"));
    }

    #[test]
    fn the_order_of_the_table_decides_and_a_healed_fault_lets_the_next_one_strike() {
        let faults = faults(&["drop-at-dot*1", "quota*1"]);
        let strike = || faults.strike(Stage::FinalDot, &[]).map(|strike| strike.kind.name());
        assert_eq!([strike(), strike(), strike()], [Some("quota"), Some("drop-at-dot"), None]);
    }

    #[test]
    fn a_seed_makes_chance_repeatable() {
        let run = |seed| {
            let faults = Faults::new(seed, &["busy~25%".parse().unwrap()]);
            let strikes: Vec<bool> =
                (0..400).map(|_| faults.strike(Stage::FinalDot, &[]).is_some()).collect();
            strikes
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let struck = run(1).iter().filter(|struck| **struck).count();
        assert!((60..140).contains(&struck), "{struck} of 400");
    }

    #[test]
    fn clearing_takes_one_or_all() {
        let faults = faults(&["throttle", "quota", "blocked"]);
        assert!(faults.clear("quota") && !faults.clear("quota"));
        assert_eq!(faults.states().len(), 2);
        faults.clear_all();
        assert_eq!(faults.states(), []);
    }
}
