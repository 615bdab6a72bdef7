//! Fills the new database: from the damaged one, row by row, or from what SQLite's own recovery
//! has made of it.

use std::path::Path;

use rusqlite::Connection;

use super::{
    Dropped, Recovery, TABLES,
    lost::{self, Found},
    walk::{self, Walked},
};
use crate::store::{aside::Aside, directory::Places, error::StoreError, schema};

/// Fields that a row of each table had in the first schema version; later ones have more. Together
/// with whether there is a row id they tell the rows of `lost_and_found` apart.
const FIRST_FIELDS: [(&str, usize, bool); 5] = [
    ("message", 18, true),
    ("recipient", 8, false),
    ("body", 2, true),
    ("history", 15, true),
    ("attempt", 7, false),
];

/// Copies what can be read of the damaged database into a new file at `scratch`.
pub(super) fn from_damaged(
    source: &Connection,
    path: &Path,
    places: &Places,
    scratch: &Path,
    aside: &Aside,
) -> Result<(Connection, Recovery), StoreError> {
    schema::check_owner(source, path)?;
    let version = schema::version(source, path)?;
    let target = schema::scratch(scratch, version, schema::page_size(source)?)?;
    let copy = || {
        target.execute_batch("BEGIN")?;
        let ceiling = ceiling(source);
        let mut dropped = Vec::new();
        let mut mail = Vec::new();
        for table in TABLES {
            let columns = walk::columns(&target, table.name)?;
            let walked = walk::copy(source, &target, table, &columns, ceiling)?;
            match table.name {
                "history" | "attempt" if walked.is_whole() => {}
                "history" | "attempt" => dropped.push(Dropped {
                    record: table.name,
                    rows: rows_lost(source, table.name, &walked),
                }),
                _ => mail.push(walked),
            }
        }
        Ok((mail, dropped))
    };
    let (mail, dropped) = copy().map_err(StoreError::database("copy what can be read"))?;
    let mut mail = mail.into_iter();
    let messages = mail.next().unwrap_or_default();
    let recipients = mail.next().unwrap_or_default();
    let (ids, all_ids) = lost::ids(source);
    let found = Found { target: &target, places, aside, messages, recipients, ids, all_ids };
    let mut recovery = found.settle()?;
    recovery.dropped = dropped;
    target.execute_batch("COMMIT").map_err(StoreError::database("complete a new file"))?;
    Ok((target, recovery))
}

/// The table in which SQLite's own recovery puts rows that it could not assign to one.
pub(super) const NAMELESS: &str = "lost_and_found";

/// Whether there is a table of this name.
pub(super) fn has_table(source: &Connection, name: &str) -> Result<bool, StoreError> {
    source
        .prepare("SELECT 1 FROM sqlite_master WHERE name = ?1")
        .and_then(|mut query| query.exists([name]))
        .map_err(StoreError::database("read the schema"))
}

/// Copies the rows of `file`, which SQLite's own recovery has written, into a new file at
/// `scratch`. Messages of rows that it could not assign to a table are held: they may be old.
pub(super) fn from_recovered(
    file: &Path,
    page_size: i64,
    places: &Places,
    scratch: &Path,
    aside: &Aside,
) -> Result<(Connection, Recovery), StoreError> {
    let target = schema::scratch(scratch, schema::VERSION, page_size)?;
    let fault = || StoreError::database("read the recovered file");
    let name = file.display().to_string();
    target.execute("ATTACH DATABASE ?1 AS found", [name]).map_err(fault())?;
    target.execute_batch("BEGIN").map_err(fault())?;
    for (table, first_fields, has_row_id) in FIRST_FIELDS {
        copy_named(&target, table).map_err(fault())?;
        copy_nameless(&target, table, first_fields, has_row_id).map_err(fault())?;
    }
    // A recipient whose end is on record has been served, whatever else was found of it.
    let settle = "DELETE FROM recipient WHERE EXISTS (SELECT 1 FROM history h JOIN message m \
        ON m.id = h.id WHERE m.sequence = recipient.message AND h.position = recipient.position); \
        DELETE FROM body WHERE message IN (SELECT sequence FROM message m WHERE \
        EXISTS (SELECT 1 FROM history h WHERE h.id = m.id) \
        AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.sequence)); \
        DELETE FROM message WHERE EXISTS (SELECT 1 FROM history h WHERE h.id = message.id) \
        AND NOT EXISTS (SELECT 1 FROM recipient r WHERE r.message = message.sequence)";
    target.execute_batch(settle).map_err(fault())?;
    let found = Found {
        target: &target,
        places,
        aside,
        messages: Walked { unusable: 1, ..Walked::default() }, // nobody knows what is missing
        recipients: Walked::default(),
        ids: std::collections::HashMap::new(),
        all_ids: false,
    };
    let recovery = found.settle()?;
    target.execute_batch("COMMIT; DETACH DATABASE found").map_err(fault())?;
    Ok((target, recovery))
}

