//! The desk beside a running store, and without one.

use std::sync::Arc;

use super::*;
use crate::{
    clock::UnixMillis,
    store::{
        Config, Outcome, Store, Synced,
        tests::{START, body_files, config, entry_ids, open, open_with, put, relayed, settlement},
    },
};

fn desk(directory: &Path) -> Desk {
    Desk::open(&directory.join("queue")).unwrap()
}

fn list(desk: &Desk, filter: &Filter) -> Vec<Queued> {
    desk.messages(filter).collect::<Result<Vec<_>, _>>().unwrap().concat()
}

fn one(desk: &Desk, id: QueueId, amendment: &Amendment) -> Amended {
    desk.amend(&[id], amendment, START).unwrap()[0]
}

fn hold() -> Amendment {
    Amendment::Hold { reason: "to be looked at".into() }
}

async fn deferred(store: &Store, id: QueueId, next_attempt: UnixMillis) {
    let outcome = Outcome::Deferred { reply: "451 later".into(), next_attempt };
    store.settle(settlement(id, vec![(0, outcome)])).await.unwrap();
}

const LATER: UnixMillis = UnixMillis(START.0 + 3_600_000);

#[test]
fn nothing_is_made_where_no_queue_is() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("queue");
    assert!(matches!(Desk::open(&missing), Err(StoreError::NoQueue { .. })));
    assert!(!missing.exists());
    assert!(matches!(Desk::open(directory.path()), Err(StoreError::NoQueue { .. })));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn another_schema_or_a_foreign_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.close().await;
    let path = directory.path().join("queue/queue.db");
    for (version, told) in [(99, "has schema version 99"), (0, "start `o365-relay run` once")] {
        let database = Connection::open(&path).unwrap();
        database.pragma_update(None, "user_version", version).unwrap();
        drop(database);
        let error = Desk::open(&directory.path().join("queue")).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    std::fs::write(&path, "this is not a database, it only stands where one should").unwrap();
    let error = Desk::open(&directory.path().join("queue")).unwrap_err();
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
}

#[tokio::test]
async fn filters_choose_and_pages_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut ids = Vec::new();
    for number in 0..150 {
        let to = format!("r_{number}@d.example");
        ids.push(put(&store, b"x", &[&to, "all@d.example"]).await.unwrap().id());
    }
    store.hold(ids[7], "x".into()).await.unwrap();
    let desk = desk(directory.path());
    let all = list(&desk, &Filter::default());
    assert_eq!(all.iter().map(|message| message.id).collect::<Vec<_>>(), ids);
    assert_eq!(desk.messages(&Filter::default()).count(), 3);
    let ids_found: Vec<_> = desk.ids(&Filter::default()).collect::<Result<_, _>>().unwrap();
    assert_eq!(ids_found.concat(), ids);

    let count = |filter: Filter| list(&desk, &filter).len();
    let to = |text| Some(PathPattern::new(text));
    for (expected, filter) in [
        (0, Filter { lane: Some("other".into()), ..Filter::default() }),
        (150, Filter { lane: Some("lane".into()), ..Filter::default() }),
        (1, Filter { held: true, ..Filter::default() }),
        (1, Filter { forward_path: to("R_7@D.example"), ..Filter::default() }),
        (11, Filter { forward_path: to("<r_14*@d.example>"), ..Filter::default() }),
        (0, Filter { forward_path: to("r%@d.example"), ..Filter::default() }),
        (0, Filter { reverse_path: to("<>"), ..Filter::default() }),
        (150, Filter { reverse_path: to("*@b.example"), ..Filter::default() }),
        (1, Filter { id_prefix: Some(ids[3].to_string()), ..Filter::default() }),
        (0, Filter { id_prefix: Some("_".into()), ..Filter::default() }),
        (0, Filter { arrived_before: Some(UnixMillis(1)), ..Filter::default() }),
        (70, Filter { limit: Some(70), ..Filter::default() }),
        (64, Filter { limit: Some(64), ..Filter::default() }),
        (0, Filter { limit: Some(0), ..Filter::default() }),
    ] {
        assert_eq!(count(filter.clone()), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn retry_makes_a_message_due_and_the_store_hears_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"x", &["c@d"]).await.unwrap().id();
    deferred(&store, id, LATER).await;
    let mut amendments = store.amendments();
    store.look_for_amendments().await.unwrap();
    assert!(!amendments.has_changed().unwrap(), "our own commits are none");

    assert_eq!(one(&desk(directory.path()), id, &Amendment::Retry), Amended::Done);
    assert_eq!(entry_ids(&store).await, [id]);
    assert_eq!(store.due("lane", 10).await.unwrap()[0].recipients.len(), 1);
    store.look_for_amendments().await.unwrap();
    assert!(amendments.has_changed().unwrap());
    amendments.mark_unchanged();
    store.look_for_amendments().await.unwrap();
    assert!(!amendments.has_changed().unwrap(), "told once");
}

#[tokio::test]
async fn a_held_message_is_not_due_until_it_is_released() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"x", &["c@d"]).await.unwrap().id();
    let desk = desk(directory.path());
    let leased = store.due("lane", 10).await.unwrap().remove(0);
    assert_eq!(one(&desk, id, &Amendment::Release), Amended::NotHeld);
    assert_eq!(one(&desk, id, &hold()), Amended::Done);
    assert!(entry_ids(&store).await.is_empty());
    assert!(store.body_if_waiting(&leased).await.unwrap().is_none());
    assert_eq!(one(&desk, id, &Amendment::Retry), Amended::Held);
    let held = list(&desk, &Filter { held: true, ..Filter::default() });
    assert_eq!(held[0].hold_reason.as_deref(), Some("to be looked at"));
    assert_eq!(one(&desk, id, &Amendment::Release), Amended::Done);
    assert_eq!(entry_ids(&store).await, [id]);
    assert!(store.body_if_waiting(&leased).await.unwrap().is_some());
}

