//! A rebuild that does not come to its end, or not to a good one.

use super::*;

#[tokio::test]
async fn a_rebuild_that_was_cut_off_is_begun_again() {
    let template = Template::new().await;
    let directory = template.copy();
    damage(directory.path(), template.page("message leaf"));
    let root = directory.path().join("queue");
    fs::write(root.join("queue.db.rebuilt"), "in part").unwrap();
    fs::write(root.join("queue.db.rebuilt-journal"), "in part").unwrap();
    fs::create_dir(root.join("damaged-20200101T000000Z.partial")).unwrap();
    fs::write(root.join("damaged-20200101T000000Z.partial/queue.db"), "in part").unwrap();
    fs::create_dir(root.join("damaged-20200101T000000Z")).unwrap();
    fs::write(root.join("damaged-20200101T000000Z/report.json"), "{\"lost\": []}").unwrap();
    let before = fs::read(queue(directory.path())).unwrap();

    // Everything is kept, but the last step does not come to its end.
    let error = open_with(config(directory.path()), Arc::new(Broken)).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("queue/queue.db is damaged") && text.contains("queue recover"), "{text}");
    assert_eq!(fs::read(queue(directory.path())).unwrap(), before);

    let page = template.pages.iter().find(|page| page.used_for == "message leaf").unwrap();
    let store = open(directory.path());
    check(&template, &store, directory.path(), page).await;
    assert!(root.join("damaged-20200101T000000Z/report.json").exists());
    is_sound(store, directory.path()).await;
}

struct Broken;

impl Durability for Broken {
    fn make_durable(
        &self,
        _: Durable,
        _: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        Err(StoreError::io("sync", "queue.db-wal")(std::io::Error::from_raw_os_error(5)))
    }
}

/// A disk that loses what has just been written.
struct Forgetful {
    log: PathBuf,
    forgets: AtomicBool,
}

impl Durability for Forgetful {
    fn make_durable(
        &self,
        what: Durable,
        sync: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        sync()?;
        if what == Durable::Rows && self.forgets.load(Ordering::Relaxed) {
            let file = fs::OpenOptions::new().write(true).open(&self.log).unwrap();
            let length = file.metadata().unwrap().len();
            // The first frame, with the header of the database, stays.
            for at in (32 + 24 + 4096..length).step_by(24 + 4096) {
                file.write_all_at(&[0x77; 4096], at + 24).unwrap();
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn damage_right_after_a_rebuild_poisons_instead_of_going_round() {
    let template = Template::new().await;
    let directory = template.copy();
    let log = directory.path().join("queue/queue.db-wal");
    let disk = Arc::new(Forgetful { log, forgets: AtomicBool::new(false) });
    let store = open_with(config(directory.path()), disk.clone()).unwrap();
    damage(directory.path(), template.page("message leaf"));
    disk.forgets.store(true, Ordering::Relaxed);
    let error = store.due("lane", 1000).await.unwrap_err();
    assert!(matches!(error, StoreError::Poisoned), "{error}");
    assert!(store.is_poisoned());
    assert_eq!(reports(directory.path()).len(), 1);
}
