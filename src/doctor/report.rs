//! What a check says.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::clock::UnixMillis;

/// How good or bad it is; the worst stands last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Not looked at, because something that it needs is missing.
    Grey,
    /// As it should be.
    Green,
    /// Works, or may work; somebody should know.
    Amber,
    /// Mail does not go through, or not safely.
    Red,
}

impl Colour {
    /// As a word of its own.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::Green => "green",
            Self::Amber => "amber",
            Self::Red => "red",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which check; the same in every version.
    pub id: &'static str,
    /// What was looked at, for people.
    pub subject: String,
    /// How it is.
    pub colour: Colour,
    /// What was found, in one line.
    pub finding: String,
    /// What to do, line by line: sentences, and commands that can be run as they are. Comments
    /// between commands begin with `#`.
    pub cure: Vec<String>,
    /// What programs may want to know.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<&'static str, Value>,
}

impl Check {
    pub(super) fn green(
        id: &'static str,
        subject: impl Into<String>,
        finding: impl Into<String>,
    ) -> Self {
        Self::new(id, subject, Colour::Green, finding)
    }

    pub(super) fn amber(
        id: &'static str,
        subject: impl Into<String>,
        finding: impl Into<String>,
    ) -> Self {
        Self::new(id, subject, Colour::Amber, finding)
    }

    pub(super) fn red(
        id: &'static str,
        subject: impl Into<String>,
        finding: impl Into<String>,
    ) -> Self {
        Self::new(id, subject, Colour::Red, finding)
    }

    /// Not checked; `why` goes on after a colon.
    pub(super) fn grey(id: &'static str, subject: impl Into<String>, why: &str) -> Self {
        Self::new(id, subject, Colour::Grey, format!("not checked: {why}"))
    }

    fn new(
        id: &'static str,
        subject: impl Into<String>,
        colour: Colour,
        finding: impl Into<String>,
    ) -> Self {
        let (subject, finding) = (subject.into(), finding.into());
        Self { id, subject, colour, finding, cure: Vec::new(), facts: BTreeMap::new() }
    }

    /// One more line of the cure.
    pub(super) fn cure(mut self, line: impl Into<String>) -> Self {
        self.cure.push(line.into());
        self
    }

    /// More lines of the cure.
    pub(super) fn cures(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.cure.extend(lines);
        self
    }

    /// A fact for programs.
    pub(super) fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.insert(name, value.into());
        self
    }
}

/// All checks, in the order of cause and effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When it was made.
    pub time: UnixMillis,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(time: UnixMillis) -> Self {
        Self { time, checks: Vec::new() }
    }

    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    pub(super) fn extend(&mut self, checks: impl IntoIterator<Item = Check>) {
        self.checks.extend(checks);
    }

    /// The worst colour.
    #[must_use]
    pub fn result(&self) -> Colour {
        self.checks.iter().map(|check| check.colour).max().unwrap_or(Colour::Grey)
    }

    /// The first red line, which is the one to mend first.
    #[must_use]
    pub fn first_red(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.colour == Colour::Red)
    }
}

/// As programs get it: this shape stays, members may be added.
impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            version: &'a str,
            time: String,
            result: Colour,
            checks: &'a [Check],
        }
        Shape {
            version: env!("CARGO_PKG_VERSION"),
            time: self.time.rfc3339(),
            result: self.result(),
            checks: &self.checks,
        }
        .serialize(serializer)
    }
}
