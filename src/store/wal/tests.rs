//! Logs that SQLite itself made, as a crash at any point would leave them, and damaged ones.

use std::fs;

use rusqlite::Connection;

use super::*;

const PAGE: usize = 4096;
const FRAME: usize = FRAME_HEADER + PAGE;

/// A database and its log in a directory of their own.
struct Queue {
    directory: tempfile::TempDir,
}

impl Queue {
    fn new() -> Self {
        let queue = Self { directory: tempfile::tempdir().unwrap() };
        let database = queue.open();
        database.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)").unwrap();
        database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        queue
    }

    fn database(&self) -> PathBuf {
        self.directory.path().join("queue.db")
    }

    fn log(&self) -> PathBuf {
        log_of(&self.database())
    }

    fn open(&self) -> Connection {
        let database = Connection::open(self.database()).unwrap();
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                        PRAGMA wal_autocheckpoint = 0; PRAGMA cache_spill = 1; PRAGMA cache_size = 5";
        database.execute_batch(settings).unwrap();
        database
    }

    /// What a process that is killed now leaves: its files, without what it has in memory.
    fn killed(&self) -> Self {
        let other = Self { directory: tempfile::tempdir().unwrap() };
        fs::copy(self.database(), other.database()).unwrap();
        let _ = fs::copy(self.log(), other.log());
        other
    }

    fn octets(&self) -> Vec<u8> {
        fs::read(self.log()).unwrap()
    }

    /// The same with another log.
    fn with_log(&self, octets: &[u8]) -> Self {
        let other = self.killed();
        fs::write(other.log(), octets).unwrap();
        other
    }

    fn look(&self) -> Log {
        look(&self.log(), &self.database()).unwrap()
    }

    fn damage(&self) -> Option<Damage> {
        damage(&self.database()).unwrap()
    }

    /// How many frames SQLite takes.
    fn recovered(&self) -> u64 {
        let copy = self.killed();
        let database = Connection::open(copy.database()).unwrap();
        let _: i64 = database.query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0)).unwrap();
        let frames: i64 =
            database.query_row("PRAGMA wal_checkpoint", [], |row| row.get(1)).unwrap();
        u64::try_from(frames).unwrap()
    }

    /// No alarm, and as many frames as SQLite has.
    #[track_caller]
    fn is_sound(&self, what: &str) {
        assert_eq!(self.damage(), None, "{what}");
        assert_eq!(self.look().committed, self.recovered(), "{what}");
    }
}

/// A transaction of a few pages.
fn put(database: &Connection, rows: usize) {
    database.execute_batch("BEGIN").unwrap();
    for _ in 0..rows {
        database.execute("INSERT INTO t (x) VALUES (randomblob(3000))", ()).unwrap();
    }
    database.execute_batch("COMMIT").unwrap();
}

/// The frames at which a transaction ends, counted from 1.
fn commits(octets: &[u8]) -> Vec<usize> {
    let frames = octets[HEADER..].chunks_exact(FRAME).enumerate();
    frames.filter(|(_, frame)| u32_at(frame, 4) != 0).map(|(at, _)| at + 1).collect()
}

fn position(frame: usize) -> usize {
    HEADER + (frame - 1) * FRAME
}

#[test]
fn whatever_a_killed_writer_leaves_is_no_damage_and_counts_as_in_sqlite() {
    let queue = Queue::new();
    assert_eq!(queue.damage(), None, "no log at all");
    let writer = queue.open();
    for rows in [1, 3, 1, 20, 2] {
        put(&writer, rows);
        queue.killed().is_sound("between two transactions");
    }
    writer.execute_batch("BEGIN; INSERT INTO t (x) SELECT randomblob(3000) FROM t").unwrap();
    let octets = queue.octets();
    assert!(*commits(&octets).last().unwrap() < (octets.len() - HEADER) / FRAME);
    queue.killed().is_sound("within a transaction");
}

#[test]
fn a_log_that_began_anew_is_no_damage() {
    let queue = Queue::new();
    let writer = queue.open();
    for _ in 0..20 {
        put(&writer, 2);
    }
    let before = queue.octets();
    writer.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
    for _ in 0..3 {
        put(&writer, 1);
        let killed = queue.killed();
        killed.is_sound("old frames behind the end");
        assert!(killed.octets().len() == before.len() && killed.look().committed < 20);
    }
    let octets = queue.octets();
    // Once more, and the last transaction is torn.
    let ends = commits(&octets);
    let (second, third) = (position(ends[1] + 1), position(ends[2] + 1));
    for at in (second..third).step_by(97) {
        let torn = [&octets[..at], &before[at..]].concat();
        queue.with_log(&torn).is_sound("a torn transaction over old frames");
    }
}

