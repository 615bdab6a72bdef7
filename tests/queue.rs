//! The queue over a scripted smarthost: what becomes of messages, and when they are tried again.

use std::time::Duration;

use o365_relay::{
    clock::Clock,
    delivery::smarthost::Smarthost,
    drain::Drain,
    mail::queue_id::QueueId,
    queue::{
        Config, DirectConfig, LaneConfig, Mode, NoticeConfig, OnUncertain, Pace, Route,
        SenderConfig, Upstream as Account, pause::PauseSnapshot, runner,
    },
    store::Settled,
    token::TokenHandle,
};

mod support;
use support::{
    dialogue::{
        ALL_OFFERS, MAILBOX, SECURE, START, TAKEN, TRANSACTION, auth, config, login, token,
    },
    message::{Mail, Queue, to},
    upstream::Upstream,
    wait::until,
};

const QUIT: &str = "C: QUIT\nS: 221 2.0.0 bye\nCLOSE\n";

struct Running {
    queue: runner::Queue,
    drain: Drain,
}

/// A lane with one connection, so that the order of a script's dialogues is that of the messages.
fn start(upstream: &Upstream, stored: &Queue) -> Running {
    start_with(upstream, stored, 50)
}

fn start_with(upstream: &Upstream, stored: &Queue, max_messages_per_connection: u32) -> Running {
    let mut delivery = config(upstream.port, upstream.tls());
    delivery.max_messages_per_connection = max_messages_per_connection;
    let lane = LaneConfig {
        account: 0,
        mailbox: MAILBOX.into(),
        max_connections: 1,
        pace: Pace::Unlimited,
        recipients_per_day: None,
    };
    let config = Config {
        mode: Mode::Queue,
        direct: DirectConfig { wait: Duration::ZERO, spool_directory: "/nonexistent".into() },
        routes: vec![Route::to(lane)],
        sender: SenderConfig::default(),
        max_connections: 10,
        give_up_after: Duration::from_secs(86_400),
        on_uncertain: OnUncertain::Retry,
        notices: NoticeConfig {
            hostname: "relay.example".into(),
            to: vec!["postmaster@contoso.com".parse().expect("an address")],
            delay_after: None,
        },
    };
    let drain = Drain::new();
    let queue = runner::Queue::start(
        config,
        stored.store.clone(),
        Account {
            name: "office365".into(),
            token: TokenHandle::fixed(token()),
            smarthost: Smarthost::new(delivery),
        },
        Vec::new(),
        Clock::at(START),
        &drain,
    );
    Running { queue, drain }
}

impl Running {
    fn lane(&self) -> runner::LaneSnapshot {
        self.queue.lanes().remove(0)
    }

    async fn lane_pause(&self) -> PauseSnapshot {
        until("a pause of the lane", async || self.lane().pause).await
    }

    async fn relay_pause(&self) -> PauseSnapshot {
        until("a pause of the relay", async || self.queue.relay_pause()).await
    }

    /// Idle connections say QUIT; the upstream must have seen its scripts through.
    async fn end(self, upstream: Upstream) -> Vec<Vec<u8>> {
        self.drain.finish(support::wait::PATIENCE).await.expect("an orderly end");
        upstream.finish().await
    }
}

/// Lets time pass for the relay while nothing is under way.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn history(stored: &Queue, count: usize) -> Vec<Settled> {
    until("settled recipients", async || {
        let history = stored.store.history(false, 100).await.expect("a history");
        (history.len() >= count).then_some(history)
    })
    .await
}

/// `(recipient, disposition, attempts)`, in the order in which they were settled.
fn told(history: &[Settled]) -> Vec<(&str, &str, u32)> {
    let mut told: Vec<_> = history
        .iter()
        .map(|row| (row.forward_path.as_str(), row.disposition.as_str(), row.attempts))
        .collect();
    told.reverse();
    told
}

async fn queued(stored: &Queue) -> (u64, u64) {
    let summary = stored.store.summary().await.expect("a summary");
    summary.lanes.first().map_or((0, 0), |lane| (lane.messages, lane.held))
}

