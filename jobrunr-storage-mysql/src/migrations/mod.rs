//! The schema, step by step, and how it is applied.
//!
//! Neither MySQL nor MariaDB changes a schema in a transaction: each statement stands by itself as soon as it was made. So
//! it is noted how many statements of a migration were made, and whoever finds one half made goes on from there.

use std::time::Duration;

use jobrunr_core::storage::{SetUp, StorageError};
use jobrunr_storage_sql::{AppliedMigration, Migration, Migrations, SchemaProblem, TablePrefix};
use sqlx::{Executor, SqlSafeStr};
use uuid::Uuid;

use crate::PROVIDER;
use crate::columns::Columns;
use crate::error::{Failure, Outcome};
use crate::session::Session;
use crate::statements::Statement;
use crate::values::Values;

static MIGRATIONS: [Migration; 3] = [
    Migration { number: 1, name: "jobs", sql: include_str!("0001_jobs.sql") },
    Migration { number: 2, name: "cluster", sql: include_str!("0002_cluster.sql") },
    Migration { number: 3, name: "pages by creation", sql: include_str!("0003_created.sql") },
];

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS {p}jobrunr_migration (
    number INT NOT NULL,
    name VARCHAR(128) NOT NULL,
    checksum VARCHAR(64) NOT NULL,
    statements_made INT NOT NULL DEFAULT 0,
    applied_at BIGINT NULL,
    PRIMARY KEY (number)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

const NOW: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))";

/// The namespace of the names of locks, which all databases of a server share.
const LOCKS: Uuid = Uuid::from_u128(0x7a0c_41d9_52f3_5b8e_8f4e_6f0a_93d1_c2b7);

/// How long to wait for another process that migrates before looking again; whole seconds.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How often to look again before giving up on it.
const MAX_WAITS: usize = 120;

fn migrations() -> Migrations {
    Migrations::new(&MIGRATIONS)
}

/// The statements of a migration, without comments.
fn statements_of(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    text.split(';').map(|statement| statement.trim().to_owned()).filter(|it| !it.is_empty()).collect()
}

/// The whole schema as SQL text, for those who apply it by hand, on an empty database.
pub(crate) fn export(prefix: &TablePrefix) -> String {
    let mut sql = format!("{};\n", prefix.render(CREATE_TABLE));
    for migration in migrations().all() {
        let Migration { number, name, sql: text } = migration;
        sql.push_str(&prefix.render(text));
        sql.push_str(&prefix.render(&format!(
            "INSERT INTO {{p}}jobrunr_migration (number, name, checksum, statements_made, applied_at) \
             VALUES ({number}, '{name}', '{}', {}, {NOW});\n",
            migration.checksum(),
            statements_of(text).len(),
        )));
    }
    sql
}

fn mismatch(problem: &SchemaProblem) -> Failure {
    StorageError::SchemaMismatch { provider: PROVIDER, what: problem.to_string() }.into()
}

