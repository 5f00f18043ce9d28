//! The schema, step by step, and how it is applied.

use jobrunr_core::clock::Clock;
use jobrunr_core::storage::{SetUp, StorageError};
use jobrunr_storage_sql::{AppliedMigration, Migration, Migrations, SchemaProblem, TablePrefix, micros};
use rusqlite::ffi::SQLITE_ERROR;
use rusqlite::{Connection, OptionalExtension, params};

use crate::PROVIDER;
use crate::error::{Failure, Outcome, sqlite_error};
use crate::statements::Statements;

static MIGRATIONS: [Migration; 2] = [
    Migration { number: 1, name: "jobs", sql: include_str!("0001_jobs.sql") },
    Migration { number: 2, name: "cluster", sql: include_str!("0002_cluster.sql") },
];

const CREATE_TABLE: &str = "CREATE TABLE {p}jobrunr_migration (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL
);\n";

fn migrations() -> Migrations {
    Migrations::new(&MIGRATIONS)
}

/// The whole schema as SQL text, for those who apply it by hand, on an empty database.
pub(crate) fn export(prefix: &TablePrefix) -> String {
    let mut sql = String::from("PRAGMA journal_mode = WAL;\nBEGIN IMMEDIATE;\n");
    sql.push_str(&prefix.render(CREATE_TABLE));
    for migration in migrations().all() {
        let Migration { number, name, sql: text } = migration;
        sql.push_str(&prefix.render(text));
        sql.push_str(&prefix.render(&format!(
            "INSERT INTO {{p}}jobrunr_migration (number, name, checksum, applied_at) \
             VALUES ({number}, '{name}', '{}', CAST(unixepoch('subsec') * 1000000 AS INTEGER));\n",
            migration.checksum()
        )));
    }
    sql.push_str("COMMIT;\n");
    sql
}

/// Looks whether the schema may be worked on or with at all; changes nothing.
pub(crate) fn check(connection: &Connection, prefix: &TablePrefix, set_up: SetUp) -> Outcome<()> {
    let applied = read_applied(connection, prefix)?;
    match set_up {
        SetUp::Nothing => Ok(()),
        SetUp::Migrate => migrations().plan(&applied).map(drop).map_err(|problem| mismatch(&problem)),
        SetUp::Validate => {
            migrations().validate(&applied).map_err(|problem| mismatch(&problem))?;
            check_statements(connection, prefix)
        }
    }
}

/// Every statement must be understood by the database: that finds tables and columns that somebody removed.
fn check_statements(connection: &Connection, prefix: &TablePrefix) -> Outcome<()> {
    for (name, sql) in Statements::render(prefix).all() {
        if let Err(error) = connection.prepare(sql) {
            let is_refused = sqlite_error(&error).is_some_and(|error| error.extended_code == SQLITE_ERROR);
            if !is_refused {
                return Err(error.into());
            }
            let what = format!("a table, column or index that {name} needs is missing or was changed");
            return Err(StorageError::SchemaMismatch { provider: PROVIDER, what }.into());
        }
    }
    Ok(())
}

/// Applies what was not applied yet, in the transaction that the caller has begun, which is the lock.
pub(crate) fn apply(connection: &Connection, prefix: &TablePrefix, clock: &dyn Clock) -> Outcome<()> {
    // Race: another process may have migrated between the look before and this transaction, so look again.
    let applied = read_applied(connection, prefix)?;
    let pending = migrations().plan(&applied).map_err(|problem| mismatch(&problem))?.pending;
    if pending.is_empty() {
        return Ok(());
    }
    if !has_migrations(connection, prefix)? {
        connection.execute_batch(&prefix.render(CREATE_TABLE))?;
    }
    let note = prefix.render(
        "INSERT INTO {p}jobrunr_migration (number, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)",
    );
    for migration in pending {
        connection.execute_batch(&prefix.render(migration.sql))?;
        let applied_at = micros(clock.now());
        connection
            .execute(&note, params![migration.number, migration.name, migration.checksum(), applied_at])?;
    }
    Ok(())
}

fn mismatch(problem: &SchemaProblem) -> Failure {
    StorageError::SchemaMismatch { provider: PROVIDER, what: problem.to_string() }.into()
}

fn has_migrations(connection: &Connection, prefix: &TablePrefix) -> Outcome<bool> {
    let table = prefix.render("{p}jobrunr_migration");
    let found = connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1", [table], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

fn read_applied(connection: &Connection, prefix: &TablePrefix) -> Outcome<Vec<AppliedMigration>> {
    if !has_migrations(connection, prefix)? {
        return Ok(Vec::new());
    }
    let sql = prefix.render("SELECT number, name, checksum FROM {p}jobrunr_migration ORDER BY number");
    let mut statement = connection.prepare(&sql)?;
    let applied = statement.query_map([], |row| {
        Ok(AppliedMigration { number: row.get(0)?, name: row.get(1)?, checksum: row.get(2)? })
    })?;
    Ok(applied.collect::<Result<_, _>>()?)
}