/// Waits until every message of the lane waits for a later attempt.
async fn deferred(stored: &Queue) -> Duration {
    until("a deferred message", async || {
        let due = stored.store.due(MAILBOX, 10).await.expect("a page");
        if !due.is_empty() {
            return None;
        }
        let next = stored.store.next_due(MAILBOX).await.expect("a time")?;
        Some(next.since(START))
    })
    .await
}

#[tokio::test]
async fn messages_follow_each_other_over_one_connection() {
    let upstream =
        Upstream::start(&[format!("{}{TRANSACTION}{TAKEN}{TRANSACTION}{TAKEN}{QUIT}", login())]);
    let stored = Queue::new();
    let relay = start(&upstream, &stored);
    for count in 1..=2 {
        stored.put(Mail::default()).await;
        history(&stored, count).await;
        until("an idle connection", async || (relay.lane().idle_connections == 1).then_some(()))
            .await;
    }
    assert_eq!(queued(&stored).await, (0, 0));
    relay.end(upstream).await;
}

#[tokio::test]
async fn a_connection_that_upstream_closed_while_idle_costs_no_attempt() {
    let mail = TRANSACTION.lines().next().expect("MAIL");
    for closing in
        ["CLOSE\n".to_owned(), format!("{mail}\nS: 421 4.4.1 Connection timed out\nCLOSE\n")]
    {
        let upstream = Upstream::start(&[
            format!("{}{TRANSACTION}{TAKEN}{closing}", login()),
            format!("{}{TRANSACTION}{TAKEN}{QUIT}", login()),
        ]);
        let stored = Queue::new();
        let relay = start(&upstream, &stored);
        stored.put(Mail::default()).await;
        history(&stored, 1).await;
        until("an idle connection", async || (relay.lane().idle_connections == 1).then_some(()))
            .await;
        stored.put(Mail::default()).await;
        let history = history(&stored, 2).await;
        assert_eq!(told(&history)[1], ("a@example.net", "relayed", 1), "{closing}");
        relay.end(upstream).await;
    }
}

#[tokio::test]
async fn a_connection_that_has_carried_its_messages_ends_with_quit() {
    let script = format!("{}{TRANSACTION}{TAKEN}{QUIT}", login());
    let upstream = Upstream::start(&[&script, &script]);
    let stored = Queue::new();
    stored.put(Mail::default()).await;
    stored.put(Mail::default()).await;
    let relay = start_with(&upstream, &stored, 1);
    history(&stored, 2).await;
    relay.end(upstream).await;
}

#[tokio::test]
async fn recipients_over_the_limit_follow_at_once_in_another_transaction() {
    let script = "\
C: MAIL FROM:<app@contoso.com> SIZE=24
S: 250 OK
C: RCPT TO:<a@x.net>
S: 250 OK
C: RCPT TO:<b@x.net>
S: 452 4.5.3 Too many recipients
C: DATA
S: 354 go
DATA
S: 250 OK
C: MAIL FROM:<app@contoso.com> SIZE=24
S: 250 OK
C: RCPT TO:<b@x.net>
S: 250 OK
C: RCPT TO:<c@x.net> NOTIFY=NEVER
S: 550 5.1.10 nobody
C: DATA
S: 354 go
DATA
S: 250 OK
";
    let upstream = Upstream::start(&[format!("{}{script}{QUIT}", login())]);
    let stored = Queue::new();
    let mut to: Vec<_> = ["a@x.net", "b@x.net", "c@x.net"].map(to).into();
    to[2].parameters.notify = Some("NEVER".into());
    stored.put(Mail { to, ..Mail::default() }).await;
    let relay = start(&upstream, &stored);
    let mut history = history(&stored, 3).await;
    history.sort_by(|one, other| one.forward_path.cmp(&other.forward_path));
    history.reverse();
    assert_eq!(
        told(&history),
        [("a@x.net", "relayed", 1), ("b@x.net", "relayed", 2), ("c@x.net", "failed", 2)]
    );
    assert_eq!(queued(&stored).await, (0, 0));
    assert_eq!(relay.end(upstream).await.len(), 2);
}

