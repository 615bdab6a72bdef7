//! What a lane has already is not read for it again.

use std::collections::{BTreeMap, HashSet};

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
        let page = store.page("lane", 2, 0, &leased).await.unwrap();
        (page.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), page.next)
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
    let due = store.page("lane", 10, 0, &leased).await.unwrap().entries;
    assert_eq!(due.iter().map(|entry| entry.id).collect::<Vec<_>>(), [whole]);
    let lanes = store.summary().await.unwrap().lanes;
    assert_eq!((lanes[0].messages, lanes[0].held), (5, 3));
}

#[tokio::test]
async fn small_bodies_come_with_the_page_unless_they_are_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let large = vec![b'x'; 100_000];
    let mut ids = Vec::new();
    for octets in [b"first".as_slice(), b"second", &large, b"fourth", b"fifth"] {
        ids.push(put(&store, octets, &["a@d"]).await.unwrap().id());
    }
    let database = rusqlite::Connection::open(directory.path().join("queue/queue.db")).unwrap();
    let change =
        "UPDATE body SET data = CAST('segond' AS BLOB) WHERE data = CAST('second' AS BLOB)";
    assert_eq!(database.execute(change, []).unwrap(), 1);
    let page = store.page("lane", 10, 4, &HashSet::new()).await.unwrap();
    assert_eq!(page.entries.len(), 5);
    let mut bodies = BTreeMap::new();
    for (id, body) in page.bodies {
        bodies.insert(id, body.chunks().collect::<Result<Vec<_>, _>>().unwrap().concat());
    }
    let expected = [(ids[0], b"first".to_vec()), (ids[3], b"fourth".to_vec())];
    assert_eq!(bodies, expected.into());
}
