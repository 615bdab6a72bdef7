//! A queue that is in order is read once at start; whatever is not in order is noticed by that.

use rusqlite::Connection;

use super::*;
use crate::store::{schema, survey};

fn queue_db(directory: &std::path::Path) -> Connection {
    schema::open(&directory.join("queue/queue.db"), || Ok(())).unwrap()
}

/// The body files that one reading tells of, or `None` where it does not do.
fn read_once(directory: &std::path::Path) -> Option<Vec<QueueId>> {
    let mut database = queue_db(directory);
    let files = survey::if_in_order(&mut database, &OneLane("lane")).unwrap()?;
    Some(files.into_iter().collect())
}

/// Two small messages, one of them held, a notice in a lane of its own, and a large message.
async fn queue(directory: &std::path::Path) -> QueueId {
    let store = open(directory);
    put(&store, b"small", &["c@d.example"]).await.unwrap();
    let held = put(&store, b"held", &["c@d.example", "e@d.example"]).await.unwrap().id();
    store.hold(held, "look".into()).await.unwrap();
    let large = put(&store, &vec![b'x'; 100_000], &["c@d.example"]).await.unwrap().id();
    store.close().await;
    large
}

#[tokio::test]
async fn of_a_queue_in_order_one_reading_tells_the_body_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.close().await;
    drop(store);
    assert_eq!(read_once(directory.path()), Some(vec![]));
    let large = queue(directory.path()).await;
    assert_eq!(read_once(directory.path()), Some(vec![large]));
    let notice =
        "UPDATE message SET is_notice = 1, reverse_path = '' WHERE hold_reason IS NOT NULL";
    queue_db(directory.path()).execute_batch(notice).unwrap();
    assert_eq!(read_once(directory.path()), Some(vec![large]));
}

#[tokio::test]
async fn what_is_not_in_order_is_left_to_the_steps_of_the_start() {
    for change in [
        "UPDATE message SET lane = 'gone' WHERE size = 5",
        "UPDATE message SET lane = 'gone', is_notice = 1 WHERE size = 5",
        "UPDATE message SET lane = x'ff' WHERE size = 5",
        "UPDATE message SET id = 'no id' WHERE size = 5",
        "UPDATE message SET id = 'no id' WHERE body_in_file",
        "UPDATE message SET reverse_path = 'no path' WHERE size = 5",
        "UPDATE message SET next_attempt = 'soon' WHERE size = 5",
        "UPDATE message SET size = -1 WHERE size = 5",
        "UPDATE message SET size = 9223372036854775807 WHERE size = 5",
        "UPDATE message SET sequence = 9223372036854775807 WHERE size = 5",
        "UPDATE lane_total SET messages = 2",
        "UPDATE lane_total SET held = 0",
        "UPDATE lane_total SET octets = octets + 1",
        "DELETE FROM lane_total",
        "INSERT INTO lane_total VALUES ('other', 1, 0, 5)",
    ] {
        let directory = tempfile::tempdir().unwrap();
        queue(directory.path()).await;
        assert!(read_once(directory.path()).is_some());
        queue_db(directory.path()).execute_batch(change).unwrap();
        assert_eq!(read_once(directory.path()), None, "{change}");
    }
}

#[tokio::test]
async fn an_index_with_other_rows_than_the_queue_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    queue(directory.path()).await;
    let database = queue_db(directory.path());
    // The index of another table in place of ours: each row of it is whole, and one is too many.
    database
        .execute_batch(
            "CREATE TABLE other AS SELECT * FROM message;
             INSERT INTO other SELECT * FROM message WHERE size = 5;
             CREATE INDEX other_age ON other (lane, (hold_reason IS NULL), arrival);
             PRAGMA writable_schema = ON;
             UPDATE sqlite_master SET rootpage =
                 (SELECT rootpage FROM sqlite_master WHERE name = 'other_age')
                 WHERE name = 'message_age';
             DELETE FROM sqlite_master WHERE tbl_name = 'other';",
        )
        .unwrap();
    drop(database);
    assert_eq!(read_once(directory.path()), None);
}
