//! Where a value belongs: to a key, or, in a section that may stand in the file several times
//! (`[[listener]]`), to that key of one of them. They are numbered from 1, as in `listener.2.allow`
//! and `O365_RELAY__LISTENER__2__ALLOW`.

use std::collections::BTreeMap;

use super::{
    fault::Faults,
    keys::{self, AnyKey, Spec},
};

/// A key, of a section by its number or of the section that there is one of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) spec: &'static Spec,
    pub(super) number: Option<usize>,
}

impl Slot {
    /// The key of the section that there is one of.
    pub(super) fn of(spec: &'static Spec) -> Self {
        Self { spec, number: None }
    }

    /// The slot that `--set` names by this path.
    pub(super) fn at_path(path: &str) -> Option<Self> {
        let (section, number, name) = split_path(path)?;
        Some(Self { spec: keys::find(section, name)?, number })
    }

    /// The slot that this variable sets.
    pub(super) fn at_variable(variable: &str) -> Option<Self> {
        let (section, number, name) = split_variable(variable)?;
        let slot = Self { spec: keys::find(&section, &name)?, number };
        (slot.variable() == variable).then_some(slot)
    }

    /// `section.key`, or `section.2.key`.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section(), self.spec.name)
    }

    /// `section`, or `section.2`.
    pub(super) fn section(&self) -> String {
        section_path(self.spec.section, self.number)
    }

    /// The variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("O365_RELAY__{}__{}", self.section().replace('.', "__"), self.spec.name)
            .to_uppercase()
    }
}

/// `section`, or `section.2`.
pub(super) fn section_path(section: &str, number: Option<usize>) -> String {
    match number {
        Some(number) => format!("{section}.{number}"),
        None => section.to_owned(),
    }
}

/// Section, number and key in `section.key` or `section.2.key`, known or not.
pub(super) fn split_path(path: &str) -> Option<(&str, Option<usize>, &str)> {
    let (section, rest) = path.split_once('.')?;
    match rest.split_once('.').map(|(number, name)| (number_of(section, number), name)) {
        Some((Some(number), name)) => Some((section, Some(number), name)),
        _ => Some((section, None, rest)),
    }
}

/// The same in the name of a variable, in lower case.
pub(super) fn split_variable(variable: &str) -> Option<(String, Option<usize>, String)> {
    let path = variable.to_lowercase().strip_prefix("o365_relay__")?.replace("__", ".");
    let (section, number, name) = split_path(&path)?;
    Some((section.to_owned(), number, name.to_owned()))
}

fn number_of(section: &str, text: &str) -> Option<usize> {
    const MOST: usize = 999; // so that a slip of the finger makes no million of listeners
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.filter(|_| keys::is_repeatable(section))
}

/// How many there are of each section that may stand several times, and where in the file.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<(&'static str, usize), Option<String>>);

impl Counts {
    /// Takes note of a section; `origin` is where it begins.
    pub(super) fn add(&mut self, section: &'static str, number: usize, origin: Option<&str>) {
        let place = self.0.entry((section, number)).or_default();
        *place = place.take().or(origin.map(str::to_owned));
    }

    /// The numbers of `section`: none where there is one of it, numbered or not.
    pub(super) fn numbers(&self, section: &str) -> Vec<usize> {
        let numbers: Vec<_> =
            self.0.keys().filter(|(name, _)| *name == section).map(|(_, number)| *number).collect();
        if numbers == [1] { Vec::new() } else { numbers }
    }

    /// Whether there is one.
    pub(super) fn has(&self, section: &str) -> bool {
        self.0.keys().any(|(name, _)| *name == section)
    }

    /// Where a section begins in the file.
    pub(super) fn origin(&self, section: &'static str, number: usize) -> Option<&str> {
        self.0.get(&(section, number))?.as_deref()
    }

    /// A number that is left out is most likely a slip, and not one of them can be meant.
    pub(super) fn complain_of_gaps(&self, faults: &mut Faults) {
        for section in keys::SECTIONS.iter().filter(|section| section.repeatable) {
            let numbers = self.numbers(section.name);
            let gap = numbers.iter().zip(1..).find(|(number, expected)| **number != *expected);
            if let Some((number, expected)) = gap {
                let subject = section_path(section.name, Some(*number));
                let message =
                    format!("there is no `{}.{expected}`; number them from 1", section.name);
                faults.add(subject, message, None);
            }
        }
    }
}

/// Every slot there can be, key by key, given how many there are of each section. The slot without
/// a number comes first: it holds for each section that does not set the key itself.
pub(super) fn all(counts: &Counts) -> impl Iterator<Item = Slot> {
    keys::all().map(AnyKey::spec).flat_map(|spec| {
        let numbers = counts.numbers(spec.section).into_iter().map(Some);
        [None].into_iter().chain(numbers).map(move |number| Slot { spec, number })
    })
}
