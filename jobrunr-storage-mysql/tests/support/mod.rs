//! Fresh databases on the server of `JOBRUNR_TEST_MYSQL_URL`, and ways to spoil them.

#![allow(dead_code, reason = "not every test file needs everything")]

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::storage::{BoxError, InsertReport, StorageError, StorageProvider};
use jobrunr_core::{Job, JobId};
use jobrunr_storage_mysql::{MySqlOptions, MySqlStorage};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use storage_conformance_tests::{
    Ability, CallerTransactions, ConnectionFaults, NoDatabase, RowFaults, SchemaFaults, StorageHarness,
    TestDatabase, TransactionEnd,
};
use uuid::Uuid;

/// The variable that names the server of the tests.
pub(crate) const URL: &str = "JOBRUNR_TEST_MYSQL_URL";

const MISSING: &str = "JOBRUNR_TEST_MYSQL_URL is not set; `cargo xtask databases up` starts a server";

/// The server of the tests; `None` where there is none and that is allowed.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
pub(crate) fn url() -> Option<String> {
    let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        let required = std::env::var(storage_conformance_tests::REQUIRE_ALL).is_ok_and(|value| value == "1");
        assert!(!required, "{MISSING}");
        eprintln!("SKIPPED: {MISSING}");
    }
    url
}

pub(crate) struct MySql;

#[async_trait]
impl StorageHarness for MySql {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
        let url = url.ok_or_else(|| NoDatabase::because(MISSING))?;
        Ok(Box::new(Database::create(&url).await.map_err(NoDatabase::because)?))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(&[
            Ability::Prefixes,
            Ability::Durability,
            Ability::Schema,
            Ability::UnreadableRows,
            Ability::Connections,
            Ability::CallerTransactions,
        ])
    }
}

/// A database of one test's own.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    server: MySqlConnectOptions,
    pub(crate) name: String,
}

impl Database {
    pub(crate) async fn create(url: &str) -> Result<Self, sqlx::Error> {
        let server = MySqlConnectOptions::from_str(url)?.disable_statement_logging();
        let database = Self { server, name: format!("jobrunr_test_{}", Uuid::now_v7().simple()) };
        database.on_server(&format!("CREATE DATABASE {}", database.name)).await?;
        Ok(database)
    }

    /// How to connect to it.
    pub(crate) fn connect(&self) -> MySqlConnectOptions {
        self.server.clone().database(&self.name)
    }

    pub(crate) fn options(&self) -> MySqlOptions {
        MySqlOptions::connect_with(self.connect()).max_connections(8)
    }

    pub(crate) async fn open_mysql(&self, prefix: Option<&str>) -> Result<MySqlStorage, StorageError> {
        MySqlStorage::open(self.options().table_prefix(prefix.unwrap_or_default())).await
    }

    pub(crate) async fn connection(&self) -> Result<MySqlConnection, sqlx::Error> {
        self.connect().connect().await
    }

    /// Runs statements in it; returns how many rows the last one changed.
    pub(crate) async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let mut connection = self.connection().await?;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
        connection.close().await?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let mut connection = self.connection().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(rows)
    }

    async fn on_server(&self, sql: &str) -> Result<Vec<MySqlRow>, sqlx::Error> {
        let mut connection = self.server.connect().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(rows)
    }

    pub(crate) async fn drop(&self) {
        // What is left behind goes with the server.
        let _ = self.on_server(&format!("DROP DATABASE IF EXISTS {}", self.name)).await;
    }
}

#[async_trait]
impl TestDatabase for Database {
    async fn open(&self, prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        Ok(Arc::new(self.open_mysql(prefix).await?))
    }

    fn row_faults(&self) -> Option<&dyn RowFaults> {
        Some(self)
    }

    fn schema_faults(&self) -> Option<&dyn SchemaFaults> {
        Some(self)
    }

    fn connection_faults(&self) -> Option<&dyn ConnectionFaults> {
        Some(self)
    }

    fn caller_transactions(&self) -> Option<&dyn CallerTransactions> {
        Some(self)
    }

    async fn destroy(&self) {
        self.drop().await;
    }
}

#[async_trait]
impl RowFaults for Database {
    async fn corrupt_job(&self, prefix: Option<&str>, id: JobId) -> Result<(), BoxError> {
        let (prefix, id_text) = (prefix.unwrap_or_default(), id.as_uuid().simple());
        let sql = format!(
            "UPDATE {prefix}jobrunr_job SET settings = '{{\"retries\": ' WHERE id = UNHEX('{id_text}')"
        );
        let changed = self.execute(&sql).await?;
        if changed == 1 { Ok(()) } else { Err(format!("there is no job {id}").into()) }
    }
}

#[async_trait]
impl SchemaFaults for Database {
    async fn make_schema_newer(&self, prefix: Option<&str>) -> Result<(), BoxError> {
        let prefix = prefix.unwrap_or_default();
        let sql = format!(
            "INSERT INTO {prefix}jobrunr_migration (number, name, checksum, applied_at) VALUES (999, 'later', '', 0)"
        );
        self.execute(&sql).await?;
        Ok(())
    }
}

#[async_trait]
impl ConnectionFaults for Database {
    async fn cut_connections(&self) -> Result<(), BoxError> {
        let sql = format!("SELECT id FROM information_schema.processlist WHERE db = '{}'", self.name);
        for row in self.on_server(&sql).await? {
            let id: i64 = row.try_get_unchecked(0)?;
            // Some may have gone by themselves.
            let _ = self.on_server(&format!("KILL {id}")).await;
        }
        Ok(())
    }
}

#[async_trait]
impl CallerTransactions for Database {
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
        let storage = self.open_mysql(prefix).await?;
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let report = storage.insert_in(&mut transaction, jobs).await?;
        match end {
            TransactionEnd::Commit => transaction.commit().await?,
            TransactionEnd::Rollback => transaction.rollback().await?,
        }
        connection.close().await?;
        storage.close().await;
        Ok(Some(report))
    }
}
