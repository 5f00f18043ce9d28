//! What the benchmark needs of a database: fresh ones, the raw limits to compare with, and what the server counts.
//!
//! A database that is to be measured is one file that implements [`Database`], and one line in `main.rs`.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jobrunr_core::storage::StorageProvider;

/// A database that can be measured.
#[async_trait]
pub(crate) trait Database: Sync {
    /// Its name, as in `target/bench/<name>.json`.
    fn name(&self) -> &'static str;

    /// Makes an empty database; returns what is connected to.
    async fn create(&self) -> anyhow::Result<String>;

    /// Removes a database as far as it would be in the way.
    async fn remove(&self, url: &str) -> anyhow::Result<()>;

    /// Opens a storage on a database, and sets it up if that was not done before.
    async fn open(&self, url: String) -> anyhow::Result<FreshDatabase>;

    /// Makes an empty database and opens a storage on it.
    async fn fresh(&self) -> anyhow::Result<FreshDatabase> {
        self.open(self.create().await?).await
    }

    /// Closes the storage, unless that was done, and removes the database.
    async fn discard(&self, fresh: FreshDatabase) -> anyhow::Result<()> {
        fresh.close().await;
        self.remove(&fresh.url).await
    }

    /// Runs raw statements on an empty database; returns jobs a second.
    async fn raw(&self, work: RawWork) -> anyhow::Result<f64> {
        let url = self.create().await?;
        let rate = self.run_raw(&url, work).await?;
        self.remove(&url).await?;
        Ok(rate)
    }

    /// Runs raw statements on this empty database; returns jobs a second.
    async fn run_raw(&self, url: &str, work: RawWork) -> anyhow::Result<f64>;

    /// Whether `findAndModify` is what most queues on this database use, so that a drain is compared with it.
    fn has_find_and_modify(&self) -> bool {
        false
    }

    /// Makes the least tables for raw single inserts; tells whether there is anything to compare with.
    async fn prepare_raw_single_inserts(&self, _url: &str) -> anyhow::Result<bool> {
        Ok(false)
    }

    /// Inserts jobs there for a while, as single calls could be served at best; returns jobs a second.
    async fn raw_single_insert(
        &self,
        _url: &str,
        _how: SingleInsert,
        _how_long: Duration,
    ) -> anyhow::Result<f64> {
        anyhow::bail!("there is nothing to compare with")
    }

    /// What was counted so far. Asked right after the storage was opened, while it is idle, and after it was closed.
    async fn counters(&self, fresh: &FreshDatabase) -> anyhow::Result<Counters>;

    /// Jobs that raw statements claim and complete at a time; the server, with its default options, as many as it likes.
    fn raw_batch(&self) -> usize {
        500
    }

    /// Finished jobs in the table of the large drain, and jobs of the drain that memory is measured at.
    fn many_jobs(&self) -> usize {
        1_000_000
    }

    /// Jobs of a drain and of a bulk.
    fn drain_jobs(&self) -> usize {
        50_000
    }

    /// Jobs of one call that enqueues in bulk.
    fn bulk_jobs(&self) -> usize {
        10_000
    }
}

/// What raw statements do on a database of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RawWork {
    /// Claim and complete so many jobs by prepared statements, so many at a time.
    Drain { jobs: usize, batch: usize },
    /// Claim and complete by `findAndModify`, one job after the other.
    DrainByFindAndModify { jobs: usize },
    /// Insert so many jobs, so many rows a transaction.
    BulkInsert { jobs: usize, batch: usize },
}

/// How single inserts are served at best.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SingleInsert {
    /// One row a transaction, on so many connections at once.
    OneByOne {
        /// How many.
        connections: usize,
    },
    /// So many callers at once, whose rows go together on one connection.
    Together {
        /// Rows of one transaction.
        rows: usize,
    },
}

/// What a database, or a storage on it, counts as it goes; `None` what it does not count.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    /// Statements or commands that were run.
    pub(crate) statements: Option<u64>,
    /// Transactions that came to their end.
    pub(crate) transactions: Option<u64>,
    /// Bytes of the log that makes writes durable.
    pub(crate) log_bytes: Option<u64>,
    /// Commands that kept others waiting for over 5 ms.
    pub(crate) slow_commands: Option<u64>,
}

impl Counters {
    /// What was counted since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        let since = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Self {
            statements: since(self.statements, before.statements),
            transactions: since(self.transactions, before.transactions),
            log_bytes: since(self.log_bytes, before.log_bytes),
            slow_commands: since(self.slow_commands, before.slow_commands),
        }
    }
}

/// A database of its own, with a storage that is set up.
pub(crate) struct FreshDatabase {
    /// What another process connects to.
    pub(crate) url: String,
    /// The storage in this process.
    pub(crate) storage: Arc<dyn StorageProvider>,
    /// The same storage by its own type, for what the contract does not know.
    pub(crate) concrete: Arc<dyn Any + Send + Sync>,
    is_closed: AtomicBool,
}

impl FreshDatabase {
    pub(crate) fn new<S: StorageProvider + 'static>(url: String, storage: S) -> Self {
        let storage = Arc::new(storage);
        let concrete: Arc<dyn Any + Send + Sync> = Arc::<S>::clone(&storage);
        Self { url, storage, concrete, is_closed: AtomicBool::new(false) }
    }

    /// Closes the storage, if that was not done before.
    pub(crate) async fn close(&self) {
        if !self.is_closed.swap(true, Ordering::Relaxed) {
            self.storage.close().await;
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }
}

/// The URL of another database on the same server.
pub(crate) fn url_of_database(server: &str, name: &str) -> String {
    let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
    let slashes = address.find("://").map_or(0, |start| start + 3);
    let end = address[slashes..].find('/').map_or(address.len(), |slash| slashes + slash);
    let joint = if parameters.is_empty() { "" } else { "?" };
    format!("{}/{name}{joint}{parameters}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_another_database_differs_in_its_name_only() {
        for (server, expected) in [
            ("postgres://u:p@h:1/postgres", "postgres://u:p@h:1/x"),
            ("postgres://u:p@h:1", "postgres://u:p@h:1/x"),
            ("mysql://u:p@h:1/d?ssl-mode=DISABLED", "mysql://u:p@h:1/x?ssl-mode=DISABLED"),
        ] {
            assert_eq!(url_of_database(server, "x"), expected);
        }
    }

    #[test]
    fn only_what_was_counted_before_and_after_has_a_difference() {
        let before = Counters { statements: Some(3), log_bytes: Some(5), ..Counters::default() };
        let after = Counters { statements: Some(10), transactions: Some(2), ..Counters::default() };

        let since = after.since(before);

        assert_eq!((since.statements, since.transactions, since.log_bytes), (Some(7), None, None));
    }
}
