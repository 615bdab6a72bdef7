//! Messages and history rows that fit a filter, page by page: each page is a statement of its
//! own, so that neither memory nor the write-ahead log grows while somebody reads.

use rusqlite::{Connection, Params, Row, named_params, types::FromSql};

use super::Desk;
use crate::{
    clock::UnixMillis,
    mail::queue_id::QueueId,
    store::{Settled, StoreError, read},
};

/// Messages in a page, with all their recipients.
const PAGE: usize = 64;

/// Ids in a page.
const ID_PAGE: usize = 1000;

/// Rows of history in a page.
const HISTORY_PAGE: usize = 256;

/// An address to look for, where `*` stands for anything; upper and lower case are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern(String);

impl PathPattern {
    /// The pattern; `<>` is the null reverse-path, and brackets around an address do not matter.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let bare = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
        let mut like = String::with_capacity(bare.len());
        for character in bare.chars() {
            match character {
                '*' => like.push('%'),
                '%' | '_' | '\\' => like.extend(['\\', character]),
                _ => like.push(character),
            }
        }
        Self(like)
    }
}

/// Which queued messages are meant; the default means all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this lane.
    pub lane: Option<String>,
    /// Those with such a reverse-path.
    pub reverse_path: Option<PathPattern>,
    /// Those with such a forward-path among the ones that wait.
    pub forward_path: Option<PathPattern>,
    /// Those that are held.
    pub held: bool,
    /// Those that arrived before.
    pub arrived_before: Option<UnixMillis>,
    /// Those whose id begins like this.
    pub id_prefix: Option<String>,
    /// The first so many.
    pub limit: Option<u64>,
}

/// Which settled recipients are meant; the default means all.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// Those with such a reverse-path.
    pub reverse_path: Option<PathPattern>,
    /// Those with such a forward-path.
    pub forward_path: Option<PathPattern>,
    /// Those of messages whose id begins like this.
    pub id_prefix: Option<String>,
    /// Those that were settled since.
    pub since: Option<UnixMillis>,
    /// Those that failed.
    pub failed: bool,
    /// The newest so many.
    pub limit: Option<u64>,
}

/// A queued message as a list shows it. Text from outside is as it came: it may hold anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its queue id.
    pub id: QueueId,
    /// Its lane.
    pub lane: String,
    /// When it arrived.
    pub arrival: UnixMillis,
    /// The client's address.
    pub client: String,
    /// The name the client gave in EHLO.
    pub hello: String,
    /// Its reverse-path; empty for the null reverse-path.
    pub reverse_path: String,
    /// Octets of mail data.
    pub size: u64,
    /// The Message-ID in force.
    pub message_id: String,
    /// Whether it is a notice of ours.
    pub is_notice: bool,
    /// When it will be attempted next, if nothing is in the way.
    pub next_attempt: UnixMillis,
    /// Why it is set aside, if it is.
    pub hold_reason: Option<String>,
    /// Who has still to get it.
    pub recipients: Vec<Waiting>,
    sequence: i64,
}

/// A recipient that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the envelope.
    pub position: u32,
    /// Its address.
    pub forward_path: String,
    /// Attempts that counted.
    pub attempts: u32,
    /// When it will be attempted next, if nothing is in the way.
    pub next_attempt: UnixMillis,
    /// What the last attempt came to.
    pub last_reply: Option<String>,
}

const FITS: &str = "sequence > :after AND sequence <= :last \
    AND (:lane IS NULL OR lane = :lane) \
    AND (:reverse_path IS NULL OR reverse_path LIKE :reverse_path ESCAPE '\\') \
    AND (:forward_path IS NULL OR EXISTS (SELECT 1 FROM recipient r WHERE \
    r.message = message.sequence AND r.forward_path LIKE :forward_path ESCAPE '\\')) \
    AND (NOT :held OR hold_reason IS NOT NULL) \
    AND (:arrived_before IS NULL OR arrival <= :arrived_before) \
    AND (:id_prefix IS NULL OR substr(id, 1, length(:id_prefix)) = :id_prefix) \
    ORDER BY sequence LIMIT :limit";