#[test]
fn a_tail_that_a_power_cut_has_torn_is_no_damage() {
    let queue = Queue::new();
    let writer = queue.open();
    for rows in [1, 2, 4] {
        put(&writer, rows);
    }
    let octets = queue.octets();
    for frame in 1..=(octets.len() - HEADER) / FRAME {
        for more in [0, 1, 4, 12, 23, 24, 25, 1000, FRAME - 1] {
            let cut = &octets[..position(frame) + more];
            queue.with_log(cut).is_sound(&format!("cut in frame {frame} after {more}"));
        }
    }
    for cut in [0, 1, 31, 32] {
        queue.with_log(&octets[..cut]).is_sound("no more than a header");
    }
    // The last transaction was never synced: any of its blocks may be missing.
    let ends = commits(&octets);
    let last = ends[ends.len() - 2] + 1..=ends[ends.len() - 1];
    for missing in 0_u32..1 << last.clone().count() {
        let mut torn = octets.clone();
        for (bit, frame) in last.clone().enumerate() {
            if missing & (1 << bit) != 0 {
                torn[position(frame)..position(frame) + FRAME].fill(0);
            }
        }
        queue.with_log(&torn).is_sound(&format!("missing {missing:b}"));
    }
}

/// A transaction that fails after it has been written (no room for the index, say) is written
/// over by the next, in the same log. What sticks out behind looks like transactions.
#[test]
fn transactions_that_failed_and_were_written_over_are_no_damage() {
    let queue = Queue::new();
    let writer = queue.open();
    put(&writer, 2);
    put(&writer, 2);
    let end = queue.octets().len();
    let attempt = |rows: usize| {
        let copy = queue.killed();
        let writer = copy.open();
        put(&writer, rows);
        copy.octets()
    };
    let (long, middle, short) = (attempt(12), attempt(6), attempt(2));
    assert_eq!(long[..end], short[..end], "the log goes on after a recovery");
    let mut log = [&short[..], &middle[short.len()..], &long[middle.len()..]].concat();
    assert_eq!(commits(&log).len(), 2 + 3);
    queue.with_log(&log).is_sound("over each other");
    for at in (end..short.len()).step_by(131) {
        let mut torn = log.clone();
        torn[at] = !log[at];
        queue.with_log(&torn).is_sound("and the last one torn");
    }
    log[end..].reverse();
    queue.with_log(&log).is_sound("garbage");
}

#[test]
fn damage_before_two_commits_is_told_wherever_it_is() {
    let queue = Queue::new();
    let writer = queue.open();
    for _ in 0..12 {
        put(&writer, 2);
    }
    let octets = queue.octets();
    let ends = commits(&octets);
    let frames = (octets.len() - HEADER) / FRAME;
    // The last transaction cannot be told from one that was never synced.
    let told = ends[ends.len() - 2];
    for frame in 1..=frames {
        for at in [0, 2, 9, 17, 24, 2000, FRAME - 1] {
            let mut changed = octets.clone();
            changed[position(frame) + at] ^= 1;
            let queue = queue.with_log(&changed);
            let damage = queue.damage();
            let what = format!("frame {frame}, octet {at}: {damage:?}");
            match damage {
                // With its own header changed too little may be left: the salts, or the checksum
                // that the next frame builds on.
                None => assert!(frame > told || (frame == told && at < 24), "{what}"),
                Some(damage) => {
                    assert!(frame <= told, "{what}");
                    assert_eq!(damage.intact, queue.recovered(), "{what}");
                    assert!(damage.intact < frame as u64, "{what}");
                    let lost = ends.iter().filter(|end| **end >= frame).count() as u64;
                    assert!(damage.lost == lost || damage.lost + 1 == lost, "{what}");
                }
            }
        }
    }
}

#[test]
fn damage_of_the_header_is_told_as_the_loss_of_all() {
    let queue = Queue::new();
    let writer = queue.open();
    for _ in 0..5 {
        put(&writer, 2);
    }
    let octets = queue.octets();
    for at in 0..HEADER {
        let mut changed = octets.clone();
        changed[at] ^= 4;
        let damage = queue.with_log(&changed).damage().expect("damage");
        assert_eq!((damage.intact, damage.lost), (0, 5), "octet {at}");
    }
    let mut changed = octets;
    changed[..PAGE].fill(0xaa);
    assert_eq!(queue.with_log(&changed).damage().expect("damage").intact, 0);
}

#[test]
fn a_log_in_use_is_never_taken_for_a_damaged_one() {
    let queue = Queue::new();
    let path = queue.database();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = queue.open();
        let done = &done;
        scope.spawn(move || {
            for round in 0..300 {
                put(&writer, 1 + round % 3);
                if round % 10 == 0 {
                    writer.execute_batch("PRAGMA wal_checkpoint(RESTART)").unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            assert_eq!(damage(&path).unwrap(), None);
        }
    });
}
