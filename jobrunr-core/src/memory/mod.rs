//! The in-memory storage: the whole contract without a database, for tests, demos and as the model of the others.
//!
//! Everything is kept under one lock that is held for microseconds and never across an await, so every call is atomic
//! and none can be cut in half by dropping its future. What is stored is gone with the last handle.
//!
//! The files are named as in every storage, one for each role trait. What a database brings along is here too:
//! `table` holds the rows of the jobs, `indexes` what finds them without looking at all of them.

mod changes;
mod filter;
mod indexes;
mod jobs;
mod lanes;
mod merge;
mod metadata;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod naive;
mod options;
mod recurring;
mod search;
mod servers;
mod sources;
mod table;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use changes::Feeds;
pub use options::MemoryStorageOptions;

use crate::storage::{AwaitedJobs, ChangeFeed, ChangeHub, SetUp, StorageError, StorageProvider};

const PROVIDER: &str = "memory";

/// Keeps everything in the memory of this process.
///
/// A clone is the same handle: closing it closes both. [`open_again`](Self::open_again) gives another handle on the same
/// content.
///
/// # Examples
///
/// ```
/// # use std::sync::Arc;
/// use jobrunr_core::storage::{JobSearch, StorageProvider};
/// use jobrunr_core::memory::MemoryStorage;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), jobrunr_core::storage::StorageError> {
/// let storage: Arc<dyn StorageProvider> = Arc::new(MemoryStorage::new());
///
/// assert_eq!(storage.job_counts().await?.total(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStorage {
    database: Arc<Database>,
    handle: Arc<Handle>,
}

/// What all handles share.
struct Database {
    options: MemoryStorageOptions,
    content: Mutex<Content>,
    feeds: Feeds,
}

/// All that is stored, by role.
#[derive(Default)]
struct Content {
    jobs: table::JobTable,
    recurring: recurring::RecurringJobTable,
    servers: servers::ServerTable,
    metadata: metadata::MetadataTable,
}

/// What one handle has of its own.
struct Handle {
    /// Written and read under the lock of the content only, so that closing waits for the call under way.
    is_closed: AtomicBool,
    hub: Arc<ChangeHub>,
    awaited: AwaitedJobs,
}

impl MemoryStorage {
    /// An empty storage with default options.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(MemoryStorageOptions::default())
    }

    /// An empty storage with these options.
    #[must_use]
    pub fn with_options(options: MemoryStorageOptions) -> Self {
        let database = Database { options, content: Mutex::default(), feeds: Feeds::default() };
        Self::on(Arc::new(database))
    }

    /// Another handle on the same content, as another process would open a database.
    ///
    /// It is closed on its own and works also if this one is closed already.
    #[must_use]
    pub fn open_again(&self) -> Self {
        Self::on(Arc::clone(&self.database))
    }

    fn on(database: Arc<Database>) -> Self {
        let handle = Handle {
            is_closed: AtomicBool::new(false),
            hub: database.feeds.add(),
            awaited: AwaitedJobs::default(),
        };
        Self { database, handle: Arc::new(handle) }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.database.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one piece of work on the content, alone.
    fn with<R>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Content) -> R,
    ) -> Result<R, StorageError> {
        let mut content = self.content();
        if self.handle.is_closed.load(Ordering::Relaxed) {
            return Err(StorageError::Closed { provider: PROVIDER, operation });
        }
        Ok(work(&mut content))
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("options", &self.database.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageProvider for MemoryStorage {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    async fn set_up(&self, _set_up: SetUp) -> Result<(), StorageError> {
        self.with("set up", |_| ())
    }

    fn changes(&self) -> Option<&dyn ChangeFeed> {
        Some(&*self.handle.hub)
    }

    fn awaited_jobs(&self) -> &AwaitedJobs {
        &self.handle.awaited
    }

    async fn close(&self) {
        let content = self.content();
        self.handle.is_closed.store(true, Ordering::Relaxed);
        drop(content);
        self.handle.hub.close();
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::storage::{JobSearch, Metadata, MetadataStore};

    #[tokio::test]
    async fn closing_a_clone_closes_the_handle() {
        let storage = MemoryStorage::new();
        let clone = storage.clone();

        storage.close().await;
        storage.close().await;

        assert!(matches!(clone.job_counts().await, Err(StorageError::Closed { provider: "memory", .. })));
        assert!(matches!(clone.set_up(SetUp::Nothing).await, Err(StorageError::Closed { .. })));
    }

    #[tokio::test]
    async fn another_handle_has_the_same_content_and_an_end_of_its_own() {
        let storage = MemoryStorage::new();
        storage.save_metadata(&Metadata::new("name", "owner", "value", DateTime::UNIX_EPOCH)).await.unwrap();

        storage.close().await;

        let elsewhere = storage.open_again();
        assert_eq!(elsewhere.find_metadata("name", "owner").await.unwrap().unwrap().value, "value");
        assert!(storage.find_metadata("name", "owner").await.is_err());
    }

    #[test]
    fn debug_does_not_show_the_content() {
        assert!(format!("{:?}", MemoryStorage::new()).starts_with("MemoryStorage { options: "));
    }
}
