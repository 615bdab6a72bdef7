//! Reminds the admin by mail that the credential is going to end: to the addresses in `notices.to`,
//! 60, 30, 7 days and 1 day before, each time once, whatever restarts lie between. When it has ended
//! no mail goes out, so that none is written about that.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::sleep};

use super::{Route, notice::recipient, shared::Context};
use crate::{
    clock::UnixMillis,
    drain::Drain,
    mail::renewal::Renewal,
    smtp::{
        envelope::{Body as BodyType, Envelope, MailParameters},
        path::{Address, ReversePath},
    },
    store::{Arrival, NewNotice, Reminder, StoreError},
    telemetry::{events::notice_queued, metrics::causes::NoticeKind},
    token::{Expiry, RENEW},
};

/// A mark is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// After the store could not be asked or told.
const STORE_RETRY: Duration = Duration::from_secs(60);

/// Looks whether it is time to write, until the drain: for each account, whose own mailbox writes.
/// `contexts` are the accounts by their place. Two of them may have one certificate, about which one
/// letter is enough, and at a reload others look while these may not be done: each writes in its
/// `turn`.
pub(super) fn watch_all(
    contexts: &[Arc<Context>],
    routes: &[Route],
    turn: &Arc<Mutex<()>>,
    drain: &Drain,
) {
    for (place, context) in contexts.iter().enumerate() {
        let is_watched = |other: &Arc<Context>| other.token.is_same(&context.token);
        let of_account = |route: &&Route| route.lane.account == place;
        // The mailbox of a sender is used where there is no other.
        let route = routes.iter().filter(of_account).min_by_key(|route| route.by_sender);
        let Some(route) = route else { continue };
        if context.notices.to.is_empty() || contexts.iter().take(place).any(is_watched) {
            continue;
        }
        let mailbox = route.lane.mailbox.clone();
        let reminder = watch(Arc::clone(context), mailbox, Arc::clone(turn), drain.clone());
        drain.spawn(drain.vital("reminder", reminder));
    }
}

async fn watch(context: Arc<Context>, mailbox: String, turn: Arc<Mutex<()>>, drain: Drain) {
    let mut token = context.token.clone();
    let mut known = None;
    loop {
        let expiry = token.snapshot().expiry;
        let now = context.clock.now();
        let passed = expiry.map(|expiry| (expiry.marks_passed(now), expiry));
        let mut wait = LOOK_EVERY;
        if let Some((mark @ 1..Expiry::OVER, expiry)) = passed
            && known != Some((mark, expiry.at))
        {
            let turn = turn.lock().await;
            let reminded = remind(&context, &mailbox, &expiry, mark, now).await;
            drop(turn);
            match reminded {
                Ok(()) => known = Some((mark, expiry.at)),
                Err(error) => {
                    tracing::warn!(%error, "no reminder of the end of the credential, trying again");
                    wait = STORE_RETRY;
                }
            }
        }
        tokio::select! {
            () = drain.signaled() => return,
            () = sleep(wait) => {}
            () = token.changed() => {}
        }
    }
}

async fn remind(
    context: &Context,
    mailbox: &str,
    expiry: &Expiry,
    mark: u32,
    now: UnixMillis,
) -> Result<(), StoreError> {
    if context.store.mark_told(&expiry.what, expiry.at).await? >= mark {
        return Ok(());
    }
    let notice = notice(context, mailbox, expiry, now);
    let id = notice.id;
    let reminder = Reminder {
        subject: expiry.what.clone(),
        ends: expiry.at,
        mark,
        lane: mailbox.to_owned(),
        notice,
    };
    context.store.remind(reminder).await?;
    notice_queued(NoticeKind::Credential);
    let to: Vec<_> = context.notices.to.iter().map(Address::to_string).collect();
    tracing::info!(
        queue_id = %id, about = expiry.what, days_left = expiry.days_left(now), to = to.join(" "),
        "notice queued"
    );
    Ok(())
}

fn notice(context: &Context, mailbox: &str, expiry: &Expiry, now: UnixMillis) -> NewNotice {
    let id = context.store.new_id();
    let hostname = &context.notices.hostname;
    let to: Vec<_> = context.notices.to.iter().map(Address::to_string).collect();
    let message_id = format!("<{id}@{hostname}>");
    let renewal = Renewal {
        what: &expiry.what,
        days_left: expiry.days_left(now),
        ends: &expiry.at.rfc3339(),
        message_id: &message_id,
        from: mailbox,
        to: &to,
        hostname,
        date: &now.rfc5322(),
        advice: RENEW,
    };
    let mail_data = renewal.mail_data();
    let body = match mail_data.is_ascii() {
        true => BodyType::SevenBit,
        false => BodyType::EightBitMime,
    };
    let smtputf8 = !to.iter().map(String::as_str).chain([mailbox]).all(str::is_ascii);
    let envelope = Envelope {
        reverse_path: mailbox.parse().map_or(ReversePath::Null, ReversePath::Address),
        parameters: MailParameters { body, smtputf8, ..MailParameters::default() },
        recipients: context.notices.to.iter().map(recipient).collect(),
    };
    let (client, hello) = ("o365-relay".into(), String::new());
    let arrival = Arrival { envelope, time: now, client, hello, message_id };
    NewNotice { id, mail_data, arrival, tells_delay: false }
}
