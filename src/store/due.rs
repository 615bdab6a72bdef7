//! Messages as the lanes get them. A row that can be read but makes no sense is told apart, so
//! that it stops no other.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params, types::Type};

use super::{
    Body, Entry, PendingRecipient,
    error::StoreError,
    read::{self, unsigned},
};
use crate::{
    clock::UnixMillis,
    mail::queue_id::QueueId,
    smtp::{
        envelope::{self, MailParameters, RcptParameters, Ret},
        path::{Address, ForwardPath, ReversePath},
    },
};

/// What is due.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub entries: Vec<Entry>,
    /// Bodies of the first of them.
    pub bodies: HashMap<QueueId, Body>,
    pub unfit: Vec<Unfit>,
}

/// What of it is wanted.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    /// How many messages at most.
    pub limit: usize,
    /// Bodies of so many of them, if they are small; a body that cannot be read is left out.
    pub bodies: usize,
    /// Messages that are passed over without being read, made by [`list`].
    pub but: &'a str,
}

/// A message that cannot be attempted as its rows stand.
#[derive(Debug)]
pub(super) struct Unfit {
    pub sequence: i64,
    /// Its queue id, if that makes sense.
    pub id: Option<QueueId>,
    /// What is wrong.
    pub reason: String,
}

/// Messages of a lane whose next attempt is due, oldest first.
pub(super) fn due(
    database: &Connection,
    lane: &str,
    now: UnixMillis,
    wanted: &Wanted<'_>,
) -> Result<Due, StoreError> {
    let run = || {
        let limit = i64::try_from(wanted.limit).unwrap_or(i64::MAX);
        let mut due = Due::default();
        let mut messages = database.prepare_cached(&format!(
            "SELECT {COLUMNS}, \
             recipients = (SELECT COUNT(*) FROM recipient r WHERE r.message = sequence) AS is_whole \
             FROM message WHERE lane = ?1 AND next_attempt <= ?2 AND hold_reason IS NULL \
             AND COALESCE(instr(?4, ',' || id || ','), 0) = 0 \
             ORDER BY next_attempt LIMIT ?3"
        ))?;
        let mut rows = messages.query(params![lane, now.0, limit, wanted.but])?;
        while let Some(row) = rows.next()? {
            let sequence = row.get(0)?;
            let entry = entry(row).and_then(|entry| with_recipients(database, row, entry, now));
            match entry {
                Ok(entry) => {
                    // As long as the row stands, its sequence is this message's.
                    if due.entries.len() < wanted.bodies
                        && let Ok(Some(body)) = read::small_body(database, entry.id, sequence)
                    {
                        due.bodies.insert(entry.id, body);
                    }
                    due.entries.push(entry);
                }
                Err(Fault::Database(error)) => return Err(error),
                Err(Fault::Unfit(reason)) => {
                    due.unfit.push(Unfit { sequence, id: id(row).ok(), reason });
                }
            }
        }
        Ok(due)
    };
    run().map_err(StoreError::database("read due messages"))
}

/// Queue ids as one text, each between commas, which no id has.
pub(super) fn list<'a>(ids: impl Iterator<Item = &'a QueueId>) -> String {
    ids.fold(String::from(","), |list, id| list + id.as_str() + ",")
}

/// Every message that could not be attempted, or would never be. All rows are looked at, those of
/// the recipients if that is asked for.
pub(super) fn unfit(database: &Connection, recipients_too: bool) -> rusqlite::Result<Vec<Unfit>> {
    let mut unfit = Vec::new();
    let mut messages = database.prepare(&format!("SELECT {COLUMNS} FROM message"))?;
    let mut recipients = database.prepare(RECIPIENTS)?;
    let mut rows = messages.query([])?;
    while let Some(row) = rows.next()? {
        let sequence: i64 = row.get(0)?;
        let mut reason = reason_of(entry(row).and_then(|_| due_at(row)))?;
        if recipients_too && reason.is_none() {
            let mut pending = recipients.query(params![sequence, i64::MAX])?;
            while let (Some(recipient), None) = (pending.next()?, &reason) {
                reason = reason_of(pending_recipient(recipient))?;
            }
        }
        if let Some(reason) = reason {
            unfit.push(Unfit { sequence, id: id(row).ok(), reason });
        }
    }
    Ok(unfit)
}

/// A message without its recipients, or `None` if it could not be attempted, or would never be, as
/// far as its own row tells. The row begins with [`COLUMNS`].
pub(super) fn whole(row: &Row<'_>) -> rusqlite::Result<Option<Entry>> {
    match due_at(row).and_then(|()| entry(row)) {
        Ok(entry) => Ok(Some(entry)),
        Err(Fault::Unfit(_)) => Ok(None),
        Err(Fault::Database(error)) => Err(error),
    }
}

/// Sets the messages aside that could not be attempted, or would never be; no others wait for
/// them. The rows of their recipients are looked at when they are due.
pub(super) fn hold_unfit(database: &Connection) -> Result<(), StoreError> {
    let run = || {
        for Unfit { sequence, id, reason } in unfit(database, false)? {
            if hold(database, sequence, &reason)? {
                tell(sequence, id, &reason);
            }
        }
        Ok(())
    };
    run().map_err(StoreError::database("set messages aside that make no sense"))
}

