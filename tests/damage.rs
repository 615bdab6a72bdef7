//! A page of the queue database goes bad while the relay runs: the other messages do not notice.

use std::{collections::HashSet, fs, os::unix::fs::FileExt, path::Path, time::Duration};

mod support;
use support::{
    relay::{MAILBOX, Place, closed_port, forward, mail, pass},
    wait::until,
};

const PAGE: u64 = 4096;
const MESSAGES: usize = 150;

/// The leaves of the table `message`, from left to right.
fn message_leaves(database: &Path) -> Vec<u64> {
    let octets = fs::read(database).expect("queue.db");
    let connection = rusqlite::Connection::open(database).expect("queue.db");
    let query = "SELECT rootpage FROM sqlite_master WHERE name = 'message'";
    let root: u32 = connection.query_row(query, [], |row| row.get(0)).expect("a root page");
    let start = (usize::try_from(root).expect("a page") - 1) * 4096;
    let page = &octets[start..start + 4096];
    assert_eq!(page[0], 5, "the root of a table with some leaves");
    let four = |at: usize| u32::from_be_bytes(page[at..at + 4].try_into().expect("four octets"));
    let two = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
    let mut leaves: Vec<_> = (0..two(3)).map(|cell| four(two(12 + 2 * cell)).into()).collect();
    leaves.push(four(8).into());
    leaves
}

#[tokio::test]
async fn a_page_that_goes_bad_while_the_relay_runs_stops_no_other_message() {
    let (closed, port) = closed_port();
    let mut place = Place::new().await;
    place.set_smtp_port(port);
    let relay = place.relay().await;
    let mut client = relay.client().await;
    let mut ids = HashSet::new();
    for number in 0..MESSAGES {
        let text = mail(MAILBOX, &format!("m{number}"));
        ids.insert(client.send(MAILBOX, &[format!("{number}@example.com")], &text).await);
    }
    drop(client);
    relay.stop().await;

    let relay = place.relay().await;
    until("a pause", async || (!relay.status().await["relay_pause"].is_null()).then_some(())).await;
    assert!(relay.status().await["queue_rebuilt"].is_null());
    let queue = place.directory.path().join("queue");
    let leaves = message_leaves(&queue.join("queue.db"));
    let leaf = leaves[leaves.len() - 2];
    let file = fs::OpenOptions::new().write(true).open(queue.join("queue.db")).expect("queue.db");
    file.write_all_at(&[0xa5; 4096], (leaf - 1) * PAGE).expect("a write");

    let listener = closed.listen(64).expect("a listener");
    forward(listener, place.sandbox.smtp_address());
    pass(Duration::from_secs(3600)).await;
    let status = until("a rebuild", async || {
        let status = relay.status().await;
        (!status["queue_rebuilt"].is_null()).then_some(status)
    })
    .await;
    let lost =
        usize::try_from(status["queue_rebuilt"]["lost"].as_u64().expect("a number")).unwrap();
    assert!((1..60).contains(&lost), "{lost} lost with one page");
    assert_eq!(status["queue_rebuilt"]["set_aside"], 0);
    let kept_in =
        Path::new(status["queue_rebuilt"]["kept_in"].as_str().expect("a path")).to_owned();
    for item in fs::read_dir(&kept_in).expect("what is kept").flatten() {
        let name = item.file_name().into_string().expect("a name");
        if let Some(id) = name.strip_suffix(".eml") {
            assert!(ids.remove(id), "{id} is one that was taken");
        }
    }
    assert_eq!(ids.len(), MESSAGES - lost, "what is lost has been written down with its id");

    let arrived = place.arrivals(MESSAGES - lost).await.len();
    assert_eq!(arrived, MESSAGES - lost);
    let new = mail(MAILBOX, "new");
    let new = relay.client().await.send(MAILBOX, &["new@example.com"], &new).await;
    assert_eq!(place.arrivals(1).await[0].subject.as_deref(), Some("new"));
    let history = relay.settled(MESSAGES - lost + 1).await;
    assert_eq!(history[0].id, new);
    let sent: HashSet<_> = history[1..].iter().map(|row| row.id.clone()).collect();
    assert_eq!(sent, ids, "each of the others, once");
    assert_eq!(relay.status().await["readiness"]["ready"], true);
    relay.stop().await;
}
