//! The store's promises, each as somebody outside would notice it.

use super::*;
use crate::smtp::{
    envelope::{Envelope, MailParameters, RcptParameters, Recipient},
    path::ForwardPath,
};

mod ahead;
mod damage;
mod leased;
mod pruning;
mod putting_off;
mod routes;
mod starting;
mod statements;
mod survey;
mod syncing;
mod totals;

pub(super) const START: UnixMillis = UnixMillis(1_795_415_050_000);

struct OneLane(&'static str);

impl Router for OneLane {
    fn lane(&self, _: &ReversePath) -> String {
        self.0.into()
    }

    fn knows(&self, lane: &str) -> bool {
        lane == self.0
    }
}

pub(super) fn config(directory: &std::path::Path) -> Config {
    Config {
        directory: directory.join("queue"),
        min_free_bytes: 0,
        max_messages: 1000,
        history_keep: Duration::from_secs(86_400),
    }
}

pub(super) fn open_with(
    config: Config,
    durability: Arc<dyn Durability>,
) -> Result<Store, StoreError> {
    Store::open(config, Clock::at(START), durability, Arc::new(OneLane("lane")))
}

pub(super) fn open(directory: &std::path::Path) -> Store {
    open_with(config(directory), Arc::new(Synced)).unwrap()
}

fn arrival(recipients: &[&str]) -> Arrival {
    let recipient = |text: &&str| Recipient {
        forward_path: ForwardPath(text.parse().unwrap()),
        parameters: RcptParameters::default(),
    };
    Arrival {
        envelope: Envelope {
            reverse_path: ReversePath::Address("a@b.example".parse().unwrap()),
            parameters: MailParameters { smtputf8: true, ..MailParameters::default() },
            recipients: recipients.iter().map(recipient).collect(),
        },
        time: START,
        client: "127.0.0.1".into(),
        hello: "printer".into(),
        message_id: "<m@b>".into(),
    }
}

pub(super) async fn put(
    store: &Store,
    octets: &[u8],
    recipients: &[&str],
) -> Result<Receipt, StoreError> {
    let mut draft = store.draft();
    for chunk in octets.chunks(10_000) {
        draft.append(chunk).await?;
    }
    store.accept(draft, arrival(recipients)).await
}

/// What is due, by id.
pub(super) async fn entry_ids(store: &Store) -> Vec<QueueId> {
    store.due("lane", 10).await.unwrap().iter().map(|entry| entry.id).collect()
}

async fn octets(store: &Store, entry: &Entry) -> Vec<u8> {
    let body = store.body(entry).await.unwrap();
    body.chunks().collect::<Result<Vec<_>, _>>().unwrap().concat()
}

pub(super) fn body_files(directory: &std::path::Path) -> usize {
    std::fs::read_dir(directory.join("queue/bodies")).unwrap().count()
}

pub(super) fn settlement(id: QueueId, outcomes: Vec<(u32, Outcome)>) -> Settlement {
    let concluded = |(position, outcome)| Concluded { position, outcome, advice: None };
    let outcomes = outcomes.into_iter().map(concluded).collect();
    Settlement { id, outcomes, notices: Vec::new() }
}

pub(super) fn relayed() -> Outcome {
    Outcome::Relayed { reply: "250 2.0.0 OK".into() }
}

#[tokio::test]
async fn what_was_accepted_is_there_after_a_restart_small_and_large() {
    let directory = tempfile::tempdir().unwrap();
    let large = vec![b'x'; 300_000];
    let store = open(directory.path());
    let first = put(&store, b"small", &["c@d.example", "e@f.example"]).await.unwrap();
    let second = put(&store, &large, &["c@d.example"]).await.unwrap();
    store.close().await;
    drop(store);

    let store = open(directory.path());
    let due = store.due("lane", 10).await.unwrap();
    assert_eq!(due.iter().map(|entry| entry.id).collect::<Vec<_>>(), [first.id(), second.id()]);
    assert_eq!(due[0].recipients.len(), 2);
    assert!(due[0].parameters.smtputf8);
    assert_eq!(octets(&store, &due[0]).await, b"small");
    assert_eq!(octets(&store, &due[1]).await, large);
}

#[tokio::test]
async fn a_settled_message_leaves_nothing_but_history() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let receipt = put(&store, &vec![b'x'; 100_000], &["c@d", "e@f"]).await.unwrap();
    let later = START + Duration::from_secs(60);
    let deferred = Outcome::Deferred { reply: "451 later".into(), next_attempt: later };
    let id = receipt.id();
    store.settle(settlement(id, vec![(0, relayed()), (1, deferred)])).await.unwrap();
    assert!(store.due("lane", 10).await.unwrap().is_empty());
    assert_eq!(store.next_due("lane").await.unwrap(), Some(later));
    assert_eq!(body_files(directory.path()), 1);

    let failed = Outcome::Failed { reply: "550 5.1.1 no".into() };
    store.settle(settlement(id, vec![(1, failed)])).await.unwrap();
    store.close().await; // the file goes after the answer
    assert_eq!(body_files(directory.path()), 0);
    assert_eq!(store.summary().await.unwrap(), Summary::default());
    let history = store.history(false, 10).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|row| (row.forward_path.as_str(), row.disposition.as_str(), row.attempts))
        .collect();
    assert_eq!(told, [("e@f", "failed", 2), ("c@d", "relayed", 1)]);
    assert_eq!(store.history(true, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_missing_body_hurts_only_its_message() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let lost = put(&store, &vec![b'x'; 100_000], &["c@d"]).await.unwrap();
    let unhurt = put(&store, b"small", &["c@d"]).await.unwrap();
    std::fs::remove_file(directory.path().join(format!("queue/bodies/{}.eml", lost.id()))).unwrap();
    let due = store.due("lane", 10).await.unwrap();
    assert!(store.body(&due[0]).await.unwrap_err().is_missing_body());
    store.hold(lost.id(), "body missing".into()).await.unwrap();
    let due = store.due("lane", 10).await.unwrap();
    assert_eq!(due.iter().map(|entry| entry.id).collect::<Vec<_>>(), [unhurt.id()]);
    assert_eq!(store.summary().await.unwrap().lanes[0].held, 1);
}

#[tokio::test]
async fn limits_refuse_mail_for_the_time_being() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { max_messages: 1, ..config(directory.path()) };
    let store = open_with(config, Arc::new(Synced)).unwrap();
    store.admission().unwrap();
    let receipt = put(&store, b"x", &["c@d"]).await.unwrap();
    let error = store.admission().unwrap_err();
    assert_eq!(error.reply().code().value(), 452);
    store.settle(settlement(receipt.id(), vec![(0, relayed())])).await.unwrap();
    store.admission().unwrap();

    let other = tempfile::tempdir().unwrap();
    let config = Config { min_free_bytes: u64::MAX, ..self::config(other.path()) };
    let store = open_with(config, Arc::new(Synced)).unwrap();
    assert!(store.admission().unwrap_err().is_full());
}

