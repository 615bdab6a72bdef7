//! The store's promises, each as somebody outside would notice it.

use std::sync::{Condvar, Mutex};

use super::*;
use crate::smtp::{
    envelope::{Envelope, MailParameters, RcptParameters, Recipient},
    path::ForwardPath,
};

mod ahead;
mod damage;
mod pruning;
mod putting_off;
mod statements;
mod survey;
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
async fn orphans_go_at_start_and_foreign_files_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, &vec![b'x'; 100_000], &["c@d"]).await.unwrap();
    let mut draft = store.draft();
    draft.append(&vec![b'y'; 100_000]).await.unwrap();
    assert_eq!(body_files(directory.path()), 2);
    drop(draft);
    assert_eq!(body_files(directory.path()), 1, "a dropped draft takes its file with it");

    let bodies = directory.path().join("queue/bodies");
    std::fs::write(bodies.join(format!("{}.eml", QueueId::new(1, 1))), "left by a crash").unwrap();
    std::fs::write(bodies.join("notes.txt"), "not ours").unwrap();
    store.close().await;
    drop(store);
    let store = open(directory.path());
    assert_eq!(body_files(directory.path()), 2, "the queued body and the foreign file");
    assert_eq!(store.due("lane", 10).await.unwrap().len(), 1);
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
async fn two_daemons_cannot_share_a_queue_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _store = open(directory.path());
    let error = open_with(config(directory.path()), Arc::new(Synced)).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("in use by another o365-relay (process "), "{text}");
}

#[tokio::test]
async fn a_newer_schema_and_a_foreign_file_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.close().await;
    drop(store);
    let path = directory.path().join("queue/queue.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let open_again = || open_with(config(directory.path()), Arc::new(Synced)).err().unwrap();
    assert!(open_again().to_string().contains("has schema version 99"));

    std::fs::write(&path, "this is not a database, it only stands where one should").unwrap();
    assert!(open_again().to_string().contains("is not a queue database"));
}

#[tokio::test]
async fn messages_of_a_lane_that_is_gone_are_routed_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, b"x", &["c@d"]).await.unwrap();
    store.close().await;
    drop(store);
    let router = Arc::new(OneLane("other"));
    let store =
        Store::open(config(directory.path()), Clock::at(START), Arc::new(Synced), router).unwrap();
    assert_eq!(store.due("other", 10).await.unwrap().len(), 1);
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

/// Holds each sync until it is let through, and records the order of things.
#[derive(Default)]
struct Gate {
    open: Mutex<usize>,
    changed: Condvar,
    log: Mutex<Vec<String>>,
}

impl Gate {
    fn let_through(&self, count: usize) {
        *self.open.lock().unwrap() += count;
        self.changed.notify_all();
    }

    fn note(&self, text: impl Into<String>) {
        self.log.lock().unwrap().push(text.into());
    }
}

impl Durability for Gate {
    fn make_durable(
        &self,
        what: Durable,
        sync: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut open =
            self.changed.wait_while(self.open.lock().unwrap(), |open| *open == 0).unwrap();
        *open -= 1;
        sync()?;
        self.note(match what {
            Durable::BodyFile(_) => "body file",
            Durable::BodyDirectory => "directory",
            Durable::Rows => "rows",
        });
        Ok(())
    }
}

#[tokio::test]
async fn a_receipt_comes_after_file_directory_and_rows_are_synced_in_this_order() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let store = open_with(config(directory.path()), gate.clone()).unwrap();
    for (size, syncs) in [(10, vec!["rows"]), (100_000, vec!["body file", "directory", "rows"])] {
        gate.log.lock().unwrap().clear();
        let accepting = tokio::spawn({
            let (store, gate) = (store.clone(), gate.clone());
            async move {
                put(&store, &vec![b'x'; size], &["c@d"]).await.unwrap();
                gate.note("receipt");
            }
        });
        for _ in &syncs {
            assert!(!accepting.is_finished());
            assert!(!gate.log.lock().unwrap().contains(&"receipt".to_owned()));
            gate.let_through(1);
        }
        accepting.await.unwrap();
        let expected: Vec<_> = syncs.iter().copied().chain(["receipt"]).collect();
        assert_eq!(*gate.log.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn what_piles_up_during_a_sync_is_committed_with_one_sync() {
    let directory = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let store = open_with(config(directory.path()), gate.clone()).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        tasks.spawn(async move { put(&store, b"x", &["c@d"]).await.map(|_| ()) });
    }
    // The first alone or with company, the rest together: far fewer syncs than messages.
    while store.shared.inbox.capacity() == INBOX {
        tokio::task::yield_now().await;
    }
    gate.let_through(50);
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let syncs = gate.log.lock().unwrap().len();
    assert!(syncs < 25, "{syncs} syncs for 50 messages");
}

/// Stands for whatever this program may do wrong in a commit.
struct Faulty;

#[expect(clippy::panic_in_result_fn, reason = "it is what it is for")]
impl Durability for Faulty {
    fn make_durable(
        &self,
        _: Durable,
        _: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        panic!("a fault of this program")
    }
}

#[tokio::test]
async fn a_committer_that_breaks_off_takes_no_mail_and_does_not_go_unnoticed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(config(directory.path()), Arc::new(Faulty)).unwrap();
    let error = put(&store, b"x", &["c@d"]).await.unwrap_err();
    assert!(matches!(error, StoreError::Closed), "{error}");
    store.ended().await;
}

