//! What is left of messages that are not whole: those whose row is there are held, those whose row
//! is lost are exported as far as they are known.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension};

use super::{Lost, Recovery, SetAside, walk::Walked};
use crate::{
    mail::queue_id::QueueId,
    store::{aside::Aside, directory::Places, due, error::StoreError, read},
};

/// Rows that have been brought into a new database, before it is known which belong together.
pub(super) struct Found<'a> {
    pub target: &'a Connection,
    pub places: &'a Places,
    pub aside: &'a Aside,
    pub messages: Walked,
    pub recipients: Walked,
    /// Queue ids by the number of the row, from the index.
    pub ids: HashMap<i64, String>,
    /// Whether the index could be read in full.
    pub all_ids: bool,
}

/// Every queue id that the index knows, and whether it could be read in full. The index is a tree
/// of its own: it may know messages whose rows are lost.
pub(super) fn ids(source: &Connection) -> (HashMap<i64, String>, bool) {
    let mut ids = HashMap::new();
    for order in ["ASC", "DESC"] {
        let query = format!(
            "SELECT sequence, id FROM message INDEXED BY sqlite_autoindex_message_1 ORDER BY id {order}"
        );
        let mut run = || {
            let mut statement = source.prepare(&query)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                if let (Ok(sequence), Ok(id)) = (row.get(0), row.get(1)) {
                    ids.insert(sequence, id);
                }
            }
            Ok::<_, rusqlite::Error>(())
        };
        if run().is_ok() {
            return (ids, true);
        }
    }
    (ids, false)
}

