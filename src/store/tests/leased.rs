//! What a lane has already is not read for it again.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_page_begins_behind_what_the_lane_has() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(put(&store, b"x", &["a@d"]).await.unwrap().id());
    }
    let later = Outcome::Deferred { reply: "451 later".into(), next_attempt: START + HOUR };
    store.settle(settlement(ids[4], vec![(0, later)])).await.unwrap();
    let page = async |leased: &[QueueId]| {
        let leased = leased.iter().copied().collect();
        let (due, next) = store.due_and_next("lane", 2, &leased).await.unwrap();
        (due.iter().map(|entry| entry.id).collect::<Vec<_>>(), next)
    };
    assert_eq!(page(&[]).await, (ids[..2].to_vec(), None));
    assert_eq!(page(&ids[..2]).await, (ids[2..4].to_vec(), None));
    assert_eq!(page(&[ids[0], ids[2]]).await, (vec![ids[1], ids[3]], None));
    assert_eq!(page(&ids[..4]).await, (vec![], Some(START + HOUR)));
}

#[tokio::test]
async fn an_id_that_makes_no_sense_is_not_taken_for_one_that_the_lane_has() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let leased = put(&store, b"x", &["a@d"]).await.unwrap().id();
    let whole = put(&store, b"x", &["a@d"]).await.unwrap().id();
    let middle = &leased.as_str()[1..9];
    for (recipient, id) in [("b@d", ""), ("c@d", ","), ("d@d", middle)] {
        let broken = put(&store, b"x", &[recipient]).await.unwrap().id();
        let database = rusqlite::Connection::open(directory.path().join("queue/queue.db")).unwrap();
        let change = "UPDATE message SET id = ?2 WHERE id = ?1";
        assert_eq!(database.execute(change, [broken.as_str(), id]).unwrap(), 1);
    }
    let leased = [leased].into();
    let (due, _) = store.due_and_next("lane", 10, &leased).await.unwrap();
    assert_eq!(due.iter().map(|entry| entry.id).collect::<Vec<_>>(), [whole]);
    let lanes = store.summary().await.unwrap().lanes;
    assert_eq!((lanes[0].messages, lanes[0].held), (5, 3));
}
