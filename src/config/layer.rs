//! The settings of one source, as the `config` crate merges them.

use std::fmt;

use config::{ConfigError, Map, Source, Value};

use super::slots::{Counts, Slot};

/// The settings of one source; only known keys get in.
#[derive(Clone, Default)]
pub(super) struct Layer {
    values: Vec<(Slot, Value)>,
    /// Sections by number, with the place where they begin.
    begun: Vec<(&'static str, usize, String)>,
}

impl Layer {
    /// Sets a key; the last one wins.
    pub(super) fn set(&mut self, slot: Slot, value: Value) {
        self.values.push((slot, value));
    }

    /// A section that may stand several times begins, at `origin`.
    pub(super) fn begin(&mut self, section: &'static str, number: usize, origin: &str) {
        self.begun.push((section, number, origin.to_owned()));
    }

    pub(super) fn count(&self, counts: &mut Counts) {
        for (section, number, origin) in &self.begun {
            counts.add(section, *number, Some(origin));
        }
        for (Slot { spec, number }, _) in &self.values {
            if let Some(number) = number {
                counts.add(spec.section, *number, None);
            }
        }
    }

    /// `[[listener]]` that stands once is `[listener]`.
    pub(super) fn drop_needless_numbers(&mut self, counts: &Counts) {
        for (slot, _) in &mut self.values {
            if counts.numbers(slot.spec.section).is_empty() {
                slot.number = None;
            }
        }
    }
}

/// Names only: a value may be a secret.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().map(|(slot, _)| slot.path())).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.values.iter().map(|(slot, value)| (slot.path(), value.clone())).collect())
    }
}
