//! Copies of a damaged database whose header is put right, so that SQLite reads the rest of it. The
//! damaged file itself stays as it is. Offsets are those of the file format, section 1.3.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode};

use super::SCRATCH;
use crate::store::{
    directory::{Places, is_empty, private},
    error::StoreError,
    schema,
    wal::log_of,
};

/// Octets of a page, where the header does not tell.
const PAGE_SIZE: u16 = 4096;

/// Where the header says that there is a log: 2 and 2 if there is, 1 and 1 if not.
const VERSIONS: u64 = 18;

/// Where the header says how many pages there are.
const PAGES: u64 = 28;

/// The database that somebody means who names it, or its log: that may be all there is of it.
pub(in crate::store) fn named(file: &Path) -> Result<PathBuf, StoreError> {
    let name = file.to_str().and_then(|name| name.strip_suffix("-wal"));
    let database = name.map_or_else(|| file.to_owned(), PathBuf::from);
    if is_empty(&log_of(&database)) {
        File::open(&database).map_err(StoreError::io("open", &database))?;
        if is_empty(&database) {
            return Err(StoreError::NothingFound { path: database });
        }
    }
    Ok(database)
}

/// SQLite reads pages beyond the end of a file as zeros, which may pass for the end of a body. If
/// the database is shorter than its header says, this is a copy whose header says how long it is,
/// and pages beyond its end are errors.
pub(super) fn if_shortened(
    places: &Places,
    scratch: &Path,
) -> Result<Option<Connection>, StoreError> {
    let path = places.database();
    let has_log = !is_empty(&log_of(&path));
    // Pages that are not in the file may be in the log.
    if has_log || !is_short(&path)? {
        return Ok(None);
    }
    let copy = begin(&path, scratch)?;
    put_length_right(&copy)?;
    schema::open_read_only(&copy).map(Some)
}

/// A copy of a database and its log, or of the log alone. If its first page is lost it gets that of
/// a new one: the tables begin on the same pages in all of ours.
pub(super) fn whole(file: &Path, scratch: &Path) -> Result<Connection, StoreError> {
    let copy = begin(file, scratch)?;
    let log = log_of(file);
    let has_log = !is_empty(&log);
    if has_log {
        duplicate(&log, &log_of(&copy))?;
    }
    // Of an empty file SQLite would throw the log away.
    if (has_log && is_empty(&copy)) || is_without_header(&copy)? {
        let version = if has_log { 2 } else { 1 };
        let write = |octets: &[u8], at| {
            OpenOptions::new()
                .write(true)
                .open(&copy)
                .and_then(|file| file.write_all_at(octets, at))
                .map_err(StoreError::io("write", &copy))
        };
        write(&first_page(scratch)?, 0)?;
        write(&[version, version], VERSIONS)?;
        put_length_right(&copy)?;
    } else if !has_log && is_short(&copy)? {
        put_length_right(&copy)?;
    }
    open(&copy)
}

/// A log is taken up on opening, for which writing must be allowed.
fn open(copy: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let database = Connection::open(copy)?;
        database.pragma_update(None, "writable_schema", true)?;
        database.pragma_update(None, "cell_size_check", true)?;
        Ok(database)
    };
    open().map_err(StoreError::database("open a copy"))
}

fn is_without_header(copy: &Path) -> Result<bool, StoreError> {
    let database = open(copy);
    let read = |database: Connection| {
        database
            .query_row("SELECT COUNT(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))
            .map_err(StoreError::database("read the schema"))
    };
    match database.and_then(read) {
        Ok(_) => Ok(false),
        Err(StoreError::Database { source, .. }) => {
            let code = source.downcast_ref().and_then(rusqlite::Error::sqlite_error_code);
            let lost = [Some(ErrorCode::NotADatabase), Some(ErrorCode::DatabaseCorrupt)];
            Ok(lost.contains(&code))
        }
        Err(error) => Err(error),
    }
}

fn first_page(scratch: &Path) -> Result<Vec<u8>, StoreError> {
    let path = scratch.with_file_name(format!("{SCRATCH}-empty"));
    drop(schema::scratch(&path, schema::VERSION, PAGE_SIZE.into())?);
    let mut page = vec![0; PAGE_SIZE.into()];
    File::open(&path)
        .and_then(|file| file.read_exact_at(&mut page, 0))
        .map_err(StoreError::io("read", &path))?;
    Ok(page)
}

fn begin(file: &Path, scratch: &Path) -> Result<PathBuf, StoreError> {
    let copy = scratch.with_file_name(format!("{SCRATCH}-from"));
    if file.exists() {
        duplicate(file, &copy)?;
    } else {
        private().open(&copy).map_err(StoreError::io("create", &copy))?;
    }
    Ok(copy)
}

/// For us alone, whatever the mode of what is copied.
fn duplicate(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut source = File::open(from).map_err(StoreError::io("open", from))?;
    let mut copy = private().open(to).map_err(StoreError::io("create", to))?;
    std::io::copy(&mut source, &mut copy).map(|_| ()).map_err(StoreError::io("copy", from))
}

/// The size of a page, the pages that the header tells of, and the octets of the file.
fn lengths(path: &Path) -> Result<(u64, u64, u64), StoreError> {
    let fault = || StoreError::io("read the header of", path);
    let file = File::open(path).map_err(fault())?;
    let (mut size, mut pages) = ([0; 2], [0; 4]);
    file.read_exact_at(&mut size, 16)
        .and_then(|()| file.read_exact_at(&mut pages, PAGES))
        .map_err(fault())?;
    let size = u64::from(u16::from_be_bytes(size)).max(512);
    let octets = file.metadata().map_err(fault())?.len();
    Ok((size, u64::from(u32::from_be_bytes(pages)), octets))
}

fn is_short(path: &Path) -> Result<bool, StoreError> {
    let (size, pages, octets) = lengths(path)?;
    Ok(octets / size < pages)
}

fn put_length_right(copy: &Path) -> Result<(), StoreError> {
    let (size, _, octets) = lengths(copy)?;
    let pages = u32::try_from(octets / size).unwrap_or(u32::MAX).to_be_bytes();
    OpenOptions::new()
        .write(true)
        .open(copy)
        .and_then(|file| file.write_all_at(&pages, PAGES))
        .map_err(StoreError::io("write", copy))
}
