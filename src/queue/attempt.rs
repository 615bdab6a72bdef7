//! One message's attempt: body, connection, transaction, judgement, settlement. What became of
//! the recipients is committed before anything else happens.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    OnUncertain,
    judged::Judged,
    notice::Occasion,
    pause::Cause,
    shared::{Context, LaneState},
    transaction::{self, End, Origin, Transaction},
};
use crate::{
    delivery::{
        smarthost::{Connection, Share, Verdict},
        trouble::Trouble,
    },
    mail::queue_id::QueueId,
    office365::replies::PauseRule,
    store::{Body, Entry, Outcome, Settlement, StoreError},
    telemetry::events::SetAside,
};

/// How long a message waits whose body could not be read.
const UNREADABLE_RETRY: Duration = Duration::from_secs(300);

/// Between tries to record what upstream has said.
const SETTLE_RETRY: Duration = Duration::from_secs(1);
const SETTLE_RETRY_MOST: Duration = Duration::from_secs(30);

/// The end of an attempt.
pub(super) struct Finished {
    pub id: QueueId,
    /// A connection for the next message.
    pub connection: Option<Connection>,
    /// Recipients that upstream did not take the message for.
    pub not_relayed: u64,
}

/// Attempts one message, over `connection` if there is one, and settles what there is to settle.
/// `body` is what has just been read of it.
pub(super) async fn run(
    context: Arc<Context>,
    lane: Arc<LaneState>,
    entry: Entry,
    connection: Option<Connection>,
    body: Option<Body>,
) -> Finished {
    let transaction = Transaction {
        account: &context.account,
        lane: &lane,
        entry: &entry,
        share: Share::Accepted,
        give_up_after: Some(context.give_up_after),
        begun: Instant::now(),
    };
    let at_hand = Mutex::new(body);
    let attempt = Attempt { context: &context, transaction: &transaction, at_hand };
    let (end, connection) = transaction.run(connection, &attempt).await;
    let relayed = attempt.conclude(end).await;
    let connection = transaction::keep(connection).await;
    let not_relayed = (entry.recipients.len() as u64).saturating_sub(relayed);
    Finished { id: entry.id, connection, not_relayed }
}

struct Attempt<'a> {
    context: &'a Context,
    transaction: &'a Transaction<'a>,
    /// The body, until it is asked for.
    at_hand: Mutex<Option<Body>>,
}

impl<'a> Deref for Attempt<'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        self.transaction
    }
}

impl Origin for Attempt<'_> {
    /// The body; a message without one, or with a damaged one, is set aside, so that it stops no other. `None` also for
    /// a message that an operator has removed or held while it waited here.
    async fn body(&self) -> Option<Body> {
        let at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).take();
        if at_hand.is_some() {
            return at_hand;
        }
        match self.context.store.body_if_waiting(self.entry).await {
            Ok(Some(body)) => Some(body),
            Ok(None) => {
                tracing::info!(queue_id = %self.entry.id, "message withdrawn before its attempt");
                self.withdraw_probes();
                None
            }
            Err(error) if error.is_lost_body() => {
                self.set_aside(error.to_string()).await;
                None
            }
            Err(error) if error.is_shortage() => {
                self.pause_for_store(&error);
                None
            }
            Err(error) => {
                self.put_off(&error.to_string()).await;
                None
            }
        }
    }
}

