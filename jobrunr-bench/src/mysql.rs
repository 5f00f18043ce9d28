//! MySQL or MariaDB as a database to be measured: a database each on the server of `cargo xtask databases`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_storage_mysql::MySqlStorage;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Row};

use crate::database::{Counters, Database, FreshDatabase, RawWork, SingleInsert, url_of_database};
use crate::raw_mysql;

/// MySQL or MariaDB, one database a measurement.
#[derive(Debug)]
pub(crate) struct MySql {
    server: String,
    admin: MySqlPool,
    /// When the server gave commits to the disk before.
    flushes: i64,
    databases: AtomicUsize,
}

const FLUSHES: &str = "innodb_flush_log_at_trx_commit";

impl MySql {
    /// Connects, and makes every commit wait for the disk, which servers for tests are spared.
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let server = std::env::var("JOBRUNR_TEST_MYSQL_URL")
            .context("JOBRUNR_TEST_MYSQL_URL names the server; `cargo xtask bench mysql` sets it")?;
        let admin = MySqlPoolOptions::new().max_connections(1).connect(&server).await?;
        let flushes = format!("SELECT CAST(@@GLOBAL.{FLUSHES} AS SIGNED)");
        let flushes = sqlx::raw_sql(AssertSqlSafe(flushes)).fetch_one(&admin).await?.try_get(0)?;
        let mysql = Self { server, admin, flushes, databases: AtomicUsize::new(0) };
        mysql.execute(format!("SET GLOBAL {FLUSHES} = 1")).await?;
        mysql.execute("SET GLOBAL innodb_monitor_enable = 'trx_%commits'".to_owned()).await?;
        Ok(mysql)
    }

    /// Puts back what was changed of the server.
    pub(crate) async fn restore(&self) -> anyhow::Result<()> {
        self.execute(format!("SET GLOBAL {FLUSHES} = {}", self.flushes)).await
    }

    async fn execute(&self, sql: String) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.admin).await?;
        Ok(())
    }

    async fn number(&self, sql: &'static str, column: &str) -> anyhow::Result<Option<u64>> {
        let row = sqlx::raw_sql(sql).fetch_one(&self.admin).await?;
        let text: &[u8] = row.try_get_unchecked(column)?;
        Ok(std::str::from_utf8(text)?.parse().ok())
    }
}

#[async_trait]
impl Database for MySql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    async fn create(&self) -> anyhow::Result<String> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("jobrunr_bench_{}_{number}", std::process::id());
        self.execute(format!("CREATE DATABASE {name}")).await?;
        Ok(url_of_database(&self.server, &name))
    }

    async fn remove(&self, url: &str) -> anyhow::Result<()> {
        let address = url.split_once('?').map_or(url, |(address, _)| address);
        let name = address.rsplit_once('/').context("the URL names a database")?.1;
        self.execute(format!("DROP DATABASE {name}")).await
    }

    async fn open(&self, url: String) -> anyhow::Result<FreshDatabase> {
        let storage = MySqlStorage::connect(&url).await?;
        storage.set_up(SetUp::Migrate).await?;
        Ok(FreshDatabase::new(url, storage))
    }

    async fn run_raw(&self, url: &str, work: RawWork) -> anyhow::Result<f64> {
        match work {
            RawWork::Drain { jobs, batch } => raw_mysql::drain(url, jobs, batch).await,
            RawWork::BulkInsert { jobs, batch } => raw_mysql::insert(url, jobs, batch).await,
            RawWork::DrainByFindAndModify { .. } => anyhow::bail!("there is no such command"),
        }
    }

    async fn prepare_raw_single_inserts(&self, url: &str) -> anyhow::Result<bool> {
        raw_mysql::create(url).await?;
        Ok(true)
    }

    async fn raw_single_insert(
        &self,
        url: &str,
        how: SingleInsert,
        how_long: Duration,
    ) -> anyhow::Result<f64> {
        raw_mysql::insert_for(url, how, how_long).await
    }

    /// The server counts for all of its databases together.
    async fn counters(&self, _: &FreshDatabase) -> anyhow::Result<Counters> {
        // Every statement by itself is a transaction as well, also if it only reads.
        let transactions = "SELECT CAST(sum(count) AS CHAR) AS ended FROM information_schema.innodb_metrics \
                            WHERE name IN ('trx_rw_commits', 'trx_ro_commits', 'trx_nl_ro_commits')";
        Ok(Counters {
            statements: self.number("SHOW GLOBAL STATUS LIKE 'Questions'", "Value").await?,
            transactions: self.number(transactions, "ended").await?,
            log_bytes: self.number("SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'", "Value").await?,
            slow_commands: None,
        })
    }
}
