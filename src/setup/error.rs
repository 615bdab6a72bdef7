//! Why a set-up stopped, in one message that says what to do.

use std::{io, path::PathBuf};

/// Why a set-up stopped. None holds a secret or a token.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A host was not reached, or broke off.
    #[error("could not ask {host}: {cause}; nothing is lost, run the same command again")]
    Unreachable {
        /// The host.
        host: String,
        /// The innermost cause.
        cause: String,
    },
    /// Somebody else answers for Microsoft.
    #[error(
        "{host} answered HTTP {status} with something that is no JSON: a proxy or a log-in page of \
         this network may stand in between"
    )]
    NotJson {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// Nobody signed in while the code was good.
    #[error("nobody signed in before the code expired; run the same command again for a new code")]
    CodeExpired,
    /// Whoever opened the page said no.
    #[error(
        "the sign-in was declined; run the same command again, or set it up by hand: \
         `o365-relay setup --print-only`"
    )]
    Declined,
    /// The login host gives no token to the admin.
    #[error("the sign-in was refused: {text}{}", sign_in_advice(text))]
    SignIn {
        /// Microsoft's words.
        text: String,
    },
    /// The admin may not do that.
    #[error(
        "Graph refused to {what} (403, {text}): the account that signed in has no role for it. It \
         takes {role}. Sign in with such an account (run the same command again), or let its \
         owner follow `o365-relay setup --print-only`"
    )]
    NoRole {
        /// What was being done.
        what: String,
        /// Graph's words.
        text: String,
        /// Which role would do.
        role: &'static str,
    },
    /// Graph said no in another way.
    #[error("Graph did not {what}: HTTP {status} {code}: {text}")]
    Graph {
        /// What was being done.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The error code.
        code: String,
        /// Graph's words.
        text: String,
    },
    /// Graph left out what it should have said.
    #[error("Graph's answer to \"{what}\" has no usable {member}")]
    Incomplete {
        /// What was asked.
        what: String,
        /// The member.
        member: &'static str,
    },
    /// There is more than one application of this name.
    #[error(
        "there are {count} applications named \"{name}\" in this tenant; nothing was changed. Name \
         another one with --name, or delete those that are not needed"
    )]
    Several {
        /// The name.
        name: String,
        /// How many.
        count: usize,
    },
    /// A file is there that setup did not write.
    #[error(
        "{} is there already and was not written by setup, so nothing was done; move it away, \
         choose another place with --config, or replace it with --overwrite", path.display()
    )]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("could not {action} {}: {source}{}", path.display(), file_advice(source))]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The record of an earlier run cannot be read.
    #[error(
        "{} is no record of a set-up: {reason}; move it away to begin anew (an application of the \
         same name is found again)", path.display()
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What is asked for now does not go with what was begun.
    #[error(
        "{} {} with {what} \"{was}\", and now it is \"{now}\"; {}", path.display(),
        if *complete { "was set up" } else { "was begun" },
        if *complete {
            "to change it, take it back with --undo first and set it up anew (mail waits meanwhile), \
             or set another one up beside it with another --config and --name"
        } else {
            "finish it as it was, take it back with --undo, or begin another one with another --config"
        }
    )]
    Changed {
        /// The record.
        path: PathBuf,
        /// Which option.
        what: &'static str,
        /// As it was.
        was: String,
        /// As it is now.
        now: String,
        /// Whether that set-up has come to its end.
        complete: bool,
    },
    /// No key can be made on this machine, or an existing one is of no use.
    #[error("{reason}")]
    Key {
        /// Why, and what to do.
        reason: String,
    },
    /// A new credential is there, and does not work yet.
    #[error(
        "the new credential is made and not accepted yet ({refused}); the old one is in use as \
         before, and nothing is lost. Run the same command again in some minutes: it goes on from \
         here"
    )]
    NotAccepted {
        /// What the login host said.
        refused: String,
    },
    /// There is nothing to take back.
    #[error(
        "there is no record of a set-up at {}: nothing to take back; what was made by hand has to \
         be removed by hand", path.display()
    )]
    NothingToUndo {
        /// Where the record would be.
        path: PathBuf,
    },
}

fn file_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run it as root, or name a place that you may write to with --config"
        }
        io::ErrorKind::StorageFull => "; make room and run the same command again",
        _ => "",
    }
}

fn sign_in_advice(text: &str) -> &'static str {
    if text.contains("AADSTS53003") || text.contains("AADSTS50097") {
        "; a conditional access policy stands in the way, and many tenants have one against device \
         codes. Set it up by hand: `o365-relay setup --print-only`"
    } else if text.contains("AADSTS90002") || text.contains("AADSTS900023") {
        "; check --tenant and --cloud"
    } else if text.contains("AADSTS700016") || text.contains("AADSTS65001") {
        "; this tenant does not let the program sign in that setup borrows: register a public \
         client of your own and name it with --sign-in-client-id, or set it up by hand: \
         `o365-relay setup --print-only`"
    } else {
        "; if it stays like that, set it up by hand: `o365-relay setup --print-only`"
    }
}