impl Session<'_> {
    pub(crate) async fn set_up(&mut self, set_up: SetUp) -> Outcome<()> {
        match set_up {
            SetUp::Nothing => Ok(()),
            SetUp::Validate => {
                let applied = self.applied_migrations().await?;
                migrations().validate(&applied).map_err(|problem| mismatch(&problem))?;
                self.check_statements().await
            }
            SetUp::Migrate => self.migrate(migrations()).await,
        }
    }

    /// Applies what was not applied yet; of several processes one does, the others wait.
    async fn migrate(&mut self, migrations: Migrations) -> Outcome<()> {
        let pending = |applied: &[AppliedMigration]| {
            migrations.plan(applied).map(|plan| plan.pending).map_err(|problem| mismatch(&problem))
        };
        if pending(&self.applied_migrations().await?)?.is_empty() {
            return Ok(());
        }
        let lock = self.lock_schema().await?;
        let result = async {
            self.run(CREATE_TABLE).await?;
            // Race: another process may have migrated between the look before and the lock, so look again.
            for migration in pending(&self.applied_migrations().await?)? {
                self.apply(migration).await?;
            }
            Ok(())
        };
        let result = result.await;
        // Where this fails the connection is gone, and the lock with it.
        let _ = self.execute(&Statement::new("DO RELEASE_LOCK(?)"), Values::new().text(&lock)).await;
        result
    }

    async fn lock_schema(&mut self) -> Outcome<String> {
        let database = self.row(&Statement::new("SELECT DATABASE()"), Values::new()).await?;
        let database = database.and_then(|row| row.optional_text(0).ok().flatten()).unwrap_or_default();
        let schema = format!("{database}/{}", self.shared.prefix.as_str());
        let lock = format!("jobrunr:{}", Uuid::new_v5(&LOCKS, schema.as_bytes()).simple());
        let take = Statement::new("SELECT CAST(GET_LOCK(?, ?) AS SIGNED)");
        let seconds = i64::try_from(LOCK_WAIT.as_secs()).unwrap_or(i64::MAX);
        for _ in 0..MAX_WAITS {
            let values = Values::new().text(&lock).number(seconds);
            let row = self.with_time_to_wait(LOCK_WAIT).row(&take, values).await?;
            if row.is_some_and(|row| row.optional_number(0).is_ok_and(|got| got == Some(1))) {
                return Ok(lock);
            }
            if self.shared.closing.is_cancelled() {
                return Err(sqlx::Error::PoolClosed.into());
            }
        }
        Err(StorageError::Unavailable {
            provider: PROVIDER,
            operation: "set up",
            source: "another process migrates the schema, or holds the lock for it, for too long".into(),
        }
        .into())
    }

    async fn apply(&mut self, migration: &Migration) -> Outcome<()> {
        let Migration { number, name, sql } = migration;
        let number = i64::from(*number);
        let note = "INSERT INTO {p}jobrunr_migration (number, name, checksum) VALUES (?, ?, ?) \
                    ON DUPLICATE KEY UPDATE checksum = VALUES(checksum)";
        let values = Values::new().number(number).text(name).text(&migration.checksum());
        self.execute(&self.render(note), values).await?;
        let made = "SELECT statements_made FROM {p}jobrunr_migration WHERE number = ?";
        let made = self.row(&self.render(made), Values::new().number(number)).await?;
        let made = usize::try_from(made.map_or(Ok(0), |row| row.number(0))?).unwrap_or(0);
        for (index, statement) in statements_of(sql).iter().enumerate().skip(made) {
            match self.run(statement).await {
                // Somebody made it and ended before it was noted.
                Err(failure) if index == made && failure.is_change_made() => {}
                result => result?,
            }
            let note = "UPDATE {p}jobrunr_migration SET statements_made = ? WHERE number = ?";
            let values = Values::new().number(i64::try_from(index + 1).unwrap_or(i64::MAX)).number(number);
            self.execute(&self.render(note), values).await?;
        }
        let note = format!("UPDATE {{p}}jobrunr_migration SET applied_at = {NOW} WHERE number = ?");
        self.execute(&self.render(&note), Values::new().number(number)).await?;
        Ok(())
    }

    fn render(&self, template: &str) -> Statement {
        Statement::new(self.shared.prefix.render(template))
    }

    /// Runs a statement that has no values and may be one that cannot be prepared.
    async fn run(&mut self, template: &str) -> Outcome<()> {
        self.change_schema(&self.render(template)).await
    }

    async fn applied_migrations(&mut self) -> Outcome<Vec<AppliedMigration>> {
        let table = self.shared.prefix.render("{p}jobrunr_migration");
        let exists =
            "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?";
        if self.row(&Statement::new(exists), Values::new().text(&table)).await?.is_none() {
            return Ok(Vec::new());
        }
        let applied = "SELECT number, name, checksum FROM {p}jobrunr_migration \
                       WHERE applied_at IS NOT NULL ORDER BY number";
        let rows = self.rows(&self.render(applied), Values::new()).await?;
        let read = |row: &sqlx::mysql::MySqlRow| {
            let number = u32::try_from(row.number(0)?).unwrap_or(u32::MAX);
            Ok(AppliedMigration { number, name: row.text(1)?.to_owned(), checksum: row.text(2)?.to_owned() })
        };
        rows.iter().map(read).collect()
    }

    /// Every statement must be understood by the database: that finds tables and columns that somebody removed.
    async fn check_statements(&mut self) -> Outcome<()> {
        for (name, statement) in self.shared.statements.all() {
            let prepared = self.connection.prepare(statement.text().into_sql_str());
            match self.shared.in_time(prepared).await {
                Ok(_) => {}
                Err(Failure::Sqlx(error)) if error.as_database_error().is_some() => {
                    let what =
                        format!("a table, column or index that {name} needs is missing or was changed");
                    return Err(StorageError::SchemaMismatch { provider: PROVIDER, what }.into());
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_taken_apart_into_its_statements() {
        let sql = "-- A comment; with a semicolon.\nCREATE TABLE a (\n    -- and one inside;\n    x INT\n);\n\nDROP TABLE b;\n";

        assert_eq!(statements_of(sql), ["CREATE TABLE a (\n    x INT\n)", "DROP TABLE b"]);
        for migration in migrations().all() {
            for statement in statements_of(migration.sql) {
                assert!(
                    statement.starts_with("CREATE TABLE IF") || statement.starts_with("ALTER"),
                    "{statement}"
                );
            }
        }
    }

    #[test]
    fn the_export_has_every_migration_and_notes_it() {
        let sql = export(&TablePrefix::new("app_").unwrap());

        assert!(!sql.contains("{p}") && sql.contains("CREATE TABLE IF NOT EXISTS app_jobrunr_job ("));
        assert_eq!(sql.matches("INSERT INTO app_jobrunr_migration").count(), MIGRATIONS.len());
    }
}
