//! Fresh schemas in the database of `JOBRUNR_TEST_POSTGRES_URL`, and ways to spoil them.

#![allow(dead_code, reason = "not every test file needs everything")]

pub(crate) mod private_server;
pub(crate) mod proxy;

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::storage::{BoxError, InsertReport, StorageError, StorageProvider};
use jobrunr_core::{Job, JobId};
use jobrunr_storage_postgres::{PostgresOptions, PostgresStorage};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use storage_conformance_tests::{
    Ability, CallerTransactions, ConnectionFaults, NoDatabase, RowFaults, SchemaFaults, StorageHarness,
    TestDatabase, TransactionEnd,
};
use uuid::Uuid;

/// The variable that names the server of the tests.
pub(crate) const URL: &str = "JOBRUNR_TEST_POSTGRES_URL";

/// The server of the tests; `None` where there is none and that is allowed.
pub(crate) fn url() -> Option<String> {
    let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        skip(&format!("{URL} is not set; `cargo xtask databases up` starts a server"));
    }
    url
}

/// Says that a test cannot run, loudly, or fails where everything is required.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
pub(crate) fn skip(why: &str) {
    let is_required = std::env::var(storage_conformance_tests::REQUIRE_ALL).is_ok_and(|value| value == "1");
    assert!(!is_required, "{why}");
    eprintln!("SKIPPED: {why}");
}

/// Runs SQL on a connection of its own.
pub(crate) async fn execute(url: &str, sql: String) -> Result<u64, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    connection.close().await?;
    Ok(done.rows_affected())
}

/// How the tables of one run of the suite are set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In whatever schema the connection's search path begins with.
    SearchPath,
    /// In a schema that the options name.
    NamedSchema,
}

pub(crate) struct Postgres(pub(crate) Place);

#[async_trait]
impl StorageHarness for Postgres {
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
        let url = url.ok_or_else(|| {
            NoDatabase::because(format!("{URL} is not set; `cargo xtask databases up` starts a server"))
        })?;
        let database = Schema::create(url, self.0).await.map_err(NoDatabase::because)?;
        Ok(Box::new(database))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(&Ability::ALL)
    }

    fn time_limit(&self) -> Duration {
        // Many tests share the server, which writes to the disk for each commit.
        Duration::from_secs(300)
    }
}

/// A schema of one test's own.
pub(crate) struct Schema {
    url: String,
    pub(crate) name: String,
    place: Place,
}

impl Schema {
    pub(crate) async fn create(url: String, place: Place) -> Result<Self, sqlx::Error> {
        let name = format!("t{}", &Uuid::now_v7().simple().to_string()[..30]);
        if place == Place::SearchPath {
            execute(&url, format!("CREATE SCHEMA {name}")).await?;
        }
        Ok(Self { url, name, place })
    }

    pub(crate) fn options(&self, prefix: Option<&str>) -> PostgresOptions {
        let options = PostgresOptions::default().table_prefix(prefix.unwrap_or_default()).max_connections(5);
        match self.place {
            Place::SearchPath => options,
            Place::NamedSchema => options.schema(&self.name),
        }
    }

    /// The URL with the search path that leads to the schema, and a name by which its connections are known.
    pub(crate) fn url(&self) -> String {
        let path = match self.place {
            Place::SearchPath => format!("&options=-c%20search_path={}", self.name),
            Place::NamedSchema => String::new(),
        };
        let joint = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{joint}application_name={}{path}", self.url, self.name)
    }

    /// A proxy before the server, and the URL that leads through it.
    pub(crate) async fn behind_proxy(&self) -> (proxy::Proxy, String) {
        let port = self.url.parse::<PgConnectOptions>().expect("the URL was connected to").get_port();
        let proxy = proxy::Proxy::to(port).await.expect("there are ports");
        let behind = self.url().replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
        (proxy, behind)
    }

    async fn pool(&self) -> Result<PgPool, sqlx::Error> {
        let options = PgConnectOptions::from_str(&self.url)?.options([("search_path", self.name.as_str())]);
        PgPoolOptions::new().max_connections(1).connect_with(options).await
    }

    pub(crate) async fn open_postgres(&self, prefix: Option<&str>) -> Result<PostgresStorage, StorageError> {
        PostgresStorage::connect_with(&self.url(), self.options(prefix)).await
    }

    pub(crate) async fn execute(&self, sql: &str) -> Result<u64, BoxError> {
        let pool = self.pool().await?;
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&pool).await?;
        pool.close().await;
        Ok(done.rows_affected())
    }

    pub(crate) async fn drop_schema(&self) {
        // What is left behind goes with the server.
        let _ = execute(&self.url, format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name)).await;
    }
}

#[async_trait]
impl TestDatabase for Schema {
    async fn open(&self, prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        Ok(Arc::new(self.open_postgres(prefix).await?))
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
        self.drop_schema().await;
    }
}

#[async_trait]
impl RowFaults for Schema {
    async fn corrupt_job(&self, prefix: Option<&str>, id: JobId) -> Result<(), BoxError> {
        let prefix = prefix.unwrap_or_default();
        let sql =
            format!("UPDATE {prefix}jobrunr_job_data SET settings = '{{\"retries\": ' WHERE job = '{id}'");
        let changed = self.execute(&sql).await?;
        if changed == 1 { Ok(()) } else { Err(format!("there is no job {id}").into()) }
    }
}

#[async_trait]
impl SchemaFaults for Schema {
    async fn make_schema_newer(&self, prefix: Option<&str>) -> Result<(), BoxError> {
        let prefix = prefix.unwrap_or_default();
        let table = format!("{prefix}jobrunr_migration");
        self.execute(&format!("INSERT INTO {table} (number, name, checksum) VALUES (999, 'later', '')"))
            .await?;
        Ok(())
    }
}

#[async_trait]
impl ConnectionFaults for Schema {
    async fn cut_connections(&self) -> Result<(), BoxError> {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name =";
        execute(&self.url, format!("{cut} '{}'", self.name)).await?;
        Ok(())
    }
}

#[async_trait]
impl CallerTransactions for Schema {
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
        let storage = self.open_postgres(prefix).await?;
        let pool = self.pool().await?;
        let mut transaction = pool.begin().await?;
        let report = storage.insert_in(&mut transaction, jobs).await?;
        match end {
            TransactionEnd::Commit => transaction.commit().await?,
            TransactionEnd::Rollback => transaction.rollback().await?,
        }
        pool.close().await;
        storage.close().await;
        Ok(Some(report))
    }
}