/// A table that came through under its name.
fn copy_named(target: &Connection, table: &str) -> rusqlite::Result<()> {
    let ours = walk::columns(target, table)?;
    let theirs = found_columns(target, table)?;
    let columns: Vec<_> = ours.iter().filter(|name| theirs.contains(name)).cloned().collect();
    if columns.is_empty() {
        return Ok(());
    }
    let columns = columns.join(", ");
    target.execute_batch(&format!(
        "INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {columns} FROM found.{table}"
    ))?;
    if table == "recipient" && !found_columns(target, "message")?.contains(&"recipients".into()) {
        target.execute_batch(COUNT_RECIPIENTS)?;
    }
    Ok(())
}

const COUNT_RECIPIENTS: &str = "UPDATE main.message SET recipients = \
    (SELECT COUNT(*) FROM main.recipient r WHERE r.message = sequence)";

/// Rows that could not be assigned: the schema, or a page that leads to them, is lost.
fn copy_nameless(
    target: &Connection,
    table: &str,
    first_fields: usize,
    has_row_id: bool,
) -> rusqlite::Result<()> {
    let theirs = found_columns(target, NAMELESS)?;
    let ours: Vec<(String, Option<String>)> = target
        .prepare("SELECT name, dflt_value FROM pragma_table_info(?1)")?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    if !theirs.contains(&format!("c{}", first_fields - 1)) {
        return Ok(());
    }
    let most = ours.len();
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for (number, (name, default)) in ours.into_iter().enumerate() {
        let field = format!("c{number}");
        if !theirs.contains(&field) {
            break;
        }
        // The number of a row is kept beside its fields.
        values.push(match (number, default) {
            (0, _) if has_row_id => "id".to_owned(),
            (_, Some(default)) => format!("COALESCE({field}, {default})"),
            (_, None) => field,
        });
        columns.push(name);
    }
    let (columns, values) = (columns.join(", "), values.join(", "));
    let row_id = if has_row_id { "NOT NULL" } else { "NULL" };
    target.execute_batch(&format!(
        "INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {values} FROM found.lost_and_found \
         WHERE nfield BETWEEN {first_fields} AND {most} AND id IS {row_id}"
    ))?;
    if table == "message" {
        target.execute_batch(
            "UPDATE main.message SET hold_reason = COALESCE(hold_reason || '; ', '') || \
             'set aside: found among the pages of a damaged database without knowing whether it \
             was still queued; release it if it has not been sent' \
             WHERE sequence IN (SELECT id FROM found.lost_and_found \
             WHERE nfield BETWEEN 18 AND 40 AND id IS NOT NULL)",
        )?;
    }
    if table == "recipient" {
        target.execute_batch(COUNT_RECIPIENTS)?;
    }
    Ok(())
}

fn found_columns(target: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    target
        .prepare("SELECT name FROM pragma_table_info(?1, 'found')")?
        .query_map([table], |row| row.get(0))?
        .collect()
}

/// A key that no row of the mail goes beyond, as far as can be told.
fn ceiling(source: &Connection) -> i64 {
    const FAR: i64 = 1 << 32;
    const MARGIN: i64 = 1000;
    [
        "SELECT MAX(sequence) FROM message",
        "SELECT MAX(message) FROM recipient",
        "SELECT MAX(message) FROM body",
        "SELECT MAX(sequence) FROM history",
    ]
    .iter()
    .filter_map(|query| source.query_row(query, [], |row| row.get::<_, i64>(0)).ok())
    .max()
    .map_or(FAR, |most| most.saturating_add(MARGIN))
}

/// How many rows are lost, where an index has them all.
fn rows_lost(source: &Connection, table: &str, walked: &Walked) -> Option<u64> {
    let query = match table {
        "history" => "SELECT COUNT(*) FROM history INDEXED BY history_settled",
        _ => return None,
    };
    let all: i64 = source.query_row(query, [], |row| row.get(0)).ok()?;
    Some(u64::try_from(all).unwrap_or(0).saturating_sub(walked.copied))
}
