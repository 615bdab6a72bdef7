//! Messages that are put off without an attempt, as those of a held sender are.

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The messages that are due at START + `after`, with the recipients of each that are.
fn due_at(directory: &std::path::Path, after: Duration) -> Vec<(QueueId, Vec<u32>)> {
    let database = schema::open_read_only(&directory.join("queue/queue.db")).unwrap();
    let wanted = due::Wanted { limit: 10, ..Default::default() };
    let due = due::due(&database, "lane", START + after, &wanted).unwrap();
    assert!(due.unfit.is_empty());
    let positions = |entry: &Entry| entry.recipients.iter().map(|one| one.position).collect();
    due.entries.iter().map(|entry| (entry.id, positions(entry))).collect()
}

#[tokio::test]
async fn a_recipient_that_was_deferred_for_longer_keeps_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"x", &["a@d", "b@d", "c@d"]).await.unwrap().id();
    let deferred = |minutes| {
        let next_attempt = START + minutes * MINUTE;
        Outcome::Deferred { reply: "451 later".into(), next_attempt }
    };
    let outcomes = vec![(1, deferred(60)), (2, deferred(5))];
    store.settle(settlement(id, outcomes)).await.unwrap();
    store.postpone(vec![id], START + 15 * MINUTE).await.unwrap();

    assert_eq!(store.next_due("lane").await.unwrap(), Some(START + 15 * MINUTE));
    assert_eq!(due_at(directory.path(), 14 * MINUTE), []);
    assert_eq!(due_at(directory.path(), 15 * MINUTE), [(id, vec![0, 2])]);
    assert_eq!(due_at(directory.path(), 60 * MINUTE), [(id, vec![0, 1, 2])]);
}

#[tokio::test]
async fn a_message_whose_recipients_all_wait_for_longer_waits_as_before() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"x", &["a@d"]).await.unwrap().id();
    let next_attempt = START + 60 * MINUTE;
    let deferred = Outcome::Deferred { reply: "451 later".into(), next_attempt };
    store.settle(settlement(id, vec![(0, deferred)])).await.unwrap();
    store.postpone(vec![id], START + 15 * MINUTE).await.unwrap();
    assert_eq!(store.next_due("lane").await.unwrap(), Some(next_attempt));
    assert_eq!(due_at(directory.path(), 60 * MINUTE), [(id, vec![0])]);
}
