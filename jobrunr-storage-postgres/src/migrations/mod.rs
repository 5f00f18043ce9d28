//! The schema, step by step, and how it is applied.

use jobrunr_core::storage::StorageError;
use jobrunr_storage_sql::{AppliedMigration, Migration, Migrations, SchemaProblem, TablePrefix};
use sqlx::Row;
use uuid::Uuid;

use crate::connection::{Call, Failed};
use crate::error::classify;
use crate::{PROVIDER, PostgresOptions, PostgresStorage, check_version};

static MIGRATIONS: [Migration; 5] = [
    Migration { number: 1, name: "jobs", sql: include_str!("0001_jobs.sql") },
    Migration { number: 2, name: "cluster", sql: include_str!("0002_cluster.sql") },
    Migration { number: 3, name: "functions", sql: include_str!("0003_functions.sql") },
    Migration { number: 4, name: "creation", sql: include_str!("0004_creation.sql") },
    Migration { number: 5, name: "counts", sql: include_str!("0005_counts.sql") },
];

const OPERATION: &str = "set up";

/// What was applied. Kept apart from the migrations: it must be there before the first.
const CREATE_MIGRATION_TABLE: &str = "CREATE TABLE IF NOT EXISTS {p}jobrunr_migration (
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT {n}jobrunr_migration_pkey PRIMARY KEY (number)
);
";

/// The namespace of locks.
const LOCKS: Uuid = Uuid::from_u128(0x5f2d_1f6c_32f5_5ab9_9d6e_0b3a_6c0f_e2a4);