#[tokio::test]
async fn a_transient_refusal_is_tried_again_after_a_minute() {
    let refused = format!("{TRANSACTION}DATA\nS: 451 4.7.0 Temporary server error\n");
    let upstream = Upstream::start(&[
        format!("{}{refused}{QUIT}", login()),
        format!("{}{TRANSACTION}{TAKEN}{QUIT}", login()),
    ]);
    let stored = Queue::new();
    stored.put(Mail::default()).await;
    let relay = start(&upstream, &stored);
    assert_eq!(deferred(&stored).await.as_secs(), 60);
    assert!(relay.lane().pause.is_none());
    pass(Duration::from_secs(60)).await;
    assert_eq!(told(&history(&stored, 1).await), [("a@example.net", "relayed", 2)]);
    relay.end(upstream).await;
}

#[tokio::test]
async fn a_connection_lost_within_a_transaction_counts_as_an_attempt() {
    for lost in [
        TRANSACTION.replace("S: 354 go ahead", "CLOSE"),
        format!("{TRANSACTION}DATA\nCLOSE\n"), // uncertain: rather twice than never
    ] {
        let upstream = Upstream::start(&[
            format!("{}{lost}", login()),
            format!("{}{TRANSACTION}{TAKEN}{QUIT}", login()),
        ]);
        let stored = Queue::new();
        stored.put(Mail::default()).await;
        let relay = start(&upstream, &stored);
        assert_eq!(deferred(&stored).await.as_secs(), 60);
        assert!(relay.queue.relay_pause().is_none() && relay.lane().pause.is_none());
        pass(Duration::from_secs(60)).await;
        assert_eq!(told(&history(&stored, 1).await), [("a@example.net", "relayed", 2)]);
        relay.end(upstream).await;
    }
}

#[tokio::test]
async fn a_refused_login_pauses_the_lane_and_costs_no_attempt() {
    let upstream = Upstream::start(&[
        format!("{SECURE}{ALL_OFFERS}{}S: 535 5.7.3 Authentication unsuccessful\n", auth()),
        format!("{}{TRANSACTION}{TAKEN}{TRANSACTION}{TAKEN}{QUIT}", login()),
    ]);
    let stored = Queue::new();
    stored.put(Mail::default()).await;
    stored.put(Mail::default()).await;
    let relay = start(&upstream, &stored);
    let pause = relay.lane_pause().await;
    assert!(pause.cause.reason.starts_with("535 5.7.3 Authentication unsuccessful"));
    assert!(pause.cause.advice.expect("advice").contains("-Identity relay@contoso.com"));
    assert!(pause.retry > Duration::from_secs(55) && pause.retry <= Duration::from_secs(60));
    assert!(relay.queue.relay_pause().is_none());
    pass(Duration::from_secs(60)).await;
    let attempts = [("a@example.net", "relayed", 1); 2];
    assert_eq!(told(&history(&stored, 2).await), attempts);
    assert!(relay.lane().pause.is_none());
    relay.end(upstream).await;
}

#[tokio::test]
async fn a_smarthost_that_turns_all_away_pauses_the_relay_longer_each_time() {
    let upstream = Upstream::start(&[
        "S: 421 4.3.2 Service not available\n",
        "S: 421 4.3.2 Service not available\n",
        &format!("{}{TRANSACTION}{TAKEN}{QUIT}", login()),
    ]);
    let stored = Queue::new();
    stored.put(Mail::default()).await;
    let relay = start(&upstream, &stored);
    let pause = relay.relay_pause().await;
    assert!(pause.cause.reason.starts_with("421 4.3.2 Service not available"));
    assert!(pause.retry <= Duration::from_secs(5));
    pass(Duration::from_secs(5)).await;
    until("a longer pause", async || {
        relay.queue.relay_pause().filter(|pause| pause.retry > Duration::from_secs(5))
    })
    .await;
    pass(Duration::from_secs(10)).await;
    assert_eq!(told(&history(&stored, 1).await), [("a@example.net", "relayed", 1)]);
    assert!(relay.queue.relay_pause().is_none());
    relay.end(upstream).await;
}