#[tokio::test]
async fn a_notice_becomes_durable_with_the_failure_it_tells_of() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let receipt = put(&store, b"x", &["c@d"]).await.unwrap();
    let notice = NewNotice {
        id: store.new_id(),
        mail_data: b"Subject: failed\r\n".to_vec(),
        arrival: arrival(&["a@b.example"]),
        tells_delay: false,
    };
    let failed = Outcome::Failed { reply: "550 5.1.1 no".into() };
    let settled =
        Settlement { notices: vec![notice.clone()], ..settlement(receipt.id(), vec![(0, failed)]) };
    store.settle(settled).await.unwrap();
    let due = store.due("lane", 10).await.unwrap();
    assert_eq!(
        due.iter().map(|entry| (entry.id, entry.is_notice)).collect::<Vec<_>>(),
        [(notice.id, true)]
    );
    assert_eq!(octets(&store, &due[0]).await, notice.mail_data);
    assert_eq!(store.summary().await.unwrap().lanes[0].messages, 1);
}

#[tokio::test]
async fn each_attempt_is_on_record_but_no_more_than_fifty_of_a_recipient() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"x", &["c@d", "e@f"]).await.unwrap().id();
    for number in 1..=55 {
        let reply = format!("451 try {number}");
        let deferred = Outcome::Deferred { reply, next_attempt: START };
        let mut settled = settlement(id, vec![(1, deferred)]);
        settled.outcomes[0].advice = Some("wait".into());
        store.settle(settled).await.unwrap();
    }
    store.hold(id, "uncertain".into()).await.unwrap();
    let attempts = |database: &rusqlite::Connection| -> Vec<(u32, String, String)> {
        let mut query = database
            .prepare("SELECT position, disposition, reply FROM attempt ORDER BY position, number")
            .unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let database = rusqlite::Connection::open(directory.path().join("queue/queue.db")).unwrap();
    let told = attempts(&database);
    assert_eq!(told[0], (0, "held".into(), "uncertain".into()));
    assert_eq!(told[1], (1, "deferred".into(), "451 try 6".into()));
    assert_eq!(told[50], (1, "deferred".into(), "451 try 55".into()));
    assert_eq!(told[51], (1, "held".into(), "uncertain".into()));
    assert_eq!(told.len(), 52);
}

#[tokio::test]
async fn mail_let_in_while_there_was_room_is_refused_when_the_room_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { min_free_bytes: u64::MAX, ..config(directory.path()) };
    let store = open_with(config, Arc::new(Synced)).unwrap();
    let error = put(&store, b"x", &["c@d"]).await.unwrap_err();
    assert_eq!(error.reply().code().value(), 452);
}
