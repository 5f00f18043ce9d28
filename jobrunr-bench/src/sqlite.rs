//! SQLite as a database to be measured: files below `target/bench/sqlite`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use async_trait::async_trait;
use jobrunr_core::storage::{SetUp, StorageProvider};
use jobrunr_storage_sqlite::SqliteStorage;

use crate::database::{Counters, Database, FreshDatabase, RawWork};
use crate::raw_sqlite;
use crate::report::target_folder;

/// What URLs begin with.
const SCHEME: &str = "sqlite:";

/// SQLite, one file a measurement.
#[derive(Debug, Default)]
pub(crate) struct Sqlite {
    files: AtomicUsize,
}

impl Sqlite {
    /// A path at which there is no file yet.
    fn next_path(&self) -> anyhow::Result<PathBuf> {
        let folder = target_folder()?.join("bench").join("sqlite");
        if self.files.fetch_add(1, Ordering::Relaxed) == 0 && folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder.join(format!("{}.db", self.files.load(Ordering::Relaxed))))
    }
}

#[async_trait]
impl Database for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn create(&self) -> anyhow::Result<String> {
        Ok(format!("{SCHEME}{}", self.next_path()?.display()))
    }

    /// The files stay to be looked at, until the next run.
    async fn remove(&self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn open(&self, url: String) -> anyhow::Result<FreshDatabase> {
        let storage = SqliteStorage::connect(&url).await?;
        storage.set_up(SetUp::Migrate).await?;
        Ok(FreshDatabase::new(url, storage))
    }

    async fn run_raw(&self, url: &str, work: RawWork) -> anyhow::Result<f64> {
        let path = PathBuf::from(url.strip_prefix(SCHEME).context("the URL names a file")?);
        let run = move || match work {
            RawWork::Drain { jobs, batch } => raw_sqlite::drain(&path, jobs, batch),
            RawWork::BulkInsert { jobs, batch } => raw_sqlite::insert(&path, jobs, batch),
            RawWork::DrainByFindAndModify { .. } => anyhow::bail!("there is no such statement"),
        };
        tokio::task::spawn_blocking(run).await?
    }

    async fn counters(&self, fresh: &FreshDatabase) -> anyhow::Result<Counters> {
        let storage = fresh.concrete.downcast_ref::<SqliteStorage>();
        let statements = storage.map(|storage| storage.write_statistics().statements);
        Ok(Counters { statements, ..Counters::default() })
    }

    fn raw_batch(&self) -> usize {
        100
    }

    fn bulk_jobs(&self) -> usize {
        50_000
    }
}
