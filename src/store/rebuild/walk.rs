//! Copies the rows of one table out of a database with unreadable pages. The table is read along
//! its key: from the begin to the first row that cannot be read, from the end likewise, and what
//! lies between is searched by halving it, down to single keys. No secondary index is used: it may
//! be what is damaged, and the new file gets fresh ones.

use std::{cmp::Ordering, collections::VecDeque};

use rusqlite::{
    Connection, ErrorCode, Row, params_from_iter,
    types::{ToSqlOutput, Value, ValueRef},
};

/// Looks into a gap at most; each takes some microseconds.
const LOOKS: usize = 200_000;

/// The same as long as nothing has been found: then it is the page that leads to all others.
const LOOKS_IN_VAIN: usize = 5_000;

/// A table of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub name: &'static str,
    /// The columns of its key.
    pub key: &'static [&'static str],
    /// Whether gaps can be halved: the first column of the key is a number that counts up.
    pub is_counted: bool,
}

/// Keys (their first column) among which rows may be missing, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    pub first: i64,
    pub last: i64,
}

/// What came of a table.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Rows copied.
    pub copied: u64,
    /// Rows that were read but that the new table does not take.
    pub unusable: u64,
    /// Where rows may be missing; empty if all could be read.
    pub gaps: Vec<Missing>,
}

impl Walked {
    pub fn is_whole(&self) -> bool {
        self.gaps.is_empty() && self.unusable == 0
    }

    /// Whether rows with this key may be missing.
    pub fn may_lack(&self, key: i64) -> bool {
        self.gaps.iter().any(|gap| (gap.first..=gap.last).contains(&key))
    }
}

type Key = Vec<Value>;

/// A stretch of the table that has not been read. The keys at its ends are outside.
#[derive(Debug, Clone)]
struct Gap {
    after: Option<Key>,
    before: Option<Key>,
    /// What the first column may be in it.
    range: Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// How far reading came.
enum Reached {
    End,
    /// The last key before a row that cannot be read, if there was one.
    Broken(Option<Key>),
}

struct Walk<'a> {
    source: &'a Connection,
    target: &'a Connection,
    table: Table,
    columns: &'a [String],
    walked: Walked,
}

/// Copies what can be read of a table. `ceiling` is a key that no row goes beyond, as far as that
/// is known.
pub(super) fn copy(
    source: &Connection,
    target: &Connection,
    table: Table,
    columns: &[String],
    ceiling: i64,
) -> rusqlite::Result<Walked> {
    let mut walk = Walk { source, target, table, columns, walked: Walked::default() };
    walk.run(ceiling)?;
    Ok(walk.walked)
}

