//! Reads, on connections of their own: they never wait for the committer.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{Body, Settled, digest::Digest, directory::Places, error::StoreError, schema};
use crate::{clock::UnixMillis, mail::queue_id::QueueId};

/// A connection for reading.
pub(super) type Reader = Connection;

/// Read connections, kept for reuse.
pub(super) struct Readers {
    database: PathBuf,
    idle: Mutex<Vec<Reader>>,
    first: Semaphore,
    others: Semaphore,
}

/// Reads at a time: each takes a thread and a connection, and a thousand lanes may ask at once.
const AT_A_TIME: usize = 4;

/// How long a read waits for the one before it, rather than take a connection of its own: many
/// times as long as most of them last.
const CROWDED: Duration = Duration::from_millis(5);

/// Idle connections kept: all that there can be. Each holds a little memory, but to open one costs
/// ten times as much as what it is asked for, since the schema has to be read anew.
const KEEP_IDLE: usize = AT_A_TIME;

impl Readers {
    pub fn new(database: PathBuf) -> Self {
        let (first, others) = (Semaphore::new(1), Semaphore::new(AT_A_TIME - 1));
        Self { database, idle: Mutex::new(Vec::new()), first, others }
    }

    /// Waits for a turn to read; it lasts until it is dropped.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = match timeout(CROWDED, self.first.acquire()).await {
            Ok(turn) => turn,
            Err(_) => self.others.acquire().await,
        };
        turn.ok() // neither is ever closed
    }

    /// Closes the idle connections.
    pub fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs a query on an idle connection, or a new one. Blocks.
    pub fn with<T>(
        &self,
        query: impl FnOnce(&Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let reader = match kept {
            Some(reader) => reader,
            None => schema::open_read_only(&self.database)?,
        };
        let result = query(&reader)?; // after an error the connection is not kept
        let mut idle = idle();
        if idle.len() < KEEP_IDLE {
            idle.push(reader);
        }
        Ok(result)
    }
}

/// Every message whose body is in a file; `None` if a row does not tell which one it is.
pub(super) fn body_files(database: &Connection) -> Result<Option<HashSet<QueueId>>, StoreError> {
    let run = || {
        database
            .prepare("SELECT id FROM message WHERE body_in_file IS NOT 0")?
            .query_map([], |row| Ok(queue_id(row, 0).ok()))?
            .collect::<Result<_, _>>()
    };
    run().map_err(StoreError::database("list body files"))
}

/// How many messages are queued.
pub(super) fn count(database: &Connection) -> Result<u64, StoreError> {
    database
        .query_row("SELECT COUNT(*) FROM message", [], |row| unsigned(row, 0))
        .map_err(StoreError::database("count messages"))
}

/// The lanes in which messages wait that are not set aside.
pub(super) fn waiting_lanes(database: &Reader) -> Result<Vec<String>, StoreError> {
    let run = || {
        database
            .prepare_cached("SELECT DISTINCT lane FROM message WHERE hold_reason IS NULL")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()
    };
    run().map_err(StoreError::database("list the lanes"))
}

