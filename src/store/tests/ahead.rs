//! A clock that was ahead, and has been set back to `START`.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Mail stamped so much ahead.
async fn put_ahead(store: &Store, ahead: Duration) -> QueueId {
    let stamped = Arrival { time: START + ahead, ..arrival(&["c@d.example", "e@f.example"]) };
    store.accept(store.draft(), stamped).await.unwrap().id()
}

fn open_at(directory: &std::path::Path, time: UnixMillis) -> Store {
    let router = Arc::new(OneLane("lane"));
    Store::open(config(directory), Clock::at(time), Arc::new(Synced), router).unwrap()
}

fn deferred(ahead: Duration) -> Outcome {
    Outcome::Deferred { reply: "451 later".into(), next_attempt: START + ahead }
}

#[tokio::test]
async fn mail_of_a_clock_that_was_ahead_is_due_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put_ahead(&store, 2 * HOUR).await;
    let distant = put_ahead(&store, 73 * 365 * 24 * HOUR).await;
    store.close().await;
    drop(store);
    let store = open(directory.path());
    store.look_for_amendments().await.unwrap();
    assert_eq!(entry_ids(&store).await, [id, distant]);
    let due = store.due("lane", 10).await.unwrap();
    assert!(due.iter().all(|entry| entry.recipients.len() == 2));
    assert!(due.iter().all(|entry| entry.arrival > START), "the stamp stays on record");
}

#[tokio::test]
async fn mail_is_due_at_once_when_the_clock_is_set_back_and_the_lane_hears_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.look_at(START + 2 * HOUR).await.unwrap();
    let before = put_ahead(&store, 2 * HOUR).await;
    assert!(entry_ids(&store).await.is_empty());
    let mut lane = store.arrivals("lane");
    lane.mark_unchanged();
    store.look_at(START).await.unwrap();
    assert!(lane.has_changed().unwrap());
    assert_eq!(entry_ids(&store).await, [before]);
    // It was stamped before the step and is committed after it.
    let late = put_ahead(&store, 2 * HOUR).await;
    assert_eq!(entry_ids(&store).await, [before, late]);
}

/// The messages that are due, with the recipients of each that are.
async fn due(store: &Store) -> Vec<(QueueId, Vec<u32>)> {
    let positions = |entry: &Entry| entry.recipients.iter().map(|one| one.position).collect();
    let due = store.due("lane", 10).await.unwrap();
    due.iter().map(|entry| (entry.id, positions(entry))).collect()
}

#[tokio::test]
async fn a_recipient_deferred_by_a_clock_that_was_ahead_is_due_and_one_that_waits_rightly_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_at(directory.path(), START + 2 * HOUR);
    let id = put(&store, b"x", &["a@d", "b@d", "c@d"]).await.unwrap().id();
    store.settle(settlement(id, vec![(1, deferred(3 * HOUR))])).await.unwrap();
    store.close().await;
    drop(store);

    let store = open(directory.path());
    let outcomes = vec![(0, deferred(HOUR)), (2, deferred(24 * HOUR))];
    store.settle(settlement(id, outcomes)).await.unwrap();
    assert_eq!(due(&store).await, []);
    store.look_for_amendments().await.unwrap();
    assert_eq!(due(&store).await, [(id, vec![1])]);
    store.settle(settlement(id, vec![(1, relayed())])).await.unwrap();
    assert_eq!(store.next_due("lane").await.unwrap(), Some(START + HOUR));
}

#[tokio::test]
async fn what_would_wait_for_days_is_due_whatever_is_on_record() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"x", &["a@d"]).await.unwrap().id();
    store.settle(settlement(id, vec![(0, deferred(72 * HOUR))])).await.unwrap();
    store.look_for_amendments().await.unwrap();
    assert_eq!(due(&store).await, [(id, vec![0])]);
}

#[tokio::test]
async fn mail_of_a_held_sender_waits_no_longer_than_the_longest_hold() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let held = put(&store, b"x", &["c@d"]).await.unwrap().id();
    let too_long = put(&store, b"x", &["c@d"]).await.unwrap().id();
    store.postpone(vec![held], START + 4 * HOUR).await.unwrap();
    store.postpone(vec![too_long], START + 6 * HOUR).await.unwrap();
    store.look_at(START + 2 * HOUR).await.unwrap();
    assert!(due(&store).await.is_empty(), "by that clock all is as it should be");
    store.look_at(START).await.unwrap();
    assert_eq!(due(&store).await, [(too_long, vec![0])]);
    assert_eq!(store.next_due("lane").await.unwrap(), Some(START + 4 * HOUR));
}

#[tokio::test]
async fn each_message_becomes_due_once_for_each_step() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let ids = [put_ahead(&store, HOUR).await, put_ahead(&store, HOUR).await];
    store.look_at(START).await.unwrap();
    assert_eq!(entry_ids(&store).await, ids);
    // Its sender is held: it must not come back each second.
    store.postpone(ids.to_vec(), START + HOUR).await.unwrap();
    for _ in 0..3 {
        store.look_at(START).await.unwrap();
    }
    assert!(entry_ids(&store).await.is_empty());
}

#[tokio::test]
async fn a_long_queue_becomes_due_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let store =
        open_with(Config { max_messages: 10_000, ..config(directory.path()) }, Arc::new(Unsynced))
            .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1500 {
        let store = store.clone();
        tasks.spawn(async move { put_ahead(&store, HOUR).await });
    }
    tasks.join_all().await;
    for expected in [1000, 1500] {
        store.look_at(START).await.unwrap();
        assert_eq!(store.due("lane", 2000).await.unwrap().len(), expected);
    }
}

/// A disk that is quick.
struct Unsynced;

impl Durability for Unsynced {
    fn make_durable(
        &self,
        _: Durable,
        sync: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        sync()
    }
}

#[tokio::test(start_paused = true)]
async fn the_age_of_mail_that_is_stamped_ahead_grows_from_the_step_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.look_at(START + 2 * HOUR).await.unwrap();
    put_ahead(&store, 2 * HOUR).await;
    store.look_for_amendments().await.unwrap();
    tokio::time::advance(HOUR).await;
    store.look_for_amendments().await.unwrap();
    let lane = store.summary().await.unwrap().lanes.remove(0);
    assert_eq!((lane.oldest, lane.oldest_waiting), (START, Some(START)));
}
