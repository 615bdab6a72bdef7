//! What is wrong with a configuration: all of it, each fault with the place it came from.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One fault: what it is about, what is wrong with it, and where that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    subject: String,
    message: String,
    origin: Option<String>,
}

impl Fault {
    /// A key such as `listener.max_recipients`, a variable's name, or a path.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What is wrong and what is expected instead. Never the value of a secret.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `file:line`, `environment variable NAME` or `--set`; `None` for what is missing.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.subject, self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// Every fault of a configuration; displayed one to a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    list: Vec<Fault>,
    unconfigured: Option<PathBuf>,
    unreadable: bool,
}

impl Faults {
    /// The faults, in the order of discovery: file, variables, `--set`, then by key.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.list.iter()
    }

    /// The file that was looked for, if there is no configuration at all: no such file, and
    /// nothing that must be set is set anywhere else.
    #[must_use]
    pub fn unconfigured(&self) -> Option<&Path> {
        self.unconfigured.as_deref()
    }

    pub(super) fn set_unconfigured(&mut self, looked_for: &Path) {
        self.unconfigured = Some(looked_for.to_path_buf());
    }

    /// Whether the file could not be read as TOML at all, so that keys are unknown rather than
    /// wrong.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    pub(super) fn set_unreadable(&mut self) {
        self.unreadable = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn add(
        &mut self,
        subject: impl Into<String>,
        message: impl Into<String>,
        origin: Option<&str>,
    ) {
        let (subject, message) = (subject.into(), message.into());
        self.list.push(Fault { subject, message, origin: origin.map(str::to_owned) });
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}- {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
