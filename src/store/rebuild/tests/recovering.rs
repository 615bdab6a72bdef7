//! `queue recover`, and files that have lost their first page or their end.

use super::*;

#[tokio::test]
async fn recover_looks_through_everything_and_says_what_it_did() {
    let template = Template::new().await;
    let directory = template.copy();
    let root = directory.path().join("queue");
    let clock = Clock::at(START);
    assert!(recover(&root, clock).unwrap().is_none());
    let store = open(directory.path());
    assert!(matches!(recover(&root, clock), Err(StoreError::Locked { .. })));
    store.close().await;
    drop(store);
    damage(directory.path(), template.page("history leaf"));
    let recovery = recover(&root, clock).unwrap().unwrap();
    assert_eq!(recovery.messages, MESSAGES as u64);
    assert!(recovery.lost.is_empty() && recovery.set_aside.is_empty(), "{recovery:?}");
    assert_eq!(recovery.dropped[0].record, "history");
    let rows = recovery.dropped[0].rows.unwrap();
    assert!((1..40).contains(&rows), "{rows}");
    assert!(recover(&root, clock).unwrap().is_none());
    fs::write(root.join("queue.db"), [0x55; 9000]).unwrap();
    let text = recover(&root, clock).unwrap_err().to_string();
    assert!(text.contains("queue.db") && text.contains("docs/reliability.md"), "{text}");
    assert_eq!(fs::read(root.join("queue.db")).unwrap(), [0x55; 9000]);
}

#[tokio::test]
async fn messages_of_a_nameless_table_come_back_held() {
    let template = Template::new().await;
    let directory = template.copy();
    let root = directory.path().join("queue");
    let recovered = directory.path().join("recovered.db");
    fs::rename(root.join("queue.db"), directory.path().join("broken.db")).unwrap();
    let database = Connection::open(&recovered).unwrap();
    let broken = directory.path().join("broken.db").display().to_string();
    database.execute("ATTACH ?1 AS broken", [broken]).unwrap();
    let fields: Vec<_> = (0..20).map(|number| format!("c{number}")).collect();
    let columns = fields.join(", ");
    database
        .execute_batch(&format!(
            "CREATE TABLE lost_and_found (rootpgno, pgno, nfield, id, {columns})"
        ))
        .unwrap();
    for (table, id, fields) in [
        ("message", "sequence", 20),
        ("recipient", "NULL", 8),
        ("body", "message", 2),
        ("history", "sequence", 15),
        ("attempt", "NULL", 7),
    ] {
        let nulls = ", NULL".repeat(20 - fields);
        let insert = format!(
            "INSERT INTO lost_and_found SELECT 2, 2, {fields}, {id}, t.*{nulls} FROM broken.{table} t"
        );
        database.execute_batch(&insert).unwrap();
    }
    // A row that was deleted long ago: its recipient is in the history.
    database
        .execute_batch(
            "INSERT INTO lost_and_found (nfield, id, c1, c2, c3, c4, c5, c6, c7, c8, c9, c12, c13, c14, c15) \
             SELECT 18, 9000, c2, 'lane', 0, 0, '', '', '', 0, 0, 4, '', 0, 0 FROM lost_and_found \
             WHERE nfield = 15 LIMIT 1; \
             INSERT INTO lost_and_found (nfield, c0, c1, c2, c5, c6) \
             VALUES (8, 9000, 0, 'gone@example.com', 0, 0)",
        )
        .unwrap();
    drop(database);
    let recovery = import(&root, &recovered, Clock::at(START)).unwrap();
    assert_eq!((recovery.messages, recovery.lost.len()), (MESSAGES as u64, 0), "{recovery:?}");
    assert!(matches!(
        import(&root, &recovered, Clock::at(START)),
        Err(StoreError::NotEmpty { .. })
    ));

    let store = open(directory.path());
    assert!(due(&store).await.is_empty(), "nobody knows whether they have been sent");
    assert_eq!(store.summary().await.unwrap().lanes[0].held, MESSAGES as u64);
    let ids: Vec<QueueId> = template.messages.keys().map(|id| id.parse().unwrap()).collect();
    let desk = crate::store::Desk::open(&root).unwrap();
    desk.amend(&ids, &crate::store::Amendment::Release, START).unwrap();
    let whole = Page { number: 0, used_for: "none".into(), rows: 0 };
    check(&template, &store, directory.path(), &whole).await;
    is_sound(store, directory.path()).await;
}

#[tokio::test]
async fn a_queue_without_its_first_page_is_brought_back_from_where_it_was_moved() {
    let template = Template::new().await;
    for with_log in [false, true] {
        let directory = template.copy();
        let root = directory.path().join("queue");
        let moved = directory.path().join("moved.db");
        let mut messages = MESSAGES;
        if with_log {
            let store = open(directory.path());
            put(&store, b"in the log alone", &["new@example.com"]).await.unwrap();
            let log = directory.path().join("moved.db-wal");
            fs::copy(root.join("queue.db-wal"), log).unwrap();
            messages += 1;
            store.close().await;
        }
        damage(directory.path(), 1);
        let garbage = fs::read(root.join("queue.db")).unwrap();
        for name in ["queue.db-wal", "queue.db-shm"] {
            let _ = fs::remove_file(root.join(name));
        }
        let error = recover(&root, Clock::at(START)).unwrap_err();
        assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
        assert_eq!(fs::read(root.join("queue.db")).unwrap(), garbage);
        fs::rename(root.join("queue.db"), &moved).unwrap();

        let other = directory.path().join("other.db");
        Connection::open(&other).unwrap().pragma_update(None, "user_version", 3).unwrap();
        for octets in [vec![0x55; 40_000], vec![], fs::read(&other).unwrap()] {
            fs::write(&other, octets).unwrap();
            let error = import(&root, &other, Clock::at(START)).unwrap_err();
            assert!(matches!(error, StoreError::NothingFound { .. }), "{error}");
            assert!(!root.join("queue.db").exists());
        }

        let recovery = import(&root, &moved, Clock::at(START)).unwrap();
        assert_eq!(recovery.messages, messages as u64, "{recovery:?}");
        assert!(recovery.set_aside.is_empty() && recovery.lost.is_empty(), "{recovery:?}");
        let store = open(directory.path());
        assert_eq!(due(&store).await.len(), messages);
        assert_eq!(fs::read(&moved).unwrap(), garbage);
    }
}

#[tokio::test]
async fn a_file_that_was_cut_short_gives_what_is_left_of_it() {
    let template = Template::new().await;
    let overflow: Vec<_> =
        template.pages.iter().filter(|page| page.used_for == "overflow").collect();
    let mut delivered = 0;
    // A body has five such pages; without its last one it must not end in zeros.
    for page in &overflow[overflow.len() - 6..] {
        let directory = template.copy();
        let file = fs::OpenOptions::new().write(true).open(queue(directory.path())).unwrap();
        file.set_len((page.number - 1) * PAGE).unwrap();
        let store = open(directory.path());
        let any = Page { number: page.number, used_for: "all that follow".into(), rows: ALL };
        check(&template, &store, directory.path(), &any).await;
        delivered += due(&store).await.len() - 1;
        is_sound(store, directory.path()).await;
    }
    assert!(delivered > MESSAGES, "{delivered}");
}