/// Fails the syncs of rows while it is told to.
#[derive(Default)]
struct Failing(AtomicBool);

impl Durability for Failing {
    fn make_durable(
        &self,
        what: Durable,
        sync: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if what == Durable::Rows && self.0.load(Ordering::Relaxed) {
            return Err(StoreError::io("sync", "queue.db-wal")(std::io::Error::from_raw_os_error(
                5,
            )));
        }
        sync()
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_taken_until_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let failing = Arc::new(Failing::default());
    let store = open_with(config(directory.path()), failing.clone()).unwrap();
    let kept = put(&store, b"before", &["c@d"]).await.unwrap();
    failing.0.store(true, Ordering::Relaxed);
    let error = put(&store, b"lost sync", &["c@d"]).await.unwrap_err();
    assert_eq!(error.reply().code().value(), 451);
    failing.0.store(false, Ordering::Relaxed);
    assert!(store.is_poisoned());
    assert!(matches!(store.admission(), Err(StoreError::Poisoned)));
    assert!(matches!(put(&store, b"after", &["c@d"]).await, Err(StoreError::Poisoned)));
    store.close().await;
    drop(store);

    let store = open(directory.path());
    store.admission().unwrap();
    let due = store.due("lane", 10).await.unwrap();
    assert_eq!(due.iter().map(|entry| entry.id).collect::<Vec<_>>(), [kept.id()]);
}

#[tokio::test(start_paused = true)]
async fn history_is_cut_back_when_it_is_old() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for _ in 0..2 {
        let receipt = put(&store, b"x", &["c@d"]).await.unwrap();
        let deferred = Outcome::Deferred { reply: "451 later".into(), next_attempt: START };
        store.settle(settlement(receipt.id(), vec![(0, deferred)])).await.unwrap();
        store.settle(settlement(receipt.id(), vec![(0, relayed())])).await.unwrap();
        tokio::time::advance(Duration::from_secs(2 * 86_400)).await;
    }
    let later = Arrival { time: START + Duration::from_secs(4 * 86_400), ..arrival(&["c@d"]) };
    store.accept(store.draft(), later).await.unwrap();
    assert_eq!(store.history(false, 10).await.unwrap().len(), 0);
    let database = rusqlite::Connection::open(directory.path().join("queue/queue.db")).unwrap();
    let attempts: i64 =
        database.query_row("SELECT COUNT(*) FROM attempt", [], |row| row.get(0)).unwrap();
    assert_eq!(attempts, 0);
}

#[tokio::test]
async fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, &vec![b'x'; 100_000], &["c@d"]).await.unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let queue = directory.path().join("queue");
    assert_eq!((mode(&queue), mode(&queue.join("bodies"))), (0o700, 0o700));
    for name in ["queue.db", "queue.db-wal", "lock"] {
        assert_eq!(mode(&queue.join(name)), 0o600, "{name}");
    }
    let body = std::fs::read_dir(queue.join("bodies")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(mode(&body), 0o600);
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
async fn bodies_without_their_database_are_never_taken_for_orphans() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, &vec![b'x'; 100_000], &["c@d"]).await.unwrap();
    store.close().await;
    drop(store);
    let database = directory.path().join("queue/queue.db");
    std::fs::remove_file(&database).unwrap();
    for left in [None, Some("")] {
        assert!(!database.exists(), "a refusal makes no file");
        if let Some(text) = left {
            std::fs::write(&database, text).unwrap();
        }
        let error = open_with(config(directory.path()), Arc::new(Synced)).err().unwrap();
        assert!(error.to_string().contains("queue.db is missing or empty"), "{error}");
        assert_eq!(body_files(directory.path()), 1);
    }
}

#[tokio::test]
async fn a_crash_within_the_very_first_start_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("queue")).unwrap();
    let path = directory.path().join("queue/queue.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.pragma_update(None, "journal_mode", "WAL").unwrap();
    drop(database);
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
    let store = open(directory.path());
    put(&store, b"x", &["c@d"]).await.unwrap();
}

#[tokio::test]
async fn after_a_close_the_database_file_holds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, b"small", &["c@d"]).await.unwrap();
    store.due("lane", 10).await.unwrap(); // leaves a reader idle
    store.close().await;
    assert!(!directory.path().join("queue/queue.db-wal").exists());
}

#[tokio::test]
async fn mail_let_in_while_there_was_room_is_refused_when_the_room_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { min_free_bytes: u64::MAX, ..config(directory.path()) };
    let store = open_with(config, Arc::new(Synced)).unwrap();
    let error = put(&store, b"x", &["c@d"]).await.unwrap_err();
    assert_eq!(error.reply().code().value(), 452);
}