pub(super) fn next_due(
    database: &Reader,
    lane: &str,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, StoreError> {
    database
        .prepare_cached(
            "SELECT MIN(next_attempt) FROM message \
             WHERE lane = ?1 AND next_attempt > ?2 AND hold_reason IS NULL",
        )
        .and_then(|mut query| query.query_row(params![lane, now.0], |row| row.get(0)))
        .map(|time: Option<i64>| time.map(UnixMillis))
        .map_err(StoreError::database("read the next attempt"))
}

/// The row of a message, as far as its body is concerned.
struct BodyRow {
    in_file: bool,
    data: Option<Vec<u8>>,
    size: u64,
    digest: Option<Digest>,
    /// Nobody has set the message aside.
    waits: bool,
}

/// The id is looked up along with it: the sequence of a message that was removed may belong to
/// another one by now.
fn body_row(database: &Reader, id: QueueId) -> Result<Option<BodyRow>, StoreError> {
    database
        .prepare_cached(
            "SELECT m.body_in_file, b.data, m.size, m.digest, m.hold_reason IS NULL \
             FROM message m LEFT JOIN body b ON b.message = m.sequence WHERE m.id = ?1",
        )
        .and_then(|mut query| {
            query
                .query_row([id.as_str()], |row| {
                    Ok(BodyRow {
                        in_file: row.get(0)?,
                        data: row.get(1)?,
                        size: unsigned(row, 2)?,
                        digest: row.get(3)?,
                        waits: row.get(4)?,
                    })
                })
                .optional()
        })
        .map_err(StoreError::database("read a body"))
}

/// The body of the message with this row, if it has one in the database and that is unhurt.
pub(super) fn small_body(
    database: &Reader,
    id: QueueId,
    sequence: i64,
) -> Result<Option<Body>, StoreError> {
    let body = database
        .prepare_cached(
            "SELECT b.data, m.size, m.digest FROM body b JOIN message m ON m.sequence = b.message \
             WHERE b.message = ?1",
        )
        .and_then(|mut query| {
            query
                .query_row([sequence], |row| {
                    Ok(Body::from_row(id, row.get(0)?, unsigned(row, 1)?, row.get(2)?))
                })
                .optional()
        })
        .map_err(StoreError::database("read a body"))?;
    body.map(Body::checked).transpose()
}

/// The body of a message, wherever it is.
pub(super) fn body(database: &Reader, places: &Places, id: QueueId) -> Result<Body, StoreError> {
    open_body(places, id, body_row(database, id)?)
}

fn open_body(places: &Places, id: QueueId, row: Option<BodyRow>) -> Result<Body, StoreError> {
    match row {
        Some(BodyRow { in_file: true, size, digest, .. }) => Body::open(places, id, size, digest),
        Some(BodyRow { data: Some(data), size, digest, .. }) => {
            Ok(Body::from_row(id, data, size, digest))
        }
        _ => {
            let detail = "no row in the queue database".to_owned();
            Err(StoreError::MissingBody { id, detail })
        }
    }
}

/// As [`body`], or `None` if the message has been removed or set aside.
pub(super) fn body_if_waiting(
    database: &Reader,
    places: &Places,
    id: QueueId,
) -> Result<Option<Body>, StoreError> {
    let waits = |row: &Option<BodyRow>| row.as_ref().is_some_and(|row| row.waits);
    let row = body_row(database, id)?;
    if !waits(&row) {
        return Ok(None);
    }
    match open_body(places, id, row) {
        // The file may have gone with its message since.
        Err(error) if error.is_missing_body() && !waits(&body_row(database, id)?) => Ok(None),
        other => other.map(Some),
    }
}

pub(super) fn relayed_since(
    database: &Reader,
    lane: &str,
    since: UnixMillis,
    step: Duration,
) -> Result<Vec<(UnixMillis, u64)>, StoreError> {
    let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
    let run = || {
        database
            .prepare_cached(
                "SELECT settled - settled % ?3, COUNT(*) FROM history \
                 WHERE settled > ?2 AND lane = ?1 AND disposition = 'relayed' GROUP BY 1 ORDER BY 1",
            )?
            .query_map(params![lane, since.0, step], |row| {
                Ok((UnixMillis(row.get(0)?), unsigned(row, 1)?))
            })?
            .collect::<Result<_, _>>()
    };
    run().map_err(StoreError::database("count the recipients of the day"))
}

pub(super) fn history(
    database: &Reader,
    failed_only: bool,
    limit: usize,
) -> Result<Vec<Settled>, StoreError> {
    let run = || {
        database
            .prepare_cached(
                "SELECT * FROM history WHERE ?1 = 0 OR disposition = 'failed' \
                 ORDER BY settled DESC, sequence DESC LIMIT ?2",
            )?
            .query_map(params![failed_only, i64::try_from(limit).unwrap_or(i64::MAX)], settled)?
            .collect::<Result<_, _>>()
    };
    run().map_err(StoreError::database("read the history"))
}

/// A row of the history, all columns of it.
pub(super) fn settled(row: &Row<'_>) -> rusqlite::Result<Settled> {
    Ok(Settled {
        time: UnixMillis(row.get("settled")?),
        id: row.get("id")?,
        position: row.get("position")?,
        arrival: UnixMillis(row.get("arrival")?),
        client: row.get("client")?,
        reverse_path: row.get("reverse_path")?,
        forward_path: row.get("forward_path")?,
        disposition: row.get("disposition")?,
        attempts: row.get("attempts")?,
        reply: row.get("reply")?,
        advice: row.get("advice")?,
        size: row.get::<_, i64>("size").map(|size| u64::try_from(size).unwrap_or(0))?,
        message_id: row.get("message_id")?,
    })
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|value| u64::try_from(value).unwrap_or(0))
}

pub(super) fn queue_id(row: &Row<'_>, column: usize) -> rusqlite::Result<QueueId> {
    row.get::<_, String>(column)?.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}
