//! What an attempt comes to for one recipient.

use crate::{
    smtp::reply::EnhancedStatusCode,
    store::{Concluded, Outcome},
    telemetry::events::Disposition,
};

/// An outcome, and what to tell the admin about it.
pub(super) struct Judged {
    pub outcome: Outcome,
    /// The outcome in a word, and why.
    pub disposition: Disposition,
    /// The status code in upstream's reply, if there was one.
    pub status: Option<EnhancedStatusCode>,
    /// Whether the words are upstream's.
    pub from_upstream: bool,
    pub advice: Option<String>,
}

impl Judged {
    /// What goes on record.
    pub fn concluded((position, judged): &(u32, Self)) -> Concluded {
        let Self { outcome, advice, .. } = judged;
        Concluded { position: *position, outcome: outcome.clone(), advice: advice.clone() }
    }
}