impl Desk {
    /// The messages that fit, oldest first, in pages. What arrives after the begin is left out.
    ///
    /// # Errors
    /// Each page [`StoreError`] if the database cannot be read; it is the last one then.
    pub fn messages(
        &self,
        filter: &Filter,
    ) -> impl Iterator<Item = Result<Vec<Queued>, StoreError>> {
        let query = format!("SELECT * FROM message WHERE {FITS}");
        let messages = self.pages(filter, PAGE, query, queued);
        messages.map(|page| {
            let mut page = page?;
            let fill = |message: &mut Queued| recipients(&self.database, message);
            page.iter_mut().try_for_each(fill).map_err(StoreError::database("list recipients"))?;
            Ok(page)
        })
    }

    /// The ids of the messages that fit, as [`Desk::messages`].
    ///
    /// # Errors
    /// Each page [`StoreError`] if the database cannot be read; it is the last one then.
    pub fn ids(&self, filter: &Filter) -> impl Iterator<Item = Result<Vec<QueueId>, StoreError>> {
        let query = format!("SELECT sequence, id FROM message WHERE {FITS}");
        self.pages(filter, ID_PAGE, query, |row| read::queue_id(row, 1))
    }

    fn pages<T>(
        &self,
        filter: &Filter,
        size: usize,
        query: String,
        row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> impl Iterator<Item = Result<Vec<T>, StoreError>> {
        let filter = filter.clone();
        let fault = || StoreError::database("list the queue");
        let mut begin = Some(last(&self.database).map_err(fault()));
        let mut bounds = None;
        let mut left = Left::new(filter.limit);
        std::iter::from_fn(move || {
            let (after, last) = match begin.take() {
                Some(Ok(last)) => (0, last),
                Some(Err(error)) => return Some(Err(error)),
                None => bounds.take()?,
            };
            let limit = left.next_page(size)?;
            let page = select(
                &self.database,
                &query,
                named_params! {
                    ":after": after,
                    ":last": last,
                    ":lane": filter.lane,
                    ":reverse_path": filter.reverse_path.as_ref().map(|path| &path.0),
                    ":forward_path": filter.forward_path.as_ref().map(|path| &path.0),
                    ":held": filter.held,
                    ":arrived_before": filter.arrived_before.map(|time| time.0),
                    ":id_prefix": filter.id_prefix,
                    ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
                },
                // A row that makes no sense stops no other.
                |found| Ok((found.get("sequence")?, row(found).ok())),
            );
            let page: Vec<(i64, Option<T>)> = match page {
                Ok(page) => page,
                Err(error) => return Some(Err(fault()(error))),
            };
            // A page that is not full is the last one; an empty one is none.
            bounds = page.last().map(|row| (row.0, last)).filter(|_| page.len() == limit);
            left.took(page.len());
            let more = !page.is_empty();
            let page: Vec<T> = page.into_iter().filter_map(|(_, row)| row).collect();
            more.then_some(Ok(page))
        })
    }

    /// The settled recipients that fit, newest first, in pages.
    ///
    /// # Errors
    /// Each page [`StoreError`] if the database cannot be read; it is the last one then.
    pub fn history(
        &self,
        filter: &HistoryFilter,
    ) -> impl Iterator<Item = Result<Vec<Settled>, StoreError>> {
        const QUERY: &str = "SELECT * FROM history \
            WHERE (settled, sequence) < (:settled, :sequence) AND settled >= :since \
            AND (:reverse_path IS NULL OR reverse_path LIKE :reverse_path ESCAPE '\\') \
            AND (:forward_path IS NULL OR forward_path LIKE :forward_path ESCAPE '\\') \
            AND (:id_prefix IS NULL OR substr(id, 1, length(:id_prefix)) = :id_prefix) \
            AND (NOT :failed OR disposition = 'failed') \
            ORDER BY settled DESC, sequence DESC LIMIT :limit";
        let filter = filter.clone();
        let mut before = Some((i64::MAX, i64::MAX));
        let mut left = Left::new(filter.limit);
        std::iter::from_fn(move || {
            let (time, sequence) = before.take()?;
            let limit = left.next_page(HISTORY_PAGE)?;
            let rows = select(
                &self.database,
                QUERY,
                named_params! {
                    ":settled": time,
                    ":sequence": sequence,
                    ":since": filter.since.map_or(i64::MIN, |time| time.0),
                    ":reverse_path": filter.reverse_path.as_ref().map(|path| &path.0),
                    ":forward_path": filter.forward_path.as_ref().map(|path| &path.0),
                    ":id_prefix": filter.id_prefix,
                    ":failed": filter.failed,
                    ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
                },
                |row| Ok((row.get::<_, i64>("sequence")?, read::settled(row)?)),
            );
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) => return Some(Err(StoreError::database("read the history")(error))),
            };
            let full = rows.len() == limit;
            before = rows.last().filter(|_| full).map(|(sequence, row)| (row.time.0, *sequence));
            left.took(rows.len());
            let page: Vec<_> = rows.into_iter().map(|(_, settled)| settled).collect();
            (!page.is_empty()).then_some(Ok(page))
        })
    }
}

