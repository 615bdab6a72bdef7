//! How the history is cut back.

use super::*;

/// Puts rows on record that were settled at `settled`, each with an attempt before.
fn fill_history(directory: &std::path::Path, rows: i64, settled: UnixMillis) {
    let database = rusqlite::Connection::open(directory.join("queue/queue.db")).unwrap();
    let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
    for insert in [
        "INSERT INTO history (settled, id, position, lane, arrival, client, reverse_path, \
         forward_path, disposition, attempts, reply, size, message_id) \
         SELECT ?2, 'id' || i, 0, 'lane', ?2, '', '', 'c@d', 'relayed', 2, '250 OK', 1, '' FROM n",
        "INSERT INTO attempt (id, position, number, time, disposition, reply) \
         SELECT 'id' || i, 0, 1, ?2, 'deferred', '451 later' FROM n",
    ] {
        let statement = format!("{numbers} {insert}");
        database.execute(&statement, [rows, settled.0]).unwrap();
    }
}

fn count(directory: &std::path::Path, table: &str) -> usize {
    let database = rusqlite::Connection::open(directory.join("queue/queue.db")).unwrap();
    let query = format!("SELECT COUNT(*) FROM {table}");
    database.query_row(&query, [], |row| row.get::<_, u32>(0)).unwrap() as usize
}

/// Longer ago than `history_keep`.
fn long_ago() -> UnixMillis {
    UnixMillis(START.0 - 10 * 86_400_000)
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
async fn while_there_is_more_to_cut_each_commit_cuts_a_little() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    fill_history(directory.path(), 12_000, long_ago());
    let mut left = 12_000;
    for _ in 0..30 {
        put(&store, b"x", &["c@d"]).await.unwrap();
        let now = count(directory.path(), "history");
        assert!(left - now <= 1000, "a client waits while {} rows are cut", left - now);
        left = now;
    }
    assert_eq!((left, count(directory.path(), "attempt")), (0, 0));
}

#[tokio::test]
async fn the_history_does_not_grow_faster_than_it_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    fill_history(directory.path(), 12_000, long_ago());
    let recipients: Vec<_> = (0..900).map(|number| format!("r{number}@d.example")).collect();
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    for _ in 0..2 {
        let id = put(&store, b"x", &recipients).await.unwrap().id();
        let before = count(directory.path(), "history");
        let outcomes = (0..900).map(|position| (position, relayed())).collect();
        store.settle(settlement(id, outcomes)).await.unwrap();
        assert!(count(directory.path(), "history") < before);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_the_cutting() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let years = Duration::from_secs(73 * 365 * 86_400);
    let ahead = Arrival { time: START + years, ..arrival(&["c@d"]) };
    store.accept(store.draft(), ahead).await.unwrap();
    fill_history(directory.path(), 10, long_ago());
    put(&store, b"x", &["c@d"]).await.unwrap();
    assert_eq!(count(directory.path(), "history"), 0);
}