#[tokio::test]
async fn trouble_with_a_step_of_the_way_in_names_its_cure() {
    let hello = "S: 220 fake\nC: EHLO relay.contoso.com\n";
    for (script, cure) in [
        (format!("{hello}S: 501 5.5.4 Invalid domain name\n"), "office365.ehlo_name"),
        (format!("{hello}S: 250 fake\n"), "office365.smtp_port"),
        ("S: SSH-2.0-OpenSSH_9.9\n".to_owned(), "office365.smtp_port"),
        ("CLOSE\n".to_owned(), "office365.smtp_port"),
    ] {
        let upstream = Upstream::start(&[script]);
        let stored = Queue::new();
        stored.put(Mail::default()).await;
        let relay = start(&upstream, &stored);
        let pause = relay.relay_pause().await;
        let advice = pause.cause.advice.unwrap_or_default();
        assert!(advice.contains(cure), "{advice:?} for {}", pause.cause.reason);
        relay.end(upstream).await;
    }
}

#[tokio::test]
async fn a_probe_that_breaks_off_does_not_end_the_pause() {
    let blocked = "S: 550 5.2.252 Sender throttled due to continuous send as denied errors\n";
    let upstream = Upstream::start(&[
        format!("{}{TRANSACTION}DATA\n{blocked}{QUIT}", login()),
        format!("{}{}", login(), TRANSACTION.replace("S: 354 go ahead", "CLOSE")),
        format!("{}{TRANSACTION}DATA\n{blocked}{QUIT}", login()),
    ]);
    let stored = Queue::new();
    stored.put(Mail::default()).await;
    stored.put(Mail::default()).await;
    let relay = start(&upstream, &stored);
    relay.lane_pause().await;
    until("no connection", async || (relay.lane().in_flight == 0).then_some(())).await;
    pass(Duration::from_secs(31)).await; // the idle connection goes
    until("no idle connection", async || (relay.lane().idle_connections == 0).then_some(())).await;
    pass(Duration::from_secs(30 * 60)).await;
    // The first message breaks off, the second hears the same as before: an hour now.
    until("a longer pause", async || {
        relay.lane().pause.filter(|pause| pause.retry > Duration::from_secs(31 * 60))
    })
    .await;
    assert_eq!(queued(&stored).await, (2, 0));
    relay.end(upstream).await;
}

#[tokio::test]
async fn a_blocked_mailbox_pauses_while_a_refused_sender_fails() {
    let refused = "S: 554 5.2.252 SendAsDenied; relay@contoso.com not allowed to send as x\n";
    let blocked = "S: 550 5.2.252 Sender throttled due to continuous send as denied errors\n";
    // Nobody hears of the failure, so nothing else is in the queue.
    let from_nobody = TRANSACTION.replace("app@contoso.com", MAILBOX);
    let upstream = Upstream::start(&[format!(
        "{}{from_nobody}DATA\n{refused}C: RSET\nS: 250 OK\n{TRANSACTION}DATA\n{blocked}{QUIT}",
        login()
    )]);
    let stored = Queue::new();
    stored.put(Mail { from: "", ..Mail::default() }).await;
    let relay = start(&upstream, &stored);
    let failed = history(&stored, 1).await;
    assert_eq!(told(&failed), [("a@example.net", "failed", 1)]);
    assert!(failed[0].reply.starts_with("554 5.2.252 SendAsDenied"), "{}", failed[0].reply);
    assert!(relay.lane().pause.is_none());
    stored.put(Mail::default()).await;
    let pause = relay.lane_pause().await;
    assert!(pause.retry > Duration::from_secs(29 * 60), "{:?}", pause.retry);
    assert_eq!(queued(&stored).await, (1, 0));
    relay.end(upstream).await;
}

#[tokio::test]
async fn a_message_with_a_damaged_body_is_set_aside_and_the_next_goes() {
    let upstream = Upstream::start(&[format!("{}{TRANSACTION}{TAKEN}{QUIT}", login())]);
    let stored = Queue::new();
    let body = b"0123456789abcde\r\n".repeat(20_000);
    let damaged = stored.entry(Mail { body: &body, ..Mail::default() }).await;
    std::fs::write(stored.body_file(&damaged), &body[..100_000]).expect("a shorter file");
    stored.put(Mail::default()).await;
    let relay = start(&upstream, &stored);
    history(&stored, 1).await;
    assert_eq!(queued(&stored).await, (1, 1));
    relay.end(upstream).await;
}

