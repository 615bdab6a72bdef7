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
    queue::{
        self, LaneConfig, Pace, Route, Upstream,
        runner::{LaneSnapshot, Queue},
    },
    sandbox::{self, Event, Sandbox},
    smtp::{
        envelope::{Envelope, MailParameters},
        path::ReversePath,
    },
    store::{self, Arrival, Router, Store, Synced},
    token,
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinSet,
    time::timeout,
};

mod support;
use support::{
    message::to,
    relay::pass,
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
    fn lane(&self, reverse_path: &ReversePath) -> String {
        let domain = reverse_path.as_str().rsplit('@').next().unwrap_or_default();
        self.0.get(domain).cloned().unwrap_or_default()
    }

    fn knows(&self, lane: &str) -> bool {
        self.0.values().any(|name| name == lane)
    }
}

/// Puts a lane's messages into the queue, one after the other: `n0`, `n1` and so on.
async fn fill(store: Store, lane: usize, messages: usize, time: UnixMillis) {
    for n in 0..messages {
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

/// The tenant and the relay's lanes over a store that is filled before they start.
struct Fleet {
    sandbox: Sandbox,
    events: Receiver<Event>,
    store: Store,
    queue: Queue,
    drain: Drain,
    _directory: tempfile::TempDir,
}

impl Fleet {
    /// Lane number `lane` begins with `shares(lane)` times `messages` messages.
    async fn start(
        tenant: sandbox::Config,
        messages: usize,
        shares: impl Fn(usize) -> usize,
    ) -> Self {
        let sandbox = Sandbox::start(tenant).await.expect("a sandbox");
        let events = sandbox.subscribe();
        let directory = tempfile::tempdir().expect("a directory");
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, sandbox.ca_pem()).expect("ca.pem");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, sandbox.relay_config(&ca_file)).expect("config.toml");
        let sources = Sources { file: Some(file), ..Sources::default() };
        let config = config::load(&sources).unwrap_or_else(|faults| panic!("{faults}"));

        let clock = Clock::at(Clock::system().now()); // it moves when a test lets time pass
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
            for _ in 0..shares(lane) {
                clients.spawn(fill(store.clone(), lane, messages, clock.now()));
            }
        }
        clients.join_all().await;

        let lane = |lane| LaneConfig {
            account: 0,
            mailbox: mailbox(lane),
            max_connections: 1, // so that messages arrive in the order in which they were sent
            pace: Pace::Unlimited,
            recipients_per_day: None,
        };
        let routes = (0..LANES).map(lane).map(Route::to).collect();
        let drain = Drain::new();
        let queue = Queue::start(
            queue::Config { routes, ..config.queue },
            store.clone(),
            Upstream {
                name: "office365".into(),
                token: token::spawn(config.token, clock, &drain),
                smarthost: Smarthost::new(config.delivery),
            },
            Vec::new(),
            clock,
            &drain,
        );
        Self { sandbox, events, store, queue, drain, _directory: directory }
    }

    /// The next message that arrives in the tenant.
    async fn arrival(&mut self) -> Arc<sandbox::Arrival> {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await.expect("no lane stands still");
            match event {
                Ok(Event::Arrived { arrival, .. }) => return arrival,
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => panic!("{missed} events were missed"),
                Err(RecvError::Closed) => panic!("the sandbox is gone"),
            }
        }
    }

    /// Messages that wait, by lane.
    async fn queued(&self) -> BTreeMap<String, u64> {
        let summary = self.store.summary().await.expect("a summary");
        summary.lanes.into_iter().map(|lane| (lane.lane, lane.messages)).collect()
    }

    /// Waits until so many recipients are settled; all of them must have been relayed, at once.
    async fn all_relayed(&self, count: usize) {
        let history = until("all settled", async || {
            let history = self.store.history(false, count + 1).await.expect("a history");
            (history.len() >= count).then_some(history)
        })
        .await;
        assert_eq!(history.len(), count);
        assert!(history.iter().all(|row| row.disposition == "relayed" && row.attempts == 1));
    }

    async fn stop(self) {
        self.drain.finish(PATIENCE).await.expect("an orderly end");
        self.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_lanes_finish_in_order_and_side_by_side_while_one_is_paused() {
    let able: Vec<_> = (0..LANES).filter(|lane| *lane != LOST).map(mailbox).collect();
    let tenant = sandbox::Config { mailboxes: able.clone(), ..sandbox::Config::default() };
    let shares = |lane| if lane == LOST { LOST_SHARE } else { 1 };
    let mut fleet = Fleet::start(tenant, MESSAGES, shares).await;

    let all = able.len() * MESSAGES;
    let mut finished: BTreeMap<_, _> = able.into_iter().map(|mailbox| (mailbox, 0)).collect();
    let mut widest = 0;
    for _ in 0..all {
        let arrival = fleet.arrival().await;
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

    fleet.all_relayed(all).await;
    let waiting = (LOST_SHARE * MESSAGES) as u64;
    assert_eq!(waiting + all as u64, 30_000);
    assert_eq!(fleet.queued().await, BTreeMap::from([(mailbox(LOST), waiting)]));
    let mut paused = fleet.queue.lanes();
    paused.retain(|lane| lane.pause.is_some());
    assert_eq!((paused.len(), &*paused[0].name), (1, &*mailbox(LOST)));
    let reason = &paused[0].pause.as_ref().expect("a pause").cause.reason;
    assert!(reason.starts_with("535 5.7.3"), "{reason}");
    assert!(fleet.queue.relay_pause().is_none());
    assert_eq!(fleet.sandbox.arrivals(), all as u64, "none came twice");
    fleet.stop().await;
}

#[tokio::test]
async fn lanes_that_share_an_outage_send_one_probe_at_a_time_and_all_come_back() {
    let tenant = sandbox::Config {
        mailboxes: (0..LANES).map(mailbox).collect(),
        faults: vec!["greeting-421".parse().expect("a fault")],
        ..sandbox::Config::default()
    };
    let fleet = Fleet::start(tenant, 3, |_| 1).await;
    let struck = || fleet.sandbox.faults()[0].struck;
    let quiet = async || {
        let busy = |lane: LaneSnapshot| lane.in_flight > 0;
        let quiet = struck() > 0 && !fleet.queue.lanes().into_iter().any(busy);
        quiet.then_some(())
    };
    until("a pause", async || fleet.queue.relay_pause()).await;
    until("no attempt", quiet).await;
    assert!(struck() as usize <= LANES, "no lane tries twice before the pause");
    for _ in 0..5 {
        let before = struck();
        let retry = fleet.queue.relay_pause().expect("a pause").retry;
        pass(retry).await;
        until("a probe", async || (struck() > before).then_some(())).await;
        until("a longer pause", async || {
            fleet.queue.relay_pause().filter(|pause| pause.retry > retry)
        })
        .await;
        until("no attempt", quiet).await;
        assert_eq!(struck(), before + 1, "one probe for all lanes");
    }
    assert_eq!(fleet.queued().await.len(), LANES);

    fleet.sandbox.clear_faults();
    pass(fleet.queue.relay_pause().expect("a pause").retry).await;
    fleet.all_relayed(LANES * 3).await;
    assert!(fleet.queue.relay_pause().is_none());
    assert_eq!(fleet.sandbox.arrivals(), (LANES * 3) as u64);
    fleet.stop().await;
}