impl PostgresStorage {
    /// The SQL that sets everything up, for people who run migrations by hand; `SetUp::Validate` accepts what it makes.
    ///
    /// Text for an empty database. To go on from an older schema, leave out what `jobrunr_migration` lists already.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if schema or prefix are not possible.
    pub fn migration_sql(options: &PostgresOptions) -> Result<String, StorageError> {
        let prefix = options.prefix()?;
        let mut sql = String::from("BEGIN;\n\n");
        if let Some(schema) = &options.schema {
            sql += &format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\";\n\n");
        }
        sql += &prefix.render(CREATE_MIGRATION_TABLE);
        for migration in &MIGRATIONS {
            sql += &format!(
                "\n-- Migration {}: {}\n\n{}",
                migration.number,
                migration.name,
                script(migration, &prefix)
            );
        }
        sql += "\nCOMMIT;\n";
        Ok(sql)
    }

    pub(crate) async fn migrate(&self) -> Result<(), StorageError> {
        let migrations = Migrations::new(&MIGRATIONS);
        // Who finds nothing to do needs no lock and no right to create anything.
        let mut call = self.call(OPERATION).await?;
        self.check_server(&mut call).await?;
        let applied = self.applied(&mut call).await?;
        call.finish().await?;
        if migrations.plan(&applied).map_err(|problem| mismatch(&problem))?.pending.is_empty() {
            return Ok(());
        }
        // Race: processes that start at once wait here for the first, and then find its work.
        let mut call = self.transaction(OPERATION).await?;
        let lock = self.lock_key(&mut call).await?;
        call.script(format!("SELECT pg_advisory_xact_lock({lock})")).await?;
        let applied = self.applied(&mut call).await?;
        let mut sql = String::new();
        for migration in migrations.plan(&applied).map_err(|problem| mismatch(&problem))?.pending {
            sql += &script(migration, &self.inner.prefix);
        }
        if !sql.is_empty() {
            let schema = match &self.inner.options.schema {
                // Not every user may create a schema, and does not need to if it is there.
                Some(schema) if !self.has_schema(&mut call, schema).await? => {
                    format!("CREATE SCHEMA \"{schema}\";\n")
                }
                _ => String::new(),
            };
            let table = if applied.is_empty() {
                self.inner.prefix.render(CREATE_MIGRATION_TABLE)
            } else {
                String::new()
            };
            // Nobody wants to read that a table exists already.
            call.script(format!("SET LOCAL client_min_messages = warning;\n{schema}{table}{sql}")).await?;
        }
        Ok(call.finish().await?)
    }

    pub(crate) async fn validate(&self) -> Result<(), StorageError> {
        let mut call = self.call(OPERATION).await?;
        self.check_server(&mut call).await?;
        let applied = self.applied(&mut call).await?;
        Migrations::new(&MIGRATIONS).validate(&applied).map_err(|problem| mismatch(&problem))?;
        self.check_statements(&mut call).await?;
        Ok(call.finish().await?)
    }

    /// A pool of the application's was not asked when it was handed over.
    async fn check_server(&self, call: &mut Call<'_>) -> Result<(), StorageError> {
        let version = call.row(self.statement(&self.inner.statements.server_version)).await?;
        let version = version.map(|row| row.try_get::<String, _>(0)).transpose();
        let version = version.map_err(|error| classify(&error, OPERATION))?;
        version.map_or(Ok(()), |version| check_version(&version))
    }

    /// Every statement must be understood by the database: that finds tables, columns and functions that somebody removed.
    async fn check_statements(&self, call: &mut Call<'_>) -> Result<(), StorageError> {
        // By name, and forgotten at once: behind a pooler nothing must be left on the connection.
        let prepare = |sql: &str| format!("PREPARE jobrunr_check AS {sql}; DEALLOCATE jobrunr_check;\n");
        let script = self.inner.statements.whole().map(prepare).collect();
        call.try_script(script).await.map_err(|error| match error.as_database_error() {
            Some(missing) if is_missing(missing) => StorageError::SchemaMismatch {
                provider: PROVIDER,
                what: format!(
                    "every migration was applied, but what they made was changed since: {}; restore it",
                    missing.message()
                ),
            },
            _ => classify(&error, OPERATION),
        })
    }

    /// What was applied so far; nothing if there is no table of migrations.
    async fn applied(&self, call: &mut Call<'_>) -> Result<Vec<AppliedMigration>, Failed> {
        let statements = &self.inner.statements;
        let table = self.inner.prefix.render("{p}jobrunr_migration");
        let is_there = call.row(self.statement(&statements.find_table).bind(table)).await?;
        let is_there = is_there.map(|row| row.try_get::<bool, _>(0)).transpose();
        if !is_there.map_err(|error| classify(&error, OPERATION))?.unwrap_or(false) {
            return Ok(Vec::new());
        }
        let rows = call.rows(self.statement(&statements.list_migrations)).await?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok(AppliedMigration {
                number: u32::try_from(row.try_get::<i32, _>(0)?).unwrap_or(0),
                name: row.try_get(1)?,
                checksum: row.try_get(2)?,
            })
        };
        let applied: Result<Vec<_>, sqlx::Error> = rows.iter().map(read).collect();
        applied.map_err(|error| classify(&error, OPERATION).into())
    }

    async fn has_schema(&self, call: &mut Call<'_>, schema: &str) -> Result<bool, Failed> {
        let find = self.statement(&self.inner.statements.find_schema).bind(schema.to_owned());
        Ok(call.row(find).await?.is_some())
    }

    /// The number of the lock that everybody takes who sets up the same tables.
    async fn lock_key(&self, call: &mut Call<'_>) -> Result<i64, Failed> {
        let schema = match &self.inner.options.schema {
            Some(schema) => schema.clone(),
            None => {
                let row = call.row(self.statement(&self.inner.statements.current_schema)).await?;
                let schema = row.map(|row| row.try_get::<Option<String>, _>(0)).transpose();
                schema.map_err(|error| classify(&error, OPERATION))?.flatten().unwrap_or_default()
            }
        };
        let tables = format!("{schema}.{}", self.inner.prefix.as_str());
        let (_, low) = Uuid::new_v5(&LOCKS, tables.as_bytes()).as_u64_pair();
        Ok(i64::from_ne_bytes(low.to_ne_bytes()))
    }
}

/// The text of one migration, and the note that it was applied.
fn script(migration: &Migration, prefix: &TablePrefix) -> String {
    let Migration { number, name, .. } = migration;
    let note = format!(
        "INSERT INTO {{p}}jobrunr_migration (number, name, checksum) VALUES ({number}, '{name}', '{}');\n",
        migration.checksum()
    );
    prefix.render(&format!("{}{note}", migration.sql))
}

/// Whether a statement names what is not there, or is of another type; not who lacks a right.
fn is_missing(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|state| state.starts_with("42") && state != "42501")
}

fn mismatch(problem: &SchemaProblem) -> StorageError {
    StorageError::SchemaMismatch { provider: PROVIDER, what: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_export_holds_every_migration_under_schema_and_prefix() {
        let options = PostgresOptions::default().schema("mine").table_prefix("app_");

        let sql = PostgresStorage::migration_sql(&options).unwrap();

        for migration in &MIGRATIONS {
            assert!(sql.contains(&format!("'{}'", migration.checksum())));
        }
        assert!(sql.contains("CREATE TABLE \"mine\".app_jobrunr_job ("));
        assert!(!sql.contains("{p}") && !sql.contains("{n}"));
    }
}