impl Walk<'_> {
    fn run(&mut self, ceiling: i64) -> rusqlite::Result<()> {
        let Reached::Broken(after) = self.scan(None, None, Direction::Up)? else { return Ok(()) };
        let Reached::Broken(before) = self.scan(after.as_ref(), None, Direction::Down)? else {
            return Ok(());
        };
        let first = after.as_ref().map_or(0, |key| self.next(key, 1));
        let last = before.as_ref().map_or(ceiling, |key| self.next(key, -1));
        let gap = Gap { after, before, range: Missing { first, last } };
        if self.table.is_counted {
            return self.search(gap);
        }
        self.walked.gaps.push(gap.range);
        Ok(())
    }

    /// Halves gaps, the oldest first, so that a bounded number of looks is spread evenly.
    fn search(&mut self, gap: Gap) -> rusqlite::Result<()> {
        let mut gaps = VecDeque::from([gap]);
        let mut looks = 0;
        while let Some(gap) = gaps.pop_front() {
            let Missing { first, last } = gap.range;
            let most = if self.walked.copied == 0 { LOOKS_IN_VAIN } else { LOOKS };
            if first >= last || looks >= most {
                // A gap without a key in it comes of a row that was read from the other side.
                if first <= last {
                    self.walked.gaps.push(gap.range);
                }
                continue;
            }
            looks += 2;
            let middle = first + (last - first) / 2 + 1;
            let edge = self.edge(middle - 1, i64::MAX);
            if let Reached::Broken(at) =
                self.scan(Some(&edge), gap.before.as_ref(), Direction::Up)?
            {
                let first = at.as_ref().map_or(middle, |key| self.next(key, 1));
                let after = Some(at.unwrap_or(edge));
                gaps.push_back(Gap { after, before: gap.before, range: Missing { first, last } });
            }
            let edge = self.edge(middle, i64::MIN);
            if let Reached::Broken(at) =
                self.scan(gap.after.as_ref(), Some(&edge), Direction::Down)?
            {
                let last = at.as_ref().map_or(middle - 1, |key| self.next(key, -1));
                let before = Some(at.unwrap_or(edge));
                gaps.push_back(Gap { after: gap.after, before, range: Missing { first, last } });
            }
        }
        Ok(())
    }

    /// A key with `first` in its first column, and `rest` in the others.
    fn edge(&self, first: i64, rest: i64) -> Key {
        (0..self.table.key.len())
            .map(|number| Value::Integer(if number == 0 { first } else { rest }))
            .collect()
    }

    /// What the first column can be in the row after `key`, or before it.
    fn next(&self, key: &Key, step: i64) -> i64 {
        let first = match key.first() {
            Some(Value::Integer(first)) => *first,
            _ => 0,
        };
        if self.table.key.len() == 1 { first.saturating_add(step) } else { first }
    }

    /// Copies the rows between two keys until one cannot be read.
    fn scan(
        &mut self,
        after: Option<&Key>,
        before: Option<&Key>,
        direction: Direction,
    ) -> rusqlite::Result<Reached> {
        let query = self.query(after.is_some(), before.is_some(), direction);
        let bounds = after.into_iter().chain(before).flatten();
        let mut statement = self.source.prepare_cached(&query)?;
        let mut rows = statement.query(params_from_iter(bounds))?;
        let mut last: Option<Key> = None;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(Reached::End),
                Err(error) if is_unreadable(&error) => return Ok(Reached::Broken(last)),
                Err(error) => return Err(error),
            };
            let Some(key) = self.key(row) else { return Ok(Reached::Broken(last)) };
            // A page that is where another should be leads around in circles.
            if !last.as_ref().is_none_or(|last| is_further(last, &key, direction)) {
                return Ok(Reached::Broken(Some(key)));
            }
            match self.insert(row) {
                Ok(()) => self.walked.copied += 1,
                Err(error) if is_unfit(&error) => self.walked.unusable += 1,
                Err(error) => return Err(error),
            }
            last = Some(key);
        }
    }

    fn query(&self, after: bool, before: bool, direction: Direction) -> String {
        let Table { name, key, .. } = self.table;
        let columns = self.columns.join(", ");
        let keys = key.join(", ");
        let marks = vec!["?"; key.len()].join(", ");
        let not_indexed = if key.len() == 1 { "NOT INDEXED" } else { "" };
        let lower = if after { format!("({keys}) > ({marks})") } else { "1".into() };
        let upper = if before { format!("({keys}) < ({marks})") } else { "1".into() };
        let order: Vec<_> = key
            .iter()
            .map(
                |key| {
                    if direction == Direction::Up { (*key).into() } else { format!("{key} DESC") }
                },
            )
            .collect();
        let order = order.join(", ");
        format!(
            "SELECT {columns}, {keys} FROM {name} {not_indexed} WHERE {lower} AND {upper} ORDER BY {order}"
        )
    }

    fn key(&self, row: &Row<'_>) -> Option<Key> {
        let key = (0..self.table.key.len()).map(|number| {
            let value = row.get_ref(self.columns.len() + number).ok()?;
            Value::try_from(value).ok()
        });
        key.collect()
    }

    /// The values go over as they are, whatever their types.
    fn insert(&self, row: &Row<'_>) -> rusqlite::Result<()> {
        let columns = self.columns.join(", ");
        let marks = vec!["?"; self.columns.len()].join(", ");
        let name = self.table.name;
        let mut values = Vec::with_capacity(self.columns.len());
        for number in 0..self.columns.len() {
            values.push(Borrowed(row.get_ref(number)?));
        }
        self.target
            .prepare_cached(&format!("INSERT INTO {name} ({columns}) VALUES ({marks})"))?
            .execute(params_from_iter(values))
            .map(|_| ())
    }
}

struct Borrowed<'a>(ValueRef<'a>);

impl rusqlite::ToSql for Borrowed<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// Whether `key` comes after `last` on the way; keys of mixed types are left to SQLite.
fn is_further(last: &Key, key: &Key, direction: Direction) -> bool {
    let order = last.iter().zip(key).find_map(|(last, key)| {
        let order = match (last, key) {
            (Value::Integer(last), Value::Integer(key)) => last.cmp(key),
            (Value::Text(last), Value::Text(key)) => last.cmp(key),
            _ => Ordering::Less,
        };
        (order != Ordering::Equal).then_some(order)
    });
    match direction {
        Direction::Up => order == Some(Ordering::Less),
        Direction::Down => order == Some(Ordering::Greater),
    }
}

/// Whether it is the page or the row that cannot be read. Anything else may pass: a row that is
/// given up for lost must be.
pub(super) fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::TooBig))
}

fn is_unfit(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
    )
}

/// The columns of a table.
pub(super) fn columns(database: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    database
        .prepare("SELECT name FROM pragma_table_info(?1)")?
        .query_map([table], |row| row.get(0))?
        .collect()
}
