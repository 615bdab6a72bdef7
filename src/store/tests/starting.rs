//! What a start finds in the queue directory, and what a close leaves there.

use super::*;

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
