//! The database file: how it is opened, its schema, its migrations.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::error::StoreError;

/// "o365" in ASCII: tells our database from any other (`PRAGMA application_id`).
const APPLICATION_ID: i64 = 0x6f33_3635;

/// How long a statement waits for another process that writes (a queue command).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One script for each schema version, oldest first; `PRAGMA user_version` counts those that
/// have run. A script that has been released never changes.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5];

/// The version that they lead to.
pub(super) const VERSION: i64 = 5;
const _: () = assert!(MIGRATIONS.len() == 5, "VERSION counts the migrations");

/// Times are milliseconds since 1970. `message.next_attempt` is the least over its recipients.
/// A settled recipient moves from `recipient` to `history`, whose row tells of its last attempt;
/// those before are in `attempt`, and stay there as long as the recipient is on record.
const VERSION_1: &str = "
CREATE TABLE message (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    lane TEXT NOT NULL,
    next_attempt INTEGER NOT NULL,
    arrival INTEGER NOT NULL,
    client TEXT NOT NULL,
    hello TEXT NOT NULL,
    reverse_path TEXT NOT NULL,
    eight_bit INTEGER NOT NULL,
    smtputf8 INTEGER NOT NULL,
    ret TEXT,
    envid TEXT,
    size INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    body_in_file INTEGER NOT NULL,
    is_notice INTEGER NOT NULL,
    delay_told INTEGER NOT NULL DEFAULT 0,
    hold_reason TEXT
);
CREATE INDEX message_due ON message (lane, next_attempt) WHERE hold_reason IS NULL;
CREATE TABLE recipient (
    message INTEGER NOT NULL,
    position INTEGER NOT NULL,
    forward_path TEXT NOT NULL,
    notify TEXT,
    orcpt TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL,
    last_reply TEXT,
    PRIMARY KEY (message, position)
) WITHOUT ROWID;
CREATE TABLE attempt (
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    number INTEGER NOT NULL,
    time INTEGER NOT NULL,
    disposition TEXT NOT NULL,
    reply TEXT NOT NULL,
    advice TEXT,
    PRIMARY KEY (id, position, number)
) WITHOUT ROWID;
CREATE TABLE body (
    message INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);
CREATE TABLE history (
    sequence INTEGER PRIMARY KEY,
    settled INTEGER NOT NULL,
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    lane TEXT NOT NULL,
    arrival INTEGER NOT NULL,
    client TEXT NOT NULL,
    reverse_path TEXT NOT NULL,
    forward_path TEXT NOT NULL,
    disposition TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    reply TEXT NOT NULL,
    advice TEXT,
    size INTEGER NOT NULL,
    message_id TEXT NOT NULL
);
CREATE INDEX history_settled ON history (settled);
CREATE INDEX history_id ON history (id);
";

/// The digest of the body as it was accepted; messages from before have none and are not checked.
const VERSION_2: &str = "
ALTER TABLE message ADD COLUMN digest INTEGER;
";

/// How many rows of `recipient` a message has, so that a list with gaps is known for one.
const VERSION_3: &str = "
ALTER TABLE message ADD COLUMN recipients INTEGER NOT NULL DEFAULT 0;
UPDATE message SET recipients = (SELECT COUNT(*) FROM recipient WHERE message = sequence);
";