/// Its octets go upstream but for the last of them, and no dot: upstream discards them.
#[tokio::test]
async fn a_body_file_with_other_octets_is_set_aside_and_the_next_goes_at_once() {
    let body = b"0123456789abcde\r\n".repeat(20_000);
    let transaction = TRANSACTION.replace("SIZE=24", &format!("SIZE={}", body.len()));
    let upstream = Upstream::start(&[
        format!("{}{transaction}READ 327680\n", login()),
        format!("{}{TRANSACTION}{TAKEN}{QUIT}", login()),
    ]);
    let stored = Queue::new();
    let damaged = stored.entry(Mail { body: &body, ..Mail::default() }).await;
    stored.put(Mail::default()).await;
    let mut octets = body.clone();
    octets[1000] ^= 1;
    std::fs::write(stored.body_file(&damaged), &octets).expect("a changed file");
    let relay = start(&upstream, &stored);
    assert_eq!(told(&history(&stored, 1).await), [("a@example.net", "relayed", 1)]);
    assert!(relay.lane().pause.is_none() && relay.queue.relay_pause().is_none());
    held_for(&stored, damaged.id, &format!("{}.eml are not those", damaged.id));
    assert_eq!(relay.end(upstream).await.len(), 1);
}

#[tokio::test]
async fn a_small_body_with_other_octets_is_set_aside_before_any_connection() {
    let upstream = Upstream::start(&[format!("{}{TRANSACTION}{TAKEN}{QUIT}", login())]);
    let stored = Queue::new();
    let damaged = stored.put(Mail::default()).await;
    let change = "UPDATE body SET data = CAST(replace(data, 'hello', 'hallo') AS BLOB)";
    assert_eq!(database(&stored).execute(change, ()).expect("a changed row"), 1);
    stored.put(Mail::default()).await;
    let relay = start(&upstream, &stored);
    history(&stored, 1).await;
    held_for(&stored, damaged, "the octets in its row in queue.db are not those");
    assert_eq!(relay.end(upstream).await.len(), 1);
}

fn database(stored: &Queue) -> rusqlite::Connection {
    rusqlite::Connection::open(stored.database()).expect("the database")
}

/// The message is held with such a reason, and no attempt counts against it.
fn held_for(stored: &Queue, id: QueueId, wanted: &str) {
    let (reason, attempts): (String, u32) = database(stored)
        .query_row(
            "SELECT m.hold_reason, r.attempts FROM message m JOIN recipient r \
             ON r.message = m.sequence WHERE m.id = ?1",
            [id.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("a held message");
    assert!(reason.contains(id.as_str()) && reason.contains(wanted), "{reason}");
    assert_eq!(attempts, 0);
}

#[tokio::test]
async fn a_failure_is_told_to_the_sender_and_the_postmaster_through_the_same_lane() {
    let refused = "C: RCPT TO:<a@example.net>\nS: 550 5.1.10 no such user\n";
    let mail = "C: MAIL FROM:<app@contoso.com> SIZE=24\nS: 250 OK\n";
    let notice = "\
C: RSET
S: 250 OK
C: MAIL FROM:<relay@contoso.com> SIZE=*
S: 250 OK
C: RCPT TO:<app@contoso.com> NOTIFY=NEVER
S: 250 OK
C: RCPT TO:<postmaster@contoso.com> NOTIFY=NEVER
S: 250 OK
C: DATA
S: 354 go
DATA
S: 550 5.1.1 nobody wants it
";
    let upstream = Upstream::start(&[format!("{}{mail}{refused}{notice}{QUIT}", login())]);
    let stored = Queue::new();
    stored.put(Mail::default()).await;
    let relay = start(&upstream, &stored);
    // The notice fails too, and nobody is told of that: there is no loop.
    let history = history(&stored, 3).await;
    assert_eq!(history.iter().filter(|row| row.disposition == "failed").count(), 3);
    assert_eq!(queued(&stored).await, (0, 0));
    let seen = relay.end(upstream).await;
    let text = String::from_utf8_lossy(&seen[0]).into_owned();
    for part in [
        "To: app@contoso.com,\r\n postmaster@contoso.com\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "Diagnostic-Code: smtp; 550 5.1.10 no such user",
        "Final-Recipient: rfc822;a@example.net\r\n",
        "Action: failed\r\nStatus: 5.1.10\r\n",
        "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 7bit\r\n\r\nSubject: hello\r\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}
