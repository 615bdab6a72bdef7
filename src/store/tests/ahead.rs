//! A clock that was ahead, and has been set back to `START`.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Mail stamped so much ahead.
async fn put_ahead(store: &Store, ahead: Duration) -> QueueId {
    let stamped = Arrival { time: START + ahead, ..arrival(&["c@d.example", "e@f.example"]) };
    store.accept(store.draft(), stamped).await.unwrap().id()
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

#[tokio::test]
async fn what_is_put_off_for_a_usual_time_stays_put_off_when_the_clock_is_set_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let ids = [
        put(&store, b"x", &["c@d", "e@f"]).await.unwrap().id(),
        put(&store, b"x", &["c@d", "e@f"]).await.unwrap().id(),
        put(&store, b"x", &["c@d", "e@f"]).await.unwrap().id(),
        put(&store, b"x", &["c@d", "e@f"]).await.unwrap().id(),
    ];
    let [retried, too_far, held_sender, held_too_long] = ids;
    let soon = vec![(0, deferred(HOUR)), (1, deferred(HOUR))];
    store.settle(settlement(retried, soon)).await.unwrap();
    let one_too_far = vec![(0, deferred(HOUR)), (1, deferred(3 * HOUR))];
    store.settle(settlement(too_far, one_too_far)).await.unwrap();
    store.postpone(vec![held_sender], START + 4 * HOUR).await.unwrap();
    store.postpone(vec![held_too_long], START + 6 * HOUR).await.unwrap();

    store.look_at(START + 2 * HOUR).await.unwrap(); // the first look
    store.look_at(START + 2 * HOUR).await.unwrap();
    assert!(entry_ids(&store).await.is_empty(), "by that clock all is as it should be");
    store.look_at(START).await.unwrap();
    let due = store.due("lane", 10).await.unwrap();
    let positions = |entry: &Entry| entry.recipients.iter().map(|one| one.position).collect();
    let found: Vec<(QueueId, Vec<u32>)> =
        due.iter().map(|entry| (entry.id, positions(entry))).collect();
    assert_eq!(found, [(too_far, vec![1]), (held_too_long, vec![0, 1])]);
    assert_eq!(store.next_due("lane").await.unwrap(), Some(START + HOUR));
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
