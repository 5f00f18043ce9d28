//! PostgreSQL as a database to be measured: a database each on the server of `cargo xtask databases`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_storage_postgres::PostgresStorage;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::database::{Counters, Database, FreshDatabase, RawWork, SingleInsert, url_of_database};
use crate::raw_postgres;

/// PostgreSQL, one database a measurement.
#[derive(Debug)]
pub(crate) struct Postgres {
    server: String,
    admin: PgPool,
    /// Whether the server counts statements.
    counts_statements: bool,
    databases: AtomicUsize,
}

/// How long connections may take to go and to hand in what they counted.
const PATIENCE: Duration = Duration::from_secs(10);

impl Postgres {
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let server = std::env::var("JOBRUNR_TEST_POSTGRES_URL")
            .context("JOBRUNR_TEST_POSTGRES_URL names the server; `cargo xtask bench postgres` sets it")?;
        let admin = PgPoolOptions::new().max_connections(1).connect(&server).await?;
        let create = sqlx::raw_sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").execute(&admin).await;
        let ask = sqlx::raw_sql("SELECT 1 FROM pg_stat_statements LIMIT 1").fetch_optional(&admin).await;
        let counts_statements = create.is_ok() && ask.is_ok();
        if !counts_statements {
            println!(
                "the server does not count statements (it has no pg_stat_statements): nothing is told of them"
            );
        }
        Ok(Self { server, admin, counts_statements, databases: AtomicUsize::new(0) })
    }

    async fn execute(&self, sql: String) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.admin).await?;
        Ok(())
    }

    /// Waits until nobody is connected to a database but those who go on.
    async fn wait_for_counts(&self, name: &str) -> anyhow::Result<()> {
        let connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        let gone = async {
            while sqlx::query_scalar::<_, i64>(connected).bind(name).fetch_one(&self.admin).await? > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, gone).await.context("connections stay open")?
    }
}

fn name_of(url: &str) -> anyhow::Result<&str> {
    let address = url.split_once('?').map_or(url, |(address, _)| address);
    Ok(address.rsplit_once('/').context("the URL names a database")?.1)
}

#[async_trait]
impl Database for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn create(&self) -> anyhow::Result<String> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("jobrunr_bench_{}_{number}", std::process::id());
        // Each database begins when nothing of the last one is to be written any more.
        self.execute("CHECKPOINT".to_owned()).await?;
        self.execute(format!("CREATE DATABASE {name}")).await?;
        Ok(url_of_database(&self.server, &name))
    }

    async fn remove(&self, url: &str) -> anyhow::Result<()> {
        self.execute(format!("DROP DATABASE {} WITH (FORCE)", name_of(url)?)).await
    }

    async fn open(&self, url: String) -> anyhow::Result<FreshDatabase> {
        let storage = PostgresStorage::connect(&url).await?;
        storage.set_up(SetUp::Migrate).await?;
        Ok(FreshDatabase::new(url, storage))
    }

    async fn run_raw(&self, url: &str, work: RawWork) -> anyhow::Result<f64> {
        match work {
            RawWork::Drain { jobs, batch } => raw_postgres::drain(url, jobs, batch).await,
            RawWork::BulkInsert { jobs, batch } => raw_postgres::insert(url, jobs, batch).await,
            RawWork::DrainByFindAndModify { .. } => anyhow::bail!("there is no such command"),
        }
    }

    async fn prepare_raw_single_inserts(&self, url: &str) -> anyhow::Result<bool> {
        raw_postgres::create(url).await?;
        Ok(true)
    }

    async fn raw_single_insert(
        &self,
        url: &str,
        how: SingleInsert,
        how_long: Duration,
    ) -> anyhow::Result<f64> {
        raw_postgres::insert_for(url, how, how_long).await
    }

    async fn counters(&self, fresh: &FreshDatabase) -> anyhow::Result<Counters> {
        let name = name_of(&fresh.url)?;
        if fresh.is_closed() {
            self.wait_for_counts(name).await?;
        }
        let counted = "SELECT xact_commit + xact_rollback, \
                       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint \
                       FROM pg_stat_database WHERE datname = $1";
        let (transactions, log): (i64, i64) =
            sqlx::query_as(counted).bind(name).fetch_one(&self.admin).await?;
        let mut statements = None;
        if self.counts_statements {
            let counted = "SELECT coalesce(sum(s.calls), 0)::bigint FROM pg_stat_statements s \
                           JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1";
            statements = Some(sqlx::query_scalar::<_, i64>(counted).bind(name).fetch_one(&self.admin).await?);
        }
        Ok(Counters {
            statements: statements.and_then(|statements| u64::try_from(statements).ok()),
            transactions: u64::try_from(transactions).ok(),
            log_bytes: u64::try_from(log).ok(),
            slow_commands: None,
        })
    }
}
