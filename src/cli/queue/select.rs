//! Which messages a command is about.

use std::time::Duration;

use clap::Args;

use crate::{
    cli::{exit::Failure, text::duration},
    clock::Clock,
    mail::queue_id::QueueId,
    store::{Filter, PathPattern},
};

/// Filters; all that are given must fit.
#[derive(Debug, Args)]
pub(super) struct Filters {
    /// Messages in this lane
    #[arg(long, value_name = "LANE")]
    lane: Option<String>,
    /// Messages with this reverse-path; * stands for anything, <> for the null reverse-path
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Messages that wait for this forward-path; * stands for anything
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// Messages that are held
    #[arg(long)]
    held: bool,
    /// Messages that arrived longer ago, such as 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Messages whose id begins like this
    #[arg(long, value_name = "PREFIX")]
    id: Option<String>,
    /// The oldest so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
}

impl Filters {
    pub fn filter(&self) -> Filter {
        let age = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let mut now = Clock::system().now();
        Filter {
            lane: self.lane.clone(),
            reverse_path: self.from.as_deref().map(PathPattern::new),
            forward_path: self.to.as_deref().map(PathPattern::new),
            held: self.held,
            arrived_before: self.older_than.map(|older| {
                now.0 = now.0.saturating_sub(age(older));
                now
            }),
            id_prefix: self.id.as_deref().map(str::to_ascii_uppercase),
            limit: self.limit,
        }
    }

    /// Whether there is one at all.
    pub fn is_given(&self) -> bool {
        self.lane.is_some()
            || self.from.is_some()
            || self.to.is_some()
            || self.held
            || self.older_than.is_some()
            || self.id.is_some()
            || self.limit.is_some()
    }
}

/// Ids, or all that fit the filters.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Queue ids
    #[arg(value_name = "ID", value_parser = queue_id)]
    ids: Vec<QueueId>,
    /// All messages, or all that fit the filters
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filters: Filters,
}

/// What a selection means.
pub(super) enum Chosen<'a> {
    Ids(&'a [QueueId]),
    Fitting(Filter),
}

impl Selection {
    pub fn chosen(&self) -> Result<Chosen<'_>, Failure> {
        match (self.all, self.ids.is_empty(), self.filters.is_given()) {
            (true, ..) => Ok(Chosen::Fitting(self.filters.filter())),
            (false, true, false) => Err(Failure::usage("name queue ids, or give --all")),
            (false, true, true) => {
                Err(Failure::usage("add --all to change every message that fits the filters"))
            }
            (false, false, true) => {
                Err(Failure::usage("filters go with --all; queue ids stand alone"))
            }
            (false, false, false) => Ok(Chosen::Ids(&self.ids)),
        }
    }
}

/// Reads a queue id, in capitals or not.
pub(super) fn queue_id(text: &str) -> Result<QueueId, String> {
    text.to_ascii_uppercase()
        .parse()
        .map_err(|error| format!("{error}; `o365-relay queue list` shows them"))
}
