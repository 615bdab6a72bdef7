//! `queue recover`: what an operator does about a damaged queue database.

use std::{fs, os::unix::fs::FileExt};

use crate::fixture::{LANE, Queue, arrival, mail_data, put, put_octets};

const PAGE: u64 = 4096;
const FROM: &str = "app@a.example";

/// Overwrites the page with the number.
fn damage(queue: &Queue, page: u64) {
    let file = fs::OpenOptions::new().write(true).open(queue.path("queue/queue.db")).unwrap();
    file.write_all_at(&[0xa5; 4096], (page - 1) * PAGE).unwrap();
}

fn root_page(queue: &Queue, table: &str) -> u64 {
    let database = rusqlite::Connection::open(queue.path("queue/queue.db")).unwrap();
    let query = "SELECT rootpage FROM sqlite_master WHERE name = ?1";
    database.query_row(query, [table], |row| row.get::<_, u32>(0)).unwrap().into()
}

#[tokio::test]
async fn a_sound_queue_is_left_alone_and_a_running_relay_is_asked_to_stop() {
    let queue = Queue::new();
    queue.run(&["queue", "recover"]).await.ends(66);
    let store = queue.store();
    put(&store, FROM, &["b@b.example"]).await;
    let ran = queue.run(&["queue", "recover"]).await.ends(75);
    assert!(ran.err.contains("in use by another o365-relay"), "{}", ran.err);
    assert!(ran.err.contains("does this on its own"), "{}", ran.err);
    store.close().await;
    drop(store);
    let before = fs::read(queue.path("queue/queue.db")).unwrap();
    queue.run(&["queue", "recover"]).await.ends(0).tells(&["queue.db is sound"]);
    assert_eq!(queue.run(&["queue", "recover", "--json"]).await.ends(0).json()[0]["sound"], true);
    assert_eq!(fs::read(queue.path("queue/queue.db")).unwrap(), before);
}

#[tokio::test]
async fn what_is_kept_and_lost_is_told() {
    let queue = Queue::new();
    let store = queue.store();
    let small = put(&store, FROM, &["b@b.example", "c@c.example"]).await.to_string();
    let large = put_octets(&store, &vec![b'x'; 100_000], arrival(FROM, &["d@d.example"])).await;
    let large = large.to_string();
    store.close().await;
    drop(store);
    damage(&queue, root_page(&queue, "message"));
    queue.run(&["queue", "list"]).await.ends(69).tells(&["malformed", "queue recover"]);
    let ran = queue.run(&["queue", "recover"]).await.ends(0);
    ran.tells(&["0 messages in the queue", &small, &large, "to <c@c.example>", ".eml"]);
    let kept = fs::read_dir(queue.path("queue")).unwrap().flatten();
    let kept = kept.map(|item| item.path()).find(|path| path.join("report.json").exists()).unwrap();
    assert_eq!(fs::read(kept.join(format!("{small}.eml"))).unwrap(), mail_data(FROM));
    assert_eq!(fs::read(kept.join(format!("{large}.eml"))).unwrap().len(), 100_000);
    // The daemon's start takes the body file for an orphan now; the other name stays.
    queue.store().close().await;
    assert!(kept.join(format!("{large}.eml")).exists());
}

#[tokio::test]
async fn held_messages_say_why_and_go_on_as_they_are_when_released() {
    let queue = Queue::new();
    let store = queue.store();
    let id = put(&store, FROM, &["b@b.example"]).await.to_string();
    store.close().await;
    drop(store);
    damage(&queue, root_page(&queue, "body"));
    let recovery = &queue.run(&["queue", "recover", "--json"]).await.ends(0).json()[0];
    assert_eq!(recovery["sound"], false);
    assert_eq!(recovery["recovery"]["messages"], 1);
    assert_eq!(recovery["recovery"]["set_aside"][0]["id"], *id);
    let told = "its mail data was on a damaged page";
    queue.run(&["queue", "list", "--address", "127.0.0.1:1"]).await.ends(0).tells(&[&id, told]);
    queue.run(&["queue", "remove", &id]).await.ends(0);
}

#[tokio::test]
async fn a_queue_without_its_first_page_comes_back_from_where_it_was_moved() {
    let queue = Queue::new();
    let store = queue.store();
    let id = put(&store, FROM, &["b@b.example"]).await.to_string();
    put_octets(&store, &vec![b'x'; 100_000], arrival(FROM, &["d@d.example"])).await;
    store.close().await;
    drop(store);
    damage(&queue, 1);
    let refused = queue.run(&["queue", "recover"]).await.ends(69);
    assert!(refused.err.contains("queue/queue.db"), "{}", refused.err);
    assert!(refused.err.contains("queue recover --from"), "{}", refused.err);
    let moved = queue.path("moved.db");
    fs::rename(queue.path("queue/queue.db"), &moved).unwrap();
    let from = ["queue", "recover", "--from", moved.to_str().unwrap()];
    queue.run(&from).await.ends(0).tells(&["2 messages in the queue"]);
    let ran = queue.run(&from).await.ends(69);
    assert!(ran.err.contains("holds messages; move it away first"), "{}", ran.err);
    let exported = queue.run(&["queue", "export", &id]).await.ends(0);
    assert_eq!(exported.octets, mail_data(FROM));
    let store = queue.store();
    assert_eq!(store.due(LANE, 10).await.unwrap().len(), 2, "body files are where they were");
}

/// What stands behind damage in the log of the file cannot be read; that is told, and nothing where
/// the log is sound.
#[tokio::test]
async fn changes_behind_damage_in_the_log_of_the_file_are_told() {
    for damaged in [false, true] {
        let queue = Queue::new();
        let store = queue.store();
        for _ in 0..12 {
            put(&store, FROM, &["b@b.example"]).await;
        }
        let moved = queue.path("moved.db");
        for (from, to) in [("queue.db", "moved.db"), ("queue.db-wal", "moved.db-wal")] {
            fs::copy(queue.path(&format!("queue/{from}")), queue.path(to)).unwrap();
        }
        store.close().await;
        drop(store);
        fs::remove_dir_all(queue.path("queue")).unwrap();
        if damaged {
            let log = fs::OpenOptions::new().write(true).open(queue.path("moved.db-wal")).unwrap();
            let middle = log.metadata().unwrap().len() / 2;
            log.write_all_at(&[0xa5; 64], middle).unwrap();
        }
        let from = ["queue", "recover", "--from", moved.to_str().unwrap()];
        let ran = queue.run(&from).await.ends(0);
        let told = ran.out.contains("written last cannot be read");
        assert_eq!(told, damaged, "{}", ran.out);
        assert_eq!(ran.out.contains("12 messages in the queue"), !damaged, "{}", ran.out);
        let kept = fs::read_dir(queue.path("queue")).unwrap().flatten();
        let reports = kept.filter_map(|item| fs::read(item.path().join("report.json")).ok());
        for report in reports {
            let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
            assert_eq!(report["unread_changes"].as_u64().unwrap() > 0, damaged, "{report}");
        }
    }
}
