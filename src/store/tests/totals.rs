//! The counts of the queue, and what is remembered beside it.

use rusqlite::Connection;

use super::*;
use crate::store::desk::{Amendment, Desk};

fn queue_db(directory: &std::path::Path) -> Connection {
    Connection::open(directory.join("queue/queue.db")).unwrap()
}

/// What a look at every message says.
fn counted(directory: &std::path::Path) -> Vec<(String, u64, u64, u64)> {
    let sql = "SELECT lane, COUNT(*), COUNT(hold_reason), SUM(size) FROM message GROUP BY lane";
    let row = |row: &rusqlite::Row<'_>| {
        let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
        Ok((row.get(0)?, number(1)?, number(2)?, number(3)?))
    };
    let database = queue_db(directory);
    let mut query = database.prepare(sql).unwrap();
    query.query_map([], row).unwrap().map(Result::unwrap).collect()
}

async fn told(store: &Store) -> Vec<(String, u64, u64, u64)> {
    let lanes = store.summary().await.unwrap().lanes;
    lanes.into_iter().map(|lane| (lane.lane, lane.messages, lane.held, lane.octets)).collect()
}

#[tokio::test]
async fn the_length_of_the_queue_follows_whatever_changes_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = open(path);
    let mut ids = Vec::new();
    for size in [10, 100_000, 30, 40, 50] {
        ids.push(put(&store, &vec![b'x'; size], &["c@d.example"]).await.unwrap().id());
    }
    assert_eq!(told(&store).await, [("lane".to_owned(), 5, 0, 100_130)]);
    store.hold(ids[0], "look".into()).await.unwrap();
    store.settle(settlement(ids[1], vec![(0, relayed())])).await.unwrap();
    let desk = Desk::open(&path.join("queue")).unwrap();
    desk.amend(&[ids[2]], &Amendment::Remove, START).unwrap();
    desk.amend(&[ids[3]], &Amendment::Hold { reason: "by hand".into() }, START).unwrap();
    assert_eq!(told(&store).await, [("lane".to_owned(), 3, 2, 100)]);
    desk.amend(&[ids[3]], &Amendment::Release, START).unwrap();
    assert_eq!(told(&store).await, [("lane".to_owned(), 3, 1, 100)]);
    assert_eq!(told(&store).await, counted(path));

    store.close().await;
    drop((store, desk));
    // Routed anew: the messages are in another lane then.
    let other = Arc::new(OneLane("other"));
    let reopened = Store::open(config(path), Clock::at(START), Arc::new(Synced), other).unwrap();
    assert_eq!(told(&reopened).await, [("other".to_owned(), 3, 1, 100)]);
    assert_eq!(told(&reopened).await, counted(path));
}

#[tokio::test]
async fn a_lane_with_nothing_in_it_leaves_no_count_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = open(path);
    let rows = || {
        let count = "SELECT COUNT(*) FROM lane_total";
        queue_db(path).query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let one = put(&store, b"one", &["c@d.example"]).await.unwrap().id();
    let two = put(&store, b"two", &["c@d.example"]).await.unwrap().id();
    store.settle(settlement(one, vec![(0, relayed())])).await.unwrap();
    assert_eq!(rows(), 1);
    store.hold(two, "look".into()).await.unwrap();
    assert_eq!(told(&store).await, [("lane".to_owned(), 1, 1, 3)]);
    store.close().await;
    drop(store);
    let other = Arc::new(OneLane("other"));
    let store = Store::open(config(path), Clock::at(START), Arc::new(Synced), other).unwrap();
    assert_eq!(told(&store).await, [("other".to_owned(), 1, 1, 3)]);
    assert_eq!(rows(), 1, "there may be as many lanes as senders");
    store.settle(settlement(two, vec![(0, relayed())])).await.unwrap();
    assert_eq!(rows(), 0);
}

