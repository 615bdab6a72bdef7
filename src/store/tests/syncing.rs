//! What is durable when, and what follows when a sync fails.

use std::sync::{Condvar, Mutex};

use super::*;

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