/// What is queued by lane, counted as it comes and goes, whoever writes: nobody has to read a long
/// queue to say how long it is. `told` remembers what the admin has been told about, across
/// restarts.
const VERSION_4: &str = "
CREATE TABLE lane_total (
    lane TEXT PRIMARY KEY,
    messages INTEGER NOT NULL,
    held INTEGER NOT NULL,
    octets INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO lane_total SELECT lane, COUNT(*), COUNT(hold_reason), SUM(size)
    FROM message GROUP BY lane;
CREATE TRIGGER message_comes AFTER INSERT ON message BEGIN
    INSERT INTO lane_total VALUES (NEW.lane, 1, NEW.hold_reason IS NOT NULL, NEW.size)
    ON CONFLICT (lane) DO UPDATE SET messages = messages + 1, held = held + excluded.held,
        octets = octets + excluded.octets;
END;
CREATE TRIGGER message_goes AFTER DELETE ON message BEGIN
    UPDATE lane_total SET messages = messages - 1, held = held - (OLD.hold_reason IS NOT NULL),
        octets = octets - OLD.size WHERE lane = OLD.lane;
    DELETE FROM lane_total WHERE lane = OLD.lane AND messages = 0;
END;
CREATE TRIGGER message_changes AFTER UPDATE OF lane, hold_reason, size ON message BEGIN
    UPDATE lane_total SET messages = messages - 1, held = held - (OLD.hold_reason IS NOT NULL),
        octets = octets - OLD.size WHERE lane = OLD.lane;
    DELETE FROM lane_total WHERE lane = OLD.lane AND messages = 0;
    INSERT INTO lane_total VALUES (NEW.lane, 1, NEW.hold_reason IS NOT NULL, NEW.size)
    ON CONFLICT (lane) DO UPDATE SET messages = messages + 1, held = held + excluded.held,
        octets = octets + excluded.octets;
END;
CREATE INDEX message_age ON message (lane, (hold_reason IS NULL), arrival);
CREATE TABLE told (
    subject TEXT PRIMARY KEY,
    ends INTEGER NOT NULL,
    mark INTEGER NOT NULL
) WITHOUT ROWID;
";

/// A lane asks for its recipients of the day whenever it starts, which with a lane for each sender
/// is often.
const VERSION_5: &str = "
CREATE INDEX history_lane ON history (lane, settled) WHERE disposition = 'relayed';
";

/// Opens the database for the committer, making it as needed; [`migrate`] comes next.
/// `before_first_use` may object to beginning with an empty one.
pub(super) fn open(
    path: &Path,
    before_first_use: impl FnOnce() -> Result<(), StoreError>,
) -> Result<Connection, StoreError> {
    let database = Connection::open(path).map_err(StoreError::database("open a file"))?;
    restrict(path)?;
    // A file that has been cut short can be opened like this, for what is left of it to be read.
    let lenient = |on| {
        database
            .pragma_update(None, "writable_schema", on)
            .map_err(StoreError::database("set up the connection"))
    };
    lenient(true)?;
    check_owner(&database, path)?;
    if is_new(&database)? {
        before_first_use()?;
    }
    settings(&database).map_err(StoreError::database("set up the connection"))?;
    lenient(false)?;
    Ok(database)
}

/// Makes an empty database of an older or of our version to be filled by a rebuild. It keeps no
/// journal and syncs nothing: it is of no use before it is complete.
pub(super) fn scratch(path: &Path, version: i64, page_size: i64) -> Result<Connection, StoreError> {
    let make = || {
        let database = Connection::open(path)?;
        database.pragma_update(None, "page_size", page_size)?;
        database.pragma_update(None, "journal_mode", "OFF")?;
        database.pragma_update(None, "synchronous", "OFF")?;
        database.pragma_update(None, "temp_store", "MEMORY")?;
        for script in MIGRATIONS.iter().take(usize::try_from(version).unwrap_or(0)) {
            database.execute_batch(script)?;
        }
        database.pragma_update(None, "application_id", APPLICATION_ID)?;
        database.pragma_update(None, "user_version", version)?;
        Ok(database)
    };
    let database = make().map_err(StoreError::database("make a new file"))?;
    restrict(path)?;
    Ok(database)
}

/// Octets of a page.
pub(super) fn page_size(database: &Connection) -> Result<i64, StoreError> {
    database
        .pragma_query_value(None, "page_size", |row| row.get(0))
        .map_err(StoreError::database("read the page size"))
}

/// The schema version of a database of ours.
pub(super) fn version(database: &Connection, path: &Path) -> Result<i64, StoreError> {
    Ok(missing_migrations(database, path)?.0)
}

/// Opens a database that is there, for changes beside a daemon. It is neither made nor migrated.
pub(super) fn open_existing(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let database = Connection::open_with_flags(path, flags)?;
        database.busy_timeout(BUSY_TIMEOUT)?;
        Ok(database)
    };
    let database = open().map_err(StoreError::database("open a file"))?;
    check_owner(&database, path)?;
    let (found, missing) = missing_migrations(&database, path)?;
    if !missing.is_empty() {
        return Err(StoreError::OlderSchema { path: path.into(), found });
    }
    let settings = || {
        database.pragma_update(None, "synchronous", "FULL")?;
        database.pragma_update(None, "cache_size", -2048)?;
        database.pragma_update(None, "cell_size_check", true)?;
        database.pragma_update(None, "temp_store", "MEMORY")
    };
    settings().map_err(StoreError::database("set up the connection"))?;
    Ok(database)
}

/// Opens the database for reading only.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    reader(path, false)
}

/// As [`open_read_only`], and reads as much as there is, also of a file that has been cut short.
pub(super) fn open_damaged(path: &Path) -> Result<Connection, StoreError> {
    reader(path, true)
}

fn reader(path: &Path, is_damaged: bool) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let database = Connection::open_with_flags(path, flags)?;
        if is_damaged {
            database.pragma_update(None, "writable_schema", true)?;
        }
        database.busy_timeout(BUSY_TIMEOUT)?;
        database.pragma_update(None, "cache_size", -1024)?;
        database.pragma_update(None, "cell_size_check", true)?;
        keep_statements(&database, 16)?;
        Ok(database)
    };
    open().map_err(StoreError::database("open a reader"))
}

