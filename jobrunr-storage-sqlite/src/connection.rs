//! Opening connections, each the way its thread needs it.

use std::path::Path;

use rusqlite::config::DbConfig;
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
    prepare_once(&connection)?;
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
    prepare_once(&connection)?;
    connection.busy_timeout(options.busy_timeout)?;
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}

/// Keeps statements prepared, whatever is bound to them.
///
/// Without the guarantee of stable plans, a SQLite that was built to keep histograms prepares a statement anew whenever
/// another value is bound to a parameter that its plan could depend on, such as a limit: at nearly every claim.
fn prepare_once(connection: &Connection) -> Outcome<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn open_file(path: &Path, options: &SqliteOptions) -> Outcome<Connection> {
    let access = match options.access {
        Access::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Access::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    // Every connection stays on one thread at a time, so SQLite need not lock it.
    Ok(Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_limit_of_another_size_does_not_prepare_a_statement_anew() {
        let connection = open_writer(&SqliteOptions::memory()).unwrap();
        connection.execute_batch("CREATE TABLE things (thing INTEGER)").unwrap();
        let mut statement = connection.prepare_cached("SELECT thing FROM things LIMIT ?1").unwrap();

        for limit in 1..10 {
            assert!(!statement.exists([limit]).unwrap());
        }

        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}
