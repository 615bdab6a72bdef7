//! Exit codes (sysexits) and the one message that goes with them.

use std::{io, process::ExitCode};

use crate::{config::Faults, daemon::StartError, store::StoreError};

/// Wrong arguments.
pub(super) const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
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

    pub fn try_later(message: impl Into<String>) -> Self {
        Self { code: TRY_LATER, message: message.into() }
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
        Self { code: CONFIGURATION, message: format!("the configuration has faults:\n{faults}") }
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

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let mut kind = None;
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            kind = error.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
            cause = error.source();
        }
        let code = match (&error, kind) {
            (_, Some(io::ErrorKind::PermissionDenied)) => PERMISSION,
            (StartError::Store(StoreError::Locked { .. }), _)
            | (_, Some(io::ErrorKind::AddrInUse | io::ErrorKind::StorageFull)) => TRY_LATER,
            (_, Some(io::ErrorKind::NotFound | io::ErrorKind::AddrNotAvailable)) => CONFIGURATION,
            _ => UNAVAILABLE,
        };
        Self { code, message: error.to_string() }
    }
}