#[tokio::test]
async fn the_oldest_that_waits_is_not_one_that_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let held = put(&store, b"old", &["c@d.example"]).await.unwrap().id();
    let later = START + Duration::from_secs(5);
    let mut draft = store.draft();
    draft.append(b"new").await.unwrap();
    let young = Arrival { time: later, ..arrival(&["c@d.example"]) };
    let young = store.accept(draft, young).await.unwrap().id();
    let oldest = async || {
        let lane = store.summary().await.unwrap().lanes.remove(0);
        (lane.oldest, lane.oldest_waiting)
    };
    assert_eq!(oldest().await, (START, Some(START)));
    store.hold(held, "look".into()).await.unwrap();
    assert_eq!(oldest().await, (START, Some(later)));
    store.hold(young, "look".into()).await.unwrap();
    assert_eq!(oldest().await, (START, None));
}

#[tokio::test]
async fn counts_that_are_wrong_are_mended_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, b"one", &["c@d.example"]).await.unwrap();
    store.close().await;
    drop(store);
    for damage in ["UPDATE lane_total SET messages = 77", "DELETE FROM lane_total"] {
        queue_db(directory.path()).execute_batch(damage).unwrap();
        let store = open(directory.path());
        assert_eq!(told(&store).await, [("lane".to_owned(), 1, 0, 3)], "{damage}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_queue_of_the_version_before_is_counted_when_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, b"four", &["c@d.example"]).await.unwrap();
    store.close().await;
    drop(store);
    let database = queue_db(directory.path());
    database
        .execute_batch(
            "DROP TRIGGER message_comes; DROP TRIGGER message_goes; DROP TRIGGER message_changes; \
             DROP INDEX message_age; DROP INDEX history_lane; DROP TABLE lane_total; DROP TABLE told; \
             ALTER TABLE message DROP COLUMN recipients; PRAGMA user_version = 2;",
        )
        .unwrap();
    drop(database);
    let store = open(directory.path());
    put(&store, b"more", &["c@d.example"]).await.unwrap();
    assert_eq!(told(&store).await, [("lane".to_owned(), 2, 0, 8)]);
}

#[tokio::test]
async fn no_count_is_got_by_reading_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, b"one", &["c@d.example"]).await.unwrap();
    let database = queue_db(directory.path());
    let sql = format!("EXPLAIN QUERY PLAN {}", crate::store::totals::SUMMARY);
    let mut query = database.prepare(&sql).unwrap();
    let plan: Vec<String> =
        query.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    let of_messages: Vec<_> = plan.iter().filter(|step| step.contains(" m ")).collect();
    assert_eq!(of_messages.len(), 2, "{plan:#?}");
    for step in of_messages {
        assert!(step.starts_with("SEARCH") && step.contains("message_age"), "{plan:#?}");
    }
}

#[tokio::test]
async fn what_was_told_is_remembered_with_the_notice() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let ends = START + Duration::from_secs(86_400);
    assert_eq!(store.mark_told("secret", ends).await.unwrap(), 0);
    let notice = NewNotice {
        id: store.new_id(),
        mail_data: b"Subject: soon\r\n\r\n".to_vec(),
        arrival: arrival(&["admin@b.example"]),
        tells_delay: false,
    };
    let id = notice.id;
    let (subject, lane) = ("secret".to_owned(), "lane".to_owned());
    store.remind(Reminder { subject, ends, mark: 3, lane, notice }).await.unwrap();
    store.close().await;
    drop(store);
    let store = open(directory.path());
    assert_eq!(entry_ids(&store).await, [id]);
    assert!(store.due("lane", 1).await.unwrap()[0].is_notice);
    assert_eq!(store.mark_told("secret", ends).await.unwrap(), 3);
    let renewed = ends + Duration::from_secs(1);
    assert_eq!(store.mark_told("secret", renewed).await.unwrap(), 0);
}

#[tokio::test]
async fn a_size_that_is_none_keeps_nobody_from_opening_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = open(path);
    for _ in 0..2 {
        put(&store, b"x", &["c@d.example"]).await.unwrap();
    }
    store.close().await;
    drop(store);
    queue_db(path).execute("UPDATE message SET size = ?1", [i64::MAX]).unwrap();
    let store = open(path);
    put(&store, b"x", &["c@d.example"]).await.unwrap();
    let [(_, messages, _, _)] = &told(&store).await[..] else { panic!("one lane") };
    assert_eq!(*messages, 3);
}
