//! What the benchmark needs of a database: fresh ones, and the raw limits to compare with.

use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::storage::StorageProvider;

/// A database that can be measured.
#[async_trait]
pub(crate) trait Database: Sync {
    /// Its name, as in `target/bench/<name>.json`.
    fn name(&self) -> &'static str;

    /// Makes an empty database and opens a storage on it.
    async fn fresh(&self) -> anyhow::Result<FreshDatabase>;

    /// Opens a storage on a database that was made before.
    async fn open(&self, url: String) -> anyhow::Result<FreshDatabase>;

    /// Claims and completes jobs by prepared statements, `batch` at a time; returns jobs a second.
    async fn raw_drain(&self, jobs: usize, batch: usize) -> anyhow::Result<f64>;

    /// Inserts jobs, `batch` rows a transaction; returns jobs a second.
    async fn raw_bulk_insert(&self, jobs: usize, batch: usize) -> anyhow::Result<f64>;

    /// How many statements the storage has run on the database so far, if it can tell.
    fn statements(&self, fresh: &FreshDatabase) -> Option<u64>;
}

/// An empty database of its own, with a storage that is set up.
pub(crate) struct FreshDatabase {
    /// What another process connects to.
    pub(crate) url: String,
    /// The storage in this process.
    pub(crate) storage: Arc<dyn StorageProvider>,
    /// The same storage by its own type, for what the contract does not know.
    pub(crate) concrete: Arc<dyn std::any::Any + Send + Sync>,
}

impl FreshDatabase {
    /// Lets go of the database.
    pub(crate) async fn close(self) {
        self.storage.close().await;
    }
}
