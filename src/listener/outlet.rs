//! Where finished mail goes, and what may be told to its client. The queue is one such place
//! ([`Store`]); the daemon hands in another one for direct mode.

use std::pin::Pin;

use crate::{
    smtp::reply::Reply,
    store::{Arrival, Draft, Receipt, Store, StoreError},
    telemetry::{events, metrics::causes::NotStored},
};

/// Takes finished mail. One call a message is made through it, and none for the octets, which go
/// into a [`Draft`].
pub trait Outlet: Send + Sync + 'static {
    /// Whether mail is taken now: asked at MAIL.
    ///
    /// # Errors
    /// What the client hears instead.
    fn admission(&self) -> Result<(), Refusal>;

    /// A draft for a new message.
    fn draft(&self) -> Draft;

    /// Takes the message over, however long that takes. `gone` completes when the client has hung
    /// up: what has not begun by then need not.
    fn hand_over<'a>(&'a self, draft: Draft, arrival: Arrival, gone: Gone<'a>) -> HandOver<'a>;
}

/// Completes when the client has hung up.
pub type Gone<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send + 'a)>;

/// What becomes of a message that is handed over.
pub type HandOver<'a> = Pin<Box<dyn Future<Output = Result<Accepted, Refusal>> + Send + 'a>>;

/// A reason to tell a client that it is rid of its message. It is implemented for two types, each
/// of which only one module can make, and `tests/layers.rs` sees to it that there is no third.
pub trait Evidence {
    /// What the client hears behind 250.
    fn reply(&self) -> Reply;
}

/// 250 after mail data, which takes evidence.
#[derive(Debug)]
pub struct Accepted(Reply);

impl Accepted {
    /// What the evidence says.
    #[must_use]
    pub fn on(evidence: &impl Evidence) -> Self {
        Self(evidence.reply())
    }

    pub(super) fn into_reply(self) -> Reply {
        self.0
    }
}

/// 4yz or 5yz; a reply of another class cannot be one.
#[derive(Debug)]
pub struct Refusal(Reply);

impl Refusal {
    /// A refusal in these words. A reply that is none refuses for the time being.
    #[must_use]
    pub fn new(reply: Reply) -> Self {
        let code = reply.code();
        if code.is_transient() || code.is_permanent() {
            return Self(reply);
        }
        tracing::error!(%reply, "a refusal that is none; please report");
        Self(Reply::new(451, (4, 3, 0), "try again later"))
    }

    pub(super) fn into_reply(self) -> Reply {
        self.0
    }
}

/// The message is durable.
impl Evidence for Receipt {
    fn reply(&self) -> Reply {
        Reply::new(250, (2, 0, 0), format!("queued as {}", self.id()))
    }
}

impl Outlet for Store {
    fn admission(&self) -> Result<(), Refusal> {
        Self::admission(self).map_err(|fault| {
            count(&fault);
            tracing::warn!(error = %fault, "mail refused for the time being");
            Refusal::new(fault.reply())
        })
    }

    fn draft(&self) -> Draft {
        Self::draft(self)
    }

    fn hand_over<'a>(&'a self, draft: Draft, arrival: Arrival, _gone: Gone<'a>) -> HandOver<'a> {
        Box::pin(async move {
            let receipt = self.accept(draft, arrival).await;
            receipt.map(|receipt| Accepted::on(&receipt)).map_err(|fault| not_stored(&fault))
        })
    }
}

fn count(fault: &StoreError) {
    events::not_stored(match fault {
        StoreError::Poisoned => NotStored::Poisoned,
        StoreError::TooManyMessages { .. } => NotStored::QueueFull,
        fault if fault.is_full() => NotStored::DiskFull,
        _ => NotStored::Fault,
    });
}

pub(super) fn not_stored(fault: &StoreError) -> Refusal {
    count(fault);
    tracing::error!(error = %fault, "message not stored");
    Refusal::new(fault.reply())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_accepts_is_no_refusal() {
        for accepting in [Reply::new(250, (2, 0, 0), "ok"), Reply::plain(354, vec!["go".into()])] {
            assert_eq!(Refusal::new(accepting).into_reply().code().value(), 451);
        }
        let refusal = Reply::new(550, (5, 1, 1), "no");
        assert_eq!(Refusal::new(refusal.clone()).into_reply(), refusal);
    }
}
