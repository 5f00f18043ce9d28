//! Opening connections, each the way its thread needs it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::Outcome;
use crate::options::{Access, Durability, Location, SqliteOptions};

/// Statements kept prepared by one connection: all of ours, and searches of some shapes.
const STATEMENT_CACHE: usize = 192;

/// The connection of the writer; finds out whether the file is a database at all, changes nothing yet.
pub(crate) fn open_writer(options: &SqliteOptions) -> Outcome<Connection> {
    let connection = match &options.location {
        Location::Memory => Connection::open_in_memory()?,
        Location::File(path) => open_file(path, options)?,
    };
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.busy_timeout(options.busy_timeout)?;
    connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    let (synchronous, full) = match options.durability {
        Durability::Full => ("FULL", "ON"),
        Durability::Normal => ("NORMAL", "OFF"),
    };
    connection.execute_batch(&format!(
        "PRAGMA synchronous = {synchronous}; PRAGMA fullfsync = {full}; PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY; \
         PRAGMA foreign_keys = OFF; PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 67108864;"
    ))?;
    if let Some(bytes) = options.max_file_bytes {
        let page_bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = (bytes / u64::from(page_bytes)).clamp(1, u64::from(u32::MAX - 1));
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    // From here on the writer waits for locks by itself, gathering more work meanwhile.
    connection.busy_timeout(std::time::Duration::ZERO)?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn open_reader(options: &SqliteOptions, path: &Path) -> Outcome<Connection> {
    let connection = open_file(path, options)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.busy_timeout(options.busy_timeout)?;
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}

fn open_file(path: &Path, options: &SqliteOptions) -> Outcome<Connection> {
    let access = match options.access {
        Access::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Access::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    // Every connection stays on one thread at a time, so SQLite need not lock it.
    Ok(Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
}
