//! Fifty mailboxes with a queue each: one that cannot log in stops no other, and none starves.
//!
//! Thirty thousand messages are queued. Without optimisation it would take half a minute to send
//! them all, so most of them wait in the lane that is paused.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use o365_relay::{
    clock::{Clock, UnixMillis},
    config::{self, Sources},
    delivery::smarthost::Smarthost,
    drain::Drain,
    queue::{LaneConfig, Pace, runner::Queue},
    sandbox::{self, Event, Sandbox},
    smtp::{
        envelope::{Envelope, MailParameters},
        path::ReversePath,
    },
    store::{self, Arrival, Router, Store, Synced},
    token,
};
use tokio::{sync::broadcast::error::RecvError, task::JoinSet, time::timeout};

mod support;
use support::{
    message::to,
    wait::{PATIENCE, until},
};

const LANES: usize = 50;

/// Messages in each lane that can send.
const MESSAGES: usize = 240;

/// The lane whose mailbox the tenant does not know.
const LOST: usize = 17;

/// Its messages, as a multiple of those of the others.
const LOST_SHARE: usize = 76;

fn mailbox(lane: usize) -> String {
    format!("relay@{}", domain(lane))
}

fn domain(lane: usize) -> String {
    format!("d{lane}.example")
}

/// Each domain has its own mailbox.
struct ByDomain(BTreeMap<String, String>);

impl Router for ByDomain {
    fn lane(&self, reverse_path: &ReversePath) -> &str {
        let domain = reverse_path.as_str().rsplit('@').next().unwrap_or_default();
        self.0.get(domain).map_or("", String::as_str)
    }

    fn knows(&self, lane: &str) -> bool {
        self.0.values().any(|name| name == lane)
    }
}

/// Puts a lane's messages into the queue, one after the other: `n0`, `n1` and so on.
async fn fill(store: Store, lane: usize, time: UnixMillis) {
    for n in 0..MESSAGES {
        let from = format!("app@{}", domain(lane));
        let body = format!(
            "From: {from}\r\nTo: a@example.net\r\nDate: Mon, 23 Nov 2026 06:24:10 +0000\r\n\
             Message-ID: <{n}@{}>\r\nSubject: n{n}\r\n\r\nText\r\n",
            domain(lane)
        );
        let mut draft = store.draft();
        draft.append(body.as_bytes()).await.expect("room");
        let envelope = Envelope {
            reverse_path: ReversePath::Address(from.parse().expect("an address")),
            parameters: MailParameters::default(),
            recipients: vec![to("a@example.net")],
        };
        let arrival = Arrival {
            envelope,
            time,
            client: "127.0.0.1".into(),
            hello: "printer".into(),
            message_id: format!("<{n}@{}>", domain(lane)),
        };
        store.accept(draft, arrival).await.expect("a receipt");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_lanes_finish_in_order_and_side_by_side_while_one_is_paused() {
    let known = (0..LANES).filter(|lane| *lane != LOST).map(mailbox).collect();
    let tenant = sandbox::Config { mailboxes: known, ..sandbox::Config::default() };
    let sandbox = Sandbox::start(tenant).await.expect("a sandbox");
    let mut events = sandbox.subscribe();
    let directory = tempfile::tempdir().expect("a directory");
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, sandbox.ca_pem()).expect("ca.pem");
    let file = directory.path().join("config.toml");
    std::fs::write(&file, sandbox.relay_config(&ca_file)).expect("config.toml");
    let sources = Sources { file: Some(file), ..Sources::default() };
    let config = config::load(&sources).unwrap_or_else(|faults| panic!("{faults}"));

    let clock = Clock::system();
    let store_config = store::Config {
        directory: directory.path().join("queue"),
        min_free_bytes: 0,
        max_messages: 100_000,
        history_keep: Duration::from_secs(3600),
    };
    let router = ByDomain((0..LANES).map(|lane| (domain(lane), mailbox(lane))).collect());
    let store = Store::open(store_config, clock, Arc::new(Synced), Arc::new(router));
    let store = store.expect("a store");
    let mut clients = JoinSet::new();
    for lane in 0..LANES {
        for _ in 0..if lane == LOST { LOST_SHARE } else { 1 } {
            clients.spawn(fill(store.clone(), lane, clock.now()));
        }
    }
    clients.join_all().await;
    let summary = store.summary().await.expect("a summary");
    assert_eq!(summary.lanes.iter().map(|lane| lane.messages).sum::<u64>(), 30_000);

    let lane = |lane| LaneConfig {
        mailbox: mailbox(lane),
        max_connections: 1, // so that messages arrive in the order in which they were sent
        pace: Pace::Unlimited,
        recipients_per_day: None,
    };
    let queue_config =
        o365_relay::queue::Config { lanes: (0..LANES).map(lane).collect(), ..config.queue };
    let drain = Drain::new();
    let token = token::spawn(config.token, clock, &drain);
    let smarthost = Smarthost::new(config.delivery);
    let queue = Queue::start(queue_config, store.clone(), token, smarthost, clock, &drain);

    let mut finished: BTreeMap<String, usize> =
        (0..LANES).filter(|lane| *lane != LOST).map(|lane| (mailbox(lane), 0)).collect();
    let all = finished.len() * MESSAGES;
    let mut widest = 0;
    for _ in 0..all {
        let arrival = loop {
            let event = timeout(PATIENCE, events.recv()).await.expect("no lane stands still");
            match event {
                Ok(Event::Arrived { arrival, .. }) => break arrival,
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => panic!("{missed} events were missed"),
                Err(RecvError::Closed) => panic!("the sandbox is gone"),
            }
        };
        let count = finished.get_mut(&arrival.authenticated_as).expect("a lane that can log in");
        let in_order = format!("n{count}");
        assert_eq!(arrival.subject.as_deref(), Some(&*in_order), "{}", arrival.authenticated_as);
        assert!(arrival.reverse_path.ends_with(&arrival.authenticated_as["relay@".len()..]));
        *count += 1;
        let most = finished.values().max().expect("a lane");
        let least = finished.values().min().expect("a lane");
        widest = widest.max(most - least);
    }
    assert!(widest <= MESSAGES / 3, "a lane was {widest} messages behind another");

    let lost = until("all settled", async || {
        let summary = store.summary().await.expect("a summary");
        (summary.lanes.len() == 1).then(|| summary.lanes[0].clone())
    })
    .await;
    let waiting = (LOST_SHARE * MESSAGES) as u64;
    assert_eq!((lost.lane, lost.messages, lost.held), (mailbox(LOST), waiting, 0));
    let history = store.history(false, all + 1).await.expect("a history");
    assert_eq!(history.len(), all);
    assert!(history.iter().all(|row| row.disposition == "relayed" && row.attempts == 1));
    let paused: Vec<_> = queue.lanes().into_iter().filter(|lane| lane.pause.is_some()).collect();
    assert_eq!((paused.len(), &*paused[0].name), (1, &*mailbox(LOST)));
    let reason = &paused[0].pause.as_ref().expect("a pause").cause.reason;
    assert!(reason.starts_with("535 5.7.3"), "{reason}");
    assert!(queue.relay_pause().is_none());

    drain.finish(PATIENCE).await.expect("an orderly end");
    store.close().await;
    assert_eq!(sandbox.arrivals(), all as u64, "none came twice");
}