impl Attempt<'_> {
    /// Recipients that upstream has the message for, once that is on record.
    async fn conclude(&self, end: End) -> u64 {
        match end {
            End::NoBody => {}
            End::NoToken => self.withdraw_probes(),
            End::NoConnection(trouble) => drop(self.close_gate(&trouble)),
            End::BrokenOff(Trouble::Damaged { cause }) => self.set_aside(cause).await,
            End::BrokenOff(trouble @ Trouble::Unreadable { .. }) => {
                self.put_off(&trouble.to_string()).await;
            }
            // Otherwise the oldest message could stop all others for ever.
            End::BrokenOff(trouble) if !trouble.stage().is_before_mail() => {
                return self.settle(self.interrupted(&trouble), false).await;
            }
            End::BrokenOff(trouble) => drop(self.close_gate(&trouble)),
            End::Fault => return self.settle(self.faulted(), false).await,
            End::Verdicts { verdicts, upstream_reports } => match self.is_to_be_held(&verdicts) {
                Some(cause) => self.set_aside(cause).await,
                None => return self.settle(self.judge(verdicts).0, upstream_reports).await,
            },
        }
        0
    }

    /// A body that cannot be read now may be readable later; until then it stops no other.
    async fn put_off(&self, error: &str) {
        let id = self.entry.id;
        tracing::error!(queue_id = %id, error, "message not readable, put off");
        let until = self.context.clock.now() + UNREADABLE_RETRY;
        match self.context.store.postpone(vec![id], until).await {
            Ok(()) => self.withdraw_probes(),
            Err(error) => self.pause_for_store(&error),
        }
    }

    async fn set_aside(&self, reason: String) {
        let lane = &self.lane.config.mailbox;
        SetAside { id: self.entry.id, lane, reason: &reason }.emit();
        match self.context.store.hold(self.entry.id, reason).await {
            Ok(()) => self.withdraw_probes(),
            Err(error) => {
                tracing::error!(queue_id = %self.entry.id, %error, "message not set aside");
                // It is still due: without a pause it would be the next again, at once.
                self.pause_for_store(&error);
            }
        }
    }

    fn pause_for_store(&self, error: &StoreError) {
        let cause = Cause { reason: error.to_string(), advice: None };
        self.withdraw_probes();
        self.lane.gate.close(cause, PauseRule::STORE);
    }

    /// With `on_uncertain = "hold"`, the reason to set the message aside. Either all accepted
    /// recipients are uncertain or none is; the others are tried when it is released.
    fn is_to_be_held(&self, verdicts: &[(u32, Verdict)]) -> Option<String> {
        let uncertain = verdicts.iter().find_map(|(_, verdict)| match verdict {
            Verdict::Uncertain(cause) => Some(cause),
            _ => None,
        })?;
        (self.context.on_uncertain == OnUncertain::Hold).then(|| {
            format!(
                "{uncertain} after the final dot: nobody knows whether upstream has the message"
            )
        })
    }

    /// Records the outcomes, however long that takes: upstream has spoken, and forgetting it
    /// would send the message again. Returns how many recipients it was relayed to.
    async fn settle(&self, judged: Vec<(u32, Judged)>, upstream_reports: bool) -> u64 {
        if judged.is_empty() {
            return 0;
        }
        let occasion = Occasion {
            context: self.context,
            lane: self.lane,
            entry: self.entry,
            judged: &judged,
            upstream_reports,
        };
        let notices = occasion.notices().await;
        let outcomes: Vec<_> = judged.iter().map(Judged::concluded).collect();
        let id = self.entry.id;
        let mut wait = SETTLE_RETRY;
        loop {
            let settlement =
                Settlement { id, outcomes: outcomes.clone(), notices: notices.clone() };
            match self.context.store.settle(settlement).await {
                Ok(()) => break,
                Err(error @ (StoreError::Poisoned | StoreError::Closed)) => {
                    tracing::error!(queue_id = %id, %error, "outcome not recorded, the message may be sent twice");
                    break;
                }
                Err(error) => {
                    tracing::error!(queue_id = %id, %error, "outcome not recorded yet, trying again");
                    sleep(wait).await;
                    wait = (wait * 2).min(SETTLE_RETRY_MOST);
                }
            }
        }
        self.tell(&judged);
        let relayed =
            |(_, judged): &&(u32, Judged)| matches!(judged.outcome, Outcome::Relayed { .. });
        judged.iter().filter(relayed).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        queue::fixture::{MAILBOX, START, arrival, context, lane_state},
        store::Desk,
    };

    /// Stands for whatever this program may do wrong in an attempt.
    struct Faulty;

    impl Origin for Faulty {
        async fn body(&self) -> Option<Body> {
            panic!("a fault of this program")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_fault_of_our_own_a_message_is_tried_again_and_never_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::at(START);
        let (context, lane) = (context(directory.path(), clock), lane_state(clock));
        let receipt = context.store.accept(context.store.draft(), arrival()).await.unwrap();
        for minutes in [1, 2, 5] {
            let due = context.store.due(MAILBOX, 10).await.unwrap();
            let [entry] = &due[..] else { panic!("the message is not due: {due:?}") };
            let transaction = Transaction {
                account: &context.account,
                lane: &lane,
                entry,
                share: Share::Accepted,
                give_up_after: Some(Duration::ZERO),
                begun: Instant::now(),
            };
            let (end, connection) = transaction.run(None, &Faulty).await;
            assert!(connection.is_none());
            let at_hand = Mutex::default();
            let attempt = Attempt { context: &context, transaction: &transaction, at_hand };
            assert_eq!(attempt.conclude(end).await, 0);
            assert!(context.store.due(MAILBOX, 10).await.unwrap().is_empty());
            let again = clock.now() + Duration::from_secs(60 * minutes);
            assert_eq!(context.store.next_due(MAILBOX).await.unwrap(), Some(again));
            tokio::time::advance(Duration::from_secs(60 * minutes)).await;
        }
        let story = Desk::open(&directory.path().join("queue")).unwrap().story(receipt.id());
        let attempts = story.unwrap().unwrap().attempts;
        assert_eq!(attempts.len(), 3);
        assert!(attempts.iter().all(|attempt| attempt.reply == transaction::FAULT));
    }
}
