//! What has changed by itself: bodies, and what an older version left without digests.

use super::*;

/// The queue's database as somebody else sees it.
fn database(directory: &std::path::Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join("queue/queue.db")).unwrap()
}

fn change_row(directory: &std::path::Path, id: QueueId, octets: &[u8]) {
    let changed = database(directory).execute(
        "UPDATE body SET data = ?2 WHERE message = (SELECT sequence FROM message WHERE id = ?1)",
        rusqlite::params![id.as_str(), octets],
    );
    assert_eq!(changed.unwrap(), 1);
}

#[tokio::test]
async fn a_body_that_has_changed_in_its_row_is_told_by_its_digest() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"small", &["c@d"]).await.unwrap().id();
    let notice = NewNotice {
        id: store.new_id(),
        mail_data: b"Subject: failed\r\n".to_vec(),
        arrival: arrival(&["a@b.example"]),
        tells_delay: false,
    };
    let outcome = Outcome::Deferred { reply: "451 later".into(), next_attempt: START };
    let settled =
        Settlement { notices: vec![notice.clone()], ..settlement(id, vec![(0, outcome)]) };
    store.settle(settled).await.unwrap();
    for (entry, other) in
        store.due("lane", 10).await.unwrap().iter().zip(["smell", "Subject: fooled\r\n"])
    {
        let before = octets(&store, entry).await;
        assert_eq!(before.len(), other.len());
        change_row(directory.path(), entry.id, other.as_bytes());
        for error in [
            store.body(entry).await.unwrap_err(),
            store.body_if_waiting(entry).await.unwrap_err(),
            store.front(entry, 2).await.unwrap_err(),
        ] {
            assert!(error.is_lost_body(), "{error}");
            assert!(error.to_string().contains(entry.id.as_str()), "{error}");
        }
        change_row(directory.path(), entry.id, &before);
        assert_eq!(octets(&store, entry).await, before);
    }
}

#[tokio::test]
async fn a_body_that_has_changed_in_its_file_is_told_by_its_digest() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, &vec![b'x'; 200_000], &["c@d"]).await.unwrap().id();
    let path = directory.path().join(format!("queue/bodies/{id}.eml"));
    let entry = store.due("lane", 10).await.unwrap().remove(0);
    assert_eq!(octets(&store, &entry).await.len(), 200_000);
    let mut changed = std::fs::read(&path).unwrap();
    changed[70_000] ^= 0x80;
    std::fs::write(&path, changed).unwrap();
    let error = store.body(&entry).await.unwrap().chunks().last().unwrap().unwrap_err();
    assert!(error.is_lost_body(), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(store.front(&entry, 100).await.unwrap_err().is_lost_body());
}

/// A queue that version 1 left. The script is what that version made, not what we make.
#[tokio::test]
async fn a_queue_of_version_1_is_taken_over_with_its_mail() {
    let directory = tempfile::tempdir().unwrap();
    let bodies = directory.path().join("queue/bodies");
    std::fs::create_dir_all(&bodies).unwrap();
    std::fs::write(bodies.join("000000000000000002.eml"), "in file").unwrap();
    database(directory.path()).execute_batch(include_str!("version_1.sql")).unwrap();

    let store = open(directory.path());
    let new = put(&store, b"new", &["c@d"]).await.unwrap().id();
    store.close().await;
    drop(store);
    let store = open(directory.path());
    let due = store.due("lane", 10).await.unwrap();
    let mut bodies = Vec::new();
    for entry in &due {
        bodies.push(octets(&store, entry).await);
    }
    assert_eq!(bodies, [b"small".as_slice(), b"in file", b"new"]);
    // What came before digests were kept cannot be checked, what came after is.
    change_row(directory.path(), due[0].id, b"smell");
    assert_eq!(octets(&store, &due[0]).await, b"smell");
    change_row(directory.path(), due[0].id, b"shorter".get(..4).unwrap());
    assert!(store.body(&due[0]).await.unwrap_err().is_lost_body());
    change_row(directory.path(), new, b"NEW");
    assert!(store.body(&due[2]).await.unwrap_err().is_lost_body());
    store.settle(settlement(due[1].id, vec![(0, relayed())])).await.unwrap();
    store.close().await;
    assert_eq!(body_files(directory.path()), 0);
}
