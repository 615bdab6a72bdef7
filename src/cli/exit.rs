//! Exit codes (sysexits) and the one message that goes with them.

use std::{error::Error, io, path::Path, process::ExitCode};

use crate::{config::Faults, daemon::StartError, mail::queue_id::QueueId, store::StoreError};

/// Wrong arguments.
pub(super) const USAGE: u8 = 64;
const RED: u8 = 1;
const DAMAGED: u8 = 65;
const NO_INPUT: u8 = 66;
const NO_USER: u8 = 67;
const UNAVAILABLE: u8 = 69;
const FAULT: u8 = 70;
const TRY_LATER: u8 = 75;
const PERMISSION: u8 = 77;
const CONFIGURATION: u8 = 78;

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: UNAVAILABLE, message: message.into() }
    }

    /// The doctor has found something; it has said what.
    pub fn red() -> Self {
        Self { code: RED, message: String::new() }
    }

    /// What was asked for is there, but it is not what it was.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self { code: DAMAGED, message: message.into() }
    }

    /// A recipient that was refused, or is no address.
    pub fn no_user(message: impl Into<String>) -> Self {
        Self { code: NO_USER, message: message.into() }
    }

    /// The code alone.
    pub fn without_words(self) -> Self {
        Self { message: String::new(), ..self }
    }

    pub fn try_later(message: impl Into<String>) -> Self {
        Self { code: TRY_LATER, message: message.into() }
    }

    /// A fault of this program.
    pub fn fault(message: impl Into<String>) -> Self {
        Self { code: FAULT, message: message.into() }
    }

    /// Somebody with more rights has to do it.
    pub fn permission(message: impl Into<String>) -> Self {
        Self { code: PERMISSION, message: message.into() }
    }

    pub fn configuration(message: impl Into<String>) -> Self {
        Self { code: CONFIGURATION, message: message.into() }
    }

    /// The code that suits the operating system's error at the bottom of `error`.
    pub fn of(error: &(dyn Error + 'static), message: impl Into<String>) -> Self {
        let code = match system_error(error) {
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => PERMISSION,
            Some(io::ErrorKind::AddrInUse | io::ErrorKind::StorageFull) => TRY_LATER,
            Some(
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::AddrNotAvailable,
            ) => CONFIGURATION,
            _ => UNAVAILABLE,
        };
        Self { code, message: message.into() }
    }

    /// Messages that were asked for and are not `there`.
    pub fn no_message(ids: &[QueueId], there: &str) -> Self {
        let ids: Vec<_> = ids.iter().map(QueueId::as_str).collect();
        Self { code: NO_INPUT, message: format!("no such message {there}: {}", ids.join(" ")) }
    }

    /// A question that nobody here can answer.
    pub fn not_known(message: impl Into<String>) -> Self {
        Self { code: NO_INPUT, message: message.into() }
    }

    /// Prints the message once and gives the code.
    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("o365-relay: {}", self.message);
        }
        self.code.into()
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::configuration(match faults.unconfigured() {
            Some(file) => greeting(file),
            None => format!("the configuration has faults:\n{faults}"),
        })
    }
}

/// Only writing to standard output fails like this: a reader that went away has seen enough.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { code: 0, message: String::new() };
        }
        Self::unavailable(format!("could not write to standard output: {error}"))
    }
}

/// A queue command; the daemon's start has its own reading of these.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::NoQueue { .. } | StoreError::MissingBody { .. } => NO_INPUT,
            StoreError::NotAllowed { .. } => PERMISSION,
            _ if error.is_busy() || error.is_full() => TRY_LATER,
            _ => UNAVAILABLE,
        };
        let cure = match &error {
            StoreError::Database { .. } if error.is_damage() => {
                "; a running relay rebuilds it on its own when it meets the damage, otherwise run \
                 `o365-relay queue recover`"
            }
            _ if error.is_busy() => "; somebody else is writing, try again",
            _ => "",
        };
        Self { code, message: format!("{error}{cure}") }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::Store { source: StoreError::Locked { .. }, .. } => {
                Self::try_later(error.to_string())
            }
            StartError::Store { source, .. } if source.is_full() => {
                Self::try_later(error.to_string())
            }
            StartError::Store {
                source: StoreError::NotOurs { .. } | StoreError::NewerSchema { .. },
                ..
            }
            | StartError::Ground { .. }
            | StartError::Inherited(_) => Self::configuration(error.to_string()),
            _ => Self::of(&error, error.to_string()),
        }
    }
}

/// The innermost error of the operating system.
fn system_error(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut kind = None;
    let mut cause = Some(error);
    while let Some(error) = cause {
        kind = error.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        cause = error.source();
    }
    kind
}

/// For whoever starts the program for the first time.
fn greeting(file: &Path) -> String {
    let file = file.display();
    format!(
        "there is no configuration yet: no file {file}, and tenant, application, secret and \
         mailbox are set nowhere else\n\
         - to see it work without a tenant:  o365-relay sandbox\n\
         - to set up the real thing:         o365-relay setup\n\
         - to write a configuration:         o365-relay config example > {file}\n\
         - to use another file:              o365-relay --config FILE\n\
         - without a file:                   set O365_RELAY__OFFICE365__TENANT_ID, __CLIENT_ID, \
         __CLIENT_SECRET and __MAILBOX"
    )
}