/// Mail is private: 0600, whatever the umask. SQLite gives its log the database's mode.
fn restrict(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(StoreError::io("restrict the mode of", path))
}

/// Refuses a database that is not ours, and not empty.
pub(super) fn check_owner(database: &Connection, path: &Path) -> Result<(), StoreError> {
    let pragma = |name| database.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let fault = StoreError::database("read the version");
    let (owner, pages) = match (pragma("application_id"), pragma("page_count")) {
        (Ok(owner), Ok(pages)) => (owner, pages),
        (Err(error), _) | (_, Err(error)) => {
            return match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::NotADatabase) => {
                    Err(StoreError::NotOurs { path: path.into() })
                }
                _ => Err(fault(error)),
            };
        }
    };
    // A crash within the very first start leaves pages without tables.
    if owner == APPLICATION_ID || pages == 0 || (owner == 0 && is_without_tables(database)?) {
        return Ok(());
    }
    Err(StoreError::NotOurs { path: path.into() })
}

fn is_without_tables(database: &Connection) -> Result<bool, StoreError> {
    database
        .query_row("SELECT COUNT(*) = 0 FROM sqlite_master", [], |row| row.get(0))
        .map_err(StoreError::database("read the schema"))
}

/// Whether the database holds no table of ours yet.
fn is_new(database: &Connection) -> Result<bool, StoreError> {
    database
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map(|version| version == 0)
        .map_err(StoreError::database("read the schema version"))
}

/// The log must really be there: with another journal a commit is not as durable. After a failed
/// write SQLite says that it is while the file says that it is not, so the file is asked: octets
/// 18 and 19 of its header are 2 (file format, section 1.3.3).
fn check_log(path: &Path) -> Result<(), StoreError> {
    use std::io::Read;
    let mut header = [0; 20];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut header))
        .map_err(StoreError::io("read the header of", path))?;
    match header[18..] {
        [2, 2] => Ok(()),
        _ => Err(StoreError::NoLog { path: path.into() }),
    }
}

/// WAL with FULL: COMMIT returns after the log has been synced.
fn settings(database: &Connection) -> rusqlite::Result<()> {
    database.busy_timeout(BUSY_TIMEOUT)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.pragma_update(None, "cache_size", -2048)?;
    // Damage is to be found when a page is read, not when its octets have been taken for rows.
    database.pragma_update(None, "cell_size_check", true)?;
    database.pragma_update(None, "temp_store", "MEMORY")?;
    // A log that a burst has made large is cut back once it has been written home.
    database.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
    keep_statements(database, 32)
}

/// Prepares each of `count` statements once. SQLite would prepare one that compares a column with
/// a parameter anew whenever that is bound to something else, as the time of day is, unless told
/// that no plan may depend on it: half of the work of passing a message on.
fn keep_statements(database: &Connection, count: usize) -> rusqlite::Result<()> {
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    database.set_prepared_statement_cache_capacity(count);
    Ok(())
}

/// Writes the log home and empties it, so that nothing in it is met again. Another process that
/// reads just now may keep us from that.
pub(super) fn write_log_home(database: &Connection) -> Result<(), StoreError> {
    database
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
        .map(|busy| {
            if busy {
                tracing::warn!("a queue command reads, so the damaged log stays for now");
            }
        })
        .map_err(StoreError::database("write the log home"))
}

/// Changes when another connection commits, and only then.
pub(super) fn data_version(database: &Connection) -> Result<i64, StoreError> {
    database
        .pragma_query_value(None, "data_version", |row| row.get(0))
        .map_err(StoreError::database("look for changes"))
}

/// The schema version, and the scripts that bring it up to ours.
fn missing_migrations(
    database: &Connection,
    path: &Path,
) -> Result<(i64, &'static [&'static str]), StoreError> {
    let found: i64 = database
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(StoreError::database("read the schema version"))?;
    match usize::try_from(found).ok().and_then(|done| MIGRATIONS.get(done..)) {
        Some(missing) => Ok((found, missing)),
        None => Err(StoreError::NewerSchema { path: path.into(), found, known: VERSION }),
    }
}

/// Brings the schema up to date, and sees that commits go through the log.
pub(super) fn migrate(database: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let (_, missing) = missing_migrations(database, path)?;
    if missing.is_empty() {
        return check_log(path);
    }
    let mut run = || {
        let change = database.transaction()?;
        for script in missing {
            change.execute_batch(script)?;
        }
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        change.pragma_update(None, "user_version", VERSION)?;
        change.commit()
    };
    run().map_err(StoreError::database("bring the schema up to date"))?;
    check_log(path)
}