/// Sets a message aside by the number of its row, unless it is held for this already.
pub(super) fn hold(database: &Connection, sequence: i64, reason: &str) -> rusqlite::Result<bool> {
    let changed = database
        .prepare_cached(
            "UPDATE message SET hold_reason = COALESCE(hold_reason || '; ', 'set aside: ') || ?2 \
             WHERE sequence = ?1 AND instr(COALESCE(hold_reason, ''), ?2) = 0",
        )?
        .execute(params![sequence, reason])?;
    Ok(changed > 0)
}

/// Tells the log.
pub(super) fn tell(sequence: i64, id: Option<QueueId>, reason: &str) {
    let queue_id = id.map(tracing::field::display);
    tracing::error!(row = sequence, queue_id, reason, "message set aside");
}

/// What a message has had in every version of the schema, all of it, so that damage shows. Columns
/// are known by their places: to look for their names takes longer than to read them, and a start
/// reads every row.
pub(super) const COLUMNS: &str = "sequence, id, arrival, reverse_path, eight_bit, smtputf8, ret, \
     envid, size, message_id, is_notice, delay_told, body_in_file, lane, next_attempt, \
     hold_reason, client, hello";

pub(super) const BODY_IN_FILE: usize = 12;
pub(super) const LANE: usize = 13;
pub(super) const HOLD_REASON: usize = 15;

/// How many those are: what else is asked for comes behind them.
const COLUMN_COUNT: usize = 18;

const RECIPIENTS: &str = "SELECT position, forward_path, notify, orcpt, attempts FROM recipient \
     WHERE message = ?1 AND next_attempt <= ?2 ORDER BY position";

/// Why there is no entry.
enum Fault {
    /// It cannot be read.
    Database(rusqlite::Error),
    /// It makes no sense.
    Unfit(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::{
            FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType,
        };
        match error {
            FromSqlConversionFailure(_, _, cause) => Self::Unfit(cause.to_string()),
            InvalidColumnType(_, column, found) => {
                Self::Unfit(format!("its {column} in the queue database is of the type {found}"))
            }
            IntegralValueOutOfRange(..) => {
                Self::Unfit("a number of it in the queue database is out of range".into())
            }
            other => Self::Database(other),
        }
    }
}

fn reason_of<T>(read: Result<T, Fault>) -> rusqlite::Result<Option<String>> {
    match read {
        Ok(_) => Ok(None),
        Err(Fault::Unfit(reason)) => Ok(Some(reason)),
        Err(Fault::Database(error)) => Err(error),
    }
}

fn with_recipients(
    database: &Connection,
    row: &Row<'_>,
    mut entry: Entry,
    now: UnixMillis,
) -> Result<Entry, Fault> {
    if !row.get::<_, bool>(COLUMN_COUNT)? {
        return Err(Fault::Unfit("not all of its recipients are in the queue database".into()));
    }
    let mut recipients = database.prepare_cached(RECIPIENTS)?;
    let mut rows = recipients.query(params![entry.sequence, now.0])?;
    while let Some(row) = rows.next()? {
        entry.recipients.push(pending_recipient(row)?);
    }
    if entry.recipients.is_empty() {
        return Err(Fault::Unfit("it has no recipient whose attempt is due".into()));
    }
    Ok(entry)
}

fn due_at(row: &Row<'_>) -> Result<(), Fault> {
    row.get::<_, String>(LANE)?;
    row.get::<_, i64>(14)?;
    Ok(())
}

fn entry(row: &Row<'_>) -> Result<Entry, Fault> {
    let ret: Option<String> = row.get(6)?;
    row.get::<_, bool>(BODY_IN_FILE)?;
    Ok(Entry {
        sequence: row.get(0)?,
        id: id(row)?,
        arrival: UnixMillis(row.get(2)?),
        reverse_path: reverse_path(&row.get::<_, String>(3)?)?,
        parameters: MailParameters {
            size: None,
            body: match row.get(4)? {
                true => envelope::Body::EightBitMime,
                false => envelope::Body::SevenBit,
            },
            smtputf8: row.get(5)?,
            ret: ret.map(|ret| if ret == "FULL" { Ret::Full } else { Ret::Headers }),
            envid: row.get(7)?,
        },
        size: unsigned(row, 8)?,
        message_id: row.get(9)?,
        is_notice: row.get(10)?,
        delay_told: row.get(11)?,
        recipients: Vec::new(),
    })
}

fn pending_recipient(row: &Row<'_>) -> Result<PendingRecipient, Fault> {
    Ok(PendingRecipient {
        position: row.get(0)?,
        forward_path: ForwardPath(address("forward-path", &row.get::<_, String>(1)?)?),
        parameters: RcptParameters { notify: row.get(2)?, orcpt: row.get(3)? },
        attempts: row.get(4)?,
    })
}

fn id(row: &Row<'_>) -> rusqlite::Result<QueueId> {
    row.get::<_, String>(1)?.parse().map_err(|error| bad_text("queue id", error))
}

/// The reverse-path of a row; empty text is the null reverse-path.
pub(super) fn reverse_path(text: &str) -> rusqlite::Result<ReversePath> {
    if text.is_empty() {
        return Ok(ReversePath::Null);
    }
    address("reverse-path", text).map(ReversePath::Address)
}

fn address(what: &'static str, text: &str) -> rusqlite::Result<Address> {
    text.parse().map_err(|error| bad_text(what, error))
}

fn bad_text(what: &'static str, error: impl std::fmt::Display) -> rusqlite::Error {
    let cause = format!("its {what} in the queue database makes no sense: {error}");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, cause.into())
}
