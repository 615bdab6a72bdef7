//! Damage as an operator would meet it: garbage in pages of a queue, while the relay is stopped and
//! while it runs.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::Connection;

use super::super::{
    Durability, Durable, Entry, Filter, Store, StoreError, Synced, import, recover,
    tests::{START, config, open, open_with, put},
};
use crate::{clock::Clock, mail::queue_id::QueueId};

mod cut_off;
mod recovering;
mod template;

use template::{ALL, MESSAGES, PAGE, Page, Template, damage, pages, queue};

/// All that is due. Nothing is taken away: it can be asked again.
async fn due(store: &Store) -> Vec<Entry> {
    store.due("lane", 1000).await.unwrap()
}

/// Reads every body, as attempts would, and gives the messages that would go out.
async fn deliverable(store: &Store) -> Vec<(Entry, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in due(store).await {
        match store.body_if_waiting(&entry).await {
            Ok(Some(body)) => match body.chunks().collect::<Result<Vec<_>, _>>() {
                Ok(chunks) => found.push((entry, chunks.concat())),
                Err(error) => store.hold(entry.id, error.to_string()).await.unwrap(),
            },
            Ok(None) => {} // set aside by now
            Err(error) if error.is_lost_body() => {
                store.hold(entry.id, error.to_string()).await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    found
}

fn reports(directory: &Path) -> Vec<serde_json::Value> {
    let mut reports = Vec::new();
    for item in fs::read_dir(directory.join("queue")).unwrap().flatten() {
        if item.file_name().to_str().unwrap().starts_with("damaged-") {
            let text = fs::read(item.path().join("report.json")).unwrap();
            reports.push(serde_json::from_slice(&text).unwrap());
        }
    }
    reports
}

/// What must hold whichever page is damaged.
async fn check(template: &Template, store: &Store, directory: &Path, page: &Page) {
    let deliverable = deliverable(store).await;
    let mut there = HashSet::new();
    for (entry, octets) in &deliverable {
        let (paths, data) = &template.messages[entry.id.as_str()];
        let found: Vec<_> = entry.recipients.iter().map(|r| r.forward_path.0.to_string()).collect();
        assert_eq!(&found, paths, "{page:?}: not all recipients");
        assert!(octets == data, "{page:?}: another body");
        there.insert(entry.id.to_string());
    }
    let missing = template.messages.len() - there.len();
    assert!(missing <= page.rows, "{page:?}: {missing} messages are not there");
    let held = store.summary().await.unwrap().lanes.iter().map(|lane| lane.held).sum::<u64>();
    let mut lost = HashSet::new();
    for report in reports(directory) {
        lost.extend(report["lost"].as_array().unwrap().iter().map(|one| {
            assert!(one["id"].is_string() || page.rows == ALL, "{page:?}: {one}");
            one["id"].as_str().unwrap_or_default().to_owned()
        }));
    }
    assert!(missing <= usize::try_from(held).unwrap() + lost.len(), "{page:?}: not told");
    assert!(lost.is_disjoint(&there), "{page:?}");
    let new = put(store, b"new", &["new@example.com"]).await.unwrap();
    assert!(due(store).await.iter().any(|entry| entry.id == new.id()), "{page:?}");
    assert!(!store.is_poisoned());
    let names = fs::read_dir(directory.join("queue")).unwrap().flatten();
    let left = names.filter(|name| {
        let name = name.file_name().into_string().unwrap();
        name.ends_with(".partial") || name.contains("rebuilt")
    });
    assert_eq!(left.count(), 0);
}

async fn is_sound(store: Store, directory: &Path) {
    store.close().await;
    drop(store);
    let database = Connection::open(queue(directory)).unwrap();
    let found: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let stray = database
        .query_row(
            "SELECT COUNT(*) FROM body WHERE message NOT IN (SELECT sequence FROM message)",
            [],
            |row| row.get::<_, i64>(0),
        )
        .unwrap();
    assert_eq!((found.as_str(), stray), ("ok", 0));
}

#[tokio::test]
async fn any_page_damaged_while_stopped_stops_no_other_message() {
    let template = Template::new().await;
    for kind in ["message leaf", "recipient leaf", "body leaf", "body interior", "history leaf"] {
        let any = template.pages.iter().any(|page| page.used_for == kind);
        assert!(any || kind == "body interior", "the template has no page for {kind}");
    }
    for page in &template.some_pages() {
        let directory = template.copy();
        damage(directory.path(), page.number);
        let store = open(directory.path());
        check(&template, &store, directory.path(), page).await;
        // Damage that nothing has read yet is still there.
        if !reports(directory.path()).is_empty() {
            is_sound(store, directory.path()).await;
        }
    }
}

#[tokio::test]
async fn any_page_damaged_while_running_stops_no_other_message() {
    let template = Template::new().await;
    for page in &template.some_pages() {
        let directory = template.copy();
        let store = open(directory.path());
        damage(directory.path(), page.number);
        check(&template, &store, directory.path(), page).await;
        let rebuilds = reports(directory.path()).len();
        assert!(rebuilds <= 1, "{page:?}: rebuilt {rebuilds} times");
        deliverable(&store).await;
        assert_eq!(reports(directory.path()).len(), rebuilds, "{page:?}: rebuilt again");
    }
}

#[tokio::test]
async fn messages_between_two_damaged_pages_are_found() {
    let template = Template::new().await;
    let directory = template.copy();
    let leaves = template.pages.iter().filter(|page| page.used_for == "message leaf").count();
    assert!(leaves >= 3, "{leaves}");
    let mut rows = 0;
    for number in [0, leaves - 1] {
        let page = template.nth_page("message leaf", number);
        rows += template.pages.iter().find(|other| other.number == page).unwrap().rows;
        damage(directory.path(), page);
    }
    let store = open(directory.path());
    let both = Page { number: 0, used_for: "both ends".into(), rows };
    check(&template, &store, directory.path(), &both).await;
    assert_eq!(due(&store).await.len(), MESSAGES - rows + 1); // and the new one
}

#[tokio::test]
async fn a_message_that_may_lack_recipients_is_held_and_says_so() {
    let template = Template::new().await;
    for version in 1..=3 {
        let directory = template.copy();
        let database = Connection::open(queue(directory.path())).unwrap();
        let script = match version {
            1 => {
                "ALTER TABLE message DROP COLUMN recipients; \
                 ALTER TABLE message DROP COLUMN digest; PRAGMA user_version = 1"
            }
            2 => "ALTER TABLE message DROP COLUMN recipients; PRAGMA user_version = 2",
            _ => "",
        };
        database.execute_batch(script).unwrap();
        drop(database);
        let leaf = pages(&queue(directory.path()))
            .into_iter()
            .filter(|page| page.used_for == "recipient leaf")
            .nth(1)
            .unwrap();
        damage(directory.path(), leaf.number);
        let store = open(directory.path());
        for (entry, _) in deliverable(&store).await {
            let (paths, _) = &template.messages[entry.id.as_str()];
            assert_eq!(entry.recipients.len(), paths.len());
        }
        let held = store.summary().await.unwrap().lanes[0].held;
        assert!(held > 0);
        store.close().await;
        let database = Connection::open(queue(directory.path())).unwrap();
        let mut reasons = database
            .prepare("SELECT hold_reason FROM message WHERE hold_reason IS NOT NULL")
            .unwrap();
        let reasons: Vec<String> =
            reasons.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(reasons.iter().all(|reason| reason.starts_with("set aside: ")), "{reasons:?}");
        let told = if version < 3 { "perhaps of more" } else { "1 of 2 are left" };
        assert!(
            reasons.iter().any(|reason| reason.contains(told) || reason.contains("of 3 are left")),
            "{reasons:?}"
        );
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_holds_its_message_alone() {
    let template = Template::new().await;
    let directory = template.copy();
    let store = open(directory.path());
    let overflow = template.page("overflow");
    damage(directory.path(), overflow);
    let entries = due(&store).await;
    assert_eq!(entries.len(), MESSAGES);
    assert_eq!(deliverable(&store).await.len(), MESSAGES - 1);
    let report = &reports(directory.path())[0];
    assert_eq!(report["set_aside"].as_array().unwrap().len(), 1);
    assert!(report["set_aside"][0]["reason"].as_str().unwrap().contains("its mail data"));
}

#[tokio::test]
async fn a_body_that_has_changed_is_told_after_a_rebuild_too() {
    let template = Template::new().await;
    let directory = template.copy();
    let database = Connection::open(queue(directory.path())).unwrap();
    let query = "SELECT id FROM message JOIN body ON message = sequence LIMIT 1";
    let id: String = database.query_row(query, [], |row| row.get(0)).unwrap();
    let other = "UPDATE body SET data = zeroblob(length(data)) \
         WHERE message = (SELECT sequence FROM message WHERE id = ?1)";
    assert_eq!(database.execute(other, [&id]).unwrap(), 1);
    drop(database);
    damage(directory.path(), template.page("message_due root"));
    let store = open(directory.path());
    let entries = due(&store).await;
    assert_eq!((entries.len(), reports(directory.path()).len()), (MESSAGES, 1));
    for entry in entries {
        let body = store.body(&entry).await;
        assert_eq!(body.is_err_and(|error| error.is_lost_body()), entry.id.as_str() == id);
    }
}

#[tokio::test]
async fn what_is_lost_is_exported_with_its_id_and_recipients_and_the_files_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let template = Template::new().await;
    let directory = template.copy();
    damage(directory.path(), template.nth_page("message leaf", 1));
    let before = fs::read(queue(directory.path())).unwrap();
    drop(open(directory.path()));
    let report = reports(directory.path()).remove(0);
    let kept_in = PathBuf::from(report["kept_in"].as_str().unwrap());
    assert_eq!(fs::read(kept_in.join("queue.db")).unwrap(), before);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept_in), 0o700);
    let lost = report["lost"].as_array().unwrap();
    assert!(!lost.is_empty());
    for one in lost {
        let (paths, data) = &template.messages[one["id"].as_str().unwrap()];
        let file = kept_in.join(one["file"].as_str().unwrap());
        assert_eq!(&fs::read(&file).unwrap(), data);
        assert_eq!(mode(&file), 0o600);
        assert_eq!(
            &serde_json::from_value::<Vec<String>>(one["forward_paths"].clone()).unwrap(),
            paths
        );
    }
    assert!(lost.iter().any(|one| template.messages[one["id"].as_str().unwrap()].1.len() > 65_536));
}

#[tokio::test]
async fn a_queue_command_that_commits_meanwhile_is_not_undone() {
    let template = Template::new().await;
    let directory = template.copy();
    let path = queue(directory.path());
    let mut ours = Connection::open(&path).unwrap();
    ours.pragma_update(None, "journal_mode", "WAL").unwrap();
    let watch = Connection::open(&path).unwrap();
    let seen = super::schema::data_version(&watch).unwrap();
    let theirs = Connection::open(&path).unwrap();
    theirs.execute("UPDATE message SET hold_reason = 'meanwhile'", []).unwrap();
    let scratch = directory.path().join("scratch");
    let filled = super::schema::scratch(&scratch, super::schema::VERSION, 4096).unwrap();
    assert!(!super::overwrite(&filled, &mut ours, &watch, seen, &Synced).unwrap());
    let held = "SELECT COUNT(*) FROM message WHERE hold_reason = 'meanwhile'";
    let held: usize = ours.query_row(held, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
    assert_eq!(held, MESSAGES);
}

#[tokio::test]
async fn rows_that_make_no_sense_stop_no_other() {
    const NONSENSE: [(&str, &str); 6] = [
        ("UPDATE message SET id = 'no id' WHERE sequence = ?1", "its queue id"),
        ("UPDATE message SET reverse_path = 'a b c' WHERE sequence = ?1", "its reverse-path"),
        ("UPDATE message SET size = 'large' WHERE sequence = ?1", "its size"),
        ("UPDATE recipient SET forward_path = '@' WHERE message = ?1", "its forward-path"),
        ("DELETE FROM recipient WHERE message = ?1", "not all of its recipients"),
        ("UPDATE recipient SET position = 'x' WHERE message = ?1 AND position = 0", "type Text"),
    ];
    let template = Template::new().await;
    for (restart, first) in [(false, 1), (true, 1), (false, 20)] {
        let directory = template.copy();
        let mut store = open(directory.path());
        let database = Connection::open(queue(directory.path())).unwrap();
        for ((statement, _), sequence) in NONSENSE.iter().zip(first..) {
            database.execute(statement, [sequence]).unwrap();
        }
        if restart {
            store.close().await;
            drop(store);
            store = open(directory.path());
        }
        assert_eq!(store.due("lane", 3).await.unwrap().len(), 3);
        assert_eq!(due(&store).await.len(), MESSAGES - NONSENSE.len());
        for ((_, told), sequence) in NONSENSE.iter().zip(first..) {
            let query = "SELECT hold_reason FROM message WHERE sequence = ?1";
            let reason: String = database.query_row(query, [sequence], |row| row.get(0)).unwrap();
            assert!(reason.contains(told), "{reason}");
        }
        let desk = super::super::Desk::open(&directory.path().join("queue")).unwrap();
        let listed: usize = desk.messages(&Filter::default()).map(|page| page.unwrap().len()).sum();
        assert_eq!(listed, MESSAGES - 1, "all but the one without an id");
    }
}

#[tokio::test]
async fn a_row_whose_lane_or_time_is_none_is_set_aside_at_start() {
    let template = Template::new().await;
    let directory = template.copy();
    let database = Connection::open(queue(directory.path())).unwrap();
    for statement in [
        "UPDATE message SET next_attempt = 'soon' WHERE sequence = 1",
        "UPDATE message SET lane = x'00ff' WHERE sequence = 2",
        "UPDATE message SET lane = 'gone', reverse_path = '@@' WHERE sequence = 3",
        "UPDATE message SET id = 'x' WHERE body_in_file AND sequence = 8",
    ] {
        assert_eq!(database.execute(statement, []).unwrap(), 1, "{statement}");
    }
    let store = open(directory.path());
    assert_eq!(due(&store).await.len(), MESSAGES - 4);
    let files = fs::read_dir(directory.path().join("queue/bodies")).unwrap().count();
    assert_eq!(files, MESSAGES / 12, "the body of the message without an id is not removed");
}