/// What a limit leaves.
struct Left(Option<u64>);

impl Left {
    fn new(limit: Option<u64>) -> Self {
        Self(limit)
    }

    /// How many to read next; `None` if there have been enough.
    fn next_page(&self, size: usize) -> Option<usize> {
        let left = self.0.map_or(size, |left| usize::try_from(left).unwrap_or(size).min(size));
        (left > 0).then_some(left)
    }

    fn took(&mut self, rows: usize) {
        self.0 = self.0.map(|left| left.saturating_sub(rows as u64));
    }
}

fn select<T>(
    database: &Connection,
    query: &str,
    parameters: impl Params,
    row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    database.prepare_cached(query)?.query_map(parameters, row)?.collect()
}

fn last(database: &Connection) -> rusqlite::Result<i64> {
    database.query_row("SELECT COALESCE(MAX(sequence), 0) FROM message", [], |row| row.get(0))
}

pub(super) fn exists(database: &Connection, id: QueueId) -> Result<bool, StoreError> {
    database
        .prepare_cached("SELECT 1 FROM message WHERE id = ?1")
        .and_then(|mut query| query.exists([id.as_str()]))
        .map_err(StoreError::database("look for a message"))
}

/// One message with its recipients.
pub(super) fn one(database: &Connection, id: QueueId) -> rusqlite::Result<Option<Queued>> {
    let query = "SELECT * FROM message WHERE id = ?1";
    let Some(mut message) = select(database, query, [id.as_str()], queued)?.pop() else {
        return Ok(None);
    };
    recipients(database, &mut message)?;
    Ok(Some(message))
}

/// A value of a row, or none if it makes no sense there: the message is to be seen all the same,
/// with the reason for which it is held.
fn value<T: FromSql + Default>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    match row.get(column) {
        Err(FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)) => {
            Ok(T::default())
        }
        other => other,
    }
}

fn queued(row: &Row<'_>) -> rusqlite::Result<Queued> {
    Ok(Queued {
        sequence: row.get("sequence")?,
        id: read::queue_id(row, row.as_ref().column_index("id")?)?,
        lane: value(row, "lane")?,
        arrival: UnixMillis(value(row, "arrival")?),
        client: value(row, "client")?,
        hello: value(row, "hello")?,
        reverse_path: value(row, "reverse_path")?,
        size: value::<i64>(row, "size").map(|size| u64::try_from(size).unwrap_or(0))?,
        message_id: value(row, "message_id")?,
        is_notice: value(row, "is_notice")?,
        next_attempt: UnixMillis(value(row, "next_attempt")?),
        hold_reason: value(row, "hold_reason")?,
        recipients: Vec::new(),
    })
}

fn recipients(database: &Connection, message: &mut Queued) -> rusqlite::Result<()> {
    let query = "SELECT position, forward_path, attempts, next_attempt, last_reply \
                 FROM recipient WHERE message = ?1 ORDER BY position";
    message.recipients = select(database, query, [message.sequence], |row| {
        Ok(Waiting {
            position: value(row, "position")?,
            forward_path: value(row, "forward_path")?,
            attempts: value(row, "attempts")?,
            next_attempt: UnixMillis(value(row, "next_attempt")?),
            last_reply: value(row, "last_reply")?,
        })
    })?;
    Ok(())
}
