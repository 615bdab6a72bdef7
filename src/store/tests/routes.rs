//! Other routes while the store is open.

use super::*;

async fn in_lane(store: &Store, lane: &str) -> usize {
    store.due(lane, 10).await.unwrap().len()
}

#[tokio::test]
async fn mail_of_a_lane_at_work_moves_when_that_has_ended_and_its_new_lane_hears_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, b"waits", &["c@d.example"]).await.unwrap();
    let at_work = BTreeSet::from(["lane".to_owned()]);
    let arrivals = store.arrivals("other");
    store.set_router(Arc::new(OneLane("other")), at_work).await.unwrap();
    assert_eq!((in_lane(&store, "lane").await, in_lane(&store, "other").await), (1, 0));
    assert!(!arrivals.has_changed().unwrap());
    put(&store, b"new", &["c@d.example"]).await.unwrap();
    assert_eq!((in_lane(&store, "lane").await, in_lane(&store, "other").await), (1, 1));

    let arrivals = store.arrivals("other");
    store.route_lane("another").await.unwrap();
    assert!(!arrivals.has_changed().unwrap());
    store.route_lane("lane").await.unwrap();
    assert_eq!((in_lane(&store, "lane").await, in_lane(&store, "other").await), (0, 2));
    assert!(arrivals.has_changed().unwrap());
}

#[tokio::test]
async fn a_lane_that_nobody_watches_is_told_to_who_starts_lanes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, b"waits", &["c@d.example"]).await.unwrap();
    assert_eq!(store.unattended().await, BTreeSet::from(["lane".to_owned()]));
    store.set_router(Arc::new(OneLane("other")), BTreeSet::new()).await.unwrap();
    assert_eq!(in_lane(&store, "other").await, 1);
    assert_eq!(store.unattended().await, BTreeSet::from(["other".to_owned()]));
}
