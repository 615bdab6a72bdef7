//! What has changed by itself: bodies, and what an older version left without digests.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::*;
use crate::store::directory::Directory;

/// The queue's database as somebody else sees it.
fn database(directory: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join("queue/queue.db")).unwrap()
}

fn change_row(directory: &Path, id: QueueId, octets: &[u8]) {
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

/// What a daemon that is killed now leaves.
fn killed(directory: &Path) -> tempfile::TempDir {
    let other = tempfile::tempdir().unwrap();
    let (from, to) = (directory.join("queue"), other.path().join("queue"));
    std::fs::create_dir_all(to.join("bodies")).unwrap();
    for folder in ["", "bodies"] {
        for item in std::fs::read_dir(from.join(folder)).unwrap() {
            let item = item.unwrap();
            if item.file_type().unwrap().is_file() {
                std::fs::copy(item.path(), to.join(folder).join(item.file_name())).unwrap();
            }
        }
    }
    let _ = std::fs::remove_file(to.join("queue.db-shm"));
    other
}

fn asides(directory: &Path) -> Vec<PathBuf> {
    let items = std::fs::read_dir(directory.join("queue")).unwrap().map(|item| item.unwrap());
    let named = items.filter(|item| item.file_name().to_str().unwrap().starts_with("damaged-"));
    named.map(|item| item.path()).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// A killed queue of small, large, small ... messages whose log is damaged behind the first few;
/// `older` small messages are not in the log any more.
async fn with_damaged_log(older: usize) -> (tempfile::TempDir, Vec<QueueId>) {
    let first = tempfile::tempdir().unwrap();
    let store = open(first.path());
    for _ in 0..older {
        put(&store, b"older", &["c@d"]).await.unwrap();
    }
    store.close().await;
    drop(store);
    let store = open(first.path());
    let mut ids = Vec::new();
    for number in 0..8 {
        let octets = vec![b'x'; if number % 2 == 0 { 5_000 } else { 100_000 }];
        ids.push(put(&store, &octets, &["c@d"]).await.unwrap().id());
    }
    let directory = killed(first.path());
    let log = directory.path().join("queue/queue.db-wal");
    let mut octets = std::fs::read(&log).unwrap();
    let middle = octets.len() / 2;
    octets[middle..middle + 700].fill(b'?');
    std::fs::write(&log, octets).unwrap();
    (directory, ids)
}

#[tokio::test]
async fn a_damaged_log_is_kept_with_the_bodies_whose_messages_are_lost() {
    let (directory, ids) = with_damaged_log(0).await;
    let damaged = std::fs::read(directory.path().join("queue/queue.db-wal")).unwrap();
    let store = open(directory.path());
    let left = entry_ids(&store).await;
    assert!(!left.is_empty() && left.len() < ids.len() && ids.starts_with(&left), "{left:?}");

    let [aside] = asides(directory.path()).try_into().unwrap();
    let copy = aside.join("queue.db-wal");
    assert_eq!((mode(&aside), mode(&copy)), (0o700, 0o600));
    assert!(std::fs::read(&copy).unwrap() == damaged);
    for (number, id) in ids.iter().enumerate().filter(|(number, _)| number % 2 == 1) {
        let name = format!("{id}.eml");
        let lost = number >= left.len();
        assert_eq!(aside.join(&name).exists(), lost, "{number}");
        assert_eq!(directory.path().join("queue/bodies").join(&name).exists(), !lost, "{number}");
    }

    // Mail that comes now is as durable as ever, and a further crash finds no damage.
    let new = put(&store, b"new", &["c@d"]).await.unwrap().id();
    let again = killed(directory.path());
    let store = open(again.path());
    assert_eq!(entry_ids(&store).await.last(), Some(&new));
    assert_eq!(asides(again.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_log_without_its_database_is_kept_and_brings_its_messages_back() {
    let first = tempfile::tempdir().unwrap();
    let store = open(first.path());
    let mut ids = Vec::new();
    for length in [5_000, 100_000] {
        ids.push(put(&store, &vec![b'x'; length], &["c@d"]).await.unwrap().id());
    }
    for left in [None, Some("")] {
        let directory = killed(first.path());
        let root = directory.path().join("queue");
        let (database, log) = (root.join("queue.db"), root.join("queue.db-wal"));
        let before = std::fs::read(&log).unwrap();
        std::fs::remove_file(&database).unwrap();
        if let Some(text) = left {
            std::fs::write(&database, text).unwrap();
        }
        for error in [
            open_with(config(directory.path()), Arc::new(Synced)).err().unwrap(),
            Desk::open(&root).unwrap_err(),
            recover(&root, Clock::at(START)).unwrap_err(),
            import(&root, &log, Clock::at(START)).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("queue.db is missing or empty"), "{text}");
            assert!(text.contains("queue.db-wal is there"), "{text}");
            assert!(text.contains("queue recover --from"), "{text}");
        }
        assert!(std::fs::read(&log).unwrap() == before);
        assert_eq!((database.exists(), body_files(directory.path())), (left.is_some(), 1));

        let moved = directory.path().join("moved.db-wal");
        std::fs::rename(&log, &moved).unwrap();
        let recovery = import(&root, &moved, Clock::at(START)).unwrap();
        assert_eq!((recovery.messages, recovery.lost.len(), recovery.set_aside.len()), (2, 0, 0));
        let store = open(directory.path());
        assert_eq!(entry_ids(&store).await, ids);
        assert!(std::fs::read(&moved).unwrap() == before);
    }
}

#[tokio::test]
async fn queue_commands_and_recover_tell_that_the_database_of_the_bodies_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, &vec![b'x'; 100_000], &["c@d"]).await.unwrap();
    store.close().await;
    drop(store);
    let root = directory.path().join("queue");
    let path = root.join("queue.db");
    std::fs::remove_file(&path).unwrap();
    for left in [None, Some("")] {
        if let Some(text) = left {
            std::fs::write(&path, text).unwrap();
        }
        for error in [Desk::open(&root).unwrap_err(), recover(&root, Clock::at(START)).unwrap_err()]
        {
            assert!(error.to_string().contains("queue.db is missing or empty"), "{error}");
        }
        assert_eq!((path.exists(), body_files(directory.path())), (left.is_some(), 1));
    }
}

struct Refusing;

impl Durability for Refusing {
    fn make_durable(
        &self,
        _: Durable,
        _: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Poisoned)
    }
}

#[tokio::test]
async fn damage_of_the_log_and_the_database_at_once_loses_no_body() {
    let (directory, ids) = with_damaged_log(100).await;
    let root = directory.path().join("queue");
    let path = root.join("queue.db");
    let mut octets = std::fs::read(&path).unwrap();
    octets[4096..].fill(0xa5); // all pages but the first, and those that the log has
    std::fs::write(&path, octets).unwrap();
    // Cut off right after the log has been dealt with.
    let refusing: Arc<dyn Durability> = Arc::new(Refusing);
    assert!(open_with(config(directory.path()), refusing).is_err());
    let _ = open_with(config(directory.path()), Arc::new(Synced));
    let kept = |name: &str| {
        asides(directory.path()).iter().any(|aside| aside.join(name).exists())
            || root.join("bodies").join(name).exists()
    };
    for id in ids.iter().skip(1).step_by(2) {
        assert!(kept(&format!("{id}.eml")), "{id}");
    }
}

#[tokio::test]
async fn the_queue_commands_leave_a_damaged_log_to_the_daemon() {
    let (directory, _) = with_damaged_log(0).await;
    let log = directory.path().join("queue/queue.db-wal");
    let before = std::fs::read(&log).unwrap();
    let error = Desk::open(&directory.path().join("queue")).unwrap_err();
    assert!(matches!(error, StoreError::DamagedLog { .. }), "{error}");
    assert!(std::fs::read(&log).unwrap() == before);
    drop(open(directory.path()));
    Desk::open(&directory.path().join("queue")).unwrap();
}

#[test]
fn a_damaged_log_is_kept_once_however_often_the_start_fails() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (directory, _) = runtime.block_on(with_damaged_log(0));
    let queue = Directory::open(&directory.path().join("queue")).unwrap();
    for _ in 0..3 {
        assert!(queue.keep_damaged_log(START).unwrap().is_some());
    }
    assert_eq!(asides(directory.path()).len(), 1);
    // Another one at the same time gets a place of its own.
    let log = directory.path().join("queue/queue.db-wal");
    let mut octets = std::fs::read(&log).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    std::fs::write(&log, octets).unwrap();
    assert!(queue.keep_damaged_log(START).unwrap().is_some());
    assert_eq!(asides(directory.path()).len(), 2);
}

#[test]
fn orphans_set_aside_are_all_kept_and_none_overwrites_another() {
    let directory = tempfile::tempdir().unwrap();
    let queue = Directory::open(&directory.path().join("queue")).unwrap();
    let aside = queue.begin_aside(START).unwrap().finish().unwrap();
    let ids: Vec<_> = (0..25).map(|number| QueueId::new(1, number)).collect();
    for text in ["first", "second"] {
        for id in &ids {
            std::fs::write(queue.body_file(*id), text).unwrap();
        }
        std::fs::write(queue.bodies().join("notes.txt"), "not ours").unwrap();
        let known = ids[..2].iter().copied().collect();
        assert_eq!(queue.set_orphans_aside(&known, &aside).unwrap(), 23);
        assert_eq!(body_files(directory.path()), 3, "two known and a foreign file");
    }
    let [path] = asides(directory.path()).try_into().unwrap();
    let read = |name: String| std::fs::read(path.join(name)).unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 46);
    assert_eq!(read(format!("{}.eml", ids[9])), b"first");
    assert_eq!(read(format!("{}-2.eml", ids[9])), b"second");
}