impl Found<'_> {
    /// Holds and exports what is not whole, and says what is there.
    pub fn settle(&self) -> Result<Recovery, StoreError> {
        let fault = || StoreError::database("sort what could be read");
        let lost = self.lost().map_err(fault())?;
        let mut recovery = Recovery::default();
        for sequence in lost {
            recovery.lost.push(self.export(sequence)?);
        }
        recovery.lost.extend(self.nameless_bodies(&recovery.lost)?);
        self.hold_incomplete(&mut recovery).map_err(fault())?;
        recovery.messages = read::count(self.target)?;
        Ok(recovery)
    }

    /// Messages that have something left, but no row that can be used.
    fn lost(&self) -> rusqlite::Result<BTreeSet<i64>> {
        for unfit in due::unfit(self.target, true)?.iter().filter(|unfit| unfit.id.is_none()) {
            self.target.execute("DELETE FROM message WHERE sequence = ?1", [unfit.sequence])?;
        }
        let mut lost: BTreeSet<i64> = self
            .target
            .prepare(
                "SELECT message FROM body WHERE message NOT IN (SELECT sequence FROM message) \
                 UNION SELECT message FROM recipient \
                 WHERE message NOT IN (SELECT sequence FROM message)",
            )?
            .query_map([], |row| row.get(0))?
            .filter_map(Result::ok)
            .collect();
        if !self.messages.is_whole() {
            let mut is_there = self.target.prepare("SELECT 1 FROM message WHERE sequence = ?1")?;
            for sequence in self.ids.keys() {
                if !is_there.exists([sequence])? {
                    lost.insert(*sequence);
                }
            }
        }
        Ok(lost)
    }

    /// Writes down what is known of a message without a row, and takes it out of the queue.
    fn export(&self, sequence: i64) -> Result<Lost, StoreError> {
        let fault = || StoreError::database("export a message");
        let id: Option<QueueId> = self.ids.get(&sequence).and_then(|id| id.parse().ok());
        let name = match id {
            Some(id) => format!("{id}.eml"),
            None => format!("message-{sequence}.eml"),
        };
        let data = self
            .target
            .query_row("SELECT data FROM body WHERE message = ?1", [sequence], |row| {
                Ok(row.get_ref(0)?.as_bytes().map(<[u8]>::to_vec).unwrap_or_default())
            })
            .optional()
            .map_err(fault())?;
        let has_file = match (&data, id) {
            (Some(data), _) => self.aside.write(&name, data).map(|()| true)?,
            (None, Some(id)) => self.aside.keep_body(&self.places.body_file(id), &name)?,
            (None, None) => false,
        };
        let forward_paths: Vec<String> = self
            .target
            .prepare_cached("SELECT forward_path FROM recipient WHERE message = ?1")
            .and_then(|mut query| {
                query.query_map([sequence], |row| row.get(0))?.collect::<Result<_, _>>()
            })
            .map_err(fault())?;
        let clear = || {
            self.target.execute("DELETE FROM body WHERE message = ?1", [sequence])?;
            self.target.execute("DELETE FROM recipient WHERE message = ?1", [sequence])
        };
        clear().map_err(fault())?;
        let whole = if self.recipients.may_lack(sequence) { "perhaps not all" } else { "all" };
        let known = match (has_file, forward_paths.len()) {
            (true, 0) => "its row and its recipients are lost, its mail data is here".to_owned(),
            (true, number) => format!(
                "its row is lost, its mail data and {number} recipients that wait ({whole}) are here"
            ),
            (false, number) => {
                format!("its row and its mail data are lost, {number} recipients are known")
            }
        };
        let id = id.map(|id| id.to_string());
        Ok(Lost { id, file: has_file.then_some(name), forward_paths, known })
    }

    /// Body files of messages whose row is lost and whose id nobody knows any more: all that have
    /// no row. While mail comes in, some may be of messages that are not queued yet.
    fn nameless_bodies(&self, lost: &[Lost]) -> Result<Vec<Lost>, StoreError> {
        if self.messages.is_whole() || self.all_ids {
            return Ok(Vec::new());
        }
        let known: HashSet<_> = lost.iter().filter_map(|lost| lost.id.as_deref()).collect();
        let mut more = Vec::new();
        for (id, path) in self.places.body_files()? {
            let has_row = self
                .target
                .prepare_cached("SELECT 1 FROM message WHERE id = ?1")
                .and_then(|mut query| query.exists([id.as_str()]))
                .map_err(StoreError::database("look for a message"))?;
            let name = format!("{id}.eml");
            if has_row || known.contains(id.as_str()) {
                continue;
            }
            if self.aside.keep_body(&path, &name)? {
                more.push(Lost {
                    id: Some(id.to_string()),
                    file: Some(name),
                    forward_paths: Vec::new(),
                    known: "a body file without a row: of a message whose row is lost, or of one \
                            that was about to come in"
                        .into(),
                });
            }
        }
        Ok(more)
    }

    /// Messages that lack recipients or mail data, or whose row makes no sense.
    fn hold_incomplete(&self, recovery: &mut Recovery) -> rusqlite::Result<()> {
        let columns = super::walk::columns(self.target, "message")?;
        let is_counted = columns.iter().any(|column| column == "recipients");
        let counted = if is_counted { "recipients" } else { "-1" };
        let query = format!(
            "SELECT sequence, id, {counted}, (SELECT COUNT(*) FROM recipient r \
             WHERE r.message = sequence), body_in_file OR EXISTS (SELECT 1 FROM body b \
             WHERE b.message = sequence AND length(b.data) = size) FROM message"
        );
        let mut reasons: Vec<(i64, String, String)> = Vec::new();
        let mut statement = self.target.prepare(&query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let sequence: i64 = row.get(0)?;
            // A row without a readable id has been taken out already.
            let Ok(id) = row.get::<_, String>(1) else { continue };
            let (counted, there) = (row.get(2).unwrap_or(0), row.get::<_, i64>(3)?);
            if let Some(reason) = self.lacks_recipients(sequence, counted, there) {
                reasons.push((sequence, id.clone(), reason));
            }
            if !row.get::<_, bool>(4).unwrap_or(false) {
                let reason = "its mail data was on a damaged page of the queue database";
                reasons.push((sequence, id, reason.into()));
            }
        }
        let unfit = due::unfit(self.target, true)?
            .into_iter()
            .filter_map(|unfit| Some((unfit.sequence, unfit.id?.to_string(), unfit.reason)));
        reasons.extend(unfit);
        for (sequence, id, reason) in reasons {
            if due::hold(self.target, sequence, &reason)? {
                recovery.set_aside.push(SetAside { id, reason });
            }
        }
        if is_counted {
            // From here on the list is what there is: released, the message goes to these.
            self.target.execute_batch(
                "UPDATE message SET recipients = \
                 (SELECT COUNT(*) FROM recipient r WHERE r.message = sequence)",
            )?;
        }
        Ok(())
    }

    /// `counted` is how many there should be, -1 or 0 if that is not on record.
    fn lacks_recipients(&self, sequence: i64, counted: i64, there: i64) -> Option<String> {
        let place = "on a damaged page of the queue database";
        if there == 0 {
            return Some(format!("its recipients were {place}"));
        }
        if counted > 0 && counted != there {
            return Some(format!("recipients were {place}: {there} of {counted} are left"));
        }
        (counted <= 0 && self.recipients.may_lack(sequence))
            .then(|| format!("recipients may have been {place}: {there} are left, perhaps of more"))
    }
}