#[tokio::test]
async fn a_removed_message_leaves_its_record_and_no_body() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let small = put(&store, b"x", &["c@d", "e@f"]).await.unwrap().id();
    let large = put(&store, &vec![b'x'; 100_000], &["c@d"]).await.unwrap().id();
    deferred(&store, small, START).await;
    let leased = store.due("lane", 10).await.unwrap();
    let desk = desk(directory.path());
    assert_eq!(one(&desk, small, &Amendment::Remove), Amended::Done);
    assert_eq!(one(&desk, small, &Amendment::Remove), Amended::NotQueued);
    assert_eq!(one(&desk, large, &Amendment::Remove), Amended::Done);
    assert_eq!(body_files(directory.path()), 0);
    let rows: i64 = desk
        .database
        .query_row("SELECT COUNT(*) FROM body, recipient, message", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 0);

    // What takes their sequence is not mistaken for them.
    let next = put(&store, b"another", &["g@h"]).await.unwrap().id();
    for entry in &leased {
        assert!(store.body_if_waiting(entry).await.unwrap().is_none());
    }
    store.settle(settlement(small, vec![(0, relayed())])).await.unwrap();
    assert_eq!(entry_ids(&store).await, [next]);

    let story = desk.story(small).unwrap().unwrap();
    assert_eq!(story.queued, None);
    let told: Vec<_> = story
        .settled
        .iter()
        .map(|row| (row.forward_path.as_str(), row.disposition.as_str(), row.attempts))
        .collect();
    assert_eq!(told, [("c@d", "removed", 1), ("e@f", "removed", 0)]);
    assert_eq!(story.attempts[0].reply, "451 later");
    assert_eq!(desk.body(small).unwrap().map(|body| body.len()), None);
    assert_eq!(desk.body(next).unwrap().map(|body| body.len()), Some(7));
}

#[tokio::test]
async fn the_limit_of_messages_counts_what_was_removed() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { max_messages: 2, ..config(directory.path()) };
    let store = open_with(config, Arc::new(Synced)).unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(put(&store, b"x", &["c@d"]).await.unwrap().id());
    }
    assert!(store.admission().is_err());
    desk(directory.path()).amend(&ids, &Amendment::Remove, START).unwrap();
    store.look_for_amendments().await.unwrap();
    store.admission().unwrap();
    put(&store, b"x", &["c@d"]).await.unwrap();
    store.admission().unwrap();
    put(&store, b"x", &["c@d"]).await.unwrap();
    assert!(store.admission().is_err(), "no message counts twice");
}

#[tokio::test]
async fn the_daemon_waits_for_a_command_that_writes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"x", &["c@d"]).await.unwrap().id();
    let desk = desk(directory.path());
    desk.database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut settling = std::pin::pin!(store.settle(settlement(id, vec![(0, relayed())])));
    assert!(is_pending(&mut settling).await);
    desk.database.execute_batch("UPDATE message SET next_attempt = 0; COMMIT").unwrap();
    settling.await.unwrap();
    assert_eq!(store.history(false, 1).await.unwrap().len(), 1);
}

/// Polls once.
async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

#[tokio::test]
async fn the_story_tells_every_attempt_and_what_settled_each_recipient() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let id = put(&store, b"x", &["c@d", "e@f"]).await.unwrap().id();
    deferred(&store, id, LATER).await;
    let mut failed = settlement(id, vec![(1, Outcome::Failed { reply: "550 5.1.1 no".into() })]);
    failed.outcomes[0].advice = Some("check the address".into());
    store.settle(failed).await.unwrap();
    let story = desk(directory.path()).story(id).unwrap().unwrap();
    let queued = story.queued.unwrap();
    assert_eq!(queued.recipients.len(), 1);
    assert_eq!(queued.recipients[0].attempts, 1);
    assert_eq!(queued.next_attempt, LATER);
    assert_eq!(story.attempts[0].disposition, "deferred");
    assert_eq!(story.settled[0].position, 1);
    assert_eq!(story.settled[0].advice.as_deref(), Some("check the address"));
    assert_eq!(desk(directory.path()).story(QueueId::new(1, 1)).unwrap(), None);
}

#[tokio::test]
async fn the_history_is_read_newest_first_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for number in 0..300 {
        let to = format!("r{number}@d");
        let id = put(&store, b"x", &[&to]).await.unwrap().id();
        let outcome = match number % 2 {
            0 => relayed(),
            _ => Outcome::Failed { reply: "550 5.1.1 no".into() },
        };
        store.settle(settlement(id, vec![(0, outcome)])).await.unwrap();
    }
    let desk = desk(directory.path());
    let find = |filter: HistoryFilter| {
        desk.history(&filter).collect::<Result<Vec<_>, _>>().unwrap().concat()
    };
    let all = find(HistoryFilter::default());
    assert_eq!(all.len(), 300);
    assert_eq!((all[0].forward_path.as_str(), all[299].forward_path.as_str()), ("r299@d", "r0@d"));
    assert_eq!(find(HistoryFilter { failed: true, ..HistoryFilter::default() }).len(), 150);
    let since = Some(UnixMillis(START.0 + 86_400_000));
    assert!(find(HistoryFilter { since, ..HistoryFilter::default() }).is_empty());
    let forward_path = Some(PathPattern::new("r29*"));
    let few = HistoryFilter { forward_path, limit: Some(3), ..HistoryFilter::default() };
    assert_eq!(find(few).len(), 3);
}
