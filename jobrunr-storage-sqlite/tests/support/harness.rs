//! Fresh databases in folders of their own, and ways to spoil them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::storage::{BoxError, InsertReport, StorageError, StorageProvider};
use jobrunr_core::{Job, JobId};
use jobrunr_storage_sqlite::{SqliteOptions, SqliteStorage};
use rusqlite::{Connection, TransactionBehavior, params};
use storage_conformance_tests::{
    Ability, CallerTransactions, NoDatabase, RowFaults, SchemaFaults, StorageHarness, TestDatabase,
    TransactionEnd,
};

use crate::folder::Folder;

/// Fresh files, each in a folder of its own.
pub(crate) struct Sqlite;

#[async_trait]
impl StorageHarness for Sqlite {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        Ok(Box::new(SqliteFile(Folder::new().map_err(NoDatabase::because)?)))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(&[
            Ability::ChangeFeed,
            Ability::Prefixes,
            Ability::Durability,
            Ability::Schema,
            Ability::UnreadableRows,
            Ability::CallerTransactions,
        ])
    }
}

struct SqliteFile(Folder);

impl SqliteFile {
    fn connect(&self) -> Result<Connection, rusqlite::Error> {
        let connection = Connection::open(self.0.database())?;
        connection.busy_timeout(Duration::from_secs(10))?;
        Ok(connection)
    }
}

#[async_trait]
impl TestDatabase for SqliteFile {
    async fn open(&self, prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        let options = SqliteOptions::file(self.0.database()).table_prefix(prefix.unwrap_or_default());
        Ok(Arc::new(SqliteStorage::open(options).await?))
    }

    fn row_faults(&self) -> Option<&dyn RowFaults> {
        Some(self)
    }

    fn schema_faults(&self) -> Option<&dyn SchemaFaults> {
        Some(self)
    }

    fn caller_transactions(&self) -> Option<&dyn CallerTransactions> {
        Some(self)
    }

    async fn destroy(&self) {
        // The folder goes with this value.
    }
}

#[async_trait]
impl RowFaults for SqliteFile {
    async fn corrupt_job(&self, prefix: Option<&str>, id: JobId) -> Result<(), BoxError> {
        let prefix = prefix.unwrap_or_default();
        let sql = format!(
            "UPDATE {prefix}jobrunr_job_data SET settings = '{{\"retries\": ' \
             WHERE job = (SELECT seq FROM {prefix}jobrunr_job WHERE id = ?1)"
        );
        let changed = self.connect()?.execute(&sql, params![id.as_bytes()])?;
        if changed == 1 { Ok(()) } else { Err(format!("there is no job {id}").into()) }
    }
}

#[async_trait]
impl SchemaFaults for SqliteFile {
    async fn make_schema_newer(&self, prefix: Option<&str>) -> Result<(), BoxError> {
        let prefix = prefix.unwrap_or_default();
        let sql = format!(
            "INSERT INTO {prefix}jobrunr_migration (number, name, checksum, applied_at) VALUES (999, 'later', '', 0)"
        );
        self.connect()?.execute(&sql, [])?;
        Ok(())
    }
}

#[async_trait]
impl CallerTransactions for SqliteFile {
    async fn insert_in_transaction(
        &self,
        prefix: Option<&str>,
        jobs: &[Job],
        end: TransactionEnd,
    ) -> Result<(), BoxError> {
        self.insert_and_report(prefix, jobs, end).await.map(drop)
    }

    async fn insert_and_report(
        &self,
        prefix: Option<&str>,
        jobs: &[Job],
        end: TransactionEnd,
    ) -> Result<Option<InsertReport>, BoxError> {
        let options = SqliteOptions::file(self.0.database()).table_prefix(prefix.unwrap_or_default());
        let storage = SqliteStorage::open(options).await?;
        let report = {
            let mut connection = self.connect()?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let report = storage.insert_in(&transaction, jobs)?;
            match end {
                TransactionEnd::Commit => transaction.commit()?,
                TransactionEnd::Rollback => transaction.rollback()?,
            }
            report
        };
        storage.close().await;
        Ok(Some(report))
    }
}
