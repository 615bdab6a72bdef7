//! What each message costs in statements.

use rusqlite::{Connection, StatementStatus};

use super::*;

/// How often the statement of this text, which is in the cache, has been prepared again.
fn prepared_again(database: &Connection, text: &str) -> i32 {
    database.prepare_cached(text).unwrap().get_status(StatementStatus::RePrepare)
}

#[test]
fn a_statement_is_prepared_once_whatever_the_time() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let path = config(directory.path()).directory.join("queue.db");
    let text = "SELECT sequence FROM message WHERE lane = ?1 AND next_attempt <= ?2 \
                AND hold_reason IS NULL ORDER BY next_attempt LIMIT ?3";
    let writer = schema::open(&path, || Ok(())).unwrap();
    for database in [writer, schema::open_read_only(&path).unwrap()] {
        for number in 0..3 {
            let mut statement = database.prepare_cached(text).unwrap();
            let mut rows = statement.query(rusqlite::params!["lane", number, number]).unwrap();
            assert!(rows.next().unwrap().is_none());
        }
        assert_eq!(prepared_again(&database, text), 0);
    }
}
