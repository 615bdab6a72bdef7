//! `queue`: the queue as an operator sees and changes it, whether the daemon runs or not.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};

use super::exit::Failure;
use crate::{
    config::{self, Sources},
    queue::Mode,
    store::Desk,
};

mod amend;
mod daemon;
mod export;
mod list;
mod recover;
mod select;
mod show;

use daemon::Daemon;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The relay's http.address, which tells why mail waits [default: from the configuration]
    #[arg(long, global = true, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
    #[command(subcommand)]
    action: Action,
}

/// Where the queue is.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The queue directory [default: queue.directory of the configuration]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what is queued, oldest first
    List(list::Options),
    /// Tell the whole story of a message, also of one that has left the queue
    Show(show::Options),
    /// Attempt messages now instead of at their next time
    Retry(amend::Options),
    /// Set messages aside until they are released
    Hold(amend::HoldOptions),
    /// Let held messages go on
    Release(amend::Options),
    /// Remove messages for good; their senders are not told
    Remove(amend::RemoveOptions),
    /// Write a message's mail data as it is stored, octet by octet
    Export(export::Options),
    /// Check the whole queue database, and bring what can be read of a damaged one into a fresh one
    Recover(recover::Options),
}

pub(super) async fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    if let Action::Recover(recover) = &options.action {
        return recover::run(recover, &options.place.directory(sources)?);
    }
    let (desk, configured) = options.place.open(sources)?;
    let address = options.address.or(configured);
    match &options.action {
        Action::List(list) => list::run(list, &desk, &Daemon::ask(address).await),
        Action::Show(show) => show::run(show, &desk, &Daemon::ask(address).await),
        Action::Retry(chosen) => amend::retry(chosen, &desk, &Daemon::ask(address).await),
        Action::Hold(hold) => amend::hold(hold, &desk),
        Action::Release(chosen) => amend::release(chosen, &desk, &Daemon::ask(address).await),
        Action::Remove(remove) => amend::remove(remove, &desk),
        Action::Export(export) => export::run(export, &desk),
        Action::Recover(_) => Ok(()), // done above, without a desk
    }
}

impl Place {
    /// The queue directory alone.
    fn directory(&self, sources: &Sources) -> Result<PathBuf, Failure> {
        match &self.directory {
            Some(directory) => Ok(directory.clone()),
            None => Ok(config::load(sources)?.store.directory),
        }
    }

    /// The queue, and the http.address of its configuration. A directory that is named needs no
    /// configuration, so that a broken one keeps nobody from the queue.
    pub fn open(&self, sources: &Sources) -> Result<(Desk, Option<SocketAddr>), Failure> {
        if let Some(directory) = &self.directory {
            return Ok((Desk::open(directory)?, None));
        }
        let config = config::load(sources)?;
        if config.queue.mode == Mode::Direct {
            return Err(Failure::configuration(
                "there is no queue in direct mode (queue.mode): each client has heard what became \
                 of its message, and the log tells; a queue of earlier times is opened with \
                 --directory",
            ));
        }
        let desk = Desk::open(&config.store.directory)?;
        Ok((desk, config.http.address))
    }
}
